/* loss = sum(x * r), r an f32 input of x's shape; accumulated in f64. Used by the gradient tests.
 */
#include "ops/ops.h"
#include "ops/parallel.h"

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  if (n->in[1]->dt != TL_F32 || tl_max_count(n->in[0]) != tl_max_count(n->in[1]))
    return tl_fail(err, TL_INTERNAL, "r must be f32 with the shape of x");
  tl_shape_losses(n);
  return TL_OK;
}

static void forward(tl_exec *x, tl_node *n) {
  const float *r = n->in[1]->data;
  double sum = 0;
  int64_t count = tl_count(x->g, n->in[0]);
  for (int64_t i = 0; i < count; i++) sum += (double)tl_value(n->in[0], i) * (double)r[i];
  float *y = n->data;
  y[TL_LOSS_SUM] = (float)sum;
  y[TL_LOSS_Z] = y[TL_LOSS_CORRECT] = 0;
  y[TL_LOSS_COUNT] = 1;
}

static void backward(tl_exec *x, tl_node *n) {
  tl_node *in = n->in[0];
  const float *r = n->in[1]->data;
  int64_t count = tl_count(x->g, in);
  bool add = tl_grad_adds(x, n, 0);
  for (int64_t i = 0; i < count; i++) {
    float d = x->loss_scale * r[i];
    tl_put_grad(in, i, d, add);
  }
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  c->flops_fwd = 2 * (double)tl_count(g, n->in[0]);
}

const tl_op tl_op_inner = {
    .name = "inner",
    .formula = "loss = sum(x * r)",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
};

tl_node *tl_inner(tl_graph *g, tl_node *x, tl_node *r) {
  tl_node *in[] = {x, r};
  return tl_graph_op(g, &tl_op_inner, in, 2, NULL, 0);
}
