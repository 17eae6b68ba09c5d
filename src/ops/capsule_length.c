/* y [N, C]: the lengths of the C capsules in each row of v [N, C w]; both f32. The gradient v / |v|
 * of a capsule of length 0 is taken as 0. */
#include <math.h>

#include "ops/ops.h"
#include "ops/parallel.h"

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  int64_t width = *(const int64_t *)n->attr;
  const tl_node *v = n->in[0];
  if (v->ndim != 2 || v->dt != TL_F32 || width < 1 || v->shape[1] % width)
    return tl_fail(err, TL_INTERNAL, "%s must be f32 [N, capsules * %lld]", v->name,
                   (long long)width);
  n->shape[1] = v->shape[1] / width;
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
  float *y = j->n->data;
  for (int64_t i = begin; i < end; i++) {
    const float *v = (const float *)j->n->in[0]->data + i * j->width;
    double q = 0;
    for (int64_t k = 0; k < j->width; k++) q += (double)v[k] * (double)v[k];
    y[i] = (float)sqrt(q);
  }
}

static void backward_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const float *y = j->n->data, *dy = j->n->grad, *v = j->n->in[0]->data;
  float *dv = j->n->in[0]->grad;
  bool add = tl_grad_adds(j->x, j->n, 0);
  for (int64_t i = begin; i < end; i++) {
    float scale = y[i] > 0 ? dy[i] / y[i] : 0;
    for (int64_t k = i * j->width; k < (i + 1) * j->width; k++)
      dv[k] = scale * v[k] + (add ? dv[k] : 0);
  }
}

static void run(tl_exec *x, tl_node *n, tl_range_fn fn) {
  int64_t width = *(const int64_t *)n->attr;
  tl_parallel_ranges(x->ctx, tl_count(x->g, n), tl_row_grain(width), fn, &(job){x, n, width});
}

static void forward(tl_exec *x, tl_node *n) {
  run(x, n, forward_range);
}

static void backward(tl_exec *x, tl_node *n) {
  run(x, n, backward_range);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n->in[0]);
  c->flops_fwd = 2 * count;
  c->flops_bwd = count;
  c->bytes_fwd = 4 * count;
  c->bytes_bwd = 8 * count;
}

/* rows, capsules, columns; v is the result of a routing over one capsule, since that is f32 */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  return tl_capsule_length(g, tl_case_capsules(g, d[0], d[1], d[2]), d[2]);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1, 1}, {7, 3, 5}, {130, 10, 16}, {0}};

const tl_op tl_op_capsule_length = {
    .name = "capsule_length",
    .formula = "y = |v| of each capsule",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 1,
    .bwd_output = true,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 10, 16},
    .tol = {2e-5f, 1e-2f},
    .tol_bwd = {5e-5f, 2e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_capsule_length(tl_graph *g, tl_node *v, int64_t width) {
  return tl_graph_op(g, &tl_op_capsule_length, &v, 1, &width, sizeof width);
}
