/* A part of a set of records, as a set. */
#include <stdlib.h>
#include <string.h>

#include "transfer/task.h"

static tl_status copy_items(const tl_task_data *d, const size_t *index, size_t n,
                            tl_task_data *out) {
  size_t total = 0;
  for (size_t i = 0; i < n; i++) total += d->first[index[i] + 1] - d->first[index[i]];
  out->first = malloc((n + 1) * sizeof *out->first);
  out->item = malloc((total + 1) * sizeof *out->item);
  if (!out->first || !out->item) return TL_NOMEM;
  out->first[0] = 0;
  for (size_t i = 0; i < n; i++) {
    size_t from = d->first[index[i]], k = d->first[index[i] + 1] - from;
    memcpy(out->item + out->first[i], d->item + from, k * sizeof *out->item);
    out->first[i + 1] = out->first[i] + k;
  }
  return TL_OK;
}

tl_status tl_task_select(const tl_task_data *d, const size_t *index, size_t n, tl_task_data *out,
                         tl_err *err) {
  *out = (tl_task_data){.kind = d->kind, .n = n, .labels = d->labels};
  bool ok = true;
#define COPY(member)                                                                               \
  if (d->member) {                                                                                 \
    out->member = malloc((n + 1) * sizeof *out->member);                                           \
    ok = ok && out->member;                                                                        \
    for (size_t i = 0; ok && i < n; i++) out->member[i] = d->member[index[i]];                     \
  }
  COPY(text)
  COPY(text_b)
  COPY(text_c)
  COPY(label)
  COPY(value)
  COPY(line)
#undef COPY
  if (ok && d->first) ok = copy_items(d, index, n, out) == TL_OK;
  if (ok) return TL_OK;
  tl_task_select_free(out);
  return tl_fail(err, TL_NOMEM, "out of memory for %zu records", n);
}

void tl_task_select_free(tl_task_data *part) {
  part->labels = (tl_labels){0};
  tl_task_data_free(part);
}
