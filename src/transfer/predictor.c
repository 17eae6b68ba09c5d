/* A finished classifier: model folder, tokenizer (or what pictures are normalised by), labels, and
 * one graph that serves any records. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transfer/mask.h"
#include "transfer/zero_shot.h"

enum { PREDICT_TOKENS = 8192, PREDICT_TEXTS = 512, MAX_LEN = 512 };

struct tl_predictor {
  tl_ctx *ctx;
  const tl_task *task;
  tl_tokenizer *tok;
  tl_labels labels;
  tl_model *model;
  tl_task_graph graph;   /* of texts, */
  tl_image_graph images; /* or of pictures, */
  tl_augment plain;      /* changed so */
  tl_mask_options masks; /* how their masks are read */
  tl_zero_shot names;    /* n == 0: the model has a head */
  int64_t max_len;
  tl_model_place place;
};

/* The task of a folder's head, from its class, its problem_type and its number of labels. */
static tl_status find_task(tl_predictor *p, const char *dir, const tl_model_config *c,
                           const tl_hf_task *t, tl_err *err) {
  const char *name = "classify";
  if (t->kind == TL_HEAD_NONE)
    return tl_fail(err, TL_CONFIG,
                   "%s: the model has no classification head; make one with tilth finetune, or, if "
                   "it translates, use tilth translate",
                   dir);
  if (t->kind == TL_HEAD_MASKS)
    name = "image_segment";
  else if (tl_arch_find(c->type)->image)
    name = strcmp(t->problem, "multi_label_classification") ? "image_classify" : "image_multilabel";
  else if (t->kind == TL_HEAD_TOKENS)
    name = "tokens";
  else if (!strcmp(t->problem, "regression") || (!*t->problem && p->labels.n == 1))
    name = "regression";
  else if (!strcmp(t->problem, "multi_label_classification"))
    name = "multilabel";
  p->task = tl_task_find(name);
  return TL_OK;
}

/* Reads the text side: tokenizer and the graph of packed tokens. */
static tl_status load_texts(tl_predictor *p, const char *dir, tl_dtype dt, tl_err *err) {
  const tl_model_config *c = &p->model->c;
  TL_TRY(tl_model_tokenizer(dir, &p->tok, err));
  if (tl_tokenizer_vocab_size(p->tok) > c->vocab)
    return tl_fail(err, TL_CONFIG, "%s: the tokenizer has %d tokens, the model only %lld", dir,
                   tl_tokenizer_vocab_size(p->tok), (long long)c->vocab);
  if (p->max_len == 0) p->max_len = MAX_LEN;
  if (p->max_len > c->max_len) p->max_len = c->max_len;
  int64_t tokens = PREDICT_TOKENS > c->max_len ? PREDICT_TOKENS : c->max_len;
  tl_task_graph_options go = {
      .dt = dt, .room = {.texts = PREDICT_TEXTS, .tokens = tokens, .targets = tokens}};
  return tl_task_graph_new(p->ctx, p->task, p->model, &go, &p->graph, err);
}

static tl_status load(tl_predictor *p, const char *dir, const char *dtype, tl_err *err) {
  tl_model_config c;
  tl_hf_task t;
  TL_TRY(tl_model_locate(dir, &p->place, err));
  TL_TRY(tl_model_read_config(dir, &c, err));
  TL_TRY(tl_model_read_task(dir, &t, err));
  if (t.kind != TL_HEAD_NONE) TL_TRY(tl_labels_read(p->place.described, &p->labels, err));
  TL_TRY(find_task(p, dir, &c, &t, err));
  tl_task_head_options o = {.kind = t.kind,
                            .n_outputs = p->labels.n,
                            .name = (const char *const *)p->labels.name,
                            .problem = t.problem,
                            .void_id = t.void_id};
  TL_TRY(tl_model_new_task(&c, &o, 0, false, &p->model, err));
  TL_TRY(tl_model_read_weights(p->model, dir, err));
  if (p->model->task.w) TL_TRY(tl_model_require(p->model, dir, p->model->task.w, err));
  tl_dtype dt = tl_kernels_dtype(p->ctx->k, dtype);
  if (!p->model->arch->image) return load_texts(p, dir, dt, err);
  TL_TRY(tl_image_plain(&p->place, &p->model->c, &p->plain, err));
  p->plain.whole = t.kind == TL_HEAD_MASKS;
  p->masks = (tl_mask_options){.void_id = t.void_id};
  return tl_image_graph_new(p->ctx, p->model, dt, tl_image_room(&p->model->c), false, &p->images,
                            err);
}

tl_status tl_predictor_open(tl_ctx *ctx, const char *dir, const char *dtype, int64_t max_len,
                            tl_predictor **out, tl_err *err) {
  tl_predictor *p = calloc(1, sizeof *p);
  if (!p) return tl_fail(err, TL_NOMEM, "predictor: out of memory");
  p->ctx = ctx;
  p->max_len = max_len;
  tl_status s = load(p, dir, dtype, err);
  if (s == TL_OK)
    *out = p;
  else
    tl_predictor_free(p);
  return s;
}

static tl_status load_names(tl_predictor *p, const char *dir, const char *const *names, size_t n,
                            tl_err *err) {
  TL_TRY(tl_labels_make(names, n, &p->labels, err));
  TL_TRY(tl_model_locate(dir, &p->place, err));
  TL_TRY(tl_model_load(dir, false, &p->model, err));
  const tl_model_config *c = &p->model->c;
  if (!p->model->arch->image)
    return tl_fail(err, TL_CONFIG, "%s: names are for models of pictures, not %s", dir, c->type);
  p->task = tl_task_find("image_classify");
  TL_TRY(tl_image_plain(&p->place, c, &p->plain, err));
  TL_TRY(tl_image_graph_body(p->ctx, p->model, tl_image_room(c), &p->images, err));
  return tl_zero_shot_open(p->ctx, p->place.base, &p->labels, tl_image_graph_dim(&p->images),
                           &p->names, err);
}

tl_status tl_predictor_open_names(tl_ctx *ctx, const char *dir, const char *const *names, size_t n,
                                  tl_predictor **out, tl_err *err) {
  tl_predictor *p = calloc(1, sizeof *p);
  if (!p) return tl_fail(err, TL_NOMEM, "predictor: out of memory");
  p->ctx = ctx;
  tl_status s = load_names(p, dir, names, n, err);
  if (s == TL_OK)
    *out = p;
  else
    tl_predictor_free(p);
  return s;
}

void tl_predictor_free(tl_predictor *p) {
  if (!p) return;
  tl_zero_shot_free(&p->names);
  tl_task_graph_free(&p->graph);
  tl_image_graph_free(&p->images);
  tl_model_free(p->model);
  tl_labels_free(&p->labels);
  tl_model_place_free(&p->place);
  tl_tokenizer_free(p->tok);
  free(p);
}

tl_status tl_predictor_switch(tl_predictor *p, const char *adapter, tl_err *err) {
  tl_model_place to = {0};
  if (adapter) {
    char *name = NULL;
    size_t n = strlen(p->place.base) + strlen(adapter) + 2;
    if (!(name = malloc(n))) return tl_fail(err, TL_NOMEM, "%s: out of memory", adapter);
    snprintf(name, n, "%s,%s", p->place.base, adapter);
    tl_status s = tl_model_locate(name, &to, err);
    free(name);
    tl_labels labels = {0};
    if (s == TL_OK) s = tl_labels_read(to.described, &labels, err);
    bool same = s == TL_OK && labels.n == p->labels.n;
    for (int32_t i = 0; same && i < labels.n; i++)
      same = !strcmp(labels.name[i], p->labels.name[i]);
    if (s == TL_OK && !same)
      s = tl_fail(err, TL_CONFIG, "%s: its labels are not those of the open model", adapter);
    tl_labels_free(&labels);
    if (s != TL_OK) {
      tl_model_place_free(&to);
      return s;
    }
  }
  tl_status s = tl_model_switch(p->model, p->place.base, adapter, err);
  if (s == TL_OK && p->model->task.w)
    s = tl_model_require(p->model, p->place.base, p->model->task.w, err);
  tl_model_place_free(&to);
  return s;
}

const char *tl_predictor_task(const tl_predictor *p) {
  return p->task->name;
}
tl_task_kind tl_predictor_kind(const tl_predictor *p) {
  return p->task->records;
}
const tl_labels *tl_predictor_labels(const tl_predictor *p) {
  return &p->labels;
}

tl_status tl_predictor_run(tl_predictor *p, const tl_task_data *d, tl_predictions *out,
                           tl_scores *scores, tl_err *err) {
  if (p->model->arch->image)
    return tl_fail(err, TL_CONFIG, "%s: the model reads pictures, not texts", p->place.described);
  tl_task_samples samples;
  tl_encode_options o = tl_encode_for(p->model, p->max_len);
  TL_TRY(tl_task_encode(p->task, p->tok, d, &o, &samples, err));
  tl_status s = tl_task_predict(&p->graph, &samples, scores ? d : NULL, out, err);
  if (s == TL_OK && scores) {
    s = tl_task_scores(p->task, d, out, true, 1, scores, err);
    if (s != TL_OK) tl_predictions_free(out);
  }
  tl_task_samples_free(&samples);
  return s;
}

bool tl_predictor_reads_images(const tl_predictor *p) {
  return p->model->arch->image;
}

tl_status tl_predictor_run_images(tl_predictor *p, const tl_image_data *d, tl_predictions *out,
                                  tl_scores *scores, tl_err *err) {
  if (!p->model->arch->image)
    return tl_fail(err, TL_CONFIG, "%s: the model reads texts, not pictures", p->place.described);
  if (tl_predictor_masks(p))
    return tl_fail(err, TL_CONFIG, "%s: the model gives classes of pixels, not of pictures",
                   p->place.described);
  if (scores && d->records.kind != p->task->records)
    return tl_fail(err, TL_DATA, "the pictures have %s, not what the model gives",
                   d->records.first ? "any number of classes" : "one class each");
  if (scores && !d->records.labels.n)
    return tl_fail(err, TL_DATA, "the pictures have no labels to compare with");
  TL_TRY(p->names.n
             ? tl_zero_shot_predict(&p->names, &p->images, d, &p->plain, out, err)
             : tl_image_graph_predict(&p->images, d, NULL, d->records.n, &p->plain, out, err));
  if (!scores) return TL_OK;
  tl_status s = tl_task_scores(p->task, &d->records, out, true, 1, scores, err);
  if (s != TL_OK) tl_predictions_free(out);
  return s;
}

const tl_mask_options *tl_predictor_masks(const tl_predictor *p) {
  return p->task->head == TL_HEAD_MASKS ? &p->masks : NULL;
}

tl_status tl_predictor_run_masks(tl_predictor *p, const tl_image_data *d, const char *dir,
                                 tl_predictions *out, tl_scores *scores, tl_err *err) {
  char **name = NULL;
  if (!tl_predictor_masks(p))
    return tl_fail(err, TL_CONFIG, "%s: the model does not give classes of pixels",
                   p->place.described);
  if (scores && !d->masks)
    return tl_fail(err, TL_DATA, "the pictures have no masks to compare with");
  tl_status s = tl_mask_names(d, dir, &name, err);
  tl_mask_files files = {name, p->labels.n};
  if (s == TL_OK)
    s = tl_mask_predict(&p->images, d, NULL, d->records.n, &p->plain, tl_mask_write, &files, out,
                        err);
  if (s == TL_OK) {
    out->text = name;
    if (scores) s = tl_task_scores(p->task, &d->records, out, true, 1, scores, err);
    if (s != TL_OK) tl_predictions_free(out);
    return s;
  }
  for (size_t i = 0; name && i < d->records.n; i++) free(name[i]);
  free(name);
  return s;
}
