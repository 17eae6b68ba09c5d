#include "train/part.h"

#include <stdlib.h>
#include <string.h>

#include "transfer/task.h"

tl_status tl_part_take(const tl_task_data *records, const tl_image_data *pictures,
                       const size_t *order, size_t n, tl_part *out, tl_err *err) {
  *out = (tl_part){.pictures = pictures, .index = malloc((n + 1) * sizeof *out->index)};
  if (!out->index) return tl_fail(err, TL_NOMEM, "out of memory for %zu records", n);
  for (size_t i = 0; i < n; i++) out->index[i] = order ? order[i] : i;
  tl_status s = tl_task_select(records, out->index, n, &out->records, err);
  if (s != TL_OK) tl_part_free(out);
  return s;
}

void tl_part_free(tl_part *p) {
  free(p->index);
  tl_task_select_free(&p->records);
  *p = (tl_part){0};
}

tl_status tl_part_read_pictures(const tl_config *c, const char *path, const tl_labels *labels,
                                tl_image_data *out, tl_err *err) {
  tl_image_options o = {.skip_bad = !strcmp(c->image.bad, "skip"),
                        .labels = labels,
                        .memory = (size_t)c->image.memory_mb << 20};
  tl_image_format_parse(c->image.format, &o.format);
  TL_TRY(tl_image_read(path, &o, out, err));
  if (out->records.label) return TL_OK;
  tl_image_data_free(out);
  return tl_fail(err, TL_DATA, "%s: pictures without labels; expected a folder for each class",
                 path);
}
