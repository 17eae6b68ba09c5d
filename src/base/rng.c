#include "base/rng.h"

#include <math.h>

tl_philox tl_philox4x32(uint64_t seed, uint32_t stream, uint32_t sub, uint64_t position) {
  uint32_t c0 = (uint32_t)position, c1 = (uint32_t)(position >> 32), c2 = stream, c3 = sub;
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
    uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)p1;
    c3 = (uint32_t)p0;
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return (tl_philox){{c0, c1, c2, c3}};
}

tl_rng tl_rng_make(uint64_t seed, uint32_t stream, uint32_t sub, uint64_t position) {
  return (tl_rng){.seed = seed, .stream = stream, .sub = sub, .position = position};
}

uint32_t tl_rng_u32(tl_rng *r) {
  if (r->have == 0) {
    r->block = tl_philox4x32(r->seed, r->stream, r->sub, r->position++);
    r->have = 4;
  }
  return r->block.v[4 - r->have--];
}

uint64_t tl_rng_u64(tl_rng *r) {
  uint64_t hi = tl_rng_u32(r);
  return hi << 32 | tl_rng_u32(r);
}

uint64_t tl_rng_below(tl_rng *r, uint64_t n) {
  uint64_t limit = UINT64_MAX - UINT64_MAX % n; /* the largest multiple of n: no modulo bias */
  uint64_t x;
  do x = tl_rng_u64(r);
  while (x >= limit);
  return x % n;
}

float tl_rng_f32(tl_rng *r) {
  return (float)(tl_rng_u32(r) >> 8) * 0x1p-24f;
}

float tl_rng_normal(tl_rng *r) {
  double u = ((double)tl_rng_u32(r) + 1.0) * 0x1p-32, v = (double)tl_rng_u32(r) * 0x1p-32;
  return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

uint64_t tl_mix64(uint64_t a, uint64_t b) {
  uint64_t x = a + 0x9E3779B97F4A7C15u * (b + 1);
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

uint64_t tl_permute(uint64_t key, uint64_t n, uint64_t i) {
  int half = 1; /* bits of each Feistel half; the domain is 4^half >= n */
  while (half < 32 && (uint64_t)1 << (2 * half) < n) half++;
  uint64_t mask = ((uint64_t)1 << half) - 1;
  do {
    uint64_t l = i >> half, r = i & mask;
    for (uint64_t round = 0; round < 8; round++) {
      uint64_t t = l ^ (tl_mix64(key + round, r) & mask);
      l = r;
      r = t;
    }
    i = l << half | r;
  } while (i >= n);
  return i;
}
