/* What a level implements of the matrix product, private to gemm.c and its kernels.
 *
 * A panel holds `nr` columns of B (or `TL_GEMM_MC` rows of a packed A) for consecutive k, as
 * [k / g][width][g] with g = k_group: g = 1 panels are f32, g = 2 panels are pairs of bf16. A
 * level without bf16 products keeps bf16 matrices in f32 panels. */
#ifndef TL_KERNELS_GEMM_IMPL_H
#define TL_KERNELS_GEMM_IMPL_H

#include "kernels/gemm.h"

/* Tile of C that one task computes, at most; MC is a multiple of every mr, NC of every nr. KC_BYTES
 * / size of a panel element is the longest k block. */
enum { TL_GEMM_MC = 96, TL_GEMM_NC = 384, TL_GEMM_KC_BYTES = 1536 };
/* Per worker: partial sums of one tile of C, a packed block of A, and what its source gave (two
 * types of at most the size of a panel element). */
enum {
  TL_GEMM_SUMS_BYTES = TL_GEMM_MC * TL_GEMM_NC * 4,
  TL_GEMM_A_BYTES = TL_GEMM_MC * TL_GEMM_KC_BYTES,
  TL_GEMM_SCRATCH_BYTES = TL_GEMM_SUMS_BYTES + 2 * TL_GEMM_A_BYTES
};

/* What becomes of the sums: set C, add to C, or set it past the caches (c and ldc in whole cache
 * lines; a fence must follow). */
typedef enum tl_gemm_put { TL_GEMM_SET, TL_GEMM_ADD, TL_GEMM_STREAM } tl_gemm_put;

/* c[r][0..nr) (row stride ldc) = or += the sum over k < kc of A[r][k] B[k][0..nr), for r < m,
 * 1 <= m <= mr; where n < nr, columns from n on may be left out, or anything. A[r][k] is at a +
 * r*rs + (k/g)*cs bytes (pairs for g = 2; an odd kc reads only the first half of the last pair). b
 * is a panel. */
typedef struct tl_gemm_block {
  int m, n;
  int64_t kc;
  const char *a;
  int64_t rs, cs;
  const char *b;
  float *c;
  int64_t ldc;
  tl_gemm_put put;
  /* Hints, for what comes from far memory: lines of B that are needed soon (a line for every
   * TL_GEMM_NEXT_GROUPS groups of k), and the first `out_bytes` of m rows that are written next. */
  const char *next;
  const char *out;
  int64_t out_ld, out_bytes;
} tl_gemm_block;
enum { TL_GEMM_NEXT_GROUPS = 4 };

struct tl_gemm_impl {
  void (*micro)(const tl_gemm_block *b);
  /* Epilogue of rows [i0, i0+m) and columns [j0, j0+n) of C from a tile, which it overwrites. */
  void (*finish)(const tl_gemm_args *g, const tl_row_kernels *row, float *tile, int64_t i0,
                 int64_t j0, int m, int n);
  /* Writes `rows` k-rows of `cols` columns into a panel of this width at its current column; src
   * has row k at src + k*ld. An odd last row is paired with zeros. */
  void (*pack_rows)(tl_dtype src_dt, const void *src, int64_t ld, int64_t rows, int64_t cols,
                    int64_t width, void *dst);
  /* The same from a source that has column c at src + c*ld. */
  void (*pack_cols)(tl_dtype src_dt, const void *src, int64_t ld, int64_t rows, int64_t cols,
                    int64_t width, void *dst);
  void (*fence)(void); /* ends TL_GEMM_STREAM; NULL if this level cannot stream */
  /* Runs about n multiply-adds from registers; returns the floating point operations done. */
  int64_t (*peak)(int64_t n);
};

static inline const struct tl_gemm_impl *tl_gemm_impl_of(const tl_gemm_kernels *k) {
  return k->impl;
}
static inline int64_t min64(int64_t a, int64_t b) {
  return a < b ? a : b;
}
static inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
/* The sums are C as they are: f32, and nothing follows them. */
static inline bool tl_gemm_is_plain(const tl_gemm_args *a) {
  return a->c_dt == TL_F32 && (a->alpha == 0 || a->alpha == 1) && !a->bias && !a->pre_act &&
         a->act == TL_ACT_NONE && !a->residual;
}
/* Bytes of a panel element. */
static inline int64_t tl_gemm_elem(const tl_gemm_kernels *k) {
  return k->k_group == 2 ? 2 : 4;
}
/* K rounded up to whole groups. */
static inline int64_t tl_gemm_round_k(const tl_gemm_kernels *k, int64_t K) {
  return (K + k->k_group - 1) / k->k_group * k->k_group;
}

/* gemm_slices.c: products that go another way than by packing all of B first; the result depends on
 * the shape alone. */
bool tl_gemm_is_sliced(const tl_gemm_args *a);
size_t tl_gemm_slices_bytes(const tl_ctx *ctx, const tl_gemm_args *a);
void tl_gemm_sliced(tl_ctx *ctx, const tl_gemm_args *a);

#endif
