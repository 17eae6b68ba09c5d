#include "transfer/gallery.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/rng.h"
#include "transfer/answer.h"

enum { SAMPLES = 6, CHANGES = 6, SHOWN = 12 };

json_t *tl_gallery_group(const char *title, const char *note, const char *const *columns) {
  json_t *group = json_pack("{s:s, s:s, s:[]}", "title", title, "note", note, "rows");
  if (!group || !columns) return group;
  json_t *names = json_array();
  for (; *columns; columns++) json_array_append_new(names, json_string(*columns));
  json_object_set_new(group, "columns", names);
  return group;
}

json_t *tl_gallery_row(json_t *group, const char *text) {
  json_t *row = json_pack("{s:s, s:[]}", "text", text, "pictures");
  json_array_append_new(json_object_get(group, "rows"), row);
  return json_object_get(row, "pictures");
}

static tl_status uri_of(const tl_image *m, json_t **out, tl_err *err) {
  uint8_t *png = NULL;
  size_t n = 0;
  tl_buf b = {0};
  TL_TRY(tl_image_encode_png(m, NULL, 0, &png, &n, err));
  tl_buf_puts(&b, "data:image/png;base64,");
  tl_buf_put_base64(&b, png, n);
  free(png);
  tl_status s = tl_buf_check(&b, err);
  if (s == TL_OK && !(*out = json_string(b.data))) s = tl_fail(err, TL_NOMEM, "out of memory");
  tl_buf_free(&b);
  return s;
}

tl_status tl_gallery_add(json_t *list, const tl_image *m, tl_err *err) {
  json_t *uri = NULL;
  TL_TRY(uri_of(m, &uri, err));
  json_array_append_new(list, uri);
  return TL_OK;
}

tl_status tl_gallery_image(const float *values, const tl_augment *a, tl_image *m, tl_err *err) {
  size_t n = (size_t)a->size * (size_t)a->size, c = (size_t)a->channels;
  *m = (tl_image){a->size, a->size, a->channels, malloc(n * c)};
  if (!m->pixels) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  for (size_t k = 0; k < c; k++) {
    const float std = a->std[k] > 0 ? a->std[k] : 1;
    for (size_t i = 0; i < n; i++) {
      float v = 255 * (values[k * n + i] * std + a->mean[k]);
      m->pixels[i * c + k] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : lrintf(v));
    }
  }
  return TL_OK;
}

tl_status tl_gallery_add_values(json_t *list, const float *values, const tl_augment *a,
                                tl_err *err) {
  tl_image m;
  TL_TRY(tl_gallery_image(values, a, &m, err));
  tl_status s = tl_gallery_add(list, &m, err);
  tl_image_free(&m);
  return s;
}

const char *tl_gallery_label(const tl_image_data *d, size_t record) {
  return d->records.label ? d->records.labels.name[d->records.label[record]] : "";
}

static int32_t side_of(int32_t size) {
  return size < TL_GALLERY_SIDE ? size : TL_GALLERY_SIDE;
}

/* Picture `record`, changed as the sample at `position` is, and added to the list. */
static tl_status add_changed(json_t *list, const tl_image_data *d, size_t record,
                             const tl_augment *a, uint64_t seed, uint64_t position, tl_err *err) {
  tl_image m;
  float *v = malloc((size_t)a->size * (size_t)a->size * (size_t)a->channels * sizeof *v);
  if (!v) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  tl_status s = tl_image_get(d, record, a->channels, &m, err);
  if (s == TL_OK) {
    s = tl_augment_run(a, &m, seed, position, v, err);
    tl_image_free(&m);
  }
  if (s == TL_OK) s = tl_gallery_add_values(list, v, a, err);
  free(v);
  return s;
}

tl_status tl_gallery_samples(const tl_config *c, const tl_image_data *d, int32_t size, json_t **out,
                             tl_err *err) {
  static const char *const columns[] = {"picture", "as the model sees it", NULL};
  int32_t channels = c->image.channels ? (int32_t)c->image.channels : d->channels;
  tl_augment plain, train;
  tl_augment_from(c, side_of(size), channels, false, &plain);
  tl_augment_from(c, side_of(size), channels, true, &train);
  plain.whole = train.whole = d->masks != NULL;
  *out = NULL;
  if (!memcmp(&plain, &train, sizeof plain)) return TL_OK;
  json_t *group =
      tl_gallery_group("Training pictures",
                       "Pictures out of the training data, and some of what chance makes of "
                       "each: no two passes over the data are alike.",
                       columns);
  if (!group) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  tl_status s = TL_OK;
  for (uint64_t i = 0; s == TL_OK && i < SAMPLES && i < d->records.n; i++) {
    size_t record = (size_t)tl_permute((uint64_t)c->run.seed, d->records.n, i);
    json_t *list = tl_gallery_row(group, tl_gallery_label(d, record));
    s = add_changed(list, d, record, &plain, 0, 0, err);
    for (uint64_t k = 0; s == TL_OK && k < CHANGES; k++)
      s = add_changed(list, d, record, &train, (uint64_t)c->run.seed, i * CHANGES + k, err);
  }
  if (s == TL_OK)
    *out = group;
  else
    json_decref(group);
  return s;
}

/* --- predictions -------------------------------------------------------------------------------
 */

typedef struct choice {
  const tl_image_data *d;
  const size_t *index;
  const tl_predictions *p;
  size_t right[SHOWN], wrong[SHOWN]; /* wrong: by falling probability */
  size_t n_right, n_wrong;
} choice;

static size_t record_of(const choice *c, size_t i) {
  return c->index ? c->index[i] : i;
}

static double surety(const choice *c, size_t i) {
  return tl_answer_surety(&c->d->records, record_of(c, i), c->p, i);
}

static void choose(choice *c) {
  for (size_t k = 0; k < c->p->n; k++) {
    size_t i = (size_t)tl_permute(1, c->p->n, k);
    if (tl_answer_right(&c->d->records, record_of(c, i), c->p, i)) {
      if (c->n_right < SHOWN) c->right[c->n_right++] = i;
      continue;
    }
    if (c->n_wrong == SHOWN && !(surety(c, i) > surety(c, c->wrong[SHOWN - 1]))) continue;
    size_t at = c->n_wrong < SHOWN ? c->n_wrong++ : SHOWN - 1;
    for (; at > 0 && surety(c, c->wrong[at - 1]) < surety(c, i); at--)
      c->wrong[at] = c->wrong[at - 1];
    c->wrong[at] = i;
  }
}

static tl_status add_prediction(const choice *c, size_t i, json_t *out, tl_err *err) {
  size_t record = record_of(c, i);
  tl_augment a = {.channels = c->d->channels};
  a.size = side_of(c->d->width > c->d->height ? c->d->width : c->d->height);
  json_t *picture = json_array();
  tl_status s = add_changed(picture, c->d, record, &a, 0, 0, err);
  if (s == TL_OK) {
    json_t *o = tl_answer_json(&c->d->records, record, c->p, i);
    if (!o) s = tl_fail(err, TL_NOMEM, "pictures: out of memory");
    if (o) json_object_set(o, "picture", json_array_get(picture, 0));
    json_array_append_new(out, o);
  }
  json_decref(picture);
  return s;
}

tl_status tl_gallery_predictions(const tl_image_data *d, const size_t *index,
                                 const tl_predictions *p, json_t **out, tl_err *err) {
  choice c = {.d = d, .index = index, .p = p};
  json_t *list = json_array();
  tl_status s = list ? TL_OK : tl_fail(err, TL_NOMEM, "pictures: out of memory");
  choose(&c);
  for (size_t i = 0; s == TL_OK && i < c.n_right; i++)
    s = add_prediction(&c, c.right[i], list, err);
  for (size_t i = 0; s == TL_OK && i < c.n_wrong; i++)
    s = add_prediction(&c, c.wrong[i], list, err);
  if (s == TL_OK)
    *out = list;
  else
    json_decref(list);
  return s;
}
