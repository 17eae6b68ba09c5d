/* The option parser: tables of tl_opt rows, and the help made from them. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tilth/suggest.h"

enum { GO_ON = -1, MAX_NAMES = 64 };

static bool is_name(const tl_opt *o, const char *name, size_t len) {
  return strlen(o->name) == len && !memcmp(o->name, name, len);
}

static const tl_opt *find_long(const tl_usage *u, const char *name, size_t len) {
  for (const tl_opt *o = u->opts; o && o->name; o++)
    if (is_name(o, name, len)) return o;
  for (const tl_opt *o = tl_cli_common_opts(); o->name; o++)
    if (is_name(o, name, len)) return o;
  return NULL;
}

static const tl_opt *find_letter(const tl_usage *u, char c) {
  for (const tl_opt *o = u->opts; o && o->name; o++)
    if (o->letter == c) return o;
  for (const tl_opt *o = tl_cli_common_opts(); o->name; o++)
    if (o->letter == c) return o;
  return NULL;
}

static int unknown_option(const tl_usage *u, const char *arg, size_t name_len) {
  const char *names[MAX_NAMES];
  size_t n = 0;
  for (const tl_opt *o = u->opts; o && o->name && n < MAX_NAMES; o++) names[n++] = o->name;
  for (const tl_opt *o = tl_cli_common_opts(); o->name && n < MAX_NAMES; o++) names[n++] = o->name;
  char word[80];
  snprintf(word, sizeof word, "%.*s", (int)name_len, arg + 2);
  const char *near = tl_suggest(word, names, n);
  if (near)
    return tl_cli_usage_error(u->name, "unknown option --%s; did you mean --%s?", word, near);
  return tl_cli_usage_error(u->name, "unknown option --%s", word);
}

static int add_to_list(const tl_usage *u, const tl_opt *o, const char *value, tl_cli_args *args) {
  tl_cli_list *list = o->value;
  const char **p = realloc(list->item, (list->n + 1) * sizeof *p);
  if (!p) return tl_cli_error(TL_NOMEM, "%s: out of memory", u->name);
  if (!list->item && args->n_lists < TL_CLI_MAX_LISTS) args->lists[args->n_lists++] = list;
  list->item = p;
  list->item[list->n++] = value;
  return GO_ON;
}

static int set_value(const tl_usage *u, const tl_opt *o, const char *value, tl_cli_args *args) {
  char *end = NULL;
  errno = 0;
  switch (o->type) {
  case TL_OPT_STR:
    *(const char **)o->value = value;
    return GO_ON;
  case TL_OPT_INT: {
    long long v = strtoll(value, &end, 10);
    if (!*value || *end || errno)
      return tl_cli_usage_error(u->name, "--%s: '%s' is not a whole number", o->name, value);
    *(int64_t *)o->value = v;
    return GO_ON;
  }
  case TL_OPT_DOUBLE: {
    double v = strtod(value, &end);
    if (!*value || *end || errno || !(v - v == 0))
      return tl_cli_usage_error(u->name, "--%s: '%s' is not a number", o->name, value);
    *(double *)o->value = v;
    return GO_ON;
  }
  case TL_OPT_FLAG:
    *(bool *)o->value = true;
    return GO_ON;
  case TL_OPT_LIST:
    return add_to_list(u, o, value, args);
  }
  return tl_cli_error(TL_INTERNAL, "option --%s has no type", o->name);
}

/* --- help --------------------------------------------------------------------------------------
 */

static void print_options(const char *title, const tl_opt *opts) {
  if (!opts || !opts->name) return;
  printf("\n%s:\n", title);
  for (const tl_opt *o = opts; o->name; o++) {
    char left[80], letter[8] = "    ";
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->arg ? " " : "",
             o->arg ? o->arg : "");
    printf("  %-28s %s\n", left, o->help);
  }
}

static void print_help(const tl_usage *u) {
  printf("usage: tilth %s %s\n\n%s\n", u->name, u->synopsis, u->summary);
  if (u->examples) {
    printf("\nExamples:\n");
    for (const char *p = u->examples; *p;) {
      size_t n = strcspn(p, "\n");
      printf("  %.*s\n", (int)n, p);
      p += n + (p[n] == '\n');
    }
  }
  print_options("Options", u->opts);
  print_options("Common options", tl_cli_common_opts());
  printf("  -h, --help                   this help\n");
}

static struct {
  tl_help_fn fn;
  void *user;
} on_help;

void tl_cli_on_help(tl_help_fn fn, void *user) {
  on_help.fn = fn;
  on_help.user = user;
}

static void show_help(const tl_usage *u) {
  if (on_help.fn)
    on_help.fn(on_help.user, u);
  else
    print_help(u);
}

/* --- parsing -----------------------------------------------------------------------------------
 */

/* Handles argv[*i] (an option) and its value, advancing *i past the value. */
static int parse_option(const tl_usage *u, int argc, char **argv, int *i, tl_cli_args *args) {
  const char *a = argv[*i], *value = NULL;
  const tl_opt *o;
  if (a[1] == '-') {
    size_t len = strcspn(a + 2, "=");
    if (!(o = find_long(u, a + 2, len))) return unknown_option(u, a, len);
    if (a[2 + len] == '=') value = a + 2 + len + 1;
  } else {
    if (!(o = find_letter(u, a[1]))) return tl_cli_usage_error(u->name, "unknown option -%c", a[1]);
    if (a[2]) value = a + 2;
    if (value && o->type == TL_OPT_FLAG)
      return tl_cli_usage_error(u->name, "short options are given one by one, not as '%s'", a);
  }
  if (o->type == TL_OPT_FLAG) {
    if (value) return tl_cli_usage_error(u->name, "--%s takes no value", o->name);
  } else if (!value) {
    if (*i + 1 >= argc)
      return tl_cli_usage_error(u->name, "--%s needs a value (%s)", o->name, o->arg);
    value = argv[++*i];
  }
  return set_value(u, o, value, args);
}

int tl_cli_parse(const tl_usage *u, int argc, char **argv, tl_cli_args *args) {
  *args = (tl_cli_args){.item = calloc((size_t)argc + 1, sizeof *args->item)};
  if (!args->item) return tl_cli_error(TL_NOMEM, "%s: out of memory", u->name);
  int rc = GO_ON;
  bool options = true;
  for (int i = 1; i < argc && rc == GO_ON; i++) {
    const char *a = argv[i];
    if (options && !strcmp(a, "--")) {
      options = false;
    } else if (options && (!strcmp(a, "--help") || !strcmp(a, "-h"))) {
      show_help(u);
      rc = 0;
    } else if (options && a[0] == '-' && a[1]) {
      rc = parse_option(u, argc, argv, &i, args);
    } else {
      args->item[args->n++] = a;
    }
  }
  if (rc == GO_ON && args->n < (size_t)u->min_args)
    rc = tl_cli_usage_error(u->name, "missing argument; usage: tilth %s %s", u->name, u->synopsis);
  if (rc == GO_ON && u->max_args >= 0 && args->n > (size_t)u->max_args)
    rc = tl_cli_usage_error(u->name, "unexpected argument '%s'", args->item[u->max_args]);
  if (rc != GO_ON) tl_cli_args_free(args);
  return rc;
}

void tl_cli_args_free(tl_cli_args *args) {
  for (size_t i = 0; i < args->n_lists; i++) {
    free(args->lists[i]->item);
    *args->lists[i] = (tl_cli_list){0};
  }
  free(args->item);
  free(args->model);
  *args = (tl_cli_args){0};
}

const char *tl_cli_model(tl_cli_args *args, const char *adapter) {
  const char *model = args->item[0];
  if (!adapter) return model;
  size_t n = strlen(model) + strlen(adapter) + 2;
  args->model = malloc(n);
  if (!args->model) return ""; /* no folder has this name */
  snprintf(args->model, n, "%s,%s", model, adapter);
  return args->model;
}
