/* A network of U-Net's form (Ronneberger et al., 2015), for classes of pixels: levels of two
 * convolutions 3 x 3 with batch norm and ReLU, each level on half the side with twice the columns,
 * and back up by transposed convolutions 2 x 2, where the level of the same side on the way down is
 * added (U-Net sets it beside). The rows of the body are the pixels. model.layers: levels,
 * model.dim: columns of the first. */
#include <math.h>

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

enum { MAX_LEVELS = 7 };

typedef struct unet_level {
  tl_conv_norm conv[2];
} unet_level;

struct tl_unet {
  unet_level down[MAX_LEVELS], up[MAX_LEVELS];
  tl_param *expand_w[MAX_LEVELS], *expand_b[MAX_LEVELS]; /* in front of up */
};

static void declare_level(const tl_model *m, tl_declare *d, int64_t in, int64_t out,
                          unet_level *l) {
  for (int i = 0; i < 2; i++) {
    l->conv[i].conv = (tl_conv_spec){.kernel = 3, .stride = 1, .pad = 1};
    tl_declare_conv_norm(d, i ? "layer.1" : "layer.0", i ? out : in, out, (float)m->c.norm_eps,
                         &l->conv[i]);
  }
}

static void declare(tl_model *m, tl_declare *d) {
  struct tl_unet *net = m->unet = tl_arena_alloc(&m->arena, sizeof *net);
  int levels = (int)m->c.layers;
  int64_t in = m->c.channels, width = m->c.dim;
  if (!net) {
    tl_fail(&d->err, TL_NOMEM, "unet: out of memory");
    return;
  }
  for (int l = 0; l < levels; l++, in = width, width *= 2) {
    tl_declare_prefix(d, "unet.down.%d.", l);
    declare_level(m, d, in, width, &net->down[l]);
  }
  for (int l = levels - 2; l >= 0; l--) {
    width = m->c.dim << l;
    tl_declare_prefix(d, "unet.up.%d.", l);
    net->expand_w[l] = tl_declare_matrix(d, "expand.weight", 4 * width, 2 * width,
                                         (float)sqrt(1.0 / (2.0 * (double)width)), true);
    net->expand_b[l] = tl_declare_vector(d, "expand.bias", 4 * width, 0);
    declare_level(m, d, width, width, &net->up[l]);
  }
}

/* --- graph -------------------------------------------------------------------------------------
 */

static tl_node *convolve(tl_graph *g, tl_node *x, const unet_level *l, int64_t side) {
  for (int i = 0; i < 2; i++) x = tl_nn_conv_norm(g, x, &l->conv[i], side, TL_ACT_RELU, NULL);
  return x;
}

static tl_node *body(const tl_model *m, tl_graph *g, const tl_model_io *io) {
  const struct tl_unet *net = m->unet;
  tl_node *skip[MAX_LEVELS], *x = io->pictures;
  int levels = (int)m->c.layers;
  int64_t side = m->c.image_size;
  for (int l = 0; l < levels; l++) {
    tl_graph_scope(g, "down.%d", l);
    skip[l] = x = convolve(g, x, &net->down[l], side);
    if (l + 1 == levels) break;
    x = tl_max_pool(g, x, &(tl_pool_spec){side, side, 2, 2, 0});
    side /= 2;
  }
  for (int l = levels - 2; l >= 0; l--) {
    tl_graph_scope(g, "up.%d", l);
    x = tl_linear1(g, x, net->expand_w[l], net->expand_b[l]);
    x = tl_add(g, skip[l], tl_pixel_shuffle(g, x, side, 2));
    side *= 2;
    x = convolve(g, x, &net->up[l], side);
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
    .task = {.hf_stem = "TilthUNet",
             .pool = TL_POOL_MEAN,
             .sequence = "classifier",
             .tokens = "classifier",
             .sequence_bias = true},
};
