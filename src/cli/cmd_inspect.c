/* tilth inspect: what goes on inside a model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/cli.h"
#include "tilth/describe.h"
#include "tilth/inspect.h"
#include "tilth/report.h"

static bool is_run(const char *dir) {
  char path[4096];
  struct stat st;
  int n = snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
  return n > 0 && (size_t)n < sizeof path && stat(path, &st) == 0;
}

/* The page of a run, what a file holds, or a model from within: a page, or JSON. */
static tl_status look(const char *what, const tl_inspect_options *o, const char *out, bool json,
                      tl_err *err) {
  const bool within = o->text || o->data, run = !within && is_run(what);
  const bool page = !json && (within || run);
  tl_ctx *ctx = NULL;
  char *text = NULL;
  tl_status s = TL_OK;
  if (run)
    s = json ? tl_inspect_run(what, &text, err) : tl_report_run(what, out, err);
  else if (!within)
    s = tl_describe_file(what, json, &text, err);
  else if ((s = tl_cli_make_ctx(NULL, &ctx, err)) == TL_OK)
    s = tl_inspect(ctx, what, o, &text, err);
  if (s == TL_OK && within && page) s = tl_inspect_html(text, out, err);
  if (s == TL_OK && !page) fputs(text, stdout);
  if (s == TL_OK && json) putchar('\n');
  if (s == TL_OK && page && !tl_cli_quiet()) fprintf(stderr, "the page is %s\n", out);
  free(text);
  tl_ctx_free(ctx);
  return s;
}

int tl_cmd_inspect(int argc, char **argv) {
  tl_inspect_options o = {.seed = 1};
  const char *out = "inspect.html";
  int64_t seed = 1;
  bool json = false;
  const tl_opt opts[] = {
      {"text", 't', TL_OPT_STR, &o.text, "TEXT", "text whose attention maps are shown"},
      {"data", 0, TL_OPT_STR, &o.data, "FILE",
       "lines of text for losses, heads and gradients (default: the text)"},
      {"words", 'w', TL_OPT_STR, &o.words, "LIST",
       "words whose embeddings' neighbours are shown, with commas between"},
      {"out", 'o', TL_OPT_STR, &out, "PAGE.html", "the page (default inspect.html)"},
      {"json", 0, TL_OPT_FLAG, &json, NULL, "print the numbers as JSON instead of making a page"},
      {"length", 0, TL_OPT_INT, &o.length, "N", "tokens per window (default 128)"},
      {"windows", 0, TL_OPT_INT, &o.windows, "N", "windows of the data (default 8)"},
      {"seed", 0, TL_OPT_INT, &seed, "N", "of random sequences and masks (default 1)"},
      {0}};
  const tl_usage usage = {
      .name = "inspect",
      .synopsis = "MODEL (--text TEXT | --data FILE) [options] | RUN | FILE [--json]",
      .summary =
          "Attention maps and their entropy, induction heads, what each head is worth, the loss\n"
          "by position, gradients per layer with and without skip connections, neighbours of\n"
          "embeddings: as one page with drawings, or as JSON. Without --text and --data: what a "
          "file\n"
          "holds (safetensors, GGUF, .npy, .npz, TensorBoard events, tokenizer.json, llm.c's\n"
          "tokens) or a folder of a model, adapter or checkpoint; nothing in it is trusted. Of a\n"
          "run folder: its curves and the gradient of each layer over time.",
      .examples = "tilth inspect runs/my-run/model --text \"the cat sat on the mat\"\n"
                  "tilth inspect model.gguf\n"
                  "tilth inspect MODEL --data held-out.txt --words king,queen,london -o look.html",
      .opts = opts,
      .min_args = 1,
      .max_args = 1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  tl_status s = TL_OK;
  o.seed = (uint64_t)seed;
  if (o.length < 0 || o.windows < 0 || seed < 0 || (o.length > 0 && o.length < 8))
    s = tl_fail(&err, TL_USAGE, "inspect: --length from 8, --windows and --seed from 0 up");
  if (s == TL_OK) s = look(args.item[0], &o, out, json, &err);
  rc = s == TL_OK ? 0 : tl_cli_fail(&err);
  tl_cli_args_free(&args);
  return rc;
}
