/* tilth eval: the loss of a model on held-out text. */
#include <stdio.h>
#include "cli/cli.h"
#include "tilth/train.h"

int tl_cmd_eval(int argc, char **argv) {
  const char *data = NULL, *objective = "";
  int64_t seq_len = 0, tokens = 0;
  bool json = false;
  const char *adapter = NULL;
  const tl_opt opts[] = {
      {"data", 'd', TL_OPT_STR, &data, "DIR",
       "folder made by `tilth prepare`; its validation part is read"},
      {"objective", 0, TL_OPT_STR, &objective, "NAME",
       "next_token, masked, hybrid, denoise, span_corruption; empty: the model's own"},
      {"seq-len", 0, TL_OPT_INT, &seq_len, "N", "tokens per window; 0: the model's longest"},
      {"tokens", 0, TL_OPT_INT, &tokens, "N", "tokens to evaluate; 0: all"},
      {"json", 0, TL_OPT_FLAG, &json, NULL, "print the result as JSON"},
      {"adapter", 0, TL_OPT_STR, &adapter, "DIR", TL_ADAPTER_HELP},
      {0}};
  const tl_usage usage = {
      .name = "eval",
      .synopsis = "--data DIR MODEL",
      .summary = "Loss in nats and in bits per byte, perplexity and accuracy of a model "
                 "folder on\nthe validation part of prepared data.",
      .examples = "tilth eval --data data/english runs/my-run/model",
      .opts = opts,
      .min_args = 1,
      .max_args = 1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  if (!data) {
    tl_cli_args_free(&args);
    return tl_cli_usage_error("eval", "--data DIR is missing: a folder made by `tilth prepare`");
  }
  if (seq_len < 0 || tokens < 0) {
    tl_cli_args_free(&args);
    return tl_cli_usage_error("eval", "--seq-len and --tokens take numbers from 0 up");
  }
  tl_err err = {0};
  tl_ctx *ctx = NULL;
  tl_eval_result r = {0};
  tl_ctx_options o = tl_cli_ctx_options();
  tl_status s = tl_ctx_new(&o, &ctx, &err);
  if (s == TL_OK)
    s = tl_evaluate(ctx, tl_cli_model(&args, adapter), data, objective, seq_len, tokens, &r, &err);
  if (s == TL_OK && json)
    printf("{\"schema_version\":1,\"loss\":%.6f,\"bpb\":%.6f,\"perplexity\":%.4f,\"accuracy\":%.6f,"
           "\"targets\":%llu,\"tokens\":%llu,\"seconds\":%.2f}\n",
           r.loss, r.bpb, r.perplexity, r.accuracy, (unsigned long long)r.targets,
           (unsigned long long)r.tokens, r.seconds);
  else if (s == TL_OK)
    printf("loss %.4f nats, %.4f bits per byte, perplexity %.2f, accuracy %.4f (%llu targets, %.1f "
           "s)\n",
           r.loss, r.bpb, r.perplexity, r.accuracy, (unsigned long long)r.targets, r.seconds);
  rc = s == TL_OK ? 0 : tl_cli_fail(&err);
  tl_ctx_free(ctx);
  tl_cli_args_free(&args);
  return rc;
}
