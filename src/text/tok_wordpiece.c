/* WordPiece as in BERT: text is normalized and cut at white space and around punctuation; each
 * word is covered by the longest pieces of the vocabulary, from the left. Pieces inside a word are
 * written with "##" before them. A word that cannot be covered is the unknown token.
 *
 * Training is byte-pair encoding on characters, as in Hugging Face's trainer. */
#include "tok_internal.h"

#include <stdlib.h>

enum { MAX_ALPHABET = 1000 }; /* distinct characters learnt from; rarer ones become unknown */

/* ---- training ---- */

static void configure(tl_tokenizer *t, const tl_tokenizer_train_options *o) {
  t->norm = (tok_norm){.on = true,
                       .clean_text = true,
                       .chinese_chars = true,
                       .strip_accents = o->lowercase,
                       .lowercase = o->lowercase};
  t->cleanup = true;
}

/* The next word of normalized text: false at the end. *i moves behind it. */
static bool next_word(const unsigned char *p, size_t len, size_t *i, size_t *begin) {
  bool in_word = false;
  *begin = *i;
  while (*i < len) {
    int32_t cp;
    size_t n = tok_utf8(p + *i, len - *i, &cp);
    bool space = tok_is_space(cp), punct = !space && tok_is_punct(cp);
    if (in_word && (space || punct)) return true;
    if (!space && !in_word) *begin = *i;
    *i += n;
    if (punct) return true;
    if (!space) in_word = true;
  }
  return in_word;
}

static bool split(const tl_tokenizer *t, const unsigned char *p, size_t len, bool first,
                  tl_buf *scratch, tok_emit_fn emit, void *arg) {
  (void)first;
  tl_buf_clear(scratch);
  if (tok_normalize(&t->norm, p, len, scratch, NULL) != TL_OK) return false;
  const unsigned char *q = (const unsigned char *)scratch->data;
  for (size_t i = 0, begin; next_word(q, scratch->len, &i, &begin);)
    emit(arg, q + begin, i - begin);
  return true;
}

typedef struct letter {
  uint64_t count;
  int32_t cp;
  bool continues; /* occurs inside a word, not only at its start */
} letter;

static int by_count(const void *x, const void *y) {
  const letter *a = x, *b = y;
  if (a->count != b->count) return a->count > b->count ? -1 : 1;
  return (a->cp > b->cp) - (a->cp < b->cp);
}

static int by_code(const void *x, const void *y) {
  const letter *a = x, *b = y;
  return (a->cp > b->cp) - (a->cp < b->cp);
}

/* All characters of the words; ill-formed bytes do not come through normalization. */
static letter *count_letters(const tok_words *w, size_t *n) {
  enum { N = 0x110000 };
  letter *all = calloc(N, sizeof *all);
  if (!all) return NULL;
  for (size_t i = 0; i < w->n; i++) {
    const tok_word *k = &w->word[i];
    for (size_t j = 0; j < k->len;) {
      int32_t cp;
      size_t m = tok_utf8(k->p + j, k->len - j, &cp);
      if (cp > 0) {
        all[cp].count += k->count;
        if (j > 0) all[cp].continues = true;
      }
      j += m;
    }
  }
  *n = 0;
  for (int32_t cp = 0; cp < N; cp++) {
    if (!all[cp].count) continue;
    all[cp].cp = cp;
    all[(*n)++] = all[cp];
  }
  return all;
}

static uint32_t find_letter(const tl_tokenizer *t, int32_t cp, bool continues) {
  char s[6] = "##";
  size_t n = tok_utf8_put(cp, s + 2);
  return continues ? tok_find(t, s, n + 2) : tok_find(t, s + 2, n);
}

static tl_status add_alphabet(tl_tokenizer *t, const tok_words *w, int vocab_size, tl_err *err) {
  size_t n;
  letter *l = count_letters(w, &n);
  if (!l) return tok_nomem(err);
  size_t limit = (size_t)(vocab_size - TL_TOK_N_SPECIAL) / 2;
  if (limit > MAX_ALPHABET) limit = MAX_ALPHABET;
  qsort(l, n, sizeof *l, by_count);
  if (n > limit) n = limit;
  qsort(l, n, sizeof *l, by_code);
  bool ok = true;
  for (int inside = 0; inside < 2; inside++) {
    for (size_t i = 0; i < n && ok; i++) {
      char s[6] = "##";
      size_t m = tok_utf8_put(l[i].cp, s + 2);
      if (inside && !l[i].continues) continue;
      ok = (inside ? tok_add(t, s, m + 2) : tok_add(t, s + 2, m)) != TOK_NONE;
    }
  }
  free(l);
  return ok ? TL_OK : tok_nomem(err);
}

static uint32_t make(tl_tokenizer *t, uint32_t a, uint32_t b) {
  char s[1024]; /* words have at most 256 bytes */
  size_t n = strlen(tok_str(t, a)), m = strlen(tok_str(t, b));
  size_t skip = strncmp(tok_str(t, b), "##", 2) == 0 ? 2 : 0;
  memcpy(s, tok_str(t, a), n);
  memcpy(s + n, tok_str(t, b) + skip, m - skip);
  uint32_t id = tok_find(t, s, n + m - skip);
  return id == TOK_NONE ? tok_add(t, s, n + m - skip) : id;
}

/* Characters that are not in the alphabet separate. */
static tl_status corpus_of(const tl_tokenizer *t, const tok_words *w, tok_corpus *c, tl_err *err) {
  TL_TRY(tok_corpus_init(c, w, err));
  size_t k = 0;
  for (size_t i = 0; i < w->n; i++) {
    const tok_word *word = &w->word[i];
    c->at[i] = k;
    c->count[i] = word->count;
    for (size_t j = 0; j < word->len;) {
      int32_t cp;
      size_t m = tok_utf8(word->p + j, word->len - j, &cp);
      c->sym[k++] = cp < 0 ? TOK_NONE : find_letter(t, cp, j > 0);
      j += m;
    }
  }
  c->at[w->n] = k;
  return TL_OK;
}

static tl_status train(tl_tokenizer *t, tl_ctx *ctx, const tok_words *w, int vocab_size,
                       tl_err *err) {
  (void)ctx;
  tok_corpus c = {0};
  TL_TRY(add_alphabet(t, w, vocab_size, err));
  tl_status s = corpus_of(t, w, &c, err);
  if (s == TL_OK) s = tok_learn_merges(t, &c, (uint32_t)vocab_size, make, err);
  if (s == TL_OK && t->n < (uint32_t)vocab_size) s = tok_too_large(t, vocab_size, err);
  tok_corpus_free(&c);
  free(t->merge); /* encoding covers greedily: the merges are not needed */
  t->merge = NULL;
  t->n_merges = 0;
  return s;
}

/* ---- tables, encoding, decoding ---- */

static tl_status prepare(tl_tokenizer *t, tl_err *err) {
  if (t->special[TL_TOK_UNK] < 0)
    return tl_fail(err, TL_DATA, "tokenizer: the vocabulary has no token for unknown words");
  for (uint32_t id = 0; id < t->n; id++) {
    if (t->flag[id]) continue;
    const char *s = tok_str(t, id);
    size_t len = strlen(s);
    bool inside = len > 2 && s[0] == '#' && s[1] == '#';
    const unsigned char *key = (const unsigned char *)s + (inside ? 2 : 0);
    if (!tok_trie_add(inside ? &t->trie_cont : &t->trie, key, len - (inside ? 2 : 0), id))
      return tok_nomem(err);
  }
  return TL_OK;
}

/* The longest piece at p; its length, 0 if there is none. */
static size_t longest(const tok_trie *trie, const unsigned char *p, size_t len, uint32_t *id) {
  size_t best = 0;
  uint32_t node = 0;
  for (size_t i = 0; i < len; i++) {
    node = tok_trie_step(trie, node, p[i]);
    if (node == TOK_NONE) break;
    if (trie->value[node] != TOK_NONE) {
      best = i + 1;
      *id = trie->value[node];
    }
  }
  return best;
}

static size_t count_chars(const unsigned char *p, size_t len) {
  size_t n = 0;
  for (size_t i = 0; i < len; i++) n += (p[i] & 0xC0) != 0x80;
  return n;
}

void tok_wordpiece_word(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out) {
  size_t start = out->len;
  bool known = len <= t->max_word_chars || count_chars(p, len) <= t->max_word_chars;
  for (size_t i = 0; i < len && known;) {
    uint32_t id = 0;
    size_t n = longest(i ? &t->trie_cont : &t->trie, p + i, len - i, &id);
    known = n > 0;
    if (known) tl_ids_push(out, id);
    i += n;
  }
  if (known) return;
  out->len = start;
  tl_ids_push(out, (uint32_t)t->special[TL_TOK_UNK]);
}

static tl_status encode(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                        tl_err *err) {
  tl_buf b = {0};
  tl_buf_reserve(&b, len);
  tl_status s = tok_normalize(&t->norm, p, len, &b, err);
  const unsigned char *q = (const unsigned char *)b.data;
  for (size_t i = 0, begin; s == TL_OK && next_word(q, b.len, &i, &begin);)
    tok_wordpiece_word(t, q + begin, i - begin, out);
  tl_buf_free(&b);
  return s;
}

/* Words are joined by spaces; with `cleanup`, none before . , ! and ?. */
static void decode(const tl_tokenizer *t, const uint32_t *ids, size_t n, bool skip_special,
                   tl_buf *out) {
  bool first = true;
  for (size_t i = 0; i < n; i++) {
    if (skip_special && (t->flag[ids[i]] & TOK_F_SPECIAL)) continue;
    const char *s = tok_str(t, ids[i]);
    bool inside = !first && s[0] == '#' && s[1] == '#' && s[2];
    bool drawn = t->cleanup && s[0] && strchr(".,!?", s[0]) && !s[1];
    if (!first && !inside && !drawn) tl_buf_putc(out, ' ');
    tl_buf_puts(out, inside ? s + 2 : s);
    first = false;
  }
}

static bool starts_word(const tl_tokenizer *t, uint32_t id) {
  return strncmp(tok_str(t, id), "##", 2) != 0 || tok_str(t, id)[2] == 0;
}

/* ---- tokenizer.json ---- */

static void write(const tl_tokenizer *t, tl_buf *out) {
  tl_buf_puts(out, "  \"normalizer\": ");
  tok_json_norm(out, &t->norm);
  tl_buf_puts(out, ",\n  \"pre_tokenizer\": {\n    \"type\": \"BertPreTokenizer\"\n  },\n");
  tok_json_post(out, t);
  tl_buf_printf(out,
                "  \"decoder\": {\n    \"type\": \"WordPiece\",\n    \"prefix\": \"##\",\n"
                "    \"cleanup\": %s\n  },\n",
                t->cleanup ? "true" : "false");
  tl_buf_puts(out, "  \"model\": {\n    \"type\": \"WordPiece\",\n    \"unk_token\": ");
  tok_json_string(out, tok_str(t, (uint32_t)t->special[TL_TOK_UNK]));
  tl_buf_printf(out,
                ",\n    \"continuing_subword_prefix\": \"##\",\n"
                "    \"max_input_chars_per_word\": %u,\n",
                t->max_word_chars);
  tok_json_vocab(out, t);
  tl_buf_puts(out, "\n  }");
}

static bool claims(const json_t *root) {
  return tok_json_is(json_object_get(root, "model"), "WordPiece");
}

static tl_status read(tl_tokenizer *t, const json_t *root, tl_err *err) {
  const json_t *model = json_object_get(root, "model");
  const json_t *decoder = json_object_get(root, "decoder");
  const char *prefix = json_string_value(json_object_get(model, "continuing_subword_prefix"));
  const char *unk = json_string_value(json_object_get(model, "unk_token"));
  const json_t *max = json_object_get(model, "max_input_chars_per_word");
  if (!prefix || strcmp(prefix, "##") != 0)
    return tl_fail(err, TL_DATA, "model.continuing_subword_prefix is not \"##\"");
  if (!json_is_integer(max) || json_integer_value(max) < 1 || json_integer_value(max) > 1 << 20)
    return tl_fail(err, TL_DATA, "model.max_input_chars_per_word is not a number from 1 to %d",
                   1 << 20);
  t->max_word_chars = (uint32_t)json_integer_value(max);
  if (!tok_json_is(json_object_get(root, "pre_tokenizer"), "BertPreTokenizer"))
    return tl_fail(err, TL_DATA,
                   "pre_tokenizer is not of type BertPreTokenizer, the only one supported with a "
                   "WordPiece model");
  TL_TRY(tok_json_norm_read(&t->norm, root, err));
  TL_TRY(tok_json_bool(decoder, "decoder", "cleanup", &t->cleanup, err));
  TL_TRY(tok_json_vocab_read(t, root, err));
  uint32_t id = unk ? tok_find(t, unk, strlen(unk)) : TOK_NONE;
  if (id == TOK_NONE)
    return tl_fail(err, TL_DATA, "model.unk_token is missing or not in the vocabulary");
  t->flag[id] |= TOK_F_ADDED | TOK_F_SPECIAL;
  t->special[TL_TOK_UNK] = (int)id;
  return TL_OK;
}

const tok_type tok_type_wordpiece = {
    .name = "wordpiece",
    .special = {"[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"},
    .needs_text = true,
    .can_lower = true,
    .configure = configure,
    .split = split,
    .train = train,
    .prepare = prepare,
    .encode = encode,
    .decode = decode,
    .starts_word = starts_word,
    .write = write,
    .claims = claims,
    .read = read,
};
