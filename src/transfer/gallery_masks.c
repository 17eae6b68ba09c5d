/* Predicted masks beside the true ones, as pictures for a report. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/mask_metrics.h"
#include "transfer/gallery.h"
#include "transfer/mask.h"

enum { SHOWN = 6, SIDE = 160, CHIP = 24 };

typedef struct shower {
  const tl_image_data *d;
  const size_t *index;
  json_t *group;
  uint8_t palette[TL_MASK_VOID + 1][3];
} shower;

/* m without some of its lines and columns, so that no side is longer than SIDE; palette (NULL:
 * none): of its values. */
static tl_status add_small(json_t *list, const tl_image *m, const uint8_t (*palette)[3],
                           tl_err *err) {
  int32_t longest = m->width > m->height ? m->width : m->height, step = (longest + SIDE - 1) / SIDE;
  tl_image s = {m->width / step, m->height / step, palette ? 3 : m->channels, NULL};
  if (s.width < 1) s.width = 1;
  if (s.height < 1) s.height = 1;
  size_t n = (size_t)s.width * (size_t)s.height, c = (size_t)s.channels;
  s.pixels = malloc(n * c);
  if (!s.pixels) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  for (size_t i = 0; i < n; i++) {
    size_t w = (size_t)s.width, y = i / w * (size_t)step, x = i % w * (size_t)step;
    const uint8_t *from = m->pixels + (y * (size_t)m->width + x) * (size_t)m->channels;
    memcpy(s.pixels + i * c, palette ? palette[*from] : from, c);
  }
  tl_status st = tl_gallery_add(list, &s, err);
  tl_image_free(&s);
  return st;
}

/* A row: the picture, its mask, and what is predicted. */
static tl_status show(void *user, size_t i, const tl_image *classes, tl_err *err) {
  shower *s = user;
  const uint8_t(*palette)[3] = (const uint8_t(*)[3])s->palette;
  tl_image m = {0}, truth = {0};
  if (i >= SHOWN) return TL_OK;
  json_t *list = tl_gallery_row(s->group, "");
  tl_status st = tl_image_get(s->d, s->index[i], 0, &m, err);
  if (st == TL_OK) st = tl_image_get(s->d->masks, s->index[i], 1, &truth, err);
  if (st == TL_OK) st = add_small(list, &m, NULL, err);
  if (st == TL_OK) st = add_small(list, &truth, palette, err);
  if (st == TL_OK) st = add_small(list, classes, palette, err);
  tl_image_free(&m);
  tl_image_free(&truth);
  return st;
}

/* A patch of each class's colour with its name and its score. */
static tl_status add_classes(json_t *group, const shower *s, const tl_predictions *p, tl_err *err) {
  uint8_t pixels[CHIP * CHIP * 3];
  double iou[TL_MASK_CLASSES];
  tl_mask_iou(p->pixels, (size_t)p->n_outputs, NULL, p->n, iou);
  for (int k = 0; k < p->n_outputs; k++) {
    char text[160];
    if (iou[k] >= 0)
      snprintf(text, sizeof text, "%.100s, IoU %.1f %%", s->d->records.labels.name[k],
               100 * iou[k]);
    else
      snprintf(text, sizeof text, "%.100s", s->d->records.labels.name[k]);
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = s->palette[k][i % 3];
    TL_TRY(tl_gallery_add(tl_gallery_row(group, text), &(tl_image){CHIP, CHIP, 3, pixels}, err));
  }
  return TL_OK;
}

static tl_status predict(tl_ctx *ctx, tl_model *m, const char *dir, shower *s, size_t n,
                         tl_predictions *p, tl_err *err) {
  tl_image_graph graph;
  tl_augment plain = {
      .size = (int32_t)m->c.image_size, .channels = (int32_t)m->c.channels, .whole = true};
  TL_TRY(tl_image_read_preprocessor(dir, &plain, err));
  TL_TRY(tl_image_graph_new(ctx, m, TL_F32, tl_image_room(&m->c), false, &graph, err));
  tl_status st = tl_mask_predict(&graph, s->d, s->index, n, &plain, show, s, p, err);
  tl_image_graph_free(&graph);
  return st;
}

tl_status tl_gallery_masks(tl_ctx *ctx, tl_model *m, const char *dir, const tl_image_data *d,
                           const size_t *index, size_t n, json_t **rows, json_t **classes,
                           tl_err *err) {
  static const char *const columns[] = {"picture", "truth", "prediction", NULL};
  shower s = {.d = d, .index = index};
  tl_predictions p = {0};
  tl_mask_colours(s.palette, TL_MASK_VOID + 1);
  s.group =
      tl_gallery_group("Classes of pixels",
                       "Pictures that the model was not trained on. Black has no class.", columns);
  json_t *legend = tl_gallery_group(
      "Their colours", "How well each class is found: intersection over union of its pixels.",
      NULL);
  if (s.group) json_object_set_new(s.group, "width", json_integer(180));
  tl_status st = s.group && legend ? predict(ctx, m, dir, &s, n, &p, err)
                                   : tl_fail(err, TL_NOMEM, "pictures: out of memory");
  if (st == TL_OK) st = add_classes(legend, &s, &p, err);
  tl_predictions_free(&p);
  *rows = st == TL_OK ? s.group : NULL;
  *classes = st == TL_OK ? legend : NULL;
  if (st == TL_OK) return TL_OK;
  json_decref(s.group);
  json_decref(legend);
  return st;
}
