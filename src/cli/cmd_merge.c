/* tilth merge: a base and its adapter as one model. */
#include <stdio.h>
#include "cli/cli.h"
#include "tilth/adapter.h"

int tl_cmd_merge(int argc, char **argv) {
  const char *out = NULL;
  const tl_opt opts[] = {{"out", 'o', TL_OPT_STR, &out, "DIR", "folder of the new model"}, {0}};
  const tl_usage usage = {
      .name = "merge",
      .synopsis = "[BASE] ADAPTER --out DIR",
      .summary = "Adds a LoRA or DoRA adapter, from tilth finetune or Hugging Face's peft, to the\n"
                 "weights of its base (default: the one that the adapter names).",
      .examples = "tilth merge runs/sst/model --out sst\n"
                  "tilth merge bert-base adapter --out merged",
      .opts = opts,
      .min_args = 1,
      .max_args = 2};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  const char *name = tl_cli_model(&args, args.n == 2 ? args.item[1] : NULL);
  tl_status s = TL_OK;
  if (!out) s = tl_fail(&err, TL_USAGE, "merge: --out DIR is needed");
  if (s == TL_OK) s = tl_adapter_merge(name, out, &err);
  if (s == TL_OK && !tl_cli_quiet()) printf("%s\n", out);
  rc = s == TL_OK ? 0 : tl_cli_fail(&err);
  tl_cli_args_free(&args);
  return rc;
}
