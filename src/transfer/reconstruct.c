#include "transfer/reconstruct.h"

#include <stdlib.h>
#include <string.h>

#include "transfer/image_graph.h"

enum { ROOM = 64 };

bool tl_can_reconstruct(const tl_model *m) {
  return m->capsnet.decoder_w[0] != NULL;
}

static tl_status check(const tl_model *m, tl_err *err) {
  if (tl_can_reconstruct(m)) return TL_OK;
  return tl_fail(err, TL_CONFIG,
                 "the model makes no pictures again: it needs model.type=capsnet and "
                 "model.reconstruction above 0");
}

static int64_t values_of(const tl_model *m) {
  return m->c.channels * m->c.image_size * m->c.image_size;
}

/* A picture from pixels [size * size][channels], as tl_picture_rows has them. */
static void from_pixels(const tl_model *m, const float *pixels, float *picture) {
  int64_t n = m->c.image_size * m->c.image_size, channels = m->c.channels;
  for (int64_t k = 0; k < channels; k++)
    for (int64_t i = 0; i < n; i++) picture[k * n + i] = pixels[i * channels + k];
}

static int32_t longest(const float *length, int64_t n) {
  int32_t best = 0;
  for (int32_t k = 1; k < n; k++)
    if (length[k] > length[best]) best = k;
  return best;
}

tl_status tl_reconstruct(tl_ctx *ctx, tl_model *m, const float *pictures, int64_t n, float *made,
                         float *capsules, int32_t *labels, tl_err *err) {
  tl_image_graph p;
  int64_t values = values_of(m), classes = m->task.n_outputs, room = n < ROOM ? n : ROOM;
  TL_TRY(check(m, err));
  if (n < 1) return TL_OK;
  float *rows = malloc((size_t)(room * values) * sizeof *rows);
  if (!rows) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  tl_status s = tl_image_graph_new(ctx, m, TL_F32, room, false, &p, err);
  for (int64_t at = 0; s == TL_OK && at < n; at += room) {
    int64_t batch = n - at < room ? n - at : room;
    for (int64_t i = 0; i < batch; i++)
      tl_picture_rows(&m->c, pictures + (at + i) * values, rows + i * values);
    tl_image_graph_set(&p, batch, rows, NULL); /* without targets the longest capsule is taken */
    tl_image_graph_run(&p, &(tl_pass){.loss_scale = 1});
    for (int64_t i = 0; i < batch; i++) {
      int32_t label = longest((const float *)p.features->data + i * classes, classes);
      const float *capsule =
          (const float *)p.capsules->data + (i * classes + label) * TL_CAPSULE_WIDTH;
      if (labels) labels[at + i] = label;
      if (capsules)
        memcpy(capsules + (at + i) * TL_CAPSULE_WIDTH, capsule, TL_CAPSULE_WIDTH * sizeof(float));
      if (made) from_pixels(m, (const float *)p.made->data + i * values, made + (at + i) * values);
    }
  }
  if (s == TL_OK) tl_image_graph_free(&p);
  free(rows);
  return s;
}

/* --- changed capsules --------------------------------------------------------------------------
 */

static tl_status decoder_graph(tl_ctx *ctx, tl_model *m, int64_t rows, tl_graph **g, tl_node **in,
                               tl_node **out, tl_err *err) {
  int64_t shape[] = {rows, m->task.n_outputs * TL_CAPSULE_WIDTH};
  *g = tl_graph_new(ctx, &m->params, &(tl_graph_options){TL_F32, false});
  if (!*g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  *in = tl_graph_input(*g, "capsules", TL_F32, 2, shape, 0);
  *out = tl_capsnet_decode(m, *g, *in);
  return tl_graph_compile(*g, NULL, out, 1, err);
}

tl_status tl_reconstruct_changed(tl_ctx *ctx, tl_model *m, const float *capsule, int32_t label,
                                 const float *change, int64_t n, float *made, tl_err *err) {
  tl_graph *g = NULL;
  tl_node *in = NULL, *out = NULL;
  int64_t values = values_of(m), rows = TL_CAPSULE_WIDTH * n;
  TL_TRY(check(m, err));
  if (n < 1) return TL_OK;
  tl_status s = decoder_graph(ctx, m, rows, &g, &in, &out, err);
  for (int64_t r = 0; s == TL_OK && r < rows; r++) {
    float *row = (float *)in->data + r * tl_cols(in) + label * TL_CAPSULE_WIDTH;
    memcpy(row, capsule, TL_CAPSULE_WIDTH * sizeof *row);
    row[r / n] += change[r % n];
  }
  if (s == TL_OK) tl_graph_run(g, &(tl_pass){.loss_scale = 1});
  for (int64_t r = 0; s == TL_OK && r < rows; r++)
    from_pixels(m, (const float *)out->data + r * values, made + r * values);
  tl_graph_free(g);
  return s;
}
