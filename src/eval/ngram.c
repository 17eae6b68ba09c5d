#include "eval/ngram.h"

#include <stdlib.h>
#include <string.h>

struct tl_ngram_key {
  uint64_t key; /* id of the (n-1)-gram, then the token behind it */
  uint32_t at;
};

void tl_ngrams_free(tl_ngrams *g) {
  tl_ids_free(&g->token);
  free(g->start);
  free(g->id);
  free(g->count);
  free(g->most);
  free(g->key);
  *g = (tl_ngrams){0};
}

void tl_ngrams_reset(tl_ngrams *g) {
  g->token.len = 0;
  g->n_seq = 0;
}

tl_status tl_ngrams_end(tl_ngrams *g, tl_err *err) {
  if (g->n_seq + 2 > g->seq_cap) {
    size_t cap = g->seq_cap ? 2 * g->seq_cap : 8;
    size_t *p = realloc(g->start, cap * sizeof *p);
    if (!p) return tl_fail(err, TL_NOMEM, "out of memory for %zu sequences", cap);
    g->start = p;
    g->seq_cap = cap;
    g->start[0] = 0;
  }
  if (g->token.oom || g->token.len >= UINT32_MAX)
    return tl_fail(err, TL_NOMEM, "out of memory for a text of %zu tokens", g->token.len);
  g->start[++g->n_seq] = g->token.len;
  return TL_OK;
}

size_t tl_ngrams_length(const tl_ngrams *g, size_t seq) {
  return g->start[seq + 1] - g->start[seq];
}

size_t tl_ngrams_total(const tl_ngrams *g, size_t seq) {
  size_t n = tl_ngrams_length(g, seq);
  return n < g->order ? 0 : n - g->order + 1;
}

static int by_key(const void *a, const void *b) {
  uint64_t x = ((const struct tl_ngram_key *)a)->key, y = ((const struct tl_ngram_key *)b)->key;
  return (x > y) - (x < y);
}

/* Numbers the n keys by rising value, equal ones alike. */
static void number(tl_ngrams *g, size_t n) {
  if (n) qsort(g->key, n, sizeof *g->key, by_key);
  uint32_t id = 0;
  for (size_t i = 0; i < n; i++) {
    if (i && g->key[i].key != g->key[i - 1].key) id++;
    g->id[g->key[i].at] = id;
  }
}

tl_status tl_ngrams_first(tl_ngrams *g, tl_err *err) {
  size_t n = g->token.len;
  if (n >= g->cap) {
    free(g->id);
    free(g->count);
    free(g->most);
    free(g->key);
    g->id = calloc(n + 1, sizeof *g->id);
    g->count = calloc(n + 1, sizeof *g->count);
    g->most = calloc(n + 1, sizeof *g->most);
    g->key = calloc(n + 1, sizeof *g->key);
    g->cap = g->id && g->count && g->most && g->key ? n + 1 : 0;
    if (!g->cap) return tl_fail(err, TL_NOMEM, "out of memory for a text of %zu tokens", n);
  }
  g->order = 1;
  for (size_t i = 0; i < n; i++) g->key[i] = (struct tl_ngram_key){g->token.data[i], (uint32_t)i};
  number(g, n);
  return TL_OK;
}

void tl_ngrams_next(tl_ngrams *g) {
  size_t n = 0;
  g->order++;
  for (size_t s = 0; s < g->n_seq; s++) {
    for (size_t k = 0, i = g->start[s]; k < tl_ngrams_total(g, s); k++, i++) {
      uint64_t key = (uint64_t)g->id[i] << 32 | g->token.data[i + g->order - 1];
      g->key[n++] = (struct tl_ngram_key){key, (uint32_t)i};
    }
  }
  number(g, n);
}

static void count_into(const tl_ngrams *g, size_t seq, uint32_t *counts) {
  const uint32_t *id = g->id + g->start[seq];
  for (size_t i = 0; i < tl_ngrams_total(g, seq); i++) counts[id[i]]++;
}

static void set_zero(const tl_ngrams *g, size_t seq, uint32_t *counts) {
  const uint32_t *id = g->id + g->start[seq];
  for (size_t i = 0; i < tl_ngrams_total(g, seq); i++) counts[id[i]] = 0;
}

size_t tl_ngrams_match(tl_ngrams *g, size_t seq, size_t first, size_t last) {
  size_t match = 0, n = tl_ngrams_total(g, seq);
  const uint32_t *mine = g->id + g->start[seq];
  set_zero(g, seq, g->most);
  for (size_t r = first; r < last; r++) {
    set_zero(g, seq, g->count);
    set_zero(g, r, g->count);
    count_into(g, r, g->count);
    for (size_t i = 0; i < n; i++)
      if (g->count[mine[i]] > g->most[mine[i]]) g->most[mine[i]] = g->count[mine[i]];
  }
  for (size_t i = 0; i < n; i++) { /* each n-gram uses up one of its matches */
    if (!g->most[mine[i]]) continue;
    g->most[mine[i]]--;
    match++;
  }
  return match;
}
