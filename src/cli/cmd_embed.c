/* tilth embed: one vector per text, the nearest texts of a file, agreement with people. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/embed.h"
#include "tilth/npy.h"

typedef struct request {
  const char *data, *format, *columns, *out, *query, *sts;
  int64_t k;
  bool json, replace;
} request;

static tl_status embed_data(tl_embedder *e, const tl_task_data *d, float **x, tl_err *err) {
  size_t dim = (size_t)tl_embedder_dim(e);
  *x = malloc((d->n * dim + 1) * sizeof **x);
  if (!*x) return tl_fail(err, TL_NOMEM, "out of memory for %zu embeddings", d->n);
  return tl_embedder_run(e, (const char *const *)d->text, d->n, *x, err);
}

static void print_json(json_t *o) {
  json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(7));
  putchar('\n');
  json_decref(o);
}

static void print_vectors(const tl_task_data *d, const float *x, size_t dim) {
  for (size_t i = 0; i < d->n; i++) {
    json_t *values = json_array();
    for (size_t c = 0; c < dim; c++)
      json_array_append_new(values, json_real((double)x[i * dim + c]));
    print_json(json_pack("{s:s, s:o}", "text", d->text[i], "embedding", values));
  }
}

static tl_status nearest(tl_embedder *e, const request *r, const tl_task_data *d, const float *x,
                         tl_err *err) {
  size_t dim = (size_t)tl_embedder_dim(e), k = (size_t)r->k < d->n ? (size_t)r->k : d->n;
  float *q = malloc(dim * sizeof *q);
  tl_neighbour *found = malloc((k + 1) * sizeof *found);
  tl_status s = q && found ? tl_embedder_run(e, &r->query, 1, q, err)
                           : tl_fail(err, TL_NOMEM, "out of memory");
  if (s == TL_OK) k = tl_nearest(x, d->n, dim, q, k, found);
  for (size_t i = 0; s == TL_OK && i < k; i++) {
    const char *t = d->text[found[i].index];
    unsigned line = d->line[found[i].index];
    if (r->json)
      print_json(json_pack("{s:f, s:I, s:s}", "cosine", found[i].cosine, "line", (json_int_t)line,
                           "text", t));
    else
      printf("%.4f  %6u  %s\n", found[i].cosine, line, t);
  }
  free(found);
  free(q);
  return s;
}

static tl_status texts(tl_embedder *e, const request *r, tl_err *err) {
  tl_task_data d = {0};
  tl_task_options o = {
      .kind = TL_TASK_TEXTS, .columns = r->columns, .replace_bad_utf8 = r->replace};
  float *x = NULL;
  tl_task_format_parse(r->format, &o.format);
  tl_status s = tl_task_read(r->data, &o, &d, err);
  if (s == TL_OK) s = embed_data(e, &d, &x, err);
  size_t dim = (size_t)tl_embedder_dim(e);
  if (s == TL_OK && r->out) {
    s = tl_npy_write(r->out, x, d.n, dim, err);
    if (s == TL_OK && !tl_cli_quiet())
      fprintf(stderr, "%zu embeddings of %zu numbers in %s\n", d.n, dim, r->out);
  }
  if (s == TL_OK && r->query)
    s = nearest(e, r, &d, x, err);
  else if (s == TL_OK && r->json)
    print_vectors(&d, x, dim);
  free(x);
  tl_task_data_free(&d);
  return s;
}

static tl_status similarity(tl_embedder *e, const request *r, tl_err *err) {
  tl_task_data d = {0};
  tl_scores scores;
  tl_task_options o = {.kind = TL_TASK_VALUE,
                       .columns = r->columns,
                       .extra_columns = true,
                       .replace_bad_utf8 = r->replace};
  tl_task_format_parse(r->format, &o.format);
  TL_TRY(tl_task_read(r->sts, &o, &d, err));
  tl_status s = tl_embedder_sts(e, &d, &scores, err);
  if (s == TL_OK && r->json) {
    json_t *all = tl_cli_scores_json(&scores);
    print_json(json_pack("{s:I, s:o}", "pairs", (json_int_t)d.n, "scores", all));
  } else if (s == TL_OK) {
    tl_cli_print_scores(NULL, &scores, stdout);
  }
  tl_task_data_free(&d);
  return s;
}

static tl_status check(const request *r, const tl_embed_options *o, tl_err *err) {
  tl_task_format format;
  const char *pool = o->pool, *dtype = o->dtype;
  if (!r->data && !r->sts)
    return tl_fail(err, TL_USAGE, "embed: --data FILE (texts) or --sts FILE (pairs) is needed");
  if (r->data && !r->out && !r->json && !r->query)
    return tl_fail(err, TL_USAGE,
                   "embed: what is to be done? --out X.npy, --json, or --query TEXT");
  if (!r->data && (r->out || r->query))
    return tl_fail(err, TL_USAGE, "embed: --out and --query need --data FILE");
  if (r->query && strspn(r->query, " \t\r\n") == strlen(r->query))
    return tl_fail(err, TL_USAGE, "embed: --query is empty");
  if (r->k < 1) return tl_fail(err, TL_USAGE, "embed: -k must be at least 1");
  if (!tl_task_format_parse(r->format, &format))
    return tl_fail(err, TL_USAGE, "embed: --format %s is unknown", r->format);
  if (pool && strcmp(pool, "mean") && strcmp(pool, "first") && strcmp(pool, "last"))
    return tl_fail(err, TL_USAGE, "embed: --pool must be mean, first or last");
  if (strcmp(dtype, "auto") && strcmp(dtype, "f32") && strcmp(dtype, "bf16"))
    return tl_fail(err, TL_USAGE, "embed: --dtype must be auto, f32 or bf16");
  return TL_OK;
}

int tl_cmd_embed(int argc, char **argv) {
  request r = {.format = "auto", .k = 5};
  tl_embed_options o = {.dtype = "auto"};
  const char *adapter = NULL;
  const tl_opt opts[] = {
      {"data", 0, TL_OPT_STR, &r.data, "FILE", "texts: one a line, or a table or JSON Lines"},
      {"out", 'o', TL_OPT_STR, &r.out, "X.npy", "write the vectors as a NumPy array"},
      {"query", 0, TL_OPT_STR, &r.query, "TEXT", "print the texts nearest to this one"},
      {"neighbours", 'k', TL_OPT_INT, &r.k, "N", "how many of them (default 5)"},
      {"sts", 0, TL_OPT_STR, &r.sts, "FILE",
       "pairs with a similarity (STS-B): correlations with the cosines"},
      {"json", 0, TL_OPT_FLAG, &r.json, NULL, "JSON, one object a line"},
      {"pool", 0, TL_OPT_STR, &o.pool, "HOW",
       "mean, first, last (default: as the folder's files say, else mean)"},
      {"raw", 0, TL_OPT_FLAG, &o.raw, NULL, "keep the vectors' lengths (default: length 1)"},
      {"max-len", 0, TL_OPT_INT, &o.max_len, "N",
       "tokens per text (default: the model's, at most 512)"},
      {"dtype", 0, TL_OPT_STR, &o.dtype, "T", "auto, f32, bf16"},
      {"format", 0, TL_OPT_STR, &r.format, "F", "lines, tsv, csv, jsonl (default: by the name)"},
      {"columns", 0, TL_OPT_STR, &r.columns, "LIST",
       "text=NAME; for --sts text=NAME,text_b=NAME,label=NAME"},
      {"replace-bad-utf8", 0, TL_OPT_FLAG, &r.replace, NULL, "read ill-formed bytes as U+FFFD"},
      {"adapter", 0, TL_OPT_STR, &adapter, "DIR", TL_ADAPTER_HELP},
      {0}};
  const tl_usage usage = {
      .name = "embed",
      .synopsis = "MODEL --data FILE (--out X.npy | --json | --query TEXT) | MODEL --sts FILE",
      .summary = "Turns texts into vectors whose cosine tells how alike they are; finds the texts\n"
                 "of a file that are nearest to another; measures the agreement with people.\n"
                 "Better vectors: tilth finetune --task simcse.",
      .examples = "tilth embed MODEL --data sentences.txt --out vectors.npy\n"
                  "tilth embed MODEL --data sentences.txt --query \"a man plays a flute\" -k 3\n"
                  "tilth embed MODEL --sts stsb/dev.tsv",
      .opts = opts,
      .min_args = 1,
      .max_args = 1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  tl_ctx *ctx = NULL;
  tl_embedder *e = NULL;
  tl_status s = check(&r, &o, &err);
  if (s == TL_OK) s = tl_cli_make_ctx(NULL, &ctx, &err);
  if (s == TL_OK) s = tl_embedder_open(ctx, tl_cli_model(&args, adapter), &o, &e, &err);
  if (s == TL_OK && r.data) s = texts(e, &r, &err);
  if (s == TL_OK && r.sts) s = similarity(e, &r, &err);
  rc = s == TL_OK ? 0 : tl_cli_fail(&err);
  tl_embedder_free(e);
  tl_ctx_free(ctx);
  tl_cli_args_free(&args);
  return rc;
}
