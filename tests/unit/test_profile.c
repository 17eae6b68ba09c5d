/* Profiles of training: complete, in the result, in the run folder and as JSON. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "tilth/train.h"

enum { STEPS = 5, ACCUM = 2, LAYERS = 2 };

static char g_dir[64];

typedef struct watcher {
  bool stop; /* after the first step */
  int64_t step;
} watcher;

static void on_progress(void *user, const tl_progress *p) {
  ((watcher *)user)->step = p->step;
}

static int on_cancel(void *user) {
  const watcher *w = user;
  return w->stop && w->step > 0;
}

/* Trains a tiny model; stopped after the first step if `stopped`. */
static tl_train_result train(const char *model, bool profile, bool stopped) {
  char dir[96], text[96];
  tl_ctx *ctx = NULL;
  tl_config *cfg = NULL;
  tl_err err = {0};
  tl_train_result r = {0};
  snprintf(dir, sizeof dir, "run.dir=%s", g_dir);
  snprintf(text, sizeof text, "data.text=%s/text.txt", g_dir);
  const char *keys[] = {dir,
                        text,
                        model,
                        "data.tokenizer=bytes",
                        "data.unit=file",
                        "data.split=tail",
                        "model.dim=32",
                        "model.layers=2",
                        "model.heads=2",
                        "train.seq_len=32",
                        "train.batch=2",
                        "train.accum=2",
                        "train.steps=5",
                        "run.eval_every=2",
                        "guard.policy=rollback"};
  size_t n = sizeof keys / sizeof *keys;
  watcher w = {.stop = stopped};
  const tl_ctx_options co = {.n_threads = 2, .cancel = on_cancel, .user = &w};
  assert_int_equal(tl_ctx_new(&co, &ctx, &err), TL_OK);
  assert_int_equal(tl_config_load(NULL, NULL, keys, n, &cfg, &err), TL_OK);
  const tl_train_options o = {.progress = on_progress, .user = &w, .profile = profile};
  tl_status s = tl_train(ctx, cfg, &o, &r, &err);
  if (s != (stopped ? TL_PREEMPTED : TL_OK)) fail_msg("%s", err.msg);
  tl_config_free(cfg);
  tl_ctx_free(ctx);
  return r;
}

static const tl_profile_row *find(const tl_profile *p, const char *name, const char *pass) {
  for (size_t i = 0; i < p->n; i++)
    if (!strcmp(p->row[i].name, name) && !strcmp(p->row[i].pass, pass)) return &p->row[i];
  fail_msg("no row %s %s", name, pass);
  return NULL;
}

static void check_sums(const tl_profile *p) {
  double rows = 0;
  for (size_t i = 0; i < p->n; i++) {
    const tl_profile_row *r = &p->row[i];
    assert_true(r->seconds >= 0 && r->flops >= 0 && r->bytes >= 0);
    /* a rate above the machine's is a mistake in counting */
    assert_true(r->flops <= 1.5e9 * p->gflops * r->seconds);
    rows += r->seconds;
  }
  assert_true(fabs(rows / p->step_seconds - 1) < 1e-9);
  assert_true(p->row[p->n - 1].seconds < 0.2 * p->step_seconds); /* "other" */
  double all = (double)p->steps * p->step_seconds + p->first_step + p->evaluation + p->checkpoints +
               p->logging + p->outside;
  assert_true(fabs(all / p->seconds - 1) < 1e-9);
  assert_true(p->outside >= 0 && p->outside < 0.5 * p->seconds);
}

static void every_part_has_a_row(void **state) {
  (void)state;
  tl_train_result r = train("model.type=gpt2", true, false);
  const tl_profile *p = r.profile;
  assert_non_null(p);
  assert_int_equal(p->steps, STEPS - 1);
  check_sums(p);
  static const char *const both_ways[] = {"linear", "attention", "layer_norm", "add", "embedding"};
  for (size_t i = 0; i < sizeof both_ways / sizeof *both_ways; i++) {
    assert_true(find(p, both_ways[i], "forward")->calls > 0);
    assert_true(find(p, both_ways[i], "backward")->seconds > 0);
  }
  assert_int_equal(find(p, "attention", "forward")->calls, ACCUM * LAYERS);
  assert_int_equal(find(p, "cross_entropy", "both")->calls, ACCUM);
  static const char *const parts[] = {"optimizer", "weight packing", "gradient norm", "batches",
                                      "guard"};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    assert_true(find(p, parts[i], "")->seconds > 0);
  assert_true(p->evaluation > 0 && p->checkpoints > 0 && p->logging > 0 && p->first_step > 0);
  double flops = 0; /* of all steps alike: full windows */
  for (size_t i = 0; i < p->n; i++) flops += p->row[i].flops;
  assert_true(fabs(flops * STEPS / r.flops - 1) < 1e-9);
  tl_profile_free(r.profile);
}

static void an_interrupted_run_has_one(void **state) {
  (void)state;
  tl_train_result r = train("model.type=llama", true, true);
  assert_non_null(r.profile);
  assert_int_equal(r.profile->steps, 1); /* the first counts when there is no other */
  check_sums(r.profile);
  find(r.profile, "rope", "backward");
  tl_profile_free(r.profile);
}

static void none_unless_asked_for(void **state) {
  (void)state;
  assert_null(train("model.type=gpt2", false, false).profile);
}

static void the_run_folder_has_it_as_json(void **state) {
  (void)state;
  tl_train_result r = train("model.type=gpt2", true, false);
  char *path = tl_path_join(r.run_dir, "profile.json");
  json_t *doc = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
  assert_non_null(doc);
  json_t *rows = json_object_get(doc, "rows");
  assert_int_equal(json_array_size(rows), r.profile->n);
  double share = 0;
  for (size_t i = 0; i < json_array_size(rows); i++)
    share += json_number_value(json_object_get(json_array_get(rows, i), "share"));
  assert_true(fabs(share - 1) < 1e-9);
  assert_true(json_real_value(json_object_get(doc, "step_seconds")) == r.profile->step_seconds);
  json_decref(doc);
  free(path);
  tl_profile_free(r.profile);
}

static int set_up(void **state) {
  (void)state;
  tl_err err = {0};
  char path[96];
  snprintf(g_dir, sizeof g_dir, "/tmp/tl_profile_XXXXXX");
  if (!mkdtemp(g_dir)) return -1;
  snprintf(path, sizeof path, "%s/text.txt", g_dir);
  tl_buf b = {0};
  for (int i = 0; i < 300; i++)
    tl_buf_printf(&b, "Line %d of a text about nothing, %d.\n", i, i * 7 % 31);
  tl_status s = tl_file_write_atomic(path, b.data, b.len, &err);
  tl_buf_free(&b);
  return s == TL_OK ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  tl_err err = {0};
  return tl_remove_tree(g_dir, &err) == TL_OK ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_part_has_a_row),
      cmocka_unit_test(an_interrupted_run_has_one),
      cmocka_unit_test(none_unless_asked_for),
      cmocka_unit_test(the_run_folder_has_it_as_json),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
