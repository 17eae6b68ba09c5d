/* The scores of each task, with bootstrap intervals over its records. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/bleu.h"
#include "eval/entity.h"
#include "eval/mask_metrics.h"
#include "eval/metrics.h"
#include "eval/stats.h"
#include "transfer/task.h"

enum { RESAMPLES = 1000 };

/* What the metrics read; a task fills what its metrics need. */
typedef struct scorer {
  const tl_task_data *d;
  const tl_predictions *p;
  size_t n_outputs;
  size_t *matrix;   /* [n_outputs^2] */
  tl_prf *prf;      /* [max(n_outputs, types)] */
  double *prob;     /* [n][n_outputs] */
  double *column;   /* [n]: confidence, or the second class's probability */
  uint8_t *bits[2]; /* truth, prediction: [n][n_outputs] for several labels; correct (bits[0]) */
  double *value[2]; /* truth, prediction */
  const char **tag[2];
  size_t *offset;
  tl_entity_tally *tally;
  tl_bleu_counts *bleu; /* [n] of a translation */
  tl_chrf_counts *chrf;
} scorer;

typedef struct metric {
  const char *name;
  tl_metric_fn fn;
} metric;

/* --- one class per record ------------------------------------------------------------------- */

static const size_t *confusion(const size_t *index, size_t n, const scorer *s) {
  tl_err err;
  bool ok = tl_confusion_count(s->d->label, s->p->label, index, n, s->n_outputs, s->matrix, &err) ==
            TL_OK;
  return ok ? s->matrix : NULL;
}

static double accuracy(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  const size_t *m = confusion(index, n, s);
  return m ? tl_confusion_accuracy(m, s->n_outputs) : NAN;
}

static double balanced_accuracy(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  const size_t *m = confusion(index, n, s);
  return m ? tl_confusion_balanced_accuracy(m, s->n_outputs) : NAN;
}

static double matthews(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  const size_t *m = confusion(index, n, s);
  return m ? tl_confusion_matthews(m, s->n_outputs) : NAN;
}

static double class_f1_macro(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  const size_t *m = confusion(index, n, s);
  if (!m) return NAN;
  tl_confusion_prf(m, s->n_outputs, s->prf);
  return tl_prf_average(s->prf, s->n_outputs, TL_AVERAGE_MACRO, false).f1;
}

static double auc(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  double x = NAN;
  tl_err err;
  if (s->n_outputs == 2)
    tl_roc_auc(s->column, s->d->label, index, n, &x, &err);
  else
    tl_roc_auc_ovr(s->prob, s->d->label, index, n, s->n_outputs, &x, &err);
  return x;
}

static double calibration_error(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  tl_reliability_bin bins[TL_ECE_BINS];
  double *confidence = s->value[0];
  tl_err err;
  if (tl_reliability(confidence, s->bits[0], index, n, bins, TL_ECE_BINS, &err) != TL_OK)
    return NAN;
  return tl_expected_calibration_error(bins, TL_ECE_BINS);
}

static double brier(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  double x = NAN;
  tl_err err;
  tl_brier(s->prob, s->d->label, index, n, s->n_outputs, &x, &err);
  return x;
}

/* --- several labels per record ---------------------------------------------------------------- */

static double multi_f1(const size_t *index, size_t n, const scorer *s, tl_average how) {
  tl_err err;
  if (tl_multilabel_prf(s->bits[0], s->bits[1], index, n, s->n_outputs, s->prf, &err) != TL_OK)
    return NAN;
  return tl_prf_average(s->prf, s->n_outputs, how, true).f1;
}

static double multi_f1_micro(const size_t *index, size_t n, void *user) {
  return multi_f1(index, n, user, TL_AVERAGE_MICRO);
}

static double multi_f1_macro(const size_t *index, size_t n, void *user) {
  return multi_f1(index, n, user, TL_AVERAGE_MACRO);
}

static double subset_accuracy(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  return tl_multilabel_subset_accuracy(s->bits[0], s->bits[1], index, n, s->n_outputs);
}

/* --- values ----------------------------------------------------------------------------------- */

static double pearson(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  return tl_pearson(s->value[0], s->value[1], index, n);
}

static double spearman(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  double x = NAN;
  tl_err err;
  tl_spearman(s->value[0], s->value[1], index, n, &x, &err);
  return x;
}

static double squared_error(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  return tl_mean_squared_error(s->value[0], s->value[1], index, n);
}

/* --- tags ------------------------------------------------------------------------------------- */

static tl_prf entities(const size_t *index, size_t n, const scorer *s) {
  tl_entity_scores(s->tally, index, n, s->prf);
  return tl_prf_average(s->prf, tl_entity_tally_types(s->tally), TL_AVERAGE_MICRO, false);
}

static double entity_f1(const size_t *index, size_t n, void *user) {
  return entities(index, n, user).f1;
}

static double entity_precision(const size_t *index, size_t n, void *user) {
  return entities(index, n, user).precision;
}

static double entity_recall(const size_t *index, size_t n, void *user) {
  return entities(index, n, user).recall;
}

static double tag_accuracy(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  size_t right = 0, words = 0;
  for (size_t i = 0; i < n; i++) {
    size_t r = index ? index[i] : i;
    for (size_t w = s->d->first[r]; w < s->d->first[r + 1]; w++) {
      right += s->d->item[w] == s->p->label[w];
      words++;
    }
  }
  return words ? (double)right / (double)words : NAN;
}

/* --- translations ------------------------------------------------------------------------------
 */

static const tl_bleu_opts bleu_opts; /* sacreBLEU's defaults */
static const tl_chrf_opts chrf_opts;

static double bleu(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  return tl_bleu_score_of(&bleu_opts, s->bleu, index, n).score;
}

static double chrf(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  return tl_chrf_score_of(&chrf_opts, s->chrf, index, n);
}

void tl_score_signature(const char *name, char *out, size_t size) {
  *out = 0;
  if (!strcmp(name, "bleu")) tl_bleu_signature(&bleu_opts, 1, out, size);
  if (!strcmp(name, "chrf")) tl_chrf_signature(&chrf_opts, 1, out, size);
}

static tl_status prepare_texts(scorer *s, tl_err *err) {
  size_t n = s->d->n;
  tl_bleu_text *hyp = malloc((n + 1) * sizeof *hyp), *ref = malloc((n + 1) * sizeof *ref);
  s->bleu = malloc((n + 1) * sizeof *s->bleu);
  s->chrf = malloc((n + 1) * sizeof *s->chrf);
  tl_status st = TL_OK;
  if (!hyp || !ref || !s->bleu || !s->chrf) st = tl_fail(err, TL_NOMEM, "scores: out of memory");
  for (size_t i = 0; st == TL_OK && i < n; i++) {
    hyp[i] = (tl_bleu_text){s->p->text[i], strlen(s->p->text[i])};
    ref[i] = (tl_bleu_text){s->d->text_b[i], strlen(s->d->text_b[i])};
  }
  if (st == TL_OK) st = tl_bleu_count(&bleu_opts, hyp, ref, n, 1, s->bleu, err);
  if (st == TL_OK) st = tl_chrf_count(&chrf_opts, hyp, ref, n, 1, s->chrf, err);
  free(hyp);
  free(ref);
  return st;
}

/* --- masks -------------------------------------------------------------------------------------
 */

static double miou(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  return tl_mask_iou(s->p->pixels, s->n_outputs, index, n, NULL);
}

static double pixel_accuracy(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  return tl_mask_accuracy(s->p->pixels, s->n_outputs, index, n);
}

static double class_accuracy(const size_t *index, size_t n, void *user) {
  const scorer *s = user;
  return tl_mask_class_accuracy(s->p->pixels, s->n_outputs, index, n);
}

static const metric class_metrics[] = {{"accuracy", accuracy},
                                       {"f1_macro", class_f1_macro},
                                       {"balanced_accuracy", balanced_accuracy},
                                       {"matthews", matthews},
                                       {"auc", auc},
                                       {"calibration_error", calibration_error},
                                       {"brier", brier},
                                       {0}};
static const metric multi_metrics[] = {{"f1_micro", multi_f1_micro},
                                       {"f1_macro", multi_f1_macro},
                                       {"subset_accuracy", subset_accuracy},
                                       {0}};
static const metric value_metrics[] = {
    {"spearman", spearman}, {"pearson", pearson}, {"squared_error", squared_error}, {0}};
static const metric token_metrics[] = {{"entity_f1", entity_f1},
                                       {"entity_precision", entity_precision},
                                       {"entity_recall", entity_recall},
                                       {"accuracy", tag_accuracy},
                                       {0}};
static const metric text_metrics[] = {{"bleu", bleu}, {"chrf", chrf}, {0}};

static const metric mask_metrics[] = {
    {"miou", miou}, {"pixel_accuracy", pixel_accuracy}, {"class_accuracy", class_accuracy}, {0}};

static const metric *metrics_of(const tl_task *t, const tl_predictions *p) {
  static const metric none[] = {{0}};
  if (p->pixels) return mask_metrics;
  switch (t->records) {
  case TL_TASK_CLASS:
    return class_metrics;
  case TL_TASK_MULTI:
    return multi_metrics;
  case TL_TASK_VALUE:
    return value_metrics;
  case TL_TASK_TOKENS:
    return token_metrics;
  default:
    return p->text ? text_metrics : none;
  }
}

static tl_status prepare_tags(scorer *s, tl_err *err) {
  const tl_task_data *d = s->d;
  size_t words = d->first[d->n];
  s->offset = malloc((d->n + 1) * sizeof *s->offset);
  for (int k = 0; k < 2; k++) s->tag[k] = malloc((words + 1) * sizeof *s->tag[k]);
  if (!s->offset || !s->tag[0] || !s->tag[1])
    return tl_fail(err, TL_NOMEM, "scores: out of memory");
  for (size_t i = 0; i <= d->n; i++) s->offset[i] = d->first[i];
  for (size_t w = 0; w < words; w++) {
    s->tag[0][w] = d->labels.name[d->item[w]];
    s->tag[1][w] = d->labels.name[s->p->label[w]];
  }
  tl_tagged truth = {s->tag[0], s->offset, d->n}, pred = {s->tag[1], s->offset, d->n};
  TL_TRY(tl_entity_tally_new(&truth, &pred, TL_TAGS_TOLERANT, &s->tally, err));
  s->prf = calloc(tl_entity_tally_types(s->tally) + 1, sizeof *s->prf);
  return s->prf ? TL_OK : tl_fail(err, TL_NOMEM, "scores: out of memory");
}

static void fill_row(scorer *s, size_t i) {
  const tl_task_data *d = s->d;
  size_t k = s->n_outputs;
  const float *out = s->p->output + i * k;
  for (size_t o = 0; o < k; o++) {
    s->prob[i * k + o] = (double)out[o];
    s->bits[1][i * k + o] = out[o] > 0.5f;
  }
  s->value[1][i] = (double)out[0];
  if (d->kind == TL_TASK_VALUE) s->value[0][i] = d->value[i];
  if (d->kind == TL_TASK_MULTI)
    for (size_t j = d->first[i]; j < d->first[i + 1]; j++)
      s->bits[0][i * k + (size_t)d->item[j]] = 1;
  if (d->kind == TL_TASK_CLASS) {
    s->value[0][i] = (double)out[s->p->label[i]];
    s->bits[0][i] = s->p->label[i] == d->label[i];
    s->column[i] = (double)out[k > 1 ? 1 : 0];
  }
}

static tl_status prepare_rows(scorer *s, tl_err *err) {
  size_t n = s->d->n, k = s->n_outputs;
  s->matrix = malloc(k * k * sizeof *s->matrix);
  s->prf = calloc(k + 1, sizeof *s->prf);
  s->prob = malloc((n * k + 1) * sizeof *s->prob);
  s->column = malloc((n + 1) * sizeof *s->column);
  for (int i = 0; i < 2; i++) {
    s->bits[i] = calloc(n * k + 1, 1);
    s->value[i] = calloc(n + 1, sizeof *s->value[i]);
  }
  if (!s->matrix || !s->prf || !s->prob || !s->column || !s->bits[0] || !s->bits[1] ||
      !s->value[0] || !s->value[1])
    return tl_fail(err, TL_NOMEM, "scores: out of memory");
  for (size_t i = 0; i < n; i++) fill_row(s, i);
  return TL_OK;
}

static void scorer_free(scorer *s) {
  tl_entity_tally_free(s->tally);
  for (int i = 0; i < 2; i++) {
    free(s->bits[i]);
    free(s->value[i]);
    free((void *)(uintptr_t)s->tag[i]);
  }
  free(s->bleu);
  free(s->chrf);
  free(s->matrix);
  free(s->prf);
  free(s->prob);
  free(s->column);
  free(s->offset);
}

static tl_status score_all(scorer *s, const metric *m, bool intervals, uint64_t seed,
                           tl_scores *out, tl_err *err) {
  for (; m->name; m++) {
    tl_score *r = &out->score[out->n++];
    *r = (tl_score){.name = m->name, .value = m->fn(NULL, s->d->n, s), .lo = NAN, .hi = NAN};
    if (!intervals) continue;
    tl_bootstrap_interval b;
    TL_TRY(tl_bootstrap(m->fn, s, s->d->n, seed, RESAMPLES, 0.95, &b, err));
    r->lo = b.low;
    r->hi = b.high;
  }
  return TL_OK;
}

tl_status tl_task_scores(const tl_task *t, const tl_task_data *d, const tl_predictions *p,
                         bool intervals, uint64_t seed, tl_scores *out, tl_err *err) {
  scorer s = {.d = d, .p = p, .n_outputs = (size_t)p->n_outputs};
  *out = (tl_scores){0};
  tl_status st = TL_OK;
  if (p->text && !p->pixels)
    st = prepare_texts(&s, err);
  else if (t->records == TL_TASK_TOKENS)
    st = prepare_tags(&s, err);
  else if (t->head != TL_HEAD_NONE && !p->pixels)
    st = prepare_rows(&s, err);
  if (st == TL_OK) st = score_all(&s, metrics_of(t, p), intervals, seed, out, err);
  scorer_free(&s);
  if (st == TL_OK && !isnan(p->loss))
    out->score[out->n++] = (tl_score){.name = "loss", .value = p->loss, .lo = NAN, .hi = NAN};
  if (st == TL_OK && t->loss == TL_LOSS_TOKEN)
    out->score[out->n++] =
        (tl_score){.name = "perplexity", .value = exp(p->loss), .lo = NAN, .hi = NAN};
  return st;
}
