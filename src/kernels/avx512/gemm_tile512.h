/* What the f32 and bf16 products on AVX-512 share: the 6 x 64 register tile and packing from
 * sources that are contiguous along k. Included after GROUP (k_group) and these, by each file:
 *   operand, load_b(p), broadcast(p), broadcast_half(p) (an odd last k), multiply_add(c, a, b)
 *   load_groups(dt, src, at, n): n <= 16 * GROUP elements from src + at, as 16 lanes of a group */
#ifndef TL_KERNELS_GEMM_TILE512_H
#define TL_KERNELS_GEMM_TILE512_H

enum { MR = 6, NR = 64, NV = NR / 16 };
#include "kernels/gemm_fast.inl"

/* One k group: 24 accumulators, 4 loads of B and m broadcasts of A; half of it where nv is 2. */
#define STEP(load_a)                                                                               \
  do {                                                                                             \
    operand b0 = load_b(b), b1 = load_b(b + 64);                                                   \
    operand b2 = nv > 2 ? load_b(b + 128) : b0, b3 = nv > 2 ? load_b(b + 192) : b0;                \
    _Pragma("GCC unroll 6") for (int r = 0; r < m; r++) {                                          \
      operand x = load_a(r < 3 ? a0 + r * rs : a3 + (r - 3) * rs);                                 \
      c[r][0] = multiply_add(c[r][0], x, b0);                                                      \
      c[r][1] = multiply_add(c[r][1], x, b1);                                                      \
      if (nv == 2) continue;                                                                       \
      c[r][2] = multiply_add(c[r][2], x, b2);                                                      \
      c[r][3] = multiply_add(c[r][3], x, b3);                                                      \
    }                                                                                              \
    a0 += cs;                                                                                      \
    a3 += cs;                                                                                      \
    b += NR * 4;                                                                                   \
  } while (0)

/* Each with its own loop: branches between the stores would cost as much as they do. */
VEC_INLINE void put_sums(const int m, const int nv, float *to, int64_t ldc, tl_gemm_put put,
                         __m512 c[MR][NV]) {
#define EACH_SUM(...)                                                                              \
  _Pragma("GCC unroll 6") for (int r = 0; r < m; r++) {                                            \
    _Pragma("GCC unroll 4") for (int v = 0; v < nv; v++) {                                         \
      float *t = to + r * ldc + v * 16;                                                            \
      __VA_ARGS__;                                                                                 \
    }                                                                                              \
  }
  if (put == TL_GEMM_SET)
    EACH_SUM(_mm512_storeu_ps(t, c[r][v]))
  else if (put == TL_GEMM_STREAM)
    EACH_SUM(_mm512_stream_ps(t, c[r][v]))
  else
    EACH_SUM(_mm512_storeu_ps(t, _mm512_add_ps(c[r][v], _mm512_loadu_ps(t))))
#undef EACH_SUM
}

VEC_INLINE void micro_rows(const int m, const int nv, const tl_gemm_block *g) {
  __m512 c[MR][NV];
  _Pragma("GCC unroll 6") for (int r = 0; r < m; r++)
      _Pragma("GCC unroll 4") for (int v = 0; v < NV; v++) c[r][v] = _mm512_setzero_ps();
  const int64_t rs = g->rs, cs = g->cs, ldc = g->ldc;
  const tl_gemm_put put = g->put;
  float *to = g->c;
  const char *a0 = g->a, *a3 = a0 + 3 * rs, *b = g->b, *next = g->next;
  int64_t groups = g->kc / GROUP, k = 0;
  const bool half = GROUP == 2 && g->kc & 1;
  for (; k + TL_GEMM_NEXT_GROUPS <= groups; k += TL_GEMM_NEXT_GROUPS) {
    _mm_prefetch(next, _MM_HINT_T1);
    next += 64;
    _Pragma("GCC unroll 4") for (int u = 0; u < TL_GEMM_NEXT_GROUPS; u++) STEP(broadcast);
  }
  for (; k < groups; k++) STEP(broadcast);
  if (half) STEP(broadcast_half);
  put_sums(m, nv, to, ldc, put, c);
}

/* A function for each number of rows, so that each has the registers to itself; and for columns
 * that fill no more than half of the panel. */
#define MICRO(n)                                                                                   \
  static __attribute__((noinline)) void micro_##n(const tl_gemm_block *g) {                        \
    micro_rows(n, NV, g);                                                                          \
  }                                                                                                \
  static __attribute__((noinline)) void half_##n(const tl_gemm_block *g) {                         \
    micro_rows(n, NV / 2, g);                                                                      \
  }
MICRO(1)
MICRO(2)
MICRO(3)
MICRO(4)
MICRO(5) MICRO(6)
#undef MICRO

    static void micro(const tl_gemm_block *g) {
  static void (*const by_rows[2][MR + 1])(const tl_gemm_block *) = {
      {NULL, micro_1, micro_2, micro_3, micro_4, micro_5, micro_6},
      {NULL, half_1, half_2, half_3, half_4, half_5, half_6}};
  prefetch_out(g);
  by_rows[g->n <= NR / 2][g->m](g);
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
