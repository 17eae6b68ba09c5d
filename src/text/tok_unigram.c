/* Unigram language model, as in SentencePiece: each piece has a log probability, and a word is cut
 * into the pieces whose sum is largest (Viterbi). Spaces are written as "▁" (U+2581) and begin the
 * word after them; a text that does not start with one is given one. Characters that no piece
 * covers are spelt in byte pieces "<0x41>" where the vocabulary has them, so that without
 * normalization nothing is lost but a space at the very start and "▁" itself (it becomes a space).
 */
#include "tok_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void configure(tl_tokenizer *t, const tl_tokenizer_train_options *o) {
  t->norm = (tok_norm){.on = o->lowercase,
                       .clean_text = o->lowercase,
                       .chinese_chars = o->lowercase,
                       .strip_accents = o->lowercase,
                       .lowercase = o->lowercase};
  t->byte_fallback = true;
}

/* ---- tables ---- */

tl_status tok_unigram_find_bytes(tl_tokenizer *t, tl_err *err) {
  for (int b = 0; t->byte_fallback && b < TOK_BYTES; b++) {
    char s[8];
    snprintf(s, sizeof s, "<0x%02X>", b);
    t->byte_id[b] = tok_find(t, s, strlen(s));
    if (t->byte_id[b] == TOK_NONE)
      return tl_fail(err, TL_DATA, "tokenizer: byte_fallback is set, but there is no piece %s", s);
    t->flag[t->byte_id[b]] |= TOK_F_BYTE;
  }
  return TL_OK;
}

static tl_status prepare(tl_tokenizer *t, tl_err *err) {
  if (!t->byte_fallback && t->special[TL_TOK_UNK] < 0)
    return tl_fail(err, TL_DATA, "tokenizer: there is neither byte_fallback nor an unknown token");
  TL_TRY(tok_unigram_find_bytes(t, err));
  double min = INFINITY;
  for (uint32_t id = 0; id < t->n; id++) {
    const char *s = tok_str(t, id);
    if (t->score[id] < min) min = t->score[id];
    if (!t->flag[id] && !tok_trie_add(&t->trie, (const unsigned char *)s, strlen(s), id))
      return tok_nomem(err);
  }
  t->unk_score = min - 10; /* SentencePiece's penalty */
  t->cache = tok_cache_new();
  return t->cache ? TL_OK : tok_nomem(err);
}

/* ---- encoding ---- */

void tok_metaspace(const unsigned char *p, size_t len, bool first, tl_buf *out) {
  if (first && len > 0 && p[0] != ' ' && (len < TOK_META_LEN || memcmp(p, TOK_META, TOK_META_LEN)))
    tl_buf_append(out, TOK_META, TOK_META_LEN);
  for (size_t i = 0; i < len;) {
    const unsigned char *space = memchr(p + i, ' ', len - i);
    size_t n = space ? (size_t)(space - p) - i : len - i;
    tl_buf_append(out, p + i, n);
    i += n;
    if (!space) break;
    tl_buf_append(out, TOK_META, TOK_META_LEN);
    i++;
  }
}

/* Length of the word at p, which ends before the next "▁". */
static size_t word_len(const unsigned char *p, size_t len) {
  for (size_t i = 1; i + TOK_META_LEN <= len; i++) {
    const unsigned char *q = memchr(p + i, 0xE2, len - i);
    if (!q || (size_t)(q - p) + TOK_META_LEN > len) return len;
    i = (size_t)(q - p);
    if (memcmp(q, TOK_META, TOK_META_LEN) == 0) return i;
  }
  return len;
}

/* By end position in a word: the best way to get there. */
typedef struct step {
  double score;
  uint32_t start, id; /* of the last piece; id TOK_NONE: a character without piece */
} step;

/* Fills step[1..len]. Of equal sums the first found, which starts furthest left, stays. */
static void viterbi(const tl_tokenizer *t, const unsigned char *p, size_t len, step *s) {
  for (size_t i = 1; i <= len; i++) s[i].start = TOK_NONE;
  s[0].score = 0;
  for (size_t i = 0, width; i < len; i += width) {
    int32_t cp;
    width = tok_utf8(p + i, len - i, &cp);
    bool single = false;
    uint32_t node = 0;
    for (size_t j = i; j < len; j++) {
      node = tok_trie_step(&t->trie, node, p[j]);
      if (node == TOK_NONE) break;
      uint32_t id = t->trie.value[node];
      if (id == TOK_NONE) continue;
      step *to = &s[j + 1];
      double sum = t->score[id] + s[i].score;
      if (to->start == TOK_NONE || sum > to->score) *to = (step){sum, (uint32_t)i, id};
      if (j + 1 - i == width) single = true;
    }
    step *to = &s[i + width];
    double sum = t->unk_score + s[i].score;
    if (!single && (to->start == TOK_NONE || sum > to->score))
      *to = (step){sum, (uint32_t)i, TOK_NONE};
  }
}

/* Appends the ids of the best path. It is found from its end, and moved to the end of the array:
 * k pieces before position `end` take at least k bytes, so nothing still needed is overwritten. */
static void collect(const tl_tokenizer *t, const unsigned char *p, size_t len, step *s,
                    tl_ids *out) {
  size_t top = len;
  for (size_t end = len; end > 0; top--) {
    s[top] = s[end];
    end = s[top].start;
  }
  for (size_t k = top + 1; k <= len; k++) {
    size_t end = k < len ? s[k + 1].start : len;
    if (s[k].id != TOK_NONE) {
      tl_ids_push(out, s[k].id);
    } else if (t->byte_fallback) {
      for (size_t i = s[k].start; i < end; i++) tl_ids_push(out, t->byte_id[p[i]]);
    } else if (k == top + 1 || s[k - 1].id != TOK_NONE) { /* a run of unknowns is one */
      tl_ids_push(out, (uint32_t)t->special[TL_TOK_UNK]);
    }
  }
}

enum { STACK_WORD = 255 };

static tl_status encode_word(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                             tl_err *err) {
  step few[STACK_WORD + 1], *s = few;
  if (len >= UINT32_MAX)
    return tl_fail(err, TL_DATA, "tokenizer: a word of %zu bytes is too long", len);
  if (len > STACK_WORD) s = malloc((len + 1) * sizeof *s);
  if (!s) return tok_nomem(err);
  viterbi(t, p, len, s);
  collect(t, p, len, s, out);
  if (s != few) free(s);
  return TL_OK;
}

tl_status tok_unigram_word(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                           tl_err *err) {
  return tok_cached_word(t, p, len, encode_word, out, err);
}

static tl_status encode(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                        tl_err *err) {
  tl_buf norm = {0}, meta = {0};
  tl_status s = TL_OK;
  if (t->norm.on) {
    s = tok_normalize(&t->norm, p, len, &norm, err);
    p = (const unsigned char *)norm.data;
    len = norm.len;
  }
  tl_buf_reserve(&meta, len + len / 2);
  tok_metaspace(p, len, true, &meta);
  if (s == TL_OK) s = tl_buf_check(&meta, err);
  const unsigned char *q = (const unsigned char *)meta.data;
  for (size_t i = 0; s == TL_OK && i < meta.len;) {
    size_t n = word_len(q + i, meta.len - i);
    s = tok_unigram_word(t, q + i, n, out, err);
    i += n;
  }
  tl_buf_free(&norm);
  tl_buf_free(&meta);
  return s;
}

/* ---- decoding ---- */

static void decode(const tl_tokenizer *t, const uint32_t *ids, size_t n, bool skip_special,
                   tl_buf *out) {
  bool first = true; /* the space in front was added by encoding */
  for (size_t i = 0; i < n; i++) {
    uint8_t flag = t->flag[ids[i]];
    const char *s = tok_str(t, ids[i]);
    if (skip_special && (flag & TOK_F_SPECIAL)) continue;
    if (flag & TOK_F_BYTE) {
      char byte = (char)strtol(s + 3, NULL, 16);
      if (!first || byte != ' ') tl_buf_putc(out, byte);
      first = false;
      continue;
    }
    while (*s) {
      size_t k = (size_t)(strstr(s, TOK_META) ? strstr(s, TOK_META) - s : (ptrdiff_t)strlen(s));
      tl_buf_append(out, s, k);
      if (s[k]) {
        if (!first || k > 0) tl_buf_putc(out, ' ');
        k += TOK_META_LEN;
      }
      s += k;
      first = false;
    }
  }
}

static bool starts_word(const tl_tokenizer *t, uint32_t id) {
  return strncmp(tok_str(t, id), TOK_META, TOK_META_LEN) == 0;
}

/* ---- tokenizer.json ---- */

/* Scores made here have six decimals; those of foreign files keep all their digits. */
static void put_score(tl_buf *out, double v) {
  char s[32];
  snprintf(s, sizeof s, "%.6f", v);
  if (strtod(s, NULL) == v)
    tl_buf_puts(out, s);
  else
    tl_buf_printf(out, "%.17g", v);
}

static void write(const tl_tokenizer *t, tl_buf *out) {
  tl_buf_puts(out, "  \"normalizer\": ");
  tok_json_norm(out, &t->norm);
  tl_buf_puts(out, ",\n  \"pre_tokenizer\": {\n    \"type\": \"Metaspace\",\n"
                   "    \"replacement\": \"" TOK_META "\",\n"
                   "    \"prepend_scheme\": \"always\",\n    \"split\": true\n  },\n");
  tok_json_post(out, t);
  tl_buf_puts(out, "  \"decoder\": {\n    \"type\": \"Sequence\",\n    \"decoders\": [\n"
                   "      {\"type\": \"Replace\", \"pattern\": {\"String\": \"" TOK_META "\"}, "
                   "\"content\": \" \"},\n      {\"type\": \"ByteFallback\"},\n"
                   "      {\"type\": \"Fuse\"},\n      {\"type\": \"Strip\", \"content\": \" \", "
                   "\"start\": 1, \"stop\": 0}\n    ]\n  },\n");
  tl_buf_puts(out, "  \"model\": {\n    \"type\": \"Unigram\",\n    \"unk_id\": ");
  if (t->special[TL_TOK_UNK] < 0)
    tl_buf_puts(out, "null");
  else
    tl_buf_printf(out, "%d", t->special[TL_TOK_UNK]);
  tl_buf_puts(out, ",\n    \"vocab\": [");
  for (uint32_t id = 0; id < t->n; id++) {
    tl_buf_puts(out, id ? ",\n      [" : "\n      [");
    tok_json_string(out, tok_str(t, id));
    tl_buf_puts(out, ", ");
    put_score(out, t->score[id]);
    tl_buf_putc(out, ']');
  }
  tl_buf_printf(out, "\n    ],\n    \"byte_fallback\": %s\n  }",
                t->byte_fallback ? "true" : "false");
}

static bool claims(const json_t *root) {
  return tok_json_is(json_object_get(root, "model"), "Unigram");
}

/* The library's JSON reader takes the digits for an integer and divides by a power of ten, which
 * rounds twice; the last bit decides between cuts of equal probability. */
static double as_the_library_reads(double v) {
  static const double ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10,
                               1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21};
  tl_buf b = {0};
  tl_buf_put_real(&b, v);
  uint64_t digits = 0;
  size_t decimals = 0;
  bool point = false, plain = !b.oom && b.len < 22;
  for (size_t i = 0; plain && i < b.len; i++) {
    char c = b.data[i];
    if (c >= '0' && c <= '9') {
      digits = digits * 10 + (uint64_t)(c - '0');
      decimals += point;
    } else if (c == '.') {
      point = true;
    } else {
      plain = c == '-' && i == 0;
    }
  }
  tl_buf_free(&b);
  if (!plain || decimals >= sizeof ten / sizeof *ten) return v;
  double f = (double)digits / ten[decimals];
  return v < 0 ? -f : f;
}

tl_status tok_unigram_read_pieces(tl_tokenizer *t, const json_t *vocab, tl_err *err) {
  size_t n = json_array_size(vocab);
  if (n == 0 || n > TOK_MAX_VOCAB)
    return tl_fail(err, TL_DATA, "model.vocab is not an array of 1 to %d pieces", TOK_MAX_VOCAB);
  t->score = malloc(n * sizeof *t->score);
  if (!t->score) return tok_nomem(err);
  for (size_t i = 0; i < n; i++) {
    const json_t *v = json_array_get(vocab, i), *score = json_array_get(v, 1);
    const char *s = json_string_value(json_array_get(v, 0));
    if (json_array_size(v) != 2 || !s || !*s || strlen(s) > TOK_MAX_STRING ||
        !json_is_number(score))
      return tl_fail(err, TL_DATA, "model.vocab[%zu] is not [\"piece\", log probability]", i);
    if (tok_find(t, s, strlen(s)) != TOK_NONE)
      return tl_fail(err, TL_DATA, "model.vocab[%zu]: piece \"%.100s\" occurs twice", i, s);
    if (tok_add(t, s, strlen(s)) == TOK_NONE) return tok_nomem(err);
    t->score[i] = as_the_library_reads(json_number_value(score));
  }
  return TL_OK;
}

static tl_status check_metaspace(const json_t *pre, tl_err *err) {
  const char *replacement = json_string_value(json_object_get(pre, "replacement"));
  const char *scheme = json_string_value(json_object_get(pre, "prepend_scheme"));
  bool split = true, prefix = true;
  TL_TRY(tok_json_bool(pre, "pre_tokenizer", "split", &split, err));
  TL_TRY(tok_json_bool(pre, "pre_tokenizer", "add_prefix_space", &prefix, err));
  if (!tok_json_is(pre, "Metaspace") || !replacement || strcmp(replacement, TOK_META) != 0 ||
      (scheme && strcmp(scheme, "always") != 0) || !split || !prefix)
    return tl_fail(err, TL_DATA,
                   "pre_tokenizer is not supported with a Unigram model; expected type Metaspace "
                   "with replacement \"" TOK_META "\", prepend_scheme \"always\", split true");
  return TL_OK;
}

static tl_status read(tl_tokenizer *t, const json_t *root, tl_err *err) {
  const json_t *model = json_object_get(root, "model");
  const json_t *unk = json_object_get(model, "unk_id");
  TL_TRY(tok_json_norm_read(&t->norm, root, err));
  TL_TRY(check_metaspace(json_object_get(root, "pre_tokenizer"), err));
  TL_TRY(tok_json_bool(model, "model", "byte_fallback", &t->byte_fallback, err));
  TL_TRY(tok_unigram_read_pieces(t, json_object_get(model, "vocab"), err));
  TL_TRY(tok_json_flags_read(t, root, err));
  if (!unk || json_is_null(unk)) return TL_OK;
  json_int_t id = json_integer_value(unk);
  if (!json_is_integer(unk) || id < 0 || id >= (json_int_t)t->n)
    return tl_fail(err, TL_DATA, "model.unk_id is not an id of the vocabulary (0 to %u)", t->n - 1);
  t->flag[id] |= TOK_F_ADDED | TOK_F_SPECIAL;
  t->special[TL_TOK_UNK] = (int)id;
  return TL_OK;
}

const tok_type tok_type_unigram = {
    .name = "unigram",
    .special = {"<pad>", "<s>", "</s>", "<unk>", "<mask>"},
    .needs_text = true,
    .can_lower = true,
    .configure = configure,
    .split = tok_unigram_split,
    .train = tok_unigram_train,
    .prepare = prepare,
    .encode = encode,
    .decode = decode,
    .starts_word = starts_word,
    .write = write,
    .claims = claims,
    .read = read,
};
