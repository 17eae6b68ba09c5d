/* Functions on vf (vec.h). Coefficients: interpolation at Chebyshev nodes, in 50 digits. */
#ifndef TL_KERNELS_VEC_MATH_H
#define TL_KERNELS_VEC_MATH_H

#include "kernels/vec.h"

/* e^x with relative error below 2e-7; subnormal results, 0, inf and NaN as expf gives them.
 * x = n log 2 + r, |r| <= log(2)/2; e^r = 1 + r + r^2 P(r), error of P 1.0e-8. */
VEC_INLINE vf vf_exp(vf x) {
  x = vf_min(vf_all(89.0f), vf_max(vf_all(-105.0f), x));
  vf n = vf_round(x * 1.44269504088896341f);
  vf r = x - n * 0.693145751953125f - n * 1.42860682031e-6f;
  vf p = vf_all(0.00139267121f);
  p = p * r + 0.008363188405f;
  p = p * r + 0.04166654989f;
  p = p * r + 0.1666657693f;
  p = p * r + 0.5f;
  return vf_scale2(p * (r * r) + r + 1.0f, n);
}

VEC_INLINE vf vf_sigmoid(vf x) {
  return 1.0f / (1.0f + vf_exp(-x));
}

/* |x| < 0.625: x + x^3 P(x^2), error of P 1.7e-8; else 1 - 2/(e^(2|x|) + 1) with x's sign. */
VEC_INLINE vf vf_tanh(vf x) {
  vf a = vf_abs(x), u = x * x;
  vf p = vf_all(-0.00609671416f);
  p = p * u + 0.02099717899f;
  p = p * u - 0.05385090958f;
  p = p * u + 0.1333276974f;
  p = p * u - 0.3333332894f;
  vf large = vf_with_sign(1.0f - 2.0f / (vf_exp(2.0f * a) + 1.0f), x);
  return vf_where_lt(a, vf_all(0.625f), x + x * u * p, large);
}

/* Phi(x), the normal distribution function, and phi(x), its density. The tail beyond |x| is
 * exp(-x^2/2) erfcx(z) / 2, z = |x|/sqrt 2; erfcx(z) = t P(t), t = 1/(1 + 0.3 z), relative error
 * 2.5e-8 for z <= 10; beyond that exp is 0. Absolute error of Phi below 1.5e-7. */
VEC_INLINE vf vf_normal_cdf(vf x, vf *density) {
  vf t = 1.0f / (1.0f + 0.212132034f * vf_abs(x));
  vf p = vf_all(-0.1307708773f);
  p = p * t + 0.4919342706f;
  p = p * t - 0.5261516628f;
  p = p * t + 0.5645142422f;
  p = p * t - 0.1069833625f;
  p = p * t + 0.2205391691f;
  p = p * t + 0.1467960222f;
  p = p * t + 0.1709491199f;
  p = p * t + 0.1691730577f;
  vf e = vf_exp(-0.5f * x * x), tail = 0.5f * e * t * p;
  *density = 0.39894228040143268f * e;
  return vf_where_lt(x, vf_all(0.0f), tail, 1.0f - tail);
}

/* The words of Philox blocks first .. first + VL - 1: out[w] has word w of each. */
VEC_INLINE void vu_philox_blocks(uint64_t seed, uint32_t stream, uint32_t sub, uint64_t first,
                                 vu out[4]) {
  vu zero = {0};
  vu c0 = (uint32_t)first + vu_iota(), c2 = zero + stream, c3 = zero + sub;
  vu c1 = (uint32_t)(first >> 32) - (vu)(c0 < (zero + (uint32_t)first)); /* carry: true is -1 */
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < 10; round++) {
    vu hi0, lo0, hi1, lo1;
    vu_mul_wide(c0, 0xD2511F53u, &hi0, &lo0);
    vu_mul_wide(c2, 0xCD9E8D57u, &hi1, &lo1);
    c0 = hi1 ^ c1 ^ k0;
    c2 = hi0 ^ c3 ^ k1;
    c1 = lo1;
    c3 = lo0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* The same 4 VL words in element order. */
VEC_INLINE void vu_philox(uint64_t seed, uint32_t stream, uint32_t sub, uint64_t first,
                          uint32_t *words) {
  vu c[4];
  vu_philox_blocks(seed, stream, sub, first, c);
  vu_store_interleaved(words, c[0], c[1], c[2], c[3]);
}

#endif
