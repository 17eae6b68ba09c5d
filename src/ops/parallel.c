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

typedef struct passing {
  tl_exec *x;
  tl_node *n;
  int i;
} passing;

static void pass_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const passing *p = arg;
  const tl_node *n = p->n;
  void *dx = tl_at(n->dt, n->in[p->i]->grad, begin);
  const void *dy = tl_at(n->dt, n->grad, begin);
  if (tl_grad_adds(p->x, n, p->i))
    p->x->k->row.acc(n->dt, end - begin, dy, dx);
  else
    p->x->k->row.convert(n->dt, dy, n->dt, dx, end - begin);
}

void tl_grad_pass(tl_exec *x, tl_node *n, int i) {
  if (tl_wants_grad(n, i) && n->in[i]->grad != n->grad)
    tl_parallel_ranges(x->ctx, tl_count(x->g, n), TL_CHUNK, pass_range, &(passing){x, n, i});
}
