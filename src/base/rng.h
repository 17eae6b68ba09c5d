/* Counter-based randomness (Philox4x32-10, Salmon et al., SC'11): a number depends on
 * (seed, stream, position) alone, so work can be cut anywhere and resumed anywhere. */
#ifndef TL_BASE_RNG_H
#define TL_BASE_RNG_H

#include <stdint.h>

/* Streams keep uses apart; each use of randomness has its own. */
enum tl_stream {
  TL_STREAM_INIT = 1,    /* position: index within the parameter; sub: parameter's name hash */
  TL_STREAM_DROPOUT = 2, /* position: element index; sub: step and node */
  TL_STREAM_ORDER = 3,
  TL_STREAM_MASK = 4,
  TL_STREAM_SAMPLE = 5,
  TL_STREAM_SPLIT = 6,
  TL_STREAM_TEST = 7,
  TL_STREAM_BOOTSTRAP = 8, /* position: draw; seed: mixed with the resample */
  TL_STREAM_AUGMENT = 9,   /* seed: mixed with the sample's position; sub: 1 for mixing */
};

typedef struct tl_philox {
  uint32_t v[4];
} tl_philox;

/* Four words for block `position` of (seed, stream, sub). */
tl_philox tl_philox4x32(uint64_t seed, uint32_t stream, uint32_t sub, uint64_t position);

/* A sequential generator on top of it, for code that draws a varying number of values. */
typedef struct tl_rng {
  uint64_t seed, position;
  uint32_t stream, sub;
  uint32_t have; /* words left of `block` */
  tl_philox block;
} tl_rng;

tl_rng tl_rng_make(uint64_t seed, uint32_t stream, uint32_t sub, uint64_t position);
uint32_t tl_rng_u32(tl_rng *r);
uint64_t tl_rng_u64(tl_rng *r);
uint64_t tl_rng_below(tl_rng *r, uint64_t n); /* uniform in [0, n), n > 0, without bias */
float tl_rng_f32(tl_rng *r);                  /* uniform in [0, 1) with 24 bits */
float tl_rng_normal(tl_rng *r);               /* N(0, 1), Box-Muller */

/* A keyed permutation of [0, n): the image of i. A bijection for every (key, n); 8-round Feistel
 * network with cycle walking. n > 0, i < n. */
uint64_t tl_permute(uint64_t key, uint64_t n, uint64_t i);

/* Mixes words into a 64-bit key (splitmix64 finaliser). */
uint64_t tl_mix64(uint64_t a, uint64_t b);

#endif
