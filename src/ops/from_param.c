/* y = x: a parameter (f32) as an activation of the graph's type. */
#include "ops/ops.h"
#include "ops/parallel.h"

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  if (n->in[0]->kind != TL_NODE_PARAM)
    return tl_fail(err, TL_INTERNAL, "the input must be a parameter");
  n->dt = g->opt.dt;
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;

} job;

static void convert_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  j->x->k->row.convert(TL_F32, (float *)j->n->in[0]->data + begin, j->n->dt,
                       tl_at(j->n->dt, j->n->data, begin), end - begin);
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_count(x->g, n), TL_CHUNK, convert_range, &(job){x, n});
}

static void backward_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  tl_node *n = j->n;
  float *dx = (float *)n->in[0]->grad + begin;
  const char *dy = tl_at(n->dt, n->grad, begin);
  if (!tl_grad_adds(j->x, n, 0)) {
    j->x->k->row.convert(n->dt, dy, TL_F32, dx, end - begin);
    return;
  }
  float block[256];
  for (int64_t i = 0; i < end - begin; i += 256) {
    int64_t m = end - begin - i < 256 ? end - begin - i : 256;
    j->x->k->row.convert(n->dt, tl_at(n->dt, dy, i), TL_F32, block, m);
    j->x->k->row.acc(TL_F32, m, block, dx + i);
  }
}

static void backward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_count(x->g, n), TL_CHUNK, backward_range, &(job){x, n});
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n), bytes = 4 + (double)tl_dtype_size(n->dt);
  c->bytes_fwd = c->bytes_bwd = count * bytes;
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  return tl_case_input(g, d[0], d[1]);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1}, {3, 17}, {130, 300}, {0}};

const tl_op tl_op_from_param = {
    .name = "from_param",
    .formula = "y = x",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 768},
    .tol = {0, 0},
    .tol_bwd = {0, 0},
    .grad_tol = 1e-3f,
};

tl_node *tl_from_param(tl_graph *g, tl_param *p) {
  tl_node *leaf = tl_graph_param(g, p);
  return tl_graph_op(g, &tl_op_from_param, &leaf, 1, NULL, 0);
}
