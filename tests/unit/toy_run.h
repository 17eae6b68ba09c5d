/* Runs of training in tests: new or gone on with, stopped after a number of steps, and whether two
 * came to the same bits. */
#ifndef TOY_RUN_H
#define TOY_RUN_H

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "tilth/train.h"

typedef struct watcher {
  int64_t stop_after, step; /* stop_after 0: never */
  double *loss;             /* [steps + 1], by step; NULL: not wanted */
} watcher;

static void on_progress(void *user, const tl_progress *p) {
  watcher *w = user;
  if (p->note) return;
  w->step = p->step;
  if (w->loss) w->loss[p->step] = p->loss;
}

static int on_cancel(void *user) {
  const watcher *w = user;
  return w->stop_after > 0 && w->step >= w->stop_after;
}

/* Settings of a run on pictures, in text: where they lie, the test's own, n more; how many. */
static inline size_t toy_settings(const char **text, const char *run_dir, const char *pictures,
                                  const char *const *own, size_t n_own, const char *const *more,
                                  size_t n) {
  static char place[2][1024];
  snprintf(place[0], sizeof place[0], "run.dir=%s", run_dir);
  snprintf(place[1], sizeof place[1], "data.images=%s", pictures);
  for (int i = 0; i < 2; i++) *text++ = place[i];
  for (size_t i = 0; i < n_own; i++) *text++ = own[i];
  for (size_t i = 0; i < n; i++) *text++ = more[i];
  return 2 + n_own + n;
}

/* A new run with these n settings, or on in run_dir (NULL: new); stop_after 0: to its end; loss:
 * see watcher. */
static inline tl_train_result toy_run(tl_status want, const char *const *text, size_t n,
                                      const char *run_dir, int threads, int64_t stop_after,
                                      double *loss) {
  watcher w = {.stop_after = stop_after, .loss = loss};
  const tl_ctx_options co = {.n_threads = threads, .cancel = on_cancel, .user = &w};
  const tl_train_options o = {.progress = on_progress, .user = &w};
  tl_ctx *ctx = NULL;
  tl_config *cfg = NULL;
  tl_err err = {TL_OK, ""};
  tl_train_result r = {0};
  tl_status s = tl_ctx_new(&co, &ctx, &err);
  if (s == TL_OK && !run_dir) s = tl_config_load(NULL, NULL, text, n, &cfg, &err);
  if (s == TL_OK)
    s = run_dir ? tl_resume(ctx, run_dir, &o, &r, &err) : tl_train(ctx, cfg, &o, &r, &err);
  if (s != want) fail_msg("%s: %s", tl_status_name(s), err.msg);
  tl_config_free(cfg);
  tl_ctx_free(ctx);
  return r;
}

/* A file of the finished models. */
static inline bool same_file(const tl_train_result *a, const tl_train_result *b, const char *name) {
  const tl_train_result *run[2] = {a, b};
  tl_buf x[2] = {{0}, {0}};
  for (int i = 0; i < 2; i++) {
    char path[600];
    tl_err err = {TL_OK, ""};
    snprintf(path, sizeof path, "%s/model/%s", run[i]->run_dir, name);
    if (tl_file_read(path, 1 << 24, &x[i], &err) != TL_OK) fail_msg("%s", err.msg);
  }
  bool same = x[0].len == x[1].len && !memcmp(x[0].data, x[1].data, x[0].len);
  for (int i = 0; i < 2; i++) tl_buf_free(&x[i]);
  return same;
}

static inline bool same_weights(const tl_train_result *a, const tl_train_result *b) {
  return same_file(a, b, "model.safetensors");
}

#endif
