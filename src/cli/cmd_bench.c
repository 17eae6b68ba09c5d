/* tilth bench: how fast the operators and kernels are on this machine. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/bench.h"

typedef struct output {
  tl_bench_peak peak;
  json_t *rows; /* NULL: a Markdown table instead */
} output;

/* The time that the machine's limits allow, by the time it took. Above 1 when the data stays in
 * the caches. */
static double share_of_limit(const tl_bench_peak *p, const tl_bench_row *r) {
  double compute = r->flops / (p->gflops[r->dt == TL_BF16] * 1e9);
  double memory = r->bytes / (p->gbytes * 1e9);
  return (compute > memory ? compute : memory) / r->seconds;
}

static void print_rate(double count, double seconds) {
  if (count > 0)
    printf(" %8.1f |", count / seconds * 1e-9);
  else
    printf(" %8s |", "-");
}

static void add_row(void *user, const tl_bench_row *r) {
  output *o = user;
  double share = share_of_limit(&o->peak, r);
  if (o->rows) {
    json_array_append_new(
        o->rows, json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:f}", "name", r->name, "shape",
                           r->shape, "type", tl_dtype_name(r->dt), "pass", r->pass, "seconds",
                           r->seconds, "gflops", r->flops / r->seconds * 1e-9, "gbytes_per_second",
                           r->bytes / r->seconds * 1e-9, "share_of_limit", share));
    return;
  }
  printf("| %-13s | %-20s | %-4s | %-8s | %9.1f |", r->name, r->shape, tl_dtype_name(r->dt),
         r->pass, r->seconds * 1e6);
  print_rate(r->flops, r->seconds);
  print_rate(r->bytes, r->seconds);
  if (share > 0)
    printf(" %5.0f %% |\n", 100 * share);
  else
    printf(" %7s |\n", "-");
  fflush(stdout);
}

static void print_head(const tl_ctx *ctx, const tl_bench_peak *p) {
  printf(
      "Kernels: %s, %d threads. Peak: %.0f GFLOP/s f32, %.0f GFLOP/s bf16, memory %.1f GB/s.\n\n",
      tl_ctx_cpu(ctx), tl_ctx_threads(ctx), p->gflops[0], p->gflops[1], p->gbytes);
  printf("| %-13s | %-20s | %-4s | %-8s | %9s | %8s | %8s | %7s |\n", "name", "shape", "type",
         "pass", "us", "GFLOP/s", "GB/s", "limit");
  printf("|---|---|---|---|--:|--:|--:|--:|\n");
}

static int print_json(const tl_ctx *ctx, output *o) {
  json_t *doc =
      json_pack("{s:s, s:i, s:{s:f, s:f, s:f}, s:O}", "kernels", tl_ctx_cpu(ctx), "threads",
                tl_ctx_threads(ctx), "peak", "f32_gflops", o->peak.gflops[0], "bf16_gflops",
                o->peak.gflops[1], "gbytes_per_second", o->peak.gbytes, "rows", o->rows);
  int rc = doc ? 0 : tl_cli_error(TL_NOMEM, "bench: out of memory");
  if (doc && json_dumpf(doc, stdout, JSON_INDENT(2)) == 0) putchar('\n');
  json_decref(doc);
  return rc;
}

static int bench(tl_ctx *ctx, const tl_cli_args *args, bool json, double seconds) {
  output o = {0};
  tl_err err = {0};
  tl_status s = tl_bench_measure_peak(ctx, &o.peak, &err);
  if (s != TL_OK) return tl_cli_fail(&err);
  if (json)
    o.rows = json_array();
  else
    print_head(ctx, &o.peak);
  for (size_t i = 0; s == TL_OK && (i < args->n || i == 0); i++)
    s = tl_bench(ctx, args->n ? args->item[i] : NULL, seconds, add_row, &o, &err);
  int rc = s == TL_OK ? 0 : tl_cli_fail(&err);
  if (rc == 0 && json) rc = print_json(ctx, &o);
  json_decref(o.rows);
  return rc;
}

int tl_cmd_bench(int argc, char **argv) {
  if (argc > 1 && (!strcmp(argv[1], "step") || !strcmp(argv[1], "finetune")))
    return tl_cmd_bench_step(argc - 1, argv + 1);
  if (argc > 1 && !strcmp(argv[1], "generate")) return tl_cmd_bench_generate(argc - 1, argv + 1);
  bool json = false;
  double seconds = 0.1;
  const tl_opt opts[] = {
      {"json", 0, TL_OPT_FLAG, &json, NULL, "print JSON instead of a Markdown table"},
      {"seconds", 0, TL_OPT_DOUBLE, &seconds, "S", "time for each case and type (default 0.1)"},
      {0}};
  const tl_usage usage = {
      .name = "bench",
      .synopsis = "[options] [NAME...] | step [options] ...",
      .summary =
          "Times operators, matrix products (gemm) and optimizer updates (optim): the fastest "
          "run,\n"
          "its rates, and the share of what the machine's peak and memory allow, measured first.\n"
          "`tilth bench step` times whole training steps; it has options of its own.",
      .examples = "tilth bench\n"
                  "tilth bench gemm attention\n"
                  "tilth bench --threads 1 --cpu avx2 layer_norm\n"
                  "tilth bench --json > bench.json\n"
                  "tilth bench step --preset gpt2",
      .opts = opts,
      .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_cli_catch_signals();
  tl_ctx_options options = tl_cli_ctx_options();
  tl_ctx *ctx = NULL;
  tl_err err = {0};
  if (!(seconds >= 0 && seconds <= 3600))
    rc = tl_cli_usage_error("bench", "--seconds must be from 0 to 3600");
  else if (tl_ctx_new(&options, &ctx, &err) != TL_OK)
    rc = tl_cli_fail(&err);
  else
    rc = bench(ctx, &args, json, seconds);
  tl_ctx_free(ctx);
  tl_cli_args_free(&args);
  return rc;
}
