/* The row and optimizer kernels compiled for AVX512. */
#include "kernels/row_fast.inl"
#include "kernels/act_fast.inl"
#include "kernels/norm_fast.inl"
#include "kernels/column_fast.inl"
#include "kernels/route_fast.inl"
#include "kernels/xent_fast.inl"
#include "kernels/optim_fast.inl"

void tl_row_init_avx512(tl_row_kernels *k) {
  init_elementwise(k);
  init_act(k);
  init_norm(k);
  init_column(k);
  k->xent = xent_fast;
}

void tl_optim_init_avx512(tl_optim_kernels *k) {
  init_optim(k);
}

void tl_route_init_avx512(tl_route_kernels *k) {
  init_route(k);
}
