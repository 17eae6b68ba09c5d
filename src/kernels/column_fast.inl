/* The kernels over columns, over vec.h. Sums of a few columns stay in registers while the rows go
 * by; what a column gives does not depend on the columns beside it. */
#include "kernels/vec.h"

/* Runs `call` for columns j .. of a matrix of d, with `vectors` (4, then 1) of m lanes each. */
#define VEC_COLUMNS(d, j, vectors, m, ...)                                                         \
  do {                                                                                             \
    int64_t first = 0;                                                                             \
    for (; first + 4 * VL <= (d); first += 4 * VL) {                                               \
      enum { vectors = 4, m = VL };                                                                \
      const int64_t j = first;                                                                     \
      __VA_ARGS__                                                                                  \
    }                                                                                              \
    VEC_EACH((d)-first, left, m, {                                                                 \
      enum { vectors = 1 };                                                                        \
      const int64_t j = first + left;                                                              \
      __VA_ARGS__                                                                                  \
    });                                                                                            \
  } while (0)

VEC_INLINE void moments_columns(tl_dtype dt, int64_t rows, int64_t d, const void *x, int64_t j,
                                int vectors, int m, const float *at, float *sum, float *sum_sq) {
  vf s[4], q[4], c[4];
  for (int u = 0; u < vectors; u++) {
    s[u] = vf_load(sum + j + u * VL, m);
    q[u] = vf_load(sum_sq + j + u * VL, m);
    c[u] = vf_load(at + j + u * VL, m);
  }
  for (int64_t r = 0; r < rows; r++)
    for (int u = 0; u < vectors; u++) {
      vf v = vf_get(dt, x, r * d + j + u * VL, m) - c[u];
      s[u] += v;
      q[u] = vf_fma(v, v, q[u]);
    }
  for (int u = 0; u < vectors; u++) {
    vf_store(sum + j + u * VL, m, s[u]);
    vf_store(sum_sq + j + u * VL, m, q[u]);
  }
}

VEC_INLINE void moments_body(tl_dtype dt, int64_t rows, int64_t d, const void *x, const float *at,
                             float *sum, float *sum_sq) {
  VEC_COLUMNS(d, j, vectors, m,
              { moments_columns(dt, rows, d, x, j, vectors, m, at, sum, sum_sq); });
}

static void moments_fast(tl_dtype dt, int64_t rows, int64_t d, const void *x, const float *at,
                         float *sum, float *sum_sq) {
  VEC_BY_DTYPE(dt, moments_body, rows, d, x, at, sum, sum_sq);
}

/* Element i, of column j. */
VEC_INLINE vf affine_pre(tl_dtype dt, const tl_affine *f, const void *x, int64_t i, int64_t j,
                         int m) {
  vf v = vf_fma(vf_get(dt, x, i, m), vf_load(f->scale + j, m), vf_load(f->shift + j, m));
  return f->residual ? v + vf_get(dt, f->residual, i, m) : v;
}

VEC_INLINE vf affine_dpre(tl_dtype dt, const tl_affine *f, const void *x, const void *dy, int64_t i,
                          int64_t j, int m) {
  vf g = vf_get(dt, dy, i, m);
  return f->relu ? vf_where_lt(vf_all(0), affine_pre(dt, f, x, i, j, m), g, vf_all(0)) : g;
}

VEC_INLINE void affine_body(tl_dtype dt, int64_t rows, int64_t d, const tl_affine *f, const void *x,
                            void *y) {
  for (int64_t r = 0; r < rows; r++)
    VEC_EACH(d, j, m, {
      vf v = affine_pre(dt, f, x, r * d + j, j, m);
      vf_set(dt, y, r * d + j, m, f->relu ? vf_max(vf_all(0), v) : v);
    });
}

static void affine_fast(tl_dtype dt, int64_t rows, int64_t d, const tl_affine *f, const void *x,
                        void *y) {
  VEC_BY_DTYPE(dt, affine_body, rows, d, f, x, y);
}

VEC_INLINE void affine_sums_columns(tl_dtype dt, int64_t rows, int64_t d, const tl_affine *f,
                                    const void *x, const void *dy, int64_t j, int vectors, int m,
                                    const float *at, float *sum, float *sum_x) {
  vf s[4], q[4], c[4];
  for (int u = 0; u < vectors; u++) {
    s[u] = vf_load(sum + j + u * VL, m);
    q[u] = vf_load(sum_x + j + u * VL, m);
    c[u] = vf_load(at + j + u * VL, m);
  }
  for (int64_t r = 0; r < rows; r++)
    for (int u = 0; u < vectors; u++) {
      int64_t col = j + u * VL, i = r * d + col;
      vf g = affine_dpre(dt, f, x, dy, i, col, m);
      s[u] += g;
      q[u] = vf_fma(g, vf_get(dt, x, i, m) - c[u], q[u]);
    }
  for (int u = 0; u < vectors; u++) {
    vf_store(sum + j + u * VL, m, s[u]);
    vf_store(sum_x + j + u * VL, m, q[u]);
  }
}

VEC_INLINE void affine_sums_body(tl_dtype dt, int64_t rows, int64_t d, const tl_affine *f,
                                 const void *x, const void *dy, const float *at, float *sum,
                                 float *sum_x) {
  VEC_COLUMNS(d, j, vectors, m,
              { affine_sums_columns(dt, rows, d, f, x, dy, j, vectors, m, at, sum, sum_x); });
}

static void affine_sums_fast(tl_dtype dt, int64_t rows, int64_t d, const tl_affine *f,
                             const void *x, const void *dy, const float *at, float *sum,
                             float *sum_x) {
  VEC_BY_DTYPE(dt, affine_sums_body, rows, d, f, x, dy, at, sum, sum_x);
}

VEC_INLINE void affine_bwd_body(tl_dtype dt, int64_t rows, int64_t d, const tl_affine *f,
                                const void *x, const void *dy, const float *a, const float *b,
                                const float *c, void *dx, bool dx_add, void *dres, bool dres_add) {
  for (int64_t r = 0; r < rows; r++)
    VEC_EACH(d, j, m, {
      int64_t i = r * d + j;
      vf g = affine_dpre(dt, f, x, dy, i, j, m);
      if (dres) vf_put(dt, dres, i, m, g, dres_add);
      vf v = vf_fma(vf_get(dt, x, i, m), vf_load(b + j, m), vf_load(c + j, m));
      if (dx) vf_put(dt, dx, i, m, vf_fma(g, vf_load(a + j, m), v), dx_add);
    });
}

static void affine_bwd_fast(tl_dtype dt, int64_t rows, int64_t d, const tl_affine *f, const void *x,
                            const void *dy, const float *a, const float *b, const float *c,
                            void *dx, bool dx_add, void *dres, bool dres_add) {
  VEC_BY_DTYPE(dt, affine_bwd_body, rows, d, f, x, dy, a, b, c, dx, dx_add, dres, dres_add);
}

VEC_INLINE void max_of_body(tl_dtype dt, int n, int64_t d, const void *const *x,
                            const uint8_t *which, void *y, uint8_t *place) {
  VEC_EACH(d, j, m, {
    vf best = vf_get(dt, x[0], j, m);
    vu at = (vu){0} + which[0];
    for (int t = 1; t < n; t++) {
      vf v = vf_get(dt, x[t], j, m);
      vu take = (vu)((v > best) | (v != v));
      best = (vf)(((vu)v & take) | ((vu)best & ~take));
      at = (take & which[t]) | (at & ~take);
    }
    vf_set(dt, y, j, m, best);
    vu_to_bytes(place + j, m, at);
  });
}

static void max_of_fast(tl_dtype dt, int n, int64_t d, const void *const *x, const uint8_t *which,
                        void *y, uint8_t *place) {
  VEC_BY_DTYPE(dt, max_of_body, n, d, x, which, y, place);
}

VEC_INLINE void max_of_bwd_body(tl_dtype dt, int n, int64_t d, void *const *dx,
                                const uint8_t *which, const uint8_t *place, const void *dy) {
  VEC_EACH(d, j, m, {
    vu at = vu_from_bytes(place + j, m), g = (vu)vf_get(dt, dy, j, m);
    for (int t = 0; t < n; t++) vf_put(dt, dx[t], j, m, (vf)(g & (vu)(at == which[t])), true);
  });
}

static void max_of_bwd_fast(tl_dtype dt, int n, int64_t d, void *const *dx, const uint8_t *which,
                            const uint8_t *place, const void *dy) {
  VEC_BY_DTYPE(dt, max_of_bwd_body, n, d, dx, which, place, dy);
}

static void init_column(tl_row_kernels *k) {
  k->max_of = max_of_fast;
  k->max_of_bwd = max_of_bwd_fast;
  k->moments = moments_fast;
  k->affine = affine_fast;
  k->affine_sums = affine_sums_fast;
  k->affine_bwd = affine_bwd_fast;
}
