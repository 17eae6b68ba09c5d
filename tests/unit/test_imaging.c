/* Training on pictures: what the feed gives, a toy that is learnt, and the same bits after an
 * interruption and on any number of threads. */
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
#include "base/rng.h"
#include "tilth/predict.h"
#include "tilth/train.h"
#include "toy_pictures.h"
#include "train/image_batch.h"
#include "toy_run.h"

enum { SIDE = TOY_SIDE, PICTURES = 96, TEST = 40, BATCH = 8, BATCHES = 20, PATH = TOY_PATH };

static char g_dir[64] = "/tmp/tilth-imaging-XXXXXX";
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

/* --- feed --------------------------------------------------------------------------------------
 */

enum { VALUES = BATCH * SIDE * SIDE };
typedef struct copy {
  float patches[VALUES], targets[BATCH * 2];
} copy;

static tl_image_feed *open_feed(const tl_image_data *d, const size_t *index, uint64_t seed) {
  tl_image_feed *f = NULL;
  tl_err err = {TL_OK, ""};
  tl_image_feed_options o = {
      .data = d,
      .index = index,
      .n = (int64_t)d->records.n,
      .batch = BATCH,
      .ahead = 5,
      .seed = seed,
      .augment = {.size = SIDE, .channels = 1, .crop = TL_CROP_PAD, .pad = 1, .ops = 1},
      .mix = {0.5, 0.5},
      .smoothing = 0.1,
      .model = {.type = "vit", .image_size = SIDE, .patch = 4, .channels = 1}};
  if (tl_image_feed_new(&o, &f, &err) != TL_OK) fail_msg("%s", err.msg);
  return f;
}

static void take(tl_image_feed *f, uint64_t batch, copy *to) {
  tl_err err = {TL_OK, ""};
  tl_image_batch b = tl_image_feed_get(f, batch * BATCH);
  memcpy(to->patches, b.patches, sizeof to->patches);
  memcpy(to->targets, b.targets, sizeof to->targets);
  if (tl_image_feed_error(f, &err) != TL_OK) fail_msg("%s", err.msg);
}

static void a_batch_depends_on_its_place_alone(void **state) {
  (void)state;
  static copy all[BATCHES], again;
  tl_image_data d;
  tl_err err = {TL_OK, ""};
  if (tl_image_read(g_train, NULL, &d, &err) != TL_OK) fail_msg("%s", err.msg);
  size_t index[PICTURES];
  for (size_t i = 0; i < PICTURES; i++) index[i] = i;
  tl_image_feed *f = open_feed(&d, index, 1);
  for (uint64_t b = 0; b < BATCHES; b++) {
    take(f, b, &all[b]);
    for (int i = 0; i < BATCH; i++) {
      const float *t = all[b].targets + 2 * i;
      assert_true(fabsf(t[0] + t[1] - 1) < 1e-5f && t[0] > 0.04f && t[1] > 0.04f);
    }
    if (b > 0) assert_memory_not_equal(&all[b], &all[b - 1], sizeof *all);
  }
  take(f, 3, &again); /* back, forth, and on from there */
  assert_memory_equal(&again, &all[3], sizeof again);
  take(f, 17, &again);
  assert_memory_equal(&again, &all[17], sizeof again);
  take(f, 18, &again);
  assert_memory_equal(&again, &all[18], sizeof again);
  tl_image_feed_free(f);
  for (uint64_t b = 5; b < BATCHES; b += 7) { /* as a resumed run begins */
    f = open_feed(&d, index, 1);
    take(f, b, &again);
    assert_memory_equal(&again, &all[b], sizeof again);
    tl_image_feed_free(f);
  }
  f = open_feed(&d, index, 2);
  take(f, 0, &again);
  assert_memory_not_equal(again.patches, all[0].patches, sizeof again.patches);
  tl_image_feed_free(f);
  tl_image_feed_free(open_feed(&d, index, 3)); /* never asked */
  tl_image_data_free(&d);
}

/* --- training ----------------------------------------------------------------------------------
 */

/* A new run with these settings besides the toy's, or on in run_dir. */
static tl_train_result train(tl_status want, const char *more, const char *run_dir, int threads,
                             int64_t stop_after) {
  char dir[PATH], data[PATH + 16], test[PATH + 16], two[256];
  snprintf(dir, sizeof dir, "run.dir=%s", g_dir);
  snprintf(data, sizeof data, "task.train=%s", g_train);
  snprintf(test, sizeof test, "task.test=%s", g_test);
  snprintf(two, sizeof two, "%s", more ? more : "run.name=toy");
  const char *text[] = {dir,
                        data,
                        test,
                        "task.type=image_classify",
                        "task.dropout=0.1",
                        "task.valid_fraction=0.2",
                        "model.type=vit",
                        "model.patch=4",
                        "model.dim=16",
                        "model.layers=2",
                        "model.heads=2",
                        "model.depths=1,1", /* resnet */
                        "model.widths=8,12",
                        "train.batch=8",
                        "train.accum=2",
                        "train.steps=150",
                        "optim.warmup=4",
                        "optim.lr=5e-3",
                        "image.crop=pad",
                        "image.pad=1",
                        "image.flip=0.5",
                        "image.mixup=0.2",
                        "run.log_every=1",
                        "run.checkpoint_minutes=0",
                        "run.dtype=f32",
                        two};
  return toy_run(want, text, sizeof text / sizeof *text, run_dir, threads, stop_after, NULL);
}

/* type: a setting, NULL: the one above. */
static void learn_toy(const char *type) {
  tl_train_result straight = train(TL_OK, type, NULL, 1, 0);
  assert_int_equal(straight.steps, 150);
  assert_int_equal(straight.task.n_test, TEST);
  assert_true(tl_scores_find(&straight.task.test, "accuracy") > 0.9);
  for (int threads = 2; threads <= 3; threads++) {
    tl_train_result r = train(TL_OK, type, NULL, threads, 0);
    assert_true(same_weights(&straight, &r));
  }
  tl_train_result half = train(TL_PREEMPTED, type, NULL, 2, 67);
  assert_int_equal(half.steps, 67);
  tl_train_result whole = train(TL_OK, NULL, half.run_dir, 2, 0);
  assert_int_equal(whole.steps, 150);
  assert_true(same_weights(&straight, &whole));
  assert_true(tl_scores_find(&straight.task.test, "loss") ==
              tl_scores_find(&whole.task.test, "loss"));
}

static void the_toy_is_learnt_to_the_same_bits(void **state) {
  (void)state;
  learn_toy(NULL);
  tl_train_result straight = train(TL_OK, NULL, NULL, 1, 0);
  tl_train_result other = train(TL_OK, "run.seed=2", NULL, 2, 0);
  assert_false(same_weights(&straight, &other));
}

/* What tl_train said of the test pictures, from the files; the same predictions without labels. */
static void a_finished_model_predicts_pictures(void **state) {
  (void)state;
  tl_train_result r = train(TL_OK, "train.steps=40", NULL, 2, 0);
  char dir[PATH + 8];
  snprintf(dir, sizeof dir, "%s/model", r.run_dir);
  const tl_ctx_options co = {.n_threads = 2};
  tl_ctx *ctx = NULL;
  tl_predictor *p = NULL;
  tl_err err = {TL_OK, ""};
  tl_image_data d, bare;
  tl_predictions out, again;
  tl_scores scores;
  tl_details details;
  tl_status s = tl_ctx_new(&co, &ctx, &err);
  if (s == TL_OK) s = tl_predictor_open(ctx, dir, "f32", 0, &p, &err);
  if (s != TL_OK) fail_msg("%s", err.msg);
  assert_true(tl_predictor_reads_images(p));
  assert_string_equal(tl_predictor_task(p), "image_classify");
  const tl_image_options with = {.labels = tl_predictor_labels(p)}, without = {.unlabelled = true};
  s = tl_image_read(g_test, &with, &d, &err);
  if (s == TL_OK) s = tl_predictor_run_images(p, &d, &out, &scores, &err);
  if (s == TL_OK) s = tl_details_make(&d.records, &out, &details, &err);
  if (s == TL_OK) s = tl_image_read(g_test, &without, &bare, &err);
  if (s == TL_OK) s = tl_predictor_run_images(p, &bare, &again, NULL, &err);
  if (s != TL_OK) fail_msg("%s", err.msg);
  for (int i = 0; i < scores.n; i++) {
    double was = tl_scores_find(&r.task.test, scores.score[i].name);
    assert_true(fabs(scores.score[i].value - was) < 1e-6);
  }
  assert_true(scores.n >= 8 && details.n_labels == 2 && details.confusion && details.bin);
  assert_null(bare.records.label);
  assert_true(isnan(again.loss) && again.n == TEST);
  assert_memory_equal(out.output, again.output, TEST * 2 * sizeof *out.output);
  assert_int_equal(tl_predictor_run_images(p, &bare, &again, &scores, &err), TL_DATA);
  assert_int_equal(tl_predictor_run(p, &d.records, &again, NULL, &err), TL_CONFIG);
  tl_details_free(&details);
  tl_predictions_free(&out);
  tl_predictions_free(&again);
  tl_image_data_free(&d);
  tl_image_data_free(&bare);
  tl_predictor_free(p);
  tl_ctx_free(ctx);
}

/* Running statistics are part of what a checkpoint holds. */
static void convolutions_learn_it_to_the_same_bits(void **state) {
  (void)state;
  learn_toy("model.type=resnet");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_finished_model_predicts_pictures),
                                     cmocka_unit_test(a_batch_depends_on_its_place_alone),
                                     cmocka_unit_test(the_toy_is_learnt_to_the_same_bits),
                                     cmocka_unit_test(convolutions_learn_it_to_the_same_bits)};
  return cmocka_run_group_tests(tests, make_pictures, remove_all);
}
