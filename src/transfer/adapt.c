#include "transfer/adapt.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/lowrank.h"

bool tl_adapt_parse(const char *name, tl_adapt_method *out) {
  static const char *const names[] = {"full", "probe",   "last",   "bitfit", "lora",
                                      "dora", "adapter", "prefix", "prompt"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (!strcmp(names[i], name)) {
      *out = (tl_adapt_method)i;
      return true;
    }
  return false;
}

static bool in_spec(const tl_linear_spec *s, const tl_param *p) {
  for (int i = 0; i < s->n; i++)
    if (s->w[i] == p || s->b[i] == p) return true;
  return false;
}

static bool in_norm(const tl_norm *n, const tl_param *p) {
  return n->gain == p || n->bias == p;
}

static bool in_block(const tl_block *b, const tl_param *p) {
  return in_norm(&b->norm1, p) || in_norm(&b->norm2, p) || in_spec(&b->attn.qkv, p) ||
         in_spec(&b->attn.out, p) || b->attn.gain_q == p || b->attn.gain_k == p ||
         b->attn.rel.table == p || in_norm(&b->norm_cross, p) || in_spec(&b->cross.q, p) ||
         in_spec(&b->cross.kv, p) || in_spec(&b->cross.out, p) || b->cross.gain_q == p ||
         b->cross.gain_k == p || in_spec(&b->mlp.in, p) || in_spec(&b->mlp.out, p) ||
         in_spec(&b->attn.after.down, p) || in_spec(&b->attn.after.up, p) ||
         in_spec(&b->mlp.after.down, p) || in_spec(&b->mlp.after.up, p) || b->attn.prefix == p;
}

static bool in_head(const tl_model *m, const tl_param *p) {
  const tl_task_head *h = &m->task;
  return p == h->w || p == h->b || p == h->pool_w || p == h->pool_b;
}

/* 0: embeddings; 1 .. n_blocks: the blocks; n_blocks + 1: what stands above them. */
static int64_t level_of(const tl_model *m, const tl_param *p) {
  if (p == m->tok_embed || p == m->pos_embed || p == m->type_embed || p == m->prompt_embed ||
      p == m->patch_w || p == m->patch_b || p == m->class_token || in_norm(&m->embed_norm, p))
    return 0;
  for (int64_t i = 0; i < m->n_blocks; i++)
    if (in_block(&m->block[i], p)) return i + 1;
  return m->n_blocks + 1;
}

static bool is_trained(const tl_model *m, const tl_param *p, const tl_adapt_options *o) {
  if (p->flags & TL_PARAM_FIXED) return false;
  if (in_head(m, p)) return true;
  switch (o->method) {
  case TL_ADAPT_FULL:
    return true;
  case TL_ADAPT_PROBE:
    return false;
  case TL_ADAPT_LAST:
    return level_of(m, p) > m->n_blocks - o->layers;
  case TL_ADAPT_BITFIT:
    return p->ndim == 1;
  case TL_ADAPT_LORA:
  case TL_ADAPT_DORA:
    return p->flags & TL_PARAM_PAIR;
  case TL_ADAPT_ADAPTER:
  case TL_ADAPT_PREFIX:
  case TL_ADAPT_PROMPT:
    return p->flags & TL_PARAM_ADDED;
  }
  return true;
}

/* The last part of the name of this weight's module: "c_attn" of "...attn.c_attn.weight". */
static void module_of(const tl_param *w, char *out, size_t size) {
  size_t end = strlen(w->name) - strlen(".weight"), begin = end;
  while (begin > 0 && w->name[begin - 1] != '.') begin--;
  snprintf(out, size, "%.*s", (int)(end - begin), w->name + begin);
}

static bool in_list(const char *list, const char *name) {
  size_t len = strlen(name);
  for (const char *at = list; *at;) {
    size_t n = strcspn(at, ",");
    if (n == len && !strncmp(at, name, n)) return true;
    at += n + (at[n] == ',');
  }
  return false;
}

static bool matches(const tl_param *w, const char *targets, bool mlp) {
  char name[64];
  if (!strcmp(targets, "all") || !strcmp(targets, mlp ? "mlp" : "attention")) return true;
  module_of(w, name, sizeof name);
  return in_list(targets, name);
}

static void add_pair(tl_declare *d, tl_param *w, bool conv1d, const tl_adapt_options *o) {
  int64_t in = w->shape[conv1d ? 0 : 1], out = w->shape[conv1d ? 1 : 0];
  if (o->rank > (in < out ? in : out)) {
    if (d->err.code == TL_OK)
      tl_fail(&d->err, TL_CONFIG,
              "adapt.rank %lld is larger than %s, which has %lld inputs and %lld outputs",
              (long long)o->rank, w->name, (long long)in, (long long)out);
    return;
  }
  tl_lora_shape l = {.rank = o->rank,
                     .scale = (float)(o->alpha / (o->rs ? sqrt((double)o->rank) : (double)o->rank)),
                     .dropout = (float)o->dropout,
                     .conv1d = conv1d,
                     .magnitudes = o->method == TL_ADAPT_DORA};
  tl_lora_declare(d, w, &l);
}

/* The specs of a block's matrices: attention's first, then (from *mlp on) those of the MLP. */
static int block_specs(const tl_block *b, const tl_linear_spec *spec[7], int *mlp) {
  const tl_linear_spec *list[] = {&b->attn.qkv,  &b->attn.out, &b->cross.q, &b->cross.kv,
                                  &b->cross.out, &b->mlp.in,   &b->mlp.out};
  memcpy(spec, list, sizeof list);
  *mlp = 5;
  return 7;
}

typedef void (*weight_fn)(void *user, tl_param *w, bool conv1d, bool mlp);
static void each_weight(const tl_model *m, weight_fn fn, void *user) {
  for (int64_t i = 0; i < m->n_blocks; i++) {
    const tl_linear_spec *spec[7];
    int mlp = 0, n = block_specs(&m->block[i], spec, &mlp);
    for (int k = 0; k < n; k++)
      for (int j = 0; j < spec[k]->n; j++) fn(user, spec[k]->w[j], spec[k]->conv1d, k >= mlp);
  }
}

typedef struct pairing {
  tl_declare *d;
  const tl_adapt_options *o;
  char names[256]; /* of the modules there are */
  bool only_names;
} pairing;

static void pair_weight(void *user, tl_param *w, bool conv1d, bool mlp) {
  pairing *p = user;
  char name[64];
  module_of(w, name, sizeof name);
  size_t used = strlen(p->names);
  if (!in_list(p->names, name) && used + strlen(name) + 2 < sizeof p->names)
    snprintf(p->names + used, sizeof p->names - used, "%s%s", used ? "," : "", name);
  if (!p->only_names && matches(w, p->o->targets, mlp)) add_pair(p->d, w, conv1d, p->o);
}

static void declare_pairs(tl_model *m, tl_declare *d, const tl_adapt_options *o) {
  static const char *const groups[] = {"all", "attention", "mlp"};
  pairing p = {.d = d, .o = o, .only_names = true};
  bool group = false;
  tl_declare_prefix(d, "%s", "");
  for (int i = 0; i < 3; i++) group = group || !strcmp(o->targets, groups[i]);
  each_weight(m, pair_weight, &p);
  for (const char *at = o->targets; !group && *p.names && d->err.code == TL_OK;) {
    char name[64];
    size_t n = strcspn(at, ",");
    snprintf(name, sizeof name, "%.*s", (int)n, at);
    if (!in_list(p.names, name))
      tl_fail(&d->err, TL_CONFIG,
              "adapt.targets: \"%s\" names no matrix of the blocks; there are %s (or all, "
              "attention, mlp)",
              name, p.names);
    if (!at[n]) break;
    at += n + 1;
  }
  if (d->err.code == TL_OK && !*p.names)
    tl_fail(
        &d->err, TL_CONFIG,
        "adapt.method lora and dora update matrices of blocks, which model.type %s has not; use "
        "full, probe, last or bitfit",
        m->arch->name);
  if (d->err.code != TL_OK) return;
  p.only_names = false;
  each_weight(m, pair_weight, &p);
}

void tl_adapt_config(tl_model_config *c, const tl_adapt_options *o) {
  if (o->method == TL_ADAPT_ADAPTER) {
    c->adapter = o->width;
    c->adapter_where = !strcmp(o->where, "attention") ? 1 : !strcmp(o->where, "mlp") ? 2 : 3;
  }
  if (o->method == TL_ADAPT_PREFIX) c->prefix = o->length;
  if (o->method == TL_ADAPT_PROMPT) c->prompt = o->length;
}

void tl_adapt_declare(tl_model *m, tl_declare *d, const tl_adapt_options *o) {
  if (o->method == TL_ADAPT_LORA || o->method == TL_ADAPT_DORA) declare_pairs(m, d, o);
  for (int i = 0; i < m->params.n; i++)
    m->params.p[i]->trainable = is_trained(m, m->params.p[i], o);
  if (o->method == TL_ADAPT_PROBE && m->task.kind == TL_HEAD_NONE && d->err.code == TL_OK)
    tl_fail(&d->err, TL_CONFIG,
            "adapt.method probe trains the task's head alone, and this task has none; use last, "
            "bitfit, lora, dora, adapter, prefix or prompt");
}

void tl_adapt_rates(const tl_model *m, const tl_adapt_options *o, float *factor) {
  for (int i = 0; i < m->params.n; i++) {
    const tl_param *p = m->params.p[i];
    double below = (double)(m->n_blocks + 1 - level_of(m, p));
    factor[i] = (float)(in_head(m, p) ? o->head_lr : pow(o->layer_decay, below));
  }
}

void tl_adapt_begin(tl_model *m) {
  for (int i = 0; i < m->params.n; i++) {
    const tl_param *w = m->params.p[i];
    if (w->lora_m) tl_lora_norms(w, 0, w->lora_m->n, w->lora_m->data);
  }
  tl_params_changed(&m->params);
}

void tl_adapt_merge(tl_model *m) {
  for (int i = 0; i < m->params.n; i++)
    if (m->params.p[i]->lora_a) tl_lora_merge(m->params.p[i], m->params.p[i]->data);
  tl_params_changed(&m->params);
}
