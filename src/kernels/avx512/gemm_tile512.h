/* What the f32 and bf16 products on AVX-512 share: the 6 x 64 register tile and packing from
 * sources that are contiguous along k. Included after GROUP (k_group) and these, by each file:
 *   operand, load_b(p), broadcast(p), broadcast_half(p) (an odd last k), multiply_add(c, a, b)
 *   load_groups(dt, src, at, n): n <= 16 * GROUP elements from src + at, as 16 lanes of a group */
#ifndef TL_KERNELS_GEMM_TILE512_H
#define TL_KERNELS_GEMM_TILE512_H

enum { MR = 6, NR = 64, NV = NR / 16 };
#include "kernels/gemm_template.h"

/* One k group: 24 accumulators, 4 loads of B and m broadcasts of A. */
#define STEP(load_a)                                                                               \
  do {                                                                                             \
    operand b0 = load_b(b), b1 = load_b(b + 64), b2 = load_b(b + 128), b3 = load_b(b + 192);       \
    _Pragma("GCC unroll 6") for (int r = 0; r < m; r++) {                                          \
      operand x = load_a(r < 3 ? a0 + r * rs : a3 + (r - 3) * rs);                                 \
      c[r][0] = multiply_add(c[r][0], x, b0);                                                      \
      c[r][1] = multiply_add(c[r][1], x, b1);                                                      \
      c[r][2] = multiply_add(c[r][2], x, b2);                                                      \
      c[r][3] = multiply_add(c[r][3], x, b3);                                                      \
    }                                                                                              \
  } while (0)

TL_INLINE void micro_rows(const int m, int64_t kc, const void *a, int64_t rs, int64_t cs,
                          const void *panel, float *tile, bool accumulate) {
  __m512 c[MR][NV];
  _Pragma("GCC unroll 6") for (int r = 0; r < m; r++)
      _Pragma("GCC unroll 4") for (int v = 0; v < NV; v++) c[r][v] = _mm512_setzero_ps();
  const char *a0 = a, *a3 = a0 + 3 * rs, *b = panel;
  for (int64_t k = 0; k < kc / GROUP; k++) {
    STEP(broadcast);
    a0 += cs;
    a3 += cs;
    b += NR * 4;
  }
  if (GROUP == 2 && kc & 1) STEP(broadcast_half);
  _Pragma("GCC unroll 6") for (int r = 0; r < m; r++) {
    _Pragma("GCC unroll 4") for (int v = 0; v < NV; v++) {
      float *t = tile + r * NR + v * 16;
      if (accumulate) c[r][v] = _mm512_add_ps(c[r][v], _mm512_loadu_ps(t));
      _mm512_storeu_ps(t, c[r][v]);
    }
  }
}

static void micro(int m, int64_t kc, const void *a, int64_t rs, int64_t cs, const void *b,
                  float *tile, bool accumulate) {
  switch (m) {
#define ROWS(n)                                                                                    \
  case n:                                                                                          \
    micro_rows(n, kc, a, rs, cs, b, tile, accumulate);                                             \
    break;
    ROWS(1)
    ROWS(2)
    ROWS(3) ROWS(4) ROWS(5) ROWS(6)
#undef ROWS
        default : break;
  }
}

/* Transposes 16 x 16 lanes of 32 bits, a power of two at a time. */
static inline void transpose16(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 16; i += 8) {
    for (int j = 0; j < 4; j++) {
      t[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
      t[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
    }
  }
  for (int j = 0; j < 8; j++) {
    r[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
    r[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd);
  }
}

static void pack_cols(tl_dtype src_dt, const void *src, int64_t ld, int64_t rows, int64_t cols,
                      int64_t width, void *dst) {
  enum { STEP_K = 16 * GROUP };
  for (int64_t c = 0; c < cols; c += 16) {
    int nc = cols - c < 16 ? (int)(cols - c) : 16;
    for (int64_t k = 0; k < rows; k += STEP_K) {
      int64_t n = rows - k < STEP_K ? rows - k : STEP_K;
      __m512i r[16];
      for (int i = 0; i < 16; i++)
        r[i] = i < nc ? load_groups(src_dt, src, (c + i) * ld + k, n) : _mm512_setzero_si512();
      transpose16(r);
      uint32_t *d = (uint32_t *)dst + k / GROUP * width + c;
      for (int i = 0; i < (n + GROUP - 1) / GROUP; i++)
        _mm512_mask_storeu_epi32(d + i * width, (__mmask16)(0xffffu >> (16 - nc)), r[i]);
    }
  }
}

/* Twelve named accumulators: an array would live in memory, and its loads would be measured. */
static int64_t peak(int64_t n) {
  operand x = broadcast((const char *)&(const float){0.5f});
  __m512 a = _mm512_setzero_ps(), b = a, c = a, d = a, e = a, f = a;
  __m512 g = a, h = a, i = a, j = a, k = a, l = a;
  int64_t steps = n / (12 * 16 * GROUP) + 1;
  for (int64_t s = 0; s < steps; s++) {
    a = multiply_add(a, x, x), b = multiply_add(b, x, x), c = multiply_add(c, x, x);
    d = multiply_add(d, x, x), e = multiply_add(e, x, x), f = multiply_add(f, x, x);
    g = multiply_add(g, x, x), h = multiply_add(h, x, x), i = multiply_add(i, x, x);
    j = multiply_add(j, x, x), k = multiply_add(k, x, x), l = multiply_add(l, x, x);
    __asm__ volatile(""
                     : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f), "+v"(g), "+v"(h),
                       "+v"(i), "+v"(j), "+v"(k), "+v"(l));
  }
  return steps * 12 * 16 * GROUP * 2;
}

#endif
