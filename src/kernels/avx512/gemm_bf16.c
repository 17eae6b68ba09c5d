/* bf16 products with AVX512-BF16: a lane multiplies a pair of k and adds both to f32. */
#include <immintrin.h>
#include <string.h>

#include "kernels/kernels.h"

enum { GROUP = 2 };
typedef __m512bh operand;

static inline operand load_b(const char *p) {
  return (operand)_mm512_loadu_si512(p);
}
static inline operand broadcast(const char *p) {
  int32_t pair;
  memcpy(&pair, p, sizeof pair);
  return (operand)_mm512_set1_epi32(pair);
}
static inline operand broadcast_half(const char *p) {
  uint16_t x;
  memcpy(&x, p, sizeof x);
  return (operand)_mm512_set1_epi32(x);
}
static inline __m512 multiply_add(__m512 c, operand a, operand b) {
  return _mm512_dpbf16_ps(c, a, b);
}

static inline __mmask16 first16(int64_t n) {
  return n >= 16 ? (__mmask16)0xffff : n > 0 ? (__mmask16)(0xffffu >> (16 - n)) : 0;
}

static inline __m512i load_groups(tl_dtype dt, const void *src, int64_t at, int64_t n) {
  if (dt == TL_BF16) {
    __mmask32 mask = 0xffffffffu >> (32 - n);
    return _mm512_maskz_loadu_epi16(mask, (const tl_bf16 *)src + at);
  }
  const float *s = (const float *)src + at;
  __m512 lo = _mm512_maskz_loadu_ps(first16(n), s);
  __m512 hi = _mm512_maskz_loadu_ps(first16(n - 16), s + 16);
  return (__m512i)_mm512_cvtne2ps_pbh(hi, lo);
}

#include "kernels/avx512/gemm_tile512.h"

/* n <= 16 elements as bf16 in the low halves of 32-bit lanes. */
static inline __m512i load_low(tl_dtype dt, const void *src, int64_t at, int64_t n) {
  __mmask16 mask = first16(n);
  if (dt == TL_BF16)
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, (const tl_bf16 *)src + at));
  __m512 x = _mm512_maskz_loadu_ps(mask, (const float *)src + at);
  return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x));
}

static void pack_rows(tl_dtype src_dt, const void *src, int64_t ld, int64_t rows, int64_t cols,
                      int64_t width, void *dst) {
  for (int64_t k = 0; k < rows; k += 2) {
    uint32_t *d = (uint32_t *)dst + k / 2 * width;
    for (int64_t c = 0; c < cols; c += 16) {
      int64_t n = cols - c;
      __m512i lo = load_low(src_dt, src, k * ld + c, n), hi = _mm512_setzero_si512();
      if (k + 1 < rows) hi = load_low(src_dt, src, (k + 1) * ld + c, n);
      _mm512_mask_storeu_epi32(d + c, first16(n), _mm512_or_si512(lo, _mm512_slli_epi32(hi, 16)));
    }
  }
}

static const struct tl_gemm_impl impl = {micro, finish_tile, pack_rows, pack_cols, peak};

void tl_gemm_init_avx512bf16(tl_gemm_kernels k[2]) {
  k[TL_BF16] = (tl_gemm_kernels){MR, NR, TL_GEMM_KC_BYTES / 2, GROUP, 0, &impl};
}
