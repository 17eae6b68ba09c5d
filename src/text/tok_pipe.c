/* Tokenizers made of steps, as a tokenizer.json describes them: normalizers, pre-tokenizers, a
 * model, decoders. The four types that are made here have code of their own, which is quicker. */
#include "tok_pipe.h"

#include <stdlib.h>
#include "text_utf8.h"

/* ---- reading ---- */

static tl_status read_text(char **out, const json_t *model, const char *key, tl_err *err) {
  const json_t *v = json_object_get(model, key);
  if (!v || json_is_null(v)) return TL_OK;
  const char *s = json_string_value(v);
  if (!s || strlen(s) > TOK_MAX_STRING)
    return tl_fail(err, TL_DATA, "model.%s is not a string", key);
  if (!*s) return TL_OK;
  *out = strdup(s);
  return *out ? TL_OK : tok_nomem(err);
}

static tl_status read_unk(tl_tokenizer *t, const json_t *model, bool needed, tl_err *err) {
  const json_t *v = json_object_get(model, "unk_token");
  const char *s = json_string_value(v);
  t->pipe->unk = s ? tok_find(t, s, strlen(s)) : TOK_NONE;
  if (t->pipe->unk == TOK_NONE && (needed || (v && !json_is_null(v) && (!s || *s))))
    return tl_fail(err, TL_DATA, "model.unk_token is missing or not in the vocabulary");
  if (t->pipe->unk != TOK_NONE && t->special[TL_TOK_UNK] < 0)
    t->special[TL_TOK_UNK] = (int)t->pipe->unk;
  return TL_OK;
}

/* Marks the tokens that the model does not have. */
static void mark_extra(tl_tokenizer *t, const json_t *root) {
  const json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
  const json_t *added = json_object_get(root, "added_tokens");
  for (size_t i = 0; i < json_array_size(added); i++) {
    const char *s = json_string_value(json_object_get(json_array_get(added, i), "content"));
    if (!json_object_get(vocab, s)) t->flag[tok_find(t, s, strlen(s))] |= TOK_F_EXTRA;
  }
}

static bool ends_with_byte_level(const tok_pipe *p) {
  return p->pre.n > 0 && p->pre.step[p->pre.n - 1].op == PRE_BYTE_LEVEL;
}

static tl_status read_bpe(tl_tokenizer *t, const json_t *root, tl_err *err) {
  tok_pipe *p = t->pipe;
  const json_t *model = json_object_get(root, "model");
  TL_TRY(tok_json_unset(model, "model", "dropout", err));
  TL_TRY(read_text(&p->prefix, model, "continuing_subword_prefix", err));
  TL_TRY(read_text(&p->suffix, model, "end_of_word_suffix", err));
  TL_TRY(tok_json_bool(model, "model", "fuse_unk", &p->fuse_unk, err));
  TL_TRY(tok_json_bool(model, "model", "byte_fallback", &p->byte_fallback, err));
  TL_TRY(tok_json_bool(model, "model", "ignore_merges", &t->ignore_merges, err));
  TL_TRY(tok_json_vocab_read(t, root, err));
  mark_extra(t, root);
  TL_TRY(read_unk(t, model, false, err));
  p->model = ends_with_byte_level(p) && !p->prefix && !p->suffix ? MODEL_BYTE_BPE : MODEL_BPE;
  return tok_bpe_read_merges(t, model, p->prefix ? strlen(p->prefix) : 0, err);
}

static tl_status read_wordpiece(tl_tokenizer *t, const json_t *root, tl_err *err) {
  const json_t *model = json_object_get(root, "model");
  const json_t *max = json_object_get(model, "max_input_chars_per_word");
  if (max &&
      (!json_is_integer(max) || json_integer_value(max) < 1 || json_integer_value(max) > 1 << 20))
    return tl_fail(err, TL_DATA, "model.max_input_chars_per_word is not a number from 1 to %d",
                   1 << 20);
  if (max) t->max_word_chars = (uint32_t)json_integer_value(max);
  TL_TRY(read_text(&t->pipe->prefix, model, "continuing_subword_prefix", err));
  TL_TRY(tok_json_vocab_read(t, root, err));
  mark_extra(t, root);
  t->special[TL_TOK_UNK] = -1;
  return read_unk(t, model, true, err);
}

static int by_id(const void *x, const void *y) {
  const json_t *a = *(json_t *const *)x, *b = *(json_t *const *)y;
  json_int_t i = json_integer_value(json_object_get(a, "id")),
             k = json_integer_value(json_object_get(b, "id"));
  return (i > k) - (i < k);
}

/* Added tokens that are not among the pieces get the ids behind them. */
static tl_status add_extra(tl_tokenizer *t, const json_t *added, tl_err *err) {
  size_t n = json_array_size(added);
  if (n == 0) return TL_OK;
  double *score = realloc(t->score, ((size_t)t->n + n) * sizeof *score);
  if (!score) return tok_nomem(err);
  t->score = score;
  const json_t **v = malloc(n * sizeof *v);
  if (!v) return tok_nomem(err);
  for (size_t i = 0; i < n; i++) v[i] = json_array_get(added, i);
  qsort(v, n, sizeof *v, by_id);
  tl_status s = TL_OK;
  for (size_t i = 0; i < n && s == TL_OK; i++) {
    const char *c = json_string_value(json_object_get(v[i], "content"));
    if (!c || !*c || strlen(c) > TOK_MAX_STRING || tok_find(t, c, strlen(c)) != TOK_NONE ||
        json_integer_value(json_object_get(v[i], "id")) != t->n)
      continue; /* reading the flags says what is wrong */
    uint32_t id = tok_add(t, c, strlen(c));
    if (id == TOK_NONE) {
      s = tok_nomem(err);
      break;
    }
    t->flag[id] |= TOK_F_EXTRA;
    t->score[id] = 0;
  }
  free(v);
  return s;
}

static tl_status read_unigram(tl_tokenizer *t, const json_t *root, tl_err *err) {
  const json_t *model = json_object_get(root, "model");
  const json_t *unk = json_object_get(model, "unk_id");
  TL_TRY(tok_json_bool(model, "model", "byte_fallback", &t->byte_fallback, err));
  TL_TRY(tok_unigram_read_pieces(t, json_object_get(model, "vocab"), err));
  uint32_t n = t->n;
  TL_TRY(add_extra(t, json_object_get(root, "added_tokens"), err));
  TL_TRY(tok_json_flags_read(t, root, err));
  if (!unk || json_is_null(unk)) return TL_OK;
  json_int_t id = json_integer_value(unk);
  if (!json_is_integer(unk) || id < 0 || id >= (json_int_t)n)
    return tl_fail(err, TL_DATA, "model.unk_id is not an id of the vocabulary (0 to %u)", n - 1);
  t->special[TL_TOK_UNK] = (int)id;
  return TL_OK;
}

static tl_status read_wordlevel(tl_tokenizer *t, const json_t *root, tl_err *err) {
  t->pipe->model = MODEL_WORDLEVEL;
  TL_TRY(tok_json_vocab_read(t, root, err));
  mark_extra(t, root);
  return read_unk(t, json_object_get(root, "model"), false, err);
}

static tl_status check_order(const tok_pipe *p, tl_err *err) {
  for (size_t i = 0; i + 1 < p->pre.n; i++)
    if (p->pre.step[i].op == PRE_BYTE_LEVEL)
      return tl_fail(err, TL_DATA, "pre_tokenizer: ByteLevel is not the last of the sequence");
  return TL_OK;
}

static tl_status read(tl_tokenizer *t, const json_t *root, tl_err *err) {
  const json_t *decoder = json_object_get(root, "decoder");
  t->pipe = calloc(1, sizeof *t->pipe);
  if (!t->pipe) return tok_nomem(err);
  t->pipe->unk = TOK_NONE;
  t->pipe->joined_by_space = !decoder || json_is_null(decoder);
  TL_TRY(tok_norm_read(&t->pipe->norm, json_object_get(root, "normalizer"), err));
  TL_TRY(tok_pre_read(&t->pipe->pre, json_object_get(root, "pre_tokenizer"), err));
  TL_TRY(tok_decoder_read(&t->pipe->dec, decoder, err));
  TL_TRY(check_order(t->pipe, err));
  for (size_t i = 0; i < t->pipe->pre.n; i++)
    t->pipe->asks_first |= t->pipe->pre.step[i].prepend == PREPEND_FIRST;
  if (t->type == &tok_type_pipe_bpe) return read_bpe(t, root, err);
  if (t->type == &tok_type_pipe_wordlevel) return read_wordlevel(t, root, err);
  t->pipe->model = t->type == &tok_type_pipe_unigram ? MODEL_UNIGRAM : MODEL_WORDPIECE;
  return t->pipe->model == MODEL_UNIGRAM ? read_unigram(t, root, err)
                                         : read_wordpiece(t, root, err);
}

void tok_pipe_free(tok_pipe *p) {
  if (!p) return;
  tok_steps_free(&p->norm);
  tok_steps_free(&p->pre);
  tok_steps_free(&p->dec);
  free(p->prefix);
  free(p->suffix);
  free(p);
}

/* ---- tables ---- */

static bool of_model(const tl_tokenizer *t, uint32_t id) {
  return !(t->flag[id] & (TOK_F_SPECIAL | TOK_F_EXTRA));
}

/* The 256 tokens "<0x00>" to "<0xFF>"; false where one is missing. */
static bool find_byte_tokens(tl_tokenizer *t) {
  for (int b = 0; b < TOK_BYTES; b++) {
    char s[8];
    snprintf(s, sizeof s, "<0x%02X>", b);
    t->byte_id[b] = tok_find(t, s, strlen(s));
    if (t->byte_id[b] == TOK_NONE) return false;
  }
  return true;
}

static uint32_t neighbours_bit(int32_t a, int32_t b) {
  return ((uint32_t)a * 0x9E3779B1u ^ (uint32_t)b * 0x85EBCA6Bu) >> 16;
}

static bool may_join(const tok_pipe *p, int32_t a, int32_t b) {
  uint32_t bit = neighbours_bit(a, b);
  return p->neighbours[bit / 64] >> bit % 64 & 1;
}

/* Notes which characters follow each other within what the merges make: between all others a word
 * can be cut without a change of its ids. False where that is not so: characters beyond the
 * vocabulary that are one token together, a first or last character with a symbol of its own,
 * merges of byte tokens. */
static bool note_neighbours(const tl_tokenizer *t) {
  tok_pipe *k = t->pipe;
  if (k->prefix || k->suffix || t->ignore_merges || (k->unk != TOK_NONE && !k->byte_fallback))
    return false;
  for (uint32_t i = 0; i < t->n_merges; i++) {
    const unsigned char *s = (const unsigned char *)tok_str(t, t->merge[i].id);
    size_t len = strlen((const char *)s);
    int32_t before = -1, cp;
    for (size_t at = 0; at < len; before = cp) {
      at += tok_utf8(s + at, len - at, &cp);
      uint32_t bit = neighbours_bit(before, cp);
      if (before >= 0) k->neighbours[bit / 64] |= 1ull << bit % 64;
    }
    for (int b = 0; k->byte_fallback && b < TOK_BYTES; b++)
      if (t->merge[i].a == t->byte_id[b] || t->merge[i].b == t->byte_id[b]) return false;
  }
  return true;
}

static tl_status bpe_word(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                          tl_err *err);

/* Is the token what the merges make of its own characters? */
static bool is_whole(const tl_tokenizer *t, uint32_t id, const unsigned char **p, size_t *len) {
  *p = (const unsigned char *)tok_str(t, id);
  *len = strlen(tok_str(t, id));
  if (!of_model(t, id) || *len == 0 || *len > TOK_KEY_MAX) return false;
  tl_ids ids = {0};
  bool whole = bpe_word(t, *p, *len, &ids, NULL) == TL_OK && ids.len == 1 && ids.data[0] == id;
  tl_ids_free(&ids);
  return whole;
}

static tl_status prepare_bpe(tl_tokenizer *t, tl_err *err) {
  tok_pipe *p = t->pipe;
  if (p->model == MODEL_BYTE_BPE) {
    tl_status s = tok_bpe_prepare_bytes(t, NULL);
    if (s != TL_DATA) return s == TL_OK ? s : tok_nomem(err);
    /* Not all bytes have tokens: by characters, then. */
    tl_buf_free(&t->raw);
    free(t->raw_at);
    t->raw_at = NULL;
    p->model = MODEL_BPE;
  }
  p->byte_fallback = p->byte_fallback && find_byte_tokens(t);
  p->cuts = note_neighbours(t);
  TL_TRY(tok_bpe_build_pairs(t, err));
  if (!p->prefix && !p->suffix) return tok_bpe_build_words(t, is_whole, err);
  t->cache = tok_cache_new();
  return t->cache ? TL_OK : tok_nomem(err);
}

static tl_status prepare_wordpiece(tl_tokenizer *t, tl_err *err) {
  const char *prefix = t->pipe->prefix ? t->pipe->prefix : "";
  size_t n = strlen(prefix);
  for (uint32_t id = 0; id < t->n; id++) {
    const char *s = tok_str(t, id);
    const unsigned char *key = (const unsigned char *)s;
    size_t len = strlen(s);
    if (!of_model(t, id)) continue;
    if (!tok_trie_add(&t->trie, key, len, id)) return tok_nomem(err);
    if (len > n && memcmp(s, prefix, n) == 0 && !tok_trie_add(&t->trie_cont, key + n, len - n, id))
      return tok_nomem(err);
  }
  return TL_OK;
}

static tl_status prepare_unigram(tl_tokenizer *t, tl_err *err) {
  t->byte_fallback = t->byte_fallback && find_byte_tokens(t);
  if (!t->byte_fallback && t->special[TL_TOK_UNK] < 0)
    return tl_fail(err, TL_DATA, "tokenizer: there is neither byte_fallback nor an unknown token");
  double min = 1e300;
  for (uint32_t id = 0; id < t->n; id++) {
    const char *s = tok_str(t, id);
    if (t->flag[id] & TOK_F_EXTRA) continue;
    if (t->score[id] < min) min = t->score[id];
    if (of_model(t, id) && !tok_trie_add(&t->trie, (const unsigned char *)s, strlen(s), id))
      return tok_nomem(err);
  }
  t->unk_score = min - 10; /* SentencePiece's penalty */
  t->cache = tok_cache_new();
  return t->cache ? TL_OK : tok_nomem(err);
}

static tl_status prepare(tl_tokenizer *t, tl_err *err) {
  switch (t->pipe->model) {
  case MODEL_WORDPIECE:
    return prepare_wordpiece(t, err);
  case MODEL_UNIGRAM:
    return prepare_unigram(t, err);
  case MODEL_WORDLEVEL:
    return TL_OK;
  default:
    return prepare_bpe(t, err);
  }
}

/* ---- the models: one word each ---- */

/* The symbol of a character, as it stands in its place in the word. */
static uint32_t symbol(const tl_tokenizer *t, const char *s, size_t len) {
  uint32_t id = tok_find(t, s, len);
  return id != TOK_NONE && of_model(t, id) ? id : TOK_NONE;
}

/* Characters to symbols. Unknown ones: byte tokens, else the unknown token (fused: one for a run),
 * else nothing. */
static void symbols(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *sym,
                    tl_buf *b) {
  const tok_pipe *k = t->pipe;
  bool pending = false; /* an unknown token is written when a known symbol follows */
  for (size_t i = 0, n; i < len; i += n) {
    int32_t cp;
    n = tok_utf8(p + i, len - i, &cp);
    const char *s = (const char *)p + i;
    size_t m = n;
    if ((k->prefix && i > 0) || (k->suffix && i + n == len)) {
      tl_buf_clear(b);
      if (k->prefix && i > 0) tl_buf_puts(b, k->prefix);
      tl_buf_append(b, s, n);
      if (k->suffix && i + n == len) tl_buf_puts(b, k->suffix);
      if (b->oom) return;
      s = b->data;
      m = b->len;
    }
    uint32_t id = symbol(t, s, m);
    if (id != TOK_NONE) {
      if (pending) tl_ids_push(sym, k->unk);
      pending = false;
      tl_ids_push(sym, id);
    } else if (k->byte_fallback) {
      for (size_t j = 0; j < m; j++) tl_ids_push(sym, t->byte_id[(unsigned char)s[j]]);
    } else if (k->unk != TOK_NONE) {
      if (pending && !k->fuse_unk) tl_ids_push(sym, k->unk);
      pending = true;
    }
  }
  if (pending) tl_ids_push(sym, k->unk);
}

static tl_status bpe_word(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                          tl_err *err) {
  if (t->ignore_merges) {
    uint32_t id = symbol(t, (const char *)p, len);
    if (id != TOK_NONE) {
      tl_ids_push(out, id);
      return TL_OK;
    }
  }
  tl_ids sym = {0};
  tl_buf b = {0};
  symbols(t, p, len, &sym, &b);
  tl_status s = sym.oom || b.oom ? tok_nomem(err) : tok_bpe_merge(t, sym.data, sym.len, out, err);
  tl_ids_free(&sym);
  tl_buf_free(&b);
  return s;
}

static tl_status bpe_piece(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                           tl_err *err) {
  uint32_t id = t->word ? tok_bpe_whole(t, p, len) : TOK_NONE;
  if (id == TOK_NONE) return tok_cached_word(t, p, len, bpe_word, out, err);
  tl_ids_push(out, id);
  return TL_OK;
}

/* Llama 2's kind has no pre-tokenizer: a text is one word. Cut where no merge can join, its parts
 * come to the same ids and are remembered. */
static tl_status bpe_parts(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                           tl_err *err) {
  int32_t before, cp;
  for (size_t from = 0, end; from < len; from = end) {
    end = from + tok_utf8(p + from, len - from, &before);
    for (size_t n; end < len; end += n, before = cp) {
      n = tok_utf8(p + end, len - end, &cp);
      if (!may_join(t->pipe, before, cp)) break;
    }
    TL_TRY(bpe_piece(t, p + from, end - from, out, err));
  }
  return TL_OK;
}

static tl_status word(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                      tl_err *err) {
  uint32_t id;
  switch (t->pipe->model) {
  case MODEL_BYTE_BPE:
    return tok_bpe_word(t, p, len, out, err);
  case MODEL_BPE:
    return t->pipe->cuts ? bpe_parts(t, p, len, out, err) : bpe_piece(t, p, len, out, err);
  case MODEL_UNIGRAM:
    return tok_unigram_word(t, p, len, out, err);
  case MODEL_WORDPIECE:
    tok_wordpiece_word(t, p, len, out);
    return TL_OK;
  case MODEL_WORDLEVEL:
    id = symbol(t, (const char *)p, len);
    if (id == TOK_NONE) id = t->pipe->unk;
    if (id == TOK_NONE)
      return tl_fail(err, TL_DATA,
                     "tokenizer: a word is not in the vocabulary, which has no unknown token");
    tl_ids_push(out, id);
  }
  return TL_OK;
}

/* ---- encoding ---- */

/* A word whose bytes the model sees as characters. */
static tl_status word_as_chars(const tl_tokenizer *t, const unsigned char *p, size_t len,
                               tl_buf *chars, tl_ids *out, tl_err *err) {
  tl_buf_clear(chars);
  tok_bytes_to_chars(p, len, chars);
  TL_TRY(tl_buf_check(chars, err));
  return word(t, (const unsigned char *)chars->data, chars->len, out, err);
}

static tl_status encode_normal(const tl_tokenizer *t, const unsigned char *p, size_t len,
                               bool first, void *user, tl_ids *out, tl_err *err) {
  tok_run *r = user;
  bool as_chars = t->pipe->model != MODEL_BYTE_BPE && ends_with_byte_level(t->pipe);
  tl_buf chars = {0};
  tl_buf_clear(&r->text);
  tl_buf_append(&r->text, p, len);
  TL_TRY(tl_buf_check(&r->text, err));
  tl_status s = tok_pre_run(&t->pipe->pre, r, first, err);
  for (size_t i = 0; i < r->spans.n && s == TL_OK; i++) {
    const unsigned char *q = (const unsigned char *)r->text.data + r->spans.v[i].at;
    s = as_chars ? word_as_chars(t, q, r->spans.v[i].len, &chars, out, err)
                 : word(t, q, r->spans.v[i].len, out, err);
  }
  tl_buf_free(&chars);
  return s;
}

/* Ill-formed bytes become U+FFFD: the steps and the library know no others. */
static tl_status normalize(const tl_tokenizer *t, const char *s, size_t len, tok_run *r,
                           tl_err *err) {
  if (tl_utf8_valid_prefix(s, len) == len)
    tl_buf_append(&r->text, s, len);
  else
    tl_utf8_replace(s, len, &r->text);
  TL_TRY(tl_buf_check(&r->text, err));
  int32_t cp;
  if (t->pipe->asks_first && r->text.len)
    r->head = tok_utf8((const unsigned char *)r->text.data, r->text.len, &cp);
  return tok_norm_run(&t->pipe->norm, r, err);
}

/* Long texts are the caller's; so much at once bounds the memory of positions. */
tl_status tok_pipe_encode(const tl_tokenizer *t, const unsigned char *p, size_t len, bool first,
                          bool special, tl_ids *out, tl_err *err) {
  tok_run norm = {0}, pre = {0};
  tl_status s = normalize(t, (const char *)p, len, &norm, err);
  pre.head = norm.head;
  if (s == TL_OK && norm.text.len > 0)
    s = tok_added_split(t, true, special, (const unsigned char *)norm.text.data, norm.text.len,
                        first, encode_normal, &pre, out, err);
  tok_run_free(&norm);
  tok_run_free(&pre);
  return s;
}

tl_status tok_pipe_normal(const tl_tokenizer *t, const char *text, size_t len, tl_buf *out,
                          tl_err *err) {
  tok_run r = {0};
  tl_status s = normalize(t, text, len, &r, err);
  if (s == TL_OK) tl_buf_append(out, r.text.data ? r.text.data : "", r.text.len);
  tok_run_free(&r);
  return s;
}

static tl_status encode(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                        tl_err *err) {
  return tok_pipe_encode(t, p, len, true, false, out, err);
}

/* ---- what else a type has ---- */

static bool starts_word(const tl_tokenizer *t, uint32_t id) {
  const char *s = tok_str(t, id), *prefix = t->pipe->prefix;
  switch (t->pipe->model) {
  case MODEL_WORDPIECE:
    return !prefix || strncmp(s, prefix, strlen(prefix)) != 0;
  case MODEL_BYTE_BPE: {
    unsigned char c = (unsigned char)t->raw.data[t->raw_at[id]];
    return t->raw_at[id] == t->raw_at[id + 1] ||
           (c < 0x80 && !tok_is_letter(c) && !tok_is_number(c));
  }
  case MODEL_WORDLEVEL:
    return true;
  default:
    return strncmp(s, TOK_META, TOK_META_LEN) == 0 || strncmp(s, "\xc4\xa0", 2) == 0;
  }
}

/* The file itself is what is written (tl_tokenizer_save). */
static void write(const tl_tokenizer *t, tl_buf *out) {
  tl_buf_append(out, t->source.data, t->source.len);
}

static bool claims_bpe(const json_t *root) {
  return tok_json_is(json_object_get(root, "model"), "BPE");
}

static bool claims_wordpiece(const json_t *root) {
  return tok_json_is(json_object_get(root, "model"), "WordPiece");
}

static bool claims_unigram(const json_t *root) {
  return tok_json_is(json_object_get(root, "model"), "Unigram");
}

static bool claims_wordlevel(const json_t *root) {
  return tok_json_is(json_object_get(root, "model"), "WordLevel");
}

#define PIPE(NAME, CLAIMS)                                                                         \
  {                                                                                                \
    .name = NAME, .prepare = prepare, .encode = encode, .decode = tok_decoder_run,                 \
    .starts_word = starts_word, .write = write, .claims = CLAIMS, .read = read                     \
  }
const tok_type tok_type_pipe_bpe = PIPE("bpe", claims_bpe);
const tok_type tok_type_pipe_wordpiece = PIPE("wordpiece", claims_wordpiece);
const tok_type tok_type_pipe_unigram = PIPE("unigram", claims_unigram);
const tok_type tok_type_pipe_wordlevel = PIPE("wordlevel", claims_wordlevel);
