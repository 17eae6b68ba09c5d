#include "objectives/objective.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OBJECTIVE(name) extern const tl_objective tl_objective_##name;
TL_OBJECTIVES(OBJECTIVE)
#undef OBJECTIVE

static const tl_objective *const objectives[] = {
#define OBJECTIVE(name) &tl_objective_##name,
    TL_OBJECTIVES(OBJECTIVE)
#undef OBJECTIVE
};

const tl_objective *tl_objective_find(const char *name) {
  for (size_t i = 0; i < sizeof objectives / sizeof *objectives; i++)
    if (!strcmp(objectives[i]->name, name)) return objectives[i];
  return NULL;
}

double tl_objective_mask_rate(const tl_config *c) {
  if (c->objective.mask_rate > 0) return c->objective.mask_rate;
  return strcmp(c->objective.type, "mae") ? 0.15 : 0.75;
}

tl_status tl_batch_init(tl_batch *b, int64_t max_tokens, tl_err *err) {
  *b = (tl_batch){.max_tokens = max_tokens};
  size_t n = (size_t)max_tokens;
  b->tokens = calloc(n, sizeof *b->tokens);
  b->pos = calloc(n, sizeof *b->pos);
  b->segments = calloc(n, sizeof *b->segments);
  b->idx = calloc(n, sizeof *b->idx);
  b->targets = calloc(n, sizeof *b->targets);
  b->hide = calloc(n, sizeof *b->hide);
  b->src_tokens = calloc(n, sizeof *b->src_tokens);
  b->src_pos = calloc(n, sizeof *b->src_pos);
  b->src_segments = calloc(n, sizeof *b->src_segments);
  b->cross = calloc(n, sizeof *b->cross);
  if (b->tokens && b->pos && b->segments && b->idx && b->targets && b->hide && b->src_tokens &&
      b->src_pos && b->src_segments && b->cross)
    return TL_OK;
  tl_batch_free(b);
  return tl_fail(err, TL_NOMEM, "batch: out of memory for %zu tokens", n);
}

void tl_batch_clear(tl_batch *b) {
  b->n_tokens = b->n_segments = b->n_targets = b->n_counted = b->n_source = 0;
}

void tl_batch_free(tl_batch *b) {
  free(b->tokens);
  free(b->pos);
  free(b->segments);
  free(b->idx);
  free(b->targets);
  free(b->hide);
  free(b->src_tokens);
  free(b->src_pos);
  free(b->src_segments);
  free(b->cross);
  *b = (tl_batch){0};
}

/* T5's tokenizers have sentinels of their own, <extra_id_0> and so on, each an id lower than the
 * one before (some files count upwards). Sets those of *a, if there are any. */
static bool own_sentinels(const tl_objective *o, const tl_tokenizer *t, tl_objective_args *a) {
  int first = 0, step = -1, n = 0;
  char name[32];
  for (; n < o->sentinels; n++) {
    snprintf(name, sizeof name, "<extra_id_%d>", n);
    int id = tl_tokenizer_id(t, name);
    if (n == 0) first = id;
    if (n == 1 && id == first + 1) step = 1;
    if (id < 0 || id != first + step * n) break;
  }
  if (n == 0) return false;
  a->has_sentinels = true;
  a->sentinel = first;
  a->sentinel_step = step;
  a->n_sentinels = n;
  return true;
}

int tl_objective_more_tokens(const tl_objective *o, const tl_tokenizer *t) {
  tl_objective_args a;
  return own_sentinels(o, t, &a) ? 0 : o->sentinels;
}

tl_status tl_objective_args_from(const tl_objective *o, const tl_config *c, const tl_tokenizer *t,
                                 tl_objective_args *a, tl_err *err) {
  *a = (tl_objective_args){.seed = (uint64_t)c->run.seed,
                           .rate = tl_objective_mask_rate(c),
                           .rate_end = c->objective.mask_rate_end,
                           .keep = c->objective.mask_keep,
                           .random = c->objective.mask_random,
                           .causal_share = c->objective.causal_share,
                           .span_mean = c->objective.span_mean,
                           .span = (int)c->objective.mask_span,
                           .whole_word = c->objective.whole_word,
                           .vocab = tl_tokenizer_vocab_size(t),
                           .mask_id = tl_tokenizer_special(t, TL_TOK_MASK),
                           .bos = tl_tokenizer_special(t, TL_TOK_BOS),
                           .eos = tl_tokenizer_special(t, TL_TOK_EOS),
                           .n_sentinels = o->sentinels,
                           .word_starts = tl_tokenizer_word_starts(t)};
  if (a->rate_end == 0) a->rate_end = a->rate;
  own_sentinels(o, t, a);
  for (int role = 0; role < TL_TOK_N_SPECIAL; role++)
    if (tl_tokenizer_special(t, role) >= a->n_special)
      a->n_special = tl_tokenizer_special(t, role) + 1;
  /* Special tokens come first in our tokenizers; in others one may stand last. Then none are
   * skipped. */
  if (a->n_special > TL_TOK_N_SPECIAL) a->n_special = 0;
  if (o->seq2seq && a->bos < 0) a->bos = a->eos;
  if (o->seq2seq && a->eos < 0)
    return tl_fail(
        err, TL_CONFIG,
        "objective.type %s needs a tokenizer with a token that ends a text; this one has "
        "none",
        o->name);
  if (o->needs_mask && a->mask_id < 0)
    return tl_fail(err, TL_CONFIG,
                   "objective.type %s needs a tokenizer with a mask token; this one has none",
                   o->name);
  if (o->needs_mask && a->keep + a->random > 1)
    return tl_fail(err, TL_CONFIG, "objective.mask_keep %g + objective.mask_random %g exceed 1",
                   a->keep, a->random);
  return TL_OK;
}

tl_status tl_objective_sentinels(const tl_objective *o, tl_objective_args *a, int64_t model_vocab,
                                 tl_err *err) {
  if (a->has_sentinels) return TL_OK;
  a->sentinel = (int)model_vocab - 1;
  a->sentinel_step = -1;
  if (o->sentinels == 0 || model_vocab - a->vocab >= o->sentinels) return TL_OK;
  return tl_fail(
      err, TL_CONFIG,
      "objective.type %s needs %d tokens besides the %d of the tokenizer: set model.vocab "
      "to 0 or at least %d, not %lld",
      o->name, o->sentinels, a->vocab, a->vocab + o->sentinels, (long long)model_vocab);
}

void tl_objective_begin(const tl_objective *o, tl_objective_args *a, uint64_t batch) {
  tl_rng r = tl_rng_make(a->seed, TL_STREAM_MASK, 1, batch);
  a->causal = !o->needs_mask || (o->decoder && (double)tl_rng_f32(&r) < a->causal_share);
}

int64_t tl_batch_append(tl_batch *b, const tl_sample *s, bool causal) {
  int64_t row0 = b->n_tokens;
  size_t next = s->n_starts && s->starts[0] == 0 ? 1 : 0;
  for (uint32_t i = 0, begin = 0; i < s->n; i++) {
    b->tokens[row0 + i] = (int32_t)s->tok[i];
    b->pos[row0 + i] = (int32_t)(i - begin);
    bool last = i + 1 == s->n || (next < s->n_starts && s->starts[next] == i + 1);
    if (!last) continue;
    int32_t q0 = (int32_t)(row0 + begin), q1 = (int32_t)(row0 + i + 1);
    b->segments[b->n_segments++] = (tl_segment){q0, q1, q0, q1, causal};
    begin = i + 1;
    next++;
  }
  b->n_tokens += s->n;
  return row0;
}

static bool begins_unit(const tl_objective_args *a, const tl_sample *s, uint32_t i) {
  if (i == 0 || !a->whole_word || a->word_starts[s->tok[i]]) return true;
  return s->tok[i - 1] < (uint32_t)a->n_special; /* the first word needs no space before it */
}

/* Marks hidden tokens in hide[0..n) until `want` are marked: random starts, random span lengths. A
 * unit is a token, or a whole word. */
static void choose_hidden(const tl_objective_args *a, const tl_sample *s, tl_rng *r, uint8_t *hide,
                          uint32_t want) {
  for (uint32_t tries = 0; want > 0 && tries < 20 * s->n; tries++) {
    uint32_t at = (uint32_t)tl_rng_below(r, s->n);
    if (!begins_unit(a, s, at)) continue; /* so that long words are not chosen more often */
    uint64_t units = a->span > 1 ? 1 + tl_rng_below(r, (uint64_t)a->span) : 1;
    /* never across the end of a document */
    for (; units > 0 && want > 0 && at < s->n && s->tok[at] >= (uint32_t)a->n_special; units--) {
      uint32_t begin = at++;
      while (at < s->n && !begins_unit(a, s, at)) at++;
      uint32_t size = at - begin;
      if (hide[begin]) continue;
      /* A word is hidden whole or not at all; these odds keep the rate right on average. */
      if (size > want && tl_rng_below(r, size) >= want) return;
      memset(hide + begin, 1, size);
      want -= size < want ? size : want;
    }
  }
}

static int32_t replacement(const tl_objective_args *a, tl_rng *r, uint32_t original) {
  float u = tl_rng_f32(r);
  if ((double)u < a->keep) return (int32_t)original;
  if ((double)u < a->keep + a->random)
    return (int32_t)(a->n_special + (int)tl_rng_below(r, (uint64_t)(a->vocab - a->n_special)));
  return a->mask_id;
}

void tl_mask_sample(const tl_objective_args *a, const tl_sample *s, tl_batch *b, int64_t row0,
                    int shift) {
  tl_rng r = tl_rng_make(a->seed, TL_STREAM_MASK, 0, s->position << 20);
  uint32_t maskable = 0;
  for (uint32_t i = 0; i < s->n; i++) maskable += s->tok[i] >= (uint32_t)a->n_special;
  double rate = a->rate + (a->rate_end - a->rate) * a->progress;
  double expected = rate * maskable;
  uint32_t want = (uint32_t)expected;
  if ((double)tl_rng_f32(&r) < expected - want) want++; /* right on average for short samples too */
  memset(b->hide, 0, s->n);
  choose_hidden(a, s, &r, b->hide, want);
  for (uint32_t i = 0; i < s->n; i++) {
    if (!b->hide[i]) continue;
    int64_t row = row0 + i;
    b->tokens[row] = replacement(a, &r, s->tok[i]);
    if (b->pos[row] + shift < 0) continue; /* the first token of a segment has no row before it */
    b->idx[b->n_targets] = (int32_t)(row + shift);
    b->targets[b->n_targets++] = (int32_t)s->tok[i];
    b->n_counted++;
  }
}
