/* tilth doctor: what this machine and this build offer. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/doctor.h"

typedef struct output {
  const char *section; /* of the last line printed */
  json_t *doc;
} output;

static void print_text(void *user, const tl_finding *f) {
  output *o = user;
  if (!o->section || strcmp(o->section, f->section) != 0)
    printf("%s%s\n", o->section ? "\n" : "", f->section);
  o->section = f->section;
  if (strcmp(f->key, "advice") != 0)
    printf("  %-24s %s\n", f->key, f->text);
  else
    printf("! %s\n", f->text);
}

/* {section: {key: value, ..., "advice": [text, ...]}} */
static void collect(void *user, const tl_finding *f) {
  output *o = user;
  json_t *section = json_object_get(o->doc, f->section);
  if (!section) {
    section = json_object();
    json_object_set_new(o->doc, f->section, section);
  }
  if (strcmp(f->key, "advice") != 0) {
    char key[64];
    size_t n = 0;
    for (; f->key[n] && n < sizeof key - 1; n++) key[n] = f->key[n] == ' ' ? '_' : f->key[n];
    key[n] = 0;
    json_object_set_new(section, key, f->is_number ? json_real(f->number) : json_string(f->text));
    return;
  }
  json_t *list = json_object_get(section, "advice");
  if (!list) {
    list = json_array();
    json_object_set_new(section, "advice", list);
  }
  json_array_append_new(list, json_string(f->text));
}

int tl_cmd_doctor(int argc, char **argv) {
  bool json = false;
  const tl_opt opts[] = {{"json", 0, TL_OPT_FLAG, &json, NULL, "print JSON; sizes in bytes"}, {0}};
  const tl_usage usage = {
      .name = "doctor",
      .synopsis = "[options]",
      .summary =
          "Shows the CPU, the kernels in use, threads, memory, disk space, optional parts and\n"
          "libraries, and marks with ! what is likely to make training slow or fail.",
      .examples = "tilth doctor\n"
                  "tilth doctor --json",
      .opts = opts};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args), n_advice = 0;
  if (rc >= 0) return rc;
  output o = {.doc = json ? json_object() : NULL};
  tl_doctor(tl_cli_threads(), json ? collect : print_text, &o, &n_advice);
  if (json && json_dumpf(o.doc, stdout, JSON_INDENT(2)) == 0) putchar('\n');
  json_decref(o.doc);
  tl_cli_args_free(&args);
  return 0;
}
