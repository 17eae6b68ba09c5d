/* tilth report: the page that shows what a run cost and what it was worth. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/cli.h"
#include "tilth/report.h"

static tl_status report_run(const char *dir, const char *out, tl_err *err) {
  tl_ctx *ctx = NULL;
  TL_TRY(tl_cli_make_ctx(NULL, &ctx, err));
  tl_status s = tl_report_pictures(ctx, dir, err);
  if (s == TL_OK) s = tl_report_run(dir, out, err);
  tl_ctx_free(ctx);
  return s;
}

int tl_cmd_report(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "labels")) return tl_cmd_report_labels(argc - 1, argv + 1);
  const char *out = NULL;
  const tl_opt opts[] = {{"out", 'o', TL_OPT_STR, &out, "FILE",
                          "the page to write (report.html, in the run folder for a run)"},
                         {0}};
  const tl_usage usage = {
      .name = "report",
      .synopsis = "[--out FILE] RUN_FOLDER | DOCUMENT.json | labels ...",
      .summary =
          "Writes one self-contained HTML page: of a run folder, its record and curves (of a run on\n"
          "pictures also some of them, with the model's answers and its attention); of a\n"
          "report document (include/tilth/report.h describes it), the label study with its\n"
          "intervals, example predictions and costs as well. `tilth report labels` makes such a\n"
          "study; it has options of its own.",
      .examples = "tilth report runs/my-run-20260102-030405-1a2b\n"
                  "tilth report study.json --out report.html",
      .opts = opts,
      .min_args = 1,
      .max_args = 1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  struct stat st;
  bool is_run = stat(args.item[0], &st) == 0 && S_ISDIR(st.st_mode);
  tl_status s = is_run ? report_run(args.item[0], out, &err)
                       : tl_report_write(args.item[0], out ? out : "report.html", &err);
  rc = s == TL_OK ? 0 : tl_cli_fail(&err);
  tl_cli_args_free(&args);
  return rc;
}
