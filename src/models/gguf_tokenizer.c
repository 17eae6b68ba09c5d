/* A byte-level BPE tokenizer.json as the tokenizer of a GGUF file; gguf_tokenizer_read.c is the way
 * back. */
#include "models/gguf_tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { MAX_FILE = 256 << 20, MAX_CONFIG = 16 << 20, PAD_NAME = 32 };

typedef struct job {
  tl_gguf_writer *w;
  const char *path; /* for messages */
  json_t *root;
  const char **token; /* [n] */
  int32_t *kind;      /* [n] */
  char *spare;        /* names of ids that the tokenizer does not have */
  size_t n;
} job;

static json_t *load(const char *dir, const char *name, size_t max) {
  char *path = tl_path_join(dir, name);
  tl_buf b = {0};
  json_t *o = NULL;
  if (path && tl_file_exists(path) && tl_file_read(path, max, &b, NULL) == TL_OK)
    o = json_loadb(b.data, b.len, JSON_REJECT_DUPLICATES, NULL);
  tl_buf_free(&b);
  free(path);
  return o;
}

static bool is_type(const json_t *o, const char *type) {
  const char *t = json_string_value(json_object_get(o, "type"));
  return t && !strcmp(t, type);
}

/* The pieces of a pre-tokenizer or post-processor, which may be a sequence. */
static const json_t *part(const json_t *o, const char *list, size_t i) {
  return is_type(o, "Sequence") ? json_array_get(json_object_get(o, list), i) : i ? NULL : o;
}

const tl_gguf_split tl_gguf_splits[] = {
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
  if (is_type(first, "ByteLevel") && !second &&
      !json_is_false(json_object_get(first, "use_regex")) &&
      !json_is_true(json_object_get(first, "add_prefix_space")))
    return "gpt-2";
  const char *regex =
      json_string_value(json_object_get(json_object_get(first, "pattern"), "Regex"));
  if (!is_type(first, "Split") || !regex || !is_type(second, "ByteLevel")) return NULL;
  for (const tl_gguf_split *split = tl_gguf_splits; split->name; split++)
    if (!strcmp(regex, split->regex)) return split->name;
  return NULL;
}

static tl_status set_token(job *j, const char *s, const json_t *id, int kind, tl_err *err) {
  json_int_t i = json_is_integer(id) ? json_integer_value(id) : -1;
  if (i < 0 || (size_t)i >= j->n)
    return tl_fail(err, TL_DATA, "%s: token \"%.100s\" has no id from 0 to %zu", j->path, s,
                   j->n - 1);
  j->token[i] = s;
  j->kind[i] = kind;
  return TL_OK;
}

static tl_status collect(job *j, tl_err *err) {
  json_t *model = json_object_get(j->root, "model"), *vocab = json_object_get(model, "vocab"), *id;
  const char *unk = json_string_value(json_object_get(model, "unk_token")), *s;
  json_object_foreach(vocab, s, id)
      TL_TRY(set_token(j, s, id, unk && !strcmp(s, unk) ? TL_GGUF_UNKNOWN : TL_GGUF_NORMAL, err));
  const json_t *added = json_object_get(j->root, "added_tokens");
  for (size_t i = 0; i < json_array_size(added); i++) {
    const json_t *a = json_array_get(added, i);
    const char *content = json_string_value(json_object_get(a, "content"));
    bool special = json_is_true(json_object_get(a, "special"));
    if (!content) return tl_fail(err, TL_DATA, "%s: added_tokens[%zu] has no content", j->path, i);
    TL_TRY(set_token(j, content, json_object_get(a, "id"), special ? TL_GGUF_CONTROL : TL_GGUF_USER,
                     err));
  }
  for (size_t i = 0; i < j->n; i++) {
    if (j->token[i]) continue;
    char *name = j->spare + PAD_NAME * i;
    snprintf(name, PAD_NAME, "[PAD%zu]", i);
    j->token[i] = name;
    j->kind[i] = TL_GGUF_UNUSED;
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
  return ok ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory for the merges", j->path);
}

/* Whether a text begins with a special token. */
static bool adds_bos(const json_t *root) {
  const json_t *post = json_object_get(root, "post_processor");
  for (size_t i = 0; i < 8; i++) {
    const json_t *p = part(post, "processors", i);
    const json_t *first = json_array_get(json_object_get(p, "single"), 0);
    if (is_type(p, "TemplateProcessing")) return json_object_get(first, "SpecialToken") != NULL;
  }
  return false;
}

static void put_template(job *j, const char *dir) {
  json_t *o = load(dir, "tokenizer_config.json", MAX_CONFIG);
  const char *t = json_string_value(json_object_get(o, "chat_template"));
  if (t) tl_gguf_put_string(j->w, "tokenizer.chat_template", t);
  json_decref(o);
}

const tl_gguf_role tl_gguf_roles[] = {
    /* BOS, EOS: the first two */ {"tokenizer.ggml.bos_token_id", "bos_token", TL_TOK_BOS},
    {"tokenizer.ggml.eos_token_id", "eos_token", TL_TOK_EOS},
    {"tokenizer.ggml.unknown_token_id", "unk_token", TL_TOK_UNK},
    {"tokenizer.ggml.padding_token_id", "pad_token", TL_TOK_PAD},
    {0}};

static tl_status put_all(job *j, const char *dir, const tl_tokenizer *tok, tl_err *err) {
  const char *pre = pre_name(j->root);
  if (!is_type(json_object_get(j->root, "model"), "BPE") || !pre)
    return tl_fail(err, TL_CONFIG,
                   "%s: llama.cpp would cut texts differently; GGUF export needs a byte-level BPE "
                   "tokenizer with the pre-tokenizer of GPT-2, Llama 3 or Qwen 2",
                   j->path);
  TL_TRY(collect(j, err));
  tl_gguf_put_string(j->w, "tokenizer.ggml.model", "gpt2");
  tl_gguf_put_string(j->w, "tokenizer.ggml.pre", pre);
  tl_gguf_put_strings(j->w, "tokenizer.ggml.tokens", j->token, j->n);
  tl_gguf_put_i32s(j->w, "tokenizer.ggml.token_type", j->kind, j->n);
  TL_TRY(put_merges(j, err));
  for (const tl_gguf_role *r = tl_gguf_roles; r->key; r++) {
    int id = tl_tokenizer_special(tok, r->role);
    if (id >= 0) tl_gguf_put_u32(j->w, r->key, (uint32_t)id);
  }
  tl_gguf_put_bool(j->w, "tokenizer.ggml.add_bos_token", adds_bos(j->root));
  tl_gguf_put_bool(j->w, "tokenizer.ggml.add_eos_token", false);
  put_template(j, dir);
  return TL_OK;
}

tl_status tl_gguf_put_tokenizer(tl_gguf_writer *w, const char *dir, int64_t vocab, tl_err *err) {
  job j = {.w = w, .n = (size_t)vocab};
  tl_tokenizer *tok = NULL;
  TL_TRY(tl_tokenizer_load(dir, &tok, err));
  char *path = tl_path_join(dir, "tokenizer.json");
  j.root = load(dir, "tokenizer.json", MAX_FILE);
  j.token = calloc(j.n + 1, sizeof *j.token);
  j.kind = calloc(j.n + 1, sizeof *j.kind);
  j.spare = calloc(j.n + 1, PAD_NAME);
  j.path = path;
  tl_status s = path && j.root && j.token && j.kind && j.spare
                    ? put_all(&j, dir, tok, err)
                    : tl_fail(err, TL_NOMEM, "%s: out of memory for the tokenizer", dir);
  free(j.spare);
  free(j.kind);
  free(j.token);
  free(path);
  json_decref(j.root);
  tl_tokenizer_free(tok);
  return s;
}
