/* Pictures on the page: they stand in it themselves, so that it still needs nothing else. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "eval/report_internal.h"

tl_status tl_html_picture(tl_buf *b, const json_t *uri, const char *where, const char *alt,
                          tl_err *err) {
  static const char start[] = "data:image/png;base64,";
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
  TL_TRY(tl_json_expect(uri, JSON_STRING, where, err));
  const char *s = json_string_value(uri);
  size_t n = strlen(start);
  if (strncmp(s, start, n) != 0 || s[n + strspn(s + n, digits)])
    return tl_fail(err, TL_DATA, "report document: %s must be a PNG file as \"%s...\"", where,
                   start);
  tl_buf_puts(b, "<img class=\"px\" alt=\"");
  tl_html_text(b, alt);
  tl_buf_puts(b, "\" src=\"");
  tl_buf_puts(b, s);
  tl_buf_puts(b, "\">");
  return TL_OK;
}

static tl_status row_of(const json_t *rows, const char *where, size_t i, const json_t **pictures,
                        const char **text, tl_err *err) {
  char at[80];
  snprintf(at, sizeof at, "%.48s.rows[%zu]", where, i);
  const json_t *row = json_array_get(rows, i);
  TL_TRY(tl_json_expect(row, JSON_OBJECT, at, err));
  TL_TRY(tl_json_str(row, at, "text", text, err));
  *pictures = json_object_get(row, "pictures");
  snprintf(at, sizeof at, "%.48s.rows[%zu].pictures", where, i);
  if (!*text) *text = "";
  return tl_json_expect(*pictures, JSON_ARRAY, at, err);
}

static tl_status gallery(tl_buf *b, const json_t *rows, const char *where, tl_err *err) {
  tl_buf_puts(b, "<div class=\"gallery\">");
  for (size_t i = 0; i < json_array_size(rows); i++) {
    const json_t *pictures;
    const char *text;
    TL_TRY(row_of(rows, where, i, &pictures, &text, err));
    tl_buf_puts(b, "<figure>");
    for (size_t k = 0; k < json_array_size(pictures); k++)
      TL_TRY(tl_html_picture(b, json_array_get(pictures, k), where, text, err));
    tl_buf_puts(b, "<figcaption>");
    tl_html_text(b, text);
    tl_buf_puts(b, "</figcaption></figure>");
  }
  tl_buf_puts(b, "</div>");
  return TL_OK;
}

/* The last name stands over all pictures that have none of their own. */
static tl_status table(tl_buf *b, const json_t *rows, const json_t *columns, const char *where,
                       tl_err *err) {
  size_t most = 0, n = json_array_size(columns);
  for (size_t i = 0; i < json_array_size(rows); i++) {
    const json_t *pictures;
    const char *text;
    TL_TRY(row_of(rows, where, i, &pictures, &text, err));
    if (json_array_size(pictures) > most) most = json_array_size(pictures);
  }
  tl_buf_puts(b, "<div class=\"scroll\"><table class=\"pictures\"><thead><tr><th></th>");
  for (size_t k = 0; k < n; k++) {
    TL_TRY(tl_json_expect(json_array_get(columns, k), JSON_STRING, "pictures: each column", err));
    tl_buf_printf(b, "<th colspan=\"%zu\">", k + 1 == n && most > n ? most - n + 1 : 1);
    tl_html_text(b, json_string_value(json_array_get(columns, k)));
    tl_buf_puts(b, "</th>");
  }
  tl_buf_puts(b, "</tr></thead><tbody>");
  for (size_t i = 0; i < json_array_size(rows); i++) {
    const json_t *pictures;
    const char *text;
    TL_TRY(row_of(rows, where, i, &pictures, &text, err));
    tl_buf_puts(b, "<tr><td>");
    tl_html_text(b, text);
    tl_buf_puts(b, "</td>");
    for (size_t k = 0; k < json_array_size(pictures); k++) {
      const char *alt = json_string_value(json_array_get(columns, k < n ? k : n - 1));
      tl_buf_puts(b, "<td>");
      TL_TRY(tl_html_picture(b, json_array_get(pictures, k), where, alt, err));
      tl_buf_puts(b, "</td>");
    }
    tl_buf_puts(b, "</tr>");
  }
  tl_buf_puts(b, "</tbody></table></div>");
  return TL_OK;
}

static tl_status group(tl_buf *b, const json_t *o, size_t index, tl_err *err) {
  char where[48], path[64];
  snprintf(where, sizeof where, "pictures[%zu]", index);
  TL_TRY(tl_json_expect(o, JSON_OBJECT, where, err));
  const char *title, *note;
  TL_TRY(tl_json_str(o, where, "title", &title, err));
  TL_TRY(tl_json_str(o, where, "note", &note, err));
  double width;
  TL_TRY(tl_json_num(o, where, "width", &width, err));
  const json_t *rows = json_object_get(o, "rows"), *columns = json_object_get(o, "columns");
  snprintf(path, sizeof path, "%s.rows", where);
  TL_TRY(tl_json_expect(rows, JSON_ARRAY, path, err));
  tl_buf_puts(b, "<section><h2>");
  tl_html_text(b, title ? title : "Pictures");
  tl_buf_puts(b, "</h2>");
  if (note) {
    tl_buf_puts(b, "<p class=\"note\">");
    tl_html_text(b, note);
    tl_buf_puts(b, "</p>");
  }
  if (isfinite(width)) tl_buf_printf(b, "<div style=\"--px:%.0fpx\">", width);
  TL_TRY(json_array_size(columns) ? table(b, rows, columns, where, err)
                                  : gallery(b, rows, where, err));
  tl_buf_puts(b, isfinite(width) ? "</div></section>\n" : "</section>\n");
  return TL_OK;
}

tl_status tl_pictures_section(tl_buf *b, const json_t *pictures, tl_err *err) {
  if (!pictures) return TL_OK;
  TL_TRY(tl_json_expect(pictures, JSON_ARRAY, "pictures", err));
  for (size_t i = 0; i < json_array_size(pictures); i++)
    TL_TRY(group(b, json_array_get(pictures, i), i, err));
  return TL_OK;
}
