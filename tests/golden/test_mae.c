/* The masked autoencoder against Hugging Face's transformers (tools/make_image_goldens.py), with
 * the same patches hidden: loss, what is made of hidden patches, and the gradients whose names are
 * the same on both sides. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "transfer/picture_objective.h"

#define FOLDER TL_SOURCE_DIR "/tests/golden/models/vit_mae"
enum { N = 3, PATCHES = 9, COLS = 48, VALUES = PATCHES * COLS };

static void near_to(const char *what, const float *a, const float *b, int64_t n) {
  double most = 0, worst = 0;
  for (int64_t i = 0; i < n; i++) {
    most = fmax(most, fabs((double)b[i]));
    worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
  }
  if (!(worst <= 1e-4 * most)) fail_msg("%s differs by %g of %g", what, worst, most);
}

static tl_config *settings(void) {
  const char *text[] = {"objective.type=mae",
                        "objective.mask_rate=0.7",
                        "objective.decoder_dim=24",
                        "objective.decoder_layers=2",
                        "objective.decoder_heads=2",
                        "objective.norm_pixels=true",
                        "train.batch=3"};
  tl_config *c = NULL;
  tl_err err = {TL_OK, ""};
  if (tl_config_load(NULL, NULL, text, sizeof text / sizeof *text, &c, &err) != TL_OK)
    fail_msg("%s", err.msg);
  return c;
}

static void check_made(const tl_picture_graph *p, const tl_st *st) {
  const float *logits = tl_st_find(st, "logits")->data, *made = p->mae.made->data;
  for (int k = 0; k < N * PATCHES; k++) {
    if (!p->mae.mask[k]) continue;
    near_to("a hidden patch", made, logits + (ptrdiff_t)k * COLS, COLS);
    made += COLS;
  }
}

static int check_gradients(const tl_model *m, const tl_st *st) {
  int compared = 0;
  for (int i = 0; i < m->params.n; i++) {
    const tl_param *p = m->params.p[i];
    char name[256];
    snprintf(name, sizeof name, "grad.%s", p->name);
    const tl_st_tensor *g = tl_st_find(st, name);
    if (!g || !p->trainable) continue;
    near_to(name, p->grad, g->data, p->n);
    compared++;
  }
  return compared;
}

/* Visible patches stay as they are; the others are what the decoder made, brought back to the mean
 * and the spread of what was there. */
static void check_pictures(const tl_picture_graph *p, const float *pictures, const tl_st *st) {
  enum { SIDE = 12, PATCH = 4, CHANNELS = 3 };
  const float *logits = tl_st_find(st, "logits")->data;
  float again[VALUES], shown[VALUES];
  int hidden = 0;
  for (int i = 0; i < N * VALUES; i++) {
    int at = i % VALUES, c = at / (SIDE * SIDE), y = at / SIDE % SIDE, x = at % SIDE;
    int k = i / VALUES * PATCHES + y / PATCH * 3 + x / PATCH;
    if (at == 0) {
      assert_int_equal(tl_mae_picture(p, i / VALUES, true, again, NULL), TL_OK);
      assert_int_equal(tl_mae_picture(p, i / VALUES, false, shown, NULL), TL_OK);
    }
    if (p->mae.mask[k]) {
      double mean = 0, var = 0;
      for (int v = 0; v < COLS; v++) {
        int to = (y / PATCH * PATCH + v / PATCH % PATCH) * SIDE + x / PATCH * PATCH + v % PATCH;
        double value = (double)pictures[i - at + v / (PATCH * PATCH) * SIDE * SIDE + to];
        mean += value / COLS;
        var += value * value / (COLS - 1);
      }
      double spread = sqrt(var - mean * mean * COLS / (COLS - 1));
      double made = (double)logits[k * COLS + (y % PATCH * PATCH + x % PATCH) * CHANNELS + c];
      assert_true(fabs(made * spread + mean - (double)again[at]) < 1e-3 && shown[at] == 0);
      hidden++;
    } else {
      assert_true(again[at] == pictures[i] && shown[at] == pictures[i]);
    }
  }
  assert_int_equal(hidden, N * 7 * COLS);
}

static void test_mae(void **state) {
  (void)state;
  tl_err err = {TL_OK, ""};
  tl_ctx *ctx = NULL;
  tl_model *m = NULL;
  tl_st *st = NULL;
  tl_model_config mc;
  tl_picture_parts parts;
  tl_picture_graph p;
  tl_config *c = settings();
  const tl_picture_objective *o = tl_picture_objective_find("mae");
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err), TL_OK);
  if (tl_model_read_config(FOLDER, &mc, &err) != TL_OK ||
      tl_picture_model_new(o, c, &mc, true, &parts, &m, &err) != TL_OK ||
      tl_model_read_weights(m, FOLDER, &err) != TL_OK ||
      tl_st_open(FOLDER "/golden.safetensors", &st, &err) != TL_OK ||
      tl_picture_graph_new(ctx, o, c, m, &parts, TL_F32, false, &p, &err) != TL_OK)
    fail_msg("%s", err.msg);
  float rows[N * VALUES];
  const float *pictures = tl_st_find(st, "pictures")->data;
  const int32_t *mask = tl_st_find(st, "mask")->data;
  for (int i = 0; i < N; i++) tl_picture_rows(&mc, pictures + i * VALUES, rows + i * VALUES);
  for (int k = 0; k < N * PATCHES; k++) p.mae.mask[k] = (uint8_t)mask[k];
  tl_mae_set(&p, rows);
  tl_graph_run(p.g, &(tl_pass){.training = true, .loss_scale = 1 / (float)p.targets});
  float loss = ((const float *)p.out->data)[TL_LOSS_SUM] / (float)p.targets;
  near_to("loss", &loss, tl_st_find(st, "loss")->data, 1);
  check_made(&p, st);
  assert_int_equal(check_gradients(m, st), 21);
  check_pictures(&p, pictures, st);
  tl_picture_graph_free(&p);
  tl_st_close(st);
  tl_model_free(m);
  tl_ctx_free(ctx);
  tl_config_free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_mae)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
