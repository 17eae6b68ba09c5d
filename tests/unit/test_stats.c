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
  assert_int_equal(tl_naive_bayes_train(train, 2, 3, &nb, NULL), TL_OK);
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
  assert_int_equal(tl_naive_bayes_train(train, 2, 2, &nb, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "text 1 has label 2"));
  assert_int_equal(tl_naive_bayes_train(train, 0, 2, &nb, &err), TL_DATA);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(quantiles_match_printed_tables),
      cmocka_unit_test(intervals_of_small_samples),
      cmocka_unit_test(naive_bayes_by_hand),
      cmocka_unit_test(naive_bayes_refuses_bad_labels),
  };
  return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
