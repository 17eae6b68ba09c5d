/* tilth finetune: from a pretrained model and labelled records to a model for a task. */
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/train.h"

static tl_status load(const char *preset, const tl_cli_args *args, const tl_cli_setting *flags,
                      size_t n, tl_config **cfg, tl_err *err) {
  TL_TRY(tl_cli_load_settings(preset, args, flags, n, cfg, err));
  return *(*cfg)->task.train ? TL_OK
                             : tl_fail(err, TL_USAGE,
                                       "finetune: no labelled records: give --data FILE (or "
                                       "task.train in the configuration)");
}

int tl_cmd_finetune(int argc, char **argv) {
  const char *preset = "finetune";
  bool json = false, profile = false;
  tl_cli_setting flags[] = {{"--from", "task.from", NULL},    {"--task", "task.type", NULL},
                            {"--data", "task.train", NULL},   {"--valid", "task.valid", NULL},
                            {"--test", "task.test", NULL},    {"--columns", "task.columns", NULL},
                            {"--adapt", "adapt.method", NULL}};
  const tl_opt opts[] = {
      {"from", 0, TL_OPT_STR, &flags[0].value, "MODEL", "folder of the pretrained model"},
      {"task", 0, TL_OPT_STR, &flags[1].value, "TASK",
       "classify, multilabel, regression, tokens, prompt, translate, simcse, image_classify, "
       "image_multilabel, image_segment (default classify)"},
      {"data", 0, TL_OPT_STR, &flags[2].value, "FILE",
       "labelled records to learn from; aligned lines: a.en,a.de"},
      {"valid", 0, TL_OPT_STR, &flags[3].value, "FILE",
       "records that choose the best step (default: a tenth of the data)"},
      {"test", 0, TL_OPT_STR, &flags[4].value, "FILE", "records to measure the finished model on"},
      {"columns", 0, TL_OPT_STR, &flags[5].value, "LIST", "text=NAME,text_b=NAME,label=NAME"},
      {"adapt", 0, TL_OPT_STR, &flags[6].value, "HOW",
       "full, probe, last, bitfit, lora, dora, adapter, prefix, prompt"},
      {"preset", 'p', TL_OPT_STR, &preset, "NAME", "begin with a preset (default finetune)"},
      {"profile", 0, TL_OPT_FLAG, &profile, NULL, TL_PROFILE_HELP},
      {"json", 0, TL_OPT_FLAG, &json, NULL, "print the result as JSON"},
      {0}};
  const tl_usage usage = {
      .name = "finetune",
      .synopsis = "--from MODEL --data FILE [options] [CONFIG.yaml] [section.key=value ...]",
      .summary =
          "Trains a pretrained model on labelled records (.tsv, .csv, .jsonl, .conll, ...) into a\n"
          "new run folder; RUN/model is the model of the best step, which Hugging Face's "
          "libraries\n"
          "open. SIGTERM or Ctrl-C saves; go on with `tilth resume RUN`.",
      .examples =
          "tilth finetune --from runs/encoder/model --data train.tsv --test test.tsv\n"
          "tilth finetune --from MODEL --task tokens --data train.conll --adapt lora\n"
          "tilth finetune --from MODEL --data pairs.jsonl --task prompt task.epochs=2\n"
          "tilth finetune --from MODEL --task simcse --data sentences.txt --valid sts.tsv\n"
          "tilth finetune -p translate-small --data train.en,train.de --valid val.en,val.de "
          "task.tokenizer=tok",
      .opts = opts,
      .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  tl_config *cfg = NULL;
  tl_ctx *ctx = NULL;
  tl_train_result result = {0};
  tl_status s = load(preset, &args, flags, sizeof flags / sizeof *flags, &cfg, &err);
  if (s == TL_OK) s = tl_cli_make_ctx(cfg, &ctx, &err);
  tl_train_options o = {
      .argc = argc, .argv = argv, .progress = tl_cli_show_progress, .profile = profile};
  if (s == TL_OK) s = tl_train(ctx, cfg, &o, &result, &err);
  rc = tl_cli_end_training(s, &result, json, &err);
  tl_ctx_free(ctx);
  tl_config_free(cfg);
  tl_cli_args_free(&args);
  return rc;
}
