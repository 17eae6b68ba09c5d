/* The length of a capsule's vector s [n] brought below 1: v = |s| s / (1 + |s|^2), and its gradient
 * ds from dv; ds may be dv. */
#ifndef TL_OPS_SQUASH_H
#define TL_OPS_SQUASH_H

#include <math.h>
#include <stdint.h>

static inline void tl_squash_vector(const float *s, int64_t n, float *v) {
  float q = 0;
  for (int64_t k = 0; k < n; k++) q += s[k] * s[k];
  float f = sqrtf(q) / (1 + q);
  for (int64_t k = 0; k < n; k++) v[k] = f * s[k];
}

/* With q = |s|^2 and f = sqrt(q) / (1 + q): ds = f dv + 2 f'(q) (s . dv) s. */
static inline void tl_squash_vector_bwd(const float *s, const float *dv, int64_t n, float *ds) {
  float q = 0, dot = 0;
  for (int64_t k = 0; k < n; k++) {
    q += s[k] * s[k];
    dot += s[k] * dv[k];
  }
  float r = sqrtf(q), f = r / (1 + q);
  float g = r > 0 ? dot * (1 - q) / (r * (1 + q) * (1 + q)) : 0;
  for (int64_t k = 0; k < n; k++) ds[k] = f * dv[k] + g * s[k];
}

#endif
