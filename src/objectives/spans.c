/* What the objectives of encoder-decoders share: hidden spans, and pairs of a source and a target.
 */
#include "objectives/objective.h"

#include <math.h>
#include <string.h>

/* A number that is cut at random into parts of at least 1, all cuts being as likely. */
typedef struct cuts {
  uint32_t total, parts; /* left */
} cuts;

static uint32_t next_part(tl_rng *r, cuts *c) {
  uint32_t n = 1;
  if (c->parts <= 1)
    n = c->total;
  else
    while (tl_rng_below(r, c->total - n) >= c->parts - 1) n++;
  c->total -= n;
  c->parts--;
  return n;
}

static uint32_t poisson(tl_rng *r, double mean) {
  double limit = exp(-mean), p = 1;
  uint32_t n = 0;
  while ((p *= (double)tl_rng_f32(r)) > limit) n++;
  return n > 0 ? n : 1;
}

/* The spans of Poisson length that `hidden` tokens make. */
static uint32_t poisson_spans(tl_rng r, double mean, uint32_t hidden) {
  uint32_t n = 0;
  for (uint32_t sum = 0; sum < hidden; n++) sum += poisson(&r, mean);
  return n;
}

uint32_t tl_hide_spans(const tl_objective_args *a, tl_rng *r, bool even, uint32_t most, uint32_t n,
                       uint8_t *hide) {
  double rate = a->rate + (a->rate_end - a->rate) * a->progress, expected = rate * n;
  uint32_t hidden = (uint32_t)expected;
  if ((double)tl_rng_f32(r) < expected - hidden) hidden++; /* right on average */
  if (hidden >= n) hidden = n - 1;
  memset(hide, TL_SHOWN, n);
  if (hidden == 0) return 0;
  tl_rng lengths = *r; /* drawn here again, below, after they were counted */
  uint32_t spans =
      even ? (uint32_t)(hidden / a->span_mean + 0.5) : poisson_spans(lengths, a->span_mean, hidden);
  if (!even) { /* the gaps get numbers of their own */
    r->position += 1 << 10;
    r->have = 0;
  }
  if (spans > hidden) spans = hidden;
  if (spans > n - hidden + 1) spans = n - hidden + 1; /* a token is shown between two */
  if (spans > most) spans = most;
  if (spans == 0) spans = 1;
  cuts length = {hidden, spans}, gap = {n - hidden + 2, spans + 1};
  uint32_t at = next_part(r, &gap) - 1, left = hidden;
  for (uint32_t i = 0; i < spans; i++) {
    uint32_t size = even ? next_part(r, &length) : poisson(&lengths, a->span_mean);
    uint32_t rest = spans - 1 - i; /* at least one token for each of them */
    if (size > left - rest || rest == 0) size = left - rest;
    memset(hide + at, TL_HIDDEN, size);
    hide[at] = TL_SPAN;
    left -= size;
    at += size + (rest ? next_part(r, &gap) : 0);
  }
  return spans;
}

static bool is_special(const tl_sample *s, uint32_t i, int id) {
  return id >= 0 && s->tok[i] == (uint32_t)id;
}

bool tl_next_piece(const tl_objective_args *a, const tl_sample *s, tl_piece *p) {
  uint32_t begin = p->end;
  if (begin >= s->n) return false;
  while (p->next < s->n_starts && s->starts[p->next] <= begin) p->next++;
  p->end = p->next < s->n_starts && s->starts[p->next] < s->n ? s->starts[p->next] : s->n;
  p->room = p->end - begin;
  p->ends = is_special(s, p->end - 1, a->eos);
  p->n = p->room - p->ends;
  if (p->n > 0 && is_special(s, begin, a->bos)) {
    begin++;
    p->n--;
  }
  p->tok = s->tok + begin;
  return true;
}

void tl_pair_source(tl_batch *b, int32_t token) {
  b->src_pos[b->n_source] = (int32_t)(b->n_source - b->src_begin);
  b->src_tokens[b->n_source++] = token;
}

void tl_pair_target(const tl_objective_args *a, tl_batch *b, int32_t token) {
  int64_t at = b->n_tokens++;
  b->tokens[at] = at == b->tgt_begin ? a->bos : b->targets[at - 1];
  b->pos[at] = (int32_t)(at - b->tgt_begin);
  b->targets[at] = token;
  b->n_counted++;
  b->n_targets++;
}

void tl_pair_begin(tl_batch *b) {
  b->src_begin = b->n_source;
  b->tgt_begin = b->n_tokens;
}

void tl_pair_end(tl_batch *b) {
  int32_t k0 = (int32_t)b->src_begin, k1 = (int32_t)b->n_source;
  int32_t q0 = (int32_t)b->tgt_begin, q1 = (int32_t)b->n_tokens;
  b->src_segments[b->n_segments] = (tl_segment){k0, k1, k0, k1, 0};
  b->cross[b->n_segments] = (tl_segment){q0, q1, k0, k1, 0};
  b->segments[b->n_segments++] = (tl_segment){q0, q1, q0, q1, 1};
}
