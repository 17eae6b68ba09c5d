/* Pictures with captions: retrieval is learnt, to the same bits on any number of threads and after
 * an interruption; what is left of it; retrieval by hand; what is refused. */
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
#include "tilth/image.h"
#include "tilth/predict.h"
#include "tilth/train.h"
#include "toy_run.h"
#include "transfer/clip.h"

enum { PICTURES = 240, SIDE = 8, STEPS = 150, PATH = 600, MOST = 64, COLOURS = 4, PLACES = 4 };

static char g_dir[64] = "/tmp/tilth-clip-XXXXXX";
static char g_list[PATH];

static const char *const colour[COLOURS] = {"red", "green", "blue", "white"};
static const uint8_t rgb[COLOURS][3] = {
    {220, 20, 20}, {20, 200, 20}, {20, 20, 220}, {250, 250, 250}};
static const char *const place[PLACES] = {"top left", "top right", "bottom left", "bottom right"};

/* A square of a colour in a corner, in noise. */
static void write_picture(const char *path, int c, int at, tl_rng *r) {
  uint8_t pixels[SIDE * SIDE * 3], *png = NULL;
  size_t n = 0;
  tl_err err = {TL_OK, ""};
  for (int p = 0; p < SIDE * SIDE; p++) {
    bool inside = (p % SIDE >= SIDE / 2) == (at % 2) && (p / SIDE >= SIDE / 2) == (at / 2);
    for (int k = 0; k < 3; k++) {
      int v = (inside ? rgb[c][k] : 120) + (int)tl_rng_below(r, 30) - 15;
      pixels[3 * p + k] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
  }
  const tl_image m = {.width = SIDE, .height = SIDE, .channels = 3, .pixels = pixels};
  if (tl_image_encode_png(&m, NULL, 0, &png, &n, &err) != TL_OK ||
      tl_file_write_atomic(path, png, n, &err) != TL_OK)
    fail_msg("%s", err.msg);
  free(png);
}

static void write_text(const char *name, const char *text, char *path) {
  tl_err err = {TL_OK, ""};
  snprintf(path, PATH, "%s/%s", g_dir, name);
  if (tl_file_write_atomic(path, text, strlen(text), &err) != TL_OK) fail_msg("%s", err.msg);
}

static int make_pictures(void **state) {
  (void)state;
  if (!mkdtemp(g_dir)) return -1;
  tl_buf list = {0};
  tl_rng r = tl_rng_make(5, TL_STREAM_TEST, 0, 0);
  tl_buf_puts(&list, "path,caption\n");
  for (int i = 0; i < PICTURES; i++) {
    char path[PATH];
    int c = (int)tl_rng_below(&r, COLOURS), at = (int)tl_rng_below(&r, PLACES);
    snprintf(path, sizeof path, "%s/%d.png", g_dir, i);
    write_picture(path, c, at, &r);
    tl_buf_printf(&list, "%d.png,\"%s, %s\"\n", i, colour[c], place[at]);
  }
  tl_buf_putc(&list, 0);
  write_text("list.csv", list.data, g_list);
  tl_buf_free(&list);
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
  static const char *const own[] = {"objective.type=clip",
                                    "data.tokenizer=bytes",
                                    "data.val_fraction=0.3",
                                    "model.type=vit",
                                    "model.patch=4",
                                    "model.dim=16",
                                    "model.layers=1",
                                    "model.heads=2",
                                    "model.init_std=0.1",
                                    "objective.text_dim=16",
                                    "objective.text_layers=1",
                                    "objective.text_heads=2",
                                    "objective.projection=16",
                                    "objective.temperature=0.07",
                                    "train.batch=24",
                                    "train.steps=150",
                                    "optim.warmup=4",
                                    "optim.lr=1e-2",
                                    "run.log_every=1",
                                    "run.checkpoint_minutes=0",
                                    "run.dtype=f32"};
  return toy_settings(text, g_dir, g_list, own, sizeof own / sizeof *own, more, n);
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
static tl_train_result train(tl_status want, const char *run_dir, int threads, int64_t stop_after) {
  const char *text[MOST];
  return toy_run(want, text, keys(text, NULL, 0), run_dir, threads, stop_after, NULL);
}

static bool same_models(const tl_train_result *a, const tl_train_result *b) {
  return same_weights(a, b) && same_file(a, b, "text/model.safetensors") &&
         same_file(a, b, TL_CLIP_FILE);
}

/* Accuracy of the finished model on all pictures, by the captions alone. */
static double zero_shot(const tl_train_result *r) {
  char model[PATH], text[COLOURS * PLACES][40];
  const char *name[COLOURS * PLACES];
  tl_ctx *ctx = NULL;
  tl_predictor *p = NULL;
  tl_image_data d;
  tl_predictions out;
  tl_scores scores;
  tl_err err = {TL_OK, ""};
  snprintf(model, sizeof model, "%s/model", r->run_dir);
  for (int i = 0; i < COLOURS * PLACES; i++) {
    snprintf(text[i], sizeof text[i], "%s, %s", colour[i % COLOURS], place[i / COLOURS]);
    name[i] = text[i];
  }
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err), TL_OK);
  if (tl_predictor_open_names(ctx, model, name, COLOURS * PLACES, &p, &err) != TL_OK)
    fail_msg("%s", err.msg);
  const tl_image_options o = {.labels = tl_predictor_labels(p)};
  if (tl_image_read(g_list, &o, &d, &err) != TL_OK ||
      tl_predictor_run_images(p, &d, &out, &scores, &err) != TL_OK)
    fail_msg("%s", err.msg);
  for (size_t i = 0; i < out.n; i++) {
    double sum = 0;
    for (int k = 0; k < out.n_outputs; k++)
      sum += (double)out.output[i * COLOURS * PLACES + (size_t)k];
    assert_true(fabs(sum - 1) < 1e-5);
  }
  tl_predictions_free(&out);
  tl_image_data_free(&d);
  tl_predictor_free(p);
  tl_ctx_free(ctx);
  return tl_scores_find(&scores, "accuracy");
}

/* There are 16 captions: chance is 1 in 16. */
static void retrieval_is_learnt_to_the_same_bits(void **state) {
  (void)state;
  tl_train_result one = train(TL_OK, NULL, 1, 0);
  double to_text = tl_scores_find(&one.task.valid, "image_to_text@1"),
         to_image = tl_scores_find(&one.task.valid, "text_to_image@1");
  if (!(to_text > 0.8 && to_image > 0.8)) fail_msg("recall@1 %g, %g", to_text, to_image);
  assert_true(tl_scores_find(&one.task.valid, "image_to_text@5") >= to_text);
  assert_int_equal(one.task.n_valid, 72);
  double named = zero_shot(&one);
  if (!(named > 0.8)) fail_msg("zero-shot accuracy %g", named);
  tl_train_result three = train(TL_OK, NULL, 3, 0);
  assert_true(same_models(&one, &three));
  tl_train_result half = train(TL_PREEMPTED, NULL, 2, 40);
  assert_int_equal(half.steps, 40);
  tl_train_result whole = train(TL_OK, half.run_dir, 2, 0);
  assert_int_equal(whole.steps, STEPS);
  assert_true(same_models(&one, &whole));
  assert_true(one.val_loss == whole.val_loss);
}

/* --- retrieval ---------------------------------------------------------------------------------
 */

static void retrieval_by_hand(void **state) {
  (void)state;
  /* Captions 0 and 2 (twice); the third picture lies nearer to caption 0 than to its own. */
  static const float pictures[] = {1, 0, 0, 1, 0.8f, 0.6f}, texts[] = {1, 0, 0, 1, 0, 1};
  static const int32_t text[] = {0, 2, 2};
  tl_ctx *ctx = NULL;
  tl_retrieval r;
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, NULL), TL_OK);
  assert_int_equal(tl_retrieve(ctx, pictures, texts, text, 3, 4, 2, &r, NULL), TL_OK);
  assert_true(fabs(r.recall[0] - 2.0 / 3) < 1e-12 && r.recall[1] == 1 && r.recall[3] == 1);
  /* All alike: nothing is found at 1. */
  static const float same[] = {1, 0, 1, 0, 1, 0};
  assert_int_equal(tl_retrieve(ctx, same, same, text, 3, 4, 2, &r, NULL), TL_OK);
  assert_true(r.recall[0] == 0 && r.recall[3] == 0 && r.recall[1] == 1);
  static const float nan[] = {NAN, 0, NAN, 0, NAN, 0};
  assert_int_equal(tl_retrieve(ctx, nan, nan, text, 3, 4, 2, &r, NULL), TL_OK);
  assert_true(r.recall[0] == 0 && r.recall[3] == 0);
  tl_ctx_free(ctx);
}

static void what_cannot_be_is_refused(void **state) {
  (void)state;
  char blank[PATH], alone[PATH], set[3][PATH + 16];
  write_text("blank.csv", "path,caption\n0.png,red\n1.png,\"  \"\n2.png,blue\n", blank);
  write_text("alone.csv", "path\n0.png\n1.png\n2.png\n", alone);
  snprintf(set[0], sizeof set[0], "data.images=%s", blank);
  snprintf(set[1], sizeof set[1], "data.images=%s", alone);
  snprintf(set[2], sizeof set[2], "data.images=%s", g_dir);
  const struct {
    const char *set;
    tl_status want;
    const char *says;
  } cases[] = {{"data.tokenizer=", TL_CONFIG, "data.tokenizer"},
               {"data.tokenizer=nowhere", TL_NOINPUT, "nowhere"},
               {"objective.text_heads=3", TL_CONFIG, "objective.text_dim"},
               {"model.type=bert", TL_CONFIG, "model.type"},
               {"train.batch=1", TL_CONFIG, "train.batch"},
               {"model.type=resnet", TL_OK, ""},
               {set[0], TL_DATA, "blank.csv:3"},
               {set[1], TL_CONFIG, "alone.csv"},
               {set[2], TL_DATA, "captions"}};
  tl_ctx *ctx = NULL;
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, NULL), TL_OK);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tl_config *cfg = settings((const char *[]){"train.batch=2", "train.steps=2", "model.depths=1",
                                               "model.widths=8", cases[i].set},
                              5);
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(retrieval_by_hand),
                                     cmocka_unit_test(retrieval_is_learnt_to_the_same_bits),
                                     cmocka_unit_test(what_cannot_be_is_refused)};
  return cmocka_run_group_tests(tests, make_pictures, remove_all);
}
