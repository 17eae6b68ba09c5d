/* tilth probe: nearest neighbours and a linear classifier on frozen features, beside baselines. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/probe.h"

typedef struct request {
  const char *data, *test, *format, *columns, *bad, *baselines;
  bool json, replace;
} request;

static void show(void *user, const char *line) {
  (void)user;
  tl_cli_progress("%s", line);
}

static void print_table(const tl_probe_result *r) {
  printf("%zu training records, %zu of them held out, %zu test records, %d classes\n", r->n_train,
         r->n_valid, r->n_test, r->n_classes);
  printf("%-9s %-7s %6s  %-26s %-28s %7s %8s\n", "features", "method", "dim", "accuracy (95 %)",
         "the model's gain (95 %)", "l2", "seconds");
  printf("%-9s %-7s %6s  %.4f\n", "none", "-", "-", r->majority);
  for (int i = 0; i < r->n; i++) {
    const tl_probe_row *w = &r->row[i];
    char gain[64] = "", l2[16] = "";
    if (!isnan(w->gain))
      snprintf(gain, sizeof gain, "%+.4f (%+.4f .. %+.4f)", w->gain, w->gain_lo, w->gain_hi);
    if (!isnan(w->l2)) snprintf(l2, sizeof l2, "%g", w->l2);
    printf("%-9s %-7s %6lld  %.4f (%.4f .. %.4f)   %-28s %7s %8.1f\n", w->features, w->method,
           (long long)w->dim, w->accuracy, w->lo, w->hi, gain, l2, w->seconds);
  }
}

static json_t *interval(double value, double lo, double hi) {
  return json_pack("{s:f, s:f, s:f}", "value", value, "low", lo, "high", hi);
}

static void print_json(const tl_probe_result *r) {
  json_t *rows = json_array();
  for (int i = 0; i < r->n; i++) {
    const tl_probe_row *w = &r->row[i];
    json_t *o = json_pack("{s:s, s:s, s:I, s:o, s:f}", "features", w->features, "method", w->method,
                          "dim", (json_int_t)w->dim, "accuracy",
                          interval(w->accuracy, w->lo, w->hi), "seconds", w->seconds);
    if (!isnan(w->gain)) json_object_set_new(o, "gain", interval(w->gain, w->gain_lo, w->gain_hi));
    if (!isnan(w->l2)) json_object_set_new(o, "l2", json_real(w->l2));
    json_array_append_new(rows, o);
  }
  json_t *o = json_pack("{s:I, s:I, s:I, s:i, s:f, s:o}", "train", (json_int_t)r->n_train, "valid",
                        (json_int_t)r->n_valid, "test", (json_int_t)r->n_test, "classes",
                        r->n_classes, "majority", r->majority, "rows", rows);
  json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(7));
  putchar('\n');
  json_decref(o);
}

static tl_status probe_images(tl_ctx *ctx, const char *dir, const request *r,
                              const tl_probe_options *o, tl_probe_result *out, tl_err *err) {
  tl_image_data part[2] = {0};
  tl_cli_images how = {.format = r->format, .bad = r->bad};
  tl_status s = tl_cli_read_images(r->data, &how, &part[0], err);
  if (s == TL_OK && !part[0].records.label)
    s = tl_fail(err, TL_DATA, "%s: pictures without labels", r->data);
  how.labels = &part[0].records.labels;
  if (s == TL_OK) s = tl_cli_read_images(r->test, &how, &part[1], err);
  if (s == TL_OK && !part[1].records.label)
    s = tl_fail(err, TL_DATA, "%s: pictures without labels", r->test);
  if (s == TL_OK) s = tl_probe_images(ctx, dir, &part[0], &part[1], o, out, err);
  tl_image_data_free(&part[0]);
  tl_image_data_free(&part[1]);
  return s;
}

static tl_status probe_texts(tl_ctx *ctx, const char *dir, const request *r,
                             const tl_probe_options *o, tl_probe_result *out, tl_err *err) {
  tl_task_data part[2] = {0};
  tl_task_options how = {.columns = r->columns, .replace_bad_utf8 = r->replace};
  if (!tl_task_format_parse(r->format, &how.format))
    return tl_fail(err, TL_USAGE, "probe: --format %s is unknown", r->format);
  tl_status s = tl_task_read(r->data, &how, &part[0], err);
  how.labels = &part[0].labels;
  if (s == TL_OK) s = tl_task_read(r->test, &how, &part[1], err);
  if (s == TL_OK) s = tl_probe_texts(ctx, dir, &part[0], &part[1], o, out, err);
  tl_task_data_free(&part[0]);
  tl_task_data_free(&part[1]);
  return s;
}

static tl_status check(const request *r, const tl_probe_options *o, tl_err *err) {
  if (!r->data || !r->test)
    return tl_fail(err, TL_USAGE, "probe: --data and --test are both needed");
  if (strcmp(o->dtype, "auto") && strcmp(o->dtype, "f32") && strcmp(o->dtype, "bf16"))
    return tl_fail(err, TL_USAGE, "probe: --dtype must be auto, f32 or bf16");
  if (o->neighbours < 1 || o->neighbours > 1024 || !(o->temperature > 0))
    return tl_fail(err, TL_USAGE, "probe: --neighbours from 1 to 1024, --temperature above 0");
  if (o->centroids < 2 || o->centroids > 16384 || o->pictures < 1)
    return tl_fail(err, TL_USAGE, "probe: --centroids from 2 to 16384, --patch-pictures from 1");
  if (o->labels < 0 || o->per_class < 0 || (o->labels > 0 && o->per_class > 0))
    return tl_fail(err, TL_USAGE, "probe: --labels or --per-class, from 1");
  const char *b = r->baselines;
  if (b && strcmp(b, "none") && strcmp(b, "random") && strcmp(b, "kmeans") && strcmp(b, "all"))
    return tl_fail(err, TL_USAGE, "probe: --baselines must be none, random, kmeans or all");
  return TL_OK;
}

static tl_status run(const char *dir, const request *r, tl_probe_options *o, tl_err *err) {
  tl_ctx *ctx = NULL;
  tl_probe_result result;
  bool images = false;
  TL_TRY(check(r, o, err));
  TL_TRY(tl_probe_reads_images(dir, &images, err));
  const char *b = r->baselines ? r->baselines : images ? "all" : "random";
  o->random = !strcmp(b, "random") || !strcmp(b, "all");
  o->kmeans = !strcmp(b, "kmeans") || (images && !strcmp(b, "all"));
  TL_TRY(tl_cli_make_ctx(NULL, &ctx, err));
  tl_status s = images ? probe_images(ctx, dir, r, o, &result, err)
                       : probe_texts(ctx, dir, r, o, &result, err);
  tl_cli_progress_end();
  if (s == TL_OK && r->json)
    print_json(&result);
  else if (s == TL_OK)
    print_table(&result);
  tl_ctx_free(ctx);
  return s;
}

static const char summary[] =
    "Tells what the features of a frozen model are worth: accuracy of the nearest "
    "neighbours'\n"
    "votes and of logistic regression on them, beside the same on a body of random weights\n"
    "and on k-means features of patches (Coates, Lee and Ng, 2011), with 95 % intervals and\n"
    "paired differences. The model's head, if it has one, is not looked at.";
static const char examples[] =
    "tilth probe runs/mae/model --data cifar10-train.tar --test cifar10-test.tar\n"
    "tilth probe runs/mae/model --data train/ --test test/ --per-class 50 --json\n"
    "tilth probe MODEL --data train.tsv --test test.tsv";

int tl_cmd_probe(int argc, char **argv) {
  request r = {.format = "auto", .bad = "stop"};
  tl_probe_options o = {.dtype = "auto",
                        .neighbours = 20,
                        .temperature = 0.07,
                        .centroids = 200,
                        .pictures = 5000,
                        .note = show};
  int64_t seed = 1;
  const char *adapter = NULL;
  const tl_opt opts[] = {
      {"data", 0, TL_OPT_STR, &r.data, "DATA", "labelled pictures or texts to learn from"},
      {"test", 0, TL_OPT_STR, &r.test, "DATA", "those that are counted on"},
      {"labels", 0, TL_OPT_DOUBLE, &o.labels, "N",
       "training records that are used, or a share below 1 (default: all)"},
      {"per-class", 0, TL_OPT_INT, &o.per_class, "N", "training records of each class"},
      {"seed", 0, TL_OPT_INT, &seed, "N",
       "which records these are, random weights, k-means (default 1)"},
      {"baselines", 0, TL_OPT_STR, &r.baselines, "WHICH",
       "none, random (a body of random weights), kmeans (of patches), all (default; texts: "
       "random)"},
      {"neighbours", 'k', TL_OPT_INT, &o.neighbours, "N", "that vote (default 20)"},
      {"temperature", 0, TL_OPT_DOUBLE, &o.temperature, "T",
       "votes are exp(cosine / T) (default 0.07)"},
      {"centroids", 0, TL_OPT_INT, &o.centroids, "N",
       "of k-means, with four features each (default 200)"},
      {"patch-pictures", 0, TL_OPT_INT, &o.pictures, "N",
       "training pictures that k-means takes patches from (default 5000)"},
      {"pool", 0, TL_OPT_STR, &o.pool, "HOW",
       "first (class token), mean; texts also last (default: as the model's head has it)"},
      {"max-len", 0, TL_OPT_INT, &o.max_len, "N",
       "tokens per text (default: the model's, at most 512)"},
      {"dtype", 0, TL_OPT_STR, &o.dtype, "T", "auto, f32, bf16"},
      {"format", 0, TL_OPT_STR, &r.format, "F",
       "tsv, csv, jsonl, ...; pictures: " TL_IMAGE_FORMATS " (default: by the name)"},
      {"columns", 0, TL_OPT_STR, &r.columns, "LIST", "text=NAME,label=NAME"},
      {"replace-bad-utf8", 0, TL_OPT_FLAG, &r.replace, NULL, "read ill-formed bytes as U+FFFD"},
      {"bad", 0, TL_OPT_STR, &r.bad, "POLICY", TL_IMAGE_BAD_HELP},
      {"json", 0, TL_OPT_FLAG, &r.json, NULL, "one JSON object"},
      {"adapter", 0, TL_OPT_STR, &adapter, "DIR", TL_ADAPTER_HELP},
      {0}};
  const tl_usage usage = {.name = "probe",
                          .synopsis = "MODEL --data TRAIN --test TEST [options]",
                          .summary = summary,
                          .examples = examples,
                          .opts = opts,
                          .min_args = 1,
                          .max_args = 1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  o.seed = (uint64_t)seed;
  rc = run(tl_cli_model(&args, adapter), &r, &o, &err) == TL_OK ? 0 : tl_cli_fail(&err);
  tl_cli_args_free(&args);
  return rc;
}
