/* The tokenizer of a tokenizer.json as that of a GGUF file; tok_gguf_read.c is the way back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tok_gguf.h"
#include "tok_pipe.h"

enum { PAD_NAME = 32 };

/* How a BPE of characters makes spaces to "▁". */
typedef struct spaces {
  bool prefix;     /* one is put in front of a text */
  bool first_only; /* not behind added tokens */
  bool split;      /* no merge crosses the beginning of a word */
} spaces;

typedef struct job {
  tl_gguf_writer *w;
  const tl_tokenizer *tok;
  json_t *root;
  bool llama; /* a BPE of characters, which llama.cpp calls so */
  spaces spaces;
  const char **token; /* [n] */
  int32_t *kind;      /* [n] */
  char *spare;        /* names of ids that the tokenizer does not have */
  size_t n;
} job;

/* The pieces of a pre-tokenizer or post-processor, which may be a sequence. */
static const json_t *part(const json_t *o, const char *list, size_t i) {
  return tok_json_is(o, "Sequence") ? json_array_get(json_object_get(o, list), i) : i ? NULL : o;
}

const tok_gguf_split tok_gguf_splits[] = {
    {"llama-bpe", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                  "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"qwen2", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
              "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {0}};

/* llama.cpp knows pre-tokenizers by name: the splits that this program's readers and trainers know,
 * too. NULL: another one. */
static const char *pre_name(const json_t *root) {
  const json_t *pre = json_object_get(root, "pre_tokenizer");
  const json_t *first = part(pre, "pretokenizers", 0), *second = part(pre, "pretokenizers", 1);
  size_t merges = json_array_size(json_object_get(json_object_get(root, "model"), "merges"));
  if (merges == 0) return "gpt-2"; /* bytes: every split gives the same ids */
  if (tok_json_is(first, "ByteLevel") && !second &&
      !json_is_false(json_object_get(first, "use_regex")) &&
      !json_is_true(json_object_get(first, "add_prefix_space")))
    return "gpt-2";
  const char *regex =
      json_string_value(json_object_get(json_object_get(first, "pattern"), "Regex"));
  if (!tok_json_is(first, "Split") || !regex || !tok_json_is(second, "ByteLevel")) return NULL;
  for (const tok_gguf_split *split = tok_gguf_splits; split->name; split++)
    if (!strcmp(regex, split->regex)) return split->name;
  return NULL;
}

/* --- BPE of characters --------------------------------------------------------------------------
 */

static bool is_meta(const json_t *o, const char *key) {
  const char *s = json_string_value(json_object_get(o, key));
  return s && !strcmp(s, TOK_META);
}

static bool replaces_spaces(const json_t *o) {
  const char *from = json_string_value(json_object_get(json_object_get(o, "pattern"), "String"));
  return tok_json_is(o, "Replace") && from && !strcmp(from, " ") && is_meta(o, "content");
}

/* Either by the normalizer, as Llama 2's, or by a Metaspace; false: in another way. */
static bool find_spaces(const json_t *root, spaces *s) {
  const json_t *norm = json_object_get(root, "normalizer"),
               *pre = json_object_get(root, "pre_tokenizer");
  *s = (spaces){0};
  if (!pre || json_is_null(pre)) {
    const json_t *first = part(norm, "normalizers", 0);
    s->prefix = tok_json_is(first, "Prepend") && is_meta(first, "prepend");
    return replaces_spaces(part(norm, "normalizers", s->prefix)) &&
           !part(norm, "normalizers", s->prefix + 1u);
  }
  if ((norm && !json_is_null(norm)) || !tok_json_is(pre, "Metaspace") ||
      !is_meta(pre, "replacement"))
    return false;
  const char *scheme = json_string_value(json_object_get(pre, "prepend_scheme"));
  s->prefix = scheme ? strcmp(scheme, "never") != 0
                     : !json_is_false(json_object_get(pre, "add_prefix_space"));
  s->first_only = scheme && !strcmp(scheme, "first");
  s->split = !json_is_false(json_object_get(pre, "split"));
  return true;
}

static bool is_llama(job *j) {
  const json_t *model = json_object_get(j->root, "model");
  const struct tok_pipe *p = j->tok->pipe;
  return p && p->model == MODEL_BPE && p->byte_fallback && !p->prefix && !p->suffix &&
         !j->tok->ignore_merges && tok_json_is(model, "BPE") && find_spaces(j->root, &j->spaces);
}

/* The merges by the token that they make: at[id] .. at[id + 1] of `merge`, in their order. */
typedef struct by_token {
  const job *j;
  uint32_t *at, *merge;
} by_token;

static void sort_merges(by_token *b) {
  const tl_tokenizer *t = b->j->tok;
  for (uint32_t i = 0; i < t->n_merges; i++) b->at[t->merge[i].id + 1]++;
  for (uint32_t id = 0; id < t->n; id++) b->at[id + 1] += b->at[id];
  for (uint32_t i = 0; i < t->n_merges; i++) b->merge[b->at[t->merge[i].id]++] = i;
  for (uint32_t id = t->n; id > 0; id--) b->at[id] = b->at[id - 1];
  b->at[0] = 0;
}

static double rank_of_merge(const void *user, uint32_t id, size_t first) {
  const by_token *b = user;
  const tl_tokenizer *t = b->j->tok;
  if (id >= t->n) return (double)INFINITY; /* one that only fills up the model's */
  if (b->j->spaces.split && !strncmp(tok_str(t, id) + first, TOK_META, TOK_META_LEN))
    return (double)INFINITY;
  for (uint32_t k = b->at[id + 1]; k > b->at[id]; k--) /* of one that is there twice the last */
    if (strlen(tok_str(t, t->merge[b->merge[k - 1]].a)) == first) return b->merge[k - 1];
  return (double)INFINITY;
}

/* Scores fall in the order in which tokens are made; then come the others that stand for text. */
static tl_status put_scores(job *j, const tl_tokenizer *all, tl_err *err) {
  by_token b = {.j = j};
  tok_spm_pair *pair = NULL;
  size_t n = 0;
  b.at = calloc((size_t)j->tok->n + 2, sizeof *b.at);
  b.merge = calloc((size_t)j->tok->n_merges + 1, sizeof *b.merge);
  float *score = calloc(j->n + 1, sizeof *score);
  bool *made = calloc(j->n + 1, sizeof *made);
  tl_status s = b.at && b.merge && score && made ? TL_OK : tok_nomem(err);
  if (s == TL_OK) sort_merges(&b);
  if (s == TL_OK) s = tok_spm_order(all, rank_of_merge, &b, &pair, &n, err);
  for (size_t i = 0; s == TL_OK && i < n; i++) {
    score[pair[i].id] = -(float)i;
    made[pair[i].id] = true;
  }
  for (size_t id = 0; s == TL_OK && id < j->n; id++)
    if (!made[id] && j->kind[id] == TOK_GGUF_NORMAL) score[id] = -(float)n++;
  if (s == TL_OK) tl_gguf_put_f32s(j->w, "tokenizer.ggml.scores", score, j->n);
  free(b.at);
  free(b.merge);
  free(score);
  free(made);
  free(pair);
  return s;
}

static bool is_true(const json_t *o, const char *key) {
  return json_is_true(json_object_get(o, key));
}

/* What llama.cpp would do otherwise. */
static tl_status check_llama(const job *j, tl_err *err) {
  const tl_tokenizer *t = j->tok;
  const json_t *added = json_object_get(j->root, "added_tokens");
  for (size_t i = 0; i < json_array_size(added); i++) {
    const json_t *a = json_array_get(added, i);
    const char *s = json_string_value(json_object_get(a, "content"));
    int32_t cp;
    if (is_true(a, "special")
            ? tok_utf8((const unsigned char *)s, strlen(s), &cp) == strlen(s)
            : j->spaces.first_only || is_true(a, "normalized") || is_true(a, "lstrip") ||
                  is_true(a, "rstrip") || is_true(a, "single_word"))
      return tl_fail(err, TL_CONFIG,
                     "llama.cpp would find added_tokens[%zu] \"%.100s\", or what stands behind it, "
                     "in other places of a text",
                     i, s);
  }
  for (uint32_t i = 0; i < t->n_merges; i++)
    if (t->merge[i].a < j->n && t->merge[i].b < j->n &&
        (j->kind[t->merge[i].a] == TOK_GGUF_BYTE || j->kind[t->merge[i].b] == TOK_GGUF_BYTE))
      return tl_fail(err, TL_CONFIG, "model.merges[%u] joins bytes, which llama.cpp does not", i);
  for (int place = TL_AROUND_BEFORE; place <= TL_AROUND_AFTER; place += 2) {
    size_t n;
    const uint32_t *id = tl_tokenizer_around(t, false, (tl_around)place, &n);
    if (n > 1 || (n == 1 && (int)*id != t->special[tok_gguf_roles[place / 2].role]))
      return tl_fail(err, TL_CONFIG,
                     "the post_processor puts more around a text than the tokens that begin and "
                     "end it, which llama.cpp does not");
  }
  return TL_OK;
}

/* All tokens of the model as a vocabulary. */
static tl_status put_llama(job *j, tl_err *err) {
  TL_TRY(check_llama(j, err));
  tl_tokenizer *all = tok_new(j->tok->type);
  tl_status s = all ? TL_OK : tok_nomem(err);
  for (size_t i = 0; s == TL_OK && i < j->n; i++)
    if (tok_add(all, j->token[i], strlen(j->token[i])) == TOK_NONE) s = tok_nomem(err);
  if (s == TL_OK) s = put_scores(j, all, err);
  tl_tokenizer_free(all);
  return s;
}

/* --- all ---------------------------------------------------------------------------------------
 */

static tl_status set_token(job *j, const char *s, const json_t *id, int kind, tl_err *err) {
  json_int_t i = json_is_integer(id) ? json_integer_value(id) : -1;
  if (i < 0 || (size_t)i >= j->n)
    return tl_fail(err, TL_DATA, "token \"%.100s\" has no id from 0 to %zu", s, j->n - 1);
  j->token[i] = s;
  j->kind[i] = kind;
  return TL_OK;
}

static tl_status collect(job *j, tl_err *err) {
  json_t *model = json_object_get(j->root, "model"), *vocab = json_object_get(model, "vocab"), *id;
  const char *unk = json_string_value(json_object_get(model, "unk_token")), *s;
  json_object_foreach(vocab, s, id)
      TL_TRY(set_token(j, s, id, unk && !strcmp(s, unk) ? TOK_GGUF_UNKNOWN : TOK_GGUF_NORMAL, err));
  const json_t *added = json_object_get(j->root, "added_tokens");
  for (size_t i = 0; i < json_array_size(added); i++) {
    const json_t *a = json_array_get(added, i);
    const char *content = json_string_value(json_object_get(a, "content"));
    bool special = json_is_true(json_object_get(a, "special"));
    if (!content) return tl_fail(err, TL_DATA, "added_tokens[%zu] has no content", i);
    int kind = !special                                   ? TOK_GGUF_USER
               : j->llama && unk && !strcmp(content, unk) ? TOK_GGUF_UNKNOWN
                                                          : TOK_GGUF_CONTROL;
    TL_TRY(set_token(j, content, json_object_get(a, "id"), kind, err));
  }
  for (int b = 0; j->llama && b < TOK_BYTES; b++)
    if (j->tok->byte_id[b] < j->n) j->kind[j->tok->byte_id[b]] = TOK_GGUF_BYTE;
  for (size_t i = 0; i < j->n; i++) {
    if (j->token[i]) continue;
    char *name = j->spare + PAD_NAME * i;
    snprintf(name, PAD_NAME, "[PAD%zu]", i);
    j->token[i] = name;
    j->kind[i] = TOK_GGUF_UNUSED;
  }
  return TL_OK;
}

static tl_status put_merges(job *j, tl_err *err) {
  const json_t *list = json_object_get(json_object_get(j->root, "model"), "merges");
  size_t n = json_array_size(list);
  tl_buf pool = {0};
  size_t *at = calloc(n + 1, sizeof *at);
  const char **merge = calloc(n + 1, sizeof *merge);
  for (size_t i = 0; at && i < n; i++) {
    const json_t *m = json_array_get(list, i);
    const char *a = json_string_value(json_array_get(m, 0)),
               *b = json_string_value(json_array_get(m, 1)), *both = json_string_value(m);
    at[i] = pool.len;
    if (both) tl_buf_puts(&pool, both);
    if (a && b) tl_buf_printf(&pool, "%s %s", a, b);
    tl_buf_putc(&pool, 0);
  }
  for (size_t i = 0; at && merge && !pool.oom && i < n; i++) merge[i] = pool.data + at[i];
  bool ok = at && merge && !pool.oom;
  if (ok) tl_gguf_put_strings(j->w, "tokenizer.ggml.merges", merge, n);
  free(at);
  free(merge);
  tl_buf_free(&pool);
  return ok ? TL_OK : tok_nomem(err);
}

/* Whether a text begins with a special token. */
static bool adds_bos(const json_t *root) {
  const json_t *post = json_object_get(root, "post_processor");
  for (size_t i = 0; i < 8; i++) {
    const json_t *p = part(post, "processors", i);
    const json_t *first = json_array_get(json_object_get(p, "single"), 0);
    if (tok_json_is(p, "TemplateProcessing")) return json_object_get(first, "SpecialToken") != NULL;
  }
  return false;
}

static bool adds_eos(const tl_tokenizer *t) {
  size_t n;
  tl_tokenizer_around(t, false, TL_AROUND_AFTER, &n);
  return n > 0;
}

static void put_template(job *j) {
  const tl_buf *b = &j->tok->beside[0];
  json_t *o = b->len ? json_loadb(b->data, b->len, JSON_REJECT_DUPLICATES, NULL) : NULL;
  const char *t = json_string_value(json_object_get(o, "chat_template"));
  if (t) tl_gguf_put_string(j->w, "tokenizer.chat_template", t);
  json_decref(o);
}

const tok_gguf_role tok_gguf_roles[] = {
    {"tokenizer.ggml.bos_token_id", "bos_token", TL_TOK_BOS, 1},
    {"tokenizer.ggml.eos_token_id", "eos_token", TL_TOK_EOS, 2},
    {"tokenizer.ggml.unknown_token_id", "unk_token", TL_TOK_UNK, 0},
    {"tokenizer.ggml.padding_token_id", "pad_token", TL_TOK_PAD, -1},
    {0}};

static tl_status put_all(job *j, tl_err *err) {
  j->llama = is_llama(j);
  const char *pre = j->llama ? "default" : pre_name(j->root);
  if (!tok_json_is(json_object_get(j->root, "model"), "BPE") || !pre)
    return tl_fail(
        err, TL_CONFIG,
        "llama.cpp would cut texts differently; GGUF export needs a byte-level BPE tokenizer with "
        "the pre-tokenizer of GPT-2, Llama 3 or Qwen 2, or a BPE of characters with byte_fallback "
        "that writes spaces as \"" TOK_META "\", like Llama 2's");
  TL_TRY(collect(j, err));
  tl_gguf_put_string(j->w, "tokenizer.ggml.model", j->llama ? "llama" : "gpt2");
  tl_gguf_put_string(j->w, "tokenizer.ggml.pre", pre);
  tl_gguf_put_strings(j->w, "tokenizer.ggml.tokens", j->token, j->n);
  tl_gguf_put_i32s(j->w, "tokenizer.ggml.token_type", j->kind, j->n);
  TL_TRY(j->llama ? put_llama(j, err) : put_merges(j, err));
  for (const tok_gguf_role *r = tok_gguf_roles; r->key; r++) {
    int id = tl_tokenizer_special(j->tok, r->role);
    if (id >= 0) tl_gguf_put_u32(j->w, r->key, (uint32_t)id);
  }
  tl_gguf_put_bool(j->w, "tokenizer.ggml.add_bos_token", adds_bos(j->root));
  tl_gguf_put_bool(j->w, "tokenizer.ggml.add_eos_token", j->llama && adds_eos(j->tok));
  if (j->llama) tl_gguf_put_bool(j->w, "tokenizer.ggml.add_space_prefix", j->spaces.prefix);
  put_template(j);
  return TL_OK;
}

/* The messages below this level say what and where; this adds the file. */
tl_status tl_tokenizer_put_gguf(const tl_tokenizer *t, const char *name, int64_t vocab,
                                tl_gguf_writer *w, tl_err *err) {
  job j = {.w = w, .tok = t, .n = (size_t)vocab};
  tl_buf made = {0};
  tl_err inner = {TL_OK, ""};
  if (t->source.len == 0) tok_write_json(t, &made);
  const tl_buf *text = t->source.len ? &t->source : &made;
  j.root = json_loadb(text->data, text->len, JSON_REJECT_DUPLICATES, NULL);
  j.token = calloc(j.n + 1, sizeof *j.token);
  j.kind = calloc(j.n + 1, sizeof *j.kind);
  j.spare = calloc(j.n + 1, PAD_NAME);
  tl_status s = j.root && j.token && j.kind && j.spare ? put_all(&j, &inner) : tok_nomem(&inner);
  if (s != TL_OK) tl_fail(err, s, "%s: tokenizer: %s", name, inner.msg);
  free(j.spare);
  free(j.kind);
  free(j.token);
  json_decref(j.root);
  tl_buf_free(&made);
  return s;
}
