/* What the commands share: options, messages, signals, progress. Commands see public headers and
 * this one only. Results go to stdout, everything else to stderr. */
#ifndef TL_CLI_CLI_H
#define TL_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "tilth/config.h"
#include "tilth/context.h"
#include "tilth/image.h"
#include "tilth/profile.h"
#include "tilth/status.h"
#include "tilth/train.h"

/* --- the command table (main.c) ------------------------------------------------------------- */

typedef int (*tl_command_fn)(int argc, char **argv); /* argv[0] is the command's name */

typedef struct tl_command {
  const char *name;
  tl_command_fn run;
  const char *help;
} tl_command;
const tl_command *tl_cli_commands(size_t *n);
const char *tl_cli_verbs(const char *command); /* "train encode"; NULL: it has none */

int tl_cmd_bench(int argc, char **argv);
int tl_cmd_bench_generate(int argc, char **argv); /* tilth bench generate */
int tl_cmd_bench_step(int argc, char **argv);     /* tilth bench step, tilth bench finetune */
int tl_cmd_config(int argc, char **argv);
int tl_cmd_dash(int argc, char **argv);
int tl_cmd_decontam(int argc, char **argv);
int tl_cmd_docs(int argc, char **argv);
int tl_cmd_doctor(int argc, char **argv);
int tl_cmd_embed(int argc, char **argv);
int tl_cmd_eval(int argc, char **argv);
int tl_cmd_export(int argc, char **argv);
int tl_cmd_fill(int argc, char **argv);
int tl_cmd_finetune(int argc, char **argv);
int tl_cmd_import(int argc, char **argv);
int tl_cmd_merge(int argc, char **argv);
int tl_cmd_inspect(int argc, char **argv);
int tl_cmd_generate(int argc, char **argv);
int tl_cmd_plan(int argc, char **argv);
int tl_cmd_predict(int argc, char **argv);
int tl_cmd_prepare(int argc, char **argv);
int tl_cmd_probe(int argc, char **argv);
int tl_cmd_report(int argc, char **argv);
int tl_cmd_report_labels(int argc, char **argv); /* tilth report labels */
int tl_cmd_runs(int argc, char **argv);
int tl_cmd_selftest(int argc, char **argv);
int tl_cmd_resume(int argc, char **argv);
int tl_cmd_train(int argc, char **argv);
int tl_cmd_tokenizer(int argc, char **argv);
int tl_cmd_translate(int argc, char **argv);

/* --- options -------------------------------------------------------------------------------- */

typedef struct tl_cli_list {
  const char **item; /* borrowed from argv; freed by tl_cli_args_free */
  size_t n;
} tl_cli_list;

/* What `value` points to: const char *, int64_t, double, bool, tl_cli_list. */
typedef enum tl_opt_type {
  TL_OPT_STR,
  TL_OPT_INT,
  TL_OPT_DOUBLE,
  TL_OPT_FLAG,
  TL_OPT_LIST
} tl_opt_type;

typedef struct tl_opt {
  const char *name; /* without the dashes; a row with name == NULL ends the table */
  char letter;      /* short form, or 0 */
  tl_opt_type type;
  void *value;      /* holds the default before parsing; a list option may be given repeatedly */
  const char *arg;  /* name of the value in the help, e.g. "FILE"; NULL for flags */
  const char *help; /* one line */
} tl_opt;

typedef struct tl_usage {
  const char *name;     /* "train" */
  const char *synopsis; /* "[options] [section.key=value ...]" */
  const char *summary;  /* one or more lines on what the command does */
  const char *examples; /* lines, each a command; NULL: none */
  const tl_opt *opts;
  int min_args, max_args; /* number of positional arguments; max_args < 0: no limit */
} tl_usage;

enum { TL_CLI_MAX_LISTS = 8 }; /* list options of one command */

/* Positional arguments, in order. `--` ends the options. Zero-initialise. */
typedef struct tl_cli_args {
  const char **item;
  size_t n;
  tl_cli_list *lists[TL_CLI_MAX_LISTS]; /* the list options that hold memory */
  size_t n_lists;
  char *model; /* of tl_cli_model */
} tl_cli_args;

/* Parses argv[1..]. Every command also has -h/--help, -q/--quiet, -v/--verbose, --threads N and
 * --cpu LEVEL. Returns -1 to go on, or the exit code to return at once: 0 after --help, 2 after a
 * usage error (already printed). */
int tl_cli_parse(const tl_usage *u, int argc, char **argv, tl_cli_args *args);
void tl_cli_args_free(tl_cli_args *args);
/* The model of the first argument with the adapter of --adapter (NULL: none); freed with
 * args. */
#define TL_ADAPTER_HELP "LoRA or DoRA adapter of the model, as tilth finetune or peft write it"
const char *tl_cli_model(tl_cli_args *args, const char *adapter);
const tl_opt *tl_cli_common_opts(void); /* the options every command has, as a table */

/* Calls fn with a command's usage instead of printing its help (NULL: prints it again). */
typedef void (*tl_help_fn)(void *user, const tl_usage *u);
void tl_cli_on_help(tl_help_fn fn, void *user);

/* The configuration of `[CONFIG.yaml] [section.key=value ...]`: the first argument without '=' is a
 * file. */
tl_status tl_cli_load_config(const char *preset, const tl_cli_args *args, tl_config **out,
                             tl_err *err);

/* An option that stands for a configuration key. */
typedef struct tl_cli_setting {
  const char *name, *key, *value; /* "--from", "task.from", what was given or NULL */
} tl_cli_setting;
/* The same with the options over it. */
tl_status tl_cli_load_settings(const char *preset, const tl_cli_args *args,
                               const tl_cli_setting *set, size_t n, tl_config **out, tl_err *err);

/* Context options from --threads and --cpu, with the log and cancel callbacks below. */
tl_ctx_options tl_cli_ctx_options(void);
/* A context for a configuration, which may be NULL: threads from --threads, else from run.threads.
 * Signals are caught from here on. */
tl_status tl_cli_make_ctx(const tl_config *cfg, tl_ctx **ctx, tl_err *err);
int tl_cli_threads(void); /* --threads, or -1 when it was not given */

/* --- messages ------------------------------------------------------------------------------- */

/* Prints `tilth: error: ...` on one line of stderr and returns the exit code of the status. */
int tl_cli_fail(const tl_err *err);
/* The same for a message made here. */
int tl_cli_error(tl_status code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Wrong usage of command `name`: prints the message and where to find help; returns 2. */
int tl_cli_usage_error(const char *name, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* A tl_log_fn: to stderr. -q drops INFO, -v shows DEBUG. */
void tl_cli_log(void *user, tl_log_level level, const char *line);
bool tl_cli_quiet(void);

/* A status line on stderr: rewritten in place on a terminal, else a line of its own (so call it
 * only as often as lines are wanted there: see tl_cli_is_tty). Nothing under -q. */
void tl_cli_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void tl_cli_progress_end(void); /* keeps the last line, moves below it */
bool tl_cli_is_tty(void);

/* The table of a profile, on stdout. */
void tl_cli_print_profile(const tl_profile *p);

/* Scores with their intervals: lines, the first behind `what` (NULL: nothing stands there), or an
 * object of objects. */
void tl_cli_print_scores(const char *what, const tl_scores *s, FILE *f);
struct json_t;
struct json_t *tl_cli_scores_json(const tl_scores *s);

/* --- pictures (images.c) -----------------------------------------------------------------------
 */

#define TL_IMAGE_FORMATS "folder, csv, tar, idx, cifar, npz"
#define TL_IMAGE_BAD_HELP "broken pictures: stop (default), or skip them"
typedef struct tl_cli_images {
  const char *format, *bad;     /* names: tl_image_format_parse; "stop" or "skip" */
  bool unlabelled, several;     /* as in tl_image_options */
  const tl_labels *labels;      /* the classes there may be, or NULL */
  const tl_mask_options *masks; /* NULL: without masks */
} tl_cli_images;
/* Reads pictures, and says on stderr which ones were left out. */
tl_status tl_cli_read_images(const char *path, const tl_cli_images *how, tl_image_data *out,
                             tl_err *err);

/* --- training (cmd_train.c) ------------------------------------------------------------------- */

#define TL_PROFILE_HELP "print where the time of the steps went (and write it to RUN/profile.json)"
void tl_cli_show_progress(void *user, const tl_progress *p); /* a tl_progress_fn */
/* Prints the result, or the error; returns the exit code. Frees the profile. */
int tl_cli_end_training(tl_status s, tl_train_result *r, bool json, const tl_err *err);

/* --- signals -------------------------------------------------------------------------------- */

/* From here on the first SIGTERM or SIGINT requests an orderly stop (tl_cli_cancelled becomes
 * true); a second one exits at once with 143 or 130. */
void tl_cli_catch_signals(void);
int tl_cli_cancelled(void *user); /* a tl_cancel_fn */
/* A mapped file that is cut while it is read ends the program with a line that names it, and 74. */
void tl_cli_guard_mapped_files(void);

#endif
