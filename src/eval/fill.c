#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "models/model.h"
#include "tilth/generate.h"

typedef struct filler {
  tl_model *model;
  tl_tokenizer *tok;
  tl_graph *g;
  tl_ids ids, masks; /* masks: rows that predict the mask tokens */
} filler;

static tl_status encode_part(filler *f, const char *text, size_t len, tl_err *err) {
  uint32_t *ids = NULL;
  size_t n = 0, cap = 0;
  tl_status s = tl_tokenizer_encode(f->tok, text, len, &ids, &n, &cap, err);
  for (size_t i = 0; s == TL_OK && i < n; i++) tl_ids_push(&f->ids, ids[i]);
  free(ids);
  return s;
}

/* Splits the text at the mask token's name and encodes the parts. */
static tl_status encode(filler *f, const char *text, tl_err *err) {
  int mask = tl_tokenizer_special(f->tok, TL_TOK_MASK),
      bos = tl_tokenizer_special(f->tok, TL_TOK_BOS);
  int eos = tl_tokenizer_special(f->tok, TL_TOK_EOS);
  if (mask < 0) return tl_fail(err, TL_CONFIG, "the model's tokenizer has no mask token");
  const char *name = tl_tokenizer_token(f->tok, (uint32_t)mask);
  if (bos >= 0) tl_ids_push(&f->ids, (uint32_t)bos);
  for (const char *p = text;;) {
    const char *hit = strstr(p, name);
    TL_TRY(encode_part(f, p, hit ? (size_t)(hit - p) : strlen(p), err));
    if (!hit) break;
    if (f->model->c.shifted && f->ids.len == 0)
      return tl_fail(err, TL_DATA, "this model cannot predict the first token of a text");
    tl_ids_push(&f->masks, (uint32_t)f->ids.len - f->model->c.shifted);
    tl_ids_push(&f->ids, (uint32_t)mask);
    p = hit + strlen(name);
  }
  if (eos >= 0) tl_ids_push(&f->ids, (uint32_t)eos);
  if (f->ids.oom || f->masks.oom) return tl_fail(err, TL_NOMEM, "out of memory");
  if (f->masks.len == 0)
    return tl_fail(err, TL_DATA, "the text has no mask: write %s where a word is to be filled in",
                   name);
  if ((int64_t)f->ids.len > f->model->c.max_len)
    return tl_fail(err, TL_DATA, "the text has %zu tokens; the model takes at most %lld",
                   f->ids.len, (long long)f->model->c.max_len);
  return TL_OK;
}

static tl_status run(tl_ctx *ctx, filler *f, tl_node **prob, tl_err *err) {
  tl_dtype dt = tl_kernels_dtype(ctx->k, "auto");
  f->g = tl_graph_new(ctx, &f->model->params, &(tl_graph_options){dt, false});
  if (!f->g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  int64_t n = (int64_t)f->ids.len, m = (int64_t)f->masks.len;
  tl_model_io io = tl_model_inputs(f->model, f->g, 0, n, 0, 1);
  tl_node *idx = tl_graph_input(f->g, "masks", TL_I32, 1, &m, 0);
  tl_node *h = tl_gather_rows(f->g, f->model->arch->body(f->model, f->g, &io), idx);
  *prob = tl_softmax(f->g, tl_model_logits(f->model, f->g, h));
  TL_TRY(tl_graph_compile(f->g, NULL, prob, 1, err));
  for (int64_t i = 0; i < n; i++) ((int32_t *)io.tokens->data)[i] = (int32_t)f->ids.data[i];
  for (int64_t i = 0; io.pos->live && i < n; i++) ((int32_t *)io.pos->data)[i] = (int32_t)i;
  for (int64_t i = 0; i < m; i++) ((int32_t *)idx->data)[i] = (int32_t)f->masks.data[i];
  *(tl_segment *)io.segments->data = (tl_segment){0, (int32_t)n, 0, (int32_t)n, false};
  tl_graph_run(f->g, &(tl_pass){.loss_scale = 1});
  return TL_OK;
}

/* The n likeliest tokens of one row, by insertion into a short sorted list. */
static void best_of_row(const filler *f, const tl_node *prob, int64_t row, tl_fill_choice *best,
                        int n) {
  int vocab = tl_tokenizer_vocab_size(f->tok), held = 0;
  for (int v = 0; v < vocab; v++) {
    double p = (double)tl_value(prob, row * f->model->c.vocab + v);
    if (held == n && p <= best[n - 1].probability) continue;
    int at = held < n ? held++ : n - 1;
    for (; at > 0 && best[at - 1].probability < p; at--) best[at] = best[at - 1];
    const char *token = tl_tokenizer_token(f->tok, (uint32_t)v);
    snprintf(best[at].token, sizeof best[at].token, "%s", token ? token : "");
    best[at].probability = p;
  }
}

tl_status tl_fill(tl_ctx *ctx, const char *model_dir, const char *text, int n, tl_fill_fn report,
                  void *user, tl_err *err) {
  filler f = {0};
  tl_node *prob = NULL;
  tl_fill_choice best[TL_FILL_MAX];
  if (n < 1 || n > TL_FILL_MAX)
    return tl_fail(err, TL_CONFIG, "choices per mask: from 1 to %d", TL_FILL_MAX);
  tl_status s = tl_model_load(model_dir, false, &f.model, err);
  if (s == TL_OK && !f.model->arch->encoder && !f.model->c.shifted)
    s = tl_fail(err, TL_CONFIG,
                "%s: a decoder (%s) sees only what comes before a mask; use "
                "`tilth generate`",
                model_dir, f.model->arch->name);
  if (s == TL_OK) s = tl_model_without_rows(&f.model->c, model_dir, err);
  if (s == TL_OK) s = tl_model_tokenizer(model_dir, &f.tok, err);
  if (s == TL_OK && tl_tokenizer_vocab_size(f.tok) > f.model->c.vocab)
    s = tl_fail(err, TL_CONFIG, "%s: the tokenizer has more tokens than the model", model_dir);
  if (s == TL_OK) s = encode(&f, text, err);
  if (s == TL_OK) s = run(ctx, &f, &prob, err);
  for (size_t i = 0; s == TL_OK && i < f.masks.len; i++) {
    best_of_row(&f, prob, (int64_t)i, best, n);
    report(user, (int)i, best, n);
  }
  tl_graph_free(f.g);
  tl_tokenizer_free(f.tok);
  tl_model_free(f.model);
  tl_ids_free(&f.ids);
  tl_ids_free(&f.masks);
  return s;
}
