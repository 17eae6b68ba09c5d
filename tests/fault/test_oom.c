/* Every allocation fails once: the N-th, for all N, in the readers and writers of configurations,
 * safetensors, checkpoints, run folders and labelled data, and in the metrics. Each must return an
 * error, leak nothing, and leave what was there before as it was. */
#include <limits.h>
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

#include "base/file.h"
#include "eval/bleu.h"
#include "eval/entity.h"
#include "eval/metrics.h"
#include "eval/stats.h"
#include "tilth/checkpoint.h"
#include "tilth/config.h"
#include "tilth/run.h"
#include "tilth/safetensors.h"
#include "tilth/task_data.h"
#include "text/task_internal.h"

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CAN_FAIL_ALLOCATIONS 1
#endif

#ifdef CAN_FAIL_ALLOCATIONS
/* Interposed over libc's for the whole program, libraries included. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);

static long g_countdown = -1; /* fails the allocation that brings it from 1 to 0; < 0: none */
static long g_live;           /* allocations not freed while g_watch */
static int g_watch, g_failed;

static int fails(void) {
  if (g_countdown < 0 || --g_countdown != 0) return 0;
  g_countdown = -1;
  g_failed = 1;
  return 1;
}

void *malloc(size_t n) {
  if (fails()) return NULL;
  void *p = __libc_malloc(n);
  g_live += p && g_watch;
  return p;
}

void *calloc(size_t n, size_t m) {
  if (fails()) return NULL;
  void *p = __libc_calloc(n, m);
  g_live += p && g_watch;
  return p;
}

void *aligned_alloc(size_t align, size_t n) {
  if (fails()) return NULL;
  void *p = __libc_memalign(align, n);
  g_live += p && g_watch;
  return p;
}

void *realloc(void *old, size_t n) {
  if (fails()) return NULL;
  void *p = __libc_realloc(old, n);
  g_live += p && !old && g_watch;
  return p;
}

void free(void *p) {
  g_live -= p && g_watch;
  __libc_free(p);
}

static char g_dir[64], g_path[128];

static int make_dir(void **state) {
  (void)state;
  /* In memory where possible: these tests sync often, and a shared disk is slow at that. */
  bool memory = access("/dev/shm", W_OK) == 0;
  snprintf(g_dir, sizeof g_dir, "%s/tl_oom_XXXXXX", memory ? "/dev/shm" : "/tmp");
  return mkdtemp(g_dir) ? 0 : -1;
}

static int remove_dir(void **state) {
  (void)state;
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

/* What a failed removal may leave behind must not make the next round longer. */
static void clean(void) {
  char root[128];
  snprintf(root, sizeof root, "%s/checkpoints", g_dir);
  if (tl_is_dir(root)) assert_int_equal(tl_ckpt_clean(g_dir, NULL), TL_OK);
  tl_names names = {0};
  assert_int_equal(tl_dir_list(g_dir, &names, NULL), TL_OK);
  for (size_t i = 0; i < names.n; i++) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", g_dir, names.name[i]);
    if (strstr(path, ".tmp-") || strstr(path, "/r-2")) tl_remove_tree(path, NULL);
  }
  tl_names_free(&names);
}

/* Runs `work` with allocation n + 1, n + 2, ... failing, until one run needs fewer. */
static void fail_each_from(int n, tl_status (*work)(tl_err *err), int least) {
  assert_int_equal(work(NULL), TL_OK); /* and what libc allocates once is now there */
  for (int failed = 1; failed; n++) {
    tl_err err = {0};
    g_live = g_failed = 0;
    g_countdown = n + 1;
    g_watch = 1;
    tl_status s = work(&err);
    g_watch = 0;
    g_countdown = -1;
    failed = g_failed;
    if (g_live != 0) fail_msg("allocation %d: %ld blocks leak (%s)", n + 1, g_live, err.msg);
    if (!failed && s != TL_OK) fail_msg("without a failure: %s", err.msg);
    if (s != TL_OK && !err.msg[0]) fail_msg("allocation %d: no message", n + 1);
    clean();
    if (n > 5000) fail_msg("no end");
  }
  assert_true(n > least);
}

static void fail_each(tl_status (*work)(tl_err *err), int least) {
  fail_each_from(0, work, least);
}

static tl_status load_config(tl_err *err) {
  static const char *const overrides[] = {"data.text=a,b", "model.depth=4"};
  tl_config *c = NULL;
  char *text = NULL;
  TL_TRY(tl_config_load("gpt2", g_path, overrides, 2, &c, err));
  tl_status s = tl_config_dump(c, true, &text, err);
  tl_config_free(c);
  free(text);
  return s;
}

static void configurations(void **state) {
  (void)state;
  static const char yaml[] = "optim: {lr: 0.5, type: muon}\nmodel:\n  depth: 3\n";
  snprintf(g_path, sizeof g_path, "%s/c.yaml", g_dir);
  assert_int_equal(tl_file_write_atomic(g_path, yaml, strlen(yaml), NULL), TL_OK);
  fail_each(load_config, 20);
}

static const float g_values[4] = {1, 2, 3, 4};
static const tl_st_tensor g_tensors[] = {
    {.name = "a", .dtype = TL_ST_F32, .ndim = 2, .shape = {2, 2}, .data = g_values},
    {.name = "b", .dtype = TL_ST_F32, .ndim = 1, .shape = {4}, .data = g_values}};

static tl_status write_and_read_tensors(tl_err *err) {
  tl_st *st = NULL;
  TL_TRY(tl_st_write(g_path, g_tensors, 2, NULL, 0, NULL, NULL, err));
  TL_TRY(tl_st_open(g_path, &st, err));
  tl_st_close(st);
  return TL_OK;
}

static void safetensors(void **state) {
  (void)state;
  snprintf(g_path, sizeof g_path, "%s/a.safetensors", g_dir);
  fail_each(write_and_read_tensors, 40);
}

static tl_status read_shards(tl_err *err) {
  tl_st *st = NULL;
  TL_TRY(tl_st_open(g_dir, &st, err));
  tl_st_close(st);
  return TL_OK;
}

static void sharded_safetensors(void **state) {
  (void)state;
  static const char index[] = "{\"weight_map\":{\"a\":\"x.safetensors\",\"b\":\"y.safetensors\"}}";
  static const char *const names[] = {"x", "y"};
  for (int i = 0; i < 2; i++) {
    snprintf(g_path, sizeof g_path, "%s/%s.safetensors", g_dir, names[i]);
    assert_int_equal(tl_st_write(g_path, g_tensors + i, 1, NULL, 0, NULL, NULL, NULL), TL_OK);
  }
  snprintf(g_path, sizeof g_path, "%s/model.safetensors.index.json", g_dir);
  assert_int_equal(tl_file_write_atomic(g_path, index, strlen(index), NULL), TL_OK);
  fail_each(read_shards, 40);
}

static tl_status save_and_open(tl_err *err) {
  tl_ckpt_writer *w = NULL;
  tl_ckpt *c = NULL;
  TL_TRY(tl_ckpt_begin(g_dir, 5, &w, err));
  tl_ckpt_set_score(w, 1.5);
  tl_status s = tl_ckpt_add_tensors(w, "model.safetensors", g_tensors, 2, NULL, 0, err);
  if (s == TL_OK) s = tl_ckpt_add_file(w, "t.json", "{}", 2, err);
  if (s != TL_OK) {
    tl_ckpt_abort(w);
    return s;
  }
  TL_TRY(tl_ckpt_commit(w, err));
  TL_TRY(tl_ckpt_rotate(g_dir, 1, 1, err));
  TL_TRY(tl_ckpt_open_latest(g_dir, &c, NULL, 0, err));
  const void *data;
  size_t n;
  s = tl_ckpt_file(c, "t.json", &data, &n, err);
  tl_ckpt_close(c);
  return s;
}

static void checkpoints(void **state) {
  (void)state;
  fail_each(save_and_open, 60);
  tl_ckpt *c = NULL;
  assert_int_equal(tl_ckpt_open_latest(g_dir, &c, NULL, 0, NULL), TL_OK);
  tl_ckpt_close(c);
}

static tl_status use_run(tl_err *err) {
  static char arg[] = "tilth", *argv[] = {arg, NULL};
  tl_run_options o = {.dir = g_dir, .name = "r", .config_yaml = "x", .argc = 1, .argv = argv};
  tl_run *r = NULL;
  tl_metric m[] = {{"loss", 1}};
  TL_TRY(tl_run_create(&o, &r, err));
  char dir[256];
  snprintf(dir, sizeof dir, "%s", tl_run_dir(r));
  tl_status s = tl_run_metrics(r, 1, m, 1, err);
  if (s == TL_OK) s = tl_run_event(r, 1, "e", "m", err);
  if (s == TL_OK) s = tl_run_set_text(r, "k", "v", err);
  tl_status closed = tl_run_close(r, s, NULL, s == TL_OK ? err : NULL);
  if (s == TL_OK) s = closed;
  if (s == TL_OK) s = tl_run_resume(dir, &o, &r, err);
  if (s == TL_OK) {
    s = tl_run_rewind(r, 0, err);
    closed = tl_run_close(r, s, NULL, s == TL_OK ? err : NULL);
    if (s == TL_OK) s = closed;
  }
  tl_remove_tree(dir, NULL);
  return s;
}

static void run_folders(void **state) {
  (void)state;
  fail_each(use_run, 100);
}

/* The metric of the bootstrap in use_metrics: x scored against x. */
static double rank_metric(const size_t *index, size_t n, void *user) {
  double v = 0;
  return tl_spearman(user, user, index, n, &v, NULL) == TL_OK ? v : NAN;
}

static tl_status use_entities(tl_err *err) {
  const char *const truth[] = {"B-A", "I-A", "O", "B-B"}, *const pred[] = {"B-A", "O", "O", "I-C"};
  const size_t offset[] = {0, 2, 4};
  const tl_tagged a = {truth, offset, 2}, b = {pred, offset, 2};
  tl_entity_tally *tally = NULL;
  const char **tags = NULL;
  TL_TRY(tl_entity_tally_new(&a, &b, TL_TAGS_BIO, &tally, err));
  tl_entity_tally_free(tally);
  TL_TRY(tl_tags_convert(&b, TL_TAGS_TOLERANT, TL_TAGS_BIOES, &tags, err));
  free(tags);
  return TL_OK;
}

static tl_status use_metrics(tl_err *err) {
  double x[] = {3, 1, 2, 5}, v;
  const int truth[] = {0, 1, 0, 1};
  tl_bootstrap_interval interval;
  TL_TRY(tl_roc_auc(x, truth, NULL, 4, &v, err));
  TL_TRY(tl_spearman(x, x, NULL, 4, &v, err));
  TL_TRY(tl_bootstrap(rank_metric, x, 4, 1, 2, 0.9, &interval, err));
  TL_TRY(use_entities(err));
  const tl_bleu_text hyp[] = {{"Grow, (said) she.", 17}, {"a", 1}},
                     ref[] = {{"Grow; she said.", 15}, {"a b", 3}};
  tl_bleu_opts bleu = {.lowercase = true};
  tl_chrf_opts chrf = {.words = 2};
  tl_bleu_counts b[2];
  tl_chrf_counts c[2];
  TL_TRY(tl_bleu_count(&bleu, hyp, ref, 2, 1, b, err));
  return tl_chrf_count(&chrf, hyp, ref, 2, 1, c, err);
}

static void metrics(void **state) {
  (void)state;
  fail_each(use_metrics, 50);
}

static tl_task_options g_task;

static tl_status read_task(tl_err *err) {
  tl_task_data d;
  TL_TRY(tl_task_read(g_path, &g_task, &d, err));
  size_t order[4];
  tl_status s = d.n <= 4 ? tl_task_order(&d, 1, order, err) : TL_OK;
  tl_task_data_free(&d);
  return s;
}

/* Libarchive, which reads the files, does not survive a lack of memory: only what comes after it
 * can be tested. */
static int allocations_of_loading(void) {
  tl_buf b = {0};
  uint64_t hash;
  assert_int_equal(tl_task_load(g_path, false, &b, &hash, NULL), TL_OK);
  tl_buf_free(&b);
  b = (tl_buf){0};
  g_countdown = LONG_MAX;
  assert_int_equal(tl_task_load(g_path, false, &b, &hash, NULL), TL_OK);
  long n = LONG_MAX - g_countdown;
  g_countdown = -1;
  tl_buf_free(&b);
  return (int)n;
}

static void task_data(void **state) {
  (void)state;
  static const struct {
    const char *name, *text;
    tl_task_kind kind;
  } files[] = {
      {"a.tsv", "label\tother\ttext\nx\t-\ta\ny\ta column that is left out\tb\n", TL_TASK_CLASS},
      {"a.csv", "\"a,b\",x\n,\"y\n\"\n", TL_TASK_MULTI},
      {"a.jsonl", "{\"sentence1\": \"a\", \"sentence2\": \"b\", \"score\": 1}\n", TL_TASK_VALUE},
      {"a.conll", "a O\nb B-X\n\nc O\n", TL_TASK_TOKENS},
      {"a.tsv", "a\tb\nc\td\n", TL_TASK_PAIR},
  };
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    snprintf(g_path, sizeof g_path, "%s/%s", g_dir, files[i].name);
    assert_int_equal(tl_file_write_atomic(g_path, files[i].text, strlen(files[i].text), NULL),
                     TL_OK);
    g_task = (tl_task_options){.kind = files[i].kind};
    int n = allocations_of_loading();
    fail_each_from(n, read_task, n + 3);
  }
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void) {
  const struct CMUnitTest tests[] = {
      FRESH(configurations), FRESH(safetensors), FRESH(sharded_safetensors), FRESH(checkpoints),
      FRESH(run_folders),    FRESH(metrics),     FRESH(task_data),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void) {
  printf("skipped: allocations cannot be made to fail under this sanitizer or C library\n");
  return 0;
}
#endif
