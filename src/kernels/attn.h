/* What the attention kernels, their callers and their tests share. */
#ifndef TL_KERNELS_ATTN_H
#define TL_KERNELS_ATTN_H

#include "base/rng.h"
#include "kernels/kernels.h"

/* Queries per block. Callers cut a segment's queries at multiples of it (from q0): the fast kernels
 * lay their blocks on this grid, so a row's bits do not depend on how the rows were cut. */
#define TL_ATTN_BLOCK 64

/* Largest head size. */
#define TL_ATTN_MAX_HD 256

/* The keys [lo, hi), counted from s->k0, that query q0 + i sees; lo >= hi: none. */
typedef struct tl_attn_span {
  int lo, hi;
} tl_attn_span;

static inline tl_attn_span tl_attn_keys(const tl_segment *s, int window, int i) {
  int n_keys = s->k1 - s->k0, j = i + n_keys - (s->q1 - s->q0);
  tl_attn_span r = {0, n_keys};
  if (s->causal && j + 1 < r.hi) r.hi = j + 1;
  if (window > 0) {
    int back = s->causal ? window - 1 : window / 2;
    if (j - back > r.lo) r.lo = j - back;
    if (!s->causal && j + back + 1 < r.hi) r.hi = j + back + 1;
  }
  return r;
}

/* Which element of its head's row of a->rel query q0 + i meets at a key, counted from s->k0. */
static inline int tl_attn_rel(const tl_attn_args *a, const tl_segment *s, int i, int key) {
  int d = i + (s->k1 - s->k0) - (s->q1 - s->q0) - key;
  if (d > a->rel_max) d = a->rel_max;
  if (d < -a->rel_max) d = -a->rel_max;
  return d + a->rel_max;
}

/* Position of key 0 of a query row's dropout mask. */
static inline uint64_t tl_attn_dropout_base(const tl_attn_args *a, int head, int q_row) {
  return (uint64_t)((int64_t)head * a->ld_lse + q_row) << 20;
}

#endif
