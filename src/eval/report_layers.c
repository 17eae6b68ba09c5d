/* The norm of each layer's gradient over a run, from its metrics.jsonl. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "eval/report_internal.h"
#include "tilth/inspect.h"

static const char prefix[] = "grad_norm/";

static void add_row(json_t *doc, json_t *o) {
  json_t *layers = json_object_get(doc, "layers"), *row = json_array();
  const char *key;
  json_t *v;
  bool first = json_array_size(layers) == 0;
  json_object_foreach(o, key, v) {
    if (strncmp(key, prefix, sizeof prefix - 1)) continue;
    if (first) json_array_append_new(layers, json_string(key + sizeof prefix - 1));
    json_array_append(row, v);
  }
  if (json_array_size(row) > 0 && json_array_size(row) == json_array_size(layers)) {
    json_array_append(json_object_get(doc, "step"), json_object_get(o, "step"));
    json_array_append(json_object_get(doc, "norm"), row);
  }
  json_decref(row);
}

tl_status tl_layers_read(const char *metrics, json_t **out, tl_err *err) {
  tl_map m;
  TL_TRY(tl_map_open(metrics, &m, err));
  json_t *doc = json_pack("{s:[], s:[], s:[]}", "layers", "step", "norm");
  tl_status s = doc ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", metrics);
  const char *p = (const char *)m.data, *end = p + m.size;
  for (size_t line = 1; s == TL_OK && p < end; line++) {
    const char *nl = memchr(p, '\n', (size_t)(end - p));
    if (!nl) break; /* the last line is torn while the run is going on */
    json_t *o = json_loadb(p, (size_t)(nl - p), JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(o) && json_is_number(json_object_get(o, "step")))
      add_row(doc, o);
    else
      s = tl_fail(err, TL_DATA, "%s:%zu: not a JSON object with a step", metrics, line);
    json_decref(o);
    p = nl + 1;
  }
  tl_map_close(&m);
  if (s == TL_OK)
    *out = doc;
  else
    json_decref(doc);
  return s;
}

static double norm_at(const json_t *rows, size_t step, size_t layer) {
  const json_t *v = json_array_get(json_array_get(rows, step), layer);
  return json_is_number(v) ? json_number_value(v) : NAN;
}

/* Layers as rows, steps as columns; colour by the logarithm between the least and the greatest. */
void tl_layers_section(tl_buf *b, const json_t *doc) {
  enum { COLUMNS = 120, LEFT = 96, ROW = 16, WIDTH = 720 };
  const json_t *layers = json_object_get(doc, "layers"), *rows = json_object_get(doc, "norm");
  const json_t *steps = json_object_get(doc, "step");
  const size_t n = json_array_size(layers), all = json_array_size(rows);
  const size_t columns = all < COLUMNS ? all : COLUMNS;
  double low = INFINITY, high = 0;
  for (size_t i = 0; i < all; i++)
    for (size_t l = 0; l < n; l++) {
      double v = norm_at(rows, i, l);
      if (v > 0 && v < low) low = v;
      if (v > high) high = v;
    }
  if (columns < 2 || !(high > 0)) return;
  const double w = (double)(WIDTH - LEFT) / (double)columns, span = log(high / low);
  tl_buf_printf(b,
                "<section><h2>Gradient of each layer over time</h2><p class=\"note\">Norm of the "
                "gradient, from %.2g (light) to %.2g (dark), by its logarithm.</p><figure><div "
                "class=\"scroll\"><svg width=\"%d\" viewBox=\"0 0 %d %zu\" role=\"img\" "
                "aria-label=\"Norm of each layer's gradient by step\">",
                low, high, WIDTH, WIDTH, ROW * n + 20);
  for (size_t l = 0; l < n; l++) {
    const char *name = json_string_value(json_array_get(layers, l));
    tl_buf_printf(b, "<text class=\"tick\" x=\"0\" y=\"%zu\">", ROW * l + 12);
    tl_html_text(b, name ? name : "?");
    tl_buf_puts(b, "</text>");
    for (size_t c = 0; c < columns; c++) {
      double v = norm_at(rows, c * all / columns, l);
      if (!(v > 0)) continue;
      tl_buf_printf(b,
                    "<rect fill=\"var(--s0)\" fill-opacity=\"%.2f\" x=\"%.1f\" y=\"%zu\" "
                    "width=\"%.1f\" height=\"%d\"/>",
                    0.05 + 0.9 * (span > 0 ? log(v / low) / span : 1), LEFT + w * (double)c,
                    ROW * l, w + 0.1, ROW - 1);
    }
  }
  const double last = json_number_value(json_array_get(steps, all - 1));
  tl_buf_printf(b,
                "<text class=\"tick\" x=\"%d\" y=\"%zu\">step %.0f</text><text class=\"tick\" "
                "text-anchor=\"end\" x=\"%d\" y=\"%zu\">step %.0f</text></svg></div></figure>"
                "</section>\n",
                LEFT, ROW * n + 15, json_number_value(json_array_get(steps, 0)), WIDTH,
                ROW * n + 15, last);
}

tl_status tl_inspect_run(const char *run_dir, char **json, tl_err *err) {
  char *path = tl_path_join(run_dir, "metrics.jsonl");
  if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", run_dir);
  json_t *doc = NULL;
  tl_status s = tl_layers_read(path, &doc, err);
  if (s == TL_OK && json_array_size(json_object_get(doc, "layers")) == 0)
    s = tl_fail(err, TL_DATA, "%s: no norms of layers; train with run.layer_norms=true", path);
  if (s == TL_OK) *json = json_dumps(doc, JSON_COMPACT | JSON_REAL_PRECISION(6));
  if (s == TL_OK && !*json) s = tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  json_decref(doc);
  free(path);
  return s;
}
