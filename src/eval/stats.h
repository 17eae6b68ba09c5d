/* Small-sample statistics for comparing runs. */
#ifndef TL_EVAL_STATS_H
#define TL_EVAL_STATS_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"

/* mean +- half, from n values; half is NAN when n < 2 (one value says nothing of its spread). */
typedef struct tl_interval {
  double mean, half;
  size_t n;
} tl_interval;

double tl_mean(const double *x, size_t n);           /* NAN for n == 0 */
double tl_std(const double *x, size_t n);            /* sample deviation (n - 1); NAN for n < 2 */
double tl_student_quantile(double level, double df); /* two-sided: P(|T| <= q) = level */
tl_interval tl_t_interval(const double *x, size_t n, double level);
/* Of the mean of a[i] - b[i]: the seeds are paired. */
tl_interval tl_paired_t_interval(const double *a, const double *b, size_t n, double level);

void tl_sort(double *x, size_t n); /* rising */
/* The q-quantile, 0 <= q <= 1, of n rising values, linear between neighbours (numpy's default);
 * NAN for n == 0. */
double tl_quantile(const double *sorted, size_t n, double q);

/* A metric of the examples index[n] (with repetitions); NAN where it is undefined. */
typedef double (*tl_metric_fn)(const size_t *index, size_t n, void *user);

/* Percentile bootstrap (Efron 1979; for differences of two systems Koehn 2004). */
typedef struct tl_bootstrap_interval {
  double value;     /* of the examples themselves */
  double low, high; /* quantiles (1 -+ level) / 2 of the resamples where the metric is defined; NAN
                       if it is nowhere */
  size_t n_defined; /* number of those */
} tl_bootstrap_interval;

/* Draws `resamples` times n of the n examples; resample r depends on (seed, r) alone. Errors: DATA
 * (n
 * == 0), USAGE (no resamples, level not in (0, 1)), NOMEM. */
tl_status tl_bootstrap(tl_metric_fn metric, void *user, size_t n, uint64_t seed, size_t resamples,
                       double level, tl_bootstrap_interval *out, tl_err *err);
/* Of metric(a) - metric(b), both on the same resampled examples; USAGE also if b is NULL. */
tl_status tl_bootstrap_paired(tl_metric_fn metric, void *a, void *b, size_t n, uint64_t seed,
                              size_t resamples, double level, tl_bootstrap_interval *out,
                              tl_err *err);

/* How many labels a method needs for `target`, read off its measured curve by interpolation linear
 * in the logarithm of the number of labels: where the curve first reaches it. labels[n] increasing,
 * score[n]; n >= 1. Returns 0 with *needed set; -1 if the curve starts above the target (*needed =
 * labels[0]: that many or fewer), 1 if it stays below (*needed = labels[n-1]: more than that). */
int tl_labels_needed(const double *labels, const double *score, size_t n, double target,
                     double *needed);

#endif
