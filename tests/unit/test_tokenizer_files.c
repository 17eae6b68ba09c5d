/* Reading tokenizer.json that is damaged, hostile or foreign; long words; encoding on threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/context.h"
#include "base/file.h"
#include "base/rng.h"
#include "tilth/tokenizer.h"

#define GOLDEN TL_SOURCE_DIR "/tests/golden/tokenizer/"

static char path[64];

static int make_file(void **state) {
  (void)state;
  snprintf(path, sizeof path, "/tmp/tilth-tok-XXXXXX");
  int fd = mkstemp(path);
  if (fd >= 0) close(fd);
  return fd >= 0 ? 0 : -1;
}

static int remove_file(void **state) {
  (void)state;
  return unlink(path);
}

/* Loads these bytes; the status, and the message in err. */
static tl_status load_bytes(const char *s, size_t len, tl_tokenizer **t, tl_err *err) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(s, 1, len, f), len);
  assert_int_equal(fclose(f), 0);
  return tl_tokenizer_load(path, t, err);
}

static void read_golden(const char *name, tl_buf *out) {
  char file[512];
  snprintf(file, sizeof file, GOLDEN "%s.json", name);
  assert_int_equal(tl_file_read(file, 1 << 20, out, NULL), TL_OK);
}

static const char *const golden[] = {"bpe", "wordpiece-uncased", "unigram"};
enum { N_GOLDEN = 3 };

static void truncated_files_are_errors(void **state) {
  (void)state;
  for (int g = 0; g < N_GOLDEN; g++) {
    tl_buf b = {0};
    read_golden(golden[g], &b);
    while (b.len > 0 && b.data[b.len - 1] != '}') b.len--;
    for (size_t len = 0; len < b.len; len += g == 0 ? 3 : 1) {
      tl_tokenizer *t = NULL;
      tl_err err = {TL_OK, ""};
      assert_int_equal(load_bytes(b.data, len, &t, &err), TL_DATA);
      assert_null(t);
      assert_non_null(strstr(err.msg, path));
    }
    tl_buf_free(&b);
  }
}

/* Whatever loads must be usable. */
static void use(const tl_tokenizer *t) {
  static const char text[] = "The caf\xc3\xa9's  soil\n(dry) \xff\xe2\x96\x81 harvest 2026!";
  uint32_t *ids = NULL;
  size_t n = 0, cap = 0, len;
  char *back;
  assert_int_equal(tl_tokenizer_encode(t, text, sizeof text, &ids, &n, &cap, NULL), TL_OK);
  for (size_t i = 0; i < n; i++) assert_true((int)ids[i] < tl_tokenizer_vocab_size(t));
  assert_int_equal(tl_tokenizer_decode(t, ids, n, false, &back, &len, NULL), TL_OK);
  free(back);
  free(ids);
}

static void mutated_files_do_no_harm(void **state) {
  (void)state;
  static const char *const piece[] = {"0",     "-1",   "99999999999", "\"",      "null", "[]",
                                      "{}",    "true", "##",          "\\u0000", "\xff", " ",
                                      "1e400", ":",    ",",           "\"a b\""};
  tl_rng r = tl_rng_make(3, TL_STREAM_TEST, 3, 0);
  for (int g = 0; g < N_GOLDEN; g++) {
    tl_buf b = {0}, m = {0};
    read_golden(golden[g], &b);
    for (int i = 0; i < 1500; i++) {
      size_t at = tl_rng_below(&r, b.len), gone = tl_rng_below(&r, 4);
      const char *p = piece[tl_rng_below(&r, sizeof piece / sizeof *piece)];
      if (at + gone > b.len) gone = 0;
      tl_buf_clear(&m);
      tl_buf_append(&m, b.data, at);
      tl_buf_puts(&m, p);
      tl_buf_append(&m, b.data + at + gone, b.len - at - gone);
      tl_tokenizer *t = NULL;
      tl_err err = {TL_OK, ""};
      tl_status s = load_bytes(m.data, m.len, &t, &err);
      assert_true(s == TL_OK || s == TL_DATA);
      if (s == TL_OK)
        use(t);
      else
        assert_true(err.msg[0] != 0);
      tl_tokenizer_free(t);
    }
    tl_buf_free(&b);
    tl_buf_free(&m);
  }
}

/* A golden file with one string replaced by another. */
static void bad_content_is_named(void **state) {
  (void)state;
  static const struct {
    const char *file, *from, *to, *says;
  } cases[] = {
      {"bpe", "\"1.0\"", "\"2.0\"", "version"},
      {"bpe", "\"type\":\"BPE\"", "\"type\":\"Loom\"", "unknown type"},
      {"bpe", "\"!\":5", "\"!\":6", "belongs to two tokens"},
      {"bpe", "\"!\":5", "\"!\":100000", "ids must be 0 to"},
      {"bpe", "\"!\":5", "\"!\":-5", "ids must be 0 to"},
      {"bpe", "\"!\":5", "\"!\":\"5\"", "not an integer"},
      {"bpe", "\"!\":5", "\"\\\"\":5", "uplicate"},
      {"bpe", "\"id\":4,\"content\":\"<mask>\"", "\"id\":9,\"content\":\"<mask>\"", "has id 9"},
      {"bpe", "\"id\":4,\"content\":\"<mask>\"", "\"content\":\"<mask>\"", "added_tokens[4]"},
      {"bpe", "\"merges\":[", "\"merges\":[[\"!\",\"qqq\"],", "second token"},
      {"bpe", "\"merges\":[", "\"merges\":[[\"qqq\",\"!\"],", "first token"},
      {"bpe", "\"merges\":[", "\"merges\":[\"! !\",", "token they make"},
      {"bpe", "\"merges\":[", "\"merges\":[\"!\",", "not two tokens"},
      {"bpe", "\"merges\":[", "\"merges\":[7,", "not two tokens"},
      {"bpe", "\"merges\":[", "\"mergers\":[", "model.merges"},
      {"bpe", "\"normalizer\":null", "\"normalizer\":{\"type\":\"Loom\"}", "normalizer"},
      {"bpe", "\"normalizer\":null",
       "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"\"}",
       "not understood"},
      {"bpe", "\"normalizer\":null",
       "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"#\"}", "base64"},
      {"bpe", "\"normalizer\":null",
       "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////wAA\"}",
       "its trie has"},
      {"bpe", "\"type\":\"ByteLevel\"", "\"type\":\"Loom\"", "pre_tokenizer"},
      {"bpe", "\"dropout\":null", "\"dropout\":0.1", "dropout"},
      {"wordpiece-uncased", "\"unk_token\":\"[UNK]\"", "\"unk_token\":\"[UNX]\"", "unk_token"},
      {"wordpiece-uncased", "_word\":100", "_word\":-1", "max_input_chars_per_word"},
      {"wordpiece-uncased", "BertPreTokenizer", "Loom", "pre_tokenizer"},
      {"wordpiece-uncased", "BertNormalizer", "Loom", "normalizer"},
      {"wordpiece-uncased", "\"lowercase\":true", "\"lowercase\":1", "normalizer.lowercase"},
      {"unigram", "\"unk_id\":3", "\"unk_id\":3000", "unk_id"},
      {"unigram", "[\"<pad>\",0.0]", "[\"<pad>\"]", "model.vocab[0]"},
      {"unigram", "[\"<pad>\",0.0]", "[\"<s>\",0.0]", "occurs twice"},
      {"unigram", "\"prepend_scheme\":\"always\"", "\"prepend_scheme\":\"seldom\"",
       "prepend_scheme"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tl_buf b = {0}, m = {0};
    read_golden(cases[i].file, &b);
    const char *at = strstr(b.data, cases[i].from);
    if (!at) fail_msg("no %s in %s", cases[i].from, cases[i].file);
    tl_buf_append(&m, b.data, (size_t)(at - b.data));
    tl_buf_puts(&m, cases[i].to);
    tl_buf_puts(&m, at + strlen(cases[i].from));
    tl_tokenizer *t = NULL;
    tl_err err = {TL_OK, ""};
    if (load_bytes(m.data, m.len, &t, &err) != TL_DATA) fail_msg("case %zu was read", i);
    assert_null(t);
    if (!strstr(err.msg, cases[i].says))
      fail_msg("'%s' says nothing of %s", err.msg, cases[i].says);
    tl_buf_free(&b);
    tl_buf_free(&m);
  }
}

/* Files beside tokenizer.json are saved as they were read; of a folder without them they are made.
 */
static void a_folder_is_saved_as_it_was(void **state) {
  (void)state;
  static const char *const text[] = {"{\"chat_template\": \"{{ x }}\", \"a\": 1}\n", NULL,
                                     "{{ x }}"};
  for (int with = 0; with < 2; with++) {
    char from[] = "/tmp/tilth-tok-XXXXXX", to[] = "/tmp/tilth-tok-XXXXXX";
    tl_tokenizer *t = NULL;
    tl_buf b = {0};
    assert_non_null(mkdtemp(from));
    assert_non_null(mkdtemp(to));
    read_golden("bpe", &b);
    for (int i = 0; i < 4; i++) {
      char *now = tl_path_join(from, tl_tokenizer_files[i]);
      const char *s = i ? text[i - 1] : b.data;
      if (s && (i == 0 || with))
        assert_int_equal(tl_file_write_atomic(now, s, strlen(s), NULL), TL_OK);
      free(now);
    }
    assert_int_equal(tl_tokenizer_load(from, &t, NULL), TL_OK);
    assert_int_equal(tl_tokenizer_save(t, to, NULL), TL_OK);
    for (int i = 0; i < 4; i++) {
      tl_buf have = {0};
      char *now = tl_path_join(to, tl_tokenizer_files[i]),
           *old = tl_path_join(from, tl_tokenizer_files[i]);
      const char *s = i ? with ? text[i - 1] : NULL : b.data;
      bool there = tl_file_exists(now);
      assert_int_equal(there, with ? s != NULL : i < 3);
      if (there) assert_int_equal(tl_file_read(now, 1 << 24, &have, NULL), TL_OK);
      if (s) assert_true(have.len == strlen(s) && !memcmp(have.data, s, have.len));
      remove(now);
      remove(old);
      free(now);
      free(old);
      tl_buf_free(&have);
    }
    rmdir(from);
    rmdir(to);
    tl_tokenizer_free(t);
    tl_buf_free(&b);
  }
}

/* What is put before, between and after two texts (docs of transformers: RoBERTa has `</s></s>`).
 */
static void pairs_are_put_together_as_the_file_says(void **state) {
  (void)state;
#define ROBERTA "{\"type\":\"%s\",\"sep\":[\"</s>\",1],\"cls\":[\"<s>\",0]}"
#define TEMPLATE                                                                                   \
  "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}}],\"pair\":[%s],"     \
  "\"special_tokens\":{\"x\":{\"ids\":[4,1]}}}"
#define A "{\"Sequence\":{\"id\":\"A\"}}"
#define B "{\"Sequence\":{\"id\":\"B\"}}"
#define X "{\"SpecialToken\":{\"id\":\"x\"}}"
  static const struct {
    const char *post, *more, *want; /* ids before, between and after; "" is an error */
  } cases[] = {
      {ROBERTA, "RobertaProcessing", "0;1 1;1;"},
      {ROBERTA, "BertProcessing", "0;1;1;"},
      {TEMPLATE, A "," X "," B "," X, ";4 1;4 1;"},
      {TEMPLATE, X "," A "," B, "4 1;;;"},
      {"%snull", "", ";1;;"},
      {TEMPLATE, B "," A, ""},
      {TEMPLATE, A "," A, ""},
      {TEMPLATE, A "," B "," B, ""},
      {TEMPLATE, "{}", ""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tl_buf b = {0}, have = {0};
    tl_buf_puts(
        &b,
        "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true},"
        "{\"id\":1,\"content\":\"</s>\",\"special\":true}],\"pre_tokenizer\":{\"type\":"
        "\"Whitespace\"},\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":"
        "{\"<s>\":0,\"</s>\":1,\"a\":2,\"u\":3,\"x\":4}},\"post_processor\":");
    tl_buf_printf(&b, cases[i].post, cases[i].more);
    tl_buf_puts(&b, "}");
    tl_tokenizer *t = NULL;
    tl_err err = {TL_OK, ""};
    tl_status s = load_bytes(b.data, b.len, &t, &err);
    if (s != (*cases[i].want ? TL_OK : TL_DATA)) fail_msg("case %zu: %s", i, err.msg);
    for (int place = 0; t && place < 3; place++) {
      size_t n;
      const uint32_t *id = tl_tokenizer_around(t, true, (tl_around)place, &n);
      for (size_t k = 0; k < n; k++) tl_buf_printf(&have, k ? " %u" : "%u", id[k]);
      tl_buf_puts(&have, ";");
    }
    if (t) assert_string_equal(have.data, cases[i].want);
    tl_tokenizer_free(t);
    tl_buf_free(&b);
    tl_buf_free(&have);
  }
}

static void missing_files_are_no_input(void **state) {
  (void)state;
  tl_tokenizer *t = NULL;
  tl_err err = {TL_OK, ""};
  assert_int_equal(tl_tokenizer_load("/no/such/tokenizer.json", &t, &err), TL_NOINPUT);
  assert_int_equal(tl_tokenizer_load(TL_SOURCE_DIR "/tests", &t, &err), TL_NOINPUT);
  assert_non_null(strstr(err.msg, "tests/tokenizer.json"));
}

/* Deep nesting must not exhaust the stack. */
static void deep_nesting_is_an_error(void **state) {
  (void)state;
  size_t n = 1 << 20;
  char *s = malloc(n);
  memset(s, '[', n);
  tl_tokenizer *t = NULL;
  assert_int_equal(load_bytes(s, n, &t, NULL), TL_DATA);
  free(s);
}

/* One word of half a megabyte takes no quadratic time, and gives the same as many short ones
 * where the merges do not cross. */
static void long_words_are_quick(void **state) {
  (void)state;
  size_t n = 1 << 19;
  char *s = malloc(n);
  for (int g = 0; g < N_GOLDEN; g++) {
    char file[512];
    tl_tokenizer *t = NULL;
    snprintf(file, sizeof file, GOLDEN "%s.json", golden[g]);
    assert_int_equal(tl_tokenizer_load(file, &t, NULL), TL_OK);
    for (int kind = 0; kind < 3; kind++) {
      static const char *const unit[] = {"a", "harvest", " "};
      size_t m = strlen(unit[kind]), k = 0, cap = 0;
      for (size_t i = 0; i < n; i++) s[i] = unit[kind][i % m];
      uint32_t *ids = NULL;
      double t0 = tl_now();
      assert_int_equal(tl_tokenizer_encode(t, s, n, &ids, &k, &cap, NULL), TL_OK);
      assert_true(tl_now() - t0 < 5);
      free(ids);
    }
    tl_tokenizer_free(t);
  }
  free(s);
}

typedef struct shared {
  const tl_tokenizer *t;
  const char *text;
  size_t len;
  uint32_t *want;
  size_t n;
  int wrong[64];
} shared;

static void encode_task(void *arg, int64_t task, int worker) {
  (void)worker;
  shared *s = arg;
  uint32_t *ids = NULL;
  size_t n = 0, cap = 0;
  tl_status st = tl_tokenizer_encode(s->t, s->text, s->len, &ids, &n, &cap, NULL);
  s->wrong[task] = st != TL_OK || n != s->n || memcmp(ids, s->want, n * sizeof *ids) != 0;
  free(ids);
}

/* All threads encode the same, with words enough that they evict each other's from the cache. */
static void threads_do_not_disturb_each_other(void **state) {
  (void)state;
  tl_pool *pool = NULL;
  assert_int_equal(tl_pool_new(4, false, &pool, NULL), TL_OK);
  tl_rng r = tl_rng_make(5, TL_STREAM_TEST, 4, 0);
  tl_buf b = {0};
  for (int i = 0; i < 20000; i++) {
    size_t n = 1 + tl_rng_below(&r, 9);
    for (size_t k = 0; k < n; k++) tl_buf_putc(&b, (char)('a' + tl_rng_below(&r, 26)));
    tl_buf_putc(&b, ' ');
  }
  for (int g = 0; g < N_GOLDEN; g++) {
    char file[512];
    tl_tokenizer *t = NULL;
    snprintf(file, sizeof file, GOLDEN "%s.json", golden[g]);
    assert_int_equal(tl_tokenizer_load(file, &t, NULL), TL_OK);
    shared s = {.t = t, .text = b.data, .len = b.len};
    size_t cap = 0;
    assert_int_equal(tl_tokenizer_encode(t, s.text, s.len, &s.want, &s.n, &cap, NULL), TL_OK);
    tl_parallel(pool, 64, encode_task, &s);
    for (int i = 0; i < 64; i++) assert_int_equal(s.wrong[i], 0);
    free(s.want);
    tl_tokenizer_free(t);
  }
  tl_buf_free(&b);
  tl_pool_free(pool);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(truncated_files_are_errors),
      cmocka_unit_test(mutated_files_do_no_harm),
      cmocka_unit_test(bad_content_is_named),
      cmocka_unit_test(pairs_are_put_together_as_the_file_says),
      cmocka_unit_test(a_folder_is_saved_as_it_was),
      cmocka_unit_test(missing_files_are_no_input),
      cmocka_unit_test(deep_nesting_is_an_error),
      cmocka_unit_test(long_words_are_quick),
      cmocka_unit_test(threads_do_not_disturb_each_other),
  };
  return cmocka_run_group_tests(tests, make_file, remove_file);
}
