#include "transfer/warm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct warming {
  tl_ctx *ctx;
  tl_model *m;
  const tl_model *from;
  const char *dir;
  bool *taken;  /* [m->params.n] */
  int *n_taken; /* the count that grows */
  tl_status s;  /* the first failure, described in err */
  tl_err *err;
} warming;

static void mark(warming *w, const tl_param *p) {
  for (int i = 0; i < w->m->params.n; i++)
    if (w->m->params.p[i] == p && !w->taken[i]) {
      w->taken[i] = true;
      ++*w->n_taken;
    }
}

static int64_t columns(const tl_param *p) {
  return p->ndim > 1 ? p->shape[1] : 1;
}

static void differ(warming *w, const tl_param *to, int64_t rows, const tl_param *from,
                   int64_t from_rows) {
  w->s = tl_fail(w->err, TL_CONFIG,
                 "%s: \"%s\" has shape [%lld, %lld], but \"%s\" of the new model takes [%lld, "
                 "%lld]; set the sizes of the model section to those of the folder",
                 w->dir, from->name, (long long)from_rows, (long long)columns(from), to->name,
                 (long long)rows, (long long)columns(to));
}

/* Rows of n weights below each other: of `from` to those of `to`. */
static void copy_rows(warming *w, tl_param *const *to, int n_to, tl_param *const *from,
                      int n_from) {
  int64_t rows = 0, from_rows = 0;
  for (int i = 0; i < n_to; i++) rows += to[i]->shape[0];
  for (int i = 0; i < n_from; i++) from_rows += from[i]->shape[0];
  if (w->s != TL_OK) return;
  if (rows != from_rows || columns(to[0]) != columns(from[0])) {
    differ(w, to[0], rows, from[0], from_rows);
    return;
  }
  int64_t at = 0; /* the row of from[k] that comes next */
  for (int i = 0, k = 0; i < n_to; i++) {
    for (int64_t r = 0; r < to[i]->shape[0]; r++, at++) {
      if (at == from[k]->shape[0]) k++, at = 0;
      int64_t cols = columns(to[i]);
      memcpy(to[i]->data + r * cols, from[k]->data + at * cols, (size_t)cols * sizeof(float));
    }
    mark(w, to[i]);
  }
}

static void copy(warming *w, tl_param *to, tl_param *from) {
  if (to && from) copy_rows(w, &to, 1, &from, 1);
}

static void copy_linear(warming *w, const tl_linear_spec *to, const tl_linear_spec *from) {
  if (w->s == TL_OK && from->b[0])
    w->s = tl_fail(w->err, TL_CONFIG, "%s: \"%s\" is a bias, and the new model has none", w->dir,
                   from->b[0]->name);
  copy_rows(w, to->w, to->n, from->w, from->n);
}

static void copy_block(warming *w, const tl_block *to, const tl_block *from) {
  copy(w, to->norm1.gain, from->norm1.gain);
  copy_linear(w, &to->attn.qkv, &from->attn.qkv);
  copy(w, to->attn.gain_q, from->attn.gain_q);
  copy(w, to->attn.gain_k, from->attn.gain_k);
  copy(w, to->attn.rel.table, from->attn.rel.table);
  copy_linear(w, &to->attn.out, &from->attn.out);
  copy(w, to->norm2.gain, from->norm2.gain);
  copy_linear(w, &to->mlp.in, &from->mlp.in);
  copy_linear(w, &to->mlp.out, &from->mlp.out);
  if (!to->norm_cross.gain || !from->norm_cross.gain) return;
  copy(w, to->norm_cross.gain, from->norm_cross.gain);
  copy_linear(w, &to->cross.q, &from->cross.q);
  copy_linear(w, &to->cross.kv, &from->cross.kv);
  copy(w, to->cross.gain_q, from->cross.gain_q);
  copy(w, to->cross.gain_k, from->cross.gain_k);
  copy_linear(w, &to->cross.out, &from->cross.out);
}

/* One side's blocks. */
typedef struct side {
  const tl_block *block;
  int64_t n;
  const tl_norm *last;
} side;

static side side_of(const tl_model *m, bool decoder) {
  int64_t first = decoder && m->arch->seq2seq ? m->c.encoder_layers : 0;
  bool encoder = m->arch->seq2seq && !decoder;
  return (side){m->block + first, encoder ? m->c.encoder_layers : m->c.layers,
                encoder ? &m->source_norm : &m->final_norm};
}

static tl_status check_side(const warming *w, const side *to, const side *from, bool decoder) {
  const tl_self_attention *a = &to->block[0].attn, *b = &from->block[0].attn;
  const char *key = decoder ? "layers" : "encoder_layers";
  if (a->rope != b->rope || !a->rel.table != !b->rel.table)
    return tl_fail(w->err, TL_CONFIG,
                   "%s: type %s has positions of another kind than %s; encdec takes llama, encoder "
                   "and encdec, t5 takes t5",
                   w->dir, w->from->arch->name, w->m->arch->name);
  if (to->n != from->n)
    return tl_fail(w->err, TL_CONFIG, "%s has %lld blocks; model.%s is %lld", w->dir,
                   (long long)from->n, key, (long long)to->n);
  if (a->n_heads != b->n_heads || a->n_kv != b->n_kv || a->hd != b->hd || a->qk_norm != b->qk_norm)
    return tl_fail(
        w->err, TL_CONFIG,
        "%s has %d heads, %d for keys and values, of %d columns, %s qk_norm; the new model "
        "has %d, %d, %d, %s",
        w->dir, b->n_heads, b->n_kv, b->hd, b->qk_norm ? "with" : "without", a->n_heads, a->n_kv,
        a->hd, a->qk_norm ? "with" : "without");
  for (int64_t i = 0; a->rope && i < from->n; i++)
    if (from->block[i].attn.rope_theta != a->rope_theta ||
        from->block[i].attn.rope_scaling.factor) {
      tl_log(w->ctx, TL_LOG_WARN, "%s: rotary positions differ from model.rope_theta %g", w->dir,
             (double)a->rope_theta);
      break;
    }
  if (w->from->act != w->m->act)
    tl_log(w->ctx, TL_LOG_WARN, "%s: was trained with model.act %s, goes on with %s", w->dir,
           w->from->c.act, w->m->c.act);
  return TL_OK;
}

/* The embedding's rows and the norm that reads them; where the folder's model reads them as they
 * are, the norm gives them back their mean size. Rows beyond those of both keep their values. */
static void copy_embedding(warming *w) {
  tl_param *to = w->m->tok_embed, *from = w->from->tok_embed, *gain = w->m->embed_norm.gain;
  int64_t cols = columns(to), rows = to->shape[0] < from->shape[0] ? to->shape[0] : from->shape[0];
  double sum = 0;
  if (cols != columns(from)) {
    differ(w, to, to->shape[0], from, from->shape[0]);
    return;
  }
  memcpy(to->data, from->data, (size_t)(rows * cols) * sizeof(float));
  mark(w, to);
  for (int64_t i = 0; i < rows * cols; i++) sum += (double)from->data[i] * (double)from->data[i];
  if (gain && w->from->embed_norm.gain) {
    copy(w, gain, w->from->embed_norm.gain);
  } else if (gain) {
    for (int64_t i = 0; i < cols; i++) gain->data[i] = (float)sqrt(sum / (double)(rows * cols));
    mark(w, gain);
  }
  tl_param *out = w->m->out_w, *from_out = w->from->out_w;
  if (out == to || from_out == from || w->from->arch->encoder) return;
  memcpy(out->data, from_out->data, (size_t)(rows * cols) * sizeof(float));
  mark(w, out);
}

static tl_status same_tokenizer(const char *dir, const tl_tokenizer *tok, bool *same, tl_err *err) {
  tl_tokenizer *t = NULL;
  TL_TRY(tl_tokenizer_load(dir, &t, err));
  *same = tl_tokenizer_fingerprint(t) == tl_tokenizer_fingerprint(tok);
  tl_tokenizer_free(t);
  return TL_OK;
}

static tl_status take_side(warming *w, const tl_tokenizer *tok, bool decoder, tl_warm_counts *out) {
  side to = side_of(w->m, decoder), from = side_of(w->from, decoder);
  bool same = false;
  w->n_taken = decoder ? &out->decoder : &out->encoder;
  TL_TRY(check_side(w, &to, &from, decoder));
  for (int64_t i = 0; i < to.n; i++) copy_block(w, to.block + i, from.block + i);
  copy(w, to.last->gain, from.last->gain);
  TL_TRY(w->s);
  TL_TRY(same_tokenizer(w->dir, tok, &same, w->err));
  w->n_taken = &out->shared;
  if (same && out->shared == 0) copy_embedding(w);
  return w->s;
}

tl_status tl_warm_start_model(tl_ctx *ctx, tl_model *m, const tl_tokenizer *tok,
                              const tl_warm_start *o, tl_warm_counts *out, tl_err *err) {
  *out = (tl_warm_counts){0};
  warming w = {.ctx = ctx, .m = m, .err = err};
  if (!m->arch->seq2seq)
    return tl_fail(err, TL_CONFIG,
                   "an encoder and a decoder are taken by an encoder-decoder (model.type=encdec or "
                   "t5), not by %s",
                   m->arch->name);
  w.taken = calloc((size_t)m->params.n + 1, sizeof *w.taken);
  if (!w.taken) return tl_fail(err, TL_NOMEM, "warm start: out of memory");
  for (int decoder = 0; decoder < 2 && w.s == TL_OK; decoder++) {
    tl_model *from = NULL;
    w.dir = decoder ? o->decoder : o->encoder;
    if (!*w.dir) continue;
    w.s = tl_model_load(w.dir, false, &from, err);
    w.from = from;
    if (w.s == TL_OK) w.s = take_side(&w, tok, decoder, out);
    tl_model_free(from);
  }
  out->fresh = m->params.n - out->encoder - out->decoder - out->shared;
  free(w.taken);
  tl_params_changed(&m->params);
  return w.s;
}
