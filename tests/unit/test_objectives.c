/* Unit tests of src/objectives: what a window of tokens becomes under each objective. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "objectives/objective.h"

#define OBJECTIVE(name) extern const tl_objective tl_objective_##name;
TL_OBJECTIVES(OBJECTIVE)
#undef OBJECTIVE

enum { N_SPECIAL = 5, MASK = 4, VOCAB = 100, LEN = 64, SAMPLES = 2000 };

static uint8_t g_word_starts[VOCAB]; /* specials, and every id that 3 divides */

static tl_objective_args args(void) {
  for (int i = 0; i < VOCAB; i++) g_word_starts[i] = i < N_SPECIAL || i % 3 == 0;
  return (tl_objective_args){.seed = 7,
                             .rate = 0.15,
                             .rate_end = 0.15,
                             .keep = 0.1,
                             .random = 0.1,
                             .causal_share = 0.0625,
                             .span = 1,
                             .vocab = VOCAB,
                             .mask_id = MASK,
                             .n_special = N_SPECIAL,
                             .span_mean = 3,
                             .bos = 1,
                             .eos = 2,
                             .sentinel = VOCAB + 99,
                             .sentinel_step = -1,
                             .n_sentinels = 100,
                             .word_starts = g_word_starts};
}

static tl_batch new_batch(int64_t max_tokens) {
  tl_batch b;
  assert_int_equal(tl_batch_init(&b, max_tokens, NULL), TL_OK);
  return b;
}

/* Two documents, <s> ... </s> each; the second begins at 20. */
static tl_sample window(uint64_t position, uint32_t *tok) {
  static const uint32_t starts[] = {0, 20};
  tl_rng r = tl_rng_make(1, TL_STREAM_TEST, 0, position << 20);
  for (int i = 0; i <= LEN; i++) tok[i] = N_SPECIAL + (uint32_t)tl_rng_below(&r, VOCAB - N_SPECIAL);
  tok[0] = tok[20] = 1;
  tok[19] = 2;
  return (tl_sample){.tok = tok,
                     .n = LEN,
                     .has_next = true,
                     .starts = starts,
                     .n_starts = 2,
                     .position = position};
}

static void assert_ints(const int32_t *got, const int32_t *want, size_t n) {
  for (size_t i = 0; i < n; i++) assert_int_equal(got[i], want[i]);
}

static void next_token_predicts_inside_documents(void **state) {
  (void)state;
  tl_objective_args a = args();
  tl_batch b = new_batch(32);
  const uint32_t tok[] = {1, 10, 11, 2, 1, 12, 13, 14}, starts[] = {0, 4, 7};
  tl_sample s = {.tok = tok, .n = 7, .has_next = true, .starts = starts, .n_starts = 2};
  tl_objective_next_token.add(&a, &s, &b);
  assert_int_equal(b.n_tokens, 7);
  assert_int_equal(b.n_targets, 7);
  assert_int_equal(b.n_counted, 6); /* 3 is followed by another document */
  assert_ints(b.tokens, (const int32_t[]){1, 10, 11, 2, 1, 12, 13}, 7);
  assert_ints(b.targets, (const int32_t[]){10, 11, 2, -1, 12, 13, 14}, 7);
  assert_ints(b.pos, (const int32_t[]){0, 1, 2, 3, 0, 1, 2}, 7);
  assert_int_equal(b.n_segments, 2);
  assert_memory_equal(&b.segments[0], (&(tl_segment){0, 4, 0, 4, 1}), sizeof *b.segments);
  assert_memory_equal(&b.segments[1], (&(tl_segment){4, 7, 4, 7, 1}), sizeof *b.segments);

  /* A second sample stands behind the first; the token after it opens a document, and the window
   * begins inside one. */
  s.starts = (const uint32_t[]){4, 7};
  tl_objective_next_token.add(&a, &s, &b);
  assert_int_equal(b.n_tokens, 14);
  assert_int_equal(b.n_segments, 4);
  assert_memory_equal(&b.segments[3], (&(tl_segment){11, 14, 11, 14, 1}), sizeof *b.segments);
  assert_ints(b.targets + 7, (const int32_t[]){10, 11, 2, -1, 12, 13, -1}, 7);
  assert_int_equal(b.n_counted, 11);

  /* Without the token after the window the last one has no target. */
  tl_batch_clear(&b);
  s = (tl_sample){.tok = tok, .n = 7};
  tl_objective_next_token.add(&a, &s, &b);
  assert_int_equal(b.n_segments, 1);
  assert_int_equal(b.targets[3], 1);
  assert_int_equal(b.targets[6], -1);
  assert_int_equal(b.n_counted, 6);
  tl_batch_free(&b);
}

typedef struct counts {
  double maskable, hidden, masked, kept, random, runs, split_words, first_words;
} counts;

static bool begins_word(const tl_sample *s, uint32_t i) {
  return i == 0 || g_word_starts[s->tok[i]] || s->tok[i - 1] < N_SPECIAL;
}

/* Checks one masked sample row by row and adds to the counts. */
static void count_sample(const tl_sample *s, const tl_batch *b, counts *c) {
  int64_t t = 0;
  bool before = false;
  for (uint32_t i = 0; i < s->n; i++) {
    bool hidden = t < b->n_targets && b->idx[t] == (int32_t)i, special = s->tok[i] < N_SPECIAL;
    c->maskable += !special;
    if (hidden) {
      assert_false(special);
      assert_int_equal(b->targets[t++], s->tok[i]);
      c->masked += b->tokens[i] == MASK;
      c->kept += b->tokens[i] == (int32_t)s->tok[i];
      c->random += b->tokens[i] != MASK && b->tokens[i] != (int32_t)s->tok[i];
      assert_true(b->tokens[i] == MASK || (b->tokens[i] >= N_SPECIAL && b->tokens[i] < VOCAB));
    } else {
      assert_int_equal(b->tokens[i], s->tok[i]);
    }
    c->hidden += hidden;
    c->runs += hidden && !before;
    c->split_words += !special && !begins_word(s, i) && hidden != before;
    c->first_words += hidden && i == 1;
    before = hidden;
  }
  assert_int_equal(t, b->n_targets); /* in increasing order, none twice, none besides */
  assert_int_equal(b->n_counted, b->n_targets);
}

static counts mask_many(const tl_objective_args *a) {
  uint32_t tok[LEN + 1];
  counts c = {0};
  tl_batch b = new_batch(LEN);
  for (uint64_t p = 0; p < SAMPLES; p++) {
    tl_sample s = window(p, tok);
    tl_batch_clear(&b);
    tl_objective_masked.add(a, &s, &b);
    assert_int_equal(b.n_segments, 2);
    assert_int_equal(b.segments[1].causal, 0);
    count_sample(&s, &b, &c);
  }
  tl_batch_free(&b);
  return c;
}

static void assert_near(double got, double want, double tolerance) {
  if (!(fabs(got - want) <= tolerance)) fail_msg("%g, expected %g +- %g", got, want, tolerance);
}

static void masked_hides_the_rate_by_80_10_10(void **state) {
  (void)state;
  tl_objective_args a = args();
  counts c = mask_many(&a);
  assert_near(c.hidden / c.maskable, 0.15, 0.001);
  assert_near(c.masked / c.hidden, 0.8, 0.012);
  assert_near(c.kept / c.hidden, 0.1, 0.01);
  assert_near(c.random / c.hidden, 0.1, 0.01);
  assert_near(c.hidden / c.runs, 1 / 0.85, 0.03); /* tokens fall singly */
  a.keep = a.random = 0;
  c = mask_many(&a);
  assert_true(c.masked == c.hidden);
}

static void rate_follows_the_progress(void **state) {
  (void)state;
  tl_objective_args a = args();
  a.rate = 0.4;
  a.rate_end = 0.1;
  static const double want[] = {0.4, 0.25, 0.1};
  for (int i = 0; i < 3; i++) {
    a.progress = 0.5 * i;
    counts c = mask_many(&a);
    assert_near(c.hidden / c.maskable, want[i], 0.001);
  }
  a.rate = a.rate_end = 0.9;
  counts c = mask_many(&a);
  assert_near(c.hidden / c.maskable, 0.9, 0.001);
}

static void spans_are_longer_at_the_same_rate(void **state) {
  (void)state;
  tl_objective_args a = args();
  a.span = 8;
  counts c = mask_many(&a);
  assert_near(c.hidden / c.maskable, 0.15, 0.001);
  assert_true(c.hidden / c.runs > 2.5);
}

static void words_are_hidden_whole(void **state) {
  (void)state;
  tl_objective_args a = args();
  counts c = mask_many(&a);
  assert_true(c.split_words > SAMPLES); /* the check sees split words */
  a.whole_word = true;
  for (a.span = 1; a.span <= 3; a.span += 2) {
    c = mask_many(&a);
    assert_true(c.split_words == 0);
    assert_near(c.hidden / c.maskable, 0.15, 0.006);
    /* The first word of a document is hidden like any other, space before it or not; spans of
     * several words reach it from one side only. */
    assert_near(c.first_words / SAMPLES, a.span == 1 ? 0.15 : 0.1, 0.03);
  }
}

static void masking_depends_on_seed_and_position_alone(void **state) {
  (void)state;
  uint32_t tok[LEN + 1];
  tl_objective_args a = args();
  tl_batch one = new_batch(LEN), two = new_batch(2 * LEN);
  tl_sample s = window(3, tok);
  tl_objective_masked.add(&a, &s, &two);
  s.position = 4;
  tl_objective_masked.add(&a, &s, &two); /* the same text at another position */
  tl_objective_masked.add(&a, &s, &one);
  assert_memory_equal(one.tokens, two.tokens + LEN, LEN * sizeof *one.tokens);
  assert_memory_not_equal(one.tokens, two.tokens, LEN * sizeof *one.tokens);
  int64_t first = two.n_targets - one.n_targets;
  assert_true(first > 0 && one.n_targets > 0);
  for (int64_t i = 0; i < one.n_targets; i++)
    assert_int_equal(one.idx[i] + LEN, two.idx[first + i]);
  tl_batch_clear(&one);
  a.seed = 8;
  tl_objective_masked.add(&a, &s, &one);
  assert_memory_not_equal(one.tokens, two.tokens + LEN, LEN * sizeof *one.tokens);
  tl_batch_free(&one);
  tl_batch_free(&two);
}

static void hybrid_predicts_one_row_earlier(void **state) {
  (void)state;
  uint32_t tok[LEN + 1];
  tl_objective_args a = args();
  tl_batch b = new_batch(LEN);
  int64_t hidden = 0, without_row = 0;
  for (uint64_t p = 0; p < 200; p++) {
    tl_sample s = window(p, tok);
    s.starts = (const uint32_t[]){20, 40}; /* 40: a document whose first token can be hidden */
    tl_batch_clear(&b);
    tl_objective_hybrid.add(&a, &s, &b);
    assert_int_equal(b.segments[0].causal, 0);
    for (int64_t t = 0; t < b.n_targets; t++) {
      int32_t row = b.idx[t] + 1;
      assert_int_equal(b.targets[t], s.tok[row]);
      assert_int_equal(b.pos[row], b.pos[row - 1] + 1);
    }
    without_row += b.tokens[40] == MASK;
    hidden += b.n_targets;
  }
  assert_true(hidden > 200 * 5);
  assert_true(without_row > 10); /* hidden, yet no row of its document stands before it */

  a.causal = true;
  tl_sample s = window(0, tok);
  tl_batch_clear(&b);
  tl_objective_hybrid.add(&a, &s, &b);
  assert_int_equal(b.n_targets, LEN - 2);
  assert_int_equal(b.n_counted, LEN - 2);
  assert_int_equal(b.segments[0].causal, 1);
  for (int64_t t = 0; t < b.n_targets; t++) {
    assert_int_equal(b.targets[t], s.tok[b.idx[t] + 1]);
    assert_int_equal(b.tokens[b.idx[t]], s.tok[b.idx[t]]);
    assert_true(b.idx[t] != 19);
  }
  tl_batch_free(&b);
}

typedef struct pair_counts {
  double pieces, tokens, hidden, spans;
} pair_counts;

/* What holds for every pair of a batch: its segments, positions, and the shift of the decoder. */
static void check_pairs(const tl_batch *b) {
  int32_t source = 0, target = 0;
  for (int64_t i = 0; i < b->n_segments; i++) {
    const tl_segment *s = &b->src_segments[i], *t = &b->segments[i], *c = &b->cross[i];
    assert_true(s->q0 == source && s->k0 == s->q0 && s->k1 == s->q1 && !s->causal);
    assert_true(t->q0 == target && t->k0 == t->q0 && t->k1 == t->q1 && t->causal);
    assert_true(c->q0 == t->q0 && c->q1 == t->q1 && c->k0 == s->q0 && c->k1 == s->q1 && !c->causal);
    for (int32_t r = s->q0; r < s->q1; r++) assert_int_equal(b->src_pos[r], r - s->q0);
    for (int32_t r = t->q0; r < t->q1; r++) {
      assert_int_equal(b->pos[r], r - t->q0);
      assert_int_equal(b->tokens[r], r == t->q0 ? 1 : b->targets[r - 1]);
    }
    source = s->q1;
    target = t->q1;
  }
  assert_true(b->n_source == source && b->n_tokens == target && b->n_targets == target);
  assert_int_equal(b->n_counted, target);
  assert_true(source <= LEN && target <= LEN);
}

/* The source with each sentinel replaced by what the target has behind it. */
static void check_span_corruption(const tl_objective_args *a, const tl_batch *b, int64_t i,
                                  const tl_piece *p, pair_counts *c) {
  const tl_segment *s = &b->src_segments[i], *t = &b->segments[i];
  int32_t at = t->q0, sentinel = a->sentinel;
  uint32_t n = 0;
  for (int32_t r = s->q0; r < s->q1; r++) {
    if (b->src_tokens[r] == 2 && r + 1 == s->q1 && p->ends) break;
    if (b->src_tokens[r] != sentinel) {
      assert_int_equal(b->src_tokens[r], p->tok[n++]);
      continue;
    }
    assert_int_equal(b->targets[at++], sentinel--);
    for (; b->targets[at] != sentinel && b->targets[at] != 2; at++, c->hidden++)
      assert_int_equal(b->targets[at], p->tok[n++]);
    c->spans++;
  }
  assert_int_equal(n, p->n);
  assert_true(at + 1 == t->q1 && b->targets[at] == 2);
}

static void check_denoise(const tl_batch *b, int64_t i, const tl_piece *p, pair_counts *c) {
  const tl_segment *s = &b->src_segments[i], *t = &b->segments[i];
  assert_int_equal(t->q1 - t->q0, p->n + p->ends);
  for (uint32_t k = 0; k < p->n; k++) assert_int_equal(b->targets[t->q0 + (int32_t)k], p->tok[k]);
  if (p->ends) assert_true(b->targets[t->q1 - 1] == 2 && b->src_tokens[s->q1 - 1] == 2);
  double masks = 0, shown = 0;
  for (int32_t r = s->q0; r < s->q1 - p->ends; r++) {
    masks += b->src_tokens[r] == MASK;
    shown += b->src_tokens[r] != MASK;
  }
  c->spans += masks;
  c->hidden += p->n - shown;
}

static pair_counts count_pairs(const tl_objective *o, tl_objective_args *a) {
  pair_counts c = {0};
  tl_batch b = new_batch(LEN);
  for (uint64_t position = 0; position < SAMPLES; position++) {
    uint32_t tok[LEN + 1];
    tl_sample s = window(position, tok);
    tl_batch_clear(&b);
    o->add(a, &s, &b);
    check_pairs(&b);
    assert_int_equal(b.n_segments, 2);
    tl_piece p = {0};
    for (int64_t i = 0; tl_next_piece(a, &s, &p); i++) {
      if (o == &tl_objective_denoise)
        check_denoise(&b, i, &p, &c);
      else
        check_span_corruption(a, &b, i, &p, &c);
      c.pieces++;
      c.tokens += p.n;
    }
  }
  tl_batch_free(&b);
  return c;
}

static void span_corruption_makes_pairs_at_its_rate(void **state) {
  (void)state;
  tl_objective_args a = args();
  pair_counts c = count_pairs(&tl_objective_span_corruption, &a);
  assert_true(c.tokens == SAMPLES * (18 + 43));
  assert_near(c.hidden / c.tokens, 0.15, 0.005);
  assert_near(c.hidden / c.spans, 3, 0.3);
}

static void denoise_makes_pairs_at_its_rate(void **state) {
  (void)state;
  tl_objective_args a = args();
  a.rate = a.rate_end = 0.35;
  a.span_mean = 3.5;
  pair_counts c = count_pairs(&tl_objective_denoise, &a);
  assert_near(c.hidden / c.tokens, 0.35, 0.005);
  assert_near(c.hidden / c.spans, 3.3, 0.4); /* the last span of a text may be cut */
}

/* Windows of any kind keep within their room; a piece too short for a pair makes none. */
static void pairs_fit_their_window(void **state) {
  (void)state;
  const tl_objective *const list[] = {&tl_objective_span_corruption, &tl_objective_denoise};
  tl_objective_args a = args();
  a.rate = a.rate_end = 0.9;
  a.span_mean = 1;
  tl_batch b = new_batch(LEN);
  for (int k = 0; k < 2; k++)
    for (uint32_t n = 1; n < 24; n++) {
      uint32_t tok[LEN + 1], starts[] = {0, n / 3, n / 2};
      tl_sample s = window(n, tok);
      s.n = n;
      s.starts = starts;
      s.n_starts = 3;
      tl_batch_clear(&b);
      list[k]->add(&a, &s, &b);
      check_pairs(&b);
      assert_true(b.n_tokens <= n && b.n_source <= n && b.n_segments <= 3);
    }
  tl_batch_free(&b);
}

static void hybrid_draws_its_causal_share(void **state) {
  (void)state;
  tl_objective_args a = args(), again;
  int causal = 0;
  for (uint64_t batch = 0; batch < 8000; batch++) {
    tl_objective_begin(&tl_objective_hybrid, &a, batch);
    again = args();
    tl_objective_begin(&tl_objective_hybrid, &again, batch);
    assert_int_equal(a.causal, again.causal);
    causal += a.causal;
  }
  assert_near(causal / 8000.0, 0.0625, 0.01);
  tl_objective_begin(&tl_objective_next_token, &a, 0);
  assert_true(a.causal);
  for (uint64_t batch = 0; batch < 100; batch++) {
    tl_objective_begin(&tl_objective_masked, &a, batch);
    assert_false(a.causal);
  }
}

static void arguments_come_from_the_configuration(void **state) {
  (void)state;
  tl_ctx *ctx = NULL;
  tl_tokenizer *tok = NULL;
  tl_config *cfg = NULL;
  tl_objective_args a;
  tl_err err = {0};
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 1}, &ctx, NULL), TL_OK);
  assert_int_equal(tl_tokenizer_train(ctx, &(tl_tokenizer_train_options){.type = "bytes"}, NULL,
                                      NULL, &tok, NULL),
                   TL_OK);
  const char *const set[] = {"objective.mask_rate=0.3", "objective.mask_keep=0.2", "run.seed=9"};
  assert_int_equal(tl_config_load(NULL, NULL, set, 3, &cfg, NULL), TL_OK);
  assert_int_equal(tl_objective_args_from(&tl_objective_masked, cfg, tok, &a, NULL), TL_OK);
  assert_true(a.rate == 0.3 && a.rate_end == 0.3 && a.keep == 0.2 && a.random == 0.1);
  assert_int_equal(a.seed, 9);
  assert_int_equal(a.vocab, tl_tokenizer_vocab_size(tok));
  assert_int_equal(a.n_special, 5);
  assert_int_equal(a.mask_id, tl_tokenizer_special(tok, TL_TOK_MASK));
  assert_int_equal(tl_config_apply_override(cfg, "objective.mask_random=0.9", NULL), TL_OK);
  assert_int_equal(tl_objective_args_from(&tl_objective_masked, cfg, tok, &a, &err), TL_CONFIG);
  assert_non_null(strstr(err.msg, "mask_keep"));
  assert_int_equal(tl_objective_args_from(&tl_objective_next_token, cfg, tok, &a, NULL), TL_OK);
  assert_ptr_equal(tl_objective_find("masked"), &tl_objective_masked);
  assert_null(tl_objective_find("mask"));
  tl_config_free(cfg);
  tl_tokenizer_free(tok);
  tl_ctx_free(ctx);
}

static void sentinels_of_t5_are_the_tokenizers_own(void **state) {
  (void)state;
  tl_tokenizer *tok = NULL;
  tl_config *cfg = NULL;
  tl_objective_args a;
  const tl_objective *o = &tl_objective_span_corruption;
  assert_int_equal(
      tl_tokenizer_load(TL_SOURCE_DIR "/tests/golden/tokenizer/chain-t5.json", &tok, NULL), TL_OK);
  assert_int_equal(tl_config_new(&cfg, NULL), TL_OK);
  assert_int_equal(tl_objective_more_tokens(o, tok), 0);
  assert_int_equal(tl_objective_args_from(o, cfg, tok, &a, NULL), TL_OK);
  /* no id is left besides the tokenizer's, and none is needed */
  assert_int_equal(tl_objective_sentinels(o, &a, tl_tokenizer_vocab_size(tok), NULL), TL_OK);
  assert_int_equal(a.n_sentinels, 10);
  for (int k = 0; k < a.n_sentinels; k++) {
    char name[32];
    snprintf(name, sizeof name, "<extra_id_%d>", k);
    assert_int_equal(a.sentinel + k * a.sentinel_step, tl_tokenizer_id(tok, name));
  }
  tl_config_free(cfg);
  tl_tokenizer_free(tok);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(next_token_predicts_inside_documents),
      cmocka_unit_test(masked_hides_the_rate_by_80_10_10),
      cmocka_unit_test(rate_follows_the_progress),
      cmocka_unit_test(spans_are_longer_at_the_same_rate),
      cmocka_unit_test(words_are_hidden_whole),
      cmocka_unit_test(masking_depends_on_seed_and_position_alone),
      cmocka_unit_test(hybrid_predicts_one_row_earlier),
      cmocka_unit_test(span_corruption_makes_pairs_at_its_rate),
      cmocka_unit_test(denoise_makes_pairs_at_its_rate),
      cmocka_unit_test(pairs_fit_their_window),
      cmocka_unit_test(hybrid_draws_its_causal_share),
      cmocka_unit_test(arguments_come_from_the_configuration),
      cmocka_unit_test(sentinels_of_t5_are_the_tokenizers_own),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
