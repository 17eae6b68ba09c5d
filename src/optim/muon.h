/* The update of Muon (Jordan et al. 2024) for one matrix: Nesterov momentum, then five steps of a
 * quintic Newton-Schulz iteration that moves all singular values near 1. */
#ifndef TL_OPTIM_MUON_H
#define TL_OPTIM_MUON_H

#include "base/context.h"
#include "kernels/kernels.h"
#include "tilth/status.h"

typedef struct tl_muon tl_muon;

/* Scratch for matrices of the given n shapes ([n][2]: rows, columns). Products are in bf16 where
 * the CPU is faster at it. Errors: NOMEM. */
tl_status tl_muon_new(tl_ctx *ctx, int n, const int64_t (*shapes)[2], tl_muon **out, tl_err *err);
void tl_muon_free(tl_muon *u); /* NULL is allowed */
size_t tl_muon_bytes(const tl_muon *u);
double tl_muon_flops(int64_t rows, int64_t cols); /* of the products of one update, one triangle of
                                                   * the symmetric ones */

typedef struct tl_muon_args {
  int64_t rows, cols;
  float lr, momentum, weight_decay, grad_scale;
  bool conv1d; /* stored [in, out] rather than [out, in] */
  const float *g;
  float *m, *p; /* momentum and weights, updated */
} tl_muon_args;
/* m = momentum m + g; u = g + momentum m (g: grad_scale times the gradient);
 * p -= lr (sqrt(max(1, out / in)) orthogonalise(u) + weight_decay p). */
void tl_muon_update(tl_muon *u, const tl_muon_args *a);

#endif
