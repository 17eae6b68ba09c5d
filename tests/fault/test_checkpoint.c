/* Fault tests of checkpoints: kills at random times, full disks, damaged bytes, cut files. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "tilth/checkpoint.h"

static char g_run[64];

static int make_run(void **state) {
  (void)state;
  /* In memory where possible: these tests sync often, and a shared disk is slow at that. */
  bool memory = access("/dev/shm", W_OK) == 0;
  snprintf(g_run, sizeof g_run, "%s/tl_ckpt_XXXXXX", memory ? "/dev/shm" : "/tmp");
  return mkdtemp(g_run) ? 0 : -1;
}

static int remove_run(void **state) {
  (void)state;
  return tl_remove_tree(g_run, NULL) == TL_OK ? 0 : -1;
}

enum { ELEMENTS = 3000 };

/* A checkpoint whose every value is derived from its step. */
static tl_status save_in(const char *run, int64_t step, const double *score, tl_err *err) {
  static float values[ELEMENTS];
  for (int i = 0; i < ELEMENTS; i++) values[i] = (float)(step * 7 + i);
  tl_st_tensor t = {
      .name = "w", .dtype = TL_ST_F32, .ndim = 1, .shape = {ELEMENTS}, .data = values};
  char json[64];
  int n = snprintf(json, sizeof json, "{\"step\":%lld}", (long long)step);
  tl_ckpt_writer *w = NULL;
  TL_TRY(tl_ckpt_begin(run, step, &w, err));
  if (score) tl_ckpt_set_score(w, *score);
  tl_status s = tl_ckpt_add_tensors(w, "model.safetensors", &t, 1, NULL, 0, err);
  if (s == TL_OK) s = tl_ckpt_add_file(w, "trainer.json", json, (size_t)n, err);
  if (s == TL_OK) return tl_ckpt_commit(w, err);
  tl_ckpt_abort(w);
  return s;
}

static tl_status save(int64_t step, tl_err *err) {
  return save_in(g_run, step, NULL, err);
}

static void check_content(tl_ckpt *c) {
  int64_t step = tl_ckpt_step(c);
  tl_st *st = NULL;
  const void *data = NULL;
  size_t n = 0;
  char json[64];
  assert_int_equal(tl_ckpt_tensors(c, "model.safetensors", &st, NULL), TL_OK);
  const float *v = tl_st_find(st, "w")->data;
  for (int i = 0; i < ELEMENTS; i++) assert_true(v[i] == (float)(step * 7 + i));
  tl_st_close(st);
  assert_int_equal(tl_ckpt_file(c, "trainer.json", &data, &n, NULL), TL_OK);
  snprintf(json, sizeof json, "{\"step\":%lld}", (long long)step);
  assert_int_equal(n, strlen(json));
  assert_memory_equal(data, json, n);
}

static int64_t newest_step(const char *run, char *warning, size_t size) {
  tl_ckpt *c = NULL;
  tl_err err = {0};
  if (tl_ckpt_open_latest(run, &c, warning, size, &err) != TL_OK) fail_msg("%s", err.msg);
  check_content(c);
  int64_t step = tl_ckpt_step(c);
  tl_ckpt_close(c);
  return step;
}

static size_t count_names(const char *part) {
  char root[128];
  snprintf(root, sizeof root, "%s/checkpoints", g_run);
  tl_names names = {0};
  size_t n = 0;
  if (tl_dir_list(root, &names, NULL) == TL_OK)
    for (size_t i = 0; i < names.n; i++) n += strstr(names.name[i], part) != NULL;
  tl_names_free(&names);
  return n;
}

static void saved_checkpoints_open(void **state) {
  (void)state;
  tl_ckpt *c = NULL;
  char warning[256];
  tl_err err = {0};
  assert_int_equal(tl_ckpt_open_latest(g_run, &c, warning, sizeof warning, &err), TL_NOINPUT);
  assert_int_equal(save(1000, NULL), TL_OK);
  assert_int_equal(save(2000, NULL), TL_OK);
  assert_int_equal(newest_step(g_run, warning, sizeof warning), 2000);
  assert_string_equal(warning, "");
  /* Going back and saving an earlier step again makes that the newest. */
  assert_int_equal(save(1000, NULL), TL_OK);
  assert_int_equal(newest_step(g_run, warning, sizeof warning), 1000);
  assert_int_equal(count_names(".tmp-"), 0);
  tl_buf latest = {0};
  char path[128];
  snprintf(path, sizeof path, "%s/checkpoints/latest", g_run);
  assert_int_equal(tl_file_read(path, 100, &latest, NULL), TL_OK);
  assert_string_equal(latest.data, "step-00001000\n");
  tl_buf_free(&latest);
  snprintf(path, sizeof path, "%s/checkpoints/step-00002000", g_run);
  assert_int_equal(tl_ckpt_open(path, &c, NULL), TL_OK);
  const void *data;
  size_t n;
  assert_int_equal(tl_ckpt_file(c, "none", &data, &n, NULL), TL_NOINPUT);
  assert_false(tl_ckpt_has(c, "manifest.json"));
  tl_ckpt_close(c);
}

static void names_are_checked(void **state) {
  (void)state;
  tl_ckpt_writer *w = NULL;
  assert_int_equal(tl_ckpt_begin(g_run, 1, &w, NULL), TL_OK);
  assert_int_equal(tl_ckpt_add_file(w, "a", "x", 1, NULL), TL_OK);
  static const char *const bad[] = {"a", "", "../b", "c/d", ".e", "manifest.json"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(tl_ckpt_add_file(w, bad[i], "x", 1, NULL), TL_CONFIG);
  tl_ckpt_abort(w);
  assert_int_equal(count_names("step-"), 0);
  assert_int_equal(count_names(".tmp-"), 0);
}

static void rotation_keeps_newest_and_best(void **state) {
  (void)state;
  static const double scores[] = {3, 1, 4, 2, 5, 6};
  for (int i = 0; i < 6; i++)
    assert_int_equal(save_in(g_run, 10 * (i + 1), &scores[i], NULL), TL_OK);
  assert_int_equal(tl_ckpt_rotate(g_run, 2, 1, NULL), TL_OK);
  tl_ckpt_info *list = NULL;
  size_t n = 0;
  assert_int_equal(tl_ckpt_list(g_run, &list, &n, NULL), TL_OK);
  assert_int_equal(n, 3);
  assert_int_equal(list[0].step, 20);
  assert_true(list[0].score == 1 && list[0].has_score && list[0].bytes > 4 * ELEMENTS);
  assert_int_equal(list[1].step, 50);
  assert_int_equal(list[2].step, 60);
  free(list);
  /* A damaged newest one stops the rotation. */
  char path[128];
  snprintf(path, sizeof path, "%s/checkpoints/step-00000060/trainer.json", g_run);
  assert_int_equal(truncate(path, 3), 0);
  assert_int_equal(tl_ckpt_rotate(g_run, 1, 0, NULL), TL_DATA);
  assert_int_equal(tl_ckpt_list(g_run, &list, &n, NULL), TL_OK);
  assert_int_equal(n, 3);
  free(list);
}

/* --- kills -------------------------------------------------------------------------------------
 */

static void write_until_killed(int report, int64_t step) {
  for (;; step++) {
    if (save(step, NULL) != TL_OK) _exit(1);
    if (write(report, &step, sizeof step) != sizeof step) _exit(1); /* "durable" */
    if (tl_ckpt_rotate(g_run, 2, 0, NULL) != TL_OK) _exit(1);
  }
}

static int64_t run_and_kill(int64_t from, long nanoseconds, int64_t durable) {
  int fds[2], status;
  assert_int_equal(pipe(fds), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    close(fds[0]);
    write_until_killed(fds[1], from);
  }
  close(fds[1]);
  nanosleep(&(struct timespec){0, nanoseconds}, NULL);
  kill(pid, SIGKILL);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status));
  int64_t step;
  while (read(fds[0], &step, sizeof step) == sizeof step) durable = step;
  close(fds[0]);
  return durable;
}

static void kills_lose_nothing_durable(void **state) {
  (void)state;
  enum { KILLS = 160 };
  int64_t durable = -1, interrupted = 0;
  uint32_t x = (uint32_t)getpid();
  assert_int_equal(save(0, NULL), TL_OK);
  int64_t newest = 0;
  for (int i = 0; i < KILLS; i++) {
    x = x * 1664525u + 1013904223u;
    durable = run_and_kill(newest + 1, (long)(x % 25000000u), durable);
    interrupted += count_names(".tmp-") > 0;
    char warning[256];
    newest = newest_step(g_run, warning, sizeof warning);
    assert_string_equal(warning, ""); /* nothing half-written bears a checkpoint's name */
    assert_true(newest >= durable);
    assert_int_equal(tl_ckpt_clean(g_run, NULL), TL_OK);
    assert_int_equal(count_names(".tmp-"), 0);
  }
  assert_true(durable > 0);
  assert_true(interrupted > KILLS / 20); /* the kills did hit writers at work */
  print_message("%d kills, %lld of them left a half-written checkpoint, newest step %lld\n", KILLS,
                (long long)interrupted, (long long)newest);
}

/* --- full disks --------------------------------------------------------------------------------
 */

/* In a child: files may not grow beyond `limit` bytes. Returns the status of the save. */
static int save_with_limit(rlim_t limit) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, limit});
    tl_err err = {0};
    tl_status s = save(2, &err);
    _exit(s == TL_OK || strlen(err.msg) > 10 ? (int)s : 99);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void failed_writes_leave_the_old_checkpoint(void **state) {
  (void)state;
  assert_int_equal(save(1, NULL), TL_OK);
  static const rlim_t limits[] = {0, 1, 10, 100, 1000, 4096, 11999, 12000, 12100};
  for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
    assert_int_equal(save_with_limit(limits[i]), TL_IO);
    assert_int_equal(count_names(".tmp-"), 0);
    assert_int_equal(newest_step(g_run, NULL, 0), 1);
  }
  assert_int_equal(save_with_limit(1 << 20), TL_OK);
  assert_int_equal(newest_step(g_run, NULL, 0), 2);
}

/* Runs in a private mount namespace with a file system of `pages` pages. */
static int save_on_small_disk(int pages) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    char size[32], run[128];
    snprintf(size, sizeof size, "size=%dk", 4 * pages);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", g_run, "tmpfs", 0, size) != 0)
      _exit(98);
    snprintf(run, sizeof run, "%s", g_run);
    if (save_in(run, 1, NULL, NULL) != TL_OK) _exit(97);
    tl_err err = {0};
    tl_status s = TL_OK;
    int64_t step = 1;
    while (s == TL_OK && step < 100) s = save_in(run, ++step, NULL, &err);
    /* The disk may have filled up after the checkpoint itself was complete. */
    int64_t newest = newest_step(run, NULL, 0);
    if (count_names(".tmp-") || newest < step - 1 || newest > step) _exit(96);
    _exit(strstr(err.msg, strerror(ENOSPC)) ? (int)s : 95);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void full_disks_leave_the_old_checkpoint(void **state) {
  (void)state;
  for (int pages = 8; pages < 40; pages += 3) {
    int rc = save_on_small_disk(pages);
    if (rc == 98) {
      print_message("skipped: a private tmpfs is not permitted here\n");
      skip();
    }
    assert_int_equal(rc, TL_IO);
  }
}

/* --- damage ------------------------------------------------------------------------------------
 */

static void patch_byte(const char *path, off_t at, unsigned char mask) {
  FILE *f = fopen(path, "r+b");
  assert_non_null(f);
  fseeko(f, at, SEEK_SET);
  int c = fgetc(f);
  fseeko(f, at, SEEK_SET);
  fputc(c ^ mask, f);
  assert_int_equal(fclose(f), 0);
}

static void every_damaged_byte_is_detected(void **state) {
  (void)state;
  static const char *const files[] = {"manifest.json", "trainer.json", "model.safetensors"};
  assert_int_equal(save(1, NULL), TL_OK);
  assert_int_equal(save(2, NULL), TL_OK);
  char dir[128];
  snprintf(dir, sizeof dir, "%s/checkpoints/step-00000002", g_run);
  for (size_t f = 0; f < 3; f++) {
    char path[192], warning[512];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, files[f]);
    assert_int_equal(stat(path, &st), 0);
    for (off_t at = 0; at < st.st_size; at += f < 2 ? 1 : 7)
      for (int bit = 0; bit < 8; bit += f < 2 ? 1 : 5) {
        patch_byte(path, at, (unsigned char)(1 << bit));
        tl_ckpt *c = NULL;
        if (tl_ckpt_open(dir, &c, NULL) == TL_OK)
          fail_msg("bit %d of byte %lld of %s may change unnoticed", bit, (long long)at, files[f]);
        if (bit == 0 && at % 50 == 0) {
          assert_int_equal(newest_step(g_run, warning, sizeof warning), 1);
          assert_non_null(strstr(warning, f ? files[f] : "step-00000002"));
        }
        patch_byte(path, at, (unsigned char)(1 << bit));
      }
    for (off_t n = st.st_size; n-- > 0;) { /* cut at every length, restored by writing it anew */
      if (f == 2 && n % 13) continue;
      assert_int_equal(truncate(path, n), 0);
      tl_ckpt *c = NULL;
      assert_int_equal(tl_ckpt_open(dir, &c, NULL), TL_DATA);
    }
    unlink(path);
    tl_ckpt *c = NULL;
    assert_int_equal(tl_ckpt_open(dir, &c, NULL), TL_NOINPUT);
    assert_int_equal(newest_step(g_run, warning, sizeof warning), 1);
    assert_true(strlen(warning) > 0);
    assert_int_equal(save(2, NULL), TL_OK);
    assert_int_equal(newest_step(g_run, warning, sizeof warning), 2);
  }
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, make_run, remove_run)

int main(void) {
  const struct CMUnitTest tests[] = {
      FRESH(saved_checkpoints_open),
      FRESH(names_are_checked),
      FRESH(rotation_keeps_newest_and_best),
      FRESH(kills_lose_nothing_durable),
      FRESH(failed_writes_leave_the_old_checkpoint),
      FRESH(full_disks_leave_the_old_checkpoint),
      FRESH(every_damaged_byte_is_detected),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
