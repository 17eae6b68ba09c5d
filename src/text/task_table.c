/* Tables: rows of cells, perhaps below a header. */
#include <string.h>

#include "text/task_internal.h"

tl_status tl_task_split_line(tl_task_builder *b, tl_span line, char separator, tl_span *cell,
                             int *n, tl_err *err) {
  for (*n = 0;;) {
    if (*n == TL_MAX_COLUMNS)
      return tl_task_fail(b, TL_DATA, err, "more than %d columns", (int)TL_MAX_COLUMNS);
    char *cut = memchr(line.s, separator, line.n);
    size_t len = cut ? (size_t)(cut - line.s) : line.n;
    cell[(*n)++] = (tl_span){line.s, len};
    if (!cut) return TL_OK;
    line = (tl_span){cut + 1, line.n - len - 1};
  }
}

static tl_span cell_of(const tl_span *cell, const tl_columns *c, int role) {
  return c->at[role] < 0 ? (tl_span){0} : cell[c->at[role]];
}

static tl_status add_row(tl_task_builder *b, const tl_span *cell, int n, int expected,
                         const tl_columns *c, tl_err *err) {
  if (n < expected || (n > expected && !b->o->extra_columns))
    return tl_task_fail(b, TL_DATA, err, "%d columns; expected %d as in the first row", n,
                        expected);
  tl_span text[TL_MAX_TEXTS] = {cell_of(cell, c, TL_ROLE_TEXT), cell_of(cell, c, TL_ROLE_TEXT_B),
                                cell_of(cell, c, TL_ROLE_TEXT_C)};
  return tl_task_row(b, cell_of(cell, c, TL_ROLE_LABEL), text, err);
}

/* Without a header and columns asked for: `label,text`, or two texts, or one to three. */
static tl_status default_columns(const tl_task_builder *b, const tl_span *cell, int n,
                                 tl_columns *c, tl_err *err) {
  bool pair = b->d->kind == TL_TASK_PAIR;
  if (b->d->kind == TL_TASK_TEXTS && n <= TL_MAX_TEXTS) {
    *c = (tl_columns){{0, n > 1 ? 1 : -1, n > 2 ? 2 : -1, -1}};
    return TL_OK;
  }
  if (tl_columns_stsb(b->d->kind, cell, n)) {
    *c = (tl_columns){{5, 6, -1, 4}};
    return TL_OK;
  }
  if (n != 2)
    return tl_task_fail(b, TL_CONFIG, err,
                        "cannot tell what the %d columns hold (no header with well-known names); "
                        "name them: columns %s, by number or name in the header",
                        n,
                        pair || b->d->kind == TL_TASK_TEXTS ? "text=1,text_b=2" : "label=1,text=2");
  *c = pair ? (tl_columns){{0, 1, -1, -1}} : (tl_columns){{1, -1, -1, 0}};
  return TL_OK;
}

tl_status tl_task_read_table(tl_task_builder *b, tl_next_row next, tl_err *err) {
  tl_span cell[TL_MAX_COLUMNS];
  tl_columns c;
  int n = 0;
  TL_TRY(next(b, cell, &n, err));
  if (n == 0) return TL_OK;
  int expected = n;
  const tl_task_options *o = b->o;
  bool header = o->header == TL_HEADER_YES ||
                (o->header == TL_HEADER_AUTO &&
                 (tl_columns_by_name(o) || tl_columns_known(b->d->kind, cell, n)));
  if (!header && !o->columns)
    TL_TRY(default_columns(b, cell, n, &c, err));
  else
    TL_TRY(tl_columns_find(b, header ? cell : NULL, n, &c, err));
  if (!header) TL_TRY(add_row(b, cell, n, expected, &c, err));
  for (;;) {
    TL_TRY(next(b, cell, &n, err));
    if (n == 0) return TL_OK;
    TL_TRY(add_row(b, cell, n, expected, &c, err));
  }
}
