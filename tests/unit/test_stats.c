/* Unit tests of src/eval/stats.c and naive_bayes.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "eval/naive_bayes.h"
#include "eval/stats.h"

#define assert_near(a, b, tol)                                                                     \
  do {                                                                                             \
    double a_ = (a), b_ = (b);                                                                     \
    if (!(fabs(a_ - b_) <= (tol))) fail_msg("%s = %.9g, expected %.9g", #a, a_, b_);               \
  } while (0)

/* Printed tables of Student's t distribution. */
static void quantiles_match_printed_tables(void **state) {
  (void)state;
  assert_near(tl_student_quantile(0.95, 1), 12.7062, 5e-5);
  assert_near(tl_student_quantile(0.95, 2), 4.30265, 5e-6);
  assert_near(tl_student_quantile(0.95, 4), 2.77645, 5e-6);
  assert_near(tl_student_quantile(0.99, 10), 3.16927, 5e-6);
  assert_near(tl_student_quantile(0.90, 30), 1.69726, 5e-6);
  assert_near(tl_student_quantile(0.95, 1e7), 1.95996, 5e-6);
  assert_true(isnan(tl_student_quantile(1, 3)));
}

static void intervals_of_small_samples(void **state) {
  (void)state;
  const double x[] = {1, 2, 3}, y[] = {0, 2, 1};
  assert_near(tl_std(x, 3), 1, 1e-12);
  tl_interval i = tl_t_interval(x, 3, 0.95);
  assert_near(i.mean, 2, 1e-12);
  assert_near(i.half, 4.30265 / sqrt(3), 1e-5);
  tl_interval p = tl_paired_t_interval(x, y, 3, 0.95); /* differences 1, 0, 2 */
  assert_near(p.mean, 1, 1e-12);
  assert_near(p.half, 4.30265 / sqrt(3), 1e-5);
  assert_true(isnan(tl_t_interval(x, 1, 0.95).half));
  assert_true(isnan(tl_mean(x, 0)));
}

static void labels_needed_interpolates_in_the_logarithm(void **state) {
  (void)state;
  const double labels[] = {100, 1000, 10000}, score[] = {0.2, 0.4, 0.5};
  double n = 0;
  assert_int_equal(tl_labels_needed(labels, score, 3, 0.3, &n), 0);
  assert_near(n, 100 * sqrt(10), 1e-9);
  assert_int_equal(tl_labels_needed(labels, score, 3, 0.45, &n), 0);
  assert_near(n, 1000 * sqrt(10), 1e-9);
  assert_int_equal(tl_labels_needed(labels, score, 3, 0.5, &n), 0);
  assert_near(n, 10000, 1e-9);
  assert_int_equal(tl_labels_needed(labels, score, 3, 0.1, &n), -1);
  assert_near(n, 100, 0);
  assert_int_equal(tl_labels_needed(labels, score, 3, 0.51, &n), 1);
  assert_near(n, 10000, 0);
}

static tl_nb_text text(const char *s, int label) {
  return (tl_nb_text){s, strlen(s), label};
}

/* By hand: class 0 holds "a a b", class 1 "b c"; vocabulary of 3. For "a": 3/6 * 1/2 against
 * 1/5 * 1/2; for "b b": (2/6)^2 against (2/5)^2; for "x" the priors tie and the lower class wins.
 */
static void naive_bayes_by_hand(void **state) {
  (void)state;
  const tl_nb_text train[] = {text("A, a! b", 0), text("b-C", 1)};
  tl_naive_bayes *nb = NULL;
  assert_int_equal(tl_naive_bayes_train(train, 2, 3, 1, &nb, NULL), TL_OK);
  assert_int_equal(tl_naive_bayes_predict(nb, "a", 1), 0);
  assert_int_equal(tl_naive_bayes_predict(nb, "b b", 3), 1);
  assert_int_equal(tl_naive_bayes_predict(nb, "x", 1), 0);
  const tl_nb_text test[] = {text("a a", 0), text("c", 1), text("c c", 2), text("B b", 1)};
  assert_near(tl_naive_bayes_accuracy(nb, test, 4), 0.75, 1e-12);
  tl_naive_bayes_free(nb);
}

static void naive_bayes_refuses_bad_labels(void **state) {
  (void)state;
  const tl_nb_text train[] = {text("a", 0), text("b", 2)};
  tl_naive_bayes *nb = NULL;
  tl_err err = {0};
  assert_int_equal(tl_naive_bayes_train(train, 2, 2, 1, &nb, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "text 1 has label 2"));
  assert_int_equal(tl_naive_bayes_train(train, 0, 2, 1, &nb, &err), TL_DATA);
}

/* Against the same cross-validation written out with fixed alphas. */
static void alpha_is_chosen_by_cross_validation(void **state) {
  (void)state;
  enum { N = 40 };
  static char line[N][64];
  tl_nb_text train[N];
  for (int i = 0; i < N; i++) {
    int label = i % 7 < 2;
    snprintf(line[i], sizeof line[i], "%s n%d m%d k%d", label ? "rare" : "common often", i, i, i);
    train[i] = text(line[i], label);
  }
  tl_naive_bayes *chosen = NULL;
  assert_int_equal(tl_naive_bayes_train(train, N, 2, 0, &chosen, NULL), TL_OK);
  double alpha = tl_naive_bayes_alpha(chosen), best = -1, best_alpha = 0;
  const double candidates[] = {1, 0.5, 0.2, 0.1, 0.05};
  for (int a = 0; a < 5; a++) {
    double right = 0;
    for (int fold = 0; fold < 5; fold++) {
      tl_nb_text in[N], held[N];
      size_t n_in = 0, n_held = 0;
      for (int i = 0; i < N; i++) {
        if (i % 5 == fold)
          held[n_held++] = train[i];
        else
          in[n_in++] = train[i];
      }
      tl_naive_bayes *nb = NULL;
      assert_int_equal(tl_naive_bayes_train(in, n_in, 2, candidates[a], &nb, NULL), TL_OK);
      right += tl_naive_bayes_accuracy(nb, held, n_held) * (double)n_held;
      tl_naive_bayes_free(nb);
    }
    if (right > best) {
      best = right;
      best_alpha = candidates[a];
    }
  }
  assert_near(alpha, best_alpha, 0);
  assert_near(tl_naive_bayes_accuracy(chosen, train, N), 1, 1e-12);
  tl_naive_bayes_free(chosen);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(quantiles_match_printed_tables),
      cmocka_unit_test(intervals_of_small_samples),
      cmocka_unit_test(labels_needed_interpolates_in_the_logarithm),
      cmocka_unit_test(naive_bayes_by_hand),
      cmocka_unit_test(alpha_is_chosen_by_cross_validation),
      cmocka_unit_test(naive_bayes_refuses_bad_labels),
  };
  return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
