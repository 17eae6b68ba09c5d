/* Attention on AVX-512. */
#define PAIR 1
#include "kernels/attn_fast.inl"

void tl_attn_init_avx512(tl_attn_kernels k[2]) {
  k[TL_F32] = k[TL_BF16] = (tl_attn_kernels){scratch, forward, backward};
}
