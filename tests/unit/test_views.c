/* Losses of two views: their values as the papers' formulas have them, and their gradients against
 * finite differences. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "objectives/views.h"

enum { N = 5, D = 6, ROWS = 2 * N };
static const double TEMPERATURE = 0.3, OFF = 0.02, SCALE = 0.5;
static const int32_t text[N] = {0, 1, 2, 1, 4}; /* CLIP: two captions are the same */

typedef enum kind { NT_XENT, TEACHER_XENT, TEACHER_DISTANCE, BARLOW, CLIP, KINDS } kind;

typedef struct fixture {
  tl_ctx *ctx;
  tl_params ps;
  tl_graph *g;
  tl_param *z, *log_scale;
  tl_node *mask, *rows; /* CLIP */
  float teacher[ROWS * D];
  tl_node *loss;
} fixture;

static void unit(const float *x, double *out) {
  double square = 0;
  for (int c = 0; c < D; c++) square += (double)x[c] * (double)x[c];
  for (int c = 0; c < D; c++) out[c] = (double)x[c] / sqrt(square);
}

static tl_node *part(tl_graph *g, tl_node *x, int first) {
  const int64_t n = N;
  int32_t rows[N];
  for (int i = 0; i < N; i++) rows[i] = first + i;
  return tl_gather_rows(g, x, tl_graph_constant(g, "part", TL_I32, 1, &n, rows));
}

static tl_node *make(fixture *f, kind k) {
  tl_graph *g = f->g;
  tl_node *z = tl_from_param(g, f->z), *u = tl_unit_rows(g, z);
  tl_dtype dt = k == TEACHER_XENT ? g->opt.dt : TL_F32;
  float as_dt[ROWS * D];
  f->ctx->k->row.convert(TL_F32, f->teacher, dt, as_dt, ROWS * D);
  tl_node *t = tl_graph_constant(g, "teacher", dt, 2, (int64_t[]){ROWS, D}, as_dt);
  switch (k) {
  case NT_XENT:
    return tl_nt_xent(g, u, TEMPERATURE);
  case TEACHER_XENT:
    return tl_teacher_xent(g, u, t, TEMPERATURE);
  case TEACHER_DISTANCE:
    return tl_teacher_distance(g, u, t);
  case CLIP:
    f->mask = tl_graph_input(g, "mask", g->opt.dt, 2, (int64_t[]){ROWS, ROWS}, 0);
    return tl_clip_loss(g, part(g, u, 0), part(g, u, N), f->log_scale, f->mask, &f->rows);
  default:
    return tl_barlow_twins(g, z, OFF, SCALE);
  }
}

static void open_fixture(fixture *f, kind k, tl_dtype dt, int threads) {
  tl_err err = {TL_OK, ""};
  *f = (fixture){0};
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = threads}, &f->ctx, &err), TL_OK);
  f->z = tl_params_add(&f->ps, "z", 2, (int64_t[]){ROWS, D}, TL_INIT_NORMAL, 1, 0);
  f->log_scale =
      tl_params_add(&f->ps, "s", 1, (int64_t[]){1}, TL_INIT_CONST, (float)-log(TEMPERATURE), 0);
  assert_int_equal(tl_params_alloc(&f->ps, true, &err), TL_OK);
  tl_params_init(f->ctx, &f->ps, 3);
  tl_rng r = tl_rng_make(5, TL_STREAM_TEST, 0, 0);
  for (int i = 0; i < ROWS; i++) {
    float x[D];
    double u[D];
    for (int c = 0; c < D; c++) x[c] = tl_rng_normal(&r);
    unit(x, u);
    for (int c = 0; c < D; c++) f->teacher[i * D + c] = (float)u[c];
  }
  f->g = tl_graph_new(f->ctx, &f->ps, &(tl_graph_options){dt, true});
  f->loss = make(f, k);
  if (tl_graph_compile(f->g, f->loss, NULL, 0, &err) != TL_OK) fail_msg("%s", err.msg);
  if (f->mask) tl_clip_mask(f->mask, text);
}

static void close_fixture(fixture *f) {
  tl_graph_free(f->g);
  tl_params_free(&f->ps);
  tl_ctx_free(f->ctx);
}

static double run(fixture *f) {
  tl_params_changed(&f->ps);
  tl_graph_run(f->g, &(tl_pass){.training = true, .loss_scale = 0.25f});
  return (double)((const float *)f->loss->data)[TL_LOSS_SUM];
}

/* Minus the log of the share of row i's partner in exp(cos / temperature). */
static double xent_row(const fixture *f, int i, kind loss) {
  bool teacher = loss == TEACHER_XENT;
  double q[D], k[D], sum = 0, own = 0;
  unit(f->z->data + i * D, q);
  for (int j = 0; j < ROWS; j++) {
    if (loss == NT_XENT ? j == i : (j < N) == (i < N)) continue;
    if (loss == CLIP && j != (i + N) % ROWS && text[j % N] == text[i % N]) continue;
    double dot = 0;
    unit((teacher ? f->teacher : f->z->data) + j * D, k);
    for (int c = 0; c < D; c++) dot += q[c] * k[c];
    sum += exp(dot / TEMPERATURE);
    if (j == (i + N) % ROWS) own = dot / TEMPERATURE;
  }
  return log(sum) - own;
}

static double distance_row(const fixture *f, int i) {
  double q[D], dot = 0;
  unit(f->z->data + i * D, q);
  for (int c = 0; c < D; c++) dot += q[c] * (double)f->teacher[(i + N) % ROWS * D + c];
  return 2 - 2 * dot;
}

static double barlow(const fixture *f) {
  double x[2][N][D], sum = 0;
  for (int v = 0; v < 2; v++)
    for (int c = 0; c < D; c++) {
      double mean = 0, var = 0;
      for (int i = 0; i < N; i++) mean += (double)f->z->data[(v * N + i) * D + c] / N;
      for (int i = 0; i < N; i++) {
        x[v][i][c] = (double)f->z->data[(v * N + i) * D + c] - mean;
        var += x[v][i][c] * x[v][i][c] / N;
      }
      for (int i = 0; i < N; i++) x[v][i][c] /= sqrt(var + 1e-5);
    }
  for (int a = 0; a < D; a++)
    for (int b = 0; b < D; b++) {
      double c = 0;
      for (int i = 0; i < N; i++) c += x[0][i][a] * x[1][i][b] / N;
      sum += a == b ? (1 - c) * (1 - c) : OFF * c * c;
    }
  return SCALE * sum;
}

static double defined(const fixture *f, kind k) {
  double want = k == BARLOW ? barlow(f) : 0;
  for (int i = 0; i < ROWS && k != BARLOW; i++)
    want += k == TEACHER_DISTANCE ? distance_row(f, i) : xent_row(f, i, k);
  return want;
}

static void values_are_as_defined(void **state) {
  (void)state;
  for (kind k = 0; k < KINDS; k++)
    for (int bf16 = 0; bf16 < 2; bf16++) {
      fixture f;
      open_fixture(&f, k, bf16 ? TL_BF16 : TL_F32, 2);
      double got = run(&f), want = defined(&f, k);
      if (!(fabs(got - want) < (bf16 ? 3e-2 : 1e-5) * want))
        fail_msg("loss %d: %.9g, expected %.9g", (int)k, got, want);
      close_fixture(&f);
    }
}

static void gradients_are_slopes(void **state) {
  (void)state;
  for (kind k = 0; k < KINDS; k++) {
    fixture f;
    double worst = 0, scale = 0;
    open_fixture(&f, k, TL_F32, 2);
    for (int i = 0; i < ROWS * D; i++) {
      float at = f.z->data[i], h = 2e-3f;
      run(&f);
      double grad = (double)f.z->grad[i];
      f.z->data[i] = at + h;
      double up = run(&f);
      f.z->data[i] = at - h;
      double slope = 0.25 * (up - run(&f)) / (2 * (double)h);
      f.z->data[i] = at;
      if (fabs(slope) > scale) scale = fabs(slope);
      if (fabs(slope - grad) > worst) worst = fabs(slope - grad);
    }
    if (!(scale > 0.01 && worst < 3e-3 * scale))
      fail_msg("loss %d: gradients differ by %g of %g", (int)k, worst, scale);
    close_fixture(&f);
  }
}

static void threads_change_no_bits(void **state) {
  (void)state;
  for (kind k = 0; k < KINDS; k++) {
    fixture f[2];
    for (int t = 0; t < 2; t++) open_fixture(&f[t], k, TL_F32, 2 * t + 1);
    assert_true(run(&f[0]) == run(&f[1]));
    assert_memory_equal(f[0].z->grad, f[1].z->grad, ROWS * D * sizeof(float));
    for (int t = 0; t < 2; t++) close_fixture(&f[t]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(values_are_as_defined),
                                     cmocka_unit_test(gradients_are_slopes),
                                     cmocka_unit_test(threads_change_no_bits)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
