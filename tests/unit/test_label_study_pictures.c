/* The label study of pictures: the arms, going on, what the page shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "tilth/model.h"
#include "tilth/transfer.h"
#include "toy_pictures.h"

enum { TRAIN = 120, TEST = 40 };

static char g_dir[64] = "/tmp/tilth-study-XXXXXX";
static char g_train[TOY_PATH], g_test[TOY_PATH], *g_model, *g_out;
static tl_ctx *g_ctx;
static tl_config *g_cfg;

static void set(const char *key, const char *value) {
  tl_err err = {TL_OK, ""};
  if (tl_config_set(g_cfg, key, value, TL_CONFIG_FLAG, "test", &err) != TL_OK)
    fail_msg("%s", err.msg);
}

static void configure(void) {
  const char *const settings[][2] = {
      {"task.type", "image_classify"},
      {"task.from", g_model},
      {"task.train", g_train},
      {"task.test", g_test},
      {"train.batch", "8"},
      {"task.epochs", "14"},
      {"task.min_steps", "40"},
      {"task.dropout", "0"},
      {"image.crop", "pad"},
      {"image.pad", "1"},
      {"guard.policy", "skip"},
  };
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
    set(settings[i][0], settings[i][1]);
}

static int set_up(void **state) {
  (void)state;
  tl_model *m = NULL;
  tl_model_config c = {.type = "vit",
                       .dim = 16,
                       .layers = 1,
                       .heads = 2,
                       .ff = 32,
                       .image_size = TOY_SIDE,
                       .patch = 4,
                       .channels = 1};
  if (!mkdtemp(g_dir)) return -1;
  toy_pictures(g_dir, "train", TRAIN, 1, g_train);
  toy_pictures(g_dir, "test", TEST, 2, g_test);
  g_model = tl_path_join(g_dir, "model");
  g_out = tl_path_join(g_dir, "study.json");
  if (tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &g_ctx, NULL) != TL_OK) return -1;
  if (tl_config_new(&g_cfg, NULL) != TL_OK) return -1;
  if (tl_model_new(&c, 5, false, &m, NULL) != TL_OK) return -1;
  int rc = tl_model_save(m, NULL, g_model, NULL) == TL_OK ? 0 : -1;
  tl_model_free(m);
  configure();
  return rc;
}

static int tear_down(void **state) {
  (void)state;
  tl_config_free(g_cfg);
  tl_ctx_free(g_ctx);
  free(g_model);
  free(g_out);
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

static json_t *study(unsigned arms) {
  static const double labels[] = {20, 0}, lrs[] = {1e-4, 1e-2};
  tl_err err = {TL_OK, ""};
  tl_study_options o = {.config = g_cfg,
                        .title = "Toy",
                        .out_json = g_out,
                        .labels = labels,
                        .n_labels = 2,
                        .n_seeds = 1,
                        .lrs = lrs,
                        .n_lrs = 2,
                        .arms = arms,
                        .max_test = TEST - 10};
  if (tl_label_study(g_ctx, &o, NULL, NULL, &err) != TL_OK) fail_msg("%s", err.msg);
  json_t *doc = json_load_file(g_out, 0, NULL);
  assert_non_null(doc);
  return doc;
}

static json_t *cell(const json_t *doc, const char *key) {
  return json_object_get(json_object_get(json_object_get(doc, "progress"), "cells"), key);
}

static double value_of(const json_t *doc, const char *key) {
  json_t *v = json_object_get(cell(doc, key), "value");
  if (!json_is_number(v)) fail_msg("no value of %s", key);
  return json_number_value(v);
}

static void arms_learn_what_they_should(void **state) {
  (void)state;
  json_t *doc = study(TL_STUDY_PRETRAINED | TL_STUDY_SCRATCH | TL_STUDY_FROZEN | TL_STUDY_BAYES |
                      TL_STUDY_PIXELS);
  assert_true(value_of(doc, "scratch/120/1") > 0.9);
  assert_true(value_of(doc, "pretrained/120/1") > 0.9);
  assert_null(cell(doc, "bayes/120/1"));            /* it reads words */
  assert_true(value_of(doc, "pixels/120/1") > 0.9); /* a half is brighter: that is linear */
  assert_true(value_of(doc, "pixels/20/1") > 0.7);
  json_t *frozen = cell(doc, "frozen/120/1");
  assert_int_equal(json_integer_value(json_object_get(frozen, "trained")), 2 * 16 + 2);
  json_t *lr = json_object_get(cell(doc, "scratch/120/1"), "lr");
  assert_true(json_number_value(lr) == 1e-2);
  const json_t *about = json_object_get(doc, "study");
  assert_int_equal(json_integer_value(json_object_get(about, "test_size")), TEST - 10);
  assert_true(json_is_array(json_object_get(json_object_get(doc, "details"), "calibration")));
  const json_t *answer = json_array_get(json_object_get(doc, "predictions"), 0);
  assert_non_null(json_string_value(json_object_get(answer, "picture")));
  const json_t *group = json_array_get(json_object_get(doc, "pictures"), 0);
  assert_string_equal(json_string_value(json_object_get(group, "title")), "Where it looks");
  json_decref(doc);
}

static void a_lost_result_comes_back_the_same(void **state) {
  (void)state;
  unlink(g_out);
  json_t *whole = study(TL_STUDY_PRETRAINED | TL_STUDY_SCRATCH), *cut = json_deep_copy(whole);
  json_t *cells = json_object_get(json_object_get(cut, "progress"), "cells");
  assert_int_equal(json_object_del(cells, "scratch/20/1"), 0);
  assert_int_equal(json_object_del(cells, "pretrained/120/1"), 0);
  assert_int_equal(json_dump_file(cut, g_out, 0), 0);
  json_decref(cut);
  cut = study(TL_STUDY_PRETRAINED | TL_STUDY_SCRATCH);
  assert_true(json_equal(json_object_get(json_object_get(cut, "study"), "arms"),
                         json_object_get(json_object_get(whole, "study"), "arms")));
  json_decref(cut);
  json_decref(whole);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(arms_learn_what_they_should),
                                     cmocka_unit_test(a_lost_result_comes_back_the_same)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
