#include "eval/lbfgs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS = 10, MAX_HALVINGS = 30 };

typedef struct search {
  int64_t n;
  double *x, *g;               /* the point and its gradient */
  double *next_x, *next_g, *d; /* where a step leads; its direction */
  double *s[PAIRS], *y[PAIRS]; /* differences of points and gradients, the newest at n_pairs - 1 */
  double rho[PAIRS];
  int n_pairs;
} search;

static double dot(const double *a, const double *b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

static void add(double *to, double factor, const double *x, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] += factor * x[i];
}

static double largest(const double *x, int64_t n) {
  double m = 0;
  for (int64_t i = 0; i < n; i++) m = fmax(m, fabs(x[i]));
  return m;
}

/* d = -H g, by the two loops over the pairs. */
static void set_direction(search *q) {
  double alpha[PAIRS];
  for (int64_t i = 0; i < q->n; i++) q->d[i] = -q->g[i];
  for (int k = q->n_pairs - 1; k >= 0; k--) {
    alpha[k] = q->rho[k] * dot(q->s[k], q->d, q->n);
    add(q->d, -alpha[k], q->y[k], q->n);
  }
  if (q->n_pairs > 0) {
    int k = q->n_pairs - 1;
    double scale = 1 / (q->rho[k] * dot(q->y[k], q->y[k], q->n));
    for (int64_t i = 0; i < q->n; i++) q->d[i] *= scale;
  }
  for (int k = 0; k < q->n_pairs; k++)
    add(q->d, alpha[k] - q->rho[k] * dot(q->y[k], q->d, q->n), q->s[k], q->n);
}

/* The pair of the step from x to next_x; one without curvature is left out. */
static void remember(search *q) {
  bool full = q->n_pairs == PAIRS;
  int k = full ? PAIRS - 1 : q->n_pairs;
  double *s = q->s[full ? 0 : k], *y = q->y[full ? 0 : k];
  for (int64_t i = 0; i < q->n; i++) {
    s[i] = q->next_x[i] - q->x[i];
    y[i] = q->next_g[i] - q->g[i];
  }
  double curvature = dot(s, y, q->n);
  bool good = curvature > 1e-12 * dot(y, y, q->n);
  if (full) {
    memmove(q->s, q->s + 1, (PAIRS - 1) * sizeof *q->s);
    memmove(q->y, q->y + 1, (PAIRS - 1) * sizeof *q->y);
    memmove(q->rho, q->rho + 1, (PAIRS - 1) * sizeof *q->rho);
    q->s[PAIRS - 1] = s;
    q->y[PAIRS - 1] = y;
  }
  q->rho[k] = good ? 1 / curvature : 0;
  q->n_pairs = good ? k + 1 : k;
}

/* Halves the step until the value falls by 1e-4 of what the slope promises; false: never. */
static bool step(search *q, tl_smooth_fn fn, void *user, double *value, tl_lbfgs_result *out) {
  double slope = dot(q->g, q->d, q->n), t = 1;
  if (q->n_pairs == 0) t = fmin(1, 1 / sqrt(dot(q->g, q->g, q->n)));
  for (int k = 0; slope < 0 && k < MAX_HALVINGS; k++, t /= 2) {
    for (int64_t i = 0; i < q->n; i++) q->next_x[i] = q->x[i] + t * q->d[i];
    double f = fn(user, q->next_x, q->next_g);
    out->evaluations++;
    if (!(f <= *value + 1e-4 * t * slope)) continue;
    *value = f;
    return true;
  }
  return false;
}

static void minimise(search *q, tl_smooth_fn fn, void *user, const tl_lbfgs_options *o,
                     tl_lbfgs_result *out) {
  double value = fn(user, q->x, q->g);
  *out = (tl_lbfgs_result){.value = value, .evaluations = 1};
  while (out->steps < o->max_steps && !out->converged) {
    if (largest(q->g, q->n) <= o->gradient) {
      out->converged = true;
      break;
    }
    set_direction(q);
    if (!step(q, fn, user, &value, out)) {
      if (q->n_pairs == 0) break;
      q->n_pairs = 0; /* once more, along the gradient */
      continue;
    }
    remember(q);
    out->converged = out->value - value <= o->progress * fmax(fabs(value), 1e-12);
    out->value = value;
    out->steps++;
    memcpy(q->x, q->next_x, (size_t)q->n * sizeof *q->x);
    memcpy(q->g, q->next_g, (size_t)q->n * sizeof *q->g);
  }
}

tl_status tl_lbfgs(tl_smooth_fn fn, void *user, int64_t n, const tl_lbfgs_options *o, double *x,
                   tl_lbfgs_result *out, tl_err *err) {
  double *all = malloc((size_t)(4 + 2 * PAIRS) * (size_t)(n + 1) * sizeof *all);
  if (!all) return tl_fail(err, TL_NOMEM, "L-BFGS: out of memory for %lld variables", (long long)n);
  search q = {.n = n, .x = x, .g = all, .next_x = all + n, .next_g = all + 2 * n, .d = all + 3 * n};
  for (int k = 0; k < PAIRS; k++) {
    q.s[k] = all + (4 + 2 * k) * n;
    q.y[k] = all + (5 + 2 * k) * n;
  }
  minimise(&q, fn, user, o, out);
  free(all);
  return TL_OK;
}
