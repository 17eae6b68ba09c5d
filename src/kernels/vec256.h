/* Lane operations of vec.h on AVX2 and FMA: 8 lanes. */
#ifndef TL_KERNELS_VEC256_H
#define TL_KERNELS_VEC256_H

enum { VL = 8 };
typedef float vf __attribute__((vector_size(32)));
typedef uint32_t vu __attribute__((vector_size(32)));

VEC_INLINE __m256i vec_mask(int m) {
  static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return _mm256_loadu_si256((const __m256i *)(ones + 8 - m));
}

VEC_INLINE vf vf_all(float x) {
  return _mm256_set1_ps(x);
}

VEC_INLINE vf vf_first(vf v, int m, vf other) {
  return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(vec_mask(m)));
}

VEC_INLINE vf vf_load(const float *p, int m) {
  return m == VL ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, vec_mask(m));
}

VEC_INLINE void vf_store(float *p, int m, vf v) {
  if (m == VL)
    _mm256_storeu_ps(p, v);
  else
    _mm256_maskstore_ps(p, vec_mask(m), v);
}

/* Past the caches; p is aligned to the register. */
VEC_INLINE void vf_stream(float *p, vf v) {
  _mm256_stream_ps(p, v);
}

VEC_INLINE vf vf_load_bf16(const tl_bf16 *p, int m) {
  tl_bf16 part[VL] = {0};
  if (m != VL) {
    for (int l = 0; l < m; l++) part[l] = p[l];
    p = part;
  }
  __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

VEC_INLINE void vf_store_bf16(tl_bf16 *p, int m, vf v) {
  __m256i u = _mm256_castps_si256(v), high = _mm256_srli_epi32(u, 16);
  __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  __m256i up = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  __m256i r = _mm256_blendv_epi8(_mm256_srli_epi32(up, 16),
                                 _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
  __m128i half = _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
  if (m == VL) {
    _mm_storeu_si128((__m128i *)p, half);
  } else {
    tl_bf16 part[VL];
    _mm_storeu_si128((__m128i *)part, half);
    for (int l = 0; l < m; l++) p[l] = part[l];
  }
}

VEC_INLINE vf vf_fma(vf a, vf b, vf c) {
  return _mm256_fmadd_ps(a, b, c);
}

/* max and min give b where either is NaN. */
VEC_INLINE vf vf_max(vf a, vf b) {
  return _mm256_max_ps(a, b);
}

VEC_INLINE vf vf_min(vf a, vf b) {
  return _mm256_min_ps(a, b);
}

VEC_INLINE vf vf_sqrt(vf v) {
  return _mm256_sqrt_ps(v);
}

VEC_INLINE vf vf_abs(vf v) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
}

/* |v| with the sign of s. */
VEC_INLINE vf vf_with_sign(vf v, vf s) {
  __m256 sign = _mm256_set1_ps(-0.0f);
  return _mm256_or_ps(_mm256_andnot_ps(sign, v), _mm256_and_ps(sign, s));
}

VEC_INLINE vf vf_round(vf v) {
  return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* v 2^n for integral n in [-252, 254]: two factors, so that results may be subnormal or inf. */
VEC_INLINE vf vf_scale2(vf v, vf n) {
  __m256i i = _mm256_cvtps_epi32(n), i1 = _mm256_srai_epi32(i, 1), bias = _mm256_set1_epi32(127);
  __m256i e1 = _mm256_slli_epi32(_mm256_add_epi32(i1, bias), 23);
  __m256i e2 = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, i1), bias), 23);
  return v * _mm256_castsi256_ps(e1) * _mm256_castsi256_ps(e2);
}

/* a < b ? x : y; false where either is NaN. */
VEC_INLINE vf vf_where_lt(vf a, vf b, vf x, vf y) {
  return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

VEC_INLINE float vf_sum(vf v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

VEC_INLINE float vf_top(vf v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

VEC_INLINE vu vu_iota(void) {
  return (vu){0, 1, 2, 3, 4, 5, 6, 7};
}

/* Lanes out of bytes and back: their low bits. */
VEC_INLINE vu vu_from_bytes(const uint8_t *p, int m) {
  uint8_t b[VL] = {0};
  memcpy(b, p, (size_t)m);
  return (vu)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)b));
}

VEC_INLINE void vu_to_bytes(uint8_t *p, int m, vu v) {
  __m128i lo = _mm256_castsi256_si128((__m256i)v), hi = _mm256_extracti128_si256((__m256i)v, 1);
  __m128i words = _mm_packus_epi32(lo, hi);
  uint8_t b[VL];
  _mm_storel_epi64((__m128i *)(void *)b, _mm_packus_epi16(words, words));
  memcpy(p, b, (size_t)m);
}

/* The high and low words of the 64-bit products of lanes with k. */
VEC_INLINE void vu_mul_wide(vu a, uint32_t k, vu *hi, vu *lo) {
  __m256i x = (__m256i)a, kk = _mm256_set1_epi64x(k);
  __m256i even = _mm256_mul_epu32(x, kk), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), kk);
  *hi = (vu)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
  *lo = (vu)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
}

/* out[4 l + w] = word w of lane l. */
VEC_INLINE void vu_store_interleaved(uint32_t *out, vu w0, vu w1, vu w2, vu w3) {
  __m256i a = _mm256_unpacklo_epi32((__m256i)w0, (__m256i)w1);
  __m256i b = _mm256_unpackhi_epi32((__m256i)w0, (__m256i)w1);
  __m256i c = _mm256_unpacklo_epi32((__m256i)w2, (__m256i)w3);
  __m256i d = _mm256_unpackhi_epi32((__m256i)w2, (__m256i)w3);
  __m256i l04 = _mm256_unpacklo_epi64(a, c), l15 = _mm256_unpackhi_epi64(a, c);
  __m256i l26 = _mm256_unpacklo_epi64(b, d), l37 = _mm256_unpackhi_epi64(b, d);
  __m256i *o = (__m256i *)out;
  _mm256_storeu_si256(o, _mm256_permute2x128_si256(l04, l15, 0x20));
  _mm256_storeu_si256(o + 1, _mm256_permute2x128_si256(l26, l37, 0x20));
  _mm256_storeu_si256(o + 2, _mm256_permute2x128_si256(l04, l15, 0x31));
  _mm256_storeu_si256(o + 3, _mm256_permute2x128_si256(l26, l37, 0x31));
}

/* v where word >= limit, else 0; words is VL unsigned integers in memory. */
VEC_INLINE vf vf_where_word_ge(const uint32_t *words, uint32_t limit, vf v) {
  __m256i w = _mm256_loadu_si256((const __m256i *)words), lim = _mm256_set1_epi32((int)limit);
  __m256i ge = _mm256_cmpeq_epi32(_mm256_max_epu32(w, lim), w);
  return _mm256_and_ps(v, _mm256_castsi256_ps(ge));
}

/* Adds the squares of 16 floats to 16 sums in f64. */
typedef struct vd16 {
  __m256d v[4];
} vd16;

VEC_INLINE void vd_add_squares(vd16 *s, const float *x) {
  for (int q = 0; q < 4; q++) {
    __m256d d = _mm256_cvtps_pd(_mm_loadu_ps(x + 4 * q));
    s->v[q] = _mm256_fmadd_pd(d, d, s->v[q]);
  }
}

VEC_INLINE void vd_store(double out[16], const vd16 *s) {
  for (int q = 0; q < 4; q++) _mm256_storeu_pd(out + 4 * q, s->v[q]);
}

#endif
