/* tilth prepare: text into token shards. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/dataset.h"
#include "tilth/suggest.h"
#include "tilth/text.h"
#include "tilth/tokenizer.h"

typedef struct choices {
  const char *tokenizer, *out, *text_key, *unit, *utf8, *split;
  double val_fraction;
  int64_t seed, shard_tokens;
  bool no_bos, no_eos, overwrite, json;
} choices;

static const char *const units[] = {"auto", "file", "line", "paragraph", "jsonl", NULL};
static const char *const policies[] = {"replace", "skip", "error", "keep", NULL};
static const char *const splits[] = {"document", "tail", NULL};

/* Index of `value` among the words of an option, or -1 after a usage error. */
static int choose(const char *option, const char *value, const char *const *words) {
  char list[128] = "";
  int n = 0;
  for (; words[n]; n++) {
    if (!strcmp(value, words[n])) return n;
    snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", n ? ", " : "", words[n]);
  }
  const char *near = tl_suggest(value, words, (size_t)n);
  if (near)
    tl_cli_usage_error("prepare", "--%s: unknown value '%s'; did you mean %s? (%s)", option, value,
                       near, list);
  else
    tl_cli_usage_error("prepare", "--%s: unknown value '%s'; expected one of: %s", option, value,
                       list);
  return -1;
}

/* Fills the options of reading and preparing; 0, or the exit code of a usage error. */
static int read_choices(const choices *c, tl_text_options *text, tl_prepare_options *o) {
  int unit = choose("unit", c->unit, units), utf8 = choose("utf8", c->utf8, policies);
  int split = choose("split", c->split, splits);
  if (unit < 0 || utf8 < 0 || split < 0) return tl_status_exit_code(TL_USAGE);
  if (!c->out) return tl_cli_usage_error("prepare", "--out DIR is missing: where the data will be");
  if (!c->tokenizer)
    return tl_cli_usage_error("prepare", "--tokenizer is missing: a folder, a tokenizer.json, or "
                                         "the word bytes for one token per byte");
  if (c->seed < 0) return tl_cli_usage_error("prepare", "--seed: expected a number from 0 up");
  if (c->shard_tokens < 1)
    return tl_cli_usage_error("prepare", "--shard-tokens: expected a number from 1 up");
  *text = (tl_text_options){
      .text_key = c->text_key, .unit = (tl_text_unit)unit, .utf8 = (tl_utf8_policy)utf8};
  *o = (tl_prepare_options){.val_fraction = c->val_fraction,
                            .split_tail = split == 1,
                            .seed = (uint64_t)c->seed,
                            .shard_tokens = (uint64_t)c->shard_tokens,
                            .add_bos = !c->no_bos,
                            .add_eos = !c->no_eos};
  return 0;
}

static void print_json(const tl_prepare_report *r, const tl_text_stats *t, uint64_t fingerprint) {
  printf("{\"schema_version\":1,\"fingerprint\":\"%016" PRIx64 "\"", fingerprint);
  for (int s = 0; s < TL_N_SPLITS; s++)
    printf(",\"%s\":{\"docs\":%" PRIu64 ",\"tokens\":%" PRIu64 ",\"bytes\":%" PRIu64 "}",
           s == TL_TRAIN ? "train" : "val", r->docs[s], r->tokens[s], r->bytes[s]);
  printf(",\"files\":%" PRIu64 ",\"bad_utf8\":%" PRIu64 ",\"skipped\":%" PRIu64
         ",\"empty\":%" PRIu64 ",\"cut\":%" PRIu64 ",\"seconds\":%.3f}\n",
         t->files, t->bad_utf8, t->skipped, t->empty, t->cut, r->seconds);
}

static void print_report(const tl_prepare_report *r, const tl_text_stats *t, uint64_t fingerprint,
                         const char *out) {
  printf("%-12s %12s %14s %14s %12s\n", "", "documents", "tokens", "bytes", "bytes/token");
  for (int s = 0; s < TL_N_SPLITS; s++)
    printf("%-12s %12" PRIu64 " %14" PRIu64 " %14" PRIu64 " %12.2f\n",
           s == TL_TRAIN ? "train" : "validation", r->docs[s], r->tokens[s], r->bytes[s],
           r->tokens[s] ? (double)r->bytes[s] / (double)r->tokens[s] : 0);
  double mb = (double)(r->bytes[0] + r->bytes[1]) * 1e-6;
  printf("%" PRIu64 " files, %.1f MB of text in %.1f s (%.1f MB/s), fingerprint %016" PRIx64 "\n",
         t->files, mb, r->seconds, r->seconds > 0 ? mb / r->seconds : 0, fingerprint);
  if (t->bad_utf8 || t->skipped || t->empty || t->cut)
    printf("with ill-formed UTF-8: %" PRIu64 ", left out for it: %" PRIu64 ", empty: %" PRIu64
           ", cut for their length: %" PRIu64 "\n",
           t->bad_utf8, t->skipped, t->empty, t->cut);
  printf("%s is ready: tilth train data.path=%s\n", out, out);
}

static tl_status fingerprint_of(const char *dir, uint64_t *out, tl_err *err) {
  tl_dataset *d = NULL;
  TL_TRY(tl_dataset_open(dir, false, &d, err));
  *out = tl_dataset_fingerprint(d);
  tl_dataset_close(d);
  return TL_OK;
}

static int run(const choices *c, const tl_cli_args *args) {
  tl_text_options text;
  tl_prepare_options o;
  int rc = read_choices(c, &text, &o);
  if (rc) return rc;
  tl_cli_catch_signals();
  tl_ctx_options co = tl_cli_ctx_options();
  tl_ctx *ctx = NULL;
  tl_text_reader *reader = NULL;
  tl_tokenizer *tok = NULL;
  tl_prepare_report report;
  tl_text_stats stats;
  uint64_t fingerprint = 0;
  tl_err err = {0};
  tl_status s = tl_ctx_new(&co, &ctx, &err);
  if (s == TL_OK) s = tl_tokenizer_open(ctx, c->tokenizer, &tok, &err);
  if (s == TL_OK) s = tl_text_open(args->item, args->n, &text, &reader, &err);
  if (s == TL_OK) s = tl_prepare(ctx, reader, tok, &o, c->out, c->overwrite, &report, &err);
  if (s == TL_OK) s = fingerprint_of(c->out, &fingerprint, &err);
  if (s == TL_OK) {
    tl_text_get_stats(reader, &stats);
    if (c->json)
      print_json(&report, &stats, fingerprint);
    else
      print_report(&report, &stats, fingerprint, c->out);
  }
  tl_text_close(reader);
  tl_tokenizer_free(tok);
  tl_ctx_free(ctx);
  return s == TL_OK ? 0 : tl_cli_fail(&err);
}

int tl_cmd_prepare(int argc, char **argv) {
  choices c = {.unit = "auto",
               .utf8 = "replace",
               .split = "document",
               .val_fraction = 0.005,
               .shard_tokens = 100000000};
  const tl_opt opts[] = {
      {"tokenizer", 't', TL_OPT_STR, &c.tokenizer, "PATH",
       "folder or tokenizer.json; bytes: one token per byte"},
      {"out", 'o', TL_OPT_STR, &c.out, "DIR", "folder to make"},
      {"unit", 'u', TL_OPT_STR, &c.unit, "UNIT",
       "what a document is: auto, file, line, paragraph, jsonl"},
      {"text-key", 0, TL_OPT_STR, &c.text_key, "KEY", "key of the text in JSON Lines (text)"},
      {"utf8", 0, TL_OPT_STR, &c.utf8, "POLICY",
       "ill-formed UTF-8: replace, skip (the document), error, keep"},
      {"val-fraction", 0, TL_OPT_DOUBLE, &c.val_fraction, "F",
       "part kept for validation (0.005; 0: none)"},
      {"split", 0, TL_OPT_STR, &c.split, "HOW",
       "document: by content, copies on one side; tail: the end of the text"},
      {"seed", 0, TL_OPT_INT, &c.seed, "N", "of the split by document (0)"},
      {"shard-tokens", 0, TL_OPT_INT, &c.shard_tokens, "N", "tokens per file (100000000)"},
      {"no-bos", 0, TL_OPT_FLAG, &c.no_bos, NULL, "no begin token before each document"},
      {"no-eos", 0, TL_OPT_FLAG, &c.no_eos, NULL, "no end token after each document"},
      {"overwrite", 0, TL_OPT_FLAG, &c.overwrite, NULL, "replace a dataset that exists"},
      {"json", 0, TL_OPT_FLAG, &c.json, NULL, "print the counts as JSON"},
      {0}};
  const tl_usage usage = {
      .name = "prepare",
      .synopsis = "--tokenizer PATH --out DIR [options] INPUT...",
      .summary = "Turns text into sealed token shards for training. Inputs are files, folders,\n"
                 "globs or - (standard input); gz, zst, xz, bz2, lz4, tar and zip are unpacked.\n"
                 "Exact copies of a document always fall on one side of the split.",
      .examples = "tilth prepare --tokenizer bytes --split tail --val-fraction 0.1 --out data/ts "
                  "input.txt\n"
                  "tilth prepare --tokenizer tok --out data/web 'crawl/*.jsonl.zst'\n"
                  "zcat reviews.gz | tilth prepare -t tok -o data/reviews --unit line -",
      .opts = opts,
      .min_args = 1,
      .max_args = -1};
  tl_cli_args args;
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  rc = run(&c, &args);
  tl_cli_args_free(&args);
  return rc;
}
