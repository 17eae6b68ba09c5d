/* What the networks of the label study are compared with: simple methods that answer one question
 * a record (its class), or one for each label (has it, or not). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/naive_bayes.h"
#include "eval/softmax_regression.h"
#include "tilth/augment.h"
#include "train/study.h"

enum { SIDE = 32 }; /* of pictures, at most */

/* Answers[m] of the test records to a question whose answers to the training records are label[n];
 * there are n_answers. */
typedef tl_status (*answer_fn)(void *user, const int32_t *label, int n_answers, int32_t *answer,
                               tl_err *err);

static void ask(const tl_task_data *d, int32_t k, int32_t *label) {
  for (size_t i = 0; i < d->n; i++) {
    label[i] = d->kind == TL_TASK_CLASS ? d->label[i] : 0;
    if (d->kind == TL_TASK_MULTI)
      for (size_t j = d->first[i]; j < d->first[i + 1]; j++) label[i] |= d->item[j] == k;
  }
}

static void note(tl_predictions *p, bool classes, int k, const int32_t *answer) {
  for (size_t i = 0; i < p->n; i++) {
    float *output = p->output + i * (size_t)p->n_outputs;
    output[classes ? answer[i] : k] = classes ? 1 : (float)answer[i];
    if (classes) p->label[i] = answer[i];
  }
}

/* The answers to all questions, as predictions that are sure, and their score. */
static tl_status answer_all(const tl_task *t, const tl_task_data *learn, const tl_task_data *judge,
                            answer_fn fn, void *user, double *score, tl_err *err) {
  const bool classes = learn->kind == TL_TASK_CLASS;
  const int k = learn->labels.n, questions = classes ? 1 : k;
  int32_t *label = malloc((learn->n + 1) * sizeof *label);
  int32_t *answer = malloc((judge->n + 1) * sizeof *answer);
  tl_predictions p = {.n = judge->n, .n_outputs = k, .loss = NAN};
  p.output = calloc(judge->n * (size_t)k + 1, sizeof *p.output);
  p.label = calloc(judge->n + 1, sizeof *p.label);
  tl_scores scores;
  tl_status s = label && answer && p.output && p.label
                    ? TL_OK
                    : tl_fail(err, TL_NOMEM, "study: out of memory");
  for (int q = 0; s == TL_OK && q < questions; q++) {
    ask(learn, q, label);
    s = fn(user, label, classes ? k : 2, answer, err);
    if (s == TL_OK) note(&p, classes, q, answer);
  }
  if (s == TL_OK) s = tl_task_scores(t, judge, &p, false, 1, &scores, err);
  if (s == TL_OK) *score = tl_scores_find(&scores, t->metric);
  tl_predictions_free(&p);
  free(label);
  free(answer);
  return s;
}

/* --- naive Bayes -------------------------------------------------------------------------------
 */

typedef struct words {
  const tl_task_data *judge;
  tl_nb_text *text; /* [n] of the training records */
  size_t n;
} words;

static tl_status by_words(void *user, const int32_t *label, int n_answers, int32_t *answer,
                          tl_err *err) {
  words *w = user;
  tl_naive_bayes *nb = NULL;
  for (size_t i = 0; i < w->n; i++) w->text[i].label = label[i];
  TL_TRY(tl_naive_bayes_train(w->text, w->n, n_answers, 0, &nb, err));
  for (size_t i = 0; i < w->judge->n; i++)
    answer[i] = tl_naive_bayes_predict(nb, w->judge->text[i], strlen(w->judge->text[i]));
  tl_naive_bayes_free(nb);
  return TL_OK;
}

tl_status tl_study_bayes(const tl_task *t, const tl_part *train, const tl_part *test, double *score,
                         tl_err *err) {
  const tl_task_data *d = &train->records;
  words w = {&test->records, malloc((d->n + 1) * sizeof *w.text), d->n};
  if (!w.text) return tl_fail(err, TL_NOMEM, "study: out of memory");
  for (size_t i = 0; i < d->n; i++)
    w.text[i] = (tl_nb_text){.text = d->text[i], .len = strlen(d->text[i])};
  tl_status s = answer_all(t, d, w.judge, by_words, &w, score, err);
  free(w.text);
  return s;
}

/* --- logistic regression on pixels -------------------------------------------------------------
 */

typedef struct pixels {
  tl_ctx *ctx;
  float *train, *test; /* [n][dim], [m][dim] */
  int64_t n, m, dim;
} pixels;

static tl_status by_pixels(void *user, const int32_t *label, int n_answers, int32_t *answer,
                           tl_err *err) {
  const pixels *p = user;
  tl_softmax_regression r = {0};
  tl_status s = tl_softmax_regression_fit(p->ctx, p->train, label, p->n, p->dim, n_answers,
                                          p->n / 5, &r, err);
  if (s == TL_OK) s = tl_softmax_regression_predict(p->ctx, &r, p->test, p->m, answer, err);
  tl_softmax_regression_free(&r);
  return s;
}

/* x [n][channels * size * size]. */
static tl_status read_pixels(const tl_part *p, const tl_augment *a, int64_t dim, float *x,
                             tl_err *err) {
  for (size_t i = 0; i < p->records.n; i++) {
    tl_image m;
    TL_TRY(tl_image_get(p->pictures, p->index[i], a->channels, &m, err));
    tl_status s = tl_augment_run(a, &m, 0, 0, x + (int64_t)i * dim, err);
    tl_image_free(&m);
    if (s != TL_OK) return s;
  }
  return TL_OK;
}

tl_status tl_study_pixels(tl_ctx *ctx, const tl_task *t, const tl_part *train, const tl_part *test,
                          double *score, tl_err *err) {
  const tl_image_data *d = train->pictures;
  int32_t side = d->width > d->height ? d->width : d->height;
  tl_augment a = {.size = side < SIDE ? side : SIDE, .channels = d->channels};
  pixels p = {.ctx = ctx,
              .n = (int64_t)train->records.n,
              .m = (int64_t)test->records.n,
              .dim = (int64_t)a.size * a.size * a.channels};
  p.train = malloc((size_t)(p.n * p.dim) * sizeof *p.train);
  p.test = malloc((size_t)(p.m * p.dim) * sizeof *p.test);
  tl_status s = p.train && p.test ? TL_OK : tl_fail(err, TL_NOMEM, "study: out of memory");
  if (s == TL_OK) s = read_pixels(train, &a, p.dim, p.train, err);
  if (s == TL_OK) s = read_pixels(test, &a, p.dim, p.test, err);
  if (s == TL_OK) {
    tl_standardise(ctx, p.train, p.n, p.dim, p.test, p.m);
    s = answer_all(t, &train->records, &test->records, by_pixels, &p, score, err);
  }
  free(p.train);
  free(p.test);
  return s;
}
