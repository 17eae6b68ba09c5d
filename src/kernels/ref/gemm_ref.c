/* Reference of the matrix product: 4 x 16 tiles of f32, bf16 matrices widened while packing. */
enum { MR = 4, NR = 16 };
#include "kernels/gemm_template.h"

static void micro(int m, int64_t kc, const void *a, int64_t rs, int64_t cs, const void *b,
                  float *tile, bool accumulate) {
  float acc[MR][NR] = {{0}};
  const float *bk = b;
  for (int64_t k = 0; k < kc; k++, bk += NR) {
    for (int r = 0; r < m; r++) {
      float x;
      memcpy(&x, (const char *)a + r * rs + k * cs, sizeof x);
      for (int j = 0; j < NR; j++) acc[r][j] += x * bk[j];
    }
  }
  for (int r = 0; r < m; r++)
    for (int j = 0; j < NR; j++) tile[r * NR + j] = acc[r][j] + (accumulate ? tile[r * NR + j] : 0);
}

static float element(tl_dtype dt, const void *src, int64_t i) {
  return dt == TL_F32 ? ((const float *)src)[i] : tl_bf16_to_f32(((const tl_bf16 *)src)[i]);
}

static void pack_rows(tl_dtype src_dt, const void *src, int64_t ld, int64_t rows, int64_t cols,
                      int64_t width, void *dst) {
  for (int64_t k = 0; k < rows; k++)
    for (int64_t c = 0; c < cols; c++)
      ((float *)dst)[k * width + c] = element(src_dt, src, k * ld + c);
}

static void pack_cols(tl_dtype src_dt, const void *src, int64_t ld, int64_t rows, int64_t cols,
                      int64_t width, void *dst) {
  for (int64_t c = 0; c < cols; c++)
    for (int64_t k = 0; k < rows; k++)
      ((float *)dst)[k * width + c] = element(src_dt, src, c * ld + k);
}

static int64_t peak(int64_t n) {
  float acc[NR];
  for (int j = 0; j < NR; j++) acc[j] = (float)j;
  for (int64_t i = 0; i < n; i += NR) {
    for (int j = 0; j < NR; j++) acc[j] = acc[j] * 0.5f + 1.0f;
    __asm__ volatile("" : : "r"(acc) : "memory");
  }
  return (n + NR - 1) / NR * NR * 2;
}

static const struct tl_gemm_impl impl = {micro, finish_tile, pack_rows, pack_cols, peak};

void tl_gemm_init_ref(tl_gemm_kernels k[2]) {
  k[TL_F32] = (tl_gemm_kernels){MR, NR, TL_GEMM_KC_BYTES / 4, 1, 0, &impl};
  k[TL_BF16] = k[TL_F32];
}
