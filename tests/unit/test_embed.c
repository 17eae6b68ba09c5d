/* Unit tests of sentence embeddings: their data, the vectors, search, scores. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <math.h>

#include "base/buf.h"
#include "base/file.h"
#include "tilth/npy.h"
#include "transfer/embed.h"

enum { DIM = 16 };

static char g_dir[64], g_model[96];
static tl_ctx *g_ctx;
static tl_tokenizer *g_tok;

static tl_model_config small(const char *arch) {
  tl_model_config c = {.dim = DIM,
                       .layers = 2,
                       .heads = 2,
                       .ff = 32,
                       .vocab = 320,
                       .max_len = 64,
                       .tie = true,
                       .init_std = 0.2};
  snprintf(c.type, sizeof c.type, "%s", arch);
  return c;
}

static int set_up(void **state) {
  (void)state;
  tl_model *m = NULL;
  tl_model_config c = small("encoder");
  snprintf(g_dir, sizeof g_dir, "/tmp/tilth-embed-%d", (int)getpid());
  snprintf(g_model, sizeof g_model, "%s/model", g_dir);
  assert_int_equal(tl_mkdirs(g_dir, NULL), TL_OK);
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &g_ctx, NULL), TL_OK);
  assert_int_equal(tl_tokenizer_open(g_ctx, "bytes", &g_tok, NULL), TL_OK);
  assert_int_equal(tl_model_new(&c, 7, false, &m, NULL), TL_OK);
  assert_int_equal(tl_model_save(m, g_tok, g_model, NULL), TL_OK);
  tl_model_free(m);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  tl_tokenizer_free(g_tok);
  tl_ctx_free(g_ctx);
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

static tl_status read_text(const char *name, const char *content, tl_task_kind kind,
                           tl_task_data *d, tl_err *err) {
  char *path = tl_path_join(g_dir, name);
  assert_int_equal(tl_file_write_atomic(path, content, strlen(content), NULL), TL_OK);
  tl_status s = tl_task_read(path, &(tl_task_options){.kind = kind}, d, err);
  free(path);
  return s;
}

static void texts_are_read(void **state) {
  (void)state;
  tl_task_data d;
  tl_err err = {0};
  assert_int_equal(read_text("a.txt", "one two\n\nthree\tfour\n", TL_TASK_TEXTS, &d, &err), TL_OK);
  assert_int_equal(d.n, 2);
  assert_string_equal(d.text[1], "three\tfour");
  assert_null(d.text_b);
  assert_int_equal(d.line[1], 3);
  tl_task_data_free(&d);
  static const struct {
    const char *name, *content;
  } triples[] = {{"a.tsv", "a b\tc\td e f\ng\th i\tj\n"},
                 {"a.csv", "hard_neg,sent1,sent0\nd e f,c,a b\n\"j\",\"h i\",g\n"},
                 {"a.jsonl", "{\"anchor\":\"a b\",\"negative\":\"d e f\",\"positive\":\"c\"}\n"
                             "{\"anchor\":\"g\",\"positive\":\"h i\",\"negative\":\"j\"}\n"}};
  for (size_t i = 0; i < 3; i++) {
    if (read_text(triples[i].name, triples[i].content, TL_TASK_TEXTS, &d, &err) != TL_OK)
      fail_msg("%s", err.msg);
    assert_int_equal(d.n, 2);
    assert_string_equal(d.text[0], "a b");
    assert_string_equal(d.text_b[0], "c");
    assert_string_equal(d.text_c[0], "d e f");
    assert_string_equal(d.text_b[1], "h i");
    assert_string_equal(d.text_c[1], "j");
    tl_task_data_free(&d);
  }
  assert_int_equal(read_text("b.tsv", "a\tb\nc\t \n", TL_TASK_TEXTS, &d, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "b.tsv:2: the second text is empty"));
  assert_int_equal(read_text("c.tsv", "a\tb\tc\td\n", TL_TASK_TEXTS, &d, &err), TL_CONFIG);
  const char *stsb = "main-news\tX\t2012\t0001\t4.5\tA b.\tC d.\nmain-news\tX\t2012\t2\t0\te\tf\n";
  assert_int_equal(read_text("s.tsv", stsb, TL_TASK_VALUE, &d, &err), TL_OK);
  assert_string_equal(d.text[0], "A b.");
  assert_string_equal(d.text_b[1], "f");
  assert_true(d.value[0] == 4.5);
  tl_task_data_free(&d);
}

static tl_embedder *open_embedder(const char *pool, bool raw) {
  tl_embedder *e = NULL;
  tl_err err = {0};
  tl_embed_options o = {.pool = pool, .dtype = "f32", .raw = raw};
  if (tl_embedder_open(g_ctx, g_model, &o, &e, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(tl_embedder_dim(e), DIM);
  return e;
}

/* A text has the same vector alone and among others; lengths are 1; poolings differ; the mean of a
 * one-row text is its first and its last row. */
static void vectors(void **state) {
  (void)state;
  const char *text[] = {"a man plays", "x", "the moon is far away tonight"};
  float all[3 * DIM], one[DIM], raw[3 * DIM], first[DIM];
  tl_embedder *e = open_embedder(NULL, false), *r = open_embedder("mean", true);
  tl_embedder *f = open_embedder("first", false);
  assert_int_equal(tl_embedder_run(e, text, 3, all, NULL), TL_OK);
  assert_int_equal(tl_embedder_run(r, text, 3, raw, NULL), TL_OK);
  assert_int_equal(tl_embedder_run(f, text, 1, first, NULL), TL_OK);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(tl_embedder_run(e, text + i, 1, one, NULL), TL_OK);
    double square = 0, length = 0;
    for (int c = 0; c < DIM; c++) {
      assert_true(one[c] == all[i * DIM + c]);
      square += (double)one[c] * (double)one[c];
      length += (double)raw[i * DIM + c] * (double)raw[i * DIM + c];
    }
    assert_true(fabs(square - 1) < 1e-6);
    for (int c = 0; c < DIM; c++)
      assert_true(fabs((double)raw[i * DIM + c] / sqrt(length) - (double)one[c]) < 1e-6);
  }
  double differ = 0;
  for (int c = 0; c < DIM; c++) differ += fabs((double)(first[c] - all[c]));
  assert_true(differ > 0.1);
  tl_embedder_free(e);
  tl_embedder_free(r);
  tl_embedder_free(f);
}

static void bad_options(void **state) {
  (void)state;
  tl_embedder *e = NULL;
  tl_err err = {0};
  assert_int_equal(tl_embedder_open(g_ctx, g_model, &(tl_embed_options){.pool = "max"}, &e, &err),
                   TL_CONFIG);
  assert_int_equal(tl_embedder_open(g_ctx, g_model, &(tl_embed_options){.max_len = 4}, &e, &err),
                   TL_CONFIG);
  assert_int_equal(tl_embedder_open(g_ctx, "/nowhere", &(tl_embed_options){0}, &e, &err),
                   TL_NOINPUT);
  tl_model_config c = small("encdec");
  tl_model *m = NULL;
  tl_embed_graph g;
  assert_int_equal(tl_model_new(&c, 1, false, &m, NULL), TL_OK);
  assert_int_equal(tl_embed_graph_new(g_ctx, m, TL_F32, 64, 4, &g, &err), TL_CONFIG);
  tl_model_free(m);
}

static void nearest(void **state) {
  (void)state;
  const float base[] = {1, 0, 0, 2, -3, 0, 0, 0, 3, 3, 5, 0}, query[] = {2, 0};
  tl_neighbour found[9];
  assert_int_equal(tl_nearest(base, 6, 2, query, 9, found), 6);
  const size_t order[] = {0, 5, 4, 1, 3, 2};
  for (int i = 0; i < 6; i++) assert_int_equal(found[i].index, order[i]);
  assert_true(fabs(found[2].cosine - sqrt(0.5)) < 1e-12);
  assert_true(found[5].cosine == -1 && found[4].cosine == 0);
  assert_int_equal(tl_nearest(base, 6, 2, query, 2, found), 2);
  assert_int_equal(found[1].index, 5);
  assert_int_equal(tl_nearest(base, 0, 2, query, 2, found), 0);
}

/* Two pairs at right angles, one equal, one opposite: all by hand. */
static void scores(void **state) {
  (void)state;
  const float a[] = {1, 0, 0, 1, 1, 0, 0, 1}, b[] = {0, 1, 0, 1, -1, 0, 1, 0};
  const double value[] = {1, 5, 0, 1};
  tl_scores s;
  assert_int_equal(tl_sts_scores(a, b, 4, 2, value, true, 1, &s, NULL), TL_OK);
  assert_true(fabs(tl_scores_find(&s, "spearman") - 1) < 1e-12);
  assert_true(tl_scores_find(&s, "pearson") < 1 && tl_scores_find(&s, "pearson") > 0.8);
  assert_true(tl_scores_find(&s, "alignment") == 0); /* the one alike pair is equal */
  double want = log((2 * 1 + 4 * exp(-4)) / 6);
  assert_true(fabs(tl_scores_find(&s, "uniformity") - want) < 1e-9);
  assert_true(fabs(tl_alignment(a, b, 4, 2) - (2 + 0 + 4 + 2) / 4.0) < 1e-9);
  assert_true(s.score[0].lo <= 1 && s.score[0].hi >= s.score[0].lo);
  assert_true(isnan(tl_uniformity(a, 1, 2)) && isnan(tl_alignment(a, b, 0, 2)));
}

static void npy(void **state) {
  (void)state;
  const float x[] = {1, 2, 3, 4, 5, 6};
  char *path = tl_path_join(g_dir, "x.npy");
  tl_buf b = {0};
  assert_int_equal(tl_npy_write(path, x, 2, 3, NULL), TL_OK);
  assert_int_equal(tl_file_read(path, 1 << 20, &b, NULL), TL_OK);
  assert_int_equal(b.len, 128 + sizeof x);
  assert_memory_equal(b.data, "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', ", 26);
  assert_non_null(strstr(b.data + 10, "'fortran_order': False, 'shape': (2, 3), }"));
  assert_int_equal(b.data[127], '\n');
  assert_memory_equal(b.data + 128, x, sizeof x);
  assert_int_equal(tl_npy_write("/nowhere/x.npy", x, 2, 3, NULL), TL_NOINPUT);
  tl_buf_free(&b);
  free(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(texts_are_read), cmocka_unit_test(vectors), cmocka_unit_test(bad_options),
      cmocka_unit_test(nearest),        cmocka_unit_test(scores),  cmocka_unit_test(npy),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
