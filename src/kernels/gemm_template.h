/* The parts of the matrix product that plain C says well enough for the compiler to vectorise;
 * included by each level's file after `enum { NR = ... }`, and compiled with its instructions. */
#ifndef TL_KERNELS_GEMM_TEMPLATE_H
#define TL_KERNELS_GEMM_TEMPLATE_H

#include <string.h>

#include "kernels/gemm_impl.h"

#define TL_INLINE static inline __attribute__((always_inline))

/* NaN is kept by selection, not by a branch, so that loops over it vectorise. */
TL_INLINE tl_bf16 round_bf16(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  uint32_t rounded = (u + 0x7fffu + (u >> 16 & 1)) >> 16;
  return (tl_bf16)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16 | 0x40) : rounded);
}

TL_INLINE void add_row(tl_dtype dt, const void *src, int64_t at, int n, float *restrict t) {
  if (dt == TL_F32) {
    const float *restrict s = (const float *)src + at;
    for (int j = 0; j < n; j++) t[j] += s[j];
  } else {
    const tl_bf16 *restrict s = (const tl_bf16 *)src + at;
    for (int j = 0; j < n; j++) t[j] += tl_bf16_to_f32(s[j]);
  }
}

TL_INLINE void store_row(tl_dtype dt, void *dst, int64_t at, int n, const float *restrict t) {
  if (dt == TL_F32) {
    memcpy((float *)dst + at, t, (size_t)n * sizeof(float));
  } else {
    tl_bf16 *restrict d = (tl_bf16 *)dst + at;
    for (int j = 0; j < n; j++) d[j] = round_bf16(t[j]);
  }
}

TL_INLINE void finish_n(const tl_gemm_args *g, const tl_row_kernels *row, float *restrict tile,
                        int64_t i0, int64_t j0, int m, int n) {
  float alpha = g->alpha == 0 ? 1 : g->alpha;
  for (int r = 0; r < m; r++) {
    float *restrict t = tile + r * NR;
    int64_t at = (i0 + r) * g->ldc + j0;
    if (alpha != 1)
      for (int j = 0; j < n; j++) t[j] *= alpha;
    if (g->add) add_row(g->c_dt, g->c, at, n, t);
    if (g->bias) add_row(TL_F32, g->bias, j0, n, t);
    if (g->pre_act) store_row(g->c_dt, g->pre_act, at, n, t);
  }
  if (g->act != TL_ACT_NONE) row->act(TL_F32, g->act, (int64_t)m * NR, tile, tile);
  for (int r = 0; r < m; r++) {
    float *restrict t = tile + r * NR;
    if (g->residual) add_row(g->c_dt, g->residual, (i0 + r) * g->ldr + j0, n, t);
    store_row(g->c_dt, g->c, (i0 + r) * g->ldc + j0, n, t);
  }
}

static void finish_tile(const tl_gemm_args *g, const tl_row_kernels *row, float *tile, int64_t i0,
                        int64_t j0, int m, int n) {
  if (n == NR)
    finish_n(g, row, tile, i0, j0, m, NR);
  else
    finish_n(g, row, tile, i0, j0, m, n);
}

#endif
