/* GPT-2 (Radford et al., 2019): pre-norm decoder, learned positions, biases, tied output. */
#include "models/model.h"

static int64_t default_ff(int64_t dim) {
  return 4 * dim;
}

static void declare_block(tl_model *m, tl_declare *d, int i) {
  const tl_model_config *c = &m->c;
  tl_block *b = &m->block[i];
  float std = (float)c->init_std, res = tl_residual_std(m);
  tl_declare_prefix(d, "transformer.h.%d.", i);
  b->norm1 = tl_declare_norm(d, "ln_1", TL_NORM_LAYER, c->dim, true, (float)c->norm_eps);
  tl_param *w = tl_declare_matrix(d, "attn.c_attn.weight", c->dim, 3 * c->dim, std, true);
  b->attn.qkv = tl_spec1(w, tl_declare_vector(d, "attn.c_attn.bias", 3 * c->dim, 0), true);
  w = tl_declare_matrix(d, "attn.c_proj.weight", c->dim, c->dim, res, true);
  b->attn.out = tl_spec1(w, tl_declare_vector(d, "attn.c_proj.bias", c->dim, 0), true);
  b->norm2 = tl_declare_norm(d, "ln_2", TL_NORM_LAYER, c->dim, true, (float)c->norm_eps);
  w = tl_declare_matrix(d, "mlp.c_fc.weight", c->dim, c->ff, std, true);
  b->mlp.in = tl_spec1(w, tl_declare_vector(d, "mlp.c_fc.bias", c->ff, 0), true);
  w = tl_declare_matrix(d, "mlp.c_proj.weight", c->ff, c->dim, res, true);
  b->mlp.out = tl_spec1(w, tl_declare_vector(d, "mlp.c_proj.bias", c->dim, 0), true);
  b->mlp.act = m->act;
  b->attn.n_kv = b->attn.n_heads; /* no grouped queries in this architecture */
}

static void declare(tl_model *m, tl_declare *d) {
  const tl_model_config *c = &m->c;
  float std = (float)c->init_std;
  tl_declare_prefix(d, "transformer.");
  m->tok_embed = tl_declare_matrix(d, "wte.weight", c->vocab, c->dim, std, false);
  m->pos_embed = tl_declare_matrix(d, "wpe.weight", c->max_len, c->dim, std, false);
  for (int i = 0; i < c->layers; i++) declare_block(m, d, i);
  tl_declare_prefix(d, "transformer.");
  m->final_norm = tl_declare_norm(d, "ln_f", TL_NORM_LAYER, c->dim, true, (float)c->norm_eps);
  tl_declare_prefix(d, "%s", "");
  m->out_w =
      c->tie ? m->tok_embed : tl_declare_matrix(d, "lm_head.weight", c->vocab, c->dim, std, false);
}

static tl_node *body(const tl_model *m, tl_graph *g, const tl_model_io *io) {
  tl_graph_scope(g, "embed");
  tl_node *x = tl_add(g, tl_model_embed(m, g, io->tokens), tl_embedding(g, m->pos_embed, io->pos));
  x = tl_prenorm_blocks(m, g, tl_model_dropout(m, g, x), io);
  return tl_nn_norm(g, x, &m->final_norm);
}

static const tl_hf_key keys[] = {
    TL_HF_I("n_embd", dim),
    TL_HF_I("n_layer", layers),
    TL_HF_I("n_head", heads),
    TL_HF_OPT(TL_HF_INT, "n_inner", ff),
    TL_HF_I("n_positions", max_len),
    TL_HF_R("layer_norm_epsilon", norm_eps),
    TL_HF_OPT(TL_HF_REAL, "resid_pdrop", dropout),
    TL_HF_OPT(TL_HF_REAL, "attn_pdrop", attention_dropout),
    {0},
};

static void write_constants(const tl_model *m, json_t *o) {
  json_object_set_new(o, "embd_pdrop", json_real(m->c.dropout));
  json_object_set_new(o, "n_ctx", json_integer(m->c.max_len));
}

static const tl_hf_fixed fixed[] = {{"scale_attn_weights", "true"},
                                    {"scale_attn_by_inverse_layer_idx", "false"},
                                    {"add_cross_attention", "false"},
                                    {0}};

const tl_arch tl_arch_gpt2 = {
    .name = "gpt2",
    .hf_type = "gpt2",
    .hf_class = "GPT2LMHeadModel",
    .body_prefix = "transformer.",
    .default_act = "gelu_tanh",
    .default_eps = 1e-5,
    .default_ff = default_ff,
    .declare = declare,
    .body = body,
    .keys = keys,
    .act_key = "activation_function",
    .write_constants = write_constants,
    .fixed = fixed,
    .task = {.hf_stem = "GPT2", .pool = TL_POOL_LAST, .sequence = "score", .tokens = "classifier"},
};
