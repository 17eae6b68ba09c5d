/* Columns split by tabs, without quoting. */
#include "text/task_internal.h"

static tl_status next_row(tl_task_builder *b, tl_span *cell, int *n, tl_err *err) {
  tl_span line;
  *n = 0;
  do TL_TRY(tl_task_line(b, &line, err));
  while (line.s && tl_span_blank(line));
  return line.s ? tl_task_split_line(b, line, '\t', cell, n, err) : TL_OK;
}

/* With neither header nor columns asked for, the text is all after the first tab. */
static tl_status is_labelled(tl_task_builder *b, bool *out, tl_err *err) {
  tl_span cell[TL_MAX_COLUMNS];
  int n = 0;
  tl_task_builder ahead = *b;
  *out = false;
  if (b->d->kind == TL_TASK_PAIR || b->d->kind == TL_TASK_TEXTS || b->o->columns ||
      b->o->header == TL_HEADER_YES)
    return TL_OK;
  TL_TRY(next_row(&ahead, cell, &n, err));
  *out = b->o->header == TL_HEADER_NO || !tl_columns_known(b->d->kind, cell, n);
  if (tl_columns_stsb(b->d->kind, cell, n)) *out = false;
  return TL_OK;
}

tl_status tl_task_read_tsv(tl_task_builder *b, tl_err *err) {
  bool labelled = false;
  TL_TRY(is_labelled(b, &labelled, err));
  return labelled ? tl_task_read_labelled(b, err) : tl_task_read_table(b, next_row, err);
}
