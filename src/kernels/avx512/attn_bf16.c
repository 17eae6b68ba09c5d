/* Attention on AVX512-BF16: products of bf16 pairs. */
#define PAIR 2
#include "kernels/attn_fast.inl"

void tl_attn_init_avx512bf16(tl_attn_kernels k[2]) {
  k[TL_BF16] = (tl_attn_kernels){scratch, forward, backward};
}
