/* Training curves: from arrays of the report document, or from a run's metrics.jsonl. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "eval/report_internal.h"

enum { MAX_ROWS = 1 << 24 };

static const char *const names[TL_CURVE_COLUMNS] = {
    "step", "tokens", "loss", "val_loss", "bpb", "val_bpb", "lr", "grad_norm", "tokens_per_s"};
/* Other names of the same in metrics.jsonl, or NULL. */
static const char *const aliases[TL_CURVE_COLUMNS] = {
    [TL_CURVE_VAL_LOSS] = "eval/loss", [TL_CURVE_VAL_BITS] = "eval/bpb"};

void tl_curve_free(tl_curve *c) {
  for (int k = 0; k < TL_CURVE_COLUMNS; k++) free(c->column[k]);
  *c = (tl_curve){0};
}

static tl_status read_column(const json_t *o, const char *where, int k, tl_curve *c, tl_err *err) {
  const json_t *list = json_object_get(o, names[k]);
  if (!list || json_is_null(list)) return TL_OK;
  char path[96];
  snprintf(path, sizeof path, "%s.%s", where, names[k]);
  TL_TRY(tl_json_expect(list, JSON_ARRAY, path, err));
  size_t n = json_array_size(list);
  if (n == 0) return TL_OK;
  if (c->n && n != c->n)
    return tl_fail(err, TL_DATA, "report document: %s has %zu values, other columns have %zu", path,
                   n, c->n);
  c->n = n;
  c->column[k] = malloc(n * sizeof(double));
  if (!c->column[k]) return tl_fail(err, TL_NOMEM, "out of memory");
  for (size_t i = 0; i < n; i++) {
    const json_t *v = json_array_get(list, i);
    if (!json_is_number(v) && !json_is_null(v))
      return tl_fail(err, TL_DATA, "report document: %s[%zu] must be a number or null", path, i);
    c->column[k][i] = json_is_null(v) ? NAN : json_number_value(v);
  }
  return TL_OK;
}

static tl_status add_row(const json_t *o, size_t *cap, tl_curve *c, tl_err *err) {
  if (c->n == *cap) {
    size_t bigger = *cap ? 2 * *cap : 256;
    if (bigger > MAX_ROWS) return tl_fail(err, TL_DATA, "more than %d logged steps", MAX_ROWS);
    for (int k = 0; k < TL_CURVE_COLUMNS; k++) {
      double *p = realloc(c->column[k], bigger * sizeof *p);
      if (!p) return tl_fail(err, TL_NOMEM, "out of memory");
      c->column[k] = p;
    }
    *cap = bigger;
  }
  for (int k = 0; k < TL_CURVE_COLUMNS; k++) {
    const json_t *v = json_object_get(o, names[k]);
    if (!v && aliases[k]) v = json_object_get(o, aliases[k]);
    c->column[k][c->n] = json_is_number(v) ? json_number_value(v) : NAN;
  }
  c->n++;
  return TL_OK;
}

/* Columns without a single value go, so that what is drawn is what was logged. */
static void drop_empty(tl_curve *c) {
  for (int k = 0; k < TL_CURVE_COLUMNS; k++) {
    size_t have = 0;
    for (size_t i = 0; i < c->n; i++) have += isfinite(c->column[k][i]);
    if (have) continue;
    free(c->column[k]);
    c->column[k] = NULL;
  }
}

static tl_status read_metrics(const char *path, tl_curve *c, tl_err *err) {
  tl_map m;
  TL_TRY(tl_map_open(path, &m, err));
  tl_status s = TL_OK;
  const char *p = (const char *)m.data, *end = p + m.size;
  size_t cap = 0;
  for (size_t line = 1; s == TL_OK && p < end; line++) {
    const char *nl = memchr(p, '\n', (size_t)(end - p));
    if (!nl) break; /* the last line is torn while the run is going on */
    json_error_t e;
    json_t *o = json_loadb(p, (size_t)(nl - p), JSON_REJECT_DUPLICATES, &e);
    if (json_is_object(o))
      s = add_row(o, &cap, c, err);
    else
      s = tl_fail(err, TL_DATA, "%s:%zu: not a JSON object", path, line);
    json_decref(o);
    p = nl + 1;
  }
  tl_map_close(&m);
  if (s == TL_OK && c->n) drop_empty(c);
  return s;
}

tl_status tl_curve_read(const json_t *o, const char *where, const char *dir, tl_curve *c,
                        tl_err *err) {
  const char *metrics;
  TL_TRY(tl_json_str(o, where, "metrics", &metrics, err));
  if (metrics) {
    char *path = metrics[0] == '/' ? strdup(metrics) : tl_path_join(dir, metrics);
    tl_status s = path ? read_metrics(path, c, err) : tl_fail(err, TL_NOMEM, "out of memory");
    free(path);
    TL_TRY(s);
  } else {
    for (int k = 0; k < TL_CURVE_COLUMNS; k++) TL_TRY(read_column(o, where, k, c, err));
  }
  if (c->n && !c->column[TL_CURVE_STEP] && !c->column[TL_CURVE_TOKENS])
    return tl_fail(err, TL_DATA, "report document: %s must have step or tokens", where);
  return TL_OK;
}
