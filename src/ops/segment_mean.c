/* y [S, d]: the mean of rows [q0, q1) of x [N, d] for each segment; an empty segment gives 0. */
#include "ops/ops.h"
#include "ops/partials.h"

#include <string.h>

enum { SLICE = 128 }; /* columns per task of the backward: segments may share rows */

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const tl_node *x = n->in[0], *segments = n->in[1];
  if (x->ndim != 2 || x->dt == TL_I32)
    return tl_fail(err, TL_INTERNAL, "%s must be [N, d]", x->name);
  if (segments->dt != TL_I32 || segments->ndim != 2 || segments->shape[1] != 5)
    return tl_fail(err, TL_INTERNAL, "%s must be i32 [S, 5]", segments->name);
  n->dim = segments->dim;
  n->shape[0] = segments->shape[0];
  n->scratch_fwd = (size_t)(n->shape[0] * n->shape[1]) * sizeof(float);
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
} job;

static void forward_segments(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const tl_row_kernels *k = &j->x->k->row;
  const tl_segment *segments = n->in[1]->data;
  int64_t d = n->shape[1];
  for (int64_t i = begin; i < end; i++) {
    const tl_segment *s = &segments[i];
    float *sum = (float *)j->x->scratch + i * d;
    int64_t rows = s->q1 > s->q0 ? s->q1 - s->q0 : 0;
    memset(sum, 0, (size_t)d * sizeof *sum);
    if (rows) k->col_sum(n->dt, rows, d, tl_at(n->dt, n->in[0]->data, s->q0 * d), d, sum);
    if (rows) k->scale(TL_F32, d, 1.0f / (float)rows, sum, sum, false);
    k->convert(TL_F32, sum, n->dt, tl_at(n->dt, n->data, i * d), d);
  }
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n), 1, forward_segments, &(job){x, n});
}

static void backward_columns(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const tl_segment *segments = n->in[1]->data;
  int64_t d = n->shape[1], n_segments = tl_rows(j->x->g, n);
  for (int64_t i = 0; i < n_segments; i++) {
    const tl_segment *s = &segments[i];
    const void *dy = tl_at(n->dt, n->grad, i * d + begin);
    for (int64_t r = s->q0; r < s->q1; r++)
      j->x->k->row.scale(n->dt, end - begin, 1.0f / (float)(s->q1 - s->q0), dy,
                         tl_at(n->dt, n->in[0]->grad, r * d + begin), true);
  }
}

static void backward(tl_exec *x, tl_node *n) {
  if (!tl_grad_adds(x, n, 0))
    tl_parallel_zero(x->ctx, n->in[0]->grad,
                     (size_t)tl_count(x->g, n->in[0]) * tl_dtype_size(n->dt));
  tl_parallel_ranges(x->ctx, n->shape[1], SLICE, backward_columns, &(job){x, n});
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n->in[0]);
  c->flops_fwd = c->flops_bwd = count;
  c->bytes_fwd = count * (double)tl_dtype_size(n->dt);
  c->bytes_bwd = 3 * count * (double)tl_dtype_size(n->dt);
}

/* Three segments: the first half, an empty one, and two thirds from the end (sharing rows). */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  int32_t half = (int32_t)((d[0] + 1) / 2), third = (int32_t)(d[0] / 3), all = (int32_t)d[0];
  tl_segment s[] = {{0, half, 0, half, 0}, {1, 1, 1, 1, 0}, {third, all, third, all, 0}};
  int64_t shape[] = {3, 5};
  tl_node *x = tl_case_input(g, d[0], d[1]);
  return tl_segment_mean(g, x, tl_case_ints(g, 2, shape, &s[0].q0));
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1}, {7, 17}, {130, 300}, {0}};

const tl_op tl_op_segment_mean = {
    .name = "segment_mean",
    .formula = "y[s] = mean of x[q0(s) .. q1(s))",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 2,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 768},
    .tol = {2e-6f, 1e-2f},
    .tol_bwd = {2e-6f, 1e-2f},
    .grad_tol = 1e-3f,
};

tl_node *tl_segment_mean(tl_graph *g, tl_node *x, tl_node *segments) {
  tl_node *in[] = {x, segments};
  return tl_graph_op(g, &tl_op_segment_mean, in, 2, NULL, 0);
}
