/* Timings of operators (through the graph's profile of a test case) and of bare kernels. */
#include "tilth/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/arena.h"
#include "base/file.h"
#include "ops/ops.h"
#include "ops/parallel.h"
#include "tilth/suggest.h"

enum { MIN_RUNS = 3, MAX_NAMES = 256 };

typedef struct bench {
  tl_ctx *ctx;
  double budget; /* seconds per case and type */
  tl_bench_fn fn;
  void *user;
} bench;

/* --- the machine's limits ------------------------------------------------------------------- */

typedef struct stream {
  const tl_row_kernels *k;
  const float *a, *b;
  float *y;
} stream;

static void stream_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const stream *t = arg;
  t->k->add(TL_F32, end - begin, t->a + begin, t->b + begin, t->y + begin);
}

tl_status tl_bench_measure_peak(tl_ctx *ctx, tl_bench_peak *out, tl_err *err) {
  for (int dt = 0; dt < 2; dt++)
    out->gflops[dt] = tl_peak_gflops(ctx->k->level, dt ? TL_BF16 : TL_F32) * tl_ctx_threads(ctx);
  const int64_t n = (256 << 20) / (3 * (int64_t)sizeof(float));
  size_t bytes = 3 * (size_t)n * sizeof(float);
  float *slab = tl_slab_alloc(bytes);
  if (!slab) return tl_fail(err, TL_NOMEM, "bench: out of memory for %zu MiB", bytes >> 20);
  /* The best kernel, whatever the context's level: memory is the same for all. */
  stream t = {&tl_kernels_get(tl_cpu_detect())->row, slab, slab + n, slab + 2 * n};
  double best = 1e30;
  for (int64_t i = 0; i < 3 * n; i++) slab[i] = 1;
  for (int run = 0; run < 8; run++) {
    double start = tl_now();
    tl_parallel_ranges(ctx, n, TL_CHUNK, stream_range, &t);
    double s = tl_now() - start;
    if (s < best) best = s;
  }
  tl_slab_free(slab, bytes);
  out->gbytes = (double)bytes / best * 1e-9;
  return TL_OK;
}

/* --- operators ------------------------------------------------------------------------------ */

static const int64_t *bench_dims(const tl_op *op) {
  if (op->bench[0]) return op->bench;
  int last = 0;
  while (op->cases[last + 1][0]) last++;
  return op->cases[last];
}

static void format_dims(const int64_t *dims, char *out, size_t size) {
  int n = TL_MAX_CASE_DIMS;
  size_t at = 0;
  while (n > 1 && dims[n - 1] == 0) n--;
  for (int i = 0; i < n && at < size; i++)
    at += (size_t)snprintf(out + at, size - at, "%s%lld", i ? " " : "", (long long)dims[i]);
}

/* Seconds of one pass spent in nodes of this operator, from the graph's profile. */
static double profiled(const tl_graph *g, const tl_op *op, int pass) {
  double sum = 0;
  for (int i = 0; i < g->n_nodes; i++)
    if (g->node[i]->op == op) sum += g->seconds[pass * g->n_nodes + i];
  return sum;
}

static tl_cost cost_of(const tl_graph *g, const tl_op *op) {
  tl_cost sum = {0};
  for (int i = 0; i < g->n_nodes; i++) {
    tl_cost c = {0};
    if (g->node[i]->op != op || !op->cost) continue;
    op->cost(g, g->node[i], &c);
    sum.flops_fwd += c.flops_fwd;
    sum.flops_bwd += c.flops_bwd;
    sum.bytes_fwd += c.bytes_fwd;
    sum.bytes_bwd += c.bytes_bwd;
  }
  return sum;
}

/* Builds the case with a loss; *backward: whether it has one. */
static tl_status build(tl_graph *g, const tl_op *op, bool *backward, tl_err *err) {
  tl_node *out = op->build_case(g, bench_dims(op)), *loss = NULL, *r = NULL;
  bool is_loss = out->ndim == 1 && out->shape[0] == TL_LOSS_N && out->dt == TL_F32;
  *backward = op->backward || op->grad_in_forward;
  if (*backward && !is_loss) r = tl_graph_input(g, "r", TL_F32, out->ndim, out->shape, out->dim);
  if (*backward) loss = is_loss ? out : tl_inner(g, out, r);
  TL_TRY(tl_graph_compile(g, loss, &out, 1, err));
  for (int64_t i = 0; r && i < tl_max_count(r); i++) ((float *)r->data)[i] = (float)(i % 7) - 3;
  g->seconds = calloc(2 * (size_t)g->n_nodes, sizeof *g->seconds);
  return g->seconds ? TL_OK : tl_fail(err, TL_NOMEM, "bench: out of memory");
}

static void time_graph(const bench *b, tl_graph *g, const tl_op *op, bool backward,
                       double best[2]) {
  best[0] = best[1] = 1e30;
  double end = tl_now() + b->budget;
  for (int run = 0; run < MIN_RUNS || tl_now() < end; run++) {
    memset(g->seconds, 0, 2 * (size_t)g->n_nodes * sizeof *g->seconds);
    tl_graph_run(g, &(tl_pass){.training = backward, .loss_scale = 1, .tick = (uint64_t)run});
    for (int pass = 0; pass < 2; pass++) {
      double s = profiled(g, op, pass);
      if (s < best[pass]) best[pass] = s;
    }
  }
}

static tl_status bench_op(const bench *b, const tl_op *op, tl_dtype dt, tl_err *err) {
  tl_params ps = {0};
  bool backward = false;
  tl_graph *g = tl_graph_new(b->ctx, &ps, &(tl_graph_options){dt, true});
  tl_status s = g ? build(g, op, &backward, err) : tl_fail(err, TL_NOMEM, "bench: out of memory");
  if (s == TL_OK) {
    double best[2];
    char shape[96];
    format_dims(bench_dims(op), shape, sizeof shape);
    time_graph(b, g, op, backward, best);
    tl_cost c = cost_of(g, op);
    tl_bench_row fwd = {op->name, shape, "forward", dt, best[0], c.flops_fwd, c.bytes_fwd};
    if (op->grad_in_forward) {
      fwd.pass = "both";
      fwd.flops += c.flops_bwd;
      fwd.bytes += c.bytes_bwd;
    }
    b->fn(b->user, &fwd);
    if (op->backward)
      b->fn(b->user,
            &(tl_bench_row){op->name, shape, "backward", dt, best[1], c.flops_bwd, c.bytes_bwd});
  }
  tl_graph_free(g);
  tl_params_free(&ps);
  return s;
}

/* --- bare kernels --------------------------------------------------------------------------- */

typedef struct kernel_job {
  tl_ctx *ctx;
  tl_gemm_args gemm;
  tl_gemm_pack_args pack;
  float *p, *g, *m, *v;
  int64_t n;
  double *partial;
} kernel_job;

static void run_gemm(kernel_job *j) {
  tl_gemm(j->ctx, &j->gemm);
}
static void run_pack(kernel_job *j) {
  tl_gemm_pack(j->ctx, &j->pack);
}

static void adamw_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const kernel_job *j = arg;
  const tl_adamw_args a = {1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 1, 0.1f, 0.05f};
  j->ctx->k->optim.adamw(&a, end - begin, j->g + begin, j->m + begin, j->v + begin, j->p + begin);
}
static void run_adamw(kernel_job *j) {
  tl_parallel_ranges(j->ctx, j->n, TL_CHUNK, adamw_range, j);
}

static void sgd_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const kernel_job *j = arg;
  j->ctx->k->optim.sgd(1e-3f, 0.9f, true, 0.1f, 1, end - begin, j->g + begin, j->m + begin,
                       j->p + begin);
}
static void run_sgd(kernel_job *j) {
  tl_parallel_ranges(j->ctx, j->n, TL_CHUNK, sgd_range, j);
}

static void sum_sq_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const kernel_job *j = arg;
  j->partial[begin / TL_CHUNK] = j->ctx->k->row.sum_sq(end - begin, j->g + begin);
}
static void run_sum_sq(kernel_job *j) {
  tl_parallel_ranges(j->ctx, j->n, TL_CHUNK, sum_sq_range, j);
}

static void time_kernel(const bench *b, const char *name, const char *shape, tl_dtype dt,
                        void (*run)(kernel_job *), kernel_job *j, double flops, double bytes) {
  double best = 1e30, end = tl_now() + b->budget;
  for (int k = 0; k < MIN_RUNS || tl_now() < end; k++) {
    double start = tl_now();
    run(j);
    double s = tl_now() - start;
    if (s < best) best = s;
  }
  b->fn(b->user, &(tl_bench_row){name, shape, "run", dt, best, flops, bytes});
}

/* C [M, N] = A [M, K] B [K, N] with a packed B, and the packing of B from f32. */
static tl_status bench_gemm(const bench *b, tl_dtype dt, const int64_t *mnk, tl_err *err) {
  int64_t M = mnk[0], N = mnk[1], K = mnk[2];
  size_t e = tl_dtype_size(dt), packed = tl_gemm_packed_bytes(b->ctx->k, dt, K, N);
  size_t a_bytes = ((size_t)(M * K) * e + 63) / 64 * 64, w_bytes = (size_t)(K * N) * sizeof(float);
  size_t c_bytes = ((size_t)(M * N) * e + 63) / 64 * 64;
  tl_gemm_args g = {.M = M, .N = N, .K = K, .dt = dt, .c_dt = dt};
  g.lda = K;
  g.ldc = N;
  g.b_packed = &g; /* any pointer: asks for the memory of a packed product */
  size_t work = tl_gemm_work_bytes(b->ctx, &g);
  size_t total = a_bytes + c_bytes + w_bytes + packed + work + 256;
  char *slab = tl_slab_alloc(total);
  if (!slab) return tl_fail(err, TL_NOMEM, "bench: out of memory for %zu MiB", total >> 20);
  char *w = slab + a_bytes + c_bytes, *pack = w + (w_bytes + 63) / 64 * 64;
  g.a = slab;
  g.c = slab + a_bytes;
  g.b_packed = pack;
  g.work = work ? pack + (packed + 63) / 64 * 64 : NULL;
  kernel_job j = {.ctx = b->ctx, .gemm = g};
  j.pack = (tl_gemm_pack_args){.dt = dt,
                               .K = K,
                               .N = N,
                               .src = w,
                               .src_dt = TL_F32,
                               .ld = N,
                               .rows = K,
                               .cols = N,
                               .packed = pack};
  char shape[64];
  snprintf(shape, sizeof shape, "%lld %lld %lld", (long long)M, (long long)N, (long long)K);
  time_kernel(b, "gemm_pack", shape, dt, run_pack, &j, 0, (double)(K * N) * (4 + (double)e));
  double bytes = (double)e * (double)(M * K + M * N + K * N);
  time_kernel(b, "gemm", shape, dt, run_gemm, &j, 2 * (double)M * (double)N * (double)K, bytes);
  tl_slab_free(slab, total);
  return TL_OK;
}

static tl_status bench_products(const bench *b, tl_err *err) {
  static const int64_t shapes[][3] = {
      {1024, 768, 768}, {1024, 3072, 768}, {1024, 768, 3072}, {1024, 8192, 768}, {256, 256, 256}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    for (int dt = 0; dt < 2; dt++) TL_TRY(bench_gemm(b, dt ? TL_BF16 : TL_F32, shapes[i], err));
  return TL_OK;
}

static tl_status bench_updates(const bench *b, tl_err *err) {
  const int64_t n = 8 << 20;
  size_t bytes = 4 * (size_t)n * sizeof(float);
  float *slab = tl_slab_alloc(bytes);
  double *partial = calloc((size_t)(n / TL_CHUNK + 1), sizeof *partial);
  tl_status s = TL_OK;
  if (slab && partial) {
    for (int64_t i = 0; i < 4 * n; i++) slab[i] = 1e-3f;
    kernel_job j = {.ctx = b->ctx,
                    .p = slab,
                    .g = slab + n,
                    .m = slab + 2 * n,
                    .v = slab + 3 * n,
                    .n = n,
                    .partial = partial};
    double count = (double)n;
    time_kernel(b, "adamw", "8388608", TL_F32, run_adamw, &j, 15 * count, 28 * count);
    time_kernel(b, "sgd", "8388608", TL_F32, run_sgd, &j, 8 * count, 20 * count);
    time_kernel(b, "sum_sq", "8388608", TL_F32, run_sum_sq, &j, 2 * count, 4 * count);
  } else {
    s = tl_fail(err, TL_NOMEM, "bench: out of memory for %zu MiB", bytes >> 20);
  }
  free(partial);
  tl_slab_free(slab, bytes);
  return s;
}

/* --- all ------------------------------------------------------------------------------------ */

static const struct {
  const char *name;
  tl_status (*run)(const bench *b, tl_err *err);
} kernels[] = {{"gemm", bench_products}, {"optim", bench_updates}};
enum { N_KERNELS = sizeof kernels / sizeof *kernels };

static tl_status check_name(const char *only, tl_err *err) {
  const char *names[MAX_NAMES];
  size_t n = 0;
  for (int i = 0; i < N_KERNELS; i++) names[n++] = kernels[i].name;
  for (int i = 0; i < tl_n_ops && n < MAX_NAMES; i++)
    if (tl_ops[i]->build_case) names[n++] = tl_ops[i]->name;
  for (size_t i = 0; i < n; i++)
    if (!strcmp(names[i], only)) return TL_OK;
  const char *near = tl_suggest(only, names, n);
  return tl_fail(err, TL_USAGE, "bench: no operator or kernel is called '%s'%s%s%s", only,
                 near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

tl_status tl_bench(tl_ctx *ctx, const char *only, double seconds, tl_bench_fn fn, void *user,
                   tl_err *err) {
  bench b = {ctx, seconds, fn, user};
  if (only) TL_TRY(check_name(only, err));
  for (int i = 0; i < N_KERNELS; i++)
    if (!only || !strcmp(only, kernels[i].name)) TL_TRY(kernels[i].run(&b, err));
  for (int i = 0; i < tl_n_ops; i++) {
    const tl_op *op = tl_ops[i];
    if (!op->build_case || (only && strcmp(only, op->name) != 0)) continue;
    for (int dt = 0; dt < 2; dt++) {
      if (tl_ctx_cancelled(ctx)) return tl_fail(err, TL_PREEMPTED, "bench: stopped");
      TL_TRY(bench_op(&b, op, dt ? TL_BF16 : TL_F32, err));
    }
  }
  return TL_OK;
}
