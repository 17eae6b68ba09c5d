#include "transfer/adapt.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool tl_adapt_parse(const char *name, tl_adapt_method *out) {
  static const char *const names[] = {"full", "probe", "last", "bitfit", "lora"};
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
         in_spec(&b->attn.out, p) || b->attn.gain_q == p || b->attn.gain_k == p || b->attn.rel.table == p ||
         in_norm(&b->norm_cross, p) || in_spec(&b->cross.q, p) || in_spec(&b->cross.kv, p) ||
         in_spec(&b->cross.out, p) || b->cross.gain_q == p || b->cross.gain_k == p ||
         in_spec(&b->mlp.in, p) || in_spec(&b->mlp.out, p);
}

static bool in_head(const tl_model *m, const tl_param *p) {
  const tl_task_head *h = &m->task;
  return p == h->w || p == h->b || p == h->pool_w || p == h->pool_b;
}

/* 0: embeddings; 1 .. n_blocks: the blocks; n_blocks + 1: what stands above them. */
static int64_t level_of(const tl_model *m, const tl_param *p) {
  if (p == m->tok_embed || p == m->pos_embed || p == m->type_embed || in_norm(&m->embed_norm, p))
    return 0;
  for (int64_t i = 0; i < m->n_blocks; i++)
    if (in_block(&m->block[i], p)) return i + 1;
  return m->n_blocks + 1;
}

static bool is_trained(const tl_model *m, const tl_param *p, const tl_adapt_options *o) {
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
    return p->flags & TL_PARAM_PAIR;
  }
  return true;
}

/* Whether the module of this weight ("...attn.c_attn.weight") ends in one of the names. */
static bool is_target(const char *weight, const char *names) {
  size_t end = strlen(weight) - strlen(".weight"), begin = end;
  while (begin > 0 && weight[begin - 1] != '.') begin--;
  for (const char *at = names; *at;) {
    size_t n = strcspn(at, ",");
    if (n == end - begin && !strncmp(at, weight + begin, n)) return true;
    at += n + (at[n] == ',');
  }
  return false;
}

static int add_pairs(tl_declare *d, const tl_linear_spec *s, const tl_adapt_options *o, bool all) {
  int added = 0;
  for (int i = 0; i < s->n; i++) {
    tl_param *w = s->w[i];
    if (!all && !is_target(w->name, o->targets)) continue;
    int64_t in = s->conv1d ? w->shape[0] : w->shape[1];
    int64_t out = s->conv1d ? w->shape[1] : w->shape[0];
    int stem = (int)(strlen(w->name) - strlen(".weight"));
    char name[256];
    snprintf(name, sizeof name, "%.*s.lora_A.weight", stem, w->name);
    w->lora_a = tl_declare_matrix(d, name, o->rank, in, (float)sqrt(1 / (3 * (double)in)), false);
    snprintf(name, sizeof name, "%.*s.lora_B.weight", stem, w->name);
    w->lora_b = tl_declare_matrix(d, name, out, o->rank, 0, false);
    if (!w->lora_a || !w->lora_b) return added;
    w->lora_a->flags = w->lora_b->flags = TL_PARAM_DECAY | TL_PARAM_PAIR;
    double r = (double)o->rank;
    w->lora_scale = (float)(o->alpha / (o->rs ? sqrt(r) : r));
    w->lora_dropout = (float)o->dropout;
    w->lora_conv1d = s->conv1d;
    added++;
  }
  return added;
}

static void declare_pairs(tl_model *m, tl_declare *d, const tl_adapt_options *o) {
  bool all = !strcmp(o->targets, "all");
  bool attention = all || !strcmp(o->targets, "attention");
  bool mlp = all || !strcmp(o->targets, "mlp");
  int added = 0;
  tl_declare_prefix(d, "%s", "");
  for (int64_t i = 0; i < m->n_blocks; i++) {
    const tl_block *b = &m->block[i];
    added += add_pairs(d, &b->attn.qkv, o, attention) + add_pairs(d, &b->attn.out, o, attention) +
             add_pairs(d, &b->cross.q, o, attention) + add_pairs(d, &b->cross.kv, o, attention) +
             add_pairs(d, &b->cross.out, o, attention) + add_pairs(d, &b->mlp.in, o, mlp) +
             add_pairs(d, &b->mlp.out, o, mlp);
  }
  if (added == 0 && d->err.code == TL_OK)
    tl_fail(
        &d->err, TL_CONFIG,
        "adapt.targets \"%s\" names no matrix of the blocks, whose modules are like \"%s\"; use "
        "all, attention, mlp, or last parts of such names",
        o->targets, m->block[0].attn.out.w[0]->name);
}

void tl_adapt_declare(tl_model *m, tl_declare *d, const tl_adapt_options *o) {
  if (o->method == TL_ADAPT_LORA) declare_pairs(m, d, o);
  for (int i = 0; i < m->params.n; i++)
    m->params.p[i]->trainable = is_trained(m, m->params.p[i], o);
  if (o->method == TL_ADAPT_PROBE && m->task.kind == TL_HEAD_NONE && d->err.code == TL_OK)
    tl_fail(&d->err, TL_CONFIG,
            "adapt.method probe trains the task's head alone, and this task has none; use last, "
            "bitfit or lora");
}

void tl_adapt_rates(const tl_model *m, const tl_adapt_options *o, float *factor) {
  for (int i = 0; i < m->params.n; i++) {
    const tl_param *p = m->params.p[i];
    double below = (double)(m->n_blocks + 1 - level_of(m, p));
    factor[i] = (float)(in_head(m, p) ? o->head_lr : pow(o->layer_decay, below));
  }
}

void tl_adapt_merge(tl_model *m, int sign) {
  for (int i = 0; i < m->params.n; i++) {
    tl_param *w = m->params.p[i];
    if (!w->lora_a) continue;
    const tl_param *a = w->lora_a, *b = w->lora_b;
    int64_t rank = a->shape[0], in = a->shape[1], out = b->shape[0];
    for (int64_t r = 0; r < out; r++)
      for (int64_t c = 0; c < in; c++) {
        double sum = 0;
        for (int64_t k = 0; k < rank; k++)
          sum += (double)b->data[r * rank + k] * (double)a->data[k * in + c];
        w->data[w->lora_conv1d ? c * out + r : r * in + c] +=
            (float)(sign * (double)w->lora_scale * sum);
      }
  }
  tl_params_changed(&m->params);
}
