#include "ops/partials.h"

#include <string.h>

size_t tl_partials_bytes(int64_t rows, int64_t grain, int64_t width) {
  return (size_t)((rows + grain - 1) / grain * width) * sizeof(float);
}

float *tl_partial(void *scratch, int64_t begin, int64_t grain, int64_t width) {
  float *p = (float *)scratch + begin / grain * width;
  memset(p, 0, (size_t)width * sizeof *p);
  return p;
}

typedef struct reduction {
  const tl_exec *x;
  int64_t chunks, width, column;
  float *out;
  bool add;
} reduction;

static void reduce_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const reduction *r = arg;
  const float *partials = (const float *)r->x->scratch + r->column + begin;
  if (!r->add) memset(r->out + begin, 0, (size_t)(end - begin) * sizeof(float));
  r->x->k->row.col_sum(TL_F32, r->chunks, end - begin, partials, r->width, r->out + begin);
}

void tl_partials_reduce(tl_exec *x, tl_node *n, int i, int64_t rows, int64_t grain, int64_t width,
                        int64_t column, int64_t d) {
  if (!tl_wants_grad(n, i)) return;
  reduction r = {.x = x,
                 .chunks = (rows + grain - 1) / grain,
                 .width = width,
                 .column = column,
                 .out = n->in[i]->grad,
                 .add = tl_grad_adds(x, n, i)};
  tl_parallel_ranges(x->ctx, d, 256, reduce_range, &r);
}

static void zero_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  memset((char *)arg + begin, 0, (size_t)(end - begin));
}

void tl_parallel_zero(tl_ctx *ctx, void *p, size_t bytes) {
  tl_parallel_ranges(ctx, (int64_t)bytes, (int64_t)1 << 20, zero_range, p);
}
