/* The program under kill -9 and SIGTERM at random times: it resumes by itself, and ends with the
 * same bits as a run that was never interrupted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "tilth/checkpoint.h"

enum { STEPS = 600, MAX_KILLS = 15, MAX_ARGS = 32 };

static char g_program[4096], g_dir[64];
static uint32_t g_random = 20240607;

static uint32_t random_below(uint32_t n) {
  g_random = g_random * 1664525u + 1013904223u;
  return (g_random >> 8) % n;
}

static int set_up(void **state) {
  (void)state;
  ssize_t n = readlink("/proc/self/exe", g_program, sizeof g_program - 16);
  if (n <= 0) return -1;
  g_program[n] = 0;
  strcpy(strrchr(g_program, '/') + 1, "tilth");
  /* In memory where possible: these tests sync often, and a shared disk is slow at that. */
  bool memory = access("/dev/shm", W_OK) == 0;
  snprintf(g_dir, sizeof g_dir, "%s/tl_resume_XXXXXX", memory ? "/dev/shm" : "/tmp");
  if (!mkdtemp(g_dir)) return -1;
  char path[128];
  snprintf(path, sizeof path, "%s/text", g_dir);
  FILE *f = fopen(path, "w");
  static const char *const words[] = {"soil", "seed", "rain", "root",
                                      "leaf", "sun",  "worm", "field"};
  for (int i = 0; f && i < 6000; i++)
    fprintf(f, "%s%s", words[random_below(8)], i % 9 ? " " : ".\n");
  return f && fclose(f) == 0 ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

/* Starts the program with these arguments; its output goes to g_dir/log. */
static pid_t start(char *const *argv) {
  if (access(g_program, X_OK) != 0) {
    print_message("skipped: %s is not built\n", g_program);
    skip();
  }
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid > 0) return pid;
  char log[128];
  snprintf(log, sizeof log, "%s/log", g_dir);
  int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  dup2(fd, 1);
  dup2(fd, 2);
  execv(g_program, argv);
  _exit(127);
}

static pid_t start_training(const char *name) {
  char run_name[64], text[128], dir[96];
  snprintf(run_name, sizeof run_name, "run.name=%s", name);
  snprintf(text, sizeof text, "data.text=%s/text", g_dir);
  snprintf(dir, sizeof dir, "run.dir=%s", g_dir);
  char steps[32];
  snprintf(steps, sizeof steps, "train.steps=%d", STEPS);
  const char *argv[MAX_ARGS] = {"tilth",
                                "train",
                                "--preset=shakespeare-char",
                                run_name,
                                text,
                                dir,
                                steps,
                                "model.layers=1",
                                "model.heads=2",
                                "model.dim=32",
                                "model.dropout=0.1",
                                "train.seq_len=32",
                                "train.batch=4",
                                "optim.warmup=20",
                                "run.checkpoint_every=20",
                                "run.eval_every=200",
                                "run.eval_tokens=512",
                                "--threads=1",
                                "-q"};
  return start((char *const *)(uintptr_t)argv);
}

static pid_t start_resume(const char *run_dir) {
  const char *argv[] = {"tilth", "resume", run_dir, "--threads=1", "-q", NULL};
  return start((char *const *)(uintptr_t)argv);
}

static void wait_ms(long ms) {
  nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* The exit code, or 128 + the signal. */
static int end_of(pid_t pid) {
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void expect_exit(pid_t pid, int code) {
  int got = end_of(pid);
  if (got == code) return;
  char path[128];
  snprintf(path, sizeof path, "%s/log", g_dir);
  tl_buf log = {0};
  tl_file_read(path, 1 << 20, &log, NULL);
  fail_msg("exit code %d instead of %d: %s", got, code, log.data);
}

/* The folder of the run `name`, once it has a checkpoint. */
static void find_run(const char *name, char *dir, size_t size) {
  char prefix[64];
  snprintf(prefix, sizeof prefix, "%s-2", name);
  for (int tries = 0; tries < 2000; tries++, wait_ms(5)) {
    tl_names names = {0};
    tl_ckpt_info *list = NULL;
    size_t n = 0;
    assert_int_equal(tl_dir_list(g_dir, &names, NULL), TL_OK);
    for (size_t i = 0; i < names.n; i++)
      if (!strncmp(names.name[i], prefix, strlen(prefix))) {
        snprintf(dir, size, "%s/%s", g_dir, names.name[i]);
        tl_ckpt_list(dir, &list, &n, NULL);
      }
    tl_names_free(&names);
    free(list);
    if (n > 0) return;
  }
  fail_msg("run %s has no checkpoint after 10 s", name);
}

static void reference(char *dir, size_t size) {
  expect_exit(start_training("reference"), 0);
  find_run("reference", dir, size);
}

static void expect_same_bits(const char *a_dir, const char *b_dir) {
  static const char *const files[] = {"model.safetensors", "optimizer.safetensors"};
  tl_ckpt *a = NULL, *b = NULL;
  assert_int_equal(tl_ckpt_open_latest(a_dir, &a, NULL, 0, NULL), TL_OK);
  assert_int_equal(tl_ckpt_open_latest(b_dir, &b, NULL, 0, NULL), TL_OK);
  assert_int_equal(tl_ckpt_step(a), STEPS);
  assert_int_equal(tl_ckpt_step(b), STEPS);
  for (int i = 0; i < 2; i++) {
    const void *x, *y;
    size_t n, m;
    assert_int_equal(tl_ckpt_file(a, files[i], &x, &n, NULL), TL_OK);
    assert_int_equal(tl_ckpt_file(b, files[i], &y, &m, NULL), TL_OK);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
  }
  tl_ckpt_close(a);
  tl_ckpt_close(b);
}

static void killed_runs_end_with_the_same_bits(void **state) {
  (void)state;
  char ref[256], dir[256];
  reference(ref, sizeof ref);
  pid_t pid = start_training("killed");
  find_run("killed", dir, sizeof dir);
  int kills = 0, code;
  for (;;) {
    if (kills < MAX_KILLS) {
      wait_ms(10 + (long)random_below(120));
      kill(pid, SIGKILL);
    }
    code = end_of(pid);
    if (code != 128 + SIGKILL) break;
    kills++;
    pid = start_resume(dir);
  }
  assert_int_equal(code, 0);
  expect_same_bits(ref, dir);
  assert_true(kills > 0);
  print_message("%d kills\n", kills);
}

static void a_signal_saves_and_exits_with_75(void **state) {
  (void)state;
  char ref[256], dir[256];
  reference(ref, sizeof ref);
  pid_t pid = start_training("stopped");
  find_run("stopped", dir, sizeof dir);
  kill(pid, SIGTERM);
  expect_exit(pid, 75);
  pid = start_resume(dir);
  wait_ms(20);
  expect_exit(pid, 0);
  expect_same_bits(ref, dir);
}

static void a_run_has_one_process(void **state) {
  (void)state;
  char dir[256];
  pid_t pid = start_training("busy");
  find_run("busy", dir, sizeof dir);
  kill(pid, SIGSTOP); /* so that it cannot finish meanwhile */
  pid_t second = start_resume(dir);
  int code = end_of(second);
  kill(pid, SIGCONT);
  kill(pid, SIGKILL);
  end_of(pid);
  assert_int_equal(code, 73);
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      FRESH(killed_runs_end_with_the_same_bits),
      FRESH(a_signal_saves_and_exits_with_75),
      FRESH(a_run_has_one_process),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
