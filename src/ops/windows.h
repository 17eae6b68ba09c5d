/* Windows of pictures whose pixels are rows [n * height * width, channels]: the matrix that turns a
 * convolution into a product, made in parts when the product needs them. */
#ifndef TL_OPS_WINDOWS_H
#define TL_OPS_WINDOWS_H

#include "core/op.h"

/* Row (n, y, x) of [n * out_h * out_w] holds pixels (y stride - top + i, x stride - left + j) for
 * i < kernel_h, j < kernel_w, in this order, each with its channels; those outside are 0. */
typedef struct tl_windows {
  const tl_row_kernels *k;
  tl_dtype dt;
  const void *pixels;
  int64_t height, width, channels;
  int64_t out_h, out_w, kernel_h, kernel_w, stride, top, left;
} tl_windows;
/* tl_gemm_source.copy; from: const tl_windows *. */
void tl_windows_copy(const void *from, int64_t row0, int64_t rows, int64_t col0, int64_t cols,
                     void *dst, int64_t ld);

/* The dynamic size of `times` rows for each picture of x, which has `rows` for each; 0 where x has
 * a fixed size. x's own size must be a multiple of that of the pictures (tl_graph_dim_times). */
int tl_picture_dim(tl_graph *g, const tl_node *x, int64_t rows, int64_t times, tl_err *err);

#endif
