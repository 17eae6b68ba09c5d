/* Every architecture against Hugging Face's transformers (our own encoder-decoder: against the
 * same in PyTorch): a folder written by it is loaded, and logits, loss and the gradient of every
 * parameter are compared with PyTorch's. The golden files are made by tools/make_model_goldens.py.
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

#include "models/model.h"
#include "tilth/context.h"
#include "transfer/beam.h"

#define GOLDEN TL_SOURCE_DIR "/tests/golden/models/"
#define TOLERANCE 1e-4 /* of the largest magnitude in the tensor, at f32 */

static const char *const names[] = {"gpt2",   "llama", "bert",   "modernbert", "roberta",
                                    "llama3", "qwen3", "encdec", "t5",         "t5-gated"};
static const char *const levels[] = {"ref", "avx2", "avx512", "avx512bf16"};
enum { N_NAMES = 10, N_LEVELS = 4, MAX_TOKENS = 64 };

/* A golden file and the model beside it. */
typedef struct golden {
  const char *name;
  tl_model *m;
  tl_st *st;
  const int32_t *tokens, *targets, *lengths;
  int64_t n, n_segments, n_counted;
  int32_t pos[MAX_TOKENS], idx[MAX_TOKENS], counted[MAX_TOKENS];
  tl_segment segments[MAX_TOKENS];
  const int32_t *source; /* of an encoder-decoder */
  int64_t n_source;
  int32_t source_pos[MAX_TOKENS];
  tl_segment source_segments[MAX_TOKENS], cross[MAX_TOKENS];
} golden;

static const tl_st_tensor *find(const golden *t, const char *name) {
  const tl_st_tensor *x = tl_st_find(t->st, name);
  if (!x) fail_msg("%s: golden.safetensors has no tensor %s", t->name, name);
  return x;
}

static void read_source(golden *t) {
  const int32_t *lengths = find(t, "source_lengths")->data;
  t->source = find(t, "source")->data;
  t->n_source = find(t, "source")->shape[0];
  assert_true(t->n_source <= MAX_TOKENS);
  for (int32_t s = 0, row = 0; s < t->n_segments; s++) {
    int32_t end = row + lengths[s];
    t->source_segments[s] = (tl_segment){row, end, row, end, 0};
    t->cross[s] = (tl_segment){t->segments[s].q0, t->segments[s].q1, row, end, 0};
    for (int32_t i = 0; row < end; i++, row++) t->source_pos[row] = i;
  }
}

static void open_golden(golden *t, const char *name) {
  tl_err err = {TL_OK, ""};
  char path[512];
  *t = (golden){.name = name};
  snprintf(path, sizeof path, GOLDEN "%s", name);
  if (tl_model_load(path, true, &t->m, &err) != TL_OK) fail_msg("%s", err.msg);
  snprintf(path, sizeof path, GOLDEN "%s/golden.safetensors", name);
  if (tl_st_open(path, &t->st, &err) != TL_OK) fail_msg("%s", err.msg);
  t->n = find(t, "tokens")->shape[0];
  t->n_segments = find(t, "lengths")->shape[0];
  assert_true(t->n <= MAX_TOKENS);
  t->tokens = find(t, "tokens")->data;
  t->targets = find(t, "targets")->data;
  t->lengths = find(t, "lengths")->data;
  bool causal = !tl_model_is_encoder(t->m);
  for (int32_t s = 0, row = 0; s < t->n_segments; s++) {
    int32_t end = row + t->lengths[s];
    t->segments[s] = (tl_segment){row, end, row, end, causal};
    for (int32_t i = 0; row < end; i++, row++) t->pos[row] = i;
  }
  if (t->m->arch->seq2seq) read_source(t);
  for (int32_t i = 0; i < t->n; i++) {
    if (t->targets[i] < 0) continue;
    t->idx[t->n_counted] = i;
    t->counted[t->n_counted++] = t->targets[i];
  }
}

static void close_golden(golden *t) {
  tl_model_free(t->m);
  tl_st_close(t->st);
}

static void fill(tl_node *input, const void *data, int64_t n, size_t size) {
  if (input && input->live) memcpy(input->data, data, (size_t)n * size);
}

/* Builds one graph as the training loop does (loss), or with logits as its output, and runs it. An
 * encoder's outputs stand on the rows with a target, a decoder's on all. */
static tl_graph *run(const golden *t, tl_ctx *ctx, tl_dtype dt, bool training, tl_node **out) {
  bool encoder = tl_model_is_encoder(t->m);
  tl_graph *g = tl_graph_new(ctx, &t->m->params, &(tl_graph_options){dt, training});
  int tokens = tl_graph_dim(g, t->n), segments = tl_graph_dim(g, t->n_segments);
  int targets = encoder ? tl_graph_dim(g, t->n_counted) : tokens;
  int64_t n_targets = encoder ? t->n_counted : t->n;
  tl_model_io io = tl_model_inputs(t->m, g, tokens, t->n, segments, t->n_segments);
  if (t->source)
    tl_model_source(g, &io, tl_graph_dim(g, t->n_source), t->n_source, segments, t->n_segments);
  tl_node *want = tl_graph_input(g, "targets", TL_I32, 1, &n_targets, targets), *idx = NULL;
  tl_node *h = t->m->arch->body(t->m, g, &io);
  if (encoder) {
    idx = tl_graph_input(g, "selected", TL_I32, 1, &n_targets, targets);
    h = tl_gather_rows(g, h, idx);
  }
  if (training) {
    const tl_xent_spec spec = {.w = t->m->out_w, .b = t->m->out_b};
    *out = tl_cross_entropy(g, tl_model_head(t->m, g, h), want, &spec);
  } else {
    *out = tl_model_logits(t->m, g, h);
  }
  tl_err err = {TL_OK, ""};
  if (tl_graph_compile(g, training ? *out : NULL, out, 1, &err) != TL_OK) fail_msg("%s", err.msg);
  static const int32_t types[MAX_TOKENS];
  fill(io.tokens, t->tokens, t->n, sizeof *t->tokens);
  fill(io.pos, t->pos, t->n, sizeof *t->pos);
  fill(io.types, types, t->n, sizeof *types);
  fill(io.segments, t->segments, t->n_segments, sizeof *t->segments);
  if (t->source) {
    fill(io.src_tokens, t->source, t->n_source, sizeof *t->source);
    fill(io.src_pos, t->source_pos, t->n_source, sizeof *t->source_pos);
    fill(io.src_segments, t->source_segments, t->n_segments, sizeof *t->source_segments);
    fill(io.cross, t->cross, t->n_segments, sizeof *t->cross);
  }
  fill(idx, t->idx, t->n_counted, sizeof *t->idx);
  fill(want, encoder ? t->counted : t->targets, n_targets, sizeof *t->targets);
  tl_graph_run(g, &(tl_pass){.training = training, .loss_scale = 1 / (float)t->n_counted});
  return g;
}

/* floor: a magnitude below which differences of this tensor do not count. */
static void compare(const golden *t, const char *level, const char *what, const float *have,
                    double floor) {
  const tl_st_tensor *x = find(t, what);
  int64_t n = tl_st_elements(x);
  float *want = malloc((size_t)n * sizeof *want);
  tl_err err = {TL_OK, ""};
  if (tl_st_read_f32(x, want, &err) != TL_OK) fail_msg("%s", err.msg);
  double largest = floor, worst = 0;
  for (int64_t i = 0; i < n; i++) {
    double d = fabs((double)have[i] - (double)want[i]);
    largest = fmax(largest, fabs((double)want[i]));
    worst = d > worst || d != d ? d : worst;
  }
  free(want);
  if (!(worst <= TOLERANCE * largest))
    fail_msg("%s at %s, %s: differs by %.3g of %.3g (%.3g)", t->name, level, what, worst, largest,
             worst / largest);
}

static tl_ctx *context(const char *level) {
  tl_ctx *ctx = NULL;
  tl_err err = {TL_OK, ""};
  tl_status s = tl_ctx_new(&(tl_ctx_options){.n_threads = 2, .cpu = level}, &ctx, &err);
  if (s != TL_OK && !strcmp(level, "ref")) fail_msg("%s", err.msg);
  return ctx; /* NULL: this machine lacks the level */
}

static double loss_of(const golden *t, const tl_node *loss) {
  const float *l = loss->data;
  assert_true(l[TL_LOSS_COUNT] == (float)t->n_counted);
  return (double)l[TL_LOSS_SUM] / (double)t->n_counted;
}

static void check_f32(const golden *t, tl_ctx *ctx) {
  const char *level = tl_ctx_cpu(ctx);
  tl_node *out;
  tl_graph *g = run(t, ctx, TL_F32, false, &out);
  compare(t, level, "logits", out->data, 0);
  tl_graph_free(g);
  g = run(t, ctx, TL_F32, true, &out);
  float loss = (float)loss_of(t, out);
  compare(t, level, "loss", &loss, 0);
  const tl_params *ps = &t->m->params;
  for (int i = 0; i < ps->n; i++) {
    char key[256];
    snprintf(key, sizeof key, "grad/%s", ps->p[i]->name);
    assert_non_null(ps->p[i]->grad);
    assert_int_equal(tl_st_elements(find(t, key)), ps->p[i]->n);
    /* A softmax does not see a key's bias: its exact gradient is 0, both have rounding there. */
    bool zero = strstr(key, "key.bias") != NULL;
    compare(t, level, key, ps->p[i]->grad, zero ? 0.1 : 0);
  }
  tl_graph_free(g);
}

/* A model serves one context: its packed weights have the layout of that context's kernels. */
static void check_all(void (*check)(const golden *t, tl_ctx *ctx)) {
  for (int i = 0; i < N_NAMES; i++)
    for (int k = 0; k < N_LEVELS; k++) {
      tl_ctx *ctx = context(levels[k]);
      if (!ctx) continue;
      golden t;
      open_golden(&t, names[i]);
      check(&t, ctx);
      close_golden(&t);
      tl_ctx_free(ctx);
    }
}

static void f32_equals_pytorch(void **state) {
  (void)state;
  check_all(check_f32);
}

static void check_bf16(const golden *t, tl_ctx *ctx) {
  tl_node *out;
  tl_graph *g = run(t, ctx, TL_BF16, true, &out);
  double loss = loss_of(t, out), want = (double)*(const float *)find(t, "loss")->data;
  if (!(fabs(loss - want) <= 0.01 * want))
    fail_msg("%s at %s: bf16 loss %g, expected %g", t->name, tl_ctx_cpu(ctx), loss, want);
  tl_graph_free(g);
}

static void bf16_loss_is_near(void **state) {
  (void)state;
  check_all(check_bf16);
}

/* What greedy search writes for each source, with keys and values in a cache, up to the end. */
static void check_greedy(const golden *t, tl_ctx *ctx) {
  const tl_st_tensor *x = tl_st_find(t->st, "greedy");
  if (!x) return;
  enum { LEN = 20, EOS = 1 };
  const int32_t *want = x->data;
  int64_t start[MAX_TOKENS];
  int32_t second[MAX_TOKENS];
  tl_task_samples s = {.n = t->n_segments, .start = start, .second = second};
  s.token = (int32_t *)(uintptr_t)t->source;
  for (int64_t i = 0; i < s.n; i++) {
    start[i] = t->source_segments[i].q0;
    second[i] = t->source_segments[i].q1 - t->source_segments[i].q0;
  }
  assert_true(t->m->c.has_start);
  tl_beam_limits l = {.beam = 1,
                      .max_source = t->n_source,
                      .max_len = LEN,
                      .vocab = (int)t->m->c.vocab,
                      .bos = (int)t->m->c.start,
                      .eos = EOS};
  tl_beam *b = NULL;
  tl_hypotheses h;
  tl_err err = {TL_OK, ""};
  if (tl_beam_new(ctx, t->m, TL_F32, &l, &b, &err) != TL_OK) fail_msg("%s", err.msg);
  const tl_beam_options o = {.beam = 1, .n_best = 1, .max_len = LEN, .length_penalty = 1};
  assert_int_equal(tl_beam_search(b, &o, &s, &h, NULL), TL_OK);
  for (int64_t i = 0; i < s.n; i++, want += LEN) {
    int n = 0;
    while (n < LEN - 1 && want[n] != EOS) n++; /* the last step can only end */
    if (h.h[i].n != n || memcmp(h.h[i].token, want, (size_t)n * sizeof *want) != 0)
      fail_msg("%s at %s: text %d differs", t->name, tl_ctx_cpu(ctx), (int)i);
  }
  tl_hypotheses_free(&h);
  tl_beam_free(b);
}

static void greedy_search_equals_transformers(void **state) {
  (void)state;
  check_all(check_greedy);
}

/* Every tensor of the file is a parameter of the model and the other way round. */
static void names_are_the_same(void **state) {
  (void)state;
  for (int i = 0; i < N_NAMES; i++) {
    golden t;
    open_golden(&t, names[i]);
    int n_grads = 0;
    for (size_t k = 0; k < tl_st_count(t.st); k++) {
      const char *name = tl_st_at(t.st, k)->name;
      if (strncmp(name, "grad/", 5)) continue;
      n_grads++;
      if (!tl_params_find(&t.m->params, name + 5)) fail_msg("%s: no parameter %s", t.name, name);
    }
    assert_int_equal(n_grads, t.m->params.n);
    close_golden(&t);
  }
}

/* Saved and loaded again, nothing of the description is lost. */
static void description_survives_saving(void **state) {
  (void)state;
  for (int i = 0; i < N_NAMES; i++) {
    golden t;
    open_golden(&t, names[i]);
    char dir[] = "/tmp/tilth-golden-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    tl_model *again = NULL;
    assert_int_equal(tl_model_save(t.m, NULL, dir, NULL), TL_OK);
    assert_int_equal(tl_model_load(dir, false, &again, NULL), TL_OK);
    const tl_model_config *a = &t.m->c, *b = &again->c;
    assert_string_equal(a->type, b->type);
    assert_true(a->kv_heads == b->kv_heads && a->ff == b->ff && a->max_len == b->max_len);
    assert_true(a->window == b->window && a->global_every == b->global_every);
    assert_true(a->rope_theta == b->rope_theta && a->rope_theta_local == b->rope_theta_local);
    assert_true(a->norm_eps == b->norm_eps && a->tie == b->tie);
    assert_true(a->layers == b->layers && a->encoder_layers == b->encoder_layers);
    assert_true(a->head_dim == b->head_dim && a->rel_distance == b->rel_distance);
    assert_true(a->scale_logits == b->scale_logits);
    assert_int_equal(t.m->params.n, again->params.n);
    for (int k = 0; k < again->params.n; k++) {
      const tl_param *p = t.m->params.p[k], *q = again->params.p[k];
      assert_memory_equal(p->data, q->data, (size_t)p->n * sizeof(float));
    }
    tl_model_free(again);
    static const char *const files[] = {"config.json", "model.safetensors"};
    for (int k = 0; k < 2; k++) {
      snprintf(path, sizeof path, "%s/%s", dir, files[k]);
      assert_int_equal(remove(path), 0);
    }
    assert_int_equal(remove(dir), 0);
    close_golden(&t);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_are_the_same),
      cmocka_unit_test(f32_equals_pytorch),
      cmocka_unit_test(bf16_loss_is_near),
      cmocka_unit_test(greedy_search_equals_transformers),
      cmocka_unit_test(description_survives_saving),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
