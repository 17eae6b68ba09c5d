/* Pictures on the page of a run: samples, answers, attention; data that is gone. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "eval/inspect.h"
#include "tilth/report.h"
#include "tilth/train.h"
#include "toy_pictures.h"
#include "transfer/gallery.h"
#include "transfer/image_graph.h"

static char g_dir[64] = "/tmp/tilth-gallery-XXXXXX", g_train[TOY_PATH], g_test[TOY_PATH];
static char g_run[TOY_PATH];
static tl_ctx *g_ctx;

/* Trains for three steps with these settings besides the toy's; the run's folder goes to g_run. */
static void train(const char *const *more, int n) {
  enum { OWN = 10 };
  const char *text[OWN + 8];
  char dir[TOY_PATH];
  snprintf(dir, sizeof dir, "run.dir=%s", g_dir);
  const char *const own[OWN] = {dir,
                                "model.type=vit",
                                "model.patch=4",
                                "model.image_size=8",
                                "model.dim=16",
                                "model.layers=2",
                                "model.heads=2",
                                "train.batch=8",
                                "train.steps=3",
                                "image.crop=pad"};
  memcpy(text, own, sizeof own);
  for (int i = 0; i < n; i++) text[OWN + i] = more[i];
  tl_err err = {TL_OK, ""};
  tl_config *cfg = NULL;
  tl_train_result r;
  tl_status s = tl_config_load(NULL, NULL, text, (size_t)(OWN + n), &cfg, &err);
  if (s == TL_OK) s = tl_train(g_ctx, cfg, NULL, &r, &err);
  if (s != TL_OK) fail_msg("%s", err.msg);
  strcpy(g_run, r.run_dir);
  tl_config_free(cfg);
}

static int make_run(void **state) {
  (void)state;
  char data[TOY_PATH + 16], test[TOY_PATH + 16];
  if (!mkdtemp(g_dir)) return -1;
  toy_pictures(g_dir, "train", 40, 1, g_train);
  toy_pictures(g_dir, "test", 40, 2, g_test);
  snprintf(data, sizeof data, "task.train=%s", g_train);
  snprintf(test, sizeof test, "task.test=%s", g_test);
  if (tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &g_ctx, NULL) != TL_OK) return -1;
  train((const char *const[]){data, test, "task.type=image_classify"}, 3);
  return 0;
}

static int remove_all(void **state) {
  (void)state;
  tl_ctx_free(g_ctx);
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

static char *page_of_run(tl_buf *b) {
  tl_err err = {TL_OK, ""};
  char *path = tl_path_join(g_run, "report.html");
  tl_status s = tl_report_pictures(g_ctx, g_run, &err);
  if (s == TL_OK) s = tl_report_run(g_run, NULL, &err);
  if (s == TL_OK) s = tl_file_read(path, 1 << 24, b, &err);
  if (s != TL_OK) fail_msg("%s", err.msg);
  free(path);
  return b->data;
}

static size_t count(const char *text, const char *what) {
  size_t n = 0;
  for (; (text = strstr(text, what)); text++) n++;
  return n;
}

static void a_run_shows_its_pictures(void **state) {
  (void)state;
  tl_buf b = {0};
  const char *page = page_of_run(&b);
  assert_non_null(strstr(page, "Training pictures"));
  assert_non_null(strstr(page, "Where it looks"));
  assert_non_null(strstr(page, "Examples from the test set"));
  /* 6 pictures with 6 changes; 6 with 2 heads and a rollout; right and wrong answers */
  size_t n = count(page, "data:image/png;base64,");
  assert_in_range(n, 6 * 7 + 6 * 4 + 12, 6 * 7 + 6 * 4 + 24);
  tl_buf_free(&b);
}

static void attention_of_each_layer_can_be_read(void **state) {
  (void)state;
  tl_err err = {TL_OK, ""};
  tl_model *m = NULL;
  tl_image_graph g;
  float picture[TOY_SIDE * TOY_SIDE], row[5];
  char *dir = tl_path_join(g_run, "model");
  assert_int_equal(tl_model_load(dir, false, &m, &err), TL_OK);
  assert_int_equal(tl_image_graph_body(g_ctx, m, 1, &g, &err), TL_OK);
  for (int i = 0; i < TOY_SIDE * TOY_SIDE; i++) picture[i] = i < 32 ? 1 : -1;
  float rows[TOY_SIDE * TOY_SIDE];
  tl_picture_rows(&m->c, picture, rows);
  tl_image_graph_set(&g, 1, rows, NULL);
  assert_null(tl_image_graph_run(&g, &(tl_pass){.loss_scale = 1}));
  assert_int_equal(g.n_rows, 5);
  const tl_segment seg = {0, 5, 0, 5, 0};
  for (int layer = 0; layer < 2; layer++) {
    const tl_node *a = tl_image_graph_attention(&g, layer);
    assert_non_null(a);
    for (int q = 0; q < 5; q++) {
      double sum = 0;
      tl_attention_row(a, &seg, 1, q, row);
      for (int k = 0; k < 5; k++) sum += (double)row[k];
      assert_true(fabs(sum - 1) < 1e-6);
    }
  }
  assert_null(tl_image_graph_attention(&g, 2));
  tl_image_graph_free(&g);
  tl_model_free(m);
  free(dir);
}

static void pretraining_shows_its_pictures(void **state) {
  (void)state;
  char data[TOY_PATH + 16], classifier[TOY_PATH];
  strcpy(classifier, g_run);
  snprintf(data, sizeof data, "data.images=%s", g_train);
  train((const char *const[]){data, "objective.type=simclr"}, 2);
  tl_buf b = {0};
  const char *page = page_of_run(&b);
  assert_non_null(strstr(page, "Training pictures"));
  assert_int_equal(count(page, "data:image/png;base64,"), 6 * 7 + 6 * 4);
  tl_buf_free(&b);
  train((const char *const[]){data, "objective.type=mae", "objective.mask_rate=0.75"}, 3);
  page = page_of_run(&b);
  assert_non_null(strstr(page, "Filled in"));
  assert_int_equal(count(page, "data:image/png;base64,"), 6 * 7 + 12 * 3 + 6 * 4);
  tl_buf_free(&b);
  strcpy(g_run, classifier);
}

static void data_that_is_gone_is_a_note(void **state) {
  (void)state;
  tl_buf b = {0};
  assert_int_equal(unlink(g_train), 0);
  assert_int_equal(unlink(g_test), 0);
  const char *page = page_of_run(&b);
  assert_null(strstr(page, "data:image"));
  assert_non_null(strstr(page, "Some pictures are missing here"));
  assert_non_null(strstr(page, g_train));
  tl_buf_free(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_run_shows_its_pictures),
                                     cmocka_unit_test(attention_of_each_layer_can_be_read),
                                     cmocka_unit_test(pretraining_shows_its_pictures),
                                     cmocka_unit_test(data_that_is_gone_is_a_note)};
  return cmocka_run_group_tests(tests, make_run, remove_all);
}
