/* BERT (Devlin et al., 2019): post-norm encoder, learned positions and token types, biases; masked
 * prediction through dense + GELU + norm and the tied embedding. RoBERTa (Liu et al., 2019): the
 * same with other names, one token type, and positions that count from behind the padding's row. */
#include "models/model.h"

#include <string.h>

typedef struct names {
  const char *body, *head, *dense, *dense_bias, *norm; /* the last three below `head` */
} names;
static const names bert_names = {"bert.", "cls.predictions.", "transform.dense.weight",
                                 "transform.dense.bias", "transform.LayerNorm"};
static const names roberta_names = {"roberta.", "lm_head.", "dense.weight", "dense.bias",
                                    "layer_norm"};

static const names *names_of(const tl_model *m) {
  return m->arch == &tl_arch_roberta ? &roberta_names : &bert_names;
}

static int64_t default_ff(int64_t dim) {
  return 4 * dim;
}

static tl_param *matrix(tl_declare *d, const char *name, int64_t out, int64_t in, float std) {
  return tl_declare_matrix(d, name, out, in, std, true);
}

static void declare_block(tl_model *m, tl_declare *d, int i) {
  const tl_model_config *c = &m->c;
  tl_block *b = &m->block[i];
  float std = (float)c->init_std, eps = (float)c->norm_eps;
  static const char *const qkv[3][2] = {
      {"attention.self.query.weight", "attention.self.query.bias"},
      {"attention.self.key.weight", "attention.self.key.bias"},
      {"attention.self.value.weight", "attention.self.value.bias"}};
  tl_declare_prefix(d, "%sencoder.layer.%d.", names_of(m)->body, i);
  b->attn.qkv = (tl_linear_spec){.n = 3};
  for (int k = 0; k < 3; k++) {
    b->attn.qkv.w[k] = matrix(d, qkv[k][0], c->dim, c->dim, std);
    b->attn.qkv.b[k] = tl_declare_vector(d, qkv[k][1], c->dim, 0);
  }
  b->attn.n_kv = b->attn.n_heads;
  tl_param *w = matrix(d, "attention.output.dense.weight", c->dim, c->dim, std);
  b->attn.out = tl_spec1(w, tl_declare_vector(d, "attention.output.dense.bias", c->dim, 0), false);
  b->norm1 = tl_declare_norm(d, "attention.output.LayerNorm", TL_NORM_LAYER, c->dim, true, eps);
  w = matrix(d, "intermediate.dense.weight", c->ff, c->dim, std);
  b->mlp.in = tl_spec1(w, tl_declare_vector(d, "intermediate.dense.bias", c->ff, 0), false);
  w = matrix(d, "output.dense.weight", c->dim, c->ff, std);
  b->mlp.out = tl_spec1(w, tl_declare_vector(d, "output.dense.bias", c->dim, 0), false);
  b->mlp.act = m->act;
  b->norm2 = tl_declare_norm(d, "output.LayerNorm", TL_NORM_LAYER, c->dim, true, eps);
}

static void declare(tl_model *m, tl_declare *d) {
  const tl_model_config *c = &m->c;
  const names *name = names_of(m);
  bool roberta = name == &roberta_names;
  if (c->type_vocab == 0) m->c.type_vocab = roberta ? 1 : 2;
  if (roberta && c->pos_first == 0) m->c.pos_first = 1; /* this program's tokenizers pad with 0 */
  float std = (float)c->init_std, eps = (float)c->norm_eps;
  int64_t rows = c->pos_first + c->max_len;
  tl_declare_prefix(d, "%sembeddings.", name->body);
  m->tok_embed = tl_declare_matrix(d, "word_embeddings.weight", c->vocab, c->dim, std, false);
  m->pos_embed = tl_declare_matrix(d, "position_embeddings.weight", rows, c->dim, std, false);
  m->type_embed =
      tl_declare_matrix(d, "token_type_embeddings.weight", c->type_vocab, c->dim, std, false);
  m->embed_norm = tl_declare_norm(d, "LayerNorm", TL_NORM_LAYER, c->dim, true, eps);
  for (int i = 0; i < c->layers; i++) declare_block(m, d, i);
  tl_declare_prefix(d, "%s", name->head);
  m->head_dense = matrix(d, name->dense, c->dim, c->dim, std);
  m->head_dense_bias = tl_declare_vector(d, name->dense_bias, c->dim, 0);
  m->head_norm = tl_declare_norm(d, name->norm, TL_NORM_LAYER, c->dim, true, eps);
  m->out_b = tl_declare_vector(d, "bias", c->vocab, 0);
  m->out_w = m->c.tie ? m->tok_embed
                      : tl_declare_matrix(d, "decoder.weight", c->vocab, c->dim, std, false);
}

static tl_node *body(const tl_model *m, tl_graph *g, const tl_model_io *io) {
  tl_graph_scope(g, "embed");
  tl_node *x = tl_add(g, tl_model_embed(m, g, io->tokens),
                      tl_embedding_from(g, m->pos_embed, io->pos, m->c.pos_first));
  x = tl_add(g, x, tl_embedding(g, m->type_embed, io->types));
  x = tl_model_dropout(m, g, tl_nn_norm(g, x, &m->embed_norm));
  for (int i = 0; i < m->c.layers; i++) {
    const tl_block *b = &m->block[i];
    tl_graph_scope(g, "layer.%d.attn", i);
    tl_residual to = {x, (float)m->c.dropout};
    to.x = x = tl_nn_norm(g, tl_nn_self_attention(g, x, &b->attn, io, i, &to), &b->norm1);
    tl_graph_scope(g, "layer.%d.mlp", i);
    x = tl_nn_norm(g, tl_nn_mlp(g, x, &b->mlp, &to), &b->norm2);
  }
  return x;
}

static tl_node *head(const tl_model *m, tl_graph *g, tl_node *h) {
  tl_linear_spec spec = tl_spec1(m->head_dense, m->head_dense_bias, false);
  spec.act = m->act;
  return tl_nn_norm(g, tl_linear(g, h, &spec), &m->head_norm);
}

static const tl_hf_key keys[] = {
    TL_HF_I("hidden_size", dim),
    TL_HF_I("num_hidden_layers", layers),
    TL_HF_I("num_attention_heads", heads),
    TL_HF_I("intermediate_size", ff),
    TL_HF_I("max_position_embeddings", max_len),
    TL_HF_R("layer_norm_eps", norm_eps),
    TL_HF_OPT(TL_HF_REAL, "hidden_dropout_prob", dropout),
    TL_HF_OPT(TL_HF_REAL, "attention_probs_dropout_prob", attention_dropout),
    {0},
};

static void write_constants(const tl_model *m, json_t *o) {
  json_object_set_new(o, "type_vocab_size", json_integer(m->c.type_vocab));
  json_object_set_new(o, "position_embedding_type", json_string("absolute"));
  if (m->arch != &tl_arch_roberta) return;
  /* Readers take the first position's row from these two. */
  json_object_set_new(o, "pad_token_id", json_integer(m->c.pos_first - 1));
  json_object_set_new(o, "max_position_embeddings", json_integer(m->c.pos_first + m->c.max_len));
}

static tl_status read_rest(const json_t *o, const char *path, tl_model_config *c, tl_err *err) {
  const json_t *types = json_object_get(o, "type_vocab_size"),
               *pad = json_object_get(o, "pad_token_id");
  if (json_is_integer(types)) c->type_vocab = json_integer_value(types);
  if (c->type_vocab < 0 || c->type_vocab > 1024)
    return tl_fail(err, TL_DATA, "%s: \"type_vocab_size\" must be from 1 to 1024", path);
  if (strcmp(c->type, "roberta")) return TL_OK;
  c->pos_first = 1 + (json_is_integer(pad) ? json_integer_value(pad) : 1);
  if (c->pos_first < 1 || c->pos_first >= c->max_len)
    return tl_fail(err, TL_DATA,
                   "%s: positions begin behind \"pad_token_id\", which leaves none of the %lld in "
                   "\"max_position_embeddings\"",
                   path, (long long)c->max_len);
  c->max_len -= c->pos_first;
  return TL_OK;
}

static const tl_hf_fixed fixed[] = {{"position_embedding_type", "\"absolute\""},
                                    {"is_decoder", "false"},
                                    {"add_cross_attention", "false"},
                                    {0}};

/* Names of the first published checkpoints, and of an output bias stored with its matrix. */
static const char *const aliases[][2] = {{"LayerNorm.weight", "LayerNorm.gamma"},
                                         {"LayerNorm.bias", "LayerNorm.beta"},
                                         {"cls.predictions.bias", "cls.predictions.decoder.bias"},
                                         {"lm_head.bias", "lm_head.decoder.bias"},
                                         {NULL, NULL}};

const tl_arch tl_arch_bert = {
    .name = "bert",
    .hf_type = "bert",
    .hf_class = "BertForMaskedLM",
    .body_prefix = "bert.",
    .encoder = true,
    .default_act = "gelu",
    .default_eps = 1e-12,
    .default_ff = default_ff,
    .declare = declare,
    .body = body,
    .head = head,
    .keys = keys,
    .act_key = "hidden_act",
    .write_constants = write_constants,
    .read_rest = read_rest,
    .fixed = fixed,
    .aliases = aliases,
    .task = {.hf_stem = "Bert",
             .pool = TL_POOL_FIRST,
             .pooler = "bert.pooler.dense",
             .sequence = "classifier",
             .tokens = "classifier",
             .sequence_bias = true},
};

const tl_arch tl_arch_roberta = {
    .name = "roberta",
    .hf_type = "roberta",
    .hf_class = "RobertaForMaskedLM",
    .body_prefix = "roberta.",
    .encoder = true,
    .default_act = "gelu",
    .default_eps = 1e-5,
    .default_ff = default_ff,
    .declare = declare,
    .body = body,
    .head = head,
    .keys = keys,
    .act_key = "hidden_act",
    .write_constants = write_constants,
    .read_rest = read_rest,
    .fixed = fixed,
    .aliases = aliases,
    .task = {.hf_stem = "Roberta",
             .pool = TL_POOL_FIRST,
             .pooler = "classifier.dense",
             .sequence = "classifier.out_proj",
             .tokens = "classifier",
             .sequence_bias = true},
};
