/* Unit tests of the memory plan: what is computed again or written over gives the same bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/graph.h"
#include "ops/ops.h"

enum { ROWS = 1100, DIM = 256, HIDDEN = 512, MAX_KEPT = 16 };

static tl_ctx *g_ctx;

static int set_up(void **state) {
  (void)state;
  return tl_ctx_new(NULL, &g_ctx, NULL) == TL_OK ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  tl_ctx_free(g_ctx);
  return 0;
}

static tl_node *linear(tl_graph *g, tl_node *x, int64_t out, tl_act act, tl_node *residual) {
  int64_t shape[] = {out, tl_cols(x)};
  tl_linear_spec s = {.n = 1, .act = act, .residual = residual};
  s.w[0] = tl_case_param(g, 2, shape, 0, 0.05f);
  return tl_linear(g, x, &s);
}

/* A pre-norm block with dropout: all outputs that could be made again, and one written over. */
static tl_node *block(tl_graph *g, tl_node *kept[MAX_KEPT], int *n_kept) {
  int64_t dim = DIM;
  tl_node *x = linear(g, tl_case_input(g, ROWS, DIM), DIM, TL_ACT_NONE, NULL);
  tl_node *h = kept[(*n_kept)++] =
      tl_layer_norm(g, x, tl_case_param(g, 1, &dim, 1, 0.1f), NULL, 1e-5f);
  h = kept[(*n_kept)++] = linear(g, h, HIDDEN, TL_ACT_GELU, NULL);
  x = tl_add(g, x, tl_dropout_node(g, linear(g, h, DIM, TL_ACT_NONE, NULL), 0.2f));
  h = kept[(*n_kept)++] = tl_rms_norm(g, x, tl_case_param(g, 1, &dim, 1, 0.1f), 1e-5f);
  h = kept[(*n_kept)++] = tl_glu(g, linear(g, h, 2 * HIDDEN, TL_ACT_NONE, NULL), TL_ACT_SILU);
  h = linear(g, h, DIM, TL_ACT_NONE, x);
  /* Two readers of one output that is made again. */
  h = kept[(*n_kept)++] = tl_rms_norm(g, h, NULL, 1e-5f);
  return tl_add(g, linear(g, h, DIM, TL_ACT_NONE, NULL), linear(g, h, DIM, TL_ACT_TANH, NULL));
}

typedef struct outcome {
  float *grads; /* of all parameters */
  int64_t n;
  size_t slab_bytes;
} outcome;

/* The gradients after two passes. keep: the outputs stay readable, so that none is made again. */
static outcome run(tl_dtype dt, bool keep) {
  tl_params ps = {0};
  outcome o = {0};
  tl_graph *g = tl_graph_new(g_ctx, &ps, &(tl_graph_options){dt, true});
  assert_non_null(g);
  tl_node *kept[MAX_KEPT];
  int n_kept = 0;
  tl_node *y = block(g, kept, &n_kept);
  tl_node *r = tl_graph_input(g, "r", TL_F32, 2, y->shape, 0);
  tl_node *loss = tl_inner(g, y, r);
  tl_err err = {0};
  if (tl_graph_compile(g, loss, kept, keep ? n_kept : 0, &err) != TL_OK) fail_msg("%s", err.msg);
  for (int64_t i = 0; i < tl_max_count(r); i++)
    ((float *)r->data)[i] = (float)(i * 7 % 19 - 9) * 0.01f;
  for (int pass = 0; pass < 2; pass++)
    tl_graph_run(
        g,
        &(tl_pass){.training = true, .accumulate = pass, .loss_scale = 1, .tick = (uint64_t)pass});
  for (int i = 0; i < ps.n; i++) o.n += ps.p[i]->n;
  o.grads = malloc((size_t)o.n * sizeof *o.grads);
  assert_non_null(o.grads);
  float *at = o.grads;
  for (int i = 0; i < ps.n; i++) {
    memcpy(at, ps.p[i]->grad, (size_t)ps.p[i]->n * sizeof *at);
    at += ps.p[i]->n;
  }
  o.slab_bytes = g->stats.slab_bytes;
  tl_graph_free(g);
  tl_params_free(&ps);
  return o;
}

static void made_again_gives_the_same_bits(void **state) {
  (void)state;
  for (int dt = TL_F32; dt <= TL_BF16; dt++) {
    outcome a = run((tl_dtype)dt, true), b = run((tl_dtype)dt, false);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.grads, b.grads, (size_t)a.n * sizeof *a.grads);
    double sum = 0;
    for (int64_t i = 0; i < a.n; i++) sum += (double)a.grads[i] * (double)a.grads[i];
    assert_true(sum > 0);
    if (dt == TL_F32) assert_true(b.slab_bytes + ((size_t)3 << 20) < a.slab_bytes);
    free(a.grads);
    free(b.grads);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(made_again_gives_the_same_bits)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
