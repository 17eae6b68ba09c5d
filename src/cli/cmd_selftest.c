/* tilth selftest: checks every operator on this machine. */
#include <stdio.h>
#include <stdlib.h>
#include "cli/cli.h"
#include "tilth/selftest.h"

static void print_error(float err, float tol) {
  if (tol < 0)
    printf(" %9s", "-");
  else
    printf(" %9.1e", (double)err);
}

static void print_row(void *user, const tl_selftest_result *r) {
  (void)user;
  printf("%-16s %5d", r->op, r->n_cases);
  for (int i = 0; i < 2; i++) print_error(r->value_err[i], r->value_tol[i]);
  for (int i = 0; i < 2; i++) print_error(r->grad_err[i], r->grad_tol[i]);
  print_error(r->fd_err, r->fd_tol > 0 ? r->fd_tol : -1);
  printf("  %s\n", r->ok ? "ok" : "FAILED");
  if (!r->ok) printf("  %s\n", r->message);
  fflush(stdout);
}

static int print_docs(void) {
  tl_err err = {0};
  char *text = NULL;
  if (tl_selftest_docs(&text, &err) != TL_OK) return tl_cli_fail(&err);
  fputs(text, stdout);
  free(text);
  return 0;
}

static int test(const tl_cli_args *args) {
  const char *cpu = tl_cli_ctx_options().cpu;
  int failures = 0;
  printf("%-16s %5s %9s %9s %9s %9s %9s\n", "operator", "cases", "f32", "bf16", "grad f32",
         "grad bf16", "findiff");
  for (size_t i = 0; i < args->n || i == 0; i++) {
    tl_err err = {0};
    int n = 0;
    if (tl_selftest(args->n ? args->item[i] : NULL, cpu, print_row, NULL, &n, &err) != TL_OK)
      return tl_cli_fail(&err);
    failures += n;
  }
  if (failures == 0) return 0;
  return tl_cli_error(TL_FAILED, "selftest: %d operator%s failed", failures,
                      failures == 1 ? "" : "s");
}

int tl_cmd_selftest(int argc, char **argv) {
  bool docs = false;
  const tl_opt opts[] = {
      {"docs", 0, TL_OPT_FLAG, &docs, NULL, "print the reference of all operators as Markdown"},
      {0}};
  const tl_usage usage = {
      .name = "selftest",
      .synopsis = "[options] [OPERATOR...]",
      .summary =
          "Checks the operators on this machine: each kernel level up to the CPU's own (or --cpu,\n"
          "or TILTH_CPU) against the plain C reference, gradients against finite differences, and\n"
          "the same bits on 1, 2 and 3 threads. Prints the worst relative errors.",
      .examples = "tilth selftest\n"
                  "tilth selftest attention layer_norm\n"
                  "tilth selftest --cpu ref\n"
                  "tilth selftest --docs > docs/operators.md",
      .opts = opts,
      .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  rc = docs ? print_docs() : test(&args);
  tl_cli_args_free(&args);
  return rc;
}
