/* tilth predict: a fine-tuned model on new records or pictures; scores when they carry their
 * labels. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/predict.h"

/* What is printed: records with their predictions, and, scored, how good they are. */
typedef struct answer {
  const tl_predictor *p;
  const tl_task_data *d;
  tl_predictions out;
  bool scored, json;
  tl_scores scores;
  tl_details details;
  FILE *f;
} answer;

/* The labels above one half, as names with commas between. */
static void print_labels(FILE *f, const tl_labels *l, const float *p) {
  const char *comma = "";
  for (int32_t k = 0; k < l->n; k++)
    if (p[k] > 0.5f) {
      fprintf(f, "%s%s", comma, l->name[k]);
      comma = ",";
    }
}

/* Of the label that was predicted. */
static double probability(const tl_predictions *p, size_t row) {
  return (double)p->output[row * (size_t)p->n_outputs + (size_t)p->label[row]];
}

/* The part of picture i's pixels (those without a class left out) that is predicted as class k. */
static double part(const tl_predictions *out, size_t i, size_t k) {
  const uint64_t *x = out->pixels + i * (size_t)out->n_outputs * 3;
  double all = 0;
  for (size_t c = 0; c < (size_t)out->n_outputs; c++) all += (double)x[3 * c + 1];
  return all > 0 ? (double)x[3 * k + 1] / all : 0;
}

static void print_plain(const answer *a) {
  const tl_labels *l = tl_predictor_labels(a->p);
  tl_task_kind kind = tl_predictor_kind(a->p);
  const tl_task_data *d = a->d;
  const tl_predictions *out = &a->out;
  for (size_t i = 0; out->pixels && i < d->n; i++)
    fprintf(a->f, "%s\t%s\n", out->text[i], d->text[i]);
  for (size_t i = 0, row = 0; !out->pixels && i < d->n; i++) {
    if (kind == TL_TASK_TOKENS) {
      const char *word = d->text[i];
      for (size_t w = d->first[i]; w < d->first[i + 1]; w++, row++, word = tl_task_next_word(word))
        fprintf(a->f, "%s\t%.4f\t%s\n", word, probability(out, row), l->name[out->label[row]]);
      fputc('\n', a->f);
      continue;
    }
    const float *x = out->output + row * (size_t)out->n_outputs;
    if (kind == TL_TASK_VALUE)
      fprintf(a->f, "%.6g\t%s\n", (double)x[0], d->text[i]);
    else if (kind == TL_TASK_MULTI) {
      print_labels(a->f, l, x);
      fprintf(a->f, "\t%s\n", d->text[i]);
    } else
      fprintf(a->f, "%s\t%.4f\t%s\n", l->name[out->label[row]], probability(out, row), d->text[i]);
    row++;
  }
}

static json_t *probabilities(const tl_labels *l, const float *x) {
  json_t *o = json_object();
  for (int32_t k = 0; k < l->n; k++) json_object_set_new(o, l->name[k], json_real((double)x[k]));
  return o;
}

static json_t *record_json(const answer *a, size_t i, size_t *row) {
  const tl_labels *l = tl_predictor_labels(a->p);
  tl_task_kind kind = tl_predictor_kind(a->p);
  const tl_task_data *d = a->d;
  const tl_predictions *out = &a->out;
  json_t *o = json_object();
  if (kind == TL_TASK_TOKENS) {
    json_t *words = json_array(), *tags = json_array(), *sure = json_array();
    const char *word = d->text[i];
    for (size_t w = d->first[i]; w < d->first[i + 1]; w++, word = tl_task_next_word(word)) {
      json_array_append_new(words, json_string(word));
      json_array_append_new(sure, json_real(probability(out, *row)));
      json_array_append_new(tags, json_string(l->name[out->label[(*row)++]]));
    }
    json_object_set_new(o, "tokens", words);
    json_object_set_new(o, "tags", tags);
    json_object_set_new(o, "probabilities", sure);
    return o;
  }
  if (out->pixels) {
    json_t *parts = json_object();
    for (int32_t k = 0; k < l->n; k++)
      json_object_set_new(parts, l->name[k], json_real(part(out, i, (size_t)k)));
    return json_pack("{s:s, s:s, s:o}", "image", d->text[i], "mask", out->text[i], "parts", parts);
  }
  const float *x = out->output + *row * (size_t)out->n_outputs;
  const char *key = tl_predictor_reads_images(a->p) ? "image" : "text";
  json_object_set_new(o, key, json_string(d->text[i]));
  if (d->text_b) json_object_set_new(o, "text_b", json_string(d->text_b[i]));
  if (kind == TL_TASK_VALUE)
    json_object_set_new(o, "value", json_real((double)x[0]));
  else
    json_object_set_new(o, "probabilities", probabilities(l, x));
  if (kind == TL_TASK_CLASS)
    json_object_set_new(o, "label", json_string(l->name[out->label[*row]]));
  (*row)++;
  return o;
}

static void print_object(json_t *o, int digits, FILE *f) {
  json_dumpf(o, f, JSON_COMPACT | JSON_REAL_PRECISION(digits));
  fputc('\n', f);
  json_decref(o);
}

/* One JSON object a record, then, with scores, one that holds them. */
static void print_json(const answer *a) {
  for (size_t i = 0, row = 0; i < a->d->n; i++) print_object(record_json(a, i, &row), 7, a->f);
  if (!a->scored) return;
  json_t *o = json_pack("{s:o}", "scores", tl_cli_scores_json(&a->scores));
  char *text = tl_details_json(&a->details);
  if (text) json_object_set_new(o, "details", json_loads(text, 0, NULL));
  free(text);
  print_object(o, 9, a->f);
}

/* More labels than this make no readable table of confusions. */
enum { MAX_CONFUSION = 20 };

static void print_details(const tl_details *t, bool masks) {
  if (t->n_labels == 0) return;
  fprintf(stderr, "\n%-20s %9s %9s %9s%s %9s\n", "label", "precision", "recall", "f1",
          masks ? "       iou" : "", "true");
  for (size_t i = 0; i < t->n_labels; i++) {
    const tl_label_score *l = &t->label[i];
    fprintf(stderr, "%-20s %9.4f %9.4f %9.4f", l->name, l->precision, l->recall, l->f1);
    if (masks) fprintf(stderr, " %9.4f", l->iou);
    fprintf(stderr, " %9zu\n", l->actual);
  }
  if (t->confusion && t->n_labels <= MAX_CONFUSION) {
    fprintf(stderr, "\n%-20s predicted:", "true");
    for (size_t k = 0; k < t->n_labels; k++) fprintf(stderr, " %9.9s", t->label[k].name);
    for (size_t i = 0; i < t->n_labels; i++) {
      fprintf(stderr, "\n%-31s", t->label[i].name);
      for (size_t k = 0; k < t->n_labels; k++)
        fprintf(stderr, " %9zu", t->confusion[i * t->n_labels + k]);
    }
    fputc('\n', stderr);
  }
  if (!t->bin) return;
  fprintf(stderr, "\n%-12s %9s %11s %9s\n", "probability", "records", "mean", "right");
  for (int i = 0; i < TL_CALIBRATION_BINS; i++)
    if (t->bin[i].n)
      fprintf(stderr, "%.2f .. %.2f %9zu %11.4f %9.4f\n", (double)i / TL_CALIBRATION_BINS,
              (double)(i + 1) / TL_CALIBRATION_BINS, t->bin[i].n, t->bin[i].confidence,
              t->bin[i].accuracy);
}

/* To stdout, or to the file in one piece. */
static tl_status print_answer(answer *a, const char *path, tl_err *err) {
  a->f = path ? fopen(path, "w") : stdout;
  if (!a->f)
    return tl_fail(err, errno == EACCES ? TL_PERM : TL_CREATE, "%s: %s", path, strerror(errno));
  if (a->json)
    print_json(a);
  else
    print_plain(a);
  if (path && (ferror(a->f) | fclose(a->f)))
    return tl_fail(err, TL_IO, "%s: cannot be written: %s", path, strerror(errno));
  if (!a->json && a->scored) {
    tl_cli_print_scores(NULL, &a->scores, stderr);
    print_details(&a->details, a->out.pixels != NULL);
  }
  return TL_OK;
}

typedef struct request {
  const char *data, *out, *format, *columns, *dtype, *bad, *names;
  bool json, replace, unlabelled;
} request;

static tl_status predict_texts(tl_predictor *p, const request *r, answer *a, tl_task_data *d,
                               tl_err *err) {
  tl_task_options o = {.kind = tl_predictor_kind(p),
                       .columns = r->columns,
                       .replace_bad_utf8 = r->replace,
                       .unlabelled = r->unlabelled};
  if (!tl_task_format_parse(r->format, &o.format))
    return tl_fail(err, TL_USAGE, "predict: --format %s is unknown", r->format);
  if (a->scored && o.kind != TL_TASK_VALUE) o.labels = tl_predictor_labels(p);
  a->d = d;
  TL_TRY(tl_task_read(r->data, &o, d, err));
  return tl_predictor_run(p, d, &a->out, a->scored ? &a->scores : NULL, err);
}

/* Masks become files, and what is printed says where they are. */
static tl_status predict_masks(tl_predictor *p, const request *r, answer *a, tl_image_data *d,
                               tl_err *err) {
  const tl_cli_images how = {.format = r->format,
                             .bad = r->bad,
                             .unlabelled = r->unlabelled,
                             .labels = a->scored ? tl_predictor_labels(p) : NULL,
                             .masks = tl_predictor_masks(p)};
  a->d = &d->records;
  if (!r->out) return tl_fail(err, TL_USAGE, "predict: masks are files: name their folder with -o");
  TL_TRY(tl_cli_read_images(r->data, &how, d, err));
  return tl_predictor_run_masks(p, d, r->out, &a->out, a->scored ? &a->scores : NULL, err);
}

static tl_status predict_images(tl_predictor *p, const request *r, answer *a, tl_image_data *d,
                                tl_err *err) {
  const tl_cli_images how = {.format = r->format,
                             .bad = r->bad,
                             .unlabelled = r->unlabelled,
                             .several = tl_predictor_kind(p) == TL_TASK_MULTI,
                             .labels = a->scored ? tl_predictor_labels(p) : NULL};
  a->d = &d->records;
  TL_TRY(tl_cli_read_images(r->data, &how, d, err));
  if (a->scored && !d->records.labels.n)
    return tl_fail(err, TL_DATA, "%s: pictures without labels; add --unlabelled", r->data);
  return tl_predictor_run_images(p, d, &a->out, a->scored ? &a->scores : NULL, err);
}

static tl_status predict(tl_predictor *p, const request *r, tl_err *err) {
  answer a = {.p = p, .scored = !r->unlabelled, .json = r->json};
  tl_task_data texts = {0};
  tl_image_data images = {0};
  bool masks = tl_predictor_masks(p) != NULL;
  tl_status s = masks                          ? predict_masks(p, r, &a, &images, err)
                : tl_predictor_reads_images(p) ? predict_images(p, r, &a, &images, err)
                                               : predict_texts(p, r, &a, &texts, err);
  if (s == TL_OK && a.scored) s = tl_details_make(a.d, &a.out, &a.details, err);
  if (s == TL_OK) s = print_answer(&a, masks ? NULL : r->out, err);
  tl_details_free(&a.details);
  tl_predictions_free(&a.out);
  tl_task_data_free(&texts);
  tl_image_data_free(&images);
  return s;
}

static tl_status check(request *r, tl_err *err) {
  if (!r->data && r->unlabelled) r->data = "-";
  if (!r->data) return tl_fail(err, TL_USAGE, "predict: --data FILE is needed");
  if (strcmp(r->dtype, "auto") && strcmp(r->dtype, "f32") && strcmp(r->dtype, "bf16"))
    return tl_fail(err, TL_USAGE, "predict: --dtype must be auto, f32 or bf16");
  return TL_OK;
}

/* "cat,dog,a red car" */
static tl_status open_names(tl_ctx *ctx, const char *model, const char *list, tl_predictor **out,
                            tl_err *err) {
  size_t n = 0, most = 1;
  for (const char *c = list; *c; c++) most += *c == ',';
  char *copy = strdup(list);
  const char **name = malloc(most * sizeof *name);
  tl_status s = copy && name ? TL_OK : tl_fail(err, TL_NOMEM, "predict: out of memory");
  for (char *at = copy, *end; s == TL_OK && at; at = end) {
    if ((end = strchr(at, ','))) *end++ = 0;
    name[n++] = at + strspn(at, " ");
  }
  if (s == TL_OK) s = tl_predictor_open_names(ctx, model, name, n, out, err);
  free(copy);
  free(name);
  return s;
}

static tl_status open_model(tl_ctx *ctx, const char *model, const request *r, int64_t max_len,
                            tl_predictor **out, tl_err *err) {
  if (r->names) return open_names(ctx, model, r->names, out, err);
  return tl_predictor_open(ctx, model, r->dtype, max_len, out, err);
}

static tl_status run(const char *model, request *r, int64_t max_len, tl_err *err) {
  tl_ctx *ctx = NULL;
  tl_predictor *p = NULL;
  TL_TRY(check(r, err));
  TL_TRY(tl_cli_make_ctx(NULL, &ctx, err));
  tl_status s = open_model(ctx, model, r, max_len, &p, err);
  if (s == TL_OK) s = predict(p, r, err);
  tl_predictor_free(p);
  tl_ctx_free(ctx);
  return s;
}

int tl_cmd_predict(int argc, char **argv) {
  request r = {.format = "auto", .dtype = "auto", .bad = "stop"};
  int64_t max_len = 0;
  const char *adapter = NULL;
  const tl_opt opts[] = {
      {"data", 0, TL_OPT_STR, &r.data, "FILE",
       "records or pictures with their labels; with --unlabelled without (default then: -, "
       "standard input)"},
      {"unlabelled", 0, TL_OPT_FLAG, &r.unlabelled, NULL,
       "a text a line (tokens: words between blanks), or a table or CoNLL columns without labels; "
       "pictures whose folders are no classes"},
      {"out", 'o', TL_OPT_STR, &r.out, "FILE",
       "write the predictions there (default: stdout); classes of pixels: folder of their masks"},
      {"format", 0, TL_OPT_STR, &r.format, "F",
       "tsv, csv, jsonl, conll, ...; pictures: " TL_IMAGE_FORMATS " (default: by the name)"},
      {"columns", 0, TL_OPT_STR, &r.columns, "LIST", "text=NAME,text_b=NAME,label=NAME"},
      {"replace-bad-utf8", 0, TL_OPT_FLAG, &r.replace, NULL, "read ill-formed bytes as U+FFFD"},
      {"bad", 0, TL_OPT_STR, &r.bad, "POLICY", TL_IMAGE_BAD_HELP},
      {"max-len", 0, TL_OPT_INT, &max_len, "N",
       "tokens per text (default: the model's, at most 512)"},
      {"dtype", 0, TL_OPT_STR, &r.dtype, "T", "auto, f32, bf16"},
      {"json", 0, TL_OPT_FLAG, &r.json, NULL, "one JSON object a record, then one of scores"},
      {"names", 0, TL_OPT_STR, &r.names, "LIST",
       "pictures, with a model of objective.type=clip: classes by their names alone, with commas "
       "between (computed in f32)"},
      {"adapter", 0, TL_OPT_STR, &adapter, "DIR", TL_ADAPTER_HELP},
      {0}};
  const tl_usage usage = {
      .name = "predict",
      .synopsis = "MODEL --data FILE [--unlabelled] [-o FILE] [options]",
      .summary =
          "Predicts labels, tags or values of texts, labels of pictures or of their pixels, with a "
          "model made by\n"
          "tilth finetune or by Hugging Face's libraries, each with its probability. Where the "
          "records have labels, scores "
          "with\n"
          "95 % intervals, each label's scores, confusions and calibration go to stderr.",
      .examples = "tilth predict runs/sst/model --data test.tsv\n"
                  "echo 'a fine film' | tilth predict runs/sst/model --unlabelled\n"
                  "tilth predict runs/ner/model --data test.conll --json > tags.jsonl\n"
                  "tilth predict runs/fashion/model --data t10k-images-idx3-ubyte.gz\n"
                  "tilth predict runs/clip/model --data holiday/ --unlabelled --names cat,dog,car\n"
                  "tilth predict runs/segment-camvid/model --data camvid.tar,val -o masks",
      .opts = opts,
      .min_args = 1,
      .max_args = 1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  rc = run(tl_cli_model(&args, adapter), &r, max_len, &err) == TL_OK ? 0 : tl_cli_fail(&err);
  tl_cli_args_free(&args);
  return rc;
}
