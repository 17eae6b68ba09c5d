#include "train/part.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "models/model.h"
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

static tl_image_options read_options(const tl_config *c) {
  tl_image_options o = {.skip_bad = !strcmp(c->image.bad, "skip"),
                        .memory = (size_t)c->image.memory_mb << 20};
  tl_image_format_parse(c->image.format, &o.format);
  return o;
}

tl_status tl_part_read_unlabelled(const tl_config *c, const char *path, tl_image_data *out,
                                  tl_err *err) {
  const tl_mask_options masks = {.void_id = (int32_t)c->image.void_id};
  tl_image_options o = read_options(c);
  o.unlabelled = true;
  if (!strcmp(c->task.type, "image_segment")) o.masks = &masks;
  return tl_image_read(path, &o, out, err);
}

tl_status tl_part_read_captions(const tl_config *c, const char *path, tl_image_data *out,
                                tl_err *err) {
  tl_image_options o = read_options(c);
  TL_TRY(tl_image_read(path, &o, out, err));
  if (out->records.labels.n) return TL_OK;
  tl_image_data_free(out);
  return tl_fail(err, TL_DATA, "%s: pictures without captions; expected a list of path,caption",
                 path);
}

tl_status tl_part_read_pictures(const tl_config *c, const char *path, const tl_labels *labels,
                                tl_image_data *out, tl_err *err) {
  const tl_mask_options masks = {.void_id = (int32_t)c->image.void_id};
  tl_image_options o = read_options(c);
  tl_labels names = {0};
  if (!labels && *c->image.classes) TL_TRY(class_names(c->image.classes, &names, err));
  o.labels = labels ? labels : names.n ? &names : NULL;
  o.several = !strcmp(c->task.type, "image_multilabel");
  if (!strcmp(c->task.type, "image_segment")) o.masks = &masks;
  tl_status s = tl_image_read(path, &o, out, err);
  tl_labels_free(&names);
  if (s != TL_OK || o.masks || out->records.labels.n) return s;
  tl_image_data_free(out);
  return tl_fail(err, TL_DATA, "%s: pictures without labels; expected a folder for each class",
                 path);
}

/* The pictures' own size, in whole patches; large ones at most as ViT was published. */
static int64_t natural_size(const tl_image_data *d, const tl_model_config *c) {
  int64_t patch = tl_arch_find(c->type)->layout == TL_LAYOUT_PATCHES ? c->patch : 1;
  int64_t side = d->width > d->height ? d->width : d->height;
  if (side > 224) side = 224;
  return side < patch ? patch : (side + patch - 1) / patch * patch;
}

static tl_status check_type(const char *type, tl_err *err) {
  if (tl_arch_find(type)->image) return TL_OK;
  return tl_fail(err, TL_CONFIG,
                 "training on pictures needs a model of pictures (such as model.type=vit), not %s",
                 type);
}

tl_status tl_part_model_config(const tl_config *c, const char *from, const tl_image_data *d,
                               tl_model_config *mc, tl_err *err) {
  if (*from) {
    TL_TRY(tl_model_read_config(from, mc, err));
    TL_TRY(check_type(mc->type, err));
    if (c->model.image_size) mc->image_size = c->model.image_size;
    return TL_OK;
  }
  TL_TRY(check_type(c->model.type, err));
  TL_TRY(tl_model_config_from(c, 0, 1, mc, err));
  mc->image_size = c->model.image_size ? c->model.image_size : natural_size(d, mc);
  mc->channels = c->image.channels ? c->image.channels : d->channels;
  return TL_OK;
}
