/* Plain products behind gemm.h until the blocked ones have landed; B is packed as it is. */
#include "kernels/gemm.h"

#define WEAK __attribute__((weak))

static float get(tl_dtype dt, const void *p, int64_t i) {
  return dt == TL_BF16 ? tl_bf16_to_f32(((const tl_bf16 *)p)[i]) : ((const float *)p)[i];
}

static void put(tl_dtype dt, void *p, int64_t i, float x) {
  if (dt == TL_BF16)
    ((tl_bf16 *)p)[i] = tl_f32_to_bf16(x);
  else
    ((float *)p)[i] = x;
}

WEAK size_t tl_gemm_packed_bytes(const tl_kernels *k, tl_dtype dt, int64_t K, int64_t N) {
  (void)k;
  return (size_t)(K * N) * tl_dtype_size(dt);
}

WEAK void tl_gemm_pack(tl_ctx *ctx, const tl_gemm_pack_args *a) {
  (void)ctx;
  for (int64_t r = 0; r < a->rows; r++)
    for (int64_t c = 0; c < a->cols; c++)
      put(a->dt, a->packed, (a->k0 + r) * a->N + a->n0 + c,
          get(a->src_dt, a->src, a->trans ? c * a->ld + r : r * a->ld + c));
}

WEAK size_t tl_gemm_work_bytes(const tl_ctx *ctx, const tl_gemm_args *a) {
  (void)ctx;
  (void)a;
  return 0;
}

typedef struct job {
  const tl_gemm_args *a;
  const tl_row_kernels *k;
} job;

static void one_row(void *arg, int64_t m, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_gemm_args *a = j->a;
  for (int64_t n = 0; n < a->N; n++) {
    float sum = 0;
    for (int64_t k = 0; k < a->K; k++) {
      float x = get(a->dt, a->a, a->a_trans ? k * a->lda + m : m * a->lda + k);
      sum += x * (a->b_packed ? get(a->dt, a->b_packed, k * a->N + n)
                              : get(a->dt, a->b, a->b_trans ? n * a->ldb + k : k * a->ldb + n));
    }
    int64_t at = m * a->ldc + n;
    sum *= a->alpha != 0 ? a->alpha : 1;
    if (a->add) sum += get(a->c_dt, a->c, at);
    if (a->bias) sum += a->bias[n];
    if (a->pre_act) put(a->c_dt, a->pre_act, at, sum);
    if (a->act != TL_ACT_NONE) j->k->act(TL_F32, a->act, 1, &sum, &sum);
    if (a->residual) sum += get(a->c_dt, a->residual, m * a->ldr + n);
    put(a->c_dt, a->c, at, sum);
  }
}

WEAK void tl_gemm(tl_ctx *ctx, const tl_gemm_args *a) {
  tl_parallel(ctx->pool, a->M, one_row, &(job){a, &ctx->k->row});
}

WEAK void tl_gemm_batched(tl_ctx *ctx, const tl_gemm_args *a, const tl_gemm_batch *batch) {
  for (int64_t i = 0; i < batch->count; i++) {
    tl_gemm_args one = *a;
    int64_t size = (int64_t)tl_dtype_size(a->dt);
    one.a = (const char *)a->a + i * batch->stride_a * size;
    if (a->b) one.b = (const char *)a->b + i * batch->stride_b * size;
    one.c = (char *)a->c + i * batch->stride_c * (int64_t)tl_dtype_size(a->c_dt);
    tl_gemm(ctx, &one);
  }
}
