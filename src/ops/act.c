/* y = f(x), element by element; f is one of tl_act. */
#include "ops/ops.h"
#include "ops/parallel.h"

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  tl_act f = *(const tl_act *)n->attr;
  if ((unsigned)f >= TL_N_ACTS) return tl_fail(err, TL_INTERNAL, "unknown activation %d", (int)f);
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
  j->x->k->row.act(n->dt, *(const tl_act *)n->attr, end - begin,
                   tl_at(n->dt, n->in[0]->data, begin), tl_at(n->dt, n->data, begin));
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_count(x->g, n), TL_CHUNK, forward_range, &(job){x, n});
}

static void backward_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  j->x->k->row.act_bwd(n->dt, *(const tl_act *)n->attr, end - begin,
                       tl_at(n->dt, n->in[0]->data, begin), tl_at(n->dt, n->grad, begin),
                       tl_at(n->dt, n->in[0]->grad, begin), tl_grad_adds(j->x, n, 0));
}

static void backward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_count(x->g, n), TL_CHUNK, backward_range, &(job){x, n});
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n), bytes = count * (double)tl_dtype_size(n->dt);
  c->flops_fwd = c->flops_bwd = 20 * count; /* an exponential, a division, a polynomial */
  c->bytes_fwd = 2 * bytes;
  c->bytes_bwd = 3 * bytes;
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  return tl_activation(g, tl_case_input(g, d[0], d[1]), (tl_act)d[2]);
}

/* rows, columns, activation */
static const int64_t cases[][TL_MAX_CASE_DIMS] = {
    {1, 1, TL_ACT_GELU},   {130, 300, TL_ACT_GELU},  {17, 33, TL_ACT_GELU_TANH},
    {17, 33, TL_ACT_RELU}, {17, 33, TL_ACT_RELU2},   {17, 33, TL_ACT_SILU},
    {17, 33, TL_ACT_TANH}, {17, 33, TL_ACT_SIGMOID}, {0}};

const tl_op tl_op_act = {
    .name = "act",
    .formula = "y = f(x): gelu, gelu_tanh, relu, relu2, silu, tanh, sigmoid",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 1,
    .inplace = true,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 3072, TL_ACT_GELU_TANH},
    .tol = {2e-6f, 1e-2f},
    .tol_bwd = {4e-6f, 1e-2f},
    .grad_tol = 1e-2f,
};

tl_node *tl_activation(tl_graph *g, tl_node *x, tl_act f) {
  return f == TL_ACT_NONE ? x : tl_graph_op(g, &tl_op_act, &x, 1, &f, sizeof f);
}
