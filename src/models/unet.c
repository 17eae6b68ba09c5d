/* A network of U-Net's form (Ronneberger et al., 2015), for classes of pixels: levels of two
 * convolutions 3 x 3 with batch norm and ReLU, each level on half the side with twice the columns,
 * and back up by transposed convolutions 2 x 2, where the level of the same side on the way down is
 * added (U-Net sets it beside). The rows of the body are the pixels. model.layers: levels,
 * model.dim: columns of the first. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/model.h"

static int64_t default_ff(int64_t dim) {
  return dim;
}

static tl_status check(tl_model_config *c, tl_err *err) {
  int64_t least = c->layers < 8 ? (int64_t)1 << (c->layers - 1) : 1;
  if (c->layers < 1 || c->layers > 7 || c->image_size < 1 || c->image_size > 1024 ||
      c->image_size % least)
    return tl_fail(err, TL_CONFIG,
                   "unet: model.layers %lld must be 1 to 7, and model.image_size %lld at most 1024 "
                   "and a multiple of 2^(layers - 1)",
                   (long long)c->layers, (long long)c->image_size);
  if (c->channels != 1 && c->channels != 3)
    return tl_fail(err, TL_CONFIG, "pictures have 1 or 3 channels, not %lld",
                   (long long)c->channels);
  c->vocab = 0;
  c->heads = c->kv_heads = 1; /* there is no attention */
  c->max_len = c->image_size * c->image_size;
  return TL_OK;
}

/* --- parameters --------------------------------------------------------------------------------
 */

static void declare_running(tl_declare *d, const char *name, int64_t n, float value) {
  tl_param *p = tl_declare_vector(d, name, n, value);
  if (!p) return;
  p->flags = TL_PARAM_FIXED;
  p->trainable = false;
}

/* Convolution `number` of the level under the prefix, and its norm. */
static void declare_conv(tl_declare *d, int number, int64_t in, int64_t out) {
  char name[64];
  snprintf(name, sizeof name, "conv%d.weight", number);
  tl_param *w =
      tl_declare_matrix(d, name, out, in * 9, (float)sqrt(2.0 / (9.0 * (double)in)), false);
  if (w) {
    w->ndim = 4;
    memcpy(w->shape, (int64_t[]){out, in, 3, 3}, 4 * sizeof *w->shape);
  }
  snprintf(name, sizeof name, "norm%d.weight", number);
  tl_declare_vector(d, name, out, 1);
  snprintf(name, sizeof name, "norm%d.bias", number);
  tl_declare_vector(d, name, out, 0);
  snprintf(name, sizeof name, "norm%d.running_mean", number);
  declare_running(d, name, out, 0);
  snprintf(name, sizeof name, "norm%d.running_var", number);
  declare_running(d, name, out, 1);
}

static void declare(tl_model *m, tl_declare *d) {
  int levels = (int)m->c.layers;
  int64_t in = m->c.channels, width = m->c.dim;
  for (int l = 0; l < levels; l++, in = width, width *= 2) {
    tl_declare_prefix(d, "unet.down.%d.", l);
    declare_conv(d, 1, in, width);
    declare_conv(d, 2, width, width);
  }
  for (int l = levels - 2; l >= 0; l--) {
    width = m->c.dim << l;
    tl_declare_prefix(d, "unet.up.%d.", l);
    tl_declare_matrix(d, "expand.weight", 4 * width, 2 * width,
                      (float)sqrt(1.0 / (2.0 * (double)width)), true);
    tl_declare_vector(d, "expand.bias", 4 * width, 0);
    declare_conv(d, 1, width, width);
    declare_conv(d, 2, width, width);
  }
}

/* --- graph -------------------------------------------------------------------------------------
 */

/* "unet.LEVEL.PART", with the number of a convolution (0: none) "unet.LEVEL.PARTnumber.REST". */
static tl_param *param(const tl_model *m, const char *level, const char *part, int number,
                       const char *rest) {
  char full[128], n[12] = "";
  if (number) snprintf(n, sizeof n, "%d", number);
  snprintf(full, sizeof full, "unet.%s.%s%s.%s", level, part, n, rest);
  return tl_params_find(&m->params, full);
}

static tl_node *conv(const tl_model *m, tl_graph *g, tl_node *x, const char *level, int number,
                     int64_t side) {
  tl_conv_spec c = {.height = side, .width = side, .kernel = 3, .stride = 1, .pad = 1};
  c.w = param(m, level, "conv", number, "weight");
  tl_batch_norm_spec n = {.gain = param(m, level, "norm", number, "weight"),
                          .bias = param(m, level, "norm", number, "bias"),
                          .mean = param(m, level, "norm", number, "running_mean"),
                          .var = param(m, level, "norm", number, "running_var"),
                          .eps = (float)m->c.norm_eps,
                          .momentum = 0.1f,
                          .relu = true};
  return tl_batch_norm(g, tl_conv2d(g, x, &c), &n);
}

static tl_node *level(const tl_model *m, tl_graph *g, tl_node *x, const char *name, int64_t side) {
  tl_graph_scope(g, "%s", name);
  return conv(m, g, conv(m, g, x, name, 1, side), name, 2, side);
}

static tl_node *body(const tl_model *m, tl_graph *g, const tl_model_io *io) {
  enum { MAX_LEVELS = 7 };
  tl_node *skip[MAX_LEVELS], *x = io->pictures;
  int levels = (int)m->c.layers;
  int64_t side = m->c.image_size;
  char name[16];
  for (int l = 0; l < levels; l++) {
    snprintf(name, sizeof name, "down.%d", l);
    skip[l] = x = level(m, g, x, name, side);
    if (l + 1 == levels) break;
    x = tl_max_pool(g, x, &(tl_pool_spec){side, side, 2, 2, 0});
    side /= 2;
  }
  for (int l = levels - 2; l >= 0; l--) {
    snprintf(name, sizeof name, "up.%d", l);
    tl_graph_scope(g, "%s", name);
    x = tl_linear1(g, x, param(m, name, "expand", 0, "weight"),
                   param(m, name, "expand", 0, "bias"));
    x = tl_add(g, skip[l], tl_pixel_shuffle(g, x, side, 2));
    side *= 2;
    x = level(m, g, x, name, side);
  }
  return x;
}

/* --- files ------------------------------------------------------------------------------------ */

static const tl_hf_key keys[] = {
    TL_HF_I("hidden_size", dim),         TL_HF_I("num_hidden_layers", layers),
    TL_HF_I("image_size", image_size),   TL_HF_I("num_channels", channels),
    TL_HF_R("batch_norm_eps", norm_eps), {0},
};

static void write_constants(const tl_model *m, json_t *o) {
  (void)m;
  json_object_del(o, "vocab_size");
}

static tl_status read_rest(const json_t *o, const char *path, tl_model_config *c, tl_err *err) {
  (void)o;
  (void)path;
  return check(c, err);
}

static const tl_hf_fixed fixed[] = {{0}};

const tl_arch tl_arch_unet = {
    .name = "unet",
    .hf_type = "tilth_unet",
    .hf_class = "TilthUNet",
    .body_prefix = "unet.",
    .encoder = true,
    .image = true,
    .layout = TL_LAYOUT_PIXELS,
    .default_act = "relu",
    .default_eps = 1e-5,
    .default_ff = default_ff,
    .check = check,
    .declare = declare,
    .body = body,
    .keys = keys,
    .act_key = "hidden_act",
    .write_constants = write_constants,
    .read_rest = read_rest,
    .fixed = fixed,
    .task = {.hf_stem = "TilthUNet",
             .pool = TL_POOL_MEAN,
             .sequence = "classifier",
             .tokens = "classifier",
             .sequence_bias = true},
};
