/* ViT against Hugging Face's transformers (tools/make_image_goldens.py): logits, loss, the
 * gradients whose names are the same on both sides, and resized positions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "transfer/image_graph.h"

#define FOLDER TL_SOURCE_DIR "/tests/golden/models/vit"

static void near_to(const char *what, const float *a, const float *b, int64_t n) {
  double most = 0, worst = 0;
  for (int64_t i = 0; i < n; i++) {
    most = fmax(most, fabs((double)b[i]));
    worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
  }
  if (!(worst <= 1e-4 * most)) fail_msg("%s differs by %g of %g", what, worst, most);
}

static void test_vit(void **state) {
  (void)state;
  enum { N = 3, C = 5 };
  tl_err err = {TL_OK, ""};
  tl_ctx *ctx = NULL;
  tl_model *m = NULL;
  tl_st *st = NULL;
  tl_image_graph p;
  tl_model_config c;
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err), TL_OK);
  if (tl_model_read_config(FOLDER, &c, &err) != TL_OK) fail_msg("%s", err.msg);
  tl_task_head_options o = {.kind = TL_HEAD_SEQUENCE, .n_outputs = C};
  if (tl_model_new_task(&c, &o, 1, true, &m, &err) != TL_OK) fail_msg("%s", err.msg);
  if (tl_model_read_weights(m, FOLDER, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(tl_st_open(FOLDER "/golden.safetensors", &st, &err), TL_OK);
  if (tl_image_graph_new(ctx, m, TL_F32, N, true, &p, &err) != TL_OK) fail_msg("%s", err.msg);
  float patches[N * 3 * 12 * 12], targets[N * C] = {0}, logits[N * C];
  const float *pictures = tl_st_find(st, "pictures")->data;
  const int32_t *t = tl_st_find(st, "targets")->data;
  for (int i = 0; i < N; i++) {
    tl_picture_rows(&c, pictures + i * 432, patches + i * 432);
    targets[i * C + t[i]] = 1;
  }
  tl_image_graph_set(&p, N, patches, targets);
  const float *loss = tl_image_graph_run(&p, &(tl_pass){.training = true, .loss_scale = 1});
  near_to("loss", loss, tl_st_find(st, "loss")->data, 1);
  tl_task_graph view = {.model = m, .g = p.g, .features = p.features, .n_targets = N};
  tl_task_graph_logits(&view, logits);
  near_to("logits", logits, tl_st_find(st, "logits")->data, N * C);
  int compared = 0;
  for (int i = 0; i < m->params.n; i++) {
    char name[256];
    snprintf(name, sizeof name, "grad.%s", m->params.p[i]->name);
    const tl_st_tensor *g = tl_st_find(st, name);
    if (!g) continue;
    near_to(name, m->params.p[i]->grad, g->data, m->params.p[i]->n);
    compared++;
  }
  assert_int_equal(compared, 8); /* embeddings, last norm, head: all below them is on the way */
  float resized[25 * 32];
  tl_vit_resize_grid(m->pos_embed->data + 32, 3, resized, 5, 32);
  near_to("positions", resized, tl_st_find(st, "resized")->data, 25 * 32);
  tl_image_graph_free(&p);
  tl_st_close(st);
  tl_model_free(m);
  tl_ctx_free(ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_vit)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
