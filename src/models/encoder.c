/* A modern encoder after ModernBERT (Warner et al., 2024): pre-norm, RoPE, GeGLU, no biases but the
 * output's, unpadded packed batches, optionally local attention in most layers. */
#include <string.h>

#include "models/model.h"

static const char full[] = "full_attention", sliding[] = "sliding_attention"; /* layer_types */

static int64_t default_ff(int64_t dim) {
  return (3 * dim / 2 + 63) / 64 * 64; /* ModernBERT-base: 1152 for 768 */
}

static bool is_global(const tl_model_config *c, int layer) {
  return c->window == 0 || layer % c->global_every == 0;
}

static void declare_block(tl_model *m, tl_declare *d, int i) {
  const tl_model_config *c = &m->c;
  tl_block *b = &m->block[i];
  float std = (float)c->init_std, res = tl_residual_std(m), eps = (float)c->norm_eps;
  tl_declare_prefix(d, "model.layers.%d.", i);
  if (i > 0) /* the first block follows the norm of the embeddings */
    b->norm1 = tl_declare_norm(d, "attn_norm", TL_NORM_LAYER, c->dim, false, eps);
  tl_param *w = tl_declare_matrix(d, "attn.Wqkv.weight", 3 * c->dim, c->dim, std, true);
  b->attn.qkv = tl_spec1(w, NULL, false);
  b->attn.n_kv = b->attn.n_heads;
  if (c->qk_norm) {
    b->attn.qk_norm = true;
    b->attn.gain_q = tl_declare_vector(d, "attn.q_norm.weight", b->attn.hd, 1);
    b->attn.gain_k = tl_declare_vector(d, "attn.k_norm.weight", b->attn.hd, 1);
  }
  b->attn.rope = true;
  if (is_global(c, i))
    b->attn.window = 0;
  else
    b->attn.rope_theta = (float)c->rope_theta_local;
  w = tl_declare_matrix(d, "attn.Wo.weight", c->dim, c->dim, res, true);
  b->attn.out = tl_spec1(w, NULL, false);
  b->norm2 = tl_declare_norm(d, "mlp_norm", TL_NORM_LAYER, c->dim, false, eps);
  w = tl_declare_matrix(d, "mlp.Wi.weight", 2 * c->ff, c->dim, std, true);
  b->mlp.in = tl_spec1(w, NULL, false);
  b->mlp.gated = true;
  b->mlp.act = m->act;
  w = tl_declare_matrix(d, "mlp.Wo.weight", c->dim, c->ff, res, true);
  b->mlp.out = tl_spec1(w, NULL, false);
}

static void declare(tl_model *m, tl_declare *d) {
  const tl_model_config *c = &m->c;
  float std = (float)c->init_std, eps = (float)c->norm_eps;
  tl_declare_prefix(d, "model.embeddings.");
  m->tok_embed = tl_declare_matrix(d, "tok_embeddings.weight", c->vocab, c->dim, std, false);
  m->embed_norm = tl_declare_norm(d, "norm", TL_NORM_LAYER, c->dim, false, eps);
  for (int i = 0; i < c->layers; i++) declare_block(m, d, i);
  tl_declare_prefix(d, "%s", "");
  m->final_norm = tl_declare_norm(d, "model.final_norm", TL_NORM_LAYER, c->dim, false, eps);
  m->head_dense = tl_declare_matrix(d, "head.dense.weight", c->dim, c->dim, std, true);
  m->head_norm = tl_declare_norm(d, "head.norm", TL_NORM_LAYER, c->dim, false, eps);
  m->out_b = tl_declare_vector(d, "decoder.bias", c->vocab, 0);
  m->out_w =
      c->tie ? m->tok_embed : tl_declare_matrix(d, "decoder.weight", c->vocab, c->dim, std, false);
}

static tl_node *body(const tl_model *m, tl_graph *g, const tl_model_io *io) {
  tl_graph_scope(g, "embed");
  tl_node *x = tl_nn_norm(g, tl_model_embed(m, g, io->tokens), &m->embed_norm);
  x = tl_prenorm_blocks(m, g, tl_model_dropout(m, g, x), io);
  return tl_nn_norm(g, x, &m->final_norm);
}

static tl_node *head(const tl_model *m, tl_graph *g, tl_node *h) {
  tl_linear_spec spec = tl_spec1(m->head_dense, NULL, false);
  spec.act = m->act;
  return tl_nn_norm(g, tl_linear(g, h, &spec), &m->head_norm);
}

static const tl_hf_key keys[] = {
    TL_HF_I("hidden_size", dim),
    TL_HF_I("num_hidden_layers", layers),
    TL_HF_I("num_attention_heads", heads),
    TL_HF_I("intermediate_size", ff),
    TL_HF_I("max_position_embeddings", max_len),
    TL_HF_R("norm_eps", norm_eps),
    TL_HF_OPT(TL_HF_INT, "global_attn_every_n_layers", global_every),
    TL_HF_I("local_attention", window),
    TL_HF_OPT(TL_HF_REAL, "global_rope_theta", rope_theta),
    TL_HF_OPT(TL_HF_REAL, "local_rope_theta", rope_theta_local),
    TL_HF_OPT(TL_HF_REAL, "rope_parameters.full_attention.rope_theta", rope_theta),
    TL_HF_OPT(TL_HF_REAL, "rope_parameters.sliding_attention.rope_theta", rope_theta_local),
    TL_HF_OPT(TL_HF_REAL, "embedding_dropout", dropout),
    TL_HF_OPT(TL_HF_REAL, "attention_dropout", attention_dropout),
    {0},
};

static void write_constants(const tl_model *m, json_t *o) {
  json_t *rope = json_object_get(o, "rope_parameters");
  json_object_set_new(json_object_get(rope, "full_attention"), "rope_type", json_string("default"));
  json_object_set_new(json_object_get(rope, "sliding_attention"), "rope_type",
                      json_string("default"));
  json_object_set_new(o, "mlp_dropout", json_real(m->c.dropout));
  json_object_set_new(o, "norm_bias", json_false());
  json_object_set_new(o, "attention_bias", json_false());
  json_object_set_new(o, "mlp_bias", json_false());
  json_object_set_new(o, "decoder_bias", json_true());
  json_object_set_new(o, "classifier_bias", json_false()); /* of the head, not of its last layer */
  json_object_set_new(o, "classifier_pooling", json_string(m->c.pool_first ? "cls" : "mean"));
  json_object_set_new(o, "classifier_activation", json_string(tl_act_hf_name(m->act)));
  json_t *types = json_array();
  for (int i = 0; i < m->c.layers; i++)
    json_array_append_new(types, json_string(is_global(&m->c, i) ? full : sliding));
  json_object_set_new(o, "layer_types", types);
}

/* The kinds of the layers one by one, as transformers 5 writes them; they outweigh the number. */
static tl_status read_layers(const json_t *types, const char *path, tl_model_config *c,
                             tl_err *err) {
  int64_t n = (int64_t)json_array_size(types), every = 0;
  if (!json_is_array(types) || n != c->layers)
    return tl_fail(err, TL_DATA, "%s: \"layer_types\" must be a list of %lld words, one a layer",
                   path, (long long)c->layers);
  for (int64_t i = 0; i < n; i++) {
    const char *type = json_string_value(json_array_get(types, (size_t)i));
    bool global = type && !strcmp(type, full);
    if (!type || (!global && strcmp(type, sliding)))
      return tl_fail(err, TL_DATA, "%s: \"layer_types\"[%lld] must be \"%s\" or \"%s\"", path,
                     (long long)i, full, sliding);
    if (global && i > 0 && every == 0) every = i;
    if (global != (i == 0 || (every > 0 && i % every == 0)))
      return tl_fail(err, TL_DATA,
                     "%s: \"layer_types\"[%lld] is \"%s\"; only lists are supported in which "
                     "the first layer and every n-th after it have full attention",
                     path, (long long)i, type);
  }
  if (every > 0)
    c->global_every = every;
  else if (c->global_every < n) /* the first layer alone */
    c->global_every = n;
  return TL_OK;
}

/* The head in front of the output layer has the activation of the blocks here. */
static tl_status check_head(const json_t *o, const char *path, tl_err *err) {
  const char *act = json_string_value(json_object_get(o, "hidden_activation"));
  const char *head = json_string_value(json_object_get(o, "classifier_activation"));
  if (!act) act = "gelu";
  if (!head) head = json_object_get(o, "tilth") ? act : "gelu";
  if (!strcmp(act, head)) return TL_OK;
  return tl_fail(err, TL_DATA,
                 "%s: \"classifier_activation\" is \"%.30s\" (\"gelu\" where it is absent), "
                 "\"hidden_activation\" \"%.30s\"; only the same for both is supported",
                 path, head, act);
}

/* Absent settings are transformers' own: every third layer, the first token for classifiers. */
static tl_status read_rest(const json_t *o, const char *path, tl_model_config *c, tl_err *err) {
  const json_t *types = json_object_get(o, "layer_types"),
               *pool = json_object_get(o, "classifier_pooling");
  const char *word = json_string_value(pool);
  TL_TRY(check_head(o, path, err));
  if (types && !json_is_null(types)) TL_TRY(read_layers(types, path, c, err));
  if (c->global_every == 0) c->global_every = 3;
  /* Null for the local one was the way to say: as the global one. */
  if (c->rope_theta == 0) c->rope_theta = 160000;
  if (c->rope_theta_local == 0 && !json_object_get(o, "local_rope_theta"))
    c->rope_theta_local = 10000;
  if (pool && (!word || (strcmp(word, "cls") && strcmp(word, "mean"))))
    return tl_fail(err, TL_DATA, "%s: \"classifier_pooling\" must be \"cls\" or \"mean\"", path);
  c->pool_first = !word || !strcmp(word, "cls");
  return TL_OK;
}

static const tl_hf_fixed fixed[] = {{"norm_bias", "false"},       {"attention_bias", "false"},
                                    {"mlp_bias", "false"},        {"decoder_bias", "true"},
                                    {"classifier_bias", "false"}, {0}};

const tl_arch tl_arch_encoder = {
    .name = "encoder",
    .hf_type = "modernbert",
    .hf_class = "ModernBertForMaskedLM",
    .body_prefix = "model.",
    .encoder = true,
    .default_act = "gelu",
    .default_eps = 1e-5,
    .default_ff = default_ff,
    .declare = declare,
    .body = body,
    .head = head,
    .keys = keys,
    .act_key = "hidden_activation",
    .write_constants = write_constants,
    .read_rest = read_rest,
    .fixed = fixed,
    .task = {.hf_stem = "ModernBert",
             .pool = TL_POOL_MEAN,
             .head = true,
             .sequence = "classifier",
             .tokens = "classifier",
             .sequence_bias = true},
};
