/* The label-efficiency study. Every number is kept in the results file as soon as it is known,
 * keyed "arm/labels/seed", so that an interrupted study goes on where it stopped. */
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/rng.h"
#include "eval/naive_bayes.h"
#include "eval/stats.h"
#include "models/model.h"
#include "tilth/transfer.h"

/* DEV_MAX: held-out texts to choose a learning rate with; above as many labels the choice of the
 * next smaller number of labels is kept, which saves most of the time of a study. */
enum { MAX_KEY = 96, MAX_RESULTS = 64 << 20, DEV_MAX = 1000, SHOWN = 12, MAX_SEEDS = 64 };

typedef struct study {
  tl_ctx *ctx;
  const tl_study_options *o;
  tl_task_data train, test;
  tl_tokenizer *tok;
  tl_model_config config;
  json_t *doc, *cells, *rates; /* cells and rates are in doc */
  int64_t max_labels;
  uint64_t inputs_hash; /* of the model, its tokenizer and the texts */
  size_t *order;        /* of the training texts for order_seed */
  uint64_t order_seed;
  tl_study_fn report;
  void *user;
} study;

static void say(const study *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(const study *s, const char *fmt, ...) {
  char line[256];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  if (s->report) s->report(s->user, line, false);
}

static tl_status save(const study *s, tl_err *err) {
  char *text = json_dumps(s->doc, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
  if (!text) return tl_fail(err, TL_NOMEM, "%s: out of memory", s->o->out_json);
  tl_status st = tl_file_write_atomic(s->o->out_json, text, strlen(text), err);
  free(text);
  return st;
}

static json_t *object_in(json_t *parent, const char *key) {
  json_t *v = json_object_get(parent, key);
  if (!json_is_object(v)) json_object_set_new(parent, key, v = json_object());
  return v;
}

/* What makes results comparable; a file made with other settings is not continued. Paths alone are
 * not enough: a model trained anew and texts changed may stand in the same place. */
static json_t *settings(const study *s) {
  json_t *labels = json_array(), *lrs = json_array();
  for (int i = 0; i < s->o->n_labels; i++)
    json_array_append_new(labels, json_integer(s->o->labels[i]));
  for (int i = 0; i < s->o->n_lrs; i++) json_array_append_new(lrs, json_real(s->o->lrs[i]));
  const tl_finetune_options *t = &s->o->tune;
  char hash[20];
  snprintf(hash, sizeof hash, "%016llx", (unsigned long long)s->inputs_hash);
  return json_pack(
      "{s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:s, s:s}", "from",
      s->o->from, "train", s->o->train, "test", s->o->test, "labels", labels, "learning_rates", lrs,
      "epochs", (json_int_t)t->epochs, "batch", (json_int_t)t->batch, "min_steps",
      (json_int_t)t->min_steps, "max_len", (json_int_t)t->max_len, "test_size",
      (json_int_t)s->test.n, "dropout", t->dropout, "weight_decay", t->weight_decay,
      "warmup_fraction", t->warmup_fraction, "clip", t->clip, "dtype", t->dtype, "inputs_hash",
      hash);
}

/* Files of earlier versions lack some of the settings. */
static bool same_settings(const json_t *before, json_t *now) {
  const char *key;
  json_t *value;
  if (!json_object_get(before, "from")) return false;
  json_object_foreach(now, key, value) {
    const json_t *old = json_object_get(before, key);
    if (old && !json_equal(old, value)) return false;
  }
  return true;
}

static uint64_t hash_examples(const tl_task_data *d, uint64_t h) {
  for (size_t i = 0; i < d->n; i++)
    h = tl_mix64(h, tl_hash64(d->text[i], strlen(d->text[i])) + (uint64_t)d->label[i]);
  return h;
}

static uint64_t hash_model(const tl_model *m, uint64_t h) {
  for (int i = 0; i < m->params.n; i++) {
    const tl_param *p = m->params.p[i];
    h = tl_mix64(h, tl_hash64(p->data, (size_t)p->n * sizeof *p->data));
  }
  return h;
}

static tl_status open_results(study *s, tl_err *err) {
  json_t *now = settings(s);
  if (tl_file_exists(s->o->out_json)) {
    tl_buf text = {0};
    json_error_t je;
    tl_status st = tl_file_read(s->o->out_json, MAX_RESULTS, &text, err);
    if (st != TL_OK) {
      tl_buf_free(&text);
      json_decref(now);
      return st;
    }
    s->doc = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &je);
    tl_buf_free(&text);
    const json_t *before = json_object_get(json_object_get(s->doc, "progress"), "settings");
    if (!json_is_object(s->doc) || !same_settings(before, now)) {
      json_decref(s->doc);
      s->doc = NULL;
      json_decref(now);
      return tl_fail(
          err, TL_CREATE,
          "%s: exists, and is no study with the same settings; remove it or choose another file",
          s->o->out_json);
    }
    say(s, "going on with %s", s->o->out_json);
  } else {
    s->doc = json_pack("{s:s, s:s}", "schema", "tilth-report/1", "title", s->o->title);
  }
  json_t *progress = object_in(s->doc, "progress");
  json_object_set_new(progress, "settings", now);
  s->cells = object_in(progress, "cells");
  s->rates = object_in(progress, "rates");
  return TL_OK;
}

/* The pretraining run's curves and costs. */
static tl_status add_run(study *s, json_t *costs, tl_err *err) {
  if (!s->o->run_dir) return TL_OK;
  char *path = tl_path_join(s->o->run_dir, "run.json");
  char *metrics = tl_path_join(s->o->run_dir, "metrics.jsonl");
  char *full = metrics ? realpath(metrics, NULL) : NULL; /* the document may lie elsewhere */
  json_error_t je;
  json_t *run = path ? json_load_file(path, JSON_REJECT_DUPLICATES, &je) : NULL;
  tl_status st = TL_OK;
  if (!json_is_object(run) || !full) {
    st = tl_fail(err, TL_DATA, "%s: no run folder: run.json or metrics.jsonl cannot be read",
                 s->o->run_dir);
  } else {
    json_object_set_new(s->doc, "curves",
                        json_pack("[{s:s, s:s}]", "title", "Pretraining", "metrics", full));
    json_t *cost = json_pack("{s:s}", "phase", "pretraining");
    static const char *const keys[] = {"seconds",    "steps", "tokens",
                                       "parameters", "flops", "peak_fraction"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
      if (json_object_get(run, keys[i]))
        json_object_set(cost, keys[i], json_object_get(run, keys[i]));
    json_array_append_new(costs, cost);
    static const char *const facts[] = {"id",    "version", "cpu",    "threads",
                                        "dtype", "seed",    "started"};
    json_t *info = json_object();
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
      if (json_object_get(run, facts[i]))
        json_object_set(info, facts[i], json_object_get(run, facts[i]));
    json_object_set_new(s->doc, "info", json_pack("{s:o}", "Pretraining run", info));
  }
  json_decref(run);
  free(path);
  free(metrics);
  free(full);
  return st;
}

/* Which training texts: the first n of an order per seed (tl_task_order), so that smaller sets are
 * part of larger ones. Texts after the largest set serve to choose the learning rate. */
static tl_status make_order(study *s, uint64_t seed, tl_err *err) {
  if (s->order && s->order_seed == seed) return TL_OK;
  if (!s->order) s->order = malloc(s->train.n * sizeof *s->order);
  if (!s->order) return tl_fail(err, TL_NOMEM, "study: out of memory");
  TL_TRY(tl_task_order(&s->train, seed, s->order, err));
  s->order_seed = seed;
  return TL_OK;
}

static size_t *subset(study *s, uint64_t seed, int64_t first, int64_t n, tl_err *err) {
  if (make_order(s, seed, err) != TL_OK) return NULL;
  size_t *index = malloc((size_t)n * sizeof *index);
  if (!index) tl_fail(err, TL_NOMEM, "study: out of memory");
  if (index) memcpy(index, s->order + first, (size_t)n * sizeof *index);
  return index;
}

static tl_status accuracy(tl_classifier *c, const tl_task_data *d, const size_t *index, size_t n,
                          int32_t *label, float *prob, double *out, tl_err *err) {
  TL_TRY(tl_classifier_predict(c, d->text, index, n, label, prob, err));
  size_t hit = 0;
  for (size_t i = 0; i < n; i++) hit += label[i] == d->label[index ? index[i] : i];
  *out = (double)hit / (double)n;
  return TL_OK;
}

/* Trains one classifier; the caller frees it. */
static tl_status fit(study *s, bool pretrained, int64_t n, uint64_t seed, double lr,
                     tl_classifier **out, tl_err *err) {
  tl_finetune_options fo = s->o->tune;
  fo.lr = lr;
  fo.seed = seed;
  size_t *index = subset(s, seed, 0, n, err);
  if (!index) return TL_NOMEM;
  tl_status st = tl_classifier_new(s->ctx, pretrained ? s->o->from : NULL, &s->config, s->tok,
                                   s->train.labels.n, &fo, out, err);
  if (st == TL_OK) st = tl_classifier_train(*out, &s->train, index, (size_t)n, NULL, NULL, err);
  free(index);
  return st;
}

static const char *arm_name(bool pretrained) {
  return pretrained ? "pretrained" : "scratch";
}

/* The learning rate with the best accuracy on held-out training texts, no more than the labels at
 * hand. */
static tl_status choose_rate(study *s, bool pretrained, int64_t n, double *best, tl_err *err) {
  for (int i = s->o->n_labels - 1; i > 0 && n > DEV_MAX; i--) /* see DEV_MAX */
    if (s->o->labels[i] == n) n = s->o->labels[i - 1];
  char key[MAX_KEY];
  snprintf(key, sizeof key, "%s/%lld", arm_name(pretrained), (long long)n);
  const json_t *known = json_object_get(json_object_get(s->rates, key), "best");
  if (known) {
    *best = json_number_value(known);
    return TL_OK;
  }
  const uint64_t seed = 1;
  int64_t n_dev = n < DEV_MAX ? n : DEV_MAX;
  size_t *dev = subset(s, seed, s->max_labels, n_dev, err);
  int32_t *label = malloc((size_t)n_dev * sizeof *label);
  tl_status st = dev && label ? TL_OK : tl_fail(err, TL_NOMEM, "study: out of memory");
  json_t *tried = json_object();
  double top = -1;
  for (int i = 0; st == TL_OK && i < s->o->n_lrs; i++) {
    tl_classifier *c = NULL;
    double acc = 0;
    st = fit(s, pretrained, n, seed, s->o->lrs[i], &c, err);
    if (st == TL_OK) st = accuracy(c, &s->train, dev, (size_t)n_dev, label, NULL, &acc, err);
    tl_classifier_free(c);
    if (st == TL_DIVERGED) st = TL_OK; /* this rate is out of the question: accuracy 0 */
    char rate[32];
    snprintf(rate, sizeof rate, "%g", s->o->lrs[i]);
    json_object_set_new(tried, rate, json_real(acc));
    if (acc > top) {
      top = acc;
      *best = s->o->lrs[i];
    }
  }
  free(dev);
  free(label);
  if (st != TL_OK) {
    json_decref(tried);
    return st;
  }
  json_object_set_new(tried, "best", json_real(*best));
  json_object_set_new(s->rates, key, tried);
  return save(s, err);
}

static json_t *shown_predictions(const study *s, const int32_t *label, const float *prob) {
  json_t *list = json_array();
  int n[2] = {0, 0};
  for (size_t i = 0; i < s->test.n && (n[0] < SHOWN || n[1] < SHOWN); i++) {
    size_t at = (size_t)tl_permute(1, s->test.n, i);
    bool right = label[at] == s->test.label[at];
    if (n[right]++ >= SHOWN) continue;
    json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:f}", "text", s->test.text[at], "truth",
                                          s->test.labels.name[s->test.label[at]], "predicted",
                                          s->test.labels.name[label[at]], "probability",
                                          (double)prob[at]));
  }
  return list;
}

static tl_status run_cell(study *s, bool pretrained, int64_t n, uint64_t seed, tl_err *err) {
  char key[MAX_KEY];
  snprintf(key, sizeof key, "%s/%lld/%llu", arm_name(pretrained), (long long)n,
           (unsigned long long)seed);
  if (json_object_get(s->cells, key)) return TL_OK;
  double rate = 0, acc = 0, start = tl_now();
  TL_TRY(choose_rate(s, pretrained, n, &rate, err));
  double tuned = tl_now();
  tl_classifier *c = NULL;
  int32_t *label = malloc(s->test.n * sizeof *label);
  float *prob = malloc(s->test.n * sizeof *prob);
  tl_status st = label && prob ? TL_OK : tl_fail(err, TL_NOMEM, "study: out of memory");
  if (st == TL_OK) st = fit(s, pretrained, n, seed, rate, &c, err);
  if (st == TL_OK) st = accuracy(c, &s->test, NULL, s->test.n, label, prob, &acc, err);
  if (st == TL_OK) {
    json_object_set_new(s->cells, key,
                        json_pack("{s:f, s:f, s:f, s:f, s:f}", "accuracy", acc, "lr", rate,
                                  "seconds", tl_now() - tuned, "tuning_seconds", tuned - start,
                                  "flops", tl_classifier_flops(c)));
    if (pretrained && n == s->max_labels && seed == 1)
      json_object_set_new(s->doc, "predictions", shown_predictions(s, label, prob));
    say(s, "%-10s %6lld labels, seed %llu: accuracy %.3f (learning rate %g)", arm_name(pretrained),
        (long long)n, (unsigned long long)seed, acc, rate);
    st = save(s, err);
  }
  free(label);
  free(prob);
  tl_classifier_free(c);
  return st;
}

static tl_status run_bayes(study *s, int64_t n, uint64_t seed, tl_err *err) {
  char key[MAX_KEY];
  snprintf(key, sizeof key, "bayes/%lld/%llu", (long long)n, (unsigned long long)seed);
  if (json_object_get(s->cells, key)) return TL_OK;
  tl_nb_text *train = malloc((size_t)n * sizeof *train), *test = malloc(s->test.n * sizeof *test);
  tl_naive_bayes *nb = NULL;
  tl_status st =
      train && test ? make_order(s, seed, err) : tl_fail(err, TL_NOMEM, "study: out of memory");
  for (int64_t i = 0; st == TL_OK && i < n; i++) {
    size_t at = s->order[i];
    train[i] = (tl_nb_text){s->train.text[at], strlen(s->train.text[at]), s->train.label[at]};
  }
  for (size_t i = 0; st == TL_OK && i < s->test.n; i++)
    test[i] = (tl_nb_text){s->test.text[i], strlen(s->test.text[i]), s->test.label[i]};
  if (st == TL_OK) st = tl_naive_bayes_train(train, (size_t)n, s->train.labels.n, 0, &nb, err);
  if (st == TL_OK) {
    double acc = tl_naive_bayes_accuracy(nb, test, s->test.n);
    json_object_set_new(s->cells, key, json_pack("{s:f}", "accuracy", acc));
    say(s, "%-10s %6lld labels, seed %llu: accuracy %.3f", "bayes", (long long)n,
        (unsigned long long)seed, acc);
    st = save(s, err);
  }
  tl_naive_bayes_free(nb);
  free(train);
  free(test);
  return st;
}

static double cell(const study *s, const char *arm, int64_t n, int seed, const char *what) {
  char key[MAX_KEY];
  snprintf(key, sizeof key, "%s/%lld/%d", arm, (long long)n, seed);
  return json_number_value(json_object_get(json_object_get(s->cells, key), what));
}

static json_t *arm_json(const study *s, const char *arm, const char *title, const char *role) {
  json_t *all = json_array();
  for (int i = 0; i < s->o->n_labels; i++) {
    json_t *row = json_array();
    for (int seed = 1; seed <= s->o->n_seeds; seed++)
      json_array_append_new(row, json_real(cell(s, arm, s->o->labels[i], seed, "accuracy")));
    json_array_append_new(all, row);
  }
  return json_pack("{s:s, s:s, s:o}", "title", title, "role", role, "accuracy", all);
}

static double majority(const tl_task_data *d) {
  size_t best = 0;
  for (int k = 0; k < d->labels.n; k++) {
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++) n += d->label[i] == k;
    if (n > best) best = n;
  }
  return (double)best / (double)d->n;
}

static tl_status conclude(study *s, tl_err *err) {
  json_t *labels = json_array(), *arms = json_array();
  for (int i = 0; i < s->o->n_labels; i++)
    json_array_append_new(labels, json_integer(s->o->labels[i]));
  json_array_append_new(arms, arm_json(s, "pretrained", "pretrained", "pretrained"));
  json_array_append_new(arms,
                        arm_json(s, "scratch", "same network from random weights", "scratch"));
  json_array_append_new(arms, arm_json(s, "bayes", "naive Bayes", "baseline"));
  json_object_set_new(s->doc, "study",
                      json_pack("{s:s, s:i, s:I, s:f, s:o, s:o}", "task", "classification of texts",
                                "classes", s->train.labels.n, "test_size", (json_int_t)s->test.n,
                                "majority", majority(&s->test), "labels", labels, "arms", arms));
  json_object_set_new(s->doc, "notes",
                      json_pack("[s]", "All methods see the same labelled texts, drawn anew for "
                                       "each seed; smaller sets are part of the "
                                       "larger ones. The networks have the same shape and are "
                                       "trained for the same number of steps; each "
                                       "has its own learning rate, chosen for each number of "
                                       "labels on held-out training texts no more "
                                       "than the labels at hand (above 1,000 labels the choice of "
                                       "the next smaller number is kept)."));
  double seconds = 0, tuning = 0, flops = 0;
  const char *key;
  json_t *c;
  json_object_foreach(s->cells, key, c) {
    seconds += json_number_value(json_object_get(c, "seconds"));
    tuning += json_number_value(json_object_get(c, "tuning_seconds"));
    flops += json_number_value(json_object_get(c, "flops"));
  }
  json_t *costs = json_array();
  json_object_set_new(s->doc, "costs", costs);
  TL_TRY(add_run(s, costs, err));
  json_array_append_new(costs,
                        json_pack("{s:s, s:f, s:f}", "phase", "fine-tuning, all arms and seeds",
                                  "seconds", seconds, "flops", flops));
  json_array_append_new(
      costs, json_pack("{s:s, s:f}", "phase", "choice of learning rates", "seconds", tuning));
  char when[32];
  time_t now = time(NULL);
  struct tm tm;
  gmtime_r(&now, &tm);
  strftime(when, sizeof when, "%Y-%m-%d %H:%M UTC", &tm);
  json_object_set_new(s->doc, "created", json_string(when));
  return save(s, err);
}

static void accuracies(const study *s, const char *arm, int64_t n, double *out) {
  for (int seed = 1; seed <= s->o->n_seeds; seed++)
    out[seed - 1] = cell(s, arm, n, seed, "accuracy");
}

/* Mean accuracies, and the gain of the pretrained network with its paired 95 % interval. */
static void print_table(const study *s) {
  double pre[MAX_SEEDS], scratch[MAX_SEEDS], bayes[MAX_SEEDS];
  size_t n = (size_t)s->o->n_seeds;
  char line[160];
  if (!s->report) return;
  s->report(s->user,
            "labels   pretrained   from scratch   naive Bayes   gain over scratch (95 % interval)",
            true);
  for (int i = 0; i < s->o->n_labels; i++) {
    accuracies(s, "pretrained", s->o->labels[i], pre);
    accuracies(s, "scratch", s->o->labels[i], scratch);
    accuracies(s, "bayes", s->o->labels[i], bayes);
    tl_interval gain = tl_paired_t_interval(pre, scratch, n, 0.95);
    int at =
        snprintf(line, sizeof line, "%6lld        %.3f          %.3f         %.3f   %+.1f points",
                 (long long)s->o->labels[i], tl_mean(pre, n), tl_mean(scratch, n),
                 tl_mean(bayes, n), 100 * gain.mean);
    if (n > 1)
      snprintf(line + at, sizeof line - (size_t)at, " (%+.1f to %+.1f)",
               100 * (gain.mean - gain.half), 100 * (gain.mean + gain.half));
    s->report(s->user, line, true);
  }
}

static tl_status load(study *s, tl_err *err) {
  tl_task_options read = {.replace_bad_utf8 = true};
  TL_TRY(tl_task_read(s->o->train, &read, &s->train, err));
  read.labels = &s->train.labels;
  TL_TRY(tl_task_read(s->o->test, &read, &s->test, err));
  if (s->train.text_b || s->test.text_b)
    return tl_fail(err, TL_DATA, "%s: pairs of texts; the study takes single texts",
                   s->train.text_b ? s->o->train : s->o->test);
  if (s->o->max_test > 0 && s->test.n > (size_t)s->o->max_test) s->test.n = (size_t)s->o->max_test;
  TL_TRY(tl_tokenizer_load(s->o->from, &s->tok, err));
  tl_model *m = NULL;
  TL_TRY(tl_model_load(s->o->from, false, &m, err));
  s->config = *tl_model_get_config(m);
  s->inputs_hash = hash_model(m, tl_tokenizer_fingerprint(s->tok));
  s->inputs_hash = hash_examples(&s->test, hash_examples(&s->train, s->inputs_hash));
  tl_model_free(m);
  for (int i = 0; i < s->o->n_labels; i++)
    if (s->o->labels[i] > s->max_labels) s->max_labels = s->o->labels[i];
  int64_t dev = s->max_labels < DEV_MAX ? s->max_labels : DEV_MAX;
  if (s->max_labels + dev > (int64_t)s->train.n)
    return tl_fail(err, TL_DATA,
                   "%s: %zu examples, but %lld labels and %lld for the learning rate are wanted",
                   s->o->train, s->train.n, (long long)s->max_labels, (long long)dev);
  return open_results(s, err);
}

static tl_status run_all(study *s, tl_err *err) {
  for (int i = 0; i < s->o->n_labels; i++) {
    for (int seed = 1; seed <= s->o->n_seeds; seed++) {
      TL_TRY(run_bayes(s, s->o->labels[i], (uint64_t)seed, err));
      TL_TRY(run_cell(s, true, s->o->labels[i], (uint64_t)seed, err));
      TL_TRY(run_cell(s, false, s->o->labels[i], (uint64_t)seed, err));
    }
  }
  TL_TRY(conclude(s, err));
  print_table(s);
  return TL_OK;
}

tl_status tl_label_study(tl_ctx *ctx, const tl_study_options *options, tl_study_fn report,
                         void *user, tl_err *err) {
  study s = {.ctx = ctx, .o = options, .report = report, .user = user};
  tl_status st = load(&s, err);
  if (st == TL_OK) st = run_all(&s, err);
  json_decref(s.doc);
  free(s.order);
  tl_tokenizer_free(s.tok);
  tl_task_data_free(&s.train);
  tl_task_data_free(&s.test);
  return st;
}
