/* Lane operations that only the attention kernels need, on top of vec.h. */
#ifndef TL_KERNELS_ATTN_LANES_H
#define TL_KERNELS_ATTN_LANES_H

#include "kernels/attn.h"
#include "kernels/vec.h"

/* vm is a choice per lane; NVT the number of vectors across a register tile of 6 rows. */
#ifdef __AVX512F__

enum { NVT = 4 };
typedef __mmask16 vm;

/* lo <= k < hi, unsigned */
VEC_INLINE vm vm_within(vu k, vu lo, vu hi) {
  vm above = _mm512_cmple_epu32_mask((__m512i)lo, (__m512i)k);
  return _mm512_mask_cmplt_epu32_mask(above, (__m512i)k, (__m512i)hi);
}

VEC_INLINE vm vm_reaches(vu x, vu limit) {
  return _mm512_cmpge_epu32_mask((__m512i)x, (__m512i)limit);
}

VEC_INLINE vf vf_pick(vm m, vf yes, vf no) {
  return _mm512_mask_blend_ps(m, no, yes);
}

VEC_INLINE bool vf_same(vf a, vf b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ) == 0;
}

/* p 2^n where x >= -126, else 0; NaN stays NaN. */
VEC_INLINE vf vf_scale2_normal(vf p, vf n, vf x) {
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, vf_all(-126), _CMP_NLT_UQ), p, n);
}

#else

enum { NVT = 2 };
typedef __m256 vm;

VEC_INLINE vm vm_reaches(vu x, vu limit) {
  __m256i top = _mm256_max_epu32((__m256i)x, (__m256i)limit);
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(top, (__m256i)x));
}

VEC_INLINE vm vm_within(vu k, vu lo, vu hi) {
  return _mm256_andnot_ps(vm_reaches(k, hi), vm_reaches(k, lo));
}

VEC_INLINE vf vf_pick(vm m, vf yes, vf no) {
  return _mm256_blendv_ps(no, yes, m);
}

VEC_INLINE bool vf_same(vf a, vf b) {
  return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ)) == 0;
}

VEC_INLINE vf vf_scale2_normal(vf p, vf n, vf x) {
  n = vf_min(vf_all(127), vf_max(vf_all(-127), n));
  __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  vf y = p * (vf)_mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
  return _mm256_and_ps(y, _mm256_cmp_ps(x, vf_all(-126), _CMP_NLT_UQ));
}

#endif

VEC_INLINE vu vu_all(uint32_t x) {
  return x - (vu){0};
}

VEC_INLINE vu vu_load(const uint32_t *p) {
  vu v;
  memcpy(&v, p, sizeof v);
  return v;
}

/* A word is one f32, or two bf16 (PAIR 2) that meet in a sum: acc + a b, of both. */
#if PAIR == 2

VEC_INLINE vf word_fma(vf a, vf b, vf acc) {
  return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
}

/* Words of (first, second) per lane. */
VEC_INLINE vf words_of(vf first, vf second) {
  __m512i lo = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(first));
  __m512i hi = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(second));
  return _mm512_castsi512_ps(_mm512_or_si512(lo, _mm512_slli_epi32(hi, 16)));
}

#else

VEC_INLINE vf word_fma(vf a, vf b, vf acc) {
  return vf_fma(a, b, acc);
}

#endif

/* 2^x, relative error about 2e-7; below 2^-126 the result is 0. The polynomial is the one of the
 * Cephes library's exp2f on [-1/2, 1/2]. */
VEC_INLINE vf vf_exp2(vf x) {
  vf n = vf_round(x), r = x - n, p = vf_all(1.535336188319500e-4f);
  p = vf_fma(p, r, vf_all(1.339887440266574e-3f));
  p = vf_fma(p, r, vf_all(9.618437357674640e-3f));
  p = vf_fma(p, r, vf_all(5.550332471162809e-2f));
  p = vf_fma(p, r, vf_all(2.402264791363012e-1f));
  p = vf_fma(p, r, vf_all(6.931472028550421e-1f));
  p = vf_fma(p, r, vf_all(1));
  return vf_scale2_normal(p, n, x);
}

/* The four words of the dropout mask's Philox blocks at VL positions (low and high halves). */
VEC_INLINE void vu_philox_lanes(const tl_dropout *d, vu lo, vu hi, vu out[4]) {
  vu c0 = lo, c1 = hi, c2 = vu_all(TL_STREAM_DROPOUT), c3 = vu_all(d->sub);
  uint32_t k0 = (uint32_t)d->seed, k1 = (uint32_t)(d->seed >> 32);
  for (int round = 0; round < 10; round++) {
    vu h0, l0, h1, l1;
    vu_mul_wide(c0, 0xD2511F53u, &h0, &l0);
    vu_mul_wide(c2, 0xCD9E8D57u, &h1, &l1);
    c0 = h1 ^ c1 ^ k0;
    c1 = l1;
    c2 = h0 ^ c3 ^ k1;
    c3 = l0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* dst[c][r] = src[r][c] of 8 x 8 floats. */
VEC_INLINE void transpose8(const float *src, int64_t lds, float *dst, int64_t ldd) {
  __m256 r[8]; /* r[i], i < 4: rows i and i + 4 of columns 0..3; r[4 + i]: of columns 4..7 */
  for (int i = 0; i < 4; i++) {
    const float *p = src + i * lds, *q = p + 4 * lds;
    r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(q), 1);
    r[i + 4] =
        _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p + 4)), _mm_loadu_ps(q + 4), 1);
  }
  for (int i = 0; i < 8; i += 4, dst += 4 * ldd) {
    __m256 a = _mm256_unpacklo_ps(r[i], r[i + 1]), b = _mm256_unpackhi_ps(r[i], r[i + 1]);
    __m256 c = _mm256_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
    _mm256_storeu_ps(dst, _mm256_shuffle_ps(a, c, 0x44));
    _mm256_storeu_ps(dst + ldd, _mm256_shuffle_ps(a, c, 0xee));
    _mm256_storeu_ps(dst + 2 * ldd, _mm256_shuffle_ps(b, d, 0x44));
    _mm256_storeu_ps(dst + 3 * ldd, _mm256_shuffle_ps(b, d, 0xee));
  }
}

#endif
