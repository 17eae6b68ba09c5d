/* The types of tokenizers, training, and the calls that go to a type's row. */
#include "tok_internal.h"

#include <stdlib.h>

#include "text/text_utf8.h"

/* To add a type:
 *  1. write src/text/tok_<type>.c with its row (every function of tok_type);
 *  2. declare the row in tok_internal.h and list it here;
 *  3. give it a case in tests/unit/test_tokenizer.c (table `types`). */
const tok_type *const tok_types[] = {
    &tok_type_bpe,      &tok_type_wordpiece,      &tok_type_unigram,      &tok_type_bytes,
    &tok_type_pipe_bpe, &tok_type_pipe_wordpiece, &tok_type_pipe_unigram, &tok_type_pipe_wordlevel};
const size_t tok_n_types = sizeof tok_types / sizeof *tok_types;

static const tok_type *find_type(const char *name) {
  for (size_t i = 0; name && i < tok_n_types; i++)
    if (tok_types[i]->train && strcmp(tok_types[i]->name, name) == 0) return tok_types[i];
  return NULL;
}

tl_status tok_too_large(const tl_tokenizer *t, int vocab_size, tl_err *err) {
  return tl_fail(err, TL_CONFIG,
                 "tokenizer: vocab_size %d is larger than the text allows: %u tokens can be made "
                 "from it; set vocab_size to at most %u or give more text",
                 vocab_size, t->n, t->n);
}

static tl_status add_specials(tl_tokenizer *t, tl_err *err) {
  for (int i = 0; i < TL_TOK_N_SPECIAL; i++) {
    const char *s = t->type->special[i];
    uint32_t id = tok_add(t, s, strlen(s));
    if (id == TOK_NONE) return tok_nomem(err);
    t->flag[id] = TOK_F_ADDED | TOK_F_SPECIAL;
    t->special[i] = (int)id;
  }
  return TL_OK;
}

static tl_status train(tl_tokenizer *t, tl_ctx *ctx, const tl_tokenizer_train_options *o,
                       tl_text_next_fn next, void *user, tl_err *err) {
  if (o->lowercase && !t->type->can_lower)
    return tl_fail(err, TL_CONFIG,
                   "tokenizer: lowercase is for wordpiece and unigram; type %s keeps every byte",
                   t->type->name);
  t->type->configure(t, o);
  TL_TRY(add_specials(t, err));
  tok_words w = {0};
  if (t->type->needs_text) {
    if (o->vocab_size <= TL_TOK_N_SPECIAL || o->vocab_size > TOK_MAX_VOCAB)
      return tl_fail(err, TL_CONFIG, "tokenizer: vocab_size %d is out of bounds (%d to %d)",
                     o->vocab_size, TL_TOK_N_SPECIAL + 1, TOK_MAX_VOCAB);
    TL_TRY(tok_count(ctx, t, next, user, o->max_bytes, &w, err));
    if (w.n == 0) {
      tok_words_free(&w);
      return tl_fail(err, TL_DATA,
                     "tokenizer: there is no text to train on: the documents are empty");
    }
  }
  tl_status s = t->type->train(t, ctx, &w, o->vocab_size, err);
  tok_words_free(&w);
  if (s == TL_OK) s = tok_post_make(t, err);
  return s == TL_OK ? tok_finish(t, err) : s;
}

tl_status tl_tokenizer_train(tl_ctx *ctx, const tl_tokenizer_train_options *options,
                             tl_text_next_fn next, void *user, tl_tokenizer **out, tl_err *err) {
  *out = NULL;
  const tok_type *type = find_type(options->type);
  if (!type)
    return tl_fail(err, TL_CONFIG,
                   "tokenizer: unknown type '%s' (expected bpe, wordpiece, unigram or bytes)",
                   options->type ? options->type : "");
  tl_tokenizer *t = tok_new(type);
  if (!t) return tok_nomem(err);
  tl_status s = train(t, ctx, options, next, user, err);
  if (s != TL_OK) {
    tl_tokenizer_free(t);
    return s;
  }
  *out = t;
  return TL_OK;
}

static tl_status encode_stretch(const tl_tokenizer *t, const unsigned char *p, size_t len,
                                bool first, void *user, tl_ids *out, tl_err *err) {
  const unsigned *flags = user;
  if (t->pipe) return tok_pipe_encode(t, p, len, first, *flags & TL_ENCODE_PARSE, out, err);
  return t->type->encode(t, p, len, out, err);
}

const uint32_t *tl_tokenizer_around(const tl_tokenizer *t, bool pair, tl_around place, size_t *n) {
  *n = t->around[pair][place].len;
  return t->around[pair][place].data;
}

static void put_around(const tl_tokenizer *t, tl_around place, tl_ids *out) {
  size_t n;
  const uint32_t *id = tl_tokenizer_around(t, false, place, &n);
  for (size_t i = 0; i < n; i++) tl_ids_push(out, id[i]);
}

tl_status tl_tokenizer_encode_with(const tl_tokenizer *t, unsigned flags, const char *text,
                                   size_t len, uint32_t **ids, size_t *n, size_t *cap,
                                   tl_err *err) {
  const unsigned char *p = (const unsigned char *)text;
  tl_ids v = {.data = *ids, .len = *n, .cap = *cap};
  tl_status s = TL_OK;
  if (flags & TL_ENCODE_WRAP) put_around(t, TL_AROUND_BEFORE, &v);
  if (len > 0)
    s = tok_added_split(t, false, flags & TL_ENCODE_PARSE, p, len, true, encode_stretch, &flags, &v,
                        err);
  if (flags & TL_ENCODE_WRAP) put_around(t, TL_AROUND_AFTER, &v);
  if (s == TL_OK && v.oom) s = tok_nomem(err);
  *ids = v.data;
  *cap = v.cap;
  if (s == TL_OK) *n = v.len;
  return s;
}

tl_status tl_tokenizer_encode(const tl_tokenizer *t, const char *text, size_t len, uint32_t **ids,
                              size_t *n, size_t *cap, tl_err *err) {
  return tl_tokenizer_encode_with(t, 0, text, len, ids, n, cap, err);
}

tl_status tl_tokenizer_decode(const tl_tokenizer *t, const uint32_t *ids, size_t n,
                              bool skip_special, char **text, size_t *len, tl_err *err) {
  *text = NULL;
  *len = 0;
  for (size_t i = 0; i < n; i++) {
    if (ids[i] >= t->n)
      return tl_fail(err, TL_DATA, "tokenizer: id %u at position %zu is out of range (0 to %u)",
                     ids[i], i, t->n - 1);
  }
  tl_buf b = {0};
  tl_buf_reserve(&b, n * 4);
  if (b.data) b.data[0] = 0;
  t->type->decode(t, ids, n, skip_special, &b);
  tl_status s = tl_buf_check(&b, err);
  if (s != TL_OK) {
    tl_buf_free(&b);
    return s;
  }
  *text = b.data;
  *len = b.len;
  return TL_OK;
}

tl_status tl_tokenizer_decode_utf8(const tl_tokenizer *t, const uint32_t *ids, size_t n,
                                   char **text, tl_err *err) {
  char *bytes = NULL;
  size_t len = 0;
  tl_buf b = {0};
  *text = NULL;
  TL_TRY(tl_tokenizer_decode(t, ids, n, true, &bytes, &len, err));
  tl_buf_puts(&b, "");
  tl_utf8_replace(bytes, len, &b);
  free(bytes);
  tl_status s = tl_buf_check(&b, err);
  if (s == TL_OK)
    *text = b.data;
  else
    tl_buf_free(&b);
  return s;
}
