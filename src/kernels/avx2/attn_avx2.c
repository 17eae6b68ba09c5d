/* Attention on AVX2 and FMA. */
#define ATTN_INIT tl_attn_init_avx2
#include "kernels/attn_fast.inl"
