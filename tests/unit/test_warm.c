/* Warm start: weights of two models at their places in an encoder-decoder, and what does not fit.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tilth/context.h"
#include "transfer/warm.h"

enum { DIM = 32, FF = 48, VOCAB = 320 };

static tl_ctx *g_ctx;
static tl_tokenizer *g_tok;
static char g_dir[] = "/tmp/tilth-warm-XXXXXX";

static tl_model_config config(const char *type, int64_t encoder_layers, int64_t layers) {
  tl_model_config c = {.dim = DIM,
                       .encoder_layers = encoder_layers,
                       .layers = layers,
                       .heads = 4,
                       .ff = FF,
                       .vocab = VOCAB,
                       .max_len = 32,
                       .tie = true};
  snprintf(c.type, sizeof c.type, "%s", type);
  return c;
}

static tl_model *model(const tl_model_config *c, uint64_t seed) {
  tl_model *m = NULL;
  tl_err err = {0};
  if (tl_model_new(c, seed, true, &m, &err) != TL_OK) fail_msg("%s", err.msg);
  return m;
}

static const char *path(const char *name) {
  static char full[2][64];
  static int turn;
  turn = !turn;
  snprintf(full[turn], sizeof full[turn], "%s/%s", g_dir, name);
  return full[turn];
}

/* A model with random weights, also in the folder `name`. */
static tl_model *saved(const tl_model_config *c, uint64_t seed, const char *name) {
  tl_model *m = model(c, seed);
  assert_int_equal(tl_model_save(m, g_tok, path(name), NULL), TL_OK);
  return m;
}

static const tl_param *find(const tl_model *m, const char *name) {
  const tl_param *p = tl_params_find(&m->params, name);
  if (!p) fail_msg("no parameter %s", name);
  return p;
}

/* `to` holds the rows of `from` that begin at row `at`. */
static void assert_rows(const tl_model *to, const char *to_name, const tl_model *from,
                        const char *from_name, int64_t at) {
  const tl_param *a = find(to, to_name), *b = find(from, from_name);
  int64_t cols = b->ndim > 1 ? b->shape[1] : 1;
  assert_memory_equal(a->data, b->data + at * cols, (size_t)a->n * sizeof(float));
}

static void each_side_gets_its_weights(void **state) {
  (void)state;
  tl_model_config ce = config("encoder", 0, 2), cd = config("llama", 0, 3);
  tl_model_config c = config("encdec", 2, 3);
  tl_model *e = saved(&ce, 1, "encoder"), *d = saved(&cd, 2, "llama");
  tl_model *m = model(&c, 3), *fresh = model(&c, 3);
  const tl_warm_start o = {path("encoder"), path("llama")};
  tl_warm_counts n;
  assert_int_equal(tl_warm_start_model(g_ctx, m, g_tok, &o, &n, NULL), TL_OK);
  const char *enc = "model.encoder.layers.1.", *dec = "model.decoder.layers.2.";
  static const struct {
    const char *to, *from;
    int64_t at;
  } encoder[] = {{"self_attn.q_proj.weight", "attn.Wqkv.weight", 0},
                 {"self_attn.k_proj.weight", "attn.Wqkv.weight", DIM},
                 {"self_attn.v_proj.weight", "attn.Wqkv.weight", 2 * DIM},
                 {"self_attn.o_proj.weight", "attn.Wo.weight", 0},
                 {"mlp.gate_proj.weight", "mlp.Wi.weight", 0},
                 {"mlp.up_proj.weight", "mlp.Wi.weight", FF},
                 {"mlp.down_proj.weight", "mlp.Wo.weight", 0}};
  char to[96], from[96];
  for (size_t i = 0; i < sizeof encoder / sizeof *encoder; i++) {
    snprintf(to, sizeof to, "%s%s", enc, encoder[i].to);
    snprintf(from, sizeof from, "model.layers.1.%s", encoder[i].from);
    assert_rows(m, to, e, from, encoder[i].at);
  }
  static const char *const decoder[] = {"self_attn.q_proj.weight", "self_attn.k_proj.weight",
                                        "self_attn.v_proj.weight", "self_attn.o_proj.weight",
                                        "mlp.gate_proj.weight",    "mlp.up_proj.weight",
                                        "mlp.down_proj.weight"};
  for (size_t i = 0; i < sizeof decoder / sizeof *decoder; i++) {
    snprintf(to, sizeof to, "%s%s", dec, decoder[i]);
    snprintf(from, sizeof from, "model.layers.2.%s", decoder[i]);
    assert_rows(m, to, d, from, 0);
  }
  assert_rows(m, "model.embed_tokens.weight", e, "model.embeddings.tok_embeddings.weight", 0);
  snprintf(to, sizeof to, "%scross_attn.q_proj.weight", dec);
  assert_rows(m, to, fresh, to, 0);
  /* 2 x (7 matrices, 2 norms) less the first norm, and the last norm; 3 x 9 and the last norm;
   * embedding and its norm; 3 x (cross-attention and its norm) and the first norm of the encoder */
  assert_int_equal(n.encoder, 18);
  assert_int_equal(n.decoder, 28);
  assert_int_equal(n.shared, 2);
  assert_int_equal(n.fresh, 3 * 5 + 1);
  tl_model_free(e);
  tl_model_free(d);
  tl_model_free(m);
  tl_model_free(fresh);
}

/* From a decoder alone, and from encoder-decoders: cross-attention and relative positions too. */
static void one_side_or_the_same_type(void **state) {
  (void)state;
  tl_model_config cd = config("llama", 0, 1), c = config("encdec", 1, 1), ct = config("t5", 1, 2);
  tl_model *d = saved(&cd, 4, "llama-1"), *m = model(&c, 5), *t = saved(&ct, 6, "t5");
  tl_model *again = model(&ct, 7);
  tl_warm_counts n;
  tl_warm_start o = {"", path("llama-1")};
  assert_int_equal(tl_warm_start_model(g_ctx, m, g_tok, &o, &n, NULL), TL_OK);
  assert_int_equal(n.encoder, 0);
  assert_int_equal(n.decoder, 10);
  assert_rows(m, "model.embed_tokens.weight", d, "model.embed_tokens.weight", 0);
  double sum = 0; /* llama reads its embedding as it is: the norm keeps its size */
  const tl_param *embed = find(d, "model.embed_tokens.weight");
  for (int64_t i = 0; i < embed->n; i++) sum += (double)embed->data[i] * (double)embed->data[i];
  double gain = (double)find(m, "model.embed_norm.weight")->data[0];
  assert_true(fabs(gain - sqrt(sum / (double)embed->n)) < 1e-6);
  o = (tl_warm_start){path("t5"), path("t5")};
  assert_int_equal(tl_warm_start_model(g_ctx, again, g_tok, &o, &n, NULL), TL_OK);
  assert_int_equal(n.fresh, 0);
  for (int i = 0; i < t->params.n; i++) {
    const char *name = t->params.p[i]->name;
    assert_rows(again, name, t, name, 0);
  }
  tl_model_free(d);
  tl_model_free(m);
  tl_model_free(t);
  tl_model_free(again);
}

static void expect(tl_model_config c, const char *encoder, const char *decoder, const char *part) {
  tl_model *m = model(&c, 9);
  tl_warm_counts n;
  tl_err err = {0};
  const tl_warm_start o = {*encoder ? path(encoder) : "", *decoder ? path(decoder) : ""};
  assert_int_equal(tl_warm_start_model(g_ctx, m, g_tok, &o, &n, &err), TL_CONFIG);
  if (!strstr(err.msg, part)) fail_msg("no \"%s\" in: %s", part, err.msg);
  tl_model_free(m);
}

static void what_does_not_fit_is_named(void **state) {
  (void)state;
  tl_model_config ce = config("encoder", 0, 2), cb = config("bert", 0, 2),
                  c = config("encdec", 2, 2);
  tl_model_free(saved(&ce, 1, "encoder"));
  tl_model_free(saved(&cb, 1, "bert"));
  expect(c, "bert", "", "positions of another kind");
  expect(config("t5", 2, 2), "encoder", "", "positions of another kind");
  expect(config("encdec", 3, 2), "encoder", "", "has 2 blocks; model.encoder_layers is 3");
  expect(config("encdec", 2, 3), "", "encoder", "has 2 blocks; model.layers is 3");
  expect(config("llama", 0, 2), "encoder", "", "not by llama");
  c.ff = FF + 16;
  expect(c, "encoder", "",
         "mlp.Wi.weight\" has shape [96, 32], but \"model.encoder.layers.0.mlp.gate");
  c.ff = FF;
  c.heads = 8;
  expect(c, "encoder", "", "4 heads");
  c.heads = 4;
  c.qk_norm = true;
  expect(c, "encoder", "", "without qk_norm");
}

static int set_up(void **state) {
  (void)state;
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 1}, &g_ctx, NULL), TL_OK);
  assert_int_equal(tl_tokenizer_open(g_ctx, "bytes", &g_tok, NULL), TL_OK);
  assert_non_null(mkdtemp(g_dir));
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  char command[64];
  snprintf(command, sizeof command, "rm -r %s", g_dir);
  assert_int_equal(system(command), 0);
  tl_tokenizer_free(g_tok);
  tl_ctx_free(g_ctx);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_side_gets_its_weights),
      cmocka_unit_test(one_side_or_the_same_type),
      cmocka_unit_test(what_does_not_fit_is_named),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
