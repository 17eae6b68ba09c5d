/* Byte-level byte-pair encoding, and plain bytes, which is the same without merges and words.
 * Any bytes are encoded, ill-formed UTF-8 too, and decoding gives them back. */
#include "tok_internal.h"

#include <stdlib.h>

typedef struct tok_pair_slot {
  uint64_t pair; /* a << 32 | b; UINT64_MAX: free */
  uint32_t rank, id;
} pair_slot;

typedef struct tok_word_slot {
  tok_key key;
  uint32_t len; /* 0: free */
  uint32_t id;
} word_slot;

/* ---- training ---- */

static void configure_bpe(tl_tokenizer *t, const tl_tokenizer_train_options *o) {
  (void)o;
  t->split_words = true;
}

static void configure_bytes(tl_tokenizer *t, const tl_tokenizer_train_options *o) {
  (void)o;
  t->split_words = false;
}

static bool split(const tl_tokenizer *t, const unsigned char *p, size_t len, bool first,
                  tl_buf *scratch, tok_emit_fn emit, void *arg) {
  (void)t, (void)first, (void)scratch;
  for (size_t i = 0; i < len;) {
    size_t n = tok_gpt2_next(p + i, len - i);
    emit(arg, p + i, n);
    i += n;
  }
  return true;
}

/* The 256 bytes, in the order of their stand-ins (as in GPT-2's vocabulary) or their own. */
static tl_status add_bytes(tl_tokenizer *t, bool own_order, tl_err *err) {
  for (int32_t c = 0; c < (own_order ? TOK_BYTES : 0x144); c++) {
    int b = own_order ? c : tok_char_byte(c);
    if (b < 0) continue;
    char s[4];
    uint32_t id = tok_add(t, s, tok_byte_string((unsigned char)b, s));
    if (id == TOK_NONE) return tok_nomem(err);
    t->byte_id[b] = id;
  }
  return TL_OK;
}

static uint32_t make(tl_tokenizer *t, uint32_t a, uint32_t b) {
  char s[8 * TOK_BYTES];
  size_t n = strlen(tok_str(t, a)), m = strlen(tok_str(t, b));
  memcpy(s, tok_str(t, a), n); /* words have at most 256 bytes, each shown in at most two */
  memcpy(s + n, tok_str(t, b), m);
  uint32_t id = tok_find(t, s, n + m);
  return id == TOK_NONE ? tok_add(t, s, n + m) : id;
}

static tl_status corpus_of(const tl_tokenizer *t, const tok_words *w, tok_corpus *c, tl_err *err) {
  TL_TRY(tok_corpus_init(c, w, err));
  size_t k = 0;
  for (size_t i = 0; i < w->n; i++) {
    c->at[i] = k;
    c->count[i] = w->word[i].count;
    for (size_t j = 0; j < w->word[i].len; j++) c->sym[k++] = t->byte_id[w->word[i].p[j]];
  }
  c->at[w->n] = k;
  return TL_OK;
}

static tl_status train_bpe(tl_tokenizer *t, tl_ctx *ctx, const tok_words *w, int vocab_size,
                           tl_err *err) {
  (void)ctx;
  if (vocab_size < TL_TOK_N_SPECIAL + TOK_BYTES)
    return tl_fail(err, TL_CONFIG,
                   "tokenizer: vocab_size %d is too small for bpe: the special tokens and the 256 "
                   "bytes take %d",
                   vocab_size, TL_TOK_N_SPECIAL + TOK_BYTES);
  TL_TRY(add_bytes(t, false, err));
  tok_corpus c = {0};
  tl_status s = corpus_of(t, w, &c, err);
  if (s == TL_OK) s = tok_learn_merges(t, &c, (uint32_t)vocab_size, make, err);
  if (s == TL_OK && t->n < (uint32_t)vocab_size) s = tok_too_large(t, vocab_size, err);
  tok_corpus_free(&c);
  return s;
}

static tl_status train_bytes(tl_tokenizer *t, tl_ctx *ctx, const tok_words *w, int vocab_size,
                             tl_err *err) {
  (void)ctx, (void)w, (void)vocab_size;
  return add_bytes(t, true, err);
}

/* ---- tables ---- */

static uint32_t pair_hash(uint64_t pair) {
  return (uint32_t)((pair * 0x9E3779B97F4A7C15u) >> 32);
}

static inline const pair_slot *find_pair(const tl_tokenizer *t, uint32_t a, uint32_t b) {
  uint64_t key = (uint64_t)a << 32 | b;
  for (uint32_t i = pair_hash(key) & t->pair_mask;; i = (i + 1) & t->pair_mask) {
    const pair_slot *s = &t->pair[i];
    if (s->pair == key) return s;
    if (s->pair == UINT64_MAX) return NULL;
  }
}

static uint32_t power_of_two(size_t n) {
  uint32_t p = 16;
  while (p < n) p *= 2;
  return p;
}

enum { JOINS_NEXT = 1, JOINS_BEFORE = 2 };

/* Of a merge that is there twice the last counts, as in the library. */
tl_status tok_bpe_build_pairs(tl_tokenizer *t, tl_err *err) {
  uint32_t n = power_of_two((size_t)t->n_merges * 2 + 1);
  t->pair = malloc(n * sizeof *t->pair);
  t->joins = calloc(t->n + 1, 1);
  if (!t->pair || !t->joins) return tok_nomem(err);
  memset(t->pair, 0xFF, n * sizeof *t->pair);
  t->pair_mask = n - 1;
  for (uint32_t r = 0; r < t->n_merges; r++) {
    const tok_merge *m = &t->merge[r];
    uint64_t key = (uint64_t)m->a << 32 | m->b;
    t->joins[m->a] |= JOINS_NEXT;
    t->joins[m->b] |= JOINS_BEFORE;
    uint32_t i = pair_hash(key) & t->pair_mask;
    while (t->pair[i].pair != UINT64_MAX && t->pair[i].pair != key) i = (i + 1) & t->pair_mask;
    t->pair[i] = (pair_slot){key, r, m->id};
  }
  return TL_OK;
}

/* What each token stands for. A special token stands for itself. */
static tl_status build_raw(tl_tokenizer *t, tl_err *err) {
  t->raw_at = malloc(((size_t)t->n + 1) * sizeof *t->raw_at);
  if (!t->raw_at) return tok_nomem(err);
  for (int b = 0; b < TOK_BYTES; b++) t->byte_id[b] = TOK_NONE;
  for (uint32_t id = 0; id < t->n; id++) {
    const char *s = tok_str(t, id);
    size_t len = strlen(s), start = t->raw.len;
    t->raw_at[id] = (uint32_t)start;
    if (t->flag[id]) {
      tl_buf_append(&t->raw, s, len);
      continue;
    }
    for (size_t i = 0; i < len;) {
      int32_t cp;
      i += tok_utf8((const unsigned char *)s + i, len - i, &cp);
      int b = tok_char_byte(cp);
      if (b < 0)
        return tl_fail(err, TL_DATA,
                       "tokenizer: token %u \"%s\" has a character that stands for no byte; "
                       "expected a byte-level vocabulary",
                       id, s);
      tl_buf_putc(&t->raw, (char)b);
    }
    if (t->raw.len == start + 1) t->byte_id[(unsigned char)t->raw.data[start]] = id;
  }
  t->raw_at[t->n] = (uint32_t)t->raw.len;
  for (int b = 0; b < TOK_BYTES; b++) {
    if (t->byte_id[b] == TOK_NONE)
      return tl_fail(err, TL_DATA,
                     "tokenizer: the vocabulary has no token for byte 0x%02x; a byte-level "
                     "tokenizer needs all 256",
                     b);
  }
  return tl_buf_check(&t->raw, err);
}

/* ---- encoding ---- */

static inline uint32_t rank_of(const tl_tokenizer *t, uint32_t a, uint32_t b) {
  if (!(t->joins[a] & JOINS_NEXT) || !(t->joins[b] & JOINS_BEFORE)) return TOK_NONE;
  const pair_slot *s = find_pair(t, a, b);
  return s ? s->rank : TOK_NONE;
}

enum { SHORT = 48 };

/* Merges the pair of lowest rank, the leftmost of equals, until none is left. Searching all pairs
 * each time is fastest for words as short as most are. */
static size_t merge_short(const tl_tokenizer *t, uint32_t sym[SHORT], size_t len) {
  uint32_t rank[SHORT];
  for (size_t i = 0; i + 1 < len; i++) rank[i] = rank_of(t, sym[i], sym[i + 1]);
  for (size_t n = len;;) {
    uint32_t best = TOK_NONE;
    size_t at = 0;
    for (size_t i = 0; i + 1 < n; i++) {
      if (rank[i] < best) {
        best = rank[i];
        at = i;
      }
    }
    if (best == TOK_NONE) return n;
    sym[at] = t->merge[best].id;
    n--;
    for (size_t i = at + 1; i < n; i++) sym[i] = sym[i + 1];
    for (size_t i = at + 1; i + 1 < n; i++) rank[i] = rank[i + 1];
    if (at > 0) rank[at - 1] = rank_of(t, sym[at - 1], sym[at]);
    if (at + 1 < n) rank[at] = rank_of(t, sym[at], sym[at + 1]);
  }
}

static size_t merge_bytes(const tl_tokenizer *t, const unsigned char *p, size_t len,
                          uint32_t sym[SHORT]) {
  for (size_t i = 0; i < len; i++) sym[i] = t->byte_id[p[i]];
  return merge_short(t, sym, len);
}

/* The same for long words, n log n: symbols in a linked list, candidate pairs in a heap ordered
 * by (rank, position). An entry whose rank is no longer that of its position is skipped. */
typedef struct list {
  uint32_t *sym, *prev, *next; /* by position; TOK_NONE ends the list, sym TOK_NONE: merged away */
  uint64_t *heap;              /* rank << 32 | position */
  size_t n_heap;
} list;

static void push(list *l, uint64_t e) {
  size_t i = l->n_heap++;
  for (; i > 0 && e < l->heap[(i - 1) / 2]; i = (i - 1) / 2) l->heap[i] = l->heap[(i - 1) / 2];
  l->heap[i] = e;
}

static uint64_t pop(list *l) {
  uint64_t top = l->heap[0], e = l->heap[--l->n_heap];
  size_t i = 0;
  for (size_t k; (k = 2 * i + 1) < l->n_heap; i = k) {
    if (k + 1 < l->n_heap && l->heap[k + 1] < l->heap[k]) k++;
    if (l->heap[k] >= e) break;
    l->heap[i] = l->heap[k];
  }
  l->heap[i] = e;
  return top;
}

static void push_pair(const tl_tokenizer *t, list *l, uint32_t i) {
  if (i == TOK_NONE || l->next[i] == TOK_NONE) return;
  uint32_t r = rank_of(t, l->sym[i], l->sym[l->next[i]]);
  if (r != TOK_NONE) push(l, (uint64_t)r << 32 | i);
}

static void merge_list(const tl_tokenizer *t, list *l) {
  while (l->n_heap > 0) {
    uint64_t e = pop(l);
    uint32_t i = (uint32_t)e, rank = (uint32_t)(e >> 32), j = l->next[i];
    if (l->sym[i] == TOK_NONE || j == TOK_NONE || rank_of(t, l->sym[i], l->sym[j]) != rank)
      continue;
    l->sym[i] = t->merge[rank].id;
    l->sym[j] = TOK_NONE;
    l->next[i] = l->next[j];
    if (l->next[i] != TOK_NONE) l->prev[l->next[i]] = i;
    push_pair(t, l, l->prev[i]);
    push_pair(t, l, i);
  }
}

static tl_status merge_long(const tl_tokenizer *t, uint32_t *sym, size_t len, tl_ids *out,
                            tl_err *err) {
  if (len >= UINT32_MAX)
    return tl_fail(err, TL_DATA, "tokenizer: a word of %zu bytes is too long", len);
  list l = {.sym = sym};
  l.prev = malloc(len * sizeof *l.prev);
  l.next = malloc(len * sizeof *l.next);
  /* Each of the up to len - 1 merges adds at most two entries to the first len - 1. */
  l.heap = malloc(len * 3 * sizeof *l.heap);
  bool ok = l.prev && l.next && l.heap && tl_ids_reserve(out, len);
  if (ok) {
    for (uint32_t i = 0; i < len; i++) {
      l.prev[i] = i == 0 ? TOK_NONE : i - 1;
      l.next[i] = i + 1 == len ? TOK_NONE : i + 1;
    }
    for (uint32_t i = 0; i < len; i++) push_pair(t, &l, i);
    merge_list(t, &l);
    for (uint32_t i = 0; i != TOK_NONE; i = l.next[i]) out->data[out->len++] = l.sym[i];
  }
  free(l.prev);
  free(l.next);
  free(l.heap);
  return ok ? TL_OK : tok_nomem(err);
}

tl_status tok_bpe_merge(const tl_tokenizer *t, uint32_t *sym, size_t n, tl_ids *out, tl_err *err) {
  if (n == 0) return TL_OK;
  if (n > SHORT) return merge_long(t, sym, n, out, err);
  n = merge_short(t, sym, n);
  if (!tl_ids_reserve(out, n)) return tok_nomem(err);
  memcpy(out->data + out->len, sym, n * sizeof *sym);
  out->len += n;
  return TL_OK;
}

static tl_status encode_long(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                             tl_err *err) {
  uint32_t *sym = malloc(len * sizeof *sym);
  if (!sym) return tok_nomem(err);
  for (size_t i = 0; i < len; i++) sym[i] = t->byte_id[p[i]];
  tl_status s = merge_long(t, sym, len, out, err);
  free(sym);
  return s;
}

/* ignore_merges: the id of a word that is a token. */
static uint32_t whole_word(const tl_tokenizer *t, const unsigned char *p, size_t len) {
  char s[2 * TOK_BYTES];
  size_t n = 0;
  if (len > TOK_BYTES) return TOK_NONE;
  for (size_t i = 0; i < len; i++) n += tok_byte_string(p[i], s + n);
  uint32_t id = tok_find(t, s, n);
  return id == TOK_NONE || t->flag[id] ? TOK_NONE : id;
}

static const word_slot *find_word(const tl_tokenizer *t, tok_key key, size_t len, uint64_t h) {
  for (uint32_t i = (uint32_t)h & t->word_mask;; i = (i + 1) & t->word_mask) {
    const word_slot *s = &t->word[i];
    if (s->len == len && s->key.lo == key.lo && s->key.hi == key.hi) return s;
    if (s->len == 0) return NULL;
  }
}

/* Most words of a text are one token, or were seen before. */
tl_status tok_bpe_word(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                       tl_err *err) {
  uint32_t whole = t->ignore_merges && len > TOK_KEY_MAX ? whole_word(t, p, len) : TOK_NONE;
  if (whole != TOK_NONE) {
    tl_ids_push(out, whole);
    return TL_OK;
  }
  if (len > SHORT) return encode_long(t, p, len, out, err);
  if (!tl_ids_reserve(out, SHORT)) return tok_nomem(err);
  uint32_t *to = out->data + out->len;
  if (len > TOK_KEY_MAX) {
    out->len += merge_bytes(t, p, len, to);
    return TL_OK;
  }
  tok_key key = tok_key_of(p, len);
  uint64_t h = tok_key_hash(key, len);
  const word_slot *w = find_word(t, key, len, h);
  if (w) {
    *to = w->id;
    out->len++;
    return TL_OK;
  }
  size_t n = tok_cache_get(t->cache, key, len, h, to);
  if (n == 0) {
    n = merge_bytes(t, p, len, to);
    tok_cache_put(t->cache, key, len, h, to, n);
  }
  out->len += n;
  return TL_OK;
}

static tl_status encode_bpe(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                            tl_err *err) {
  if (!t->split_words) return encode_long(t, p, len, out, err);
  for (size_t i = 0; i < len;) {
    size_t n = tok_gpt2_next(p + i, len - i);
    TL_TRY(tok_bpe_word(t, p + i, n, out, err));
    i += n;
  }
  return TL_OK;
}

static tl_status encode_bytes(const tl_tokenizer *t, const unsigned char *p, size_t len,
                              tl_ids *out, tl_err *err) {
  if (!tl_ids_reserve(out, len)) return tok_nomem(err);
  for (size_t i = 0; i < len; i++) out->data[out->len++] = t->byte_id[p[i]];
  return TL_OK;
}

static void decode(const tl_tokenizer *t, const uint32_t *ids, size_t n, bool skip_special,
                   tl_buf *out) {
  for (size_t i = 0; i < n; i++) {
    uint32_t id = ids[i];
    if (skip_special && (t->flag[id] & TOK_F_SPECIAL)) continue;
    tl_buf_append(out, t->raw.data + t->raw_at[id], t->raw_at[id + 1] - t->raw_at[id]);
  }
}

/* Is it what the merges make of its own bytes? */
static bool merges_to_one(const tl_tokenizer *t, uint32_t id, const unsigned char **p,
                          size_t *len) {
  *p = (const unsigned char *)t->raw.data + t->raw_at[id];
  *len = t->raw_at[id + 1] - t->raw_at[id];
  uint32_t sym[SHORT];
  if (t->flag[id] || *len == 0 || *len > TOK_KEY_MAX) return false;
  return t->ignore_merges || (merge_bytes(t, *p, *len, sym) == 1 && sym[0] == id);
}

tl_status tok_bpe_build_words(tl_tokenizer *t, tok_whole_fn whole, tl_err *err) {
  uint32_t n = power_of_two((size_t)t->n * 2 + 1);
  t->word = calloc(n, sizeof *t->word);
  t->cache = tok_cache_new();
  if (!t->word || !t->cache) return tok_nomem(err);
  t->word_mask = n - 1;
  for (uint32_t id = 0; id < t->n; id++) {
    const unsigned char *p;
    size_t len;
    if (!whole(t, id, &p, &len)) continue;
    tok_key key = tok_key_of(p, len);
    uint32_t i = (uint32_t)tok_key_hash(key, len) & t->word_mask;
    while (t->word[i].len) i = (i + 1) & t->word_mask;
    t->word[i] = (word_slot){key, (uint32_t)len, id};
  }
  return TL_OK;
}

uint32_t tok_bpe_whole(const tl_tokenizer *t, const unsigned char *p, size_t len) {
  if (len == 0 || len > TOK_KEY_MAX) return TOK_NONE;
  tok_key key = tok_key_of(p, len);
  const word_slot *w = find_word(t, key, len, tok_key_hash(key, len));
  return w ? w->id : TOK_NONE;
}

tl_status tok_bpe_prepare_bytes(tl_tokenizer *t, tl_err *err) {
  TL_TRY(build_raw(t, err));
  TL_TRY(tok_bpe_build_pairs(t, err));
  return tok_bpe_build_words(t, merges_to_one, err);
}

static tl_status prepare_bytes(tl_tokenizer *t, tl_err *err) {
  return build_raw(t, err);
}

/* A word starts at white space (the usual "Ġthe"), and at everything that is neither letter nor
 * digit. A token that begins with a letter or digit continues the word before it: at the start of
 * a line, where no space precedes, this misses a word start, which masking can bear. Bytes from
 * 0x80 are taken for parts of letters. */
static bool starts_word(const tl_tokenizer *t, uint32_t id) {
  if (t->raw_at[id] == t->raw_at[id + 1]) return true;
  unsigned char c = (unsigned char)t->raw.data[t->raw_at[id]];
  return c < 0x80 && !tok_is_letter(c) && !tok_is_number(c);
}

/* ---- tokenizer.json ---- */

static void write_byte_level(const tl_tokenizer *t, tl_buf *out) {
  const char *format = "{\n    \"type\": \"ByteLevel\",\n    \"add_prefix_space\": false,\n"
                       "    \"trim_offsets\": true,\n    \"use_regex\": %s\n  }";
  tl_buf_puts(out, "  \"normalizer\": null,\n  \"pre_tokenizer\": ");
  tl_buf_printf(out, format, t->split_words ? "true" : "false");
  tl_buf_puts(out, ",\n");
  tok_json_post(out, t);
  tl_buf_puts(out, "  \"decoder\": ");
  tl_buf_printf(out, format, t->split_words ? "true" : "false");
  tl_buf_puts(out, ",\n");
}

/* As "a b", which all readers know; as ["a", "b"] where a token has a space. */
static void write_merge(const tl_tokenizer *t, const tok_merge *m, tl_buf *out) {
  const char *a = tok_str(t, m->a), *b = tok_str(t, m->b);
  if (strchr(a, ' ') || strchr(b, ' ')) {
    tl_buf_putc(out, '[');
    tok_json_string(out, a);
    tl_buf_puts(out, ", ");
    tok_json_string(out, b);
    tl_buf_putc(out, ']');
    return;
  }
  tl_buf_putc(out, '"');
  tok_json_chars(out, a);
  tl_buf_putc(out, ' ');
  tok_json_chars(out, b);
  tl_buf_putc(out, '"');
}

static void write(const tl_tokenizer *t, tl_buf *out) {
  write_byte_level(t, out);
  tl_buf_puts(out, "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n"
                   "    \"unk_token\": null,\n    \"continuing_subword_prefix\": null,\n"
                   "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n"
                   "    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n");
  tok_json_vocab(out, t);
  tl_buf_puts(out, ",\n    \"merges\": [");
  for (uint32_t i = 0; i < t->n_merges; i++) {
    tl_buf_puts(out, i ? ",\n      " : "\n      ");
    write_merge(t, &t->merge[i], out);
  }
  tl_buf_puts(out, t->n_merges ? "\n    ]\n  }" : "]\n  }");
}

static bool claims_bytes(const json_t *root) {
  const json_t *model = json_object_get(root, "model");
  const json_t *pre = json_object_get(root, "pre_tokenizer");
  return tok_json_is(model, "BPE") && json_array_size(json_object_get(model, "merges")) == 0 &&
         json_is_false(json_object_get(pre, "use_regex"));
}

static bool claims_bpe(const json_t *root) {
  return tok_json_is(json_object_get(root, "model"), "BPE") && !claims_bytes(root);
}

/* "a b", as files before 2024 have it, or ["a", "b"]. */
static tl_status read_merge(tl_tokenizer *t, const json_t *m, uint32_t rank, size_t prefix_len,
                            tl_err *err) {
  const char *a = NULL, *b = NULL;
  size_t n = 0, k = 0;
  if (json_is_string(m)) {
    a = json_string_value(m);
    b = strchr(a, ' ');
    if (b) {
      n = (size_t)(b - a);
      b++;
    }
  } else if (json_array_size(m) == 2) {
    a = json_string_value(json_array_get(m, 0));
    b = json_string_value(json_array_get(m, 1));
    if (a) n = strlen(a);
  }
  if (!a || !b || n == 0 || *b == 0)
    return tl_fail(err, TL_DATA,
                   "model.merges[%u] is not two tokens; expected \"a b\" or [\"a\", \"b\"]", rank);
  k = strlen(b);
  tl_buf joined = {0};
  tl_buf_append(&joined, a, n);
  if (k >= prefix_len) tl_buf_append(&joined, b + prefix_len, k - prefix_len);
  if (joined.oom) return tok_nomem(err);
  tok_merge *out = &t->merge[rank];
  out->a = tok_find(t, a, n);
  out->b = tok_find(t, b, k);
  out->id = tok_find(t, joined.data, joined.len);
  tl_buf_free(&joined);
  if (out->a == TOK_NONE || out->b == TOK_NONE || out->id == TOK_NONE)
    return tl_fail(err, TL_DATA, "model.merges[%u] \"%.*s\" \"%s\": %s is not in model.vocab", rank,
                   (int)n, a, b,
                   out->a == TOK_NONE   ? "the first token"
                   : out->b == TOK_NONE ? "the second token"
                                        : "the token they make");
  return TL_OK;
}

tl_status tok_bpe_read_merges(tl_tokenizer *t, const json_t *model, size_t prefix_len,
                              tl_err *err) {
  const json_t *merges = json_object_get(model, "merges");
  if (!json_is_array(merges))
    return tl_fail(err, TL_DATA, "model.merges is missing or not an array");
  size_t n = json_array_size(merges);
  if (n > TOK_MAX_VOCAB)
    return tl_fail(err, TL_DATA, "model.merges has %zu entries; at most %d are supported", n,
                   TOK_MAX_VOCAB);
  t->merge = malloc((n + 1) * sizeof *t->merge);
  if (!t->merge) return tok_nomem(err);
  for (; t->n_merges < n; t->n_merges++)
    TL_TRY(read_merge(t, json_array_get(merges, t->n_merges), t->n_merges, prefix_len, err));
  return TL_OK;
}

static tl_status read_bpe(tl_tokenizer *t, const json_t *root, tl_err *err) {
  static const char *const unset[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                                      "byte_fallback", "ignore_merges"};
  const json_t *model = json_object_get(root, "model");
  const json_t *pre = json_object_get(root, "pre_tokenizer");
  for (size_t i = 0; i < sizeof unset / sizeof *unset; i++)
    TL_TRY(tok_json_unset(model, "model", unset[i], err));
  TL_TRY(tok_json_unset(root, "the file", "normalizer", err));
  if (!tok_json_is(pre, "ByteLevel"))
    return tl_fail(err, TL_DATA,
                   "pre_tokenizer is not of type ByteLevel, the only one supported with a BPE "
                   "model");
  TL_TRY(tok_json_unset(pre, "pre_tokenizer", "add_prefix_space", err));
  TL_TRY(tok_json_bool(pre, "pre_tokenizer", "use_regex", &t->split_words, err));
  TL_TRY(tok_json_vocab_read(t, root, err));
  return tok_bpe_read_merges(t, model, 0, err);
}

const tok_type tok_type_bpe = {
    .name = "bpe",
    .special = {"<pad>", "<s>", "</s>", "<unk>", "<mask>"},
    .needs_text = true,
    .configure = configure_bpe,
    .split = split,
    .train = train_bpe,
    .prepare = tok_bpe_prepare_bytes,
    .encode = encode_bpe,
    .decode = decode,
    .starts_word = starts_word,
    .write = write,
    .claims = claims_bpe,
    .read = read_bpe,
};

const tok_type tok_type_bytes = {
    .name = "bytes",
    .special = {"<pad>", "<s>", "</s>", "<unk>", "<mask>"},
    .needs_text = false,
    .configure = configure_bytes,
    .split = split,
    .train = train_bytes,
    .prepare = prepare_bytes,
    .encode = encode_bytes,
    .decode = decode,
    .starts_word = starts_word,
    .write = write,
    .claims = claims_bytes,
    .read = read_bpe,
};
