#include "data/data_manifest.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 1, MAX_FILE = 64 << 20 };

static const char *const split_names[TL_N_SPLITS] = {"train", "val"};

uint64_t tl_data_manifest_fingerprint(const tl_data_manifest *m) {
  /* Counts and seals as an array of numbers, in a fixed order; hashed in a chain, so that it needs
   * no memory. */
  uint64_t h = 0;
#define ADD(value)                                                                                 \
  do {                                                                                             \
    uint64_t pair_[2] = {h, (value)};                                                              \
    h = tl_hash64(pair_, sizeof pair_);                                                            \
  } while (0)
  ADD(VERSION);
  ADD(m->kind.vocab_size);
  ADD(m->kind.tokenizer);
  ADD(m->kind.shard_tokens);
  for (int s = 0; s < TL_N_SPLITS; s++) {
    const tl_data_manifest_split *p = &m->split[s];
    ADD(p->docs);
    ADD(p->tokens);
    ADD(p->bytes);
    ADD(p->n_shards);
    for (size_t i = 0; i < p->n_shards; i++) ADD(p->shards[i].seal);
  }
#undef ADD
  return h;
}

static json_t *hex(uint64_t v) {
  char s[17];
  snprintf(s, sizeof s, "%016" PRIx64, v);
  return json_string(s);
}

/* A seed may need all 64 bits, which a JSON integer of jansson has not. */
static json_t *decimal(uint64_t v) {
  char s[24];
  snprintf(s, sizeof s, "%" PRIu64, v);
  return json_string(s);
}

static json_t *split_json(const tl_data_manifest_split *p, tl_split split) {
  json_t *shards = json_array();
  for (size_t i = 0; i < p->n_shards; i++) {
    const tl_shard_info *s = &p->shards[i];
    char name[TL_SHARD_NAME_SIZE];
    tl_shard_name(split, (uint32_t)i, name);
    json_array_append_new(shards, json_pack("{s:s, s:I, s:I, s:I, s:o}", "file", name, "size",
                                            (json_int_t)s->size, "tokens", (json_int_t)s->tokens,
                                            "docs", (json_int_t)s->docs, "seal", hex(s->seal)));
  }
  return json_pack("{s:I, s:I, s:I, s:o}", "docs", (json_int_t)p->docs, "tokens",
                   (json_int_t)p->tokens, "bytes", (json_int_t)p->bytes, "shards", shards);
}

static char *dump(const tl_data_manifest *m, const char *tokenizer_type,
                  const tl_prepare_options *o) {
  json_t *root = json_pack(
      "{s:s, s:i, s:o, s:I, s:i, s:{s:s, s:o}, s:I, s:{s:f, s:s, s:o, s:b, s:b}, s:{s:o, s:o}}",
      "format", "tilth-dataset", "version", VERSION, "fingerprint", hex(m->fingerprint),
      "vocab_size", (json_int_t)m->kind.vocab_size, "token_bytes",
      (int)tl_shard_token_bytes(m->kind.vocab_size), "tokenizer", "type", tokenizer_type,
      "fingerprint", hex(m->kind.tokenizer), "shard_tokens", (json_int_t)m->kind.shard_tokens,
      "options", "val_fraction", o->val_fraction, "split", o->split_tail ? "tail" : "document",
      "seed", decimal(o->seed), "add_bos", o->add_bos, "add_eos", o->add_eos, "splits",
      split_names[0], split_json(&m->split[0], 0), split_names[1], split_json(&m->split[1], 1));
  char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
  json_decref(root);
  return text;
}

tl_status tl_data_manifest_write(const tl_data_manifest *m, const char *dir,
                                 const char *tokenizer_type, const tl_prepare_options *options,
                                 tl_err *err) {
  char *path = tl_path_join(dir, "dataset.json"), *text = dump(m, tokenizer_type, options);
  tl_buf b = {0};
  if (text) {
    tl_buf_puts(&b, text);
    tl_buf_putc(&b, '\n');
  }
  tl_status s = path && text && !b.oom ? tl_file_write_atomic(path, b.data, b.len, err)
                                       : tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  tl_buf_free(&b);
  free(text);
  free(path);
  return s;
}

static bool parse_hex(const char *s, uint64_t *out) {
  if (strlen(s) != 16 || strspn(s, "0123456789abcdef") != 16) return false;
  *out = strtoull(s, NULL, 16);
  return true;
}

static tl_status bad(const char *path, const char *what, tl_err *err) {
  return tl_fail(err, TL_DATA, "%s: %s; prepare the data again, or restore the file", path, what);
}

static tl_status read_shards(const char *path, json_t *list, tl_split split, uint64_t shard_tokens,
                             tl_data_manifest_split *p, tl_err *err) {
  size_t n = json_array_size(list);
  if (n != p->tokens / shard_tokens + (p->tokens % shard_tokens != 0))
    return bad(path, "the number of shards does not fit the number of tokens", err);
  p->shards = calloc(n ? n : 1, sizeof *p->shards);
  if (!p->shards) return tl_fail(err, TL_NOMEM, "%s: out of memory for %zu shards", path, n);
  p->n_shards = n;
  uint64_t left = p->tokens, docs = 0;
  for (size_t i = 0; i < n; i++) {
    const char *file, *seal;
    json_int_t size, tokens, n_docs;
    json_error_t e;
    if (json_unpack_ex(json_array_get(list, i), &e, 0, "{s:s, s:I, s:I, s:I, s:s}", "file", &file,
                       "size", &size, "tokens", &tokens, "docs", &n_docs, "seal", &seal))
      return tl_fail(err, TL_DATA, "%s: shard %zu of %s: %s", path, i, split_names[split], e.text);
    char name[TL_SHARD_NAME_SIZE];
    tl_shard_name(split, (uint32_t)i, name);
    tl_shard_info *s = &p->shards[i];
    *s = (tl_shard_info){
        .size = (uint64_t)size, .tokens = (uint64_t)tokens, .docs = (uint64_t)n_docs};
    uint64_t want = left < shard_tokens ? left : shard_tokens;
    if (strcmp(file, name) || size < 0 || s->tokens != want || n_docs < 0 || s->docs > want ||
        !parse_hex(seal, &s->seal))
      return tl_fail(err, TL_DATA,
                     "%s: the entry of %s does not fit the rest; prepare the data again", path,
                     name);
    left -= want;
    docs += s->docs;
  }
  return docs == p->docs ? TL_OK : bad(path, "the shards' documents do not add up", err);
}

static tl_status read_root(const char *path, json_t *root, tl_data_manifest *m, tl_err *err) {
  const char *format, *fingerprint, *tokenizer;
  json_int_t version, vocab, shard_tokens;
  json_t *splits;
  json_error_t e;
  if (json_unpack_ex(root, &e, 0, "{s:s, s:I}", "format", &format, "version", &version) ||
      strcmp(format, "tilth-dataset"))
    return bad(path, "not the description of a prepared dataset", err);
  if (version != VERSION)
    return tl_fail(err, TL_DATA, "%s: version %lld; this program reads version %d", path,
                   (long long)version, (int)VERSION);
  if (json_unpack_ex(root, &e, 0, "{s:s, s:I, s:I, s:{s:s}, s:o}", "fingerprint", &fingerprint,
                     "vocab_size", &vocab, "shard_tokens", &shard_tokens, "tokenizer",
                     "fingerprint", &tokenizer, "splits", &splits))
    return bad(path, e.text, err);
  if (vocab < 1 || vocab > INT32_MAX || shard_tokens < 1 || shard_tokens > UINT32_MAX ||
      !parse_hex(fingerprint, &m->fingerprint) || !parse_hex(tokenizer, &m->kind.tokenizer))
    return bad(path, "vocab_size, shard_tokens or a fingerprint is out of bounds", err);
  m->kind.vocab_size = (uint32_t)vocab;
  m->kind.shard_tokens = (uint64_t)shard_tokens;
  for (int s = 0; s < TL_N_SPLITS; s++) {
    json_int_t docs, tokens, bytes;
    json_t *shards;
    if (json_unpack_ex(splits, &e, 0, "{s:{s:I, s:I, s:I, s:o}}", split_names[s], "docs", &docs,
                       "tokens", &tokens, "bytes", &bytes, "shards", &shards))
      return bad(path, e.text, err);
    if (docs < 0 || tokens < 0 || bytes < 0) return bad(path, "a negative count", err);
    tl_data_manifest_split *p = &m->split[s];
    p->docs = (uint64_t)docs;
    p->tokens = (uint64_t)tokens;
    p->bytes = (uint64_t)bytes;
    TL_TRY(read_shards(path, shards, (tl_split)s, m->kind.shard_tokens, p, err));
  }
  if (m->fingerprint != tl_data_manifest_fingerprint(m))
    return bad(path, "the fingerprint does not fit the contents: the file was changed", err);
  return TL_OK;
}

static tl_status read_file(const char *path, tl_data_manifest *m, tl_err *err) {
  tl_buf text = {0};
  tl_status s = tl_file_read(path, MAX_FILE, &text, err);
  if (s == TL_OK) {
    json_error_t e;
    json_t *root = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &e);
    s = root ? read_root(path, root, m, err)
             : tl_fail(err, TL_DATA, "%s:%d:%d: bad JSON: %s", path, e.line, e.column, e.text);
    json_decref(root);
  }
  tl_buf_free(&text);
  return s;
}

tl_status tl_data_manifest_read(const char *dir, tl_data_manifest *out, tl_err *err) {
  *out = (tl_data_manifest){0};
  char *path = tl_path_join(dir, "dataset.json");
  if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  tl_status s = TL_OK;
  if (!tl_file_exists(path))
    s = tl_fail(err, TL_NOINPUT,
                "%s: no prepared dataset here (no dataset.json); make one with: "
                "tilth prepare --out %s ...",
                dir, dir);
  else
    s = read_file(path, out, err);
  free(path);
  if (s != TL_OK) tl_data_manifest_free(out);
  return s;
}

void tl_data_manifest_free(tl_data_manifest *m) {
  for (int s = 0; s < TL_N_SPLITS; s++) free(m->split[s].shards);
  *m = (tl_data_manifest){0};
}
