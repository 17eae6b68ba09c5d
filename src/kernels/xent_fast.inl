/* Cross-entropy over vec.h. A row of logits is read twice: once for its maximum and sum of
 * exponentials, block by block through the first-level cache, and once to write the gradient. */
#include <math.h>
#include "kernels/vec_math.h"

enum { XENT_BLOCK = 2048 }; /* 8 KiB of logits */

typedef struct xent_stats {
  float max, lse;
  double sum; /* of the logits; only with smoothing */
} xent_stats;

static float block_sum(int64_t n, const float *l) {
  vf s[4] = {vf_all(0), vf_all(0), vf_all(0), vf_all(0)};
  VEC_EACH4(n, i, m, u, { s[u] += vf_load(l + i, m); });
  return vf_sum4(s);
}

static xent_stats xent_row_stats(int64_t v, const float *l, bool smoothing) {
  xent_stats st = {-INFINITY, 0, 0};
  double z = 0;
  for (int64_t i = 0; i < v; i += XENT_BLOCK) {
    int64_t n = v - i < XENT_BLOCK ? v - i : XENT_BLOCK;
    float top = row_max(TL_F32, n, l + i);
    if (top > st.max) {
      z *= exp((double)st.max - top);
      st.max = top;
    }
    z += row_sum_exp(TL_F32, n, l + i, st.max == -INFINITY ? 0 : st.max);
    if (smoothing) st.sum += block_sum(n, l + i);
  }
  st.lse = st.max + (float)log(z);
  return st;
}

/* argmax is the first of equal maxima; no row with NaN is correct. */
static bool xent_is_correct(const float *l, int64_t t, const xent_stats *st) {
  if (isnan(st->lse) || l[t] != st->max) return false;
  return t == 0 || row_max(TL_F32, t, l) < st->max;
}

/* dlogits = a exp(l - lse) - b everywhere, less `at_target` at t. */
VEC_INLINE void xent_grad(tl_dtype dt, int64_t v, const float *l, int64_t t, float lse, float a,
                          float b, float at_target, void *dl) {
  VEC_EACH(v, i, m, { vf_set(dt, dl, i, m, a * vf_exp(vf_load(l + i, m) - lse) - b); });
  vf_set(dt, dl, t, 1, a * vf_exp(vf_load(l + t, 1) - lse) - b - at_target);
}

VEC_INLINE void xent_body(tl_dtype dt, int64_t rows, int64_t v, const float *logits, int64_t ld,
                          const int32_t *target, float smoothing, float z_coef, float grad_scale,
                          void *dlogits, int64_t ldd, float *loss, float *zloss, int32_t *correct) {
  for (int64_t r = 0; r < rows; r++) {
    const float *l = logits + r * ld;
    int64_t t = target[r];
    void *dl = grad_scale != 0 ? vec_at_mut(dt, dlogits, r * ldd) : NULL;
    if (t < 0) {
      loss[r] = 0;
      if (zloss) zloss[r] = 0;
      if (correct) correct[r] = 0;
      if (dl) memset(dl, 0, (size_t)v * (dt == TL_BF16 ? 2 : 4));
      continue;
    }
    xent_stats st = xent_row_stats(v, l, smoothing != 0);
    float spread = smoothing / (float)v;
    loss[r] = st.lse - (1.0f - smoothing) * l[t] - (smoothing != 0 ? spread * (float)st.sum : 0);
    if (zloss) zloss[r] = z_coef * st.lse * st.lse;
    if (correct) correct[r] = xent_is_correct(l, t, &st);
    if (dl)
      xent_grad(dt, v, l, t, st.lse, grad_scale * (1.0f + 2.0f * z_coef * st.lse),
                grad_scale * spread, grad_scale * (1.0f - smoothing), dl);
  }
}

static void xent_fast(tl_dtype dt, int64_t rows, int64_t v, const float *logits, int64_t ld,
                      const int32_t *target, float smoothing, float z_coef, float grad_scale,
                      void *dlogits, int64_t ldd, float *loss, float *zloss, int32_t *correct) {
  VEC_BY_DTYPE(dt, xent_body, rows, v, logits, ld, target, smoothing, z_coef, grad_scale, dlogits,
               ldd, loss, zloss, correct);
}
