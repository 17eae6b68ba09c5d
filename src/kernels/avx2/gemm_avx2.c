/* f32 products with AVX2 and FMA: 6 x 16 tiles; bf16 matrices are widened while packing. */
#include <immintrin.h>

enum { MR = 6, NR = 16 };
#include "kernels/gemm_fast.inl"

VEC_INLINE __m256 broadcast(const char *p) {
  float x;
  memcpy(&x, p, sizeof x);
  return _mm256_set1_ps(x);
}

VEC_INLINE void micro_rows(const int m, const tl_gemm_block *g) {
  __m256 c[MR][2];
  _Pragma("GCC unroll 6") for (int r = 0; r < m; r++) c[r][0] = c[r][1] = _mm256_setzero_ps();
  const int64_t rs = g->rs, cs = g->cs, ldc = g->ldc;
  const tl_gemm_put put = g->put;
  float *to = g->c;
  const char *a0 = g->a, *a3 = a0 + 3 * rs;
  const float *b = (const float *)g->b;
  for (int64_t k = 0; k < g->kc; k++, a0 += cs, a3 += cs, b += NR) {
    __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);
    _Pragma("GCC unroll 6") for (int r = 0; r < m; r++) {
      __m256 x = broadcast(r < 3 ? a0 + r * rs : a3 + (r - 3) * rs);
      c[r][0] = _mm256_fmadd_ps(x, b0, c[r][0]);
      c[r][1] = _mm256_fmadd_ps(x, b1, c[r][1]);
    }
  }
  _Pragma("GCC unroll 6") for (int r = 0; r < m; r++) {
    _Pragma("GCC unroll 2") for (int v = 0; v < 2; v++) {
      float *t = to + r * ldc + v * 8;
      if (put == TL_GEMM_ADD) c[r][v] = _mm256_add_ps(c[r][v], _mm256_loadu_ps(t));
      if (put == TL_GEMM_STREAM)
        _mm256_stream_ps(t, c[r][v]);
      else
        _mm256_storeu_ps(t, c[r][v]);
    }
  }
}

static void micro(const tl_gemm_block *g) {
  prefetch_out(g);
  switch (g->m) {
#define ROWS(n)                                                                                    \
  case n:                                                                                          \
    micro_rows(n, g);                                                                              \
    break;
    ROWS(1)
    ROWS(2)
    ROWS(3)
    ROWS(4)
    ROWS(5)
    ROWS(6)
#undef ROWS
        default : break;
  }
}

/* Eight elements from src + at as f32. */
VEC_INLINE __m256 load8(tl_dtype dt, const void *src, int64_t at) {
  if (dt == TL_F32) return _mm256_loadu_ps((const float *)src + at);
  __m128i x = _mm_loadu_si128((const __m128i *)((const tl_bf16 *)src + at));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}

VEC_INLINE float load1(tl_dtype dt, const void *src, int64_t at) {
  return dt == TL_F32 ? ((const float *)src)[at] : tl_bf16_to_f32(((const tl_bf16 *)src)[at]);
}

static void pack_rows(tl_dtype src_dt, const void *src, int64_t ld, int64_t rows, int64_t cols,
                      int64_t width, void *dst) {
  for (int64_t k = 0; k < rows; k++) {
    float *d = (float *)dst + k * width;
    int64_t c = 0;
    for (; c + 8 <= cols; c += 8) _mm256_storeu_ps(d + c, load8(src_dt, src, k * ld + c));
    if (src_dt == TL_F32 && c + 4 <= cols) {
      _mm_storeu_ps(d + c, _mm_loadu_ps((const float *)src + k * ld + c));
      c += 4;
    }
    for (; c < cols; c++) d[c] = load1(src_dt, src, k * ld + c);
  }
}

VEC_INLINE void transpose8(__m256 r[8]) {
  __m256 t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; i++) {
    t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
  }
  for (int i = 0; i < 8; i++) r[i] = t[i];
}

static void pack_cols(tl_dtype src_dt, const void *src, int64_t ld, int64_t rows, int64_t cols,
                      int64_t width, void *dst) {
  float *d = dst;
  int64_t whole_c = cols / 8 * 8, whole_k = rows / 8 * 8;
  for (int64_t c = 0; c < whole_c; c += 8) {
    for (int64_t k = 0; k < whole_k; k += 8) {
      __m256 r[8];
      for (int i = 0; i < 8; i++) r[i] = load8(src_dt, src, (c + i) * ld + k);
      transpose8(r);
      for (int i = 0; i < 8; i++) _mm256_storeu_ps(d + (k + i) * width + c, r[i]);
    }
  }
  for (int64_t c = 0; c < cols; c++)
    for (int64_t k = c < whole_c ? whole_k : 0; k < rows; k++)
      d[k * width + c] = load1(src_dt, src, c * ld + k);
}

static int64_t peak(int64_t n) {
  __m256 c[12], x = _mm256_set1_ps(0.5f);
  _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) c[i] = _mm256_setzero_ps();
  int64_t steps = n / (12 * 8) + 1;
  for (int64_t s = 0; s < steps; s++) {
    _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) {
      c[i] = _mm256_fmadd_ps(c[i], x, x);
      __asm__ volatile("" : "+x"(c[i]));
    }
  }
  return steps * 12 * 8 * 2;
}

static const struct tl_gemm_impl impl = {micro, finish, pack_rows, pack_cols, fence, peak};

void tl_gemm_init_avx2(tl_gemm_kernels k[2]) {
  k[TL_F32] = (tl_gemm_kernels){MR, NR, TL_GEMM_KC_BYTES / 4, 1, 0, &impl};
  k[TL_BF16] = k[TL_F32];
}
