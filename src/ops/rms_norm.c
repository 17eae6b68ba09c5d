/* y = x / sqrt(mean(x^2) + eps) * gain over the columns of each row. */
#include "ops/ops.h"
#include "ops/partials.h"

static void forward(tl_exec *x, tl_node *n);

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const tl_node *x = n->in[0], *gain = n->in[1];
  if (x->ndim != 2 || x->shape[1] < 1 || x->dt == TL_I32)
    return tl_fail(err, TL_INTERNAL, "%s must be [N, d]", x->name);
  int64_t rows = x->shape[0], d = x->shape[1];
  if (gain && tl_max_count(gain) != d)
    return tl_fail(err, TL_INTERNAL, "%s has %lld values for %lld columns", gain->name,
                   (long long)tl_max_count(gain), (long long)d);
  n->saved_bytes = (size_t)rows * sizeof(float);
  n->scratch_bwd = gain ? tl_partials_bytes(rows, tl_row_grain(d), d) : 0;
  n->again = forward;
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
} job;

static const float *gain_data(const tl_node *n) {
  return n->in[1] ? n->in[1]->data : NULL;
}

static void forward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  int64_t d = n->shape[1];
  j->x->k->row.rms_norm(n->dt, end - begin, d, tl_at(n->dt, n->in[0]->data, begin * d), d,
                        gain_data(n), *(const float *)n->attr, tl_at(n->dt, n->data, begin * d), d,
                        (float *)n->saved + begin);
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(n->shape[1]), forward_rows,
                     &(job){x, n});
}

static void backward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  int64_t d = n->shape[1];
  bool wants_gain = tl_wants_grad(n, 1);
  j->x->k->row.rms_norm_bwd(
      n->dt, end - begin, d, tl_at(n->dt, n->in[0]->data, begin * d), d, gain_data(n),
      (const float *)n->saved + begin, tl_at(n->dt, n->grad, begin * d), d,
      tl_wants_grad(n, 0) ? tl_at(n->dt, n->in[0]->grad, begin * d) : NULL, d,
      tl_grad_adds(j->x, n, 0),
      wants_gain ? tl_partial(j->x->scratch, begin, tl_row_grain(d), d) : NULL);
}

static void backward(tl_exec *x, tl_node *n) {
  int64_t rows = tl_rows(x->g, n), d = n->shape[1], grain = tl_row_grain(d);
  tl_parallel_ranges(x->ctx, rows, grain, backward_rows, &(job){x, n});
  tl_partials_reduce(x, n, 1, rows, grain, d, 0, d);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n), bytes = count * (double)tl_dtype_size(n->dt);
  c->flops_fwd = 4 * count;
  c->flops_bwd = 10 * count;
  c->bytes_fwd = 2 * bytes;
  c->bytes_bwd = 3 * bytes;
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  tl_node *x = tl_case_input(g, d[0], d[1]);
  return tl_rms_norm(g, x, d[2] ? tl_case_param(g, 1, &d[1], 1, 0.2f) : NULL, 1e-5f);
}

/* rows, d, with gain */
static const int64_t cases[][TL_MAX_CASE_DIMS] = {
    {1, 5, 1}, {3, 17, 0}, {130, 300, 1}, {600, 129, 1}, {0}};

const tl_op tl_op_rms_norm = {
    .name = "rms_norm",
    .formula = "y = x / sqrt(mean(x^2) + eps) * gain, over columns",
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

tl_node *tl_rms_norm(tl_graph *g, tl_node *x, tl_param *gain, float eps) {
  tl_node *in[] = {x, gain ? tl_graph_param(g, gain) : NULL};
  return tl_graph_op(g, &tl_op_rms_norm, in, 2, &eps, sizeof eps);
}
