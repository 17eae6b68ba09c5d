/* Cutting element-wise work into tasks of a fixed size, so that results do not depend on threads.
 */
#ifndef TL_OPS_PARALLEL_H
#define TL_OPS_PARALLEL_H

#include "core/op.h"

/* Elements per task of element-wise work: large enough to hide the start of a region. */
enum { TL_CHUNK = 32768 };

typedef void (*tl_range_fn)(void *arg, int64_t begin, int64_t end, int worker);

/* fn over [0, n) in ranges of `grain` (the last may be shorter). */
void tl_parallel_ranges(tl_ctx *ctx, int64_t n, int64_t grain, tl_range_fn fn, void *arg);

/* Rows per task so that a task is about TL_CHUNK elements. */
static inline int64_t tl_row_grain(int64_t cols) {
  return cols >= TL_CHUNK ? 1 : (TL_CHUNK + cols - 1) / (cols > 0 ? cols : 1);
}

/* The gradient of n passes to in[i] as it is: copied or added (tl_grad_adds), unless both have the
 * same memory (tl_op.grad_alias). */
void tl_grad_pass(tl_exec *x, tl_node *n, int i);

static inline void *tl_at(tl_dtype dt, const void *p, int64_t i) {
  return (char *)(uintptr_t)p + i * (int64_t)tl_dtype_size(dt);
}

#endif
