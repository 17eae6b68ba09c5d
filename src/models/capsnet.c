/* CapsNet (Sabour, Frosst and Hinton, 2017): two convolutions of 9 x 9, whose last channels are
 * maps of primary capsules of 8 columns; one capsule of 16 columns for each class, routed by
 * agreement, whose length says how likely the class is; and a decoder that makes the picture again
 * from the capsule of its class. Pictures are values in 0 .. 1, not normalised: the decoder's
 * range. */
#include <math.h>
#include <string.h>

#include "models/model.h"

enum { KERNEL = 9, PRIMARY = 8, CLASS = 16, MAX_SIDE = 256 };

static const int64_t decoder_width[] = {512, 1024};

static int64_t default_ff(int64_t dim) {
  return dim;
}

/* Pixels a side behind the first convolution, and of a map of primary capsules. */
static int64_t first_side(const tl_model_config *c) {
  return tl_conv_side(c->image_size, KERNEL, 1, 0);
}

static int64_t grid_of(const tl_model_config *c) {
  return tl_conv_side(first_side(c), KERNEL, 2, 0);
}

/* The blocks that every model must have stand for the two convolutions: ff so that 2 layers of
 * 2 dim ff weights, which a file must hold, are those of the second one. */
static tl_status check(tl_model_config *c, tl_err *err) {
  if (c->image_size < 2 * KERNEL - 1 || c->image_size > MAX_SIDE)
    return tl_fail(err, TL_CONFIG,
                   "model.image_size %lld: capsules are for pictures of %d to %d pixels a side",
                   (long long)c->image_size, 2 * KERNEL - 1, MAX_SIDE);
  if (c->channels != 1 && c->channels != 3)
    return tl_fail(err, TL_CONFIG, "pictures have 1 or 3 channels, not %lld",
                   (long long)c->channels);
  if (c->capsules < 1 || c->capsules > 1024 || c->routing < 1 || c->routing > 16 ||
      !(c->reconstruction >= 0 && c->reconstruction <= 1))
    return tl_fail(
        err, TL_CONFIG,
        "model.capsules %lld, model.routing %lld, model.reconstruction %g: expected 1 to "
        "1024, 1 to 16, 0 to 1",
        (long long)c->capsules, (long long)c->routing, c->reconstruction);
  c->vocab = 0;
  c->layers = 2;
  c->heads = c->kv_heads = 1;
  c->head_dim = 2;
  c->ff = c->capsules * PRIMARY * KERNEL * KERNEL / 4;
  c->max_len = grid_of(c) * grid_of(c);
  return TL_OK;
}

/* NAME.weight [out, in, 9, 9] with the gain of He et al. (2015) for what follows, and NAME.bias. */
static tl_conv_spec declare_convolution(tl_declare *d, const char *name, int64_t side, int64_t in,
                                        int64_t out, int64_t stride, double gain) {
  char full[64];
  int64_t shape[] = {out, in, KERNEL, KERNEL};
  tl_conv_spec s = {.height = side, .width = side, .kernel = KERNEL, .stride = stride};
  snprintf(full, sizeof full, "%s.weight", name);
  s.w = tl_declare_tensor(d, full, 4, shape, (float)sqrt(gain / (double)(in * KERNEL * KERNEL)));
  snprintf(full, sizeof full, "%s.bias", name);
  s.b = tl_declare_vector(d, full, out, 0);
  return s;
}

static void declare(tl_model *m, tl_declare *d) {
  const tl_model_config *c = &m->c;
  tl_declare_prefix(d, "capsnet.layer.");
  m->capsnet.first = declare_convolution(d, "0", c->image_size, c->channels, c->dim, 1, 2);
  m->patch_w = m->capsnet.first.w; /* what reads the pictures */
  m->patch_b = m->capsnet.first.b;
  m->capsnet.primary =
      declare_convolution(d, "1", first_side(c), c->dim, c->capsules * PRIMARY, 2, 1);
}

/* W of the routing as the paper's program has it, N(0, 0.1); ReLU layers as He et al. (2015). */
static void declare_classes(tl_model *m, tl_declare *d) {
  static const char *const names[] = {"in", "hidden", "out"};
  const tl_model_config *c = &m->c;
  int64_t above = m->task.n_outputs * CLASS, in = above;
  int64_t routing[] = {c->max_len * c->capsules, PRIMARY, m->task.n_outputs, CLASS};
  tl_declare_prefix(d, "%s", "");
  m->task.w = tl_declare_matrix(d, "classifier.weight", routing[0] * PRIMARY, above, 0.1f, false);
  if (m->task.w) {
    m->task.w->file_ndim = 4;
    memcpy(m->task.w->file_shape, routing, sizeof routing);
  }
  for (int i = 0; i < 3 && c->reconstruction > 0; i++) {
    char full[64];
    int64_t pixels = c->channels * c->image_size * c->image_size;
    int64_t out = i < 2 ? decoder_width[i] : pixels;
    snprintf(full, sizeof full, "decoder.%s.weight", names[i]);
    m->capsnet.decoder_w[i] =
        tl_declare_matrix(d, full, out, in, (float)sqrt((i < 2 ? 2.0 : 1.0) / (double)in), false);
    snprintf(full, sizeof full, "decoder.%s.bias", names[i]);
    m->capsnet.decoder_b[i] = tl_declare_vector(d, full, out, 0);
    in = out;
  }
}

/* Primary capsules [n * grid^2, maps * 8]: those of a place one behind the other. */
static tl_node *body(const tl_model *m, tl_graph *g, const tl_model_io *io) {
  tl_graph_scope(g, "layer.0");
  tl_node *x = tl_conv2d(g, io->pictures, &m->capsnet.first);
  x = tl_activation(g, x, TL_ACT_RELU);
  tl_graph_scope(g, "layer.1");
  return tl_squash(g, tl_conv2d(g, x, &m->capsnet.primary), PRIMARY);
}

tl_node *tl_capsnet_decode(const tl_model *m, tl_graph *g, tl_node *x) {
  tl_graph_scope(g, "decoder");
  for (int i = 0; i < 3; i++) {
    tl_linear_spec s = tl_spec1(m->capsnet.decoder_w[i], m->capsnet.decoder_b[i], false);
    s.act = i < 2 ? TL_ACT_RELU : TL_ACT_SIGMOID;
    x = tl_linear(g, x, &s);
  }
  return x;
}

static tl_picture_classes classify(const tl_model *m, tl_graph *g, const tl_model_io *io,
                                   tl_node *h, tl_node *targets) {
  const tl_model_config *c = &m->c;
  tl_routing_spec s = {.w = m->task.w,
                       .n_in = c->max_len * c->capsules,
                       .d_in = PRIMARY,
                       .n_out = m->task.n_outputs,
                       .d_out = CLASS,
                       .iterations = (int)c->routing,
                       .dim = targets->dim};
  tl_graph_scope(g, "routing");
  tl_picture_classes p = {.capsules = tl_routing(g, h, &s)};
  p.scores = tl_capsule_length(g, p.capsules, CLASS);
  if (c->reconstruction > 0)
    p.made = tl_capsnet_decode(m, g, tl_capsule_mask(g, p.capsules, targets));
  tl_graph_scope(g, "loss");
  p.loss = tl_capsule_loss(g, p.scores, targets, p.made, io->pictures, c->reconstruction);
  return p;
}

/* --- files: ours alone, no library has such a class ---------------------------------------------
 */

static const tl_hf_key keys[] = {
    TL_HF_I("conv_channels", dim),
    TL_HF_I("primary_capsule_maps", capsules),
    TL_HF_I("routing_iterations", routing),
    TL_HF_R("reconstruction_weight", reconstruction),
    TL_HF_I("image_size", image_size),
    TL_HF_I("num_channels", channels),
    {0},
};

static const tl_hf_fixed fixed[] = {
    {"kernel_size", "9"}, {"primary_capsule_size", "8"}, {"class_capsule_size", "16"}, {0}};

static void write_constants(const tl_model *m, json_t *o) {
  (void)m;
  json_object_del(o, "vocab_size");
  json_object_del(o, "tie_word_embeddings");
  json_object_set_new(o, "kernel_size", json_integer(KERNEL));
  json_object_set_new(o, "primary_capsule_size", json_integer(PRIMARY));
  json_object_set_new(o, "class_capsule_size", json_integer(CLASS));
}

static tl_status read_rest(const json_t *o, const char *path, tl_model_config *c, tl_err *err) {
  (void)o;
  (void)path;
  return check(c, err);
}

const tl_arch tl_arch_capsnet = {
    .name = "capsnet",
    .hf_type = "tilth_capsnet",
    .hf_class = "TilthCapsNetModel",
    .body_prefix = "capsnet.",
    .encoder = true,
    .image = true,
    .layout = TL_LAYOUT_PIXELS,
    .unit_pixels = true,
    .default_act = "relu",
    .default_eps = 1e-12,
    .default_ff = default_ff,
    .check = check,
    .declare = declare,
    .declare_classes = declare_classes,
    .body = body,
    .classify = classify,
    .keys = keys,
    .act_key = "hidden_act",
    .write_constants = write_constants,
    .read_rest = read_rest,
    .fixed = fixed,
    .task = {.hf_stem = "TilthCapsNet", .pool = TL_POOL_MEAN, .sequence = "classifier"},
};
