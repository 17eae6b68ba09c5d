/* Unit tests of src/formats/run.c, lines.c and tensorboard.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"
#include "base/file.h"
#include "formats/tensorboard.h"
#include "tilth/run.h"

static char g_dir[64];
static char *g_argv[] = {(char[]){"tilth"}, (char[]){"train"}, (char[]){"x\xff=\"y\""}, NULL};

static int make_dir(void **state) {
  (void)state;
  strcpy(g_dir, "/tmp/tl_run_XXXXXX");
  return mkdtemp(g_dir) ? 0 : -1;
}

static int remove_dir(void **state) {
  (void)state;
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

static tl_run_options options(const char *name) {
  static char runs[80];
  snprintf(runs, sizeof runs, "%s/runs", g_dir);
  return (tl_run_options){.dir = runs,
                          .name = name,
                          .config_yaml = "train: {steps: 3}\n",
                          .argc = 3,
                          .argv = g_argv,
                          .seed = 42,
                          .threads = 2,
                          .cpu = "avx2"};
}

static tl_run *create(void) {
  tl_run *r = NULL;
  tl_run_options o = options("test");
  tl_err err = {0};
  if (tl_run_create(&o, &r, &err) != TL_OK) fail_msg("%s", err.msg);
  return r;
}

static char *in_run(const tl_run *r, const char *name) {
  return tl_path_join(tl_run_dir(r), name);
}

/* The whole file; freed by the caller. */
static char *text_of(const char *path) {
  tl_buf b = {0};
  tl_err err = {0};
  if (tl_file_read(path, 1 << 24, &b, &err) != TL_OK) fail_msg("%s", err.msg);
  return b.data;
}

static json_t *json_of(const char *dir) {
  char *path = tl_path_join(dir, "run.json"), *text = text_of(path);
  json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
  assert_non_null(j);
  free(path);
  free(text);
  return j;
}

static void log_step(tl_run *r, int64_t step) {
  tl_metric m[] = {{"loss", 3.25 / (double)(step + 1)}, {"eval/loss", step == 2 ? NAN : 0.1}};
  assert_int_equal(tl_run_metrics(r, step, m, 2, NULL), TL_OK);
}

static void a_run_records_itself(void **state) {
  (void)state;
  tl_run *r = create();
  char dir[256], *path;
  snprintf(dir, sizeof dir, "%s", tl_run_dir(r));
  assert_non_null(strstr(tl_run_id(r), "test-20"));
  assert_int_equal(strlen(tl_run_id(r)), strlen("test-20260101T000000Z-abcd"));
  json_t *j = json_of(dir);
  assert_string_equal(json_string_value(json_object_get(j, "status")), "running");
  assert_string_equal(json_string_value(json_object_get(j, "id")), tl_run_id(r));
  assert_int_equal(json_array_size(json_object_get(j, "argv")), 3);
  assert_int_equal(json_integer_value(json_object_get(j, "seed")), 42);
  json_decref(j);
  assert_int_equal(tl_run_set_text(r, "data_fingerprint", "abc", NULL), TL_OK);
  assert_int_equal(tl_run_set_number(r, "parameters", 1e6, NULL), TL_OK);
  assert_string_equal(tl_run_text(r, "data_fingerprint"), "abc");
  log_step(r, 1);
  log_step(r, 2);
  assert_int_equal(tl_run_event(r, 2, "checkpoint", "line\nbreak \xff", NULL), TL_OK);
  char *metrics = text_of(path = in_run(r, "metrics.jsonl"));
  assert_string_equal(metrics, "{\"step\":1,\"loss\":1.625,\"eval/loss\":0.1}\n"
                               "{\"step\":2,\"loss\":1.0833333333333333,\"eval/loss\":null}\n");
  free(metrics);
  free(path);
  char *events = text_of(path = in_run(r, "events.jsonl"));
  assert_non_null(
      strstr(events, "\"step\":2,\"event\":\"checkpoint\",\"message\":\"line\\nbreak ?\"}\n"));
  free(events);
  free(path);
  assert_int_equal(tl_run_close(r, TL_PREEMPTED, "SIGTERM", NULL), TL_OK);
  j = json_of(dir);
  assert_string_equal(json_string_value(json_object_get(j, "status")), "preempted");
  assert_int_equal(json_integer_value(json_object_get(j, "exit_code")), 75);
  assert_string_equal(json_string_value(json_object_get(j, "data_fingerprint")), "abc");
  json_decref(j);
}

static void bad_names_are_refused(void **state) {
  (void)state;
  static const char *const names[] = {"", "a/b", "..", "-x", "a b", "Ünï"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    tl_run_options o = options(names[i]);
    tl_run *r = NULL;
    assert_int_equal(tl_run_create(&o, &r, NULL), TL_CONFIG);
  }
  tl_run_options o = options("x");
  tl_run *r = NULL;
  assert_int_equal(tl_run_resume("/no/such/run", &o, &r, NULL), TL_NOINPUT);
  assert_int_equal(tl_run_resume(g_dir, &o, &r, NULL), TL_NOINPUT); /* a folder, not a run's */
  o.dir = "/proc/nowhere";
  assert_int_not_equal(tl_run_create(&o, &r, NULL), TL_OK);
}

static void a_second_process_is_kept_out(void **state) {
  (void)state;
  tl_run *r = create(), *second = NULL;
  tl_run_options o = options("x");
  tl_err err = {0};
  char dir[256], pid[32];
  snprintf(dir, sizeof dir, "%s", tl_run_dir(r));
  assert_int_equal(tl_run_resume(dir, &o, &second, &err), TL_CREATE);
  assert_int_equal(tl_status_exit_code(err.code), 73);
  snprintf(pid, sizeof pid, "pid %ld on ", (long)getpid());
  assert_non_null(strstr(err.msg, pid));
  assert_int_equal(tl_run_close(r, TL_FAILED, NULL, NULL), TL_OK);
  assert_int_equal(tl_run_resume(dir, &o, &second, NULL), TL_OK);
  json_t *j = json_of(dir);
  assert_string_equal(json_string_value(json_object_get(j, "status")), "running");
  assert_null(json_object_get(j, "exit_code"));
  assert_int_equal(json_array_size(json_object_get(j, "resumes")), 1);
  json_decref(j);
  assert_int_equal(tl_run_close(second, TL_OK, NULL, NULL), TL_OK);
}

static void rewinding_drops_later_and_torn_lines(void **state) {
  (void)state;
  tl_run *r = create();
  tl_run_options o = options("x");
  char dir[256], *path = in_run(r, "metrics.jsonl");
  snprintf(dir, sizeof dir, "%s", tl_run_dir(r));
  for (int step = 10; step <= 50; step += 10) log_step(r, step);
  assert_int_equal(tl_run_close(r, TL_FAILED, NULL, NULL), TL_OK);
  FILE *f = fopen(path, "ab");
  fputs("{\"step\":60,\"lo", f);
  fclose(f);
  assert_int_equal(tl_run_resume(dir, &o, &r, NULL), TL_OK);
  char *text = text_of(path);
  assert_non_null(strstr(text, "\"step\":50"));
  assert_null(strstr(text, "\"step\":60"));
  free(text);
  assert_int_equal(tl_run_rewind(r, 30, NULL), TL_OK);
  log_step(r, 31);
  text = text_of(path);
  static const char *const want[] = {"{\"step\":10,", "{\"step\":20,", "{\"step\":30,",
                                     "{\"step\":31,"};
  const char *p = text;
  for (int i = 0; i < 4; i++) {
    assert_memory_equal(p, want[i], strlen(want[i]));
    p = strchr(p, '\n') + 1;
  }
  assert_int_equal(*p, 0);
  free(text);
  free(path);
  assert_int_equal(tl_run_close(r, TL_OK, NULL, NULL), TL_OK);
}

/* A writer killed at a random time leaves whole lines, and at most one torn one at the end. */
static void kills_tear_at_most_the_last_line(void **state) {
  (void)state;
  tl_run *r = create();
  tl_run_options o = options("x");
  char dir[256], *path = in_run(r, "metrics.jsonl");
  snprintf(dir, sizeof dir, "%s", tl_run_dir(r));
  assert_int_equal(tl_run_close(r, TL_OK, NULL, NULL), TL_OK);
  int64_t lines = 0;
  /* On a busy machine a writer may die before it writes: rounds grow longer until there is enough.
   */
  for (int round = 0; round < 40 || (lines <= 40 && round < 400); round++) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
      tl_metric m[] = {{"loss", 1.5}};
      if (tl_run_resume(dir, &o, &r, NULL) != TL_OK) _exit(1);
      for (int64_t step = 0;; step++)
        if (tl_run_metrics(r, step, m, 1, NULL) != TL_OK) _exit(1);
    }
    nanosleep(&(struct timespec){0, 1000000 + round * 300000}, NULL);
    kill(pid, SIGKILL);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    char *text = text_of(path);
    int64_t now = 0;
    for (char *p = text, *nl; p && (nl = strchr(p, '\n')); p = nl + 1, now++) {
      json_t *j = json_loadb(p, (size_t)(nl - p), 0, NULL);
      assert_non_null(j);
      json_decref(j);
    }
    free(text);
    assert_true(now >= lines);
    lines = now;
  }
  assert_true(lines > 40);
  free(path);
}

/* A full disk: the line that did not fit leaves nothing behind. */
static void failed_appends_leave_whole_lines(void **state) {
  (void)state;
  tl_run *r = create();
  char *path = in_run(r, "metrics.jsonl");
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){1000, 1000});
    tl_metric m[] = {{"loss", 1.5}};
    tl_status s = TL_OK;
    for (int step = 0; s == TL_OK && step < 100; step++) s = tl_run_metrics(r, step, m, 1, NULL);
    _exit((int)s);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(WEXITSTATUS(status), TL_IO);
  char *text = text_of(path);
  size_t n = strlen(text);
  assert_true(n > 500 && n <= 1000 && text[n - 1] == '\n');
  free(text);
  free(path);
  assert_int_equal(tl_run_close(r, TL_OK, NULL, NULL), TL_OK);
}

/* --- TensorBoard -------------------------------------------------------------------------------
 */

static uint64_t le(const unsigned char *p, int n) {
  uint64_t v = 0;
  while (n-- > 0) v = v << 8 | p[n];
  return v;
}

static uint32_t unmasked(uint32_t m) {
  uint32_t r = m - 0xa282ead8u;
  return r >> 17 | r << 15;
}

/* Checks the framing of the record at *p and moves on; returns its event. */
static const unsigned char *next_record(const unsigned char **p, const unsigned char *end,
                                        size_t *n) {
  assert_true(end - *p >= 16);
  *n = (size_t)le(*p, 8);
  assert_true((size_t)(end - *p) >= 16 + *n);
  assert_int_equal(unmasked((uint32_t)le(*p + 8, 4)), tl_crc32c(*p, 8));
  assert_int_equal(unmasked((uint32_t)le(*p + 12 + *n, 4)), tl_crc32c(*p + 12, *n));
  const unsigned char *event = *p + 12;
  *p += 16 + *n;
  return event;
}

static void tensorboard_files_are_well_formed(void **state) {
  (void)state;
  assert_int_equal(tl_crc32c("123456789", 9), 0xe3069283u);
  tl_buf b = {0};
  tl_metric m[] = {{"loss", 1.5}, {"acc", -2}};
  tl_tb_version(&b, 1.0);
  tl_tb_restart(&b, 1.0, 7);
  tl_tb_scalars(&b, 1.0, 300, m, 2);
  const unsigned char *p = (const unsigned char *)b.data, *end = p + b.len, *e;
  size_t n;
  static const unsigned char head[] = {0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10};
  e = next_record(&p, end, &n);
  assert_memory_equal(e, head, sizeof head);
  assert_int_equal(n, 10 + 1 + 2 + 13);
  assert_memory_equal(e + 11,
                      "\x1a\x0d"
                      "brain.Event:2",
                      15);
  e = next_record(&p, end, &n);
  assert_memory_equal(e + 10, "\x07\x3a\x02\x08\x01", 5);
  e = next_record(&p, end, &n);
  static const unsigned char scalars[] = {0xac, 0x02, 0x2a, 25,  0x0a, 11,   0x0a, 4,    'l', 'o',
                                          's',  's',  0x15, 0,   0,    0xc0, 0x3f, 0x0a, 10,  0x0a,
                                          3,    'a',  'c',  'c', 0x15, 0,    0,    0,    0xc0};
  assert_int_equal(n, 10 + sizeof scalars);
  assert_memory_equal(e + 10, scalars, sizeof scalars);
  assert_ptr_equal(p, end);
  tl_buf_free(&b);
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void) {
  const struct CMUnitTest tests[] = {
      FRESH(a_run_records_itself),
      FRESH(bad_names_are_refused),
      FRESH(a_second_process_is_kept_out),
      FRESH(rewinding_drops_later_and_torn_lines),
      FRESH(kills_tear_at_most_the_last_line),
      FRESH(failed_appends_leave_whole_lines),
      cmocka_unit_test(tensorboard_files_are_well_formed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
