/* The label-efficiency study. Every number is kept in the results file as soon as it is known,
 * cells keyed "arm/labels/seed", rates "arm/labels", so that an interrupted study goes on with the
 * training in which it stopped. */
#include "train/study.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "models/model.h"
#include "train/finetune.h"

const tl_study_arm tl_study_arm_list[TL_STUDY_ARMS] = {
    {TL_STUDY_BAYES, "bayes", "naive Bayes", "baseline", false, NULL},
    {TL_STUDY_PRETRAINED, "pretrained", "pretrained", "pretrained", false, NULL},
    {TL_STUDY_SCRATCH, "scratch", "same network from random weights", "scratch", true, "full"},
    {TL_STUDY_FROZEN, "frozen", "frozen random network, head trained", "baseline", true, "probe"},
    {TL_STUDY_FROZEN_LORA, "frozen-lora", "frozen random network, low-rank updates", "baseline",
     true, "lora"},
    {TL_STUDY_PIXELS, "pixels", "logistic regression on pixels", "baseline", false, NULL},
};

unsigned tl_study_arms_parse(const char *list) {
  unsigned set = 0;
  while (*list) {
    size_t n = strcspn(list, ",");
    unsigned bit = 0;
    for (int i = 0; i < TL_STUDY_ARMS; i++)
      if (strlen(tl_study_arm_list[i].name) == n && !strncmp(tl_study_arm_list[i].name, list, n))
        bit = tl_study_arm_list[i].bit;
    if (!bit) return 0;
    set |= bit;
    list += n + (list[n] == ',');
  }
  return set;
}

typedef tl_label_study_state study;

/* --- what is to be trained on what ------------------------------------------------------------ */

static tl_status order_for(study *s, uint64_t seed, tl_err *err) {
  if (s->order && s->order_seed == seed) return TL_OK;
  if (!s->order) s->order = malloc((s->train.records.n + 1) * sizeof *s->order);
  if (!s->order) return tl_fail(err, TL_NOMEM, "study: out of memory");
  TL_TRY(tl_task_order(&s->train.records, seed, s->order, err));
  s->order_seed = seed;
  return TL_OK;
}

bool tl_study_is_network(const tl_study_arm *a) {
  return a->bit != TL_STUDY_BAYES && a->bit != TL_STUDY_PIXELS;
}

/* Steps times texts, a training step counting as three predictions. */
static double work_of(const study *s, int64_t n, int64_t n_test) {
  const tl_config *c = s->cfg;
  double per_step = (double)(c->train.batch * c->train.accum), steps = (double)c->train.steps;
  if (steps == 0)
    steps = fmax(ceil(c->task.epochs * (double)n / per_step), (double)c->task.min_steps);
  return 3 * steps * per_step + (double)n_test;
}

void tl_study_key(char key[TL_STUDY_KEY], const tl_study_arm *a, int64_t n, int seed) {
  snprintf(key, TL_STUDY_KEY, "%s/%lld/%d", a->name, (long long)n, seed);
}

/* Of all that is still to be trained. */
static double work_left(study *s) {
  double sum = 0;
  for (int a = 0; a < TL_STUDY_ARMS; a++) {
    const tl_study_arm *arm = &tl_study_arm_list[a];
    if (!(s->arms & arm->bit) || !tl_study_is_network(arm)) continue;
    int64_t last = 0, n_dev = 0;
    for (int i = 0; i < s->n_labels; i++) {
      int64_t n = tl_study_tuning_size(s, s->labels[i], &n_dev);
      json_t *r = n != last ? tl_study_rates(s, arm, n) : NULL;
      if (r)
        sum += (double)(s->o->n_lrs - (int)json_object_size(json_object_get(r, "tried"))) *
               work_of(s, n, n_dev);
      last = n;
      for (int seed = 1; seed <= s->o->n_seeds; seed++) {
        char key[TL_STUDY_KEY];
        tl_study_key(key, arm, s->labels[i], seed);
        if (!json_object_get(s->cells, key))
          sum += work_of(s, s->labels[i], (int64_t)s->test.records.n);
      }
    }
  }
  return sum;
}

void tl_study_eta(const study *s, char out[48]) {
  double left = s->work - s->done, seconds = tl_now() - s->started;
  *out = 0;
  if (s->done <= 0 || left <= 0) return;
  long t = (long)(seconds / s->done * left + 0.5);
  if (t < 120)
    snprintf(out, 48, ", %ld s left", t);
  else
    snprintf(out, 48, ", %ld min left", (t + 30) / 60);
}

/* --- one training ----------------------------------------------------------------------------- */

static tl_status set(study *s, const char *key, const char *value, tl_err *err) {
  return tl_config_set(s->cfg, key, value, TL_CONFIG_FLAG, "study", err);
}

static tl_status configure(study *s, const tl_study_arm *a, int seed, double lr, tl_err *err) {
  const tl_config *base = s->o->config;
  char text[40];
  TL_TRY(set(s, "task.random", a->random || base->task.random ? "true" : "false", err));
  TL_TRY(set(s, "adapt.method", a->adapt ? a->adapt : base->adapt.method, err));
  snprintf(text, sizeof text, "%.17g", lr);
  TL_TRY(set(s, "optim.lr", text, err));
  snprintf(text, sizeof text, "%d", seed);
  TL_TRY(set(s, "run.seed", text, err));
  return tl_config_finish(s->cfg, err);
}

tl_status tl_study_take(const tl_study_file *f, const size_t *order, size_t n, tl_part *out,
                        tl_err *err) {
  return tl_part_take(&f->records, f->is_pictures ? &f->pictures : NULL, order, n, out, err);
}

tl_status tl_study_fit(study *s, const tl_study_arm *a, int64_t n, int seed, double lr,
                       const tl_part *test, tl_predictions *pred, tl_train_result *r,
                       bool *diverged, tl_err *err) {
  tl_part part = {0};
  tl_err why = {0};
  TL_TRY(configure(s, a, seed, lr, err));
  TL_TRY(order_for(s, (uint64_t)seed, err));
  TL_TRY(tl_study_take(&s->train, s->order, (size_t)n, &part, err));
  tl_given_records given = {.train = &part, .test = test, .pred = pred};
  tl_status st = tl_train_given(s->ctx, s->cfg, &given, r, &why);
  tl_part_free(&part);
  s->done += work_of(s, n, (int64_t)test->records.n);
  *diverged = st == TL_DIVERGED;
  return st == TL_OK || *diverged ? TL_OK : tl_fail(err, st, "%s", why.msg);
}

double tl_study_value(const study *s, const tl_train_result *r) {
  double x = tl_scores_find(&r->task.test, s->task->metric);
  return isnan(x) && s->task->loss == TL_LOSS_VALUE ? 0 : x;
}

static json_t *number(double x) {
  return isfinite(x) ? json_real(x) : json_null();
}

static tl_status keep_cell(study *s, const char *key, const tl_train_result *r, double seconds,
                           double rate, json_t *diverged, tl_err *err) {
  json_t *scores = json_object(), *cell = json_object();
  for (int i = 0; r && i < r->task.test.n; i++)
    json_object_set_new(scores, r->task.test.score[i].name, number(r->task.test.score[i].value));
  json_object_set_new(cell, "value", number(r ? tl_study_value(s, r) : NAN));
  json_object_set_new(cell, "lr", number(r ? rate : NAN));
  json_object_set_new(cell, "seconds", json_real(seconds));
  json_object_set_new(cell, "flops", json_real(r ? r->flops : 0));
  json_object_set_new(cell, "trained", json_integer(r ? (json_int_t)r->task.trained : 0));
  json_object_set_new(cell, "scores", scores);
  if (json_array_size(diverged)) json_object_set(cell, "diverged", diverged);
  json_object_set_new(s->cells, key, cell);
  return tl_study_save(s, err);
}

/* Trains with the best learning rate, and, where that diverges, with the next best, ...; rates that
 * diverged join *diverged, and *rate is NAN when all did. */
static tl_status fit_best(study *s, const tl_study_arm *a, int64_t n, int seed,
                          tl_predictions *pred, tl_train_result *r, double *rate, json_t *diverged,
                          tl_err *err) {
  double best[TL_STUDY_RATES];
  int n_rates = 0;
  TL_TRY(tl_study_rank_rates(s, a, n, best, &n_rates, err));
  *rate = NAN;
  for (int i = 0; i < n_rates; i++) {
    bool failed = false;
    TL_TRY(tl_study_fit(s, a, n, seed, best[i], &s->test, pred, r, &failed, err));
    if (!failed) {
      *rate = best[i];
      return TL_OK;
    }
    json_array_append_new(diverged, json_real(best[i]));
    tl_study_say(s, "%-11s %6lld labels, seed %d: diverged with learning rate %g", a->name,
                 (long long)n, seed, best[i]);
  }
  return TL_OK;
}

static tl_status run_cell(study *s, const tl_study_arm *a, int64_t n, int seed, tl_err *err) {
  char key[TL_STUDY_KEY], left[48];
  tl_study_key(key, a, n, seed);
  if (json_object_get(s->cells, key)) return TL_OK;
  bool shown = a->bit == TL_STUDY_PRETRAINED && n == s->labels[s->n_labels - 1] && seed == 1;
  tl_predictions pred = {0};
  tl_train_result r;
  double rate = 0, start = tl_now();
  json_t *diverged = json_array();
  tl_status st = fit_best(s, a, n, seed, shown ? &pred : NULL, &r, &rate, diverged, err);
  const bool finished = isfinite(rate);
  if (st == TL_OK && shown && finished) st = tl_study_show(s, &pred, err);
  if (st == TL_OK)
    st = keep_cell(s, key, finished ? &r : NULL, tl_now() - start, rate, diverged, err);
  tl_predictions_free(&pred);
  json_decref(diverged);
  if (st != TL_OK || !finished) return st;
  tl_study_eta(s, left);
  tl_study_say(s, "%-11s %6lld labels, seed %d: %s %.4g (learning rate %g)%s", a->name,
               (long long)n, seed, s->task->metric, tl_study_value(s, &r) * tl_study_scale(s->task),
               rate, left);
  return TL_OK;
}

static tl_status run_baseline(study *s, const tl_study_arm *a, int64_t n, int seed, tl_err *err) {
  char key[TL_STUDY_KEY];
  double x = 0;
  tl_part part = {0};
  tl_study_key(key, a, n, seed);
  if (json_object_get(s->cells, key)) return TL_OK;
  TL_TRY(order_for(s, (uint64_t)seed, err));
  TL_TRY(tl_study_take(&s->train, s->order, (size_t)n, &part, err));
  tl_status st = a->bit == TL_STUDY_BAYES
                     ? tl_study_bayes(s->task, &part, &s->test, &x, err)
                     : tl_study_pixels(s->ctx, s->task, &part, &s->test, &x, err);
  tl_part_free(&part);
  if (st != TL_OK) return st;
  json_object_set_new(s->cells, key, json_pack("{s:f}", "value", x));
  tl_study_say(s, "%-11s %6lld labels, seed %d: %s %.4g", a->name, (long long)n, seed,
               s->task->metric, x * tl_study_scale(s->task));
  return tl_study_save(s, err);
}

/* --- the whole -------------------------------------------------------------------------------- */

static tl_status check(const tl_study_options *o, tl_err *err) {
  const tl_config *c = o->config;
  if (!*c->task.from || !*c->task.train || !*c->task.test)
    return tl_fail(err, TL_USAGE, "label study: task.from, task.train and task.test are needed");
  if (!strcmp(c->task.type, "simcse"))
    return tl_fail(err, TL_USAGE, "label study: task.type simcse has no labels");
  if (o->n_labels < 1 || o->n_labels > TL_STUDY_LABELS || o->n_seeds < 1 ||
      o->n_seeds > TL_STUDY_SEEDS || o->n_lrs < 1 || o->n_lrs > TL_STUDY_RATES ||
      !(o->arms & TL_STUDY_PRETRAINED))
    return tl_fail(err, TL_USAGE,
                   "label study: 1 to %d numbers of labels, 1 to %d seeds, 1 to %d learning rates "
                   "and the arm pretrained are needed",
                   (int)TL_STUDY_LABELS, (int)TL_STUDY_SEEDS, (int)TL_STUDY_RATES);
  return TL_OK;
}

static tl_status add_size(study *s, double wanted, tl_err *err) {
  size_t n = 0, none = 0;
  TL_TRY(tl_task_split(&s->train.records, wanted, 0, &n, &none, err));
  int at = s->n_labels;
  for (; at > 0 && s->labels[at - 1] >= (int64_t)n; at--)
    if (s->labels[at - 1] == (int64_t)n) return TL_OK; /* 50 % and 100 of 200 */
  memmove(s->labels + at + 1, s->labels + at, (size_t)(s->n_labels - at) * sizeof *s->labels);
  s->labels[at] = (int64_t)n;
  s->n_labels++;
  return TL_OK;
}

static tl_status select_test(study *s, tl_err *err) {
  size_t n = s->test_file.records.n, all = n;
  if (s->o->max_test > 0 && n > (size_t)s->o->max_test) n = (size_t)s->o->max_test;
  if (n == all) return tl_study_take(&s->test_file, NULL, n, &s->test, err);
  size_t *order = malloc((all + 1) * sizeof *order);
  if (!order) return tl_fail(err, TL_NOMEM, "study: out of memory");
  tl_status st = tl_task_order(&s->test_file.records, 1, order, err);
  if (st == TL_OK) st = tl_study_take(&s->test_file, order, n, &s->test, err);
  free(order);
  return st;
}

static uint64_t hash_model(const tl_model *m, uint64_t h) {
  for (int i = 0; i < m->params.n; i++) {
    const tl_param *p = m->params.p[i];
    h = tl_mix64(h, tl_hash64(p->data, (size_t)p->n * sizeof *p->data));
  }
  return h;
}

static tl_status hash_inputs(study *s, tl_err *err) {
  tl_model *m = NULL;
  const char *from = s->cfg->task.from;
  if (!s->train.is_pictures) {
    tl_tokenizer *tok = NULL;
    TL_TRY(tl_model_tokenizer(from, &tok, err));
    s->inputs_hash = tl_tokenizer_fingerprint(tok);
    tl_tokenizer_free(tok);
  }
  TL_TRY(tl_model_load(from, false, &m, err));
  s->inputs_hash = hash_model(m, s->inputs_hash);
  tl_model_free(m);
  s->inputs_hash = tl_mix64(s->inputs_hash, s->train.records.hash);
  s->inputs_hash = tl_mix64(s->inputs_hash, s->test_file.records.hash);
  if (s->valid.records.n) s->inputs_hash = tl_mix64(s->inputs_hash, s->valid.records.hash);
  return TL_OK;
}

static tl_status read_file(const study *s, const char *path, const tl_labels *labels,
                           tl_study_file *f, tl_err *err) {
  f->is_pictures = s->task->pictures;
  if (!f->is_pictures) return tl_finetune_read(s->cfg, path, labels, &f->records, err);
  TL_TRY(tl_part_read_pictures(s->cfg, path, labels, &f->pictures, err));
  f->records = f->pictures.records;
  return TL_OK;
}

/* Of those that are wanted the ones that the task and the network allow. */
static tl_status choose_arms(study *s, tl_err *err) {
  const tl_task_data *d = &s->train.records;
  const bool labelled = d->kind == TL_TASK_CLASS || d->kind == TL_TASK_MULTI;
  unsigned none = 0;
  tl_model_config mc;
  TL_TRY(tl_model_read_config(s->cfg->task.from, &mc, err));
  if (s->task->pictures || !labelled || d->text_b) none |= TL_STUDY_BAYES;
  if (!s->task->pictures || !labelled) none |= TL_STUDY_PIXELS;
  if (s->task->head == TL_HEAD_NONE) none |= TL_STUDY_FROZEN;
  if (s->task->pictures && tl_arch_find(mc.type)->layout != TL_LAYOUT_PATCHES)
    none |= TL_STUDY_FROZEN_LORA;
  s->arms = s->o->arms & ~none;
  return TL_OK;
}

static void free_file(tl_study_file *f) {
  if (f->is_pictures)
    tl_image_data_free(&f->pictures);
  else
    tl_task_data_free(&f->records);
}

static tl_status load(study *s, tl_err *err) {
  const tl_config *c = s->o->config;
  TL_TRY(tl_config_copy(c, &s->cfg, err));
  s->task = tl_task_find(c->task.type);
  TL_TRY(read_file(s, c->task.train, NULL, &s->train, err));
  const tl_labels *labels = s->train.records.labels.n ? &s->train.records.labels : NULL;
  TL_TRY(read_file(s, c->task.test, labels, &s->test_file, err));
  if (*c->task.valid) TL_TRY(read_file(s, c->task.valid, labels, &s->valid, err));
  if (s->task->loss == TL_LOSS_CLASS && labels->n < 2)
    return tl_fail(err, TL_DATA, "%s: only one label occurs, \"%s\"; there is nothing to learn",
                   c->task.train, labels->name[0]);
  TL_TRY(select_test(s, err));
  TL_TRY(choose_arms(s, err));
  for (int i = 0; i < s->o->n_labels; i++) TL_TRY(add_size(s, s->o->labels[i], err));
  TL_TRY(hash_inputs(s, err));
  return tl_study_open(s, err);
}

static tl_status run_all(study *s, tl_err *err) {
  s->work = work_left(s);
  s->started = tl_now();
  for (int i = 0; i < s->n_labels; i++)
    for (int seed = 1; seed <= s->o->n_seeds; seed++)
      for (int a = 0; a < TL_STUDY_ARMS; a++) {
        const tl_study_arm *arm = &tl_study_arm_list[a];
        if (!(s->arms & arm->bit)) continue;
        TL_TRY(tl_study_is_network(arm) ? run_cell(s, arm, s->labels[i], seed, err)
                                        : run_baseline(s, arm, s->labels[i], seed, err));
        if (tl_ctx_cancelled(s->ctx)) return tl_fail(err, TL_PREEMPTED, "stopped by request");
      }
  return tl_study_conclude(s, err);
}

tl_status tl_label_study(tl_ctx *ctx, const tl_study_options *options, tl_study_fn report,
                         void *user, tl_err *err) {
  TL_TRY(check(options, err));
  study *s = calloc(1, sizeof *s);
  if (!s) return tl_fail(err, TL_NOMEM, "study: out of memory");
  *s = (study){.ctx = ctx, .o = options, .report = report, .user = user};
  tl_status st = load(s, err);
  if (st == TL_OK) st = run_all(s, err);
  json_decref(s->doc);
  free(s->order);
  tl_part_free(&s->test);
  free_file(&s->train);
  free_file(&s->valid);
  free_file(&s->test_file);
  tl_config_free(s->cfg);
  free(s);
  return st;
}
