/* ViT (Dosovitskiy et al., 2021): patches of a square picture through one linear layer, a class
 * token in front (or the mean of the patches at the end), learned or sine positions, pre-norm
 * blocks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/model.h"

static int64_t default_ff(int64_t dim) {
  return 4 * dim;
}

static int64_t grid_of(const tl_model_config *c) {
  return c->image_size / c->patch;
}

static tl_status check(tl_model_config *c, tl_err *err) {
  if (c->image_size < 1 || c->image_size > 4096 || c->patch < 1 || c->patch > c->image_size ||
      c->image_size % c->patch)
    return tl_fail(err, TL_CONFIG,
                   "model.image_size %lld must be a multiple of model.patch %lld, at most 4096",
                   (long long)c->image_size, (long long)c->patch);
  if (c->channels != 1 && c->channels != 3)
    return tl_fail(err, TL_CONFIG, "pictures have 1 or 3 channels, not %lld",
                   (long long)c->channels);
  if (c->sine && c->dim % 4)
    return tl_fail(err, TL_CONFIG, "sine positions need a model.dim that 4 divides, not %lld",
                   (long long)c->dim);
  c->vocab = 0;
  c->max_len = grid_of(c) * grid_of(c) + !c->pool_mean;
  return TL_OK;
}

void tl_vit_declare_block(tl_declare *d, const tl_model_config *c, tl_act act, tl_block *b) {
  static const char *const qkv[3][2] = {
      {"attention.attention.query.weight", "attention.attention.query.bias"},
      {"attention.attention.key.weight", "attention.attention.key.bias"},
      {"attention.attention.value.weight", "attention.attention.value.bias"}};
  float std = (float)c->init_std, eps = (float)c->norm_eps;
  b->norm1 = tl_declare_norm(d, "layernorm_before", TL_NORM_LAYER, c->dim, true, eps);
  b->attn.qkv = (tl_linear_spec){.n = 3};
  for (int k = 0; k < 3; k++) {
    b->attn.qkv.w[k] = tl_declare_matrix(d, qkv[k][0], c->dim, c->dim, std, true);
    b->attn.qkv.b[k] = tl_declare_vector(d, qkv[k][1], c->dim, 0);
  }
  b->attn.n_kv = b->attn.n_heads;
  tl_param *w = tl_declare_matrix(d, "attention.output.dense.weight", c->dim, c->dim, std, true);
  b->attn.out = tl_spec1(w, tl_declare_vector(d, "attention.output.dense.bias", c->dim, 0), false);
  b->norm2 = tl_declare_norm(d, "layernorm_after", TL_NORM_LAYER, c->dim, true, eps);
  w = tl_declare_matrix(d, "intermediate.dense.weight", c->ff, c->dim, std, true);
  b->mlp.in = tl_spec1(w, tl_declare_vector(d, "intermediate.dense.bias", c->ff, 0), false);
  w = tl_declare_matrix(d, "output.dense.weight", c->dim, c->ff, std, true);
  b->mlp.out = tl_spec1(w, tl_declare_vector(d, "output.dense.bias", c->dim, 0), false);
  b->mlp.act = act;
}

/* The shape that the parameter has in files. */
static void file_shape(tl_param *p, int ndim, const int64_t *shape) {
  if (!p) return;
  p->file_ndim = ndim;
  memcpy(p->file_shape, shape, (size_t)ndim * sizeof *shape);
}

tl_param *tl_vit_declare_token(tl_declare *d, const char *name, int64_t dim, float std) {
  tl_param *p = tl_declare_matrix(d, name, 1, dim, std, false);
  file_shape(p, 3, (int64_t[]){1, 1, dim});
  if (p) p->flags = 0; /* like a bias */
  return p;
}

tl_param *tl_vit_declare_positions(tl_declare *d, const char *name, int64_t rows, int64_t dim,
                                   float std, bool sine) {
  tl_param *p = tl_declare_matrix(d, name, rows, dim, std, false);
  file_shape(p, 3, (int64_t[]){1, rows, dim});
  if (!p) return NULL;
  p->flags = sine ? TL_PARAM_FIXED : 0;
  p->trainable = !sine;
  return p;
}

static void declare(tl_model *m, tl_declare *d) {
  const tl_model_config *c = &m->c;
  float std = (float)c->init_std;
  int64_t patch = c->channels * c->patch * c->patch;
  tl_declare_prefix(d, "vit.embeddings.");
  if (!c->pool_mean) m->class_token = tl_vit_declare_token(d, "cls_token", c->dim, std);
  m->pos_embed =
      tl_vit_declare_positions(d, "position_embeddings", c->max_len, c->dim, std, c->sine);
  m->patch_w = tl_declare_matrix(d, "patch_embeddings.projection.weight", c->dim, patch,
                                 (float)(1 / sqrt((double)patch)), false);
  file_shape(m->patch_w, 4, (int64_t[]){c->dim, c->channels, c->patch, c->patch});
  m->patch_b = tl_declare_vector(d, "patch_embeddings.projection.bias", c->dim, 0);
  for (int i = 0; i < c->layers; i++) {
    tl_declare_prefix(d, "vit.encoder.layer.%d.", i);
    tl_vit_declare_block(d, c, m->act, &m->block[i]);
  }
  tl_declare_prefix(d, "vit.");
  m->final_norm = tl_declare_norm(d, "layernorm", TL_NORM_LAYER, c->dim, true, (float)c->norm_eps);
}

void tl_vit_set_sines(tl_param *p, int64_t grid) {
  int64_t d = p->shape[1], first = p->shape[0] - grid * grid, quarter = d / 4;
  float *row = p->data;
  memset(row, 0, (size_t)(first * d) * sizeof *row);
  row += first * d;
  for (int64_t i = 0; i < grid * grid; i++, row += d)
    for (int64_t k = 0; k < quarter; k++) {
      double w = pow(10000, -(double)k / (double)quarter);
      double y = (double)(i / grid) * w, x = (double)(i % grid) * w;
      row[k] = (float)sin(y);
      row[quarter + k] = (float)cos(y);
      row[2 * quarter + k] = (float)sin(x);
      row[3 * quarter + k] = (float)cos(x);
    }
}

static void set_values(tl_model *m) {
  if (m->c.sine) tl_vit_set_sines(m->pos_embed, grid_of(&m->c));
}

static tl_node *body(const tl_model *m, tl_graph *g, const tl_model_io *io) {
  tl_graph_scope(g, "embed");
  tl_node *x = tl_linear1(g, io->pictures, m->patch_w, m->patch_b);
  if (m->class_token) x = tl_place_rows(g, x, m->class_token, io->patch_rows);
  x = tl_add(g, x, tl_embedding(g, m->pos_embed, io->pos));
  x = tl_prenorm_blocks(m, g, tl_model_dropout(m, g, x), io);
  return tl_nn_norm(g, x, &m->final_norm);
}

/* --- positions of a picture of another size --------------------------------------------------- */

/* Cubic convolution with a = -0.75, of the four samples around a place. */
static void cubic_weights(double t, double *w) {
  const double a = -0.75;
  for (int i = 0; i < 4; i++) {
    double x = fabs(t + 1 - i);
    w[i] = x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  }
}

static int64_t clamp(int64_t i, int64_t n) {
  return i < 0 ? 0 : i >= n ? n - 1 : i;
}

void tl_vit_resize_grid(const float *in, int64_t from, float *out, int64_t to, int64_t d) {
  double scale = (double)from / (double)to, wy[4], wx[4];
  for (int64_t y = 0; y < to; y++)
    for (int64_t x = 0; x < to; x++) {
      double sy = ((double)y + 0.5) * scale - 0.5, sx = ((double)x + 0.5) * scale - 0.5;
      int64_t y0 = (int64_t)floor(sy), x0 = (int64_t)floor(sx);
      cubic_weights(sy - (double)y0, wy);
      cubic_weights(sx - (double)x0, wx);
      for (int64_t c = 0; c < d; c++) {
        double sum = 0;
        for (int i = 0; i < 4; i++)
          for (int k = 0; k < 4; k++)
            sum += wy[i] * wx[k] *
                   (double)in[(clamp(y0 - 1 + i, from) * from + clamp(x0 - 1 + k, from)) * d + c];
        out[(y * to + x) * d + c] = (float)sum;
      }
    }
}

/* Learned positions of a square grid of another size, resized; the class token's stays. */
static tl_status fit(const tl_model *m, tl_param *p, const tl_st_tensor *t, bool *done,
                     tl_err *err) {
  int64_t d = m->c.dim, first = m->class_token != NULL;
  *done = p == m->pos_embed && t->ndim == 3 && t->shape[0] == 1 && t->shape[2] == d;
  if (!*done) return TL_OK;
  int64_t rows = t->shape[1] - first, grid = (int64_t)sqrt((double)rows);
  *done = rows > 0 && grid * grid == rows;
  if (!*done || m->c.sine) return TL_OK; /* sines are set, not read */
  float *values = malloc((size_t)((rows + first) * d) * sizeof *values);
  if (!values) return tl_fail(err, TL_NOMEM, "%s: out of memory", p->name);
  tl_status s = tl_st_read_f32(t, values, err);
  if (s == TL_OK && first) memcpy(p->data, values, (size_t)d * sizeof *values);
  if (s == TL_OK)
    tl_vit_resize_grid(values + first * d, grid, p->data + first * d, grid_of(&m->c), d);
  free(values);
  return s;
}

/* --- files ------------------------------------------------------------------------------------ */

static const tl_hf_key keys[] = {
    TL_HF_I("hidden_size", dim),
    TL_HF_I("num_hidden_layers", layers),
    TL_HF_I("num_attention_heads", heads),
    TL_HF_I("intermediate_size", ff),
    TL_HF_I("image_size", image_size),
    TL_HF_I("patch_size", patch),
    TL_HF_I("num_channels", channels),
    TL_HF_R("layer_norm_eps", norm_eps),
    TL_HF_OPT(TL_HF_REAL, "hidden_dropout_prob", dropout),
    TL_HF_OPT(TL_HF_REAL, "attention_probs_dropout_prob", attention_dropout),
    {0},
};

/* Pooling and sines are ours: Hugging Face's class has a class token and reads positions as any
 * weight, so that it opens models with sines, and refuses those without the token by their shapes.
 */
static void write_constants(const tl_model *m, json_t *o) {
  json_object_del(o, "vocab_size");
  json_object_set_new(o, "qkv_bias", json_true());
  json_object_set_new(o, "tilth_pooling", json_string(m->c.pool_mean ? "mean" : "class"));
  json_object_set_new(o, "tilth_positions", json_string(m->c.sine ? "sine" : "learned"));
}

static bool is_word(const json_t *o, const char *key, const char *word) {
  const char *have = json_string_value(json_object_get(o, key));
  return have && !strcmp(have, word);
}

static tl_status read_rest(const json_t *o, const char *path, tl_model_config *c, tl_err *err) {
  (void)path;
  c->pool_mean = is_word(o, "tilth_pooling", "mean");
  c->sine = is_word(o, "tilth_positions", "sine");
  return check(c, err);
}

static const tl_hf_fixed fixed[] = {{"qkv_bias", "true"}, {0}};

const tl_arch tl_arch_vit = {
    .name = "vit",
    .hf_type = "vit",
    .hf_class = "ViTModel",
    .hf_type_pretraining = "vit_mae",
    .body_prefix = "vit.",
    .encoder = true,
    .image = true,
    .default_act = "gelu",
    .default_eps = 1e-12,
    .default_ff = default_ff,
    .check = check,
    .declare = declare,
    .set_values = set_values,
    .fit = fit,
    .body = body,
    .keys = keys,
    .act_key = "hidden_act",
    .write_constants = write_constants,
    .read_rest = read_rest,
    .fixed = fixed,
    .task = {.hf_stem = "ViT",
             .pool = TL_POOL_FIRST,
             .sequence = "classifier",
             .tokens = "classifier",
             .sequence_bias = true},
};
