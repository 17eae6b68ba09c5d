/* Learns merges (byte-pair encoding) from counted words.
 *
 * Pair counts are kept up to date: a merge visits only the words in which its pair occurs (the
 * pair's list, which may hold words that no longer have it). The most frequent pair comes from a
 * heap with lazy entries: an entry whose count is out of date is put back with the current one. */
#include "tok_internal.h"

#include <stdlib.h>

typedef struct pair {
  uint32_t a, b;
  int64_t count;
  uint32_t *word; /* words in which it occurs or occurred */
  uint32_t n, cap;
  bool touched; /* count grew in the current merge */
  bool merged;  /* recorded before: it came back through another way to the same token */
} pair;

typedef struct entry {
  int64_t count;
  uint32_t pair;
} entry;

typedef struct learner {
  tok_corpus *c;
  uint32_t *len; /* symbols left in each word */
  pair *pair;
  uint32_t n, cap;
  uint32_t *slot; /* open hash table of pairs */
  uint32_t mask;
  entry *heap;
  size_t n_heap, cap_heap;
  uint32_t *touched;
  size_t n_touched, cap_touched;
  bool oom;
} learner;

static bool fits(learner *l, void **array, size_t n, size_t *cap, size_t size) {
  if (n < *cap) return true;
  size_t c = *cap ? *cap * 2 : 1024;
  void *p = realloc(*array, c * size);
  if (!p) {
    l->oom = true;
    return false;
  }
  *array = p;
  *cap = c;
  return true;
}

/* Whether heap entry x comes out before y: larger count, then smaller pair. */
static bool before(const learner *l, entry x, entry y) {
  if (x.count != y.count) return x.count > y.count;
  const pair *p = &l->pair[x.pair], *q = &l->pair[y.pair];
  return p->a != q->a ? p->a < q->a : p->b < q->b;
}

static void heap_push(learner *l, entry e) {
  if (!fits(l, (void **)&l->heap, l->n_heap, &l->cap_heap, sizeof *l->heap)) return;
  size_t i = l->n_heap++;
  while (i > 0 && before(l, e, l->heap[(i - 1) / 2])) {
    l->heap[i] = l->heap[(i - 1) / 2];
    i = (i - 1) / 2;
  }
  l->heap[i] = e;
}

static entry heap_pop(learner *l) {
  entry top = l->heap[0], e = l->heap[--l->n_heap];
  size_t i = 0;
  for (size_t k; (k = 2 * i + 1) < l->n_heap; i = k) {
    if (k + 1 < l->n_heap && before(l, l->heap[k + 1], l->heap[k])) k++;
    if (!before(l, l->heap[k], e)) break;
    l->heap[i] = l->heap[k];
  }
  l->heap[i] = e;
  return top;
}

static uint32_t hash(uint32_t a, uint32_t b) {
  return (uint32_t)((((uint64_t)a << 32 | b) * 0x9E3779B97F4A7C15u) >> 32);
}

static bool grow(learner *l) {
  size_t cap = l->cap ? (size_t)l->cap * 2 : 1 << 14;
  if (cap > UINT32_MAX / 4) return false;
  pair *p = realloc(l->pair, cap * sizeof *p);
  if (p) l->pair = p;
  uint32_t *slot = malloc(cap * 2 * sizeof *slot);
  if (!p || !slot) {
    free(slot);
    return false;
  }
  uint32_t mask = (uint32_t)cap * 2 - 1;
  for (size_t i = 0; i <= mask; i++) slot[i] = TOK_NONE;
  for (uint32_t i = 0; i < l->n; i++) {
    uint32_t j = hash(p[i].a, p[i].b) & mask;
    while (slot[j] != TOK_NONE) j = (j + 1) & mask;
    slot[j] = i;
  }
  free(l->slot);
  l->slot = slot;
  l->mask = mask;
  l->cap = (uint32_t)cap;
  return true;
}

/* The pair's record; a new one is made where there is none. NULL when out of memory. */
static pair *pair_of(learner *l, uint32_t a, uint32_t b) {
  if (l->n == l->cap && !grow(l)) {
    l->oom = true;
    return NULL;
  }
  uint32_t j = hash(a, b) & l->mask;
  for (; l->slot[j] != TOK_NONE; j = (j + 1) & l->mask) {
    pair *p = &l->pair[l->slot[j]];
    if (p->a == a && p->b == b) return p;
  }
  l->slot[j] = l->n;
  l->pair[l->n] = (pair){.a = a, .b = b};
  return &l->pair[l->n++];
}

static void gain(learner *l, uint32_t a, uint32_t b, uint32_t word) {
  if (a == TOK_NONE || b == TOK_NONE || l->oom) return;
  pair *p = pair_of(l, a, b);
  if (!p) return;
  p->count += (int64_t)l->c->count[word];
  if (p->n == 0 || p->word[p->n - 1] != word) {
    if (p->n == p->cap) {
      uint32_t cap = p->cap ? p->cap * 2 : 4;
      uint32_t *w = cap > p->cap ? realloc(p->word, cap * sizeof *w) : NULL;
      if (!w) {
        l->oom = true;
        return;
      }
      p->word = w;
      p->cap = cap;
    }
    p->word[p->n++] = word;
  }
  if (p->touched) return;
  p->touched = true;
  if (fits(l, (void **)&l->touched, l->n_touched, &l->cap_touched, sizeof *l->touched))
    l->touched[l->n_touched++] = (uint32_t)(p - l->pair);
}

static void lose(learner *l, uint32_t a, uint32_t b, uint32_t word) {
  if (a == TOK_NONE || b == TOK_NONE || l->oom) return;
  pair *p = pair_of(l, a, b);
  if (p) p->count -= (int64_t)l->c->count[word];
}

static void push_touched(learner *l) {
  for (size_t i = 0; i < l->n_touched; i++) {
    pair *p = &l->pair[l->touched[i]];
    p->touched = false;
    if (p->count > 1) heap_push(l, (entry){p->count, l->touched[i]});
  }
  l->n_touched = 0;
}

static void count_pairs(learner *l) {
  for (size_t w = 0; w < l->c->n; w++) {
    const uint32_t *s = l->c->sym + l->c->at[w];
    size_t n = l->c->at[w + 1] - l->c->at[w];
    l->len[w] = (uint32_t)n;
    for (size_t i = 0; i + 1 < n; i++) gain(l, s[i], s[i + 1], (uint32_t)w);
  }
  push_touched(l);
}

/* Replaces a b by id in one word, from the left. */
static void merge_word(learner *l, uint32_t w, uint32_t a, uint32_t b, uint32_t id) {
  uint32_t *s = l->c->sym + l->c->at[w];
  uint32_t n = l->len[w], out = 0;
  for (uint32_t i = 0; i < n;) {
    if (s[i] != a || i + 1 >= n || s[i + 1] != b) {
      s[out++] = s[i++];
      continue;
    }
    if (out > 0) {
      lose(l, s[out - 1], a, w);
      gain(l, s[out - 1], id, w);
    }
    if (i + 2 < n) {
      lose(l, b, s[i + 2], w);
      gain(l, id, s[i + 2], w);
    }
    s[out++] = id;
    i += 2;
  }
  l->len[w] = out;
}

static bool record(tl_tokenizer *t, uint32_t a, uint32_t b, uint32_t id) {
  if ((t->n_merges & (t->n_merges - 1)) == 0) {
    size_t cap = t->n_merges ? (size_t)t->n_merges * 2 : 1;
    tok_merge *m = realloc(t->merge, cap * sizeof *m);
    if (!m) return false;
    t->merge = m;
  }
  t->merge[t->n_merges++] = (tok_merge){a, b, id};
  return true;
}

static void learn(learner *l, tl_tokenizer *t, uint32_t vocab_size, tok_make_fn make) {
  while (t->n < vocab_size && l->n_heap > 0 && !l->oom) {
    entry e = heap_pop(l);
    pair p = l->pair[e.pair];
    if (e.count != p.count) {
      if (p.count > 1) heap_push(l, (entry){p.count, e.pair});
      continue;
    }
    if (p.count < 2) break;
    uint32_t id = make(t, p.a, p.b);
    if (id == TOK_NONE || (!p.merged && !record(t, p.a, p.b, id))) {
      l->oom = true;
      break;
    }
    /* The record may move while its words are merged; what is taken from it meanwhile (a == b)
     * does not matter, for nothing is left of it when all of them are done. */
    l->pair[e.pair].merged = true;
    l->pair[e.pair].word = NULL;
    l->pair[e.pair].n = l->pair[e.pair].cap = 0;
    for (uint32_t i = 0; i < p.n && !l->oom; i++) merge_word(l, p.word[i], p.a, p.b, id);
    free(p.word);
    l->pair[e.pair].count = 0;
    push_touched(l);
  }
}

tl_status tok_corpus_init(tok_corpus *c, const tok_words *w, tl_err *err) {
  size_t total = 0;
  for (size_t i = 0; i < w->n; i++) total += w->word[i].len;
  c->n = w->n;
  c->sym = malloc((total + 1) * sizeof *c->sym);
  c->at = malloc((w->n + 1) * sizeof *c->at);
  c->count = malloc((w->n + 1) * sizeof *c->count);
  return c->sym && c->at && c->count ? TL_OK : tok_nomem(err);
}

void tok_corpus_free(tok_corpus *c) {
  free(c->sym);
  free(c->at);
  free(c->count);
}

tl_status tok_learn_merges(tl_tokenizer *t, tok_corpus *c, uint32_t vocab_size, tok_make_fn make,
                           tl_err *err) {
  learner l = {.c = c, .len = malloc((c->n + 1) * sizeof *l.len)};
  if (!l.len || c->n >= UINT32_MAX) l.oom = true;
  if (!l.oom) count_pairs(&l);
  if (!l.oom) learn(&l, t, vocab_size, make);
  for (uint32_t i = 0; i < l.n; i++) free(l.pair[i].word);
  free(l.len);
  free(l.pair);
  free(l.slot);
  free(l.heap);
  free(l.touched);
  return l.oom ? tok_nomem(err) : TL_OK;
}
