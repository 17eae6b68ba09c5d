/* Where a model is right: each label's scores, which classes it takes for each other, calibration.
 */
#include <math.h>
#include <stdio.h>

#include "eval/report_internal.h"

/* More classes than this make no readable matrix. */
enum { MAX_MATRIX = 30 };

static tl_status label_rows(tl_buf *b, const json_t *labels, tl_err *err) {
  for (size_t i = 0; i < json_array_size(labels); i++) {
    static const char *const keys[] = {"precision", "recall", "f1"};
    static const char *const counts[] = {"correct", "predicted", "actual"};
    const json_t *o = json_array_get(labels, i);
    char where[48];
    snprintf(where, sizeof where, "details.labels[%zu]", i);
    const char *name;
    double x;
    TL_TRY(tl_json_expect(o, JSON_OBJECT, where, err));
    TL_TRY(tl_json_str(o, where, "label", &name, err));
    tl_buf_puts(b, "<tr><td>");
    tl_html_text(b, name ? name : "?");
    tl_buf_puts(b, "</td>");
    for (size_t k = 0; k < 3; k++) {
      TL_TRY(tl_json_num(o, where, keys[k], &x, err));
      tl_buf_printf(b, "<td class=\"n\">%.1f</td>", 100 * x);
    }
    for (size_t k = 0; k < 3; k++) {
      TL_TRY(tl_json_num(o, where, counts[k], &x, err));
      tl_buf_puts(b, "<td class=\"n\">");
      tl_html_count(b, x);
      tl_buf_puts(b, "</td>");
    }
    tl_buf_puts(b, "</tr>");
  }
  return TL_OK;
}

static void cell(tl_buf *b, double x, double row_sum) {
  const double share = row_sum > 0 ? x / row_sum : 0;
  tl_buf_printf(b,
                "<td class=\"n\" style=\"background:color-mix(in srgb, currentColor %.0f%%, "
                "transparent)\">",
                35 * share);
  tl_html_count(b, x);
  tl_buf_puts(b, "</td>");
}

static void label_cell(tl_buf *b, const json_t *labels, size_t i, const char *tag) {
  const char *name = json_string_value(json_object_get(json_array_get(labels, i), "label"));
  tl_buf_printf(b, "<%s>", tag);
  tl_html_text(b, name ? name : "?");
  tl_buf_printf(b, "</%.2s>", tag);
}

static tl_status matrix(tl_buf *b, const json_t *labels, const json_t *rows, tl_err *err) {
  const size_t n = json_array_size(labels);
  if (!rows || n > MAX_MATRIX) return TL_OK;
  TL_TRY(tl_json_expect(rows, JSON_ARRAY, "details.confusion", err));
  tl_buf_puts(b, "<h3 style=\"margin-top:24px\">Which classes it takes for each other</h3><div "
                 "class=\"scroll\"><table><thead><tr><th>truth \\ predicted</th>");
  for (size_t k = 0; k < n; k++) label_cell(b, labels, k, "th class=\"n\"");
  tl_buf_puts(b, "</tr></thead><tbody>");
  for (size_t i = 0; i < n; i++) {
    const json_t *row = json_array_get(rows, i);
    if (json_array_size(row) != n)
      return tl_fail(err, TL_DATA, "report document: details.confusion[%zu] must have %zu numbers",
                     i, n);
    double sum = 0;
    for (size_t k = 0; k < n; k++) sum += json_number_value(json_array_get(row, k));
    tl_buf_puts(b, "<tr>");
    label_cell(b, labels, i, "td");
    for (size_t k = 0; k < n; k++) cell(b, json_number_value(json_array_get(row, k)), sum);
    tl_buf_puts(b, "</tr>");
  }
  tl_buf_puts(b, "</tbody></table></div>");
  return TL_OK;
}

static tl_status calibration(tl_buf *b, const json_t *bins, tl_err *err) {
  enum { MAX_BINS = 100 };
  static const double ends[] = {0, 1};
  double x[MAX_BINS], y[MAX_BINS], n = 0, error = 0;
  size_t at = 0;
  if (!bins) return TL_OK;
  TL_TRY(tl_json_expect(bins, JSON_ARRAY, "details.calibration", err));
  for (size_t i = 0; i < json_array_size(bins) && i < MAX_BINS; i++) {
    const json_t *o = json_array_get(bins, i);
    double count;
    TL_TRY(tl_json_expect(o, JSON_OBJECT, "details.calibration: each bin", err));
    TL_TRY(tl_json_num(o, "details.calibration", "n", &count, err));
    TL_TRY(tl_json_num(o, "details.calibration", "confidence", &x[at], err));
    TL_TRY(tl_json_num(o, "details.calibration", "accuracy", &y[at], err));
    if (!(count > 0) || !isfinite(x[at]) || !isfinite(y[at])) continue;
    n += count;
    error += count * fabs(x[at] - y[at]);
    at++;
  }
  if (at == 0) return TL_OK;
  const tl_plot_series series[] = {
      {.name = "the model", .style = 0, .markers = true, .x = x, .y = y, .n = at},
      {.name = "perfectly calibrated", .style = 3, .x = ends, .y = ends, .n = 2}};
  const tl_plot plot = {.label = "Share of right answers by the model's own probability",
                        .x_title = "probability that the model gives its answer",
                        .y_title = "right answers, %",
                        .y_scale = 100,
                        .level = NAN,
                        .series = series,
                        .n_series = 2};
  tl_buf_printf(b,
                "<h3 style=\"margin-top:24px\">How sure, and how often right</h3><p "
                "class=\"note\">Expected calibration error %.1f points.</p><figure>",
                100 * error / n);
  tl_plot_html(b, &plot);
  tl_buf_puts(b, "</figure>");
  return TL_OK;
}

tl_status tl_details_section(tl_buf *b, const json_t *details, tl_err *err) {
  if (!details) return TL_OK;
  TL_TRY(tl_json_expect(details, JSON_OBJECT, "details", err));
  const json_t *labels = json_object_get(details, "labels");
  TL_TRY(tl_json_expect(labels, JSON_ARRAY, "details.labels", err));
  tl_buf_puts(b,
              "<section><h2>Where it is right</h2><p class=\"note\">The pretrained network with "
              "most labels, first seed.</p><div class=\"scroll\"><table><thead><tr><th>label</th>"
              "<th class=\"n\">precision</th><th class=\"n\">recall</th><th class=\"n\">F1</th>"
              "<th class=\"n\">right</th><th class=\"n\">predicted</th><th class=\"n\">true</th>"
              "</tr></thead><tbody>");
  TL_TRY(label_rows(b, labels, err));
  tl_buf_puts(b, "</tbody></table></div>");
  TL_TRY(matrix(b, labels, json_object_get(details, "confusion"), err));
  TL_TRY(calibration(b, json_object_get(details, "calibration"), err));
  tl_buf_puts(b, "</section>\n");
  return TL_OK;
}
