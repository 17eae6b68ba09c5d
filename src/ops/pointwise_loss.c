/* Losses of single outputs x [N, C] against f32 targets t [N, C], summed over all elements:
 * the squared error (x - t)^2 of regression, and the sigmoid cross-entropy
 * max(x, 0) - x t + log(1 + exp(-|x|)) of several independent labels per row (0 <= t <= 1). */
#include <math.h>

#include "ops/ops.h"
#include "ops/parallel.h"

typedef enum kind { SQUARED_ERROR, SIGMOID_CROSS_ENTROPY } kind;
enum { CHUNK = 4096 }; /* elements a task: each takes a logarithm or two */

typedef struct part {
  double sum, correct;
} part;

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  TL_TRY(tl_infer_loss(n, n->in[0], n->in[1], err));
  n->scratch_fwd = (size_t)((tl_max_count(n->in[0]) + CHUNK - 1) / CHUNK) * sizeof(part);
  return TL_OK;
}

static double loss_of(kind k, double x, double t) {
  if (k == SQUARED_ERROR) return (x - t) * (x - t);
  return fmax(x, 0) - x * t + log1p(exp(-fabs(x)));
}

static double slope_of(kind k, double x, double t) {
  if (k == SQUARED_ERROR) return 2 * (x - t);
  return 1 / (1 + exp(-x)) - t;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
} job;

static void sum_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  kind k = *(const kind *)j->n->attr;
  const float *t = j->n->in[1]->data;
  part p = {0, 0};
  for (int64_t i = begin; i < end; i++) {
    double v = (double)tl_value(j->n->in[0], i);
    p.sum += loss_of(k, v, (double)t[i]);
    if (k == SIGMOID_CROSS_ENTROPY) p.correct += (v > 0) == (t[i] > 0.5f);
  }
  ((part *)j->x->scratch)[begin / CHUNK] = p;
}

/* Chunks are added in their order. */
static void forward(tl_exec *x, tl_node *n) {
  int64_t count = tl_count(x->g, n->in[0]);
  const part *p = x->scratch;
  part all = {0, 0};
  tl_parallel_ranges(x->ctx, count, CHUNK, sum_range, &(job){x, n});
  for (int64_t begin = 0; begin < count; begin += CHUNK, p++) {
    all.sum += p->sum;
    all.correct += p->correct;
  }
  float *y = n->data;
  y[TL_LOSS_SUM] = (float)all.sum;
  y[TL_LOSS_Z] = 0;
  y[TL_LOSS_COUNT] = (float)count;
  y[TL_LOSS_CORRECT] = (float)all.correct;
}

static void slope_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  kind k = *(const kind *)j->n->attr;
  tl_node *in = j->n->in[0];
  const float *t = j->n->in[1]->data;
  bool add = tl_grad_adds(j->x, j->n, 0);
  for (int64_t i = begin; i < end; i++) {
    float d = j->x->loss_scale * (float)slope_of(k, (double)tl_value(in, i), (double)t[i]);
    tl_put_grad(in, i, d, add);
  }
}

static void backward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_count(x->g, n->in[0]), CHUNK, slope_range, &(job){x, n});
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n->in[0]), size = (double)tl_dtype_size(n->in[0]->dt);
  c->flops_fwd = c->flops_bwd = 20 * count;
  c->bytes_fwd = count * (size + 4);
  c->bytes_bwd = count * (2 * size + 4);
}

/* N, C (at most CASE elements), kind + 1 */
enum { CASE = 2 * CHUNK + 100 };
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  float t[CASE];
  for (int i = 0; i < CASE; i++) t[i] = (float)(i * 5 % 7) / 6;
  tl_node *x = tl_case_input(g, d[0], d[1]), *targets = tl_case_floats(g, 2, d, t);
  return d[2] == SQUARED_ERROR + 1 ? tl_squared_error(g, x, targets)
                                   : tl_sigmoid_cross_entropy(g, x, targets);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1, SQUARED_ERROR + 1},
                                                  {13, 1, SQUARED_ERROR + 1},
                                                  {1, 1, SIGMOID_CROSS_ENTROPY + 1},
                                                  {9, 7, SIGMOID_CROSS_ENTROPY + 1},
                                                  {91, 46, SQUARED_ERROR + 1},
                                                  {79, 104, SIGMOID_CROSS_ENTROPY + 1},
                                                  {0}};

const tl_op tl_op_pointwise_loss = {
    .name = "pointwise_loss",
    .formula = "loss = sum of (x - t)^2, or of max(x, 0) - x t + log(1 + exp(-|x|))",
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

static tl_node *loss(tl_graph *g, tl_node *x, tl_node *targets, kind k) {
  tl_node *in[] = {x, targets};
  return tl_graph_op(g, &tl_op_pointwise_loss, in, 2, &k, sizeof k);
}

tl_node *tl_squared_error(tl_graph *g, tl_node *x, tl_node *targets) {
  return loss(g, x, targets, SQUARED_ERROR);
}

tl_node *tl_sigmoid_cross_entropy(tl_graph *g, tl_node *x, tl_node *targets) {
  return loss(g, x, targets, SIGMOID_CROSS_ENTROPY);
}
