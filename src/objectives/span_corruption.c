/* Span corruption (T5, Raffel et al., 2020): in the source each hidden span is one sentinel; the
 * target is the spans, each behind its sentinel, and the end. */
#include "objectives/objective.h"

static int32_t sentinel(const tl_objective_args *a, uint32_t k) {
  return a->sentinel + a->sentinel_step * (int32_t)k;
}

static void add_piece(const tl_objective_args *a, const tl_piece *p, tl_rng *r, tl_batch *b) {
  /* The target has a sentinel and the end more than it has hidden tokens: so many fit. */
  uint32_t spans = tl_hide_spans(a, r, true, (uint32_t)a->n_sentinels, p->n, b->hide);
  uint32_t hidden = 0, k = 0;
  for (uint32_t i = 0; i < p->n; i++) hidden += b->hide[i] != TL_SHOWN;
  if (spans == 0 || hidden + spans + 1 > p->room) return;
  tl_pair_begin(b);
  for (uint32_t i = 0; i < p->n; i++) {
    if (b->hide[i] == TL_SPAN) tl_pair_source(b, sentinel(a, k++));
    if (b->hide[i] == TL_SHOWN) tl_pair_source(b, (int32_t)p->tok[i]);
  }
  if (p->ends) tl_pair_source(b, a->eos);
  k = 0;
  for (uint32_t i = 0; i < p->n; i++) {
    if (b->hide[i] == TL_SPAN) tl_pair_target(a, b, sentinel(a, k++));
    if (b->hide[i] != TL_SHOWN) tl_pair_target(a, b, (int32_t)p->tok[i]);
  }
  tl_pair_target(a, b, a->eos);
  tl_pair_end(b);
}

static void add(const tl_objective_args *a, const tl_sample *s, tl_batch *b) {
  tl_rng r = tl_rng_make(a->seed, TL_STREAM_MASK, 0, s->position << 20);
  for (tl_piece p = {0}; tl_next_piece(a, s, &p);)
    if (p.n > 1) add_piece(a, &p, &r, b);
}

const tl_objective tl_objective_span_corruption = {
    .name = "span_corruption", .seq2seq = true, .sentinels = 100, .add = add};
