#include "eval/knn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "kernels/gemm.h"

/* Queries at once, and the most values of their products that are held. */
enum { QUERIES = 128, MAX_K = 1024 };

typedef struct near_row {
  float cosine;
  int32_t row;
} near_row;

typedef struct knn {
  tl_ctx *ctx;
  const tl_knn_options *o;
  const float *base, *query; /* query: of the block */
  const int32_t *label;
  int64_t n, dim, n_classes, k;
  float *inverse; /* [n]: 1 / length */
  float *product; /* [QUERIES][n] */
  near_row *near; /* [QUERIES][k], the nearest first */
  double *vote;   /* [QUERIES][n_classes] */
  int32_t *class; /* of the block */
  void *packed;
  size_t packed_bytes;
} knn;

static float inverse_length(const float *x, int64_t dim) {
  double square = 0;
  for (int64_t c = 0; c < dim; c++) square += (double)x[c] * (double)x[c];
  return square > 0 ? (float)(1 / sqrt(square)) : 0;
}

static void set_length(void *arg, int64_t i, int worker) {
  (void)worker;
  const knn *q = arg;
  q->inverse[i] = inverse_length(q->base + i * q->dim, q->dim);
}

static void insert(near_row *near, int64_t *have, int64_t k, float cosine, int32_t row) {
  if (*have == k && !(cosine > near[k - 1].cosine)) return;
  int64_t at = *have < k ? (*have)++ : k - 1;
  for (; at > 0 && cosine > near[at - 1].cosine; at--) near[at] = near[at - 1];
  near[at] = (near_row){cosine, row};
}

static void answer_one(void *arg, int64_t i, int worker) {
  (void)worker;
  const knn *q = arg;
  const float *product = q->product + i * q->n;
  near_row *near = q->near + i * q->k;
  double *vote = q->vote + i * q->n_classes;
  float own = inverse_length(q->query + i * q->dim, q->dim);
  int64_t have = 0;
  for (int64_t r = 0; r < q->n; r++)
    insert(near, &have, q->k, product[r] * q->inverse[r] * own, (int32_t)r);
  memset(vote, 0, (size_t)q->n_classes * sizeof *vote);
  for (int64_t r = 0; r < have; r++) /* the nearest votes with 1, so that nothing overflows */
    vote[q->label[near[r].row]] +=
        exp(((double)near[r].cosine - (double)near[0].cosine) / q->o->temperature);
  q->class[i] = 0;
  for (int32_t c = 1; c < q->n_classes; c++)
    if (vote[c] > vote[q->class[i]]) q->class[i] = c;
}

static tl_status knn_new(knn *q, tl_err *err) {
  size_t n = (size_t)q->n;
  q->packed_bytes = tl_gemm_packed_bytes(q->ctx->k, TL_F32, q->dim, q->n);
  q->packed = tl_slab_alloc(q->packed_bytes);
  q->inverse = malloc(n * sizeof *q->inverse);
  q->product = malloc(QUERIES * n * sizeof *q->product);
  q->near = malloc(QUERIES * (size_t)q->k * sizeof *q->near);
  q->vote = malloc(QUERIES * (size_t)q->n_classes * sizeof *q->vote);
  if (!q->packed || !q->inverse || !q->product || !q->near || !q->vote)
    return tl_fail(err, TL_NOMEM, "nearest neighbours: out of memory for %zu rows", n);
  tl_gemm_pack(q->ctx, &(tl_gemm_pack_args){.dt = TL_F32,
                                            .K = q->dim,
                                            .N = q->n,
                                            .src = q->base,
                                            .src_dt = TL_F32,
                                            .ld = q->dim,
                                            .trans = true,
                                            .rows = q->dim,
                                            .cols = q->n,
                                            .packed = q->packed});
  tl_parallel(q->ctx->pool, q->n, set_length, q);
  return TL_OK;
}

static tl_status answer_all(knn *q, const float *query, int64_t m, int32_t *class, tl_err *err) {
  for (int64_t at = 0; at < m; at += QUERIES) {
    int64_t rows = m - at < QUERIES ? m - at : QUERIES;
    q->query = query + at * q->dim;
    q->class = class + at;
    tl_gemm(q->ctx, &(tl_gemm_args){.M = rows,
                                    .N = q->n,
                                    .K = q->dim,
                                    .dt = TL_F32,
                                    .a = q->query,
                                    .lda = q->dim,
                                    .b_packed = q->packed,
                                    .c = q->product,
                                    .ldc = q->n,
                                    .c_dt = TL_F32});
    tl_parallel(q->ctx->pool, rows, answer_one, q);
    if (tl_ctx_cancelled(q->ctx)) return tl_fail(err, TL_PREEMPTED, "stopped by request");
  }
  return TL_OK;
}

tl_status tl_knn(tl_ctx *ctx, const tl_knn_options *o, const float *base, const int32_t *label,
                 int64_t n, const float *query, int64_t m, int64_t dim, int64_t n_classes,
                 int32_t *class, tl_err *err) {
  if (n < 1 || o->k < 1 || o->k > MAX_K || !(o->temperature > 0))
    return tl_fail(err, TL_CONFIG, "nearest neighbours: k from 1 to %d, a temperature above 0",
                   (int)MAX_K);
  knn q = {.ctx = ctx,
           .o = o,
           .base = base,
           .label = label,
           .n = n,
           .dim = dim,
           .n_classes = n_classes,
           .k = o->k < n ? o->k : n};
  tl_status s = knn_new(&q, err);
  if (s == TL_OK) s = answer_all(&q, query, m, class, err);
  if (q.packed) tl_slab_free(q.packed, q.packed_bytes);
  free(q.inverse);
  free(q.product);
  free(q.near);
  free(q.vote);
  return s;
}
