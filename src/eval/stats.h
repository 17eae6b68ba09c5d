/* Small-sample statistics for comparing runs. */
#ifndef TL_EVAL_STATS_H
#define TL_EVAL_STATS_H

#include <stddef.h>

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

/* How many labels a method needs for `target`, read off its measured curve by interpolation linear
 * in the logarithm of the number of labels: where the curve first reaches it. labels[n] increasing,
 * score[n]; n >= 1. Returns 0 with *needed set; -1 if the curve starts above the target (*needed =
 * labels[0]: that many or fewer), 1 if it stays below (*needed = labels[n-1]: more than that). */
int tl_labels_needed(const double *labels, const double *score, size_t n, double target,
                     double *needed);

#endif
