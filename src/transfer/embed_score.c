/* What embeddings are worth: agreement with people, alignment, uniformity; and search in them. */
#include <math.h>
#include <stdlib.h>

#include "eval/metrics.h"
#include "eval/stats.h"
#include "transfer/embed.h"

enum { RESAMPLES = 1000, UNIFORM_ROWS = 1000 };

static double dot(const float *a, const float *b, size_t dim) {
  double sum = 0;
  for (size_t c = 0; c < dim; c++) sum += (double)a[c] * (double)b[c];
  return sum;
}

static double square_distance(const float *a, const float *b, size_t dim) {
  double sum = 0;
  for (size_t c = 0; c < dim; c++) {
    double x = (double)a[c] - (double)b[c];
    sum += x * x;
  }
  return sum;
}

double tl_alignment(const float *a, const float *b, size_t n, size_t dim) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += square_distance(a + i * dim, b + i * dim, dim);
  return n ? sum / (double)n : NAN;
}

double tl_uniformity(const float *x, size_t n, size_t dim) {
  size_t m = n < UNIFORM_ROWS ? n : UNIFORM_ROWS;
  double sum = 0;
  for (size_t i = 0; i < m; i++)
    for (size_t j = 0; j < i; j++)
      sum += exp(-2 * square_distance(x + i * n / m * dim, x + j * n / m * dim, dim));
  return m > 1 ? log(sum / ((double)m * (double)(m - 1) / 2)) : NAN;
}

typedef struct pairs {
  double *cosine;
  const double *value;
} pairs;

static double pearson(const size_t *index, size_t n, void *user) {
  const pairs *p = user;
  return tl_pearson(p->value, p->cosine, index, n);
}

static double spearman(const size_t *index, size_t n, void *user) {
  const pairs *p = user;
  double x = NAN;
  tl_err err;
  tl_spearman(p->value, p->cosine, index, n, &x, &err);
  return x;
}

static void add(tl_scores *out, const char *name, double value) {
  out->score[out->n++] = (tl_score){.name = name, .value = value, .lo = NAN, .hi = NAN};
}

/* Of the pairs that people find alike. */
static double alignment_of_alike(const float *a, const float *b, size_t n, size_t dim,
                                 const double *value) {
  double highest = -INFINITY, sum = 0;
  size_t count = 0;
  for (size_t i = 0; i < n; i++) highest = value[i] > highest ? value[i] : highest;
  for (size_t i = 0; i < n; i++) {
    if (value[i] < 0.8 * highest) continue;
    sum += square_distance(a + i * dim, b + i * dim, dim);
    count++;
  }
  return count ? sum / (double)count : NAN;
}

tl_status tl_sts_scores(const float *a, const float *b, size_t n, size_t dim, const double *value,
                        bool intervals, uint64_t seed, tl_scores *out, tl_err *err) {
  static const struct {
    const char *name;
    tl_metric_fn fn;
  } metrics[] = {{"spearman", spearman}, {"pearson", pearson}};
  pairs p = {malloc((n + 1) * sizeof *p.cosine), value};
  *out = (tl_scores){0};
  if (!p.cosine) return tl_fail(err, TL_NOMEM, "out of memory for %zu pairs", n);
  for (size_t i = 0; i < n; i++) p.cosine[i] = dot(a + i * dim, b + i * dim, dim);
  tl_status s = TL_OK;
  for (int i = 0; s == TL_OK && i < 2; i++) {
    add(out, metrics[i].name, metrics[i].fn(NULL, n, &p));
    tl_bootstrap_interval r;
    if (!intervals) continue;
    s = tl_bootstrap(metrics[i].fn, &p, n, seed, RESAMPLES, 0.95, &r, err);
    out->score[i].lo = r.low;
    out->score[i].hi = r.high;
  }
  add(out, "alignment", alignment_of_alike(a, b, n, dim, value));
  add(out, "uniformity", tl_uniformity(a, n, dim));
  free(p.cosine);
  return s;
}

size_t tl_nearest(const float *base, size_t n, size_t dim, const float *query, size_t k,
                  tl_neighbour *out) {
  double length = sqrt(dot(query, query, dim));
  size_t have = 0;
  for (size_t i = 0; i < n; i++) {
    const float *row = base + i * dim;
    double norm = sqrt(dot(row, row, dim)) * length;
    tl_neighbour x = {i, norm > 0 ? dot(row, query, dim) / norm : 0};
    if (have == k && (k == 0 || x.cosine <= out[k - 1].cosine)) continue;
    size_t at = have < k ? have++ : k - 1;
    for (; at > 0 && out[at - 1].cosine < x.cosine; at--) out[at] = out[at - 1];
    out[at] = x;
  }
  return have;
}
