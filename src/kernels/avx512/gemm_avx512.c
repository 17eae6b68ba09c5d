/* f32 products with AVX-512; bf16 matrices are widened while packing. */
#include <immintrin.h>
#include <string.h>

#include "kernels/kernels.h"

enum { GROUP = 1 };
typedef __m512 operand;

static inline operand load_b(const char *p) {
  return _mm512_loadu_ps(p);
}
static inline operand broadcast(const char *p) {
  float x;
  memcpy(&x, p, sizeof x);
  return _mm512_set1_ps(x);
}
#define broadcast_half broadcast
static inline __m512 multiply_add(__m512 c, operand a, operand b) {
  return _mm512_fmadd_ps(a, b, c);
}

static inline __m512i load_groups(tl_dtype dt, const void *src, int64_t at, int64_t n) {
  __mmask16 mask = n >= 16 ? (__mmask16)0xffff : (__mmask16)(0xffffu >> (16 - n));
  if (dt == TL_F32) return _mm512_maskz_loadu_epi32(mask, (const float *)src + at);
  __m256i x = _mm256_maskz_loadu_epi16(mask, (const tl_bf16 *)src + at);
  return _mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16);
}

#include "kernels/avx512/gemm_tile512.h"

static void pack_rows(tl_dtype src_dt, const void *src, int64_t ld, int64_t rows, int64_t cols,
                      int64_t width, void *dst) {
  for (int64_t k = 0; k < rows; k++) {
    float *d = (float *)dst + k * width;
    for (int64_t c = 0; c < cols; c += 16) {
      int64_t n = cols - c < 16 ? cols - c : 16;
      _mm512_mask_storeu_epi32(d + c, (__mmask16)(0xffffu >> (16 - n)),
                               load_groups(src_dt, src, k * ld + c, n));
    }
  }
}

static const struct tl_gemm_impl impl = {micro, finish, pack_rows, pack_cols, fence, peak};

void tl_gemm_init_avx512(tl_gemm_kernels k[2]) {
  k[TL_F32] = (tl_gemm_kernels){MR, NR, TL_GEMM_KC_BYTES / 4, GROUP, 0, &impl};
  k[TL_BF16] = k[TL_F32];
}
