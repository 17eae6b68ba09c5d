/* chrF; see bleu.h. */
#include <stdio.h>
#include <stdlib.h>

#include "eval/bleu.h"
#include "eval/segment.h"
#include "tilth/version.h"

/* F of the mean precision and recall of the orders that both texts have n-grams of. */
static double f_score(const tl_chrf_opts *opts, const tl_chrf_counts *c) {
  const double factor = 4; /* beta squared */
  double precision = 0, recall = 0;
  int orders = 0;
  for (int k = 0; k < TL_CHRF_CHARS + opts->words; k++) {
    if (!c->hyp[k] || !c->ref[k]) continue;
    precision += (double)c->match[k] / (double)c->hyp[k];
    recall += (double)c->match[k] / (double)c->ref[k];
    orders++;
  }
  if (!(precision + recall > 0)) return 0;
  precision /= orders;
  recall /= orders;
  return 100 * (1 + factor) * precision * recall / (factor * precision + recall);
}

/* Orders first .. first + n - 1 of every reference (text r of w, counts in c[r - 1]). */
static void count_orders(tl_texts *w, int first, int n, tl_chrf_counts *c) {
  for (int k = first; k < first + n; k++) {
    if (k > first) tl_ngrams_next(&w->grams);
    for (size_t r = 1; r < w->n; r++) {
      c[r - 1].ref[k] = tl_ngrams_total(&w->grams, r);
      c[r - 1].hyp[k] = c[r - 1].ref[k] ? tl_ngrams_total(&w->grams, 0) : 0;
      c[r - 1].match[k] = tl_ngrams_match(&w->grams, 0, r, r + 1);
    }
  }
}

/* each[w->n - 1]: room for the counts of every reference. */
static tl_status count_segment(const tl_chrf_opts *opts, tl_bleu_text hyp, const tl_bleu_text *refs,
                               tl_texts *w, tl_chrf_counts *each, tl_chrf_counts *best,
                               tl_err *err) {
  tl_ngrams_reset(&w->grams);
  for (size_t t = 0; t < w->n; t++) {
    tl_ids *s = &w->text[t];
    TL_TRY(tl_segment_decode(t ? refs[t - 1] : hyp, opts->lowercase, s, err));
    for (size_t i = 0; i < s->len; i++)
      if (!tl_segment_is_space(s->data[i])) tl_ids_push(&w->grams.token, s->data[i]);
    TL_TRY(tl_ngrams_end(&w->grams, err));
  }
  for (size_t r = 0; r + 1 < w->n; r++) each[r] = (tl_chrf_counts){0};
  TL_TRY(tl_ngrams_first(&w->grams, err));
  count_orders(w, 0, TL_CHRF_CHARS, each);
  if (opts->words) {
    TL_TRY(tl_texts_words(w, true, err));
    count_orders(w, TL_CHRF_CHARS, opts->words, each);
  }
  *best = each[0];
  for (size_t r = 1; r + 1 < w->n; r++)
    if (f_score(opts, &each[r]) > f_score(opts, best)) *best = each[r];
  return TL_OK;
}

tl_status tl_chrf_count(const tl_chrf_opts *opts, const tl_bleu_text *hyp, const tl_bleu_text *refs,
                        size_t n, size_t n_refs, tl_chrf_counts *counts, tl_err *err) {
  if (!n_refs) return tl_fail(err, TL_DATA, "chrF needs at least one reference per segment");
  if (opts->words < 0 || opts->words > TL_CHRF_MAX_WORDS)
    return tl_fail(err, TL_USAGE, "chrF counts word n-grams up to %d, not %d", TL_CHRF_MAX_WORDS,
                   opts->words);
  tl_texts w = {0};
  TL_TRY(tl_texts_init(&w, n_refs + 1, err));
  tl_chrf_counts *each = calloc(n_refs, sizeof *each);
  tl_status st = each ? TL_OK : tl_fail(err, TL_NOMEM, "out of memory for %zu references", n_refs);
  for (size_t i = 0; i < n && st == TL_OK; i++) {
    tl_err why = {0};
    st = count_segment(opts, hyp[i], refs + i * n_refs, &w, each, &counts[i], &why);
    if (st != TL_OK) tl_fail(err, st, "segment %zu: %.900s", i, why.msg);
  }
  free(each);
  tl_texts_free(&w);
  return st;
}

double tl_chrf_score_of(const tl_chrf_opts *opts, const tl_chrf_counts *counts, const size_t *index,
                        size_t n) {
  tl_chrf_counts sum = {0};
  for (size_t i = 0; i < n; i++) {
    const tl_chrf_counts *c = &counts[index ? index[i] : i];
    for (int k = 0; k < TL_CHRF_CHARS + opts->words; k++) {
      sum.hyp[k] += c->hyp[k];
      sum.ref[k] += c->ref[k];
      sum.match[k] += c->match[k];
    }
  }
  return f_score(opts, &sum);
}

void tl_chrf_signature(const tl_chrf_opts *opts, size_t n_refs, char *out, size_t size) {
  snprintf(out, size, "nrefs:%zu|case:%s|eff:yes|nc:%d|nw:%d|space:no|version:tilth-%s", n_refs,
           opts->lowercase ? "lc" : "mixed", TL_CHRF_CHARS, opts->words, tl_version());
}
