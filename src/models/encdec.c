/* An encoder-decoder (Vaswani et al., 2017; Raffel et al., 2020) of modern blocks: pre-norm with
 * RMS norms, RoPE, gated MLP, no biases. Source, target and output share one embedding, normalised
 * where it is read; the decoder attends to the encoder's normalised states. */
#include <stdio.h>

#include "models/model.h"

static int64_t default_ff(int64_t dim) {
  return (8 * dim / 3 + 63) / 64 * 64; /* as many weights as a 4x MLP, rounded to 64 */
}

static tl_param *matrix(tl_declare *d, const char *part, const char *name, int64_t rows,
                        int64_t cols, float std) {
  char full[64];
  snprintf(full, sizeof full, "%s.%s.weight", part, name);
  return tl_declare_matrix(d, full, rows, cols, std, true);
}

static void declare_norms(tl_declare *d, const char *part, int hd, tl_param **q, tl_param **k) {
  char full[64];
  snprintf(full, sizeof full, "%s.q_norm.weight", part);
  *q = tl_declare_vector(d, full, hd, 1);
  snprintf(full, sizeof full, "%s.k_norm.weight", part);
  *k = tl_declare_vector(d, full, hd, 1);
}

static void declare_self(const tl_model *m, tl_declare *d, tl_self_attention *a, float std,
                         float res) {
  int64_t dim = m->c.dim, q = a->n_heads * a->hd, kv = a->n_kv * a->hd;
  a->qkv = (tl_linear_spec){.n = 3};
  a->qkv.w[0] = matrix(d, "self_attn", "q_proj", q, dim, std);
  a->qkv.w[1] = matrix(d, "self_attn", "k_proj", kv, dim, std);
  a->qkv.w[2] = matrix(d, "self_attn", "v_proj", kv, dim, std);
  a->qk_norm = m->c.qk_norm;
  if (a->qk_norm) declare_norms(d, "self_attn", a->hd, &a->gain_q, &a->gain_k);
  a->rope = true;
  a->out = tl_spec1(matrix(d, "self_attn", "o_proj", dim, q, res), NULL, false);
}

static void declare_cross(const tl_model *m, tl_declare *d, tl_cross_attention *a, float std,
                          float res) {
  const tl_self_attention *like = &m->block[0].attn;
  int64_t dim = m->c.dim, q = like->n_heads * like->hd, kv = like->n_kv * like->hd;
  *a = (tl_cross_attention){.n_heads = like->n_heads,
                            .n_kv = like->n_kv,
                            .hd = like->hd,
                            .qk_norm = m->c.qk_norm,
                            .norm_eps = like->norm_eps,
                            .dropout = like->dropout};
  a->q = tl_spec1(matrix(d, "cross_attn", "q_proj", q, dim, std), NULL, false);
  a->kv = (tl_linear_spec){.n = 2};
  a->kv.w[0] = matrix(d, "cross_attn", "k_proj", kv, dim, std);
  a->kv.w[1] = matrix(d, "cross_attn", "v_proj", kv, dim, std);
  if (a->qk_norm) declare_norms(d, "cross_attn", a->hd, &a->gain_q, &a->gain_k);
  a->out = tl_spec1(matrix(d, "cross_attn", "o_proj", dim, q, res), NULL, false);
}

static void declare_block(tl_model *m, tl_declare *d, tl_block *b, bool decoder, int i) {
  const tl_model_config *c = &m->c;
  float std = (float)c->init_std, res = tl_residual_std(m), eps = (float)c->norm_eps;
  tl_declare_prefix(d, "model.%s.layers.%d.", decoder ? "decoder" : "encoder", i);
  b->norm1 = tl_declare_norm(d, "self_attn_norm", TL_NORM_RMS, c->dim, false, eps);
  declare_self(m, d, &b->attn, std, res);
  if (decoder) {
    b->norm_cross = tl_declare_norm(d, "cross_attn_norm", TL_NORM_RMS, c->dim, false, eps);
    declare_cross(m, d, &b->cross, std, res);
  }
  b->norm2 = tl_declare_norm(d, "mlp_norm", TL_NORM_RMS, c->dim, false, eps);
  b->mlp.in = (tl_linear_spec){.n = 2};
  b->mlp.in.w[0] = matrix(d, "mlp", "gate_proj", c->ff, c->dim, std);
  b->mlp.in.w[1] = matrix(d, "mlp", "up_proj", c->ff, c->dim, std);
  b->mlp.gated = true;
  b->mlp.act = m->act;
  b->mlp.out = tl_spec1(matrix(d, "mlp", "down_proj", c->dim, c->ff, res), NULL, false);
}

static void declare(tl_model *m, tl_declare *d) {
  const tl_model_config *c = &m->c;
  float std = (float)c->init_std, eps = (float)c->norm_eps;
  tl_declare_prefix(d, "model.");
  m->tok_embed = tl_declare_matrix(d, "embed_tokens.weight", c->vocab, c->dim, std, false);
  m->embed_norm = tl_declare_norm(d, "embed_norm", TL_NORM_RMS, c->dim, false, eps);
  for (int i = 0; i < m->n_blocks; i++) {
    bool decoder = i >= c->encoder_layers;
    declare_block(m, d, &m->block[i], decoder, decoder ? i - (int)c->encoder_layers : i);
  }
  tl_declare_prefix(d, "model.");
  m->source_norm = tl_declare_norm(d, "encoder.norm", TL_NORM_RMS, c->dim, false, eps);
  m->final_norm = tl_declare_norm(d, "decoder.norm", TL_NORM_RMS, c->dim, false, eps);
  tl_declare_prefix(d, "%s", "");
  m->out_w =
      c->tie ? m->tok_embed : tl_declare_matrix(d, "lm_head.weight", c->vocab, c->dim, std, false);
}

static tl_node *embed(const tl_model *m, tl_graph *g, tl_node *tokens, const char *scope) {
  tl_graph_scope(g, "%s", scope);
  tl_node *x = tl_model_embed(m, g, tokens);
  if (m->embed_norm.gain) x = tl_nn_norm(g, x, &m->embed_norm);
  return tl_model_dropout(m, g, x);
}

tl_node *tl_encdec_encode(const tl_model *m, tl_graph *g, const tl_model_io *io) {
  tl_model_io source = {.tokens = io->src_tokens, .pos = io->src_pos, .segments = io->src_segments};
  if (!io->src_tokens) {
    tl_graph_fail(g, TL_CONFIG, "an encoder-decoder needs a source; use task.type=translate");
    return io->tokens;
  }
  tl_node *x = embed(m, g, io->src_tokens, "source");
  for (int i = 0; i < m->c.encoder_layers; i++)
    x = tl_prenorm_block(m, g, x, &m->block[i], &source, i, NULL);
  tl_graph_scope(g, "source.final");
  return tl_nn_norm(g, x, &m->source_norm);
}

tl_node *tl_encdec_body(const tl_model *m, tl_graph *g, const tl_model_io *io) {
  tl_node *memory = io->cross_kv ? NULL : tl_encdec_encode(m, g, io);
  tl_node *x = embed(m, g, io->tokens, "embed");
  for (int i = 0; i < m->c.layers; i++) {
    tl_node *kv = io->cross_kv ? io->cross_kv[i] : tl_model_cross_kv(m, g, memory, i);
    x = tl_prenorm_block(m, g, x, &m->block[m->c.encoder_layers + i], io, i, kv);
  }
  tl_graph_scope(g, "final");
  return tl_nn_norm(g, x, &m->final_norm);
}

static const tl_hf_key keys[] = {
    TL_HF_I("hidden_size", dim),
    TL_HF_I("encoder_layers", encoder_layers),
    TL_HF_I("decoder_layers", layers),
    TL_HF_I("num_attention_heads", heads),
    TL_HF_OPT(TL_HF_INT, "num_key_value_heads", kv_heads),
    TL_HF_I("intermediate_size", ff),
    TL_HF_I("max_position_embeddings", max_len),
    TL_HF_R("rms_norm_eps", norm_eps),
    TL_HF_R("rope_theta", rope_theta),
    TL_HF_OPT(TL_HF_REAL, "attention_dropout", attention_dropout),
    {0},
};

static void write_constants(const tl_model *m, json_t *o) {
  (void)m;
  json_object_set_new(o, "is_encoder_decoder", json_true());
}

/* No class of Hugging Face's libraries has these blocks: the type is our own. */
const tl_arch tl_arch_encdec = {
    .name = "encdec",
    .hf_type = "tilth-encdec",
    .hf_class = "TilthEncoderDecoder",
    .body_prefix = "model.",
    .seq2seq = true,
    .default_act = "silu",
    .default_eps = 1e-6,
    .default_ff = default_ff,
    .declare = declare,
    .body = tl_encdec_body,
    .encode = tl_encdec_encode,
    .keys = keys,
    .act_key = "hidden_act",
    .write_constants = write_constants,
};
