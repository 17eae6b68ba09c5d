/* The metrics that sort: correlations and the curves over thresholds. */
#include "eval/metrics.h"

#include <math.h>
#include <stdlib.h>

typedef struct scored {
  double score;
  size_t i; /* position in 0..n-1 */
} scored;

static size_t at(const size_t *index, size_t i) {
  return index ? index[i] : i;
}

static int by_score(const void *a, const void *b) {
  double x = ((const scored *)a)->score, y = ((const scored *)b)->score;
  return (x > y) - (x < y);
}

/* The end of the run of equal scores that starts at i. */
static size_t tie_end(const scored *s, size_t n, size_t i) {
  size_t end = i + 1;
  while (end < n && s[end].score == s[i].score) end++;
  return end;
}

static tl_status scored_alloc(size_t n, scored **out, tl_err *err) {
  *out = calloc(n ? n : 1, sizeof **out);
  return *out ? TL_OK : tl_fail(err, TL_NOMEM, "out of memory for %zu scores", n);
}

/* --- Correlation --- */
/* The mean; sets *top to the largest distance from it, NAN unless x is finite and not constant. */
static double centre(const double *x, const size_t *index, size_t n, double *top) {
  double sum = 0;
  bool constant = true, finite = true;
  for (size_t i = 0; i < n; i++) {
    double v = x[at(index, i)];
    sum += v;
    constant &= v == x[at(index, 0)];
    finite &= isfinite(v) != 0;
  }
  double mean = sum / (double)n;
  *top = 0;
  for (size_t i = 0; i < n; i++) *top = fmax(*top, fabs(x[at(index, i)] - mean));
  if (constant || !finite) *top = NAN;
  return mean;
}

double tl_pearson(const double *x, const double *y, const size_t *index, size_t n) {
  if (n < 2) return NAN;
  double top_x, top_y, xx = 0, yy = 0, xy = 0;
  double mean_x = centre(x, index, n, &top_x), mean_y = centre(y, index, n, &top_y);
  if (!(top_x > 0) || !(top_y > 0)) return NAN;
  for (size_t i = 0; i < n; i++) { /* scaled, so that squares neither vanish nor overflow */
    double a = (x[at(index, i)] - mean_x) / top_x, b = (y[at(index, i)] - mean_y) / top_y;
    xx += a * a;
    yy += b * b;
    xy += a * b;
  }
  double r = xy / (sqrt(xx) * sqrt(yy));
  return r > 1 ? 1 : r < -1 ? -1 : r;
}

/* rank[i] of example i in 0..n-1, from 1. */
static void average_ranks(const double *x, const size_t *index, size_t n, scored *s, double *rank) {
  for (size_t i = 0; i < n; i++) s[i] = (scored){x[at(index, i)], i};
  qsort(s, n, sizeof *s, by_score);
  for (size_t i = 0, end; i < n; i = end) {
    end = tie_end(s, n, i);
    for (size_t k = i; k < end; k++) rank[s[k].i] = (double)(i + 1 + end) / 2;
  }
}

tl_status tl_spearman(const double *x, const double *y, const size_t *index, size_t n, double *out,
                      tl_err *err) {
  for (size_t i = 0; i < n; i++) {
    if (isfinite(x[at(index, i)]) && isfinite(y[at(index, i)])) continue;
    *out = NAN;
    return TL_OK;
  }
  scored *s = NULL;
  TL_TRY(scored_alloc(n, &s, err));
  double *rank_x = calloc(n ? n : 1, sizeof *rank_x), *rank_y = calloc(n ? n : 1, sizeof *rank_y);
  tl_status st = TL_OK;
  if (rank_x && rank_y) {
    average_ranks(x, index, n, s, rank_x);
    average_ranks(y, index, n, s, rank_y);
    *out = tl_pearson(rank_x, rank_y, NULL, n);
  } else {
    st = tl_fail(err, TL_NOMEM, "out of memory for %zu ranks", n);
  }
  free(rank_x);
  free(rank_y);
  free(s);
  return st;
}

/* --- Curves --- */
/* Class `positive` against the rest; column of score[n_rows * stride]. Sorted by rising score. */
typedef struct ranking {
  const double *score;
  const int *truth;
  const size_t *index;
  size_t n, stride, column, n_classes;
  int positive;
} ranking;

static tl_status rank_sort(const ranking *r, scored *s, tl_err *err) {
  for (size_t i = 0; i < r->n; i++) {
    size_t e = at(r->index, i);
    double v = r->score[e * r->stride + r->column];
    if (!isfinite(v)) return tl_fail(err, TL_DATA, "example %zu: score %g is not finite", e, v);
    if (r->truth[e] < 0 || (size_t)r->truth[e] >= r->n_classes)
      return tl_fail(err, TL_DATA, "example %zu: true class %d is not in [0, %zu)", e, r->truth[e],
                     r->n_classes);
    s[i] = (scored){v, e};
  }
  qsort(s, r->n, sizeof *s, by_score);
  return TL_OK;
}

static size_t count_positive(const ranking *r, const scored *s, size_t begin, size_t end) {
  size_t n = 0;
  for (size_t k = begin; k < end; k++) n += r->truth[s[k].i] == r->positive;
  return n;
}

static double area(const ranking *r, const scored *s) {
  double pairs = 0; /* in the right order */
  size_t negatives = 0;
  for (size_t i = 0, end; i < r->n; i = end) {
    end = tie_end(s, r->n, i);
    size_t p = count_positive(r, s, i, end), q = end - i - p;
    pairs += (double)p * ((double)negatives + (double)q / 2);
    negatives += q;
  }
  size_t positives = r->n - negatives;
  return positives && negatives ? pairs / ((double)positives * (double)negatives) : NAN;
}

static double step_area(const ranking *r, const scored *s) {
  size_t total = count_positive(r, s, 0, r->n), found = 0;
  double sum = 0;
  for (size_t end = r->n, begin; end > 0; end = begin) { /* thresholds from high to low */
    begin = end - 1;
    while (begin > 0 && s[begin - 1].score == s[begin].score) begin--;
    size_t p = count_positive(r, s, begin, end);
    found += p;
    sum += (double)p * (double)found / (double)(r->n - begin);
  }
  return total ? sum / (double)total : NAN;
}

static tl_status curve(const ranking *r, double (*measure)(const ranking *, const scored *),
                       double *out, tl_err *err) {
  scored *s = NULL;
  TL_TRY(scored_alloc(r->n, &s, err));
  tl_status st = rank_sort(r, s, err);
  if (st == TL_OK) *out = measure(r, s);
  free(s);
  return st;
}

tl_status tl_roc_auc(const double *score, const int *truth, const size_t *index, size_t n,
                     double *out, tl_err *err) {
  ranking r = {score, truth, index, n, 1, 0, 2, 1};
  return curve(&r, area, out, err);
}

tl_status tl_roc_auc_ovr(const double *score, const int *truth, const size_t *index, size_t n,
                         size_t n_classes, double *out, tl_err *err) {
  double sum = n_classes < 2 ? NAN : 0;
  for (size_t c = 0; c < n_classes; c++) {
    ranking r = {score, truth, index, n, n_classes, c, n_classes, (int)c};
    double a;
    TL_TRY(curve(&r, area, &a, err));
    sum += a;
  }
  *out = sum / (double)n_classes;
  return TL_OK;
}

tl_status tl_average_precision(const double *score, const int *truth, const size_t *index, size_t n,
                               double *out, tl_err *err) {
  ranking r = {score, truth, index, n, 1, 0, 2, 1};
  return curve(&r, step_area, out, err);
}
