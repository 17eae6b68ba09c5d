/* Unit tests of the inspection of models: attention maps, ablation, induction heads, gradients with
 * and without skip connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <math.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/rng.h"
#include "eval/inspect.h"
#include "optim/optim.h"

enum { N = 12 };

static tl_ctx *g_ctx;

static int set_up(void **state) {
  (void)state;
  return tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &g_ctx, NULL) == TL_OK ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  tl_ctx_free(g_ctx);
  return 0;
}

static tl_model *make_model(tl_model_config c, const char *arch) {
  tl_model *m = NULL;
  tl_err err = {0};
  snprintf(c.type, sizeof c.type, "%s", arch);
  if (tl_model_new(&c, 3, true, &m, &err) != TL_OK) fail_msg("%s", err.msg);
  return m;
}

static const tl_model_config small = {.dim = 16,
                                      .layers = 2,
                                      .heads = 2,
                                      .ff = 32,
                                      .vocab = 24,
                                      .max_len = 64,
                                      .tie = true,
                                      .init_std = 0.3};

/* Rows sum to 1, see only what their mask lets them see, and give the attention operator's output
 * when they weigh the values. */
static void maps(void **state) {
  (void)state;
  static const struct {
    const char *arch;
    int64_t window;
  } cases[] = {{"gpt2", 0}, {"llama", 0}, {"llama", 4}, {"bert", 0}, {"encoder", 4}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tl_model_config c = small;
    c.window = cases[i].window;
    c.global_every = 2;
    if (!strcmp(cases[i].arch, "llama")) c.kv_heads = 1;
    tl_model *m = make_model(c, cases[i].arch);
    tl_inspector p;
    int32_t token[N];
    float map[N * N];
    for (int k = 0; k < N; k++) token[k] = k * 5 % 24;
    assert_int_equal(tl_inspector_open(g_ctx, m, 32, &p, NULL), TL_OK);
    tl_inspector_run(&p, token, N);
    for (int l = 0; l < 2; l++)
      for (int h = 0; h < 2; h++) {
        tl_inspector_attention(&p, l, h, map);
        const tl_attention_spec *s = p.attn[l]->attr;
        for (int q = 0; q < N; q++) {
          double sum = 0;
          for (int k = 0; k < N; k++) {
            sum += (double)map[q * N + k];
            if (p.causal && k > q) assert_true(map[q * N + k] == 0);
            if (s->window && abs(q - k) >= s->window) assert_true(map[q * N + k] == 0);
          }
          assert_true(fabs(sum - 1) < 1e-5);
        }
      }
    tl_inspector_close(&p);
    tl_model_free(m);
  }
}

/* An ablated head changes the logits; a restored one gives the same bits as before. */
static void ablation(void **state) {
  (void)state;
  static const char *const archs[] = {"gpt2", "encoder"};
  for (int a = 0; a < 2; a++) {
    tl_model *m = make_model(small, archs[a]);
    tl_inspector p;
    int32_t token[N], target[N];
    double before[N], without[N], after[N], change = 0;
    float kept[16 * 16];
    for (int k = 0; k < N; k++) token[k] = k * 7 % 24;
    for (int k = 0; k < N; k++) target[k] = k + 1 < N ? token[k + 1] : -1;
    assert_int_equal(tl_inspector_open(g_ctx, m, N, &p, NULL), TL_OK);
    tl_inspector_run(&p, token, N);
    tl_inspector_losses(&p, target, before);
    tl_inspector_ablate(&p, 1, 1, kept);
    tl_inspector_run(&p, token, N);
    tl_inspector_losses(&p, target, without);
    tl_inspector_restore(&p, 1, 1, kept);
    tl_inspector_run(&p, token, N);
    tl_inspector_losses(&p, target, after);
    for (int k = 0; k < N; k++) change += fabs(without[k] - before[k]);
    assert_true(change > 1e-3);
    assert_true(before[N - 1] == 0 && before[0] > 0);
    assert_memory_equal(before, after, sizeof before);
    tl_inspector_close(&p);
    tl_model_free(m);
  }
}

/* --- induction heads ---------------------------------------------------------------------------
 */

enum { VOCAB = 32, HALF = 24, BATCH = 16 };

typedef struct trainer {
  tl_graph *g;
  tl_model_io io;
  tl_node *targets, *loss;
} trainer;

static void build(trainer *t, tl_model *m) {
  int64_t n = BATCH * 2 * HALF;
  t->g = tl_graph_new(g_ctx, &m->params, &(tl_graph_options){.dt = TL_F32, .training = true});
  t->io = tl_model_inputs(m, t->g, 0, n, 0, BATCH);
  t->targets = tl_graph_input(t->g, "targets", TL_I32, 1, &n, 0);
  t->loss = tl_cross_entropy(t->g, m->arch->body(m, t->g, &t->io), t->targets,
                             &(tl_xent_spec){.w = m->out_w});
  assert_int_equal(tl_graph_compile(t->g, t->loss, NULL, 0, NULL), TL_OK);
}

/* Random tokens repeated once at a random distance; the loss counts in the repetition. */
static void fill(trainer *t, int step) {
  int32_t *token = t->io.tokens->data, *target = t->targets->data, *pos = t->io.pos->data;
  for (int b = 0; b < BATCH; b++) {
    tl_rng r = tl_rng_make(11, TL_STREAM_TEST, (uint32_t)step, (uint64_t)b << 20);
    int at = b * 2 * HALF, half = 4 + (int)tl_rng_below(&r, HALF - 3);
    for (int i = 0; i < 2 * HALF; i++) {
      token[at + i] = i < half ? (int32_t)tl_rng_below(&r, VOCAB) : token[at + i - half];
      if (t->io.pos->live) pos[at + i] = i;
      if (i > 0) target[at + i - 1] = i > half ? token[at + i] : -1;
    }
    target[at + 2 * HALF - 1] = -1;
    ((tl_segment *)t->io.segments->data)[b] = (tl_segment){at, at + 2 * HALF, at, at + 2 * HALF, 1};
  }
}

static tl_induction train_and_score(int layers, int steps) {
  tl_model_config c = {.dim = 48,
                       .layers = layers,
                       .heads = 2,
                       .ff = 16, /* nearly attention alone */
                       .vocab = VOCAB,
                       .max_len = 2 * HALF,
                       .init_std = 0.1};
  tl_model *m = make_model(c, "llama");
  trainer t;
  tl_optim *opt = NULL;
  tl_optim_options o = {
      .type = TL_OPTIM_ADAMW, .lr = 5e-3f, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-8f};
  build(&t, m);
  assert_int_equal(tl_optim_new(g_ctx, &m->params, &o, &opt, NULL), TL_OK);
  for (int step = 0; step < steps; step++) {
    fill(&t, step);
    int64_t targets = 0;
    for (int i = 0; i < BATCH * 2 * HALF; i++) targets += ((int32_t *)t.targets->data)[i] >= 0;
    tl_graph_run(t.g, &(tl_pass){.training = true, .loss_scale = 1.0f / (float)targets});
    tl_optim_step(opt, step + 1, step < 20 ? (float)(step + 1) / 20 : 1, 1);
  }
  tl_optim_free(opt);
  tl_graph_free(t.g);
  tl_inspector p;
  tl_induction x;
  tl_err err = {0};
  assert_int_equal(tl_inspector_open(g_ctx, m, 2 * HALF, &p, NULL), TL_OK);
  if (tl_inspect_induction(&p, VOCAB, HALF, 16, 5, &x, &err) != TL_OK) fail_msg("%s", err.msg);
  tl_inspector_close(&p);
  tl_model_free(m);
  return x;
}

static double highest(const double *v, int n) {
  double best = 0;
  for (int i = 0; i < n; i++) best = v[i] > best ? v[i] : best;
  return best;
}

/* Two layers learn an induction head, one cannot (Olsson et al. 2022). */
static void induction_heads(void **state) {
  (void)state;
  tl_induction two = train_and_score(2, 600), one = train_and_score(1, 600);
  double score2 = highest(two.induction, 4), score1 = highest(one.induction, 2);
  print_message("induction: two layers %.3f (loss %.2f -> %.2f), one layer %.3f (%.2f -> %.2f)\n",
                score2, two.loss_first, two.loss_repeat, score1, one.loss_first, one.loss_repeat);
  assert_true(score2 >= 0.4);
  assert_true(two.loss_repeat <= 0.5 * two.loss_first);
  assert_true(score1 < 0.15);
  tl_induction_free(&two);
  tl_induction_free(&one);
}

/* --- gradients ---------------------------------------------------------------------------------
 */

/* 32 layers from random weights: with skip connections the gradients of the blocks stay together;
 * without them they vanish where each block makes its input smaller, and explode where the norms
 * make up for that. */
static void skip_connections(void **state) {
  (void)state;
  static const struct {
    const char *arch;
    double init_std;
    bool vanishes;
  } cases[] = {{"gpt2", 0.02, true}, {"llama", 0.1, false}};
  for (int i = 0; i < 2; i++) {
    tl_model_config c = small;
    c.dim = 32;
    c.ff = 64;
    c.layers = 32;
    c.init_std = cases[i].init_std;
    tl_model *m = make_model(c, cases[i].arch);
    int32_t token[N], target[N];
    double norm[34], cut[34];
    for (int k = 0; k < N; k++) token[k] = k * 7 % 24;
    for (int k = 0; k < N; k++) target[k] = k + 1 < N ? token[k + 1] : -1;
    tl_inspect_window w = {token, target, N};
    tl_err err = {0};
    if (tl_inspect_gradients(g_ctx, m, &w, 1, false, norm, &err) != TL_OK) fail_msg("%s", err.msg);
    if (tl_inspect_gradients(g_ctx, m, &w, 1, true, cut, &err) != TL_OK) fail_msg("%s", err.msg);
    double with = norm[1] / norm[32], without = cut[1] / cut[32];
    print_message("%s: gradient of the first over the last block: %.3g, skips cut %.3g\n",
                  cases[i].arch, with, without);
    assert_true(with < 30 && with > 1.0 / 30);
    assert_true(cases[i].vanishes ? without < 1e-3 : without > 1e3);
    for (int k = 0; k < N; k++) target[k] = -1;
    assert_int_equal(tl_inspect_gradients(g_ctx, m, &w, 1, true, cut, &err), TL_DATA);
    tl_model_free(m);
  }
}

/* Of the groups' gradients, the sum of squares is that of all weights. */
static void groups(void **state) {
  (void)state;
  static const char *const archs[] = {"gpt2", "llama", "bert", "encoder"};
  for (int a = 0; a < 4; a++) {
    tl_model *m = make_model(small, archs[a]);
    int32_t token[N], target[N];
    double norm[4], sum = 0, all = 0;
    for (int i = 0; i < N; i++) token[i] = target[i] = i * 7 % 24;
    tl_inspect_window w = {token, target, N};
    assert_int_equal(tl_inspect_gradients(g_ctx, m, &w, 1, false, norm, NULL), TL_OK);
    for (int i = 0; i < 4; i++) sum += norm[i] * norm[i];
    for (int i = 0; i < m->params.n; i++)
      for (int64_t k = 0; k < m->params.p[i]->n; k++)
        all += (double)m->params.p[i]->grad[k] * (double)m->params.p[i]->grad[k];
    assert_true(fabs(sum - all) < 1e-6 * all);
    for (int i = 0; i < 4; i++) assert_true(norm[i] > 0);
    tl_model_free(m);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(maps),
      cmocka_unit_test(ablation),
      cmocka_unit_test(induction_heads),
      cmocka_unit_test(groups),
      cmocka_unit_test(skip_connections),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
