/* A direct-mapped cache of encoded words, shared by all threads without locks.
 *
 * Each entry is one cache line guarded by a sequence number: odd while a thread writes. A reader
 * that sees the number change, and a writer that finds another one writing, give up: the word is
 * then encoded again, with the same result. */
#include "tok_internal.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { ENTRIES = 1 << 13 };

typedef struct entry {
  _Alignas(64) _Atomic uint64_t head; /* sequence << 16 | ids << 8 | length; length 0: empty */
  _Atomic uint64_t lo, hi;
  _Atomic uint64_t ids[TOK_CACHE_IDS / 2];
} entry;

struct tok_cache {
  entry entry[ENTRIES];
};

struct tok_cache *tok_cache_new(void) {
  struct tok_cache *c = aligned_alloc(64, sizeof *c);
  return c ? memset(c, 0, sizeof *c) : NULL;
}

void tok_cache_free(struct tok_cache *c) {
  free(c);
}

size_t tok_cache_get(struct tok_cache *c, tok_key key, size_t len, uint64_t h,
                     uint32_t out[TOK_CACHE_IDS]) {
  entry *e = &c->entry[h % ENTRIES];
  uint64_t head = atomic_load_explicit(&e->head, memory_order_acquire);
  if ((head & 0xFF) != len || (head >> 16 & 1)) return 0;
  if (atomic_load_explicit(&e->lo, memory_order_relaxed) != key.lo ||
      atomic_load_explicit(&e->hi, memory_order_relaxed) != key.hi)
    return 0;
  size_t n = head >> 8 & 0xFF;
  for (size_t i = 0; i < n; i += 2) {
    uint64_t two = atomic_load_explicit(&e->ids[i / 2], memory_order_relaxed);
    out[i] = (uint32_t)two;
    out[i + 1] = (uint32_t)(two >> 32);
  }
  atomic_thread_fence(memory_order_acquire);
  return atomic_load_explicit(&e->head, memory_order_relaxed) == head ? n : 0;
}

void tok_cache_put(struct tok_cache *c, tok_key key, size_t len, uint64_t h, const uint32_t *ids,
                   size_t n) {
  if (n == 0 || n > TOK_CACHE_IDS || len > TOK_KEY_MAX) return;
  entry *e = &c->entry[h % ENTRIES];
  uint64_t head = atomic_load_explicit(&e->head, memory_order_relaxed);
  uint64_t seq = head >> 16;
  if (seq & 1) return;
  if (!atomic_compare_exchange_strong_explicit(&e->head, &head, (seq + 1) << 16,
                                               memory_order_acquire, memory_order_relaxed))
    return;
  atomic_thread_fence(memory_order_release);
  atomic_store_explicit(&e->lo, key.lo, memory_order_relaxed);
  atomic_store_explicit(&e->hi, key.hi, memory_order_relaxed);
  for (size_t i = 0; i < n; i += 2) {
    uint64_t two = ids[i] | (uint64_t)(i + 1 < n ? ids[i + 1] : 0) << 32;
    atomic_store_explicit(&e->ids[i / 2], two, memory_order_relaxed);
  }
  atomic_store_explicit(&e->head, (seq + 2) << 16 | (uint64_t)n << 8 | len, memory_order_release);
}
