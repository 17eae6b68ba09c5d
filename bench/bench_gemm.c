/* GFLOP/s of the matrix products against the measured peak: bench_gemm [threads [level]]. Best of
 * many short runs. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "base/rng.h"
#include "kernels/gemm.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *filled(tl_dtype dt, int64_t n, uint32_t seed) {
  void *p = tl_slab_alloc((size_t)n * tl_dtype_size(dt));
  if (!p) exit(1);
  tl_rng r = tl_rng_make(seed, TL_STREAM_TEST, 0, 0);
  for (int64_t i = 0; i < n; i++) {
    float x = tl_rng_f32(&r) - 0.5f;
    if (dt == TL_F32)
      ((float *)p)[i] = x;
    else
      ((tl_bf16 *)p)[i] = tl_f32_to_bf16(x);
  }
  return p;
}

typedef enum mode { FORWARD, FORWARD_GELU, UNPACKED, DW, PACK_ONLY } mode;
static const char *const mode_names[] = {"forward", "forward+bias+gelu", "b unpacked",
                                         "dW (a^T, b unpacked, +=)", "pack from f32 [out,in]"};

static void run(tl_ctx *ctx, double peak, tl_dtype dt, mode what, int64_t M, int64_t N, int64_t K) {
  void *a = filled(dt, M * K, 1), *b = filled(what == PACK_ONLY ? TL_F32 : dt, K * N, 2);
  tl_dtype c_dt = what == DW ? TL_F32 : dt;
  void *c = filled(c_dt, M * N, 3), *pre = filled(c_dt, M * N, 3);
  float *bias = filled(TL_F32, N, 4);
  size_t bytes = tl_gemm_packed_bytes(ctx->k, dt, K, N);
  void *packed = tl_slab_alloc(bytes);
  if (!packed) exit(1);
  tl_gemm_pack_args p = {dt, K, N, b, dt, N, false, 0, 0, K, N, packed};
  if (what == PACK_ONLY) p.src_dt = TL_F32, p.trans = true, p.ld = K;
  tl_gemm_args g = {.M = M, .N = N, .K = K, .dt = dt, .a = a, .lda = K, .b = b, .ldb = N};
  g.c = c;
  g.ldc = N;
  g.c_dt = c_dt;
  if (what == DW) g.a_trans = g.add = true, g.lda = M;
  if (what == FORWARD_GELU) g.bias = bias, g.pre_act = pre, g.act = TL_ACT_GELU;
  if (what == FORWARD || what == FORWARD_GELU) {
    tl_gemm_pack(ctx, &p);
    g.b_packed = packed;
  } else {
    g.work = packed;
  }
  double best = 1e9, end = now() + 0.25;
  while (now() < end) {
    double t = now();
    if (what == PACK_ONLY)
      tl_gemm_pack(ctx, &p);
    else
      tl_gemm(ctx, &g);
    t = now() - t;
    if (t < best) best = t;
  }
  double rate =
      what == PACK_ONLY ? (double)(K * N) / best * 1e-9 : 2e-9 * (double)(M * N * K) / best;
  if (what == PACK_ONLY)
    printf("%-4s %5d %5d %5d  %-26s %7.2f Gelem/s\n", tl_dtype_name(dt), (int)M, (int)N, (int)K,
           mode_names[what], rate);
  else
    printf("%-4s %5d %5d %5d  %-26s %7.1f GFLOP/s %4.0f%%\n", tl_dtype_name(dt), (int)M, (int)N,
           (int)K, mode_names[what], rate, 100 * rate / peak);
  fflush(stdout);
  tl_slab_free(a, (size_t)(M * K) * tl_dtype_size(dt));
  tl_slab_free(b, (size_t)(K * N) * tl_dtype_size(what == PACK_ONLY ? TL_F32 : dt));
  tl_slab_free(c, (size_t)(M * N) * tl_dtype_size(c_dt));
  tl_slab_free(pre, (size_t)(M * N) * tl_dtype_size(c_dt));
  tl_slab_free(bias, (size_t)N * sizeof(float));
  tl_slab_free(packed, bytes);
}

int main(int argc, char **argv) {
  tl_ctx_options o = {.n_threads = argc > 1 ? atoi(argv[1]) : 1, .cpu = argc > 2 ? argv[2] : NULL};
  tl_ctx *ctx;
  tl_err err;
  if (tl_ctx_new(&o, &ctx, &err) != TL_OK) {
    fprintf(stderr, "%s\n", err.msg);
    return 1;
  }
  static const int64_t shapes[][3] = {
      {4096, 768, 256},  {4096, 256, 768},  {4096, 384, 384},   {4096, 1024, 256}, {2048, 768, 768},
      {2048, 3072, 768}, {2048, 768, 3072}, {2048, 1024, 1024}, {8, 768, 768},     {1, 3072, 768}};
  for (int d = 1; d >= 0; d--) {
    tl_dtype dt = d ? TL_BF16 : TL_F32;
    double peak = tl_peak_gflops(ctx->k->level, dt) * tl_ctx_threads(ctx);
    printf("%s %s peak %.1f GFLOP/s on %d threads\n", tl_ctx_cpu(ctx), tl_dtype_name(dt), peak,
           tl_ctx_threads(ctx));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
      int64_t M = shapes[i][0], N = shapes[i][1], K = shapes[i][2];
      run(ctx, peak, dt, FORWARD, M, N, K);
      if (M <= 8) continue;
      run(ctx, peak, dt, FORWARD_GELU, M, N, K);
      run(ctx, peak, dt, UNPACKED, M, N, K);
      run(ctx, peak, dt, DW, N, K, M);
      run(ctx, peak, dt, PACK_ONLY, M, N, K);
    }
  }
  tl_ctx_free(ctx);
  return 0;
}
