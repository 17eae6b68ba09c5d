/* Counts the distinct pre-tokens of a stream of documents, on all threads.
 *
 * Documents are gathered into batches, batches cut into blocks, and blocks counted in per-worker
 * tables. Counts are sums, and the result is sorted, so it does not depend on who counted what. */
#include "tok_internal.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "base/arena.h"

enum {
  BATCH = 32 << 20,  /* bytes gathered before counting */
  BLOCK = 256 << 10, /* bytes a task counts, about */
  MAX_WORD = 256,    /* longer pre-tokens are learnt from in pieces: merging costs their length */
  CHUNK = 1 << 20,
};

typedef struct slot {
  const unsigned char *p; /* NULL: free */
  uint32_t len, hash;
  uint64_t count;
} slot;

typedef struct table {
  slot *slot;
  size_t mask, n;
  tl_arena arena;
  unsigned char *chunk; /* room for the bytes of words */
  size_t left;
  tl_buf scratch;
  bool oom;
} table;

typedef struct block {
  size_t begin, len;
  bool first; /* begins a document */
} block;

typedef struct counter {
  const tl_tokenizer *t;
  table *table; /* by worker */
  int n_tables;
  tl_buf text;
  block *block;
  size_t n_blocks, cap_blocks;
} counter;

static bool grow(table *b) {
  size_t n = b->slot ? (b->mask + 1) * 2 : 1 << 12;
  slot *s = calloc(n, sizeof *s);
  if (!s) return false;
  for (size_t i = 0; b->slot && i <= b->mask; i++) {
    if (!b->slot[i].p) continue;
    size_t j = b->slot[i].hash & (n - 1);
    while (s[j].p) j = (j + 1) & (n - 1);
    s[j] = b->slot[i];
  }
  free(b->slot);
  b->slot = s;
  b->mask = n - 1;
  return true;
}

static const unsigned char *keep(table *b, const unsigned char *p, size_t len) {
  if (len > b->left) {
    b->chunk = tl_arena_alloc(&b->arena, CHUNK);
    if (!b->chunk) return NULL;
    b->left = CHUNK;
  }
  unsigned char *copy = memcpy(b->chunk, p, len);
  b->chunk += len;
  b->left -= len;
  return copy;
}

/* copy: the bytes do not outlive the call. */
static void add(table *b, const unsigned char *p, size_t len, uint64_t count, bool copy) {
  if (b->oom) return;
  if (b->n * 2 > b->mask || !b->slot) {
    if (!grow(b)) {
      b->oom = true;
      return;
    }
  }
  uint32_t h = (uint32_t)XXH3_64bits(p, len);
  size_t i = h & b->mask;
  for (; b->slot[i].p; i = (i + 1) & b->mask) {
    slot *s = &b->slot[i];
    if (s->hash == h && s->len == len && memcmp(s->p, p, len) == 0) {
      s->count += count;
      return;
    }
  }
  const unsigned char *own = copy ? keep(b, p, len) : p;
  if (!own) {
    b->oom = true;
    return;
  }
  b->slot[i] = (slot){own, (uint32_t)len, h, count};
  b->n++;
}

static void emit(void *arg, const unsigned char *p, size_t len) {
  while (len > MAX_WORD) {
    size_t n = MAX_WORD;
    while (n > MAX_WORD - 4 && (p[n] & 0xC0) == 0x80) n--;
    add(arg, p, n, 1, true);
    p += n;
    len -= n;
  }
  add(arg, p, len, 1, true);
}

static void count_block(void *arg, int64_t task, int worker) {
  counter *c = arg;
  const block *k = &c->block[task];
  table *b = &c->table[worker];
  const unsigned char *p = (const unsigned char *)c->text.data + k->begin;
  if (!b->oom && !c->t->type->split(c->t, p, k->len, k->first, &b->scratch, emit, b)) b->oom = true;
}

/* Where a document may be cut: before a space that follows a visible ASCII character. There every
 * pre-tokenization has a boundary, and what follows does not depend on what came before. */
static size_t cut(const unsigned char *p, size_t len) {
  for (size_t i = BLOCK; i < len; i++) {
    if (p[i] == ' ' && p[i - 1] > 32 && p[i - 1] < 127) return i;
  }
  return len;
}

static tl_status add_document(counter *c, const char *text, size_t len, tl_err *err) {
  size_t begin = c->text.len;
  tl_buf_append(&c->text, text, len);
  TL_TRY(tl_buf_check(&c->text, err));
  bool first = true;
  while (len > 0) {
    if (c->n_blocks == c->cap_blocks) {
      size_t cap = c->cap_blocks ? c->cap_blocks * 2 : 1024;
      block *k = realloc(c->block, cap * sizeof *k);
      if (!k) return tok_nomem(err);
      c->block = k;
      c->cap_blocks = cap;
    }
    size_t n = cut((const unsigned char *)c->text.data + begin, len);
    c->block[c->n_blocks++] = (block){begin, n, first};
    begin += n;
    len -= n;
    first = false;
  }
  return TL_OK;
}

static tl_status count_batch(tl_ctx *ctx, counter *c, tl_err *err) {
  tl_parallel(ctx->pool, (int64_t)c->n_blocks, count_block, c);
  c->n_blocks = 0;
  tl_buf_clear(&c->text);
  for (int i = 0; i < c->n_tables; i++)
    if (c->table[i].oom) return tok_nomem(err);
  return TL_OK;
}

static int by_count(const void *x, const void *y) {
  const tok_word *a = x, *b = y;
  if (a->count != b->count) return a->count > b->count ? -1 : 1;
  int c = memcmp(a->p, b->p, a->len < b->len ? a->len : b->len);
  return c ? c : (a->len > b->len) - (a->len < b->len);
}

/* Moves all words to `out`, which takes over the arenas. */
static tl_status gather(counter *c, tok_words *out, tl_err *err) {
  table *sum = &c->table[0];
  for (int w = 1; w < c->n_tables; w++) {
    table *b = &c->table[w];
    for (size_t i = 0; b->slot && i <= b->mask; i++) {
      if (b->slot[i].p) add(sum, b->slot[i].p, b->slot[i].len, b->slot[i].count, false);
    }
  }
  tl_arena *memory = calloc((size_t)c->n_tables + 1, sizeof *memory);
  out->word = malloc((sum->n + 1) * sizeof *out->word);
  if (sum->oom || !memory || !out->word) {
    free(memory);
    free(out->word);
    *out = (tok_words){0};
    return tok_nomem(err);
  }
  for (size_t i = 0; sum->slot && i <= sum->mask; i++) {
    slot *s = &sum->slot[i];
    if (s->p) out->word[out->n++] = (tok_word){s->p, s->len, s->count};
  }
  qsort(out->word, out->n, sizeof *out->word, by_count);
  /* Empty arenas are left out: an empty one ends the list. */
  for (int w = 0, n = 0; w < c->n_tables; w++) {
    if (c->table[w].arena.head) memory[n++] = c->table[w].arena;
    c->table[w].arena.head = NULL;
  }
  out->memory = memory;
  return TL_OK;
}

void tok_words_free(tok_words *w) {
  tl_arena *a = w->memory;
  for (size_t i = 0; a && a[i].head; i++) tl_arena_free(&a[i]);
  free(a);
  free(w->word);
  *w = (tok_words){0};
}

static tl_status count_all(tl_ctx *ctx, counter *c, tl_text_next_fn next, void *user,
                           int64_t max_bytes, tl_err *err) {
  int64_t seen = 0;
  for (;;) {
    const char *text;
    size_t len;
    TL_TRY(next(user, &text, &len, err));
    if (!text) break;
    if (max_bytes > 0 && (int64_t)len > max_bytes - seen) len = (size_t)(max_bytes - seen);
    TL_TRY(add_document(c, text, len, err));
    seen += (int64_t)len;
    if (c->text.len >= BATCH) TL_TRY(count_batch(ctx, c, err));
    if (tl_ctx_cancelled(ctx)) return tl_fail(err, TL_PREEMPTED, "tokenizer training was stopped");
    if (max_bytes > 0 && seen >= max_bytes) break;
  }
  return count_batch(ctx, c, err);
}

tl_status tok_count(tl_ctx *ctx, const tl_tokenizer *t, tl_text_next_fn next, void *user,
                    int64_t max_bytes, tok_words *out, tl_err *err) {
  *out = (tok_words){0};
  counter c = {.t = t, .n_tables = tl_pool_size(ctx->pool)};
  c.table = calloc((size_t)c.n_tables, sizeof *c.table);
  if (!c.table) return tok_nomem(err);
  tl_status s = count_all(ctx, &c, next, user, max_bytes, err);
  if (s == TL_OK) s = gather(&c, out, err);
  for (int w = 0; w < c.n_tables; w++) {
    free(c.table[w].slot);
    tl_buf_free(&c.table[w].scratch);
    tl_arena_free(&c.table[w].arena);
  }
  free(c.table);
  free(c.block);
  tl_buf_free(&c.text);
  return s;
}
