/* Sections on the run itself: curves, costs, example predictions, facts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/report_internal.h"

enum { MAX_POINTS = 300 };

/* The column as at most MAX_POINTS points, each the mean of `*bucket` rows (rows that are NAN left
 * out); returns how many. x, y: room for MAX_POINTS. */
static size_t thin(const double *x, const double *y, size_t n, double *out_x, double *out_y,
                   size_t *bucket) {
  size_t have = 0;
  for (size_t i = 0; i < n; i++) have += isfinite(y[i]);
  *bucket = have / MAX_POINTS + 1;
  if (*bucket > 1 && have % MAX_POINTS == 0) --*bucket;
  size_t m = 0, in = 0;
  double sx = 0, sy = 0;
  for (size_t i = 0; i < n; i++) {
    if (!isfinite(y[i])) continue;
    sx += x[i];
    sy += y[i];
    if (++in < *bucket) continue;
    out_x[m] = sx / (double)in;
    out_y[m++] = sy / (double)in;
    sx = sy = 0;
    in = 0;
  }
  if (in && m < MAX_POINTS) {
    out_x[m] = sx / (double)in;
    out_y[m++] = sy / (double)in;
  }
  return m;
}

typedef struct panel {
  int columns[2]; /* drawn together; the second may be TL_CURVE_COLUMNS: none */
  const char *names[2];
  const char *label, *y_title, *caption;
  bool log_y, small; /* small ones stand side by side */
} panel;

static const panel panels[] = {
    {{TL_CURVE_LOSS, TL_CURVE_VAL_LOSS},
     {"training", "validation"},
     "Training and validation loss over the run",
     "loss",
     "Lower is better. What the validation is made on is never trained on.",
     false,
     false},
    {{TL_CURVE_BITS, TL_CURVE_VAL_BITS},
     {"training", "validation"},
     "Bits per byte over the run",
     "bits per byte of text",
     "The same loss per byte of text: it can be compared across tokenizers.",
     false,
     false},
    {{TL_CURVE_LR, TL_CURVE_COLUMNS},
     {"learning rate"},
     "Learning rate over the run",
     "learning rate",
     NULL,
     false,
     true},
    {{TL_CURVE_GRAD_NORM, TL_CURVE_COLUMNS},
     {"gradient norm"},
     "Gradient norm over the run",
     "gradient norm before clipping (logarithmic)",
     NULL,
     true,
     true},
    {{TL_CURVE_SPEED, TL_CURVE_COLUMNS},
     {"speed"},
     "Tokens per second over the run",
     "tokens per second",
     NULL,
     false,
     true},
};

static void draw_panel(tl_buf *b, const panel *p, const tl_curve *c) {
  double xs[2][MAX_POINTS], ys[2][MAX_POINTS];
  tl_plot_series series[2];
  size_t n_series = 0, widest = 1;
  const double *x =
      c->column[TL_CURVE_TOKENS] ? c->column[TL_CURVE_TOKENS] : c->column[TL_CURVE_STEP];
  for (int k = 0; k < 2; k++) {
    if (p->columns[k] == TL_CURVE_COLUMNS || !c->column[p->columns[k]]) continue;
    size_t bucket;
    size_t m = thin(x, c->column[p->columns[k]], c->n, xs[k], ys[k], &bucket);
    if (!m) continue;
    if (bucket > widest) widest = bucket;
    series[n_series++] = (tl_plot_series){.name = p->names[k],
                                          .style = k == 0 ? 3 : 1,
                                          .markers = m <= 40,
                                          .x = xs[k],
                                          .y = ys[k],
                                          .n = m};
  }
  if (!n_series) return;
  tl_plot plot = {.label = p->label,
                  .x_title = c->column[TL_CURVE_TOKENS] ? "tokens seen" : "step",
                  .y_title = p->y_title,
                  .log_y = p->log_y,
                  .small = p->small,
                  .level = NAN,
                  .series = series,
                  .n_series = n_series};
  tl_buf_puts(b, "<figure>");
  tl_plot_html(b, &plot);
  if (p->caption || widest > 1) {
    tl_buf_puts(b, "<figcaption>");
    if (p->caption) tl_buf_puts(b, p->caption);
    if (widest > 1) tl_buf_printf(b, " Each point is the mean of up to %zu logged values.", widest);
    tl_buf_puts(b, "</figcaption>");
  }
  tl_buf_puts(b, "</figure>");
}

static tl_status one_curve(tl_buf *b, const json_t *o, size_t index, const char *dir, tl_err *err) {
  char where[48];
  snprintf(where, sizeof where, "curves[%zu]", index);
  TL_TRY(tl_json_expect(o, JSON_OBJECT, where, err));
  const char *title;
  TL_TRY(tl_json_str(o, where, "title", &title, err));
  tl_curve c = {0};
  tl_status s = tl_curve_read(o, where, dir, &c, err);
  if (s == TL_OK && c.n) {
    tl_buf_puts(b, "<section><h2>");
    tl_html_text(b, title ? title : "Training");
    tl_buf_puts(b, "</h2>");
    for (size_t i = 0; i < sizeof panels / sizeof *panels; i++)
      if (!panels[i].small) draw_panel(b, &panels[i], &c);
    tl_buf_puts(b, "<div class=\"pair\">");
    for (size_t i = 0; i < sizeof panels / sizeof *panels; i++)
      if (panels[i].small) draw_panel(b, &panels[i], &c);
    tl_buf_puts(b, "</div></section>\n");
  }
  tl_curve_free(&c);
  return s;
}

tl_status tl_curves_section(tl_buf *b, const json_t *curves, const char *dir, tl_err *err) {
  if (!curves) return TL_OK;
  TL_TRY(tl_json_expect(curves, JSON_ARRAY, "curves", err));
  for (size_t i = 0; i < json_array_size(curves); i++)
    TL_TRY(one_curve(b, json_array_get(curves, i), i, dir, err));
  return TL_OK;
}

enum { N_COSTS = 6 };
static const struct {
  const char *key, *title;
} cost_columns[N_COSTS] = {{"seconds", "time"},  {"steps", "steps"},
                           {"tokens", "tokens"}, {"parameters", "parameters"},
                           {"flops", "FLOPs"},   {"peak_fraction", "share of peak"}};

static void cost_cell(tl_buf *b, int column, double v) {
  tl_buf_puts(b, "<td class=\"n\">");
  if (column == 0)
    tl_html_duration(b, v);
  else if (column == 1)
    tl_html_count(b, v);
  else if (column == 4 && isfinite(v))
    tl_buf_printf(b, "%.3g", v);
  else if (column == 5 && isfinite(v))
    tl_buf_printf(b, "%.1f&nbsp;%%", 100 * v);
  else
    tl_html_short(b, v);
  tl_buf_puts(b, "</td>");
}

tl_status tl_costs_section(tl_buf *b, const json_t *costs, tl_err *err) {
  if (!costs) return TL_OK;
  TL_TRY(tl_json_expect(costs, JSON_ARRAY, "costs", err));
  size_t n = json_array_size(costs);
  bool used[N_COSTS] = {false};
  for (size_t i = 0; i < n; i++) {
    char where[48];
    snprintf(where, sizeof where, "costs[%zu]", i);
    const json_t *o = json_array_get(costs, i);
    TL_TRY(tl_json_expect(o, JSON_OBJECT, where, err));
    for (int k = 0; k < N_COSTS; k++) {
      double v;
      TL_TRY(tl_json_num(o, where, cost_columns[k].key, &v, err));
      used[k] |= isfinite(v);
    }
  }
  if (!n) return TL_OK;
  tl_buf_puts(b, "<section><h2>What it cost</h2><div class=\"scroll\"><table><thead><tr><th></th>");
  for (int k = 0; k < N_COSTS; k++)
    if (used[k]) tl_buf_printf(b, "<th class=\"n\">%s</th>", cost_columns[k].title);
  tl_buf_puts(b, "</tr></thead><tbody>");
  for (size_t i = 0; i < n; i++) {
    const json_t *o = json_array_get(costs, i);
    const char *phase;
    TL_TRY(tl_json_str(o, "costs", "phase", &phase, err));
    tl_buf_puts(b, "<tr><td>");
    tl_html_text(b, phase ? phase : "");
    tl_buf_puts(b, "</td>");
    for (int k = 0; k < N_COSTS; k++)
      if (used[k]) {
        double v;
        TL_TRY(tl_json_num(o, "costs", cost_columns[k].key, &v, err));
        cost_cell(b, k, v);
      }
    tl_buf_puts(b, "</tr>");
  }
  tl_buf_puts(b, "</tbody></table></div>");
  if (used[5])
    tl_buf_puts(b, "<p class=\"note\" style=\"margin-top:12px\">Share of peak: FLOPs done per "
                   "second, against what this machine's cores can do at most.</p>");
  tl_buf_puts(b, "</section>\n");
  return TL_OK;
}

enum answers { WRONG, RIGHT, EITHER, ANSWERS };

static void answer(tl_buf *b, enum answers kind, const char *truth, const char *predicted,
                   double probability) {
  static const char *const class[ANSWERS] = {" bad", " good", ""};
  tl_buf_printf(b, "<span class=\"label%s\">", class[kind]);
  tl_html_text(b, predicted);
  if (isfinite(probability)) tl_buf_printf(b, " &middot; %.0f&nbsp;%%", 100 * probability);
  tl_buf_puts(b, "</span>");
  if (kind == RIGHT) return;
  tl_buf_puts(b, "<span class=\"label\">truth: ");
  tl_html_text(b, truth);
  tl_buf_puts(b, "</span>");
}

static tl_status predictions_of(tl_buf *b, const json_t *list, enum answers kind, size_t *n,
                                tl_err *err) {
  *n = 0;
  for (size_t i = 0; i < json_array_size(list); i++) {
    char where[48];
    snprintf(where, sizeof where, "predictions[%zu]", i);
    const json_t *o = json_array_get(list, i);
    TL_TRY(tl_json_expect(o, JSON_OBJECT, where, err));
    const char *text, *truth, *predicted;
    double p;
    TL_TRY(tl_json_str(o, where, "text", &text, err));
    TL_TRY(tl_json_str(o, where, "truth", &truth, err));
    TL_TRY(tl_json_str(o, where, "predicted", &predicted, err));
    TL_TRY(tl_json_num(o, where, "probability", &p, err));
    if (!text || !truth || !predicted)
      return tl_fail(err, TL_DATA, "report document: %s must have text, truth and predicted",
                     where);
    enum answers is = json_is_false(json_object_get(o, "judged")) ? EITHER
                      : strcmp(truth, predicted) == 0             ? RIGHT
                                                                  : WRONG;
    if (is != kind) continue;
    ++*n;
    const json_t *picture = json_object_get(o, "picture");
    if (picture) {
      tl_buf_puts(b, "<li>");
      TL_TRY(tl_html_picture(b, picture, where, text, err));
    } else {
      tl_buf_puts(b, "<li><q>");
      tl_html_text(b, text);
      tl_buf_puts(b, "</q>");
    }
    answer(b, kind, truth, predicted, p);
    tl_buf_puts(b, "</li>");
  }
  return TL_OK;
}

static void introduce(tl_buf *b, const json_t *first) {
  const bool judged = !json_is_false(json_object_get(first, "judged"));
  tl_buf_puts(b,
              "<section><h2>Examples from the test set</h2><p class=\"note\">What the fine-tuned "
              "network says");
  if (json_is_number(json_object_get(first, "probability"))) tl_buf_puts(b, ", and how sure it is");
  tl_buf_puts(b, judged ? ". Chosen to show both kinds: how many stand in each column says nothing "
                          "about the accuracy."
                        : ", and the truth.");
  if (judged && json_object_get(first, "picture"))
    tl_buf_puts(b, " The wrong answers are those that it was the surest of.");
  tl_buf_puts(b, "</p><div class=\"pair\">");
}

tl_status tl_predictions_section(tl_buf *b, const json_t *predictions, tl_err *err) {
  if (!predictions) return TL_OK;
  TL_TRY(tl_json_expect(predictions, JSON_ARRAY, "predictions", err));
  if (!json_array_size(predictions)) return TL_OK;
  const bool seen = json_object_get(json_array_get(predictions, 0), "picture") != NULL;
  introduce(b, json_array_get(predictions, 0));
  static const enum answers kinds[ANSWERS] = {RIGHT, WRONG, EITHER};
  static const char *const heads[ANSWERS] = {"<h3>Right</h3>", "<h3>Wrong</h3>", ""};
  for (int k = 0; k < ANSWERS; k++) {
    tl_buf list = {0};
    size_t n;
    tl_status s = predictions_of(&list, predictions, kinds[k], &n, err);
    if (s == TL_OK && n) {
      tl_buf_printf(b, "<div>%s<ul class=\"says%s\">", heads[k], seen ? " seen" : "");
      tl_buf_append(b, list.data, list.len);
      tl_buf_puts(b, "</ul></div>");
    }
    if (s == TL_OK) s = tl_buf_check(&list, err);
    tl_buf_free(&list);
    TL_TRY(s);
  }
  tl_buf_puts(b, "</div></section>\n");
  return TL_OK;
}

tl_status tl_info_section(tl_buf *b, const json_t *info, tl_err *err) {
  if (!info) return TL_OK;
  TL_TRY(tl_json_expect(info, JSON_OBJECT, "info", err));
  if (!json_object_size(info)) return TL_OK;
  tl_buf_puts(b, "<section><h2>The run</h2><div class=\"facts\">");
  const char *group, *name;
  json_t *facts, *value;
  json_object_foreach((json_t *)(uintptr_t)info, group, facts) {
    TL_TRY(tl_json_expect(facts, JSON_OBJECT, "info: each group", err));
    tl_buf_puts(b, "<div><h3>");
    tl_html_text(b, group);
    tl_buf_puts(b, "</h3><table><tbody>");
    json_object_foreach(facts, name, value) {
      tl_buf_puts(b, "<tr><td>");
      tl_html_text(b, name);
      tl_buf_puts(b, "</td><td>");
      tl_html_value(b, value);
      tl_buf_puts(b, "</td></tr>");
    }
    tl_buf_puts(b, "</tbody></table></div>");
  }
  tl_buf_puts(b, "</div></section>\n");
  return TL_OK;
}
