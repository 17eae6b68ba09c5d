#include "train/part.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
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

/* "sky,road" or a file with a name a line. */
static tl_status class_names(const char *list, tl_labels *out, tl_err *err) {
  enum { MAX_BYTES = 1 << 20 };
  bool file = tl_file_exists(list);
  tl_buf text = {0};
  const char *name[TL_MASK_CLASSES];
  size_t n = 0;
  tl_status s = TL_OK;
  if (file)
    s = tl_file_read(list, MAX_BYTES, &text, err);
  else
    tl_buf_puts(&text, list);
  tl_buf_putc(&text, 0);
  if (s == TL_OK) s = tl_buf_check(&text, err);
  char *save = NULL, *one = s == TL_OK ? strtok_r(text.data, file ? "\r\n" : ",", &save) : NULL;
  for (; one && n < TL_MASK_CLASSES; one = strtok_r(NULL, file ? "\r\n" : ",", &save))
    name[n++] = one;
  if (s == TL_OK && one)
    s = tl_fail(err, TL_CONFIG, "image.classes: more than %d names", TL_MASK_CLASSES);
  if (s == TL_OK) s = tl_labels_make(name, n, out, err);
  tl_buf_free(&text);
  return s;
}

static tl_status read_masks(const tl_config *c, const char *path, tl_image_options *o,
                            tl_image_data *out, tl_err *err) {
  tl_labels names = {0};
  const tl_mask_options masks = {.void_id = (int32_t)c->image.void_id};
  if (!o->labels && *c->image.classes) {
    TL_TRY(class_names(c->image.classes, &names, err));
    o->labels = &names;
  }
  o->masks = &masks;
  tl_status s = tl_image_read(path, o, out, err);
  tl_labels_free(&names);
  return s;
}

tl_status tl_part_read_pictures(const tl_config *c, const char *path, const tl_labels *labels,
                                tl_image_data *out, tl_err *err) {
  tl_image_options o = {.skip_bad = !strcmp(c->image.bad, "skip"),
                        .labels = labels,
                        .memory = (size_t)c->image.memory_mb << 20};
  tl_image_format_parse(c->image.format, &o.format);
  if (!strcmp(c->task.type, "image_segment")) return read_masks(c, path, &o, out, err);
  TL_TRY(tl_image_read(path, &o, out, err));
  if (out->records.label) return TL_OK;
  tl_image_data_free(out);
  return tl_fail(err, TL_DATA, "%s: pictures without labels; expected a folder for each class",
                 path);
}
