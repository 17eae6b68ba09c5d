/* The label study's choice of learning rates: for each arm and number of labels those of one list
 * are tried on records that nobody learns from. In the results, rates["arm/labels"].tried[rate] is
 * the score, "diverged", or null where there was no score. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/study.h"

/* DEV_MAX: records to choose a learning rate with; above as many labels the choice of the next
 * smaller number of labels is kept, which saves most of the time of a study. */
enum { DEV_MAX = 1000, RATE_KEY = 32 };

typedef tl_label_study_state study;

int64_t tl_study_tuning_size(const study *s, int64_t n, int64_t *n_dev) {
  for (int i = s->n_labels - 1; i > 0 && n > DEV_MAX; i--) /* see DEV_MAX */
    if (s->labels[i] == n) n = s->labels[i - 1];
  *n_dev = n < DEV_MAX ? n : DEV_MAX;
  if (s->valid.records.n > 0) {
    if (*n_dev > (int64_t)s->valid.records.n) *n_dev = (int64_t)s->valid.records.n;
    return n;
  }
  const int64_t all = (int64_t)s->train.records.n;
  if (n + *n_dev > all) { /* all records and no smaller set: some must judge */
    if (*n_dev > all / 5) *n_dev = all / 5;
    n = all - *n_dev;
  }
  return n;
}

json_t *tl_study_rates(study *s, const tl_study_arm *a, int64_t n) {
  char key[TL_STUDY_KEY];
  if (!tl_study_is_network(a) || s->o->n_lrs == 1) return NULL;
  snprintf(key, sizeof key, "%s/%lld", a->name, (long long)n);
  json_t *r = json_object_get(s->rates, key);
  if (!r) json_object_set_new(s->rates, key, r = json_pack("{s:{}}", "tried"));
  return json_is_object(json_object_get(r, "tried")) ? r : NULL;
}

static tl_status judges(study *s, int64_t n_dev, tl_part *out, tl_err *err) {
  const bool own = s->valid.records.n > 0;
  const tl_study_file *f = own ? &s->valid : &s->train;
  size_t *order = malloc((f->records.n + 1) * sizeof *order);
  if (!order) return tl_fail(err, TL_NOMEM, "study: out of memory");
  tl_status st = tl_task_order(&f->records, 1, order, err);
  const size_t *from = own ? order : order + f->records.n - n_dev;
  if (st == TL_OK) st = tl_study_take(f, from, (size_t)n_dev, out, err);
  free(order);
  return st;
}

static tl_status try_rate(study *s, const tl_study_arm *a, int64_t n, double lr, const tl_part *dev,
                          json_t *rates, tl_err *err) {
  json_t *tried = json_object_get(rates, "tried");
  char key[RATE_KEY], left[48];
  double start = tl_now(), x = NAN;
  tl_train_result r;
  bool diverged = false;
  snprintf(key, sizeof key, "%g", lr);
  if (json_object_get(tried, key)) return TL_OK;
  TL_TRY(tl_study_fit(s, a, n, 1, lr, dev, NULL, &r, &diverged, err));
  if (!diverged) x = tl_study_value(s, &r);
  json_object_set_new(tried, key,
                      diverged      ? json_string("diverged")
                      : isfinite(x) ? json_real(x)
                                    : json_null());
  double before = json_number_value(json_object_get(rates, "seconds"));
  json_object_set_new(rates, "seconds", json_real(before + tl_now() - start));
  tl_study_eta(s, left);
  if (diverged)
    tl_study_say(s, "%-11s %6lld labels, learning rate %g: diverged%s", a->name, (long long)n, lr,
                 left);
  else
    tl_study_say(s, "%-11s %6lld labels, learning rate %g: %s %.4g on validation%s", a->name,
                 (long long)n, lr, s->task->metric, x * tl_study_scale(s->task), left);
  return tl_study_save(s, err);
}

/* Of the rates tried those that did not diverge, the best first (equal: the first of the list);
 * those without a score last. */
static int rank(const study *s, const json_t *rates, double *best) {
  double score[TL_STUDY_RATES];
  int n = 0;
  for (int i = 0; i < s->o->n_lrs; i++) {
    char key[RATE_KEY];
    snprintf(key, sizeof key, "%g", s->o->lrs[i]);
    const json_t *v = json_object_get(json_object_get(rates, "tried"), key);
    if (json_is_string(v)) continue;
    double x = json_is_number(v) ? json_number_value(v) : -INFINITY;
    if (json_is_number(v) && tl_study_lower(s->task)) x = -x;
    int at = n++;
    for (; at > 0 && score[at - 1] < x; at--) {
      score[at] = score[at - 1];
      best[at] = best[at - 1];
    }
    score[at] = x;
    best[at] = s->o->lrs[i];
  }
  return n;
}

tl_status tl_study_rank_rates(study *s, const tl_study_arm *a, int64_t labels, double *best, int *n,
                              tl_err *err) {
  best[0] = s->o->lrs[0];
  *n = 1;
  if (s->o->n_lrs == 1) return TL_OK;
  int64_t n_dev = 0, size = tl_study_tuning_size(s, labels, &n_dev);
  json_t *rates = tl_study_rates(s, a, size);
  if (!rates) return tl_fail(err, TL_DATA, "%s: rates of another form", s->o->out_json);
  tl_part dev = {0};
  tl_status st = judges(s, n_dev, &dev, err);
  for (int i = 0; st == TL_OK && i < s->o->n_lrs; i++)
    st = try_rate(s, a, size, s->o->lrs[i], &dev, rates, err);
  tl_part_free(&dev);
  if (st == TL_OK) *n = rank(s, rates, best);
  return st;
}
