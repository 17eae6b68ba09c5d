/* ResNet against Hugging Face's transformers, U-Net against one of PyTorch's layers
 * (tools/make_image_goldens.py): logits with the running statistics, then logits, loss, gradients
 * and what the running statistics become in training. */
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
#include "transfer/image_graph.h"

enum { N = 4, C = 5, SIDE = 37, VALUES = 3 * SIDE * SIDE };
enum { UNET_N = 3, UNET_C = 3, UNET_SIDE = 12, UNET_PIXELS = UNET_SIDE * UNET_SIDE };

static void near_to(const char *what, const float *a, const float *b, int64_t n) {
  double most = 0, worst = 0;
  for (int64_t i = 0; i < n; i++) {
    most = fmax(most, fabs((double)b[i]));
    worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
  }
  if (!(worst <= 1e-4 * most + 1e-6)) fail_msg("%s differs by %g of %g", what, worst, most);
}

static const float *golden(const tl_st *st, const char *name) {
  const tl_st_tensor *t = tl_st_find(st, name);
  if (!t) fail_msg("no %s", name);
  return t->data;
}

static void compare_logits(const tl_image_graph *p, const tl_st *st, const char *name) {
  float logits[N * C];
  tl_task_graph view = {.model = p->model, .g = p->g, .features = p->features, .n_targets = N};
  tl_task_graph_logits(&view, logits);
  near_to(name, logits, golden(st, name), N * C);
}

/* Every parameter is compared by its gradient or, running statistics, by its new value. */
static void compare_params(const tl_model *m, const tl_st *st) {
  for (int i = 0; i < m->params.n; i++) {
    const tl_param *p = m->params.p[i];
    bool running = p->flags & TL_PARAM_FIXED;
    char name[256];
    snprintf(name, sizeof name, "%s.%s", running ? "after" : "grad", p->name);
    near_to(name, running ? p->data : p->grad, golden(st, name), p->n);
  }
}

static void compare(const char *folder, int64_t params) {
  tl_err err = {TL_OK, ""};
  tl_ctx *ctx = NULL;
  tl_model *m = NULL;
  tl_st *st = NULL;
  tl_image_graph p;
  tl_model_config c;
  static float pictures[N * VALUES], targets[N * C];
  char path[512];
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err), TL_OK);
  if (tl_model_read_config(folder, &c, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(c.image_size, 224); /* the files do not say */
  c.image_size = SIDE;
  tl_task_head_options o = {.kind = TL_HEAD_SEQUENCE, .n_outputs = C};
  if (tl_model_new_task(&c, &o, 1, true, &m, &err) != TL_OK) fail_msg("%s", err.msg);
  if (tl_model_read_weights(m, folder, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(m->params.n, params);
  snprintf(path, sizeof path, "%s/golden.safetensors", folder);
  assert_int_equal(tl_st_open(path, &st, &err), TL_OK);
  if (tl_image_graph_new(ctx, m, TL_F32, N + 1, true, &p, &err) != TL_OK) fail_msg("%s", err.msg);
  const int32_t *t = tl_st_find(st, "targets")->data;
  memset(targets, 0, sizeof targets);
  for (int i = 0; i < N; i++) {
    tl_picture_rows(&c, golden(st, "pictures") + i * VALUES, pictures + i * VALUES);
    targets[i * C + t[i]] = 1;
  }
  tl_image_graph_set(&p, N, pictures, targets);
  tl_image_graph_run(&p, &(tl_pass){.loss_scale = 1});
  compare_logits(&p, st, "plain");
  const float *loss = tl_image_graph_run(&p, &(tl_pass){.training = true, .loss_scale = 1});
  near_to("loss", loss, golden(st, "loss"), 1);
  compare_logits(&p, st, "logits");
  compare_params(m, st);
  tl_image_graph_free(&p);
  tl_st_close(st);
  tl_model_free(m);
  tl_ctx_free(ctx);
}

static void compare_pixels(const tl_image_graph *p, const tl_st *st, const char *name) {
  near_to(name, p->features->data, golden(st, name), UNET_N * UNET_PIXELS * UNET_C);
}

/* Some pixels have no class, and classes have weights. */
static void test_unet(void **state) {
  (void)state;
  const char *folder = TL_SOURCE_DIR "/tests/golden/models/unet";
  tl_err err = {TL_OK, ""};
  tl_ctx *ctx = NULL;
  tl_model *m = NULL;
  tl_st *st = NULL;
  tl_image_graph p;
  tl_model_config c;
  float pictures[UNET_N * 3 * UNET_PIXELS];
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err), TL_OK);
  if (tl_model_read_config(folder, &c, &err) != TL_OK) fail_msg("%s", err.msg);
  tl_task_head_options o = {.kind = TL_HEAD_MASKS, .n_outputs = UNET_C};
  if (tl_model_new_task(&c, &o, 1, true, &m, &err) != TL_OK) fail_msg("%s", err.msg);
  if (tl_model_read_weights(m, folder, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(m->params.n, 5 * 2 * 5 + 2 * 2 + 2);
  assert_int_equal(
      tl_st_open(TL_SOURCE_DIR "/tests/golden/models/unet/golden.safetensors", &st, &err), TL_OK);
  if (tl_image_graph_new(ctx, m, TL_F32, UNET_N, true, &p, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(p.side, UNET_SIDE);
  memcpy(p.weights->data, golden(st, "weights"), UNET_C * sizeof(float));
  for (int i = 0; i < UNET_N; i++)
    tl_picture_rows(&c, golden(st, "pictures") + (size_t)i * 3 * UNET_PIXELS,
                    pictures + (size_t)i * 3 * UNET_PIXELS);
  tl_image_graph_set(&p, UNET_N, pictures, tl_st_find(st, "targets")->data);
  tl_image_graph_run(&p, &(tl_pass){.loss_scale = 1});
  compare_pixels(&p, st, "plain");
  const float *loss = tl_image_graph_run(&p, &(tl_pass){.training = true, .loss_scale = 1});
  near_to("loss", loss, golden(st, "loss"), 1);
  compare_pixels(&p, st, "logits");
  compare_params(m, st);
  tl_image_graph_free(&p);
  tl_st_close(st);
  tl_model_free(m);
  tl_ctx_free(ctx);
}

static void test_basic(void **state) {
  (void)state;
  compare(TL_SOURCE_DIR "/tests/golden/models/resnet-basic", 5 * 8 + 2);
}

static void test_bottleneck(void **state) {
  (void)state;
  compare(TL_SOURCE_DIR "/tests/golden/models/resnet-bottleneck", 5 * 16 + 2);
}

/* A stem that Hugging Face's class does not have: the file says so, and is read again. */
static void test_small_stem(void **state) {
  (void)state;
  char dir[] = "/tmp/tilth-resnet-XXXXXX", path[64];
  tl_err err = {TL_OK, ""};
  tl_model *m = NULL;
  tl_buf text = {0};
  tl_model_config c = {.type = "resnet",
                       .image_size = 21,
                       .channels = 1,
                       .stages = 2,
                       .depths = {1, 2},
                       .widths = {4, 6},
                       .small_stem = true,
                       .halve_first = true};
  tl_model_config back;
  assert_non_null(mkdtemp(dir));
  if (tl_model_new(&c, 1, false, &m, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(m->c.max_len, 6 * 6); /* 21, 11, 6 */
  assert_int_equal(tl_model_save(m, NULL, dir, &err), TL_OK);
  snprintf(path, sizeof path, "%s/config.json", dir);
  assert_int_equal(tl_file_read(path, 1 << 16, &text, &err), TL_OK);
  assert_non_null(strstr(text.data, "\"model_type\": \"tilth_resnet\""));
  if (tl_model_read_config(dir, &back, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_memory_equal(back.depths, c.depths, sizeof c.depths);
  assert_memory_equal(back.widths, c.widths, sizeof c.widths);
  assert_true(back.small_stem && back.halve_first && !back.bottleneck && back.image_size == 21);
  tl_model_free(m);
  c.bottleneck = true; /* 6 channels have no whole quarter */
  assert_int_equal(tl_model_new(&c, 1, false, &m, &err), TL_CONFIG);
  assert_non_null(strstr(err.msg, "stage 2"));
  tl_buf_free(&text);
  assert_int_equal(tl_remove_tree(dir, NULL), TL_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_basic),
                                     cmocka_unit_test(test_bottleneck), cmocka_unit_test(test_unet),
                                     cmocka_unit_test(test_small_stem)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
