/* y = alpha x, alpha fixed when the graph is built. */
#include "ops/ops.h"
#include "ops/parallel.h"

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  if (n->in[0]->dt == TL_I32) return tl_fail(err, TL_INTERNAL, "%s is integer", n->in[0]->name);
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
} job;

static void forward_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  j->x->k->row.scale(n->dt, end - begin, *(const float *)n->attr,
                     tl_at(n->dt, n->in[0]->data, begin), tl_at(n->dt, n->data, begin), false);
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_count(x->g, n), TL_CHUNK, forward_range, &(job){x, n});
}

static void backward_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  j->x->k->row.scale(n->dt, end - begin, *(const float *)n->attr, tl_at(n->dt, n->grad, begin),
                     tl_at(n->dt, n->in[0]->grad, begin), tl_grad_adds(j->x, n, 0));
}

static void backward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_count(x->g, n), TL_CHUNK, backward_range, &(job){x, n});
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n);
  c->flops_fwd = c->flops_bwd = count;
  c->bytes_fwd = c->bytes_bwd = 2 * count * (double)tl_dtype_size(n->dt);
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  return tl_scale(g, tl_case_input(g, d[0], d[1]), -0.37f);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1}, {3, 17}, {130, 300}, {0}};

const tl_op tl_op_scale = {
    .name = "scale",
    .formula = "y = alpha x",
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

tl_node *tl_scale(tl_graph *g, tl_node *x, float alpha) {
  return tl_graph_op(g, &tl_op_scale, &x, 1, &alpha, sizeof alpha);
}
