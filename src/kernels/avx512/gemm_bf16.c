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

#define FINISH_ROUND(p, m, v)                                                                      \
  _mm256_mask_storeu_epi16(p, vec_mask(m), (__m256i)_mm512_cvtneps_pbh(v))
#include "kernels/avx512/gemm_tile512.h"

/* n <= 32 elements of two k rows as pairs. */
VEC_INLINE void pack_pairs(tl_dtype dt, const void *src, int64_t k0, int64_t k1, int64_t n,
                           uint32_t *d) {
  const __m512i first = _mm512_set_epi32(0x2f000f, 0x2e000e, 0x2d000d, 0x2c000c, 0x2b000b, 0x2a000a,
                                         0x290009, 0x280008, 0x270007, 0x260006, 0x250005, 0x240004,
                                         0x230003, 0x220002, 0x210001, 0x200000);
  const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
  __m512i lo = load_groups(dt, src, k0, n), hi = _mm512_setzero_si512();
  if (k1 >= 0) hi = load_groups(dt, src, k1, n);
  _mm512_mask_storeu_epi32(d, first16(n), _mm512_permutex2var_epi16(lo, first, hi));
  _mm512_mask_storeu_epi32(d + 16, first16(n - 16), _mm512_permutex2var_epi16(lo, second, hi));
}

static void pack_rows(tl_dtype src_dt, const void *src, int64_t ld, int64_t rows, int64_t cols,
                      int64_t width, void *dst) {
  for (int64_t k = 0; k < rows; k += 2) {
    uint32_t *d = (uint32_t *)dst + k / 2 * width;
    int64_t c = 0, k0 = k * ld, k1 = k + 1 < rows ? k0 + ld : -1;
    for (; c + 32 <= cols; c += 32)
      pack_pairs(src_dt, src, k0 + c, k1 < 0 ? -1 : k1 + c, 32, d + c);
    if (c < cols) pack_pairs(src_dt, src, k0 + c, k1 < 0 ? -1 : k1 + c, cols - c, d + c);
  }
}

static const struct tl_gemm_impl impl = {micro, finish, pack_rows, pack_cols, fence, peak};

void tl_gemm_init_avx512bf16(tl_gemm_kernels k[2]) {
  k[TL_BF16] = (tl_gemm_kernels){MR, NR, TL_GEMM_KC_BYTES / 2, GROUP, 0, &impl};
}
