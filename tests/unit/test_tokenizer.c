/* Unit tests of the tokenizers: training, encoding, decoding, files and errors. */
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

/* Documents for training: a small grammar, so that there is something to merge. */
typedef struct source {
  int n, at;
  tl_rng rng;
  tl_buf text;
} source;

static void make_sentence(tl_rng *r, tl_buf *out) {
  static const char *const word[] = {"the",
                                     "soil",
                                     "is",
                                     "ready",
                                     "for",
                                     "seed",
                                     "and",
                                     "rain",
                                     "farmer",
                                     "ploughs",
                                     "field",
                                     "It's",
                                     "we'll",
                                     "1234",
                                     "2026",
                                     "caf\xc3\xa9",
                                     "na\xc3\xafve",
                                     "\xe5\x9c\x9f\xe5\x9c\xb0",
                                     "Gro\xc3\x9f",
                                     "harvest",
                                     "sowing",
                                     "sown",
                                     "tilth",
                                     "unploughed",
                                     "rainfall",
                                     "seedling",
                                     "(",
                                     ")",
                                     "...",
                                     "--",
                                     "\xf0\x9f\x8c\xb1",
                                     "GROWING"};
  int n = 3 + (int)tl_rng_below(r, 12);
  for (int i = 0; i < n; i++) {
    if (i) tl_buf_puts(out, tl_rng_below(r, 20) ? " " : "  ");
    tl_buf_puts(out, word[tl_rng_below(r, sizeof word / sizeof *word)]);
    if (tl_rng_below(r, 6) == 0) tl_buf_puts(out, ",");
  }
  tl_buf_puts(out, tl_rng_below(r, 3) ? ".\n" : "!\n\n");
}

static tl_status next_document(void *user, const char **text, size_t *len, tl_err *err) {
  (void)err;
  source *s = user;
  *text = NULL;
  *len = 0;
  if (s->at++ >= s->n) return TL_OK;
  tl_buf_clear(&s->text);
  for (int i = 0; i < 20; i++) make_sentence(&s->rng, &s->text);
  *text = s->text.data;
  *len = s->text.len;
  return TL_OK;
}

static source new_source(int n) {
  return (source){.n = n, .rng = tl_rng_make(7, TL_STREAM_TEST, 0, 0)};
}

static tl_status train_on(int threads, const tl_tokenizer_train_options *o, int docs,
                          tl_tokenizer **out, tl_err *err) {
  struct tl_ctx ctx = {0};
  assert_int_equal(tl_pool_new(threads, false, &ctx.pool, NULL), TL_OK);
  source s = new_source(docs);
  tl_status status = tl_tokenizer_train(&ctx, o, next_document, &s, out, err);
  tl_buf_free(&s.text);
  tl_pool_free(ctx.pool);
  return status;
}

typedef struct kind {
  const char *type;
  int vocab_size;
  bool lowercase;
} kind;
static const kind kinds[] = {
    {"bpe", 360, false},     {"wordpiece", 120, true}, {"wordpiece", 130, false},
    {"unigram", 345, false}, {"unigram", 340, true},   {"bytes", 0, false},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static tl_tokenizer *trained(const kind *k, int threads) {
  tl_tokenizer_train_options o = {
      .type = k->type, .vocab_size = k->vocab_size, .lowercase = k->lowercase};
  tl_tokenizer *t = NULL;
  tl_err err = {TL_OK, ""};
  if (train_on(threads, &o, 200, &t, &err) != TL_OK) fail_msg("%s: %s", k->type, err.msg);
  return t;
}

static uint32_t *encode(const tl_tokenizer *t, const char *s, size_t len, size_t *n) {
  uint32_t *ids = NULL;
  size_t cap = 0;
  *n = 0;
  assert_int_equal(tl_tokenizer_encode(t, s, len, &ids, n, &cap, NULL), TL_OK);
  return ids;
}

static void assert_round_trip(const tl_tokenizer *t, const char *s, size_t len) {
  size_t n, back_len;
  char *back;
  uint32_t *ids = encode(t, s, len, &n);
  assert_int_equal(tl_tokenizer_decode(t, ids, n, true, &back, &back_len, NULL), TL_OK);
  assert_int_equal(back_len, len);
  assert_memory_equal(back, s, len);
  assert_int_equal(back[len], 0);
  free(back);
  free(ids);
}

/* Bytes from a few ranges, so that words, white space, UTF-8 and garbage all occur. */
static size_t random_bytes(tl_rng *r, char *out, size_t max) {
  static const char *const piece[] = {" ",  "  ",  "\n",       "the",          " soil",
                                      "'s", "'ll", "\xc3\xa9", "\xe2\x96\x81", "\xf0\x9f\x8c\xb1",
                                      "12", "!?",  "\t",       "\xc2\xa0"};
  size_t want = tl_rng_below(r, max - 8), n = 0;
  while (n < want) {
    if (tl_rng_below(r, 3)) {
      const char *p = piece[tl_rng_below(r, sizeof piece / sizeof *piece)];
      memcpy(out + n, p, strlen(p));
      n += strlen(p);
    } else {
      out[n++] = (char)tl_rng_below(r, 256);
    }
  }
  return n;
}

static void byte_level_round_trips_any_bytes(void **state) {
  (void)state;
  static const char *const type[] = {"bpe", "bytes"};
  for (int k = 0; k < 2; k++) {
    tl_tokenizer *t = trained(&(kind){type[k], 360, false}, 1);
    tl_rng r = tl_rng_make(1, TL_STREAM_TEST, 1, 0);
    char s[160];
    for (int i = 0; i < 100000; i++) assert_round_trip(t, s, random_bytes(&r, s, 48));
    for (int i = 0; i < 1000; i++) assert_round_trip(t, s, random_bytes(&r, s, 160));
    assert_round_trip(t, "", 0);
    assert_round_trip(t, "a\0b", 3);
    tl_tokenizer_free(t);
  }
}

static void training_is_the_same_on_any_number_of_threads(void **state) {
  (void)state;
  for (int k = 0; k < N_KINDS; k++) {
    tl_tokenizer *a = trained(&kinds[k], 1), *b = trained(&kinds[k], 2), *c = trained(&kinds[k], 3);
    assert_true(tl_tokenizer_fingerprint(a) == tl_tokenizer_fingerprint(b));
    assert_true(tl_tokenizer_fingerprint(a) == tl_tokenizer_fingerprint(c));
    if (kinds[k].vocab_size) assert_int_equal(tl_tokenizer_vocab_size(a), kinds[k].vocab_size);
    tl_tokenizer_free(a);
    tl_tokenizer_free(b);
    tl_tokenizer_free(c);
  }
}

static char *temp_dir(void) {
  static char dir[64];
  snprintf(dir, sizeof dir, "/tmp/tilth-tok-XXXXXX");
  assert_non_null(mkdtemp(dir));
  return dir;
}

static void saved_and_loaded_is_the_same(void **state) {
  (void)state;
  for (int k = 0; k < N_KINDS; k++) {
    tl_tokenizer *a = trained(&kinds[k], 1), *b = NULL;
    char *dir = temp_dir();
    tl_err err = {TL_OK, ""};
    assert_int_equal(tl_tokenizer_save(a, dir, NULL), TL_OK);
    if (tl_tokenizer_load(dir, &b, &err) != TL_OK) fail_msg("%s: %s", kinds[k].type, err.msg);
    assert_string_equal(tl_tokenizer_type(b), kinds[k].type);
    assert_true(tl_tokenizer_fingerprint(a) == tl_tokenizer_fingerprint(b));
    int n_vocab = tl_tokenizer_vocab_size(a);
    assert_int_equal(n_vocab, tl_tokenizer_vocab_size(b));
    for (int i = 0; i < n_vocab; i++) {
      assert_string_equal(tl_tokenizer_token(a, (uint32_t)i), tl_tokenizer_token(b, (uint32_t)i));
      assert_int_equal(tl_tokenizer_id(b, tl_tokenizer_token(a, (uint32_t)i)), i);
    }
    assert_memory_equal(tl_tokenizer_word_starts(a), tl_tokenizer_word_starts(b), n_vocab);
    for (int r = 0; r < TL_TOK_N_SPECIAL; r++) {
      assert_int_equal(tl_tokenizer_special(a, r), r);
      assert_int_equal(tl_tokenizer_special(b, r), r);
    }
    tl_rng rng = tl_rng_make(1, TL_STREAM_TEST, 2, 0);
    for (int i = 0; i < 2000; i++) {
      char s[200];
      size_t len = random_bytes(&rng, s, sizeof s), n, m;
      uint32_t *x = encode(a, s, len, &n), *y = encode(b, s, len, &m);
      assert_int_equal(n, m);
      if (n) assert_memory_equal(x, y, n * sizeof *x);
      free(x);
      free(y);
    }
    assert_int_equal(tl_remove_tree(dir, NULL), TL_OK);
    tl_tokenizer_free(a);
    tl_tokenizer_free(b);
  }
}

static void bad_options_are_errors(void **state) {
  (void)state;
  static const struct {
    tl_tokenizer_train_options o;
    int docs;
    tl_status want;
    const char *says;
  } cases[] = {
      {{.type = "lpe", .vocab_size = 300}, 5, TL_CONFIG, "unknown type 'lpe'"},
      {{.type = NULL, .vocab_size = 300}, 5, TL_CONFIG, "unknown type"},
      {{.type = "bpe", .vocab_size = 100}, 5, TL_CONFIG, "too small"},
      {{.type = "bpe", .vocab_size = -1}, 5, TL_CONFIG, "out of bounds"},
      {{.type = "bpe", .vocab_size = 1 << 30}, 5, TL_CONFIG, "out of bounds"},
      {{.type = "bpe", .vocab_size = 20000}, 5, TL_CONFIG, "larger than the text allows"},
      {{.type = "wordpiece", .vocab_size = 20000}, 5, TL_CONFIG, "larger than the text allows"},
      {{.type = "unigram", .vocab_size = 20000}, 5, TL_CONFIG, "larger than the text allows"},
      {{.type = "unigram", .vocab_size = 261}, 5, TL_CONFIG, "too small"},
      {{.type = "bpe", .vocab_size = 300, .lowercase = true}, 5, TL_CONFIG, "lowercase"},
      {{.type = "bytes", .lowercase = true}, 5, TL_CONFIG, "lowercase"},
      {{.type = "unigram", .vocab_size = 300}, 0, TL_DATA, "no text"},
      {{.type = "bpe", .vocab_size = 300}, 0, TL_DATA, "no text"},
      {{.type = "wordpiece", .vocab_size = 300}, 0, TL_DATA, "no text"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tl_tokenizer *t = NULL;
    tl_err err = {TL_OK, ""};
    assert_int_equal(train_on(1, &cases[i].o, cases[i].docs, &t, &err), cases[i].want);
    assert_null(t);
    if (!strstr(err.msg, cases[i].says))
      fail_msg("'%s' says nothing of '%s'", err.msg, cases[i].says);
  }
}

/* The number in the message is the largest that works. */
static void reachable_size_is_exact(void **state) {
  (void)state;
  static const char *const type[] = {"bpe", "wordpiece", "unigram"};
  for (int k = 0; k < 3; k++) {
    tl_tokenizer_train_options o = {.type = type[k], .vocab_size = 20000};
    tl_tokenizer *t = NULL;
    tl_err err = {TL_OK, ""};
    assert_int_equal(train_on(1, &o, 5, &t, &err), TL_CONFIG);
    const char *at = strstr(err.msg, "at most ");
    assert_non_null(at);
    o.vocab_size = atoi(at + 8);
    assert_int_equal(train_on(1, &o, 5, &t, &err), TL_OK);
    assert_int_equal(tl_tokenizer_vocab_size(t), o.vocab_size);
    tl_tokenizer_free(t);
  }
}

static void decoded_text_is_utf8(void **state) {
  (void)state;
  struct tl_ctx ctx = {0};
  tl_tokenizer *t = NULL;
  uint32_t *ids = NULL;
  size_t n = 0, cap = 0;
  char *text = NULL;
  assert_int_equal(tl_tokenizer_open(&ctx, "bytes", &t, NULL), TL_OK);
  assert_int_equal(tl_tokenizer_encode(t, "\xC3\xA9z", 3, &ids, &n, &cap, NULL), TL_OK);
  assert_int_equal(n, 3);
  assert_int_equal(tl_tokenizer_decode_utf8(t, ids, 3, &text, NULL), TL_OK);
  assert_string_equal(text, "\xC3\xA9z");
  free(text);
  assert_int_equal(tl_tokenizer_decode_utf8(t, ids + 1, 2, &text, NULL), TL_OK);
  assert_string_equal(text, "\xEF\xBF\xBDz");
  free(text);
  assert_int_equal(tl_tokenizer_decode_utf8(t, ids, 0, &text, NULL), TL_OK);
  assert_string_equal(text, "");
  free(text);
  free(ids);
  tl_tokenizer_free(t);
}

static void decoding_checks_ids(void **state) {
  (void)state;
  tl_tokenizer *t = trained(&kinds[0], 1);
  uint32_t ids[] = {1, 2, 360};
  char *text;
  size_t len;
  tl_err err = {TL_OK, ""};
  assert_int_equal(tl_tokenizer_decode(t, ids, 3, false, &text, &len, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "360"));
  assert_null(text);
  assert_int_equal(tl_tokenizer_decode(t, ids, 2, false, &text, &len, NULL), TL_OK);
  assert_string_equal(text, "<s></s>");
  free(text);
  assert_int_equal(tl_tokenizer_decode(t, ids, 2, true, &text, &len, NULL), TL_OK);
  assert_string_equal(text, "");
  free(text);
  assert_null(tl_tokenizer_token(t, 360));
  assert_int_equal(tl_tokenizer_id(t, "no such token"), -1);
  assert_int_equal(tl_tokenizer_special(t, TL_TOK_N_SPECIAL), -1);
  tl_tokenizer_free(t);
}

static void wordpiece_normalizes_and_joins(void **state) {
  (void)state;
  tl_tokenizer *t = trained(&kinds[1], 1);
  static const struct {
    const char *in, *out;
  } cases[] = {
      {"The  SOIL, is\tready.", "the soil, is ready."},
      {"Caf\xc3\xa9", "cafe"},
      {"\xe5\x9c\x9f\xe5\x9c\xb0", "\xe5\x9c\x9f \xe5\x9c\xb0"},
      {"seed \xe2\x82\xac seed", "seed [UNK] seed"},
      {"", ""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    size_t n, len;
    uint32_t *ids = encode(t, cases[i].in, strlen(cases[i].in), &n);
    char *text;
    assert_int_equal(tl_tokenizer_decode(t, ids, n, false, &text, &len, NULL), TL_OK);
    assert_string_equal(text, cases[i].out);
    free(text);
    free(ids);
  }
  tl_tokenizer_free(t);
}

/* Without normalization nothing is lost but a space at the start and the mark "▁" itself. */
static void unigram_round_trips_text(void **state) {
  (void)state;
  tl_tokenizer *t = trained(&(kind){"unigram", 345, false}, 1);
  static const char *const text[] = {"",
                                     "the soil",
                                     "the  soil ",
                                     "tab\tline\nend\n",
                                     "\xe2\x82\xac \xf0\x9f\x98\x80",
                                     "ill-formed \xff\xc3(",
                                     "<0x41> <s>"};
  for (size_t i = 0; i < sizeof text / sizeof *text; i++)
    assert_round_trip(t, text[i], strlen(text[i]));
  assert_round_trip(t, "a\0b", 3);
  tl_tokenizer_free(t);
}

static void word_starts_follow_the_type(void **state) {
  (void)state;
  static const struct {
    int kind; /* of kinds */
    const char *token;
    int starts;
  } cases[] = {
      {0, "\xc4\xa0the", 1}, {0, "the", 0},    {0, ",", 1},
      {0, "<s>", 1},         {1, "soil", 1},   {1, "##s", 0},
      {1, "[SEP]", 1},       {1, ",", 1},      {3, "\xe2\x96\x81", 1},
      {3, "e", 0},           {3, "<0x41>", 0}, {5, "A", 0},
      {5, "7", 0},           {5, ",", 1},      {5, "\xc4\xa0", 1},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tl_tokenizer *t = trained(&kinds[cases[i].kind], 1);
    int id = tl_tokenizer_id(t, cases[i].token);
    if (id < 0)
      fail_msg("case %zu: %s has no token %s", i, kinds[cases[i].kind].type, cases[i].token);
    assert_int_equal(tl_tokenizer_word_starts(t)[id], cases[i].starts);
    tl_tokenizer_free(t);
  }
}

/* A text cut between words is counted as if it were whole: blocks do not change the training. */
static tl_status one_document(void *user, const char **text, size_t *len, tl_err *err) {
  (void)err;
  tl_buf **b = user;
  *text = *b ? (*b)->data : NULL;
  *len = *b ? (*b)->len : 0;
  *b = NULL;
  return TL_OK;
}

static void large_documents_are_cut_without_trace(void **state) {
  (void)state;
  static const char *const type[] = {"bpe", "wordpiece", "unigram"};
  for (int k = 0; k < 3; k++) {
    tl_rng r = tl_rng_make(9, TL_STREAM_TEST, 0, 0);
    tl_buf whole = {0}, half = {0};
    while (half.len < 400000) make_sentence(&r, &half); /* above a block, below two */
    tl_buf_append(&whole, half.data, half.len);
    tl_buf_append(&whole, half.data, half.len);
    tl_tokenizer_train_options o = {.type = type[k], .vocab_size = 345};
    if (k == 1) o.vocab_size = 120;
    struct tl_ctx ctx = {0};
    assert_int_equal(tl_pool_new(2, false, &ctx.pool, NULL), TL_OK);
    tl_tokenizer *a = NULL, *b = NULL;
    tl_buf *first = &half, *second = &whole;
    assert_int_equal(tl_tokenizer_train(&ctx, &o, one_document, &first, &a, NULL), TL_OK);
    assert_int_equal(tl_tokenizer_train(&ctx, &o, one_document, &second, &b, NULL), TL_OK);
    /* Twice the text has twice the counts: the same merges. Unigram's estimate depends on them. */
    if (k < 2) assert_true(tl_tokenizer_fingerprint(a) == tl_tokenizer_fingerprint(b));
    assert_int_equal(tl_tokenizer_vocab_size(a), o.vocab_size);
    tl_tokenizer_free(a);
    tl_tokenizer_free(b);
    tl_pool_free(ctx.pool);
    tl_buf_free(&whole);
    tl_buf_free(&half);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(byte_level_round_trips_any_bytes),
      cmocka_unit_test(training_is_the_same_on_any_number_of_threads),
      cmocka_unit_test(saved_and_loaded_is_the_same),
      cmocka_unit_test(bad_options_are_errors),
      cmocka_unit_test(reachable_size_is_exact),
      cmocka_unit_test(decoding_checks_ids),
      cmocka_unit_test(decoded_text_is_utf8),
      cmocka_unit_test(wordpiece_normalizes_and_joins),
      cmocka_unit_test(unigram_round_trips_text),
      cmocka_unit_test(word_starts_follow_the_type),
      cmocka_unit_test(large_documents_are_cut_without_trace),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
