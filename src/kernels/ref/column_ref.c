/* References of the kernels over columns. */
#include "kernels/ref/ref.h"

static void moments(tl_dtype dt, int64_t rows, int64_t d, const void *x, const float *at,
                    float *sum, float *sum_sq) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < d; j++) {
      float v = ref_get(dt, x, r * d + j) - at[j];
      sum[j] += v;
      sum_sq[j] += v * v;
    }
}

static float pre(tl_dtype dt, const tl_affine *f, const void *x, int64_t i, int64_t j) {
  float v = ref_get(dt, x, i) * f->scale[j] + f->shift[j];
  return f->residual ? v + ref_get(dt, f->residual, i) : v;
}

static float dpre(tl_dtype dt, const tl_affine *f, const void *x, const void *dy, int64_t i,
                  int64_t j) {
  return f->relu && !(pre(dt, f, x, i, j) > 0) ? 0 : ref_get(dt, dy, i);
}

static void affine(tl_dtype dt, int64_t rows, int64_t d, const tl_affine *f, const void *x,
                   void *y) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < d; j++) {
      float v = pre(dt, f, x, r * d + j, j);
      ref_set(dt, y, r * d + j, f->relu && v < 0 ? 0 : v);
    }
}

static void affine_sums(tl_dtype dt, int64_t rows, int64_t d, const tl_affine *f, const void *x,
                        const void *dy, const float *at, float *sum, float *sum_x) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < d; j++) {
      float g = dpre(dt, f, x, dy, r * d + j, j);
      sum[j] += g;
      sum_x[j] += g * (ref_get(dt, x, r * d + j) - at[j]);
    }
}

static void affine_bwd(tl_dtype dt, int64_t rows, int64_t d, const tl_affine *f, const void *x,
                       const void *dy, const float *a, const float *b, const float *c, void *dx,
                       bool dx_add, void *dres, bool dres_add) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < d; j++) {
      int64_t i = r * d + j;
      float g = dpre(dt, f, x, dy, i, j);
      if (dres) ref_put(dt, dres, i, g, dres_add);
      if (dx) ref_put(dt, dx, i, a[j] * g + (b[j] * ref_get(dt, x, i) + c[j]), dx_add);
    }
}

static void max_of(tl_dtype dt, int n, int64_t d, const void *const *x, const uint8_t *which,
                   void *y, uint8_t *place) {
  for (int64_t j = 0; j < d; j++)
    for (int t = 0; t < n; t++) {
      float v = ref_get(dt, x[t], j);
      if (t > 0 && !(v > ref_get(dt, y, j)) && !isnan(v)) continue;
      ref_set(dt, y, j, v);
      place[j] = which[t];
    }
}

static void max_of_bwd(tl_dtype dt, int n, int64_t d, void *const *dx, const uint8_t *which,
                       const uint8_t *place, const void *dy) {
  for (int64_t j = 0; j < d; j++)
    for (int t = 0; t < n; t++)
      if (place[j] == which[t]) ref_put(dt, dx[t], j, ref_get(dt, dy, j), true);
}

void tl_ref_init_column(tl_row_kernels *k) {
  k->max_of = max_of;
  k->max_of_bwd = max_of_bwd;
  k->moments = moments;
  k->affine = affine;
  k->affine_sums = affine_sums;
  k->affine_bwd = affine_bwd;
}
