/* x [N, 2d] = (a | b), y [N, d] = f(a) * b. */
#include "ops/ops.h"
#include "ops/parallel.h"

static void forward(tl_exec *x, tl_node *n);

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const tl_node *x = n->in[0];
  if (x->ndim != 2 || x->shape[1] % 2 || x->dt == TL_I32)
    return tl_fail(err, TL_INTERNAL, "%s must be [N, 2d]", x->name);
  n->shape[1] = x->shape[1] / 2;
  n->again = forward;
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
  int64_t d = n->shape[1];
  j->x->k->row.glu(n->dt, *(const tl_act *)n->attr, end - begin, d,
                   tl_at(n->dt, n->in[0]->data, begin * 2 * d), tl_at(n->dt, n->data, begin * d));
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
  j->x->k->row.glu_bwd(n->dt, *(const tl_act *)n->attr, end - begin, d,
                       tl_at(n->dt, n->in[0]->data, begin * 2 * d),
                       tl_at(n->dt, n->grad, begin * d),
                       tl_at(n->dt, n->in[0]->grad, begin * 2 * d), tl_grad_adds(j->x, n, 0));
}

static void backward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(n->shape[1]), backward_rows,
                     &(job){x, n});
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n), bytes = count * (double)tl_dtype_size(n->dt);
  c->flops_fwd = 20 * count;
  c->flops_bwd = 24 * count;
  c->bytes_fwd = 3 * bytes;
  c->bytes_bwd = 5 * bytes;
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  return tl_glu(g, tl_case_input(g, d[0], 2 * d[1]), (tl_act)d[2]);
}

/* rows, d, activation */
static const int64_t cases[][TL_MAX_CASE_DIMS] = {
    {1, 1, TL_ACT_SILU}, {130, 300, TL_ACT_SILU}, {17, 33, TL_ACT_GELU}, {0}};

const tl_op tl_op_glu = {
    .name = "glu",
    .formula = "y = f(a) * b, x = (a | b): SwiGLU, GeGLU",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 1,
    .again_inputs = 1,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 2048, TL_ACT_SILU},
    .tol = {2e-6f, 1e-2f},
    .tol_bwd = {4e-6f, 1e-2f},
    .grad_tol = 1e-2f,
};

tl_node *tl_glu(tl_graph *g, tl_node *x, tl_act f) {
  return tl_graph_op(g, &tl_op_glu, &x, 1, &f, sizeof f);
}
