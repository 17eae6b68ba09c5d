#include "optim/muon.h"

#include <math.h>
#include <stdlib.h>
#include "base/arena.h"
#include "kernels/gemm.h"

/* Elements per task of element-wise work: a multiple of sum_sq's blocks. */
enum { CHUNK = 32768, NS_STEPS = 5, BLOCK = 256 };
/* Of symmetric products: rows that are computed at a time, and the side of a mirrored square. */
enum { BAND = 192, SQUARE = 32 };

struct tl_muon {
  tl_ctx *ctx;
  tl_dtype dt;
  void *slab;
  size_t bytes;
  float *update;   /* rows x cols */
  void *x[2];      /* rows x cols, of dt */
  void *gram, *b;  /* short side squared, of dt */
  double *partial; /* per chunk */
  void *work;      /* of the products */
  const tl_muon_args *a;
  float inverse_norm, scale;
};

static int64_t min64(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static int64_t n_chunks(int64_t n) {
  return (n + CHUNK - 1) / CHUNK;
}

/* The three products of an iteration on X [rows, cols], with the short side's Gram matrix G:
 * 0: G = X X^T (wide) or X^T X (tall); 1: B += c G G; 2: Y += B X (wide) or X B (tall). */
static tl_gemm_args product(const tl_muon *u, int which, int64_t rows, int64_t cols, const void *x,
                            void *y) {
  bool tall = rows > cols;
  int64_t s = min64(rows, cols);
  tl_gemm_args p = {.dt = u->dt, .c_dt = u->dt, .work = u->work};
  if (which == 0) {
    p.M = p.N = s;
    p.K = tall ? rows : cols;
    p.a = p.b = x;
    p.lda = p.ldb = cols;
    p.a_trans = tall;
    p.b_trans = !tall;
    p.c = u->gram;
    p.ldc = s;
  } else if (which == 1) {
    p.M = p.N = p.K = s;
    p.a = p.b = u->gram;
    p.lda = p.ldb = p.ldc = s;
    p.c = u->b;
    p.alpha = 2.0315f;
    p.add = true;
  } else {
    p.M = rows;
    p.N = cols;
    p.K = s;
    p.a = tall ? x : u->b;
    p.lda = tall ? cols : s;
    p.b = tall ? u->b : x;
    p.ldb = tall ? s : cols;
    p.c = y;
    p.ldc = cols;
    p.add = true;
  }
  return p;
}

static void *carve(char *base, size_t *used, size_t bytes) {
  void *p = base ? base + *used : NULL;
  *used += (bytes + 63) / 64 * 64;
  return p;
}

/* Lays the scratch out from base; returns its size, for which base may be NULL. */
static size_t lay_out(tl_muon *u, char *base, int64_t n, int64_t side, size_t work) {
  size_t used = 0, size = tl_dtype_size(u->dt);
  u->update = carve(base, &used, (size_t)n * sizeof(float));
  u->x[0] = carve(base, &used, (size_t)n * size);
  u->x[1] = carve(base, &used, (size_t)n * size);
  u->gram = carve(base, &used, (size_t)(side * side) * size);
  u->b = carve(base, &used, (size_t)(side * side) * size);
  u->partial = carve(base, &used, (size_t)n_chunks(n) * sizeof(double));
  u->work = carve(base, &used, work);
  return used;
}

tl_status tl_muon_new(tl_ctx *ctx, int n, const int64_t (*shapes)[2], tl_muon **out, tl_err *err) {
  tl_muon *u = calloc(1, sizeof *u);
  if (!u) return tl_fail(err, TL_NOMEM, "muon: out of memory");
  u->ctx = ctx;
  u->dt = tl_kernels_dtype(ctx->k, "auto");
  int64_t elements = 0, side = 0;
  size_t work = 0;
  for (int i = 0; i < n; i++) {
    int64_t rows = shapes[i][0], cols = shapes[i][1];
    if (rows * cols > elements) elements = rows * cols;
    if (min64(rows, cols) > side) side = min64(rows, cols);
    for (int which = 0; which < 3; which++) {
      tl_gemm_args p = product(u, which, rows, cols, NULL, NULL);
      size_t bytes = tl_gemm_work_bytes(ctx, &p);
      if (bytes > work) work = bytes;
    }
  }
  u->bytes = lay_out(u, NULL, elements, side, work);
  u->slab = tl_slab_alloc(u->bytes);
  if (!u->slab) {
    tl_status s =
        tl_fail(err, TL_NOMEM, "muon: out of memory for %zu MiB of scratch", u->bytes >> 20);
    free(u);
    return s;
  }
  lay_out(u, u->slab, elements, side, work);
  *out = u;
  return TL_OK;
}

void tl_muon_free(tl_muon *u) {
  if (!u) return;
  tl_slab_free(u->slab, u->bytes);
  free(u);
}

size_t tl_muon_bytes(const tl_muon *u) {
  return u->bytes;
}

double tl_muon_flops(int64_t rows, int64_t cols) {
  double s = (double)min64(rows, cols), n = (double)rows * (double)cols;
  return NS_STEPS * s * (3 * n + s * s); /* the symmetric two by one triangle */
}

static void *element(tl_dtype dt, void *p, int64_t i) {
  return (char *)p + i * (int64_t)tl_dtype_size(dt);
}

static int64_t chunk_size(const tl_muon *u, int64_t begin) {
  return min64(CHUNK, u->a->rows * u->a->cols - begin);
}

static void momentum_task(void *arg, int64_t task, int worker) {
  (void)worker;
  tl_muon *u = arg;
  const tl_muon_args *a = u->a;
  int64_t begin = task * CHUNK, n = chunk_size(u, begin);
  const float *g = a->g + begin;
  float *m = a->m + begin, *up = u->update + begin, mu = a->momentum, scale = a->grad_scale;
  for (int64_t i = 0; i < n; i++) {
    float gi = g[i] * scale;
    m[i] = mu * m[i] + gi;
    up[i] = gi + mu * m[i];
  }
  u->partial[task] = u->ctx->k->row.sum_sq(n, up);
}

static void normalise_task(void *arg, int64_t task, int worker) {
  (void)worker;
  tl_muon *u = arg;
  const tl_row_kernels *k = &u->ctx->k->row;
  int64_t begin = task * CHUNK, n = chunk_size(u, begin);
  float *up = u->update + begin;
  for (int64_t i = 0; i < n; i++) up[i] *= u->inverse_norm;
  k->convert(TL_F32, up, u->dt, element(u->dt, u->x[0], begin), n);
}

typedef struct scale_job {
  const tl_muon *u;
  float alpha;
  void *x, *y;
  int64_t n;
} scale_job;

static void scale_task(void *arg, int64_t task, int worker) {
  (void)worker;
  const scale_job *j = arg;
  int64_t begin = task * CHUNK;
  tl_dtype dt = j->u->dt;
  j->u->ctx->k->row.scale(dt, min64(CHUNK, j->n - begin), j->alpha, element(dt, j->x, begin),
                          element(dt, j->y, begin), false);
}

/* y = alpha x */
static void scaled(tl_muon *u, int64_t n, float alpha, void *x, void *y) {
  tl_parallel(u->ctx->pool, n_chunks(n), scale_task, &(scale_job){u, alpha, x, y, n});
}

static void apply_task(void *arg, int64_t task, int worker) {
  (void)worker;
  tl_muon *u = arg;
  const tl_muon_args *a = u->a;
  int64_t begin = task * CHUNK, n = chunk_size(u, begin);
  float block[BLOCK], keep = 1 - a->lr * a->weight_decay, rate = a->lr * u->scale;
  for (int64_t at = 0; at < n; at += BLOCK) {
    int64_t m = min64(BLOCK, n - at);
    float *p = a->p + begin + at;
    u->ctx->k->row.convert(u->dt, element(u->dt, u->x[0], begin + at), TL_F32, block, m);
    for (int64_t i = 0; i < m; i++) p[i] = keep * p[i] - rate * block[i];
  }
}

typedef struct mirror_job {
  tl_dtype dt;
  void *c;
  int64_t side;
} mirror_job;

/* Copies columns [i0, i1) of a square below the diagonal to rows [i0, i1) above it. */
static void mirror_square(const mirror_job *j, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  int64_t s = j->side;
  for (int64_t i = i0; i < i1; i++) {
    int64_t from = j0 > i ? j0 : i + 1;
    if (j->dt == TL_BF16) {
      tl_bf16 *c = j->c;
      for (int64_t k = from; k < j1; k++) c[i * s + k] = c[k * s + i];
    } else {
      float *c = j->c;
      for (int64_t k = from; k < j1; k++) c[i * s + k] = c[k * s + i];
    }
  }
}

static void mirror_task(void *arg, int64_t task, int worker) {
  (void)worker;
  const mirror_job *j = arg;
  int64_t i0 = task * SQUARE, i1 = min64(i0 + SQUARE, j->side);
  for (int64_t j0 = i0; j0 < j->side; j0 += SQUARE)
    mirror_square(j, i0, i1, j0, min64(j0 + SQUARE, j->side));
}

/* Products 0 and 1, whose results are symmetric: each band of rows up to the diagonal, then the
 * rest is mirrored. */
static void symmetric(tl_muon *u, int which, int64_t rows, int64_t cols) {
  tl_gemm_args p = product(u, which, rows, cols, u->x[0], NULL);
  int64_t side = p.M;
  tl_gemm_pack(u->ctx, &(tl_gemm_pack_args){.dt = p.dt,
                                            .K = p.K,
                                            .N = side,
                                            .src = p.b,
                                            .src_dt = p.dt,
                                            .ld = p.ldb,
                                            .trans = p.b_trans,
                                            .rows = p.K,
                                            .cols = side,
                                            .packed = u->work});
  for (int64_t i = 0; i < side; i += BAND) {
    tl_gemm_args band = p;
    band.b_packed = u->work;
    band.M = min64(BAND, side - i);
    band.N = i + band.M;
    band.a = (const char *)p.a + (p.a_trans ? i : i * p.lda) * (int64_t)tl_dtype_size(p.dt);
    band.c = element(p.dt, p.c, i * p.ldc);
    tl_gemm(u->ctx, &band);
  }
  mirror_job j = {p.dt, p.c, side};
  tl_parallel(u->ctx->pool, (side + SQUARE - 1) / SQUARE, mirror_task, &j);
}

/* x[0] -> its orthogonal factor, nearly. */
static void newton_schulz(tl_muon *u, int64_t rows, int64_t cols) {
  int64_t side = min64(rows, cols);
  for (int step = 0; step < NS_STEPS; step++) {
    symmetric(u, 0, rows, cols);
    scaled(u, side * side, -4.7750f, u->gram, u->b);
    symmetric(u, 1, rows, cols);
    scaled(u, rows * cols, 3.4445f, u->x[0], u->x[1]);
    tl_gemm_args p = product(u, 2, rows, cols, u->x[0], u->x[1]);
    tl_gemm(u->ctx, &p);
    void *swap = u->x[0];
    u->x[0] = u->x[1];
    u->x[1] = swap;
  }
}

void tl_muon_update(tl_muon *u, const tl_muon_args *a) {
  int64_t tasks = n_chunks(a->rows * a->cols);
  double in = (double)(a->conv1d ? a->rows : a->cols),
         out = (double)(a->conv1d ? a->cols : a->rows);
  double sum = 0;
  u->a = a;
  u->scale = (float)sqrt(fmax(1, out / in));
  tl_parallel(u->ctx->pool, tasks, momentum_task, u);
  for (int64_t i = 0; i < tasks; i++) sum += u->partial[i];
  u->inverse_norm = (float)(1 / (sqrt(sum) + 1e-20));
  tl_parallel(u->ctx->pool, tasks, normalise_task, u);
  newton_schulz(u, a->rows, a->cols);
  tl_parallel(u->ctx->pool, tasks, apply_task, u);
}
