#include "formats/json.h"

tl_status tl_json_object(const char *what, const char *text, size_t n, json_t **out, tl_err *err) {
  json_error_t je = {0};
  json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
  if (json_is_object(j)) {
    *out = j;
    return TL_OK;
  }
  if (j) {
    json_decref(j);
    return tl_fail(err, TL_DATA, "%s: not a JSON object", what);
  }
  /* Jansson reports most failed allocations as an error without a text. */
  if (!je.text[0] || json_error_code(&je) == json_error_out_of_memory)
    return tl_fail(err, TL_NOMEM, "%s: out of memory while parsing", what);
  return tl_fail(err, TL_DATA, "%s: not valid JSON: %s (line %d, column %d)", what, je.text,
                 je.line, je.column);
}
