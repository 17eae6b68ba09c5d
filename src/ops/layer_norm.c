/* y = (x - mean) / sqrt(var + eps) * gain + bias over the columns of each row. */
#include "ops/ops.h"
#include "ops/partials.h"

static void forward(tl_exec *x, tl_node *n);

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const tl_node *x = n->in[0];
  if (x->ndim != 2 || x->shape[1] < 1 || x->dt == TL_I32)
    return tl_fail(err, TL_INTERNAL, "%s must be [N, d]", x->name);
  int64_t rows = x->shape[0], d = x->shape[1];
  for (int i = 1; i < 3; i++)
    if (n->in[i] && tl_max_count(n->in[i]) != d)
      return tl_fail(err, TL_INTERNAL, "%s has %lld values for %lld columns", n->in[i]->name,
                     (long long)tl_max_count(n->in[i]), (long long)d);
  n->saved_bytes = 2 * (size_t)rows * sizeof(float);
  n->scratch_bwd = tl_partials_bytes(rows, tl_row_grain(d), 2 * d);
  n->again = forward;
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
  float *mean, *rstd; /* [rows] */
} job;

static job make_job(tl_exec *x, tl_node *n) {
  float *saved = n->saved;
  return (job){x, n, saved, saved + n->shape[0]};
}

static const float *param_data(const tl_node *n, int i) {
  return n->in[i] ? n->in[i]->data : NULL;
}

static void forward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  int64_t d = n->shape[1];
  j->x->k->row.layer_norm(n->dt, end - begin, d, tl_at(n->dt, n->in[0]->data, begin * d),
                          param_data(n, 1), param_data(n, 2), *(const float *)n->attr,
                          tl_at(n->dt, n->data, begin * d), j->mean + begin, j->rstd + begin);
}

static void forward(tl_exec *x, tl_node *n) {
  job j = make_job(x, n);
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(n->shape[1]), forward_rows, &j);
}

/* Partials: [chunk][dgain | dbias]. */
static void backward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  const job *j = arg;
  const tl_node *n = j->n;
  int64_t d = n->shape[1];
  float *partial = tl_partial(j->x->scratch, begin, tl_row_grain(d), 2 * d);
  (void)worker;
  j->x->k->row.layer_norm_bwd(n->dt, end - begin, d, tl_at(n->dt, n->in[0]->data, begin * d),
                              param_data(n, 1), j->mean + begin, j->rstd + begin,
                              tl_at(n->dt, n->grad, begin * d),
                              tl_wants_grad(n, 0) ? tl_at(n->dt, n->in[0]->grad, begin * d) : NULL,
                              tl_grad_adds(j->x, n, 0), tl_wants_grad(n, 1) ? partial : NULL,
                              tl_wants_grad(n, 2) ? partial + d : NULL);
}

static void backward(tl_exec *x, tl_node *n) {
  job j = make_job(x, n);
  int64_t rows = tl_rows(x->g, n), d = n->shape[1], grain = tl_row_grain(d);
  tl_parallel_ranges(x->ctx, rows, grain, backward_rows, &j);
  tl_partials_reduce(x, n, 1, rows, grain, 2 * d, 0, d);
  tl_partials_reduce(x, n, 2, rows, grain, 2 * d, d, d);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n), bytes = count * (double)tl_dtype_size(n->dt);
  c->flops_fwd = 8 * count;
  c->flops_bwd = 14 * count;
  c->bytes_fwd = 2 * bytes;
  c->bytes_bwd = 3 * bytes;
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  tl_node *x = tl_case_input(g, d[0], d[1]);
  tl_param *gain = d[2] ? tl_case_param(g, 1, &d[1], 1, 0.2f) : NULL;
  tl_param *bias = d[2] ? tl_case_param(g, 1, &d[1], 0, 0.2f) : NULL;
  return tl_layer_norm(g, x, gain, bias, 1e-5f);
}

/* rows, d, with gain and bias */
static const int64_t cases[][TL_MAX_CASE_DIMS] = {
    {1, 5, 1}, {3, 17, 0}, {130, 300, 1}, {600, 129, 1}, {0}};

const tl_op tl_op_layer_norm = {
    .name = "layer_norm",
    .formula = "y = (x - mean) / sqrt(var + eps) * gain + bias, over columns",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 1,
    .again_inputs = 1,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 768, 1},
    .tol = {4e-6f, 1e-2f},
    .tol_bwd = {1e-5f, 1e-2f},
    .grad_tol = 1e-2f,
};

tl_node *tl_layer_norm(tl_graph *g, tl_node *x, tl_param *gain, tl_param *bias, float eps) {
  tl_node *in[] = {x, gain ? tl_graph_param(g, gain) : NULL, bias ? tl_graph_param(g, bias) : NULL};
  return tl_graph_op(g, &tl_op_layer_norm, in, 3, &eps, sizeof eps);
}
