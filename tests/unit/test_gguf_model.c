/* Models by way of GGUF: the logits of what is read from a file that was written, by itself or made
 * to a folder, against those of the model. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "models/model.h"
#include "tilth/context.h"
#include "tilth/convert.h"
#include "tilth/gguf.h"

#define GOLDEN TL_SOURCE_DIR "/tests/golden/tokenizer/"

enum { N = 24, VOCAB = 400 };
static char dir[] = "/tmp/tl_gguf_model_XXXXXX";
static char model_dir[64], folder[64], file[64];
static tl_ctx *ctx;

static int setup(void **state) {
  (void)state;
  tl_err err = {TL_OK, ""};
  if (!mkdtemp(dir) || tl_ctx_new(&(tl_ctx_options){.n_threads = 1}, &ctx, &err) != TL_OK)
    return -1;
  snprintf(model_dir, sizeof model_dir, "%s/model", dir);
  snprintf(folder, sizeof folder, "%s/folder", dir);
  snprintf(file, sizeof file, "%s/x.gguf", dir);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  tl_ctx_free(ctx);
  return tl_remove_tree(dir, NULL) == TL_OK ? 0 : -1;
}

static void ok(tl_status s, const tl_err *err) {
  if (s != TL_OK) fail_msg("%s", err->msg);
}

static const struct kind {
  const char *type, *tokenizer;
  bool qk_norm, tie;
} kinds[] = {{"gpt2", "bpe", false, true},
             {"llama", "chain-llama2", false, true},
             {"llama", "chain-llama3", false, false},
             {"llama", "bpe", true, false}};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

/* Writes the folder of a model whose logits are spread as those of a trained one. */
static void make_model(const struct kind *k) {
  char path[512];
  tl_err err = {TL_OK, ""};
  tl_model *m = NULL;
  tl_tokenizer *tok = NULL;
  tl_model_config c = {.dim = 64,
                       .layers = 2,
                       .heads = 4,
                       .kv_heads = strcmp(k->type, "gpt2") ? 2 : 4,
                       .ff = 128,
                       .vocab = VOCAB,
                       .max_len = 32,
                       .rope_theta = 10000,
                       .norm_eps = 1e-5,
                       .init_std = 0.1,
                       .qk_norm = k->qk_norm,
                       .tie = k->tie,
                       .act = "auto"};
  snprintf(c.type, sizeof c.type, "%s", k->type);
  snprintf(path, sizeof path, GOLDEN "%s.json", k->tokenizer);
  ok(tl_tokenizer_load(path, &tok, &err), &err);
  ok(tl_model_new(&c, 5, false, &m, &err), &err);
  for (int i = 0; i < m->params.n; i++) { /* gains and biases, too, are not all the same */
    tl_param *p = m->params.p[i];
    for (int64_t j = 0; p->ndim == 1 && j < p->shape[0]; j++)
      p->data[j] += 0.1f * sinf((float)(j + 3 * i));
  }
  ok(tl_model_save(m, tok, model_dir, &err), &err);
  tl_model_free(m);
  tl_tokenizer_free(tok);
}

/* [N, VOCAB], malloc'ed. */
static float *logits(const char *name) {
  tl_err err = {TL_OK, ""};
  tl_model *m = NULL;
  ok(tl_model_load(name, false, &m, &err), &err);
  tl_graph *g = tl_graph_new(ctx, &m->params, &(tl_graph_options){TL_F32, false});
  tl_model_io io = tl_model_inputs(m, g, tl_graph_dim(g, N), N, tl_graph_dim(g, 1), 1);
  tl_node *y = tl_model_logits(m, g, m->arch->body(m, g, &io));
  ok(tl_graph_compile(g, NULL, &y, 1, &err), &err);
  int32_t *token = io.tokens->data, *pos = io.pos->data;
  for (int32_t i = 0; i < N; i++) {
    token[i] = (7 * i * i + 11 * i + 5) % VOCAB;
    pos[i] = i;
  }
  *(tl_segment *)io.segments->data = (tl_segment){0, N, 0, N, 1};
  tl_graph_run(g, &(tl_pass){.loss_scale = 1});
  float *out = malloc((size_t)N * VOCAB * sizeof *out);
  assert_non_null(out);
  memcpy(out, y->data, (size_t)N * VOCAB * sizeof *out);
  tl_graph_free(g);
  tl_model_free(m);
  return out;
}

/* Largest difference, as a part of the largest logit. */
static double difference(const float *a, const float *b) {
  double most = 0, largest = 0;
  for (size_t i = 0; i < (size_t)N * VOCAB; i++) {
    most = fmax(most, fabs((double)a[i] - (double)b[i]));
    largest = fmax(largest, fabs((double)a[i]));
  }
  return most / largest;
}

static void logits_stay_near(void **state) {
  (void)state;
  static const struct {
    const char *dtype;
    double bound;
  } types[] = {{"f32", 0}, {"f16", 1.5e-3}, {"bf16", 1.2e-2}, {"q8_0", 4e-2}};
  for (int k = 0; k < N_KINDS; k++) {
    make_model(&kinds[k]);
    float *want = logits(model_dir);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
      const tl_convert_options o = {.dtype = types[t].dtype, .overwrite = true},
                               plain = {.overwrite = true};
      tl_err err = {TL_OK, ""};
      ok(tl_export_gguf(model_dir, file, &o, NULL, &err), &err);
      ok(tl_import_gguf(file, folder, &plain, NULL, &err), &err);
      float *direct = logits(file), *imported = logits(folder);
      assert_memory_equal(direct, imported, (size_t)N * VOCAB * sizeof *direct);
      double d = difference(want, direct);
      if (!(d <= types[t].bound) || (t > 0 && !(d > 0)))
        fail_msg("%s with %s in %s: logits differ by %g of the largest", kinds[k].type,
                 kinds[k].tokenizer, types[t].dtype, d);
      free(direct);
      free(imported);
    }
    free(want);
  }
}

/* Blocks of each type, and beside them, as F32, what the `gguf` package reads in them: made by
 * tests/interop/gguf_goldens.py. */
static void blocks_are_what_gguf_says(void **state) {
  (void)state;
  static const char end[] = ".values";
  tl_err err = {TL_OK, ""};
  tl_gguf g;
  int compared = 0;
  ok(tl_gguf_open(TL_SOURCE_DIR "/tests/golden/gguf/blocks.gguf", &g, &err), &err);
  for (size_t i = 0; i < g.n_tensors; i++) {
    const tl_gguf_tensor *want = &g.tensor[i];
    char name[TL_GGUF_MAX_NAME + 1];
    size_t n = want->name.n - (sizeof end - 1);
    if (want->name.n < sizeof end || memcmp(want->name.s + n, end, sizeof end - 1)) continue;
    snprintf(name, sizeof name, "%.*s", (int)n, want->name.s);
    const tl_gguf_tensor *t = tl_gguf_find_tensor(&g, name);
    assert_non_null(t);
    float *x = malloc(want->size);
    assert_non_null(x);
    ok(tl_gguf_read_f32(t, x, &err), &err);
    if (memcmp(x, want->data, want->size)) fail_msg("%s has other values", name);
    free(x);
    compared++;
  }
  assert_int_equal(compared, 6);
  tl_gguf_close(&g);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(logits_stay_near),
                                     cmocka_unit_test(blocks_are_what_gguf_says)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
