/* The page of an inspection: drawings in SVG, no scripts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "eval/inspect.h"
#include "eval/report_internal.h"

enum { MAX_POINTS = 4096, LABELLED = 24 };

static double number(const json_t *o, const char *key) {
  const json_t *v = json_object_get(o, key);
  return json_is_number(v) ? json_number_value(v) : NAN;
}

static double at(const json_t *rows, size_t r, size_t c) {
  const json_t *v = json_array_get(json_array_get(rows, r), c);
  return json_is_number(v) ? json_number_value(v) : NAN;
}

static void section(tl_buf *b, const char *title, const char *says) {
  tl_buf_puts(b, "<section><h2>");
  tl_html_text(b, title);
  tl_buf_puts(b, "</h2><p>");
  tl_html_text(b, says);
  tl_buf_puts(b, "</p>");
}

/* A cell per layer (row) and head (column), darker where the value is higher. */
static void grid(tl_buf *b, const char *title, const json_t *rows, const char *format) {
  size_t layers = json_array_size(rows), heads = json_array_size(json_array_get(rows, 0));
  double max = 0;
  for (size_t l = 0; l < layers; l++)
    for (size_t h = 0; h < heads; h++)
      if (at(rows, l, h) > max) max = at(rows, l, h);
  if (!layers || !heads) return;
  size_t width = 46 + 40 * heads, height = 22 + 24 * layers;
  tl_buf_printf(b,
                "<figure><h3>%s</h3><div class=\"scroll\"><svg width=\"%zu\" viewBox=\"0 0 %zu "
                "%zu\" role=\"img\" aria-label=\"%s of each head\">",
                title, width, width, height, title);
  for (size_t h = 0; h < heads; h++)
    tl_buf_printf(b, "<text class=\"tick\" text-anchor=\"middle\" x=\"%zu\" y=\"13\">%zu</text>",
                  64 + 40 * h, h);
  for (size_t l = 0; l < layers; l++) {
    tl_buf_printf(b, "<text class=\"tick\" x=\"0\" y=\"%zu\">layer %zu</text>", 36 + 24 * l, l);
    for (size_t h = 0; h < heads; h++) {
      double v = at(rows, l, h), share = max > 0 && v > 0 ? v / max : 0;
      tl_buf_printf(b,
                    "<rect fill=\"var(--s0)\" fill-opacity=\"%.2f\" x=\"%zu\" y=\"%zu\" "
                    "width=\"39\" height=\"23\"/><text class=\"name\" text-anchor=\"middle\" "
                    "x=\"%zu\" y=\"%zu\">",
                    0.04 + 0.7 * share, 45 + 40 * h, 20 + 24 * l, 64 + 40 * h, 36 + 24 * l);
      tl_buf_printf(b, format, v);
      tl_buf_puts(b, "</text>");
    }
  }
  tl_buf_puts(b, "</svg></div></figure>");
}

static void token_label(tl_buf *b, const json_t *tokens, size_t i, double x, double y,
                        bool turned) {
  const char *t = json_string_value(json_array_get(tokens, i));
  tl_buf_printf(b, "<text class=\"tick\" style=\"font-size:9px\" text-anchor=\"%s\" ",
                turned ? "start" : "end");
  if (turned)
    tl_buf_printf(b, "transform=\"translate(%.1f %.1f) rotate(-60)\">", x, y);
  else
    tl_buf_printf(b, "x=\"%.1f\" y=\"%.1f\">", x, y);
  tl_html_text(b, t ? t : "");
  tl_buf_puts(b, "</text>");
}

/* Row: who attends; column: to whom. */
static void map(tl_buf *b, const json_t *head, const json_t *tokens) {
  const json_t *rows = json_object_get(head, "map");
  size_t n = json_array_size(rows);
  bool labelled = n <= LABELLED;
  double cell = labelled ? 11 : 240.0 / (double)n, left = labelled ? 62 : 0,
         top = labelled ? 52 : 0;
  double size = cell * (double)n;
  tl_buf_printf(
      b,
      "<figure><h3>layer %.0f, head %.0f</h3><svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" "
      "aria-label=\"attention map\"><rect fill=\"none\" stroke=\"var(--line)\" x=\"%.1f\" "
      "y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>",
      number(head, "layer"), number(head, "head"), left + size + (labelled ? 30 : 1),
      top + size + 1, left, top, size, size);
  for (size_t q = 0; q < n; q++) {
    if (labelled) {
      token_label(b, tokens, q, left - 4, top + cell * (double)q + 9, false);
      token_label(b, tokens, q, left + cell * (double)q + 8, top - 3, true);
    }
    for (size_t k = 0; k < n; k++) {
      double p = at(rows, q, k);
      if (!(p >= 0.02)) continue;
      tl_buf_printf(b,
                    "<rect fill=\"var(--s0)\" fill-opacity=\"%.2f\" x=\"%.1f\" y=\"%.1f\" "
                    "width=\"%.1f\" height=\"%.1f\"/>",
                    p, left + cell * (double)k, top + cell * (double)q, cell, cell);
    }
  }
  tl_buf_printf(b,
                "</svg><figcaption>entropy %.2f nats; to the token before %.2f, to the first "
                "%.2f</figcaption></figure>",
                number(head, "entropy"), number(head, "previous"), number(head, "first"));
}

static void attention(tl_buf *b, const json_t *o) {
  const json_t *heads = json_object_get(o, "heads"), *tokens = json_object_get(o, "tokens");
  section(b, "Attention",
          "Each row is a token, each column a token that it looks at; the darker, the more. The "
          "entropy tells how spread the looks of a head are: 0 is all on one token.");
  tl_buf_puts(b, "<p class=\"note\">");
  for (size_t i = 0; i < json_array_size(tokens); i++) {
    tl_buf_puts(b, "<span class=\"label\">");
    tl_html_text(b, json_string_value(json_array_get(tokens, i)));
    tl_buf_puts(b, "</span>");
  }
  tl_buf_puts(b, "</p><div class=\"pair\">");
  for (size_t i = 0; i < json_array_size(heads); i++) map(b, json_array_get(heads, i), tokens);
  tl_buf_puts(b, "</div></section>\n");
}

static void induction(tl_buf *b, const json_t *o) {
  if (!o) return;
  section(
      b, "Induction heads",
      "On random tokens that are repeated once: how much each head of the repetition looks at "
      "the token behind the same token's first occurrence, so that it can go on as before. From "
      "0.4 on a head is an induction head; it needs a layer below it that looks one token back.");
  tl_buf_printf(b,
                "<div class=\"tiles\"><div class=\"tile\"><b>%.3f</b><span>highest induction "
                "score</span></div><div class=\"tile\"><b>%.2f</b><span>loss on the first half, "
                "nats</span></div><div class=\"tile\"><b>%.2f</b><span>loss on the repetition"
                "</span></div></div>",
                number(o, "score"), number(o, "loss_first"), number(o, "loss_repeat"));
  grid(b, "Induction", json_object_get(o, "heads"), "%.2f");
  grid(b, "To the token before", json_object_get(o, "previous"), "%.2f");
  grid(b, "To the same token", json_object_get(o, "duplicate"), "%.2f");
  tl_buf_puts(b, "</section>\n");
}

static void importance(tl_buf *b, const json_t *o) {
  section(b, "What each head is worth",
          "The rise of the loss, in nats, when the head's output is zero. Heads near 0 could go.");
  grid(b, "Rise of the loss", json_object_get(o, "heads"), "%.3f");
  tl_buf_puts(b, "</section>\n");
}

/* x[i] = i, y from the list; NAN where it has no number. */
static size_t points(const json_t *list, double *x, double *y) {
  size_t n = json_array_size(list) < MAX_POINTS ? json_array_size(list) : MAX_POINTS;
  for (size_t i = 0; i < n; i++) {
    const json_t *v = json_array_get(list, i);
    x[i] = (double)i;
    y[i] = json_is_number(v) ? json_number_value(v) : NAN;
  }
  return n;
}

static void position(tl_buf *b, const json_t *o, double *x, double *y) {
  section(b, "Loss by position",
          "The mean loss at each position of a window: a decoder should do better the more it has "
          "seen. Few windows make it jumpy.");
  tl_plot_series s = {.name = "loss", .x = x, .y = y};
  s.n = points(json_object_get(o, "by_position"), x, y);
  tl_plot_html(b, &(tl_plot){.label = "loss by position",
                             .x_title = "position",
                             .y_title = "loss, nats",
                             .level = number(o, "loss"),
                             .level_title = "mean",
                             .series = &s,
                             .n_series = 1});
  tl_buf_puts(b, "</section>\n");
}

static void gradients(tl_buf *b, const json_t *o, double *x, double *y) {
  section(
      b, "Gradients and skip connections",
      "Norm of the gradient of each layer's weights, from the embeddings (0) to the output; and "
      "the same when no layer adds what it read to what it gives. Without skip connections "
      "gradients vanish or explode on their way down.");
  tl_plot_series s[2] = {{.name = "as it is", .style = 0, .markers = true, .x = x, .y = y},
                         {.name = "skip connections cut",
                          .style = 1,
                          .markers = true,
                          .x = x + MAX_POINTS,
                          .y = y + MAX_POINTS}};
  s[0].n = points(json_object_get(o, "norm"), x, y);
  s[1].n = points(json_object_get(o, "cut"), x + MAX_POINTS, y + MAX_POINTS);
  tl_plot_html(b, &(tl_plot){.label = "gradient norm by layer",
                             .x_title = "embeddings, layers, output",
                             .y_title = "gradient norm",
                             .log_y = true,
                             .level = NAN,
                             .series = s,
                             .n_series = 2});
  tl_buf_puts(b, "</section>\n");
}

static void neighbours(tl_buf *b, const json_t *list) {
  section(b, "Neighbours", "The tokens whose embeddings point the most the same way (cosine).");
  tl_buf_puts(b, "<div class=\"scroll\"><table>");
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *o = json_array_get(list, i), *near = json_object_get(o, "near");
    tl_buf_puts(b, "<tr><th>");
    tl_html_value(b, json_object_get(o, "token"));
    tl_buf_puts(b, "</th>");
    for (size_t k = 0; k < json_array_size(near); k++) {
      tl_buf_puts(b, "<td>");
      tl_html_value(b, json_object_get(json_array_get(near, k), "token"));
      tl_buf_printf(b, " <span class=\"note\">%.2f</span></td>",
                    number(json_array_get(near, k), "cosine"));
    }
    tl_buf_puts(b, "</tr>");
  }
  tl_buf_puts(b, "</table></div></section>\n");
}

static tl_status page(tl_buf *b, const json_t *doc, tl_err *err) {
  const json_t *m = json_object_get(doc, "model");
  double *x = malloc(4 * MAX_POINTS * sizeof *x), *y = x ? x + 2 * MAX_POINTS : NULL;
  if (!x) return tl_fail(err, TL_NOMEM, "out of memory");
  tl_buf_puts(b, "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta "
                 "name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>Inside ");
  tl_html_value(b, json_object_get(m, "folder"));
  tl_buf_puts(b, "</title><style>");
  tl_buf_puts(b, tl_report_style);
  tl_buf_puts(b,
              "</style></head>\n<body>\n<main><header><p class=\"eyebrow\">Inside a model</p><h1>");
  tl_html_value(b, json_object_get(m, "folder"));
  tl_buf_puts(b, "</h1><p class=\"meta\">");
  tl_html_value(b, json_object_get(m, "type"));
  tl_buf_printf(b, ", %.0f layers of %.0f heads, width %.0f, ", number(m, "layers"),
                number(m, "heads"), number(m, "dim"));
  tl_html_count(b, number(m, "parameters"));
  tl_buf_puts(b, " parameters</p></header>\n");
  induction(b, json_object_get(doc, "induction"));
  importance(b, json_object_get(doc, "importance"));
  position(b, json_object_get(doc, "position"), x, y);
  gradients(b, json_object_get(doc, "gradients"), x, y);
  neighbours(b, json_object_get(doc, "neighbours"));
  attention(b, json_object_get(doc, "attention"));
  tl_buf_puts(b,
              "<footer>Written by tilth. This page needs no network and runs no scripts.</footer>"
              "\n</main>\n</body>\n</html>\n");
  free(x);
  return tl_buf_check(b, err);
}

tl_status tl_inspect_html(const char *json, const char *path, tl_err *err) {
  json_error_t why;
  json_t *doc = json_loads(json, JSON_REJECT_DUPLICATES, &why);
  const char *schema = json_string_value(json_object_get(doc, "schema"));
  tl_buf b = {0};
  tl_status s = TL_OK;
  if (!schema || strcmp(schema, "tilth-inspect/1"))
    s = tl_fail(err, TL_DATA, "not the document of an inspection (schema tilth-inspect/1)");
  if (s == TL_OK) s = page(&b, doc, err);
  if (s == TL_OK) s = tl_file_write_atomic(path, b.data, b.len, err);
  tl_buf_free(&b);
  json_decref(doc);
  return s;
}
