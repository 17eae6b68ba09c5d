/* y = exp(x) / sum(exp(x)) over the last axis. */
#include "ops/ops.h"
#include "ops/parallel.h"

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const tl_node *x = n->in[0];
  if (x->ndim < 2 || x->shape[x->ndim - 1] < 1 || x->dt == TL_I32)
    return tl_fail(err, TL_INTERNAL, "%s must be [.., d]", x->name);
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
  int64_t d;
} job;

static void run(tl_exec *x, tl_node *n, tl_range_fn fn) {
  int64_t d = n->shape[n->ndim - 1];
  tl_parallel_ranges(x->ctx, tl_count(x->g, n) / d, tl_row_grain(d), fn, &(job){x, n, d});
}

static void forward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  j->x->k->row.softmax(n->dt, end - begin, j->d, tl_at(n->dt, n->in[0]->data, begin * j->d),
                       tl_at(n->dt, n->data, begin * j->d));
}

static void forward(tl_exec *x, tl_node *n) {
  run(x, n, forward_rows);
}

static void backward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  j->x->k->row.softmax_bwd(n->dt, end - begin, j->d, tl_at(n->dt, n->data, begin * j->d),
                           tl_at(n->dt, n->grad, begin * j->d),
                           tl_at(n->dt, n->in[0]->grad, begin * j->d), tl_grad_adds(j->x, n, 0));
}

static void backward(tl_exec *x, tl_node *n) {
  run(x, n, backward_rows);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n), bytes = count * (double)tl_dtype_size(n->dt);
  c->flops_fwd = 30 * count; /* two exponentials */
  c->flops_bwd = 4 * count;
  c->bytes_fwd = 2 * bytes;
  c->bytes_bwd = 3 * bytes;
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  return tl_softmax(g, tl_case_input(g, d[0], d[1]));
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1}, {3, 17}, {130, 300}, {0}};

const tl_op tl_op_softmax = {
    .name = "softmax",
    .formula = "y = exp(x) / sum(exp(x)), over columns",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_output = true,
    .inplace = true,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 1024},
    .tol = {2e-6f, 1e-2f},
    .tol_bwd = {4e-6f, 1e-2f},
    .grad_tol = 1e-2f,
};

tl_node *tl_softmax(tl_graph *g, tl_node *x) {
  return tl_graph_op(g, &tl_op_softmax, &x, 1, NULL, 0);
}
