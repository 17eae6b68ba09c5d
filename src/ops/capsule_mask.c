/* y [N, C w]: of the C capsules of w columns in a row of v the one with the largest target, the
 * others 0; in a row without targets (all 0) the longest capsule. v is f32, y of the graph's type.
 */
#include <string.h>

#include "ops/ops.h"
#include "ops/parallel.h"

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  const tl_node *v = n->in[0], *t = n->in[1];
  if (v->ndim != 2 || v->dt != TL_F32)
    return tl_fail(err, TL_INTERNAL, "%s must be f32 [N, d]", v->name);
  if (t->dt != TL_F32 || t->dim != v->dim || t->shape[0] != v->shape[0] || tl_cols(t) < 1 ||
      v->shape[1] % tl_cols(t))
    return tl_fail(err, TL_INTERNAL, "targets must be f32, a row for each of %s", v->name);
  n->dt = g->opt.dt;
  return TL_OK;
}

static int64_t longest_capsule(const float *v, int64_t capsules, int64_t width) {
  int64_t best = 0;
  double longest = -1;
  for (int64_t c = 0; c < capsules; c++) {
    double q = 0;
    for (int64_t k = 0; k < width; k++) q += (double)v[c * width + k] * (double)v[c * width + k];
    if (q > longest) {
      longest = q;
      best = c;
    }
  }
  return best;
}

static int64_t kept(const tl_node *n, int64_t row) {
  const tl_node *targets = n->in[1];
  int64_t capsules = tl_cols(targets), width = n->shape[1] / capsules, best = 0;
  const float *t = (const float *)targets->data + row * capsules;
  for (int64_t c = 1; c < capsules; c++)
    if (t[c] > t[best]) best = c;
  if (t[best] > 0) return best;
  return longest_capsule((const float *)n->in[0]->data + row * n->shape[1], capsules, width);
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
} job;

static void forward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  int64_t cols = n->shape[1], width = cols / tl_cols(n->in[1]);
  size_t size = tl_dtype_size(n->dt);
  for (int64_t r = begin; r < end; r++) {
    int64_t at = r * cols + kept(n, r) * width;
    memset(tl_at(n->dt, n->data, r * cols), 0, (size_t)cols * size);
    j->x->k->row.convert(TL_F32, (const float *)n->in[0]->data + at, n->dt,
                         tl_at(n->dt, n->data, at), width);
  }
}

static void backward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  int64_t cols = n->shape[1], width = cols / tl_cols(n->in[1]);
  float *dv = n->in[0]->grad;
  if (!tl_grad_adds(j->x, n, 0))
    memset(dv + begin * cols, 0, (size_t)((end - begin) * cols) * sizeof *dv);
  for (int64_t r = begin; r < end; r++)
    for (int64_t k = 0, at = r * cols + kept(n, r) * width; k < width; k++, at++)
      dv[at] += n->dt == TL_BF16 ? tl_bf16_to_f32(((const tl_bf16 *)n->grad)[at])
                                 : ((const float *)n->grad)[at];
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(n->shape[1]), forward_rows,
                     &(job){x, n});
}

static void backward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(n->shape[1]), backward_rows,
                     &(job){x, n});
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double bytes = (double)tl_count(g, n) * (4 + (double)tl_dtype_size(n->dt));
  c->bytes_fwd = c->bytes_bwd = bytes;
}

/* rows (at most 64), capsules (at most 16), columns */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  float t[1024] = {0};
  for (int64_t r = 0; r < d[0]; r++)
    for (int64_t c = 0; c < d[1] && r % 3; c++) t[r * d[1] + c] = (float)((r + c) % d[1]);
  tl_node *targets = tl_case_floats(g, 2, d, t);
  return tl_capsule_mask(g, tl_case_capsules(g, d[0], d[1], d[2]), targets);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1, 1}, {7, 3, 5}, {64, 10, 16}, {0}};

const tl_op tl_op_capsule_mask = {
    .name = "capsule_mask",
    .formula = "y = v in the capsule of the largest target, else 0; without targets the longest",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 3,
    .build_case = build_case,
    .cases = cases,
    .tol = {2e-5f, 1e-2f},
    .tol_bwd = {5e-5f, 2e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_capsule_mask(tl_graph *g, tl_node *v, tl_node *targets) {
  tl_node *in[] = {v, targets};
  return tl_graph_op(g, &tl_op_capsule_mask, in, 2, NULL, 0);
}
