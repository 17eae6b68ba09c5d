/* Unit tests of src/eval/bleu.c, chrf.c, segment.c and ngram.c. */
#include "metric_goldens.h"

#include "eval/bleu.h"
#include "eval/segment.h"
#include "eval/stats.h"
#include "tilth/version.h"

static const double tolerance = 1e-9;

static tl_bleu_text text_of(const char *s) {
  return (tl_bleu_text){s, strlen(s)};
}

static tl_bleu_text golden_text(const json_t *j) {
  return (tl_bleu_text){json_string_value(j), json_string_length(j)};
}

typedef struct corpus {
  tl_bleu_text *hyp, *refs;
  size_t n, n_refs;
} corpus;

static corpus corpus_golden(const json_t *c) {
  const json_t *hyp = golden_get(c, "hyp"), *refs = golden_get(c, "refs");
  corpus x = {.n = json_array_size(hyp), .n_refs = json_array_size(json_array_get(refs, 0))};
  x.hyp = golden_alloc(x.n, sizeof *x.hyp);
  x.refs = golden_alloc(x.n * x.n_refs, sizeof *x.refs);
  for (size_t i = 0; i < x.n; i++) {
    x.hyp[i] = golden_text(json_array_get(hyp, i));
    for (size_t r = 0; r < x.n_refs; r++)
      x.refs[i * x.n_refs + r] = golden_text(json_array_get(json_array_get(refs, i), r));
  }
  return x;
}

static void check_signature(const char *got, const json_t *want) {
  char whole[256];
  snprintf(whole, sizeof whole, "%s:tilth-%s", json_string_value(golden_get(want, "signature")),
           tl_version());
  assert_string_equal(got, whole);
}

static void check_bleu(const corpus *x, const json_t *want, size_t i) {
  const char *const names[] = {"13a", "intl", "char", "none"};
  tl_bleu_opts o = {.lowercase = json_is_true(golden_get(want, "lc")),
                    .effective_order = json_is_true(golden_get(want, "eff"))};
  for (int k = 0; k < 4; k++)
    if (!strcmp(names[k], json_string_value(golden_get(want, "tok"))))
      o.tokenizer = (tl_bleu_tokenizer)k;
  tl_bleu_counts *counts = golden_alloc(x->n, sizeof *counts);
  assert_int_equal(tl_bleu_count(&o, x->hyp, x->refs, x->n, x->n_refs, counts, NULL), TL_OK);
  tl_bleu_score s = tl_bleu_score_of(&o, counts, NULL, x->n);
  const json_t *c = golden_get(want, "counts");
  size_t got[10] = {s.counts.hyp_len, s.counts.ref_len};
  memcpy(got + 2, s.counts.correct, sizeof s.counts.correct);
  memcpy(got + 6, s.counts.total, sizeof s.counts.total);
  for (size_t k = 0; k < 10; k++)
    if ((json_int_t)got[k] != json_integer_value(json_array_get(c, k)))
      fail_msg("case %zu, %s: count %zu is %zu", i, names[o.tokenizer], k, got[k]);
  golden_near(s.score, golden_get(want, "score"), tolerance, "BLEU", i);
  golden_near(s.brevity_penalty, golden_get(want, "bp"), tolerance, "brevity penalty", i);
  for (size_t k = 0; k < TL_BLEU_ORDER; k++)
    golden_near(s.precision[k], json_array_get(golden_get(want, "precisions"), k), tolerance,
                "precision", i);
  char signature[128];
  tl_bleu_signature(&o, x->n_refs, signature, sizeof signature);
  check_signature(signature, want);
  free(counts);
}

static void check_chrf(const corpus *x, const json_t *want, size_t i) {
  tl_chrf_opts o = {.words = (int)golden_size(want, "words"),
                    .lowercase = json_is_true(golden_get(want, "lc"))};
  tl_chrf_counts *counts = golden_alloc(x->n, sizeof *counts);
  assert_int_equal(tl_chrf_count(&o, x->hyp, x->refs, x->n, x->n_refs, counts, NULL), TL_OK);
  golden_near(tl_chrf_score_of(&o, counts, NULL, x->n), golden_get(want, "score"), tolerance,
              "chrF", i);
  char signature[128];
  tl_chrf_signature(&o, x->n_refs, signature, sizeof signature);
  check_signature(signature, want);
  free(counts);
}

static void scores_as_sacrebleu(void **state) {
  (void)state;
  json_t *cases = golden_load("text"), *c, *want;
  size_t i, k;
  json_array_foreach(cases, i, c) {
    corpus x = corpus_golden(c);
    json_array_foreach(golden_get(c, "bleu"), k, want) check_bleu(&x, want, i);
    json_array_foreach(golden_get(c, "chrf"), k, want) check_chrf(&x, want, i);
    free(x.hyp);
    free(x.refs);
  }
  golden_report("texts", json_array_size(cases));
  json_decref(cases);
}

static void lower_case_as_python(void **state) {
  (void)state;
  json_t *cases = golden_load("lower"), *c;
  size_t i;
  json_array_foreach(cases, i, c) {
    tl_ids got = {0}, want = {0};
    assert_int_equal(tl_segment_decode(golden_text(json_array_get(c, 0)), true, &got, NULL), TL_OK);
    assert_int_equal(tl_segment_decode(golden_text(json_array_get(c, 1)), false, &want, NULL),
                     TL_OK);
    assert_int_equal(got.len, want.len);
    for (size_t k = 0; k < got.len; k++)
      if (got.data[k] != want.data[k])
        fail_msg("case %zu, character %zu: U+%04X, expected U+%04X", i, k, got.data[k],
                 want.data[k]);
    tl_ids_free(&got);
    tl_ids_free(&want);
  }
  json_decref(cases);
}

/* Worked by hand: "a b c d" against "a b c e": 3/4, 2/3, 1/2 and no match in one 4-gram: 1/2 of a
 * match. */
static void bleu_by_hand(void **state) {
  (void)state;
  tl_bleu_opts o = {0};
  tl_bleu_text hyp = text_of("a b c d"), ref = text_of("a b c e");
  tl_bleu_counts c;
  assert_int_equal(tl_bleu_count(&o, &hyp, &ref, 1, 1, &c, NULL), TL_OK);
  tl_bleu_score s = tl_bleu_score_of(&o, &c, NULL, 1);
  assert_true(fabs(s.score - 100 * pow(3. / 4 * 2 / 3 * 1 / 2 * 1 / 2, 0.25)) < 1e-10);
  assert_true(s.brevity_penalty == 1);
}

static void segments_resample(void **state) {
  (void)state;
  tl_bleu_opts o = {0};
  tl_chrf_opts co = {.words = 2};
  const tl_bleu_text hyp[] = {text_of("one two three four five"), text_of("six seven eight nine")};
  const tl_bleu_text ref[] = {text_of("one two four five six"), text_of("six seven eight nine")};
  const tl_bleu_text hyp2[] = {hyp[1], hyp[1], hyp[0]}, ref2[] = {ref[1], ref[1], ref[0]};
  const size_t index[] = {1, 1, 0};
  tl_bleu_counts c[2], c2[3];
  tl_chrf_counts f[2], f2[3];
  assert_int_equal(tl_bleu_count(&o, hyp, ref, 2, 1, c, NULL), TL_OK);
  assert_int_equal(tl_bleu_count(&o, hyp2, ref2, 3, 1, c2, NULL), TL_OK);
  double got = tl_bleu_score_of(&o, c, index, 3).score;
  assert_true(got > 0 && got < 100 && got == tl_bleu_score_of(&o, c2, NULL, 3).score);
  assert_int_equal(tl_chrf_count(&co, hyp, ref, 2, 1, f, NULL), TL_OK);
  assert_int_equal(tl_chrf_count(&co, hyp2, ref2, 3, 1, f2, NULL), TL_OK);
  got = tl_chrf_score_of(&co, f, index, 3);
  assert_true(got > 0 && got < 100 && got == tl_chrf_score_of(&co, f2, NULL, 3));
}

static double bleu_of(const size_t *index, size_t n, void *user) {
  const tl_bleu_opts o = {0};
  return tl_bleu_score_of(&o, user, index, n).score;
}

/* A system that gets one line in ten wrong against one that gets three wrong, on the same lines. */
static void paired_bootstrap_of_bleu(void **state) {
  (void)state;
  enum { N = 200 };
  tl_bleu_opts o = {0};
  tl_bleu_text ref[N], a[N], b[N];
  for (size_t i = 0; i < N; i++) {
    ref[i] = text_of("the farmer ploughs the field before the rain");
    a[i] = i % 10 < 1 ? text_of("the farmer sleeps before the rain") : ref[i];
    b[i] = i % 10 < 3 ? text_of("the farmer sleeps before the rain") : ref[i];
  }
  tl_bleu_counts ca[N], cb[N];
  assert_int_equal(tl_bleu_count(&o, a, ref, N, 1, ca, NULL), TL_OK);
  assert_int_equal(tl_bleu_count(&o, b, ref, N, 1, cb, NULL), TL_OK);
  tl_bootstrap_interval d, same;
  assert_int_equal(tl_bootstrap_paired(bleu_of, ca, cb, N, 1, 500, 0.95, &d, NULL), TL_OK);
  assert_true(d.value ==
              tl_bleu_score_of(&o, ca, NULL, N).score - tl_bleu_score_of(&o, cb, NULL, N).score);
  assert_true(d.low > 0 && d.low < d.value && d.value < d.high && d.n_defined == 500);
  assert_int_equal(tl_bootstrap_paired(bleu_of, ca, ca, N, 1, 50, 0.95, &same, NULL), TL_OK);
  assert_true(same.low == 0 && same.high == 0);
}

static void empty_and_bad_texts(void **state) {
  (void)state;
  tl_bleu_opts o = {0};
  tl_chrf_opts co = {0}, many = {.words = 3};
  const tl_bleu_text good = text_of("a b"), bad[] = {good, {"ok \xc3(", 5}}, nothing = {NULL, 0};
  const tl_bleu_text pair[] = {good, good};
  tl_bleu_counts c[2];
  tl_chrf_counts f[2];
  tl_err err = {0};
  assert_int_equal(tl_bleu_count(&o, bad, pair, 2, 1, c, &err), TL_DATA);
  assert_string_equal(err.msg, "segment 1: byte 3 of the text is not UTF-8");
  assert_int_equal(tl_chrf_count(&co, pair, bad, 2, 1, f, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "segment 1"));
  assert_int_equal(tl_bleu_count(&o, &good, NULL, 1, 0, c, NULL), TL_DATA);
  assert_int_equal(tl_chrf_count(&co, &good, NULL, 1, 0, f, NULL), TL_DATA);
  assert_int_equal(tl_chrf_count(&many, &good, &good, 1, 1, f, NULL), TL_USAGE);
  /* No segments, no text. */
  assert_int_equal(tl_bleu_count(&o, NULL, NULL, 0, 1, NULL, NULL), TL_OK);
  assert_true(tl_bleu_score_of(&o, NULL, NULL, 0).score == 0);
  assert_true(tl_chrf_score_of(&co, NULL, NULL, 0) == 0);
  assert_int_equal(tl_bleu_count(&o, &nothing, &good, 1, 1, c, NULL), TL_OK);
  assert_true(tl_bleu_score_of(&o, c, NULL, 1).score == 0);
  assert_int_equal(tl_chrf_count(&co, &nothing, &nothing, 1, 1, f, NULL), TL_OK);
  assert_true(tl_chrf_score_of(&co, f, NULL, 1) == 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(scores_as_sacrebleu),
      cmocka_unit_test(lower_case_as_python),
      cmocka_unit_test(bleu_by_hand),
      cmocka_unit_test(segments_resample),
      cmocka_unit_test(paired_bootstrap_of_bleu),
      cmocka_unit_test(empty_and_bad_texts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
