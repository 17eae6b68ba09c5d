/* Unit tests of src/train/guard.c on synthetic series. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "train/guard.h"

static const tl_guard_options base = {TL_GUARD_ROLLBACK, 128, 8, 10, 0.5, 0.1};

static tl_guard make(tl_guard_policy policy) {
  tl_guard g;
  tl_guard_options o = base;
  o.policy = policy;
  tl_guard_init(&g, &o);
  return g;
}

typedef struct series {
  tl_rng rng;
  double noise, norm_noise; /* standard deviations of the logarithms */
} series;

static double normal(series *s) {
  return (double)tl_rng_normal(&s->rng);
}

/* A loss that falls from 10 to 3 like a power law, with noise; the norm settles at 0.4. */
static double loss_at(series *s, int64_t step) {
  return (3 + 7 * pow(1 + (double)step / 20, -0.6)) * exp(s->noise * normal(s));
}
static double norm_at(series *s, int64_t step) {
  return (0.4 + 3 * exp(-(double)step / 100)) * exp(s->norm_noise * normal(s));
}

static series make_series(uint32_t sub) {
  return (series){tl_rng_make(23, TL_STREAM_TEST, sub, 0), 0.02, 0.15};
}

static void train(tl_guard *g, series *s, int64_t *step, int n) {
  for (int i = 0; i < n; i++, ++*step)
    assert_int_equal(tl_guard_check(g, *step, loss_at(s, *step), norm_at(s, *step)).action,
                     TL_GUARD_DO_APPLY);
}

static void few_false_alarms(void **state) {
  (void)state;
  int64_t alarms = 0, steps = 0;
  for (uint32_t run = 0; run < 10; run++) {
    tl_guard g = make(TL_GUARD_SKIP);
    series s = make_series(run);
    s.noise = 0.005 * (1 + run); /* from calm to 5 % */
    for (int64_t step = 1; step <= 5000; step++, steps++)
      alarms += tl_guard_check(&g, step, loss_at(&s, step), norm_at(&s, step)).action !=
                TL_GUARD_DO_APPLY;
  }
  assert_true(alarms * 10000 <= steps);
}

/* Fine-tuning on few examples: losses near 0 that differ by factors from batch to batch. */
static void small_heavy_tailed_losses_pass(void **state) {
  (void)state;
  tl_guard g = make(TL_GUARD_SKIP);
  series s = make_series(50);
  int alarms = 0;
  for (int64_t step = 1; step <= 10000; step++)
    alarms += tl_guard_check(&g, step, 0.02 * exp(1.2 * normal(&s)), exp(normal(&s))).action !=
              TL_GUARD_DO_APPLY;
  assert_true(alarms <= 1);
}

/* The fall of a small model's first steps, which bends: from 5.75 to 2.6, then slowly on. Before
 * the newest level counted, the default policy took such a run down as diverged. */
static void bending_curves_pass(void **state) {
  (void)state;
  for (uint32_t run = 0; run < 50; run++) {
    tl_guard g = make(TL_GUARD_ROLLBACK);
    series s = make_series(200 + run);
    double bend = 0.2 + 0.01 * run;
    for (int64_t step = 1; step <= 600; step++) {
      double fall = 3.1 / (1 + exp(((double)step - 40) / (10 + 20 * bend)));
      double loss = (2.6 + fall) * exp(0.01 * normal(&s)) - 0.0005 * (double)step;
      assert_int_equal(tl_guard_check(&g, step, loss, norm_at(&s, step)).action, TL_GUARD_DO_APPLY);
    }
  }
}

static void spikes_are_caught(void **state) {
  (void)state;
  int caught = 0, n = 0;
  for (uint32_t run = 0; run < 20; run++) {
    tl_guard g = make(TL_GUARD_SKIP);
    series s = make_series(100 + run);
    int64_t step = 1;
    train(&g, &s, &step, 200);
    for (int k = 0; k < 10; k++, n += 2) {
      train(&g, &s, &step, 20);
      double up = 1.4 + 0.2 * k; /* a loss of 1.4 to 3.2 times */
      tl_guard_verdict v = tl_guard_check(&g, step, up * loss_at(&s, step), norm_at(&s, step));
      caught += v.action == TL_GUARD_DO_SKIP && strstr(v.reason, "loss") != NULL;
      train(&g, &s, &step, 20);
      v = tl_guard_check(&g, step, loss_at(&s, step), (20 + 50 * k) * norm_at(&s, step));
      caught += v.action == TL_GUARD_DO_SKIP && v.z_norm > 8;
    }
  }
  assert_true(caught * 100 >= n * 99);
}

static void non_finite_steps_are_never_applied(void **state) {
  (void)state;
  for (int policy = 0; policy < TL_N_GUARD_POLICIES; policy++) {
    tl_guard g = make((tl_guard_policy)policy);
    const double bad[][2] = {{NAN, 1}, {INFINITY, 1}, {1, NAN}, {1, INFINITY}};
    for (int i = 0; i < 4; i++) {
      tl_guard_action a = tl_guard_check(&g, 1, bad[i][0], bad[i][1]).action;
      assert_true(a != TL_GUARD_DO_APPLY && a != TL_GUARD_DO_WARN);
      assert_int_equal(tl_guard_check(&g, 2, 1, 1).action, TL_GUARD_DO_APPLY);
    }
    assert_int_equal(g.n_bad, 4);
  }
}

static void policies_act_as_they_say(void **state) {
  (void)state;
  const tl_guard_action expected[] = {TL_GUARD_DO_APPLY, TL_GUARD_DO_WARN, TL_GUARD_DO_SKIP,
                                      TL_GUARD_DO_SKIP, TL_GUARD_DO_STOP};
  for (int policy = 0; policy < TL_N_GUARD_POLICIES; policy++) {
    tl_guard g = make((tl_guard_policy)policy);
    series s = make_series(300);
    int64_t step = 1;
    train(&g, &s, &step, 150);
    tl_guard_verdict v = tl_guard_check(&g, step, 9.5, 30);
    assert_int_equal(v.action, expected[policy]);
    assert_int_equal(v.reason[0] != 0, policy != TL_GUARD_OFF);
  }
}

static void bad_rows_escalate(void **state) {
  (void)state;
  tl_guard g = make(TL_GUARD_ROLLBACK);
  series s = make_series(400);
  int64_t step = 1;
  train(&g, &s, &step, 150);
  const tl_guard_action S = TL_GUARD_DO_SKIP, R = TL_GUARD_DO_ROLLBACK, X = TL_GUARD_DO_STOP;
  const tl_guard_action expected[] = {S, S, R, S, S, R, S, S, R, X};
  for (int i = 0; i < 10; i++)
    assert_int_equal(tl_guard_check(&g, step, 50, 1e3).action, expected[i]);
  assert_true(fabs(g.lr_scale - 0.125) < 1e-12);
  assert_int_equal(g.n_rollbacks, 3);
}

/* Rollbacks that do not help end the run; good times between them forgive. */
static void rollbacks_are_limited(void **state) {
  (void)state;
  for (int quiet = 10; quiet <= 130; quiet += 120) {
    tl_guard g = make(TL_GUARD_ROLLBACK);
    series s = make_series(500);
    int64_t step = 1;
    tl_guard_action last = TL_GUARD_DO_APPLY;
    train(&g, &s, &step, 150);
    for (int k = 0; k < TL_GUARD_MAX_ROLLBACKS + 1; k++) {
      for (int i = 0; i < 3; i++) last = tl_guard_check(&g, step, 50, 1e3).action;
      if (last == TL_GUARD_DO_ROLLBACK) train(&g, &s, &step, quiet);
    }
    assert_int_equal(last, quiet > 128 ? TL_GUARD_DO_ROLLBACK : TL_GUARD_DO_STOP);
  }
}

/* No step of a slow climb is a spike, but the loss stays up. */
static void climbs_are_caught(void **state) {
  (void)state;
  for (int policy = 0; policy < TL_N_GUARD_POLICIES; policy++) {
    tl_guard g = make((tl_guard_policy)policy);
    series s = make_series(700);
    int64_t step = 1;
    train(&g, &s, &step, 150);
    assert_true(tl_guard_is_calm(&g));
    tl_guard_action last = TL_GUARD_DO_APPLY;
    int i = 0;
    for (; i < 150 && last == TL_GUARD_DO_APPLY; i++, step++)
      last = tl_guard_check(&g, step, loss_at(&s, 150) * exp(0.003 * i), norm_at(&s, step)).action;
    const tl_guard_action expected[] = {TL_GUARD_DO_APPLY, TL_GUARD_DO_WARN, TL_GUARD_DO_WARN,
                                        TL_GUARD_DO_ROLLBACK, TL_GUARD_DO_STOP};
    assert_int_equal(last, expected[policy]);
    if (policy == TL_GUARD_OFF) continue;
    assert_true(i > 30 && i < 100);
    if (policy != TL_GUARD_ROLLBACK) continue;
    assert_true(g.lr_scale == 0.5 && !tl_guard_is_calm(&g));
    train(&g, &s, &step, 40);
    assert_true(tl_guard_is_calm(&g));
  }
}

/* A copy of the struct, as a checkpoint makes it, goes on in the same way. */
static void state_is_plain_data(void **state) {
  (void)state;
  tl_guard g = make(TL_GUARD_ROLLBACK), copy;
  series s = make_series(600);
  int64_t step = 1;
  train(&g, &s, &step, 300);
  memcpy(&copy, &g, sizeof g);
  for (int i = 0; i < 200; i++, step++) {
    double up = i % 37 ? 1 : 2, loss = up * loss_at(&s, step), norm = norm_at(&s, step);
    tl_guard_verdict a = tl_guard_check(&g, step, loss, norm);
    tl_guard_verdict b = tl_guard_check(&copy, step, loss, norm);
    assert_int_equal(a.action, b.action);
    assert_true(a.z_loss == b.z_loss && a.z_norm == b.z_norm);
  }
  assert_true(g.n_skipped >= 5);
}

static void names_are_parsed(void **state) {
  (void)state;
  tl_guard_policy p;
  assert_true(tl_guard_parse("stop", &p) && p == TL_GUARD_STOP);
  assert_true(tl_guard_parse("off", &p) && p == TL_GUARD_OFF);
  assert_false(tl_guard_parse("ignore", &p));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(few_false_alarms),
      cmocka_unit_test(small_heavy_tailed_losses_pass),
      cmocka_unit_test(bending_curves_pass),
      cmocka_unit_test(spikes_are_caught),
      cmocka_unit_test(non_finite_steps_are_never_applied),
      cmocka_unit_test(policies_act_as_they_say),
      cmocka_unit_test(bad_rows_escalate),
      cmocka_unit_test(rollbacks_are_limited),
      cmocka_unit_test(climbs_are_caught),
      cmocka_unit_test(state_is_plain_data),
      cmocka_unit_test(names_are_parsed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
