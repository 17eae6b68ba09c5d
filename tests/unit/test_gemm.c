/* Matrix products of every CPU level against a product in double precision. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "kernels/gemm.h"

enum { THREADS = 3, GUARD = 8 };

static tl_ctx *ctxs[TL_N_CPU_LEVELS][THREADS];
static int n_levels;

static int setup(void **state) {
  (void)state;
  n_levels = (int)tl_cpu_detect() + 1;
  for (int l = 0; l < n_levels; l++)
    for (int t = 0; t < THREADS; t++)
      if (tl_ctx_new(
              &(tl_ctx_options){.n_threads = t + 1, .cpu = tl_cpu_level_name((tl_cpu_level)l)},
              &ctxs[l][t], NULL) != TL_OK)
        return -1;
  return 0;
}

static int teardown(void **state) {
  (void)state;
  for (int l = 0; l < n_levels; l++)
    for (int t = 0; t < THREADS; t++) tl_ctx_free(ctxs[l][t]);
  return 0;
}

/* A random matrix of either type that ends where its allocation ends, so that the sanitizers see a
 * read past it. */
typedef struct mat {
  tl_dtype dt;
  int64_t n;
  void *p;
} mat;

static double at(const mat *m, int64_t i) {
  return m->dt == TL_F32 ? ((float *)m->p)[i] : tl_bf16_to_f32(((tl_bf16 *)m->p)[i]);
}

static void put(mat *m, int64_t i, float x) {
  if (m->dt == TL_F32)
    ((float *)m->p)[i] = x;
  else
    ((tl_bf16 *)m->p)[i] = tl_f32_to_bf16(x);
}

static mat mat_new(tl_dtype dt, int64_t n, uint32_t seed) {
  mat m = {dt, n, malloc((size_t)(n > 0 ? n : 1) * tl_dtype_size(dt))};
  tl_rng r = tl_rng_make(seed, TL_STREAM_TEST, 0, 0);
  for (int64_t i = 0; i < n; i++) put(&m, i, 2 * tl_rng_f32(&r) - 1);
  return m;
}

typedef struct shape {
  int64_t M, N, K;
} shape;

/* Which parts of the product a case uses. */
enum {
  A_TRANS = 1,
  B_TRANS = 2,
  PACKED = 4,
  ADD = 8,
  BIAS = 16,
  PRE_ACT = 32,
  RESIDUAL = 64,
  ALPHA = 128,
  PADDED = 256
};

typedef struct problem {
  shape s;
  unsigned flags;
  tl_act act;
  tl_dtype dt, c_dt;
  int64_t lda, ldb, ldc, ldr;
  mat a, b, c, bias, pre, res;
} problem;

static problem problem_new(shape s, unsigned flags, tl_act act, tl_dtype dt, tl_dtype c_dt) {
  problem p = {.s = s, .flags = flags, .act = act, .dt = dt, .c_dt = c_dt};
  int64_t pad = flags & PADDED ? 3 : 0;
  p.lda = (flags & A_TRANS ? s.M : s.K) + pad;
  p.ldb = (flags & B_TRANS ? s.K : s.N) + pad;
  p.ldc = s.N + pad;
  p.ldr = s.N + 2 * pad;
  p.a = mat_new(dt, (flags & A_TRANS ? s.K : s.M) * p.lda, 1);
  p.b = mat_new(dt, (flags & B_TRANS ? s.N : s.K) * p.ldb, 2);
  p.c = mat_new(c_dt, s.M * p.ldc, 3);
  p.bias = mat_new(TL_F32, s.N, 4);
  p.pre = mat_new(c_dt, s.M * p.ldc, 3);
  p.res = mat_new(c_dt, s.M * p.ldr, 5);
  return p;
}

static void problem_free(problem *p) {
  mat *all[] = {&p->a, &p->b, &p->c, &p->bias, &p->pre, &p->res};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->p);
}

static void *offset(const mat *m, int64_t i) {
  return (char *)m->p + i * (int64_t)tl_dtype_size(m->dt);
}

/* Rows [m0, m1) of the product into c and pre, which hold the whole result. */
static void run_rows(tl_ctx *ctx, const problem *p, const mat *c, const mat *pre, int64_t m0,
                     int64_t m1) {
  tl_gemm_args g = {.M = m1 - m0,
                    .N = p->s.N,
                    .K = p->s.K,
                    .dt = p->dt,
                    .a = offset(&p->a, p->flags & A_TRANS ? m0 : m0 * p->lda),
                    .lda = p->lda,
                    .a_trans = (p->flags & A_TRANS) != 0,
                    .b = p->b.p,
                    .ldb = p->ldb,
                    .b_trans = (p->flags & B_TRANS) != 0,
                    .c = offset(c, m0 * p->ldc),
                    .ldc = p->ldc,
                    .c_dt = p->c_dt,
                    .alpha = p->flags & ALPHA ? 0.75f : 0,
                    .add = (p->flags & ADD) != 0,
                    .act = p->act};
  if (p->flags & BIAS) g.bias = p->bias.p;
  if (p->flags & PRE_ACT) g.pre_act = offset(pre, m0 * p->ldc);
  if (p->flags & RESIDUAL) {
    g.residual = offset(&p->res, m0 * p->ldr);
    g.ldr = p->ldr;
  }
  bool given = (p->flags & PACKED) != 0;
  tl_gemm_args whole = g;
  whole.M = p->s.M;
  size_t bytes = tl_gemm_packed_bytes(ctx->k, p->dt, p->s.K, p->s.N);
  if (!given && p->s.K >= 512) bytes = tl_gemm_work_bytes(ctx, &whole); /* gemm_slices.c */
  void *packed = malloc(bytes + 1);
  memset(packed, 0xff, bytes); /* NaN: padding that is read must have been zeroed */
  if (given) {
    tl_gemm_pack_args pa = {p->dt,     p->s.K, p->s.N, p->b.p, p->dt,  p->ldb,
                            g.b_trans, 0,      0,      p->s.K, p->s.N, packed};
    tl_gemm_pack(ctx, &pa);
    g.b_packed = packed;
    assert_int_equal(tl_gemm_work_bytes(ctx, &g), 0);
  } else {
    assert_true(tl_gemm_work_bytes(ctx, &g) <= bytes);
    g.work = packed;
  }
  tl_gemm(ctx, &g);
  free(packed);
}

static double act_of(tl_act f, double x) {
  switch (f) {
  case TL_ACT_RELU:
    return x > 0 ? x : 0;
  case TL_ACT_SILU:
    return x / (1 + exp(-x));
  case TL_ACT_GELU:
    return 0.5 * x * (1 + erf(x / sqrt(2)));
  default:
    return x;
  }
}

/* The rounding of one value to the type of C, relative. */
static double rounding(tl_dtype dt) {
  return dt == TL_F32 ? 0x1p-24 : 0x1p-8;
}

/* The error of K f32 multiply-adds is at most (K + a few) 2^-24 times the sum of the magnitudes;
 * activations (slope <= 1.13) are computed within 4e-6 of it; C is rounded once. */
static void check(const problem *p, const mat *c, const mat *pre, const char *what) {
  for (int64_t i = 0; i < p->s.M; i++) {
    for (int64_t j = 0; j < p->s.N; j++) {
      double sum = 0, mag = 0;
      for (int64_t k = 0; k < p->s.K; k++) {
        double x = at(&p->a, p->flags & A_TRANS ? k * p->lda + i : i * p->lda + k) *
                   at(&p->b, p->flags & B_TRANS ? j * p->ldb + k : k * p->ldb + j);
        sum += x;
        mag += fabs(x);
      }
      if (p->flags & ALPHA) sum *= 0.75, mag *= 0.75;
      if (p->flags & ADD) sum += at(&p->c, i * p->ldc + j);
      if (p->flags & BIAS) sum += at(&p->bias, j);
      double tol = 0x1p-24 * ((double)p->s.K + 6) * (mag + 2);
      double u = rounding(p->c_dt);
      if (p->flags & PRE_ACT) {
        double got = at(pre, i * p->ldc + j);
        if (!(fabs(got - sum) <= tol + u * (fabs(sum) + tol)))
          fail_msg("%s: pre_act[%d][%d] = %g, expected %g", what, (int)i, (int)j, got, sum);
        sum = got; /* the activation reads what is stored, with its rounding */
      }
      double y = act_of(p->act, sum);
      if (p->act != TL_ACT_NONE) tol = tol * 1.2 + 4e-6 * (1 + fabs(y));
      if (p->flags & RESIDUAL) y += at(&p->res, i * p->ldr + j);
      double got = at(c, i * p->ldc + j);
      if (!(fabs(got - y) <= tol + u * (fabs(y) + tol)))
        fail_msg("%s: C[%d][%d] = %.9g, expected %.9g within %g", what, (int)i, (int)j, got, y,
                 tol + u * (fabs(y) + tol));
    }
    for (int64_t j = p->s.N; j < p->ldc; j++)
      if (at(c, i * p->ldc + j) != at(&p->c, i * p->ldc + j))
        fail_msg("%s: wrote past row %d", what, (int)i);
  }
}

static mat copy_of(const mat *m) {
  mat c = {m->dt, m->n, malloc((size_t)(m->n + GUARD) * tl_dtype_size(m->dt))};
  memcpy(c.p, m->p, (size_t)m->n * tl_dtype_size(m->dt));
  return c;
}

static void assert_same(const mat *a, const mat *b, const char *what) {
  if (memcmp(a->p, b->p, (size_t)a->n * tl_dtype_size(a->dt)) != 0)
    fail_msg("%s: bits differ", what);
}

/* Every level against double, and the same bits on 1, 2 and 3 threads and with M cut in two. */
static void run_case(shape s, unsigned flags, tl_act act, tl_dtype dt, tl_dtype c_dt) {
  problem p = problem_new(s, flags, act, dt, c_dt);
  for (int l = 0; l < n_levels; l++) {
    char what[160];
    snprintf(what, sizeof what, "%s %s->%s M=%d N=%d K=%d flags=%u act=%d",
             tl_cpu_level_name((tl_cpu_level)l), tl_dtype_name(dt), tl_dtype_name(c_dt), (int)s.M,
             (int)s.N, (int)s.K, flags, act);
    mat c = copy_of(&p.c), pre = copy_of(&p.pre);
    run_rows(ctxs[l][0], &p, &c, &pre, 0, s.M);
    check(&p, &c, &pre, what);
    for (int t = 1; t < THREADS + 1; t++) {
      mat c2 = copy_of(&p.c), pre2 = copy_of(&p.pre);
      int64_t cut = t < THREADS ? s.M : s.M * 2 / 5 + 1;
      run_rows(ctxs[l][t % THREADS], &p, &c2, &pre2, 0, cut);
      if (cut < s.M) run_rows(ctxs[l][0], &p, &c2, &pre2, cut, s.M);
      assert_same(&c, &c2, what);
      assert_same(&pre, &pre2, what);
      free(c2.p);
      free(pre2.p);
    }
    free(c.p);
    free(pre.p);
  }
  problem_free(&p);
}

static void odd_shapes(void **state) {
  (void)state;
  tl_rng r = tl_rng_make(7, TL_STREAM_TEST, 1, 0);
  for (int i = 0; i < 60; i++) {
    shape s = {1 + (int64_t)tl_rng_below(&r, 130), 1 + (int64_t)tl_rng_below(&r, 130),
               1 + (int64_t)tl_rng_below(&r, 130)};
    unsigned flags = tl_rng_u32(&r) & 511;
    static const tl_act acts[] = {TL_ACT_NONE, TL_ACT_RELU, TL_ACT_SILU, TL_ACT_GELU};
    tl_act act = acts[tl_rng_below(&r, 4)];
    run_case(s, flags, act, TL_F32, tl_rng_below(&r, 2) ? TL_F32 : TL_BF16);
    run_case(s, flags, act, TL_BF16, tl_rng_below(&r, 2) ? TL_F32 : TL_BF16);
  }
}

static void every_flag_combination(void **state) {
  (void)state;
  static const shape s = {7, 19, 21};
  for (unsigned flags = 0; flags < 512; flags++)
    for (int c = 0; c < 2; c++)
      for (int dt = 0; dt < 2; dt++)
        run_case(s, flags, flags % 3 ? TL_ACT_NONE : TL_ACT_SILU, dt ? TL_BF16 : TL_F32,
                 c ? TL_BF16 : TL_F32);
}

static void every_small_size(void **state) {
  (void)state;
  for (int64_t n = 1; n <= 130; n += n < 20 ? 1 : 9) {
    run_case((shape){n % 17 + 1, n, 5}, PADDED | ADD, TL_ACT_NONE, TL_F32, TL_F32);
    run_case((shape){n, 3, 9}, A_TRANS, TL_ACT_NONE, TL_BF16, TL_BF16);
    run_case((shape){3, 5, n}, B_TRANS, TL_ACT_NONE, TL_BF16, TL_F32);
    run_case((shape){2, 4, n}, PADDED, TL_ACT_NONE, TL_BF16, TL_F32);
  }
}

static void block_borders(void **state) {
  (void)state;
  static const shape shapes[] = {{97, 65, 385},  {13, 129, 769}, {96, 64, 768},  {6, 70, 1537},
                                 {1, 385, 384},  {25, 33, 2305}, {193, 130, 40}, {1, 1, 3000},
                                 {50, 129, 257}, {12, 64, 1540}};
  static const unsigned flags[] = {0, A_TRANS | ADD, B_TRANS | PACKED | BIAS | PRE_ACT,
                                   A_TRANS | B_TRANS | RESIDUAL | ALPHA | PADDED};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    run_case(shapes[i], flags[i % 4], TL_ACT_NONE, TL_F32, i % 2 ? TL_BF16 : TL_F32);
    run_case(shapes[i], flags[(i + 1) % 4], TL_ACT_NONE, TL_BF16, i % 2 ? TL_F32 : TL_BF16);
  }
}

/* Long sums with few columns (gemm_slices.c): one slice and several, odd ends of k, rows and
 * columns, more rows than a task has, the largest number of columns and one more. */
static void slices(void **state) {
  (void)state;
  static const shape shapes[] = {{5, 3, 511},    {5, 3, 512},    {13, 70, 1023}, {130, 129, 2047},
                                 {7, 130, 2048}, {65, 64, 3075}, {25, 17, 4999}, {390, 33, 600},
                                 {3, 512, 700},  {3, 513, 700}};
  static const unsigned flags[] = {0, ADD, B_TRANS, B_TRANS | ADD | PADDED, PADDED};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    for (int dt = 0; dt < 2; dt++)
      run_case(shapes[i], A_TRANS | flags[(i + (size_t)dt) % 5], TL_ACT_NONE, dt ? TL_BF16 : TL_F32,
               TL_F32);
}

static void no_k_gives_the_epilogue(void **state) {
  (void)state;
  run_case((shape){7, 70, 0}, BIAS | RESIDUAL | PRE_ACT, TL_ACT_RELU, TL_F32, TL_F32);
  run_case((shape){7, 70, 0}, ADD | PACKED, TL_ACT_NONE, TL_BF16, TL_BF16);
}

/* Several f32 weights side by side in one bf16 pack equal the product with their concatenation. */
static void pieces_share_a_pack(void **state) {
  (void)state;
  enum { M = 9, K = 71, N1 = 37, N2 = 90, N = N1 + N2 };
  mat w = mat_new(TL_F32, N * K, 11), a = mat_new(TL_BF16, M * K, 12);
  for (int l = 0; l < n_levels; l++) {
    tl_ctx *ctx = ctxs[l][1];
    for (int dt = 0; dt < 2; dt++) {
      tl_dtype type = dt ? TL_BF16 : TL_F32;
      size_t bytes = tl_gemm_packed_bytes(ctx->k, type, K, N);
      void *one = malloc(bytes), *two = malloc(bytes);
      memset(one, 0xff, bytes);
      memset(two, 0xff, bytes);
      tl_gemm_pack_args p = {type, K, N, w.p, TL_F32, K, true, 0, 0, K, N, one};
      tl_gemm_pack(ctx, &p);
      p.packed = two;
      p.cols = N1;
      tl_gemm_pack(ctx, &p);
      p.src = (float *)w.p + N1 * K;
      p.n0 = N1;
      p.cols = N2;
      tl_gemm_pack(ctx, &p);
      assert_memory_equal(one, two, bytes);
      /* The same B cut along k, from a [K, N] source. */
      mat wt = mat_new(TL_F32, N * K, 0);
      for (int k = 0; k < K; k++)
        for (int n = 0; n < N; n++) put(&wt, k * N + n, (float)at(&w, n * K + k));
      memset(two, 0xff, bytes);
      tl_gemm_pack_args q = {type, K, N, wt.p, TL_F32, N, false, 0, 0, 32, N, two};
      tl_gemm_pack(ctx, &q);
      q.src = (float *)wt.p + 32 * N;
      q.k0 = 32;
      q.rows = K - 32;
      tl_gemm_pack(ctx, &q);
      assert_memory_equal(one, two, bytes);
      free(wt.p);
      free(one);
      free(two);
    }
  }
  free(w.p);
  free(a.p);
}

static void batches_equal_single_products(void **state) {
  (void)state;
  static const int64_t counts[] = {1, 2, 5, 40};
  for (int l = 0; l < n_levels; l++) {
    for (size_t i = 0; i < 4; i++) {
      enum { M = 13, N = 70, K = 33 };
      tl_dtype dt = i % 2 ? TL_BF16 : TL_F32;
      int64_t count = counts[i];
      mat a = mat_new(dt, count * M * K, 21), b = mat_new(dt, count * N * K, 22);
      mat c = mat_new(TL_F32, count * M * N, 23), d = copy_of(&c);
      tl_gemm_args g = {.M = M, .N = N, .K = K, .dt = dt, .a = a.p, .lda = K, .b = b.p};
      g.ldb = K;
      g.b_trans = true;
      g.c = c.p;
      g.ldc = N;
      g.c_dt = TL_F32;
      g.add = true;
      tl_gemm_batch batch = {count, M * K, N * K, M * N};
      tl_ctx *ctx = ctxs[l][1];
      g.work = malloc(tl_gemm_batched_work_bytes(ctx, &g, &batch));
      tl_gemm_batched(ctx, &g, &batch);
      for (int64_t m = 0; m < count; m++) {
        g.a = offset(&a, m * M * K);
        g.b = offset(&b, m * N * K);
        g.c = offset(&d, m * M * N);
        tl_gemm(ctx, &g);
      }
      assert_same(&c, &d, tl_cpu_level_name((tl_cpu_level)l));
      free(g.work);
      free(a.p);
      free(b.p);
      free(c.p);
      free(d.p);
    }
  }
}

/* A NaN in A reaches its own row only, and a padded pair adds nothing even next to one. */
static void nan_stays_in_its_row(void **state) {
  (void)state;
  for (int l = 0; l < n_levels; l++) {
    for (int dt = 0; dt < 2; dt++) {
      problem p = problem_new((shape){5, 9, 7}, 0, TL_ACT_NONE, dt ? TL_BF16 : TL_F32, TL_F32);
      put(&p.a, 2 * p.lda, NAN); /* follows the odd end of row 1 */
      run_rows(ctxs[l][0], &p, &p.c, &p.pre, 0, 5);
      for (int i = 0; i < 5; i++)
        for (int j = 0; j < 9; j++) assert_true(isnan(at(&p.c, i * p.ldc + j)) == (i == 2));
      problem_free(&p);
    }
  }
}

/* Where the measured rates are far enough apart to be told apart on a busy machine. */
static void auto_is_the_faster_type(void **state) {
  (void)state;
  tl_cpu_level level = tl_cpu_detect();
  double f32 = tl_peak_gflops(level, TL_F32), bf16 = tl_peak_gflops(level, TL_BF16);
  tl_dtype dt = tl_kernels_dtype(tl_kernels_get(level), "auto");
  if (bf16 > 1.6 * f32) assert_int_equal(dt, TL_BF16);
  if (bf16 < f32) assert_int_equal(dt, TL_F32);
  assert_int_equal(tl_kernels_dtype(tl_kernels_get(level), "bf16"), TL_BF16);
  assert_int_equal(tl_kernels_dtype(tl_kernels_get(level), "f32"), TL_F32);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(odd_shapes),
      cmocka_unit_test(every_flag_combination),
      cmocka_unit_test(every_small_size),
      cmocka_unit_test(block_borders),
      cmocka_unit_test(slices),
      cmocka_unit_test(no_k_gives_the_epilogue),
      cmocka_unit_test(pieces_share_a_pack),
      cmocka_unit_test(batches_equal_single_products),
      cmocka_unit_test(nan_stays_in_its_row),
      cmocka_unit_test(auto_is_the_faster_type),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
