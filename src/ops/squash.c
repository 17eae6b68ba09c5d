/* Capsules' vectors, `width` columns each, with their lengths brought below 1:
 * y = |x|^2 / (1 + |x|^2) x / |x|  (Sabour et al., 2017, equation 1). */
#include "ops/squash.h"

#include "ops/ops.h"
#include "ops/parallel.h"

enum { MAX_WIDTH = 256 };

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  int64_t width = *(const int64_t *)n->attr;
  const tl_node *x = n->in[0];
  if (x->ndim != 2 || x->dt == TL_I32)
    return tl_fail(err, TL_INTERNAL, "%s must be [N, d]", x->name);
  if (width < 1 || width > MAX_WIDTH || x->shape[1] % width)
    return tl_fail(err, TL_INTERNAL, "capsules of %lld columns do not fit %s with %lld",
                   (long long)width, x->name, (long long)x->shape[1]);
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
  int64_t width;
} job;

static void forward_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const tl_row_kernels *k = &j->x->k->row;
  float v[MAX_WIDTH];
  for (int64_t i = begin * j->width; i < end * j->width; i += j->width) {
    k->convert(n->dt, tl_at(n->dt, n->in[0]->data, i), TL_F32, v, j->width);
    tl_squash_vector(v, j->width, v);
    k->convert(TL_F32, v, n->dt, tl_at(n->dt, n->data, i), j->width);
  }
}

static void backward_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const tl_row_kernels *k = &j->x->k->row;
  bool add = tl_grad_adds(j->x, n, 0);
  float s[MAX_WIDTH], d[MAX_WIDTH];
  for (int64_t i = begin * j->width; i < end * j->width; i += j->width) {
    void *dx = tl_at(n->dt, n->in[0]->grad, i);
    k->convert(n->dt, tl_at(n->dt, n->in[0]->data, i), TL_F32, s, j->width);
    k->convert(n->dt, tl_at(n->dt, n->grad, i), TL_F32, d, j->width);
    tl_squash_vector_bwd(s, d, j->width, d);
    if (add) {
      k->convert(n->dt, dx, TL_F32, s, j->width);
      k->acc(TL_F32, j->width, s, d);
    }
    k->convert(TL_F32, d, n->dt, dx, j->width);
  }
}

static void run(tl_exec *x, tl_node *n, tl_range_fn fn) {
  int64_t width = *(const int64_t *)n->attr;
  tl_parallel_ranges(x->ctx, tl_count(x->g, n) / width, tl_row_grain(width), fn,
                     &(job){x, n, width});
}

static void forward(tl_exec *x, tl_node *n) {
  run(x, n, forward_range);
}

static void backward(tl_exec *x, tl_node *n) {
  run(x, n, backward_range);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n), bytes = count * (double)tl_dtype_size(n->dt);
  c->flops_fwd = 3 * count;
  c->flops_bwd = 7 * count;
  c->bytes_fwd = 2 * bytes;
  c->bytes_bwd = 3 * bytes;
}

/* rows, capsules of a row, columns of a capsule */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  return tl_squash(g, tl_case_input(g, d[0], d[1] * d[2]), d[2]);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {
    {1, 1, 1}, {3, 5, 7}, {36, 32, 8}, {130, 3, 17}, {0}};

const tl_op tl_op_squash = {
    .name = "squash",
    .formula = "y = |x| x / (1 + |x|^2) of each capsule",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 1,
    .build_case = build_case,
    .cases = cases,
    .bench = {1152, 32, 8},
    .tol = {1e-6f, 1e-2f},
    .tol_bwd = {2e-6f, 1e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_squash(tl_graph *g, tl_node *x, int64_t width) {
  return tl_graph_op(g, &tl_op_squash, &x, 1, &width, sizeof width);
}
