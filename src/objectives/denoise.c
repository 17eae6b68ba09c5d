/* Denoising (BART, Lewis et al., 2020; mBART, Liu et al., 2020): in the source each hidden span, of
 * Poisson length, is one mask; the target is the whole text. */
#include "objectives/objective.h"

static void add(const tl_objective_args *a, const tl_sample *s, tl_batch *b) {
  tl_rng r = tl_rng_make(a->seed, TL_STREAM_MASK, 0, s->position << 20);
  for (tl_piece p = {0}; tl_next_piece(a, s, &p);) {
    if (p.n < 2) continue; /* nothing could be hidden and something shown */
    tl_hide_spans(a, &r, false, p.n, p.n, b->hide);
    tl_pair_begin(b);
    for (uint32_t i = 0; i < p.n; i++) {
      if (b->hide[i] == TL_SPAN) tl_pair_source(b, a->mask_id);
      if (b->hide[i] == TL_SHOWN) tl_pair_source(b, (int32_t)p.tok[i]);
      tl_pair_target(a, b, (int32_t)p.tok[i]);
    }
    if (p.ends) {
      tl_pair_source(b, a->eos);
      tl_pair_target(a, b, a->eos);
    }
    tl_pair_end(b);
  }
}

const tl_objective tl_objective_denoise = {
    .name = "denoise", .seq2seq = true, .needs_mask = true, .add = add};
