/* Unit tests of the label study: any task, going on, settings. */
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
#include "tilth/model.h"
#include "tilth/report.h"
#include "tilth/tokenizer.h"
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

/* --- the study ------------------------------------------------------------------------------- */

static const double g_labels[] = {8, 0.1}; /* of 240: 24 */
static const double g_lrs[] = {1e-3, 1.0 / 300};
static tl_config *g_cfg;

static void set(const char *key, const char *value) {
  tl_err err = {0};
  if (tl_config_set(g_cfg, key, value, TL_CONFIG_FLAG, "test", &err) != TL_OK)
    fail_msg("%s", err.msg);
}

static void set_all(const char *const *pairs) {
  for (; *pairs; pairs += 2) set(pairs[0], pairs[1]);
}

static int new_config(void **state) {
  (void)state;
  const char *const settings[] = {"task.from",
                                  g_model,
                                  "task.train",
                                  g_train,
                                  "task.test",
                                  g_test,
                                  "train.batch",
                                  "16",
                                  "task.epochs",
                                  "2",
                                  "task.min_steps",
                                  "8",
                                  "task.max_len",
                                  "16",
                                  "optim.warmup_fraction",
                                  "0.1",
                                  "guard.policy",
                                  "skip",
                                  NULL};
  if (tl_config_new(&g_cfg, NULL) != TL_OK) return -1;
  set_all(settings);
  return 0;
}

static int free_config(void **state) {
  (void)state;
  tl_config_free(g_cfg);
  return 0;
}

static tl_study_options study_options(const char *out) {
  return (tl_study_options){.config = g_cfg,
                            .title = "Toy",
                            .out_json = out,
                            .labels = g_labels,
                            .n_labels = 2,
                            .n_seeds = 2,
                            .lrs = g_lrs,
                            .n_lrs = 2,
                            .arms = TL_STUDY_PRETRAINED | TL_STUDY_SCRATCH | TL_STUDY_BAYES,
                            .max_test = 50};
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

static double value_of(json_t *j, const char *key) {
  json_t *v = json_object_get(json_object_get(cells_of(j), key), "value");
  assert_true(json_is_real(v));
  return json_real_value(v);
}

static void assert_same_cells(json_t *a, json_t *b) {
  const char *key;
  json_t *cell;
  assert_int_equal(json_object_size(cells_of(a)), json_object_size(cells_of(b)));
  json_object_foreach(cells_of(a), key, cell) {
    assert_true(value_of(a, key) == value_of(b, key));
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
  assert_int_equal(lines, 3 * 2 * 2 + 2 * 2 * 2); /* cells, and rates that were tried */
  json_t *arms = json_object_get(json_object_get(whole, "study"), "arms");
  assert_int_equal(json_array_size(arms), 3);
  assert_string_equal(json_string_value(json_object_get(json_array_get(arms, 0), "role")),
                      "pretrained");
  assert_true(json_is_array(json_object_get(json_object_get(whole, "details"), "calibration")));
  assert_true(json_array_size(json_object_get(whole, "predictions")) > 2);

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
  o.n_labels = o.n_seeds = o.n_lrs = 1;
  study(g_ctx, &o, &lines);
  o.n_seeds = 2; /* more seeds join the ones that are there */
  study(g_ctx, &o, &lines);
  assert_int_equal(lines, 1 + 3);
  o.arms |= TL_STUDY_FROZEN; /* and more arms */
  study(g_ctx, &o, &lines);
  assert_int_equal(lines, 1 + 2);
  set("task.dropout", "0.3");
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_CREATE);
  assert_non_null(strstr(err.msg, out));
  set("task.dropout", "0.1");
  o.max_test = 49;
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_CREATE);
  assert_non_null(strstr(err.msg, "test_size"));
  o.max_test = 50;
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_OK);
  free(write_task("test.tsv", N_TEST, 3)); /* other texts in the same file */
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_CREATE);
  free(write_task("test.tsv", N_TEST, 2));
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_OK);
  assert_int_equal(tl_file_write_atomic(out, "[1, 2", 5, NULL), TL_OK);
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_CREATE);
  o.n_labels = 0;
  assert_int_equal(tl_label_study(g_ctx, &o, NULL, NULL, &err), TL_USAGE);
  free(out);
}

/* All labels: some of the records must choose the rate; a network that learns one word. */
static void all_labels_are_enough(void **state) {
  (void)state;
  int lines = 0;
  char *out = tl_path_join(g_dir, "all.json"), *page = tl_path_join(g_dir, "all.html");
  tl_study_options o = study_options(out);
  const double all[] = {0}, lrs[] = {1e-4, 5e-3};
  o.labels = all;
  o.n_labels = o.n_seeds = 1;
  o.lrs = lrs;
  o.max_test = 0;
  o.arms = TL_STUDY_PRETRAINED | TL_STUDY_SCRATCH | TL_STUDY_FROZEN | TL_STUDY_FROZEN_LORA;
  set("task.epochs", "6");
  study(g_ctx, &o, &lines);
  json_t *j = load_json(out);
  assert_true(value_of(j, "scratch/240/1") > 0.95);
  assert_true(value_of(j, "pretrained/240/1") > 0.95);
  assert_true(value_of(j, "frozen/240/1") < value_of(j, "scratch/240/1"));
  json_t *cell = json_object_get(cells_of(j), "frozen/240/1");
  assert_int_equal(json_integer_value(json_object_get(cell, "trained")), 2 * 32 + 2);
  assert_true(json_number_value(json_object_get(cell, "flops")) > 0);
  assert_true(json_number_value(json_object_get(json_object_get(cells_of(j), "frozen-lora/240/1"),
                                                "trained")) > 2 * 32 + 2);
  const json_t *rates = json_object_get(json_object_get(j, "progress"), "rates");
  assert_non_null(json_object_get(rates, "scratch/192"));
  json_decref(j);
  tl_err err = {0};
  if (tl_report_write(out, page, &err) != TL_OK) fail_msg("%s", err.msg);
  tl_buf b = {0};
  assert_int_equal(tl_file_read(page, 1 << 20, &b, NULL), TL_OK);
  assert_non_null(strstr(b.data, "Which classes it takes for each other"));
  assert_non_null(strstr(b.data, "Expected calibration error"));
  tl_buf_free(&b);
  free(out);
  free(page);
}

static json_t *rate_of(json_t *doc, const char *key, const char *lr) {
  const json_t *rates = json_object_get(json_object_get(doc, "progress"), "rates");
  return json_object_get(json_object_get(json_object_get(rates, key), "tried"), lr);
}

static char *page_of(const char *json) {
  char *page = tl_path_join(g_dir, "page.html");
  tl_err err = {0};
  tl_buf b = {0};
  if (tl_report_write(json, page, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(tl_file_read(page, 1 << 20, &b, NULL), TL_OK);
  free(page);
  return b.data;
}

/* Weights grow at each step by the learning rate. */
static void diverge_above_one(void) {
  set("task.min_steps", "30");
  set("optim.weight_decay", "1");
  set("guard.max_consecutive", "2");
}

/* The best rate diverges in the second seed: the next best takes its place, for this seed. */
static void a_rate_that_diverges_gives_way(void **state) {
  (void)state;
  int lines = 0;
  char *out = tl_path_join(g_dir, "diverged.json");
  tl_study_options o = study_options(out);
  const double lrs[] = {1e-3, 2e-3, 100};
  diverge_above_one();
  o.lrs = lrs;
  o.n_lrs = 3;
  o.n_labels = 1;
  o.arms = TL_STUDY_PRETRAINED | TL_STUDY_SCRATCH;
  study(g_ctx, &o, &lines);
  json_t *doc = load_json(out);
  assert_string_equal(json_string_value(rate_of(doc, "scratch/8", "100")), "diverged");
  assert_int_equal(json_array_size(json_object_get(json_object_get(doc, "study"), "diverged")), 0);

  json_t *tried =
      json_object_get(json_object_get(json_object_get(doc, "progress"), "rates"), "scratch/8");
  tried = json_object_get(tried, "tried");
  json_object_set_new(tried, "100", json_real(3));
  json_object_set_new(tried, "0.002", json_real(2));
  json_object_set_new(tried, "0.001", json_real(1));
  assert_int_equal(json_object_del(cells_of(doc), "scratch/8/2"), 0);
  assert_int_equal(json_dump_file(doc, out, 0), 0);
  json_decref(doc);
  study(g_ctx, &o, &lines);
  assert_int_equal(lines, 3); /* "going on with", what diverged, the cell */
  doc = load_json(out);
  const json_t *cell = json_object_get(cells_of(doc), "scratch/8/2");
  const json_t *failed = json_object_get(cell, "diverged");
  assert_true(json_number_value(json_object_get(cell, "lr")) == 2e-3);
  assert_true(value_of(doc, "scratch/8/2") > 0);
  assert_int_equal(json_array_size(failed), 1);
  assert_true(json_number_value(json_array_get(failed, 0)) == 100);
  json_decref(doc);
  char *page = page_of(out);
  assert_non_null(strstr(page, "same network from random weights, 8 labels, seed 2: diverged with "
                               "learning rate 100, trained with 0.002"));
  free(page);
  free(out);
}

/* No rate is left: the study has the seeds that it has. */
static void a_seed_without_a_value_is_left_out(void **state) {
  (void)state;
  int lines = 0;
  char *out = tl_path_join(g_dir, "no-value.json");
  tl_study_options o = study_options(out);
  const double wild[] = {100};
  diverge_above_one();
  o.lrs = wild;
  o.n_lrs = o.n_labels = 1;
  o.n_seeds = 3;
  o.arms = TL_STUDY_PRETRAINED | TL_STUDY_SCRATCH;
  study(g_ctx, &o, &lines);
  json_t *doc = load_json(out);
  assert_true(
      json_is_null(json_object_get(json_object_get(cells_of(doc), "scratch/8/2"), "value")));
  /* Pretend that two of the trainings went well: one seed is a pair. */
  json_object_set_new(json_object_get(cells_of(doc), "pretrained/8/1"), "value", json_real(0.5));
  json_object_set_new(json_object_get(cells_of(doc), "pretrained/8/2"), "value", json_real(0.75));
  json_object_set_new(json_object_get(cells_of(doc), "scratch/8/2"), "value", json_real(0.25));
  json_object_set_new(json_object_get(cells_of(doc), "scratch/8/3"), "value", json_real(0.5));
  assert_int_equal(json_dump_file(doc, out, 0), 0);
  json_decref(doc);
  study(g_ctx, &o, &lines);
  char *page = page_of(out);
  assert_non_null(strstr(page, "+50.0 points")); /* of seed 2 alone */
  assert_non_null(strstr(page, "no interval: too few paired seeds"));
  assert_non_null(strstr(page, "none is left, and this seed has no value"));
  assert_null(strstr(page, "nan"));
  free(page);
  free(out);
}

typedef struct task_case {
  const char *type, *file, *line[2], *metric;
  bool bayes;
} task_case;

static char *write_lines(const char *name, const char *const line[2]) {
  tl_buf b = {0};
  for (int i = 0; i < 40; i++) tl_buf_puts(&b, line[i % 2]);
  char *path = tl_path_join(g_dir, name);
  assert_int_equal(tl_file_write_atomic(path, b.data, b.len, NULL), TL_OK);
  tl_buf_free(&b);
  return path;
}

static void every_task_has_a_study(void **state) {
  (void)state;
  static const task_case cases[] = {
      {"multilabel", "m.tsv", {"a,b\tthe sun\n", "\tthe moon\n"}, "f1_micro", true},
      {"regression", "v.tsv", {"0.5\tthe sun\n", "2\tthe moon\n"}, "spearman", false},
      {"tokens", "t.conll", {"the O\nsun B-S\n\n", "old O\nmoon B-M\n\n"}, "entity_f1", false},
      {"classify", "p.csv", {"day,\"the sun\"\n", "night,\"the moon\"\n"}, "accuracy", true},
  };
  const double half[] = {0.5}, lrs[] = {3e-3};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const task_case *c = &cases[i];
    int lines = 0;
    char *data = write_lines(c->file, c->line), *out = tl_path_join(g_dir, "task.json");
    char *page = tl_path_join(g_dir, "task.html");
    tl_err err = {0};
    const char *const settings[] = {"task.type", c->type,          "task.train", data, "task.test",
                                    data,        "task.min_steps", "30",         NULL};
    set_all(settings);
    tl_study_options o = study_options(out);
    o.labels = half;
    o.lrs = lrs;
    o.n_labels = o.n_lrs = o.n_seeds = 1;
    study(g_ctx, &o, &lines);
    json_t *j = load_json(out);
    assert_true(value_of(j, "pretrained/20/1") > 0.7);
    const json_t *metric = json_object_get(json_object_get(j, "study"), "metric");
    assert_string_equal(json_string_value(json_object_get(metric, "name")), c->metric);
    assert_true(json_array_size(json_object_get(j, "predictions")) > 0);
    assert_int_equal(json_object_get(cells_of(j), "bayes/20/1") != NULL, c->bayes);
    if (c->bayes) assert_true(value_of(j, "bayes/20/1") == 1);
    json_decref(j);
    if (tl_report_write(out, page, &err) != TL_OK) fail_msg("%s", err.msg);
    assert_int_equal(unlink(out), 0);
    free(data);
    free(out);
    free(page);
  }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, new_config, free_config)
  const struct CMUnitTest tests[] = {
      TEST(study_goes_on_where_it_stopped), TEST(other_settings_are_refused),
      TEST(all_labels_are_enough),          TEST(every_task_has_a_study),
      TEST(a_rate_that_diverges_gives_way), TEST(a_seed_without_a_value_is_left_out),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
