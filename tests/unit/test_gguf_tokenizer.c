/* Tokenizers as those of GGUF files. What llama.cpp makes of a file of kind "llama" is written here
 * once more in the plainest way: the ids must be those of the tokenizer it was written from, and of
 * the one that is read from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "tilth/gguf.h"
#include "tilth/tokenizer.h"

#define GOLDEN TL_SOURCE_DIR "/tests/golden/tokenizer/"
#define META "\xe2\x96\x81"

static char dir[] = "/tmp/tl_gguf_tok_XXXXXX";
static char json_path[64], gguf_path[64];

static int setup(void **state) {
  (void)state;
  if (!mkdtemp(dir)) return -1;
  snprintf(json_path, sizeof json_path, "%s/tokenizer.json", dir);
  snprintf(gguf_path, sizeof gguf_path, "%s/x.gguf", dir);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  return tl_remove_tree(dir, NULL) == TL_OK ? 0 : -1;
}

static tl_tokenizer *load(const char *path) {
  tl_tokenizer *t = NULL;
  tl_err err = {TL_OK, ""};
  if (tl_tokenizer_load(path, &t, &err) != TL_OK) fail_msg("%s", err.msg);
  return t;
}

/* Takes root. */
static tl_tokenizer *make(json_t *root) {
  assert_non_null(root);
  assert_int_equal(json_dump_file(root, json_path, JSON_INDENT(1)), 0);
  json_decref(root);
  return load(json_path);
}

static tl_status export(const tl_tokenizer *t, int more, tl_err *err) {
  tl_gguf_writer *w = tl_gguf_writer_new();
  tl_status s = tl_tokenizer_put_gguf(t, "x", tl_tokenizer_vocab_size(t) + more, w, err);
  if (s == TL_OK) s = tl_gguf_write(w, gguf_path, NULL, err);
  tl_gguf_writer_free(w);
  return s;
}

/* --- llama.cpp's kind "llama" --- */

typedef struct ids {
  uint32_t *id;
  size_t n, cap;
} ids;

static int find(const tl_gguf_kv *tokens, const char *s, size_t len) {
  tl_gguf_str t = {0};
  for (uint64_t i = 0; i < tokens->n; i++) {
    t = tl_gguf_next_string(tokens, t);
    if (t.n == len && !memcmp(t.s, s, len)) return (int)i;
  }
  return -1;
}

/* Joins the neighbours whose token has the best score, the leftmost of equals, until none is one;
 * what is no token in the end is spelt in bytes. */
static ids theirs(const char *text) {
  enum { MOST = 400 };
  char s[MOST];
  size_t at[MOST], n = 0, len = 0;
  ids out = {calloc(MOST, sizeof(uint32_t)), 0, MOST};
  tl_gguf g;
  assert_int_equal(tl_gguf_open(gguf_path, &g, NULL), TL_OK);
  const tl_gguf_kv *tokens = tl_gguf_find(&g, "tokenizer.ggml.tokens"),
                   *scores = tl_gguf_find(&g, "tokenizer.ggml.scores"),
                   *prefix = tl_gguf_find(&g, "tokenizer.ggml.add_space_prefix");
  const char *parts[] = {*text && prefix->data[0] ? " " : "", text};
  for (int k = 0; k < 2; k++)
    for (const char *p = parts[k]; *p; p++)
      len += (size_t)snprintf(s + len, MOST - len, *p == ' ' ? META : "%c", *p);
  for (size_t i = 0; i < len; i++)
    if ((s[i] & 0xC0) != 0x80) at[n++] = i;
  at[n] = len;
  for (;;) {
    size_t best = n;
    double score = 0;
    for (size_t i = 0; i + 1 < n; i++) {
      int id = find(tokens, s + at[i], at[i + 2] - at[i]);
      if (id < 0 || (best < n && tl_gguf_number(scores, (uint64_t)id) <= score)) continue;
      best = i;
      score = tl_gguf_number(scores, (uint64_t)id);
    }
    if (best == n) break;
    memmove(at + best + 1, at + best + 2, (n - best - 1) * sizeof *at);
    n--;
  }
  for (size_t i = 0; i < n; i++) {
    int id = find(tokens, s + at[i], at[i + 1] - at[i]);
    if (id >= 0) out.id[out.n++] = (uint32_t)id;
    for (size_t k = at[i]; id < 0 && k < at[i + 1]; k++) {
      char byte[8];
      snprintf(byte, sizeof byte, "<0x%02X>", (unsigned)(unsigned char)s[k]);
      out.id[out.n++] = (uint32_t)find(tokens, byte, 6);
    }
  }
  tl_gguf_close(&g);
  return out;
}

static ids ours(const tl_tokenizer *t, const char *text) {
  ids out = {0};
  assert_int_equal(tl_tokenizer_encode(t, text, strlen(text), &out.id, &out.n, &out.cap, NULL),
                   TL_OK);
  return out;
}

static void same_ids(const tl_tokenizer *from, const tl_tokenizer *read, const char *text) {
  ids a = ours(from, text), b = ours(read, text), c = theirs(text);
  if (a.n != b.n || (a.n && memcmp(a.id, b.id, a.n * sizeof *a.id)))
    fail_msg("'%s': other ids after reading", text);
  if (a.n != c.n || (a.n && memcmp(a.id, c.id, a.n * sizeof *a.id)))
    fail_msg("'%s': llama.cpp has other ids", text);
  free(a.id);
  free(b.id);
  free(c.id);
}

/* --- tokenizers --- */

static json_t *start(void) {
  json_t *root = json_load_file(GOLDEN "chain-llama2.json", 0, NULL);
  assert_non_null(root);
  return root;
}

static json_t *model_of(json_t *root) {
  return json_object_get(root, "model");
}

static void llama2_comes_back(void **state) {
  (void)state;
  json_t *chains = json_load_file(GOLDEN "chains.json", 0, NULL);
  const json_t *strings = json_object_get(chains, "strings");
  static const char *const pre[] = {NULL,
                                    "{\"type\":\"Metaspace\",\"replacement\":\"" META
                                    "\",\"prepend_scheme\":\"first\",\"split\":false}",
                                    "{\"type\":\"Metaspace\",\"replacement\":\"" META
                                    "\",\"prepend_scheme\":\"always\",\"split\":true}",
                                    "{\"type\":\"Metaspace\",\"replacement\":\"" META
                                    "\",\"prepend_scheme\":\"never\",\"split\":false}"};
  for (size_t k = 0; k < sizeof pre / sizeof *pre; k++) {
    json_t *root = start();
    if (pre[k]) {
      json_object_set_new(root, "normalizer", json_null());
      json_object_set_new(root, "pre_tokenizer", json_loads(pre[k], 0, NULL));
    }
    tl_tokenizer *t = make(root);
    tl_err err = {TL_OK, ""};
    if (export(t, 3, &err) != TL_OK) fail_msg("%zu: %s", k, err.msg);
    tl_tokenizer *read = load(gguf_path);
    assert_int_equal(tl_tokenizer_vocab_size(read), tl_tokenizer_vocab_size(t));
    for (int r = 0; r < TL_TOK_N_SPECIAL; r++)
      assert_int_equal(tl_tokenizer_special(read, (tl_special)r),
                       tl_tokenizer_special(t, (tl_special)r));
    for (size_t i = 0; i < json_array_size(strings); i++) {
      const char *s = json_string_value(json_array_get(strings, i));
      /* A Metaspace puts no second "▁" before one that is there; llama.cpp does. */
      bool begun = *s == ' ' || !strncmp(s, META, strlen(META));
      if (strlen(s) < 100 && !(pre[k] && begun)) same_ids(t, read, s);
    }
    tl_tokenizer_free(t);
    tl_tokenizer_free(read);
  }
  json_decref(chains);
}

static uint32_t random_below(uint32_t n) {
  static uint64_t s = 7;
  s = s * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((s >> 33) % n);
}

static void add_merge(json_t *merges, const char *a, const char *b) {
  json_array_insert_new(merges, random_below((uint32_t)json_array_size(merges) + 1),
                        json_pack("[s, s]", a, b));
}

/* A few letters and random merges of them, in a random order: not of what a trainer makes. */
static json_t *random_tokenizer(void) {
  json_t *root = start(), *vocab = json_object(), *merges = json_array(), *id;
  char token[24][32] = {META, "a", "b", "c"};
  size_t n = 4;
  const char *s;
  json_object_foreach(json_object_get(model_of(root), "vocab"), s,
                      id) if (json_integer_value(id) < 259) json_object_set(vocab, s, id);
  for (int tries = 0; tries < 60 && n < 14; tries++) {
    const char *a = token[random_below((uint32_t)n)], *b = token[random_below((uint32_t)n)];
    size_t k = 0;
    if (strlen(a) + strlen(b) > 9) continue;
    char joined[32];
    snprintf(joined, sizeof joined, "%s%s", a, b);
    memcpy(token[n], joined, sizeof joined);
    while (strcmp(token[k], token[n])) k++;
    if (k < n && random_below(2)) continue; /* another pair of a token that is there */
    add_merge(merges, a, b);
    n += k == n;
  }
  for (size_t i = 0; i < n; i++)
    json_object_set_new(vocab, token[i], json_integer((json_int_t)(259 + i)));
  json_object_set_new(model_of(root), "vocab", vocab);
  json_object_set_new(model_of(root), "merges", merges);
  return root;
}

static void scores_keep_any_order(void **state) {
  (void)state;
  int kept = 0, refused = 0;
  for (int round = 0; round < 120; round++) {
    tl_tokenizer *t = make(random_tokenizer());
    tl_err err = {TL_OK, ""};
    if (export(t, 0, &err) == TL_OK) {
      kept++;
      tl_tokenizer *read = load(gguf_path);
      for (int k = 0; k < 40; k++) {
        char text[32];
        size_t n = 1 + random_below(20);
        for (size_t i = 0; i < n; i++) text[i] = " abc"[random_below(4)];
        text[n] = 0;
        same_ids(t, read, text);
      }
      tl_tokenizer_free(read);
    } else {
      refused++;
      assert_non_null(strstr(err.msg, "llama.cpp would join"));
    }
    tl_tokenizer_free(t);
  }
  if (kept < 20 || refused < 20) fail_msg("%d kept, %d refused", kept, refused);
}

static void refuse(json_t *root, const char *why) {
  tl_tokenizer *t = make(root);
  tl_err err = {TL_OK, ""};
  assert_int_equal(export(t, 0, &err), TL_CONFIG);
  if (!strstr(err.msg, why)) fail_msg("'%s' in place of '%s'", err.msg, why);
  tl_tokenizer_free(t);
}

static void what_llama_cpp_does_otherwise_is_refused(void **state) {
  (void)state;
  json_t *root = start(), *merges = json_object_get(model_of(root), "merges");
  assert_int_equal(json_array_remove(merges, json_array_size(merges) - 1), 0);
  refuse(root, "would join \"" META "we'l\" and \"l\"");
  root = start();
  json_object_set_new(root, "normalizer", json_loads("{\"type\":\"NFC\"}", 0, NULL));
  refuse(root, "would cut texts differently");
  root = start();
  json_object_set_new(model_of(root), "byte_fallback", json_false());
  refuse(root, "would cut texts differently");
  root = start();
  json_object_set_new(json_array_get(json_object_get(root, "added_tokens"), 1), "special",
                      json_false());
  json_object_set_new(json_array_get(json_object_get(root, "added_tokens"), 1), "normalized",
                      json_true());
  refuse(root, "added_tokens[1] \"<s>\"");
}

/* A token that is found in a text as it is stays one, with a "▁" behind it as at the beginning. */
static void added_tokens_come_back(void **state) {
  (void)state;
  json_t *root = start();
  const json_int_t id = (json_int_t)json_object_size(json_object_get(model_of(root), "vocab"));
  json_array_append_new(json_object_get(root, "added_tokens"),
                        json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id, "content",
                                  "[turn of talk]", "single_word", 0, "lstrip", 0, "rstrip", 0,
                                  "normalized", 0, "special", 0));
  tl_tokenizer *t = make(root);
  tl_err err = {TL_OK, ""};
  if (export(t, 0, &err) != TL_OK) fail_msg("%s", err.msg);
  tl_tokenizer *read = load(gguf_path);
  ids a = ours(t, "the moon[turn of talk]the farm"),
      b = ours(read, "the moon[turn of talk]the farm");
  size_t found = 0;
  for (size_t i = 0; i < a.n; i++) found += a.id[i] == (uint32_t)id;
  assert_int_equal(found, 1);
  assert_int_equal(a.n, b.n);
  assert_memory_equal(a.id, b.id, a.n * sizeof *a.id);
  free(a.id);
  free(b.id);
  tl_tokenizer_free(t);
  tl_tokenizer_free(read);
}

static void damaged_files_are_refused(void **state) {
  (void)state;
  static const char *const token[] = {"<unk>", "<s>", "</s>", "a", "b", "ab"};
  static const float scores[] = {0, 0, 0, -1, -2, -3};
  for (int k = 0; k < 3; k++) {
    tl_gguf_writer *w = tl_gguf_writer_new();
    tl_err err = {TL_OK, ""};
    tl_tokenizer *t = NULL;
    tl_gguf_put_string(w, "tokenizer.ggml.model", "llama");
    tl_gguf_put_strings(w, "tokenizer.ggml.tokens", token, 6);
    if (k) tl_gguf_put_f32s(w, "tokenizer.ggml.scores", scores, k == 1 ? 5 : 6);
    assert_int_equal(tl_gguf_write(w, gguf_path, NULL, NULL), TL_OK);
    tl_gguf_writer_free(w);
    assert_int_equal(tl_tokenizer_load(gguf_path, &t, &err), TL_DATA);
    static const char *const why[] = {"tokenizer.ggml.scores is missing",
                                      "tokenizer.ggml.scores has 5 elements", "has no \"<0x00>\""};
    if (!strstr(err.msg, why[k]) || !strstr(err.msg, gguf_path)) fail_msg("%s", err.msg);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(llama2_comes_back),
      cmocka_unit_test(scores_keep_any_order),
      cmocka_unit_test(what_llama_cpp_does_otherwise_is_refused),
      cmocka_unit_test(added_tokens_come_back),
      cmocka_unit_test(damaged_files_are_refused),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
