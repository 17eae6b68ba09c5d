/* GFLOP/s of the products of training, on data that is not in the caches: bench_gemm [threads
 * [level [dtype [rows]]]]. Each line cycles through as many weights, activations and gradients as
 * make COLD_BYTES, as a step of a real model does; the best of several rounds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "kernels/gemm.h"

enum { COLD_BYTES = 160 << 20, MAX_SETS = 256 };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

typedef struct bench {
  tl_ctx *ctx;
  double peak;
  tl_dtype dt;
} bench;

typedef enum mode { FORWARD, GELU, RESIDUAL, DX, DW, N_MODES } mode;
static const char *const mode_names[] = {"forward", "forward bias gelu", "forward bias residual",
                                         "dX", "dW"};

/* Everything one product touches. */
typedef struct set {
  char *slab;
  size_t bytes;
  tl_gemm_args g;
} set;

static char *carve(char **at, size_t bytes) {
  char *p = *at;
  *at = p + (bytes + 4095) / 4096 * 4096;
  return p;
}

/* Small numbers, so that nothing is subnormal or infinite. */
static void fill(tl_dtype dt, void *p, int64_t n, uint32_t seed) {
  for (int64_t i = 0; i < n; i++) {
    seed = seed * 1664525u + 1013904223u;
    float x = (float)(seed >> 8) * 0x1p-24f - 0.5f;
    if (dt == TL_F32)
      ((float *)p)[i] = x;
    else
      ((tl_bf16 *)p)[i] = tl_f32_to_bf16(x);
  }
}

/* A product of `rows` token rows with a weight [out, in]; M, N, K by mode. */
static size_t lay_out(const bench *b, mode what, int64_t rows, int64_t in, int64_t out, set *s) {
  int64_t M = what == DW ? out : rows, N = what < DX ? out : in;
  int64_t K = what == DW ? rows : what == DX ? out : in;
  size_t e = tl_dtype_size(b->dt), packed = tl_gemm_packed_bytes(b->ctx->k, b->dt, K, N);
  tl_dtype c_dt = what == DW ? TL_F32 : b->dt;
  size_t c_bytes = (size_t)(M * N) * tl_dtype_size(c_dt);
  char *at = s->slab;
  tl_gemm_args *g = &s->g;
  *g = (tl_gemm_args){.M = M, .N = N, .K = K, .dt = b->dt, .c_dt = c_dt, .ldc = N};
  g->lda = what == DW ? M : K;
  g->a_trans = g->stream = what == DW;
  g->a = carve(&at, (size_t)(M * K) * e);
  g->c = carve(&at, c_bytes);
  if (what == DW) {
    g->b = carve(&at, (size_t)(K * N) * e);
    g->ldb = N;
    g->work = carve(&at, tl_gemm_work_bytes(b->ctx, g));
  } else {
    g->b_packed = carve(&at, packed);
  }
  if (what == GELU || what == RESIDUAL) g->bias = (float *)carve(&at, (size_t)N * sizeof(float));
  if (what == GELU) g->pre_act = carve(&at, c_bytes), g->act = TL_ACT_GELU_TANH;
  if (what == RESIDUAL) g->residual = carve(&at, c_bytes), g->ldr = N;
  return (size_t)(at - s->slab);
}

static void run(const bench *b, mode what, int64_t rows, int64_t in, int64_t out) {
  static set sets[MAX_SETS];
  set probe = {0};
  size_t bytes = lay_out(b, what, rows, in, out, &probe);
  int n = (int)(COLD_BYTES / bytes) + 1;
  if (n > MAX_SETS) n = MAX_SETS;
  char *work = NULL; /* one for all, as in a graph */
  for (int i = 0; i < n; i++) {
    set *s = &sets[i];
    *s = (set){.slab = tl_slab_alloc(bytes), .bytes = bytes};
    if (!s->slab) exit(1);
    lay_out(b, what, rows, in, out, s);
    if (i == 0)
      fill(b->dt, s->slab, (int64_t)(bytes / tl_dtype_size(b->dt)), 1);
    else
      memcpy(s->slab, sets[0].slab, bytes);
    if (!work) work = s->g.work;
    s->g.work = work;
  }
  double best = 1e9, end = now() + 0.1;
  for (int round = 0; round < 3 || now() < end; round++) {
    double t = now();
    for (int i = 0; i < n; i++) tl_gemm(b->ctx, &sets[i].g);
    t = (now() - t) / n;
    if (t < best) best = t;
  }
  double rate = 2e-9 * (double)rows * (double)in * (double)out / best;
  printf("%-4s rows %5d in %5d out %5d  %-22s %7.1f GFLOP/s %4.0f%%\n", tl_dtype_name(b->dt),
         (int)rows, (int)in, (int)out, mode_names[what], rate, 100 * rate / b->peak);
  fflush(stdout);
  for (int i = 0; i < n; i++) tl_slab_free(sets[i].slab, bytes);
}

/* Generation: a few rows against a weight, bounded by the memory it is read from. */
static void run_few_rows(const bench *b, int64_t rows) {
  run(b, FORWARD, rows, 768, 3072);
}

int main(int argc, char **argv) {
  tl_ctx_options o = {
      .n_threads = argc > 1 ? atoi(argv[1]) : 0, .cpu = argc > 2 ? argv[2] : NULL, .pin = true};
  bench b = {0};
  tl_err err;
  if (tl_ctx_new(&o, &b.ctx, &err) != TL_OK) {
    fprintf(stderr, "%s\n", err.msg);
    return 1;
  }
  b.dt = tl_kernels_dtype(b.ctx->k, argc > 3 ? argv[3] : "auto");
  b.peak = tl_peak_gflops(b.ctx->k->level, b.dt) * tl_ctx_threads(b.ctx);
  printf("%s %s peak %.1f GFLOP/s on %d threads\n", tl_ctx_cpu(b.ctx), tl_dtype_name(b.dt), b.peak,
         tl_ctx_threads(b.ctx));
  int64_t only = argc > 4 ? atoi(argv[4]) : 0;
  static const int64_t rows[] = {256, 1024, 4096}, dims[] = {384, 768};
  for (int d = 0; d < 2; d++)
    for (int r = 0; r < 3; r++)
      for (int m = 0; m < N_MODES && (!only || only == rows[r]); m++) {
        run(&b, (mode)m, rows[r], dims[d], 4 * dims[d]);
        if (m != GELU) run(&b, (mode)m, rows[r], 4 * dims[d], dims[d]);
        if (m != GELU) run(&b, (mode)m, rows[r], dims[d], dims[d]);
      }
  for (int64_t r = 1; r <= 8; r *= 2)
    if (!only || only == r) run_few_rows(&b, r);
  tl_ctx_free(b.ctx);
  return 0;
}
