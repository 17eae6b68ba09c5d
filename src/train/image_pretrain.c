/* Pretraining on pictures, without labels or with captions, as the loop sees it: an objective of
 * transfer/picture_objective.h, perhaps with a teacher. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "train/captions.h"
#include "train/finetune.h"
#include "train/image_batch.h"
#include "transfer/picture_objective.h"

typedef struct tl_picture_run {
  const tl_picture_objective *objective;
  tl_image_data file;
  size_t *index; /* [n_train + n_held_out] records; the last ones are held out */
  size_t n_train, n_held_out;
  tl_augment plain;              /* as finished models read pictures */
  tl_picture_parts parts[2];     /* of the model, of the teacher */
  tl_picture_graph graph, teach; /* teach.g NULL: no teacher */
  tl_model *teacher;
  tl_image_feed *feed, *held_out;
  tl_image_batch *micro; /* [accum] */
  uint64_t *position;    /* [accum] of its first sample */
  tl_captions captions;  /* with objective->captions */
} tl_picture_run;

/* Held-out pictures have positions of their own. */
static const uint64_t held_out = (uint64_t)1 << 63;

/* --- data --------------------------------------------------------------------------------------
 */

/* Each picture is held out by chance, or is not: whole batches of them. */
static tl_status split(tl_trainer *t, tl_err *err) {
  tl_picture_run *r = t->pictures;
  size_t n = r->file.records.n, batch = (size_t)t->cfg->train.batch;
  r->n_held_out = (size_t)(t->cfg->data.val_fraction * (double)n) / batch * batch;
  r->n_train = n - r->n_held_out;
  r->index = malloc((n + 1) * sizeof *r->index);
  if (!r->index) return tl_fail(err, TL_NOMEM, "out of memory for %zu pictures", n);
  if (r->n_train < batch)
    return tl_fail(err, TL_DATA, "%s: %zu pictures to train on; a batch (train.batch) needs %zu",
                   t->data_name, r->n_train, batch);
  for (size_t i = 0; i < n; i++) r->index[i] = (size_t)tl_permute((uint64_t)t->cfg->run.seed, n, i);
  return TL_OK;
}

static tl_status read_data(tl_trainer *t, tl_err *err) {
  tl_picture_run *r = t->pictures;
  t->data_name = t->cfg->data.images;
  TL_TRY(r->objective->captions ? tl_part_read_captions(t->cfg, t->data_name, &r->file, err)
                                : tl_part_read_unlabelled(t->cfg, t->data_name, &r->file, err));
  for (int i = 0; i < TL_IMAGE_MAX_BAD && r->file.bad[i]; i++)
    tl_trainer_note(t, "warning", "left out: %s", r->file.bad[i]);
  t->data_hash = r->file.records.hash;
  TL_TRY(split(t, err));
  return r->objective->captions
             ? tl_captions_init(t, &r->file.records, (int64_t)r->n_held_out, &r->captions, err)
             : TL_OK;
}

/* --- model and graphs --------------------------------------------------------------------------
 */

static tl_status make_model(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_picture_run *r = t->pictures;
  tl_model_config mc = {0};
  TL_TRY(tl_part_model_config(c, c->model.from, &r->file, &mc, err));
  mc.dropout = c->model.dropout;
  mc.attention_dropout = c->model.attention_dropout;
  if (r->captions.tok) mc.vocab = tl_tokenizer_vocab_size(r->captions.tok);
  TL_TRY(tl_picture_model_new(r->objective, c, &mc, true, &r->parts[0], &t->model, err));
  tl_augment_from(c, (int32_t)mc.image_size, (int32_t)mc.channels, false, &r->plain);
  if (*c->model.from) {
    TL_TRY(tl_image_read_preprocessor(c->model.from, &r->plain, err));
    TL_TRY(tl_model_read_weights(t->model, c->model.from, err));
  } else {
    TL_TRY(tl_image_statistics(&r->file, r->index, r->n_train, &r->plain, err));
  }
  if (!r->objective->teach) return TL_OK;
  TL_TRY(tl_picture_model_new(r->objective, c, &mc, false, &r->parts[1], &r->teacher, err));
  t->teacher = &r->teacher->params;
  return TL_OK;
}

static tl_status make_graphs(tl_trainer *t, tl_err *err) {
  tl_picture_run *r = t->pictures;
  tl_dtype dt = tl_kernels_dtype(t->ctx->k, t->cfg->run.dtype);
  TL_TRY(tl_picture_graph_new(t->ctx, r->objective, t->cfg, t->model, &r->parts[0], dt, false,
                              &r->graph, err));
  t->g = r->graph.g;
  if (!r->teacher) return TL_OK;
  return tl_picture_graph_new(t->ctx, r->objective, t->cfg, r->teacher, &r->parts[1], dt, true,
                              &r->teach, err);
}

static tl_status make_feed(tl_trainer *t, const size_t *index, size_t n, tl_image_feed **out,
                           tl_err *err) {
  const tl_config *c = t->cfg;
  const tl_picture_run *r = t->pictures;
  tl_image_feed_options o = {.data = &r->file,
                             .index = index,
                             .n = (int64_t)n,
                             .batch = c->train.batch,
                             .ahead = (int)(2 * c->train.accum + 1),
                             .seed = (uint64_t)c->run.seed,
                             .views = r->objective->views,
                             .model = t->model->c};
  tl_augment_from(c, r->plain.size, r->plain.channels, true, &o.augment);
  memcpy(o.augment.mean, r->plain.mean, sizeof o.augment.mean);
  memcpy(o.augment.std, r->plain.std, sizeof o.augment.std);
  /* Retrieval is judged on pictures as they are. */
  if (r->objective->captions && index != r->index) o.augment = r->plain;
  return tl_image_feed_new(&o, out, err);
}

static tl_status init(tl_trainer *t, tl_err *err) {
  tl_picture_run *r = t->pictures = calloc(1, sizeof *r);
  if (!r) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  r->objective = tl_picture_objective_find(t->cfg->objective.type);
  r->micro = calloc((size_t)t->cfg->train.accum, sizeof *r->micro);
  if (!r->objective) return tl_fail(err, TL_INTERNAL, "objective.type has no code");
  r->position = calloc((size_t)t->cfg->train.accum, sizeof *r->position);
  if (!r->micro || !r->position) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  TL_TRY(read_data(t, err));
  TL_TRY(make_model(t, err));
  TL_TRY(make_graphs(t, err));
  TL_TRY(make_feed(t, r->index, r->n_train, &r->feed, err));
  t->val_ready = r->n_held_out > 0;
  if (t->val_ready) TL_TRY(make_feed(t, r->index + r->n_train, r->n_held_out, &r->held_out, err));
  tl_finetune_plan(t, (int64_t)r->n_train);
  return TL_OK;
}

/* --- steps -------------------------------------------------------------------------------------
 */

static int64_t load(tl_trainer *t, int64_t m, uint64_t position) {
  tl_picture_run *r = t->pictures;
  r->micro[m] = tl_image_feed_get(r->feed, position);
  r->position[m] = position;
  return r->graph.targets;
}

/* A batch of a feed; chance: where its own begins. */
static tl_lm_loss run_on(tl_picture_run *r, const tl_image_feed *f, const tl_image_batch *b,
                         uint64_t position, uint64_t chance, const tl_pass *pass) {
  if (r->objective->captions) tl_captions_set(&r->captions, &r->graph, f, position);
  const float *l = tl_picture_graph_run(&r->graph, &r->teach, b->patches, chance, pass);
  return (tl_lm_loss){l[TL_LOSS_SUM], l[TL_LOSS_Z], l[TL_LOSS_COUNT], l[TL_LOSS_CORRECT]};
}

static tl_lm_loss run(tl_trainer *t, int64_t m, const tl_pass *pass, tl_run_size *size) {
  tl_picture_run *r = t->pictures;
  *size = (tl_run_size){r->graph.n * t->model->c.max_len, r->graph.n};
  return run_on(r, r->feed, &r->micro[m], r->position[m], r->position[m], pass);
}

/* Pictures that are held out, with the same chance every time. */
static tl_status measure(tl_trainer *t, tl_eval_result *e, tl_err *err) {
  tl_picture_run *r = t->pictures;
  double start = tl_now(), loss = 0, correct = 0, count = 0;
  int64_t batch = t->cfg->train.batch, batches = (int64_t)r->n_held_out / batch;
  TL_TRY(tl_image_feed_error(r->feed, err));
  for (int64_t b = 0; b < batches; b++) {
    uint64_t position = (uint64_t)(b * batch);
    tl_image_batch x = tl_image_feed_get(r->held_out, position);
    tl_lm_loss l =
        run_on(r, r->held_out, &x, position, held_out + position, &(tl_pass){.loss_scale = 1});
    if (r->objective->captions) tl_captions_take(&r->captions, &r->graph);
    loss += l.sum;
    correct += l.correct;
    count += l.count;
    if (tl_ctx_cancelled(t->ctx)) break;
  }
  *e = (tl_eval_result){
      .loss = loss / (double)(batches * r->graph.targets), .bpb = NAN, .accuracy = correct / count};
  e->perplexity = exp(e->loss);
  e->criterion = e->loss;
  e->targets = r->n_held_out;
  if (r->objective->captions) TL_TRY(tl_captions_score(t, &r->captions, e, err));
  e->seconds = tl_now() - start;
  return tl_image_feed_error(r->held_out, err);
}

static tl_status evaluate(tl_trainer *t, tl_eval_result *e, tl_err *err) {
  TL_TRY(measure(t, e, err));
  const tl_picture_run *r = t->pictures;
  return r->objective->captions ? tl_captions_log(t, &r->captions, err) : TL_OK;
}

static const char *metric(const tl_trainer *t) {
  return t->pictures->objective->captions ? tl_captions_metric : "loss";
}

/* What retrieval among the held-out pictures comes to at the end. */
static tl_status report(tl_trainer *t, tl_task_result *x, tl_err *err) {
  const tl_picture_run *r = t->pictures;
  tl_eval_result e;
  x->type = r->objective->name;
  x->metric = metric(t);
  x->best = -t->s.best;
  x->trained = tl_params_count(&t->model->params, true);
  x->n_train = (int64_t)r->n_train;
  x->n_valid = (int64_t)r->n_held_out;
  x->n_cut = r->captions.samples.n_cut;
  if (!t->val_ready) return TL_OK;
  TL_TRY(measure(t, &e, err));
  tl_captions_scores(&r->captions, &e, &x->valid);
  return TL_OK;
}

static tl_status finish(tl_trainer *t, tl_train_result *result, tl_err *err) {
  tl_picture_run *r = t->pictures;
  TL_TRY(tl_image_feed_error(r->feed, err));
  if (r->objective->captions) TL_TRY(report(t, &result->task, err));
  if (!t->run) return TL_OK;
  char *dir = tl_path_join(tl_run_dir(t->run), "model");
  tl_status s = dir ? tl_image_write_preprocessor(dir, &r->plain, err)
                    : tl_fail(err, TL_NOMEM, "out of memory");
  if (s == TL_OK && r->objective->captions)
    s = tl_clip_save(&r->parts[0].clip, &t->model->params, r->captions.tok, dir, err);
  free(dir);
  return s;
}

static void release(tl_trainer *t) {
  tl_picture_run *r = t->pictures;
  if (!r) return;
  tl_image_feed_free(r->feed);
  tl_image_feed_free(r->held_out);
  tl_picture_graph_free(&r->graph);
  tl_picture_graph_free(&r->teach);
  tl_model_free(r->teacher);
  tl_image_data_free(&r->file);
  tl_captions_free(&r->captions);
  free(r->index);
  free(r->micro);
  free(r->position);
  free(r);
}

const tl_learner tl_image_pretraining = {.init = init,
                                         .load = load,
                                         .run = run,
                                         .evaluate = evaluate,
                                         .metric = metric,
                                         .finish = finish,
                                         .free = release};
