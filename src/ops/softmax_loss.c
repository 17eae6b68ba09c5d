/* Cross-entropy of logits that are activations, x [N, V]: the contrastive loss, where the logits
 * are similarities, and that of pixels, whose classes have weights (the output layer of a language
 * model has its own: cross_entropy). Rows with a negative target count nothing. */
#include <string.h>

#include "ops/ops.h"
#include "ops/parallel.h"

enum { IN_X, IN_TARGET, IN_WEIGHTS };

typedef struct attr {
  float smoothing; /* of the targets in training */
} attr;

static size_t align64(size_t n) {
  return (n + 63) / 64 * 64;
}

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const tl_node *x = n->in[IN_X], *t = n->in[IN_TARGET], *w = n->in[IN_WEIGHTS];
  if (x->ndim != 2 || x->dt == TL_I32)
    return tl_fail(err, TL_INTERNAL, "%s must be [N, V]", x->name);
  if (t->dt != TL_I32 || t->dim != x->dim || t->shape[0] != x->shape[0] || tl_cols(t) != 1)
    return tl_fail(err, TL_INTERNAL, "targets must be i32, one per row of %s", x->name);
  if (w && (w->dt != TL_F32 || tl_max_count(w) != x->shape[1]))
    return tl_fail(err, TL_INTERNAL, "weights must be f32, one per column of %s", x->name);
  size_t rows = (size_t)x->shape[0], logits = align64(rows * (size_t)x->shape[1] * sizeof(float));
  n->scratch_fwd = logits + align64(rows * sizeof(float)) + rows * sizeof(int32_t);
  n->scratch_bwd = n->scratch_fwd + align64(rows * (size_t)x->shape[1] * tl_dtype_size(x->dt));
  tl_shape_losses(n);
  return TL_OK;
}

/* Scratch: f32 logits, losses and hits by row, then (backward) the gradient where it is added. */
typedef struct job {
  tl_exec *x;
  tl_node *n;
  float smoothing;
  float *logits, *loss;
  int32_t *hit;
  char *grad;
  bool backward, add;
} job;

static job make_job(tl_exec *x, tl_node *n, bool backward) {
  size_t rows = (size_t)n->in[0]->shape[0], v = (size_t)n->in[0]->shape[1];
  char *at = x->scratch;
  job j = {.x = x,
           .n = n,
           .smoothing = x->training ? ((const attr *)n->attr)->smoothing : 0,
           .backward = backward,
           .logits = (float *)at};
  at += align64(rows * v * sizeof(float));
  j.loss = (float *)at;
  at += align64(rows * sizeof(float));
  j.hit = (int32_t *)at;
  j.grad = (char *)x->scratch + align64(n->scratch_fwd);
  j.add = backward && tl_grad_adds(x, n, 0);
  return j;
}

/* The losses of rows [begin, end) and their gradients, if grad is theirs, times the weights. */
static void weigh(const job *j, int64_t begin, int64_t end, void *grad) {
  const tl_node *in = j->n->in[IN_X];
  const float *w = j->n->in[IN_WEIGHTS]->data;
  const int32_t *t = j->n->in[IN_TARGET]->data;
  int64_t v = in->shape[1];
  for (int64_t r = begin; r < end; r++) {
    if (t[r] < 0) continue;
    void *row = grad ? tl_at(in->dt, grad, (r - begin) * v) : NULL;
    if (row) j->x->k->row.scale(in->dt, v, w[t[r]], row, row, false);
    j->loss[r] *= w[t[r]];
  }
}

static void rows_of(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *in = j->n->in[IN_X];
  const tl_row_kernels *k = &j->x->k->row;
  int64_t v = in->shape[1], rows = end - begin;
  float *logits = j->logits + begin * v;
  void *grad = NULL;
  if (j->backward) grad = tl_at(in->dt, j->add ? j->grad : in->grad, begin * v);
  k->convert(in->dt, tl_at(in->dt, in->data, begin * v), TL_F32, logits, rows * v);
  k->xent(in->dt, rows, v, logits, v, (const int32_t *)j->n->in[1]->data + begin, j->smoothing, 0,
          j->backward ? j->x->loss_scale : 0, grad, v, j->loss + begin, NULL, j->hit + begin);
  if (j->n->in[IN_WEIGHTS]) weigh(j, begin, end, grad);
  if (j->add) k->acc(in->dt, rows * v, grad, tl_at(in->dt, in->grad, begin * v));
}

static void run(job *j) {
  tl_parallel_ranges(j->x->ctx, tl_rows(j->x->g, j->n->in[0]), tl_row_grain(j->n->in[0]->shape[1]),
                     rows_of, j);
}

static void forward(tl_exec *x, tl_node *n) {
  job j = make_job(x, n, false);
  const int32_t *target = n->in[1]->data;
  double sum = 0, hits = 0, count = 0;
  run(&j);
  for (int64_t r = 0; r < tl_rows(x->g, n->in[0]); r++) {
    sum += (double)j.loss[r];
    hits += j.hit[r];
    count += target[r] >= 0;
  }
  float *y = n->data;
  y[TL_LOSS_SUM] = (float)sum;
  y[TL_LOSS_Z] = 0;
  y[TL_LOSS_COUNT] = (float)count;
  y[TL_LOSS_CORRECT] = (float)hits;
}

static void backward(tl_exec *x, tl_node *n) {
  job j = make_job(x, n, true);
  if (x->loss_scale == 0 && !j.add)
    memset(n->in[0]->grad, 0, (size_t)tl_count(x->g, n->in[0]) * tl_dtype_size(n->in[0]->dt));
  else if (x->loss_scale != 0)
    run(&j);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n->in[0]), size = (double)tl_dtype_size(n->in[0]->dt);
  c->flops_fwd = 20 * count;
  c->flops_bwd = 25 * count;
  c->bytes_fwd = count * size;
  c->bytes_bwd = 2 * count * size;
}

/* N (at most 256), V (at most 64 with weights), whether there are weights, smoothing in percent */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  int32_t t[256];
  float w[64];
  for (int64_t i = 0; i < d[0]; i++) t[i] = i % 5 == 4 ? -1 : (int32_t)(i * 3 % d[1]);
  for (int64_t i = 0; d[2] && i < d[1]; i++) w[i] = 0.25f * (float)(i % 7);
  return tl_weighted_softmax_loss(g, tl_case_input(g, d[0], d[1]), tl_case_ints(g, 1, d, t),
                                  d[2] ? tl_case_floats(g, 1, d + 1, w) : NULL, (float)d[3] / 100);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1},     {7, 5},           {64, 64}, {130, 33},
                                                  {9, 11, 1}, {200, 33, 1, 10}, {0}};

const tl_op tl_op_softmax_loss = {
    .name = "softmax_loss",
    .formula = "loss = sum over rows with a target of -w[t] log softmax(x)[t]",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 7,
    .build_case = build_case,
    .cases = cases,
    .tol = {1e-5f, 1e-2f},
    .tol_bwd = {1e-5f, 2e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_weighted_softmax_loss(tl_graph *g, tl_node *x, tl_node *targets, tl_node *weights,
                                  float smoothing) {
  tl_node *in[] = {x, targets, weights};
  return tl_graph_op(g, &tl_op_softmax_loss, in, 3, &(attr){smoothing}, sizeof(attr));
}

tl_node *tl_softmax_loss(tl_graph *g, tl_node *x, tl_node *targets) {
  return tl_weighted_softmax_loss(g, x, targets, NULL, 0);
}
