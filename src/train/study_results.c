/* The results file of the label study, which is a report document at the end. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/rng.h"
#include "eval/stats.h"
#include "train/study.h"
#include "transfer/answer.h"
#include "transfer/gallery.h"

enum { MAX_RESULTS = 64 << 20, SHOWN = 12 };

typedef tl_label_study_state study;

double tl_study_scale(const tl_task *t) {
  return strcmp(t->metric, "loss") && strcmp(t->metric, "bleu") ? 100 : 1;
}

bool tl_study_lower(const tl_task *t) {
  return !strcmp(t->metric, "loss");
}

void tl_study_say(const study *s, const char *fmt, ...) {
  char line[256];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  if (s->report) s->report(s->user, line, false);
}

tl_status tl_study_save(const study *s, tl_err *err) {
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

/* --- going on -----------------------------------------------------------------------------------
 */

/* What makes results comparable; a file made with other settings is not continued. Paths alone are
 * not enough: a model trained anew and texts changed may stand in the same place. The number of
 * seeds and the arms may grow. */
static tl_status settings(const study *s, json_t **out, tl_err *err) {
  json_t *labels = json_array(), *lrs = json_array();
  for (int i = 0; i < s->n_labels; i++) json_array_append_new(labels, json_integer(s->labels[i]));
  for (int i = 0; i < s->o->n_lrs; i++) json_array_append_new(lrs, json_real(s->o->lrs[i]));
  char hash[20], *yaml = NULL;
  snprintf(hash, sizeof hash, "%016llx", (unsigned long long)s->inputs_hash);
  tl_status st = tl_config_dump(s->o->config, false, &yaml, err);
  if (st == TL_OK) {
    *out =
        json_pack("{s:s, s:o, s:o, s:I, s:s}", "config", yaml, "labels", labels, "learning_rates",
                  lrs, "test_size", (json_int_t)s->test.records.n, "inputs_hash", hash);
    if (!*out) st = tl_fail(err, TL_NOMEM, "%s: out of memory", s->o->out_json);
  }
  free(yaml);
  return st;
}

static tl_status go_on(study *s, json_t *now, tl_err *err) {
  tl_buf text = {0};
  json_error_t je;
  tl_status st = tl_file_read(s->o->out_json, MAX_RESULTS, &text, err);
  if (st == TL_OK) s->doc = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &je);
  tl_buf_free(&text);
  TL_TRY(st);
  const json_t *before = json_object_get(json_object_get(s->doc, "progress"), "settings");
  if (json_is_object(s->doc) && json_equal(before, now)) {
    tl_study_say(s, "going on with %s", s->o->out_json);
    return TL_OK;
  }
  const char *key, *which = "nothing of a study";
  json_t *value;
  if (before) json_object_foreach(now, key, value) {
      if (!json_equal(json_object_get(before, key), value)) which = key;
    }
  return tl_fail(err, TL_CREATE,
                 "%s: exists, and is no study with the same settings (%s differs); remove it or "
                 "choose another file",
                 s->o->out_json, which);
}

tl_status tl_study_open(study *s, tl_err *err) {
  json_t *now = NULL;
  TL_TRY(settings(s, &now, err));
  tl_status st = TL_OK;
  if (tl_file_exists(s->o->out_json))
    st = go_on(s, now, err);
  else
    s->doc = json_pack("{s:s, s:s}", "schema", "tilth-report/1", "title", s->o->title);
  if (st == TL_OK && !s->doc) st = tl_fail(err, TL_NOMEM, "%s: out of memory", s->o->out_json);
  if (st != TL_OK) {
    json_decref(now);
    return st;
  }
  json_t *progress = object_in(s->doc, "progress");
  json_object_set_new(progress, "settings", now);
  s->cells = object_in(progress, "cells");
  s->rates = object_in(progress, "rates");
  return TL_OK;
}

/* --- examples -----------------------------------------------------------------------------------
 */

/* Right ones and wrong ones (of those that are neither, so many as are shown of one kind). */
static tl_status examples(const tl_task_data *d, const tl_predictions *p, json_t **out,
                          tl_err *err) {
  json_t *list = json_array();
  int n[2] = {0, 0};
  for (size_t i = 0; i < d->n && (n[0] < SHOWN || n[1] < SHOWN); i++) {
    size_t at = (size_t)tl_permute(1, d->n, i);
    json_t *o = tl_answer_json(d, at, p, at);
    if (!o) {
      json_decref(list);
      return tl_fail(err, TL_NOMEM, "study: out of memory");
    }
    bool right = json_equal(json_object_get(o, "truth"), json_object_get(o, "predicted"));
    if (json_object_get(o, "judged")) right = false;
    if (n[right]++ < SHOWN) json_array_append(list, o);
    json_decref(o);
  }
  *out = list;
  return TL_OK;
}

tl_status tl_study_show(study *s, const tl_predictions *p, tl_err *err) {
  if (!p->output && !p->text && !p->pixels) return TL_OK; /* prompts have only a loss */
  tl_details d;
  TL_TRY(tl_details_make(&s->test.records, p, &d, err));
  char *text = tl_details_json(&d);
  if (text && d.n_labels) json_object_set_new(s->doc, "details", json_loads(text, 0, NULL));
  free(text);
  tl_details_free(&d);
  if (p->pixels) return TL_OK;
  json_t *seen = NULL;
  if (s->test.pictures)
    TL_TRY(tl_gallery_predictions(s->test.pictures, s->test.index, p, &seen, err));
  else
    TL_TRY(examples(&s->test.records, p, &seen, err));
  json_object_set_new(s->doc, "predictions", seen);
  return TL_OK;
}

/* --- the end ------------------------------------------------------------------------------------
 */

static double cell(const study *s, const char *arm, int64_t n, int seed) {
  char key[TL_STUDY_KEY];
  snprintf(key, sizeof key, "%s/%lld/%d", arm, (long long)n, seed);
  const json_t *v = json_object_get(json_object_get(s->cells, key), "value");
  return json_is_number(v) ? json_number_value(v) : NAN;
}

/* Of the arm at n labels, and the gain over another one (NULL: none) in the seeds that both have.
 */
static tl_interval values_of(const study *s, const char *arm, const char *less, int64_t n) {
  double v[TL_STUDY_SEEDS];
  size_t k = 0;
  for (int seed = 1; seed <= s->o->n_seeds; seed++) {
    v[k] = cell(s, arm, n, seed) - (less ? cell(s, less, n, seed) : 0);
    if (isfinite(v[k])) k++;
  }
  return tl_t_interval(v, k, 0.95);
}

static json_t *arm_json(const study *s, const tl_study_arm *a) {
  json_t *all = json_array();
  for (int i = 0; i < s->n_labels; i++) {
    json_t *row = json_array();
    for (int seed = 1; seed <= s->o->n_seeds; seed++) {
      double x = cell(s, a->name, s->labels[i], seed);
      json_array_append_new(row, isfinite(x) ? json_real(x) : json_null());
    }
    json_array_append_new(all, row);
  }
  return json_pack("{s:s, s:s, s:o}", "title", a->title, "role", a->role, "values", all);
}

/* The pretrained network first, baselines last. */
static json_t *arms_json(const study *s) {
  static const char *const roles[] = {"pretrained", "scratch", "baseline"};
  json_t *arms = json_array();
  for (int r = 0; r < 3; r++)
    for (int a = 0; a < TL_STUDY_ARMS; a++) {
      const tl_study_arm *arm = &tl_study_arm_list[a];
      if ((s->arms & arm->bit) && !strcmp(arm->role, roles[r]))
        json_array_append_new(arms, arm_json(s, arm));
    }
  return arms;
}

/* "title, 100 labels, seed 2: diverged with learning rate 0.01, trained with 0.001". */
static void add_diverged(json_t *list, const study *s, const tl_study_arm *a, int64_t n, int seed) {
  char key[TL_STUDY_KEY];
  tl_study_key(key, a, n, seed);
  const json_t *cell = json_object_get(s->cells, key), *rates = json_object_get(cell, "diverged");
  const json_t *rate = json_object_get(cell, "lr");
  if (!json_array_size(rates)) return;
  tl_buf b = {0};
  tl_buf_printf(&b, "%s, %lld labels, seed %d: diverged with learning rate", a->title, (long long)n,
                seed);
  for (size_t i = 0; i < json_array_size(rates); i++)
    tl_buf_printf(&b, "%s %g", i ? "," : "", json_number_value(json_array_get(rates, i)));
  if (json_is_number(rate))
    tl_buf_printf(&b, ", trained with %g", json_number_value(rate));
  else
    tl_buf_puts(&b, "; none is left, and this seed has no value");
  if (!b.oom) json_array_append_new(list, json_string(b.data));
  tl_buf_free(&b);
}

static json_t *diverged_json(const study *s) {
  json_t *list = json_array();
  for (int a = 0; a < TL_STUDY_ARMS; a++)
    for (int i = 0; i < s->n_labels; i++)
      for (int seed = 1; seed <= s->o->n_seeds; seed++)
        add_diverged(list, s, &tl_study_arm_list[a], s->labels[i], seed);
  return list;
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

/* The metric, and what values it can have (of a loss: any). */
static json_t *metric_json(const tl_task *t) {
  const bool lower = tl_study_lower(t);
  json_t *o = json_pack("{s:s, s:f, s:b}", "name", t->metric, "scale", tl_study_scale(t), "lower",
                        (int)lower);
  if (!lower)
    json_object_set_new(
        o, "range",
        json_pack("[f, f]", t->loss == TL_LOSS_VALUE ? -1.0 : 0.0, t->seq2seq ? 100.0 : 1.0));
  return o;
}

static json_t *study_json(const study *s) {
  json_t *labels = json_array();
  for (int i = 0; i < s->n_labels; i++) json_array_append_new(labels, json_integer(s->labels[i]));
  json_t *o = json_pack("{s:s, s:I, s:o, s:o, s:o}", "task", s->task->name, "test_size",
                        (json_int_t)s->test.records.n, "labels", labels, "arms", arms_json(s),
                        "metric", metric_json(s->task));
  json_object_set_new(o, "diverged", diverged_json(s));
  if (s->train.records.labels.n)
    json_object_set_new(o, "classes", json_integer(s->train.records.labels.n));
  if (s->train.records.kind == TL_TASK_CLASS)
    json_object_set_new(o, "majority", json_real(majority(&s->test.records)));
  return o;
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

static tl_status add_costs(study *s, tl_err *err) {
  double seconds = 0, tuning = 0, flops = 0;
  const char *key;
  json_t *c, *costs = json_array();
  json_object_foreach(s->cells, key, c) {
    seconds += json_number_value(json_object_get(c, "seconds"));
    flops += json_number_value(json_object_get(c, "flops"));
  }
  json_object_foreach(s->rates, key, c) tuning += json_number_value(json_object_get(c, "seconds"));
  json_object_set_new(s->doc, "costs", costs);
  TL_TRY(add_run(s, costs, err));
  json_array_append_new(costs,
                        json_pack("{s:s, s:f, s:f}", "phase", "fine-tuning, all arms and seeds",
                                  "seconds", seconds, "flops", flops));
  json_array_append_new(
      costs, json_pack("{s:s, s:f}", "phase", "choice of learning rates", "seconds", tuning));
  return TL_OK;
}

/* Means, and the gain of the pretrained network with its paired 95 % interval. */
static void print_table(const study *s) {
  if (!s->report) return;
  const bool lower = tl_study_lower(s->task);
  const double scale = tl_study_scale(s->task), up = lower ? -scale : scale;
  const int digits = lower ? 4 : 2;
  tl_buf b = {0};
  tl_buf_printf(&b, "%s%s\n%8s", s->task->metric, lower ? " (less is better)" : "", "labels");
  for (int a = 0; a < TL_STUDY_ARMS; a++)
    if (s->arms & tl_study_arm_list[a].bit) tl_buf_printf(&b, "%13s", tl_study_arm_list[a].name);
  if (s->arms & TL_STUDY_SCRATCH) tl_buf_puts(&b, "   gain over scratch (95 % interval)");
  for (int i = 0; i < s->n_labels; i++) {
    tl_buf_printf(&b, "\n%8lld", (long long)s->labels[i]);
    for (int a = 0; a < TL_STUDY_ARMS; a++)
      if (s->arms & tl_study_arm_list[a].bit)
        tl_buf_printf(&b, "%13.*f", digits,
                      scale * values_of(s, tl_study_arm_list[a].name, NULL, s->labels[i]).mean);
    tl_interval gain = values_of(s, "pretrained", "scratch", s->labels[i]);
    if (gain.n == 0 || !(s->arms & TL_STUDY_SCRATCH)) continue;
    tl_buf_printf(&b, "   %+.*f", digits, up * gain.mean);
    if (gain.n > 1)
      tl_buf_printf(&b, " (%+.*f to %+.*f)", digits, up * gain.mean - scale * gain.half, digits,
                    up * gain.mean + scale * gain.half);
  }
  if (!b.oom) s->report(s->user, b.data, true);
  tl_buf_free(&b);
}

/* Of the pretraining run, or, where none is named, where the pretrained model looks. */
static tl_status add_pictures(study *s, tl_err *err) {
  json_t *run = NULL, *group = NULL;
  if (!s->test.pictures) return TL_OK;
  if (s->o->run_dir) TL_TRY(tl_gallery_run(s->ctx, s->o->run_dir, &run, err));
  if (run) {
    json_object_set(s->doc, "pictures", json_object_get(run, "pictures"));
    json_decref(run);
    return TL_OK;
  }
  TL_TRY(tl_gallery_attention(s->ctx, s->o->config->task.from, s->test.pictures, &group, err));
  if (group) json_object_set_new(s->doc, "pictures", json_pack("[o]", group));
  return TL_OK;
}

tl_status tl_study_conclude(study *s, tl_err *err) {
  json_object_set_new(s->doc, "study", study_json(s));
  json_object_set_new(
      s->doc, "notes",
      json_pack("[s]", "All methods see the same labelled records, drawn anew for each seed; "
                       "smaller sets are part of the larger ones. The networks have the same shape "
                       "and are trained for the same number of steps; each has its own learning "
                       "rate, chosen out of the same list for each number of labels on records "
                       "held out, no more than the labels at hand (above 1,000 labels the choice "
                       "of the next smaller number is kept). A training that diverges is done "
                       "again with the next best rate."));
  TL_TRY(add_costs(s, err));
  TL_TRY(add_pictures(s, err));
  char when[32];
  time_t now = time(NULL);
  struct tm tm;
  gmtime_r(&now, &tm);
  strftime(when, sizeof when, "%Y-%m-%d %H:%M UTC", &tm);
  json_object_set_new(s->doc, "created", json_string(when));
  TL_TRY(tl_study_save(s, err));
  print_table(s);
  return TL_OK;
}
