#include "cli/cli.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The process-wide choices of the common options. Only the command line keeps such state. */
static struct {
  bool quiet, verbose;
  int64_t threads;
  const char *cpu;
  size_t progress_width; /* > 0: a progress line is on the terminal */
} g = {.threads = -1};

static volatile sig_atomic_t g_signal;

/* --- messages ----------------------------------------------------------------------------------
 */

bool tl_cli_quiet(void) {
  return g.quiet;
}

bool tl_cli_is_tty(void) {
  const char *term = getenv("TERM");
  return isatty(STDERR_FILENO) && !(term && !strcmp(term, "dumb"));
}

static void clear_progress(void) {
  if (g.progress_width) fputs("\r\033[K", stderr);
  g.progress_width = 0;
}

/* One line: a message that holds line breaks (a path may) must not look like two messages. */
static void print_line(const char *prefix, const char *msg) {
  clear_progress();
  fputs(prefix, stderr);
  for (const char *p = msg; *p; p++) {
    if (*p == '\n')
      fputs("\\n", stderr);
    else if (*p == '\033')
      fputs("\\e", stderr);
    else
      fputc(*p, stderr);
  }
  fputc('\n', stderr);
}

int tl_cli_fail(const tl_err *err) {
  print_line("tilth: error: ", err->msg[0] ? err->msg : tl_status_text(err->code));
  return tl_status_exit_code(err->code == TL_OK ? TL_INTERNAL : err->code);
}

int tl_cli_error(tl_status code, const char *fmt, ...) {
  char msg[1024];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(msg, sizeof msg, fmt, ap);
  va_end(ap);
  print_line("tilth: error: ", msg);
  return tl_status_exit_code(code);
}

int tl_cli_usage_error(const char *name, const char *fmt, ...) {
  char msg[1024];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(msg, sizeof msg, fmt, ap);
  va_end(ap);
  if (n >= 0 && (size_t)n < sizeof msg)
    snprintf(msg + n, sizeof msg - (size_t)n, " (see: tilth %s --help)", name);
  print_line("tilth: error: ", msg);
  return tl_status_exit_code(TL_USAGE);
}

void tl_cli_log(void *user, tl_log_level level, const char *line) {
  (void)user;
  if (level == TL_LOG_DEBUG && !g.verbose) return;
  if (level == TL_LOG_INFO && g.quiet) return;
  static const char *const prefix[] = {"debug: ", "", "tilth: warning: ", "tilth: error: "};
  print_line(prefix[level], line);
}

void tl_cli_progress(const char *fmt, ...) {
  if (g.quiet) return;
  char msg[512];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(msg, sizeof msg, fmt, ap);
  va_end(ap);
  if (tl_cli_is_tty()) {
    fprintf(stderr, "\r%s\033[K", msg);
    g.progress_width = strlen(msg);
  } else {
    fprintf(stderr, "%s\n", msg);
  }
  fflush(stderr);
}

void tl_cli_progress_end(void) {
  if (g.progress_width) fputc('\n', stderr);
  g.progress_width = 0;
}

/* --- signals -----------------------------------------------------------------------------------
 */

static void on_signal(int sig) {
  if (g_signal) _exit(128 + sig);
  g_signal = sig;
}

void tl_cli_catch_signals(void) {
  struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigemptyset(&sa.sa_mask);
  sigaction(SIGTERM, &sa, NULL);
  sigaction(SIGINT, &sa, NULL);
}

int tl_cli_cancelled(void *user) {
  (void)user;
  return g_signal != 0;
}

tl_ctx_options tl_cli_ctx_options(void) {
  return (tl_ctx_options){.n_threads = g.threads < 0 ? 0 : (int)g.threads,
                          .cpu = g.cpu,
                          .pin = true,
                          .log = tl_cli_log,
                          .cancel = tl_cli_cancelled};
}

tl_status tl_cli_make_ctx(const tl_config *cfg, tl_ctx **ctx, tl_err *err) {
  tl_ctx_options o = tl_cli_ctx_options();
  if (cfg && g.threads < 0) o.n_threads = (int)cfg->run.threads;
  tl_cli_catch_signals();
  return tl_ctx_new(&o, ctx, err);
}

int tl_cli_threads(void) {
  return (int)g.threads;
}

const tl_opt *tl_cli_common_opts(void) {
  static const tl_opt common[] = {
      {"threads", 0, TL_OPT_INT, &g.threads, "N", "threads to use (0: all CPUs)"},
      {"cpu", 0, TL_OPT_STR, &g.cpu, "LEVEL", "kernels to use: ref, avx2, avx512, avx512bf16"},
      {"quiet", 'q', TL_OPT_FLAG, &g.quiet, NULL, "only warnings, errors and results"},
      {"verbose", 'v', TL_OPT_FLAG, &g.verbose, NULL, "more messages"},
      {0}};
  return common;
}

tl_status tl_cli_load_config(const char *preset, const tl_cli_args *args, tl_config **out,
                             tl_err *err) {
  size_t first = args->n > 0 && !strchr(args->item[0], '=') ? 1 : 0;
  return tl_config_load(preset, first ? args->item[0] : NULL, args->item + first, args->n - first,
                        out, err);
}

tl_status tl_cli_load_settings(const char *preset, const tl_cli_args *args,
                               const tl_cli_setting *set, size_t n, tl_config **out, tl_err *err) {
  TL_TRY(tl_cli_load_config(preset, args, out, err));
  for (size_t i = 0; i < n; i++)
    if (set[i].value)
      TL_TRY(tl_config_set(*out, set[i].key, set[i].value, TL_CONFIG_FLAG, set[i].name, err));
  return tl_config_finish(*out, err);
}
