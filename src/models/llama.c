/* Llama (Touvron et al., 2023): pre-norm decoder, RMS norm, RoPE, SwiGLU, grouped queries, no
 * biases. With qk_norm the queries and keys are RMS-normalised per head, named as in Qwen3. */
#include "models/model.h"

static int64_t default_ff(int64_t dim) {
  return (8 * dim / 3 + 63) / 64 * 64; /* as many weights as a 4x MLP, rounded to 64 */
}

static void declare_block(tl_model *m, tl_declare *d, int i) {
  const tl_model_config *c = &m->c;
  tl_block *b = &m->block[i];
  float std = (float)c->init_std, res = tl_residual_std(m), eps = (float)c->norm_eps;
  int64_t hd = b->attn.hd, q = c->heads * hd, kv = c->kv_heads * hd;
  tl_declare_prefix(d, "model.layers.%d.", i);
  b->norm1 = tl_declare_norm(d, "input_layernorm", TL_NORM_RMS, c->dim, false, eps);
  b->attn.qkv = (tl_linear_spec){.n = 3};
  b->attn.qkv.w[0] = tl_declare_matrix(d, "self_attn.q_proj.weight", q, c->dim, std, true);
  b->attn.qkv.w[1] = tl_declare_matrix(d, "self_attn.k_proj.weight", kv, c->dim, std, true);
  b->attn.qkv.w[2] = tl_declare_matrix(d, "self_attn.v_proj.weight", kv, c->dim, std, true);
  if (c->qk_norm) {
    b->attn.qk_norm = true;
    b->attn.gain_q = tl_declare_vector(d, "self_attn.q_norm.weight", hd, 1);
    b->attn.gain_k = tl_declare_vector(d, "self_attn.k_norm.weight", hd, 1);
  }
  b->attn.rope = true;
  b->attn.out =
      tl_spec1(tl_declare_matrix(d, "self_attn.o_proj.weight", c->dim, q, res, true), NULL, false);
  b->norm2 = tl_declare_norm(d, "post_attention_layernorm", TL_NORM_RMS, c->dim, false, eps);
  b->mlp.in = (tl_linear_spec){.n = 2};
  b->mlp.in.w[0] = tl_declare_matrix(d, "mlp.gate_proj.weight", c->ff, c->dim, std, true);
  b->mlp.in.w[1] = tl_declare_matrix(d, "mlp.up_proj.weight", c->ff, c->dim, std, true);
  b->mlp.gated = true;
  b->mlp.act = m->act;
  b->mlp.out =
      tl_spec1(tl_declare_matrix(d, "mlp.down_proj.weight", c->dim, c->ff, res, true), NULL, false);
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
  tl_node *x = tl_model_dropout(m, g, tl_embedding(g, m->tok_embed, io->tokens));
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

static void write_constants(const tl_model *m, json_t *o) {
  json_object_set_new(o, "head_dim", json_integer(m->c.dim / m->c.heads));
  json_object_set_new(json_object_get(o, "rope_parameters"), "rope_type", json_string("default"));
  json_object_set_new(o, "attention_bias", json_false());
  json_object_set_new(o, "mlp_bias", json_false());
}

const tl_arch tl_arch_llama = {
    .name = "llama",
    .hf_type = "llama",
    .hf_class = "LlamaForCausalLM",
    .body_prefix = "model.",
    .default_act = "silu",
    .default_eps = 1e-6,
    .default_ff = default_ff,
    .declare = declare,
    .body = body,
    .keys = keys,
    .act_key = "hidden_act",
    .write_constants = write_constants,
    .task = {.hf_stem = "Llama", .pool = TL_POOL_LAST, .sequence = "score", .tokens = "score"},
};
