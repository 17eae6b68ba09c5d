/* Contrastive fine-tuning (task.type simcse) as the loop sees it: texts, perhaps with partners and
 * hard negatives; the best step is that of the highest Spearman correlation on pairs that people
 * judged (task.valid), else of the lowest contrastive loss on held-out texts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "train/finetune.h"
#include "transfer/contrast.h"

enum { MAX_VIEWS = 3, EMBED_TOKENS = 8192, EMBED_TEXTS = 512 };

/* Texts to learn from, or to validate on: a view each is the text, its partner, its negative. */
typedef struct texts {
  tl_task_data data;
  tl_task_samples view[MAX_VIEWS];
} texts;

/* Pairs that people judged. */
typedef struct pairs {
  tl_task_data data;
  tl_task_samples side[2];
} pairs;

typedef struct tl_contrast_run {
  tl_adapt_options adapt;
  tl_task_data file;
  texts train, held_out;
  pairs valid, test;
  int n_texts; /* of a record: 1 to 3 */
  tl_pooling pool;
  tl_contrast_graph graph;
  tl_embed_graph embed; /* for the pairs */
  uint64_t *position;   /* [accum]: where each prepared micro-batch begins */
  int64_t *index;       /* [batch]: the records of the batch */
} tl_contrast_run;

/* --- data ------------------------------------------------------------------------------------- */

static tl_task_options read_options(const tl_config *c, tl_task_kind kind) {
  tl_task_options o = {.kind = kind, .replace_bad_utf8 = c->task.replace_bad_utf8};
  tl_task_format_parse(c->task.format, &o.format);
  return o;
}

static tl_status read_pairs(const tl_config *c, const char *path, tl_task_data *out, tl_err *err) {
  tl_task_options o = {
      .kind = TL_TASK_VALUE, .extra_columns = true, .replace_bad_utf8 = c->task.replace_bad_utf8};
  TL_TRY(tl_task_read(path, &o, out, err));
  if (out->text_b) return TL_OK;
  return tl_fail(err, TL_DATA, "%s: pairs of texts with a similarity are needed, as in STS-B",
                 path);
}

static tl_status check_sizes(const tl_trainer *t, tl_err *err) {
  const tl_contrast_run *r = t->contrast;
  size_t batch = (size_t)t->cfg->train.batch;
  if (batch < 2)
    return tl_fail(err, TL_CONFIG,
                   "task.type simcse compares the texts of a batch: train.batch "
                   "must be at least 2");
  if (r->train.data.n < batch || (r->held_out.data.n && r->held_out.data.n < batch))
    return tl_fail(err, TL_DATA,
                   "%s: %zu texts to train on and %zu to validate on; a batch (train.batch) needs "
                   "%zu of each",
                   t->cfg->task.train, r->train.data.n, r->held_out.data.n, batch);
  if (r->n_texts == 1 && t->cfg->task.dropout == 0)
    return tl_fail(err, TL_CONFIG,
                   "task.dropout is 0: single texts are told from themselves by dropout alone; set "
                   "it, or give pairs");
  return TL_OK;
}

static tl_status read_data(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_contrast_run *r = t->contrast;
  tl_task_options o = read_options(c, TL_TASK_TEXTS);
  if (*c->task.columns) o.columns = c->task.columns;
  TL_TRY(tl_task_read(c->task.train, &o, &r->file, err));
  t->data_name = c->task.train;
  t->data_hash = r->file.hash;
  r->n_texts = r->file.text_c ? 3 : r->file.text_b ? 2 : 1;
  if (r->n_texts == 3 && !r->file.text_b)
    return tl_fail(err, TL_DATA, "%s: hard negatives (text_c) without partners (text_b)",
                   c->task.train);
  if (*c->task.valid) {
    TL_TRY(read_pairs(c, c->task.valid, &r->valid.data, err));
    t->data_hash = tl_mix64(t->data_hash, r->valid.data.hash);
  }
  if (*c->task.test) TL_TRY(read_pairs(c, c->task.test, &r->test.data, err));
  TL_TRY(
      tl_finetune_split(c, &r->file, r->valid.data.n > 0, &r->train.data, &r->held_out.data, err));
  return check_sizes(t, err);
}

static tl_status encode(tl_trainer *t, const tl_task_data *d, int n, tl_task_samples *out,
                        tl_err *err) {
  tl_encode_options o = tl_encode_for(t->model, t->cfg->task.max_len);
  o.pool = t->contrast->pool;
  for (int i = 0; d->n && i < n; i++) TL_TRY(tl_embed_encode(t->tok, d, i, &o, &out[i], err));
  return TL_OK;
}

static int64_t longest(const tl_task_samples *s, int n) {
  int64_t most = 1;
  for (int i = 0; i < n; i++)
    for (int64_t k = 0; k < s[i].n; k++)
      if (s[i].start[k + 1] - s[i].start[k] > most) most = s[i].start[k + 1] - s[i].start[k];
  return most;
}

/* --- model and graphs --------------------------------------------------------------------------
 */

static void adapt(tl_model *m, tl_declare *d, void *user) {
  tl_adapt_declare(m, d, user);
}

static tl_status make_model(tl_trainer *t, tl_err *err) {
  tl_contrast_run *r = t->contrast;
  tl_model_config mc = {0};
  TL_TRY(tl_finetune_config(t, &mc, err));
  tl_adapt_config(&mc, &r->adapt);
  tl_task_head_options o = {.kind = TL_HEAD_NONE, .extra = adapt, .user = &r->adapt};
  TL_TRY(tl_model_new_task(&mc, &o, (uint64_t)t->cfg->run.seed, true, &t->model, err));
  if (*t->cfg->task.from) TL_TRY(tl_model_read_weights(t->model, t->cfg->task.from, err));
  tl_adapt_begin(t->model);
  return TL_OK;
}

static tl_status make_graphs(tl_trainer *t, tl_err *err) {
  tl_contrast_run *r = t->contrast;
  const tl_config *c = t->cfg;
  TL_TRY(encode(t, &r->train.data, r->n_texts, r->train.view, err));
  TL_TRY(encode(t, &r->held_out.data, r->n_texts, r->held_out.view, err));
  TL_TRY(encode(t, &r->valid.data, 2, r->valid.side, err));
  TL_TRY(encode(t, &r->test.data, 2, r->test.side, err));
  int64_t a = longest(r->train.view, r->n_texts), b = longest(r->held_out.view, r->n_texts);
  tl_contrast_options o = {.dt = tl_kernels_dtype(t->ctx->k, c->run.dtype),
                           .batch = c->train.batch,
                           .views = r->n_texts == 3 ? 3 : 2,
                           .pool = r->pool,
                           .temperature = c->task.temperature};
  o.max_tokens = o.batch * o.views * (a > b ? a : b);
  TL_TRY(tl_contrast_new(t->ctx, t->model, &o, &r->graph, err));
  if (r->valid.data.n + r->test.data.n == 0) return TL_OK;
  a = longest(r->valid.side, 2);
  b = longest(r->test.side, 2);
  if (b > a) a = b;
  return tl_embed_graph_new(t->ctx, t->model, o.dt, a > EMBED_TOKENS ? a : EMBED_TOKENS,
                            EMBED_TEXTS, &r->embed, err);
}

static tl_status init(tl_trainer *t, tl_err *err) {
  tl_contrast_run *r = t->contrast = calloc(1, sizeof *r);
  if (!r) return tl_fail(err, TL_NOMEM, "fine-tuning: out of memory");
  r->position = calloc((size_t)t->cfg->train.accum, sizeof *r->position);
  r->index = calloc((size_t)t->cfg->train.batch, sizeof *r->index);
  if (!r->position || !r->index) return tl_fail(err, TL_NOMEM, "fine-tuning: out of memory");
  if (!tl_pooling_parse(t->cfg->task.pool, &r->pool))
    return tl_fail(err, TL_INTERNAL, "task.pool has no code");
  TL_TRY(tl_finetune_adapt(t->cfg, &r->adapt, err));
  TL_TRY(read_data(t, err));
  TL_TRY(tl_finetune_tokenizer(t, err));
  TL_TRY(make_model(t, err));
  TL_TRY(make_graphs(t, err));
  t->g = r->graph.g;
  t->val_ready = r->valid.data.n + r->held_out.data.n > 0;
  tl_finetune_plan(t, r->train.view[0].n);
  return TL_OK;
}

/* --- steps -------------------------------------------------------------------------------------
 */

static int64_t load(tl_trainer *t, int64_t m, uint64_t position) {
  t->contrast->position[m] = position;
  return t->cfg->train.batch;
}

/* Fills the graph with the records index(0), index(1), ...: a single text is its own partner. */
static void fill(tl_contrast_run *r, const texts *x, const int64_t *index) {
  tl_contrast_clear(&r->graph);
  for (int v = 0; v < r->graph.o.views; v++) {
    const tl_task_samples *s = &x->view[r->n_texts == 1 ? 0 : v];
    for (int64_t i = 0; i < r->graph.o.batch; i++) {
      int64_t k = index[i];
      tl_contrast_add(&r->graph, s->token + s->start[k], s->start[k + 1] - s->start[k]);
    }
  }
}

static tl_lm_loss run(tl_trainer *t, int64_t m, const tl_pass *pass, tl_run_size *size) {
  tl_contrast_run *r = t->contrast;
  for (int64_t i = 0; i < r->graph.o.batch; i++)
    r->index[i] = tl_finetune_sample(t, r->train.view[0].n, r->position[m] + (uint64_t)i);
  fill(r, &r->train, r->index);
  const float *l = tl_contrast_pass(&r->graph, pass);
  *size = (tl_run_size){r->graph.n_tokens, r->graph.n_texts};
  return (tl_lm_loss){l[TL_LOSS_SUM], l[TL_LOSS_Z], l[TL_LOSS_COUNT], l[TL_LOSS_CORRECT]};
}

static tl_status score_pairs(tl_trainer *t, const pairs *p, bool intervals, tl_scores *out,
                             tl_err *err) {
  tl_contrast_run *r = t->contrast;
  size_t dim = (size_t)t->model->c.dim, n = p->data.n;
  float *x = malloc((2 * n * dim + 1) * sizeof *x);
  if (!x) return tl_fail(err, TL_NOMEM, "out of memory for the embeddings of %zu pairs", n);
  tl_status s = tl_embed_run(&r->embed, &p->side[0], r->pool, true, x, err);
  if (s == TL_OK) s = tl_embed_run(&r->embed, &p->side[1], r->pool, true, x + n * dim, err);
  if (s == TL_OK)
    s = tl_sts_scores(x, x + n * dim, n, dim, p->data.value, intervals, (uint64_t)t->cfg->run.seed,
                      out, err);
  free(x);
  return s;
}

static void add(tl_scores *out, const char *name, double value) {
  out->score[out->n++] = (tl_score){.name = name, .value = value, .lo = NAN, .hi = NAN};
}

/* The loss on held-out texts in whole batches, always the same; single texts keep the dropout that
 * tells them from themselves, in a pass whose gradients count nothing. */
static tl_status score_held_out(tl_trainer *t, tl_scores *out, tl_err *err) {
  tl_contrast_run *r = t->contrast;
  int64_t batch = r->graph.o.batch, batches = r->held_out.view[0].n / batch;
  size_t dim = (size_t)t->model->c.dim, n = (size_t)(batches * batch);
  float *x = malloc(2 * n * dim * sizeof *x), *y = x ? x + n * dim : NULL;
  double loss = 0, correct = 0;
  *out = (tl_scores){0};
  if (!x) return tl_fail(err, TL_NOMEM, "out of memory for %zu embeddings", n);
  for (int64_t b = 0; b < batches; b++) {
    for (int64_t i = 0; i < batch; i++) r->index[i] = b * batch + i;
    fill(r, &r->held_out, r->index);
    tl_pass pass = {.training = r->n_texts == 1, .seed = (uint64_t)t->cfg->run.seed};
    pass.tick = UINT64_MAX - (uint64_t)b;
    const float *l = tl_contrast_pass(&r->graph, &pass);
    loss += (double)l[TL_LOSS_SUM];
    correct += (double)l[TL_LOSS_CORRECT];
    tl_contrast_embeddings(&r->graph, 0, x + (size_t)(b * batch) * dim);
    tl_contrast_embeddings(&r->graph, 1, y + (size_t)(b * batch) * dim);
  }
  add(out, "loss", loss / (double)n);
  add(out, "accuracy", correct / (double)n);
  add(out, "alignment", tl_alignment(x, y, n, dim));
  add(out, "uniformity", tl_uniformity(x, n, dim));
  free(x);
  return TL_OK;
}

static tl_status score(tl_trainer *t, bool intervals, tl_scores *out, tl_err *err) {
  const pairs *p = &t->contrast->valid;
  return p->data.n ? score_pairs(t, p, intervals, out, err) : score_held_out(t, out, err);
}

static const char *metric(const tl_trainer *t) {
  return t->contrast->valid.data.n ? "spearman" : "loss";
}

static tl_status evaluate(tl_trainer *t, tl_eval_result *e, tl_err *err) {
  double start = tl_now();
  tl_scores s;
  TL_TRY(score(t, false, &s, err));
  bool judged = t->contrast->valid.data.n > 0;
  double value = tl_scores_find(&s, metric(t));
  *e = (tl_eval_result){.loss = tl_scores_find(&s, "loss"), .bpb = NAN};
  e->accuracy = tl_scores_find(&s, "accuracy");
  e->perplexity = exp(e->loss);
  /* Embeddings that are all equal have no correlation; they are the worst there can be. */
  e->criterion = !judged ? value : isnan(value) ? 1 : -value;
  e->targets = judged ? t->contrast->valid.data.n : t->contrast->held_out.data.n;
  e->seconds = tl_now() - start;
  return TL_OK;
}

static void rates(const tl_trainer *t, float *factor) {
  tl_adapt_rates(t->model, &t->contrast->adapt, factor);
}

static tl_status finish(tl_trainer *t, tl_train_result *result, tl_err *err) {
  tl_contrast_run *r = t->contrast;
  tl_task_result *x = &result->task;
  if (t->val_ready && t->s.best_step != t->s.step) TL_TRY(tl_trainer_load_best(t, err));
  if (t->val_ready) TL_TRY(score(t, true, &x->valid, err));
  if (r->test.data.n) TL_TRY(score_pairs(t, &r->test, true, &x->test, err));
  x->type = t->cfg->task.type;
  x->metric = metric(t);
  x->best = r->valid.data.n ? -t->s.best : t->s.best;
  x->trained = tl_params_count(&t->model->params, true);
  x->n_train = (int64_t)r->train.data.n;
  x->n_valid = (int64_t)(r->valid.data.n + r->held_out.data.n);
  x->n_test = (int64_t)r->test.data.n;
  for (int i = 0; i < r->n_texts; i++) x->n_cut += r->train.view[i].n_cut;
  return tl_finetune_end(t, &r->adapt, "FEATURE_EXTRACTION", err);
}

static void free_texts(texts *x) {
  for (int i = 0; i < MAX_VIEWS; i++) tl_task_samples_free(&x->view[i]);
  tl_task_select_free(&x->data);
}

static void free_pairs(pairs *p) {
  for (int i = 0; i < 2; i++) tl_task_samples_free(&p->side[i]);
  tl_task_data_free(&p->data);
}

static void release(tl_trainer *t) {
  tl_contrast_run *r = t->contrast;
  if (!r) return;
  tl_contrast_free(&r->graph);
  tl_embed_graph_free(&r->embed);
  free_texts(&r->train);
  free_texts(&r->held_out);
  free_pairs(&r->valid);
  free_pairs(&r->test);
  tl_task_data_free(&r->file);
  free(r->position);
  free(r->index);
  free(r);
}

const tl_learner tl_contrastive = {.init = init,
                                   .load = load,
                                   .run = run,
                                   .evaluate = evaluate,
                                   .metric = metric,
                                   .rates = rates,
                                   .finish = finish,
                                   .free = release,
                                   .keeps_best = true};
