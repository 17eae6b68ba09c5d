/* Unit tests of src/eval/metrics.c, metrics_rank.c and the bootstrap of stats.c. */
#include "metric_goldens.h"

#include "base/rng.h"
#include "eval/metrics.h"
#include "eval/stats.h"

static const double tolerance = 1e-9;
static const char *const averages[] = {
    [TL_AVERAGE_MICRO] = "micro", [TL_AVERAGE_MACRO] = "macro", [TL_AVERAGE_WEIGHTED] = "weighted"};

static void check_averages(const tl_prf *prf, size_t k, bool keep_absent, const json_t *want,
                           size_t which) {
  for (int a = 0; a < 3; a++) {
    tl_prf got = tl_prf_average(prf, k, (tl_average)a, keep_absent);
    const json_t *w = golden_get(want, averages[a]);
    golden_near(got.precision, json_array_get(w, 0), tolerance, averages[a], which);
    golden_near(got.recall, json_array_get(w, 1), tolerance, averages[a], which);
    golden_near(got.f1, json_array_get(w, 2), tolerance, averages[a], which);
  }
}

static void classes_as_scikit_learn(void **state) {
  (void)state;
  json_t *cases = golden_load("classes"), *c;
  size_t i, n, m;
  json_array_foreach(cases, i, c) {
    const json_t *want = golden_get(c, "want");
    size_t k = golden_size(c, "k");
    int *truth = golden_ints(golden_get(c, "truth"), &n);
    int *pred = golden_ints(golden_get(c, "pred"), &m);
    assert_int_equal(n, m);
    size_t *matrix = golden_alloc(k * k, sizeof *matrix);
    assert_int_equal(tl_confusion_count(truth, pred, NULL, n, k, matrix, NULL), TL_OK);
    for (size_t j = 0; j < k * k; j++)
      assert_int_equal(matrix[j],
                       json_integer_value(json_array_get(golden_get(want, "confusion"), j)));
    golden_near(tl_confusion_accuracy(matrix, k), golden_get(want, "accuracy"), tolerance,
                "accuracy", i);
    golden_near(tl_confusion_balanced_accuracy(matrix, k), golden_get(want, "balanced"), tolerance,
                "balanced accuracy", i);
    golden_near(tl_confusion_matthews(matrix, k), golden_get(want, "matthews"), tolerance,
                "Matthews correlation", i);
    tl_prf *prf = golden_alloc(k, sizeof *prf);
    tl_confusion_prf(matrix, k, prf);
    for (size_t j = 0; j < k; j++) {
      golden_near(prf[j].precision, json_array_get(golden_get(want, "precision"), j), tolerance,
                  "precision", i);
      golden_near(prf[j].recall, json_array_get(golden_get(want, "recall"), j), tolerance, "recall",
                  i);
      golden_near(prf[j].f1, json_array_get(golden_get(want, "f1"), j), tolerance, "F1", i);
    }
    check_averages(prf, k, false, want, i);
    free(truth);
    free(pred);
    free(matrix);
    free(prf);
  }
  golden_report("classes", json_array_size(cases));
  json_decref(cases);
}

static void multilabel_as_scikit_learn(void **state) {
  (void)state;
  json_t *cases = golden_load("multilabel"), *c;
  size_t i, n, m;
  json_array_foreach(cases, i, c) {
    const json_t *want = golden_get(c, "want");
    size_t k = golden_size(c, "k");
    uint8_t *truth = golden_bytes(golden_get(c, "truth"), &n);
    uint8_t *pred = golden_bytes(golden_get(c, "pred"), &m);
    assert_int_equal(n, m);
    tl_prf *prf = golden_alloc(k, sizeof *prf);
    assert_int_equal(tl_multilabel_prf(truth, pred, NULL, n / k, k, prf, NULL), TL_OK);
    check_averages(prf, k, true, want, i);
    golden_near(tl_multilabel_subset_accuracy(truth, pred, NULL, n / k, k),
                golden_get(want, "subset"), tolerance, "subset accuracy", i);
    free(truth);
    free(pred);
    free(prf);
  }
  golden_report("multilabel", json_array_size(cases));
  json_decref(cases);
}

static void correlations_as_scipy(void **state) {
  (void)state;
  json_t *cases = golden_load("real"), *c;
  size_t i, n, m;
  json_array_foreach(cases, i, c) {
    const json_t *want = golden_get(c, "want");
    double *x = golden_doubles(golden_get(c, "x"), &n), *y = golden_doubles(golden_get(c, "y"), &m);
    assert_int_equal(n, m);
    double rho = 0;
    assert_int_equal(tl_spearman(x, y, NULL, n, &rho, NULL), TL_OK);
    golden_near(rho, golden_get(want, "spearman"), tolerance, "Spearman", i);
    golden_near(tl_pearson(x, y, NULL, n), golden_get(want, "pearson"), tolerance, "Pearson", i);
    golden_near(tl_mean_squared_error(x, y, NULL, n), golden_get(want, "mse"), tolerance,
                "mean squared error", i);
    free(x);
    free(y);
  }
  golden_report("real values", json_array_size(cases));
  json_decref(cases);
}

static void curves_as_scikit_learn(void **state) {
  (void)state;
  json_t *cases = golden_load("binary"), *c;
  size_t i, n, m;
  json_array_foreach(cases, i, c) {
    const json_t *want = golden_get(c, "want");
    int *truth = golden_ints(golden_get(c, "truth"), &n);
    double *score = golden_doubles(golden_get(c, "score"), &m);
    assert_int_equal(n, m);
    double auc = 0, ap = 0;
    assert_int_equal(tl_roc_auc(score, truth, NULL, n, &auc, NULL), TL_OK);
    assert_int_equal(tl_average_precision(score, truth, NULL, n, &ap, NULL), TL_OK);
    golden_near(auc, golden_get(want, "auc"), tolerance, "ROC AUC", i);
    golden_near(ap, golden_get(want, "average_precision"), tolerance, "average precision", i);
    free(truth);
    free(score);
  }
  golden_report("binary scores", json_array_size(cases));
  json_decref(cases);
}

static void calibration_as_scikit_learn(void **state) {
  (void)state;
  json_t *cases = golden_load("probability"), *c;
  size_t i, n, m;
  json_array_foreach(cases, i, c) {
    const json_t *want = golden_get(c, "want");
    size_t k = golden_size(c, "k");
    int *truth = golden_ints(golden_get(c, "truth"), &n);
    double *prob = golden_doubles(golden_get(c, "prob"), &m);
    assert_int_equal(m, n * k);
    double *confidence = golden_doubles(golden_get(c, "confidence"), &m);
    uint8_t *correct = golden_bytes(golden_get(c, "correct"), &m);
    assert_int_equal(m, n);
    double brier = 0, auc = 0;
    assert_int_equal(tl_brier(prob, truth, NULL, n, k, &brier, NULL), TL_OK);
    golden_near(brier, golden_get(want, "brier"), tolerance, "Brier score", i);
    assert_int_equal(tl_roc_auc_ovr(prob, truth, NULL, n, k, &auc, NULL), TL_OK);
    golden_near(auc, golden_get(want, "auc_ovr"), tolerance, "one-vs-rest AUC", i);
    tl_reliability_bin bins[TL_ECE_BINS];
    assert_int_equal(tl_reliability(confidence, correct, NULL, n, bins, TL_ECE_BINS, NULL), TL_OK);
    for (size_t b = 0; b < TL_ECE_BINS; b++) {
      const json_t *row = json_array_get(golden_get(want, "bins"), b);
      assert_int_equal(bins[b].n, json_integer_value(json_array_get(row, 0)));
      golden_near(bins[b].confidence, json_array_get(row, 1), tolerance, "bin confidence", i);
      golden_near(bins[b].accuracy, json_array_get(row, 2), tolerance, "bin accuracy", i);
    }
    golden_near(tl_expected_calibration_error(bins, TL_ECE_BINS), golden_get(want, "ece"),
                tolerance, "calibration error", i);
    free(truth);
    free(prob);
    free(confidence);
    free(correct);
  }
  golden_report("probabilities", json_array_size(cases));
  json_decref(cases);
}

/* What the header says of divisions by zero. */
static void undefined_results(void **state) {
  (void)state;
  size_t empty[4] = {0}, one[4] = {0, 0, 1, 2};
  assert_true(isnan(tl_confusion_accuracy(empty, 2)));
  assert_true(isnan(tl_confusion_balanced_accuracy(empty, 2)));
  assert_true(tl_confusion_matthews(empty, 2) == 0);
  assert_true(tl_confusion_matthews(one, 2) == 0); /* one true class */
  tl_prf prf[2];
  tl_confusion_prf(empty, 2, prf);
  assert_true(tl_prf_average(prf, 2, TL_AVERAGE_MICRO, false).f1 == 0);
  assert_true(isnan(tl_prf_average(prf, 2, TL_AVERAGE_MACRO, false).f1));
  assert_true(tl_prf_average(prf, 2, TL_AVERAGE_MACRO, true).f1 == 0);
  assert_true(tl_prf_average(prf, 2, TL_AVERAGE_WEIGHTED, false).f1 == 0);
  assert_true(isnan(tl_multilabel_subset_accuracy(NULL, NULL, NULL, 0, 3)));

  const double x[] = {1, 2, 4}, flat[] = {0.1, 0.1, 0.1}, /* whose mean is not 0.1 */
      holes[] = {1, NAN, 2}, huge[] = {1, INFINITY, 2};
  assert_true(isnan(tl_pearson(x, flat, NULL, 3)));
  assert_true(isnan(tl_pearson(x, holes, NULL, 3)));
  assert_true(isnan(tl_pearson(huge, x, NULL, 3)));
  assert_true(isnan(tl_pearson(x, x, NULL, 1)));
  assert_true(isnan(tl_mean_squared_error(x, x, NULL, 0)));
  double v = 5;
  assert_int_equal(tl_spearman(x, flat, NULL, 3, &v, NULL), TL_OK);
  assert_true(isnan(v));
  v = 5;
  assert_int_equal(tl_spearman(holes, x, NULL, 3, &v, NULL), TL_OK);
  assert_true(isnan(v));

  const int positive[] = {1, 1, 1}, negative[] = {0, 0, 0};
  assert_int_equal(tl_roc_auc(x, positive, NULL, 3, &v, NULL), TL_OK);
  assert_true(isnan(v));
  assert_int_equal(tl_average_precision(x, positive, NULL, 3, &v, NULL), TL_OK);
  assert_true(v == 1);
  assert_int_equal(tl_average_precision(x, negative, NULL, 3, &v, NULL), TL_OK);
  assert_true(isnan(v));
  assert_int_equal(tl_roc_auc(NULL, NULL, NULL, 0, &v, NULL), TL_OK);
  assert_true(isnan(v));
  assert_int_equal(tl_roc_auc_ovr(x, negative, NULL, 3, 1, &v, NULL), TL_OK);
  assert_true(isnan(v));
  v = 5;
  assert_int_equal(tl_brier(x, negative, NULL, 0, 1, &v, NULL), TL_OK);
  assert_true(isnan(v));
  tl_reliability_bin bins[2];
  assert_int_equal(tl_reliability(x, NULL, NULL, 0, bins, 2, NULL), TL_OK);
  assert_true(isnan(tl_expected_calibration_error(bins, 2)));
}

/* Around every edge of every number of bins, where a product is rounded to either side. */
static void bins_end_at_their_edges(void **state) {
  (void)state;
  tl_reliability_bin bins[200];
  const uint8_t right = 1;
  for (size_t n = 1; n <= 200; n++) {
    double width = 1.0 / (double)n;
    for (size_t edge = 0; edge <= n; edge++) {
      double at = fmin((double)edge * width, 1);
      for (int side = -1; side <= 1; side++) {
        double c = side ? nextafter(at, side) : at;
        if (c < 0 || c > 1) continue;
        size_t want = 0;
        while (want + 1 < n && c > (double)(want + 1) * width) want++;
        assert_int_equal(tl_reliability(&c, &right, NULL, 1, bins, n, NULL), TL_OK);
        if (bins[want].n != 1) fail_msg("%.17g is not in bin %zu of %zu", c, want, n);
      }
    }
  }
}

static void bad_values_are_errors(void **state) {
  (void)state;
  const int ok[] = {0, 1}, low[] = {0, -1}, high[] = {0, 2};
  const uint8_t bits[] = {0, 1}, more[] = {0, 2};
  const double x[] = {0.5, 0.25}, holes[] = {0.5, NAN}, above[] = {0.5, 1.5};
  size_t matrix[4];
  tl_prf prf[1];
  tl_reliability_bin bins[2];
  tl_err err = {0};
  double v = 7;
  assert_int_equal(tl_confusion_count(ok, high, NULL, 2, 2, matrix, &err), TL_DATA);
  assert_string_equal(err.msg, "example 1: predicted class 2 is not in [0, 2)");
  assert_int_equal(tl_confusion_count(low, ok, NULL, 2, 2, matrix, NULL), TL_DATA);
  assert_int_equal(tl_multilabel_prf(bits, more, NULL, 2, 1, prf, NULL), TL_DATA);
  assert_int_equal(tl_multilabel_prf(more, bits, NULL, 2, 1, prf, NULL), TL_DATA);
  assert_int_equal(tl_roc_auc(holes, ok, NULL, 2, &v, NULL), TL_DATA);
  assert_int_equal(tl_roc_auc(x, high, NULL, 2, &v, NULL), TL_DATA);
  assert_int_equal(tl_average_precision(x, low, NULL, 2, &v, NULL), TL_DATA);
  assert_int_equal(tl_roc_auc_ovr(x, high, NULL, 2, 1, &v, NULL), TL_DATA);
  assert_int_equal(tl_brier(above, ok, NULL, 2, 1, &v, NULL), TL_DATA);
  assert_int_equal(tl_brier(x, high, NULL, 2, 1, &v, NULL), TL_DATA);
  assert_int_equal(tl_reliability(above, bits, NULL, 2, bins, 2, NULL), TL_DATA);
  assert_int_equal(tl_reliability(holes, bits, NULL, 2, bins, 2, NULL), TL_DATA);
  assert_int_equal(tl_reliability(x, more, NULL, 2, bins, 2, NULL), TL_DATA);
  assert_int_equal(tl_reliability(x, bits, NULL, 2, bins, 0, NULL), TL_DATA);
  assert_true(v == 7);
}

/* Each metric of a resample is the metric of the examples written out. */
static void an_index_picks_examples(void **state) {
  (void)state;
  enum { N = 6, M = 5 };
  const size_t index[M] = {4, 1, 4, 0, 3};
  const int truth[N] = {0, 1, 1, 0, 1, 0}, pred[N] = {0, 0, 1, 1, 1, 1};
  const double x[N] = {.1, .4, .35, .8, .9, .2}, y[N] = {.3, .2, .9, .4, .8, 0};
  const uint8_t bit_t[N] = {0, 1, 1, 0, 1, 0}, bit_p[N] = {0, 0, 1, 1, 1, 1};
  int t[M], p[M];
  double a[M], b[M], got, want;
  uint8_t bt[M], bp[M];
  for (size_t i = 0; i < M; i++) {
    t[i] = truth[index[i]];
    p[i] = pred[index[i]];
    a[i] = x[index[i]];
    b[i] = y[index[i]];
    bt[i] = bit_t[index[i]];
    bp[i] = bit_p[index[i]];
  }
  size_t m1[4], m2[4];
  assert_int_equal(tl_confusion_count(truth, pred, index, M, 2, m1, NULL), TL_OK);
  assert_int_equal(tl_confusion_count(t, p, NULL, M, 2, m2, NULL), TL_OK);
  assert_memory_equal(m1, m2, sizeof m1);
  tl_prf l1, l2;
  assert_int_equal(tl_multilabel_prf(bit_t, bit_p, index, M, 1, &l1, NULL), TL_OK);
  assert_int_equal(tl_multilabel_prf(bt, bp, NULL, M, 1, &l2, NULL), TL_OK);
  assert_true(l1.f1 == l2.f1 && l1.actual == l2.actual && l1.predicted == l2.predicted);
  assert_true(tl_multilabel_subset_accuracy(bit_t, bit_p, index, M, 1) ==
              tl_multilabel_subset_accuracy(bt, bp, NULL, M, 1));
  assert_true(tl_pearson(x, y, index, M) == tl_pearson(a, b, NULL, M));
  assert_true(tl_mean_squared_error(x, y, index, M) == tl_mean_squared_error(a, b, NULL, M));
  assert_int_equal(tl_spearman(x, y, index, M, &got, NULL), TL_OK);
  assert_int_equal(tl_spearman(a, b, NULL, M, &want, NULL), TL_OK);
  assert_true(got == want);
  assert_int_equal(tl_roc_auc(x, truth, index, M, &got, NULL), TL_OK);
  assert_int_equal(tl_roc_auc(a, t, NULL, M, &want, NULL), TL_OK);
  assert_true(got == want);
  assert_int_equal(tl_average_precision(x, truth, index, M, &got, NULL), TL_OK);
  assert_int_equal(tl_average_precision(a, t, NULL, M, &want, NULL), TL_OK);
  assert_true(got == want);
  assert_int_equal(tl_brier(x, truth, index, M, 1, &got, NULL), TL_OK);
  assert_int_equal(tl_brier(a, t, NULL, M, 1, &want, NULL), TL_OK);
  assert_true(got == want);
  tl_reliability_bin b1[3], b2[3];
  assert_int_equal(tl_reliability(x, bit_t, index, M, b1, 3, NULL), TL_OK);
  assert_int_equal(tl_reliability(a, bt, NULL, M, b2, 3, NULL), TL_OK);
  for (size_t i = 0; i < 3; i++)
    assert_true(b1[i].n == b2[i].n && b1[i].confidence == b2[i].confidence);
}

/* --- Bootstrap --- */
static double mean_of(const size_t *index, size_t n, void *user) {
  const double *x = user;
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += x[index[i]];
  return sum / (double)n;
}

/* Undefined in the resamples without example 0. */
static double mean_with_first(const size_t *index, size_t n, void *user) {
  for (size_t i = 0; i < n; i++)
    if (!index[i]) return mean_of(index, n, user);
  return NAN;
}

static void quantiles_as_numpy(void **state) {
  (void)state;
  const double x[] = {1, 2, 4, 8};
  assert_true(tl_quantile(x, 4, 0) == 1);
  assert_true(tl_quantile(x, 4, 1) == 8);
  assert_true(tl_quantile(x, 4, 0.5) == 3);
  assert_true(fabs(tl_quantile(x, 4, 0.9) - 6.8) < 1e-12);
  assert_true(tl_quantile(x, 1, 0.3) == 1);
  assert_true(isnan(tl_quantile(x, 0, 0.5)));
}

static void bootstrap_of_a_mean(void **state) {
  (void)state;
  enum { N = 400 };
  double x[N], y[N], sum = 0;
  for (size_t i = 0; i < N; i++) {
    x[i] = (double)((i * 7919) % N) / N; /* uniform: deviation 1 / sqrt(12) */
    y[i] = x[i] - 0.25 - 0.01 * (double)(i % 2);
    sum += x[i];
  }
  tl_bootstrap_interval b, again, other, pair;
  assert_int_equal(tl_bootstrap(mean_of, x, N, 1, 2000, 0.95, &b, NULL), TL_OK);
  assert_true(fabs(b.value - sum / N) < 1e-12);
  assert_int_equal(b.n_defined, 2000);
  double half = 1.96 / sqrt(12.0 * N); /* normal theory */
  assert_true(fabs(b.value - b.low - half) < 0.1 * half);
  assert_true(fabs(b.high - b.value - half) < 0.1 * half);
  assert_int_equal(tl_bootstrap(mean_of, x, N, 1, 2000, 0.95, &again, NULL), TL_OK);
  assert_memory_equal(&b, &again, sizeof b);
  assert_int_equal(tl_bootstrap(mean_of, x, N, 2, 2000, 0.95, &other, NULL), TL_OK);
  assert_true(b.low != other.low);
  /* The pairing leaves the spread of the difference only. */
  assert_int_equal(tl_bootstrap_paired(mean_of, x, y, N, 1, 2000, 0.95, &pair, NULL), TL_OK);
  assert_true(fabs(pair.value - 0.255) < 1e-9);
  assert_true(pair.low > 0.254 && pair.low < 0.2549 && pair.high > 0.2551 && pair.high < 0.256);
}

static void bootstrap_leaves_out_the_undefined(void **state) {
  (void)state;
  double x[] = {1, 2, 3, 4};
  tl_bootstrap_interval b;
  assert_int_equal(tl_bootstrap(mean_with_first, x, 4, 1, 4000, 0.9, &b, NULL), TL_OK);
  double share = 1 - pow(0.75, 4); /* of resamples with example 0 */
  assert_true(fabs((double)b.n_defined / 4000 - share) < 0.03);
  assert_true(b.low < b.value && b.value < b.high);
  tl_err err = {0};
  assert_int_equal(tl_bootstrap(mean_of, x, 0, 1, 10, 0.9, &b, &err), TL_DATA);
  assert_int_equal(tl_bootstrap(mean_of, x, 4, 1, 0, 0.9, &b, NULL), TL_USAGE);
  assert_int_equal(tl_bootstrap(mean_of, x, 4, 1, 10, 1, &b, NULL), TL_USAGE);
  assert_int_equal(tl_bootstrap_paired(mean_of, x, NULL, 4, 1, 10, 0.9, &b, NULL), TL_USAGE);
}

typedef struct scores {
  const double *score;
  const int *truth;
} scores;

static double auc_of(const size_t *index, size_t n, void *user) {
  const scores *s = user;
  double v;
  return tl_roc_auc(s->score, s->truth, index, n, &v, NULL) == TL_OK ? v : NAN;
}

/* The interval covers the true area about as often as it says, and that of a system against itself
 * is empty. */
static void bootstrap_of_an_area(void **state) {
  (void)state;
  enum { N = 120, TRIALS = 100 };
  double score[N];
  int truth[N], covered = 0;
  scores s = {score, truth};
  tl_bootstrap_interval b;
  tl_rng rng = tl_rng_make(5, TL_STREAM_TEST, 0, 0);
  for (int t = 0; t < TRIALS; t++) {
    for (size_t i = 0; i < N; i++) {
      truth[i] = (int)(i % 2); /* negatives U^2, positives U: P(p > n) = E[sqrt(U)] = 2/3 */
      double u = tl_rng_f32(&rng);
      score[i] = truth[i] ? u : u * u;
    }
    assert_int_equal(tl_bootstrap(auc_of, &s, N, (uint64_t)t, 200, 0.9, &b, NULL), TL_OK);
    covered += b.low <= 2.0 / 3 && 2.0 / 3 <= b.high;
  }
  assert_true(covered >= 80 && covered <= 98);
  assert_int_equal(tl_bootstrap_paired(auc_of, &s, &s, N, 1, 50, 0.9, &b, NULL), TL_OK);
  assert_true(b.value == 0 && b.low == 0 && b.high == 0 && b.n_defined == 50);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(classes_as_scikit_learn),
      cmocka_unit_test(multilabel_as_scikit_learn),
      cmocka_unit_test(correlations_as_scipy),
      cmocka_unit_test(curves_as_scikit_learn),
      cmocka_unit_test(calibration_as_scikit_learn),
      cmocka_unit_test(undefined_results),
      cmocka_unit_test(bins_end_at_their_edges),
      cmocka_unit_test(bad_values_are_errors),
      cmocka_unit_test(an_index_picks_examples),
      cmocka_unit_test(quantiles_as_numpy),
      cmocka_unit_test(bootstrap_of_a_mean),
      cmocka_unit_test(bootstrap_of_an_area),
      cmocka_unit_test(bootstrap_leaves_out_the_undefined),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
