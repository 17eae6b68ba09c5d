/* CapsNet in training: a toy is learnt, to the same bits on any number of threads and after an
 * interruption; the finished model, read from its folder, predicts by length, and makes pictures
 * again from its capsules. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "models/task_head.h"
#include "tilth/train.h"
#include "toy_pictures.h"
#include "transfer/gallery.h"
#include "transfer/image_graph.h"
#include "transfer/reconstruct.h"
#include "toy_run.h"

enum { PICTURES = 64, TEST = 40, SIDE = 18, VALUES = SIDE * SIDE, STEPS = 70, PATH = TOY_PATH };

static char g_dir[64] = "/tmp/tilth-capsules-XXXXXX";
static char g_train[PATH], g_test[PATH];

static int make_pictures(void **state) {
  (void)state;
  if (!mkdtemp(g_dir)) return -1;
  toy_pictures(g_dir, "train", PICTURES, 1, g_train);
  toy_pictures(g_dir, "test", TEST, 2, g_test);
  return 0;
}

static int remove_all(void **state) {
  (void)state;
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

/* A new run with this setting besides the toy's, or on in run_dir. */
static tl_train_result train(tl_status want, const char *more, const char *run_dir, int threads,
                             int64_t stop_after) {
  char dir[PATH], data[PATH + 16], test[PATH + 16];
  snprintf(dir, sizeof dir, "run.dir=%s", g_dir);
  snprintf(data, sizeof data, "task.train=%s", g_train);
  snprintf(test, sizeof test, "task.test=%s", g_test);
  const char *text[] = {dir,
                        data,
                        test,
                        "task.type=image_classify",
                        "task.valid_fraction=0",
                        "model.type=capsnet",
                        "model.image_size=18",
                        "model.dim=8",
                        "model.capsules=2",
                        "model.reconstruction=0.005",
                        "train.batch=8",
                        "train.accum=2",
                        "train.steps=70",
                        "optim.warmup=4",
                        "optim.lr=3e-3",
                        "image.mixup=0.2",
                        "run.log_every=1",
                        "run.checkpoint_minutes=0",
                        "run.dtype=f32",
                        more};
  return toy_run(want, text, sizeof text / sizeof *text, run_dir, threads, stop_after, NULL);
}

static tl_model *read_model(const char *run_dir) {
  char dir[PATH];
  tl_model_config c;
  tl_model *m = NULL;
  tl_err err = {TL_OK, ""};
  tl_task_head_options o = {.kind = TL_HEAD_SEQUENCE, .n_outputs = 2};
  snprintf(dir, sizeof dir, "%s/model", run_dir);
  if (tl_model_read_config(dir, &c, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(c.routing, 3);
  assert_int_equal(c.capsules, 2);
  assert_true(c.reconstruction == 0.005);
  if (tl_model_new_task(&c, &o, 7, false, &m, &err) != TL_OK) fail_msg("%s", err.msg);
  if (tl_model_read_weights(m, dir, &err) != TL_OK) fail_msg("%s", err.msg);
  return m;
}

/* Sum of squared differences, and the same of the picture to its mean. */
static double error_of(const float *made, const float *picture, double *spread) {
  double error = 0, mean = 0;
  *spread = 0;
  for (int i = 0; i < VALUES; i++) mean += (double)picture[i] / VALUES;
  for (int i = 0; i < VALUES; i++) {
    double d = (double)made[i] - (double)picture[i], m = (double)picture[i] - mean;
    error += d * d;
    *spread += m * m;
  }
  return error;
}

static void read_pictures(tl_image_data *d, float *pictures) {
  tl_err err = {TL_OK, ""};
  const tl_augment plain = {.size = SIDE, .channels = 1, .std = {1, 1, 1}};
  if (tl_image_read(g_test, NULL, d, &err) != TL_OK) fail_msg("%s", err.msg);
  for (size_t i = 0; i < TEST; i++) {
    tl_image x;
    if (tl_image_get(d, i, 1, &x, &err) != TL_OK) fail_msg("%s", err.msg);
    if (tl_augment_run(&plain, &x, 0, 0, pictures + i * VALUES, &err) != TL_OK)
      fail_msg("%s", err.msg);
    tl_image_free(&x);
  }
}

static void check_pictures(tl_ctx *ctx, tl_model *m) {
  static float pictures[TEST * VALUES], made[TEST * VALUES], changed[16 * 3 * VALUES];
  float capsules[TEST * TL_CAPSULE_WIDTH];
  int32_t labels[TEST];
  int right = 0;
  double error = 0, spread = 0;
  tl_image_data d;
  tl_err err = {TL_OK, ""};
  read_pictures(&d, pictures);
  if (tl_reconstruct(ctx, m, pictures, TEST, made, capsules, labels, &err) != TL_OK)
    fail_msg("%s", err.msg);
  for (int i = 0; i < TEST; i++) {
    double one;
    error += error_of(made + i * VALUES, pictures + i * VALUES, &one);
    spread += one;
    right += labels[i] == d.records.label[i];
  }
  assert_true(right >= TEST * 9 / 10);
  assert_true(error < 0.7 * spread); /* what is left is noise */
  static const float change[] = {-0.2f, 0, 0.2f};
  if (tl_reconstruct_changed(ctx, m, capsules, labels[0], change, 3, changed, &err) != TL_OK)
    fail_msg("%s", err.msg);
  for (int k = 0; k < TL_CAPSULE_WIDTH; k++) {
    const float *row = changed + k * 3 * VALUES;
    for (int i = 0; i < VALUES; i++) assert_true(fabsf(row[VALUES + i] - made[i]) < 1e-5f);
    assert_memory_not_equal(row, row + VALUES, VALUES * sizeof *row);
  }
  tl_image_data_free(&d);
}

/* Shares of lengths: in 0 .. 1, one in sum, the largest that of the label. */
static void check_predictions(tl_ctx *ctx, tl_model *m) {
  tl_image_graph g;
  tl_image_data d;
  tl_predictions p;
  tl_err err = {TL_OK, ""};
  const tl_augment plain = {.size = SIDE, .channels = 1, .std = {1, 1, 1}};
  if (tl_image_read(g_test, NULL, &d, &err) != TL_OK) fail_msg("%s", err.msg);
  if (tl_image_graph_new(ctx, m, TL_F32, 16, false, &g, &err) != TL_OK) fail_msg("%s", err.msg);
  if (tl_image_graph_predict(&g, &d, NULL, TEST, &plain, &p, &err) != TL_OK)
    fail_msg("%s", err.msg);
  for (int i = 0; i < TEST; i++) {
    const float *x = p.output + (size_t)i * 2;
    assert_true(x[0] >= 0 && x[1] >= 0 && fabsf(x[0] + x[1] - 1) < 1e-5f);
    assert_int_equal(p.label[i], x[1] > x[0]);
  }
  assert_true(p.loss > 0 && p.loss < 0.5);
  tl_predictions_free(&p);
  tl_image_graph_free(&g);
  tl_image_data_free(&d);
}

static void check_gallery(tl_ctx *ctx, const char *run_dir) {
  json_t *doc = NULL;
  tl_err err = {TL_OK, ""};
  if (tl_gallery_run(ctx, run_dir, &doc, &err) != TL_OK) fail_msg("%s", err.msg);
  const json_t *groups = json_object_get(doc, "pictures");
  size_t n = json_array_size(groups), rows[2] = {12, TL_CAPSULE_WIDTH}, pictures[2] = {2, 11};
  assert_true(n >= 2);
  for (size_t i = 0; i < 2; i++) {
    const json_t *list = json_object_get(json_array_get(groups, n - 2 + i), "rows");
    assert_int_equal(json_array_size(list), rows[i]);
    for (size_t k = 0; k < rows[i]; k++)
      assert_int_equal(json_array_size(json_object_get(json_array_get(list, k), "pictures")),
                       pictures[i]);
  }
  json_decref(doc);
}

static void the_toy_is_learnt_to_the_same_bits(void **state) {
  (void)state;
  tl_train_result straight = train(TL_OK, "run.name=toy", NULL, 1, 0);
  assert_int_equal(straight.steps, STEPS);
  assert_true(tl_scores_find(&straight.task.test, "accuracy") > 0.9);
  tl_train_result other = train(TL_OK, "run.name=toy", NULL, 3, 0);
  assert_true(same_weights(&straight, &other));
  tl_train_result half = train(TL_PREEMPTED, "run.name=toy", NULL, 2, 31);
  assert_int_equal(half.steps, 31);
  tl_train_result whole = train(TL_OK, NULL, half.run_dir, 2, 0);
  assert_true(same_weights(&straight, &whole));
  tl_ctx *ctx = NULL;
  tl_err err = {TL_OK, ""};
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err), TL_OK);
  tl_model *m = read_model(straight.run_dir);
  check_pictures(ctx, m);
  check_predictions(ctx, m);
  check_gallery(ctx, straight.run_dir);
  tl_model_free(m);
  tl_ctx_free(ctx);
}

static void what_cannot_be_is_refused(void **state) {
  (void)state;
  tl_model *m = NULL;
  tl_err err = {TL_OK, ""};
  tl_model_config c = {.type = "capsnet",
                       .act = "auto",
                       .dim = 8,
                       .capsules = 2,
                       .routing = 3,
                       .image_size = 16,
                       .channels = 1};
  assert_int_equal(tl_model_new(&c, 1, false, &m, &err), TL_CONFIG);
  assert_non_null(strstr(err.msg, "17 to 256"));
  train(TL_CONFIG, "adapt.method=lora", NULL, 1, 0);
  c.image_size = 17;
  c.routing = 17;
  assert_int_equal(tl_model_new(&c, 1, false, &m, &err), TL_CONFIG);
  c.routing = 1;
  assert_int_equal(tl_model_new(&c, 1, false, &m, &err), TL_OK);
  assert_false(tl_can_reconstruct(m));
  assert_int_equal(tl_reconstruct(NULL, m, NULL, 1, NULL, NULL, NULL, &err), TL_CONFIG);
  tl_model_free(m);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_toy_is_learnt_to_the_same_bits),
                                     cmocka_unit_test(what_cannot_be_is_refused)};
  return cmocka_run_group_tests(tests, make_pictures, remove_all);
}
