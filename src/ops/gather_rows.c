/* y [P, d] = rows idx of x [N, d]; indices are unique. In the gradient of x the other rows are 0.
 */
#include "ops/ops.h"
#include "ops/partials.h"

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const tl_node *x = n->in[0], *idx = n->in[1];
  if (x->ndim != 2 || x->dt == TL_I32)
    return tl_fail(err, TL_INTERNAL, "%s must be [N, d]", x->name);
  if (idx->dt != TL_I32 || idx->ndim != 1)
    return tl_fail(err, TL_INTERNAL, "%s must be i32 [P]", idx->name);
  n->dim = idx->dim;
  n->shape[0] = idx->shape[0];
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
} job;

static void forward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const int32_t *idx = n->in[1]->data;
  int64_t d = n->shape[1];
  for (int64_t r = begin; r < end; r++)
    j->x->k->row.convert(n->dt, tl_at(n->dt, n->in[0]->data, idx[r] * d), n->dt,
                         tl_at(n->dt, n->data, r * d), d);
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(n->shape[1]), forward_rows,
                     &(job){x, n});
}

static void backward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const int32_t *idx = n->in[1]->data;
  int64_t d = n->shape[1];
  for (int64_t r = begin; r < end; r++)
    j->x->k->row.acc(n->dt, d, tl_at(n->dt, n->grad, r * d),
                     tl_at(n->dt, n->in[0]->grad, idx[r] * d));
}

static void backward(tl_exec *x, tl_node *n) {
  if (!tl_grad_adds(x, n, 0))
    tl_parallel_zero(x->ctx, n->in[0]->grad,
                     (size_t)tl_count(x->g, n->in[0]) * tl_dtype_size(n->dt));
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(n->shape[1]), backward_rows,
                     &(job){x, n});
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double size = (double)tl_dtype_size(n->dt), count = (double)tl_count(g, n);
  c->bytes_fwd = 2 * count * size;
  c->flops_bwd = count;
  c->bytes_bwd = (3 * count + (double)tl_count(g, n->in[0])) * size;
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  int32_t idx[256];
  for (int64_t i = 0; i < d[1]; i++) idx[i] = (int32_t)((i * 7 + 3) % d[0]); /* 7 is prime to N */
  tl_node *x = tl_case_input(g, d[0], d[2]);
  return tl_gather_rows(g, x, tl_case_ints(g, 1, &d[1], idx));
}

/* N, P (at most 256), d */
static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1, 1}, {10, 3, 17}, {300, 256, 129}, {0}};

const tl_op tl_op_gather_rows = {
    .name = "gather_rows",
    .formula = "y[r] = x[idx[r]]",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 2,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 256, 768},
    .tol = {0, 0},
    .tol_bwd = {0, 0},
    .grad_tol = 1e-3f,
};

tl_node *tl_gather_rows(tl_graph *g, tl_node *x, tl_node *idx) {
  tl_node *in[] = {x, idx};
  return tl_graph_op(g, &tl_op_gather_rows, in, 2, NULL, 0);
}
