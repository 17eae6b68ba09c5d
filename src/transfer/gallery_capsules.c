/* Pictures made again from their capsules, and what the columns of a capsule stand for (Sabour et
 * al., 2017, figures 3 and 4). */
#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "transfer/gallery.h"
#include "transfer/image_graph.h"
#include "transfer/reconstruct.h"

enum { SHOWN = 12, CHANGES = 11 };

typedef struct capsules {
  tl_ctx *ctx;
  tl_model *m;
  const tl_image_data *d;
  tl_augment plain;
  int64_t values; /* of a picture */
  int64_t n;
  size_t record[SHOWN];
  float *pictures, *made, *changed;
  float capsule[SHOWN * TL_CAPSULE_WIDTH];
  int32_t label[SHOWN];
} capsules;

static tl_status read_pictures(capsules *c, tl_err *err) {
  size_t n = c->d->records.n < SHOWN ? c->d->records.n : SHOWN;
  for (; c->n < (int64_t)n; c->n++) {
    tl_image m;
    c->record[c->n] = (size_t)tl_permute(1, c->d->records.n, (uint64_t)c->n);
    TL_TRY(tl_image_get(c->d, c->record[c->n], c->plain.channels, &m, err));
    tl_status s = tl_augment_run(&c->plain, &m, 0, 0, c->pictures + c->n * c->values, err);
    tl_image_free(&m);
    if (s != TL_OK) return s;
  }
  return tl_reconstruct(c->ctx, c->m, c->pictures, c->n, c->made, c->capsule, c->label, err);
}

static const char *name_of(const capsules *c, int64_t i) {
  return c->m->task.name ? c->m->task.name[c->label[i]] : "";
}

static tl_status made_again(const capsules *c, json_t *groups, tl_err *err) {
  static const char *const columns[] = {"picture", "made again", NULL};
  json_t *group = tl_gallery_group(
      "Made again", "Test pictures, and what the decoder makes of their longest capsule alone.",
      columns);
  if (!group) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  json_array_append_new(groups, group);
  for (int64_t i = 0; i < c->n; i++) {
    json_t *row = tl_gallery_row(group, name_of(c, i));
    TL_TRY(tl_gallery_add_values(row, c->pictures + i * c->values, &c->plain, err));
    TL_TRY(tl_gallery_add_values(row, c->made + i * c->values, &c->plain, err));
  }
  return TL_OK;
}

static tl_status columns_of_capsule(const capsules *c, json_t *groups, tl_err *err) {
  static const char *const columns[CHANGES + 1] = {"-0.25", "-0.20", "-0.15", "-0.10", "-0.05", "0",
                                                   "+0.05", "+0.10", "+0.15", "+0.20", "+0.25"};
  float change[CHANGES];
  for (int i = 0; i < CHANGES; i++) change[i] = 0.05f * (float)(i - CHANGES / 2);
  TL_TRY(tl_reconstruct_changed(c->ctx, c->m, c->capsule, c->label[0], change, CHANGES, c->changed,
                                err));
  json_t *group = tl_gallery_group(
      "What the columns of a capsule stand for",
      "The first of the pictures above, made again with one column of its capsule changed.",
      columns);
  if (!group) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  json_array_append_new(groups, group);
  for (int k = 0; k < TL_CAPSULE_WIDTH; k++) {
    char text[32];
    snprintf(text, sizeof text, "column %d", k + 1);
    json_t *row = tl_gallery_row(group, text);
    for (int i = 0; i < CHANGES; i++)
      TL_TRY(
          tl_gallery_add_values(row, c->changed + (k * CHANGES + i) * c->values, &c->plain, err));
  }
  return TL_OK;
}

tl_status tl_gallery_capsules(tl_ctx *ctx, tl_model *m, const char *dir, const tl_image_data *d,
                              json_t *groups, tl_err *err) {
  if (!tl_can_reconstruct(m) || d->records.n == 0) return TL_OK;
  capsules c = {.ctx = ctx,
                .m = m,
                .d = d,
                .plain = {.size = (int32_t)m->c.image_size, .channels = (int32_t)m->c.channels},
                .values = m->c.channels * m->c.image_size * m->c.image_size};
  size_t bytes = (size_t)c.values * sizeof(float);
  c.pictures = malloc(SHOWN * bytes);
  c.made = malloc(SHOWN * bytes);
  c.changed = malloc(TL_CAPSULE_WIDTH * CHANGES * bytes);
  tl_status s = c.pictures && c.made && c.changed
                    ? tl_image_read_preprocessor(dir, &c.plain, err)
                    : tl_fail(err, TL_NOMEM, "pictures: out of memory");
  if (s == TL_OK) s = read_pictures(&c, err);
  if (s == TL_OK) s = made_again(&c, groups, err);
  if (s == TL_OK) s = columns_of_capsule(&c, groups, err);
  free(c.pictures);
  free(c.made);
  free(c.changed);
  return s;
}
