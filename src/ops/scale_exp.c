/* y = exp(min(p, most)) x with a parameter p of one element: a learnt temperature. Above the bound
 * p's gradient counts only where it leads back. */
#include <math.h>

#include "ops/ops.h"
#include "ops/parallel.h"

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  if (n->in[0]->dt == TL_I32) return tl_fail(err, TL_INTERNAL, "%s is integer", n->in[0]->name);
  if (n->in[1]->kind != TL_NODE_PARAM || tl_max_count(n->in[1]) != 1)
    return tl_fail(err, TL_INTERNAL, "%s must be a parameter of one element", n->in[1]->name);
  n->scratch_bwd = (size_t)n->shape[0] * sizeof(double);
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
  float scale;
  double *sum; /* of dy x in each row; NULL: not wanted */
} job;

static float log_scale(const tl_node *n) {
  return *(const float *)n->in[1]->data;
}

static float scale_of(const tl_node *n) {
  return expf(fminf(log_scale(n), *(const float *)n->attr));
}

static void forward_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  j->x->k->row.scale(n->dt, end - begin, j->scale, tl_at(n->dt, n->in[0]->data, begin),
                     tl_at(n->dt, n->data, begin), false);
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_count(x->g, n), TL_CHUNK, forward_range,
                     &(job){x, n, scale_of(n), NULL});
}

static double product_of(const tl_node *n, int64_t row) {
  int64_t d = tl_cols(n), at = row * d;
  const tl_node dy = {.dt = n->dt, .data = n->grad};
  double sum = 0;
  for (int64_t i = at; i < at + d; i++)
    sum += (double)tl_value(&dy, i) * (double)tl_value(n->in[0], i);
  return sum;
}

static void backward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  tl_node *n = j->n;
  int64_t d = tl_cols(n);
  for (int64_t r = begin; j->sum && r < end; r++) j->sum[r] = product_of(n, r);
  if (!tl_wants_grad(n, 0)) return;
  j->x->k->row.scale(n->dt, (end - begin) * d, j->scale, tl_at(n->dt, n->grad, begin * d),
                     tl_at(n->dt, n->in[0]->grad, begin * d), tl_grad_adds(j->x, n, 0));
}

static void backward(tl_exec *x, tl_node *n) {
  int64_t rows = tl_rows(x->g, n);
  job j = {x, n, scale_of(n), tl_wants_grad(n, 1) ? x->scratch : NULL};
  tl_parallel_ranges(x->ctx, rows, tl_row_grain(tl_cols(n)), backward_rows, &j);
  if (!j.sum) return;
  double sum = 0;
  for (int64_t r = 0; r < rows; r++) sum += j.sum[r];
  float *to = n->in[1]->grad, slope = (float)(sum * (double)j.scale);
  if (slope < 0 && log_scale(n) >= *(const float *)n->attr) slope = 0;
  *to = slope + (tl_grad_adds(x, n, 1) ? *to : 0);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n);
  c->flops_fwd = count;
  c->flops_bwd = 3 * count;
  c->bytes_fwd = 2 * count * (double)tl_dtype_size(n->dt);
  c->bytes_bwd = 3 * count * (double)tl_dtype_size(n->dt);
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  const int64_t one = 1;
  return tl_scale_exp(g, tl_case_input(g, d[0], d[1]), tl_case_param(g, 1, &one, 0.5f, 0.1f), 3);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1}, {3, 17}, {130, 300}, {0}};

const tl_op tl_op_scale_exp = {
    .name = "scale_exp",
    .formula = "y = exp(min(p, most)) x",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 3,
    .build_case = build_case,
    .cases = cases,
    .bench = {512, 512},
    .tol = {2e-6f, 1e-2f},
    .tol_bwd = {1e-5f, 2e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_scale_exp(tl_graph *g, tl_node *x, tl_param *p, float most) {
  tl_node *in[] = {x, tl_graph_param(g, p)};
  return tl_graph_op(g, &tl_op_scale_exp, in, 2, &most, sizeof most);
}
