/* The loss of Barlow Twins (Zbontar et al., 2021) on a matrix c [D, D] of correlations between the
 * columns of two views: equal columns are to agree, different ones to say different things. */
#include "ops/ops.h"
#include "ops/parallel.h"

typedef struct attr {
  float off, scale; /* weight of the elements off the diagonal; of all */
} attr;

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const tl_node *c = n->in[0];
  if (c->ndim != 2 || c->dt == TL_I32 || c->dim || c->shape[0] != c->shape[1])
    return tl_fail(err, TL_INTERNAL, "%s must be [D, D]", c->name);
  n->scratch_fwd = (size_t)c->shape[0] * sizeof(double);
  tl_shape_losses(n);
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
  double *sum; /* [D] of each row */
} job;

static void forward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *c = j->n->in[0];
  const attr *a = j->n->attr;
  int64_t d = c->shape[1];
  for (int64_t r = begin; r < end; r++) {
    double sum = 0;
    for (int64_t i = 0; i < d; i++) {
      double v = (double)tl_value(c, r * d + i);
      sum += i == r ? (1 - v) * (1 - v) : (double)a->off * v * v;
    }
    j->sum[r] = sum;
  }
}

static void forward(tl_exec *x, tl_node *n) {
  int64_t d = n->in[0]->shape[0];
  job j = {x, n, x->scratch};
  tl_parallel_ranges(x->ctx, d, tl_row_grain(d), forward_rows, &j);
  double sum = 0;
  for (int64_t r = 0; r < d; r++) sum += j.sum[r];
  float *y = n->data;
  y[TL_LOSS_SUM] = (float)(sum * (double)((const attr *)n->attr)->scale);
  y[TL_LOSS_Z] = y[TL_LOSS_CORRECT] = 0;
  y[TL_LOSS_COUNT] = 1;
}

static void backward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  tl_node *c = j->n->in[0];
  const attr *a = j->n->attr;
  bool add = tl_grad_adds(j->x, j->n, 0);
  int64_t d = c->shape[1];
  float on = 2 * a->scale * j->x->loss_scale, off = on * a->off;
  for (int64_t i = begin * d; i < end * d; i++) {
    float v = tl_value(c, i), slope = i % d == i / d ? on * (v - 1) : off * v;
    tl_put_grad(c, i, slope, add);
  }
}

static void backward(tl_exec *x, tl_node *n) {
  int64_t d = n->in[0]->shape[0];
  tl_parallel_ranges(x->ctx, d, tl_row_grain(d), backward_rows, &(job){x, n, NULL});
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n->in[0]), size = (double)tl_dtype_size(n->in[0]->dt);
  c->flops_fwd = c->flops_bwd = 3 * count;
  c->bytes_fwd = count * size;
  c->bytes_bwd = 2 * count * size;
}

/* D */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  return tl_barlow_loss(g, tl_case_input(g, d[0], d[0]), 0.2f, 0.5f);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1}, {7}, {64}, {201}, {0}};

const tl_op tl_op_barlow_loss = {
    .name = "barlow_loss",
    .formula = "loss = scale (sum of (1 - c[i][i])^2 + off sum over i != j of c[i][j]^2)",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 1,
    .build_case = build_case,
    .cases = cases,
    .bench = {512},
    .tol = {2e-6f, 2e-2f},
    .tol_bwd = {2e-6f, 2e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_barlow_loss(tl_graph *g, tl_node *c, float off, float scale) {
  return tl_graph_op(g, &tl_op_barlow_loss, &c, 1, &(attr){off, scale}, sizeof(attr));
}
