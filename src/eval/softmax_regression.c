#include "eval/softmax_regression.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "eval/lbfgs.h"
#include "kernels/gemm.h"

/* Rows of a task. */
enum { GRAIN = 256, COLUMN_GRAIN = 16 };

typedef struct problem {
  tl_ctx *ctx;
  const float *x;
  const int32_t *label;
  int64_t n, dim, k; /* n: rows in use; k: classes */
  double l2;
  float *w;                /* [dim + 1][k] of the point asked for, the bias last */
  float *logits, *dlogits; /* [room][k] */
  float *gw;               /* [dim][k] */
  float *loss;             /* [room] */
  int32_t *correct;        /* [room] */
  void *work;
  size_t work_bytes;
} problem;

static tl_gemm_args forward_product(const problem *p, int64_t n) {
  return (tl_gemm_args){.M = n,
                        .N = p->k,
                        .K = p->dim,
                        .dt = TL_F32,
                        .a = p->x,
                        .lda = p->dim,
                        .b = p->w,
                        .ldb = p->k,
                        .c = p->logits,
                        .ldc = p->k,
                        .c_dt = TL_F32,
                        .bias = p->w + p->dim * p->k,
                        .work = p->work};
}

static tl_gemm_args backward_product(const problem *p, int64_t n) {
  return (tl_gemm_args){.M = p->dim,
                        .N = p->k,
                        .K = n,
                        .dt = TL_F32,
                        .a = p->x,
                        .lda = p->dim,
                        .a_trans = true,
                        .b = p->dlogits,
                        .ldb = p->k,
                        .c = p->gw,
                        .ldc = p->k,
                        .c_dt = TL_F32,
                        .work = p->work};
}

static void xent_rows(void *arg, int64_t task, int worker) {
  (void)worker;
  const problem *p = arg;
  int64_t at = task * GRAIN, rows = p->n - at < GRAIN ? p->n - at : GRAIN;
  p->ctx->k->row.xent(TL_F32, rows, p->k, p->logits + at * p->k, p->k, p->label + at, 0, 0,
                      1 / (float)p->n, p->dlogits + at * p->k, p->k, p->loss + at, NULL,
                      p->correct + at);
}

static void set_point(problem *p, const double *w) {
  for (int64_t i = 0; i < (p->dim + 1) * p->k; i++) p->w[i] = (float)w[i];
}

/* Losses, gradients and right answers of the rows at the point. */
static void run_rows(problem *p) {
  tl_gemm_args a = forward_product(p, p->n);
  tl_gemm(p->ctx, &a);
  tl_parallel(p->ctx->pool, (p->n + GRAIN - 1) / GRAIN, xent_rows, p);
}

static double mean_loss(const problem *p) {
  double sum = 0;
  for (int64_t i = 0; i < p->n; i++) sum += (double)p->loss[i];
  return sum / (double)p->n;
}

static double evaluate(void *user, const double *w, double *g) {
  problem *p = user;
  int64_t weights = p->dim * p->k;
  set_point(p, w);
  run_rows(p);
  tl_gemm_args a = backward_product(p, p->n);
  tl_gemm(p->ctx, &a);
  double square = 0;
  for (int64_t i = 0; i < weights; i++) {
    square += w[i] * w[i];
    g[i] = (double)p->gw[i] + p->l2 * w[i];
  }
  for (int64_t c = 0; c < p->k; c++) g[weights + c] = 0;
  for (int64_t i = 0; i < p->n; i++)
    for (int64_t c = 0; c < p->k; c++) g[weights + c] += (double)p->dlogits[i * p->k + c];
  return mean_loss(p) + p->l2 / 2 * square;
}

static tl_status problem_new(problem *p, tl_err *err) {
  size_t n = (size_t)p->n, k = (size_t)p->k, dim = (size_t)p->dim;
  p->w = malloc((dim + 1) * k * sizeof *p->w);
  p->gw = malloc(dim * k * sizeof *p->gw);
  p->logits = malloc(n * k * sizeof *p->logits);
  p->dlogits = malloc(n * k * sizeof *p->dlogits);
  p->loss = malloc(n * sizeof *p->loss);
  p->correct = malloc(n * sizeof *p->correct);
  tl_gemm_args f = forward_product(p, p->n), b = backward_product(p, p->n);
  size_t need[] = {tl_gemm_work_bytes(p->ctx, &f), tl_gemm_work_bytes(p->ctx, &b)};
  p->work_bytes = 1 + (need[0] > need[1] ? need[0] : need[1]);
  p->work = tl_slab_alloc(p->work_bytes);
  if (p->w && p->gw && p->logits && p->dlogits && p->loss && p->correct && p->work) return TL_OK;
  return tl_fail(err, TL_NOMEM, "logistic regression: out of memory for %zu rows", n);
}

static void problem_free(problem *p) {
  free(p->w);
  free(p->gw);
  free(p->logits);
  free(p->dlogits);
  free(p->loss);
  free(p->correct);
  if (p->work) tl_slab_free(p->work, p->work_bytes);
}

static tl_status minimise(problem *p, tl_softmax_regression *r, tl_err *err) {
  static const tl_lbfgs_options o = {.max_steps = 300, .gradient = 1e-5, .progress = 1e-7};
  tl_lbfgs_result done;
  TL_TRY(tl_lbfgs(evaluate, p, (p->dim + 1) * p->k, &o, r->w, &done, err));
  r->steps += done.steps;
  return tl_ctx_cancelled(p->ctx) ? tl_fail(err, TL_PREEMPTED, "stopped by request") : TL_OK;
}

typedef struct judgement {
  double accuracy, loss;
} judgement;

/* Of the n rows behind the first `from` at w. */
static judgement judge(const problem *p, const double *w, int64_t from, int64_t n) {
  problem part = *p;
  part.x += from * p->dim;
  part.label += from;
  part.n = n;
  set_point(&part, w);
  run_rows(&part);
  judgement j = {0, mean_loss(&part)};
  for (int64_t i = 0; i < n; i++) j.accuracy += part.correct[i];
  j.accuracy /= (double)n;
  return j;
}

/* Fits the first rows along falling penalties, each from where the last one ended; r->w is then the
 * point of the best. */
static tl_status choose(problem *p, int64_t n_valid, tl_softmax_regression *r, tl_err *err) {
  int64_t all = p->n;
  size_t bytes = (size_t)((p->dim + 1) * p->k) * sizeof *r->w;
  judgement best = {-1, INFINITY};
  double *w = malloc(bytes);
  tl_status s = w ? TL_OK : tl_fail(err, TL_NOMEM, "logistic regression: out of memory");
  for (int e = 0; s == TL_OK && e <= 6; e++) {
    p->n = all - n_valid;
    p->l2 = pow(10, -e);
    if ((s = minimise(p, r, err)) != TL_OK) break;
    judgement j = judge(p, r->w, all - n_valid, n_valid);
    if (j.accuracy < best.accuracy || (j.accuracy <= best.accuracy && j.loss >= best.loss))
      continue;
    best = j;
    r->l2 = p->l2;
    memcpy(w, r->w, bytes);
  }
  if (s == TL_OK) memcpy(r->w, w, bytes);
  free(w);
  r->valid = best.accuracy;
  p->n = all;
  return s;
}

tl_status tl_softmax_regression_fit(tl_ctx *ctx, const float *x, const int32_t *label, int64_t n,
                                    int64_t dim, int64_t n_classes, int64_t n_valid,
                                    tl_softmax_regression *r, tl_err *err) {
  *r = (tl_softmax_regression){.dim = dim, .n_classes = n_classes, .l2 = 0.01, .valid = NAN};
  if (n_valid >= n)
    return tl_fail(err, TL_DATA, "logistic regression: %lld rows, all held out", (long long)n);
  problem p = {.ctx = ctx, .x = x, .label = label, .n = n, .dim = dim, .k = n_classes};
  tl_status s = problem_new(&p, err);
  r->w = calloc((size_t)((dim + 1) * n_classes), sizeof *r->w);
  if (s == TL_OK && !r->w) s = tl_fail(err, TL_NOMEM, "logistic regression: out of memory");
  if (s == TL_OK && n_valid > 0) s = choose(&p, n_valid, r, err);
  p.l2 = r->l2;
  if (s == TL_OK) s = minimise(&p, r, err);
  problem_free(&p);
  if (s != TL_OK) tl_softmax_regression_free(r);
  return s;
}

tl_status tl_softmax_regression_predict(tl_ctx *ctx, const tl_softmax_regression *r, const float *x,
                                        int64_t n, int32_t *class, tl_err *err) {
  problem p = {.ctx = ctx, .x = x, .n = n, .dim = r->dim, .k = r->n_classes};
  tl_status s = problem_new(&p, err);
  if (s == TL_OK) {
    set_point(&p, r->w);
    tl_gemm_args a = forward_product(&p, n);
    tl_gemm(ctx, &a);
  }
  for (int64_t i = 0; s == TL_OK && i < n; i++) {
    const float *row = p.logits + i * p.k;
    class[i] = 0;
    for (int32_t c = 1; c < p.k; c++)
      if (row[c] > row[class[i]]) class[i] = c;
  }
  problem_free(&p);
  return s;
}

void tl_softmax_regression_free(tl_softmax_regression *r) {
  free(r->w);
  *r = (tl_softmax_regression){0};
}

/* --- columns -----------------------------------------------------------------------------------
 */

typedef struct columns {
  float *x, *other;
  int64_t n, m, dim;
} columns;

static void apply(float *x, int64_t n, int64_t dim, double mean, double scale) {
  for (int64_t i = 0; i < n; i++) x[i * dim] = (float)(((double)x[i * dim] - mean) * scale);
}

static void standardise_columns(void *arg, int64_t task, int worker) {
  (void)worker;
  const columns *j = arg;
  int64_t begin = task * COLUMN_GRAIN, end = begin + COLUMN_GRAIN;
  double mean[COLUMN_GRAIN] = {0}, square[COLUMN_GRAIN] = {0};
  if (end > j->dim) end = j->dim;
  for (int64_t i = 0; i < j->n; i++)
    for (int64_t c = begin; c < end; c++) mean[c - begin] += (double)j->x[i * j->dim + c];
  for (int64_t c = begin; c < end; c++) mean[c - begin] /= (double)j->n;
  for (int64_t i = 0; i < j->n; i++)
    for (int64_t c = begin; c < end; c++) {
      double d = (double)j->x[i * j->dim + c] - mean[c - begin];
      square[c - begin] += d * d;
    }
  for (int64_t c = begin; c < end; c++) {
    double deviation = sqrt(square[c - begin] / (double)j->n), m = mean[c - begin];
    double scale = deviation > 1e-6 * (1 + fabs(m)) ? 1 / deviation : 0;
    apply(j->x + c, j->n, j->dim, m, scale);
    apply(j->other + c, j->m, j->dim, m, scale);
  }
}

void tl_standardise(tl_ctx *ctx, float *x, int64_t n, int64_t dim, float *other, int64_t m) {
  columns j = {x, other, n, m, dim};
  tl_parallel(ctx->pool, (dim + COLUMN_GRAIN - 1) / COLUMN_GRAIN, standardise_columns, &j);
}
