#include "ops/parallel.h"

typedef struct ranges {
  int64_t n, grain;
  tl_range_fn fn;
  void *arg;
} ranges;

static void run_range(void *varg, int64_t task, int worker) {
  const ranges *r = varg;
  int64_t begin = task * r->grain, end = begin + r->grain;
  r->fn(r->arg, begin, end < r->n ? end : r->n, worker);
}

void tl_parallel_ranges(tl_ctx *ctx, int64_t n, int64_t grain, tl_range_fn fn, void *arg) {
  ranges r = {n, grain, fn, arg};
  tl_parallel(ctx->pool, (n + grain - 1) / grain, run_range, &r);
}
