#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/buf.h"
#include "formats/describe.h"

size_t tl_describe_utf8(const char *s, size_t n) {
  utf8proc_int32_t cp;
  utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &cp);
  if (len <= 0) return 0;
  utf8proc_category_t c = utf8proc_category(cp);
  bool shown = c != UTF8PROC_CATEGORY_CC && c != UTF8PROC_CATEGORY_CF &&
               c != UTF8PROC_CATEGORY_CS && c != UTF8PROC_CATEGORY_ZL && c != UTF8PROC_CATEGORY_ZP;
  return shown ? (size_t)len : 0;
}

static void put_value(tl_buf *b, const json_t *v) {
  if (json_is_string(v)) {
    tl_buf_puts(b, json_string_value(v));
    return;
  }
  char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(7));
  tl_buf_puts(b, text ? text : "?");
  free(text);
}

static void put_tensor(tl_buf *b, const json_t *t) {
  const json_t *shape = json_object_get(t, "shape");
  tl_buf_printf(b, "  %-56s %-6s [", json_string_value(json_object_get(t, "name")),
                json_string_value(json_object_get(t, "dtype")));
  for (size_t i = 0; i < json_array_size(shape); i++)
    tl_buf_printf(b, "%s%lld", i ? ", " : "",
                  (long long)json_integer_value(json_array_get(shape, i)));
  tl_buf_puts(b, "]\n");
}

char *tl_describe_lines(const json_t *o) {
  tl_buf b = {0};
  const json_t *facts = json_object_get(o, "facts"), *tensors = json_object_get(o, "tensors"), *v;
  const char *key, *note = json_string_value(json_object_get(o, "note"));
  double bytes = 0;
  size_t n = json_array_size(tensors);
  for (size_t i = 0; i < n; i++)
    bytes += (double)json_integer_value(json_object_get(json_array_get(tensors, i), "bytes"));
  tl_buf_printf(&b, "%s: %s", json_string_value(json_object_get(o, "file")),
                json_string_value(json_object_get(o, "format")));
  if (n) tl_buf_printf(&b, ", %zu tensors, %.3f MB", n, bytes * 1e-6);
  tl_buf_puts(&b, "\n");
  if (note) tl_buf_printf(&b, "  note: %s\n", note);
  json_object_foreach((json_t *)(size_t)facts, key, v) {
    tl_buf_printf(&b, "  %-44s ", key);
    put_value(&b, v);
    tl_buf_puts(&b, "\n");
  }
  for (size_t i = 0; i < n; i++) put_tensor(&b, json_array_get(tensors, i));
  if (!b.oom) return b.data;
  tl_buf_free(&b);
  return NULL;
}
