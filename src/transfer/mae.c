#include "transfer/mae.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "ops/parallel.h"
#include "objectives/objective.h"
#include "transfer/picture_objective.h"

/* --- model -------------------------------------------------------------------------------------
 */

static tl_status check(const tl_config *c, tl_err *err) {
  int64_t dim = c->objective.decoder_dim, heads = c->objective.decoder_heads;
  if (dim % 4 == 0 && dim % (2 * heads) == 0 && dim / heads <= 256) return TL_OK;
  return tl_fail(err, TL_CONFIG,
                 "objective.decoder_dim %lld: must be a multiple of 4 and of 2 * "
                 "objective.decoder_heads (%lld), with at most 256 for each head",
                 (long long)dim, (long long)heads);
}

static void set_heads(tl_self_attention *a, const tl_model_config *c) {
  a->n_heads = a->n_kv = (int)c->heads;
  a->hd = (int)(c->dim / c->heads);
  a->norm_eps = (float)c->norm_eps;
  a->max_len = (int)c->max_len;
}

static void declare(tl_declare *d, const tl_model *m, const tl_config *cfg,
                    tl_picture_parts *parts) {
  tl_mae_decoder *x = &parts->decoder;
  tl_model_config *c = &x->c;
  int64_t cols = m->c.channels * m->c.patch * m->c.patch;
  float std = (float)m->c.init_std;
  *c = m->c;
  c->dim = cfg->objective.decoder_dim;
  c->layers = cfg->objective.decoder_layers;
  c->heads = cfg->objective.decoder_heads;
  c->ff = 4 * c->dim;
  tl_declare_prefix(d, "decoder.");
  x->embed_w = tl_declare_matrix(d, "decoder_embed.weight", c->dim, m->c.dim, std, true);
  x->embed_b = tl_declare_vector(d, "decoder_embed.bias", c->dim, 0);
  x->mask_token = tl_vit_declare_token(d, "mask_token", c->dim, std);
  x->pos = tl_vit_declare_positions(d, "decoder_pos_embed", c->max_len, c->dim, std, true);
  x->block = tl_arena_alloc(&d->ps->arena, (size_t)c->layers * sizeof *x->block);
  if (!x->block) {
    if (d->err.code == TL_OK) tl_fail(&d->err, TL_NOMEM, "decoder: out of memory");
    return;
  }
  for (int i = 0; i < c->layers; i++) {
    set_heads(&x->block[i].attn, c);
    tl_declare_prefix(d, "decoder.decoder_layers.%d.", i);
    tl_vit_declare_block(d, c, m->act, &x->block[i]);
  }
  tl_declare_prefix(d, "decoder.");
  x->norm = tl_declare_norm(d, "decoder_norm", TL_NORM_LAYER, c->dim, true, (float)c->norm_eps);
  x->pred_w = tl_declare_matrix(d, "decoder_pred.weight", cols, c->dim, std, false);
  x->pred_b = tl_declare_vector(d, "decoder_pred.bias", cols, 0);
}

static void set_values(const tl_model *m, const tl_picture_parts *parts) {
  tl_vit_set_sines(parts->decoder.pos, m->c.image_size / m->c.patch);
}

static json_t *describe(const tl_config *c, const tl_picture_parts *parts) {
  const tl_model_config *d = &parts->decoder.c;
  return json_pack("{s:s, s:[s], s:I, s:I, s:I, s:I, s:f, s:b}", "model_type", "vit_mae",
                   "architectures", "ViTMAEForPreTraining", "decoder_hidden_size", d->dim,
                   "decoder_num_hidden_layers", d->layers, "decoder_num_attention_heads", d->heads,
                   "decoder_intermediate_size", d->ff, "mask_ratio", tl_objective_mask_rate(c),
                   "norm_pix_loss", c->objective.norm_pixels);
}

/* --- graph -------------------------------------------------------------------------------------
 */

/* As many as transformers' class keeps, but at least one. */
static int64_t visible_of(int64_t patches, double rate) {
  int64_t n = (int64_t)((double)patches * (1 - rate));
  return n < 1 ? 1 : n;
}

static tl_node *ints(tl_graph *g, const char *name, int64_t n) {
  return tl_graph_input(g, name, TL_I32, 1, &n, 0);
}

static tl_node *segments(tl_graph *g, const char *name, int64_t n) {
  int64_t shape[] = {n, sizeof(tl_segment) / sizeof(int32_t)};
  return tl_graph_input(g, name, TL_I32, 2, shape, 0);
}

static void inputs(tl_picture_graph *p) {
  const tl_model_config *c = &p->model->c;
  tl_picture_shape shape = tl_picture_shape_of(c);
  tl_mae_graph *x = &p->mae;
  tl_graph *g = p->g;
  *x = (tl_mae_graph){.first = c->max_len - shape.rows,
                      .patches = shape.rows,
                      .visible = visible_of(shape.rows, tl_objective_mask_rate(p->cfg)),
                      .cols = shape.cols,
                      .normalise = p->cfg->objective.norm_pixels};
  int64_t n = p->n, rows = x->first + x->visible, hidden = n * (x->patches - x->visible);
  int64_t pictures[] = {n * x->visible, x->cols}, targets[] = {hidden, x->cols};
  p->values = shape.rows * shape.cols;
  p->targets = hidden * x->cols;
  p->io = (tl_model_io){.pictures = tl_graph_input(g, "pictures", g->opt.dt, 2, pictures, 0),
                        .pos = ints(g, "positions", n * rows),
                        .patch_rows = ints(g, "rows", n * rows),
                        .segments = segments(g, "segments", n)};
  tl_graph_scope(g, "decoder.input");
  x->source = ints(g, "source", n * c->max_len);
  x->pos = ints(g, "positions", n * c->max_len);
  x->segments = segments(g, "segments", n);
  x->hidden = ints(g, "hidden", hidden);
  x->targets = tl_graph_input(g, "targets", TL_F32, 2, targets, 0);
  x->moments = tl_arena_alloc(&g->arena, (size_t)hidden * 2 * sizeof *x->moments);
  x->mask = tl_arena_alloc(&g->arena, (size_t)(n * x->patches));
  if (!x->moments || !x->mask)
    tl_graph_fail(g, TL_NOMEM, "pictures: out of memory for batches of %lld", (long long)n);
}

static tl_node *block(tl_picture_graph *p, tl_node *x, int layer) {
  const tl_block *b = &p->parts->decoder.block[layer];
  tl_model_io io = {.segments = p->mae.segments};
  tl_residual to = {.x = x};
  tl_graph_scope(p->g, "decoder.%d.attn", layer);
  to.x = tl_nn_self_attention(p->g, tl_nn_norm(p->g, x, &b->norm1), &b->attn, &io, layer, &to);
  tl_graph_scope(p->g, "decoder.%d.mlp", layer);
  return tl_nn_mlp(p->g, tl_nn_norm(p->g, to.x, &b->norm2), &b->mlp, &to);
}

static tl_node *loss(tl_picture_graph *p) {
  const tl_mae_decoder *d = &p->parts->decoder;
  tl_mae_graph *x = &p->mae;
  tl_graph *g = p->g;
  tl_node *h = p->model->arch->body(p->model, g, &p->io);
  tl_graph_scope(g, "decoder");
  h = tl_place_rows(g, tl_linear1(g, h, d->embed_w, d->embed_b), d->mask_token, x->source);
  h = tl_add(g, h, tl_embedding(g, d->pos, x->pos));
  for (int i = 0; i < d->c.layers; i++) h = block(p, h, i);
  tl_graph_scope(g, "decoder");
  h = tl_gather_rows(g, tl_nn_norm(g, h, &d->norm), x->hidden);
  x->made = tl_linear1(g, h, d->pred_w, d->pred_b);
  tl_graph_scope(g, "loss");
  return tl_squared_error(g, x->made, x->targets);
}

/* --- batches -----------------------------------------------------------------------------------
 */

/* Every choice of the visible patches is as likely. */
static void draw_mask(uint64_t seed, uint64_t position, int64_t n, int64_t visible, uint8_t *mask) {
  tl_rng r = tl_rng_make(tl_mix64(seed, position), TL_STREAM_MASK, 1, 0);
  for (int64_t i = 0; i < n; i++) {
    mask[i] = (int64_t)tl_rng_below(&r, (uint64_t)(n - i)) >= visible;
    visible -= !mask[i];
  }
}

/* A patch [channels][pixels] as target [pixels][channels], and its moments. */
static void set_target(const tl_mae_graph *x, int64_t channels, const float *patch, float *to,
                       float *moments) {
  int64_t pixels = x->cols / channels;
  double mean = 0, var = 0;
  for (int64_t i = 0; x->normalise && i < x->cols; i++) mean += (double)patch[i];
  mean /= (double)x->cols;
  for (int64_t i = 0; x->normalise && i < x->cols; i++)
    var += ((double)patch[i] - mean) * ((double)patch[i] - mean);
  double spread = x->normalise ? sqrt(var / fmax((double)x->cols - 1, 1) + 1e-6) : 1;
  for (int64_t i = 0; i < pixels; i++)
    for (int64_t k = 0; k < channels; k++)
      to[i * channels + k] = (float)(((double)patch[k * pixels + i] - mean) / spread);
  moments[0] = (float)mean;
  moments[1] = (float)spread;
}

typedef struct fill_job {
  tl_picture_graph *p;
  const float *pictures;
} fill_job;

static void fill_picture(void *arg, int64_t i, int worker) {
  (void)worker;
  const fill_job *j = arg;
  tl_picture_graph *p = j->p;
  const tl_mae_graph *x = &p->mae;
  const uint8_t *mask = x->mask + i * x->patches;
  const float *picture = j->pictures + i * p->values;
  int32_t first = (int32_t)x->first, rows = first + (int32_t)x->visible, at = (int32_t)i * rows;
  int32_t all = first + (int32_t)x->patches, whole = (int32_t)i * all;
  int32_t *pos = p->io.pos->data, *patch = p->io.patch_rows->data, *source = x->source->data;
  int64_t seen = i * x->visible, hidden = i * (x->patches - x->visible);
  ((tl_segment *)p->io.segments->data)[i] = (tl_segment){at, at + rows, at, at + rows, 0};
  ((tl_segment *)x->segments->data)[i] = (tl_segment){whole, whole + all, whole, whole + all, 0};
  for (int32_t r = 0; r < all; r++) ((int32_t *)x->pos->data)[whole + r] = r;
  if (first) {
    pos[at] = 0;
    patch[at] = -1;
    source[whole] = at++;
  }
  for (int32_t k = 0; k < (int32_t)x->patches; k++, picture += x->cols) {
    if (mask[k]) {
      source[whole + first + k] = -1;
      ((int32_t *)x->hidden->data)[hidden] = whole + first + k;
      set_target(x, p->model->c.channels, picture, (float *)x->targets->data + hidden * x->cols,
                 x->moments + 2 * hidden);
      hidden++;
      continue;
    }
    pos[at] = first + k;
    patch[at] = (int32_t)seen;
    source[whole + first + k] = at++;
    p->g->ctx->k->row.convert(TL_F32, picture, p->io.pictures->dt,
                              tl_at(p->io.pictures->dt, p->io.pictures->data, seen++ * x->cols),
                              x->cols);
  }
}

void tl_mae_set(tl_picture_graph *p, const float *pictures) {
  tl_parallel(p->g->ctx->pool, p->n, fill_picture, &(fill_job){p, pictures});
}

static void fill(tl_picture_graph *p, const float *pictures, uint64_t position) {
  const tl_mae_graph *x = &p->mae;
  for (int64_t i = 0; i < p->n; i++)
    draw_mask((uint64_t)p->cfg->run.seed, position + (uint64_t)i, x->patches, x->visible,
              x->mask + i * x->patches);
  tl_mae_set(p, pictures);
}

/* A patch [channels][patch][patch] to its place in a picture. */
static void put_patch(const tl_model_config *c, int64_t k, const float *patch, float *picture) {
  int64_t grid = c->image_size / c->patch, size = c->image_size;
  float *to = picture + k / grid * c->patch * size + k % grid * c->patch;
  for (int64_t ch = 0; ch < c->channels; ch++)
    for (int64_t y = 0; y < c->patch; y++, patch += c->patch)
      memcpy(to + (ch * size + y) * size, patch, (size_t)c->patch * sizeof *patch);
}

tl_status tl_mae_picture(const tl_picture_graph *p, int64_t i, bool made, float *picture,
                         tl_err *err) {
  const tl_mae_graph *x = &p->mae;
  const tl_model_config *c = &p->model->c;
  int64_t pixels = x->cols / c->channels;
  int64_t seen = i * x->visible, hidden = i * (x->patches - x->visible);
  float *patch = malloc((size_t)x->cols * sizeof *patch);
  if (!patch) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  for (int64_t k = 0; k < x->patches; k++) {
    bool is_hidden = x->mask[i * x->patches + k];
    const float *m = x->moments + 2 * hidden;
    for (int64_t v = 0; v < x->cols; v++)
      if (!is_hidden)
        patch[v] = tl_value(p->io.pictures, seen * x->cols + v);
      else
        patch[v % c->channels * pixels + v / c->channels] =
            made ? tl_value(x->made, hidden * x->cols + v) * m[1] + m[0] : 0;
    put_patch(c, k, patch, picture);
    hidden += is_hidden;
    seen += !is_hidden;
  }
  free(patch);
  return TL_OK;
}

const tl_picture_objective tl_picture_objective_mae = {.name = "mae",
                                                       .views = 1,
                                                       .patches = true,
                                                       .keeps = true,
                                                       .check = check,
                                                       .declare = declare,
                                                       .set_values = set_values,
                                                       .describe = describe,
                                                       .inputs = inputs,
                                                       .fill = fill,
                                                       .loss = loss};
