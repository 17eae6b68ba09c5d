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

typedef struct network {
  tl_ctx *ctx;
  tl_model *m;
  tl_st *st; /* the golden */
  tl_model_config c;
  tl_image_graph p;
} network;

static void compare_logits(const network *w, const char *name) {
  float logits[N * C];
  tl_task_graph view = {.model = w->m, .g = w->p.g, .features = w->p.features, .n_targets = N};
  tl_task_graph_logits(&view, logits);
  near_to(name, logits, golden(w->st, name), N * C);
}

static void compare_pixels(const network *w, const char *name) {
  near_to(name, w->p.features->data, golden(w->st, name), UNET_N * UNET_PIXELS * UNET_C);
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

/* side: of the pictures where the files do not say; room: pictures the graph can hold. */
static void open_network(network *w, const char *folder, int64_t side, tl_head_kind kind,
                         int classes, int64_t room, int64_t params) {
  tl_err err = {TL_OK, ""};
  tl_task_head_options o = {.kind = kind, .n_outputs = classes};
  char path[512];
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &w->ctx, &err), TL_OK);
  if (tl_model_read_config(folder, &w->c, &err) != TL_OK) fail_msg("%s", err.msg);
  if (side) {
    assert_int_equal(w->c.image_size, 224);
    w->c.image_size = side;
  }
  if (tl_model_new_task(&w->c, &o, 1, true, &w->m, &err) != TL_OK) fail_msg("%s", err.msg);
  if (tl_model_read_weights(w->m, folder, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(w->m->params.n, params);
  snprintf(path, sizeof path, "%s/golden.safetensors", folder);
  assert_int_equal(tl_st_open(path, &w->st, &err), TL_OK);
  if (tl_image_graph_new(w->ctx, w->m, TL_F32, room, true, &w->p, &err) != TL_OK)
    fail_msg("%s", err.msg);
}

/* The golden's n pictures of `values` numbers each, with these targets, as used and in training. */
static void compare(network *w, int n, size_t values, const void *targets,
                    void (*outputs)(const network *w, const char *name)) {
  float *pictures = malloc((size_t)n * values * sizeof *pictures);
  assert_non_null(pictures);
  for (int i = 0; i < n; i++)
    tl_picture_rows(&w->c, golden(w->st, "pictures") + (size_t)i * values,
                    pictures + (size_t)i * values);
  tl_image_graph_set(&w->p, n, pictures, targets);
  tl_image_graph_run(&w->p, &(tl_pass){.loss_scale = 1});
  outputs(w, "plain");
  const float *loss = tl_image_graph_run(&w->p, &(tl_pass){.training = true, .loss_scale = 1});
  near_to("loss", loss, golden(w->st, "loss"), 1);
  outputs(w, "logits");
  compare_params(w->m, w->st);
  free(pictures);
  tl_image_graph_free(&w->p);
  tl_st_close(w->st);
  tl_model_free(w->m);
  tl_ctx_free(w->ctx);
}

static void compare_resnet(const char *folder, int64_t params) {
  network w = {0};
  float targets[N * C] = {0};
  open_network(&w, folder, SIDE, TL_HEAD_SEQUENCE, C, N + 1, params);
  const int32_t *t = tl_st_find(w.st, "targets")->data;
  for (int i = 0; i < N; i++) targets[i * C + t[i]] = 1;
  compare(&w, N, VALUES, targets, compare_logits);
}

/* Some pixels have no class, and classes have weights. */
static void test_unet(void **state) {
  (void)state;
  network w = {0};
  open_network(&w, TL_SOURCE_DIR "/tests/golden/models/unet", 0, TL_HEAD_MASKS, UNET_C, UNET_N,
               5 * 2 * 5 + 2 * 2 + 2);
  assert_int_equal(w.p.side, UNET_SIDE);
  memcpy(w.p.weights->data, golden(w.st, "weights"), UNET_C * sizeof(float));
  compare(&w, UNET_N, (size_t)3 * UNET_PIXELS, tl_st_find(w.st, "targets")->data, compare_pixels);
}

static void test_basic(void **state) {
  (void)state;
  compare_resnet(TL_SOURCE_DIR "/tests/golden/models/resnet-basic", 5 * 8 + 2);
}

static void test_bottleneck(void **state) {
  (void)state;
  compare_resnet(TL_SOURCE_DIR "/tests/golden/models/resnet-bottleneck", 5 * 16 + 2);
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
