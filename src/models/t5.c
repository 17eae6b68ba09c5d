/* T5 (Raffel et al., 2020): an encoder-decoder of pre-norm blocks with RMS norms and no biases,
 * where a bias of the scores by relative position, one table per side for all its layers, takes the
 * place of positions, and scores are not scaled. The feed-forward layer is that of T5 1.0 with
 * model.act=relu, else gated as in T5 1.1. Logits of a tied output matrix are scaled by dim^-1/2.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/model.h"

enum { MAX_LEN = 512 }; /* where a file says nothing: the model itself has no limit */

static int64_t default_ff(int64_t dim) {
  return (8 * dim / 3 + 63) / 64 * 64; /* as many weights as a 4x MLP, rounded to 64 */
}

static bool is_gated(const tl_model *m) {
  return m->act != TL_ACT_RELU;
}

/* Mesh TensorFlow's scales: products keep the size of what they read, and q k^T, which nobody
 * divides by sqrt(hd), is small. */
static float std_of(int64_t fan_in) {
  return (float)(1 / sqrt((double)fan_in));
}

static tl_param *matrix(tl_declare *d, const char *part, const char *name, int64_t rows,
                        int64_t cols, float std) {
  char full[64];
  snprintf(full, sizeof full, "%s.%s.weight", part, name);
  return tl_declare_matrix(d, full, rows, cols, std, true);
}

typedef struct projections {
  tl_param *q, *k, *v, *o;
} projections;

static projections declare_projections(tl_declare *d, const tl_self_attention *a, int64_t dim,
                                       const char *part) {
  int64_t inner = (int64_t)a->n_heads * a->hd;
  return (projections){.q = matrix(d, part, "q", inner, dim, std_of(dim * a->hd)),
                       .k = matrix(d, part, "k", inner, dim, std_of(dim)),
                       .v = matrix(d, part, "v", inner, dim, std_of(dim)),
                       .o = matrix(d, part, "o", dim, inner, std_of(inner))};
}

static void declare_self(const tl_model *m, tl_declare *d, tl_block *b, bool decoder, int i) {
  tl_self_attention *a = &b->attn;
  projections p = declare_projections(d, a, m->c.dim, "layer.0.SelfAttention");
  a->qkv = (tl_linear_spec){.n = 3, .w = {p.q, p.k, p.v}};
  a->out = tl_spec1(p.o, NULL, false);
  a->scale = 1;
  a->rel = (tl_relative){.max_distance = (int)m->c.rel_distance, .causal = decoder};
  if (i > 0)
    a->rel.table = b[-1].attn.rel.table;
  else
    a->rel.table = tl_declare_matrix(d, "layer.0.SelfAttention.relative_attention_bias.weight",
                                     m->c.rel_buckets, a->n_heads, std_of(m->c.dim), false);
}

static void declare_cross(const tl_model *m, tl_declare *d, tl_block *b) {
  const tl_self_attention *like = &b->attn;
  projections p = declare_projections(d, like, m->c.dim, "layer.1.EncDecAttention");
  b->cross = (tl_cross_attention){.n_heads = like->n_heads,
                                  .n_kv = like->n_kv,
                                  .hd = like->hd,
                                  .scale = 1,
                                  .dropout = like->dropout,
                                  .q = tl_spec1(p.q, NULL, false),
                                  .kv = {.n = 2, .w = {p.k, p.v}},
                                  .out = tl_spec1(p.o, NULL, false)};
}

static void declare_block(tl_model *m, tl_declare *d, bool decoder, int i) {
  const tl_model_config *c = &m->c;
  tl_block *b = &m->block[decoder ? c->encoder_layers + i : i];
  float eps = (float)c->norm_eps, std = std_of(c->dim);
  char part[40], norm[40];
  tl_declare_prefix(d, "%s.block.%d.", decoder ? "decoder" : "encoder", i);
  declare_self(m, d, b, decoder, i);
  b->norm1 = tl_declare_norm(d, "layer.0.layer_norm", TL_NORM_RMS, c->dim, false, eps);
  if (decoder) {
    declare_cross(m, d, b);
    b->norm_cross = tl_declare_norm(d, "layer.1.layer_norm", TL_NORM_RMS, c->dim, false, eps);
  }
  snprintf(part, sizeof part, "layer.%d.DenseReluDense", decoder ? 2 : 1);
  snprintf(norm, sizeof norm, "layer.%d.layer_norm", decoder ? 2 : 1);
  b->mlp.gated = is_gated(m);
  b->mlp.act = m->act;
  b->mlp.in = (tl_linear_spec){.n = b->mlp.gated ? 2 : 1};
  b->mlp.in.w[0] = matrix(d, part, b->mlp.gated ? "wi_0" : "wi", c->ff, c->dim, std);
  if (b->mlp.gated) b->mlp.in.w[1] = matrix(d, part, "wi_1", c->ff, c->dim, std);
  b->mlp.out = tl_spec1(matrix(d, part, "wo", c->dim, c->ff, std_of(c->ff)), NULL, false);
  b->norm2 = tl_declare_norm(d, norm, TL_NORM_RMS, c->dim, false, eps);
}

static void declare(tl_model *m, tl_declare *d) {
  const tl_model_config *c = &m->c;
  float eps = (float)c->norm_eps;
  if (c->kv_heads != c->heads || c->qk_norm || c->window)
    tl_fail(&d->err, TL_CONFIG, "type t5 has neither grouped queries, nor qk_norm, nor a window");
  tl_declare_prefix(d, "%s", "");
  m->tok_embed = tl_declare_matrix(d, "shared.weight", c->vocab, c->dim, 1, false);
  for (int i = 0; i < c->encoder_layers; i++) declare_block(m, d, false, i);
  for (int i = 0; i < c->layers; i++) declare_block(m, d, true, i);
  tl_declare_prefix(d, "%s", "");
  m->source_norm = tl_declare_norm(d, "encoder.final_layer_norm", TL_NORM_RMS, c->dim, false, eps);
  m->final_norm = tl_declare_norm(d, "decoder.final_layer_norm", TL_NORM_RMS, c->dim, false, eps);
  m->out_w = c->tie
                 ? m->tok_embed
                 : tl_declare_matrix(d, "lm_head.weight", c->vocab, c->dim, std_of(c->dim), false);
}

static tl_node *head(const tl_model *m, tl_graph *g, tl_node *h) {
  return m->c.scale_logits ? tl_scale(g, h, std_of(m->c.dim)) : h;
}

static const tl_hf_key keys[] = {
    TL_HF_I("d_model", dim),
    TL_HF_I("d_kv", head_dim),
    TL_HF_I("d_ff", ff),
    TL_HF_I("num_heads", heads),
    TL_HF_I("num_layers", encoder_layers),
    TL_HF_OPT(TL_HF_INT, "num_decoder_layers", layers),
    TL_HF_OPT(TL_HF_INT, "relative_attention_num_buckets", rel_buckets),
    TL_HF_OPT(TL_HF_INT, "relative_attention_max_distance", rel_distance),
    TL_HF_OPT(TL_HF_INT, "n_positions", max_len),
    TL_HF_R("layer_norm_epsilon", norm_eps),
    TL_HF_OPT(TL_HF_REAL, "dropout_rate", dropout),
    {0},
};

static void write_constants(const tl_model *m, json_t *o) {
  const char *act = tl_act_hf_name(m->act);
  char word[40];
  /* The loader knows "gated-gelu" as the approximation by tanh. */
  snprintf(word, sizeof word, "gated-%s", m->act == TL_ACT_GELU_TANH ? "gelu" : act);
  json_object_set_new(o, "feed_forward_proj", json_string(is_gated(m) ? word : act));
  json_object_set_new(o, "dense_act_fn", json_string(act));
  json_object_set_new(o, "is_gated_act", json_boolean(is_gated(m)));
  json_object_set_new(o, "d_kv", json_integer(m->block[0].attn.hd));
  json_object_set_new(o, "is_encoder_decoder", json_true());
  json_object_set_new(o, "scale_decoder_outputs", json_boolean(m->c.scale_logits));
}

static tl_status read_rest(const json_t *o, const char *path, tl_model_config *c, tl_err *err) {
  const json_t *scale = json_object_get(o, "scale_decoder_outputs");
  if (!scale) scale = json_object_get(o, "tie_word_embeddings"); /* up to transformers 4 */
  c->scale_logits = !json_is_false(scale);
  const json_t *start = json_object_get(o, "decoder_start_token_id");
  c->has_start = json_is_integer(start);
  if (c->has_start) c->start = json_integer_value(start);
  if (c->layers == 0) c->layers = c->encoder_layers;
  if (c->max_len == 0) c->max_len = MAX_LEN;
  const char *ff = json_string_value(json_object_get(o, "feed_forward_proj"));
  if (ff && strcmp(ff, "relu") && (strncmp(ff, "gated-", 6) || !strcmp(ff, "gated-relu")))
    return tl_fail(err, TL_DATA,
                   "%s: \"feed_forward_proj\" is \"%s\"; only \"relu\", \"gated-gelu\" and "
                   "\"gated-silu\" are supported",
                   path, ff);
  return TL_OK;
}

const tl_arch tl_arch_t5 = {
    .name = "t5",
    .hf_type = "t5",
    .hf_class = "T5ForConditionalGeneration",
    .body_prefix = "",
    .seq2seq = true,
    .head_in_file = true,
    .default_act = "gelu_tanh",
    .default_eps = 1e-6,
    .default_ff = default_ff,
    .declare = declare,
    .body = tl_encdec_body,
    .encode = tl_encdec_encode,
    .head = head,
    .keys = keys,
    .act_key = "feed_forward_proj",
    .write_constants = write_constants,
    .read_rest = read_rest,
};
