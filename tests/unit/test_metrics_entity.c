/* Unit tests of src/eval/entity.c and entity_score.c. */
#include "metric_goldens.h"

#include "eval/entity.h"

static const double tolerance = 1e-9;

/* Sentences of tags with spaces between them, cut in place. */
typedef struct sentences {
  tl_tagged t;
  char **text;
  const char **tag;
  size_t *offset;
} sentences;

static void sentences_make(sentences *s, const char *const *text, size_t n) {
  size_t total = 0, cap = 1;
  for (size_t i = 0; i < n; i++) cap += strlen(text[i]) + 1;
  s->text = golden_alloc(n, sizeof *s->text);
  s->tag = golden_alloc(cap, sizeof *s->tag);
  s->offset = golden_alloc(n + 1, sizeof *s->offset);
  for (size_t i = 0; i < n; i++) {
    s->text[i] = strdup(text[i]);
    char *save = NULL;
    for (char *p = strtok_r(s->text[i], " ", &save); p; p = strtok_r(NULL, " ", &save))
      s->tag[total++] = p;
    s->offset[i + 1] = total;
  }
  s->t = (tl_tagged){s->tag, s->offset, n};
}

static void sentences_free(sentences *s) {
  for (size_t i = 0; i < s->t.n_sentences; i++) free(s->text[i]);
  free(s->text);
  free(s->tag);
  free(s->offset);
}

static void sentences_golden(sentences *s, const json_t *list) {
  const char *text[16];
  size_t n = json_array_size(list);
  assert_true(n <= 16);
  for (size_t i = 0; i < n; i++) text[i] = json_string_value(json_array_get(list, i));
  sentences_make(s, text, n);
}

static tl_tag_scheme scheme_of(const char *name) {
  const char *const names[] = {"tolerant", "bio", "iob1", "bioes"};
  for (int i = 0; i < 4; i++)
    if (!strcmp(name, names[i])) return (tl_tag_scheme)i;
  fail_msg("unknown scheme %s", name);
  return TL_TAGS_BIO;
}

static void check_entities(const sentences *s, tl_tag_scheme scheme, const json_t *want, size_t i) {
  tl_entities e;
  assert_int_equal(tl_entities_read(&s->t, scheme, &e, NULL), TL_OK);
  if (e.n != json_array_size(want)) fail_msg("case %zu: %zu entities", i, e.n);
  for (size_t k = 0; k < e.n; k++) {
    const json_t *w = json_array_get(want, k);
    const char *type = json_string_value(json_array_get(w, 0));
    assert_int_equal(e.item[k].type_len, strlen(type));
    assert_memory_equal(e.item[k].type, type, strlen(type));
    assert_int_equal(e.item[k].begin, json_integer_value(json_array_get(w, 1)));
    assert_int_equal(e.item[k].end, json_integer_value(json_array_get(w, 2)));
  }
  tl_entities_free(&e);
}

static void check_scores(const tl_entity_tally *t, const json_t *want, size_t i) {
  static const char *const averages[] = {"micro", "macro", "weighted"};
  size_t n = tl_entity_tally_types(t);
  if (n != json_array_size(golden_get(want, "types"))) fail_msg("case %zu: %zu types", i, n);
  tl_prf *prf = golden_alloc(n, sizeof *prf);
  tl_entity_scores(t, NULL, 0, prf);
  for (size_t k = 0; k < n; k++) {
    assert_string_equal(tl_entity_tally_type(t, k),
                        json_string_value(json_array_get(golden_get(want, "types"), k)));
    golden_near(prf[k].precision, json_array_get(golden_get(want, "precision"), k), tolerance,
                "precision", i);
    golden_near(prf[k].recall, json_array_get(golden_get(want, "recall"), k), tolerance, "recall",
                i);
    golden_near(prf[k].f1, json_array_get(golden_get(want, "f1"), k), tolerance, "F1", i);
    assert_int_equal(prf[k].actual,
                     json_integer_value(json_array_get(golden_get(want, "support"), k)));
  }
  for (int a = 0; a < 3; a++) {
    tl_prf got = tl_prf_average(prf, n, (tl_average)a, false);
    const json_t *w = golden_get(want, averages[a]);
    golden_near(got.precision, json_array_get(w, 0), tolerance, averages[a], i);
    golden_near(got.recall, json_array_get(w, 1), tolerance, averages[a], i);
    golden_near(got.f1, json_array_get(w, 2), tolerance, averages[a], i);
  }
  free(prf);
}

static void random_tags_as_seqeval(void **state) {
  (void)state;
  json_t *cases = golden_load("entity"), *c;
  size_t i, errors = 0;
  json_array_foreach(cases, i, c) {
    const json_t *want = golden_get(c, "want");
    tl_tag_scheme scheme = scheme_of(json_string_value(golden_get(c, "scheme")));
    sentences truth, pred;
    sentences_golden(&truth, golden_get(c, "truth"));
    sentences_golden(&pred, golden_get(c, "pred"));
    tl_entity_tally *t = NULL;
    tl_status st = tl_entity_tally_new(&truth.t, &pred.t, scheme, &t, NULL);
    if (json_object_get(want, "error")) {
      assert_int_equal(st, TL_DATA);
      errors++;
    } else {
      if (st != TL_OK) fail_msg("case %zu failed", i);
      check_scores(t, want, i);
      check_entities(&truth, scheme, golden_get(want, "entities"), i);
    }
    tl_entity_tally_free(t);
    sentences_free(&truth);
    sentences_free(&pred);
  }
  assert_true(errors > 0 && errors < json_array_size(cases) / 2);
  golden_report("entities", json_array_size(cases));
  json_decref(cases);
}

static void expect_conversion(const char *from_tags, tl_tag_scheme from, tl_tag_scheme to,
                              const char *want) {
  sentences s, w;
  /* Two sentences, so that the second one must not look at the first one's last entity. */
  const char *in[] = {from_tags, from_tags}, *out[] = {want, want};
  sentences_make(&s, in, 2);
  sentences_make(&w, out, 2);
  const char **got = NULL;
  assert_int_equal(tl_tags_convert(&s.t, from, to, &got, NULL), TL_OK);
  assert_int_equal(s.offset[2], w.offset[2]);
  for (size_t i = 0; i < s.offset[2]; i++) assert_string_equal(got[i], w.tag[i]);
  free(got);
  sentences_free(&s);
  sentences_free(&w);
}

static void schemes_convert(void **state) {
  (void)state;
  const char *const same[] = {
      [TL_TAGS_BIO] = "B-P I-P B-P O B-L B-M I-M I-M B-M",
      [TL_TAGS_IOB1] = "I-P I-P B-P O I-L I-M I-M I-M B-M",
      [TL_TAGS_BIOES] = "B-P E-P S-P O S-L B-M I-M E-M S-M",
  };
  for (int from = TL_TAGS_TOLERANT; from <= TL_TAGS_BIOES; from++)
    for (int to = TL_TAGS_BIO; to <= TL_TAGS_BIOES; to++)
      expect_conversion(same[from ? from : TL_TAGS_BIOES], (tl_tag_scheme)from, (tl_tag_scheme)to,
                        same[to]);
  /* Strict reading drops what is no entity; tolerant reading keeps it. */
  expect_conversion("O I-P I-P B-L", TL_TAGS_BIO, TL_TAGS_BIO, "O O O B-L");
  expect_conversion("O I-P I-P B-L", TL_TAGS_TOLERANT, TL_TAGS_BIO, "O B-P I-P B-L");
  expect_conversion("B-P I-L E-L", TL_TAGS_TOLERANT, TL_TAGS_BIOES, "S-P B-L E-L");
  expect_conversion("B-P", TL_TAGS_BIO, TL_TAGS_IOB1, "I-P"); /* also where a sentence begins */
  expect_conversion("", TL_TAGS_BIO, TL_TAGS_IOB1, "");
  expect_conversion("B I O", TL_TAGS_BIO, TL_TAGS_BIOES, "B-_ E-_ O");
}

/* Scores of a choice of sentences are those of a tally of them alone. */
static void sentences_resample(void **state) {
  (void)state;
  const char *const truth[] = {"B-A I-A O B-B", "B-C O", "O O B-A"};
  const char *const pred[] = {"B-A I-A O B-A", "B-C B-C", "O B-A I-A"};
  const char *const truth2[] = {"O O B-A", "B-A I-A O B-B", "O O B-A"};
  const char *const pred2[] = {"O B-A I-A", "B-A I-A O B-A", "O B-A I-A"};
  const size_t index[] = {2, 0, 2};
  sentences s[4];
  sentences_make(&s[0], truth, 3);
  sentences_make(&s[1], pred, 3);
  sentences_make(&s[2], truth2, 3);
  sentences_make(&s[3], pred2, 3);
  tl_entity_tally *all = NULL, *some = NULL;
  assert_int_equal(tl_entity_tally_new(&s[0].t, &s[1].t, TL_TAGS_BIO, &all, NULL), TL_OK);
  assert_int_equal(tl_entity_tally_new(&s[2].t, &s[3].t, TL_TAGS_BIO, &some, NULL), TL_OK);
  assert_int_equal(tl_entity_tally_types(all), 3);
  assert_int_equal(tl_entity_tally_types(some), 2);
  tl_prf a[3], b[3];
  tl_entity_scores(all, index, 3, a);
  tl_entity_scores(some, NULL, 0, b);
  for (int how = 0; how < 3; how++) {
    tl_prf x = tl_prf_average(a, 3, (tl_average)how, false);
    tl_prf y = tl_prf_average(b, 2, (tl_average)how, false);
    assert_true(x.f1 == y.f1 && x.precision == y.precision && x.actual == y.actual);
  }
  assert_int_equal(a[0].correct, 1);
  assert_int_equal(a[0].predicted, 4);
  assert_int_equal(a[0].actual, 3);
  tl_entity_tally_free(all);
  tl_entity_tally_free(some);
  for (int i = 0; i < 4; i++) sentences_free(&s[i]);
}

static void expect_error(const char *truth, const char *pred, tl_tag_scheme scheme,
                         const char *part) {
  sentences s[2];
  sentences_make(&s[0], &truth, 1);
  sentences_make(&s[1], &pred, 1);
  tl_entity_tally *t = NULL;
  tl_err err = {0};
  assert_int_equal(tl_entity_tally_new(&s[0].t, &s[1].t, scheme, &t, &err), TL_DATA);
  if (!strstr(err.msg, part)) fail_msg("\"%s\" does not say \"%s\"", err.msg, part);
  sentences_free(&s[0]);
  sentences_free(&s[1]);
}

static void bad_tags_are_errors(void **state) {
  (void)state;
  expect_error("B-A O", "B-A", TL_TAGS_BIO, "2 true but 1 predicted");
  expect_error("B-A O", "O X-A", TL_TAGS_BIO, "sentence 0, token 1");
  expect_error("S-A", "O", TL_TAGS_BIO, "OBI");
  expect_error("\xc3\xa9-A", "O", TL_TAGS_BIO, "OBI");
  expect_error("B-\xff", "O", TL_TAGS_TOLERANT, "UTF-8 at byte 2");
  expect_error("\xff", "O", TL_TAGS_TOLERANT, "UTF-8 at byte 0");

  const char *tag[] = {"O", ""};
  size_t offset[] = {0, 2}, wrong[] = {0, 2, 1}, late[] = {1, 2};
  tl_tagged t = {tag, offset, 1}, none = {NULL, NULL, 0};
  tl_entities e;
  tl_err err = {0};
  assert_int_equal(tl_entities_read(&t, TL_TAGS_BIO, &e, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "empty"));
  t = (tl_tagged){tag, wrong, 2};
  assert_int_equal(tl_entities_read(&t, TL_TAGS_BIO, &e, NULL), TL_DATA);
  t = (tl_tagged){tag, late, 1};
  assert_int_equal(tl_entities_read(&t, TL_TAGS_BIO, &e, NULL), TL_DATA);
  assert_int_equal(tl_entities_read(&none, TL_TAGS_TOLERANT, &e, NULL), TL_OK);
  assert_int_equal(e.n, 0);
  tl_entities_free(&e);

  const char **out = NULL;
  assert_int_equal(tl_tags_convert(&none, TL_TAGS_BIO, TL_TAGS_TOLERANT, &out, NULL), TL_USAGE);
  assert_int_equal(tl_tags_convert(&none, TL_TAGS_BIO, TL_TAGS_BIO, &out, NULL), TL_OK);
  free(out);
  const char *odd[] = {"O", "U", "U-A"}; /* an entity that seqeval has from token 0 on, twice */
  size_t three[] = {0, 3};
  t = (tl_tagged){odd, three, 1};
  assert_int_equal(tl_tags_convert(&t, TL_TAGS_TOLERANT, TL_TAGS_BIO, &out, NULL), TL_OK);
  free(out);
  tl_entity_tally *tally = NULL;
  assert_int_equal(tl_entity_tally_new(&none, &t, TL_TAGS_BIO, &tally, &err), TL_DATA);
  assert_int_equal(tl_entity_tally_new(&none, &none, TL_TAGS_BIO, &tally, &err), TL_OK);
  assert_int_equal(tl_entity_tally_types(tally), 0);
  tl_entity_tally_free(tally);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(random_tags_as_seqeval),
      cmocka_unit_test(schemes_convert),
      cmocka_unit_test(sentences_resample),
      cmocka_unit_test(bad_tags_are_errors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
