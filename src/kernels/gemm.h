/* Matrix products: C[M,N] (+)= op(A)[M,K] B[K,N], on all threads, with a packed B and fused
 * epilogue.
 *
 * After Goto and van de Geijn (2008) and BLIS: B is packed once into panels of nr columns (weights
 * once per optimizer step), A is read as it is or packed per block when it is transposed. Every
 * element of C is computed by one task, with k in increasing order in blocks of fixed size: the
 * same bits on any number of threads and whatever M is (row m of the product does not depend on the
 * other rows). */
#ifndef TL_KERNELS_GEMM_H
#define TL_KERNELS_GEMM_H

#include "base/context.h"
#include "kernels/kernels.h"

/* A packed B [K, N]: `dt` panels. Bytes for one; then pack a source into columns [n0, n0+n_src) or
 * rows, so that several matrices can be concatenated in one pack. */
size_t tl_gemm_packed_bytes(const tl_kernels *k, tl_dtype dt, int64_t K, int64_t N);

/* Packs src into rows [k0, k0+rows) and columns [n0, n0+cols) of a packed B [K, N]. src is
 * [rows, cols] with row stride ld, or, when trans, [cols, rows]. src_dt is TL_F32 or TL_BF16.
 * Padding of the last panel is zeroed. k0 and n0 may be any values; k0 must be a multiple of 2. */
typedef struct tl_gemm_pack_args {
  tl_dtype dt;
  int64_t K, N;
  const void *src;
  tl_dtype src_dt;
  int64_t ld;
  bool trans;
  int64_t k0, n0, rows, cols;
  void *packed;
} tl_gemm_pack_args;
void tl_gemm_pack(tl_ctx *ctx, const tl_gemm_pack_args *a); /* on all threads */
/* In the caller; with stream, whole panels are written past the caches. */
void tl_gemm_pack_here(const tl_kernels *k, const tl_gemm_pack_args *a, bool stream);

/* Rows that are made when they are needed (convolution: windows of a picture): copies columns
 * [col0, col0 + cols) of rows [row0, row0 + rows) to dst [rows][cols] with row stride ld. */
typedef struct tl_gemm_source {
  void (*copy)(const void *from, int64_t row0, int64_t rows, int64_t col0, int64_t cols, void *dst,
               int64_t ld);
  const void *from;
  int64_t row0; /* of the source: the product's first */
} tl_gemm_source;

typedef struct tl_gemm_args {
  int64_t M, N, K;
  tl_dtype dt;   /* type of A and of the packed B: TL_F32 or TL_BF16 (A must have it) */
  const void *a; /* [M, K], row stride lda; when a_trans [K, M], row stride lda */
  int64_t lda;
  bool a_trans;
  const tl_gemm_source *a_source; /* in place of a and lda: gives [M, K], when a_trans [K, M], of
                                     dt */
  const void *b_packed;           /* from tl_gemm_pack, or NULL: */
  const void
      *b; /* unpacked [K, N] of type dt, row stride ldb (when b_trans [N, K]), packed in `work` */
  int64_t ldb;
  bool b_trans;
  void *c; /* [M, N], row stride ldc, type c_dt */
  int64_t ldc;
  tl_dtype c_dt;
  float alpha; /* C = alpha * A B + ...; 0 means 1 */
  bool add;    /* C += instead of C = (before bias and activation) */
  /* epilogue, in this order: + bias[n], then activation, then + residual */
  const float *bias; /* [N] or NULL */
  /* [M, N] of c_dt, row stride ldc, or NULL: the value before the activation; this rounded value is
   * then what the activation reads, so that it can be computed again with the same bits */
  void *pre_act;
  tl_act act;
  bool stream; /* C is too large to be read from a cache soon: write it past them where possible */
  const void *residual; /* [M, N] of c_dt, row stride ldr, or NULL */
  int64_t ldr;
  void *work; /* tl_gemm_work_bytes(args) bytes, 64-byte aligned, or NULL if that is 0 */
} tl_gemm_args;

/* Scratch for a product of this shape, for packing B and a transposed A on this context's threads.
 */
size_t tl_gemm_work_bytes(const tl_ctx *ctx, const tl_gemm_args *a);
void tl_gemm(tl_ctx *ctx, const tl_gemm_args *a);

/* `batch` independent products of one shape (attention-like shapes, Newton-Schulz), with strides in
 * elements between consecutive matrices (stride_a of a source: in its rows); pre_act and residual
 * go with C. b must be unpacked; `work` is tl_gemm_batched_work_bytes. */
typedef struct tl_gemm_batch {
  int64_t count, stride_a, stride_b, stride_c;
} tl_gemm_batch;
size_t tl_gemm_batched_work_bytes(const tl_ctx *ctx, const tl_gemm_args *a,
                                  const tl_gemm_batch *batch);
void tl_gemm_batched(tl_ctx *ctx, const tl_gemm_args *a, const tl_gemm_batch *batch);

/* The multiply-add rate of one thread from registers alone, in GFLOP/s, for the instruction that
 * products of this type use at this level (<= tl_cpu_detect()); measured, about 60 ms. */
double tl_peak_gflops(tl_cpu_level level, tl_dtype dt);
/* Whether products of bf16 are clearly faster than those of f32: some CPUs have twice the rate,
 * others, with the same instructions, half of it. The best of many short bursts in turn, 1 ms in
 * all, so that other work on the machine does not change the answer. */
bool tl_gemm_bf16_pays(const tl_gemm_kernels *f32, const tl_gemm_kernels *bf16);

#endif
