/* tilth runs: the runs of a folder with their main numbers, and what two of them differ in. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/runs.h"

/* --- tilth runs ls ----------------------------------------------------------------------------
 */

static double number(const tl_run_entry *r, const char *key) {
  const json_t *v = json_object_get(r->facts, key);
  return json_is_number(v) ? json_number_value(v) : NAN;
}

static void print_cell(double x, const char *format, int width) {
  char text[32] = "-";
  if (isfinite(x)) snprintf(text, sizeof text, format, x);
  printf("  %*s", width, text);
}

static void print_table(const tl_run_list *l) {
  int width = 4;
  for (size_t i = 0; i < l->n; i++)
    if ((int)strlen(l->run[i].name) > width) width = (int)strlen(l->run[i].name);
  printf("%-*s  %-9s  %9s  %11s  %8s  %8s  %9s\n", width, "run", "status", "steps", "parameters",
         "val loss", "bpb", "seconds");
  for (size_t i = 0; i < l->n; i++) {
    const tl_run_entry *r = &l->run[i];
    printf("%-*s  %-9s", width, r->name, tl_run_status(r));
    print_cell(number(r, "steps"), "%.0f", 9);
    print_cell(number(r, "parameters"), "%.0f", 11);
    print_cell(number(r, "val_loss"), "%.4f", 8);
    print_cell(number(r, "val_bits_per_byte"), "%.4f", 8);
    print_cell(number(r, "seconds"), "%.1f", 9);
    putchar('\n');
  }
}

static void print_json(json_t *o) {
  json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
  putchar('\n');
  json_decref(o);
}

static int cmd_ls(int argc, char **argv) {
  bool json = false;
  const tl_opt opts[] = {
      {"json", 0, TL_OPT_FLAG, &json, NULL, "one JSON object a run, all that its run.json holds"},
      {0}};
  const tl_usage usage = {.name = "runs ls",
                          .synopsis = "[--json] [FOLDER...]",
                          .summary = "Lists the runs in folders (runs) with their main numbers.",
                          .examples = "tilth runs ls\ntilth runs ls --json experiments",
                          .opts = opts,
                          .max_args = -1};
  static const char *const usual[] = {"runs"};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_run_list l;
  tl_err err = {0};
  tl_status s = tl_run_list_read(args.n ? args.item : usual, args.n ? args.n : 1, &l, &err);
  if (s == TL_OK && json)
    for (size_t i = 0; i < l.n; i++) {
      json_t *o = json_copy(l.run[i].facts);
      json_object_set_new(o, "dir", json_string(l.run[i].dir));
      json_object_set_new(o, "status", json_string(tl_run_status(&l.run[i])));
      print_json(o);
    }
  else if (s == TL_OK)
    print_table(&l);
  if (s == TL_OK) tl_run_list_free(&l);
  tl_cli_args_free(&args);
  return s == TL_OK ? 0 : tl_cli_fail(&err);
}

/* --- tilth runs diff --------------------------------------------------------------------------
 */

/* What is compared: text of both sides under one key. */
typedef struct diff {
  json_t *all; /* {part: {key: [a, b]}}, for --json */
  bool json;
  const char *part; /* "configuration", "facts" */
  bool titled;
} diff;

static void differ(diff *d, const char *key, const char *a, const char *b) {
  if (!strcmp(a, b)) return;
  if (d->json) {
    json_t *part = json_object_get(d->all, d->part);
    if (!part) {
      part = json_object();
      json_object_set_new(d->all, d->part, part);
    }
    json_object_set_new(part, key, json_pack("[s, s]", a, b));
    return;
  }
  if (!d->titled) printf("%s\n", d->part);
  d->titled = true;
  printf("  %-28s %-24s %s\n", key, a, b);
}

enum { VALUE_MAX = 512 };

static void text_of_list(tl_strlist l, char out[VALUE_MAX]) {
  size_t n = 0;
  out[0] = 0;
  for (size_t i = 0; i < l.n && n < VALUE_MAX; i++)
    n += (size_t)snprintf(out + n, VALUE_MAX - n, "%s%s", i ? "," : "", l.item[i]);
}

static void compare_configs(diff *d, const tl_config *a, const tl_config *b) {
  char x[VALUE_MAX], y[VALUE_MAX];
  d->part = "configuration";
  d->titled = false;
#define COMPARE(section, name, format, cast)                                                       \
  snprintf(x, sizeof x, format, cast a->section.name);                                             \
  snprintf(y, sizeof y, format, cast b->section.name);                                             \
  differ(d, #section "." #name, x, y);
#define SECTION(name, help)
#define INT(section, name, def, min, max, help) COMPARE(section, name, "%" PRId64, )
#define REAL(section, name, def, min, max, help) COMPARE(section, name, "%.9g", )
#define BOOL(section, name, def, help) COMPARE(section, name, "%d", (int))
#define TEXT(section, name, def, help) COMPARE(section, name, "%s", )
#define ENUM(section, name, def, values, help) COMPARE(section, name, "%s", )
#define LIST(section, name, help)                                                                  \
  text_of_list(a->section.name, x);                                                                \
  text_of_list(b->section.name, y);                                                                \
  differ(d, #section "." #name, x, y);
#define END(name)
#include "tilth/config_keys.def"
#undef SECTION
#undef INT
#undef REAL
#undef BOOL
#undef TEXT
#undef ENUM
#undef LIST
#undef END
#undef COMPARE
}

static void text_of_fact(const json_t *v, char out[VALUE_MAX]) {
  char *text = NULL;
  if (!v)
    snprintf(out, VALUE_MAX, "-");
  else if (json_is_string(v))
    snprintf(out, VALUE_MAX, "%s", json_string_value(v));
  else if (json_is_number(v))
    snprintf(out, VALUE_MAX, "%.9g", json_number_value(v));
  else if ((text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY)))
    snprintf(out, VALUE_MAX, "%s", text);
  free(text);
}

/* What any two runs differ in says nothing; the configuration says what the command line did. */
static bool is_said(const char *key) {
  static const char *const keys[] = {"status", "id", "pid", "argv", "started", "ended"};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    if (!strcmp(key, keys[i])) return true;
  return false;
}

static void compare_facts(diff *d, const tl_run_entry *a, const tl_run_entry *b) {
  char x[VALUE_MAX] = "", y[VALUE_MAX] = "";
  const char *key;
  json_t *v;
  d->part = "result";
  d->titled = false;
  differ(d, "status", tl_run_status(a), tl_run_status(b));
  json_object_foreach(a->facts, key, v) {
    if (is_said(key)) continue;
    text_of_fact(v, x);
    text_of_fact(json_object_get(b->facts, key), y);
    differ(d, key, x, y);
  }
  json_object_foreach(b->facts, key, v) {
    if (json_object_get(a->facts, key) || is_said(key)) continue;
    text_of_fact(v, y);
    differ(d, key, "-", y);
  }
}

static tl_status read_side(const char *dir, tl_run_list *run, tl_config **config, tl_err *err) {
  char path[4096];
  TL_TRY(tl_run_list_read(&dir, 1, run, err));
  snprintf(path, sizeof path, "%s/config.yaml", dir);
  if (run->n != 1)
    return tl_fail(err, TL_NOINPUT, "%s: holds %zu runs; one run's folder is needed", dir, run->n);
  TL_TRY(tl_config_new(config, err));
  return tl_config_apply_file(*config, path, err);
}

static int cmd_diff(int argc, char **argv) {
  diff d = {0};
  const tl_opt opts[] = {{"json", 0, TL_OPT_FLAG, &d.json, NULL,
                          "{\"configuration\": {KEY: [A, B]}, \"result\": ...}"},
                         {0}};
  const tl_usage usage = {
      .name = "runs diff",
      .synopsis = "[--json] RUN_A RUN_B",
      .summary = "Shows what two runs differ in: configuration keys, then what came out.",
      .examples = "tilth runs diff runs/base-20260102-030405-1a2b runs/wide-20260102-040506-3c4d",
      .opts = opts,
      .min_args = 2,
      .max_args = 2};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_run_list run[2] = {{0}};
  tl_config *config[2] = {NULL, NULL};
  tl_err err = {0};
  tl_status s = read_side(args.item[0], &run[0], &config[0], &err);
  if (s == TL_OK) s = read_side(args.item[1], &run[1], &config[1], &err);
  if (s == TL_OK) {
    d.all = json_object();
    compare_configs(&d, config[0], config[1]);
    compare_facts(&d, run[0].run, run[1].run);
    if (d.json)
      print_json(d.all);
    else
      json_decref(d.all);
  }
  for (int i = 0; i < 2; i++) {
    tl_run_list_free(&run[i]);
    tl_config_free(config[i]);
  }
  tl_cli_args_free(&args);
  return s == TL_OK ? 0 : tl_cli_fail(&err);
}

int tl_cmd_runs(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "ls")) return cmd_ls(argc - 1, argv + 1);
  if (argc > 1 && !strcmp(argv[1], "diff")) return cmd_diff(argc - 1, argv + 1);
  const tl_usage usage = {.name = "runs",
                          .synopsis = "ls [FOLDER...] | diff RUN_A RUN_B",
                          .summary = "Lists runs with their main numbers, or shows what two of "
                                     "them differ in; `tilth runs ls --help`.",
                          .examples = "tilth runs ls\ntilth runs diff RUN_A RUN_B",
                          .min_args = 1,
                          .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  rc = tl_cli_usage_error("runs", "'%s' is unknown: ls or diff", args.item[0]);
  tl_cli_args_free(&args);
  return rc;
}
