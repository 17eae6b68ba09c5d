/* Which labels a model gets right, which it takes for each other, and how sure it is. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/entity.h"
#include "eval/mask_metrics.h"
#include "eval/metrics.h"
#include "transfer/task.h"

_Static_assert((int)TL_CALIBRATION_BINS == (int)TL_ECE_BINS, "one calibration table");

static tl_label_score score_of(const char *name, const tl_prf *p) {
  return (tl_label_score){.name = name,
                          .precision = p->precision,
                          .recall = p->recall,
                          .f1 = p->f1,
                          .iou = NAN,
                          .correct = p->correct,
                          .predicted = p->predicted,
                          .actual = p->actual};
}

static tl_status no_memory(tl_err *err) {
  return tl_fail(err, TL_NOMEM, "details of the predictions: out of memory");
}

static tl_status make_bins(const tl_task_data *d, const tl_predictions *p, tl_details *out,
                           tl_err *err) {
  double *confidence = malloc((d->n + 1) * sizeof *confidence);
  uint8_t *right = malloc(d->n + 1);
  tl_reliability_bin bin[TL_ECE_BINS];
  out->bin = calloc(TL_ECE_BINS, sizeof *out->bin);
  tl_status s = confidence && right && out->bin ? TL_OK : no_memory(err);
  for (size_t i = 0; s == TL_OK && i < d->n; i++) {
    double x = (double)p->output[i * (size_t)p->n_outputs + (size_t)p->label[i]];
    confidence[i] = x > 1 ? 1 : x;
    right[i] = p->label[i] == d->label[i];
  }
  if (s == TL_OK) s = tl_reliability(confidence, right, NULL, d->n, bin, TL_ECE_BINS, err);
  for (int i = 0; s == TL_OK && i < TL_ECE_BINS; i++)
    out->bin[i] = (tl_calibration_bin){bin[i].n, bin[i].confidence, bin[i].accuracy};
  free(confidence);
  free(right);
  return s;
}

static tl_status of_classes(const tl_task_data *d, const tl_predictions *p, tl_prf *prf,
                            tl_details *out, tl_err *err) {
  size_t k = out->n_labels;
  out->confusion = calloc(k * k, sizeof *out->confusion);
  if (!out->confusion) return no_memory(err);
  TL_TRY(tl_confusion_count(d->label, p->label, NULL, d->n, k, out->confusion, err));
  tl_confusion_prf(out->confusion, k, prf);
  return make_bins(d, p, out, err);
}

static tl_status of_labels(const tl_task_data *d, const tl_predictions *p, tl_prf *prf,
                           tl_details *out, tl_err *err) {
  size_t k = out->n_labels;
  uint8_t *truth = calloc(d->n * k + 1, 1), *pred = malloc(d->n * k + 1);
  tl_status s = truth && pred ? TL_OK : no_memory(err);
  if (s == TL_OK) {
    for (size_t i = 0; i < d->n * k; i++) pred[i] = p->output[i] > 0.5f;
    for (size_t i = 0; i < d->n; i++)
      for (size_t j = d->first[i]; j < d->first[i + 1]; j++) truth[i * k + (size_t)d->item[j]] = 1;
    s = tl_multilabel_prf(truth, pred, NULL, d->n, k, prf, err);
  }
  free(truth);
  free(pred);
  return s;
}

static tl_status labelled(const tl_task_data *d, const tl_predictions *p, tl_details *out,
                          tl_err *err) {
  out->n_labels = (size_t)d->labels.n;
  tl_prf *prf = calloc(out->n_labels + 1, sizeof *prf);
  out->label = calloc(out->n_labels + 1, sizeof *out->label);
  tl_status s = prf && out->label ? TL_OK : no_memory(err);
  if (s == TL_OK)
    s = d->kind == TL_TASK_CLASS ? of_classes(d, p, prf, out, err) : of_labels(d, p, prf, out, err);
  for (size_t i = 0; s == TL_OK && i < out->n_labels; i++)
    out->label[i] = score_of(d->labels.name[i], &prf[i]);
  free(prf);
  return s;
}

static tl_status fill_entities(const tl_entity_tally *t, tl_details *out, tl_err *err) {
  size_t n = tl_entity_tally_types(t), bytes = 0;
  for (size_t i = 0; i < n; i++) bytes += strlen(tl_entity_tally_type(t, i)) + 1;
  tl_prf *prf = calloc(n + 1, sizeof *prf);
  out->label = calloc(n + 1, sizeof *out->label);
  out->names = malloc(bytes + 1);
  tl_status s = prf && out->label && out->names ? TL_OK : no_memory(err);
  if (s == TL_OK) {
    out->n_labels = n;
    tl_entity_scores(t, NULL, 0, prf);
    char *at = out->names;
    for (size_t i = 0; i < n; i++) {
      const char *name = strcpy(at, tl_entity_tally_type(t, i));
      out->label[i] = score_of(name, &prf[i]);
      at += strlen(name) + 1;
    }
  }
  free(prf);
  return s;
}

static tl_status of_entities(const tl_task_data *d, const tl_predictions *p, tl_details *out,
                             tl_err *err) {
  size_t words = d->first[d->n];
  const char **truth = malloc((words + 1) * sizeof *truth);
  const char **pred = malloc((words + 1) * sizeof *pred);
  tl_entity_tally *tally = NULL;
  tl_status s = truth && pred ? TL_OK : no_memory(err);
  if (s == TL_OK) {
    for (size_t w = 0; w < words; w++) {
      truth[w] = d->labels.name[d->item[w]];
      pred[w] = d->labels.name[p->label[w]];
    }
    tl_tagged a = {truth, d->first, d->n}, b = {pred, d->first, d->n};
    s = tl_entity_tally_new(&a, &b, TL_TAGS_TOLERANT, &tally, err);
  }
  if (s == TL_OK) s = fill_entities(tally, out, err);
  tl_entity_tally_free(tally);
  free((void *)(uintptr_t)truth);
  free((void *)(uintptr_t)pred);
  return s;
}

/* Precision, recall and F1 of pixels. */
static tl_status of_masks(const tl_task_data *d, const tl_predictions *p, tl_details *out,
                          tl_err *err) {
  size_t k = out->n_labels = (size_t)p->n_outputs;
  out->label = calloc(k + 1, sizeof *out->label);
  out->confusion = malloc(k * k * sizeof *out->confusion);
  if (!out->label || !out->confusion) return no_memory(err);
  memcpy(out->confusion, p->confusion, k * k * sizeof *out->confusion);
  double iou[TL_MASK_MOST];
  tl_mask_iou(p->pixels, k, NULL, p->n, iou);
  for (size_t c = 0; c < k; c++) {
    size_t sum[TL_PIXELS_N] = {0};
    for (size_t i = 0; i < p->n; i++)
      for (size_t j = 0; j < TL_PIXELS_N; j++) sum[j] += p->pixels[(i * k + c) * TL_PIXELS_N + j];
    tl_prf prf =
        tl_prf_of_counts(sum[TL_PIXELS_RIGHT], sum[TL_PIXELS_PREDICTED], sum[TL_PIXELS_TRUE]);
    out->label[c] = score_of(d->labels.name[c], &prf);
    out->label[c].iou = iou[c];
  }
  return TL_OK;
}

tl_status tl_details_make(const tl_task_data *d, const tl_predictions *p, tl_details *out,
                          tl_err *err) {
  *out = (tl_details){0};
  tl_status s = TL_OK;
  if (p->pixels)
    s = of_masks(d, p, out, err);
  else if (d->kind == TL_TASK_CLASS || d->kind == TL_TASK_MULTI)
    s = labelled(d, p, out, err);
  else if (d->kind == TL_TASK_TOKENS)
    s = of_entities(d, p, out, err);
  if (s != TL_OK) tl_details_free(out);
  return s;
}

void tl_details_free(tl_details *d) {
  free(d->label);
  free(d->confusion);
  free(d->bin);
  free(d->names);
  *d = (tl_details){0};
}

static json_t *confusion_json(const tl_details *d) {
  json_t *rows = json_array();
  for (size_t i = 0; i < d->n_labels; i++) {
    json_t *row = json_array();
    for (size_t k = 0; k < d->n_labels; k++)
      json_array_append_new(row, json_integer((json_int_t)d->confusion[i * d->n_labels + k]));
    json_array_append_new(rows, row);
  }
  return rows;
}

static json_t *bins_json(const tl_details *d) {
  json_t *list = json_array();
  for (int i = 0; i < TL_CALIBRATION_BINS; i++)
    json_array_append_new(
        list, json_pack("{s:f, s:f, s:I, s:f, s:f}", "from", (double)i / TL_CALIBRATION_BINS, "to",
                        (double)(i + 1) / TL_CALIBRATION_BINS, "n", (json_int_t)d->bin[i].n,
                        "confidence", d->bin[i].confidence, "accuracy", d->bin[i].accuracy));
  return list;
}

char *tl_details_json(const tl_details *d) {
  json_t *doc = json_object(), *labels = json_array();
  for (size_t i = 0; i < d->n_labels; i++) {
    const tl_label_score *l = &d->label[i];
    json_t *o =
        json_pack("{s:s, s:f, s:f, s:f, s:I, s:I, s:I}", "label", l->name, "precision",
                  l->precision, "recall", l->recall, "f1", l->f1, "correct", (json_int_t)l->correct,
                  "predicted", (json_int_t)l->predicted, "actual", (json_int_t)l->actual);
    if (!isnan(l->iou)) json_object_set_new(o, "iou", json_real(l->iou));
    json_array_append_new(labels, o);
  }
  json_object_set_new(doc, "labels", labels);
  if (d->confusion) json_object_set_new(doc, "confusion", confusion_json(d));
  if (d->bin) json_object_set_new(doc, "calibration", bins_json(d));
  char *text = json_dumps(doc, JSON_COMPACT | JSON_REAL_PRECISION(9));
  json_decref(doc);
  return text;
}
