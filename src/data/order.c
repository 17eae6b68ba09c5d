/* The order in which training reads windows of the token stream. */
#include "base/rng.h"
#include "tilth/dataset.h"

uint64_t tl_order_per_epoch(const tl_order *o) {
  if (o->window == 0 || o->n_tokens == 0) return 0;
  if (o->sequential) return (o->n_tokens - 1) / o->window + 1;
  if (o->n_tokens < o->window) return 0;
  /* So many windows fit after any shift in [0, window): an epoch's length must not depend on the
   * shift, or a position could not be reached without walking through the epochs before it. */
  uint64_t n = (o->n_tokens - o->window + 1) / o->window;
  return n > 0 ? n : 1;
}

uint64_t tl_order_at(const tl_order *o, uint64_t position, uint32_t *n) {
  uint64_t per_epoch = tl_order_per_epoch(o);
  *n = 0;
  if (per_epoch == 0) return 0;
  uint64_t epoch = position / per_epoch, i = position % per_epoch;
  *n = o->window;
  if (o->sequential) {
    uint64_t begin = i * o->window;
    if (o->n_tokens - begin < o->window) *n = (uint32_t)(o->n_tokens - begin);
    return begin;
  }
  uint64_t slack = o->n_tokens - per_epoch * o->window; /* the greatest shift there is room for */
  uint64_t shifts = slack < o->window ? slack + 1 : o->window;
  tl_rng r = tl_rng_make(o->seed, TL_STREAM_ORDER, 0, epoch);
  uint64_t shift = tl_rng_below(&r, shifts), key = tl_rng_u64(&r);
  return shift + tl_permute(key, per_epoch, i) * o->window;
}
