/* The loss of a network of capsules (Sabour et al., 2017). Of the lengths l [N, C] of the classes'
 * capsules, against the classes' shares t [N, C]:
 *
 *   sum of t max(0, m+ - l)^2 + lambda (1 - t) max(0, l - m-)^2,  m+ = 0.9, m- = 0.1, lambda = 0.5
 *
 * and, with reconstructions y [N, P] of pictures x (N P values), plus `weight` times the sum of
 * (y - x)^2. A row counts as correct when the longest capsule is that with the largest share. */
#include <math.h>

#include "ops/ops.h"
#include "ops/parallel.h"

#define M_PLUS 0.9
#define M_MINUS 0.1
#define LAMBDA 0.5

enum { IN_L, IN_TARGETS, IN_Y, IN_PICTURES, GRAIN = 4 };

/* In scratch, by row. */
typedef struct row_loss {
  double margin, error;
  int hit;
} row_loss;

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const tl_node *l = n->in[IN_L], *t = n->in[IN_TARGETS], *y = n->in[IN_Y], *x = n->in[IN_PICTURES];
  TL_TRY(tl_infer_loss(n, l, t, err));
  if (l->dt != TL_F32) return tl_fail(err, TL_INTERNAL, "%s must be f32", l->name);
  if (y && (y->dim != l->dim || y->shape[0] != l->shape[0] || !x || x->dt == TL_I32 ||
            tl_max_count(x) != tl_max_count(y)))
    return tl_fail(err, TL_INTERNAL, "reconstructions %s and pictures differ in shape", y->name);
  n->scratch_fwd = (size_t)l->shape[0] * sizeof(row_loss);
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
  int64_t classes, pixels;
  double weight;
} job;

static job make_job(tl_exec *x, tl_node *n) {
  return (job){.x = x,
               .n = n,
               .classes = tl_cols(n->in[IN_L]),
               .pixels = n->in[IN_Y] ? tl_cols(n->in[IN_Y]) : 0,
               .weight = *(const double *)n->attr};
}

static row_loss loss_of(const job *j, int64_t row) {
  const float *t = (const float *)j->n->in[IN_TARGETS]->data + row * j->classes;
  const float *l = (const float *)j->n->in[IN_L]->data + row * j->classes;
  row_loss r = {0};
  int64_t longest = 0, truth = 0;
  for (int64_t c = 0; c < j->classes; c++) {
    double missing = fmax(0, M_PLUS - (double)l[c]), wrong = fmax(0, (double)l[c] - M_MINUS);
    r.margin += (double)t[c] * missing * missing + LAMBDA * (1 - (double)t[c]) * wrong * wrong;
    if (l[c] > l[longest]) longest = c;
    if (t[c] > t[truth]) truth = c;
  }
  r.hit = longest == truth;
  for (int64_t i = row * j->pixels; i < (row + 1) * j->pixels; i++) {
    double d = (double)tl_value(j->n->in[IN_Y], i) - (double)tl_value(j->n->in[IN_PICTURES], i);
    r.error += d * d;
  }
  return r;
}

static void forward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  for (int64_t r = begin; r < end; r++) ((row_loss *)j->x->scratch)[r] = loss_of(j, r);
}

static void forward(tl_exec *x, tl_node *n) {
  job j = make_job(x, n);
  int64_t rows = tl_rows(x->g, n->in[IN_L]);
  double margin = 0, error = 0, hits = 0;
  tl_parallel_ranges(x->ctx, rows, GRAIN, forward_rows, &j);
  for (int64_t i = 0; i < rows; i++) {
    const row_loss *r = (const row_loss *)x->scratch + i;
    margin += r->margin;
    error += r->error;
    hits += r->hit;
  }
  float *y = n->data;
  y[TL_LOSS_SUM] = (float)(margin + j.weight * error);
  y[TL_LOSS_Z] = 0;
  y[TL_LOSS_COUNT] = (float)rows;
  y[TL_LOSS_CORRECT] = (float)hits;
}

static void margin_gradient(const job *j, int64_t row) {
  const float *t = j->n->in[IN_TARGETS]->data, *l = j->n->in[IN_L]->data;
  float *dl = j->n->in[IN_L]->grad;
  bool add = tl_grad_adds(j->x, j->n, IN_L);
  for (int64_t i = row * j->classes; i < (row + 1) * j->classes; i++) {
    double slope = 2 * LAMBDA * (1 - (double)t[i]) * fmax(0, (double)l[i] - M_MINUS) -
                   2 * (double)t[i] * fmax(0, M_PLUS - (double)l[i]);
    dl[i] = j->x->loss_scale * (float)slope + (add ? dl[i] : 0);
  }
}

static void error_gradient(const job *j, int64_t row) {
  tl_node *in = j->n->in[IN_Y];
  bool add = tl_grad_adds(j->x, j->n, IN_Y);
  float scale = 2 * (float)j->weight * j->x->loss_scale;
  for (int64_t i = row * j->pixels; i < (row + 1) * j->pixels; i++) {
    float d = scale * (tl_value(in, i) - tl_value(j->n->in[IN_PICTURES], i));
    tl_put_grad(in, i, d, add);
  }
}

static void backward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  for (int64_t r = begin; r < end; r++) {
    if (tl_wants_grad(j->n, IN_L)) margin_gradient(j, r);
    if (tl_wants_grad(j->n, IN_Y)) error_gradient(j, r);
  }
}

static void backward(tl_exec *x, tl_node *n) {
  job j = make_job(x, n);
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n->in[IN_L]), GRAIN, backward_rows, &j);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  const tl_node *y = n->in[IN_Y];
  double l = (double)tl_count(g, n->in[IN_L]), pixels = y ? (double)tl_count(g, y) : 0;
  double size = y ? (double)tl_dtype_size(y->dt) : 0;
  c->flops_fwd = 6 * l + 3 * pixels;
  c->flops_bwd = 8 * l + 3 * pixels;
  c->bytes_fwd = 8 * l + 2 * pixels * size;
  c->bytes_bwd = 12 * l + 3 * pixels * size;
}

/* rows (at most 32), classes (at most 10), values of a picture (at most 32, 0: none) */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  float t[320], pictures[1024];
  for (int64_t r = 0; r < d[0]; r++)
    for (int64_t c = 0; c < d[1]; c++) t[r * d[1] + c] = c == r % d[1] ? 0.8f : 0.1f;
  for (int i = 0; i < 1024; i++) pictures[i] = (float)(i * 7 % 16) / 16; /* exact in bf16 */
  int64_t shape[] = {d[0], d[2]};
  tl_node *l = tl_capsule_length(g, tl_case_capsules(g, d[0], d[1], 16), 16);
  tl_node *targets = tl_case_floats(g, 2, d, t);
  if (!d[2]) return tl_capsule_loss(g, l, targets, NULL, NULL, 0);
  tl_node *y = tl_case_input(g, d[0], d[2]);
  return tl_capsule_loss(g, l, targets, y, tl_case_floats(g, 2, shape, pictures), 0.05);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1}, {7, 3, 9}, {32, 10, 32}, {0}};

const tl_op tl_op_capsule_loss = {
    .name = "capsule_loss",
    .formula = "loss = sum of t max(0, 0.9 - l)^2 + (1 - t) max(0, l - 0.1)^2 / 2 + w (y - x)^2",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 15,
    .build_case = build_case,
    .cases = cases,
    .tol = {1e-5f, 2e-2f},
    .tol_bwd = {5e-5f, 2e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_capsule_loss(tl_graph *g, tl_node *l, tl_node *targets, tl_node *y, tl_node *pictures,
                         double weight) {
  tl_node *in[] = {l, targets, y, pictures};
  return tl_graph_op(g, &tl_op_capsule_loss, in, y ? 4 : 2, &weight, sizeof weight);
}
