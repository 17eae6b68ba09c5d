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

static void put_tags(tl_buf *b, const tl_task_data *d, size_t i, const int32_t *tag) {
  const char *word = d->text[i];
  for (size_t w = d->first[i]; w < d->first[i + 1]; w++, word = tl_task_next_word(word)) {
    const char *name = d->labels.name[tag[w]];
    tl_buf_printf(b, "%s%s", w > d->first[i] ? " " : "", word);
    if (strcmp(name, "O")) tl_buf_printf(b, "/%s", name);
  }
}

static void put_label(tl_buf *b, const tl_task_data *d, int32_t k) {
  tl_buf_printf(b, "%s%s", b->len ? ", " : "", d->labels.name[k]);
}

/* Record i, its truth and what was said of it, as texts. */
static void describe(const tl_task_data *d, const tl_predictions *p, size_t i, tl_buf b[3]) {
  const size_t k = (size_t)p->n_outputs;
  for (int j = 0; j < 3; j++) tl_buf_puts(&b[j], "");
  if (d->kind == TL_TASK_TOKENS) {
    const char *word = d->text[i];
    for (size_t w = d->first[i]; w < d->first[i + 1]; w++, word = tl_task_next_word(word))
      tl_buf_printf(&b[0], "%s%s", w > d->first[i] ? " " : "", word);
    put_tags(&b[1], d, i, d->item);
    put_tags(&b[2], d, i, p->label);
    return;
  }
  tl_buf_puts(&b[0], d->text[i]);
  if (d->kind == TL_TASK_PAIR) {
    tl_buf_puts(&b[1], d->text_b[i]);
    tl_buf_puts(&b[2], p->text[i]);
    return;
  }
  if (d->text_b) tl_buf_printf(&b[0], " | %s", d->text_b[i]);
  if (d->kind == TL_TASK_CLASS) {
    put_label(&b[1], d, d->label[i]);
    put_label(&b[2], d, p->label[i]);
  } else if (d->kind == TL_TASK_VALUE) {
    tl_buf_printf(&b[1], "%.3g", d->value[i]);
    tl_buf_printf(&b[2], "%.3g", (double)p->output[i]);
  } else {
    for (size_t j = d->first[i]; j < d->first[i + 1]; j++) put_label(&b[1], d, d->item[j]);
    for (size_t j = 0; j < k; j++)
      if (p->output[i * k + j] > 0.5f) put_label(&b[2], d, (int32_t)j);
  }
}

static json_t *examples(const tl_task_data *d, const tl_predictions *p) {
  json_t *list = json_array();
  int n[2] = {0, 0};
  for (size_t i = 0; i < d->n && (n[0] < SHOWN || n[1] < SHOWN); i++) {
    size_t at = (size_t)tl_permute(1, d->n, i);
    tl_buf b[3] = {0};
    describe(d, p, at, b);
    if (!b[0].oom && !b[1].oom && !b[2].oom) {
      bool right = !strcmp(b[1].data, b[2].data);
      json_t *o = json_pack("{s:s, s:s, s:s}", "text", b[0].data, "truth", b[1].data, "predicted",
                            b[2].data);
      if (o && d->kind == TL_TASK_CLASS)
        json_object_set_new(
            o, "probability",
            json_real((double)p->output[at * (size_t)p->n_outputs + (size_t)p->label[at]]));
      if (o && n[right]++ < SHOWN) json_array_append(list, o);
      json_decref(o);
    }
    for (int j = 0; j < 3; j++) tl_buf_free(&b[j]);
  }
  return list;
}

tl_status tl_study_show(study *s, const tl_predictions *p, tl_err *err) {
  if (!p->output && !p->text && !p->pixels) return TL_OK; /* prompts have only a loss */
  tl_details d;
  TL_TRY(tl_details_make(&s->test.records, p, &d, err));
  char *text = tl_details_json(&d);
  if (text && d.n_labels) json_object_set_new(s->doc, "details", json_loads(text, 0, NULL));
  free(text);
  tl_details_free(&d);
  if (!s->test.pictures) {
    json_object_set_new(s->doc, "predictions", examples(&s->test.records, p));
    return TL_OK;
  }
  if (p->pixels) return TL_OK;
  json_t *seen = NULL;
  TL_TRY(tl_gallery_predictions(s->test.pictures, s->test.index, p, &seen, err));
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

static size_t values_of(const study *s, const char *arm, int64_t n, double *out) {
  size_t k = 0;
  for (int seed = 1; seed <= s->o->n_seeds; seed++)
    if (isfinite(out[k] = cell(s, arm, n, seed))) k++;
  return k;
}

static json_t *arm_json(const study *s, const tl_study_arm *a) {
  json_t *all = json_array();
  for (int i = 0; i < s->n_labels; i++) {
    double v[TL_STUDY_SEEDS];
    json_t *row = json_array();
    for (size_t k = 0, n = values_of(s, a->name, s->labels[i], v); k < n; k++)
      json_array_append_new(row, json_real(v[k]));
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

static double majority(const tl_task_data *d) {
  size_t best = 0;
  for (int k = 0; k < d->labels.n; k++) {
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++) n += d->label[i] == k;
    if (n > best) best = n;
  }
  return (double)best / (double)d->n;
}

static json_t *study_json(const study *s) {
  json_t *labels = json_array();
  for (int i = 0; i < s->n_labels; i++) json_array_append_new(labels, json_integer(s->labels[i]));
  json_t *o = json_pack("{s:s, s:I, s:o, s:o, s:{s:s, s:f, s:b}}", "task", s->task->name,
                        "test_size", (json_int_t)s->test.records.n, "labels", labels, "arms",
                        arms_json(s), "metric", "name", s->task->metric, "scale",
                        tl_study_scale(s->task), "lower", (int)tl_study_lower(s->task));
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
  const double scale = tl_study_scale(s->task);
  const char *versus = s->arms & TL_STUDY_SCRATCH ? "scratch" : NULL;
  tl_buf b = {0};
  tl_buf_printf(&b, "%s\n%8s", s->task->metric, "labels");
  for (int a = 0; a < TL_STUDY_ARMS; a++)
    if (s->arms & tl_study_arm_list[a].bit) tl_buf_printf(&b, "%13s", tl_study_arm_list[a].name);
  if (versus) tl_buf_puts(&b, "   gain over scratch (95 % interval)");
  for (int i = 0; i < s->n_labels; i++) {
    double v[TL_STUDY_SEEDS], w[TL_STUDY_SEEDS];
    tl_buf_printf(&b, "\n%8lld", (long long)s->labels[i]);
    for (int a = 0; a < TL_STUDY_ARMS; a++)
      if (s->arms & tl_study_arm_list[a].bit)
        tl_buf_printf(&b, "%13.2f",
                      scale * tl_mean(v, values_of(s, tl_study_arm_list[a].name, s->labels[i], v)));
    size_t n = values_of(s, "pretrained", s->labels[i], v);
    if (!versus || values_of(s, versus, s->labels[i], w) != n) continue;
    tl_interval gain = tl_paired_t_interval(v, w, n, 0.95);
    tl_buf_printf(&b, "   %+.2f", scale * gain.mean);
    if (n > 1)
      tl_buf_printf(&b, " (%+.2f to %+.2f)", scale * (gain.mean - gain.half),
                    scale * (gain.mean + gain.half));
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
                       "of the next smaller number is kept)."));
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
