/* Maps of attention over pictures. The rollout (S. Abnar and W. Zuidema, Quantifying Attention Flow
 * in Transformers, arXiv 2005.00928) multiplies, over the layers, the mean of the heads' maps and
 * the identity, which stands for the residual connection. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "eval/inspect.h"
#include "transfer/gallery.h"
#include "transfer/image_graph.h"

enum { SHOWN = 6 };

typedef struct looker {
  tl_image_graph graph;
  tl_augment plain;
  int64_t n, patches; /* rows of a picture; of them the last are patches */
  float *row;         /* [n] */
  double *mean;       /* [n] attention to each row, from the class token or from all rows */
  double *flow, *next, *layer; /* [n][n] */
} looker;

/* --- the numbers -------------------------------------------------------------------------------
 */

/* Adds `share` of the attention of the rows that speak for the picture: the class token, which is
 * the first, or all of them. */
static void add_head(looker *k, const tl_node *a, int head, double share) {
  const tl_segment seg = {0, (int32_t)k->n, 0, (int32_t)k->n, 0};
  int64_t queries = k->n > k->patches ? 1 : k->n;
  for (int64_t q = 0; q < queries; q++) {
    tl_attention_row(a, &seg, head, (int)q, k->row);
    for (int64_t i = 0; i < k->n; i++) k->mean[i] += share * (double)k->row[i] / (double)queries;
  }
}

static void one_layer(looker *k, const tl_node *a, int heads) {
  const tl_segment seg = {0, (int32_t)k->n, 0, (int32_t)k->n, 0};
  for (int64_t q = 0; q < k->n; q++) {
    double *to = k->layer + q * k->n;
    for (int64_t i = 0; i < k->n; i++) to[i] = q == i ? 0.5 : 0;
    for (int h = 0; h < heads; h++) {
      tl_attention_row(a, &seg, h, (int)q, k->row);
      for (int64_t i = 0; i < k->n; i++) to[i] += 0.5 * (double)k->row[i] / heads;
    }
  }
}

static void roll_out(looker *k) {
  const tl_model *m = k->graph.model;
  int64_t n = k->n;
  for (int64_t i = 0; i < n * n; i++) k->flow[i] = i % (n + 1) == 0;
  for (int l = 0; l < m->n_blocks; l++) {
    one_layer(k, tl_image_graph_attention(&k->graph, l), (int)m->c.heads);
    memset(k->next, 0, (size_t)(n * n) * sizeof *k->next);
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < n; j++)
        for (int64_t c = 0; c < n; c++)
          k->next[i * n + c] += k->layer[i * n + j] * k->flow[j * n + c];
    double *t = k->flow;
    k->flow = k->next;
    k->next = t;
  }
  int64_t queries = n > k->patches ? 1 : n;
  for (int64_t q = 0; q < queries; q++)
    for (int64_t i = 0; i < n; i++) k->mean[i] += k->flow[q * n + i] / (double)queries;
}

/* --- the pictures ------------------------------------------------------------------------------
 */

/* The picture in dim grey, and light where much attention lies. */
static tl_status add_map(const looker *k, const tl_image *m, json_t *list, tl_err *err) {
  static const double light[3] = {255, 176, 32};
  const double *patch = k->mean + k->n - k->patches;
  int64_t grid = (int64_t)sqrt((double)k->patches), side = m->width / grid;
  double least = INFINITY, most = 0;
  for (int64_t i = 0; i < k->patches; i++) {
    least = fmin(least, patch[i]);
    most = fmax(most, patch[i]);
  }
  tl_image out = {m->width, m->height, 3, malloc((size_t)m->width * (size_t)m->height * 3)};
  if (!out.pixels) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  for (int64_t y = 0; y < m->height; y++)
    for (int64_t x = 0; x < m->width; x++) {
      const uint8_t *from = m->pixels + (y * m->width + x) * m->channels;
      double p = patch[y / side * grid + x / side], grey = 0;
      double share = most > least ? 0.85 * (p - least) / (most - least) : 0;
      for (int c = 0; c < m->channels; c++) grey += 0.7 * from[c] / m->channels;
      for (int c = 0; c < 3; c++)
        out.pixels[(y * m->width + x) * 3 + c] =
            (uint8_t)lrint(grey * (1 - share) + light[c] * share);
    }
  tl_status s = tl_gallery_add(list, &out, err);
  tl_image_free(&out);
  return s;
}

static tl_status add_maps(looker *k, const tl_image *m, json_t *list, tl_err *err) {
  const tl_model *model = k->graph.model;
  const tl_node *last = tl_image_graph_attention(&k->graph, (int)model->n_blocks - 1);
  size_t bytes = (size_t)k->n * sizeof *k->mean;
  TL_TRY(tl_gallery_add(list, m, err));
  memset(k->mean, 0, bytes);
  roll_out(k);
  TL_TRY(add_map(k, m, list, err));
  for (int h = 0; h < model->c.heads; h++) {
    memset(k->mean, 0, bytes);
    add_head(k, last, h, 1);
    TL_TRY(add_map(k, m, list, err));
  }
  return TL_OK;
}

static tl_status look_at(looker *k, const tl_image_data *d, size_t record, json_t *list,
                         tl_err *err) {
  const tl_model_config *c = &k->graph.model->c;
  size_t n = (size_t)(c->channels * c->image_size * c->image_size);
  float *v = malloc(2 * n * sizeof *v);
  tl_image m = {0}, seen = {0};
  tl_status s = v ? TL_OK : tl_fail(err, TL_NOMEM, "pictures: out of memory");
  if (s == TL_OK) s = tl_image_get(d, record, k->plain.channels, &m, err);
  if (s == TL_OK) s = tl_augment_run(&k->plain, &m, 0, 0, v, err);
  if (s == TL_OK) {
    tl_picture_rows(c, v, v + n);
    tl_image_graph_set(&k->graph, 1, v + n, NULL);
    tl_image_graph_run(&k->graph, &(tl_pass){.loss_scale = 1});
    s = tl_gallery_image(v, &k->plain, &seen, err);
  }
  if (s == TL_OK) s = add_maps(k, &seen, list, err);
  tl_image_free(&m);
  tl_image_free(&seen);
  free(v);
  return s;
}

static tl_status look(looker *k, const tl_image_data *d, json_t **out, tl_err *err) {
  static const char *const columns[] = {"picture", "through all layers", "heads of the last layer",
                                        NULL};
  json_t *group = tl_gallery_group(
      "Where it looks",
      "Attention over the picture, the lighter the more: through all layers (the product of their "
      "maps), and of each head of the last layer. Each map has its own scale, from its least to "
      "its most.",
      columns);
  tl_status s = group ? TL_OK : tl_fail(err, TL_NOMEM, "pictures: out of memory");
  for (uint64_t i = 0; s == TL_OK && i < SHOWN && i < d->records.n; i++) {
    size_t record = (size_t)tl_permute(1, d->records.n, i);
    s = look_at(k, d, record, tl_gallery_row(group, tl_gallery_label(d, record)), err);
  }
  if (s == TL_OK)
    *out = group;
  else
    json_decref(group);
  return s;
}

static tl_status open_graph(looker *k, tl_ctx *ctx, tl_model *m, const char *dir, tl_err *err) {
  TL_TRY(tl_image_graph_body(ctx, m, 1, &k->graph, err));
  k->plain = (tl_augment){.size = (int32_t)m->c.image_size, .channels = (int32_t)m->c.channels};
  TL_TRY(tl_image_read_preprocessor(dir, &k->plain, err));
  size_t n = (size_t)k->graph.n_rows;
  k->n = k->graph.n_rows;
  k->patches = k->graph.shape.rows;
  k->row = malloc(n * sizeof *k->row);
  k->mean = malloc(n * sizeof *k->mean);
  k->flow = malloc(n * n * sizeof *k->flow);
  k->next = malloc(n * n * sizeof *k->next);
  k->layer = malloc(n * n * sizeof *k->layer);
  if (!k->row || !k->mean || !k->flow || !k->next || !k->layer)
    return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  return TL_OK;
}

tl_status tl_gallery_attention(tl_ctx *ctx, const char *model, const tl_image_data *d, json_t **out,
                               tl_err *err) {
  tl_model *m = NULL;
  looker k = {0};
  *out = NULL;
  TL_TRY(tl_model_load(model, false, &m, err));
  tl_status s = TL_OK;
  if (m->arch->image && m->arch->layout == TL_LAYOUT_PATCHES) {
    s = open_graph(&k, ctx, m, model, err);
    if (s == TL_OK && tl_image_graph_attention(&k.graph, (int)m->n_blocks - 1))
      s = look(&k, d, out, err);
  }
  tl_image_graph_free(&k.graph);
  free(k.row);
  free(k.mean);
  free(k.flow);
  free(k.next);
  free(k.layer);
  tl_model_free(m);
  return s;
}
