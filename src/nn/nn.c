#include "nn/nn.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

void tl_declare_prefix(tl_declare *d, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(d->prefix, sizeof d->prefix, fmt, ap);
  va_end(ap);
}

static tl_param *declare(tl_declare *d, const char *name, int ndim, const int64_t *shape,
                         tl_init init, float scale, unsigned flags) {
  char full[256];
  snprintf(full, sizeof full, "%s%s", d->prefix, name);
  tl_param *p = tl_params_add(d->ps, full, ndim, shape, init, scale, flags);
  if (!p && d->err.code == TL_OK) {
    tl_fail(&d->err, TL_NOMEM,
            "parameter %s [%lld, %lld]: too large, out of memory, or declared twice", full,
            (long long)shape[0], (long long)(ndim > 1 ? shape[1] : 1));
  }
  return p;
}

tl_param *tl_declare_matrix(tl_declare *d, const char *name, int64_t rows, int64_t cols, float std,
                            bool hidden) {
  int64_t shape[] = {rows, cols};
  return declare(d, name, 2, shape, TL_INIT_NORMAL, std,
                 TL_PARAM_DECAY | (hidden ? TL_PARAM_HIDDEN : 0));
}

tl_param *tl_declare_tensor(tl_declare *d, const char *name, int ndim, const int64_t *shape,
                            float std) {
  return declare(d, name, ndim, shape, TL_INIT_NORMAL, std, TL_PARAM_DECAY);
}

tl_param *tl_declare_vector(tl_declare *d, const char *name, int64_t n, float value) {
  return declare(d, name, 1, &n, TL_INIT_CONST, value, 0);
}

tl_norm tl_declare_norm(tl_declare *d, const char *name, tl_norm_kind kind, int64_t dim, bool bias,
                        float eps) {
  char full[96];
  tl_norm n = {.kind = kind, .eps = eps};
  snprintf(full, sizeof full, "%s.weight", name);
  n.gain = tl_declare_vector(d, full, dim, 1);
  snprintf(full, sizeof full, "%s.bias", name);
  if (bias) n.bias = tl_declare_vector(d, full, dim, 0);
  return n;
}

tl_node *tl_nn_norm(tl_graph *g, tl_node *x, const tl_norm *n) {
  return n->kind == TL_NORM_RMS ? tl_rms_norm(g, x, n->gain, n->eps)
                                : tl_layer_norm(g, x, n->gain, n->bias, n->eps);
}

static tl_param *declare_running(tl_declare *d, const char *name, int64_t n, float value) {
  tl_param *p = tl_declare_vector(d, name, n, value);
  if (!p) return NULL;
  p->flags |= TL_PARAM_FIXED;
  p->trainable = false;
  return p;
}

void tl_declare_conv_norm(tl_declare *d, const char *name, int64_t in, int64_t out, float eps,
                          tl_conv_norm *l) {
  char full[128];
  tl_conv_spec *c = &l->conv;
  int64_t shape[] = {out, in, c->kernel, c->kernel};
  snprintf(full, sizeof full, "%s.convolution.weight", name);
  c->w = tl_declare_tensor(d, full, 4, shape,
                           (float)sqrt(2.0 / (double)(out * c->kernel * c->kernel)));
  if (c->w) c->w->flags |= TL_PARAM_HIDDEN;
  l->norm = (tl_batch_norm_spec){.eps = eps, .momentum = 0.1f /* PyTorch's */};
  snprintf(full, sizeof full, "%s.normalization.weight", name);
  l->norm.gain = tl_declare_vector(d, full, out, 1);
  snprintf(full, sizeof full, "%s.normalization.bias", name);
  l->norm.bias = tl_declare_vector(d, full, out, 0);
  snprintf(full, sizeof full, "%s.normalization.running_mean", name);
  l->norm.mean = declare_running(d, full, out, 0);
  snprintf(full, sizeof full, "%s.normalization.running_var", name);
  l->norm.var = declare_running(d, full, out, 1);
}

tl_node *tl_nn_conv_norm(tl_graph *g, tl_node *x, const tl_conv_norm *l, int64_t side, tl_act act,
                         tl_node *residual) {
  tl_conv_spec c = l->conv;
  tl_batch_norm_spec n = l->norm;
  c.height = c.width = side;
  n.relu = act == TL_ACT_RELU;
  n.residual = residual;
  x = tl_batch_norm(g, tl_conv2d(g, x, &c), &n);
  return act == TL_ACT_RELU || act == TL_ACT_NONE ? x : tl_activation(g, x, act);
}

/* A layer's product, with the low-rank updates of its weights where they have one. */
static tl_node *linear(tl_graph *g, tl_node *x, const tl_linear_spec *spec) {
  tl_lora_spec lora = {.n = spec->n};
  bool adapted = false, dora = false;
  float dropout = 0;
  for (int i = 0; i < spec->n; i++) {
    const tl_param *w = spec->w[i];
    lora.out[i] = w->shape[spec->conv1d ? 1 : 0];
    if (!w->lora_a) continue;
    lora.a[i] = w->lora_a;
    lora.b[i] = w->lora_b;
    lora.scale = w->lora_scale;
    dropout = w->lora_dropout;
    adapted = true;
    dora = dora || w->lora_m;
  }
  if (!adapted) return tl_linear(g, x, spec);
  tl_linear_spec base = *spec;
  base.act = TL_ACT_NONE;
  tl_dora_spec magnitudes = {.n = spec->n, .conv1d = spec->conv1d};
  if (dora) { /* biases and residual come behind the magnitudes */
    for (int i = 0; i < spec->n; i++) {
      magnitudes.w[i] = spec->w[i];
      magnitudes.b[i] = spec->b[i];
      base.b[i] = NULL;
    }
    base.residual = NULL;
  }
  tl_node *y = tl_lora(g, tl_linear(g, x, &base), tl_dropout_node(g, x, dropout), &lora);
  if (dora) y = tl_dora(g, y, &magnitudes);
  if (dora && spec->residual) y = tl_add(g, spec->residual, y);
  return spec->act == TL_ACT_NONE ? y : tl_activation(g, y, spec->act);
}

static tl_node *bottleneck(tl_graph *g, tl_node *h, const tl_bottleneck *b) {
  tl_linear_spec up = b->up;
  up.residual = h;
  return tl_linear(g, tl_linear(g, h, &b->down), &up);
}

/* residual + dropout(x W): in the product's own pass where there is no dropout and no adapter. */
static tl_node *project(tl_graph *g, tl_node *x, const tl_linear_spec *spec,
                        const tl_bottleneck *after, const tl_residual *to) {
  tl_linear_spec s = *spec;
  bool drops = to->dropout != 0 && g->opt.training, adapts = after && after->down.n > 0;
  bool skips = !g->cut_skips;
  if (!drops && skips && !adapts) s.residual = to->x;
  tl_node *h = linear(g, x, &s);
  if (adapts) h = bottleneck(g, h, after);
  if (adapts && !drops && skips) return tl_add(g, to->x, h);
  if (!skips) return drops ? tl_dropout_node(g, h, to->dropout) : h;
  return drops ? tl_add(g, to->x, tl_dropout_node(g, h, to->dropout)) : h;
}

tl_node *tl_nn_self_attention(tl_graph *g, tl_node *x, const tl_self_attention *a,
                              const tl_model_io *io, int layer, const tl_residual *to) {
  int q = a->n_heads * a->hd, kv = a->n_kv * a->hd;
  tl_node *qkv = linear(g, x, &a->qkv);
  if (a->qk_norm)
    qkv = tl_head_norm(g, qkv, a->n_heads + a->n_kv, a->n_heads, a->hd, a->gain_q, a->gain_k,
                       a->norm_eps);
  if (a->rope)
    qkv = tl_rope(g, qkv, io->pos, a->n_heads + a->n_kv, a->hd, a->rope_theta, a->max_len,
                  &a->rope_scaling);
  if (a->prefix) qkv = tl_splice(g, qkv, a->prefix, io->tokens, a->first_learned, q);
  tl_attention_spec spec = {.n_heads = a->n_heads,
                            .n_kv = a->n_kv,
                            .hd = a->hd,
                            .k_col = q,
                            .v_col = q + kv,
                            .scale = a->scale,
                            .window = a->window,
                            .dropout = a->dropout,
                            .rel = a->rel};
  tl_node *kv_src = qkv;
  if (io->cache) {
    kv_src =
        tl_kv_append(g, io->cache[layer], qkv, io->cache_rows ? io->cache_rows : io->pos, q, kv);
    spec.k_col = 0;
    spec.v_col = kv;
  }
  tl_node *o = tl_attention(g, qkv, kv_src, io->segments, &spec);
  return project(g, o, &a->out, &a->after, to);
}

tl_node *tl_nn_cross_kv(tl_graph *g, tl_node *memory, const tl_cross_attention *a) {
  tl_node *kv = linear(g, memory, &a->kv);
  return a->qk_norm ? tl_head_norm(g, kv, a->n_kv, 0, a->hd, NULL, a->gain_k, a->norm_eps) : kv;
}

tl_node *tl_nn_cross_attention(tl_graph *g, tl_node *x, tl_node *kv, const tl_cross_attention *a,
                               tl_node *segments, const tl_residual *to) {
  tl_node *q = linear(g, x, &a->q);
  if (a->qk_norm)
    q = tl_head_norm(g, q, a->n_heads, a->n_heads, a->hd, a->gain_q, NULL, a->norm_eps);
  tl_attention_spec spec = {.n_heads = a->n_heads,
                            .n_kv = a->n_kv,
                            .hd = a->hd,
                            .v_col = a->n_kv * a->hd,
                            .scale = a->scale,
                            .dropout = a->dropout};
  return project(g, tl_attention(g, q, kv, segments, &spec), &a->out, NULL, to);
}

tl_node *tl_nn_mlp(tl_graph *g, tl_node *x, const tl_mlp *m, const tl_residual *to) {
  if (m->gated) return project(g, tl_glu(g, linear(g, x, &m->in), m->act), &m->out, &m->after, to);
  tl_linear_spec in = m->in;
  in.act = m->act;
  return project(g, linear(g, x, &in), &m->out, &m->after, to);
}
