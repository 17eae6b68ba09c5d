/* Attention on AVX-512. */
#define ATTN_INIT tl_attn_init_avx512
#include "kernels/attn_fast.inl"
