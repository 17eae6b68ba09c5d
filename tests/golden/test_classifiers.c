/* Classifiers of Hugging Face's transformers: ModernBERT's two ways of pooling, pairs of texts, and
 * peft's adapters on their bases. The files are made by tools/make_classifier_goldens.py. */
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
#include "transfer/task.h"

#define FOLDER TL_SOURCE_DIR "/tests/golden/classifiers/"
enum { N = 3, C = 3 };

static void open_model(const char *dir, tl_model **m) {
  tl_err err = {TL_OK, ""};
  tl_model_config c;
  tl_task_head_options o = {.kind = TL_HEAD_SEQUENCE, .n_outputs = C};
  if (tl_model_read_config(dir, &c, &err) != TL_OK) fail_msg("%s", err.msg);
  if (tl_model_new_task(&c, &o, 1, false, m, &err) != TL_OK) fail_msg("%s", err.msg);
  if (tl_model_read_weights(*m, dir, &err) != TL_OK) fail_msg("%s", err.msg);
}

/* Logits of the golden's three texts. */
static void logits_of(tl_ctx *ctx, tl_model *m, const tl_st *st, float *logits) {
  const int32_t(*length)[2] = tl_st_find(st, "lengths")->data;
  int64_t start[N + 1] = {0}, target[N + 1] = {0};
  int32_t second[N], row[N], record[N] = {0, 1, 2}, label[N] = {0};
  for (int i = 0; i < N; i++) {
    int32_t n = length[i][0] + length[i][1];
    start[i + 1] = start[i] + n;
    target[i + 1] = i + 1;
    second[i] = length[i][0];
    row[i] = tl_model_pooling(m) == TL_POOL_LAST ? n - 1 : 0;
  }
  tl_task_samples s = {N, start, NULL, second, target, row, label, record, 0};
  s.token = (int32_t *)(uintptr_t)tl_st_find(st, "tokens")->data;
  tl_task_graph_options o = {.dt = TL_F32, .room = {.texts = N, .tokens = start[N], .targets = N}};
  tl_task_graph p;
  tl_err err = {TL_OK, ""};
  const tl_task *task = tl_task_find("classify");
  assert_non_null(task);
  if (tl_task_graph_new(ctx, task, m, &o, &p, &err) != TL_OK) fail_msg("%s", err.msg);
  for (int i = 0; i < N; i++) assert_true(tl_task_graph_add(&p, &s, NULL, i));
  tl_task_graph_run(&p, &(tl_pass){.loss_scale = 1});
  tl_task_graph_logits(&p, logits);
  tl_task_graph_free(&p);
}

static void check(const char *name) {
  char dir[512], path[600];
  tl_ctx *ctx = NULL;
  tl_model *m = NULL;
  tl_st *st = NULL;
  float logits[N * C];
  double worst = 0, most = 0;
  snprintf(dir, sizeof dir, FOLDER "%s", name);
  snprintf(path, sizeof path, "%s/golden.safetensors", dir);
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, NULL), TL_OK);
  assert_int_equal(tl_st_open(path, &st, NULL), TL_OK);
  open_model(dir, &m);
  logits_of(ctx, m, st, logits);
  const float *want = tl_st_find(st, "logits")->data;
  for (int i = 0; i < N * C; i++) {
    most = fmax(most, fabs((double)want[i]));
    worst = fmax(worst, fabs((double)logits[i] - (double)want[i]));
    if (!isfinite(logits[i])) fail_msg("%s: logit %d is not finite", name, i);
  }
  if (!(worst <= 1e-4 * most)) fail_msg("%s differs by %g of %g", name, worst, most);
  tl_st_close(st);
  tl_model_free(m);
  tl_ctx_free(ctx);
}

static void modernbert_pools_as_its_file_says(void **state) {
  (void)state;
  check("modernbert-cls");
  check("modernbert-mean");
}

static void pairs_have_their_types(void **state) {
  (void)state;
  check("bert-pair");
  check("roberta-pair");
}

/* Texts and pairs of them, from the characters to the probabilities. */
static void texts_are_put_together_the_same(void **state) {
  (void)state;
  static const char *const names[] = {"roberta-texts", "bert-texts"};
  tl_ctx *ctx = NULL;
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, NULL), TL_OK);
  for (int k = 0; k < 2; k++) {
    char path[512];
    tl_predictor *p = NULL;
    tl_err err = {TL_OK, ""};
    snprintf(path, sizeof path, FOLDER "%s/golden.json", names[k]);
    json_t *o = json_load_file(path, 0, NULL);
    const json_t *pairs = json_object_get(o, "pairs"), *want = json_object_get(o, "probabilities");
    snprintf(path, sizeof path, FOLDER "%s", names[k]);
    if (tl_predictor_open(ctx, path, "f32", 0, &p, &err) != TL_OK) fail_msg("%s", err.msg);
    assert_int_equal(json_array_size(pairs), 3);
    for (size_t i = 0; i < json_array_size(pairs); i++) {
      const json_t *pair = json_array_get(pairs, i);
      char *a = (char *)(uintptr_t)json_string_value(json_array_get(pair, 0));
      char *b = (char *)(uintptr_t)json_string_value(json_array_get(pair, 1));
      tl_task_data d = {.kind = TL_TASK_CLASS, .n = 1, .text = &a, .text_b = b ? &b : NULL};
      tl_predictions out;
      if (tl_predictor_run(p, &d, &out, NULL, &err) != TL_OK) fail_msg("%s", err.msg);
      for (size_t c = 0; c < C; c++) {
        double y = json_real_value(json_array_get(json_array_get(want, i), c));
        if (!(fabs((double)out.output[c] - y) < 1e-4))
          fail_msg("%s, %zu: probability %g instead of %g", names[k], i, (double)out.output[c], y);
      }
      tl_predictions_free(&out);
    }
    tl_predictor_free(p);
    json_decref(o);
  }
  tl_ctx_free(ctx);
}

static void adapters_of_peft(void **state) {
  (void)state;
  check("gpt2");
  check("lora-gpt2");
  check("lora-bert-pair");
}

static void pooling_and_layers_survive_saving(void **state) {
  (void)state;
  static const char *const names[] = {"modernbert-cls", "modernbert-mean"};
  for (int i = 0; i < 2; i++) {
    char dir[512];
    tl_model *m = NULL;
    snprintf(dir, sizeof dir, FOLDER "%s", names[i]);
    open_model(dir, &m);
    assert_int_equal(m->c.global_every, 2);
    assert_int_equal(m->c.window, 6);
    assert_true(m->c.rope_theta == 300 && m->c.rope_theta_local == 20);
    char *text = tl_model_config_json(m, NULL);
    json_t *o = json_loads(text, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(o, "classifier_pooling")),
                        i ? "mean" : "cls");
    const json_t *types = json_object_get(o, "layer_types");
    assert_int_equal(json_array_size(types), 4);
    for (size_t k = 0; k < 4; k++)
      assert_string_equal(json_string_value(json_array_get(types, k)),
                          k % 2 ? "sliding_attention" : "full_attention");
    json_decref(o);
    free(text);
    tl_model_free(m);
  }
}

static void other_lists_are_refused(void **state) {
  (void)state;
  static const char *const bad[] = {
      "[\"full_attention\"]", "\"full_attention\"",
      "[\"sliding_attention\",\"full_attention\",\"full_attention\",\"full_attention\"]",
      "[\"full_attention\",\"full_attention\",\"sliding_attention\",\"full_attention\"]",
      "[\"full_attention\",\"linear\",\"full_attention\",\"linear\"]"};
  json_t *o = json_load_file(FOLDER "modernbert-cls/config.json", 0, NULL);
  assert_non_null(o);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    tl_model_config c = {.layers = 4};
    tl_err err = {TL_OK, ""};
    json_object_set_new(o, "layer_types", json_loads(bad[i], JSON_DECODE_ANY, NULL));
    assert_int_equal(tl_arch_encoder.read_rest(o, "x", &c, &err), TL_DATA);
    assert_non_null(strstr(err.msg, "layer_types"));
  }
  json_decref(o);
}

/* transformers: the head's activation is gelu where the file does not say, whatever the blocks'. */
static void the_heads_activation_is_read(void **state) {
  (void)state;
  static const struct {
    const char *act, *head;
    bool ours, fits;
  } cases[] = {{NULL, NULL, false, true},      {"gelu", NULL, false, true},
               {"silu", NULL, false, false},   {"silu", "silu", false, true},
               {"gelu", "silu", false, false}, {"silu", NULL, true, true}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tl_model_config c = {.layers = 4};
    json_t *o = json_object();
    if (cases[i].act) json_object_set_new(o, "hidden_activation", json_string(cases[i].act));
    if (cases[i].head) json_object_set_new(o, "classifier_activation", json_string(cases[i].head));
    if (cases[i].ours) json_object_set_new(o, "tilth", json_object());
    assert_int_equal(tl_arch_encoder.read_rest(o, "x", &c, NULL), cases[i].fits ? TL_OK : TL_DATA);
    json_decref(o);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(modernbert_pools_as_its_file_says),
      cmocka_unit_test(pairs_have_their_types),
      cmocka_unit_test(texts_are_put_together_the_same),
      cmocka_unit_test(adapters_of_peft),
      cmocka_unit_test(pooling_and_layers_survive_saving),
      cmocka_unit_test(other_lists_are_refused),
      cmocka_unit_test(the_heads_activation_is_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
