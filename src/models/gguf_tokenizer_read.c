/* The byte-level BPE tokenizer of a GGUF file as tokenizer.json. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "models/gguf_tokenizer.h"

typedef struct job {
  const tl_gguf *g;
  const char *path;
  const tl_gguf_kv *tokens, *kinds, *merges; /* kinds, merges: may be NULL */
  const char *pre;
  uint64_t n; /* tokens; the file's last ones that are unused do not count */
  json_t *vocab, *added, *list, *config;
} job;

static tl_status find_array(const job *j, const char *key, tl_gguf_kind elem, bool needed,
                            const tl_gguf_kv **out, tl_err *err) {
  *out = tl_gguf_find(j->g, key);
  if (!*out && !needed) return TL_OK;
  if (*out && (*out)->kind == TL_GGUF_ARRAY && (*out)->elem == elem) return TL_OK;
  return tl_fail(err, TL_DATA, "%s: %s %s", j->path, key,
                 *out ? "is not an array of the expected type" : "is missing");
}

/* The text of a key with a string; "" if it is absent or something else. */
static tl_gguf_str text_of(const job *j, const char *key) {
  const tl_gguf_kv *kv = tl_gguf_find(j->g, key);
  return kv && kv->kind == TL_GGUF_STRING ? tl_gguf_string(kv, 0) : (tl_gguf_str){"", 0};
}

static tl_status find_model(job *j, int64_t vocab, tl_err *err) {
  tl_gguf_str model = text_of(j, "tokenizer.ggml.model"), pre = text_of(j, "tokenizer.ggml.pre");
  if (!tl_gguf_is(model, "gpt2"))
    return tl_fail(err, TL_DATA,
                   "%s: tokenizer.ggml.model is \"%.*s\"; supported is gpt2 (byte-level BPE)",
                   j->path, (int)(model.n < 60 ? model.n : 60), model.s);
  if (tl_gguf_is(pre, "gpt-2")) j->pre = "gpt-2";
  for (const tl_gguf_split *split = tl_gguf_splits; split->name; split++)
    if (tl_gguf_is(pre, split->name)) j->pre = split->name;
  if (!j->pre)
    return tl_fail(err, TL_DATA,
                   "%s: tokenizer.ggml.pre is \"%.*s\"; supported are gpt-2, llama-bpe and qwen2",
                   j->path, (int)(pre.n < 60 ? pre.n : 60), pre.s);
  TL_TRY(find_array(j, "tokenizer.ggml.tokens", TL_GGUF_STRING, true, &j->tokens, err));
  TL_TRY(find_array(j, "tokenizer.ggml.token_type", TL_GGUF_I32, false, &j->kinds, err));
  TL_TRY(find_array(j, "tokenizer.ggml.merges", TL_GGUF_STRING, false, &j->merges, err));
  j->n = j->tokens->n;
  if (j->n > (uint64_t)vocab || (j->kinds && j->kinds->n != j->n))
    return tl_fail(err, TL_DATA,
                   "%s: tokenizer.ggml.tokens has %llu elements, tokenizer.ggml.token_type %llu; "
                   "expected as many, at most the %lld rows of token_embd.weight",
                   j->path, (unsigned long long)j->n,
                   (unsigned long long)(j->kinds ? j->kinds->n : j->n), (long long)vocab);
  while (j->kinds && j->n > 0 && (int)tl_gguf_number(j->kinds, j->n - 1) == TL_GGUF_UNUSED) j->n--;
  return TL_OK;
}

static tl_status bad_text(const job *j, const char *key, uint64_t i, tl_err *err) {
  return tl_fail(err, TL_DATA, "%s: %s[%llu] is not UTF-8, holds a NUL, or is there twice", j->path,
                 key, (unsigned long long)i);
}

static json_t *json_text(tl_gguf_str s) {
  return memchr(s.s, 0, (size_t)s.n) ? NULL : json_stringn(s.s, (size_t)s.n);
}

static tl_status put_tokens(job *j, tl_err *err) {
  tl_gguf_str s = {0};
  for (uint64_t i = 0; i < j->n; i++) {
    s = tl_gguf_next_string(j->tokens, s);
    int kind = j->kinds ? (int)tl_gguf_number(j->kinds, i) : TL_GGUF_NORMAL;
    json_t *text = json_text(s);
    if (!text) return bad_text(j, "tokenizer.ggml.tokens", i, err);
    int failed;
    if (kind == TL_GGUF_CONTROL || kind == TL_GGUF_USER) {
      failed = json_array_append_new(
          j->added, json_pack("{s:I, s:O, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i, "content",
                              text, "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0,
                              "special", kind == TL_GGUF_CONTROL));
    } else {
      const char *key = json_string_value(text);
      failed = json_object_get(j->vocab, key) ||
               json_object_set_new(j->vocab, key, json_integer((json_int_t)i));
    }
    json_decref(text);
    if (failed) return bad_text(j, "tokenizer.ggml.tokens", i, err);
  }
  return TL_OK;
}

static tl_status put_merges(job *j, tl_err *err) {
  tl_gguf_str s = {0};
  for (uint64_t i = 0; j->merges && i < j->merges->n; i++) {
    s = tl_gguf_next_string(j->merges, s);
    if (json_array_append_new(j->list, json_text(s)))
      return bad_text(j, "tokenizer.ggml.merges", i, err);
  }
  return TL_OK;
}

/* The token's text; NULL: the key is absent, or its id is not a token's. */
static json_t *token_at(const job *j, const char *key) {
  const tl_gguf_kv *kv = tl_gguf_find(j->g, key);
  if (!kv || kv->kind != TL_GGUF_U32) return NULL;
  double id = tl_gguf_number(kv, 0);
  return id < (double)j->n ? json_text(tl_gguf_string(j->tokens, (uint64_t)id)) : NULL;
}

static json_t *pre_tokenizer(const job *j) {
  for (const tl_gguf_split *split = tl_gguf_splits; split->name; split++)
    if (!strcmp(j->pre, split->name))
      return json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b, s:b, s:b}]}", "type",
                       "Sequence", "pretokenizers", "type", "Split", "pattern", "Regex",
                       split->regex, "behavior", "Isolated", "invert", 0, "type", "ByteLevel",
                       "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 0);
  return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                   "trim_offsets", 1, "use_regex", 1);
}

static bool is_true(const job *j, const char *key) {
  const tl_gguf_kv *kv = tl_gguf_find(j->g, key);
  return kv && kv->kind == TL_GGUF_BOOL && kv->data[0];
}

/* Appends the role's token to a template, and what it is to `known`. */
static void put_special(const job *j, const tl_gguf_role *r, json_t *list, json_t *known) {
  json_t *token = token_at(j, r->key);
  if (!token) return;
  const char *s = json_string_value(token);
  json_int_t id = (json_int_t)tl_gguf_number(tl_gguf_find(j->g, r->key), 0);
  json_array_append_new(list, json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", s, "type_id", 0));
  json_object_set_new(known, s, json_pack("{s:s, s:[I], s:[s]}", "id", s, "ids", id, "tokens", s));
  json_decref(token);
}

/* BOS before and EOS behind each text, where the file wants them. */
static json_t *post_processor(const job *j) {
  const bool begins = is_true(j, "tokenizer.ggml.add_bos_token"),
             ends = is_true(j, "tokenizer.ggml.add_eos_token");
  json_t *single = json_array(), *pair = json_array(), *known = json_object();
  for (int second = 0; second < 2; second++) {
    json_t *one = json_array();
    if (begins) put_special(j, &tl_gguf_roles[0], one, known);
    json_array_append_new(
        one, json_pack("{s:{s:s, s:i}}", "Sequence", "id", second ? "B" : "A", "type_id", 0));
    if (ends) put_special(j, &tl_gguf_roles[1], one, known);
    json_array_extend(pair, one);
    if (!second) json_array_extend(single, one);
    json_decref(one);
  }
  json_t *o = json_pack("{s:s, s:O, s:O, s:O}", "type", "TemplateProcessing", "single", single,
                        "pair", pair, "special_tokens", known);
  bool empty = json_object_size(known) == 0;
  json_decref(single);
  json_decref(pair);
  json_decref(known);
  if (!empty) return o;
  json_decref(o);
  return json_null();
}

static tl_status write_json(json_t *o, const char *dir, const char *name, tl_err *err) {
  char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL, *path = tl_path_join(dir, name);
  tl_status s = text && path ? tl_file_write_atomic(path, text, strlen(text), err)
                             : tl_fail(err, TL_NOMEM, "%s: out of memory for %s", dir, name);
  free(path);
  free(text);
  json_decref(o);
  return s;
}

static tl_status save(job *j, const char *dir, tl_err *err) {
  json_t *unk = token_at(j, "tokenizer.ggml.unknown_token_id");
  bool known = unk && json_object_get(j->vocab, json_string_value(unk));
  json_t *model =
      json_pack("{s:s, s:n, s:O?, s:n, s:n, s:b, s:b, s:b, s:O, s:O}", "type", "BPE", "dropout",
                "unk_token", known ? unk : NULL, "continuing_subword_prefix", "end_of_word_suffix",
                "fuse_unk", 0, "byte_fallback", 0, "ignore_merges", !strcmp(j->pre, "llama-bpe"),
                "vocab", j->vocab, "merges", j->list);
  json_t *root = json_pack("{s:s, s:n, s:n, s:O, s:n, s:o, s:o, s:{s:s}, s:o}", "version", "1.0",
                           "truncation", "padding", "added_tokens", j->added, "normalizer",
                           "pre_tokenizer", pre_tokenizer(j), "post_processor", post_processor(j),
                           "decoder", "type", "ByteLevel", "model", model);
  json_decref(unk);
  for (const tl_gguf_role *r = tl_gguf_roles; r->key; r++) {
    json_t *text = token_at(j, r->key);
    if (text) json_object_set_new(j->config, r->hf, text);
  }
  json_object_set_new(j->config, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
  tl_gguf_str chat = text_of(j, "tokenizer.chat_template");
  if (chat.n) json_object_set_new(j->config, "chat_template", json_text(chat));
  tl_status s = tl_mkdirs(dir, err);
  if (s == TL_OK)
    s = write_json(root, dir, "tokenizer.json", err);
  else
    json_decref(root);
  return s == TL_OK ? write_json(json_incref(j->config), dir, "tokenizer_config.json", err) : s;
}

tl_status tl_gguf_save_tokenizer(const tl_gguf *g, const char *path, int64_t vocab, const char *dir,
                                 tl_err *err) {
  job j = {.g = g,
           .path = path,
           .vocab = json_object(),
           .added = json_array(),
           .list = json_array(),
           .config = json_object()};
  tl_status s = find_model(&j, vocab, err);
  if (s == TL_OK) s = put_tokens(&j, err);
  if (s == TL_OK) s = put_merges(&j, err);
  if (s == TL_OK) s = save(&j, dir, err);
  json_decref(j.vocab);
  json_decref(j.added);
  json_decref(j.list);
  json_decref(j.config);
  return s;
}
