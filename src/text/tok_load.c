/* Reads tokenizer.json. The file is not trusted: every type, id and reference is checked, and a
 * setting that this program does not follow is an error, for it would change the ids. */
#include "tok_internal.h"

#include <stdlib.h>
#include <xxhash.h>
#include "base/file.h"
#include "tok_gguf.h"

enum { MAX_FILE = 256 << 20 };

bool tok_json_is(const json_t *object, const char *type) {
  const char *s = json_string_value(json_object_get(object, "type"));
  return s && strcmp(s, type) == 0;
}

tl_status tok_json_bool(const json_t *object, const char *where, const char *key, bool *out,
                        tl_err *err) {
  const json_t *v = json_object_get(object, key);
  if (!v || json_is_null(v)) return TL_OK;
  if (!json_is_boolean(v)) return tl_fail(err, TL_DATA, "%s.%s is not true or false", where, key);
  *out = json_is_true(v);
  return TL_OK;
}

tl_status tok_json_unset(const json_t *object, const char *where, const char *key, tl_err *err) {
  const json_t *v = json_object_get(object, key);
  if (!v || json_is_null(v) || json_is_false(v)) return TL_OK;
  if (json_is_string(v) && json_string_length(v) == 0) return TL_OK;
  if (json_is_number(v) && json_number_value(v) == 0) return TL_OK;
  return tl_fail(err, TL_DATA, "%s: \"%s\" is set, which is not supported", where, key);
}

tl_status tok_json_norm_read(tok_norm *norm, const json_t *root, tl_err *err) {
  const json_t *n = json_object_get(root, "normalizer");
  *norm = (tok_norm){0};
  if (!n || json_is_null(n)) return TL_OK;
  if (!tok_json_is(n, "BertNormalizer"))
    return tl_fail(err, TL_DATA,
                   "normalizer is not supported; expected none or type BertNormalizer");
  *norm = (tok_norm){.on = true, .clean_text = true, .chinese_chars = true, .lowercase = true};
  TL_TRY(tok_json_bool(n, "normalizer", "clean_text", &norm->clean_text, err));
  TL_TRY(tok_json_bool(n, "normalizer", "handle_chinese_chars", &norm->chinese_chars, err));
  TL_TRY(tok_json_bool(n, "normalizer", "lowercase", &norm->lowercase, err));
  norm->strip_accents = norm->lowercase; /* unless it says otherwise */
  return tok_json_bool(n, "normalizer", "strip_accents", &norm->strip_accents, err);
}

static tl_status check_added(const json_t *a, size_t i, const char **content, json_int_t *id,
                             tl_err *err) {
  *content = json_string_value(json_object_get(a, "content"));
  const json_t *v = json_object_get(a, "id");
  if (!*content || !**content || !json_is_integer(v))
    return tl_fail(err, TL_DATA,
                   "added_tokens[%zu]: expected an object with \"id\" (a number) and \"content\" "
                   "(a string that is not empty)",
                   i);
  *id = json_integer_value(v);
  return TL_OK;
}

/* Puts a string under its id; used: what has been put there. */
static tl_status claim(const char **used, size_t n, const char *s, json_int_t id, tl_err *err) {
  size_t len = strlen(s);
  if (len == 0 || len > TOK_MAX_STRING)
    return tl_fail(err, TL_DATA, "the token with id %lld has %zu bytes; expected 1 to %d",
                   (long long)id, len, TOK_MAX_STRING);
  if (id < 0 || (size_t)id >= n)
    return tl_fail(err, TL_DATA,
                   "token \"%.100s\" has id %lld; with %zu tokens, ids must be 0 to %zu", s,
                   (long long)id, n, n - 1);
  if (used[id])
    return tl_fail(err, TL_DATA, "id %lld belongs to two tokens, \"%.100s\" and \"%.100s\"",
                   (long long)id, used[id], s);
  used[id] = s;
  return TL_OK;
}

/* How many added tokens the model's vocabulary does not hold; those it holds must agree. */
static tl_status count_new(const json_t *vocab, const json_t *added, size_t *n, tl_err *err) {
  *n = 0;
  for (size_t i = 0; i < json_array_size(added); i++) {
    const char *s;
    json_int_t id;
    TL_TRY(check_added(json_array_get(added, i), i, &s, &id, err));
    const json_t *have = json_object_get(vocab, s);
    if (!have)
      ++*n;
    else if (!json_is_integer(have) || json_integer_value(have) != id)
      return tl_fail(err, TL_DATA,
                     "added_tokens[%zu] \"%.100s\" has id %lld, not the one in "
                     "model.vocab",
                     i, s, (long long)id);
  }
  return TL_OK;
}

static tl_status collect(json_t *vocab, const json_t *added, const char **used, size_t n,
                         tl_err *err) {
  const char *s;
  json_t *v;
  json_object_foreach(vocab, s, v) {
    if (!json_is_integer(v))
      return tl_fail(err, TL_DATA, "model.vocab: the id of \"%.100s\" is not an integer", s);
    TL_TRY(claim(used, n, s, json_integer_value(v), err));
  }
  for (size_t i = 0; i < json_array_size(added); i++) {
    json_int_t id;
    TL_TRY(check_added(json_array_get(added, i), i, &s, &id, err));
    if (!json_object_get(vocab, s)) TL_TRY(claim(used, n, s, id, err));
  }
  return TL_OK;
}

static tl_status add_all(tl_tokenizer *t, const char *const *used, size_t n, tl_err *err) {
  for (size_t id = 0; id < n; id++) {
    size_t len = strlen(used[id]);
    if (tok_find(t, used[id], len) != TOK_NONE)
      return tl_fail(err, TL_DATA, "token \"%.100s\" occurs twice", used[id]);
    if (tok_add(t, used[id], len) == TOK_NONE) return tok_nomem(err);
  }
  return TL_OK;
}

tl_status tok_json_vocab_read(tl_tokenizer *t, const json_t *root, tl_err *err) {
  json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
  const json_t *added = json_object_get(root, "added_tokens");
  if (!json_is_object(vocab) || json_object_size(vocab) == 0)
    return tl_fail(err, TL_DATA, "model.vocab is missing, empty or not an object {token: id}");
  size_t n_new;
  TL_TRY(count_new(vocab, added, &n_new, err));
  size_t n = json_object_size(vocab) + n_new;
  if (n > TOK_MAX_VOCAB)
    return tl_fail(err, TL_DATA, "%zu tokens; at most %d are supported", n, TOK_MAX_VOCAB);
  const char **used = calloc(n, sizeof *used);
  if (!used) return tok_nomem(err);
  /* n ids below n, none twice: so there is no hole. */
  tl_status s = collect(vocab, added, used, n, err);
  if (s == TL_OK) s = add_all(t, used, n, err);
  free(used);
  return s == TL_OK ? tok_json_flags_read(t, root, err) : s;
}

enum { N_NAMES = 6 };
/* Names by which roles are known, the preferred one first. */
static const char *const role_names[TL_TOK_N_SPECIAL][N_NAMES] = {
    [TL_TOK_PAD] = {"<pad>", "[PAD]", "<|pad|>"},
    [TL_TOK_BOS] = {"<s>", "[CLS]", "<bos>", "<|begin_of_text|>", "<|startoftext|>",
                    "<|endoftext|>"},
    [TL_TOK_EOS] = {"</s>", "[SEP]", "<eos>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>"},
    [TL_TOK_UNK] = {"<unk>", "[UNK]"},
    [TL_TOK_MASK] = {"<mask>", "[MASK]", "<|mask|>"},
};

static void find_roles(tl_tokenizer *t) {
  for (int r = 0; r < TL_TOK_N_SPECIAL; r++) {
    for (int i = 0; i < N_NAMES && role_names[r][i] && t->special[r] < 0; i++) {
      uint32_t id = tok_find(t, role_names[r][i], strlen(role_names[r][i]));
      if (id != TOK_NONE && (t->flag[id] & TOK_F_ADDED)) t->special[r] = (int)id;
    }
  }
}

tl_status tok_json_flags_read(tl_tokenizer *t, const json_t *root, tl_err *err) {
  const json_t *added = json_object_get(root, "added_tokens");
  if (added && !json_is_null(added) && !json_is_array(added))
    return tl_fail(err, TL_DATA, "added_tokens is not an array");
  for (size_t i = 0; i < json_array_size(added); i++) {
    const json_t *a = json_array_get(added, i);
    const char *s;
    json_int_t want;
    TL_TRY(check_added(a, i, &s, &want, err));
    uint32_t id = tok_find(t, s, strlen(s));
    if (id == TOK_NONE || id != want)
      return tl_fail(err, TL_DATA,
                     "added_tokens[%zu] \"%.100s\" has id %lld, not that of the "
                     "vocabulary",
                     i, s, (long long)want);
    bool special = false;
    TL_TRY(tok_json_bool(a, "added_tokens[]", "special", &special, err));
    t->flag[id] |= TOK_F_ADDED | (special ? TOK_F_SPECIAL : 0);
  }
  find_roles(t);
  return TL_OK;
}

static tl_status read_as(const tok_type *type, const json_t *root, tl_tokenizer **out,
                         tl_err *err) {
  tl_tokenizer *t = tok_new(type);
  if (!t) return tok_nomem(err);
  tl_status s = type->read(t, root, err);
  if (s == TL_OK) s = tok_finish(t, err);
  if (s == TL_OK) s = tok_added_read(t, root, err);
  if (s == TL_OK) s = tok_post_read(t, root, err);
  if (s == TL_OK)
    *out = t;
  else
    tl_tokenizer_free(t);
  return s;
}

/* The types made here come first, which take only what they do exactly and are the quickest; what
 * they refuse is read as a chain of steps. */
static tl_status read_root(const json_t *root, tl_tokenizer **out, tl_err *err) {
  const char *version = json_string_value(json_object_get(root, "version"));
  if (!version || strcmp(version, "1.0") != 0)
    return tl_fail(err, TL_DATA, "\"version\" is not \"1.0\"");
  tl_status s = TL_DATA;
  bool known = false;
  for (size_t i = 0; i < tok_n_types && s == TL_DATA; i++) {
    if (!tok_types[i]->claims(root)) continue;
    known = true;
    s = read_as(tok_types[i], root, out, err);
  }
  if (known) return s;
  return tl_fail(err, TL_DATA,
                 "the model is of an unknown type; expected model.type BPE, WordPiece, Unigram or "
                 "WordLevel");
}

static tl_status fingerprint(tl_tokenizer *t, const json_t *root, tl_err *err) {
  char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
  if (!text) return tok_nomem(err);
  t->fingerprint = XXH3_64bits(text, strlen(text));
  free(text);
  return TL_OK;
}

tl_status tok_parse(const tl_buf *b, tl_tokenizer **out, tl_err *err) {
  json_error_t e;
  json_t *root = json_loadb(b->len ? b->data : "", b->len, JSON_REJECT_DUPLICATES, &e);
  if (!root) return tl_fail(err, TL_DATA, "line %d, column %d: %s", e.line, e.column, e.text);
  tl_status s = read_root(root, out, err);
  if (s == TL_OK) {
    tl_buf_append(&(*out)->source, b->data, b->len);
    s = tl_buf_check(&(*out)->source, err);
    if (s == TL_OK && (*out)->pipe) s = fingerprint(*out, root, err);
  }
  if (s != TL_OK) {
    tl_tokenizer_free(*out);
    *out = NULL;
  }
  json_decref(root);
  return s;
}

/* The messages below this level say where in the file; this adds the file. */
static tl_status load_file(const char *path, tl_tokenizer **out, tl_err *err) {
  tl_buf b = {0};
  tl_status s = tl_file_read(path, MAX_FILE, &b, err);
  if (s == TL_OK) {
    tl_err inner = {TL_OK, ""};
    s = tok_parse(&b, out, &inner);
    if (s != TL_OK) tl_fail(err, s, "%s: %s", path, inner.msg);
  }
  tl_buf_free(&b);
  return s;
}

tl_status tl_tokenizer_open(tl_ctx *ctx, const char *name, tl_tokenizer **out, tl_err *err) {
  static const tl_tokenizer_train_options bytes = {.type = "bytes"};
  if (!strcmp(name, "bytes")) return tl_tokenizer_train(ctx, &bytes, NULL, NULL, out, err);
  return tl_tokenizer_load(name, out, err);
}

tl_status tl_tokenizer_load(const char *path, tl_tokenizer **out, tl_err *err) {
  *out = NULL;
  if (tl_gguf_is_file(path)) return tok_gguf_load(path, out, err);
  if (!tl_is_dir(path)) return load_file(path, out, err);
  char *file = tl_path_join(path, "tokenizer.json");
  if (!file) return tok_nomem(err);
  tl_status s = load_file(file, out, err);
  free(file);
  if (s == TL_OK) s = tok_read_beside(*out, path, err);
  if (s == TL_OK) return TL_OK;
  tl_tokenizer_free(*out);
  *out = NULL;
  return s;
}
