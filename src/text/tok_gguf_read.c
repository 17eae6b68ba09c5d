/* The tokenizer of a GGUF file as tokenizer.json: byte-level BPE ("gpt2"), and BPE of characters
 * whose merges follow from scores ("llama"). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tok_gguf.h"

typedef struct job {
  const tl_gguf *g;
  const char *path;
  const tl_gguf_kv *tokens, *kinds, *merges, *scores; /* kinds, merges: may be NULL */
  const char *pre;
  bool llama;
  uint64_t n; /* tokens; the file's last ones that are unused do not count */
  json_t *vocab, *added, *list;
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

static bool has(const job *j, const char *key, bool otherwise) {
  const tl_gguf_kv *kv = tl_gguf_find(j->g, key);
  return kv && kv->kind == TL_GGUF_BOOL ? kv->data[0] : otherwise;
}

static tl_status find_pre(job *j, tl_err *err) {
  tl_gguf_str pre = text_of(j, "tokenizer.ggml.pre");
  if (tl_gguf_is(pre, "gpt-2")) j->pre = "gpt-2";
  for (const tok_gguf_split *split = tok_gguf_splits; split->name; split++)
    if (tl_gguf_is(pre, split->name)) j->pre = split->name;
  if (j->pre) return TL_OK;
  return tl_fail(err, TL_DATA,
                 "%s: tokenizer.ggml.pre is \"%.*s\"; supported are gpt-2, llama-bpe and qwen2",
                 j->path, (int)(pre.n < 60 ? pre.n : 60), pre.s);
}

static tl_status same_length(const job *j, const tl_gguf_kv *kv, const char *key, tl_err *err) {
  if (!kv || kv->n == j->n) return TL_OK;
  return tl_fail(err, TL_DATA, "%s: %s has %llu elements; tokenizer.ggml.tokens has %llu", j->path,
                 key, (unsigned long long)kv->n, (unsigned long long)j->n);
}

static tl_status find_model(job *j, tl_err *err) {
  tl_gguf_str model = text_of(j, "tokenizer.ggml.model");
  j->llama = tl_gguf_is(model, "llama");
  if (!j->llama && !tl_gguf_is(model, "gpt2"))
    return tl_fail(err, TL_DATA,
                   "%s: tokenizer.ggml.model is \"%.*s\"; supported are gpt2 (byte-level BPE) and "
                   "llama (SentencePiece's BPE)",
                   j->path, (int)(model.n < 60 ? model.n : 60), model.s);
  if (!j->llama) TL_TRY(find_pre(j, err));
  static const char kinds[] = "tokenizer.ggml.token_type", scores[] = "tokenizer.ggml.scores";
  TL_TRY(find_array(j, "tokenizer.ggml.tokens", TL_GGUF_STRING, true, &j->tokens, err));
  TL_TRY(find_array(j, kinds, TL_GGUF_I32, false, &j->kinds, err));
  if (j->llama)
    TL_TRY(find_array(j, scores, TL_GGUF_F32, true, &j->scores, err));
  else
    TL_TRY(find_array(j, "tokenizer.ggml.merges", TL_GGUF_STRING, false, &j->merges, err));
  j->n = j->tokens->n;
  TL_TRY(same_length(j, j->kinds, kinds, err));
  TL_TRY(same_length(j, j->scores, scores, err));
  while (j->kinds && j->n > 0 && (int)tl_gguf_number(j->kinds, j->n - 1) == TOK_GGUF_UNUSED) j->n--;
  return j->n <= TOK_MAX_VOCAB ? TL_OK
                               : tl_fail(err, TL_DATA, "%s: %llu tokens; at most %d are supported",
                                         j->path, (unsigned long long)j->n, TOK_MAX_VOCAB);
}

static tl_status bad_text(const job *j, const char *key, uint64_t i, tl_err *err) {
  return tl_fail(err, TL_DATA, "%s: %s[%llu] is not UTF-8, holds a NUL, or is there twice", j->path,
                 key, (unsigned long long)i);
}

static json_t *json_text(tl_gguf_str s) {
  return memchr(s.s, 0, (size_t)s.n) ? NULL : json_stringn(s.s, (size_t)s.n);
}

static int kind_of(const job *j, uint64_t i) {
  return j->kinds ? (int)tl_gguf_number(j->kinds, i) : TOK_GGUF_NORMAL;
}

static bool add_token(const job *j, uint64_t i, int kind, json_t *text) {
  return !json_array_append_new(j->added, json_pack("{s:I, s:O, s:b, s:b, s:b, s:b, s:b}", "id",
                                                    (json_int_t)i, "content", text, "single_word",
                                                    0, "lstrip", 0, "rstrip", 0, "normalized", 0,
                                                    "special", kind != TOK_GGUF_USER));
}

/* SentencePiece's model has the added tokens, too. */
static tl_status put_tokens(job *j, tl_err *err) {
  tl_gguf_str s = {0};
  for (uint64_t i = 0; i < j->n; i++) {
    s = tl_gguf_next_string(j->tokens, s);
    json_t *text = json_text(s);
    if (!text) return bad_text(j, "tokenizer.ggml.tokens", i, err);
    int kind = kind_of(j, i);
    bool added =
        kind == TOK_GGUF_CONTROL || kind == TOK_GGUF_USER || (j->llama && kind == TOK_GGUF_UNKNOWN);
    bool ok = !added || add_token(j, i, kind, text);
    if (ok && (!added || j->llama)) {
      const char *key = json_string_value(text);
      ok = !json_object_get(j->vocab, key) &&
           !json_object_set_new(j->vocab, key, json_integer((json_int_t)i));
    }
    json_decref(text);
    if (!ok) return bad_text(j, "tokenizer.ggml.tokens", i, err);
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

static double rank_of_score(const void *user, uint32_t id, size_t first) {
  (void)first;
  return -tl_gguf_number(user, id);
}

/* The pairs that make tokens, in the order of the scores. */
static tl_status put_pairs(job *j, const tl_tokenizer *t, tl_err *err) {
  tok_spm_pair *pair = NULL;
  size_t n = 0;
  tl_err inner = {TL_OK, ""};
  tl_status s = tok_spm_order(t, rank_of_score, j->scores, &pair, &n, &inner);
  if (s != TL_OK) s = tl_fail(err, s, "%s: tokenizer.ggml.tokens: %s", j->path, inner.msg);
  for (size_t i = 0; s == TL_OK && i < n; i++) {
    const char *text = tok_str(t, pair[i].id);
    json_t *a = json_stringn(text, pair[i].first), *b = json_string(text + pair[i].first);
    json_t *merge = strchr(text, ' ')
                        ? json_pack("[O?, O?]", a, b)
                        : json_sprintf("%s %s", json_string_value(a), json_string_value(b));
    json_decref(a);
    json_decref(b);
    if (json_array_append_new(j->list, merge)) s = tok_nomem(err);
    if (s == TL_OK && i > 0 && pair[i].rank == pair[i - 1].rank)
      s = tl_fail(err, TL_DATA,
                  "%s: tokenizer.ggml.scores[%u] and [%u] are both %g, and text is made to both "
                  "tokens: their order is not known",
                  j->path, pair[i - 1].id, pair[i].id, -pair[i].rank);
  }
  free(pair);
  return s;
}

static tl_status put_scores(job *j, tl_err *err) {
  tl_gguf_str text = {0};
  tl_tokenizer *t = tok_new(&tok_type_pipe_bpe);
  tl_status s = t ? TL_OK : tok_nomem(err);
  for (uint64_t i = 0; s == TL_OK && i < j->n; i++) {
    text = tl_gguf_next_string(j->tokens, text);
    if (!isfinite(tl_gguf_number(j->scores, i)))
      s = tl_fail(err, TL_DATA, "%s: tokenizer.ggml.scores[%llu] is not a number", j->path,
                  (unsigned long long)i);
    else if (tok_add(t, text.s, (size_t)text.n) == TOK_NONE)
      s = tok_nomem(err);
  }
  for (int b = 0; s == TL_OK && b < TOK_BYTES; b++) {
    char name[8];
    snprintf(name, sizeof name, "<0x%02X>", b);
    if (tok_find(t, name, strlen(name)) == TOK_NONE)
      s = tl_fail(err, TL_DATA,
                  "%s: tokenizer.ggml.tokens has no \"%s\"; characters that are no tokens are "
                  "spelt in bytes",
                  j->path, name);
  }
  if (s == TL_OK) s = put_pairs(j, t, err);
  tl_tokenizer_free(t);
  return s;
}

/* The id of a role's token, by the key or, where llama.cpp has one, by default; -1: none. */
static int64_t role_id(const job *j, const tok_gguf_role *r) {
  const tl_gguf_kv *kv = tl_gguf_find(j->g, r->key);
  double id = kv && kv->kind == TL_GGUF_U32 ? tl_gguf_number(kv, 0)
              : !kv && j->llama             ? r->llama
                                            : -1;
  return id < (double)j->n ? (int64_t)id : -1;
}

/* Its text; NULL: there is none. */
static json_t *role_token(const job *j, const tok_gguf_role *r) {
  int64_t id = role_id(j, r);
  return id >= 0 ? json_text(tl_gguf_string(j->tokens, (uint64_t)id)) : NULL;
}

/* SentencePiece's: with a "▁" in front of a text and one for each space. */
static json_t *normalizer(const job *j) {
  if (!j->llama) return json_null();
  json_t *replace = json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ",
                              "content", TOK_META);
  if (!has(j, "tokenizer.ggml.add_space_prefix", true)) return replace;
  return json_pack("{s:s, s:[{s:s, s:s}, o]}", "type", "Sequence", "normalizers", "type", "Prepend",
                   "prepend", TOK_META, replace);
}

static json_t *decoder(const job *j) {
  if (!j->llama) return json_pack("{s:s}", "type", "ByteLevel");
  json_t *list =
      json_pack("[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]", "type", "Replace", "pattern", "String",
                TOK_META, "content", " ", "type", "ByteFallback", "type", "Fuse");
  if (has(j, "tokenizer.ggml.add_space_prefix", true))
    json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ",
                                          "start", 1, "stop", 0));
  return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", list);
}

static json_t *pre_tokenizer(const job *j) {
  if (j->llama) return json_null();
  for (const tok_gguf_split *split = tok_gguf_splits; split->name; split++)
    if (!strcmp(j->pre, split->name))
      return json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b, s:b, s:b}]}", "type",
                       "Sequence", "pretokenizers", "type", "Split", "pattern", "Regex",
                       split->regex, "behavior", "Isolated", "invert", 0, "type", "ByteLevel",
                       "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 0);
  return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                   "trim_offsets", 1, "use_regex", 1);
}

/* Appends the role's token to a template, and what it is to `known`. */
static void put_special(const job *j, const tok_gguf_role *r, json_t *list, json_t *known) {
  json_t *token = role_token(j, r);
  if (!token) return;
  const char *s = json_string_value(token);
  json_array_append_new(list, json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", s, "type_id", 0));
  json_object_set_new(
      known, s,
      json_pack("{s:s, s:[I], s:[s]}", "id", s, "ids", (json_int_t)role_id(j, r), "tokens", s));
  json_decref(token);
}

/* BOS before and EOS behind each text, where the file wants them. */
static json_t *post_processor(const job *j) {
  const bool begins = has(j, "tokenizer.ggml.add_bos_token", j->llama),
             ends = has(j, "tokenizer.ggml.add_eos_token", false);
  json_t *single = json_array(), *pair = json_array(), *known = json_object();
  for (int second = 0; second < 2; second++) {
    json_t *one = json_array();
    if (begins) put_special(j, &tok_gguf_roles[0], one, known);
    json_array_append_new(
        one, json_pack("{s:{s:s, s:i}}", "Sequence", "id", second ? "B" : "A", "type_id", 0));
    if (ends) put_special(j, &tok_gguf_roles[1], one, known);
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

static json_t *model(const job *j) {
  json_t *unk = role_token(j, &tok_gguf_roles[2]);
  bool known = unk && json_object_get(j->vocab, json_string_value(unk));
  json_t *o =
      json_pack("{s:s, s:n, s:O?, s:n, s:n, s:b, s:b, s:b, s:O, s:O}", "type", "BPE", "dropout",
                "unk_token", known ? unk : NULL, "continuing_subword_prefix", "end_of_word_suffix",
                "fuse_unk", j->llama, "byte_fallback", j->llama, "ignore_merges",
                !j->llama && !strcmp(j->pre, "llama-bpe"), "vocab", j->vocab, "merges", j->list);
  json_decref(unk);
  return o;
}

static json_t *tokenizer(const job *j) {
  return json_pack("{s:s, s:n, s:n, s:O, s:o, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation",
                   "padding", "added_tokens", j->added, "normalizer", normalizer(j),
                   "pre_tokenizer", pre_tokenizer(j), "post_processor", post_processor(j),
                   "decoder", decoder(j), "model", model(j));
}

/* tokenizer_config.json */
static json_t *config(const job *j) {
  json_t *o = json_pack("{s:s}", "tokenizer_class", "PreTrainedTokenizerFast");
  for (const tok_gguf_role *r = tok_gguf_roles; r->key; r++) {
    json_t *text = role_token(j, r);
    if (text) json_object_set_new(o, r->hf, text);
  }
  tl_gguf_str chat = text_of(j, "tokenizer.chat_template");
  if (chat.n) json_object_set_new(o, "chat_template", json_text(chat));
  return o;
}

static bool dump(json_t *o, tl_buf *out) {
  char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
  if (text) tl_buf_puts(out, text);
  free(text);
  json_decref(o);
  return text && !out->oom;
}

static tl_status make(job *j, tl_tokenizer **out, tl_err *err) {
  tl_buf text = {0}, beside = {0};
  tl_err inner = {TL_OK, ""};
  TL_TRY(find_model(j, err));
  TL_TRY(put_tokens(j, err));
  TL_TRY(j->llama ? put_scores(j, err) : put_merges(j, err));
  tl_status s = dump(tokenizer(j), &text) && dump(config(j), &beside) ? TL_OK : tok_nomem(err);
  if (s == TL_OK) {
    s = tok_parse(&text, out, &inner);
    if (s != TL_OK) tl_fail(err, s, "%s: its tokenizer, as tokenizer.json: %s", j->path, inner.msg);
  }
  if (s == TL_OK) {
    (*out)->beside[0] = beside;
    beside = (tl_buf){0};
  }
  tl_buf_free(&text);
  tl_buf_free(&beside);
  return s;
}

tl_status tok_gguf_load(const char *path, tl_tokenizer **out, tl_err *err) {
  tl_gguf g;
  TL_TRY(tl_gguf_open(path, &g, err));
  job j = {
      .g = &g, .path = path, .vocab = json_object(), .added = json_array(), .list = json_array()};
  tl_status s = j.vocab && j.added && j.list ? make(&j, out, err) : tok_nomem(err);
  json_decref(j.vocab);
  json_decref(j.added);
  json_decref(j.list);
  tl_gguf_close(&g);
  return s;
}
