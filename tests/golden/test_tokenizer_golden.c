/* Tokenizers against Hugging Face's: files trained by it are read and give the same ids, and
 * training on the same text gives the same tokens. The golden files are made by
 * tools/make_tokenizer_golden.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/context.h"
#include "tilth/tokenizer.h"

#define GOLDEN TL_SOURCE_DIR "/tests/golden/tokenizer/"

static json_t *cases;

static int load_cases(void **state) {
  (void)state;
  cases = json_load_file(GOLDEN "cases.json", 0, NULL);
  return cases ? 0 : -1;
}

static int free_cases(void **state) {
  (void)state;
  json_decref(cases);
  return 0;
}

static tl_tokenizer *load(const char *name) {
  char path[512];
  snprintf(path, sizeof path, GOLDEN "%s.json", name);
  tl_tokenizer *t = NULL;
  tl_err err = {TL_OK, ""};
  if (tl_tokenizer_load(path, &t, &err) != TL_OK) fail_msg("%s", err.msg);
  return t;
}

static void ids_are_the_same(void **state) {
  (void)state;
  const char *name;
  json_t *want, *strings = json_object_get(cases, "strings");
  json_object_foreach(json_object_get(cases, "ids"), name, want) {
    tl_tokenizer *t = load(name);
    for (size_t i = 0; i < json_array_size(strings); i++) {
      const json_t *s = json_array_get(strings, i), *ids = json_array_get(want, i);
      uint32_t *have = NULL;
      size_t n = 0, cap = 0;
      assert_int_equal(tl_tokenizer_encode(t, json_string_value(s), json_string_length(s), &have,
                                           &n, &cap, NULL),
                       TL_OK);
      if (n != json_array_size(ids)) fail_msg("%s, string %zu: %zu ids", name, i, n);
      for (size_t k = 0; k < n; k++) {
        if ((json_int_t)have[k] != json_integer_value(json_array_get(ids, k)))
          fail_msg("%s, string %zu: id %zu is %u", name, i, k, have[k]);
      }
      free(have);
    }
    tl_tokenizer_free(t);
  }
}

/* Tokenizers made of steps (tests/interop/tokenizer_goldens.py): ids, with special tokens found in
 * the text and put around it, and the text that the ids give back. */
static void chains_are_the_same(void **state) {
  (void)state;
  json_t *all = json_load_file(GOLDEN "chains.json", 0, NULL), *want;
  assert_non_null(all);
  const json_t *strings = json_object_get(all, "strings");
  const char *name;
  json_object_foreach(json_object_get(all, "ids"), name, want) {
    tl_tokenizer *t = load(name);
    const json_t *back = json_object_get(json_object_get(all, "back"), name);
    assert_int_equal(json_array_size(want), json_array_size(strings));
    for (size_t i = 0; i < json_array_size(strings); i++) {
      const json_t *s = json_array_get(strings, i), *ids = json_array_get(want, i);
      uint32_t *have = NULL;
      size_t n = 0, cap = 0, len = 0;
      char *text = NULL;
      assert_int_equal(tl_tokenizer_encode_with(t, TL_ENCODE_PARSE | TL_ENCODE_WRAP,
                                                json_string_value(s), json_string_length(s), &have,
                                                &n, &cap, NULL),
                       TL_OK);
      if (n != json_array_size(ids)) fail_msg("%s, string %zu: %zu ids", name, i, n);
      for (size_t k = 0; k < n; k++) {
        if ((json_int_t)have[k] != json_integer_value(json_array_get(ids, k)))
          fail_msg("%s, string %zu: id %zu is %u", name, i, k, have[k]);
      }
      assert_int_equal(tl_tokenizer_decode(t, have, n, true, &text, &len, NULL), TL_OK);
      if (strcmp(text, json_string_value(json_array_get(back, i))) != 0)
        fail_msg("%s, string %zu comes back as '%s'", name, i, text);
      free(text);
      free(have);
    }
    tl_tokenizer_free(t);
  }
  json_decref(all);
}

/* The documents of the golden file, one after the other. */
static tl_status next_text(void *user, const char **text, size_t *len, tl_err *err) {
  (void)err;
  size_t *at = user;
  const json_t *s = json_array_get(json_object_get(cases, "text"), (*at)++);
  *text = json_string_value(s);
  *len = s ? json_string_length(s) : 0;
  return TL_OK;
}

static tl_tokenizer *train(const tl_tokenizer_train_options *o) {
  struct tl_ctx ctx = {0};
  assert_int_equal(tl_pool_new(2, false, &ctx.pool, NULL), TL_OK);
  size_t at = 0;
  tl_tokenizer *t = NULL;
  tl_err err = {TL_OK, ""};
  if (tl_tokenizer_train(&ctx, o, next_text, &at, &t, &err) != TL_OK) fail_msg("%s", err.msg);
  tl_pool_free(ctx.pool);
  return t;
}

static void bpe_training_is_the_same(void **state) {
  (void)state;
  tl_tokenizer *theirs = load("bpe");
  int n = tl_tokenizer_vocab_size(theirs);
  tl_tokenizer *ours = train(&(tl_tokenizer_train_options){.type = "bpe", .vocab_size = n});
  for (int i = 0; i < n; i++)
    assert_string_equal(tl_tokenizer_token(ours, (uint32_t)i),
                        tl_tokenizer_token(theirs, (uint32_t)i));
  tl_tokenizer_free(ours);
  tl_tokenizer_free(theirs);
}

/* Same size and the same tokens; their order of pieces with "##" is not fixed. Ties are broken by
 * that order, so a few merges may differ. */
static void wordpiece_training_is_nearly_the_same(void **state) {
  (void)state;
  tl_tokenizer *theirs = load("wordpiece-uncased");
  int n = tl_tokenizer_vocab_size(theirs), same = 0;
  tl_tokenizer *ours =
      train(&(tl_tokenizer_train_options){.type = "wordpiece", .vocab_size = n, .lowercase = true});
  for (int i = 0; i < n; i++)
    same += tl_tokenizer_id(ours, tl_tokenizer_token(theirs, (uint32_t)i)) >= 0;
  if (same < n * 95 / 100) fail_msg("only %d of %d tokens are the same", same, n);
  tl_tokenizer_free(ours);
  tl_tokenizer_free(theirs);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ids_are_the_same),
      cmocka_unit_test(chains_are_the_same),
      cmocka_unit_test(bpe_training_is_the_same),
      cmocka_unit_test(wordpiece_training_is_nearly_the_same),
  };
  return cmocka_run_group_tests(tests, load_cases, free_cases);
}
