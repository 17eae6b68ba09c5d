/* Training as a whole: the same bits after an interruption, a kill, or on another number of
 * threads; accumulation; and the guard. TILTH_LONG=1 kills more often. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/rng.h"
#include "tilth/safetensors.h"
#include "tilth/train.h"

enum { MAX_KEYS = 40, PATH = 600, SENTENCES = 3000 };

static char g_dir[64];
static char g_data[PATH];

/* Overrides of the configuration, texts "section.key=value". */
typedef struct keys {
  char text[MAX_KEYS][PATH];
  size_t n;
} keys;

static void __attribute__((format(printf, 2, 3))) set(keys *k, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  assert_true(k->n < MAX_KEYS);
  vsnprintf(k->text[k->n], PATH, fmt, ap);
  va_end(ap);
  k->n++;
}

static keys tiny(const char *name) {
  keys k = {.n = 0};
  set(&k, "run.dir=%s", g_dir);
  set(&k, "run.name=%s", name);
  set(&k, "data.path=%s", g_data);
  set(&k, "run.checkpoint_minutes=0");
  set(&k, "run.log_every=1");
  set(&k, "model.dim=32");
  set(&k, "model.layers=2");
  set(&k, "model.heads=2");
  set(&k, "train.seq_len=32");
  set(&k, "train.batch=2");
  set(&k, "optim.warmup=5");
  set(&k, "optim.lr=3e-3");
  return k;
}

/* What a run is told from outside: where to stop, and a pipe that hears of every step. */
typedef struct watcher {
  int64_t stop_after, step; /* stop_after 0: never */
  int64_t first;            /* step that was heard of first */
  int pipe;                 /* -1: none */
  double first_loss;
} watcher;

static void on_progress(void *user, const tl_progress *p) {
  watcher *w = user;
  if (p->note) return;
  w->step = p->step;
  if (!w->first) w->first = p->step;
  if (p->step == 1) w->first_loss = p->loss;
  if (w->pipe >= 0 && write(w->pipe, "s", 1) != 1) _exit(3);
}

static int on_cancel(void *user) {
  const watcher *w = user;
  return w->stop_after > 0 && w->step >= w->stop_after;
}

/* Trains by k, or goes on in run_dir when k is NULL. */
static tl_status run(const keys *k, const char *run_dir, int threads, watcher *w,
                     tl_train_result *r, tl_err *err) {
  tl_ctx *ctx = NULL;
  tl_config *cfg = NULL;
  const tl_train_options o = {.progress = on_progress, .user = w};
  const tl_ctx_options co = {.n_threads = threads, .cancel = on_cancel, .user = w};
  tl_status s = tl_ctx_new(&co, &ctx, err);
  const char *text[MAX_KEYS];
  for (size_t i = 0; k && i < k->n; i++) text[i] = k->text[i];
  if (s == TL_OK && k) s = tl_config_load(NULL, NULL, text, k->n, &cfg, err);
  if (s == TL_OK) s = k ? tl_train(ctx, cfg, &o, r, err) : tl_resume(ctx, run_dir, &o, r, err);
  tl_config_free(cfg);
  tl_ctx_free(ctx);
  return s;
}

static tl_train_result must(tl_status want, const keys *k, const char *run_dir, int threads,
                            watcher *w) {
  tl_train_result r = {0};
  tl_err err = {TL_OK, ""};
  watcher quiet = {.pipe = -1};
  tl_status s = run(k, run_dir, threads, w ? w : &quiet, &r, &err);
  if (s != want) fail_msg("%s: %s, expected %s", tl_status_name(s), err.msg, tl_status_name(want));
  return r;
}

static tl_train_result train(const keys *k) {
  return must(TL_OK, k, NULL, 2, NULL);
}

static tl_buf weights_of(const char *run_dir) {
  char path[PATH];
  tl_buf b = {0};
  tl_err err = {TL_OK, ""};
  snprintf(path, sizeof path, "%s/model/model.safetensors", run_dir);
  if (tl_file_read(path, 1 << 26, &b, &err) != TL_OK) fail_msg("%s", err.msg);
  return b;
}

static void assert_same_weights(const char *a, const char *b) {
  tl_buf x = weights_of(a), y = weights_of(b);
  assert_int_equal(x.len, y.len);
  assert_memory_equal(x.data, y.data, x.len);
  tl_buf_free(&x);
  tl_buf_free(&y);
}

/* Sentences of a small grammar: enough structure for the loss to fall, several per paragraph. */
static int make_corpus(void **state) {
  (void)state;
  static const char *const words[3][6] = {{"rain", "soil", "seed", "wind", "root", "leaf"},
                                          {"feeds", "moves", "holds", "finds", "turns", "meets"},
                                          {"grain", "stone", "water", "light", "earth", "field"}};
  /* In memory where possible: hundreds of synced files on a busy disk take their time. */
  const char *root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  snprintf(g_dir, sizeof g_dir, "%s/tilth-training-XXXXXX", root);
  if (!mkdtemp(g_dir)) return -1;
  char path[PATH];
  snprintf(path, sizeof path, "%s/corpus.txt", g_dir);
  FILE *f = fopen(path, "w");
  if (!f) return -1;
  tl_rng r = tl_rng_make(3, TL_STREAM_TEST, 0, 0);
  for (int i = 0; i < SENTENCES; i++) {
    for (int w = 0; w < 3; w++) fprintf(f, "%s ", words[w][tl_rng_below(&r, 6)]);
    if (tl_rng_below(&r, 4) == 0) fprintf(f, "\n\n");
  }
  if (fclose(f)) return -1;
  keys k = tiny("data");
  k.n = 2; /* run.dir and run.name; the first run prepares the data of all */
  set(&k, "data.text=%s", path);
  set(&k, "data.tokenizer=bytes");
  set(&k, "data.val_fraction=0.1");
  set(&k, "model.dim=32");
  set(&k, "train.seq_len=32");
  set(&k, "train.steps=1");
  tl_train_result res = train(&k);
  snprintf(g_data, sizeof g_data, "%s/data", res.run_dir);
  return 0;
}

static int remove_all(void **state) {
  (void)state;
  char command[PATH];
  snprintf(command, sizeof command, "rm -r %s", g_dir);
  return system(command);
}

static const struct {
  const char *model, *objective, *dtype;
} kinds[] = {{"gpt2", "next_token", "f32"},
             {"gpt2", "next_token", "bf16"},
             {"encoder", "masked", "f32"},
             {"encoder", "masked", "bf16"}};
enum { N_KINDS = 4 };

static keys noisy(int kind, const char *name) {
  keys k = tiny(name);
  set(&k, "model.type=%s", kinds[kind].model);
  set(&k, "objective.type=%s", kinds[kind].objective);
  set(&k, "run.dtype=%s", kinds[kind].dtype);
  set(&k, "model.dropout=0.1");
  set(&k, "model.attention_dropout=0.1");
  set(&k, "train.accum=2");
  set(&k, "train.steps=20");
  return k;
}

static void resumed_runs_are_the_same(void **state) {
  (void)state;
  for (int kind = 0; kind < N_KINDS; kind++) {
    keys k = noisy(kind, "resume");
    tl_train_result straight = train(&k);
    assert_int_equal(straight.steps, 20);
    watcher w = {.stop_after = 10, .pipe = -1};
    tl_train_result half = must(TL_PREEMPTED, &k, NULL, 2, &w);
    assert_int_equal(half.steps, 10);
    /* The request came before the evaluation of this step: that must not cost the steps, and the
     * resumed run makes up for it. */
    watcher later = {.pipe = -1};
    tl_train_result whole = must(TL_OK, NULL, half.run_dir, 2, &later);
    assert_int_equal(later.first, 11);
    assert_int_equal(whole.steps, 20);
    assert_int_equal(whole.best_step, straight.best_step);
    assert_true(whole.best_val_loss == straight.best_val_loss);
    assert_int_equal(whole.tokens, straight.tokens);
    assert_same_weights(straight.run_dir, whole.run_dir);
  }
}

static void threads_do_not_matter(void **state) {
  (void)state;
  int stride = getenv("TILTH_LONG") ? 1 : N_KINDS - 1; /* the short test takes the two ends */
  for (int kind = 0; kind < N_KINDS; kind += stride) {
    keys k = noisy(kind, "threads");
    tl_train_result one = must(TL_OK, &k, NULL, 1, NULL);
    for (int threads = 2; threads <= 3; threads++) {
      tl_train_result r = must(TL_OK, &k, NULL, threads, NULL);
      assert_same_weights(one.run_dir, r.run_dir);
    }
    /* The comparison can fail: another seed gives other weights. */
    set(&k, "run.seed=2");
    tl_buf a = weights_of(one.run_dir), b = weights_of(train(&k).run_dir);
    assert_true(a.len == b.len && memcmp(a.data, b.data, a.len));
    tl_buf_free(&a);
    tl_buf_free(&b);
  }
}

/* Of two runs' weights, the largest difference. */
static double distance(const char *a, const char *b) {
  char path[PATH];
  tl_st *st[2];
  for (int i = 0; i < 2; i++) {
    snprintf(path, sizeof path, "%s/model", i ? b : a);
    assert_int_equal(tl_st_open(path, &st[i], NULL), TL_OK);
  }
  double worst = 0;
  for (size_t i = 0; i < tl_st_count(st[0]); i++) {
    const tl_st_tensor *x = tl_st_at(st[0], i), *y = tl_st_at(st[1], i);
    assert_string_equal(x->name, y->name);
    const float *p = x->data, *q = y->data;
    for (int64_t e = 0; e < tl_st_elements(x); e++)
      worst = fmax(worst, fabs((double)p[e] - (double)q[e]));
  }
  tl_st_close(st[0]);
  tl_st_close(st[1]);
  return worst;
}

/* One step of plain descent at rate 1: the weights move by the gradient. */
static void accumulation_is_a_larger_batch(void **state) {
  (void)state;
  for (int seed = 1; seed <= 2; seed++) {
    char dir[3][PATH];
    double loss[3];
    for (int i = 0; i < 3; i++) { /* batch 4; 2 x 2; and one that differs: 2 alone */
      keys k = tiny("accum");
      set(&k, "model.type=encoder");
      set(&k, "objective.type=masked");
      set(&k, "run.dtype=f32");
      set(&k, "run.seed=%d", seed);
      set(&k, "train.steps=1");
      set(&k, "train.batch=%d", i == 0 ? 4 : 2);
      set(&k, "train.accum=%d", i == 1 ? 2 : 1);
      set(&k, "optim.type=sgd");
      set(&k, "optim.momentum=0");
      set(&k, "optim.schedule=constant");
      set(&k, "optim.lr=1");
      set(&k, "optim.warmup=0");
      set(&k, "optim.weight_decay=0");
      set(&k, "optim.clip=0");
      tl_train_result r = train(&k);
      memcpy(dir[i], r.run_dir, sizeof r.run_dir);
      loss[i] = r.loss;
    }
    assert_true(loss[0] > 1 && fabs(loss[0] - loss[1]) <= 1e-5 * loss[0]);
    assert_true(distance(dir[0], dir[1]) <= 1e-5);
    assert_true(distance(dir[0], dir[2]) > 1e-3);
  }
}

static void loss_falls(void **state) {
  (void)state;
  keys k = tiny("falls");
  set(&k, "train.steps=120");
  set(&k, "train.batch=8");
  watcher w = {.pipe = -1};
  tl_train_result r = must(TL_OK, &k, NULL, 2, &w);
  assert_true(w.first_loss > 5 && w.first_loss < 6.5); /* log(bytes) */
  assert_true(r.loss < 0.5 * w.first_loss && r.val_loss < 0.5 * w.first_loss);
}

static tl_train_result at_rate(double lr, const char *policy) {
  keys k = tiny("guard");
  set(&k, "run.dtype=f32");
  set(&k, "train.batch=8");
  set(&k, "train.steps=1600");
  set(&k, "optim.warmup=1000");
  set(&k, "optim.lr=%g", lr);
  set(&k, "guard.policy=%s", policy);
  set(&k, "guard.lr_factor=0.1");
  return train(&k);
}

/* A learning rate 30 times too high, reached by a long warm-up: the loss falls at first, then it
 * climbs and stays up. */
static void guard_saves_a_run(void **state) {
  (void)state;
  double clean = at_rate(0.02, "rollback").val_loss, bad = at_rate(0.6, "off").val_loss;
  double guarded = at_rate(0.6, "rollback").val_loss;
  printf("validation loss: clean %.4f, unguarded %.4f, guarded %.4f\n", clean, bad, guarded);
  assert_true(!(bad < 2 * clean));
  assert_true(guarded < 1.01 * clean);
}

/* The only run folder in dir; false while there is none. */
static bool only_run(const char *dir, char out[PATH]) {
  DIR *d = opendir(dir);
  bool found = false;
  for (struct dirent *e; d && (e = readdir(d));)
    if (e->d_name[0] != '.') {
      assert_false(found);
      assert_true(snprintf(out, PATH, "%s/%s", dir, e->d_name) < PATH);
      found = true;
    }
  if (d) closedir(d);
  return found;
}

/* A child process trains and tells of every step; it is killed some way into step `after`. */
static bool train_and_kill(const keys *k, const char *run_dir, int after, useconds_t more) {
  int fd[2];
  char c;
  assert_int_equal(pipe(fd), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    close(fd[0]);
    watcher w = {.pipe = fd[1]};
    tl_train_result r;
    tl_err err = {TL_OK, ""};
    tl_status s = run(k, run_dir, 2, &w, &r, &err);
    if (s != TL_OK) fprintf(stderr, "child: %s\n", err.msg);
    _exit(s == TL_OK ? 0 : 1);
  }
  close(fd[1]);
  for (int i = 0; i < after && read(fd[0], &c, 1) == 1; i++) {
  }
  usleep(more);
  kill(child, SIGKILL);
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  close(fd[0]);
  if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
  return WIFSIGNALED(status);
}

static void kills_lose_nothing(void **state) {
  (void)state;
  int kills = getenv("TILTH_LONG") ? 100 : 8, killed = 0;
  keys k = tiny("kill");
  set(&k, "model.dropout=0.1");
  set(&k, "run.checkpoint_every=1");
  set(&k, "train.steps=%d", 4 * kills);
  tl_train_result straight = train(&k);
  char dir[PATH], run_dir[PATH];
  snprintf(dir, sizeof dir, "%s/kill-dir", g_dir);
  set(&k, "run.dir=%s", dir);
  tl_rng r = tl_rng_make(8, TL_STREAM_TEST, 1, 0);
  killed += train_and_kill(&k, NULL, 1, 0);
  assert_true(only_run(dir, run_dir));
  for (int i = 1; i < kills; i++) {
    int after = (int)tl_rng_below(&r, 5);
    killed += train_and_kill(NULL, run_dir, after, (useconds_t)tl_rng_below(&r, 8000));
  }
  assert_true(killed >= kills / 2);
  tl_train_result last = must(TL_OK, NULL, run_dir, 2, NULL);
  assert_int_equal(last.steps, 4 * kills);
  assert_same_weights(straight.run_dir, run_dir);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(resumed_runs_are_the_same),
      cmocka_unit_test(threads_do_not_matter),
      cmocka_unit_test(accumulation_is_a_larger_batch),
      cmocka_unit_test(loss_falls),
      cmocka_unit_test(guard_saves_a_run),
      cmocka_unit_test(kills_lose_nothing),
  };
  return cmocka_run_group_tests(tests, make_corpus, remove_all);
}
