/* Lane operations of vec.h on AVX-512 (F, BW, VL, DQ): 16 lanes. */
#ifndef TL_KERNELS_VEC512_H
#define TL_KERNELS_VEC512_H

enum { VL = 16 };
typedef float vf __attribute__((vector_size(64)));
typedef uint32_t vu __attribute__((vector_size(64)));

VEC_INLINE __mmask16 vec_mask(int m) {
  return (__mmask16)((1u << m) - 1);
}

VEC_INLINE vf vf_all(float x) {
  return _mm512_set1_ps(x);
}

VEC_INLINE vf vf_first(vf v, int m, vf other) {
  return _mm512_mask_blend_ps(vec_mask(m), other, v);
}

VEC_INLINE vf vf_load(const float *p, int m) {
  return m == VL ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(vec_mask(m), p);
}

VEC_INLINE void vf_store(float *p, int m, vf v) {
  if (m == VL)
    _mm512_storeu_ps(p, v);
  else
    _mm512_mask_storeu_ps(p, vec_mask(m), v);
}

/* Past the caches; p is aligned to the register. */
VEC_INLINE void vf_stream(float *p, vf v) {
  _mm512_stream_ps(p, v);
}

VEC_INLINE vf vf_load_bf16(const tl_bf16 *p, int m) {
  __m256i half =
      m == VL ? _mm256_loadu_si256((const __m256i *)p) : _mm256_maskz_loadu_epi16(vec_mask(m), p);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* In integers: the AVX512-BF16 conversion flushes subnormals, which the reference keeps. Adds just
 * under half a unit, and one more where the kept part is odd; the result is the high halves. */
VEC_INLINE void vf_store_bf16(tl_bf16 *p, int m, vf v) {
  __m512i u = _mm512_castps_si512(v), up = _mm512_add_epi32(u, _mm512_set1_epi32(0x7fff));
  __mmask16 odd = _mm512_test_epi32_mask(u, _mm512_set1_epi32(0x10000));
  up = _mm512_mask_add_epi32(up, odd, up, _mm512_set1_epi32(1));
  up = _mm512_mask_or_epi32(up, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), u,
                            _mm512_set1_epi32(0x400000));
  const __m512i high = _mm512_set_epi64(0, 0, 0, 0, 0x001f001d001b0019, 0x0017001500130011,
                                        0x000f000d000b0009, 0x0007000500030001);
  __m256i half = _mm512_castsi512_si256(_mm512_permutexvar_epi16(high, up));
  if (m == VL)
    _mm256_storeu_si256((__m256i *)p, half);
  else
    _mm256_mask_storeu_epi16(p, vec_mask(m), half);
}

VEC_INLINE vf vf_fma(vf a, vf b, vf c) {
  return _mm512_fmadd_ps(a, b, c);
}

/* max and min give b where either is NaN. */
VEC_INLINE vf vf_max(vf a, vf b) {
  return _mm512_max_ps(a, b);
}

VEC_INLINE vf vf_min(vf a, vf b) {
  return _mm512_min_ps(a, b);
}

VEC_INLINE vf vf_sqrt(vf v) {
  return _mm512_sqrt_ps(v);
}

VEC_INLINE vf vf_abs(vf v) {
  return _mm512_abs_ps(v);
}

/* |v| with the sign of s. */
VEC_INLINE vf vf_with_sign(vf v, vf s) {
  __m512 sign = _mm512_set1_ps(-0.0f);
  return _mm512_or_ps(_mm512_andnot_ps(sign, v), _mm512_and_ps(sign, s));
}

VEC_INLINE vf vf_round(vf v) {
  return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* v 2^n for integral n; results may be subnormal or inf. */
VEC_INLINE vf vf_scale2(vf v, vf n) {
  return _mm512_scalef_ps(v, n);
}

/* a < b ? x : y; false where either is NaN. */
VEC_INLINE vf vf_where_lt(vf a, vf b, vf x, vf y) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}

VEC_INLINE float vf_sum(vf v) {
  __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

VEC_INLINE float vf_top(vf v) {
  return _mm512_reduce_max_ps(v);
}

VEC_INLINE vu vu_iota(void) {
  return (vu){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
}

/* Lanes out of bytes and back: their low bits. */
VEC_INLINE vu vu_from_bytes(const uint8_t *p, int m) {
  return (vu)_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(vec_mask(m), p));
}

VEC_INLINE void vu_to_bytes(uint8_t *p, int m, vu v) {
  _mm512_mask_cvtepi32_storeu_epi8(p, vec_mask(m), (__m512i)v);
}

/* The high and low words of the 64-bit products of lanes with k. */
VEC_INLINE void vu_mul_wide(vu a, uint32_t k, vu *hi, vu *lo) {
  __m512i x = (__m512i)a, kk = _mm512_set1_epi64(k);
  __m512i even = _mm512_mul_epu32(x, kk), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), kk);
  *hi = (vu)_mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
  *lo = (vu)_mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
}

/* out[4 l + w] = word w of lane l. */
VEC_INLINE void vu_store_interleaved(uint32_t *out, vu w0, vu w1, vu w2, vu w3) {
  __m512i a = _mm512_unpacklo_epi32((__m512i)w0, (__m512i)w1);
  __m512i b = _mm512_unpackhi_epi32((__m512i)w0, (__m512i)w1);
  __m512i c = _mm512_unpacklo_epi32((__m512i)w2, (__m512i)w3);
  __m512i d = _mm512_unpackhi_epi32((__m512i)w2, (__m512i)w3);
  /* e0 holds the words of lanes 0, 4, 8, 12; e1 of 1, 5, ...: transpose the quarters */
  __m512i e0 = _mm512_unpacklo_epi64(a, c), e1 = _mm512_unpackhi_epi64(a, c);
  __m512i e2 = _mm512_unpacklo_epi64(b, d), e3 = _mm512_unpackhi_epi64(b, d);
  __m512i f0 = _mm512_shuffle_i32x4(e0, e1, 0x44), f1 = _mm512_shuffle_i32x4(e2, e3, 0x44);
  __m512i f2 = _mm512_shuffle_i32x4(e0, e1, 0xEE), f3 = _mm512_shuffle_i32x4(e2, e3, 0xEE);
  _mm512_storeu_si512(out, _mm512_shuffle_i32x4(f0, f1, 0x88));
  _mm512_storeu_si512(out + 16, _mm512_shuffle_i32x4(f0, f1, 0xDD));
  _mm512_storeu_si512(out + 32, _mm512_shuffle_i32x4(f2, f3, 0x88));
  _mm512_storeu_si512(out + 48, _mm512_shuffle_i32x4(f2, f3, 0xDD));
}

/* v where word >= limit, else 0; words is VL unsigned integers in memory. */
VEC_INLINE vf vf_where_word_ge(const uint32_t *words, uint32_t limit, vf v) {
  __m512i w = _mm512_loadu_si512(words), lim = _mm512_set1_epi32((int)limit);
  return _mm512_maskz_mov_ps(_mm512_cmpge_epu32_mask(w, lim), v);
}

/* Adds the squares of 16 floats to 16 sums in f64. */
typedef struct vd16 {
  __m512d v[2];
} vd16;

VEC_INLINE void vd_add_squares(vd16 *s, const float *x) {
  for (int q = 0; q < 2; q++) {
    __m512d d = _mm512_cvtps_pd(_mm256_loadu_ps(x + 8 * q));
    s->v[q] = _mm512_fmadd_pd(d, d, s->v[q]);
  }
}

VEC_INLINE void vd_store(double out[16], const vd16 *s) {
  for (int q = 0; q < 2; q++) _mm512_storeu_pd(out + 8 * q, s->v[q]);
}

#endif
