/* tilth config: shows, checks and documents the configuration. */
#include <stdio.h>
#include <stdlib.h>
#include "cli/cli.h"
#include "tilth/config.h"

static int print_and_free(tl_status s, char *text, const tl_err *err) {
  if (s != TL_OK) return tl_cli_fail(err);
  fputs(text, stdout);
  free(text);
  return 0;
}

static int list_presets(void) {
  for (size_t i = 0; tl_config_preset_name(i); i++)
    printf("%-18s %s\n", tl_config_preset_name(i), tl_config_preset_help(tl_config_preset_name(i)));
  return 0;
}

static int show(const char *preset, const char *file, bool origin, const tl_cli_args *args) {
  tl_config *c = NULL;
  tl_err err = {0};
  char *text = NULL;
  tl_status s = tl_config_load(preset, file, args->item, args->n, &c, &err);
  if (s == TL_OK) s = tl_config_dump(c, origin, &text, &err);
  tl_config_free(c);
  return print_and_free(s, text, &err);
}

int tl_cmd_config(int argc, char **argv) {
  const char *preset = NULL, *file = NULL;
  bool origin = false, docs = false, presets = false;
  const tl_opt opts[] = {
      {"preset", 'p', TL_OPT_STR, &preset, "NAME", "start from a preset"},
      {"config", 'c', TL_OPT_STR, &file, "FILE", "read a YAML file"},
      {"origin", 0, TL_OPT_FLAG, &origin, NULL, "say where each value came from"},
      {"presets", 0, TL_OPT_FLAG, &presets, NULL, "list the presets"},
      {"docs", 0, TL_OPT_FLAG, &docs, NULL, "print the reference of all keys as Markdown"},
      {0}};
  const tl_usage usage = {
      .name = "config",
      .synopsis = "[options] [section.key=value ...]",
      .summary = "Checks a configuration and prints it with every value resolved, as YAML.",
      .examples = "tilth config --presets\n"
                  "tilth config --preset shakespeare-char --origin\n"
                  "tilth config --preset gpt2 model.depth=8 optim.lr=6e-4 > run.yaml\n"
                  "tilth config --config run.yaml",
      .opts = opts,
      .max_args = -1};
  tl_cli_args args;
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  if (docs) {
    tl_err err = {0};
    char *text = NULL;
    tl_status s = tl_config_docs(&text, &err);
    rc = print_and_free(s, text, &err);
  } else {
    rc = presets ? list_presets() : show(preset, file, origin, &args);
  }
  tl_cli_args_free(&args);
  return rc;
}
