/* tilth plan: parameters, memory, FLOPs and time, before anything runs. */
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/dataset.h"
#include "tilth/plan.h"

static void print_bytes(const char *name, double bytes) {
  if (bytes >= 1e9)
    printf("%-22s %10.2f GB\n", name, bytes * 1e-9);
  else
    printf("%-22s %10.1f MB\n", name, bytes * 1e-6);
}

static void print_plan(const tl_plan *p) {
  printf("%-22s %10lld (%lld in the body, vocabulary %lld)\n", "parameters", (long long)p->params,
         (long long)p->body_params, (long long)p->vocab);
  print_bytes("weights, gradients", p->weights_bytes);
  print_bytes("packed weights", p->packed_bytes);
  print_bytes("optimizer, snapshot", p->optimizer_bytes);
  print_bytes("activations", p->activations_bytes);
  print_bytes("memory in all", p->total_bytes);
  print_bytes("disk per checkpoint", p->checkpoint_bytes);
  printf("%-22s %10.3g\n", "FLOPs per token", p->flops_per_token);
  printf("%-22s %10lld of %lld tokens\n", "steps", (long long)p->steps,
         (long long)p->tokens_per_step);
  printf("%-22s %10.3g tokens, %.3g FLOPs\n", "in all", p->tokens, p->flops);
  printf("%-22s %10.0f tokens/s, %.0f %% of the measured peak\n", "speed (measured)",
         p->tokens_per_s, 100 * p->peak_fraction);
  printf("%-22s %10.1f minutes, without evaluations\n", "time", p->seconds / 60);
}

static void print_json(const tl_plan *p) {
  printf(
      "{\"schema_version\":1,\"parameters\":%lld,\"body_parameters\":%lld,\"tokens_per_step\":%lld,"
      "\"steps\":%lld,\"tokens\":%.0f,\"flops_per_token\":%.6g,\"flops\":%.6g,\"bytes\":%.0f,"
      "\"checkpoint_bytes\":%.0f,\"tokens_per_s\":%.1f,\"seconds\":%.1f,\"peak\":%.4f}\n",
      (long long)p->params, (long long)p->body_params, (long long)p->tokens_per_step,
      (long long)p->steps, p->tokens, p->flops_per_token, p->flops, p->total_bytes,
      p->checkpoint_bytes, p->tokens_per_s, p->seconds, p->peak_fraction);
}

/* The tokenizer's size, from the prepared data or the tokenizer that the configuration names. */
static tl_status find_vocab(const tl_config *c, int64_t *vocab, tl_err *err) {
  const char *where = *c->data.path ? c->data.path : c->data.tokenizer;
  *vocab = c->model.vocab ? c->model.vocab : 261; /* bytes and the special tokens */
  if (!*where || !strcmp(where, "bytes")) return TL_OK;
  tl_tokenizer *t = NULL;
  TL_TRY(tl_tokenizer_load(where, &t, err));
  *vocab = tl_tokenizer_vocab_size(t);
  tl_tokenizer_free(t);
  return TL_OK;
}

int tl_cmd_plan(int argc, char **argv) {
  const char *preset = NULL;
  bool json = false;
  const tl_opt opts[] = {{"preset", 'p', TL_OPT_STR, &preset, "NAME", "begin with a preset"},
                         {"json", 0, TL_OPT_FLAG, &json, NULL, "print the plan as JSON"},
                         {0}};
  const tl_usage usage = {
      .name = "plan",
      .synopsis = "[CONFIG.yaml | --preset NAME] [section.key=value ...]",
      .summary = "Shows what `tilth train` with the same arguments would take: parameters, memory, "
                 "FLOPs,\n"
                 "and time from a few measured passes on made-up tokens. Writes nothing.",
      .examples = "tilth plan --preset gpt2-124m model.vocab=50304\n"
                  "tilth plan --preset quickstart data.path=data/english",
      .opts = opts,
      .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  tl_config *cfg = NULL;
  tl_ctx *ctx = NULL;
  tl_plan plan;
  int64_t vocab = 0;
  tl_ctx_options o = tl_cli_ctx_options();
  tl_status s = tl_cli_load_config(preset, &args, &cfg, &err);
  if (s == TL_OK) s = find_vocab(cfg, &vocab, &err);
  if (s == TL_OK) s = tl_ctx_new(&o, &ctx, &err);
  if (s == TL_OK) s = tl_plan_run(ctx, cfg, vocab, &plan, &err);
  if (s == TL_OK && json) print_json(&plan);
  if (s == TL_OK && !json) print_plan(&plan);
  rc = s == TL_OK ? 0 : tl_cli_fail(&err);
  tl_ctx_free(ctx);
  tl_config_free(cfg);
  tl_cli_args_free(&args);
  return rc;
}
