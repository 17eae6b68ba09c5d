/* Unit tests of src/transfer: the classifier, the study. */
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

#include "base/buf.h"
#include "base/file.h"
#include "base/rng.h"
#include "tilth/transfer.h"

enum { N_TRAIN = 240, N_TEST = 100 };

static char g_dir[64];
static tl_ctx *g_ctx;
static tl_tokenizer *g_tok;
static char *g_train, *g_test, *g_model;

/* --- a toy task: one word among others decides the label ------------------------------------- */

static void put_text(tl_buf *b, tl_rng *r, int label) {
  static const char *const filler[] = {"the", "a",   "cat",  "dog",  "sees", "runs", "small",
                                       "old", "and", "then", "here", "away", "tree", "house"};
  int n = 4 + (int)tl_rng_below(r, 5), at = (int)tl_rng_below(r, (uint64_t)n);
  for (int i = 0; i < n; i++) {
    const char *word = filler[tl_rng_below(r, sizeof filler / sizeof *filler)];
    tl_buf_printf(b, "%s%s", i ? " " : "", i == at ? (label ? "moon" : "sun") : word);
  }
}

static char *write_task(const char *name, int n, uint64_t seed) {
  tl_buf b = {0};
  tl_rng r = tl_rng_make(seed, TL_STREAM_TEST, 0, 0);
  for (int i = 0; i < n; i++) {
    int label = (int)tl_rng_below(&r, 2);
    tl_buf_puts(&b, label ? "night\t" : "day\t");
    put_text(&b, &r, label);
    tl_buf_putc(&b, '\n');
  }
  char *path = tl_path_join(g_dir, name);
  assert_int_equal(tl_file_write_atomic(path, b.data, b.len, NULL), TL_OK);
  tl_buf_free(&b);
  return path;
}

static tl_status next_text(void *user, const char **text, size_t *len, tl_err *err) {
  static char line[200];
  int *left = user;
  (void)err;
  *text = NULL;
  if ((*left)-- <= 0) return TL_OK;
  tl_buf b = {0};
  tl_rng r = tl_rng_make(11, TL_STREAM_TEST, 1, (uint64_t)*left << 20);
  put_text(&b, &r, *left % 2);
  snprintf(line, sizeof line, "%s", b.data);
  tl_buf_free(&b);
  *text = line;
  *len = strlen(line);
  return TL_OK;
}

static tl_model_config toy_config(void) {
  tl_model_config c = {.type = "encoder",
                       .dim = 32,
                       .layers = 1,
                       .heads = 2,
                       .ff = 64,
                       .vocab = 128,
                       .max_len = 16,
                       .tie = true};
  return c;
}

static int set_up(void **state) {
  (void)state;
  int left = 300;
  tl_model *m = NULL;
  tl_model_config c = toy_config();
  strcpy(g_dir, "/tmp/tl_transfer_XXXXXX");
  if (!mkdtemp(g_dir)) return -1;
  if (tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &g_ctx, NULL) != TL_OK) return -1;
  tl_tokenizer_train_options o = {.type = "wordpiece", .vocab_size = 60};
  tl_err err = {0};
  if (tl_tokenizer_train(g_ctx, &o, next_text, &left, &g_tok, &err) != TL_OK)
    return print_error("%s\n", err.msg), -1;
  g_train = write_task("train.tsv", N_TRAIN, 1);
  g_test = write_task("test.tsv", N_TEST, 2);
  g_model = tl_path_join(g_dir, "model");
  if (tl_model_new(&c, 5, false, &m, NULL) != TL_OK) return -1;
  int rc = tl_model_save(m, g_tok, g_model, NULL) == TL_OK ? 0 : -1;
  tl_model_free(m);
  return rc;
}

static int tear_down(void **state) {
  (void)state;
  tl_tokenizer_free(g_tok);
  tl_ctx_free(g_ctx);
  free(g_train);
  free(g_test);
  free(g_model);
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

static tl_task_data read_task(const char *path, const tl_labels *labels) {
  tl_task_data d;
  tl_err err = {0};
  if (tl_task_read(path, &(tl_task_options){.labels = labels}, &d, &err) != TL_OK)
    fail_msg("%s", err.msg);
  return d;
}

/* --- the classifier -------------------------------------------------------------------------- */

static tl_finetune_options toy_options(void) {
  tl_finetune_options o = tl_finetune_defaults();
  o.lr = 5e-3;
  o.batch = 16;
  o.epochs = 6;
  o.max_len = 16;
  return o;
}

typedef struct losses {
  int64_t calls;
  double first, last;
} losses;

static void note_loss(void *user, int64_t step, int64_t steps, double loss) {
  losses *l = user;
  assert_int_equal(step, ++l->calls);
  assert_true(step <= steps);
  if (step == 1) l->first = loss;
  l->last = loss;
}

/* Trains on the toy task; fills label and prob of its test texts and returns the accuracy. */
static double train_toy(tl_ctx *ctx, const char *from, uint64_t seed, int32_t *label, float *prob,
                        losses *l) {
  tl_err err = {0};
  tl_classifier *c = NULL;
  tl_finetune_options o = toy_options();
  tl_model_config mc = toy_config();
  o.seed = seed;
  tl_task_data train = read_task(g_train, NULL), test = read_task(g_test, &train.labels);
  if (tl_classifier_new(ctx, from, &mc, g_tok, train.labels.n, &o, &c, &err) != TL_OK ||
      tl_classifier_train(c, &train, NULL, train.n, note_loss, l, &err) != TL_OK ||
      tl_classifier_predict(c, test.text, NULL, test.n, label, prob, &err) != TL_OK)
    fail_msg("%s", err.msg);
  assert_true(tl_classifier_flops(c) > 0);
  int hit = 0;
  for (size_t i = 0; i < test.n; i++) hit += label[i] == test.label[i];

  /* Another order of the texts gives the same answers. */
  int32_t again[N_TEST];
  size_t index[N_TEST];
  for (size_t i = 0; i < test.n; i++) index[i] = test.n - 1 - i;
  assert_int_equal(tl_classifier_predict(c, test.text, index, test.n, again, NULL, NULL), TL_OK);
  for (size_t i = 0; i < test.n; i++) assert_int_equal(again[i], label[test.n - 1 - i]);
  tl_classifier_free(c);
  tl_task_data_free(&train);
  tl_task_data_free(&test);
  return (double)hit / N_TEST;
}

static void classifier_learns_one_word(void **state) {
  (void)state;
  int32_t a[N_TEST], b[N_TEST];
  float pa[N_TEST], pb[N_TEST];
  losses l = {0}, again = {0};
  double accuracy = train_toy(g_ctx, NULL, 1, a, pa, &l);
  if (accuracy <= 0.95) fail_msg("accuracy %g", accuracy);
  assert_int_equal(l.calls, 6 * N_TRAIN / 16);
  assert_true(l.last < 0.5 * l.first);
  for (int i = 0; i < N_TEST; i++) assert_true(pa[i] >= 0.5 && pa[i] <= 1.001f);

  tl_ctx *one = NULL; /* the same bits on another number of threads */
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 1}, &one, NULL), TL_OK);
  train_toy(one, NULL, 1, b, pb, &again);
  tl_ctx_free(one);
  assert_memory_equal(a, b, sizeof a);
  assert_memory_equal(pa, pb, sizeof pa);
  assert_true(l.last == again.last);

  again = (losses){0};
  train_toy(g_ctx, NULL, 2, b, pb, &again);
  assert_memory_not_equal(pa, pb, sizeof pa);
}

static void classifier_starts_from_a_model(void **state) {
  (void)state;
  int32_t label[N_TEST];
  float prob[N_TEST];
  losses l = {0};
  assert_true(train_toy(g_ctx, g_model, 1, label, prob, &l) > 0.95);
  tl_classifier *c = NULL;
  tl_err err = {0};
  tl_finetune_options o = toy_options();
  tl_model_config small = toy_config();
  small.vocab = 10;
  assert_int_equal(tl_classifier_new(g_ctx, NULL, &small, g_tok, 2, &o, &c, &err), TL_CONFIG);
  assert_int_equal(tl_classifier_new(g_ctx, g_dir, NULL, g_tok, 2, &o, &c, &err), TL_NOINPUT);
  assert_null(c);
}

static void divergence_is_said(void **state) {
  (void)state;
  tl_task_data train = read_task(g_train, NULL);
  tl_classifier *c = NULL;
  tl_err err = {0};
  tl_finetune_options o = toy_options();
  tl_model_config mc = toy_config();
  o.lr = 1e30;
  assert_int_equal(tl_classifier_new(g_ctx, NULL, &mc, g_tok, 2, &o, &c, NULL), TL_OK);
  assert_int_equal(tl_classifier_train(c, &train, NULL, train.n, NULL, NULL, &err), TL_DIVERGED);
  assert_non_null(strstr(err.msg, "learning rate"));
  assert_int_equal(tl_classifier_train(c, &train, NULL, 0, NULL, NULL, &err), TL_DATA);
  tl_classifier_free(c);
  tl_task_data_free(&train);
}

/* --- the study ------------------------------------------------------------------------------- */

static const int64_t g_labels[] = {8, 24};
static const double g_lrs[] = {1e-3, 1.0 / 300};

static tl_study_options study_options(const char *out) {
  tl_study_options o = {.from = g_model,
                        .train = g_train,
                        .test = g_test,
                        .title = "Toy",
                        .out_json = out,
                        .labels = g_labels,
                        .n_labels = 2,
                        .n_seeds = 2,
                        .lrs = g_lrs,
                        .n_lrs = 2,
                        .max_test = 50,
                        .tune = toy_options()};
  o.tune.epochs = 2;
  o.tune.min_steps = 8;
  return o;
}

static void count_lines(void *user, const char *line, bool result) {
  assert_true(*line);
  if (!result) ++*(int *)user;
}

static json_t *load_json(const char *path) {
  json_t *j = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
  assert_non_null(j);
  return j;
}

static json_t *cells_of(json_t *j) {
  json_t *cells = json_object_get(json_object_get(j, "progress"), "cells");
  assert_true(json_is_object(cells));
  return cells;
}

static double accuracy_of(json_t *j, const char *key) {
  json_t *v = json_object_get(json_object_get(cells_of(j), key), "accuracy");
  assert_true(json_is_real(v));
  return json_real_value(v);
}

static void assert_same_cells(json_t *a, json_t *b) {
  const char *key;
  json_t *cell;
  assert_int_equal(json_object_size(cells_of(a)), json_object_size(cells_of(b)));
  json_object_foreach(cells_of(a), key, cell) {
    assert_true(accuracy_of(a, key) == accuracy_of(b, key));
  }
  json_t *x = json_object_get(json_object_get(a, "study"), "arms");
  assert_true(json_is_array(x));
  assert_true(json_equal(x, json_object_get(json_object_get(b, "study"), "arms")));
}

static void study(tl_ctx *ctx, const tl_study_options *o, int *lines) {
  tl_err err = {0};
  *lines = 0;
  if (tl_label_study(ctx, o, count_lines, lines, &err) != TL_OK) fail_msg("%s", err.msg);
}

static int g_asked;
static int stop_in_the_middle(void *user) {
  (void)user;
  return ++g_asked > 70;
}

static void study_goes_on_where_it_stopped(void **state) {
  (void)state;
  int lines = 0;
  char *out = tl_path_join(g_dir, "study.json"), *cut = tl_path_join(g_dir, "cut.json");
  tl_study_options o = study_options(out);
  study(g_ctx, &o, &lines);
  json_t *whole = load_json(out);
  assert_int_equal(json_object_size(cells_of(whole)), 3 * 2 * 2);
  assert_string_equal(json_string_value(json_object_get(whole, "title")), "Toy");
  assert_int_equal(
      json_integer_value(json_object_get(json_object_get(whole, "study"), "test_size")), 50);
  assert_int_equal(lines, 3 * 2 * 2);

  /* One cell lost: it alone is computed again, to the same value. */
  json_t *j = json_deep_copy(whole);
  assert_int_equal(json_object_del(cells_of(j), "scratch/24/2"), 0);
  assert_int_equal(json_dump_file(j, out, 0), 0);
  json_decref(j);
  study(g_ctx, &o, &lines);
  assert_int_equal(lines, 2); /* "going on with", and the cell */
  j = load_json(out);
  assert_same_cells(whole, j);
  json_decref(j);

  /* Stopped by request in the middle. */
  tl_ctx *ctx = NULL;
  tl_err err = {0};
  assert_int_equal(
      tl_ctx_new(&(tl_ctx_options){.n_threads = 1, .cancel = stop_in_the_middle}, &ctx, NULL),
      TL_OK);
  tl_study_options p = study_options(cut);
  assert_int_equal(tl_label_study(ctx, &p, NULL, NULL, &err), TL_PREEMPTED);
  tl_ctx_free(ctx);
  j = load_json(cut);
  assert_in_range(json_object_size(cells_of(j)), 1, 3 * 2 * 2 - 1);
  json_decref(j);
  study(g_ctx, &p, &lines);
  j = load_json(cut);
  assert_same_cells(whole, j);
  json_decref(j);
  json_decref(whole);
  free(out);
  free(cut);
}

static void other_settings_are_refused(void **state) {
  (void)state;
  int lines = 0;
  tl_err err = {0};
  char *out = tl_path_join(g_dir, "settings.json");
  tl_study_options o = study_options(out);
  o.n_labels = o.n_seeds = 1;
  study(g_ctx, &o, &lines);
  o.n_seeds = 2; /* more seeds join the ones that are there */
  study(g_ctx, &o, &lines);
  assert_int_equal(lines, 1 + 3);
  o.tune.epochs = 3;
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_CREATE);
  assert_non_null(strstr(err.msg, out));
  o.tune.epochs = 2;
  o.max_test = 49;
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_CREATE);
  o.max_test = 50;
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_OK);
  o.tune.dropout = 0.3;
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_CREATE);
  o.tune.dropout = 0.1;
  free(write_task("test.tsv", N_TEST, 3)); /* other texts in the same file */
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_CREATE);
  free(write_task("test.tsv", N_TEST, 2));
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_OK);
  assert_int_equal(tl_file_write_atomic(out, "[1, 2", 5, NULL), TL_OK);
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_CREATE);
  assert_int_equal(unlink(out), 0);
  o.labels = (const int64_t[]){N_TRAIN};
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_DATA);
  assert_false(tl_file_exists(out));
  free(out);
}

static void pairs_are_refused(void **state) {
  (void)state;
  tl_err err = {0};
  char *path = tl_path_join(g_dir, "pairs.csv");
  const char text[] = "premise,hypothesis,label\na,b,day\nc,d,night\n";
  assert_int_equal(tl_file_write_atomic(path, text, sizeof text - 1, NULL), TL_OK);
  tl_study_options o = study_options("/nonexistent/out.json");
  o.train = path;
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "pairs.csv: pairs"));
  free(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(classifier_learns_one_word),
      cmocka_unit_test(classifier_starts_from_a_model),
      cmocka_unit_test(divergence_is_said),
      cmocka_unit_test(study_goes_on_where_it_stopped),
      cmocka_unit_test(other_settings_are_refused),
      cmocka_unit_test(pairs_are_refused),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
