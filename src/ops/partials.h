/* Gradients of gains and biases are sums over all rows. Rows are cut into chunks by shape alone;
 * each chunk sums into its own partial in scratch, and the partials are added in chunk order: the
 * same bits on any number of threads. */
#ifndef TL_OPS_PARTIALS_H
#define TL_OPS_PARTIALS_H

#include "ops/parallel.h"

/* Bytes for one partial of `width` floats per chunk of `grain` of at most `rows` rows. */
size_t tl_partials_bytes(int64_t rows, int64_t grain, int64_t width);
/* The zeroed partial of the chunk that starts at row `begin`. */
float *tl_partial(void *scratch, int64_t begin, int64_t grain, int64_t width);
/* Sets or adds (tl_grad_adds) columns [column, column + d) of all partials, summed, to the gradient
 * of parameter n->in[i], where it is wanted. */
void tl_partials_reduce(tl_exec *x, tl_node *n, int i, int64_t rows, int64_t grain, int64_t width,
                        int64_t column, int64_t d);
/* Zeroes `bytes` on all threads. */
void tl_parallel_zero(tl_ctx *ctx, void *p, size_t bytes);

/* Whether the gradients of all parameters are more than a last-level cache keeps until the update
 * reads them. */
static inline bool tl_grads_are_far(const tl_params *p) {
  return p->n_values >= (int64_t)8 << 20;
}

#endif
