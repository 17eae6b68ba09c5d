/* y = x * mask / (1 - p), the mask from (seed, tick, node, element index) alone: the backward and
 * a repeated step make the same one. Outside training y = x. */
#include "ops/ops.h"
#include "ops/parallel.h"

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  float p = *(const float *)n->attr;
  if (!(p >= 0 && p < 1)) return tl_fail(err, TL_CONFIG, "dropout %g is not in [0, 1)", (double)p);
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
  tl_dropout mask;
} job;

static void run(tl_exec *x, tl_node *n, tl_range_fn fn) {
  job j = {x, n, tl_exec_dropout(x, n, *(const float *)n->attr)};
  tl_parallel_ranges(x->ctx, tl_count(x->g, n), TL_CHUNK, fn, &j);
}

static void forward_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  j->x->k->row.dropout(n->dt, &j->mask, begin, end - begin, tl_at(n->dt, n->in[0]->data, begin),
                       tl_at(n->dt, n->data, begin), false);
}

static void forward(tl_exec *x, tl_node *n) {
  if (x->training || n->data != n->in[0]->data) run(x, n, forward_range);
}

static void backward_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  j->x->k->row.dropout(n->dt, &j->mask, begin, end - begin, tl_at(n->dt, n->grad, begin),
                       tl_at(n->dt, n->in[0]->grad, begin), tl_grad_adds(j->x, n, 0));
}

static void backward(tl_exec *x, tl_node *n) {
  run(x, n, backward_range);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n);
  c->flops_fwd = c->flops_bwd = 6 * count;
  c->bytes_fwd = c->bytes_bwd = 2 * count * (double)tl_dtype_size(n->dt);
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  return tl_dropout_node(g, tl_case_input(g, d[0], d[1]), 0.25f);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1}, {3, 17}, {130, 300}, {0}};

const tl_op tl_op_dropout = {
    .name = "dropout",
    .formula = "y = x * mask / (1 - p)",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .inplace = true,
    .grad_over = 1,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 768},
    .tol = {1e-6f, 1e-2f},
    .tol_bwd = {1e-6f, 1e-2f},
    .grad_tol = 1e-3f,
};

tl_node *tl_dropout_node(tl_graph *g, tl_node *x, float p) {
  if (p == 0 || !g->opt.training) return x;
  return tl_graph_op(g, &tl_op_dropout, &x, 1, &p, sizeof p);
}
