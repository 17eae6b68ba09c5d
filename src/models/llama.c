/* Llama (Touvron et al., 2023): pre-norm decoder, RMS norm, RoPE, SwiGLU, grouped queries, no
 * biases. With qk_norm the queries and keys are RMS-normalised per head, named as in Qwen3. */
#include "models/model.h"

#include <string.h>

static int64_t default_ff(int64_t dim) {
  return (8 * dim / 3 + 63) / 64 * 64; /* as many weights as a 4x MLP, rounded to 64 */
}

static tl_param *bias(tl_declare *d, bool wanted, const char *name, int64_t n) {
  return wanted ? tl_declare_vector(d, name, n, 0) : NULL;
}

static void declare_attention(tl_model *m, tl_declare *d, tl_block *b) {
  const tl_model_config *c = &m->c;
  float std = (float)c->init_std;
  int64_t hd = b->attn.hd, q = c->heads * hd, kv = c->kv_heads * hd;
  static const char *const names[3][2] = {{"self_attn.q_proj.weight", "self_attn.q_proj.bias"},
                                          {"self_attn.k_proj.weight", "self_attn.k_proj.bias"},
                                          {"self_attn.v_proj.weight", "self_attn.v_proj.bias"}};
  b->attn.qkv = (tl_linear_spec){.n = 3};
  for (int i = 0; i < 3; i++) {
    int64_t n = i ? kv : q;
    b->attn.qkv.w[i] = tl_declare_matrix(d, names[i][0], n, c->dim, std, true);
    b->attn.qkv.b[i] = bias(d, c->attn_bias, names[i][1], n);
  }
  if (c->qk_norm) {
    b->attn.qk_norm = true;
    b->attn.gain_q = tl_declare_vector(d, "self_attn.q_norm.weight", hd, 1);
    b->attn.gain_k = tl_declare_vector(d, "self_attn.k_norm.weight", hd, 1);
  }
  b->attn.rope = true;
  tl_param *w =
      tl_declare_matrix(d, "self_attn.o_proj.weight", c->dim, q, tl_residual_std(m), true);
  b->attn.out = tl_spec1(w, bias(d, c->attn_bias, "self_attn.o_proj.bias", c->dim), false);
}

static void declare_block(tl_model *m, tl_declare *d, int i) {
  const tl_model_config *c = &m->c;
  tl_block *b = &m->block[i];
  float std = (float)c->init_std, res = tl_residual_std(m), eps = (float)c->norm_eps;
  tl_declare_prefix(d, "model.layers.%d.", i);
  b->norm1 = tl_declare_norm(d, "input_layernorm", TL_NORM_RMS, c->dim, false, eps);
  declare_attention(m, d, b);
  b->norm2 = tl_declare_norm(d, "post_attention_layernorm", TL_NORM_RMS, c->dim, false, eps);
  b->mlp.in = (tl_linear_spec){.n = 2};
  b->mlp.in.w[0] = tl_declare_matrix(d, "mlp.gate_proj.weight", c->ff, c->dim, std, true);
  b->mlp.in.w[1] = tl_declare_matrix(d, "mlp.up_proj.weight", c->ff, c->dim, std, true);
  b->mlp.in.b[0] = bias(d, c->mlp_bias, "mlp.gate_proj.bias", c->ff);
  b->mlp.in.b[1] = bias(d, c->mlp_bias, "mlp.up_proj.bias", c->ff);
  b->mlp.gated = true;
  b->mlp.act = m->act;
  tl_param *w = tl_declare_matrix(d, "mlp.down_proj.weight", c->dim, c->ff, res, true);
  b->mlp.out = tl_spec1(w, bias(d, c->mlp_bias, "mlp.down_proj.bias", c->dim), false);
}

static void declare(tl_model *m, tl_declare *d) {
  const tl_model_config *c = &m->c;
  float std = (float)c->init_std;
  tl_declare_prefix(d, "%s", "");
  m->tok_embed = tl_declare_matrix(d, "model.embed_tokens.weight", c->vocab, c->dim, std, false);
  for (int i = 0; i < c->layers; i++) declare_block(m, d, i);
  tl_declare_prefix(d, "%s", "");
  m->final_norm = tl_declare_norm(d, "model.norm", TL_NORM_RMS, c->dim, false, (float)c->norm_eps);
  m->out_w =
      c->tie ? m->tok_embed : tl_declare_matrix(d, "lm_head.weight", c->vocab, c->dim, std, false);
}

static tl_node *body(const tl_model *m, tl_graph *g, const tl_model_io *io) {
  tl_graph_scope(g, "embed");
  tl_node *x = tl_model_dropout(m, g, tl_model_embed(m, g, io->tokens));
  x = tl_prenorm_blocks(m, g, x, io);
  return tl_nn_norm(g, x, &m->final_norm);
}

static const tl_hf_key keys[] = {
    TL_HF_I("hidden_size", dim),
    TL_HF_I("num_hidden_layers", layers),
    TL_HF_I("num_attention_heads", heads),
    TL_HF_OPT(TL_HF_INT, "num_key_value_heads", kv_heads),
    TL_HF_I("intermediate_size", ff),
    TL_HF_I("max_position_embeddings", max_len),
    TL_HF_R("rms_norm_eps", norm_eps),
    TL_HF_OPT(TL_HF_REAL, "rope_theta", rope_theta),
    TL_HF_OPT(TL_HF_REAL, "rope_parameters.rope_theta", rope_theta),
    TL_HF_OPT(TL_HF_REAL, "attention_dropout", attention_dropout),
    {0},
};

/* Both forms: "rope_scaling" up to transformers 4, "rope_parameters" from 5 on. */
static void write_scaling(const tl_model_config *c, json_t *o) {
  const char *type = c->rope_factor == 0 ? "default" : c->rope_original == 0 ? "linear" : "llama3";
  json_t *rope = json_object_get(o, "rope_parameters");
  json_object_set_new(rope, "rope_type", json_string(type));
  json_object_set_new(o, "rope_scaling", json_null());
  if (c->rope_factor == 0) return;
  json_object_set_new(rope, "factor", json_real(c->rope_factor));
  if (c->rope_original > 0) {
    json_object_set_new(rope, "low_freq_factor", json_real(c->rope_low));
    json_object_set_new(rope, "high_freq_factor", json_real(c->rope_high));
    json_object_set_new(rope, "original_max_position_embeddings",
                        json_integer((json_int_t)c->rope_original));
  }
  json_t *old = json_copy(rope);
  json_object_del(old, "rope_theta");
  json_object_set_new(o, "rope_scaling", old);
}

static void write_constants(const tl_model *m, json_t *o) {
  json_object_set_new(o, "head_dim", json_integer(m->c.dim / m->c.heads));
  json_object_set_new(o, "attention_bias", json_boolean(m->c.attn_bias));
  json_object_set_new(o, "mlp_bias", json_boolean(m->c.mlp_bias));
  write_scaling(&m->c, o);
}

static tl_status scaling_number(const json_t *rope, const char *key, double least, const char *path,
                                double *out, tl_err *err) {
  const json_t *v = json_object_get(rope, key);
  *out = json_number_value(v);
  if (!json_is_number(v) || !(*out >= least && *out <= 1e9))
    return tl_fail(err, TL_DATA, "%s: the scaling of positions needs \"%s\", a number from %g up",
                   path, key, least);
  return TL_OK;
}

static tl_status read_scaling(const json_t *o, const char *path, tl_model_config *c, tl_err *err) {
  const json_t *rope = json_object_get(o, "rope_parameters");
  if (!json_is_object(rope)) rope = json_object_get(o, "rope_scaling");
  const json_t *named = json_object_get(rope, "rope_type");
  const char *type = json_string_value(named ? named : json_object_get(rope, "type"));
  if (!type || !strcmp(type, "default")) return TL_OK;
  bool llama3 = !strcmp(type, "llama3");
  if (!llama3 && strcmp(type, "linear"))
    return tl_fail(err, TL_DATA,
                   "%s: positions are scaled by \"%s\"; supported are default, linear and llama3",
                   path, type);
  TL_TRY(scaling_number(rope, "factor", 1, path, &c->rope_factor, err));
  if (!llama3) return TL_OK;
  TL_TRY(scaling_number(rope, "low_freq_factor", 1e-3, path, &c->rope_low, err));
  TL_TRY(scaling_number(rope, "high_freq_factor", 1e-3, path, &c->rope_high, err));
  TL_TRY(scaling_number(rope, "original_max_position_embeddings", 1, path, &c->rope_original, err));
  if (c->rope_high > c->rope_low) return TL_OK;
  return tl_fail(err, TL_DATA, "%s: high_freq_factor must be above low_freq_factor", path);
}

static tl_status read_rest(const json_t *o, const char *path, tl_model_config *c, tl_err *err) {
  const json_t *hd = json_object_get(o, "head_dim");
  c->attn_bias = json_is_true(json_object_get(o, "attention_bias"));
  c->mlp_bias = json_is_true(json_object_get(o, "mlp_bias"));
  if (!strcmp(json_string_value(json_object_get(o, "model_type")), "qwen3")) c->qk_norm = true;
  if (json_is_integer(hd) && json_integer_value(hd) * c->heads != c->dim)
    return tl_fail(err, TL_DATA,
                   "%s: heads of %lld columns are not supported where %lld heads share %lld "
                   "columns; expected %lld",
                   path, (long long)json_integer_value(hd), (long long)c->heads, (long long)c->dim,
                   (long long)(c->heads > 0 ? c->dim / c->heads : 0));
  return read_scaling(o, path, c, err);
}

static const tl_hf_fixed fixed[] = {{"use_sliding_window", "false"}, {0}};

const tl_arch tl_arch_llama = {
    .name = "llama",
    .hf_type = "llama",
    .hf_class = "LlamaForCausalLM",
    .hf_type_qk = "qwen3",
    .hf_class_qk = "Qwen3ForCausalLM",
    .body_prefix = "model.",
    .default_act = "silu",
    .default_eps = 1e-6,
    .default_ff = default_ff,
    .declare = declare,
    .body = body,
    .keys = keys,
    .act_key = "hidden_act",
    .write_constants = write_constants,
    .read_rest = read_rest,
    .fixed = fixed,
    .task = {.hf_stem = "Llama", .pool = TL_POOL_LAST, .sequence = "score", .tokens = "score"},
};
