/* tilth predict: a fine-tuned model on new records; scores when they carry their labels. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/predict.h"

/* The labels above one half, as names with commas between. */
static void print_labels(const tl_labels *l, const float *p) {
  const char *comma = "";
  for (int32_t k = 0; k < l->n; k++)
    if (p[k] > 0.5f) {
      printf("%s%s", comma, l->name[k]);
      comma = ",";
    }
}

/* Of the label that was predicted. */
static double probability(const tl_predictions *p, size_t row) {
  return (double)p->output[row * (size_t)p->n_outputs + (size_t)p->label[row]];
}

static void print_plain(const tl_predictor *p, const tl_task_data *d, const tl_predictions *out) {
  const tl_labels *l = tl_predictor_labels(p);
  tl_task_kind kind = tl_predictor_kind(p);
  for (size_t i = 0, row = 0; i < d->n; i++) {
    if (kind == TL_TASK_TOKENS) {
      const char *word = d->text[i];
      for (size_t w = d->first[i]; w < d->first[i + 1]; w++, row++, word = tl_task_next_word(word))
        printf("%s\t%.4f\t%s\n", word, probability(out, row), l->name[out->label[row]]);
      putchar('\n');
      continue;
    }
    const float *x = out->output + row * (size_t)out->n_outputs;
    if (kind == TL_TASK_VALUE)
      printf("%.6g\t%s\n", (double)x[0], d->text[i]);
    else if (kind == TL_TASK_MULTI) {
      print_labels(l, x);
      printf("\t%s\n", d->text[i]);
    } else
      printf("%s\t%.4f\t%s\n", l->name[out->label[row]], (double)x[out->label[row]], d->text[i]);
    row++;
  }
}

static json_t *probabilities(const tl_labels *l, const float *x) {
  json_t *o = json_object();
  for (int32_t k = 0; k < l->n; k++) json_object_set_new(o, l->name[k], json_real((double)x[k]));
  return o;
}

static json_t *record_json(const tl_predictor *p, const tl_task_data *d, const tl_predictions *out,
                           size_t i, size_t *row) {
  const tl_labels *l = tl_predictor_labels(p);
  tl_task_kind kind = tl_predictor_kind(p);
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
  const float *x = out->output + *row * (size_t)out->n_outputs;
  json_object_set_new(o, "text", json_string(d->text[i]));
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

/* One JSON object a record, then, with scores, one that holds them. */
static void print_json(const tl_predictor *p, const tl_task_data *d, const tl_predictions *out,
                       const tl_scores *scores, const tl_details *details) {
  for (size_t i = 0, row = 0; i < d->n; i++) {
    json_t *o = record_json(p, d, out, i, &row);
    json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(7));
    putchar('\n');
    json_decref(o);
  }
  if (!scores) return;
  json_t *o = json_pack("{s:o}", "scores", tl_cli_scores_json(scores));
  char *text = tl_details_json(details);
  if (text) json_object_set_new(o, "details", json_loads(text, 0, NULL));
  free(text);
  json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
  putchar('\n');
  json_decref(o);
}

/* More labels than this make no readable table of confusions. */
enum { MAX_CONFUSION = 20 };

static void print_details(const tl_details *t) {
  if (t->n_labels == 0) return;
  fprintf(stderr, "\n%-20s %9s %9s %9s %9s\n", "label", "precision", "recall", "f1", "true");
  for (size_t i = 0; i < t->n_labels; i++)
    fprintf(stderr, "%-20s %9.4f %9.4f %9.4f %9zu\n", t->label[i].name, t->label[i].precision,
            t->label[i].recall, t->label[i].f1, t->label[i].actual);
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

static tl_status predict(tl_predictor *p, const char *path, tl_task_options *o, bool json,
                         tl_err *err) {
  const bool scored = !o->unlabelled;
  tl_details details = {0};
  tl_task_data d = {0};
  tl_predictions out = {0};
  tl_scores scores = {0};
  o->kind = tl_predictor_kind(p);
  if (scored && o->kind != TL_TASK_VALUE) o->labels = tl_predictor_labels(p);
  tl_status s = tl_task_read(path, o, &d, err);
  if (s == TL_OK) s = tl_predictor_run(p, &d, &out, scored ? &scores : NULL, err);
  if (s == TL_OK && scored) s = tl_details_make(&d, &out, &details, err);
  if (s == TL_OK && json)
    print_json(p, &d, &out, scored ? &scores : NULL, &details);
  else if (s == TL_OK)
    print_plain(p, &d, &out);
  if (s == TL_OK && !json && scored) {
    tl_cli_print_scores(&scores, stderr);
    print_details(&details);
  }
  tl_details_free(&details);
  tl_predictions_free(&out);
  tl_task_data_free(&d);
  return s;
}

int tl_cmd_predict(int argc, char **argv) {
  const char *data = NULL, *format = "auto", *columns = NULL, *dtype = "auto";
  int64_t max_len = 0;
  bool json = false, replace = false, unlabelled = false;
  const char *adapter = NULL;
  const tl_opt opts[] = {
      {"data", 0, TL_OPT_STR, &data, "FILE",
       "records with their labels; with --unlabelled without (default then: -, standard input)"},
      {"unlabelled", 0, TL_OPT_FLAG, &unlabelled, NULL,
       "a text a line (tokens: words between blanks), or a table or CoNLL columns without labels"},
      {"format", 0, TL_OPT_STR, &format, "F", "tsv, csv, jsonl, conll, ... (default: by the name)"},
      {"columns", 0, TL_OPT_STR, &columns, "LIST", "text=NAME,text_b=NAME,label=NAME"},
      {"replace-bad-utf8", 0, TL_OPT_FLAG, &replace, NULL, "read ill-formed bytes as U+FFFD"},
      {"max-len", 0, TL_OPT_INT, &max_len, "N",
       "tokens per text (default: the model's, at most 512)"},
      {"dtype", 0, TL_OPT_STR, &dtype, "T", "auto, f32, bf16"},
      {"json", 0, TL_OPT_FLAG, &json, NULL, "one JSON object a record, then one of scores"},
      {"adapter", 0, TL_OPT_STR, &adapter, "DIR", TL_ADAPTER_HELP},
      {0}};
  const tl_usage usage = {
      .name = "predict",
      .synopsis = "MODEL --data FILE [--unlabelled] [options]",
      .summary =
          "Predicts labels, tags or values with a model made by tilth finetune or by Hugging\n"
          "Face's libraries, each with its probability. Where the records have labels, scores "
          "with\n"
          "95 % intervals, each label's scores, confusions and calibration go to stderr.",
      .examples = "tilth predict runs/sst/model --data test.tsv\n"
                  "echo 'a fine film' | tilth predict runs/sst/model --unlabelled\n"
                  "tilth predict runs/ner/model --data test.conll --json > tags.jsonl",
      .opts = opts,
      .min_args = 1,
      .max_args = 1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  tl_ctx *ctx = NULL;
  tl_predictor *p = NULL;
  tl_task_options o = {.columns = columns, .replace_bad_utf8 = replace, .unlabelled = unlabelled};
  tl_status s = TL_OK;
  if (!data && unlabelled) data = "-";
  if (!data)
    s = tl_fail(&err, TL_USAGE, "predict: --data FILE is needed");
  else if (!tl_task_format_parse(format, &o.format))
    s = tl_fail(&err, TL_USAGE, "predict: --format %s is unknown", format);
  else if (strcmp(dtype, "auto") && strcmp(dtype, "f32") && strcmp(dtype, "bf16"))
    s = tl_fail(&err, TL_USAGE, "predict: --dtype must be auto, f32 or bf16");
  if (s == TL_OK) s = tl_cli_make_ctx(NULL, &ctx, &err);
  if (s == TL_OK)
    s = tl_predictor_open(ctx, tl_cli_model(&args, adapter), dtype, max_len, &p, &err);
  if (s == TL_OK) s = predict(p, data, &o, json, &err);
  rc = s == TL_OK ? 0 : tl_cli_fail(&err);
  tl_predictor_free(p);
  tl_ctx_free(ctx);
  tl_cli_args_free(&args);
  return rc;
}
