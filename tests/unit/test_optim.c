/* Unit tests of src/optim: schedules by their values, optimizers against plain double formulas. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "optim/muon.h"
#include "optim/optim.h"
#include "optim/schedule.h"

#define assert_near(a, b, tol)                                                                     \
  do {                                                                                             \
    double a_ = (double)(a), b_ = (double)(b);                                                     \
    if (!(fabs(a_ - b_) <= (double)(tol))) fail_msg("%s = %.9g, expected %.9g", #a, a_, b_);       \
  } while (0)

/* --- schedules ------------------------------------------------------------------------------ */

static void schedules_have_their_values(void **state) {
  (void)state;
  tl_schedule s = {TL_SCHEDULE_COSINE, 9, 0.2, 0.1};
  assert_near(tl_schedule_at(&s, 1, 109), 0.1, 1e-7);
  assert_near(tl_schedule_at(&s, 9, 109), 0.9, 1e-7);
  assert_near(tl_schedule_at(&s, 10, 109), 1, 1e-7);
  assert_near(tl_schedule_at(&s, 60, 109), 0.55, 1e-7); /* half way */
  assert_near(tl_schedule_at(&s, 109, 109), 0.1 + 0.9 * 0.5 * (1 + cos(M_PI * 0.99)), 1e-7);
  assert_near(tl_schedule_at(&s, 1000, 109), tl_schedule_at(&s, 109, 109), 0);
  s.kind = TL_SCHEDULE_LINEAR;
  assert_near(tl_schedule_at(&s, 60, 109), 0.55, 1e-7);
  assert_near(tl_schedule_at(&s, 109, 109), 0.109, 1e-6);
  s.kind = TL_SCHEDULE_CONSTANT;
  assert_near(tl_schedule_at(&s, 109, 109), 1, 0);
  s = (tl_schedule){TL_SCHEDULE_WSD, 0, 0.2, 0};
  assert_near(tl_schedule_at(&s, 1, 100), 1, 0);
  assert_near(tl_schedule_at(&s, 81, 100), 1, 0);
  assert_near(tl_schedule_at(&s, 86, 100), 0.5, 1e-7); /* 1 - sqrt(5/20) */
  assert_near(tl_schedule_at(&s, 100, 100), 1 - sqrt(0.95), 1e-7);
  assert_near(tl_teacher_decay(0.96, 1, 100), 0.96, 1e-7);
  assert_near(tl_teacher_decay(0.96, 51, 100), 0.98, 1e-7); /* half way */
  assert_near(tl_teacher_decay(0.96, 101, 100), 1, 1e-7);
  assert_near(tl_teacher_decay(0.96, 7, 0), 0.96, 1e-7);
}

static void schedules_stay_in_bounds(void **state) {
  (void)state;
  for (int kind = 0; kind < TL_N_SCHEDULES; kind++)
    for (int64_t total = -1; total < 40; total++)
      for (int64_t warmup = 0; warmup < 50; warmup += 7) {
        tl_schedule s = {(tl_schedule_kind)kind, warmup, 0.3, 0.05};
        float last = 2;
        for (int64_t step = 1; step <= total; step++) {
          float f = tl_schedule_at(&s, step, total);
          assert_true(f > 0 && f <= 1);
          if (step > warmup + 1) assert_true(f <= last);
          last = f;
        }
        assert_near(tl_schedule_at(&s, warmup + 1, 0), 1, 0);
      }
}

static void names_are_parsed(void **state) {
  (void)state;
  tl_schedule_kind kind;
  tl_optim_type type;
  assert_true(tl_schedule_parse("wsd", &kind) && kind == TL_SCHEDULE_WSD);
  assert_false(tl_schedule_parse("step", &kind));
  assert_true(tl_optim_parse("muon", &type) && type == TL_OPTIM_MUON);
  assert_false(tl_optim_parse("lion", &type));
}

/* --- optimizers ----------------------------------------------------------------------------- */

typedef struct bench {
  tl_ctx *ctx;
  tl_params ps;
  tl_optim *o;
} bench;

/* A vector without decay, a decaying table, hidden matrices (wide and tall), a frozen one, and a
 * convolution's kernel. */
static void setup(bench *b, int threads, const tl_optim_options *opt) {
  tl_err err = {0};
  *b = (bench){0};
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = threads}, &b->ctx, &err), TL_OK);
  unsigned hidden = TL_PARAM_DECAY | TL_PARAM_HIDDEN;
  assert_non_null(tl_params_add(&b->ps, "gain", 1, (int64_t[]){37}, TL_INIT_NORMAL, 1, 0));
  assert_non_null(
      tl_params_add(&b->ps, "table", 2, (int64_t[]){700, 100}, TL_INIT_NORMAL, 1, TL_PARAM_DECAY));
  assert_non_null(tl_params_add(&b->ps, "wide", 2, (int64_t[]){24, 40}, TL_INIT_NORMAL, 1, hidden));
  assert_non_null(tl_params_add(&b->ps, "tall", 2, (int64_t[]){90, 30}, TL_INIT_NORMAL, 1, hidden));
  tl_param *frozen =
      tl_params_add(&b->ps, "frozen", 2, (int64_t[]){8, 8}, TL_INIT_NORMAL, 1, hidden);
  frozen->trainable = false;
  assert_non_null(
      tl_params_add(&b->ps, "kernel", 4, (int64_t[]){24, 10, 2, 2}, TL_INIT_NORMAL, 1, hidden));
  assert_int_equal(tl_params_alloc(&b->ps, true, &err), TL_OK);
  tl_params_init(b->ctx, &b->ps, 3);
  assert_int_equal(tl_optim_new(b->ctx, &b->ps, opt, &b->o, &err), TL_OK);
}

static void teardown(bench *b) {
  tl_optim_free(b->o);
  tl_params_free(&b->ps);
  tl_ctx_free(b->ctx);
}

static void fill_grads(bench *b, uint32_t step) {
  for (int i = 0; i < b->ps.n; i++) {
    tl_rng r = tl_rng_make(17, TL_STREAM_TEST, step, (uint64_t)i << 32);
    for (int64_t k = 0; b->ps.p[i]->grad && k < b->ps.p[i]->n; k++)
      b->ps.p[i]->grad[k] = tl_rng_normal(&r);
  }
}

static const tl_optim_options options = {.lr = 0.01f,
                                         .muon_lr = 0.05f,
                                         .beta1 = 0.9f,
                                         .beta2 = 0.95f,
                                         .eps = 1e-8f,
                                         .momentum = 0.9f,
                                         .weight_decay = 0.1f};

static tl_optim_options with_type(tl_optim_type type) {
  tl_optim_options o = options;
  o.type = type;
  return o;
}

static void adamw_follows_the_formula(void **state) {
  (void)state;
  bench b;
  tl_optim_options opt = with_type(TL_OPTIM_ADAMW);
  setup(&b, 2, &opt);
  tl_optim_lr_factors(b.o)[1] = 0.5f;
  for (int which = 0; which < 2; which++) {
    tl_param *p = b.ps.p[which];
    double w = (double)p->data[5], m = 0, v = 0, wd = which ? 0.1 : 0, f = which ? 0.5 : 1;
    bench one = b; /* each parameter is followed on its own optimizer */
    tl_err err = {0};
    assert_int_equal(tl_optim_new(b.ctx, &b.ps, &opt, &one.o, &err), TL_OK);
    tl_optim_lr_factors(one.o)[1] = 0.5f;
    for (int step = 1; step <= 5; step++) {
      fill_grads(&one, (uint32_t)step);
      double g = (double)p->grad[5] * 0.25, lr = 0.01 * 0.8 * f;
      m = 0.9 * m + 0.1 * g;
      v = 0.95 * v + 0.05 * g * g;
      double u = m / (1 - pow(0.9, step)) / (sqrt(v / (1 - pow(0.95, step))) + 1e-8);
      w -= lr * (u + wd * w);
      tl_optim_step(one.o, step, 0.8f, 0.25f);
      assert_near(p->data[5], w, 2e-6);
    }
    tl_optim_free(one.o);
  }
  teardown(&b);
}

static void sgd_follows_the_formula(void **state) {
  (void)state;
  bench b;
  tl_optim_options opt = with_type(TL_OPTIM_SGD);
  setup(&b, 1, &opt);
  tl_param *p = b.ps.p[1];
  double w = (double)p->data[60000], m = 0;
  for (int step = 1; step <= 5; step++) {
    fill_grads(&b, (uint32_t)step);
    double g = (double)p->grad[60000];
    m = 0.9 * m + g;
    w -= 0.01 * (g + 0.9 * m + 0.1 * w);
    tl_optim_step(b.o, step, 1, 1);
    assert_near(p->data[60000], w, 2e-6);
  }
  teardown(&b);
}

static void frozen_weights_stay(void **state) {
  (void)state;
  bench b;
  tl_optim_options opt = with_type(TL_OPTIM_MUON);
  setup(&b, 1, &opt);
  float before[64];
  uint64_t version = b.ps.version;
  memcpy(before, b.ps.p[4]->data, sizeof before);
  fill_grads(&b, 1);
  tl_optim_step(b.o, 1, 1, 1);
  assert_memory_equal(before, b.ps.p[4]->data, sizeof before);
  assert_true(b.ps.version > version);
  teardown(&b);
}

/* Eigenvalues of a symmetric n x n matrix, by Jacobi rotations. */
static void eigenvalues(double *a, int n) {
  for (int sweep = 0; sweep < 30; sweep++)
    for (int p = 0; p < n; p++)
      for (int q = p + 1; q < n; q++) {
        double apq = a[p * n + q];
        if (fabs(apq) < 1e-14) continue;
        double t = (a[q * n + q] - a[p * n + p]) / (2 * apq);
        t = (t >= 0 ? 1 : -1) / (fabs(t) + sqrt(t * t + 1));
        double c = 1 / sqrt(t * t + 1), s = t * c;
        for (int k = 0; k < n; k++) {
          double x = a[k * n + p], y = a[k * n + q];
          a[k * n + p] = c * x - s * y;
          a[k * n + q] = s * x + c * y;
        }
        for (int k = 0; k < n; k++) {
          double x = a[p * n + k], y = a[q * n + k];
          a[p * n + k] = c * x - s * y;
          a[q * n + k] = s * x + c * y;
        }
      }
}

static void muon_updates_are_nearly_orthogonal(void **state) {
  (void)state;
  bench b;
  tl_optim_options opt = with_type(TL_OPTIM_MUON);
  opt.weight_decay = 0;
  setup(&b, 2, &opt);
  for (int which = 2; which < 4; which++) {
    tl_param *p = b.ps.p[which];
    int rows = (int)p->shape[0], cols = (int)p->shape[1], n = rows < cols ? rows : cols;
    double *u = calloc((size_t)(rows * cols), sizeof *u);
    double *gram = calloc((size_t)(n * n), sizeof *gram);
    fill_grads(&b, 1);
    for (int i = 0; i < rows * cols; i++) u[i] = (double)p->data[i];
    tl_optim_step(b.o, which - 1, 1, 1);
    double scale = 0.05 * sqrt(fmax(1, (double)rows / cols));
    for (int i = 0; i < rows * cols; i++) u[i] = (u[i] - (double)p->data[i]) / scale;
    for (int i = 0; i < n; i++)
      for (int j = 0; j < n; j++)
        for (int k = 0; k < (rows < cols ? cols : rows); k++)
          gram[i * n + j] +=
              rows < cols ? u[i * cols + k] * u[j * cols + k] : u[k * cols + i] * u[k * cols + j];
    eigenvalues(gram, n);
    for (int i = 0; i < n; i++) {
      double sigma = sqrt(gram[i * n + i]);
      if (!(sigma > 0.6 && sigma < 1.3)) fail_msg("%s: singular value %g", p->name, sigma);
    }
    free(u);
    free(gram);
  }
  teardown(&b);
}

/* x [r, c] -> orthogonalised, in double, for r <= c. */
static void newton_schulz(double *x, int r, int c) {
  double norm = 0, *a = malloc(sizeof *a * (size_t)(2 * r * r)), *b = a + r * r;
  double *y = malloc(sizeof *y * (size_t)(r * c));
  for (int i = 0; i < r * c; i++) norm += x[i] * x[i];
  for (int i = 0; i < r * c; i++) x[i] /= sqrt(norm);
  for (int step = 0; step < 5; step++) {
    for (int i = 0; i < r; i++)
      for (int j = 0; j < r; j++) {
        a[i * r + j] = 0;
        for (int k = 0; k < c; k++) a[i * r + j] += x[i * c + k] * x[j * c + k];
      }
    for (int i = 0; i < r; i++)
      for (int j = 0; j < r; j++) {
        b[i * r + j] = -4.7750 * a[i * r + j];
        for (int k = 0; k < r; k++) b[i * r + j] += 2.0315 * a[i * r + k] * a[k * r + j];
      }
    for (int i = 0; i < r; i++)
      for (int j = 0; j < c; j++) {
        y[i * c + j] = 3.4445 * x[i * c + j];
        for (int k = 0; k < r; k++) y[i * c + j] += b[i * r + k] * x[k * c + j];
      }
    memcpy(x, y, sizeof *y * (size_t)(r * c));
  }
  free(a);
  free(y);
}

/* Parameter `which`, 24 x 40. */
static void follow_muon(int which) {
  bench b;
  tl_optim_options opt = with_type(TL_OPTIM_MUON);
  setup(&b, 2, &opt);
  tl_param *p = b.ps.p[which];
  int n = (int)p->n;
  double *w = malloc(sizeof *w * (size_t)n), *m = calloc((size_t)n, sizeof *m),
         *u = malloc(sizeof *u * (size_t)n);
  for (int i = 0; i < n; i++) w[i] = (double)p->data[i];
  for (int step = 1; step <= 3; step++) {
    fill_grads(&b, (uint32_t)step);
    for (int i = 0; i < n; i++) {
      double g = 0.5 * (double)p->grad[i];
      m[i] = 0.9 * m[i] + g;
      u[i] = g + 0.9 * m[i];
    }
    newton_schulz(u, 24, 40);
    for (int i = 0; i < n; i++) w[i] -= 0.05 * (u[i] + 0.1 * w[i]);
    tl_optim_step(b.o, step, 1, 0.5f);
  }
  /* In bf16 each step's error is a small part of an update. */
  double tol = 3 * 0.05 * (b.ctx->k->native_bf16 ? 0.03 : 1e-5);
  for (int i = 0; i < n; i++) assert_near(p->data[i], w[i], tol);
  free(w);
  free(m);
  free(u);
  teardown(&b);
}

static void muon_follows_the_formula(void **state) {
  (void)state;
  follow_muon(2);
  follow_muon(5); /* a kernel is the matrix of all behind its first axis */
}

/* Sides that the symmetric products cut into bands. */
static void muon_updates_large_matrices(void **state) {
  (void)state;
  enum { SHORT = 200, LONG = 210, N = SHORT * LONG };
  tl_ctx *ctx = NULL;
  tl_muon *u = NULL;
  float *g = malloc(N * sizeof *g), *turned = malloc(N * sizeof *g), *m = malloc(N * sizeof *g);
  float *p = malloc(N * sizeof *g);
  double *want = malloc(N * sizeof *want);
  const int64_t shapes[2][2] = {{SHORT, LONG}, {LONG, SHORT}};
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, NULL), TL_OK);
  assert_int_equal(tl_muon_new(ctx, 2, shapes, &u, NULL), TL_OK);
  tl_rng r = tl_rng_make(19, TL_STREAM_TEST, 0, 0);
  for (int i = 0; i < N; i++) {
    g[i] = tl_rng_normal(&r);
    want[i] = (double)g[i];
    turned[i % LONG * SHORT + i / LONG] = g[i];
  }
  newton_schulz(want, SHORT, LONG);
  for (int tall = 0; tall < 2; tall++) {
    int rows = (int)shapes[tall][0], cols = (int)shapes[tall][1];
    tl_muon_args a = {.rows = rows, .cols = cols, .lr = 1, .grad_scale = 1, .m = m, .p = p};
    a.g = tall ? turned : g;
    memset(m, 0, N * sizeof *m);
    memset(p, 0, N * sizeof *p);
    tl_muon_update(u, &a);
    double error = 0, size = 0, scale = sqrt(fmax(1, (double)rows / cols));
    for (int i = 0; i < SHORT; i++)
      for (int k = 0; k < LONG; k++) {
        double w = want[i * LONG + k], got = (double)p[tall ? k * SHORT + i : i * LONG + k];
        error += (w + got / scale) * (w + got / scale), size += w * w;
      }
    assert_near(sqrt(error / size), 0, ctx->k->native_bf16 ? 0.03 : 1e-4);
  }
  tl_muon_free(u);
  tl_ctx_free(ctx);
  free(g);
  free(turned);
  free(m);
  free(p);
  free(want);
}

static void same_bits_on_any_number_of_threads(void **state) {
  (void)state;
  for (int type = 0; type < TL_N_OPTIMS; type++) {
    bench b[3];
    tl_optim_options opt = with_type((tl_optim_type)type);
    opt.ema = 0.99f;
    double norm[3];
    for (int t = 0; t < 3; t++) {
      setup(&b[t], t + 1, &opt);
      for (int step = 1; step <= 3; step++) {
        fill_grads(&b[t], (uint32_t)step);
        norm[t] = tl_grad_norm(b[t].ctx, &b[t].ps);
        tl_optim_step(b[t].o, step, 1, (float)(1 / norm[t]));
      }
      assert_memory_equal(&norm[t], &norm[0], sizeof norm[0]);
      size_t bytes = (size_t)b[0].ps.n_values * sizeof(float);
      assert_memory_equal(b[t].ps.values, b[0].ps.values, bytes);
    }
    for (int t = 0; t < 3; t++) teardown(&b[t]);
  }
}

static void gradient_norm_is_the_norm(void **state) {
  (void)state;
  bench b;
  tl_optim_options opt = with_type(TL_OPTIM_ADAMW);
  setup(&b, 2, &opt);
  fill_grads(&b, 1);
  double sum = 0;
  for (int i = 0; i < b.ps.n; i++)
    for (int64_t k = 0; b.ps.p[i]->grad && k < b.ps.p[i]->n; k++)
      sum += (double)b.ps.p[i]->grad[k] * (double)b.ps.p[i]->grad[k];
  assert_near(tl_grad_norm(b.ctx, &b.ps) / sqrt(sum), 1, 1e-6);
  b.ps.p[1]->grad[69999] = NAN;
  assert_false(isfinite(tl_grad_norm(b.ctx, &b.ps)));
  b.ps.p[1]->grad[69999] = INFINITY;
  assert_false(isfinite(tl_grad_norm(b.ctx, &b.ps)));
  teardown(&b);
}

static void ema_averages_and_swaps(void **state) {
  (void)state;
  bench b;
  tl_optim_options opt = with_type(TL_OPTIM_ADAMW);
  opt.ema = 0.3f;
  setup(&b, 2, &opt);
  float *w = &b.ps.p[1]->data[40000];
  double avg = (double)*w;
  for (int step = 1; step <= 6; step++) {
    fill_grads(&b, (uint32_t)step);
    tl_optim_step(b.o, step, 1, 1);
    double decay = fmin(0.3, (1.0 + step) / (10.0 + step));
    avg += (1 - decay) * ((double)*w - avg);
  }
  float live = *w;
  tl_optim_swap_ema(b.o);
  assert_near(*w, avg, 1e-6);
  tl_optim_swap_ema(b.o);
  assert_true(*w == live);
  teardown(&b);
}

/* A teacher's weights are the average itself, at the decay that was set, and stay in their place.
 */
static void a_teacher_follows(void **state) {
  (void)state;
  bench b, twin;
  tl_err err = {0};
  tl_optim_options opt = with_type(TL_OPTIM_ADAMW);
  setup(&b, 2, &opt);
  setup(&twin, 2, &opt);
  tl_optim_free(b.o);
  opt.ema = 0.9f;
  opt.teacher = &twin.ps;
  memset(twin.ps.values, 0, (size_t)twin.ps.n_values * sizeof(float));
  assert_int_equal(tl_optim_new(b.ctx, &b.ps, &opt, &b.o, &err), TL_OK);
  float *w = &b.ps.p[1]->data[40000], *v = &twin.ps.p[1]->data[40000];
  double avg = (double)*w;
  assert_true(*v == *w);
  for (int step = 1; step <= 6; step++) {
    uint64_t version = twin.ps.version;
    fill_grads(&b, (uint32_t)step);
    tl_optim_set_ema(b.o, 0.75f);
    tl_optim_step(b.o, step, 1, 1);
    avg = 0.75 * avg + 0.25 * (double)*w;
    assert_true(twin.ps.version > version);
  }
  assert_near(*v, avg, 1e-6);
  float live = *w;
  tl_optim_swap_ema(b.o);
  assert_true(*w == live);
  int found = 0;
  for (int i = 0; i < tl_optim_n_tensors(b.o); i++)
    found += tl_optim_tensor_at(b.o, i)->data == twin.ps.p[1]->data;
  assert_int_equal(found, 1);
  tl_optim *none = NULL;
  twin.ps.p[1]->name = "another";
  assert_int_equal(tl_optim_new(b.ctx, &b.ps, &opt, &none, &err), TL_INTERNAL);
  teardown(&b);
  teardown(&twin);
}

/* --- initial values ------------------------------------------------------------------------- */

static void normal_numbers_are_the_same_on_every_level(void **state) {
  (void)state;
  enum { N = 1 << 16, CUT = 640 };
  float *want = malloc(N * sizeof *want), *x = malloc(N * sizeof *x);
  double mean = 0, sum2 = 0, sum4 = 0, next = 0, top = 0;
  tl_kernels_get(TL_CPU_REF)->optim.normal(5, TL_STREAM_TEST, 9, 0, N, 2, want);
  for (int level = 0; level <= (int)tl_cpu_detect(); level++) {
    const tl_optim_kernels *k = &tl_kernels_get((tl_cpu_level)level)->optim;
    memset(x, 0, N * sizeof *x);
    k->normal(5, TL_STREAM_TEST, 9, 0, CUT, 2, x);
    k->normal(5, TL_STREAM_TEST, 9, CUT, N - CUT - 3, 2, x + CUT);
    assert_memory_equal(x, want, (N - 3) * sizeof *x);
    assert_true(x[N - 3] == 0); /* nothing beyond the end */
  }
  for (int i = 0; i < N; i++) {
    double z = (double)want[i] / 2;
    mean += z / N, sum2 += z * z / N, sum4 += z * z * z * z / N;
    if (i) next += z * (double)want[i - 1] / 2 / N;
    top = fmax(top, fabs(z));
  }
  /* Four and more standard errors of each. */
  assert_near(mean, 0, 4.5 / 256);
  assert_near(sum2, 1, 4.5 * sqrt(2) / 256);
  assert_near(sum4, 3, 4.5 * sqrt(96) / 256);
  assert_near(next, 0, 4.5 / 256);
  assert_true(top > 3.6 && top < 6.6);
  free(want);
  free(x);
}

static void initial_values_depend_on_seed_and_name_alone(void **state) {
  (void)state;
  tl_optim_options opt = with_type(TL_OPTIM_SGD);
  bench b[3];
  for (int t = 0; t < 3; t++) setup(&b[t], t + 1, &opt);
  size_t bytes = (size_t)b[0].ps.n_values * sizeof(float);
  tl_params_init(NULL, &b[1].ps, 3);
  for (int t = 1; t < 3; t++) assert_memory_equal(b[t].ps.values, b[0].ps.values, bytes);
  tl_params alone = {0}; /* long enough for several tasks */
  tl_param *first = tl_params_add(&alone, "first", 1, (int64_t[]){600001}, TL_INIT_NORMAL, 1, 0);
  tl_param *p = tl_params_add(&alone, "table", 2, (int64_t[]){700, 1000}, TL_INIT_NORMAL, 1, 0);
  assert_true(first && p && tl_params_alloc(&alone, false, NULL) == TL_OK);
  tl_params_init(b[1].ctx, &alone, 3);
  assert_memory_equal(p->data, b[0].ps.p[1]->data, (size_t)b[0].ps.p[1]->n * sizeof(float));
  float last = p->data[699999], head = first->data[600000];
  tl_param_init(p, 3);
  tl_param_init(first, 3);
  assert_true(p->data[699999] == last && first->data[600000] == head);
  tl_params_free(&alone);
  for (int t = 0; t < 3; t++) teardown(&b[t]);
}

/* --- packs ---------------------------------------------------------------------------------- */

static void add_packs(bench *b, tl_dtype dt, int n, tl_param *const *w, bool conv1d) {
  for (int kind = 0; kind < 2; kind++)
    assert_non_null(tl_params_pack(&b->ps, b->ctx->k, (tl_pack_kind)kind, dt, n, w, conv1d));
}

/* Three weights side by side, one of them frozen, and one in the other order of axes; sizes that
 * fill no panel. */
static void setup_packed(bench *b, const tl_optim_options *opt) {
  static const int64_t shape[4][2] = {{200, 130}, {70, 130}, {66, 130}, {131, 300}};
  static const char *const name[4] = {"q", "k", "v", "fc"};
  tl_param *w[4];
  *b = (bench){0};
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &b->ctx, NULL), TL_OK);
  for (int i = 0; i < 4; i++) {
    w[i] = tl_params_add(&b->ps, name[i], 2, shape[i], TL_INIT_NORMAL, 1, TL_PARAM_HIDDEN);
    assert_non_null(w[i]);
  }
  w[1]->trainable = false;
  assert_int_equal(tl_params_alloc(&b->ps, true, NULL), TL_OK);
  tl_params_init(b->ctx, &b->ps, 3);
  for (int dt = 0; dt < 2; dt++) {
    add_packs(b, (tl_dtype)dt, 3, w, false);
    add_packs(b, (tl_dtype)dt, 1, w + 3, true);
  }
  assert_int_equal(tl_optim_new(b->ctx, &b->ps, opt, &b->o, NULL), TL_OK);
}

/* A pack that an update wrote is the pack of the new weights, and one that was stale stays so. */
static void packs_follow_the_update(void **state) {
  (void)state;
  for (int run = 0; run < 2 * TL_N_OPTIMS; run++) {
    bench b;
    tl_optim_options opt = with_type((tl_optim_type)(run / 2));
    opt.ema = 0.9f;
    setup_packed(&b, &opt);
    if (run % 2) b.ps.pack_bytes = (size_t)1 << 40; /* large enough to be written past the caches */
    tl_params_refresh(b.ctx, &b.ps);
    b.ps.packs->version = 0;
    fill_grads(&b, 1);
    tl_optim_step(b.o, 1, 1, 1);
    assert_true(b.ps.packs->version != b.ps.version + 1);
    for (tl_pack *k = b.ps.packs->next; k; k = k->next) {
      assert_true(k->version == b.ps.version + 1);
      char *copy = malloc(k->bytes);
      memcpy(copy, k->data, k->bytes);
      k->version = 0;
      tl_params_refresh(b.ctx, &b.ps);
      assert_memory_equal(copy, k->data, k->bytes);
      free(copy);
    }
    teardown(&b);
  }
}

/* Three steps at once, or two, then the saved state in a new optimizer and the third. */
static void resumes_with_the_same_bits(void **state) {
  (void)state;
  for (int type = 0; type < TL_N_OPTIMS; type++) {
    bench whole, part;
    tl_optim_options opt = with_type((tl_optim_type)type);
    opt.ema = 0.9f;
    setup(&whole, 2, &opt);
    setup(&part, 2, &opt);
    for (int step = 1; step <= 3; step++) {
      fill_grads(&whole, (uint32_t)step);
      tl_optim_step(whole.o, step, 1, 1);
      if (step == 3) break;
      fill_grads(&part, (uint32_t)step);
      tl_optim_step(part.o, step, 1, 1);
    }
    tl_optim *fresh = NULL;
    assert_int_equal(tl_optim_new(part.ctx, &part.ps, &opt, &fresh, NULL), TL_OK);
    int n = tl_optim_n_tensors(part.o);
    assert_int_equal(n, tl_optim_n_tensors(fresh));
    assert_true(n >= 8);
    for (int i = 0; i < n; i++) {
      const tl_optim_tensor *a = tl_optim_tensor_at(part.o, i), *f = tl_optim_tensor_at(fresh, i);
      assert_string_equal(a->name, f->name);
      for (int k = 0; k < i; k++)
        assert_string_not_equal(a->name, tl_optim_tensor_at(part.o, k)->name);
      memcpy(f->data, a->data, (size_t)a->param->n * sizeof(float));
    }
    tl_optim_free(part.o);
    part.o = fresh;
    fill_grads(&part, 3);
    tl_optim_step(part.o, 3, 1, 1);
    size_t bytes = (size_t)whole.ps.n_values * sizeof(float);
    assert_memory_equal(whole.ps.values, part.ps.values, bytes);
    teardown(&whole);
    teardown(&part);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(schedules_have_their_values),
      cmocka_unit_test(schedules_stay_in_bounds),
      cmocka_unit_test(names_are_parsed),
      cmocka_unit_test(adamw_follows_the_formula),
      cmocka_unit_test(sgd_follows_the_formula),
      cmocka_unit_test(frozen_weights_stay),
      cmocka_unit_test(muon_updates_are_nearly_orthogonal),
      cmocka_unit_test(muon_follows_the_formula),
      cmocka_unit_test(muon_updates_large_matrices),
      cmocka_unit_test(same_bits_on_any_number_of_threads),
      cmocka_unit_test(gradient_norm_is_the_norm),
      cmocka_unit_test(ema_averages_and_swaps),
      cmocka_unit_test(a_teacher_follows),
      cmocka_unit_test(normal_numbers_are_the_same_on_every_level),
      cmocka_unit_test(initial_values_depend_on_seed_and_name_alone),
      cmocka_unit_test(packs_follow_the_update),
      cmocka_unit_test(resumes_with_the_same_bits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
