/* RFC 4180: cells split by commas; a cell in double quotes may hold commas, newlines, and quotes
 * written twice. */
#include <string.h>

#include "text/task_internal.h"

/* Takes the quotes off in place; b->p stands behind the first quote, afterwards behind the last. */
static tl_status quoted_cell(tl_task_builder *b, tl_span *out, tl_err *err) {
  char *to = b->p, *from = b->p;
  uint64_t lines = 0;
  *out = (tl_span){b->p, 0};
  for (;; from++) {
    if (from == b->end || (size_t)(from - out->s) > b->max)
      return tl_task_fail(b, TL_DATA, err, "a quoted cell that begins on line %llu has no end%s",
                          (unsigned long long)b->line, from == b->end ? "" : " within the limit");
    if (*from == '"' && *++from != '"') break;
    lines += *from == '\n';
    *to++ = *from;
  }
  out->n = (size_t)(to - out->s);
  b->p = from;
  b->line += lines;
  if (from < b->end && *from != ',' && *from != '\n')
    return tl_task_fail(
        b, TL_DATA, err,
        "character '%c' behind the closing quote of a cell on line %llu; expected a "
        "comma or the end of the line (quotes within a cell are written twice)",
        (unsigned char)*from < 0x20 ? '?' : *from, (unsigned long long)b->line);
  return TL_OK;
}

static tl_status bare_cell(tl_task_builder *b, tl_span *out, tl_err *err) {
  size_t n = 0, left = (size_t)(b->end - b->p);
  while (n < left && b->p[n] != ',' && b->p[n] != '\n' && b->p[n] != '"') n++;
  if (n < left && b->p[n] == '"')
    return tl_task_fail(b, TL_DATA, err,
                        "a quote within a cell that does not begin with one; write the cell in "
                        "quotes and quotes within it twice");
  *out = (tl_span){b->p, n};
  b->p += n;
  return TL_OK;
}

static tl_status next_row(tl_task_builder *b, tl_span *cell, int *n, tl_err *err) {
  *n = 0;
  while (b->p < b->end && *b->p == '\n') {
    b->p++;
    b->line++;
  }
  if (b->p == b->end) return TL_OK;
  const char *begin = b->p;
  b->at = ++b->line;
  for (;; b->p++) {
    if (*n == TL_MAX_COLUMNS)
      return tl_task_fail(b, TL_DATA, err, "more than %d columns", (int)TL_MAX_COLUMNS);
    if (b->p < b->end && *b->p == '"') {
      b->p++;
      TL_TRY(quoted_cell(b, &cell[(*n)++], err));
    } else {
      TL_TRY(bare_cell(b, &cell[(*n)++], err));
    }
    if ((size_t)(b->p - begin) > b->max)
      return tl_task_fail(b, TL_DATA, err, "a row of more than %zu bytes", b->max);
    if (b->p == b->end || *b->p == '\n') break;
  }
  if (b->p < b->end) b->p++;
  return TL_OK;
}

tl_status tl_task_read_csv(tl_task_builder *b, tl_err *err) {
  return tl_task_read_table(b, next_row, err);
}
