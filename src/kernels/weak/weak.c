/* Empty rungs, linked after the library, for kernels that have not landed yet. */
#include "kernels/kernels.h"

#define EMPTY(fn, param)                                                                           \
  __attribute__((weak)) void fn(param) {                                                           \
    (void)k;                                                                                       \
  }
EMPTY(tl_row_init_ref, tl_row_kernels *k)
EMPTY(tl_row_init_avx2, tl_row_kernels *k)
EMPTY(tl_row_init_avx512, tl_row_kernels *k)
EMPTY(tl_optim_init_ref, tl_optim_kernels *k)
EMPTY(tl_optim_init_avx2, tl_optim_kernels *k)
EMPTY(tl_optim_init_avx512, tl_optim_kernels *k)
EMPTY(tl_attn_init_ref, tl_attn_kernels k[2])
EMPTY(tl_attn_init_avx2, tl_attn_kernels k[2])
EMPTY(tl_attn_init_avx512, tl_attn_kernels k[2])
EMPTY(tl_attn_init_avx512bf16, tl_attn_kernels k[2])
EMPTY(tl_gemm_init_ref, tl_gemm_kernels k[2])
EMPTY(tl_gemm_init_avx2, tl_gemm_kernels k[2])
EMPTY(tl_gemm_init_avx512, tl_gemm_kernels k[2])
EMPTY(tl_gemm_init_avx512bf16, tl_gemm_kernels k[2])
