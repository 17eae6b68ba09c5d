#include "eval/stats.h"

#include <math.h>
#include <stdlib.h>
#include "base/rng.h"

double tl_mean(const double *x, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += x[i];
  return n ? sum / (double)n : NAN;
}

static double std_around(const double *a, const double *b, size_t n, double mean) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) {
    double d = a[i] - (b ? b[i] : 0) - mean;
    sum += d * d;
  }
  return n < 2 ? NAN : sqrt(sum / (double)(n - 1));
}

double tl_std(const double *x, size_t n) {
  return std_around(x, NULL, n, tl_mean(x, n));
}

/* Continued fraction of the incomplete beta function (Lentz's method). */
static double beta_fraction(double a, double b, double x) {
  const double tiny = 1e-300;
  double c = 1, d = 1 - (a + b) * x / (a + 1);
  d = 1 / (fabs(d) < tiny ? tiny : d);
  double f = d;
  for (int m = 1; m < 500; m++) {
    double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    double step = 1;
    for (int k = 0; k < 2; k++) {
      double t = k ? odd : even;
      d = 1 + t * d;
      d = 1 / (fabs(d) < tiny ? tiny : d);
      c = 1 + t / c;
      if (fabs(c) < tiny) c = tiny;
      step = c * d;
      f *= step;
    }
    if (fabs(step - 1) < 1e-14) break;
  }
  return f;
}

/* Regularised incomplete beta function I_x(a, b). */
static double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double tl_student_quantile(double level, double df) {
  if (!(level > 0 && level < 1) || !(df > 0)) return NAN;
  /* P(|T| > q) = I_{df/(df+q^2)}(df/2, 1/2), decreasing in q: bisection. */
  double low = 0, high = 1;
  while (high < 1e12 && incomplete_beta(df / 2, 0.5, df / (df + high * high)) > 1 - level)
    high *= 2;
  for (int i = 0; i < 200 && high - low > 1e-12 * high; i++) {
    double mid = (low + high) / 2;
    if (incomplete_beta(df / 2, 0.5, df / (df + mid * mid)) > 1 - level)
      low = mid;
    else
      high = mid;
  }
  return (low + high) / 2;
}

static tl_interval interval(double mean, double std, size_t n, double level) {
  tl_interval r = {mean, NAN, n};
  if (n >= 2) r.half = tl_student_quantile(level, (double)(n - 1)) * std / sqrt((double)n);
  return r;
}

tl_interval tl_t_interval(const double *x, size_t n, double level) {
  return interval(tl_mean(x, n), tl_std(x, n), n, level);
}

tl_interval tl_paired_t_interval(const double *a, const double *b, size_t n, double level) {
  double mean = tl_mean(a, n) - tl_mean(b, n);
  return interval(mean, std_around(a, b, n, mean), n, level);
}

int tl_labels_needed(const double *labels, const double *score, size_t n, double target,
                     double *needed) {
  *needed = labels[0];
  if (score[0] > target) return -1;
  if (score[0] == target) return 0;
  for (size_t i = 1; i < n; i++) {
    if (score[i] < target) continue;
    double t = (target - score[i - 1]) / (score[i] - score[i - 1]);
    *needed = exp(log(labels[i - 1]) + t * (log(labels[i]) - log(labels[i - 1])));
    return 0;
  }
  *needed = labels[n - 1];
  return 1;
}

double tl_quantile(const double *sorted, size_t n, double q) {
  if (!n) return NAN;
  double at = q * (double)(n - 1);
  size_t i = (size_t)at;
  if (i + 1 >= n) return sorted[n - 1];
  return sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]);
}

static int rising(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

void tl_sort(double *x, size_t n) {
  qsort(x, n, sizeof *x, rising);
}

static double metric_of(tl_metric_fn metric, void *a, void *b, const size_t *index, size_t n) {
  double v = metric(index, n, a);
  return b ? v - metric(index, n, b) : v;
}

/* b: NULL, or the second system of a paired difference. */
static tl_status bootstrap(tl_metric_fn metric, void *a, void *b, size_t n, uint64_t seed,
                           size_t resamples, double level, tl_bootstrap_interval *out,
                           tl_err *err) {
  if (!n) return tl_fail(err, TL_DATA, "the bootstrap needs at least one example");
  if (!resamples) return tl_fail(err, TL_USAGE, "the bootstrap needs at least one resample");
  if (!(level > 0 && level < 1))
    return tl_fail(err, TL_USAGE, "the level of an interval is between 0 and 1, not %g", level);
  size_t *index = calloc(n, sizeof *index);
  double *values = calloc(resamples, sizeof *values);
  if (!index || !values) {
    free(index);
    free(values);
    return tl_fail(err, TL_NOMEM, "out of memory to resample %zu examples %zu times", n, resamples);
  }
  for (size_t i = 0; i < n; i++) index[i] = i;
  *out = (tl_bootstrap_interval){.value = metric_of(metric, a, b, index, n)};
  for (size_t r = 0; r < resamples; r++) {
    tl_rng rng = tl_rng_make(tl_mix64(seed, r), TL_STREAM_BOOTSTRAP, 0, 0);
    for (size_t i = 0; i < n; i++) index[i] = (size_t)tl_rng_below(&rng, n);
    double v = metric_of(metric, a, b, index, n);
    if (!isnan(v)) values[out->n_defined++] = v;
  }
  tl_sort(values, out->n_defined);
  out->low = tl_quantile(values, out->n_defined, (1 - level) / 2);
  out->high = tl_quantile(values, out->n_defined, (1 + level) / 2);
  free(index);
  free(values);
  return TL_OK;
}

tl_status tl_bootstrap(tl_metric_fn metric, void *user, size_t n, uint64_t seed, size_t resamples,
                       double level, tl_bootstrap_interval *out, tl_err *err) {
  return bootstrap(metric, user, NULL, n, seed, resamples, level, out, err);
}

tl_status tl_bootstrap_paired(tl_metric_fn metric, void *a, void *b, size_t n, uint64_t seed,
                              size_t resamples, double level, tl_bootstrap_interval *out,
                              tl_err *err) {
  if (!b) return tl_fail(err, TL_USAGE, "a paired bootstrap needs a second system");
  return bootstrap(metric, a, b, n, seed, resamples, level, out, err);
}
