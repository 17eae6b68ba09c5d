/* Pretraining on pictures: each objective learns a toy, to the same bits on any number of threads
 * and after an interruption; what it learns; what is refused. */
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
#include "tilth/train.h"
#include "toy_pictures.h"
#include "toy_run.h"
#include "train/image_batch.h"
#include "transfer/picture_objective.h"

enum { PICTURES = 96, BATCH = 16, STEPS = 60, PATH = TOY_PATH, MOST = 64 };

static const char *const objectives[] = {"simclr", "byol", "moco", "barlow", "mae"};
enum { OBJECTIVES = sizeof objectives / sizeof *objectives, OF_VIEWS = 4 };

static char g_dir[64] = "/tmp/tilth-pretrain-XXXXXX";
static char g_pictures[PATH];

static int make_pictures(void **state) {
  (void)state;
  if (!mkdtemp(g_dir)) return -1;
  toy_pictures(g_dir, "train", PICTURES, 1, g_pictures);
  return 0;
}

static int remove_all(void **state) {
  (void)state;
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

/* --- runs --------------------------------------------------------------------------------------
 */

/* All settings of a run, in text[MOST]; how many they are. */
static size_t keys(const char **text, const char *const *more, size_t n) {
  static const char *const own[] = {"data.val_fraction=0.2",
                                    "model.type=vit",
                                    "model.patch=4",
                                    "model.dim=16",
                                    "model.layers=2",
                                    "model.heads=2",
                                    "model.init_std=0.1",
                                    "model.depths=1,1",
                                    "model.widths=8,16",
                                    "objective.hidden=32",
                                    "objective.projection=16",
                                    "objective.teacher=0.9",
                                    "objective.mask_rate=0.75",
                                    "objective.decoder_dim=16",
                                    "objective.decoder_heads=2",
                                    "train.batch=16",
                                    "train.steps=60",
                                    "optim.warmup=4",
                                    "optim.lr=3e-3",
                                    "image.crop=pad",
                                    "image.pad=1",
                                    "image.flip=0.5",
                                    "run.log_every=1",
                                    "run.checkpoint_minutes=0",
                                    "run.dtype=f32"};
  return toy_settings(text, g_dir, g_pictures, own, sizeof own / sizeof *own, more, n);
}

static tl_config *settings(const char *const *more, size_t n) {
  const char *text[MOST];
  tl_config *cfg = NULL;
  tl_err err = {TL_OK, ""};
  if (tl_config_load(NULL, NULL, text, keys(text, more, n), &cfg, &err) != TL_OK)
    fail_msg("%s", err.msg);
  return cfg;
}

/* As toy_run. */
static tl_train_result train(const char *objective, const char *arch, tl_status want,
                             const char *run_dir, int threads, int64_t stop_after, double *loss) {
  char type[64], model[64];
  const char *text[MOST];
  snprintf(type, sizeof type, "objective.type=%s", objective);
  snprintf(model, sizeof model, "model.type=%s", arch);
  size_t n = keys(text, (const char *[]){type, model, "train.accum=2"}, 3);
  return toy_run(want, text, n, run_dir, threads, stop_after, loss);
}

/* --- what is learnt ----------------------------------------------------------------------------
 */

static void no_parts(tl_declare *d, const tl_model *m, const tl_config *c,
                     tl_picture_parts *parts) {
  (void)d, (void)m, (void)c, (void)parts;
}

/* Not an objective: its graph gives the features of two views. */
static const tl_picture_objective features = {
    .name = "features", .views = 2, .declare = no_parts, .teach = tl_picture_features};

typedef struct likeness {
  double partners, others; /* mean cosines of the features less their mean */
  double all;              /* mean cosine of all features as they are */
} likeness;

static double cosine(const float *a, const float *b, const double *mean, int64_t d) {
  double dot = 0, aa = 0, bb = 0;
  for (int64_t i = 0; i < d; i++) {
    double x = (double)a[i] - mean[i], y = (double)b[i] - mean[i];
    dot += x * y, aa += x * x, bb += y * y;
  }
  return dot / sqrt(aa * bb);
}

static likeness compare(const float *x, int64_t d) {
  enum { ROWS = 2 * BATCH, D = 64 };
  double mean[D] = {0}, zero[D] = {0};
  likeness l = {0};
  assert_true(d <= D);
  for (int64_t i = 0; i < ROWS * d; i++) mean[i % d] += (double)x[i] / ROWS;
  for (int a = 0; a < ROWS; a++)
    for (int b = 0; b < ROWS; b++) {
      if (a == b) continue;
      double c = cosine(x + a * d, x + b * d, mean, d);
      l.all += cosine(x + a * d, x + b * d, zero, d) / (ROWS * (ROWS - 1));
      if (b == (a + BATCH) % ROWS)
        l.partners += c / ROWS;
      else
        l.others += c / (ROWS * (ROWS - 2));
    }
  return l;
}

/* Of the pictures' features by the model that a run left. */
static likeness measure(const tl_train_result *r) {
  char dir[PATH];
  tl_model_config mc;
  tl_picture_parts parts;
  tl_model *m = NULL;
  tl_picture_graph g;
  tl_ctx *ctx = NULL;
  tl_image_data d;
  size_t index[PICTURES];
  tl_err err = {TL_OK, ""};
  tl_config *c = settings(NULL, 0);
  snprintf(dir, sizeof dir, "%s/model", r->run_dir);
  for (size_t i = 0; i < PICTURES; i++) index[i] = i;
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err), TL_OK);
  if (tl_image_read(g_pictures, NULL, &d, &err) != TL_OK ||
      tl_model_read_config(dir, &mc, &err) != TL_OK ||
      tl_picture_model_new(&features, c, &mc, false, &parts, &m, &err) != TL_OK ||
      tl_model_read_weights(m, dir, &err) != TL_OK ||
      tl_picture_graph_new(ctx, &features, c, m, &parts, TL_F32, true, &g, &err) != TL_OK)
    fail_msg("%s", err.msg);
  tl_image_feed_options o = {
      .data = &d, .index = index, .n = PICTURES, .batch = BATCH, .ahead = 2, .views = 2};
  o.model = m->c;
  o.augment =
      (tl_augment){.size = TOY_SIDE, .channels = 1, .crop = TL_CROP_PAD, .pad = 1, .flip = 0.5};
  if (tl_image_read_preprocessor(dir, &o.augment, &err) != TL_OK) fail_msg("%s", err.msg);
  tl_image_feed *f = NULL;
  assert_int_equal(tl_image_feed_new(&o, &f, &err), TL_OK);
  tl_picture_graph_run(&g, NULL, tl_image_feed_get(f, 0).patches, 0, &(tl_pass){0});
  likeness l = compare(g.out->data, m->c.dim);
  tl_image_feed_free(f);
  tl_picture_graph_free(&g);
  tl_model_free(m);
  tl_image_data_free(&d);
  tl_ctx_free(ctx);
  tl_config_free(c);
  return l;
}

static void views_come_together_without_collapse(void **state) {
  (void)state;
  for (int i = 0; i < OF_VIEWS; i++) {
    double loss[STEPS + 1];
    tl_train_result r = train(objectives[i], "vit", TL_OK, NULL, 2, 0, loss);
    double begin = (loss[1] + loss[2] + loss[3]) / 3;
    double end = (loss[STEPS - 2] + loss[STEPS - 1] + loss[STEPS]) / 3;
    assert_true(r.steps == STEPS && isfinite(r.val_loss));
    if (!(end < 0.9 * begin)) fail_msg("%s: loss %g, then %g", objectives[i], begin, end);
    likeness l = measure(&r);
    if (!(l.partners > l.others + 0.15 && l.all < 0.97))
      fail_msg("%s: cosines %g, others %g, all %g", objectives[i], l.partners, l.others, l.all);
  }
}

static void check_same_bits(const char *objective, const char *arch) {
  tl_train_result one = train(objective, arch, TL_OK, NULL, 1, 0, NULL);
  tl_train_result three = train(objective, arch, TL_OK, NULL, 3, 0, NULL);
  assert_true(same_weights(&one, &three));
  tl_train_result half = train(objective, arch, TL_PREEMPTED, NULL, 2, 17, NULL);
  assert_int_equal(half.steps, 17);
  tl_train_result whole = train(objective, arch, TL_OK, half.run_dir, 2, 0, NULL);
  assert_int_equal(whole.steps, STEPS);
  assert_true(same_weights(&one, &whole));
  assert_true(one.val_loss == whole.val_loss);
}

static void the_same_bits(void **state) {
  (void)state;
  for (int i = 0; i < OBJECTIVES; i++) check_same_bits(objectives[i], "vit");
  check_same_bits("byol", "resnet"); /* norms over the batch, in the teacher too */
}

/* One patch of four is seen: it tells which half of the picture is bright, but not much of the
 * empty pixels that image.crop=pad brings in. */
static void hidden_patches_are_filled_in(void **state) {
  (void)state;
  double loss[STEPS + 1];
  train("mae", "vit", TL_OK, NULL, 2, 0, loss);
  double begin = (loss[1] + loss[2] + loss[3]) / 3;
  double end = (loss[STEPS - 2] + loss[STEPS - 1] + loss[STEPS]) / 3;
  if (!(end < 0.8 * begin)) fail_msg("loss %g, then %g", begin, end);
}

/* The finished model is a body that fine-tuning begins with. */
static void a_body_is_left(void **state) {
  (void)state;
  char from[PATH + 32], data[PATH + 16];
  tl_err err = {TL_OK, ""};
  tl_train_result pretrained = train("simclr", "vit", TL_OK, NULL, 2, 0, NULL), r = {0};
  snprintf(from, sizeof from, "task.from=%s/model", pretrained.run_dir);
  snprintf(data, sizeof data, "task.train=%s", g_pictures);
  tl_config *cfg = settings((const char *[]){from, data, "task.type=image_classify",
                                             "train.steps=120", "task.valid_fraction=0.3"},
                            5);
  tl_ctx *ctx = NULL;
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err), TL_OK);
  if (tl_train(ctx, cfg, NULL, &r, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_true(r.params < pretrained.params);
  assert_true(tl_scores_find(&r.task.valid, "accuracy") > 0.9);
  tl_ctx_free(ctx);
  tl_config_free(cfg);
}

static void what_cannot_be_is_refused(void **state) {
  (void)state;
  static const struct {
    const char *set[2];
    tl_status want;
    const char *says;
  } cases[] = {
      {{"objective.type=masked", "run.seed=1"}, TL_CONFIG, "simclr"},
      {{"objective.type=simclr", "data.images="}, TL_CONFIG, "data.images"},
      {{"objective.type=simclr", "data.path=somewhere"}, TL_CONFIG, "data.path"},
      {{"objective.type=byol", "optim.ema=0.9"}, TL_CONFIG, "objective.teacher"},
      {{"objective.type=moco", "model.type=bert"}, TL_CONFIG, "model.type"},
      {{"objective.type=barlow", "train.batch=90"}, TL_OK, ""}, /* none is held out then */
      {{"objective.type=barlow", "train.batch=97"}, TL_DATA, "train.batch"},
      {{"objective.type=mae", "objective.decoder_heads=3"}, TL_CONFIG, "objective.decoder_dim"},
      {{"objective.type=mae", "model.type=unet"}, TL_CONFIG, "model.type"},
  };
  tl_ctx *ctx = NULL;
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, NULL), TL_OK);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tl_config *cfg =
        settings((const char *[]){cases[i].set[0], cases[i].set[1], "train.steps=2"}, 3);
    tl_err err = {TL_OK, ""};
    tl_train_result r;
    tl_status s = tl_train(ctx, cfg, NULL, &r, &err);
    if (s != cases[i].want || (s != TL_OK && !strstr(err.msg, cases[i].says)))
      fail_msg("case %zu: %s: %s", i, tl_status_name(s), err.msg);
    tl_config_free(cfg);
  }
  tl_ctx_free(ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(views_come_together_without_collapse), cmocka_unit_test(the_same_bits),
      cmocka_unit_test(hidden_patches_are_filled_in), cmocka_unit_test(a_body_is_left),
      cmocka_unit_test(what_cannot_be_is_refused)};
  return cmocka_run_group_tests(tests, make_pictures, remove_all);
}
