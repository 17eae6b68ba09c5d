#include "eval/bleu.h"

#include <math.h>
#include <stdio.h>

#include "eval/segment.h"
#include "tilth/version.h"

static size_t distance(size_t a, size_t b) {
  return a > b ? a - b : b - a;
}

static tl_status prepare(const tl_bleu_opts *opts, tl_bleu_text text, tl_ids *cps, tl_err *err) {
  TL_TRY(tl_segment_decode(text, opts->lowercase, cps, err));
  while (cps->len && tl_segment_is_space(cps->data[cps->len - 1])) cps->len--;
  return tl_segment_tokenize(opts->tokenizer, cps, err);
}

static tl_status count_segment(const tl_bleu_opts *opts, tl_bleu_text hyp, const tl_bleu_text *refs,
                               tl_texts *w, tl_bleu_counts *c, tl_err *err) {
  TL_TRY(prepare(opts, hyp, &w->text[0], err));
  for (size_t r = 1; r < w->n; r++) TL_TRY(prepare(opts, refs[r - 1], &w->text[r], err));
  TL_TRY(tl_texts_words(w, false, err));
  *c = (tl_bleu_counts){.hyp_len = w->n_words[0], .ref_len = w->n_words[1]};
  for (size_t r = 2; r < w->n; r++) {
    size_t len = w->n_words[r], now = distance(len, c->hyp_len),
           best = distance(c->ref_len, c->hyp_len);
    if (now < best || (now == best && len < c->ref_len)) c->ref_len = len;
  }
  for (int k = 0; k < TL_BLEU_ORDER; k++) {
    if (k) tl_ngrams_next(&w->grams);
    c->total[k] = tl_ngrams_total(&w->grams, 0);
    c->correct[k] = tl_ngrams_match(&w->grams, 0, 1, w->n);
  }
  return TL_OK;
}

tl_status tl_bleu_count(const tl_bleu_opts *opts, const tl_bleu_text *hyp, const tl_bleu_text *refs,
                        size_t n, size_t n_refs, tl_bleu_counts *counts, tl_err *err) {
  if (!n_refs) return tl_fail(err, TL_DATA, "BLEU needs at least one reference per segment");
  tl_texts w = {0};
  TL_TRY(tl_texts_init(&w, n_refs + 1, err));
  tl_status st = TL_OK;
  for (size_t i = 0; i < n && st == TL_OK; i++) {
    tl_err why = {0};
    st = count_segment(opts, hyp[i], refs + i * n_refs, &w, &counts[i], &why);
    if (st != TL_OK) tl_fail(err, st, "segment %zu: %.900s", i, why.msg);
  }
  tl_texts_free(&w);
  return st;
}

tl_bleu_score tl_bleu_score_of(const tl_bleu_opts *opts, const tl_bleu_counts *counts,
                               const size_t *index, size_t n) {
  tl_bleu_score s = {.brevity_penalty = 1};
  tl_bleu_counts *c = &s.counts;
  size_t any = 0;
  for (size_t i = 0; i < n; i++) {
    const tl_bleu_counts *x = &counts[index ? index[i] : i];
    c->hyp_len += x->hyp_len;
    c->ref_len += x->ref_len;
    for (int k = 0; k < TL_BLEU_ORDER; k++) {
      c->correct[k] += x->correct[k];
      c->total[k] += x->total[k];
      any |= x->correct[k];
    }
  }
  if (c->hyp_len < c->ref_len)
    s.brevity_penalty = c->hyp_len ? exp(1 - (double)c->ref_len / (double)c->hyp_len) : 0;
  if (!any) return s;
  double halving = 1, logs = 0;
  int orders = 0;
  for (; orders < TL_BLEU_ORDER && c->total[orders]; orders++) {
    double correct = (double)c->correct[orders];
    if (!c->correct[orders]) correct = 1 / (halving *= 2);
    s.precision[orders] = 100 * correct / (double)c->total[orders];
    logs += log(s.precision[orders]);
  }
  if (orders == TL_BLEU_ORDER || opts->effective_order)
    s.score = s.brevity_penalty * exp(logs / orders);
  return s;
}

void tl_bleu_signature(const tl_bleu_opts *opts, size_t n_refs, char *out, size_t size) {
  static const char *const names[] = {[TL_BLEU_13A] = "13a",
                                      [TL_BLEU_INTL] = "intl",
                                      [TL_BLEU_CHAR] = "char",
                                      [TL_BLEU_NONE] = "none"};
  snprintf(out, size, "nrefs:%zu|case:%s|eff:%s|tok:%s|smooth:exp|version:tilth-%s", n_refs,
           opts->lowercase ? "lc" : "mixed", opts->effective_order ? "yes" : "no",
           names[opts->tokenizer], tl_version());
}
