#include "eval/symmetric.h"

#include <math.h>
#include <string.h>

enum { MAX_SWEEPS = 60 };

/* Columns p and q of m turned by (c, s). */
static void turn_columns(double *m, int n, int p, int q, double c, double s) {
  for (int i = 0; i < n; i++) {
    double x = m[i * n + p], y = m[i * n + q];
    m[i * n + p] = c * x - s * y;
    m[i * n + q] = s * x + c * y;
  }
}

static void turn_rows(double *m, int n, int p, int q, double c, double s) {
  for (int i = 0; i < n; i++) {
    double x = m[p * n + i], y = m[q * n + i];
    m[p * n + i] = c * x - s * y;
    m[q * n + i] = s * x + c * y;
  }
}

static void rotate(double *a, int n, double *v, int p, int q) {
  double theta = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q]);
  double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
  double c = 1 / sqrt(t * t + 1), s = t * c;
  turn_columns(a, n, p, q, c, s);
  turn_rows(a, n, p, q, c, s);
  turn_columns(v, n, p, q, c, s);
}

void tl_symmetric_eigen(double *a, int n, double *v) {
  double all = 0;
  memset(v, 0, (size_t)n * (size_t)n * sizeof *v);
  for (int i = 0; i < n; i++) v[i * n + i] = 1;
  for (int i = 0; i < n * n; i++) all += a[i] * a[i];
  for (int sweep = 0; sweep < MAX_SWEEPS; sweep++) {
    double off = 0;
    for (int p = 0; p < n; p++)
      for (int q = 0; q < p; q++) off += a[p * n + q] * a[p * n + q];
    if (off <= 1e-24 * all) return;
    for (int p = 0; p < n; p++)
      for (int q = p + 1; q < n; q++)
        if (fabs(a[p * n + q]) > 1e-300) rotate(a, n, v, p, q);
  }
}
