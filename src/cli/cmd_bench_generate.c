/* tilth bench generate: the speed of generation. */
#include <jansson.h>
#include <stdio.h>
#include "cli/cli.h"
#include "tilth/bench.h"

enum { MAX_COUNT = 1000000 };

static int print_json(const tl_ctx *ctx, const tl_bench_generate_result *r) {
  json_t *doc = json_pack(
      "{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:s, s:i, s:s}", "schema_version", 1, "median",
      r->median, "prompt_seconds", r->prompt_seconds, "token_seconds", r->token_seconds,
      "tokens_per_s", r->tokens_per_s, "peak_rss_bytes", r->peak_rss, "to_first_step", r->to_first,
      "to_first_step_end", r->to_first_end, "parameters", (json_int_t)r->params, "dtype",
      tl_dtype_name(r->dt), "threads", tl_ctx_threads(ctx), "kernels", tl_ctx_cpu(ctx));
  int rc = doc ? 0 : tl_cli_error(TL_NOMEM, "bench generate: out of memory");
  if (doc && json_dumpf(doc, stdout, JSON_COMPACT) == 0) putchar('\n');
  json_decref(doc);
  return rc;
}

static void print_text(const tl_ctx *ctx, const tl_bench_generate_result *r) {
  printf("sequence      %.2f ms median, %.1f new tokens/s\n", r->median * 1e3, r->tokens_per_s);
  printf("prompt        %.2f ms\ntoken         %.3f ms\n", r->prompt_seconds * 1e3,
         r->token_seconds * 1e3);
  printf("memory        %.1f MiB at most\n", r->peak_rss / (1 << 20));
  printf("start         %.2f s to the first sequence, %.2f s to its end\n", r->to_first,
         r->to_first_end);
  printf("set-up        %lld parameters, %s, %d threads, kernels %s\n", (long long)r->params,
         tl_dtype_name(r->dt), tl_ctx_threads(ctx), tl_ctx_cpu(ctx));
}

static bool in_range(int64_t v, int64_t least) {
  return v >= least && v <= MAX_COUNT;
}

int tl_cmd_bench_generate(int argc, char **argv) {
  const char *preset = NULL;
  bool json = false;
  tl_bench_generate_options o = {.prompt = 16, .tokens = 128, .warmup = 1, .runs = 5};
  const tl_opt opts[] = {{"preset", 'p', TL_OPT_STR, &preset, "NAME", "begin with a preset"},
                         {"prompt", 0, TL_OPT_INT, &o.prompt, "N", "tokens of the prompt (16)"},
                         {"tokens", 0, TL_OPT_INT, &o.tokens, "N", "new tokens (128)"},
                         {"steps", 0, TL_OPT_INT, &o.runs, "N", "timed sequences (5)"},
                         {"warmup", 0, TL_OPT_INT, &o.warmup, "N", "sequences before them (1)"},
                         {"json", 0, TL_OPT_FLAG, &json, NULL, "print JSON"},
                         {0}};
  const tl_usage usage = {
      .name = "bench generate",
      .synopsis = "[options] [CONFIG.yaml] [section.key=value ...]",
      .summary = "Times greedy generation of one sequence by a decoder with random weights.",
      .examples = "tilth bench generate --preset gpt2-124m model.vocab=50257\n"
                  "tilth bench generate --prompt 512 --tokens 64 model.dim=384 train.seq_len=1024",
      .opts = opts,
      .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  tl_config *cfg = NULL;
  tl_ctx *ctx = NULL;
  tl_bench_generate_result r;
  tl_status s = TL_OK;
  if (!in_range(o.prompt, 1) || !in_range(o.tokens, 1) || !in_range(o.runs, 1) ||
      !in_range(o.warmup, 0))
    s = tl_fail(&err, TL_USAGE,
                "bench generate: --prompt, --tokens and --steps take 1 to %d, --warmup 0 to %d",
                MAX_COUNT, MAX_COUNT);
  if (s == TL_OK) s = tl_cli_load_config(preset, &args, &cfg, &err);
  if (s == TL_OK) s = tl_cli_make_ctx(cfg, &ctx, &err);
  if (s == TL_OK) s = tl_bench_generate(ctx, cfg, &o, &r, &err);
  if (s != TL_OK)
    rc = tl_cli_fail(&err);
  else if (json)
    rc = print_json(ctx, &r);
  else {
    print_text(ctx, &r);
    rc = 0;
  }
  tl_ctx_free(ctx);
  tl_config_free(cfg);
  tl_cli_args_free(&args);
  return rc;
}
