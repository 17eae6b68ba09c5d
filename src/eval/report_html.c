#include <math.h>
#include <stdio.h>
#include <string.h>

#include "eval/report_internal.h"

void tl_html_text(tl_buf *b, const char *s) {
  for (; *s; s++) {
    switch (*s) {
    case '&':
      tl_buf_puts(b, "&amp;");
      break;
    case '<':
      tl_buf_puts(b, "&lt;");
      break;
    case '>':
      tl_buf_puts(b, "&gt;");
      break;
    case '"':
      tl_buf_puts(b, "&quot;");
      break;
    case '\'':
      tl_buf_puts(b, "&#39;");
      break;
    default:
      /* Control characters are not allowed in HTML, escaped or not. */
      tl_buf_putc(b, (unsigned char)*s < 0x20 || *s == 0x7f ? ' ' : *s);
    }
  }
}

void tl_html_count(tl_buf *b, double v) {
  if (!isfinite(v)) {
    tl_buf_puts(b, "&ndash;");
    return;
  }
  char digits[400];
  snprintf(digits, sizeof digits, "%.0f", fabs(v));
  size_t n = strlen(digits);
  if (v < -0.5) tl_buf_puts(b, "&minus;");
  for (size_t i = 0; i < n; i++) {
    if (i && (n - i) % 3 == 0) tl_buf_putc(b, ',');
    tl_buf_putc(b, digits[i]);
  }
}

void tl_html_short(tl_buf *b, double v) {
  static const struct {
    double unit;
    char letter;
  } units[] = {{1e12, 'T'}, {1e9, 'G'}, {1e6, 'M'}, {1e3, 'k'}};
  double a = fabs(v);
  if (!isfinite(v)) {
    tl_buf_puts(b, "&ndash;");
  } else if (a >= 1e15 || (a > 0 && a < 1e-3)) {
    tl_buf_printf(b, "%.3g", v);
  } else {
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
      if (a < units[i].unit) continue;
      tl_buf_printf(b, "%.3g%c", v / units[i].unit, units[i].letter);
      return;
    }
    tl_buf_printf(b, "%.4g", v);
  }
}

void tl_html_duration(tl_buf *b, double seconds) {
  if (!isfinite(seconds) || seconds < 0) {
    tl_buf_puts(b, "&ndash;");
  } else if (seconds < 60) {
    tl_buf_printf(b, seconds < 10 ? "%.1f s" : "%.0f s", seconds);
  } else {
    double s = round(seconds);
    double hours = floor(s / 3600), minutes = floor(fmod(s, 3600) / 60);
    if (hours > 0)
      tl_buf_printf(b, "%.0f h %.0f min", hours, minutes);
    else
      tl_buf_printf(b, "%.0f min %.0f s", minutes, fmod(s, 60));
  }
}

void tl_html_value(tl_buf *b, const json_t *v) {
  double x = json_number_value(v);
  if (json_is_string(v))
    tl_html_text(b, json_string_value(v));
  else if (json_is_boolean(v))
    tl_buf_puts(b, json_is_true(v) ? "yes" : "no");
  else if (json_is_integer(v) && fabs(x) >= 10000)
    tl_html_count(b, x);
  else if (json_is_number(v))
    tl_buf_printf(b, "%.6g", x);
  else
    tl_buf_puts(b, "&ndash;");
}

static const char *type_name(json_type t) {
  switch (t) {
  case JSON_OBJECT:
    return "an object";
  case JSON_ARRAY:
    return "an array";
  case JSON_STRING:
    return "a string";
  default:
    return "a number";
  }
}

tl_status tl_json_expect(const json_t *v, json_type type, const char *where, tl_err *err) {
  if (v && json_typeof(v) == type) return TL_OK;
  return tl_fail(err, TL_DATA, "report document: %s must be %s", where, type_name(type));
}

tl_status tl_json_str(const json_t *o, const char *where, const char *key, const char **out,
                      tl_err *err) {
  const json_t *v = json_object_get(o, key);
  *out = NULL;
  if (!v || json_is_null(v)) return TL_OK;
  if (!json_is_string(v))
    return tl_fail(err, TL_DATA, "report document: %s.%s must be a string", where, key);
  *out = json_string_value(v);
  return TL_OK;
}

tl_status tl_json_num(const json_t *o, const char *where, const char *key, double *out,
                      tl_err *err) {
  const json_t *v = json_object_get(o, key);
  *out = NAN;
  if (!v || json_is_null(v)) return TL_OK;
  if (!json_is_number(v))
    return tl_fail(err, TL_DATA, "report document: %s.%s must be a number", where, key);
  *out = json_number_value(v);
  return TL_OK;
}
