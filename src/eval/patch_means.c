#include "eval/patch_means.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/rng.h"
#include "eval/symmetric.h"
#include "kernels/gemm.h"
#include "tilth/augment.h"

enum { SIDE = 6, EACH = 20, STEPS = 20, ROWS = 4096, QUADRANTS = 4 };

struct tl_patch_means {
  tl_ctx *ctx;
  tl_patch_means_options o;
  tl_augment plain; /* pixels 0 .. 255 */
  int64_t d, k;     /* values of a patch; centroids */
  int64_t across;   /* patches in a row of a picture */
  int64_t batch;    /* pictures at once */
  float *white;     /* [d][d], then what is added behind it: [d] */
  float *centroid;  /* [k][d], whitened */
  float *square;    /* [k]: |centroid|^2 */
  /* scratch: patches as they are and whitened [room][d], products with the centroids [room][k], one
   * picture for each of a batch, an error each */
  int64_t room;
  float *raw, *patch, *product, *picture;
  tl_err *err;
  void *work;
  size_t work_bytes;
};

/* --- patches -----------------------------------------------------------------------------------
 */

/* At (y, x) of picture f32 [channels][size][size]: values with mean 0, and variance about 1. */
static void cut(const tl_patch_means *p, const float *picture, int64_t y, int64_t x, float *out) {
  int64_t size = p->o.size;
  double sum = 0, square = 0;
  for (int64_t c = 0, i = 0; c < p->o.channels; c++)
    for (int64_t r = 0; r < SIDE; r++, i += SIDE)
      memcpy(out + i, picture + (c * size + y + r) * size + x, SIDE * sizeof *out);
  for (int64_t i = 0; i < p->d; i++) sum += (double)out[i];
  double mean = sum / (double)p->d;
  for (int64_t i = 0; i < p->d; i++) square += ((double)out[i] - mean) * ((double)out[i] - mean);
  double scale = 1 / sqrt(square / (double)(p->d - 1) + 10);
  for (int64_t i = 0; i < p->d; i++) out[i] = (float)(((double)out[i] - mean) * scale);
}

static tl_status load(const tl_patch_means *p, const tl_image_data *d, size_t record, float *out,
                      tl_err *err) {
  tl_image m;
  TL_TRY(tl_image_get(d, record, p->o.channels, &m, err));
  tl_status s = tl_augment_run(&p->plain, &m, 0, 0, out, err);
  tl_image_free(&m);
  return s;
}

typedef struct batch {
  tl_patch_means *p;
  const tl_image_data *d;
  const size_t *index;
  size_t at;  /* of the batch's first picture */
  float *out; /* features, or patches of pictures drawn at random */
} batch;

static float *picture_of(const tl_patch_means *p, int64_t i) {
  return p->picture + i * p->o.channels * p->o.size * p->o.size;
}

static void load_all_patches(void *arg, int64_t i, int worker) {
  (void)worker;
  const batch *b = arg;
  tl_patch_means *p = b->p;
  size_t at = b->at + (size_t)i;
  float *picture = picture_of(p, i);
  p->err[i].code = TL_OK;
  if (load(p, b->d, b->index ? b->index[at] : at, picture, &p->err[i]) != TL_OK) return;
  float *out = p->raw + i * p->across * p->across * p->d;
  for (int64_t y = 0; y < p->across; y++)
    for (int64_t x = 0; x < p->across; x++, out += p->d) cut(p, picture, y, x, out);
}

static void load_some_patches(void *arg, int64_t i, int worker) {
  (void)worker;
  const batch *b = arg;
  tl_patch_means *p = b->p;
  size_t at = b->at + (size_t)i;
  float *picture = picture_of(p, i);
  p->err[i].code = TL_OK;
  if (load(p, b->d, b->index ? b->index[at] : at, picture, &p->err[i]) != TL_OK) return;
  tl_rng r = tl_rng_make(p->o.seed, TL_STREAM_SAMPLE, 1, at << 8);
  for (int64_t e = 0; e < EACH; e++) {
    int64_t y = (int64_t)tl_rng_below(&r, (uint64_t)p->across);
    int64_t x = (int64_t)tl_rng_below(&r, (uint64_t)p->across);
    cut(p, picture, y, x, b->out + ((int64_t)at * EACH + e) * p->d);
  }
}

static tl_status first_error(const tl_patch_means *p, int64_t n, tl_err *err) {
  for (int64_t i = 0; i < n; i++)
    if (p->err[i].code != TL_OK) return tl_fail(err, p->err[i].code, "%s", p->err[i].msg);
  return tl_ctx_cancelled(p->ctx) ? tl_fail(err, TL_PREEMPTED, "stopped by request") : TL_OK;
}

/* --- products ----------------------------------------------------------------------------------
 */

/* Rows of x [n][d] whitened, into y. */
static tl_gemm_args whitening(const tl_patch_means *p, int64_t n, const float *x, float *y) {
  return (tl_gemm_args){.M = n,
                        .N = p->d,
                        .K = p->d,
                        .dt = TL_F32,
                        .a = x,
                        .lda = p->d,
                        .b = p->white,
                        .ldb = p->d,
                        .c = y,
                        .ldc = p->d,
                        .c_dt = TL_F32,
                        .bias = p->white + p->d * p->d,
                        .work = p->work};
}

/* Products of the rows x [n][d] with the centroids. */
static tl_gemm_args nearness(const tl_patch_means *p, int64_t n, const float *x) {
  return (tl_gemm_args){.M = n,
                        .N = p->k,
                        .K = p->d,
                        .dt = TL_F32,
                        .a = x,
                        .lda = p->d,
                        .b = p->centroid,
                        .ldb = p->d,
                        .b_trans = true,
                        .c = p->product,
                        .ldc = p->k,
                        .c_dt = TL_F32,
                        .work = p->work};
}

/* x^T x of x [n][d]. */
static tl_gemm_args moments(const tl_patch_means *p, int64_t n, const float *x, float *out) {
  return (tl_gemm_args){.M = p->d,
                        .N = p->d,
                        .K = n,
                        .dt = TL_F32,
                        .a = x,
                        .lda = p->d,
                        .a_trans = true,
                        .b = x,
                        .ldb = p->d,
                        .c = out,
                        .ldc = p->d,
                        .c_dt = TL_F32,
                        .work = p->work};
}

static void set_squares(tl_patch_means *p) {
  for (int64_t k = 0; k < p->k; k++) {
    double sum = 0;
    const float *c = p->centroid + k * p->d;
    for (int64_t i = 0; i < p->d; i++) sum += (double)c[i] * (double)c[i];
    p->square[k] = (float)sum;
  }
}

/* --- learning ----------------------------------------------------------------------------------
 */

/* mean [d] and covariance [d][d] of the patches x [n][d], block by block. */
static void covariance(const tl_patch_means *p, const float *x, int64_t n, float *block,
                       double *mean, double *cov) {
  int64_t d = p->d;
  memset(mean, 0, (size_t)d * sizeof *mean);
  memset(cov, 0, (size_t)(d * d) * sizeof *cov);
  for (int64_t at = 0; at < n; at += ROWS) {
    int64_t rows = n - at < ROWS ? n - at : ROWS;
    tl_gemm_args a = moments(p, rows, x + at * d, block);
    tl_gemm(p->ctx, &a);
    for (int64_t i = 0; i < d * d; i++) cov[i] += (double)block[i];
    for (int64_t i = 0; i < rows * d; i++) mean[i % d] += (double)x[at * d + i];
  }
  for (int64_t i = 0; i < d; i++) mean[i] /= (double)n;
  for (int64_t i = 0; i < d; i++)
    for (int64_t j = 0; j < d; j++) cov[i * d + j] = cov[i * d + j] / (double)n - mean[i] * mean[j];
}

static tl_status learn_whitening(tl_patch_means *p, const float *x, int64_t n, tl_err *err) {
  int64_t d = p->d;
  double *mean = malloc((size_t)(d + 2 * d * d) * sizeof *mean);
  float *block = malloc((size_t)(d * d) * sizeof *block);
  tl_status s = mean && block ? TL_OK : tl_fail(err, TL_NOMEM, "k-means: out of memory");
  if (s == TL_OK) {
    double *cov = mean + d, *v = cov + d * d;
    covariance(p, x, n, block, mean, cov);
    for (int64_t i = 0; i < d; i++)
      for (int64_t j = 0; j < i; j++) cov[i * d + j] = cov[j * d + i];
    tl_symmetric_eigen(cov, (int)d, v);
    float *added = p->white + d * d;
    for (int64_t i = 0; i < d; i++)
      for (int64_t j = 0; j < d; j++) {
        double sum = 0;
        for (int64_t e = 0; e < d; e++)
          sum += v[i * d + e] * v[j * d + e] / sqrt(fmax(cov[e * d + e], 0) + 0.1);
        p->white[i * d + j] = (float)sum;
      }
    for (int64_t j = 0; j < d; j++) {
      double sum = 0;
      for (int64_t i = 0; i < d; i++) sum += mean[i] * (double)p->white[i * d + j];
      added[j] = (float)-sum;
    }
  }
  free(mean);
  free(block);
  return s;
}

typedef struct assigning {
  const tl_patch_means *p;
  int32_t *nearest; /* of the block's rows */
} assigning;

static void assign_one(void *arg, int64_t i, int worker) {
  (void)worker;
  const assigning *j = arg;
  const float *product = j->p->product + i * j->p->k;
  float best = -INFINITY;
  for (int32_t k = 0; k < j->p->k; k++) {
    float near = product[k] - j->p->square[k] / 2;
    if (!(near > best)) continue;
    best = near;
    j->nearest[i] = k;
  }
}

/* One step of Lloyd's algorithm; a centroid without patches becomes one of them. */
static void lloyd(tl_patch_means *p, const float *x, int64_t n, uint64_t draw, int32_t *nearest,
                  double *sum, int64_t *count) {
  set_squares(p);
  memset(sum, 0, (size_t)(p->k * p->d) * sizeof *sum);
  memset(count, 0, (size_t)p->k * sizeof *count);
  for (int64_t at = 0; at < n; at += p->room) {
    int64_t rows = n - at < p->room ? n - at : p->room;
    tl_gemm_args a = nearness(p, rows, x + at * p->d);
    tl_gemm(p->ctx, &a);
    tl_parallel(p->ctx->pool, rows, assign_one, &(assigning){p, nearest});
    for (int64_t i = 0; i < rows; i++) {
      double *to = sum + nearest[i] * p->d;
      for (int64_t c = 0; c < p->d; c++) to[c] += (double)x[(at + i) * p->d + c];
      count[nearest[i]]++;
    }
  }
  for (int64_t k = 0; k < p->k; k++) {
    const float *other = x + (int64_t)tl_permute(draw, (uint64_t)n, (uint64_t)k) * p->d;
    for (int64_t c = 0; c < p->d; c++)
      p->centroid[k * p->d + c] =
          count[k] ? (float)(sum[k * p->d + c] / (double)count[k]) : other[c];
  }
}

static tl_status learn_centroids(tl_patch_means *p, const float *x, int64_t n, tl_err *err) {
  int32_t *nearest = calloc((size_t)p->room, sizeof *nearest);
  double *sum = malloc((size_t)(p->k * p->d) * sizeof *sum);
  int64_t *count = malloc((size_t)p->k * sizeof *count);
  tl_status s = nearest && sum && count ? TL_OK : tl_fail(err, TL_NOMEM, "k-means: out of memory");
  for (int64_t k = 0; s == TL_OK && k < p->k; k++)
    memcpy(p->centroid + k * p->d,
           x + (int64_t)tl_permute(tl_mix64(p->o.seed, 0), (uint64_t)n, (uint64_t)k) * p->d,
           (size_t)p->d * sizeof *x);
  for (uint64_t step = 1; s == TL_OK && step <= STEPS; step++) {
    lloyd(p, x, n, tl_mix64(p->o.seed, step), nearest, sum, count);
    if (tl_ctx_cancelled(p->ctx)) s = tl_fail(err, TL_PREEMPTED, "stopped by request");
  }
  if (s == TL_OK) set_squares(p);
  free(nearest);
  free(sum);
  free(count);
  return s;
}

static tl_status learn(tl_patch_means *p, const tl_image_data *d, const size_t *index, size_t n,
                       tl_err *err) {
  int64_t rows = (int64_t)n * EACH;
  float *raw = malloc((size_t)(rows * p->d) * sizeof *raw);
  float *x = malloc((size_t)(rows * p->d) * sizeof *x);
  tl_status s =
      raw && x ? TL_OK
               : tl_fail(err, TL_NOMEM, "k-means: out of memory for %lld patches", (long long)rows);
  batch b = {.p = p, .d = d, .index = index, .out = raw};
  for (; s == TL_OK && b.at < n; b.at += (size_t)p->batch) {
    int64_t m = (int64_t)(n - b.at) < p->batch ? (int64_t)(n - b.at) : p->batch;
    tl_parallel(p->ctx->pool, m, load_some_patches, &b);
    s = first_error(p, m, err);
  }
  if (s == TL_OK) s = learn_whitening(p, raw, rows, err);
  if (s == TL_OK) {
    tl_gemm_args a = whitening(p, rows, raw, x);
    tl_gemm(p->ctx, &a);
    s = learn_centroids(p, x, rows, err);
  }
  free(raw);
  free(x);
  return s;
}

static tl_status reserve(tl_patch_means *p, tl_err *err) {
  int64_t each = p->across * p->across;
  p->batch = ROWS / each > 1 ? ROWS / each : 1;
  p->room = p->batch * each > ROWS ? p->batch * each : ROWS;
  size_t room = (size_t)p->room, d = (size_t)p->d, k = (size_t)p->k;
  size_t pixels = (size_t)p->o.channels * (size_t)p->o.size * (size_t)p->o.size;
  p->white = malloc((d + 1) * d * sizeof *p->white);
  p->centroid = malloc(k * d * sizeof *p->centroid);
  p->square = malloc(k * sizeof *p->square);
  p->raw = malloc(room * d * sizeof *p->raw);
  p->patch = malloc(room * d * sizeof *p->patch);
  p->product = malloc(room * k * sizeof *p->product);
  p->picture = malloc((size_t)p->batch * pixels * sizeof *p->picture);
  p->err = calloc((size_t)p->batch, sizeof *p->err);
  tl_gemm_args a[] = {whitening(p, p->room, p->raw, p->patch), nearness(p, p->room, p->patch),
                      moments(p, ROWS, p->raw, p->product)};
  p->work_bytes = 1;
  for (int i = 0; i < 3; i++) {
    size_t need = tl_gemm_work_bytes(p->ctx, &a[i]);
    if (need > p->work_bytes) p->work_bytes = need;
  }
  p->work = tl_slab_alloc(p->work_bytes);
  if (p->white && p->centroid && p->square && p->raw && p->patch && p->product && p->picture &&
      p->err && p->work)
    return TL_OK;
  return tl_fail(err, TL_NOMEM, "k-means: out of memory for %zu centroids", k);
}

tl_status tl_patch_means_learn(tl_ctx *ctx, const tl_image_data *d, const size_t *index, size_t n,
                               const tl_patch_means_options *o, tl_patch_means **out, tl_err *err) {
  if (n > (size_t)o->pictures) n = (size_t)o->pictures;
  if (o->size < SIDE || o->centroids < 2 || o->centroids > 16384)
    return tl_fail(err, TL_CONFIG, "k-means: 2 to 16384 centroids, pictures of at least %d pixels",
                   (int)SIDE);
  if ((int64_t)n * EACH < o->centroids)
    return tl_fail(err, TL_DATA, "k-means: %lld centroids out of %lld patches of %zu pictures",
                   (long long)o->centroids, (long long)n * EACH, n);
  tl_patch_means *p = calloc(1, sizeof *p);
  if (!p) return tl_fail(err, TL_NOMEM, "k-means: out of memory");
  *p = (tl_patch_means){.ctx = ctx, .o = *o, .k = o->centroids, .across = o->size - SIDE + 1};
  p->d = (int64_t)o->channels * SIDE * SIDE;
  p->plain = (tl_augment){.size = o->size, .channels = o->channels};
  for (int c = 0; c < 3; c++) p->plain.std[c] = 1.0f / 255;
  tl_status s = reserve(p, err);
  if (s == TL_OK) s = learn(p, d, index, n, err);
  if (s == TL_OK)
    *out = p;
  else
    tl_patch_means_free(p);
  return s;
}

void tl_patch_means_free(tl_patch_means *p) {
  if (!p) return;
  free(p->white);
  free(p->centroid);
  free(p->square);
  free(p->raw);
  free(p->patch);
  free(p->product);
  free(p->picture);
  free(p->err);
  if (p->work) tl_slab_free(p->work, p->work_bytes);
  free(p);
}

int64_t tl_patch_means_dim(const tl_patch_means *p) {
  return QUADRANTS * p->k;
}

/* --- features ----------------------------------------------------------------------------------
 */

/* Adds a patch's activations, from its products with the centroids (which become distances), to the
 * features of its quadrant. */
static void activate(const tl_patch_means *p, const float *patch, float *product, float *out) {
  float square = 0, sum = 0;
  for (int64_t c = 0; c < p->d; c++) square += patch[c] * patch[c];
  for (int64_t k = 0; k < p->k; k++) {
    product[k] = sqrtf(fmaxf(square - 2 * product[k] + p->square[k], 0));
    sum += product[k];
  }
  float mean = sum / (float)p->k;
  for (int64_t k = 0; k < p->k; k++) out[k] += fmaxf(mean - product[k], 0);
}

static void pool_one(void *arg, int64_t i, int worker) {
  (void)worker;
  const batch *b = arg;
  const tl_patch_means *p = b->p;
  int64_t half = (p->across + 1) / 2, row = i * p->across * p->across;
  float *out = b->out + ((int64_t)b->at + i) * QUADRANTS * p->k;
  memset(out, 0, (size_t)(QUADRANTS * p->k) * sizeof *out);
  for (int64_t y = 0; y < p->across; y++)
    for (int64_t x = 0; x < p->across; x++, row++)
      activate(p, p->patch + row * p->d, p->product + row * p->k,
               out + (2 * (y >= half) + (x >= half)) * p->k);
}

tl_status tl_patch_means_run(tl_patch_means *p, const tl_image_data *d, const size_t *index,
                             size_t n, float *out, tl_err *err) {
  batch b = {.p = p, .d = d, .index = index, .out = out};
  for (; b.at < n; b.at += (size_t)p->batch) {
    int64_t m = (int64_t)(n - b.at) < p->batch ? (int64_t)(n - b.at) : p->batch;
    tl_parallel(p->ctx->pool, m, load_all_patches, &b);
    TL_TRY(first_error(p, m, err));
    int64_t rows = m * p->across * p->across;
    tl_gemm_args w = whitening(p, rows, p->raw, p->patch), c = nearness(p, rows, p->patch);
    tl_gemm(p->ctx, &w);
    tl_gemm(p->ctx, &c);
    tl_parallel(p->ctx->pool, m, pool_one, &b);
  }
  return TL_OK;
}
