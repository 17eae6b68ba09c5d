/* Unit tests of the command line's helpers, and of the program itself where it was built beside
 * this test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <cmocka.h>

/* The helpers belong to the program and not to the library, so they are compiled in here. */
#include "cli/cli.c"
#include "cli/options.c"

static int parse(char **argv, tl_cli_args *args, const tl_opt *opts, int min, int max) {
  tl_usage u = {
      .name = "x", .synopsis = "", .summary = "", .opts = opts, .min_args = min, .max_args = max};
  int argc = 0;
  while (argv[argc]) argc++;
  return tl_cli_parse(&u, argc, argv, args);
}

#define ARGV(...)                                                                                  \
  (char *[]) {                                                                                     \
    (char[]){"x"}, __VA_ARGS__, NULL                                                               \
  }
#define A(text) ((char[]){text})

static void options_are_parsed(void **state) {
  (void)state;
  const char *s = "default";
  int64_t n = 1;
  double d = 0;
  bool flag = false;
  tl_cli_list list = {0};
  const tl_opt opts[] = {
      {"str", 's', TL_OPT_STR, &s, "S", ""},    {"int", 'n', TL_OPT_INT, &n, "N", ""},
      {"dbl", 0, TL_OPT_DOUBLE, &d, "D", ""},   {"flag", 'f', TL_OPT_FLAG, &flag, NULL, ""},
      {"list", 0, TL_OPT_LIST, &list, "L", ""}, {0}};
  tl_cli_args args;
  assert_int_equal(parse(ARGV(A("--str=a=b"), A("pos"), A("-n7"), A("--dbl"), A("-2.5e3"), A("-f"),
                              A("--list"), A("p"), A("--list=q"), A("-"), A("--"), A("--int")),
                         &args, opts, 0, -1),
                   GO_ON);
  assert_string_equal(s, "a=b");
  assert_int_equal(n, 7);
  assert_true(d == -2500 && flag);
  assert_int_equal(list.n, 2);
  assert_string_equal(list.item[1], "q");
  assert_int_equal(args.n, 3);
  assert_string_equal(args.item[0], "pos");
  assert_string_equal(args.item[1], "-");
  assert_string_equal(args.item[2], "--int");
  tl_cli_args_free(&args);
  assert_null(list.item);
}

static void wrong_usage_is_refused(void **state) {
  (void)state;
  int64_t n = 1;
  double d = 0;
  bool flag = false;
  const tl_opt opts[] = {{"int", 'n', TL_OPT_INT, &n, "N", ""},
                         {"dbl", 0, TL_OPT_DOUBLE, &d, "D", ""},
                         {"flag", 'f', TL_OPT_FLAG, &flag, NULL, ""},
                         {0}};
  char *bad[][4] = {
      {A("x"), A("--itn=3"), NULL},
      {A("x"), A("-z"), NULL},
      {A("x"), A("--int"), NULL},
      {A("x"), A("--int=3x"), NULL},
      {A("x"), A("--int="), NULL},
      {A("x"), A("--dbl=nan"), NULL},
      {A("x"), A("--flag=1"), NULL},
      {A("x"), A("-fn"), NULL},
      {A("x"), A("a"), A("b"), NULL},
      {A("x"), A("--int=99999999999999999999"), NULL},
      {A("x"), NULL},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    tl_cli_args args;
    assert_int_equal(parse(bad[i], &args, opts, 1, 1), 2);
    assert_null(args.item);
  }
  assert_int_equal(n, 1);
}

/* In a child: what happens after these signals; < 0: nothing sent. */
static int exit_after(int first, int second) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    tl_cli_catch_signals();
    if (tl_cli_cancelled(NULL)) _exit(1);
    raise(first);
    if (!tl_cli_cancelled(NULL)) _exit(2);
    if (second > 0) raise(second);
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void signals_stop_in_two_steps(void **state) {
  (void)state;
  assert_int_equal(exit_after(SIGTERM, -1), 0);
  assert_int_equal(exit_after(SIGINT, -1), 0);
  assert_int_equal(exit_after(SIGTERM, SIGTERM), 143);
  assert_int_equal(exit_after(SIGTERM, SIGINT), 130);
}

/* --- the program -------------------------------------------------------------------------------
 */

static char g_program[4096];

static int find_program(void **state) {
  (void)state;
  ssize_t n = readlink("/proc/self/exe", g_program, sizeof g_program - 16);
  if (n <= 0) return -1;
  g_program[n] = 0;
  strcpy(strrchr(g_program, '/') + 1, "tilth");
  return 0;
}

/* Runs `tilth args`, stdout and stderr together in `out`; returns the exit code. */
static int run(const char *args, char *out, size_t size) {
  char command[4600];
  if (access(g_program, X_OK) != 0) {
    print_message("skipped: %s is not built\n", g_program);
    skip();
  }
  snprintf(command, sizeof command, "2>&1 '%s' %s", g_program, args);
  FILE *f = popen(command, "r");
  assert_non_null(f);
  size_t n = fread(out, 1, size - 1, f);
  out[n] = 0;
  while (fgetc(f) != EOF) {
  }
  int status = pclose(f);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void the_program_answers(void **state) {
  (void)state;
  static const struct {
    const char *args;
    int code;
    const char *part;
  } cases[] = {
      {"", 2, "usage: tilth COMMAND"},
      {"--help", 0, "usage: tilth COMMAND"},
      {"--version", 0, "tilth " TL_VERSION "\n"},
      {"help config", 0, "usage: tilth config"},
      {"config -h", 0, "Examples:"},
      {"confg", 2, "tilth: error: unknown command 'confg'; did you mean 'config'?\n"},
      {"--quiet config", 2, "unknown option --quiet before the command"},
      {"config --orign", 2, "did you mean --origin?"},
      {"config optim.lrr=1", 78, "unknown key 'optim.lrr'; did you mean 'optim.lr'?"},
      {"config optim.lr=-1", 78, "out of bounds"},
      {"config --preset gtp2", 78, "did you mean 'gpt2'?"},
      {"config --config /no/such/file", 66, "/no/such/file: cannot open"},
      {"config --preset gpt2 optim.lr=0.5 --origin", 0, "# command line"},
      {"config > /dev/full", 74, "cannot write to standard output"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char out[20000];
    assert_int_equal(run(cases[i].args, out, sizeof out), cases[i].code);
    if (!strstr(out, cases[i].part))
      fail_msg("tilth %s: '%s' lacks '%s'", cases[i].args, out, cases[i].part);
  }
}

/* Every row of the command table has a help page with its name, and an example. */
static void every_command_has_help(void **state) {
  (void)state;
  char out[20000], help[20000], args[64];
  assert_int_equal(run("--help", out, sizeof out), 0);
  char *p = strstr(out, "Commands:\n");
  assert_non_null(p);
  int n = 0;
  for (p = strchr(p, '\n') + 1; !strncmp(p, "  ", 2); p = strchr(p, '\n') + 1, n++) {
    int len = (int)strcspn(p + 2, " ");
    snprintf(args, sizeof args, "help %.*s", len, p + 2);
    if (run(args, help, sizeof help) != 0) fail_msg("tilth %s: %s", args, help);
    snprintf(args, sizeof args, "usage: tilth %.*s", len, p + 2);
    if (!strstr(help, args) || !strstr(help, "Example"))
      fail_msg("'%s' is not in '%s'", args, help);
  }
  assert_true(n >= 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(options_are_parsed),        cmocka_unit_test(wrong_usage_is_refused),
      cmocka_unit_test(signals_stop_in_two_steps), cmocka_unit_test(the_program_answers),
      cmocka_unit_test(every_command_has_help),
  };
  return cmocka_run_group_tests(tests, find_program, NULL);
}
