/* Reference of the matrix product: 4 x 16 tiles of f32, bf16 matrices widened while packing. */
#include <string.h>

#include "kernels/gemm_impl.h"

enum { MR = 4, NR = 16 };

static void micro(const tl_gemm_block *g) {
  float acc[MR][NR] = {{0}};
  const float *bk = (const float *)g->b;
  for (int64_t k = 0; k < g->kc; k++, bk += NR) {
    for (int r = 0; r < g->m; r++) {
      float x;
      memcpy(&x, g->a + r * g->rs + k * g->cs, sizeof x);
      for (int j = 0; j < NR; j++) acc[r][j] += x * bk[j];
    }
  }
  for (int r = 0; r < g->m; r++) {
    float *c = g->c + r * g->ldc;
    for (int j = 0; j < NR; j++) c[j] = acc[r][j] + (g->put == TL_GEMM_ADD ? c[j] : 0);
  }
}

static float element(tl_dtype dt, const void *src, int64_t i) {
  return dt == TL_F32 ? ((const float *)src)[i] : tl_bf16_to_f32(((const tl_bf16 *)src)[i]);
}

static void set_element(tl_dtype dt, void *dst, int64_t i, float x) {
  if (dt == TL_F32)
    ((float *)dst)[i] = x;
  else
    ((tl_bf16 *)dst)[i] = tl_f32_to_bf16(x);
}

static void finish(const tl_gemm_args *g, const tl_row_kernels *row, float *tile, int64_t i0,
                   int64_t j0, int m, int n) {
  for (int r = 0; r < m; r++) {
    for (int j = 0; j < n; j++) {
      float x = tile[r * NR + j] * (g->alpha == 0 ? 1 : g->alpha);
      int64_t at = (i0 + r) * g->ldc + j0 + j;
      if (g->add) x += element(g->c_dt, g->c, at);
      if (g->bias) x += g->bias[j0 + j];
      if (g->pre_act) {
        set_element(g->c_dt, g->pre_act, at, x);
        x = element(g->c_dt, g->pre_act, at);
      }
      row->act(TL_F32, g->act, 1, &x, &x);
      if (g->residual) x += element(g->c_dt, g->residual, (i0 + r) * g->ldr + j0 + j);
      set_element(g->c_dt, g->c, at, x);
    }
  }
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

static const struct tl_gemm_impl impl = {micro, finish, pack_rows, pack_cols, NULL, peak};

void tl_gemm_init_ref(tl_gemm_kernels k[2]) {
  k[TL_F32] = (tl_gemm_kernels){MR, NR, TL_GEMM_KC_BYTES / 4, 1, 0, &impl};
  k[TL_BF16] = k[TL_F32];
}
