/* Reading tests/golden/metrics (tools/make_metric_goldens.py), or the folder that
 * TILTH_METRIC_GOLDENS names; and the largest deviation found, which each test prints. */
#ifndef TEST_METRIC_GOLDENS_H
#define TEST_METRIC_GOLDENS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>

static double golden_worst; /* since golden_report */

static inline json_t *golden_load(const char *name) {
  char path[1024];
  const char *dir = getenv("TILTH_METRIC_GOLDENS");
  snprintf(path, sizeof path, "%s/%s.json", dir ? dir : TL_SOURCE_DIR "/tests/golden/metrics",
           name);
  json_error_t why;
  json_t *j = json_load_file(path, 0, &why);
  if (!j) fail_msg("%s:%d: %s", path, why.line, why.text);
  assert_true(json_array_size(j) > 0);
  return j;
}

static inline json_t *golden_get(const json_t *j, const char *key) {
  json_t *v = json_object_get(j, key);
  if (!v) fail_msg("no \"%s\" in the golden case", key);
  return v;
}

static inline double golden_real(const json_t *v) {
  return json_is_null(v) ? NAN : json_number_value(v);
}

static inline size_t golden_size(const json_t *j, const char *key) {
  return (size_t)json_integer_value(golden_get(j, key));
}

/* got is `want` within tol, relative to values above 1; both may be undefined. */
static inline void golden_near(double got, const json_t *want, double tol, const char *what,
                               size_t which) {
  double w = golden_real(want);
  if (isnan(w) && isnan(got)) return;
  double off = fabs(got - w) / (fabs(w) > 1 ? fabs(w) : 1);
  if (!(off <= tol)) fail_msg("case %zu: %s is %.17g, expected %.17g", which, what, got, w);
  if (off > golden_worst) golden_worst = off;
}

static inline void golden_report(const char *what, size_t cases) {
  print_message("%s: %zu cases, largest deviation %.2g\n", what, cases, golden_worst);
  golden_worst = 0;
}

/* calloc that fails the test; the caller frees. One element at least. */
static inline void *golden_alloc(size_t n, size_t size) {
  void *p = calloc(n ? n : 1, size);
  assert_non_null(p);
  return p;
}

static inline double *golden_doubles(const json_t *list, size_t *n) {
  *n = json_array_size(list);
  double *x = golden_alloc(*n, sizeof *x);
  for (size_t i = 0; i < *n; i++) x[i] = golden_real(json_array_get(list, i));
  return x;
}

static inline int *golden_ints(const json_t *list, size_t *n) {
  *n = json_array_size(list);
  int *x = golden_alloc(*n, sizeof *x);
  for (size_t i = 0; i < *n; i++) x[i] = (int)json_integer_value(json_array_get(list, i));
  return x;
}

static inline uint8_t *golden_bytes(const json_t *list, size_t *n) {
  *n = json_array_size(list);
  uint8_t *x = golden_alloc(*n, sizeof *x);
  for (size_t i = 0; i < *n; i++) x[i] = (uint8_t)json_integer_value(json_array_get(list, i));
  return x;
}

#endif
