/* Pictures that a masked autoencoder fills in (He et al., 2021, figure 2). */
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "transfer/gallery.h"
#include "transfer/picture_objective.h"

enum { SHOWN = 12 };

static tl_status load(const tl_image_data *d, const tl_augment *plain, const tl_model_config *c,
                      int64_t values, float *pictures, float *rows, tl_err *err) {
  for (size_t i = 0; i < SHOWN; i++, pictures += values, rows += values) {
    tl_image m;
    size_t record = (size_t)tl_permute(1, d->records.n, i % d->records.n);
    TL_TRY(tl_image_get(d, record, plain->channels, &m, err));
    tl_status s = tl_augment_run(plain, &m, 0, 0, pictures, err);
    tl_image_free(&m);
    if (s != TL_OK) return s;
    tl_picture_rows(c, pictures, rows);
  }
  return TL_OK;
}

static tl_status show(const tl_picture_graph *p, const tl_augment *plain, const float *pictures,
                      int64_t n, float *picture, json_t *group, tl_err *err) {
  for (int64_t i = 0; i < n; i++) {
    json_t *row = tl_gallery_row(group, "");
    TL_TRY(tl_gallery_add_values(row, pictures + i * p->values, plain, err));
    for (int made = 0; made < 2; made++) {
      TL_TRY(tl_mae_picture(p, i, made, picture, err));
      TL_TRY(tl_gallery_add_values(row, picture, plain, err));
    }
  }
  return TL_OK;
}

static tl_status fill_in(tl_picture_graph *p, const char *dir, const tl_image_data *d,
                         json_t *group, tl_err *err) {
  const tl_model_config *c = &p->model->c;
  tl_augment plain = {.size = (int32_t)c->image_size, .channels = (int32_t)c->channels};
  size_t values = (size_t)p->values;
  float *pictures = malloc((2 * SHOWN + 1) * values * sizeof *pictures);
  if (!pictures) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  float *rows = pictures + SHOWN * values, *one = rows + SHOWN * values;
  size_t n = d->records.n < SHOWN ? d->records.n : SHOWN;
  tl_status s = tl_image_read_preprocessor(dir, &plain, err);
  if (s == TL_OK) s = load(d, &plain, c, p->values, pictures, rows, err);
  if (s == TL_OK) {
    tl_picture_graph_run(p, NULL, rows, 0, &(tl_pass){.loss_scale = 1});
    s = show(p, &plain, pictures, (int64_t)n, one, group, err);
  }
  free(pictures);
  return s;
}

tl_status tl_gallery_mae(tl_ctx *ctx, const tl_config *cfg, const char *dir, const tl_image_data *d,
                         json_t **out, tl_err *err) {
  static const char *const columns[] = {"picture", "what is seen", "filled in", NULL};
  const tl_picture_objective *o = tl_picture_objective_find("mae");
  tl_config c = *cfg;
  tl_model_config mc;
  tl_picture_parts parts;
  tl_picture_graph p = {0};
  tl_model *m = NULL;
  *out = NULL;
  if (strcmp(c.objective.type, "mae") || d->records.n == 0) return TL_OK;
  c.train.batch = SHOWN;
  json_t *group = tl_gallery_group(
      "Filled in",
      "Pictures, the patches that the model is shown, and the hidden ones as it makes them; the "
      "brightness and contrast of hidden patches are the picture's, where objective.norm_pixels "
      "hides them from the model.",
      columns);
  tl_status s = group ? tl_model_read_config(dir, &mc, err)
                      : tl_fail(err, TL_NOMEM, "pictures: out of memory");
  if (s == TL_OK) s = tl_picture_model_new(o, &c, &mc, true, &parts, &m, err);
  if (s == TL_OK) s = tl_model_read_weights(m, dir, err);
  if (s == TL_OK) s = tl_picture_graph_new(ctx, o, &c, m, &parts, TL_F32, false, &p, err);
  if (s == TL_OK) s = fill_in(&p, dir, d, group, err);
  if (s == TL_OK) *out = json_incref(group);
  json_decref(group);
  tl_picture_graph_free(&p);
  tl_model_free(m);
  return s;
}
