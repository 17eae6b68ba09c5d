/* tilth report labels: the label-efficiency study of a pretrained model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/report.h"
#include "tilth/transfer.h"

enum { MAX_LIST = 32 };

static void show(void *user, const char *line, bool result) {
  (void)user;
  if (result) {
    printf("%s\n", line);
    return;
  }
  tl_cli_progress("%s", line);
  tl_cli_progress_end();
}

/* The number, or share, that one item of a list stands for; -1 if none. */
static double parse_item(const char *s, size_t n, bool labels) {
  char text[40], *end = text;
  if (labels && n == 3 && !strncmp(s, "all", 3)) return 0;
  if (n == 0 || n >= sizeof text) return -1;
  memcpy(text, s, n);
  text[n] = 0;
  double v = strtod(text, &end);
  if (end == text || !(v > 0 && v <= 1e9)) return -1;
  if (labels && !strcmp(end, "%")) return v < 100 ? v / 100 : v == 100 ? 0 : -1;
  if (*end || (labels && v >= 1 && v != (double)(int64_t)v)) return -1;
  return v;
}

/* Items separated by commas; how many, or 0 if one is wrong or they are more than MAX_LIST. */
static int parse_list(const char *text, bool labels, double *out) {
  int n = 0;
  for (const char *p = text; *p;) {
    size_t len = strcspn(p, ",");
    if (n == MAX_LIST || (out[n++] = parse_item(p, len, labels)) < 0) return 0;
    p += len + (p[len] == ',');
  }
  return n;
}

typedef struct request {
  tl_cli_setting set[8];
  const char *preset, *out, *page, *title, *run, *labels, *lrs, *arms;
  int64_t seeds, max_test;
  double label_list[MAX_LIST], lr_list[MAX_LIST];
  int n_labels, n_lrs;
  unsigned arm_set;
} request;

static tl_status check(request *r, tl_err *err) {
  r->n_labels = parse_list(r->labels, true, r->label_list);
  r->n_lrs = parse_list(r->lrs, false, r->lr_list);
  r->arm_set = tl_study_arms_parse(r->arms);
  if (r->n_labels == 0)
    return tl_fail(err, TL_USAGE,
                   "report labels: --labels %s: expected up to %d whole numbers, shares (5%%) or "
                   "all, separated by commas",
                   r->labels, (int)MAX_LIST);
  if (r->n_lrs == 0)
    return tl_fail(
        err, TL_USAGE,
        "report labels: --lrs %s: expected up to %d numbers above 0, separated by commas", r->lrs,
        (int)MAX_LIST);
  if (r->arm_set == 0)
    return tl_fail(err, TL_USAGE,
                   "report labels: --arms %s: expected some of pretrained, scratch, frozen, "
                   "frozen-lora, bayes, pixels",
                   r->arms);
  if (r->seeds < 1 || r->seeds > 64 || r->max_test < 0)
    return tl_fail(err, TL_USAGE, "report labels: --seeds from 1 to 64, --max-test from 0");
  return TL_OK;
}

static tl_status study(tl_ctx *ctx, const tl_config *cfg, const request *r, tl_err *err) {
  tl_study_options o = {.config = cfg,
                        .title = r->title,
                        .run_dir = r->run,
                        .out_json = r->out,
                        .labels = r->label_list,
                        .n_labels = r->n_labels,
                        .n_seeds = (int)r->seeds,
                        .lrs = r->lr_list,
                        .n_lrs = r->n_lrs,
                        .arms = r->arm_set,
                        .max_test = r->max_test};
  TL_TRY(tl_label_study(ctx, &o, show, NULL, err));
  return r->page ? tl_report_write(r->out, r->page, err) : TL_OK;
}

static tl_status run(request *r, const tl_cli_args *args, tl_err *err) {
  tl_config *cfg = NULL;
  tl_ctx *ctx = NULL;
  TL_TRY(check(r, err));
  tl_status s =
      tl_cli_load_settings(r->preset, args, r->set, sizeof r->set / sizeof *r->set, &cfg, err);
  if (s == TL_OK && (!*cfg->task.from || !*cfg->task.train || !*cfg->task.test))
    s = tl_fail(err, TL_USAGE, "report labels: --from, --data and --test are all needed");
  if (s == TL_OK) s = tl_cli_make_ctx(cfg, &ctx, err);
  if (s == TL_OK) s = study(ctx, cfg, r, err);
  tl_ctx_free(ctx);
  tl_config_free(cfg);
  return s;
}

static const char summary[] =
    "Shows what pretraining was worth on any task of tilth finetune: the score against the\n"
    "number of labels for the pretrained model, for the same network from random weights,\n"
    "for a frozen random one (each with its own best learning rate) and for a simple\n"
    "baseline, on the same records; mean, interval over seeds, paired difference.";
static const char examples[] =
    "tilth report labels --from MODEL --data train.tsv --test test.tsv --page study.html\n"
    "tilth report labels --from MODEL --task tokens --data train.conll --test test.conll "
    "--labels 5%,20%,all task.epochs=10 task.min_steps=200";

int tl_cmd_report_labels(int argc, char **argv) {
  request r = {.set = {{"--from", "task.from", NULL},
                       {"--task", "task.type", NULL},
                       {"--data", "task.train", NULL},
                       {"--valid", "task.valid", NULL},
                       {"--test", "task.test", NULL},
                       {"--columns", "task.columns", NULL},
                       {"--adapt", "adapt.method", NULL},
                       {"--max-len", "task.max_len", NULL}},
               .preset = "finetune",
               .out = "study.json",
               .title = "What pretraining was worth",
               .labels = "100,500,5000",
               .lrs = "1e-4,3e-4,1e-3,3e-3",
               .arms = "pretrained,scratch,frozen,bayes,pixels",
               .seeds = 3};
  const tl_opt opts[] = {
      {"from", 0, TL_OPT_STR, &r.set[0].value, "MODEL", "folder of the pretrained model"},
      {"task", 0, TL_OPT_STR, &r.set[1].value, "TASK",
       "classify, multilabel, regression, tokens, prompt, translate, image_classify, "
       "image_multilabel, image_segment (default classify)"},
      {"data", 0, TL_OPT_STR, &r.set[2].value, "FILE",
       "labelled records to learn from; aligned lines: a.en,a.de; pictures: docs/images.md"},
      {"valid", 0, TL_OPT_STR, &r.set[3].value, "FILE",
       "records that choose the learning rates (default: the end of the data)"},
      {"test", 0, TL_OPT_STR, &r.set[4].value, "FILE", "records that all arms are measured on"},
      {"columns", 0, TL_OPT_STR, &r.set[5].value, "LIST", "text=NAME,text_b=NAME,label=NAME"},
      {"adapt", 0, TL_OPT_STR, &r.set[6].value, "HOW",
       "of the pretrained arm: full, probe, last, bitfit, lora"},
      {"max-len", 0, TL_OPT_STR, &r.set[7].value, "N", "tokens per text; longer ones are cut"},
      {"labels", 0, TL_OPT_STR, &r.labels, "LIST", "numbers of labels: 100,5%,all"},
      {"seeds", 0, TL_OPT_INT, &r.seeds, "N", "seeds for each number of labels"},
      {"lrs", 0, TL_OPT_STR, &r.lrs, "LIST", "learning rates to choose from, for each arm"},
      {"arms", 0, TL_OPT_STR, &r.arms, "LIST",
       "of pretrained, scratch, frozen, frozen-lora, bayes, pixels (all but frozen-lora)"},
      {"max-test", 0, TL_OPT_INT, &r.max_test, "N", "test records that are used; 0: all"},
      {"out", 'o', TL_OPT_STR, &r.out, "FILE", "results; an interrupted study goes on from them"},
      {"page", 0, TL_OPT_STR, &r.page, "FILE", "write the report page, too"},
      {"title", 0, TL_OPT_STR, &r.title, "TEXT", "title of the report"},
      {"run", 0, TL_OPT_STR, &r.run, "RUN",
       "run folder of the pretraining: its curves and costs join the report"},
      {"preset", 'p', TL_OPT_STR, &r.preset, "NAME", "begin with a preset (default finetune)"},
      {0}};
  const tl_usage usage = {.name = "report labels",
                          .synopsis =
                              "--from MODEL --data FILE --test FILE [options] [CONFIG.yaml] "
                              "[section.key=value ...]",
                          .summary = summary,
                          .examples = examples,
                          .opts = opts,
                          .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  rc = run(&r, &args, &err) == TL_OK ? 0 : tl_cli_fail(&err);
  tl_cli_args_free(&args);
  return rc;
}
