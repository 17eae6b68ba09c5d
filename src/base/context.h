/* Inside of tl_ctx, for the library's own modules. */
#ifndef TL_BASE_CONTEXT_H
#define TL_BASE_CONTEXT_H

#include <stddef.h>
#include "tilth/context.h"
#include "base/pool.h"

struct tl_kernels; /* src/kernels/kernels.h; base only carries the pointer */

struct tl_ctx {
  tl_pool *pool;
  const struct tl_kernels *k; /* filled by tl_ctx_new through tl_kernels_select */
  char *scratch;              /* of the matrix product: TL_GEMM_SCRATCH_BYTES per thread */
  size_t scratch_bytes;
  tl_log_fn log;
  tl_cancel_fn cancel;
  void *user;
};

#endif
