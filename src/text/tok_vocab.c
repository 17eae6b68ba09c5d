/* The vocabulary: strings by id and ids by string. */
#include "tok_internal.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

tl_status tok_nomem(tl_err *err) {
  return tl_fail(err, TL_NOMEM, "out of memory in the tokenizer");
}

tl_tokenizer *tok_new(const tok_type *type) {
  tl_tokenizer *t = calloc(1, sizeof *t);
  if (!t) return NULL;
  t->type = type;
  t->max_word_chars = 100;
  t->split_words = true;
  for (int i = 0; i < TL_TOK_N_SPECIAL; i++) t->special[i] = -1;
  return t;
}

const char *tok_str(const tl_tokenizer *t, uint32_t id) {
  return t->pool.data + t->at[id];
}

static uint32_t hash(const char *s, size_t len) {
  return (uint32_t)XXH3_64bits(s, len);
}

static bool grow(tl_tokenizer *t) {
  uint32_t cap = t->cap ? t->cap * 2 : 512;
  uint32_t *at = realloc(t->at, cap * sizeof *at);
  if (at) t->at = at;
  uint8_t *flag = realloc(t->flag, cap);
  if (flag) t->flag = flag;
  uint32_t *slot = malloc((size_t)cap * 2 * sizeof *slot);
  if (!at || !flag || !slot) {
    free(slot);
    return false;
  }
  memset(slot, 0xFF, (size_t)cap * 2 * sizeof *slot);
  free(t->slot);
  t->slot = slot;
  t->slot_mask = cap * 2 - 1;
  t->cap = cap;
  for (uint32_t id = 0; id < t->n; id++) {
    const char *s = tok_str(t, id);
    uint32_t i = hash(s, strlen(s)) & t->slot_mask;
    while (slot[i] != TOK_NONE) i = (i + 1) & t->slot_mask;
    slot[i] = id;
  }
  return true;
}

uint32_t tok_find(const tl_tokenizer *t, const char *s, size_t len) {
  if (!t->slot) return TOK_NONE;
  for (uint32_t i = hash(s, len) & t->slot_mask;; i = (i + 1) & t->slot_mask) {
    uint32_t id = t->slot[i];
    if (id == TOK_NONE) return id;
    const char *have = tok_str(t, id);
    if (strlen(have) == len && memcmp(have, s, len) == 0) return id;
  }
}

uint32_t tok_add(tl_tokenizer *t, const char *s, size_t len) {
  if (t->n == t->cap && !grow(t)) return TOK_NONE;
  if (t->pool.len > UINT32_MAX - len - 1) return TOK_NONE;
  uint32_t at = (uint32_t)t->pool.len;
  tl_buf_append(&t->pool, s, len);
  tl_buf_putc(&t->pool, 0);
  if (t->pool.oom) return TOK_NONE;
  uint32_t i = hash(s, len) & t->slot_mask;
  while (t->slot[i] != TOK_NONE) i = (i + 1) & t->slot_mask;
  t->slot[i] = t->n;
  t->at[t->n] = at;
  t->flag[t->n] = 0;
  return t->n++;
}

static tl_status fill_word_starts(tl_tokenizer *t, tl_err *err) {
  t->word_start = calloc(t->n ? t->n : 1, 1);
  if (!t->word_start) return tok_nomem(err);
  for (uint32_t id = 0; id < t->n; id++)
    t->word_start[id] = (t->flag[id] & TOK_F_ADDED) || t->type->starts_word(t, id);
  return TL_OK;
}

tl_status tok_finish(tl_tokenizer *t, tl_err *err) {
  TL_TRY(t->type->prepare(t, err));
  TL_TRY(fill_word_starts(t, err));
  if (t->pipe) return TL_OK; /* its fingerprint is that of the file */
  tl_buf text = {0};
  tok_write_json(t, &text);
  tl_status s = tl_buf_check(&text, err);
  if (s == TL_OK) t->fingerprint = XXH3_64bits(text.data, text.len);
  tl_buf_free(&text);
  return s;
}

void tl_tokenizer_free(tl_tokenizer *t) {
  if (!t) return;
  tl_buf_free(&t->pool);
  tl_buf_free(&t->raw);
  free(t->at);
  free(t->flag);
  free(t->word_start);
  free(t->slot);
  free(t->merge);
  free(t->score);
  free(t->raw_at);
  free(t->pair);
  free(t->joins);
  free(t->word);
  tok_cache_free(t->cache);
  tok_trie_free(&t->trie);
  tok_trie_free(&t->trie_cont);
  tok_pipe_free(t->pipe);
  tok_added_free(t->added);
  for (int i = 0; i < 6; i++) tl_ids_free(&t->around[i / 3][i % 3]);
  tl_buf_free(&t->source);
  for (int i = 0; i < TOK_BESIDE; i++) tl_buf_free(&t->beside[i]);
  free(t);
}

int tl_tokenizer_vocab_size(const tl_tokenizer *t) {
  return (int)t->n;
}

const char *tl_tokenizer_type(const tl_tokenizer *t) {
  return t->type->name;
}

int tl_tokenizer_special(const tl_tokenizer *t, tl_special role) {
  return (unsigned)role < TL_TOK_N_SPECIAL ? t->special[role] : -1;
}

uint64_t tl_tokenizer_fingerprint(const tl_tokenizer *t) {
  return t->fingerprint;
}

const char *tl_tokenizer_token(const tl_tokenizer *t, uint32_t id) {
  return id < t->n ? tok_str(t, id) : NULL;
}

int tl_tokenizer_id(const tl_tokenizer *t, const char *token) {
  uint32_t id = tok_find(t, token, strlen(token));
  return id == TOK_NONE ? -1 : (int)id;
}

const uint8_t *tl_tokenizer_word_starts(const tl_tokenizer *t) {
  return t->word_start;
}
