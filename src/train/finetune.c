/* Fine-tuning as the loop sees it: labelled records, a task, a model with its head. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "train/finetune.h"
#include "transfer/beam.h"
#include "transfer/task.h"
#include "transfer/warm.h"

/* A part of the records: as they are, and as tokens. */
typedef struct part {
  tl_task_data file; /* as read; empty when the part was cut from another */
  tl_task_data data;
  tl_task_samples samples;
} part;

typedef struct tl_task_run {
  const tl_task *task;
  tl_adapt_options adapt;
  part train, valid, test;
  tl_task_graph graph;
  tl_beam *beam;      /* translation */
  uint64_t *position; /* [accum]: where each prepared micro-batch begins */
  tl_scores scores;   /* of the last evaluation */
} tl_task_run;

/* --- records ---------------------------------------------------------------------------------- */

tl_status tl_finetune_read(const tl_config *c, const char *path, const tl_labels *labels,
                           tl_task_data *out, tl_err *err) {
  tl_task_options o = {.kind = tl_task_find(c->task.type)->records,
                       .labels = labels,
                       .replace_bad_utf8 = c->task.replace_bad_utf8};
  if (*c->task.columns) o.columns = c->task.columns;
  tl_task_format_parse(c->task.format, &o.format);
  const char *comma = o.kind == TL_TASK_PAIR ? strchr(path, ',') : NULL;
  if (!comma || tl_file_exists(path)) return tl_task_read(path, &o, out, err);
  char *first = strndup(path, (size_t)(comma - path)); /* two files of aligned lines */
  if (!first) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  o.format = TL_TASK_ALIGNED;
  o.path_b = comma + 1;
  tl_status s = tl_task_read(first, &o, out, err);
  free(first);
  return s;
}

tl_status tl_finetune_split(const tl_config *c, const tl_task_data *d, bool has_valid,
                            tl_task_data *train, tl_task_data *valid, tl_err *err) {
  size_t n = 0, n_valid = 0;
  TL_TRY(tl_task_split(d, (double)c->task.limit, has_valid ? 0 : c->task.valid_fraction, &n,
                       &n_valid, err));
  size_t *order = malloc((d->n + 1) * sizeof *order);
  if (!order) return tl_fail(err, TL_NOMEM, "out of memory for %zu records", d->n);
  tl_status s = tl_task_order(d, (uint64_t)c->run.seed, order, err);
  if (s == TL_OK) s = tl_task_select(d, order, n, train, err);
  if (s == TL_OK && n_valid) s = tl_task_select(d, order + d->n - n_valid, n_valid, valid, err);
  free(order);
  return s;
}

static tl_status whole(const tl_task_data *d, part *p, tl_err *err) {
  size_t *index = malloc((d->n + 1) * sizeof *index);
  if (!index) return tl_fail(err, TL_NOMEM, "out of memory for %zu records", d->n);
  for (size_t i = 0; i < d->n; i++) index[i] = i;
  tl_status s = tl_task_select(d, index, d->n, &p->data, err);
  free(index);
  return s;
}

static tl_status read_records(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_task_run *r = t->task;
  if (t->given) {
    TL_TRY(whole(&t->given->train->records, &r->train, err));
    return whole(&t->given->test->records, &r->test, err);
  }
  TL_TRY(tl_finetune_read(c, c->task.train, NULL, &r->train.file, err));
  const tl_labels *labels = r->train.file.labels.n ? &r->train.file.labels : NULL;
  t->data_name = c->task.train;
  t->data_hash = r->train.file.hash;
  if (*c->task.valid) {
    TL_TRY(tl_finetune_read(c, c->task.valid, labels, &r->valid.file, err));
    TL_TRY(whole(&r->valid.file, &r->valid, err));
    t->data_hash = tl_mix64(t->data_hash, r->valid.file.hash);
  }
  if (*c->task.test) {
    TL_TRY(tl_finetune_read(c, c->task.test, labels, &r->test.file, err));
    TL_TRY(whole(&r->test.file, &r->test, err));
  }
  if (r->task->loss == TL_LOSS_CLASS && labels->n < 2)
    return tl_fail(err, TL_DATA, "%s: only one label occurs, \"%s\"; there is nothing to learn",
                   c->task.train, labels->name[0]);
  return tl_finetune_split(c, &r->train.file, r->valid.file.n > 0, &r->train.data, &r->valid.data,
                           err);
}

/* --- model ------------------------------------------------------------------------------------ */

tl_status tl_finetune_adapt(const tl_config *c, tl_adapt_options *o, tl_err *err) {
  *o = (tl_adapt_options){.layers = c->adapt.layers,
                          .layer_decay = c->adapt.layer_decay,
                          .head_lr = c->adapt.head_lr,
                          .rank = c->adapt.rank,
                          .alpha = c->adapt.alpha,
                          .dropout = c->adapt.dropout,
                          .rs = c->adapt.rs,
                          .targets = c->adapt.targets,
                          .width = c->adapt.width,
                          .where = c->adapt.where,
                          .length = c->adapt.length};
  if (!tl_adapt_parse(c->adapt.method, &o->method))
    return tl_fail(err, TL_INTERNAL, "adapt.method has no code");
  return TL_OK;
}

static void adapt(tl_model *m, tl_declare *d, void *user) {
  tl_adapt_declare(m, d, user);
}

tl_status tl_finetune_tokenizer(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  if (*c->task.from) {
    t->tok_dir = c->task.from;
    return tl_model_tokenizer(c->task.from, &t->tok, err);
  }
  const char *name = c->task.tokenizer;
  if (!*name) name = c->task.encoder_from;
  if (!*name) name = c->task.decoder_from;
  if (!*name)
    return tl_fail(err, TL_CONFIG,
                   "task.from is empty: name a pretrained model's folder, or, to begin with random "
                   "weights, a tokenizer with task.tokenizer");
  t->tok_dir = name;
  return tl_tokenizer_open(t->ctx, name, &t->tok, err);
}

tl_status tl_finetune_config(tl_trainer *t, tl_model_config *mc, tl_err *err) {
  const tl_config *c = t->cfg;
  int64_t vocab = tl_tokenizer_vocab_size(t->tok);
  if (*c->task.from)
    TL_TRY(tl_model_read_config(c->task.from, mc, err));
  else
    TL_TRY(tl_model_config_from(c, vocab, c->task.max_len, mc, err));
  if (tl_arch_find(mc->type)->image)
    return tl_fail(err, TL_CONFIG, "model.type %s reads pictures; use task.type=image_classify",
                   mc->type);
  if (vocab > mc->vocab)
    return tl_fail(err, TL_CONFIG, "%s: the tokenizer has %lld tokens, the model only %lld",
                   t->tok_dir, (long long)vocab, (long long)mc->vocab);
  mc->dropout = c->task.dropout;
  mc->attention_dropout = 0;
  return TL_OK;
}

tl_status tl_finetune_weights(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  bool new_head = false;
  if (!*c->task.from || c->task.random) return TL_OK;
  TL_TRY(tl_model_start_weights(t->model, c->task.from, &new_head, err));
  if (new_head)
    tl_trainer_note(t, "head",
                    "%s has a head for other classes; this one begins with random weights",
                    c->task.from);
  return TL_OK;
}

static tl_status warm_start(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_warm_start o = {c->task.encoder_from, c->task.decoder_from};
  tl_warm_counts n;
  if (!*o.encoder && !*o.decoder) return TL_OK;
  if (*c->task.from)
    return tl_fail(err, TL_CONFIG,
                   "task.from names a whole model; leave it out with task.encoder_from and "
                   "task.decoder_from");
  TL_TRY(tl_warm_start_model(t->ctx, t->model, t->tok, &o, &n, err));
  tl_log(t->ctx, TL_LOG_INFO,
         "warm start: tensors taken: %d for the encoder, %d for the decoder, %d of embedding and "
         "output; fresh: %d",
         n.encoder, n.decoder, n.shared, n.fresh);
  return TL_OK;
}

static tl_status make_model(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_task_run *r = t->task;
  const tl_labels *labels = &r->train.data.labels;
  tl_model_config mc = {0};
  TL_TRY(tl_finetune_config(t, &mc, err));
  tl_adapt_config(&mc, &r->adapt);
  tl_task_head_options o = {.kind = r->task->head,
                            .n_outputs = tl_task_outputs(r->task, labels),
                            .name = labels->n ? (const char *const *)labels->name : NULL,
                            .problem = r->task->problem,
                            .dropout = c->task.dropout,
                            .extra = adapt,
                            .user = &r->adapt};
  TL_TRY(tl_model_new_task(&mc, &o, (uint64_t)c->run.seed, true, &t->model, err));
  const tl_arch *arch = t->model->arch;
  if (r->task->seq2seq && !arch->seq2seq)
    return tl_fail(err, TL_CONFIG,
                   "task.type translate needs an encoder-decoder (model.type=encdec or t5), not %s",
                   arch->name);
  if (r->task->head == TL_HEAD_NONE && !r->task->seq2seq && (arch->encoder || arch->seq2seq))
    return tl_fail(err, TL_CONFIG, "task.type prompt needs a decoder (gpt2, llama), not %s",
                   arch->name);
  TL_TRY(warm_start(t, err));
  TL_TRY(tl_finetune_weights(t, err));
  tl_adapt_begin(t->model);
  return TL_OK;
}

static tl_status encode(tl_trainer *t, part *p, tl_err *err) {
  if (p->data.n == 0) return TL_OK;
  tl_encode_options o = tl_encode_for(t->model, t->cfg->task.max_len);
  return tl_task_encode(t->task->task, t->tok, &p->data, &o, &p->samples, err);
}

/* Room for hypotheses twice as long as the longest source, as tl_beam_options has it. */
static tl_status make_beam(tl_trainer *t, tl_err *err) {
  tl_task_run *r = t->task;
  const tl_config *c = t->cfg;
  const part *parts[] = {&r->valid, &r->test};
  int64_t longest = 1, most = t->model->c.max_len;
  for (int i = 0; i < 2; i++)
    for (int64_t k = 0; k < parts[i]->samples.n; k++)
      if (parts[i]->samples.second[k] > longest) longest = parts[i]->samples.second[k];
  tl_beam_limits l = {
      .beam = (int)(c->task.beam > c->task.eval_beam ? c->task.beam : c->task.eval_beam),
      .max_source = longest,
      .max_len = 2 * longest + 16 < most ? 2 * longest + 16 : most,
      .vocab = tl_tokenizer_vocab_size(t->tok),
      .bos = tl_model_start(&t->model->c, t->tok),
      .eos = tl_tokenizer_special(t->tok, TL_TOK_EOS)};
  return tl_beam_new(t->ctx, t->model, tl_kernels_dtype(t->ctx->k, c->run.dtype), &l, &r->beam,
                     err);
}

static tl_status make_graph(tl_trainer *t, tl_err *err) {
  tl_task_run *r = t->task;
  part *parts[] = {&r->train, &r->valid, &r->test};
  tl_task_graph_options o = {
      .dt = tl_kernels_dtype(t->ctx->k, t->cfg->run.dtype),
      .room = {.texts = t->cfg->train.batch, .tokens = 1, .source = 1, .targets = 1},
      .smoothing = t->cfg->task.label_smoothing,
      .training = true};
  for (int i = 0; i < 3; i++) {
    TL_TRY(encode(t, parts[i], err));
    TL_TRY(tl_task_room_for(r->task, &parts[i]->samples, &o.room, err));
  }
  TL_TRY(tl_task_graph_new(t->ctx, r->task, t->model, &o, &r->graph, err));
  return r->task->seq2seq && r->valid.data.n + r->test.data.n > 0 ? make_beam(t, err) : TL_OK;
}

void tl_finetune_plan(tl_trainer *t, int64_t n) {
  const tl_config *c = t->cfg;
  double per_step = (double)(c->train.batch * c->train.accum);
  if (c->run.minutes > 0) return; /* planned from the measured speed */
  t->s.steps = c->train.steps;
  if (t->s.steps == 0) {
    t->s.steps = (int64_t)ceil(c->task.epochs * (double)n / per_step);
    if (t->s.steps < c->task.min_steps) t->s.steps = c->task.min_steps;
  }
  if (t->s.steps < 1) t->s.steps = 1;
}

static tl_status begin(tl_trainer *t, const char *task, tl_err *err) {
  tl_task_run *r = t->task = calloc(1, sizeof *t->task);
  if (!r) return tl_fail(err, TL_NOMEM, "fine-tuning: out of memory");
  r->task = tl_task_find(task);
  r->position = calloc((size_t)t->cfg->train.accum, sizeof *r->position);
  if (!r->task) return tl_fail(err, TL_INTERNAL, "task.type has no code");
  if (!r->position) return tl_fail(err, TL_NOMEM, "fine-tuning: out of memory");
  return tl_finetune_adapt(t->cfg, &r->adapt, err);
}

static tl_status init(tl_trainer *t, tl_err *err) {
  TL_TRY(begin(t, t->cfg->task.type, err));
  tl_task_run *r = t->task;
  TL_TRY(read_records(t, err));
  TL_TRY(tl_finetune_tokenizer(t, err));
  TL_TRY(make_model(t, err));
  TL_TRY(make_graph(t, err));
  t->g = r->graph.g;
  t->val_ready = r->valid.data.n > 0;
  tl_finetune_plan(t, r->train.samples.n);
  return TL_OK;
}

/* --- made-up records ----------------------------------------------------------------------------
 */

/* Documents as samples of two classes, cut to max_len tokens. */
static tl_status make_up_samples(tl_task_samples *s, const tl_made_up *m, int64_t max_len,
                                 tl_pooling pool, tl_err *err) {
  int64_t n = m->n_lengths ? (int64_t)m->n_lengths : 1;
  int64_t all = m->n_lengths ? (int64_t)m->starts[n] : max_len;
  size_t rows = (size_t)n + 1;
  *s = (tl_task_samples){.start = calloc(rows, sizeof *s->start),
                         .target = calloc(rows, sizeof *s->target),
                         .token = malloc((size_t)all * sizeof *s->token),
                         .second = malloc(rows * sizeof *s->second),
                         .row = malloc(rows * sizeof *s->row),
                         .label = malloc(rows * sizeof *s->label),
                         .record = malloc(rows * sizeof *s->record)};
  if (!s->start || !s->target || !s->token || !s->second || !s->row || !s->label || !s->record)
    return tl_fail(err, TL_NOMEM, "bench: out of memory");
  tl_rng r = tl_rng_make(m->seed, TL_STREAM_TEST, 0, 0);
  for (s->n = 0; s->n < n; s->n++) {
    int64_t i = s->n, len = m->n_lengths ? (int64_t)(m->starts[i + 1] - m->starts[i]) : max_len;
    if (len > max_len) len = max_len;
    for (int64_t k = 0; k < len; k++)
      s->token[s->start[i] + k] = (int32_t)(m->first + tl_rng_below(&r, m->vocab - m->first));
    s->second[i] = (int32_t)len;
    s->row[i] = pool == TL_POOL_LAST ? (int32_t)len - 1 : 0;
    s->label[i] = (int32_t)i % 2;
    s->record[i] = (int32_t)i;
    s->start[i + 1] = s->start[i] + len;
    s->target[i + 1] = i + 1;
  }
  return TL_OK;
}

/* Each document is a record. */
static tl_status made_up(tl_trainer *t, const tl_made_up *m, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_model_config mc;
  TL_TRY(begin(t, "classify", err));
  tl_task_run *r = t->task;
  tl_task_head_options o = {
      .kind = r->task->head, .n_outputs = 2, .extra = adapt, .user = &r->adapt};
  TL_TRY(tl_tokenizer_open(t->ctx, "bytes", &t->tok, err));
  TL_TRY(tl_model_config_from(c, m->vocab, c->train.seq_len, &mc, err));
  tl_adapt_config(&mc, &r->adapt);
  TL_TRY(tl_model_new_task(&mc, &o, (uint64_t)c->run.seed, true, &t->model, err));
  tl_adapt_begin(t->model);
  TL_TRY(make_up_samples(&r->train.samples, m, c->train.seq_len, t->model->arch->task.pool, err));
  TL_TRY(make_graph(t, err));
  t->g = r->graph.g;
  return TL_OK;
}

/* --- steps ------------------------------------------------------------------------------------ */

int64_t tl_finetune_sample(const tl_trainer *t, int64_t samples, uint64_t position) {
  uint64_t n = (uint64_t)samples;
  return (int64_t)tl_permute(tl_mix64((uint64_t)t->cfg->run.seed, position / n), n, position % n);
}

static int64_t sample_at(const tl_trainer *t, uint64_t position) {
  return tl_finetune_sample(t, t->task->train.samples.n, position);
}

static int64_t load(tl_trainer *t, int64_t m, uint64_t position) {
  tl_task_run *r = t->task;
  const tl_task_samples *s = &r->train.samples;
  bool values = r->task->loss == TL_LOSS_MULTI || r->task->loss == TL_LOSS_VALUE;
  int64_t targets = 0;
  r->position[m] = position;
  for (int64_t i = 0; i < t->cfg->train.batch; i++) {
    int64_t k = sample_at(t, position + (uint64_t)i);
    targets += s->target[k + 1] - s->target[k];
  }
  return values ? targets * t->model->task.n_outputs : targets;
}

static tl_lm_loss run(tl_trainer *t, int64_t m, const tl_pass *pass, tl_run_size *size) {
  tl_task_run *r = t->task;
  tl_task_graph_clear(&r->graph);
  for (int64_t i = 0; i < t->cfg->train.batch; i++)
    tl_task_graph_add(&r->graph, &r->train.samples, &r->train.data,
                      sample_at(t, r->position[m] + (uint64_t)i));
  const float *l = tl_task_graph_run(&r->graph, pass);
  *size = (tl_run_size){r->graph.n_tokens, r->graph.n_texts};
  return (tl_lm_loss){l[TL_LOSS_SUM], l[TL_LOSS_Z], l[TL_LOSS_COUNT], l[TL_LOSS_CORRECT]};
}

/* final: with intervals, and with all beams. keep (or NULL) gets the predictions. */
static tl_status score(tl_trainer *t, const part *p, bool final, tl_scores *out,
                       tl_predictions *keep, tl_err *err) {
  tl_predictions pred;
  const tl_config *c = t->cfg;
  tl_status s = tl_task_predict(&t->task->graph, &p->samples, &p->data, &pred, err);
  if (s == TL_OK && t->task->beam) {
    tl_beam_options o = {.beam = (int)(final ? c->task.beam : c->task.eval_beam),
                         .length_penalty = c->task.length_penalty};
    s = tl_beam_texts(t->task->beam, t->tok, &o, &p->samples, &pred.text, err);
    if (s == TL_OK) pred.n = p->data.n;
  }
  if (s != TL_OK) return s;
  s = tl_task_scores(t->task->task, &p->data, &pred, final && !t->given, (uint64_t)t->cfg->run.seed,
                     out, err);
  if (keep && s == TL_OK)
    *keep = pred;
  else
    tl_predictions_free(&pred);
  return s;
}

static tl_status evaluate(tl_trainer *t, tl_eval_result *e, tl_err *err) {
  tl_task_run *r = t->task;
  double start = tl_now();
  TL_TRY(score(t, &r->valid, false, &r->scores, NULL, err));
  double metric = tl_scores_find(&r->scores, r->task->metric);
  *e = (tl_eval_result){.loss = tl_scores_find(&r->scores, "loss"), .bpb = NAN};
  e->accuracy = tl_scores_find(&r->scores, "accuracy");
  e->perplexity = exp(e->loss);
  e->criterion = strcmp(r->task->metric, "loss") ? -metric : metric;
  if (isnan(e->criterion)) e->criterion = e->loss; /* a correlation of equal values, say */
  e->targets = (uint64_t)r->valid.samples.target[r->valid.samples.n];
  e->seconds = tl_now() - start;
  return TL_OK;
}

static const char *metric(const tl_trainer *t) {
  return t->task->task->metric;
}

static void rates(const tl_trainer *t, float *factor) {
  tl_adapt_rates(t->model, &t->task->adapt, factor);
}

/* peft's word. */
static const char *peft_task(const tl_task *t) {
  return t->head == TL_HEAD_SEQUENCE ? "SEQ_CLS"
         : t->head == TL_HEAD_TOKENS ? "TOKEN_CLS"
         : t->seq2seq                ? "SEQ_2_SEQ_LM"
                                     : "CAUSAL_LM";
}

/* A low-rank update of a whole model is saved alone, its base named; otherwise it is merged. */
tl_status tl_finetune_end(tl_trainer *t, const tl_adapt_options *o, const char *task, tl_err *err) {
  const char *from = t->cfg->task.from;
  tl_model_place p = {0};
  if (*from) TL_TRY(tl_model_locate(from, &p, err));
  bool alone = *from && !p.adapter && (o->method == TL_ADAPT_LORA || o->method == TL_ADAPT_DORA);
  tl_model_place_free(&p);
  if (!alone) {
    tl_adapt_merge(t->model);
    return TL_OK;
  }
  char *full = realpath(from, NULL), *base = full ? tl_arena_strdup(&t->model->arena, full) : NULL;
  free(full);
  if (!base) return tl_fail(err, TL_NOMEM, "%s: out of memory for its path", from);
  t->lora = (tl_lora_about){.base = base,
                            .task = task,
                            .rank = o->rank,
                            .alpha = o->alpha,
                            .dropout = o->dropout,
                            .rs = o->rs,
                            .dora = o->method == TL_ADAPT_DORA,
                            .body = !strcmp(task, "FEATURE_EXTRACTION")};
  return TL_OK;
}

static tl_status finish(tl_trainer *t, tl_train_result *result, tl_err *err) {
  tl_task_run *r = t->task;
  tl_task_result *x = &result->task;
  if (t->val_ready && t->s.best_step != t->s.step) TL_TRY(tl_trainer_load_best(t, err));
  if (r->valid.data.n) TL_TRY(score(t, &r->valid, true, &x->valid, NULL, err));
  tl_predictions *keep = t->given ? t->given->pred : NULL;
  if (r->test.data.n) TL_TRY(score(t, &r->test, true, &x->test, keep, err));
  x->type = r->task->name;
  x->metric = r->task->metric;
  x->best = strcmp(x->metric, "loss") ? -t->s.best : t->s.best;
  x->trained = tl_params_count(&t->model->params, true);
  x->n_train = (int64_t)r->train.data.n;
  x->n_valid = (int64_t)r->valid.data.n;
  x->n_test = (int64_t)r->test.data.n;
  x->n_cut = r->train.samples.n_cut;
  return tl_finetune_end(t, &r->adapt, peft_task(r->task), err);
}

static void free_part(part *p) {
  tl_task_samples_free(&p->samples);
  tl_task_select_free(&p->data);
  tl_task_data_free(&p->file);
}

static void release(tl_trainer *t) {
  tl_task_run *r = t->task;
  if (!r) return;
  tl_task_graph_free(&r->graph);
  tl_beam_free(r->beam);
  free_part(&r->train);
  free_part(&r->valid);
  free_part(&r->test);
  free(r->position);
  free(r);
}

const tl_learner tl_finetuning = {.init = init,
                                  .made_up = made_up,
                                  .load = load,
                                  .run = run,
                                  .evaluate = evaluate,
                                  .metric = metric,
                                  .rates = rates,
                                  .finish = finish,
                                  .free = release,
                                  .keeps_best = true};
