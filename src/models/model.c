#include "models/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const tl_arch *const archs[] = {
#define ARCH(name) &tl_arch_##name,
    TL_ARCHS(ARCH)
#undef ARCH
};
enum { N_ARCHS = sizeof archs / sizeof archs[0] };

const tl_arch *tl_arch_find(const char *name) {
  for (int i = 0; i < N_ARCHS; i++)
    if (!strcmp(archs[i]->name, name)) return archs[i];
  return NULL;
}

bool tl_arch_is_hf(const tl_arch *a, const char *model_type) {
  const char *also[] = {a->hf_type_qk, a->hf_type_pretraining};
  for (size_t i = 0; i < sizeof also / sizeof *also; i++)
    if (also[i] && !strcmp(also[i], model_type)) return true;
  return !strcmp(a->hf_type, model_type);
}

const tl_arch *tl_arch_find_hf(const char *model_type) {
  for (int i = 0; i < N_ARCHS; i++)
    if (tl_arch_is_hf(archs[i], model_type)) return archs[i];
  return NULL;
}

/* Our word and Hugging Face's for each activation. */
static const struct {
  tl_act act;
  const char *name, *hf;
} acts[] = {{TL_ACT_GELU, "gelu", "gelu"},
            {TL_ACT_GELU_TANH, "gelu_tanh", "gelu_new"},
            {TL_ACT_SILU, "silu", "silu"},
            {TL_ACT_RELU, "relu", "relu"},
            {TL_ACT_RELU2, "relu2", "relu2"}};
enum { N_ACTS = sizeof acts / sizeof acts[0] };

tl_act tl_act_find(const char *name) {
  for (int i = 0; i < N_ACTS; i++)
    if (!strcmp(acts[i].name, name) || !strcmp(acts[i].hf, name)) return acts[i].act;
  static const struct {
    const char *name;
    tl_act act;
  } others[] = {{"gelu_pytorch_tanh", TL_ACT_GELU_TANH},
                {"gated-gelu", TL_ACT_GELU_TANH}, /* T5's */
                {"gated-silu", TL_ACT_SILU}};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (!strcmp(others[i].name, name)) return others[i].act;
  return TL_ACT_NONE;
}

const char *tl_act_hf_name(tl_act act) {
  for (int i = 0; i < N_ACTS; i++)
    if (acts[i].act == act) return acts[i].hf;
  return "gelu";
}

tl_linear_spec tl_spec1(tl_param *w, tl_param *b, bool conv1d) {
  return (tl_linear_spec){.n = 1, .w = {w}, .b = {b}, .conv1d = conv1d};
}

float tl_residual_std(const tl_model *m) {
  return (float)(m->c.init_std / sqrt(2.0 * (double)m->c.layers));
}

tl_node *tl_model_dropout(const tl_model *m, tl_graph *g, tl_node *x) {
  return tl_dropout_node(g, x, (float)m->c.dropout);
}

tl_node *tl_prenorm_block(const tl_model *m, tl_graph *g, tl_node *x, const tl_block *b,
                          const tl_model_io *io, int layer, tl_node *kv) {
  int n = (int)(b - m->block);
  tl_graph_scope(g, "layer.%d.attn", n);
  tl_node *h = b->norm1.gain ? tl_nn_norm(g, x, &b->norm1) : x;
  tl_residual to = {x, (float)m->c.dropout};
  to.x = x = tl_nn_self_attention(g, h, &b->attn, io, layer, &to);
  if (kv) {
    tl_graph_scope(g, "layer.%d.cross", n);
    h = tl_nn_norm(g, x, &b->norm_cross);
    to.x = x = tl_nn_cross_attention(g, h, kv, &b->cross, io->cross, &to);
  }
  tl_graph_scope(g, "layer.%d.mlp", n);
  return tl_nn_mlp(g, tl_nn_norm(g, x, &b->norm2), &b->mlp, &to);
}

tl_node *tl_prenorm_blocks(const tl_model *m, tl_graph *g, tl_node *x, const tl_model_io *io) {
  for (int i = 0; i < m->c.layers; i++) x = tl_prenorm_block(m, g, x, &m->block[i], io, i, NULL);
  tl_graph_scope(g, "final");
  return x;
}

tl_model_io tl_model_inputs(const tl_model *m, tl_graph *g, int dim_tokens, int64_t max_tokens,
                            int dim_segments, int64_t max_segments) {
  int64_t n[] = {max_tokens}, s[] = {max_segments, sizeof(tl_segment) / sizeof(int32_t)};
  tl_graph_scope(g, "input");
  tl_model_io io = {.tokens = tl_graph_input(g, "tokens", TL_I32, 1, n, dim_tokens),
                    .pos = tl_graph_input(g, "positions", TL_I32, 1, n, dim_tokens),
                    .segments = tl_graph_input(g, "segments", TL_I32, 2, s, dim_segments)};
  if (m->type_embed) io.types = tl_graph_input(g, "types", TL_I32, 1, n, dim_tokens);
  return io;
}

void tl_model_source(tl_graph *g, tl_model_io *io, int dim_source, int64_t max_source,
                     int dim_segments, int64_t max_segments) {
  int64_t n[] = {max_source}, s[] = {max_segments, sizeof(tl_segment) / sizeof(int32_t)};
  tl_graph_scope(g, "source");
  io->src_tokens = tl_graph_input(g, "tokens", TL_I32, 1, n, dim_source);
  io->src_pos = tl_graph_input(g, "positions", TL_I32, 1, n, dim_source);
  io->src_segments = tl_graph_input(g, "segments", TL_I32, 2, s, dim_segments);
  io->cross = tl_graph_input(g, "cross", TL_I32, 2, s, dim_segments);
}

tl_node *tl_model_cross_kv(const tl_model *m, tl_graph *g, tl_node *h, int layer) {
  tl_graph_scope(g, "layer.%d.cross", (int)m->c.encoder_layers + layer);
  return tl_nn_cross_kv(g, h, &m->block[m->c.encoder_layers + layer].cross);
}

int tl_model_start(const tl_model_config *c, const tl_tokenizer *tok) {
  if (c && c->has_start) return (int)c->start;
  int bos = tl_tokenizer_special(tok, TL_TOK_BOS);
  return bos >= 0 ? bos : tl_tokenizer_special(tok, TL_TOK_EOS);
}

tl_node **tl_model_cache(const tl_model *m, tl_graph *g, int64_t rows) {
  tl_node **cache = tl_arena_alloc(&g->arena, (size_t)m->c.layers * sizeof *cache);
  if (!cache) {
    tl_graph_fail(g, TL_NOMEM, "key-value cache: out of memory");
    return NULL;
  }
  for (int i = 0; i < m->c.layers; i++) {
    const tl_self_attention *a = &m->block[m->n_blocks - m->c.layers + i].attn;
    int64_t shape[] = {rows, 2 * (int64_t)a->n_kv * a->hd};
    cache[i] = tl_graph_state(g, "cache", g->opt.dt, 2, shape);
  }
  return cache;
}

tl_node *tl_model_head(const tl_model *m, tl_graph *g, tl_node *h) {
  tl_graph_scope(g, "head");
  return m->arch->head ? m->arch->head(m, g, h) : h;
}

tl_pooling tl_model_pooling(const tl_model *m) {
  if (m->c.pool_first) return TL_POOL_FIRST;
  return m->arch->image && !m->class_token ? TL_POOL_MEAN : m->arch->task.pool;
}

tl_node *tl_model_logits(const tl_model *m, tl_graph *g, tl_node *h) {
  tl_linear_spec s = tl_spec1(m->out_w, m->out_b, false);
  s.f32_out = true; /* bf16 keeps 8 bits: the likeliest tokens would often be equal */
  return tl_linear(g, tl_model_head(m, g, h), &s);
}

static tl_status check_rest(const tl_model_config *c, tl_err *err) {
  if (c->heads % c->kv_heads != 0)
    return tl_fail(err, TL_CONFIG, "model.kv_heads %lld does not divide model.heads %lld",
                   (long long)c->kv_heads, (long long)c->heads);
  if (tl_act_find(c->act) == TL_ACT_NONE)
    return tl_fail(err, TL_CONFIG,
                   "model.act \"%s\" is unknown; expected gelu, gelu_tanh, silu, relu, relu2",
                   c->act);
  return TL_OK;
}

static tl_status check_config(tl_model_config *c, const tl_arch *a, tl_err *err) {
  if (c->kv_heads == 0) c->kv_heads = c->heads;
  if (!a->seq2seq)
    c->encoder_layers = 0;
  else if (c->encoder_layers == 0)
    c->encoder_layers = c->layers;
  if (c->ff == 0) c->ff = a->default_ff(c->dim);
  if (c->norm_eps == 0) c->norm_eps = a->default_eps;
  if (c->rope_theta == 0) c->rope_theta = 10000;
  if (c->rope_theta_local == 0) c->rope_theta_local = c->rope_theta;
  if (c->global_every == 0 || c->window == 0) c->global_every = 1;
  if (c->init_std == 0) c->init_std = 0.02;
  if (!strcmp(c->act, "auto") || !*c->act) snprintf(c->act, sizeof c->act, "%s", a->default_act);
  if (a->check) TL_TRY(a->check(c, err));
  if (c->dim <= 0 || c->layers <= 0 || c->heads <= 0 || (c->vocab <= 0 && !a->image) ||
      c->max_len <= 0)
    return tl_fail(err, TL_CONFIG,
                   "model: dim %lld, layers %lld, heads %lld, vocab %lld, max_len %lld must all be "
                   "above 0",
                   (long long)c->dim, (long long)c->layers, (long long)c->heads,
                   (long long)c->vocab, (long long)c->max_len);
  /* The bounds of config_keys.def: a config.json from elsewhere keeps them too. */
  if (c->dim > 65536 || c->layers > 1024 || c->encoder_layers > 1024 || c->heads > 1024 ||
      c->ff > 1 << 20 || c->vocab > 1 << 24 || c->max_len > 1 << 20)
    return tl_fail(
        err, TL_CONFIG,
        "model: dim %lld, layers %lld, heads %lld, ff %lld, vocab %lld, max_len %lld: at "
        "most 65536, 1024, 1024, 1048576, 16777216, 1048576 are supported",
        (long long)c->dim, (long long)c->layers, (long long)c->heads, (long long)c->ff,
        (long long)c->vocab, (long long)c->max_len);
  if (c->rel_buckets == 0) c->rel_buckets = 32;
  if (c->rel_distance == 0) c->rel_distance = 128;
  if (c->head_dim > 256 || c->rel_buckets > 1024 || c->start < 0 ||
      (c->start >= c->vocab && !a->image))
    return tl_fail(
        err, TL_CONFIG,
        "model: heads of %lld columns, %lld buckets of distances, %lld as the token that "
        "begins a target: at most 256, 1024, %lld are possible",
        (long long)c->head_dim, (long long)c->rel_buckets, (long long)c->start,
        (long long)c->vocab - 1);
  if (c->adapter > 65536 || c->prefix + c->prompt > c->max_len)
    return tl_fail(
        err, TL_CONFIG,
        "model: adapters of width %lld, %lld learned rows: at most 65536 and the longest "
        "text (%lld) are supported",
        (long long)c->adapter, (long long)(c->prefix + c->prompt), (long long)c->max_len);
  if (c->head_dim > 0) return check_rest(c, err);
  if (c->dim % c->heads != 0)
    return tl_fail(err, TL_CONFIG, "model.dim %lld is not a multiple of model.heads %lld",
                   (long long)c->dim, (long long)c->heads);
  if ((c->dim / c->heads) % 2 != 0)
    return tl_fail(err, TL_CONFIG, "model.dim / model.heads is %lld; it must be even",
                   (long long)(c->dim / c->heads));
  if (c->dim / c->heads > 256)
    return tl_fail(err, TL_CONFIG, "model.dim / model.heads is %lld; at most 256 is supported",
                   (long long)(c->dim / c->heads));
  return check_rest(c, err);
}

tl_status tl_model_config_from(const tl_config *cfg, int64_t vocab, int64_t max_len,
                               tl_model_config *c, tl_err *err) {
  *c = (tl_model_config){.dim = cfg->model.dim,
                         .layers = cfg->model.layers,
                         .encoder_layers = cfg->model.encoder_layers,
                         .heads = cfg->model.heads,
                         .kv_heads = cfg->model.kv_heads,
                         .ff = cfg->model.ff,
                         .vocab = cfg->model.vocab ? cfg->model.vocab : (vocab + 63) / 64 * 64,
                         .max_len = cfg->model.max_len ? cfg->model.max_len : max_len,
                         .window = cfg->model.window,
                         .global_every = cfg->model.global_every,
                         .dropout = cfg->model.dropout,
                         .attention_dropout = cfg->model.attention_dropout,
                         .rope_theta = cfg->model.rope_theta,
                         .init_std = cfg->model.init_std,
                         .norm_eps = cfg->model.norm_eps,
                         .image_size = cfg->model.image_size ? cfg->model.image_size : 32,
                         .patch = cfg->model.patch,
                         .channels = 3,
                         .pool_mean = !strcmp(cfg->model.pool, "mean"),
                         .sine = !strcmp(cfg->model.positions, "sine"),
                         .capsules = cfg->model.capsules,
                         .routing = cfg->model.routing,
                         .reconstruction = cfg->model.reconstruction,
                         .tie = cfg->model.tie,
                         .scale_logits = cfg->model.tie,
                         .qk_norm = cfg->model.qk_norm,
                         .shifted = !strcmp(cfg->objective.type, "hybrid")};
  snprintf(c->type, sizeof c->type, "%s", cfg->model.type);
  snprintf(c->act, sizeof c->act, "%s", cfg->model.act);
  if (c->vocab < vocab)
    return tl_fail(err, TL_CONFIG, "model.vocab %lld is smaller than the tokenizer's %lld tokens",
                   (long long)c->vocab, (long long)vocab);
  if (c->max_len < max_len)
    return tl_fail(err, TL_CONFIG, "model.max_len %lld is shorter than train.seq_len %lld",
                   (long long)c->max_len, (long long)max_len);
  const tl_arch *a = tl_arch_find(c->type);
  if (!a) return tl_fail(err, TL_CONFIG, "model.type \"%s\" is unknown", c->type);
  if (a->configure) TL_TRY(a->configure(cfg, c, err));
  return check_config(c, a, err);
}

static void common_attention(tl_model *m) {
  for (int64_t i = 0; i < m->n_blocks; i++) {
    tl_self_attention *a = &m->block[i].attn;
    a->n_heads = (int)m->c.heads;
    a->n_kv = (int)m->c.kv_heads;
    a->hd = (int)(m->c.head_dim ? m->c.head_dim : m->c.dim / m->c.heads);
    a->norm_eps = (float)m->c.norm_eps;
    a->rope_theta = (float)m->c.rope_theta;
    a->rope_scaling =
        (tl_rope_scaling){m->c.rope_factor, m->c.rope_low, m->c.rope_high, m->c.rope_original};
    a->max_len = (int)m->c.max_len;
    a->window = (int)m->c.window;
    a->dropout = (float)m->c.attention_dropout;
  }
}

/* What an architecture's declaration reads: complete sizes, and the blocks, which lie in `arena`.
 */
static tl_status prepare(tl_model *m, const tl_model_config *config, tl_arena *arena, tl_err *err) {
  m->c = *config;
  m->arch = tl_arch_find(config->type);
  if (!m->arch) return tl_fail(err, TL_CONFIG, "model type \"%s\" is unknown", config->type);
  TL_TRY(check_config(&m->c, m->arch, err));
  m->act = tl_act_find(m->c.act);
  m->n_blocks = m->c.layers + m->c.encoder_layers;
  m->block = tl_arena_alloc(arena, (size_t)m->n_blocks * sizeof *m->block);
  if (!m->block) return tl_fail(err, TL_NOMEM, "model: out of memory");
  common_attention(m);
  return TL_OK;
}

tl_status tl_model_alloc(const tl_model_config *config, bool with_grads, tl_declare_extra_fn extra,
                         void *user, tl_model **out, tl_err *err) {
  tl_model *m = calloc(1, sizeof *m);
  if (!m) return tl_fail(err, TL_NOMEM, "model: out of memory");
  m->with_grads = with_grads;
  tl_status s = prepare(m, config, &m->arena, err);
  if (s == TL_OK) {
    tl_declare d = {.ps = &m->params};
    m->arch->declare(m, &d);
    tl_model_declare_added(m, &d);
    tl_declare_prefix(&d, "%s", "");
    if (extra) extra(m, &d, user);
    if (d.err.code != TL_OK) s = tl_fail(err, d.err.code, "model: %s", d.err.msg);
  }
  if (s == TL_OK) s = tl_params_alloc(&m->params, with_grads, err);
  if (s != TL_OK) {
    tl_model_free(m);
    return s;
  }
  *out = m;
  return TL_OK;
}

tl_model *tl_model_declare_within(tl_model *owner, tl_declare *d, const tl_model_config *config) {
  tl_model *m = tl_arena_alloc(&owner->arena, sizeof *m);
  if (d->err.code != TL_OK) return NULL;
  if (!m) {
    tl_fail(&d->err, TL_NOMEM, "out of memory");
    return NULL;
  }
  *m = (tl_model){.with_grads = owner->with_grads};
  if (prepare(m, config, &owner->arena, &d->err) != TL_OK) return NULL;
  m->arch->declare(m, d);
  tl_declare_prefix(d, "%s", "");
  return m;
}

tl_status tl_model_new_with(const tl_model_config *config, uint64_t seed, bool with_grads,
                            tl_declare_extra_fn extra, void *user, tl_model **out, tl_err *err) {
  TL_TRY(tl_model_alloc(config, with_grads, extra, user, out, err));
  tl_params_init(NULL, &(*out)->params, seed);
  if ((*out)->arch->set_values) (*out)->arch->set_values(*out);
  return TL_OK;
}

tl_status tl_model_new(const tl_model_config *config, uint64_t seed, bool with_grads,
                       tl_model **out, tl_err *err) {
  return tl_model_new_with(config, seed, with_grads, NULL, NULL, out, err);
}

void tl_model_free(tl_model *m) {
  if (!m) return;
  tl_params_free(&m->params);
  tl_st_close(m->weights);
  json_decref(m->origin);
  json_decref(m->more);
  tl_arena_free(&m->arena);
  free(m);
}

const tl_model_config *tl_model_get_config(const tl_model *m) {
  return &m->c;
}
int64_t tl_model_params(const tl_model *m) {
  return tl_params_count(&m->params, false);
}
bool tl_model_is_encoder(const tl_model *m) {
  return m->arch->encoder;
}

int64_t tl_model_body_params(const tl_model *m) {
  const tl_param *outside[] = {m->tok_embed,
                               m->pos_embed,
                               m->type_embed,
                               m->patch_w,
                               m->out_w == m->tok_embed ? NULL : m->out_w,
                               m->out_b};
  int64_t n = tl_model_params(m);
  for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
    if (outside[i]) n -= outside[i]->n;
  for (int i = 0; i < m->params.n; i++)
    if (m->params.p[i]->flags & TL_PARAM_HELPER) n -= m->params.p[i]->n;
  return n;
}

int64_t tl_model_group_of(const tl_model *m, const tl_param *p) {
  for (const char *s = p->name; (s = strchr(s, '.')) != NULL;) {
    char *end = NULL;
    s++;
    if (*s < '0' || *s > '9') continue;
    long block = strtol(s, &end, 10);
    if (m->arch->seq2seq && strstr(p->name, "decoder")) block += m->c.encoder_layers;
    if (*end == '.' && block < m->n_blocks) return block + 1;
  }
  bool embeds = p == m->tok_embed || p == m->pos_embed || p == m->type_embed ||
                p == m->embed_norm.gain || p == m->embed_norm.bias;
  return embeds ? 0 : m->n_blocks + 1;
}
