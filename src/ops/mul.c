/* y = a * b, element by element, equal shapes. */
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
  int i; /* backward: which input */
} job;

static void forward_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  j->x->k->row.mul(n->dt, end - begin, tl_at(n->dt, n->in[0]->data, begin),
                   tl_at(n->dt, n->in[1]->data, begin), tl_at(n->dt, n->data, begin), false);
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_count(x->g, n), TL_CHUNK, forward_range, &(job){x, n, 0});
}

static void backward_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  j->x->k->row.mul(n->dt, end - begin, tl_at(n->dt, n->grad, begin),
                   tl_at(n->dt, n->in[1 - j->i]->data, begin),
                   tl_at(n->dt, n->in[j->i]->grad, begin), tl_grad_adds(j->x, n, j->i));
}

static void backward(tl_exec *x, tl_node *n) {
  for (int i = 0; i < 2; i++)
    if (tl_wants_grad(n, i))
      tl_parallel_ranges(x->ctx, tl_count(x->g, n), TL_CHUNK, backward_range, &(job){x, n, i});
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n), bytes = count * (double)tl_dtype_size(n->dt);
  c->flops_fwd = count;
  c->flops_bwd = 2 * count;
  c->bytes_fwd = 3 * bytes;
  c->bytes_bwd = 6 * bytes;
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  tl_node *a = tl_case_input(g, d[0], d[1]);
  return tl_mul(g, a, d[2] ? a : tl_case_input(g, d[0], d[1]));
}

/* rows, columns, whether b is a */
static const int64_t cases[][TL_MAX_CASE_DIMS] = {
    {1, 1, 0}, {3, 17, 0}, {130, 300, 0}, {9, 33, 1}, {0}};

const tl_op tl_op_mul = {
    .name = "mul",
    .formula = "y = a * b",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 3,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 768},
    .tol = {1e-6f, 1e-2f},
    .tol_bwd = {1e-6f, 1e-2f},
    .grad_tol = 1e-3f,
};

tl_node *tl_mul(tl_graph *g, tl_node *a, tl_node *b) {
  tl_node *in[] = {a, b};
  return tl_graph_op(g, &tl_op_mul, in, 2, NULL, 0);
}
