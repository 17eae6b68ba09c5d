/* ResNet (He et al., 2016) as Hugging Face's class has it: a stem, then stages of residual layers
 * of two convolutions (basic) or three (bottleneck, whose stride is that of its second); every
 * stage but the first halves the sides of its maps. Pixels of the last maps are the rows.
 *
 * Pictures of few pixels want a stem of one 3 x 3 convolution instead of 7 x 7 with stride 2 and
 * pooling: config.json says so by a key of ours (tilth_stem), and by another model_type, since
 * Hugging Face's class would compute something else with the same shapes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/model.h"

enum { REDUCTION = 4, MAX_CONVS = 3 };

typedef struct residual {
  int n; /* convolutions */
  tl_conv_norm conv[MAX_CONVS];
  bool projects; /* the way around them */
  tl_conv_norm shortcut;
} residual;

struct tl_resnet {
  tl_conv_norm stem;
  residual *layer; /* of all stages in order */
};

static int64_t default_ff(int64_t dim) {
  return dim;
}

static int64_t stem_width(const tl_model_config *c) {
  if (c->stem_width) return c->stem_width;
  return c->bottleneck ? c->widths[0] / REDUCTION : c->widths[0];
}

static int64_t halved(int64_t side) {
  return (side + 1) / 2;
}

/* Pixels a side behind the stem. */
static int64_t stem_side(const tl_model_config *c) {
  return c->small_stem ? c->image_size : halved(halved(c->image_size));
}

static int64_t stride_of(const tl_model_config *c, int64_t stage, int64_t layer) {
  return layer == 0 && (stage > 0 || c->halve_first) ? 2 : 1;
}

static int64_t last_side(const tl_model_config *c) {
  int64_t side = stem_side(c);
  for (int64_t s = 0; s < c->stages; s++)
    if (stride_of(c, s, 0) == 2) side = halved(side);
  return side;
}

static tl_status check_stages(const tl_model_config *c, tl_err *err) {
  int64_t layers = 0;
  if (c->stages < 1 || c->stages > TL_MAX_STAGES)
    return tl_fail(err, TL_CONFIG, "resnet: %lld stages; expected 1 to %d", (long long)c->stages,
                   TL_MAX_STAGES);
  for (int64_t s = 0; s < c->stages; s++) {
    layers += c->depths[s];
    if (c->depths[s] < 1 || c->depths[s] > 1024 || c->widths[s] < 1 || c->widths[s] > 65536 ||
        (c->bottleneck && c->widths[s] % REDUCTION))
      return tl_fail(err, TL_CONFIG,
                     "resnet: stage %lld has %lld layers of %lld channels; expected 1 to 1024 "
                     "layers, 1 to 65536 channels, multiples of %d in bottlenecks",
                     (long long)s + 1, (long long)c->depths[s], (long long)c->widths[s], REDUCTION);
  }
  if (layers > 1024 || c->stem_width < 0 || c->stem_width > 65536)
    return tl_fail(err, TL_CONFIG,
                   "resnet: %lld layers, stem of %lld channels; at most 1024, 65536",
                   (long long)layers, (long long)c->stem_width);
  return TL_OK;
}

/* Weights of the convolutions of a layer without its shortcut. */
static double layer_weights(const tl_model_config *c, int64_t in, int64_t out) {
  double i = (double)in, o = (double)out, r = o / REDUCTION;
  return c->bottleneck ? i * r + 9 * r * r + r * o : 9 * (i + o) * o;
}

/* What every model must have stands for the convolutions: ff so that a file holds
 * 2 layers dim (2 + ff) weights. */
static tl_status check(tl_model_config *c, tl_err *err) {
  if (c->image_size < 1 || c->image_size > 1024)
    return tl_fail(err, TL_CONFIG, "model.image_size %lld must be at most 1024",
                   (long long)c->image_size);
  if (c->channels != 1 && c->channels != 3)
    return tl_fail(err, TL_CONFIG, "pictures have 1 or 3 channels, not %lld",
                   (long long)c->channels);
  TL_TRY(check_stages(c, err));
  double weights = 0;
  int64_t in = stem_width(c);
  c->layers = 0;
  for (int64_t s = 0; s < c->stages; s++)
    for (int64_t l = 0; l < c->depths[s]; l++, c->layers++, in = c->widths[s])
      weights += layer_weights(c, in, c->widths[s]);
  c->dim = in;
  c->vocab = 0;
  c->heads = c->kv_heads = 1;
  c->head_dim = 2;
  c->ff = (int64_t)fmin(fmax(weights / (double)(2 * c->layers * c->dim) - 2, 0), 1 << 20);
  c->max_len = last_side(c) * last_side(c);
  return TL_OK;
}

static tl_conv_spec conv_of(int64_t kernel, int64_t stride) {
  return (tl_conv_spec){.kernel = kernel, .stride = stride, .pad = kernel / 2};
}

static void declare_layer(const tl_model *m, tl_declare *d, residual *r, int64_t in, int64_t out,
                          int64_t stride) {
  const tl_model_config *c = &m->c;
  char name[24];
  int64_t inner = c->bottleneck ? out / REDUCTION : out;
  r->n = c->bottleneck ? 3 : 2;
  r->projects = in != out || stride != 1;
  r->shortcut.conv = conv_of(1, stride);
  if (r->projects) tl_declare_conv_norm(d, "shortcut", in, out, (float)c->norm_eps, &r->shortcut);
  int at = c->bottleneck && !c->halve_in_bottleneck; /* the convolution with the stride */
  for (int i = 0; i < r->n; i++) {
    bool last = i == r->n - 1;
    r->conv[i].conv = conv_of(c->bottleneck && i != 1 ? 1 : 3, i == at ? stride : 1);
    snprintf(name, sizeof name, "layer.%d", i);
    tl_declare_conv_norm(d, name, i ? inner : in, last ? out : inner, (float)c->norm_eps,
                         &r->conv[i]);
  }
}

static void declare(tl_model *m, tl_declare *d) {
  const tl_model_config *c = &m->c;
  struct tl_resnet *net = m->resnet = tl_arena_alloc(&m->arena, sizeof *net);
  if (net) net->layer = tl_arena_alloc(&m->arena, (size_t)c->layers * sizeof *net->layer);
  if (!net || !net->layer) {
    tl_fail(&d->err, TL_NOMEM, "resnet: out of memory");
    return;
  }
  int64_t in = stem_width(c);
  residual *r = net->layer;
  net->stem.conv = c->small_stem ? conv_of(3, 1) : conv_of(7, 2);
  tl_declare_prefix(d, "resnet.embedder.");
  tl_declare_conv_norm(d, "embedder", c->channels, in, (float)c->norm_eps, &net->stem);
  for (int s = 0; s < c->stages; s++)
    for (int l = 0; l < c->depths[s]; l++, r++, in = c->widths[s]) {
      tl_declare_prefix(d, "resnet.encoder.stages.%d.layers.%d.", s, l);
      declare_layer(m, d, r, in, c->widths[s], stride_of(c, s, l));
    }
}

static tl_node *build_layer(const tl_model *m, tl_graph *g, tl_node *x, const residual *r,
                            int64_t side) {
  tl_node *around = r->projects ? tl_nn_conv_norm(g, x, &r->shortcut, side, TL_ACT_NONE, NULL) : x;
  for (int i = 0; i < r->n; i++) {
    x = tl_nn_conv_norm(g, x, &r->conv[i], side, m->act, i == r->n - 1 ? around : NULL);
    if (r->conv[i].conv.stride == 2) side = halved(side);
  }
  return x;
}

static tl_node *body(const tl_model *m, tl_graph *g, const tl_model_io *io) {
  const tl_model_config *c = &m->c;
  const residual *r = m->resnet->layer;
  int64_t side = stem_side(c);
  tl_graph_scope(g, "stem");
  tl_node *x = tl_nn_conv_norm(g, io->pictures, &m->resnet->stem, c->image_size, m->act, NULL);
  if (!c->small_stem)
    x = tl_max_pool(g, x, &(tl_pool_spec){halved(c->image_size), halved(c->image_size), 3, 2, 1});
  for (int s = 0; s < c->stages; s++)
    for (int l = 0; l < c->depths[s]; l++, r++) {
      tl_graph_scope(g, "stage.%d.layer.%d", s, l);
      x = build_layer(m, g, x, r, side);
      if (stride_of(c, s, l) == 2) side = halved(side);
    }
  return x;
}

/* --- files ------------------------------------------------------------------------------------ */

static const tl_hf_key keys[] = {
    TL_HF_I("num_channels", channels),
    TL_HF_I("embedding_size", stem_width),
    TL_HF_OPT(TL_HF_INT, "image_size", image_size),
    {0},
};

static json_t *list(const int64_t *v, int64_t n) {
  json_t *a = json_array();
  for (int64_t i = 0; i < n; i++) json_array_append_new(a, json_integer(v[i]));
  return a;
}

static void write_constants(const tl_model *m, json_t *o) {
  const tl_model_config *c = &m->c;
  json_object_del(o, "vocab_size");
  json_object_set_new(o, "embedding_size", json_integer(stem_width(c)));
  json_object_set_new(o, "hidden_sizes", list(c->widths, c->stages));
  json_object_set_new(o, "depths", list(c->depths, c->stages));
  json_object_set_new(o, "layer_type", json_string(c->bottleneck ? "bottleneck" : "basic"));
  json_object_set_new(o, "downsample_in_first_stage", json_boolean(c->halve_first));
  json_object_set_new(o, "downsample_in_bottleneck", json_boolean(c->halve_in_bottleneck));
  if (!c->small_stem) return;
  json_object_set_new(o, "tilth_stem", json_string("small"));
  json_object_set_new(o, "model_type", json_string("tilth_resnet"));
}

static tl_status read_list(const json_t *o, const char *key, const char *path, int64_t *v,
                           int64_t *n, tl_err *err) {
  const json_t *a = json_object_get(o, key);
  size_t count = json_array_size(a);
  if (count < 1 || count > TL_MAX_STAGES || (*n && (size_t)*n != count))
    return tl_fail(err, TL_DATA,
                   "%s: \"%s\" must be a list with a number for each stage, at most %d", path, key,
                   TL_MAX_STAGES);
  *n = (int64_t)count;
  for (size_t i = 0; i < count; i++) v[i] = json_integer_value(json_array_get(a, i));
  return TL_OK;
}

static bool is_word(const json_t *o, const char *key, const char *word) {
  const char *have = json_string_value(json_object_get(o, key));
  return have && !strcmp(have, word);
}

static tl_status read_rest(const json_t *o, const char *path, tl_model_config *c, tl_err *err) {
  TL_TRY(read_list(o, "depths", path, c->depths, &c->stages, err));
  TL_TRY(read_list(o, "hidden_sizes", path, c->widths, &c->stages, err));
  c->bottleneck = !is_word(o, "layer_type", "basic"); /* Hugging Face's default */
  c->halve_first = json_is_true(json_object_get(o, "downsample_in_first_stage"));
  c->halve_in_bottleneck = json_is_true(json_object_get(o, "downsample_in_bottleneck"));
  c->small_stem = is_word(o, "tilth_stem", "small");
  if (!c->image_size) c->image_size = 224;
  return check(c, err);
}

static tl_status read_text(const char *key, const char *text, int64_t *v, int64_t *n, tl_err *err) {
  const char *at = text;
  for (*n = 0; *n < TL_MAX_STAGES; at++) {
    char *end = NULL;
    v[(*n)++] = strtoll(at, &end, 10);
    if (end == at || (*end && *end != ',')) break;
    if (!*end) return TL_OK;
    at = end;
  }
  return tl_fail(err, TL_CONFIG, "model.%s \"%s\" must be at most %d numbers with commas between",
                 key, text, TL_MAX_STAGES);
}

static tl_status configure(const tl_config *cfg, tl_model_config *c, tl_err *err) {
  int64_t n = 0;
  TL_TRY(read_text("depths", cfg->model.depths, c->depths, &c->stages, err));
  TL_TRY(read_text("widths", cfg->model.widths, c->widths, &n, err));
  if (n != c->stages)
    return tl_fail(err, TL_CONFIG, "model.widths has %lld numbers, model.depths %lld", (long long)n,
                   (long long)c->stages);
  c->bottleneck = !strcmp(cfg->model.block, "bottleneck");
  c->small_stem = !strcmp(cfg->model.stem, "small");
  c->stem_width = cfg->model.stem_width;
  c->halve_first = cfg->model.halve_first;
  return TL_OK;
}

const tl_arch tl_arch_resnet = {
    .name = "resnet",
    .hf_type = "resnet",
    .hf_class = "ResNetModel",
    .hf_type_qk = "tilth_resnet",
    .hf_class_qk = "ResNetModel",
    .body_prefix = "resnet.",
    .encoder = true,
    .image = true,
    .layout = TL_LAYOUT_PIXELS,
    .default_act = "relu",
    .default_eps = 1e-5,
    .default_ff = default_ff,
    .configure = configure,
    .check = check,
    .declare = declare,
    .body = body,
    .keys = keys,
    .act_key = "hidden_act",
    .write_constants = write_constants,
    .read_rest = read_rest,
    .task = {.hf_stem = "ResNet",
             .pool = TL_POOL_MEAN,
             .sequence = "classifier.1",
             .tokens = "classifier.1",
             .sequence_bias = true},
};
