/* tilth bench step: the speed of whole training steps. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/bench.h"

enum { MAX_LENGTH = 1 << 20, N_DRAWN = 1024, MAX_STEPS = 1000000 };

typedef struct lengths {
  uint32_t *item;
  size_t n, cap;
} lengths;

static tl_status add_length(lengths *l, int64_t value, tl_err *err) {
  if (l->n == l->cap) {
    size_t cap = l->cap ? 2 * l->cap : 1024;
    uint32_t *p = realloc(l->item, cap * sizeof *p);
    if (!p) return tl_fail(err, TL_NOMEM, "--lengths: out of memory");
    l->item = p;
    l->cap = cap;
  }
  l->item[l->n++] = (uint32_t)value;
  return TL_OK;
}

/* A whole number from 1 to MAX_LENGTH that ends at one of `ends` or the end of the text; 0 if it is
 * not. */
static int64_t parse_length(const char *text, const char *ends, char **end) {
  errno = 0;
  long long v = strtoll(text, end, 10);
  bool good = *end != text && errno == 0 && v >= 1 && v <= MAX_LENGTH;
  return good && (!**end || strchr(ends, **end)) ? v : 0;
}

static tl_status read_file(const char *path, lengths *l, tl_err *err) {
  FILE *f = fopen(path, "r");
  if (!f)
    return tl_fail(err, TL_NOINPUT,
                   "--lengths %s: %s; give a file with a number of tokens on each line, or min:max",
                   path, strerror(errno));
  char line[64];
  tl_status s = TL_OK;
  for (size_t number = 1; s == TL_OK && fgets(line, sizeof line, f); number++) {
    char *end;
    int64_t v = parse_length(line, "\r\n", &end);
    s = v ? add_length(l, v, err)
          : tl_fail(err, TL_DATA, "%s: line %zu: expected a number of tokens from 1 to %d", path,
                    number, MAX_LENGTH);
  }
  if (s == TL_OK && ferror(f)) s = tl_fail(err, TL_IO, "%s: cannot be read", path);
  if (s == TL_OK && l->n == 0) s = tl_fail(err, TL_NOINPUT, "%s: no lengths in it", path);
  fclose(f);
  return s;
}

/* min:max: lengths spread evenly over the range, in an order that mixes them. Else a file. */
static tl_status get_lengths(const char *arg, lengths *l, tl_err *err) {
  char *end = NULL;
  if (!arg) return TL_OK;
  int64_t min = parse_length(arg, ":", &end);
  if (!min || *end != ':') return read_file(arg, l, err);
  int64_t max = parse_length(end + 1, "", &end);
  if (max < min)
    return tl_fail(err, TL_USAGE, "--lengths %s: expected min:max with 1 <= min <= max <= %d", arg,
                   MAX_LENGTH);
  tl_status s = TL_OK;
  for (uint64_t i = 0; s == TL_OK && i < N_DRAWN; i++) {
    uint64_t spread = i * 633 % N_DRAWN; /* 633: near N_DRAWN times the golden ratio, and odd */
    s = add_length(l, min + (int64_t)(spread * (uint64_t)(max - min + 1) / N_DRAWN), err);
  }
  return s;
}

static void print_text(const tl_ctx *ctx, const tl_bench_step_result *r) {
  printf("step          %.2f ms median of %lld (%.2f to %.2f)\n", r->median * 1e3,
         (long long)r->steps, r->min * 1e3, r->max * 1e3);
  printf(
      "tokens        %.0f in %.0f pieces and %.0f targets per step, %.0f tokens/s, %.1f pieces/s\n",
      r->tokens, r->segments, r->targets, r->tokens_per_s, r->segments_per_s);
  printf("work          %.4g FLOPs per token, %.1f GFLOP/s, %.1f%% of the measured peak of %.1f\n",
         r->flops_per_token, r->gflops, 100 * r->gflops / r->peak_gflops, r->peak_gflops);
  printf("memory        %.1f MiB at most\n", r->peak_rss / (1 << 20));
  printf("start         %.2f s to the first step, %.2f s to its end\n", r->to_first,
         r->to_first_end);
  printf("set-up        %lld parameters, %s, %d threads, kernels %s\n", (long long)r->params,
         tl_dtype_name(r->dt), tl_ctx_threads(ctx), tl_ctx_cpu(ctx));
  if (r->profile) tl_cli_print_profile(r->profile);
}

static int print_json(const tl_ctx *ctx, const tl_bench_step_result *r) {
  json_t *times = json_array(), *profile = json_null();
  for (int64_t i = 0; i < r->steps; i++)
    json_array_append_new(times, json_real(r->step_seconds[i]));
  if (r->profile) {
    char *text = tl_profile_json(r->profile);
    profile = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
  }
  json_t *doc =
      json_pack("{s:i, s:o, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, "
                "s:f, s:f, s:I, "
                "s:s, s:i, s:s, s:o}",
                "schema_version", 1, "step_seconds", times, "median", r->median, "min", r->min,
                "max", r->max, "tokens_per_step", r->tokens, "pieces_per_step", r->segments,
                "targets_per_step", r->targets, "tokens_per_s", r->tokens_per_s, "pieces_per_s",
                r->segments_per_s, "flops_per_token", r->flops_per_token, "gflops", r->gflops,
                "peak_gflops", r->peak_gflops, "mfu", r->gflops / r->peak_gflops, "peak_rss_bytes",
                r->peak_rss, "to_first_step", r->to_first, "to_first_step_end", r->to_first_end,
                "loss", r->loss, "parameters", (json_int_t)r->params, "dtype", tl_dtype_name(r->dt),
                "threads", tl_ctx_threads(ctx), "kernels", tl_ctx_cpu(ctx), "profile", profile);
  int rc = doc ? 0 : tl_cli_error(TL_NOMEM, "bench step: out of memory");
  if (doc && json_dumpf(doc, stdout, JSON_COMPACT) == 0) putchar('\n');
  json_decref(doc);
  return rc;
}

static int run(const tl_config *cfg, tl_ctx *ctx, const tl_bench_step_options *o, bool json) {
  tl_err err = {0};
  tl_bench_step_result r;
  if (tl_bench_step(ctx, cfg, o, &r, &err) != TL_OK) return tl_cli_fail(&err);
  int rc = 0;
  if (json)
    rc = print_json(ctx, &r);
  else
    print_text(ctx, &r);
  tl_bench_step_free(&r);
  return rc;
}

int tl_cmd_bench_step(int argc, char **argv) {
  const char *preset = NULL, *length = NULL;
  bool json = false;
  tl_bench_step_options o = {.warmup = 3, .steps = 10, .finetune = !strcmp(argv[0], "finetune")};
  const tl_opt opts[] = {
      {"preset", 'p', TL_OPT_STR, &preset, "NAME", "begin with a preset"},
      {"steps", 0, TL_OPT_INT, &o.steps, "N", "timed steps (10)"},
      {"warmup", 0, TL_OPT_INT, &o.warmup, "N", "steps before them (3)"},
      {"lengths", 0, TL_OPT_STR, &length, "WHAT",
       "documents of these lengths: a file with a number of tokens on each line, or min:max"},
      {"profile", 0, TL_OPT_FLAG, &o.profile, NULL, "show where the time goes"},
      {"json", 0, TL_OPT_FLAG, &json, NULL, "print JSON, with the time of each step"},
      {0}};
  const tl_usage usage = {
      .name = o.finetune ? "bench finetune" : "bench step",
      .synopsis = "[options] [CONFIG.yaml] [section.key=value ...]",
      .summary =
          "Times training steps as `tilth train` would do them with the same configuration, on\n"
          "random tokens: no data, no disk, no evaluation, no snapshots. `tilth bench finetune`\n"
          "times a classifier's: train.batch documents a step, of at most train.seq_len tokens.\n"
          "A model of pictures (a piece is a picture) learns labels of random pictures, 32 x 32\n"
          "with three channels unless model.image_size and image.channels say otherwise.",
      .examples = "tilth bench step --preset gpt2 model.vocab=8192\n"
                  "tilth bench step --preset encoder-small model.vocab=8192 --lengths 5:128\n"
                  "tilth bench finetune --lengths 4:128 model.type=encoder model.vocab=8192\n"
                  "tilth bench step --threads 1 --steps 20 --json model.dim=256\n"
                  "tilth bench step --preset resnet-cifar optim.type=adamw",
      .opts = opts,
      .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  tl_config *cfg = NULL;
  tl_ctx *ctx = NULL;
  lengths l = {0};
  if (o.steps < 1 || o.steps > MAX_STEPS || o.warmup < 0 || o.warmup > MAX_STEPS) {
    rc = tl_cli_usage_error(usage.name, "--steps takes 1 to %d, --warmup 0 to %d", MAX_STEPS,
                            MAX_STEPS);
  } else {
    tl_status s = tl_cli_load_config(preset, &args, &cfg, &err);
    if (s == TL_OK) s = get_lengths(length, &l, &err);
    if (s == TL_OK) s = tl_cli_make_ctx(cfg, &ctx, &err);
    o.lengths = l.item;
    o.n_lengths = l.n;
    rc = s == TL_OK ? run(cfg, ctx, &o, json) : tl_cli_fail(&err);
  }
  free(l.item);
  tl_ctx_free(ctx);
  tl_config_free(cfg);
  tl_cli_args_free(&args);
  return rc;
}
