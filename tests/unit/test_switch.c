/* Adapters of one base: switching between them gives what the merged models give, to the bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tilth/adapter.h"
#include "tilth/model.h"
#include "tilth/predict.h"
#include "toy_run.h"

enum { RECORDS = 12, PATH = 600 };

static char g_dir[64] = "/tmp/tilth-switch-XXXXXX", g_data[PATH];
static tl_ctx *g_ctx;
static char g_base[PATH], g_bare[PATH]; /* with a head and without one */

static void write_records(void) {
  tl_buf b = {0};
  tl_buf_puts(&b, "label\ttext\n");
  for (int i = 0; i < RECORDS; i++)
    tl_buf_printf(&b, "%s\tthe %s number %d\n", i % 2 ? "night" : "day", i % 2 ? "moon" : "sun", i);
  snprintf(g_data, sizeof g_data, "%s/data.tsv", g_dir);
  assert_int_equal(tl_file_write_atomic(g_data, b.data, b.len, NULL), TL_OK);
  tl_buf_free(&b);
}

/* The folder of the model that `from` becomes, in model[PATH]. */
static void adapted(const char *from, const char *method, int seed, char *model) {
  char text[5][PATH + 32];
  snprintf(text[0], sizeof text[0], "run.dir=%s", g_dir);
  snprintf(text[1], sizeof text[1], "task.train=%s", g_data);
  snprintf(text[2], sizeof text[2], "task.from=%s", from);
  snprintf(text[3], sizeof text[3], "adapt.method=%s", method);
  snprintf(text[4], sizeof text[4], "run.seed=%d", seed);
  const char *const settings[] = {text[0],         text[1],          text[2],
                                  text[3],         text[4],          "adapt.rank=2",
                                  "train.steps=4", "train.batch=4",  "optim.lr=3e-2",
                                  "run.dtype=f32", "task.max_len=32"};
  tl_train_result r =
      toy_run(TL_OK, settings, sizeof settings / sizeof *settings, NULL, 1, 0, NULL);
  snprintf(model, PATH, "%s/model", r.run_dir);
}

static int set_up(void **state) {
  (void)state;
  tl_model_config c = {.type = "encoder",
                       .dim = 16,
                       .layers = 2,
                       .heads = 2,
                       .ff = 32,
                       .vocab = 320,
                       .max_len = 32,
                       .tie = true};
  tl_model *m = NULL;
  tl_tokenizer *tok = NULL;
  if (!mkdtemp(g_dir) || tl_ctx_new(&(tl_ctx_options){.n_threads = 1}, &g_ctx, NULL) != TL_OK)
    return -1;
  write_records();
  snprintf(g_bare, sizeof g_bare, "%s/bare", g_dir);
  if (tl_tokenizer_open(g_ctx, "bytes", &tok, NULL) != TL_OK) return -1;
  if (tl_model_new(&c, 3, false, &m, NULL) != TL_OK) return -1;
  tl_status s = tl_model_save(m, tok, g_bare, NULL);
  tl_model_free(m);
  tl_tokenizer_free(tok);
  if (s != TL_OK) return -1;
  adapted(g_bare, "full", 1, g_base);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  tl_ctx_free(g_ctx);
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

static tl_predictor *opened(const char *name) {
  tl_predictor *p = NULL;
  tl_err err = {TL_OK, ""};
  if (tl_predictor_open(g_ctx, name, "f32", 32, &p, &err) != TL_OK) fail_msg("%s", err.msg);
  return p;
}

/* Its probabilities for all records, [RECORDS][2]. */
static void outputs(tl_predictor *p, float *out) {
  tl_task_data d;
  tl_predictions pred;
  tl_err err = {TL_OK, ""};
  const tl_task_options o = {.kind = TL_TASK_CLASS, .labels = tl_predictor_labels(p)};
  if (tl_task_read(g_data, &o, &d, &err) != TL_OK) fail_msg("%s", err.msg);
  if (tl_predictor_run(p, &d, &pred, NULL, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(pred.n, RECORDS);
  memcpy(out, pred.output, 2 * RECORDS * sizeof *out);
  tl_predictions_free(&pred);
  tl_task_data_free(&d);
}

static void merged_outputs(const char *adapter, float *out) {
  char to[PATH];
  tl_err err = {TL_OK, ""};
  snprintf(to, sizeof to, "%s/merged", g_dir);
  if (tl_adapter_merge(adapter, to, &err) != TL_OK) fail_msg("%s", err.msg);
  tl_predictor *p = opened(to);
  outputs(p, out);
  tl_predictor_free(p);
  assert_int_equal(tl_remove_tree(to, NULL), TL_OK);
}

static void adapters_take_turns(const char *method) {
  char adapter[2][PATH], name[2 * PATH];
  float want[3][2 * RECORDS], got[2 * RECORDS];
  tl_err err = {TL_OK, ""};
  for (int i = 0; i < 2; i++) {
    adapted(g_base, method, 7 + i, adapter[i]);
    merged_outputs(adapter[i], want[i]);
  }
  tl_predictor *p = opened(g_base);
  outputs(p, want[2]);
  tl_predictor_free(p);
  for (int i = 0; i < 3; i++) assert_memory_not_equal(want[i], want[(i + 1) % 3], sizeof want[i]);

  static const int turns[] = {1, 0, 2, 1, 1, 2, 0}; /* 2: none */
  snprintf(name, sizeof name, "%s,%s", g_base, adapter[0]);
  p = opened(name);
  outputs(p, got);
  assert_memory_equal(got, want[0], sizeof got);
  for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
    const int k = turns[i];
    if (tl_predictor_switch(p, k < 2 ? adapter[k] : NULL, &err) != TL_OK) fail_msg("%s", err.msg);
    outputs(p, got);
    assert_memory_equal(got, want[k], sizeof got);
  }
  tl_predictor_free(p);
}

static void switching_is_merging(void **state) {
  (void)state;
  adapters_take_turns("lora");
  adapters_take_turns("dora");
}

/* The head is the adapter's own: without it there is none. */
static void a_bare_base_gives_no_answers(void **state) {
  (void)state;
  char adapter[2][PATH], name[2 * PATH];
  float want[2 * RECORDS], got[2 * RECORDS];
  tl_err err = {TL_OK, ""};
  for (int i = 0; i < 2; i++) adapted(g_bare, "lora", 7 + i, adapter[i]);
  merged_outputs(adapter[1], want);
  snprintf(name, sizeof name, "%s,%s", g_bare, adapter[0]);
  tl_predictor *p = opened(name);
  assert_int_equal(tl_predictor_switch(p, adapter[1], &err), TL_OK);
  outputs(p, got);
  assert_memory_equal(got, want, sizeof got);
  assert_int_equal(tl_predictor_switch(p, NULL, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "has not been trained for its task"));
  tl_predictor_free(p);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(switching_is_merging),
                                     cmocka_unit_test(a_bare_base_gives_no_answers)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
