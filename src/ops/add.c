/* y = a + b, equal shapes. The gradient passes through to both. */
#include "ops/ops.h"
#include "ops/parallel.h"

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const tl_node *a = n->in[0], *b = n->in[1];
  if (a->dt != b->dt || a->dim != b->dim || tl_max_count(a) != tl_max_count(b))
    return tl_fail(err, TL_INTERNAL, "%s and %s differ in type or shape", a->name, b->name);
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
  j->x->k->row.add(n->dt, end - begin, tl_at(n->dt, n->in[0]->data, begin),
                   tl_at(n->dt, n->in[1]->data, begin), tl_at(n->dt, n->data, begin));
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_count(x->g, n), TL_CHUNK, forward_range, &(job){x, n});
}

static void backward(tl_exec *x, tl_node *n) {
  for (int i = 0; i < 2; i++) tl_grad_pass(x, n, i);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n);
  c->flops_fwd = count;
  c->bytes_fwd = 3 * count * (double)tl_dtype_size(n->dt);
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  tl_node *a = tl_case_input(g, d[0], d[1]);
  tl_node *y = tl_add(g, a, tl_case_input(g, d[0], d[1]));
  return tl_add(g, y, a); /* a has two consumers: its gradient sets, then adds */
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1}, {3, 17}, {130, 300}, {0}};

const tl_op tl_op_add = {
    .name = "add",
    .formula = "y = a + b",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .inplace = true,
    .grad_alias = 3,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 768},
    .tol = {1e-6f, 1e-2f},
    .tol_bwd = {1e-6f, 1e-2f},
    .grad_tol = 1e-3f,
};

tl_node *tl_add(tl_graph *g, tl_node *a, tl_node *b) {
  tl_node *in[] = {a, b};
  return tl_graph_op(g, &tl_op_add, in, 2, NULL, 0);
}
