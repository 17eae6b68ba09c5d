/* tilth generate and tilth fill. */
#include <stdio.h>
#include "cli/cli.h"
#include "tilth/generate.h"

static void emit(void *user, const char *text, size_t len) {
  (void)user;
  fwrite(text, 1, len, stdout);
  fflush(stdout);
}

int tl_cmd_generate(int argc, char **argv) {
  const char *prompt = "\n";
  tl_sampling p = tl_sampling_defaults();
  int64_t seed = 1;
  const char *adapter = NULL;
  const tl_opt opts[] = {
      {"prompt", 'p', TL_OPT_STR, &prompt, "TEXT", "text to continue (a line end)"},
      {"max-tokens", 'n', TL_OPT_INT, &p.max_tokens, "N", "new tokens at most"},
      {"temperature", 't', TL_OPT_DOUBLE, &p.temperature, "T", "0: always the likeliest token"},
      {"top-k", 0, TL_OPT_INT, &p.top_k, "K", "draw from the K likeliest tokens; 0: all"},
      {"top-p", 0, TL_OPT_DOUBLE, &p.top_p, "P",
       "draw from the likeliest that reach P together; 1: all"},
      {"seed", 's', TL_OPT_INT, &seed, "N", "the same seed gives the same text"},
      {"adapter", 0, TL_OPT_STR, &adapter, "DIR", TL_ADAPTER_HELP},
      {0}};
  const tl_usage usage = {.name = "generate",
                          .synopsis = "[options] MODEL",
                          .summary =
                              "Continues a text with a decoder model; the text streams to stdout.",
                          .examples = "tilth generate runs/my-run/model --prompt \"ROMEO:\" -n 300",
                          .opts = opts,
                          .min_args = 1,
                          .max_args = 1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  if (p.max_tokens < 1 || p.temperature < 0 || p.top_k < 0 || !(p.top_p > 0 && p.top_p <= 1)) {
    tl_cli_args_free(&args);
    return tl_cli_usage_error("generate",
                              "--max-tokens from 1, --temperature and --top-k from 0, --top-p "
                              "above 0 and at most 1");
  }
  p.seed = (uint64_t)seed;
  tl_err err = {0};
  tl_ctx *ctx = NULL;
  tl_generate_stats st = {0};
  tl_ctx_options o = tl_cli_ctx_options();
  tl_cli_catch_signals();
  tl_status s = tl_ctx_new(&o, &ctx, &err);
  if (s == TL_OK)
    s = tl_generate(ctx, tl_cli_model(&args, adapter), prompt, &p, emit, NULL, &st, &err);
  if (s == TL_OK) {
    printf("\n");
    if (!tl_cli_quiet())
      fprintf(stderr, "prompt %lld tokens in %.2f s; %lld new tokens, %.0f tokens/s%s\n",
              (long long)st.prompt_tokens, st.prompt_seconds, (long long)st.new_tokens,
              st.new_seconds > 0 ? (double)st.new_tokens / st.new_seconds : 0,
              st.ended ? " (the model ended the text)" : "");
  }
  rc = s == TL_OK ? 0 : tl_cli_fail(&err);
  tl_ctx_free(ctx);
  tl_cli_args_free(&args);
  return rc;
}

static void show_choices(void *user, int mask, const tl_fill_choice *choice, int n) {
  (void)user;
  printf("mask %d:", mask + 1);
  for (int i = 0; i < n; i++) printf(" %s (%.3f)", choice[i].token, choice[i].probability);
  printf("\n");
}

int tl_cmd_fill(int argc, char **argv) {
  int64_t n = 5;
  const tl_opt opts[] = {{"choices", 'n', TL_OPT_INT, &n, "N", "tokens to show per mask"}, {0}};
  const tl_usage usage = {
      .name = "fill",
      .synopsis = "[--choices N] MODEL TEXT",
      .summary = "Predicts the masked words of a text: [MASK] or <mask>, as the model's\n"
                 "tokenizer writes it.",
      .examples = "tilth fill runs/my-run/model \"a small [MASK] that sings\"",
      .opts = opts,
      .min_args = 2,
      .max_args = 2};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  if (n < 1 || n > TL_FILL_MAX) {
    tl_cli_args_free(&args);
    return tl_cli_usage_error("fill", "--choices takes a number from 1 to %d", TL_FILL_MAX);
  }
  tl_err err = {0};
  tl_ctx *ctx = NULL;
  tl_ctx_options o = tl_cli_ctx_options();
  tl_status s = tl_ctx_new(&o, &ctx, &err);
  if (s == TL_OK) s = tl_fill(ctx, args.item[0], args.item[1], (int)n, show_choices, NULL, &err);
  rc = s == TL_OK ? 0 : tl_cli_fail(&err);
  tl_ctx_free(ctx);
  tl_cli_args_free(&args);
  return rc;
}
