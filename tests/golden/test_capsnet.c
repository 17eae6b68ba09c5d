/* CapsNet against the paper's equations in PyTorch (tools/make_capsnet_golden.py): lengths,
 * capsules, loss, pictures made again, gradients. Weights and pictures are a formula. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "models/task_head.h"
#include "transfer/image_graph.h"

#define FILE_NAME TL_SOURCE_DIR "/tests/golden/capsnet.safetensors"
enum { N = 4, SIZE = 20, CHANNELS = 3, CLASSES = 3, VALUES = CHANNELS * SIZE * SIZE, WIDTH = 16 };

static const struct {
  const char *name;
  float scale;
} weights[] = {{"capsnet.layer.0.weight", 0.4f}, {"capsnet.layer.0.bias", 0.2f},
               {"capsnet.layer.1.weight", 0.3f}, {"capsnet.layer.1.bias", 0.2f},
               {"classifier.weight", 2.0f},      {"decoder.in.weight", 1.0f},
               {"decoder.in.bias", 0.2f},        {"decoder.hidden.weight", 0.2f},
               {"decoder.hidden.bias", 0.2f},    {"decoder.out.weight", 0.1f},
               {"decoder.out.bias", 0.2f}};
enum { N_WEIGHTS = sizeof weights / sizeof *weights };

static void set_values(uint32_t salt, float scale, float offset, float *v, int64_t n) {
  for (uint32_t i = 0; i < n; i++) {
    uint32_t h = i * 2654435761u + salt * 40503u;
    h = (h ^ h >> 15) * 2246822519u;
    v[i] = ((float)(h >> 16) / 65536 - 0.5f) * scale + offset;
  }
}

static void near_to(const char *what, const float *a, int64_t stride, const tl_st_tensor *t) {
  assert_non_null(t);
  const float *b = t->data;
  double most = 0, worst = 0;
  for (int64_t i = 0; i < tl_st_elements(t); i++) {
    most = fmax(most, fabs((double)b[i]));
    worst = fmax(worst, fabs((double)a[i * stride] - (double)b[i]));
  }
  if (!(worst <= 1e-4 * most)) fail_msg("%s differs by %g of %g", what, worst, most);
}

static tl_model *make_model(void) {
  tl_model *m = NULL;
  tl_err err = {TL_OK, ""};
  tl_model_config c = {.type = "capsnet",
                       .act = "auto",
                       .dim = 5,
                       .capsules = 2,
                       .routing = 3,
                       .reconstruction = 0.02,
                       .image_size = SIZE,
                       .channels = CHANNELS};
  tl_task_head_options o = {.kind = TL_HEAD_SEQUENCE, .n_outputs = CLASSES};
  if (tl_model_new_task(&c, &o, 1, true, &m, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(m->params.n, N_WEIGHTS);
  for (uint32_t i = 0; i < N_WEIGHTS; i++) {
    tl_param *p = tl_params_find(&m->params, weights[i].name);
    assert_non_null(p);
    set_values(i + 1, weights[i].scale, 0, p->data, p->n);
  }
  tl_params_changed(&m->params);
  return m;
}

static void test_capsnet(void **state) {
  (void)state;
  static float pictures[N * VALUES], rows[N * VALUES];
  float targets[N * CLASSES] = {0};
  tl_err err = {TL_OK, ""};
  tl_ctx *ctx = NULL;
  tl_st *st = NULL;
  tl_image_graph p;
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err), TL_OK);
  tl_model *m = make_model();
  if (tl_st_open(FILE_NAME, &st, &err) != TL_OK) fail_msg("%s", err.msg);
  if (tl_image_graph_new(ctx, m, TL_F32, N, true, &p, &err) != TL_OK) fail_msg("%s", err.msg);
  set_values(12, 1, 0.5f, pictures, N * VALUES);
  for (int i = 0; i < N; i++) {
    tl_picture_rows(&m->c, pictures + i * VALUES, rows + i * VALUES);
    targets[i * CLASSES + i % CLASSES] = 1;
  }
  tl_image_graph_set(&p, N, rows, targets);
  const float *loss = tl_image_graph_run(&p, &(tl_pass){.training = true, .loss_scale = 1});
  near_to("loss", loss, 1, tl_st_find(st, "loss"));
  near_to("lengths", p.features->data, 1, tl_st_find(st, "lengths"));
  near_to("capsules", p.capsules->data, 1, tl_st_find(st, "capsules"));
  near_to("made", p.made->data, 1, tl_st_find(st, "made"));
  for (int i = 0; i < N_WEIGHTS; i++) {
    char name[64];
    snprintf(name, sizeof name, "grad.%s", weights[i].name);
    const tl_param *w = tl_params_find(&m->params, weights[i].name);
    near_to(name, w->grad, w->n <= 4096 ? 1 : 997, tl_st_find(st, name));
  }
  tl_image_graph_free(&p);
  tl_st_close(st);
  tl_model_free(m);
  tl_ctx_free(ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_capsnet)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
