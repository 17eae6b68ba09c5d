/* tilth study: the label-efficiency study of a pretrained model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/transfer.h"

enum { MAX_LIST = 16, MAX_NUMBER = 1000000000 };

static void show(void *user, const char *line, bool result) {
  (void)user;
  if (result) {
    printf("%s\n", line);
    return;
  }
  tl_cli_progress("%s", line);
  tl_cli_progress_end();
}

/* Numbers separated by commas; the count, or 0 if one is not in (0, MAX_NUMBER], not whole where
 * that is asked, or they are more than MAX_LIST. */
static int parse_list(const char *text, bool whole, double *out) {
  int n = 0;
  for (const char *p = text; *p;) {
    char *end;
    double v = strtod(p, &end);
    if (n == MAX_LIST || end == p || !(v > 0 && v <= MAX_NUMBER) || (*end && *end != ',')) return 0;
    if (whole && v != (double)(int64_t)v) return 0;
    out[n++] = v;
    p = *end ? end + 1 : end;
  }
  return n;
}

int tl_cmd_study(int argc, char **argv) {
  const char *from = NULL, *train = NULL, *test = NULL, *out = "study.json";
  const char *title = "What pretraining was worth", *run = NULL;
  const char *labels = "100,500,5000", *lrs = "1e-4,3e-4,1e-3,3e-3";
  tl_finetune_options tune = tl_finetune_defaults();
  tune.epochs = 6;
  tune.min_steps = 250;
  tune.max_len = 64;
  int64_t seeds = 3, max_test = 0;
  const tl_opt opts[] = {
      {"from", 0, TL_OPT_STR, &from, "MODEL",
       "folder of the pretrained model (with its tokenizer)"},
      {"train", 0, TL_OPT_STR, &train, "FILE",
       "labelled texts: label<TAB>text, or a table or JSON Lines (docs/task-data.md)"},
      {"test", 0, TL_OPT_STR, &test, "FILE", "texts of the test, in the same form"},
      {"out", 'o', TL_OPT_STR, &out, "FILE", "results; an interrupted study goes on from them"},
      {"title", 0, TL_OPT_STR, &title, "TEXT", "title of the report"},
      {"run", 0, TL_OPT_STR, &run, "RUN",
       "run folder of the pretraining: its curves and costs join the report"},
      {"labels", 0, TL_OPT_STR, &labels, "LIST", "numbers of labels"},
      {"seeds", 0, TL_OPT_INT, &seeds, "N", "seeds for each number of labels"},
      {"lrs", 0, TL_OPT_STR, &lrs, "LIST", "learning rates to choose from, for each arm"},
      {"epochs", 0, TL_OPT_INT, &tune.epochs, "N", "passes over the labels"},
      {"min-steps", 0, TL_OPT_INT, &tune.min_steps, "N",
       "least steps: more passes over few labels"},
      {"batch", 0, TL_OPT_INT, &tune.batch, "N", "texts per step"},
      {"max-len", 0, TL_OPT_INT, &tune.max_len, "N", "tokens per text; longer ones are cut"},
      {"max-test", 0, TL_OPT_INT, &max_test, "N", "texts of the test that are used; 0: all"},
      {0}};
  const tl_usage usage = {
      .name = "study",
      .synopsis = "--from MODEL --train FILE --test FILE [--out FILE]",
      .summary =
          "Shows what pretraining was worth: accuracy against the number of labels for the\n"
          "pretrained model, for the same network from random weights (each with its own best\n"
          "learning rate) and for naive Bayes, on the same labels. `tilth report` makes a page\n"
          "of the results.",
      .examples = "tilth study --from runs/my-run/model --train train.tsv --test test.tsv\n"
                  "tilth report study.json --out report.html",
      .opts = opts,
      .max_args = 0};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_cli_args_free(&args);
  if (!from || !train || !test)
    return tl_cli_usage_error("study", "--from, --train and --test are all needed");
  double label_list[MAX_LIST], lr_list[MAX_LIST];
  int n_labels = parse_list(labels, true, label_list), n_lrs = parse_list(lrs, false, lr_list);
  if (n_labels == 0 || n_lrs == 0)
    return tl_cli_usage_error("study",
                              "--labels (whole) and --lrs take up to %d numbers above 0, separated "
                              "by commas",
                              MAX_LIST);
  if (seeds < 1 || seeds > 64 || tune.epochs < 1 || tune.batch < 1 || tune.max_len < 4 ||
      tune.min_steps < 0 || max_test < 0)
    return tl_cli_usage_error("study",
                              "--seeds from 1 to 64, --epochs and --batch from 1, --max-len from "
                              "4, --min-steps and --max-test from 0");
  int64_t n[MAX_LIST];
  for (int i = 0; i < n_labels; i++) n[i] = (int64_t)label_list[i];
  tl_study_options so = {.from = from,
                         .train = train,
                         .test = test,
                         .out_json = out,
                         .title = title,
                         .run_dir = run,
                         .labels = n,
                         .n_labels = n_labels,
                         .n_seeds = (int)seeds,
                         .lrs = lr_list,
                         .n_lrs = n_lrs,
                         .max_test = max_test,
                         .tune = tune};
  tl_err err = {0};
  tl_ctx *ctx = NULL;
  tl_ctx_options co = tl_cli_ctx_options();
  tl_cli_catch_signals();
  tl_status s = tl_ctx_new(&co, &ctx, &err);
  if (s == TL_OK) s = tl_label_study(ctx, &so, show, NULL, &err);
  rc = s == TL_OK ? 0 : tl_cli_fail(&err);
  tl_ctx_free(ctx);
  return rc;
}
