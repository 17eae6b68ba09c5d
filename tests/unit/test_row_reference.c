/* The references themselves: values against the formulas in double precision, gradients against
 * central differences of those formulas, in double as well. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "kernels/kernels.h"

enum { ROWS = 3, D = 10, MAX = 128 };
#define EPS 1e-5

/* A differentiable kernel: y [n_y] of x [n_x] and f32 parameters [n_param]. */
typedef struct ref_case {
  const char *name;
  int n_x, n_param, n_y;
  tl_act f;
  void (*formula)(tl_act f, const double *x, const double *param, double *y);
  void (*forward)(const tl_row_kernels *k, tl_dtype dt, tl_act f, const void *x, const float *param,
                  void *y, float *stats);
  /* dx sets or adds; dparam adds. y and stats are those of the forward. */
  void (*backward)(const tl_row_kernels *k, tl_dtype dt, tl_act f, const void *x,
                   const float *param, const void *y, const float *stats, const void *dy, void *dx,
                   bool add, float *dparam);
} ref_case;

static double act(tl_act f, double x) {
  switch (f) {
  case TL_ACT_GELU:
    return x * 0.5 * erfc(-x / sqrt(2.0));
  case TL_ACT_GELU_TANH:
    return 0.5 * x * (1 + tanh(sqrt(2 / 3.141592653589793) * (x + 0.044715 * x * x * x)));
  case TL_ACT_RELU:
    return x > 0 ? x : 0;
  case TL_ACT_RELU2:
    return x > 0 ? x * x : 0;
  case TL_ACT_SILU:
    return x / (1 + exp(-x));
  case TL_ACT_TANH:
    return tanh(x);
  case TL_ACT_SIGMOID:
    return 1 / (1 + exp(-x));
  default:
    return x;
  }
}

static void act_formula(tl_act f, const double *x, const double *param, double *y) {
  (void)param;
  for (int i = 0; i < 64; i++) y[i] = act(f, x[i]);
}

static void act_forward(const tl_row_kernels *k, tl_dtype dt, tl_act f, const void *x,
                        const float *param, void *y, float *stats) {
  (void)param, (void)stats;
  k->act(dt, f, 64, x, y);
}

static void act_backward(const tl_row_kernels *k, tl_dtype dt, tl_act f, const void *x,
                         const float *param, const void *y, const float *stats, const void *dy,
                         void *dx, bool add, float *dparam) {
  (void)param, (void)y, (void)stats, (void)dparam;
  k->act_bwd(dt, f, 64, x, dy, dx, add);
}

static void glu_formula(tl_act f, const double *x, const double *param, double *y) {
  (void)param;
  for (int r = 0; r < ROWS; r++)
    for (int j = 0; j < D; j++) y[r * D + j] = act(f, x[r * 2 * D + j]) * x[r * 2 * D + D + j];
}

static void glu_forward(const tl_row_kernels *k, tl_dtype dt, tl_act f, const void *x,
                        const float *param, void *y, float *stats) {
  (void)param, (void)stats;
  k->glu(dt, f, ROWS, D, x, y);
}

static void glu_backward(const tl_row_kernels *k, tl_dtype dt, tl_act f, const void *x,
                         const float *param, const void *y, const float *stats, const void *dy,
                         void *dx, bool add, float *dparam) {
  (void)param, (void)y, (void)stats, (void)dparam;
  k->glu_bwd(dt, f, ROWS, D, x, dy, dx, add);
}

/* Parameters: gain, then bias. */
static void layer_norm_formula(tl_act f, const double *x, const double *param, double *y) {
  (void)f;
  for (int r = 0; r < ROWS; r++) {
    double mean = 0, var = 0;
    for (int j = 0; j < D; j++) mean += x[r * D + j] / D;
    for (int j = 0; j < D; j++) var += (x[r * D + j] - mean) * (x[r * D + j] - mean) / D;
    for (int j = 0; j < D; j++)
      y[r * D + j] = (x[r * D + j] - mean) / sqrt(var + EPS) * param[j] + param[D + j];
  }
}

static void layer_norm_forward(const tl_row_kernels *k, tl_dtype dt, tl_act f, const void *x,
                               const float *param, void *y, float *stats) {
  (void)f;
  k->layer_norm(dt, ROWS, D, x, param, param + D, (float)EPS, y, stats, stats + ROWS);
}

static void layer_norm_backward(const tl_row_kernels *k, tl_dtype dt, tl_act f, const void *x,
                                const float *param, const void *y, const float *stats,
                                const void *dy, void *dx, bool add, float *dparam) {
  (void)f, (void)y;
  k->layer_norm_bwd(dt, ROWS, D, x, param, stats, stats + ROWS, dy, dx, add, dparam, dparam + D);
}

/* Rows of x are D + 2 apart, the last two columns belong to nobody. */
static void rms_norm_formula(tl_act f, const double *x, const double *param, double *y) {
  (void)f;
  for (int r = 0; r < ROWS; r++) {
    double sq = 0;
    for (int j = 0; j < D; j++) sq += x[r * (D + 2) + j] * x[r * (D + 2) + j] / D;
    for (int j = 0; j < D; j++) y[r * D + j] = x[r * (D + 2) + j] / sqrt(sq + EPS) * param[j];
  }
}

static void rms_norm_forward(const tl_row_kernels *k, tl_dtype dt, tl_act f, const void *x,
                             const float *param, void *y, float *stats) {
  (void)f;
  k->rms_norm(dt, ROWS, D, x, D + 2, param, (float)EPS, y, D, stats);
}

static void rms_norm_backward(const tl_row_kernels *k, tl_dtype dt, tl_act f, const void *x,
                              const float *param, const void *y, const float *stats, const void *dy,
                              void *dx, bool add, float *dparam) {
  (void)f, (void)y;
  k->rms_norm_bwd(dt, ROWS, D, x, D + 2, param, stats, dy, D, dx, D + 2, add, dparam);
}

static void softmax_formula(tl_act f, const double *x, const double *param, double *y) {
  (void)f, (void)param;
  for (int r = 0; r < ROWS; r++) {
    double sum = 0;
    for (int j = 0; j < D; j++) sum += exp(x[r * D + j]);
    for (int j = 0; j < D; j++) y[r * D + j] = exp(x[r * D + j]) / sum;
  }
}

static void softmax_forward(const tl_row_kernels *k, tl_dtype dt, tl_act f, const void *x,
                            const float *param, void *y, float *stats) {
  (void)f, (void)param, (void)stats;
  k->softmax(dt, ROWS, D, x, y);
}

static void softmax_backward(const tl_row_kernels *k, tl_dtype dt, tl_act f, const void *x,
                             const float *param, const void *y, const float *stats, const void *dy,
                             void *dx, bool add, float *dparam) {
  (void)f, (void)x, (void)param, (void)stats, (void)dparam;
  k->softmax_bwd(dt, ROWS, D, y, dy, dx, add);
}

/* Rows of two heads of 4 columns at positions 5, 0, 2; the angles are 0.1 pos (j + 1). */
static const int32_t rope_pos[ROWS] = {5, 0, 2};

static void rope_table(float t[6 * 4]) {
  for (int p = 0; p < 6; p++)
    for (int j = 0; j < 2; j++) {
      t[p * 4 + j] = (float)cos(0.1 * p * (j + 1));
      t[p * 4 + 2 + j] = (float)sin(0.1 * p * (j + 1));
    }
}

static void rope_formula(tl_act f, const double *x, const double *param, double *y) {
  (void)f, (void)param;
  for (int r = 0; r < ROWS; r++)
    for (int h = 0; h < 2; h++)
      for (int j = 0; j < 2; j++) {
        double angle = 0.1 * rope_pos[r] * (j + 1);
        const double *in = x + r * 8 + h * 4 + j;
        y[r * 8 + h * 4 + j] = in[0] * cos(angle) - in[2] * sin(angle);
        y[r * 8 + h * 4 + j + 2] = in[2] * cos(angle) + in[0] * sin(angle);
      }
}

static void rope_forward(const tl_row_kernels *k, tl_dtype dt, tl_act f, const void *x,
                         const float *param, void *y, float *stats) {
  float t[24];
  (void)f, (void)param, (void)stats;
  rope_table(t);
  k->rope(dt, ROWS, 2, 4, x, 8, rope_pos, t, false, y, 8, false);
}

static void rope_backward(const tl_row_kernels *k, tl_dtype dt, tl_act f, const void *x,
                          const float *param, const void *y, const float *stats, const void *dy,
                          void *dx, bool add, float *dparam) {
  float t[24];
  (void)f, (void)x, (void)param, (void)y, (void)stats, (void)dparam;
  rope_table(t);
  k->rope(dt, ROWS, 2, 4, dy, 8, rope_pos, t, true, dx, 8, add);
}

#define ACT(f)                                                                                     \
  { #f, 64, 0, 64, f, act_formula, act_forward, act_backward }
static const ref_case ref_cases[] = {
    ACT(TL_ACT_NONE),
    ACT(TL_ACT_GELU),
    ACT(TL_ACT_GELU_TANH),
    ACT(TL_ACT_RELU),
    ACT(TL_ACT_RELU2),
    ACT(TL_ACT_SILU),
    ACT(TL_ACT_TANH),
    ACT(TL_ACT_SIGMOID),
    {"swiglu", ROWS * 2 * D, 0, ROWS *D, TL_ACT_SILU, glu_formula, glu_forward, glu_backward},
    {"geglu", ROWS * 2 * D, 0, ROWS *D, TL_ACT_GELU, glu_formula, glu_forward, glu_backward},
    {"layer_norm", ROWS *D, 2 * D, ROWS *D, TL_ACT_NONE, layer_norm_formula, layer_norm_forward,
     layer_norm_backward},
    {"rms_norm", ROWS *(D + 2), D, ROWS *D, TL_ACT_NONE, rms_norm_formula, rms_norm_forward,
     rms_norm_backward},
    {"softmax", ROWS *D, 0, ROWS *D, TL_ACT_NONE, softmax_formula, softmax_forward,
     softmax_backward},
    {"rope", ROWS * 8, 0, ROWS * 8, TL_ACT_NONE, rope_formula, rope_forward, rope_backward},
};

static void set(tl_dtype dt, void *p, int i, double v) {
  if (dt == TL_BF16)
    ((tl_bf16 *)p)[i] = tl_f32_to_bf16((float)v);
  else
    ((float *)p)[i] = (float)v;
}

static double get(tl_dtype dt, const void *p, int i) {
  return dt == TL_BF16 ? tl_bf16_to_f32(((const tl_bf16 *)p)[i]) : ((const float *)p)[i];
}

static void check_within(double got, double want, double tol, const char *what, const char *part,
                         int i) {
  if (!(fabs(got - want) <= tol)) fail_msg("%s, %s %d: %.9g, want %.9g", what, part, i, got, want);
}

/* 4e-6 relative to max(1, |want|) for f32; ulp, half a unit of bf16, when the result is stored so.
 */
static void check(double got, double want, double ulp, const char *what, const char *part, int i) {
  check_within(got, want, 4e-6 * fmax(1, fabs(want)) + ulp * fabs(want), what, part, i);
}

typedef struct point { /* one evaluation in double */
  double x[MAX], param[MAX], dy[MAX];
} point;

static double formula_loss(const ref_case *c, const point *p) {
  double y[MAX], sum = 0;
  c->formula(c->f, p->x, p->param, y);
  for (int i = 0; i < c->n_y; i++) sum += y[i] * p->dy[i];
  return sum;
}

static double slope(const ref_case *c, point *p, double *at) {
  double keep = *at, h = 1e-5;
  *at = keep + h;
  double up = formula_loss(c, p);
  *at = keep - h;
  double down = formula_loss(c, p);
  *at = keep;
  return (up - down) / (2 * h);
}

static void run_case(const tl_row_kernels *k, const ref_case *c, tl_dtype dt) {
  point p;
  float x[MAX], dy[MAX], y[MAX], dx[MAX] = {0}, param[MAX], dparam[MAX] = {0}, stats[MAX];
  double want[MAX], ulp = dt == TL_BF16 ? 0x1p-8 : 0;
  tl_rng r = tl_rng_make(21, TL_STREAM_TEST, 0, 0);
  for (int i = 0; i < MAX; i++) {
    set(dt, x, i, i < 2 ? i - 20.5 : 2 * (double)tl_rng_normal(&r));
    set(dt, dy, i, (double)tl_rng_normal(&r));
    param[i] = 1 + 0.3f * tl_rng_normal(&r);
    p.x[i] = get(dt, x, i);
    p.dy[i] = get(dt, dy, i);
    p.param[i] = (double)param[i];
  }
  c->formula(c->f, p.x, p.param, want);
  c->forward(k, dt, c->f, x, param, y, stats);
  for (int i = 0; i < c->n_y; i++) check(get(dt, y, i), want[i], ulp, c->name, "value", i);
  /* Set, then add: once in f32 terms, twice in the sum. */
  c->backward(k, dt, c->f, x, param, y, stats, dy, dx, false, dparam);
  /* The backward of softmax starts from y <= 1, which bf16 has rounded. */
  double slack = dt == TL_BF16 && c->formula == softmax_formula ? 0x1p-8 : 0;
  for (int i = 0; i < c->n_x; i++) {
    bool owned = c->formula != rms_norm_formula || i % (D + 2) < D;
    double s = slope(c, &p, &p.x[i]);
    if (owned)
      check_within(get(dt, dx, i), s, 4e-6 * fmax(1, fabs(s)) + ulp * fabs(s) + slack, c->name,
                   "gradient", i);
    else
      assert_true(get(dt, dx, i) == 0);
  }
  for (int i = 0; i < c->n_param; i++)
    check((double)dparam[i], slope(c, &p, &p.param[i]), 0, c->name, "parameter gradient", i);
  double once[MAX];
  for (int i = 0; i < c->n_x; i++) once[i] = get(dt, dx, i);
  c->backward(k, dt, c->f, x, param, y, stats, dy, dx, true, dparam);
  for (int i = 0; i < c->n_x; i++)
    check(get(dt, dx, i), 2 * once[i], 2 * ulp, c->name, "added gradient", i);
}

static void references_match_the_formulas(void **state) {
  (void)state;
  const tl_row_kernels *k = &tl_kernels_get(TL_CPU_REF)->row;
  for (size_t c = 0; c < sizeof ref_cases / sizeof *ref_cases; c++)
    for (int dt = TL_F32; dt <= TL_BF16; dt++) run_case(k, &ref_cases[c], dt);
}

static double xent_loss(const double *l, int v, int t, double smoothing, double z_coef, double *z) {
  double sum = 0, mean = 0;
  for (int j = 0; j < v; j++) sum += exp(l[j]);
  for (int j = 0; j < v; j++) mean += l[j] / v;
  double lse = log(sum);
  *z = z_coef * lse * lse;
  return lse - (1 - smoothing) * l[t] - smoothing * mean;
}

static void xent_matches_the_formula(void **state) {
  (void)state;
  const tl_row_kernels *k = &tl_kernels_get(TL_CPU_REF)->row;
  enum { V = 23 };
  tl_rng r = tl_rng_make(22, TL_STREAM_TEST, 0, 0);
  for (int variant = 0; variant < 4; variant++) {
    double l[V], s = variant & 1 ? 0.1 : 0, zc = variant & 2 ? 0.01 : 0, z, up, down;
    float logits[V], d[V], loss, zloss;
    int32_t target = 7, correct;
    for (int j = 0; j < V; j++) l[j] = logits[j] = 3 * tl_rng_normal(&r);
    k->xent(TL_F32, 1, V, logits, V, &target, (float)s, (float)zc, 0.25f, d, V, &loss, &zloss,
            &correct);
    check((double)loss, xent_loss(l, V, target, s, zc, &z), 0, "xent", "loss", variant);
    check((double)zloss, z, 0, "xent", "z loss", variant);
    for (int j = 0; j < V; j++) {
      double keep = l[j];
      l[j] = keep + 1e-5;
      up = xent_loss(l, V, target, s, zc, &z);
      up += z;
      l[j] = keep - 1e-5;
      down = xent_loss(l, V, target, s, zc, &z);
      down += z;
      l[j] = keep;
      check((double)d[j], 0.25 * (up - down) / 2e-5, 0, "xent", "gradient", j);
    }
  }
}

/* Two steps of AdamW and of SGD with Nesterov momentum, written out in double. */
static void optimizers_match_the_formulas(void **state) {
  (void)state;
  const tl_optim_kernels *k = &tl_kernels_get(TL_CPU_REF)->optim;
  float g[2] = {0.5f, -2}, m = 0, v = 0, p = 1.5f, sm = 0, sp = 1.5f, avg = 1;
  double dm = 0, dv = 0, dp = 1.5, dsm = 0, dsp = 1.5;
  for (int step = 1; step <= 2; step++) {
    tl_adamw_args a = {.lr = 0.01f,
                       .beta1 = 0.9f,
                       .beta2 = 0.99f,
                       .eps = 1e-8f,
                       .weight_decay = 0.1f,
                       .grad_scale = 0.5f,
                       .bias1 = (float)(1 - pow(0.9, step)),
                       .bias2 = (float)(1 - pow(0.99, step))};
    double gi = (double)g[step - 1] * 0.5;
    k->adamw(&a, 1, &g[step - 1], &m, &v, &p);
    dm = 0.9 * dm + 0.1 * gi;
    dv = 0.99 * dv + 0.01 * gi * gi;
    double mhat = dm / (1 - pow(0.9, step)), vhat = dv / (1 - pow(0.99, step));
    dp = dp - 0.01 * 0.1 * dp - 0.01 * mhat / (sqrt(vhat) + 1e-8);
    check((double)p, dp, 0, "adamw", "step", step);
    k->sgd(0.1f, 0.9f, true, 0.01f, 0.5f, 1, &g[step - 1], &sm, &sp);
    dsm = 0.9 * dsm + gi;
    dsp -= 0.1 * (gi + 0.9 * dsm + 0.01 * dsp);
    check((double)sp, dsp, 0, "sgd", "step", step);
  }
  k->ema(0.75f, 1, &p, &avg);
  check((double)avg, 0.75 + 0.25 * dp, 0, "ema", "step", 1);
}

/* The mask is the documented word of Philox, kept elements are scaled, and the rate is p. */
static void dropout_follows_its_definition(void **state) {
  (void)state;
  const tl_row_kernels *k = &tl_kernels_get(TL_CPU_REF)->row;
  enum { N = 20000, BEGIN = 1003 };
  static float x[N], y[N];
  tl_dropout d = {.seed = 99, .sub = 5, .p = 0.3f};
  for (int i = 0; i < N; i++) x[i] = 1;
  k->dropout(TL_F32, &d, BEGIN, N, x, y, false);
  int kept = 0;
  for (int i = 0; i < N; i++) {
    uint64_t e = BEGIN + (uint64_t)i;
    uint32_t w = tl_philox4x32(99, TL_STREAM_DROPOUT, 5, e / 4).v[e % 4];
    bool keep = w >= (double)d.p * 0x1p32;
    assert_true(y[i] == (keep ? 1 / (1 - d.p) : 0));
    kept += keep;
  }
  assert_true(fabs(kept / (double)N - 0.7) < 0.015); /* 4.6 standard deviations */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(references_match_the_formulas),
      cmocka_unit_test(xent_matches_the_formula),
      cmocka_unit_test(optimizers_match_the_formulas),
      cmocka_unit_test(dropout_follows_its_definition),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
