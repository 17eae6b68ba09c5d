/* Cross-entropy of logits x [N, V] against f32 distributions t [N, V] (labels that are smoothed or
 * mixed): sum over the rows of sum(t) log(sum(exp(x))) - t x. A row counts as correct when the
 * likeliest class is that with the largest share. */
#include <math.h>

#include "ops/ops.h"
#include "ops/parallel.h"

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  return tl_infer_loss(n, n->in[0], n->in[1], err);
}

typedef struct row {
  double lse, share, loss; /* log of the sum of exponentials; sum of t */
  bool hit;
} row;

static row row_of(const tl_node *n, int64_t r) {
  const tl_node *x = n->in[0];
  int64_t v = x->shape[1], best = 0, truth = 0;
  const float *t = (const float *)n->in[1]->data + r * v;
  for (int64_t i = 1; i < v; i++) {
    if (tl_value(x, r * v + i) > tl_value(x, r * v + best)) best = i;
    if (t[i] > t[truth]) truth = i;
  }
  double max = (double)tl_value(x, r * v + best), sum = 0, share = 0, dot = 0;
  for (int64_t i = 0; i < v; i++) {
    double value = (double)tl_value(x, r * v + i);
    sum += exp(value - max);
    share += (double)t[i];
    dot += (double)t[i] * value;
  }
  double lse = max + log(sum);
  return (row){lse, share, share * lse - dot, best == truth};
}

/* Heads have few outputs: one thread, in order. */
static void forward(tl_exec *x, tl_node *n) {
  int64_t rows = tl_rows(x->g, n->in[0]);
  double sum = 0, hits = 0;
  for (int64_t r = 0; r < rows; r++) {
    row v = row_of(n, r);
    sum += v.loss;
    hits += v.hit;
  }
  float *y = n->data;
  y[TL_LOSS_SUM] = (float)sum;
  y[TL_LOSS_Z] = 0;
  y[TL_LOSS_COUNT] = (float)rows;
  y[TL_LOSS_CORRECT] = (float)hits;
}

static void backward(tl_exec *x, tl_node *n) {
  tl_node *in = n->in[0];
  const float *t = n->in[1]->data;
  int64_t rows = tl_rows(x->g, in), v = in->shape[1];
  bool add = tl_grad_adds(x, n, 0);
  for (int64_t r = 0; r < rows; r++) {
    row w = row_of(n, r);
    for (int64_t i = r * v; i < (r + 1) * v; i++) {
      double slope = w.share * exp((double)tl_value(in, i) - w.lse) - (double)t[i];
      float d = x->loss_scale * (float)slope;
      tl_put_grad(in, i, d, add);
    }
  }
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n->in[0]), size = (double)tl_dtype_size(n->in[0]->dt);
  c->flops_fwd = 20 * count;
  c->flops_bwd = 40 * count;
  c->bytes_fwd = count * (size + 4);
  c->bytes_bwd = count * (2 * size + 4);
}

/* N, V (at most 256 elements) */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  float t[256];
  for (int64_t r = 0; r < d[0]; r++)
    for (int64_t i = 0; i < d[1]; i++)
      t[r * d[1] + i] = d[1] == 1 ? 1 : (i == r % d[1] ? 0.7f : 0.3f / (float)(d[1] - 1));
  return tl_soft_cross_entropy(g, tl_case_input(g, d[0], d[1]), tl_case_floats(g, 2, d, t));
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1}, {7, 5}, {25, 10}, {0}};

const tl_op tl_op_soft_loss = {
    .name = "soft_loss",
    .formula = "loss = sum of sum(t) log(sum(exp(x))) - t x",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 3,
    .build_case = build_case,
    .cases = cases,
    .tol = {2e-6f, 2e-2f},
    .tol_bwd = {2e-6f, 2e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_soft_cross_entropy(tl_graph *g, tl_node *x, tl_node *targets) {
  tl_node *in[] = {x, targets};
  return tl_graph_op(g, &tl_op_soft_loss, in, 2, NULL, 0);
}
