/* tilth report: the page that shows what a run cost and what it was worth. */
#include <stdio.h>
#include "cli/cli.h"
#include "tilth/report.h"

int tl_cmd_report(int argc, char **argv) {
  const char *out = "report.html";
  const tl_opt opts[] = {{"out", 'o', TL_OPT_STR, &out, "FILE", "the page to write (report.html)"},
                         {0}};
  const tl_usage usage = {
      .name = "report",
      .synopsis = "[--out FILE] DOCUMENT.json",
      .summary = "Writes one self-contained HTML page from a report document: loss curves, the\n"
                 "label study with its intervals, example predictions, costs. The document's keys\n"
                 "are described in include/tilth/report.h.",
      .examples = "tilth report runs/quickstart/report.json --out report.html",
      .opts = opts,
      .min_args = 1,
      .max_args = 1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  rc = tl_report_write(args.item[0], out, &err) == TL_OK ? 0 : tl_cli_fail(&err);
  tl_cli_args_free(&args);
  return rc;
}
