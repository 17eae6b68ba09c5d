/* Probes of frozen features: the minimiser, logistic regression, neighbours, eigenvectors, k-means
 * of patches, and the whole on toy pictures and texts. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "eval/knn.h"
#include "eval/lbfgs.h"
#include "eval/patch_means.h"
#include "eval/softmax_regression.h"
#include "eval/symmetric.h"
#include "tilth/embed.h"
#include "tilth/model.h"
#include "tilth/probe.h"
#include "toy_pictures.h"

static char g_dir[64] = "/tmp/tilth-probe-XXXXXX";

static int make_folder(void **state) {
  (void)state;
  return mkdtemp(g_dir) ? 0 : -1;
}

static int remove_folder(void **state) {
  (void)state;
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

static tl_ctx *context(int threads) {
  tl_ctx *ctx = NULL;
  tl_err err = {TL_OK, ""};
  const tl_ctx_options o = {.n_threads = threads};
  if (tl_ctx_new(&o, &ctx, &err) != TL_OK) fail_msg("%s", err.msg);
  return ctx;
}

/* --- the minimiser -----------------------------------------------------------------------------
 */

enum { VARIABLES = 40 };

/* sum_i cosh(s_i (x_i - i)) with scales from 0.1 to 1, coupled by neighbours. */
static double valley(void *user, const double *x, double *g) {
  double f = 0;
  (*(int *)user)++;
  memset(g, 0, VARIABLES * sizeof *g);
  for (int i = 0; i < VARIABLES; i++) {
    double s = 0.1 + 0.9 * i / (VARIABLES - 1), d = s * (x[i] - i);
    f += cosh(d);
    g[i] += s * sinh(d);
    if (i == 0) continue;
    double e = x[i] - x[i - 1] - 1;
    f += 5 * e * e;
    g[i] += 10 * e;
    g[i - 1] -= 10 * e;
  }
  return f;
}

static void the_minimiser_finds_the_minimum(void **state) {
  (void)state;
  double x[VARIABLES] = {0};
  int calls = 0;
  tl_lbfgs_result r;
  tl_err err;
  const tl_lbfgs_options o = {.max_steps = 500, .gradient = 1e-9};
  assert_int_equal(tl_lbfgs(valley, &calls, VARIABLES, &o, x, &r, &err), TL_OK);
  for (int i = 0; i < VARIABLES; i++) assert_true(fabs(x[i] - i) < 1e-5);
  assert_true(r.converged && r.steps < 200 && calls == r.evaluations);
  assert_true(fabs(r.value - VARIABLES) < 1e-9);
}

/* --- eigenvectors ------------------------------------------------------------------------------
 */

static void eigenvectors_are_those(void **state) {
  (void)state;
  enum { N = 17 };
  double a[N * N], d[N * N], v[N * N];
  tl_rng r = tl_rng_make(3, TL_STREAM_TEST, 0, 0);
  for (int i = 0; i < N; i++)
    for (int j = 0; j <= i; j++) a[i * N + j] = a[j * N + i] = (double)tl_rng_normal(&r);
  memcpy(d, a, sizeof a);
  tl_symmetric_eigen(d, N, v);
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) {
      double av = 0, vv = 0;
      for (int k = 0; k < N; k++) {
        av += a[i * N + k] * v[k * N + j];
        vv += v[k * N + i] * v[k * N + j];
      }
      assert_true(fabs(av - v[i * N + j] * d[j * N + j]) < 1e-9);
      assert_true(fabs(vv - (i == j)) < 1e-9);
    }
}

/* --- classifiers -------------------------------------------------------------------------------
 */

enum { N = 300, M = 100, DIM = 13, CLASSES = 3 };
typedef struct blobs {
  float x[N * DIM], y[M * DIM];
  int32_t x_label[N], y_label[M];
} blobs;

/* Normal clouds around three centres; columns of other scales. */
static void make_blobs(blobs *b, double spread) {
  tl_rng r = tl_rng_make(5, TL_STREAM_TEST, 0, 0);
  float centre[CLASSES * DIM];
  for (int i = 0; i < CLASSES * DIM; i++) centre[i] = tl_rng_normal(&r);
  for (int i = 0; i < N + M; i++) {
    float *to = i < N ? b->x + i * DIM : b->y + (i - N) * DIM;
    int32_t c = i % CLASSES;
    for (int k = 0; k < DIM; k++)
      to[k] = (centre[c * DIM + k] + (float)spread * tl_rng_normal(&r)) * (float)(k + 1) + 5;
    *(i < N ? &b->x_label[i] : &b->y_label[i - N]) = c;
  }
}

static double share_equal(const int32_t *a, const int32_t *b, int n) {
  int same = 0;
  for (int i = 0; i < n; i++) same += a[i] == b[i];
  return (double)same / n;
}

/* The largest element of the loss's gradient at r, in f64. */
static double largest_gradient(const tl_softmax_regression *r, const blobs *b) {
  double g[(DIM + 1) * CLASSES] = {0}, largest = 0;
  for (int i = 0; i < DIM * CLASSES; i++) g[i] = r->l2 * r->w[i];
  for (int i = 0; i < N; i++) {
    double p[CLASSES], sum = 0;
    for (int c = 0; c < CLASSES; c++) {
      p[c] = r->w[DIM * CLASSES + c];
      for (int k = 0; k < DIM; k++) p[c] += (double)b->x[i * DIM + k] * r->w[k * CLASSES + c];
      sum += p[c] = exp(p[c]);
    }
    for (int c = 0; c < CLASSES; c++) {
      double d = (p[c] / sum - (b->x_label[i] == c)) / N;
      for (int k = 0; k < DIM; k++) g[k * CLASSES + c] += d * (double)b->x[i * DIM + k];
      g[DIM * CLASSES + c] += d;
    }
  }
  for (int i = 0; i < (DIM + 1) * CLASSES; i++) largest = fmax(largest, fabs(g[i]));
  return largest;
}

static void logistic_regression_is_at_its_minimum(void **state) {
  (void)state;
  static blobs b;
  tl_err err = {TL_OK, ""};
  double *first = NULL;
  for (int threads = 1; threads <= 3; threads++) {
    tl_ctx *ctx = context(threads);
    tl_softmax_regression r;
    int32_t class[M];
    make_blobs(&b, 1.2);
    tl_standardise(ctx, b.x, N, DIM, b.y, M);
    for (int k = 0; k < DIM; k++) {
      double sum = 0, square = 0;
      for (int i = 0; i < N; i++) {
        sum += (double)b.x[i * DIM + k];
        square += (double)b.x[i * DIM + k] * (double)b.x[i * DIM + k];
      }
      assert_true(fabs(sum) < 1e-3 && fabs(square / N - 1) < 1e-4);
    }
    assert_int_equal(
        tl_softmax_regression_fit(ctx, b.x, b.x_label, N, DIM, CLASSES, N / 5, &r, &err), TL_OK);
    assert_true(r.valid > 0.6 && r.valid <= 1 && r.l2 <= 1);
    assert_true(largest_gradient(&r, &b) < 2e-3);
    assert_int_equal(tl_softmax_regression_predict(ctx, &r, b.y, M, class, &err), TL_OK);
    assert_true(share_equal(class, b.y_label, M) > 0.7);
    if (threads == 1) {
      first = r.w;
      r.w = NULL;
    } else {
      assert_memory_equal(r.w, first, (DIM + 1) * CLASSES * sizeof *first);
    }
    tl_softmax_regression_free(&r);
    assert_int_equal(tl_softmax_regression_fit(ctx, b.x, b.x_label, N, DIM, CLASSES, N, &r, &err),
                     TL_DATA);
    assert_int_equal(tl_softmax_regression_fit(ctx, b.x, b.x_label, N, DIM, CLASSES, 0, &r, &err),
                     TL_OK);
    assert_true(isnan(r.valid) && largest_gradient(&r, &b) < 5e-4);
    tl_softmax_regression_free(&r);
    tl_ctx_free(ctx);
  }
  free(first);
}

static void neighbours_vote_as_said(void **state) {
  (void)state;
  enum { K = 7 };
  static blobs b;
  tl_err err = {TL_OK, ""};
  int32_t class[M], all[M];
  tl_ctx *ctx = context(2);
  make_blobs(&b, 1.5);
  memset(b.y, 0, DIM * sizeof *b.y); /* a row without a direction */
  const tl_knn_options o = {K, 0.07}, large = {1000, 0.07}, none = {0, 0.07};
  assert_int_equal(tl_knn(ctx, &o, b.x, b.x_label, N, b.y, M, DIM, CLASSES, class, &err), TL_OK);
  assert_int_equal(tl_knn(ctx, &large, b.x, b.x_label, N, b.y, M, DIM, CLASSES, all, &err), TL_OK);
  assert_int_equal(tl_knn(ctx, &none, b.x, b.x_label, N, b.y, M, DIM, CLASSES, all, &err),
                   TL_CONFIG);
  for (int i = 0; i < M; i++) {
    tl_neighbour near[K];
    double vote[CLASSES] = {0};
    int32_t best = 0;
    tl_nearest(b.x, N, DIM, b.y + i * DIM, K, near);
    for (int k = 0; k < K; k++) vote[b.x_label[near[k].index]] += exp(near[k].cosine / 0.07);
    for (int32_t c = 1; c < CLASSES; c++)
      if (vote[c] > vote[best] * (1 + 1e-9)) best = c;
    if (i > 0) assert_int_equal(class[i], best);
  }
  assert_in_range(class[0], 0, CLASSES - 1);
  assert_true(share_equal(class, b.y_label, M) > 0.5);
  tl_ctx_free(ctx);
}

/* --- pictures ----------------------------------------------------------------------------------
 */

enum { TRAIN = 240, TEST = 80, CENTROIDS = 12 };

static void read_pictures(tl_image_data *train, tl_image_data *test) {
  char path[2][TOY_PATH];
  tl_err err = {TL_OK, ""};
  toy_pictures(g_dir, "train", TRAIN, 1, path[0]);
  toy_pictures(g_dir, "test", TEST, 2, path[1]);
  tl_status s = tl_image_read(path[0], NULL, train, &err);
  if (s == TL_OK) s = tl_image_read(path[1], NULL, test, &err);
  if (s != TL_OK) fail_msg("%s", err.msg);
}

static void kmeans_features_are_whitened_and_the_same_on_any_threads(void **state) {
  (void)state;
  static float x[2][TRAIN * 4 * CENTROIDS];
  tl_image_data train, test;
  tl_err err = {TL_OK, ""};
  read_pictures(&train, &test);
  tl_patch_means_options o = {
      .centroids = CENTROIDS, .pictures = 100, .size = TOY_SIDE, .channels = 1, .seed = 1};
  for (int i = 0; i < 2; i++) {
    tl_ctx *ctx = context(1 + 2 * i);
    tl_patch_means *p = NULL;
    tl_status s = tl_patch_means_learn(ctx, &train, NULL, TRAIN, &o, &p, &err);
    if (s == TL_OK) s = tl_patch_means_run(p, &train, NULL, TRAIN, x[i], &err);
    if (s != TL_OK) fail_msg("%s", err.msg);
    assert_int_equal(tl_patch_means_dim(p), 4 * CENTROIDS);
    tl_patch_means_free(p);
    tl_ctx_free(ctx);
  }
  assert_memory_equal(x[0], x[1], sizeof x[0]);
  double zeros = 0, sum = 0;
  for (int i = 0; i < TRAIN * 4 * CENTROIDS; i++) {
    assert_true(x[0][i] >= 0);
    zeros += x[0][i] <= 0;
    sum += (double)x[0][i];
  }
  assert_true(sum > 0 && zeros < TRAIN * 4 * CENTROIDS / 2.0);
  tl_ctx *ctx = context(1);
  tl_patch_means *p = NULL;
  o.centroids = 3000;
  assert_int_equal(tl_patch_means_learn(ctx, &train, NULL, TRAIN, &o, &p, &err), TL_DATA);
  tl_ctx_free(ctx);
  tl_image_data_free(&train);
  tl_image_data_free(&test);
}

static void save_model(const tl_model_config *c, const char *name, char *dir) {
  tl_model *m = NULL;
  tl_tokenizer *tok = NULL;
  tl_ctx *ctx = context(1);
  tl_err err = {TL_OK, ""};
  snprintf(dir, TOY_PATH, "%s/%s", g_dir, name);
  tl_status s = tl_model_new(c, 7, false, &m, &err);
  if (s == TL_OK && c->vocab) s = tl_tokenizer_open(ctx, "bytes", &tok, &err);
  if (s == TL_OK) s = tl_model_save(m, tok, dir, &err);
  if (s != TL_OK) fail_msg("%s", err.msg);
  tl_model_free(m);
  tl_tokenizer_free(tok);
  tl_ctx_free(ctx);
}

static const tl_model_config vit = {.type = "vit",
                                    .dim = 16,
                                    .layers = 1,
                                    .heads = 2,
                                    .kv_heads = 2,
                                    .ff = 32,
                                    .max_len = 5,
                                    .image_size = TOY_SIDE,
                                    .patch = 4,
                                    .channels = 1,
                                    .norm_eps = 1e-6,
                                    .init_std = 0.2,
                                    .act = "gelu"};

static tl_probe_result probe_pictures(const char *dir, const tl_probe_options *o, int threads,
                                      tl_status want, tl_err *err) {
  tl_image_data train, test;
  tl_probe_result r;
  tl_ctx *ctx = context(threads);
  read_pictures(&train, &test);
  tl_status s = tl_probe_images(ctx, dir, &train, &test, o, &r, err);
  if (s != want) fail_msg("%s: %s", tl_status_name(s), s == TL_OK ? "" : err->msg);
  tl_image_data_free(&train);
  tl_image_data_free(&test);
  tl_ctx_free(ctx);
  return r;
}

static void pictures_are_probed(void **state) {
  (void)state;
  char dir[TOY_PATH];
  tl_err err = {TL_OK, ""};
  save_model(&vit, "vit", dir);
  tl_probe_options o = {.dtype = "f32", .random = true, .kmeans = true, .centroids = CENTROIDS};
  tl_probe_result r = probe_pictures(dir, &o, 1, TL_OK, &err);
  assert_int_equal(r.n, 5);
  assert_int_equal(r.n_train, TRAIN);
  assert_int_equal(r.n_valid, TRAIN / 5);
  assert_true(fabs(r.majority - 0.5) < 1e-9);
  static const char *const names[5][2] = {{"model", "knn"},
                                          {"model", "linear"},
                                          {"random", "knn"},
                                          {"random", "linear"},
                                          {"k-means", "linear"}};
  for (int i = 0; i < r.n; i++) {
    const tl_probe_row *w = &r.row[i];
    assert_string_equal(w->features, names[i][0]);
    assert_string_equal(w->method, names[i][1]);
    assert_int_equal(w->dim, i == 4 ? 4 * CENTROIDS : 16);
    assert_true(w->lo <= w->accuracy && w->accuracy <= w->hi);
    assert_true(w->accuracy > (strcmp(w->method, "knn") ? 0.8 : 0.6));
    assert_true(isnan(w->gain) == (i < 2));
    if (i >= 2)
      assert_true(fabs(w->gain - (r.row[i == 4 ? 1 : i - 2].accuracy - w->accuracy)) < 1e-9);
  }
  tl_probe_result again = probe_pictures(dir, &o, 3, TL_OK, &err);
  for (int i = 0; i < r.n; i++) assert_true(r.row[i].accuracy == again.row[i].accuracy);

  o = (tl_probe_options){.per_class = 4, .pool = "mean"};
  r = probe_pictures(dir, &o, 2, TL_OK, &err);
  assert_int_equal(r.n_train, 8);
  assert_int_equal(r.n_valid, 0);
  assert_int_equal(r.n, 2);
  assert_true(fabs(r.row[1].l2 - 0.01) < 1e-12);
  o = (tl_probe_options){.labels = 0.25, .pool = "first"};
  assert_int_equal(probe_pictures(dir, &o, 2, TL_OK, &err).n_train, TRAIN / 4);
  o.per_class = 3;
  probe_pictures(dir, &o, 1, TL_CONFIG, &err);
  o = (tl_probe_options){.pool = "last"};
  probe_pictures(dir, &o, 1, TL_CONFIG, &err);
}

/* --- texts -------------------------------------------------------------------------------------
 */

static void texts_are_probed(void **state) {
  (void)state;
  char path[TOY_PATH], dir[TOY_PATH], text[4096] = "";
  tl_err err = {TL_OK, ""};
  for (int i = 0; i < 60; i++) {
    char line[64];
    snprintf(line, sizeof line, "%s\t%s number %d\n", i % 2 ? "day" : "night",
             i % 2 ? "the sun" : "a moon", i);
    strcat(text, line);
  }
  snprintf(path, sizeof path, "%s/texts.tsv", g_dir);
  toy_write_file(path, text, strlen(text));
  const tl_model_config c = {.type = "encoder",
                             .dim = 16,
                             .layers = 1,
                             .heads = 2,
                             .kv_heads = 2,
                             .ff = 32,
                             .vocab = 264,
                             .max_len = 48,
                             .norm_eps = 1e-5,
                             .rope_theta = 10000,
                             .init_std = 0.2,
                             .act = "gelu"};
  save_model(&c, "encoder", dir);
  tl_task_data d;
  tl_probe_result r;
  tl_ctx *ctx = context(2);
  tl_probe_options o = {.dtype = "f32", .random = true};
  const tl_task_options how = {.kind = TL_TASK_CLASS};
  assert_int_equal(tl_task_read(path, &how, &d, &err), TL_OK);
  tl_status s = tl_probe_texts(ctx, dir, &d, &d, &o, &r, &err);
  if (s != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(r.n, 4);
  for (int i = 0; i < r.n; i++) assert_true(r.row[i].accuracy > 0.9);
  o.kmeans = true;
  assert_int_equal(tl_probe_texts(ctx, dir, &d, &d, &o, &r, &err), TL_CONFIG);
  tl_task_data_free(&d);
  bool images = true;
  assert_int_equal(tl_probe_reads_images(dir, &images, &err), TL_OK);
  assert_false(images);
  o = (tl_probe_options){0};
  probe_pictures(dir, &o, 1, TL_CONFIG, &err);
  tl_ctx_free(ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_minimiser_finds_the_minimum),
      cmocka_unit_test(eigenvectors_are_those),
      cmocka_unit_test(logistic_regression_is_at_its_minimum),
      cmocka_unit_test(neighbours_vote_as_said),
      cmocka_unit_test(kmeans_features_are_whitened_and_the_same_on_any_threads),
      cmocka_unit_test(pictures_are_probed),
      cmocka_unit_test(texts_are_probed),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
