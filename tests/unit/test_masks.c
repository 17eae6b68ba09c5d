/* Pictures with masks: which files belong together, what is refused, what the metrics count, and a
 * toy that is learnt to the same bits after an interruption. */
#include <archive.h>
#include <archive_entry.h>
#include <math.h>
#include <setjmp.h>
#include <spng.h>
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
#include "eval/mask_metrics.h"
#include "tilth/train.h"
#include "tilth/transfer.h"
#include "transfer/gallery.h"
#include "transfer/mask.h"
#include "toy_run.h"

enum { W = 20, H = 14, VOID_ID = 7, TRAIN = 40, TEST = 16, PATH = 600 };

static char g_dir[64] = "/tmp/tilth-masks-XXXXXX";

static int make_dir(void **state) {
  (void)state;
  return mkdtemp(g_dir) ? 0 : -1;
}

static int remove_all(void **state) {
  (void)state;
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

/* --- files -------------------------------------------------------------------------------------
 */

static char *path_of(const char *name) {
  static char path[PATH];
  snprintf(path, sizeof path, "%s/%s", g_dir, name);
  return path;
}

static void write_bytes(const char *name, const void *data, size_t n) {
  tl_err err = {TL_OK, ""};
  char *path = path_of(name), *slash = strrchr(path, '/');
  *slash = 0;
  if (tl_mkdirs(path, &err) != TL_OK) fail_msg("%s", err.msg);
  *slash = '/';
  if (tl_file_write_atomic(path, data, n, &err) != TL_OK) fail_msg("%s", err.msg);
}

static void write_png(const char *name, const tl_image *m) {
  uint8_t *png = NULL;
  size_t n = 0;
  tl_err err = {TL_OK, ""};
  if (tl_image_encode_png(m, NULL, 0, &png, &n, &err) != TL_OK) fail_msg("%s", err.msg);
  write_bytes(name, png, n);
  free(png);
}

/* A picture of one value, and a mask with that value modulo 4 as its class. */
static void write_pair(const char *picture, const char *mask, int value) {
  uint8_t pixels[W * H];
  const tl_image m = {W, H, 1, pixels};
  memset(pixels, value, sizeof pixels);
  write_png(picture, &m);
  memset(pixels, value % 4, sizeof pixels);
  pixels[0] = VOID_ID;
  if (mask) write_png(mask, &m);
}

static void add_to_tar(struct archive *a, const char *file, const char *as) {
  tl_buf b = {0};
  tl_err err = {TL_OK, ""};
  assert_int_equal(tl_file_read(path_of(file), 1 << 20, &b, &err), TL_OK);
  struct archive_entry *e = archive_entry_new();
  archive_entry_set_pathname(e, as);
  archive_entry_set_size(e, (la_int64_t)b.len);
  archive_entry_set_filetype(e, AE_IFREG);
  archive_entry_set_perm(e, 0644);
  assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
  archive_write_data(a, b.data, b.len);
  archive_entry_free(e);
  tl_buf_free(&b);
}

static tl_status read_set(const char *name, const char *labels, bool skip, tl_image_data *d,
                          tl_err *err) {
  const tl_mask_options masks = {.void_id = VOID_ID};
  tl_labels known = {0};
  const char *names[] = {"a", "b", "c", "d"};
  tl_image_options o = {.masks = &masks, .skip_bad = skip};
  if (labels) assert_int_equal(tl_labels_make(names, strlen(labels), &known, err), TL_OK);
  if (labels) o.labels = &known;
  *err = (tl_err){TL_OK, ""};
  tl_status s = tl_image_read(path_of(name), &o, d, err);
  tl_labels_free(&known);
  return s;
}

/* Two pictures, of values 10 and 33, each with its own mask. */
static void check_two(const char *name) {
  tl_image_data d;
  tl_err err;
  if (read_set(name, NULL, false, &d, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(d.records.n, 2);
  assert_int_equal(d.masks->records.n, 2);
  assert_int_equal(d.records.labels.n, 3);
  assert_string_equal(d.records.labels.name[2], "2");
  int seen = 0;
  for (size_t i = 0; i < 2; i++) {
    tl_image m, mask;
    assert_int_equal(tl_image_get(&d, i, 1, &m, &err), TL_OK);
    assert_int_equal(tl_image_get(d.masks, i, 1, &mask, &err), TL_OK);
    assert_true(mask.width == W && mask.height == H && mask.channels == 1);
    assert_int_equal(mask.pixels[0], TL_MASK_VOID);
    assert_int_equal(mask.pixels[1], m.pixels[1] % 4);
    seen += m.pixels[1];
    tl_image_free(&m);
    tl_image_free(&mask);
  }
  assert_int_equal(seen, 43);
  tl_image_data_free(&d);
}

static void pairs_are_found(void **state) {
  (void)state;
  write_pair("set/images/one.png", "set/masks/one.png", 10);
  write_pair("set/images/deep/er/two.x.png", "set/masks/deep/er/two.x.png", 33);
  check_two("set");
  write_pair("beside/one.png", "beside/one_mask.png", 33);
  write_pair("beside/two.png", "beside/two_mask.png", 10);
  check_two("beside");
  const char *const lists[] = {"path,mask\nset/images/one.png,set/masks/one.png\n"
                               "beside/one.png,beside/one_mask.png\n",
                               "set/images/one.png,set/masks/one.png\n"
                               "beside/one.png,beside/one_mask.png\n"};
  for (int i = 0; i < 2; i++) {
    write_bytes("list.csv", lists[i], strlen(lists[i]));
    check_two("list.csv");
  }
  struct archive *a = archive_write_new();
  archive_write_set_format_ustar(a);
  assert_int_equal(archive_write_open_filename(a, path_of("all.tar")), ARCHIVE_OK);
  add_to_tar(a, "set/images/one.png", "data/train/images/one.png");
  add_to_tar(a, "set/images/deep/er/two.x.png", "data/train/images/two.x.png");
  add_to_tar(a, "beside/one_mask.png", "data/train/masks/two.x.png");
  add_to_tar(a, "set/masks/one.png", "data/train/masks/one.png");
  add_to_tar(a, "beside/two.png", "data/val/images/one.png");
  archive_write_free(a);
  check_two("all.tar,train");
}

/* Ids of 1, 2 and 4 bits, whose palettes say something else. */
static void indices_of_a_palette_are_the_classes(void **state) {
  (void)state;
  for (int bits = 1; bits <= 8; bits *= 2) {
    size_t line = (size_t)(W * bits + 7) / 8, n = 0;
    uint8_t raw[W * H] = {0};
    for (size_t i = 0; i < W * H; i++) {
      size_t x = i % W;
      unsigned v = (unsigned)(i % 5) & ((1u << bits) - 1);
      raw[i / W * line + x * (size_t)bits / 8] |=
          (uint8_t)(v << (8 - (size_t)bits - x * (size_t)bits % 8));
    }
    spng_ctx *c = spng_ctx_new(SPNG_CTX_ENCODER);
    struct spng_ihdr h = {W, H, (uint8_t)bits, SPNG_COLOR_TYPE_INDEXED, 0, 0, 0};
    struct spng_plte p = {.n_entries = 1u << bits};
    memset(p.entries, 99, sizeof p.entries);
    spng_set_option(c, SPNG_ENCODE_TO_BUFFER, 1);
    assert_int_equal(spng_set_ihdr(c, &h) | spng_set_plte(c, &p), 0);
    assert_int_equal(spng_encode_image(c, raw, line * H, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE), 0);
    int code = 0;
    void *png = spng_get_png_buffer(c, &n, &code);
    tl_image m;
    tl_err err = {TL_OK, ""};
    if (tl_image_decode_ids(png, n, "x", NULL, &m, &err) != TL_OK) fail_msg("%s", err.msg);
    for (unsigned i = 0; i < W * H; i++) assert_int_equal(m.pixels[i], i % 5 & ((1u << bits) - 1));
    tl_image_free(&m);
    free(png);
    spng_ctx_free(c);
  }
}

static void must_fail(const char *name, const char *labels, const char *one, const char *two) {
  tl_image_data d;
  tl_err err;
  assert_int_equal(read_set(name, labels, false, &d, &err), TL_DATA);
  if (!strstr(err.msg, one) || !strstr(err.msg, two))
    fail_msg("\"%s\" does not say \"%s\" and \"%s\"", err.msg, one, two);
  assert_int_equal(d.records.n, 0);
}

static void what_does_not_fit_is_named(void **state) {
  (void)state;
  uint8_t pixels[W * H * 3] = {0};
  write_pair("alone/images/one.png", "alone/masks/one.png", 1);
  write_pair("alone/images/two.png", NULL, 1);
  must_fail("alone", NULL, "images/two.png", "without a mask");
  tl_image_data d;
  tl_err err;
  assert_int_equal(read_set("alone", NULL, true, &d, &err), TL_OK); /* left out, and counted */
  assert_int_equal(d.records.n, 1);
  assert_int_equal(d.n_bad, 1);
  assert_non_null(strstr(d.bad[0], "two.png"));
  tl_image_data_free(&d);

  write_pair("extra/images/one.png", "extra/masks/one.png", 1);
  write_pair("extra/masks/two.png", NULL, 1);
  must_fail("extra", NULL, "masks/two.png", "without a picture");
  write_pair("double/images/one.png", "double/masks/one.png", 1);
  write_pair("double/images/one.jpg", NULL, 1);
  must_fail("double", NULL, "one.png", "twice");

  write_pair("sizes/images/one.png", NULL, 1);
  write_png("sizes/masks/one.png", &(tl_image){W, H - 1, 1, pixels});
  must_fail("sizes", NULL, "sizes/images/one.png", "20 x 13");
  write_png("sizes/masks/one.png", &(tl_image){W, H, 3, pixels});
  must_fail("sizes", NULL, "sizes/masks/one.png", "colours");

  write_pair("ids/images/one.png", "ids/masks/one.png", 3);
  must_fail("ids", "abc", "ids/masks/one.png", "class 3");
  assert_int_equal(read_set("ids", "abcd", false, &d, &err), TL_OK);
  tl_image_data_free(&d);
  must_fail("all.tar,nowhere", NULL, "no pictures", "nowhere");
}

/* --- metrics -----------------------------------------------------------------------------------
 */

/* Two pictures, three classes; the third occurs in the second picture only, a fourth nowhere but
 * predicted. Right, predicted, true. */
static const uint64_t counted[2][4][TL_PIXELS_N] = {{{6, 8, 6}, {2, 2, 4}, {0, 0, 0}, {0, 0, 0}},
                                                    {{5, 5, 10}, {0, 3, 0}, {1, 6, 6}, {0, 2, 0}}};

static bool near(double a, double b) {
  return fabs(a - b) < 1e-12;
}

static void metrics_are_those_by_hand(void **state) {
  (void)state;
  const uint64_t *p = &counted[0][0][0];
  const size_t first[] = {0, 0}, second[] = {1};
  double iou[4];
  /* class 0: 11 / (13 + 16 - 11); class 1: 2 / (5 + 4 - 2); class 2: 1 / (6 + 6 - 1) */
  double want = (11.0 / 18 + 2.0 / 7 + 1.0 / 11) / 3;
  assert_true(near(tl_mask_iou(p, 4, NULL, 2, iou), want));
  assert_true(near(iou[0], 11.0 / 18) && near(iou[1], 2.0 / 7) && near(iou[2], 1.0 / 11));
  assert_true(isnan(iou[3]));
  assert_true(near(tl_mask_iou(p, 4, first, 2, NULL), (12.0 / 16 + 4.0 / 8) / 2));
  assert_true(near(tl_mask_iou(p, 4, second, 1, NULL), (5.0 / 10 + 1.0 / 11) / 2));
  assert_true(near(tl_mask_accuracy(p, 4, NULL, 2), 14.0 / 26));
  assert_true(near(tl_mask_class_accuracy(p, 4, NULL, 2), (11.0 / 16 + 2.0 / 4 + 1.0 / 6) / 3));
  assert_true(isnan(tl_mask_iou(p, 4, NULL, 0, NULL)));
}

/* --- training ----------------------------------------------------------------------------------
 */

/* A bright rectangle (class 1) on a dark ground (class 0), in noise; a strip at the right says
 * nothing and has no class. */
static void write_toy(const char *set, int n, uint64_t seed) {
  tl_rng r = tl_rng_make(seed, TL_STREAM_TEST, 0, 0);
  for (int i = 0; i < n; i++) {
    uint8_t x[W * H], y[W * H];
    char name[64];
    int x0 = (int)tl_rng_below(&r, 8), y0 = (int)tl_rng_below(&r, 6);
    int x1 = x0 + 6 + (int)tl_rng_below(&r, 4), y1 = y0 + 4 + (int)tl_rng_below(&r, 4);
    for (int p = 0; p < W * H; p++) {
      bool in = p % W >= x0 && p % W < x1 && p / W >= y0 && p / W < y1, out = p % W >= W - 2;
      y[p] = out ? VOID_ID : in;
      x[p] = (uint8_t)((out ? tl_rng_below(&r, 200) : in ? 150 : 30) + tl_rng_below(&r, 50));
    }
    snprintf(name, sizeof name, "%s/images/%02d.png", set, i);
    write_png(name, &(tl_image){W, H, 1, x});
    snprintf(name, sizeof name, "%s/masks/%02d.png", set, i);
    write_png(name, &(tl_image){W, H, 1, y});
  }
}

/* A new run, or on in run_dir. */
static tl_train_result train(tl_status want, const char *more, const char *run_dir, int threads,
                             int64_t stop_after) {
  char dir[PATH], data[PATH + 16], test[PATH + 16];
  snprintf(dir, sizeof dir, "run.dir=%s", g_dir);
  snprintf(data, sizeof data, "task.train=%s/train", g_dir);
  snprintf(test, sizeof test, "task.test=%s/test", g_dir);
  const char *text[] = {dir,
                        data,
                        test,
                        "task.type=image_segment",
                        "task.dropout=0.1",
                        "task.valid_fraction=0.2",
                        "model.type=vit",
                        "model.image_size=16",
                        "model.patch=4",
                        "model.dim=16",
                        "model.layers=2",
                        "model.heads=2",
                        "train.batch=4",
                        "train.accum=2",
                        "train.steps=120",
                        "optim.warmup=4",
                        "optim.lr=1e-2",
                        "image.void_id=7",
                        "image.classes=ground,rectangle",
                        "image.crop=resized",
                        "image.crop_min=0.8",
                        "image.flip=0.5",
                        "run.log_every=1",
                        "run.checkpoint_minutes=0",
                        "run.dtype=f32",
                        more ? more : "run.name=toy"};
  return toy_run(want, text, sizeof text / sizeof *text, run_dir, threads, stop_after, NULL);
}

/* The finished model scores as the run did, writes masks whose pixels are those it counts, and
 * finds the value of void pixels in its own configuration. */
static void check_predictor(const tl_train_result *r) {
  char model[PATH], out[PATH];
  tl_ctx *ctx = NULL;
  tl_predictor *p = NULL;
  tl_image_data d;
  tl_predictions pred;
  tl_scores scores;
  tl_err err = {TL_OK, ""};
  snprintf(model, sizeof model, "%s/model", r->run_dir);
  snprintf(out, sizeof out, "%s/predicted", g_dir);
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err), TL_OK);
  if (tl_predictor_open(ctx, model, "f32", 0, &p, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_string_equal(tl_predictor_task(p), "image_segment");
  const tl_image_options o = {.masks = tl_predictor_masks(p), .labels = tl_predictor_labels(p)};
  assert_int_equal(o.masks->void_id, VOID_ID);
  if (tl_image_read(path_of("test"), &o, &d, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(tl_predictor_run_images(p, &d, &pred, NULL, &err), TL_CONFIG);
  if (tl_predictor_run_masks(p, &d, out, &pred, &scores, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_true(tl_scores_find(&scores, "miou") == tl_scores_find(&r->task.test, "miou"));
  for (size_t i = 0; i < pred.n; i++) {
    tl_buf b = {0};
    tl_image m, truth;
    assert_int_equal(tl_file_read(pred.text[i], 1 << 20, &b, &err), TL_OK);
    assert_int_equal(tl_image_decode_ids(b.data, b.len, "written", NULL, &m, &err), TL_OK);
    assert_int_equal(tl_image_get(d.masks, i, 1, &truth, &err), TL_OK);
    assert_true(m.width == W && m.height == H);
    uint64_t right = 0;
    for (int k = 0; k < W * H; k++) right += m.pixels[k] == 1 && truth.pixels[k] == 1;
    assert_int_equal(right, pred.pixels[(2 * i + 1) * TL_PIXELS_N + TL_PIXELS_RIGHT]);
    tl_image_free(&m);
    tl_image_free(&truth);
    tl_buf_free(&b);
  }
  tl_predictions_free(&pred);
  tl_image_data_free(&d);
  tl_predictor_free(p);
  tl_ctx_free(ctx);
}

/* The report has three groups for a run: what training sees, rows of three pictures, and a colour
 * for each class. */
static void check_pictures(const tl_train_result *r) {
  tl_ctx *ctx = NULL;
  json_t *doc = NULL;
  tl_err err = {TL_OK, ""};
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err), TL_OK);
  if (tl_gallery_run(ctx, r->run_dir, &doc, &err) != TL_OK) fail_msg("%s", err.msg);
  const json_t *groups = json_object_get(doc, "pictures");
  size_t n = json_array_size(groups);
  assert_true(n >= 3);
  const json_t *rows = json_object_get(json_array_get(groups, n - 2), "rows");
  const json_t *classes = json_object_get(json_array_get(groups, n - 1), "rows");
  assert_int_equal(json_array_size(rows), 6);
  assert_int_equal(json_array_size(json_object_get(json_array_get(rows, 0), "pictures")), 3);
  assert_int_equal(json_array_size(classes), 2);
  const char *text = json_string_value(json_object_get(json_array_get(classes, 1), "text"));
  assert_non_null(strstr(text, "rectangle, IoU"));
  json_decref(doc);
  tl_ctx_free(ctx);
}

static char g_finished[PATH]; /* the model of the first run */

static void the_toy_is_learnt_to_the_same_bits(void **state) {
  (void)state;
  write_toy("train", TRAIN, 1);
  write_toy("test", TEST, 2);
  tl_train_result straight = train(TL_OK, NULL, NULL, 1, 0);
  assert_int_equal(straight.task.n_test, TEST);
  assert_true(tl_scores_find(&straight.task.test, "miou") > 0.75);
  snprintf(g_finished, sizeof g_finished, "%s/model", straight.run_dir);
  check_predictor(&straight);
  check_pictures(&straight);
  tl_train_result threads = train(TL_OK, NULL, NULL, 3, 0);
  assert_true(same_weights(&straight, &threads));
  tl_train_result half = train(TL_PREEMPTED, NULL, NULL, 2, 50);
  assert_int_equal(half.steps, 50);
  tl_train_result whole = train(TL_OK, NULL, half.run_dir, 2, 0);
  assert_true(same_weights(&straight, &whole));
  assert_true(tl_scores_find(&straight.task.test, "miou") ==
              tl_scores_find(&whole.task.test, "miou"));
  tl_train_result weighted = train(TL_OK, "image.class_weights=balanced", NULL, 2, 0);
  assert_false(same_weights(&straight, &weighted));
  assert_true(tl_scores_find(&weighted.task.test, "class_accuracy") > 0.8);
  char names[PATH + 32];
  write_bytes("classes.txt", "ground\r\nrectangle\n", 19);
  snprintf(names, sizeof names, "image.classes=%s", path_of("classes.txt"));
  tl_train_result listed = train(TL_OK, names, NULL, 2, 0);
  assert_true(same_weights(&straight, &listed));
  train(TL_CONFIG, "image.classes=ground,ground", NULL, 1, 0);
  train(TL_CONFIG, "image.mixup=0.2", NULL, 1, 0);
  train(TL_DATA, "image.void_id=3", NULL, 1, 0); /* 7 is not one of the two classes */
}

/* Weights of pictures of 16 x 16 on pictures of 24 x 24: the positions are resized, and what was
 * learnt is still there. */
static void a_model_goes_on_at_another_size(void **state) {
  (void)state;
  tl_ctx *ctx = NULL;
  tl_config *cfg = NULL;
  tl_err err = {TL_OK, ""};
  tl_train_result r[2];
  for (int i = 0; i < 2; i++) {
    char from[PATH + 16], dir[PATH], data[PATH + 16], test[PATH + 16];
    snprintf(from, sizeof from, "task.from=%s", g_finished);
    snprintf(dir, sizeof dir, "run.dir=%s", g_dir);
    snprintf(data, sizeof data, "task.train=%s/train", g_dir);
    snprintf(test, sizeof test, "task.test=%s/test", g_dir);
    const char *text[] = {from,
                          dir,
                          data,
                          test,
                          "task.type=image_segment",
                          "model.image_size=24",
                          "image.void_id=7",
                          "image.classes=ground,rectangle",
                          "train.steps=1",
                          "train.batch=4",
                          "optim.lr=1e-6",
                          "run.dtype=f32",
                          i ? "task.random=true" : "task.random=false"};
    assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err), TL_OK);
    tl_status s = tl_config_load(NULL, NULL, text, sizeof text / sizeof *text, &cfg, &err);
    if (s == TL_OK) s = tl_train(ctx, cfg, NULL, &r[i], &err);
    if (s != TL_OK) fail_msg("%s", err.msg);
    tl_config_free(cfg);
    tl_ctx_free(ctx);
  }
  assert_true(tl_scores_find(&r[0].task.test, "miou") > 0.6);
  assert_true(tl_scores_find(&r[1].task.test, "miou") < 0.55);
}

/* The label study with masks: a trained body beats a random one after few steps. */
static void a_label_study_counts_pictures(void **state) {
  (void)state;
  static const double labels[] = {8}, lrs[] = {1e-3};
  char out[PATH];
  tl_ctx *ctx = NULL;
  tl_config *cfg = NULL;
  tl_err err = {TL_OK, ""};
  const char *settings[][2] = {{"task.type", "image_segment"}, {"task.from", g_finished},
                               {"task.min_steps", "10"},       {"task.epochs", "1"},
                               {"train.batch", "4"},           {"image.void_id", "7"},
                               {"task.train", NULL},           {"task.test", NULL}};
  snprintf(out, sizeof out, "%s/study.json", g_dir);
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err), TL_OK);
  assert_int_equal(tl_config_new(&cfg, &err), TL_OK);
  for (int i = 0; i < 8; i++) {
    const char *value = settings[i][1] ? settings[i][1] : path_of(i == 6 ? "train" : "test");
    if (tl_config_set(cfg, settings[i][0], value, TL_CONFIG_FLAG, "test", &err) != TL_OK)
      fail_msg("%s", err.msg);
  }
  tl_study_options o = {.config = cfg,
                        .title = "Toy",
                        .out_json = out,
                        .labels = labels,
                        .n_labels = 1,
                        .n_seeds = 1,
                        .lrs = lrs,
                        .n_lrs = 1,
                        .arms = TL_STUDY_PRETRAINED | TL_STUDY_SCRATCH | TL_STUDY_BAYES |
                                TL_STUDY_PIXELS};
  if (tl_label_study(ctx, &o, NULL, NULL, &err) != TL_OK) fail_msg("%s", err.msg);
  json_t *doc = json_load_file(out, 0, NULL), *cells = NULL;
  double value[2];
  assert_int_equal(json_unpack(doc, "{s:{s:o}}", "progress", "cells", &cells), 0);
  assert_int_equal(json_unpack(cells, "{s:{s:f}, s:{s:f}}", "pretrained/8/1", "value", &value[0],
                               "scratch/8/1", "value", &value[1]),
                   0);
  assert_true(value[0] > value[1] + 0.1);
  const json_t *label =
      json_array_get(json_object_get(json_object_get(doc, "details"), "labels"), 1);
  assert_true(json_number_value(json_object_get(label, "iou")) > 0.4);
  json_decref(doc);
  tl_config_free(cfg);
  tl_ctx_free(ctx);
}

/* The convolutional network, whose running statistics a checkpoint must hold. */
static void a_unet_learns_and_resumes(void **state) {
  (void)state;
  tl_train_result straight = train(TL_OK, "model.type=unet", NULL, 1, 0);
  assert_true(tl_scores_find(&straight.task.test, "miou") > 0.75);
  tl_train_result half = train(TL_PREEMPTED, "model.type=unet", NULL, 2, 30);
  tl_train_result whole = train(TL_OK, NULL, half.run_dir, 3, 0);
  assert_true(same_weights(&straight, &whole));
  train(TL_CONFIG, "model.type=bert", NULL, 1, 0);
}

/* The weights: class 0 has three quarters of the pixels with a class, class 1 a quarter. */
static void weights_balance_the_classes(void **state) {
  (void)state;
  uint8_t x[16] = {0}, y[16] = {0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7, 7, 7, 7};
  write_png("even/images/one.png", &(tl_image){4, 4, 1, x});
  write_png("even/masks/one.png", &(tl_image){4, 4, 1, y});
  tl_image_data d;
  tl_err err;
  float w[3];
  assert_int_equal(read_set("even", "abc", false, &d, &err), TL_OK);
  assert_int_equal(tl_mask_balance(&d, NULL, 1, 3, w, &err), TL_OK);
  assert_true(fabsf(w[0] - 2.0f / 3) < 1e-6f && fabsf(w[1] - 2) < 1e-6f && w[2] == 1);
  tl_image_data_free(&d);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(pairs_are_found),
                                     cmocka_unit_test(indices_of_a_palette_are_the_classes),
                                     cmocka_unit_test(what_does_not_fit_is_named),
                                     cmocka_unit_test(metrics_are_those_by_hand),
                                     cmocka_unit_test(weights_balance_the_classes),
                                     cmocka_unit_test(the_toy_is_learnt_to_the_same_bits),
                                     cmocka_unit_test(a_model_goes_on_at_another_size),
                                     cmocka_unit_test(a_label_study_counts_pictures),
                                     cmocka_unit_test(a_unet_learns_and_resumes)};
  return cmocka_run_group_tests(tests, make_dir, remove_all);
}
