/* A finished encoder-decoder: model folder, tokenizer, and beam search for any texts. */
#include "tilth/translate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "transfer/beam.h"

enum { MAX_LEN = 256 };

struct tl_translator {
  tl_ctx *ctx;
  tl_tokenizer *tok;
  tl_model *model;
  tl_beam *beam;
  tl_translate_options o;
};

tl_translate_options tl_translate_defaults(void) {
  return (tl_translate_options){.beam = 5, .n_best = 1, .length_penalty = 1, .dtype = "auto"};
}

static tl_status load(tl_translator *t, const char *dir, tl_err *err) {
  tl_translate_options *o = &t->o;
  if (o->beam < 1 || o->beam > TL_MAX_BEAM || o->n_best < 1 || o->n_best > o->beam)
    return tl_fail(err, TL_CONFIG,
                   "%lld beams, %lld best: beams are 1 to %d, the best at most as many",
                   (long long)o->beam, (long long)o->n_best, TL_MAX_BEAM);
  if (!(o->length_penalty >= 0 && o->length_penalty <= 10))
    return tl_fail(err, TL_CONFIG, "length penalty %g: it must be 0 to 10", o->length_penalty);
  TL_TRY(tl_model_load(dir, false, &t->model, err));
  if (!t->model->arch->seq2seq)
    return tl_fail(err, TL_CONFIG, "%s: a model of type %s does not translate; encdec and t5 do",
                   dir, t->model->arch->name);
  TL_TRY(tl_model_tokenizer(dir, &t->tok, err));
  int vocab = tl_tokenizer_vocab_size(t->tok), eos = tl_tokenizer_special(t->tok, TL_TOK_EOS);
  if (vocab > t->model->c.vocab)
    return tl_fail(err, TL_CONFIG, "%s: the tokenizer has %d tokens, the model only %lld", dir,
                   vocab, (long long)t->model->c.vocab);
  if (eos < 0)
    return tl_fail(err, TL_CONFIG, "%s: the tokenizer has no token that ends a text", dir);
  if (o->max_len == 0) o->max_len = MAX_LEN;
  if (o->max_len > t->model->c.max_len) o->max_len = t->model->c.max_len;
  tl_beam_limits l = {.beam = (int)o->beam,
                      .max_source = o->max_len,
                      .max_len = o->max_len,
                      .vocab = vocab,
                      .bos = tl_model_start(&t->model->c, t->tok),
                      .eos = eos};
  return tl_beam_new(t->ctx, t->model, tl_kernels_dtype(t->ctx->k, o->dtype), &l, &t->beam, err);
}

tl_status tl_translator_open(tl_ctx *ctx, const char *dir, const tl_translate_options *o,
                             tl_translator **out, tl_err *err) {
  tl_translator *t = calloc(1, sizeof *t);
  if (!t) return tl_fail(err, TL_NOMEM, "translator: out of memory");
  t->ctx = ctx;
  t->o = *o;
  tl_status s = load(t, dir, err);
  if (s == TL_OK)
    *out = t;
  else
    tl_translator_free(t);
  return s;
}

void tl_translator_free(tl_translator *t) {
  if (!t) return;
  tl_beam_free(t->beam);
  tl_model_free(t->model);
  tl_tokenizer_free(t->tok);
  free(t);
}

static bool is_blank(const char *s) {
  return s[strspn(s, " \t\r\n\v\f")] == 0;
}

static tl_status take_texts(const tl_translator *t, const tl_hypotheses *h, const size_t *index,
                            tl_translations *out, tl_err *err) {
  for (int64_t i = 0; i < h->n; i++)
    for (size_t k = 0; k < out->n_best; k++) {
      const tl_hypothesis *x = &h->h[(size_t)i * out->n_best + k];
      size_t to = index[i] * out->n_best + k;
      if (!x->token) continue;
      out->score[to] = x->score;
      TL_TRY(tl_tokenizer_decode_utf8(t->tok, (const uint32_t *)x->token, (size_t)x->n,
                                      &out->text[to], err));
    }
  return TL_OK;
}

/* The texts that are not blank are translated; index[i] is the place of the i-th of them. */
static tl_status translate(tl_translator *t, tl_task_data *d, const size_t *index,
                           tl_translations *out, tl_err *err) {
  tl_task_samples samples;
  tl_hypotheses h;
  tl_beam_options o = {
      .beam = (int)t->o.beam, .n_best = (int)t->o.n_best, .length_penalty = t->o.length_penalty};
  TL_TRY(tl_task_encode(tl_task_find("translate"), t->tok, d,
                        &(tl_encode_options){.max_len = t->o.max_len, .model = &t->model->c},
                        &samples, err));
  tl_status s = tl_beam_search(t->beam, &o, &samples, &h, err);
  if (s == TL_OK) {
    s = take_texts(t, &h, index, out, err);
    tl_hypotheses_free(&h);
  }
  out->n_cut = (size_t)samples.n_cut;
  tl_task_samples_free(&samples);
  return s;
}

tl_status tl_translator_run(tl_translator *t, const char *const *text, size_t n,
                            tl_translations *out, tl_err *err) {
  size_t best = (size_t)t->o.n_best;
  tl_task_data d = {.kind = TL_TASK_PAIR};
  size_t *index = malloc((n + 1) * sizeof *index);
  *out = (tl_translations){.n = n, .n_best = best};
  d.text = malloc((n + 1) * sizeof *d.text);
  out->text = calloc(n * best + 1, sizeof *out->text);
  out->score = calloc(n * best + 1, sizeof *out->score);
  bool ok = index && d.text && out->text && out->score;
  for (size_t i = 0; ok && i < n; i++) {
    if (is_blank(text[i])) {
      ok = (out->text[i * best] = strdup("")) != NULL;
      continue;
    }
    index[d.n] = i;
    d.text[d.n++] = (char *)(uintptr_t)text[i];
  }
  tl_status s = ok ? TL_OK : tl_fail(err, TL_NOMEM, "translations: out of memory");
  if (s == TL_OK && d.n > 0) s = translate(t, &d, index, out, err);
  free(index);
  free(d.text);
  if (s != TL_OK) tl_translations_free(out);
  return s;
}

void tl_translations_free(tl_translations *t) {
  for (size_t i = 0; t->text && i < t->n * t->n_best; i++) free(t->text[i]);
  free(t->text);
  free(t->score);
  *t = (tl_translations){0};
}

tl_status tl_translations_score(const tl_translations *t, const char *const *reference,
                                tl_scores *out, tl_err *err) {
  tl_task_data d = {.kind = TL_TASK_PAIR, .n = t->n};
  tl_predictions p = {.n = t->n, .loss = NAN};
  d.text_b = malloc((t->n + 1) * sizeof *d.text_b);
  p.text = malloc((t->n + 1) * sizeof *p.text);
  tl_status s = d.text_b && p.text ? TL_OK : tl_fail(err, TL_NOMEM, "scores: out of memory");
  for (size_t i = 0; s == TL_OK && i < t->n; i++) {
    d.text_b[i] = (char *)(uintptr_t)reference[i];
    p.text[i] = t->text[i * t->n_best];
  }
  if (s == TL_OK) s = tl_task_scores(tl_task_find("translate"), &d, &p, true, 1, out, err);
  free(d.text_b);
  free(p.text);
  return s;
}
