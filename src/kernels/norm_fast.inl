/* Normalisations and softmax over vec.h: each row is read from the first-level cache two or three
 * times. Sums are f32 in 4 VL lanes, each of d / (4 VL) terms. */
#include <math.h>
#include "kernels/vec_math.h"

VEC_INLINE float row_mean(tl_dtype dt, int64_t d, const void *x) {
  vf s[4] = {vf_all(0), vf_all(0), vf_all(0), vf_all(0)};
  VEC_EACH4(d, i, m, u, { s[u] += vf_get(dt, x, i, m); });
  return vf_sum4(s) / (float)d;
}

/* mean((x - c)^2) */
VEC_INLINE float row_mean_sq(tl_dtype dt, int64_t d, const void *x, float c) {
  vf s[4] = {vf_all(0), vf_all(0), vf_all(0), vf_all(0)};
  VEC_EACH4(d, i, m, u, {
    vf v = vf_keep(vf_get(dt, x, i, m) - c, m, vf_all(0));
    s[u] += v * v;
  });
  return vf_sum4(s) / (float)d;
}

VEC_INLINE void layer_norm_body(tl_dtype dt, int64_t rows, int64_t d, const void *x,
                                const float *gain, const float *bias, float eps, void *y,
                                float *mean, float *rstd) {
  for (int64_t r = 0; r < rows; r++) {
    const void *xr = vec_at(dt, x, r * d);
    void *yr = vec_at_mut(dt, y, r * d);
    float mu = row_mean(dt, d, xr), rs = 1.0f / sqrtf(row_mean_sq(dt, d, xr, mu) + eps);
    VEC_EACH(d, i, m, {
      vf xhat = (vf_get(dt, xr, i, m) - mu) * rs;
      vf_set(dt, yr, i, m, xhat * vf_param(gain, i, m, 1.0f) + vf_param(bias, i, m, 0.0f));
    });
    mean[r] = mu;
    rstd[r] = rs;
  }
}

static void layer_norm_fast(tl_dtype dt, int64_t rows, int64_t d, const void *x, const float *gain,
                            const float *bias, float eps, void *y, float *mean, float *rstd) {
  VEC_BY_DTYPE(dt, layer_norm_body, rows, d, x, gain, bias, eps, y, mean, rstd);
}

/* One row of either norm: with xhat = (x - mu) rs and g = dy gain, sets the means of g and of
 * g xhat, and adds dy xhat to dgain and dy to dbias. */
VEC_INLINE void norm_bwd_sums(tl_dtype dt, int64_t d, const void *x, const float *gain, float mu,
                              float rs, const void *dy, float *dgain, float *dbias, float *mean_g,
                              float *mean_gx) {
  vf sg[4] = {vf_all(0), vf_all(0), vf_all(0), vf_all(0)};
  vf sx[4] = {vf_all(0), vf_all(0), vf_all(0), vf_all(0)};
  VEC_EACH4(d, i, m, u, {
    vf xhat = (vf_get(dt, x, i, m) - mu) * rs;
    vf g = vf_get(dt, dy, i, m);
    if (dgain) vf_store(dgain + i, m, vf_load(dgain + i, m) + g * xhat);
    if (dbias) vf_store(dbias + i, m, vf_load(dbias + i, m) + g);
    g = g * vf_param(gain, i, m, 1.0f); /* 0 in the lanes past the end */
    sg[u] += g;
    sx[u] += g * xhat;
  });
  *mean_g = vf_sum4(sg) / (float)d;
  *mean_gx = vf_sum4(sx) / (float)d;
}

VEC_INLINE void norm_bwd_row(tl_dtype dt, int64_t d, const void *x, const float *gain, float mu,
                             float rs, float mean_g, float mean_gx, const void *dy, void *dx,
                             bool add) {
  VEC_EACH(d, i, m, {
    vf xhat = (vf_get(dt, x, i, m) - mu) * rs;
    vf g = vf_get(dt, dy, i, m) * vf_param(gain, i, m, 1.0f);
    vf_put(dt, dx, i, m, rs * (g - mean_g - xhat * mean_gx), add);
  });
}

VEC_INLINE void layer_norm_bwd_body(tl_dtype dt, int64_t rows, int64_t d, const void *x,
                                    const float *gain, const float *mean, const float *rstd,
                                    const void *dy, void *dx, bool add, float *dgain,
                                    float *dbias) {
  for (int64_t r = 0; r < rows; r++) {
    const void *xr = vec_at(dt, x, r * d), *dyr = vec_at(dt, dy, r * d);
    float mean_g, mean_gx;
    norm_bwd_sums(dt, d, xr, gain, mean[r], rstd[r], dyr, dgain, dbias, &mean_g, &mean_gx);
    if (!dx) continue;
    norm_bwd_row(dt, d, xr, gain, mean[r], rstd[r], mean_g, mean_gx, dyr, vec_at_mut(dt, dx, r * d),
                 add);
  }
}

static void layer_norm_bwd_fast(tl_dtype dt, int64_t rows, int64_t d, const void *x,
                                const float *gain, const float *mean, const float *rstd,
                                const void *dy, void *dx, bool add, float *dgain, float *dbias) {
  VEC_BY_DTYPE(dt, layer_norm_bwd_body, rows, d, x, gain, mean, rstd, dy, dx, add, dgain, dbias);
}

VEC_INLINE void rms_norm_body(tl_dtype dt, int64_t rows, int64_t d, const void *x, int64_t ldx,
                              const float *gain, float eps, void *y, int64_t ldy, float *rstd) {
  for (int64_t r = 0; r < rows; r++) {
    const void *xr = vec_at(dt, x, r * ldx);
    void *yr = vec_at_mut(dt, y, r * ldy);
    float rs = 1.0f / sqrtf(row_mean_sq(dt, d, xr, 0) + eps);
    VEC_EACH(d, i, m,
             { vf_set(dt, yr, i, m, vf_get(dt, xr, i, m) * rs * vf_param(gain, i, m, 1.0f)); });
    rstd[r] = rs;
  }
}

static void rms_norm_fast(tl_dtype dt, int64_t rows, int64_t d, const void *x, int64_t ldx,
                          const float *gain, float eps, void *y, int64_t ldy, float *rstd) {
  VEC_BY_DTYPE(dt, rms_norm_body, rows, d, x, ldx, gain, eps, y, ldy, rstd);
}

VEC_INLINE void rms_norm_bwd_body(tl_dtype dt, int64_t rows, int64_t d, const void *x, int64_t ldx,
                                  const float *gain, const float *rstd, const void *dy,
                                  int64_t lddy, void *dx, int64_t lddx, bool add, float *dgain) {
  for (int64_t r = 0; r < rows; r++) {
    const void *xr = vec_at(dt, x, r * ldx), *dyr = vec_at(dt, dy, r * lddy);
    float mean_g, mean_gx;
    norm_bwd_sums(dt, d, xr, gain, 0, rstd[r], dyr, dgain, NULL, &mean_g, &mean_gx);
    if (!dx) continue;
    norm_bwd_row(dt, d, xr, gain, 0, rstd[r], 0, mean_gx, dyr, vec_at_mut(dt, dx, r * lddx), add);
  }
}

static void rms_norm_bwd_fast(tl_dtype dt, int64_t rows, int64_t d, const void *x, int64_t ldx,
                              const float *gain, const float *rstd, const void *dy, int64_t lddy,
                              void *dx, int64_t lddx, bool add, float *dgain) {
  VEC_BY_DTYPE(dt, rms_norm_bwd_body, rows, d, x, ldx, gain, rstd, dy, lddy, dx, lddx, add, dgain);
}

VEC_INLINE float row_max(tl_dtype dt, int64_t d, const void *x) {
  const vf low = vf_all(-INFINITY);
  vf top[4] = {low, low, low, low};
  VEC_EACH4(d, i, m, u, { top[u] = vf_max(vf_keep(vf_get(dt, x, i, m), m, low), top[u]); });
  return vf_top(vf_max(vf_max(top[0], top[1]), vf_max(top[2], top[3])));
}

VEC_INLINE float row_sum_exp(tl_dtype dt, int64_t d, const void *x, float max) {
  vf s[4] = {vf_all(0), vf_all(0), vf_all(0), vf_all(0)};
  VEC_EACH4(d, i, m, u, { s[u] += vf_keep(vf_exp(vf_get(dt, x, i, m) - max), m, vf_all(0)); });
  return vf_sum4(s);
}

VEC_INLINE void softmax_body(tl_dtype dt, int64_t rows, int64_t d, const void *x, void *y) {
  for (int64_t r = 0; r < rows; r++) {
    const void *xr = vec_at(dt, x, r * d);
    void *yr = vec_at_mut(dt, y, r * d);
    float max = row_max(dt, d, xr), scale = 1.0f / row_sum_exp(dt, d, xr, max);
    VEC_EACH(d, i, m, { vf_set(dt, yr, i, m, vf_exp(vf_get(dt, xr, i, m) - max) * scale); });
  }
}

static void softmax_fast(tl_dtype dt, int64_t rows, int64_t d, const void *x, void *y) {
  VEC_BY_DTYPE(dt, softmax_body, rows, d, x, y);
}

VEC_INLINE void softmax_bwd_body(tl_dtype dt, int64_t rows, int64_t d, const void *y,
                                 const void *dy, void *dx, bool add) {
  for (int64_t r = 0; r < rows; r++) {
    const void *yr = vec_at(dt, y, r * d), *dyr = vec_at(dt, dy, r * d);
    void *dxr = vec_at_mut(dt, dx, r * d);
    vf s[4] = {vf_all(0), vf_all(0), vf_all(0), vf_all(0)};
    VEC_EACH4(d, i, m, u, { s[u] += vf_get(dt, yr, i, m) * vf_get(dt, dyr, i, m); });
    float dot = vf_sum4(s);
    VEC_EACH(d, i, m,
             { vf_put(dt, dxr, i, m, vf_get(dt, yr, i, m) * (vf_get(dt, dyr, i, m) - dot), add); });
  }
}

static void softmax_bwd_fast(tl_dtype dt, int64_t rows, int64_t d, const void *y, const void *dy,
                             void *dx, bool add) {
  VEC_BY_DTYPE(dt, softmax_bwd_body, rows, d, y, dy, dx, add);
}

static void init_norm(tl_row_kernels *k) {
  k->layer_norm = layer_norm_fast;
  k->layer_norm_bwd = layer_norm_bwd_fast;
  k->rms_norm = rms_norm_fast;
  k->rms_norm_bwd = rms_norm_bwd_fast;
  k->softmax = softmax_fast;
  k->softmax_bwd = softmax_bwd_fast;
}
