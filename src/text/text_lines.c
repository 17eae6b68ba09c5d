/* A file as its lines. */
#include <stdlib.h>
#include <string.h>

#include "text/task_internal.h"
#include "tilth/translate.h"

tl_status tl_text_lines_read(const char *path, tl_text_lines *out, tl_err *err) {
  tl_buf b = {0};
  uint64_t hash;
  *out = (tl_text_lines){0};
  tl_status s = tl_task_load(path, false, &b, &hash, err);
  out->bytes = b.data;
  size_t n = 0;
  for (size_t i = 0; s == TL_OK && i < b.len; i++) n += b.data[i] == '\n' || i + 1 == b.len;
  if (s == TL_OK) out->line = malloc((n + 1) * sizeof *out->line);
  if (s == TL_OK && !out->line) s = tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  if (s != TL_OK) {
    tl_text_lines_free(out);
    return s;
  }
  for (char *p = b.data, *end = b.data + b.len; p < end;) { /* *end is NUL */
    char *nl = memchr(p, '\n', (size_t)(end - p));
    out->line[out->n++] = p;
    if (nl) *nl = 0;
    p = nl ? nl + 1 : end;
  }
  return TL_OK;
}

void tl_text_lines_free(tl_text_lines *l) {
  free(l->line);
  free(l->bytes);
  *l = (tl_text_lines){0};
}
