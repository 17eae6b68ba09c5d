/* Fine-tuning on pictures as the loop sees it: one label each or a mask, a picture model with its
 * head, from random weights too. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "train/finetune.h"
#include "train/image_batch.h"
#include "train/part.h"
#include "transfer/mask.h"

typedef struct tl_image_run {
  const tl_task *task;
  tl_adapt_options adapt;
  tl_image_data file[3]; /* train, valid, test; without pictures: no such file */
  tl_part train, valid, test;
  tl_augment plain; /* for measuring */
  tl_image_graph graph;
  tl_image_feed *feed;
  tl_image_batch *micro; /* [accum] */
  void *made_up[2];      /* pictures and targets of micro where there is no feed */
  float *class_weights;  /* [classes] of whole pictures; NULL: all 1 */
  tl_scores scores;      /* of the last evaluation */
} tl_image_run;

static bool has_masks(const tl_image_run *r) {
  return r->task->head == TL_HEAD_MASKS;
}

/* --- data --------------------------------------------------------------------------------------
 */

static tl_status read_file(tl_trainer *t, const char *path, const tl_labels *labels,
                           tl_image_data *out, tl_err *err) {
  TL_TRY(tl_part_read_pictures(t->cfg, path, labels, out, err));
  for (int i = 0; i < TL_IMAGE_MAX_BAD && out->bad[i]; i++)
    tl_trainer_note(t, "warning", "left out: %s", out->bad[i]);
  if (out->n_bad > 0)
    tl_trainer_note(t, "warning", "%s: %zu broken pictures were left out", path, out->n_bad);
  t->data_hash = tl_mix64(t->data_hash, out->records.hash);
  return TL_OK;
}

static tl_status take(const tl_image_data *file, const size_t *order, size_t n, tl_part *p,
                      tl_err *err) {
  return tl_part_take(&file->records, file, order, n, p, err);
}

static tl_status split(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_image_run *r = t->image;
  const tl_task_data *d = &r->file[0].records;
  size_t n = 0, n_valid = 0;
  bool has_valid = r->file[1].records.n > 0;
  TL_TRY(tl_task_split(d, (double)c->task.limit, has_valid ? 0 : c->task.valid_fraction, &n,
                       &n_valid, err));
  size_t *order = malloc((d->n + 1) * sizeof *order);
  if (!order) return tl_fail(err, TL_NOMEM, "out of memory for %zu pictures", d->n);
  tl_status s = tl_task_order(d, (uint64_t)c->run.seed, order, err);
  if (s == TL_OK) s = take(&r->file[0], order, n, &r->train, err);
  if (s == TL_OK && n_valid) s = take(&r->file[0], order + d->n - n_valid, n_valid, &r->valid, err);
  free(order);
  return s;
}

static tl_status read_data(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_image_run *r = t->image;
  if (t->given) {
    r->train = *t->given->train;
    r->test = *t->given->test;
    return TL_OK;
  }
  t->data_name = c->task.train;
  TL_TRY(read_file(t, c->task.train, NULL, &r->file[0], err));
  const tl_labels *labels = &r->file[0].records.labels;
  if (labels->n < 2)
    return tl_fail(err, TL_DATA, "%s: only one %s occurs, \"%s\"; there is nothing to learn",
                   c->task.train, has_masks(r) ? "class" : "label", labels->name[0]);
  if (*c->task.valid) {
    TL_TRY(read_file(t, c->task.valid, labels, &r->file[1], err));
    TL_TRY(take(&r->file[1], NULL, r->file[1].records.n, &r->valid, err));
  }
  uint64_t hash = t->data_hash; /* the test pictures change nothing of the run */
  if (*c->task.test) {
    TL_TRY(read_file(t, c->task.test, labels, &r->file[2], err));
    TL_TRY(take(&r->file[2], NULL, r->file[2].records.n, &r->test, err));
  }
  t->data_hash = hash;
  return split(t, err);
}

/* --- model -------------------------------------------------------------------------------------
 */

static void adapt(tl_model *m, tl_declare *d, void *user) {
  tl_adapt_declare(m, d, user);
}

static tl_status model_config(tl_trainer *t, tl_model_config *mc, tl_err *err) {
  const tl_config *c = t->cfg;
  TL_TRY(tl_part_model_config(c, c->task.from, t->image->train.pictures, mc, err));
  if (strcmp(c->task.type, "image_classify") && tl_arch_find(mc->type)->classify)
    return tl_fail(err, TL_CONFIG, "model.type %s has one class for each picture; task.type is %s",
                   mc->type, c->task.type);
  mc->dropout = c->task.dropout;
  mc->attention_dropout = 0;
  return TL_OK;
}

/* Low-rank updates are those of a transformer's matrices, and `last` counts its blocks. */
static tl_status check_method(const tl_trainer *t, const tl_model_config *mc, tl_err *err) {
  tl_adapt_method a = t->image->adapt.method;
  if (tl_arch_find(mc->type)->layout == TL_LAYOUT_PATCHES || a == TL_ADAPT_FULL ||
      a == TL_ADAPT_PROBE || a == TL_ADAPT_BITFIT)
    return TL_OK;
  return tl_fail(err, TL_CONFIG,
                 "adapt.method %s is for transformers; model.type %s takes full, "
                 "probe or bitfit",
                 t->cfg->adapt.method, mc->type);
}

static tl_status make_model(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_image_run *r = t->image;
  const tl_labels *labels = &r->train.records.labels;
  tl_model_config mc = {0};
  TL_TRY(model_config(t, &mc, err));
  TL_TRY(check_method(t, &mc, err));
  tl_task_head_options o = {.kind = r->task->head,
                            .n_outputs = labels->n,
                            .name = (const char *const *)labels->name,
                            .problem = r->task->problem,
                            .dropout = c->task.dropout,
                            .smoothing = c->task.label_smoothing,
                            .void_id = (int)c->image.void_id,
                            .extra = adapt,
                            .user = &r->adapt};
  TL_TRY(tl_model_new_task(&mc, &o, (uint64_t)c->run.seed, true, &t->model, err));
  TL_TRY(tl_finetune_weights(t, err));
  tl_adapt_begin(t->model);
  return tl_image_graph_new(t->ctx, t->model, tl_kernels_dtype(t->ctx->k, c->run.dtype),
                            c->train.batch, true, &r->graph, err);
}

/* How pictures become the model's input. */
static tl_status set_plain(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_image_run *r = t->image;
  const tl_model_config *mc = &t->model->c;
  tl_augment_from(c, (int32_t)mc->image_size, (int32_t)mc->channels, false, &r->plain);
  r->plain.whole = has_masks(r);
  if (*c->task.from) return tl_image_read_preprocessor(c->task.from, &r->plain, err);
  if (!t->model->arch->unit_pixels)
    return tl_image_statistics(r->train.pictures, r->train.index, r->train.records.n, &r->plain,
                               err);
  for (int k = 0; k < 3; k++) r->plain.std[k] = 1;
  return TL_OK;
}

/* Of whole pictures: by the inverse of each class's number, the mean over the pictures 1. */
static tl_status weigh_classes(tl_trainer *t, tl_err *err) {
  tl_image_run *r = t->image;
  const tl_task_data *d = &r->train.pictures->records;
  size_t n = r->train.records.n, outputs = (size_t)d->labels.n, present = 0;
  if (strcmp(t->cfg->image.class_weights, "balanced")) return TL_OK;
  if (has_masks(r))
    return tl_mask_balance(r->train.pictures, r->train.index, n, (int)outputs,
                           r->graph.weights->data, err);
  if (!d->label || t->model->arch->classify)
    return tl_fail(
        err, TL_CONFIG,
        "image.class_weights=balanced is for one class a picture with a softmax, and for "
        "masks; not for task.type %s with model.type %s",
        t->cfg->task.type, t->model->arch->name);
  float *w = r->class_weights = calloc(outputs, sizeof *w);
  if (!w) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  for (size_t i = 0; i < n; i++) w[d->label[r->train.index[i]]]++;
  for (size_t c = 0; c < outputs; c++) present += w[c] > 0;
  for (size_t c = 0; c < outputs; c++)
    if (w[c] > 0) w[c] = (float)((double)n / ((double)present * (double)w[c]));
  return TL_OK;
}

static tl_status make_feed(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_image_run *r = t->image;
  tl_image_feed_options o = {.data = r->train.pictures,
                             .index = r->train.index,
                             .n = (int64_t)r->train.records.n,
                             .batch = c->train.batch,
                             .ahead = (int)(2 * c->train.accum + 1),
                             .seed = (uint64_t)c->run.seed,
                             .mix = {c->image.mixup, c->image.cutmix},
                             .smoothing = c->task.label_smoothing,
                             .class_weights = r->class_weights,
                             .side = r->graph.side,
                             .model = t->model->c};
  tl_augment_from(c, r->plain.size, r->plain.channels, true, &o.augment);
  o.augment.whole = r->plain.whole;
  memcpy(o.augment.mean, r->plain.mean, sizeof o.augment.mean);
  memcpy(o.augment.std, r->plain.std, sizeof o.augment.std);
  return tl_image_feed_new(&o, &r->feed, err);
}

static tl_status begin(tl_trainer *t, const char *task, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_image_run *r = t->image = calloc(1, sizeof *t->image);
  if (!r) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  r->task = tl_task_find(task);
  r->micro = calloc((size_t)c->train.accum, sizeof *r->micro);
  if (!r->task) return tl_fail(err, TL_INTERNAL, "task.type has no code");
  if (!r->micro) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  TL_TRY(tl_finetune_adapt(c, &r->adapt, err));
  if (r->adapt.method == TL_ADAPT_PREFIX || r->adapt.method == TL_ADAPT_PROMPT ||
      r->adapt.method == TL_ADAPT_ADAPTER)
    return tl_fail(err, TL_CONFIG,
                   "adapt.method %s is for texts; use full, probe, last, bitfit, lora "
                   "or dora",
                   c->adapt.method);
  if (has_masks(r) && (c->image.mixup > 0 || c->image.cutmix > 0))
    return tl_fail(err, TL_CONFIG,
                   "image.mixup and image.cutmix mix labels of pictures; with masks leave them 0");
  return TL_OK;
}

static tl_status init(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  TL_TRY(begin(t, c->task.type, err));
  tl_image_run *r = t->image;
  TL_TRY(read_data(t, err));
  TL_TRY(make_model(t, err));
  TL_TRY(set_plain(t, err));
  TL_TRY(weigh_classes(t, err));
  TL_TRY(make_feed(t, err));
  t->g = r->graph.g;
  t->val_ready = r->valid.records.n > 0;
  tl_finetune_plan(t, (int64_t)r->train.records.n);
  return TL_OK;
}

/* --- made-up pictures --------------------------------------------------------------------------
 */

enum { MADE_UP_SIDE = 32, MADE_UP_CLASSES = 10 }; /* as CIFAR-10 has them */

/* Random pictures, and the class of each, or of its pixels: the same in every step. */
static tl_status make_up_batches(tl_trainer *t, uint64_t seed, tl_err *err) {
  tl_image_run *r = t->image;
  int64_t batch = t->cfg->train.batch, n = t->cfg->train.accum * batch;
  int64_t values = r->graph.shape.rows * r->graph.shape.cols, outputs = t->model->task.n_outputs;
  int64_t pixels = r->graph.side * r->graph.side, each = pixels ? pixels : outputs;
  float *x = r->made_up[0] = malloc((size_t)(n * values) * sizeof *x);
  float *t01 = r->made_up[1] = calloc((size_t)(n * each), sizeof *t01);
  int32_t *classes = pixels ? r->made_up[1] : NULL;
  if (!x || !t01) return tl_fail(err, TL_NOMEM, "out of memory for %lld pictures", (long long)n);
  tl_rng rng = tl_rng_make(seed, TL_STREAM_TEST, 0, 0);
  for (int64_t i = 0; i < n * values; i++) x[i] = tl_rng_normal(&rng);
  for (int64_t i = 0; i < n * (pixels ? pixels : 1); i++) {
    int64_t class = (int64_t)tl_rng_below(&rng, (uint64_t)outputs);
    if (classes)
      classes[i] = (int32_t) class;
    else
      t01[i * outputs + class] = 1;
  }
  for (int64_t m = 0; m < t->cfg->train.accum; m++, x += batch * values, t01 += batch * each)
    r->micro[m] = (tl_image_batch){.patches = x,
                                   .targets = pixels ? NULL : t01,
                                   .classes = pixels ? classes + m * batch * pixels : NULL};
  return TL_OK;
}

/* Whatever the task, where it is not one on pictures: their classes. */
static tl_status made_up(tl_trainer *t, const tl_made_up *m, tl_err *err) {
  const char *type = t->cfg->task.type;
  TL_TRY(begin(t, strncmp(type, "image_", 6) ? "image_classify" : type, err));
  tl_image_run *r = t->image;
  r->file[0] = (tl_image_data){.width = MADE_UP_SIDE, .height = MADE_UP_SIDE, .channels = 3};
  r->train.pictures = &r->file[0];
  r->train.records.labels.n = MADE_UP_CLASSES;
  TL_TRY(make_model(t, err));
  TL_TRY(make_up_batches(t, m->seed, err));
  t->g = r->graph.g;
  return TL_OK;
}

/* --- steps -------------------------------------------------------------------------------------
 */

/* Targets: pictures, their classes where each is a question of its own, or pixels. */
static int64_t load(tl_trainer *t, int64_t m, uint64_t position) {
  tl_image_run *r = t->image;
  int64_t each = r->task->loss == TL_LOSS_MULTI ? t->model->task.n_outputs : 1;
  if (r->feed) r->micro[m] = tl_image_feed_get(r->feed, position);
  const tl_image_batch b = r->micro[m];
  if (!b.classes) return t->cfg->train.batch * each;
  int64_t pixels = t->cfg->train.batch * r->graph.side * r->graph.side, targets = 0;
  for (int64_t i = 0; i < pixels; i++) targets += b.classes[i] >= 0;
  return targets;
}

static tl_lm_loss run(tl_trainer *t, int64_t m, const tl_pass *pass, tl_run_size *size) {
  tl_image_run *r = t->image;
  const tl_image_batch *b = &r->micro[m];
  tl_image_graph_set(&r->graph, t->cfg->train.batch, b->patches,
                     b->classes ? (const void *)b->classes : b->targets);
  const float *l = tl_image_graph_run(&r->graph, pass);
  *size = (tl_run_size){r->graph.n * r->graph.n_rows, r->graph.n};
  return (tl_lm_loss){l[TL_LOSS_SUM], l[TL_LOSS_Z], l[TL_LOSS_COUNT], l[TL_LOSS_CORRECT]};
}

/* keep (NULL: not wanted) gets the predictions. */
static tl_status score(tl_trainer *t, const tl_part *p, bool final, tl_scores *out,
                       tl_predictions *keep, tl_err *err) {
  tl_predictions pred;
  tl_image_run *r = t->image;
  TL_TRY(tl_image_feed_error(r->feed, err));
  if (has_masks(r))
    TL_TRY(tl_mask_predict(&r->graph, p->pictures, p->index, p->records.n, &r->plain, NULL, NULL,
                           &pred, err));
  else
    TL_TRY(tl_image_graph_predict(&r->graph, p->pictures, p->index, p->records.n, &r->plain, &pred,
                                  err));
  tl_status s = tl_task_scores(r->task, &p->records, &pred, final && !t->given,
                               (uint64_t)t->cfg->run.seed, out, err);
  if (s == TL_OK && keep)
    *keep = pred;
  else
    tl_predictions_free(&pred);
  return s;
}

static tl_status evaluate(tl_trainer *t, tl_eval_result *e, tl_err *err) {
  tl_image_run *r = t->image;
  double start = tl_now();
  TL_TRY(score(t, &r->valid, false, &r->scores, NULL, err));
  *e = (tl_eval_result){.loss = tl_scores_find(&r->scores, "loss"), .bpb = NAN};
  e->accuracy = tl_scores_find(&r->scores, has_masks(r) ? "pixel_accuracy" : "accuracy");
  e->perplexity = exp(e->loss);
  e->criterion = -tl_scores_find(&r->scores, r->task->metric);
  e->targets = r->valid.records.n;
  e->seconds = tl_now() - start;
  return TL_OK;
}

static const char *metric(const tl_trainer *t) {
  return t->image->task->metric;
}

static void rates(const tl_trainer *t, float *factor) {
  tl_adapt_rates(t->model, &t->image->adapt, factor);
}

static tl_status finish(tl_trainer *t, tl_train_result *result, tl_err *err) {
  tl_image_run *r = t->image;
  tl_task_result *x = &result->task;
  if (t->val_ready && t->s.best_step != t->s.step) TL_TRY(tl_trainer_load_best(t, err));
  if (r->valid.records.n) TL_TRY(score(t, &r->valid, true, &x->valid, NULL, err));
  tl_predictions *keep = t->given ? t->given->pred : NULL;
  if (r->test.records.n) TL_TRY(score(t, &r->test, true, &x->test, keep, err));
  x->type = r->task->name;
  x->metric = r->task->metric;
  x->best = -t->s.best;
  x->trained = tl_params_count(&t->model->params, true);
  x->n_train = (int64_t)r->train.records.n;
  x->n_valid = (int64_t)r->valid.records.n;
  x->n_test = (int64_t)r->test.records.n;
  if (!t->run) return TL_OK;
  tl_adapt_merge(t->model);
  char *dir = tl_path_join(tl_run_dir(t->run), "model");
  tl_status s = dir ? tl_image_write_preprocessor(dir, &r->plain, err)
                    : tl_fail(err, TL_NOMEM, "out of memory");
  free(dir);
  return s;
}

static void release(tl_trainer *t) {
  tl_image_run *r = t->image;
  if (!r) return;
  tl_image_feed_free(r->feed);
  tl_image_graph_free(&r->graph);
  if (!t->given) { /* else borrowed */
    tl_part_free(&r->train);
    tl_part_free(&r->valid);
    tl_part_free(&r->test);
  }
  for (int i = 0; i < 3; i++) tl_image_data_free(&r->file[i]);
  free(r->class_weights);
  free(r->micro);
  for (int i = 0; i < 2; i++) free(r->made_up[i]);
  free(r);
}

const tl_learner tl_imaging = {.init = init,
                               .made_up = made_up,
                               .load = load,
                               .run = run,
                               .evaluate = evaluate,
                               .metric = metric,
                               .rates = rates,
                               .finish = finish,
                               .free = release,
                               .keeps_best = true};
