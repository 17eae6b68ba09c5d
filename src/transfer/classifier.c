/* Sequence classification: body, mean over the text's tokens, dropout, linear; all weights trained.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "models/model.h"
#include "optim/optim.h"
#include "optim/schedule.h"
#include "tilth/transfer.h"

enum { PREDICT_TOKENS = 8192, PREDICT_TEXTS = 512 };

/* One graph over packed texts: training (loss) or prediction (probabilities). */
typedef struct text_graph {
  tl_graph *g;
  int dim_tokens, dim_texts;
  int64_t max_tokens, max_texts;
  tl_model_io io;
  tl_node *targets, *loss, *prob;
} text_graph;

struct tl_classifier {
  tl_ctx *ctx;
  const tl_tokenizer *tok;
  tl_finetune_options opt;
  tl_model *model;
  tl_param *w, *b;
  int n_classes;
  text_graph train, predict;
  uint32_t *ids; /* scratch of the encoder */
  size_t ids_cap;
  double flops;
};

tl_finetune_options tl_finetune_defaults(void) {
  return (tl_finetune_options){.lr = 5e-4,
                               .epochs = 10,
                               .batch = 32,
                               .min_steps = 0,
                               .max_len = 128,
                               .dropout = 0.1,
                               .weight_decay = 0.01,
                               .warmup_fraction = 0.1,
                               .clip = 1,
                               .seed = 1,
                               .dtype = "auto"};
}

static void declare_head(tl_model *m, tl_declare *d, void *user) {
  tl_classifier *c = user;
  c->w = tl_declare_matrix(d, "classifier.weight", c->n_classes, m->c.dim, (float)m->c.init_std,
                           false);
  c->b = tl_declare_vector(d, "classifier.bias", c->n_classes, 0);
}

static tl_status build(tl_classifier *c, text_graph *p, bool training, int64_t max_tokens,
                       int64_t max_texts, tl_err *err) {
  tl_graph *g =
      tl_graph_new(c->ctx, &c->model->params,
                   &(tl_graph_options){tl_kernels_dtype(c->ctx->k, c->opt.dtype), training});
  if (!g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  *p = (text_graph){.g = g, .max_tokens = max_tokens, .max_texts = max_texts};
  p->dim_tokens = tl_graph_dim(g, max_tokens);
  p->dim_texts = tl_graph_dim(g, max_texts);
  p->io = tl_model_inputs(c->model, g, p->dim_tokens, max_tokens, p->dim_texts, max_texts);
  tl_node *h = c->model->arch->body(c->model, g, &p->io);
  tl_graph_scope(g, "classifier");
  h = tl_segment_mean(g, h, p->io.segments);
  if (!training) {
    p->prob = tl_softmax(g, tl_linear1(g, h, c->w, c->b));
    return tl_graph_compile(g, NULL, &p->prob, 1, err);
  }
  h = tl_dropout_node(g, h, (float)c->opt.dropout);
  p->targets = tl_graph_input(g, "targets", TL_I32, 1, &max_texts, p->dim_texts);
  p->loss = tl_cross_entropy(g, h, p->targets, &(tl_xent_spec){.w = c->w, .b = c->b});
  return tl_graph_compile(g, p->loss, NULL, 0, err);
}

static tl_status init(tl_classifier *c, const char *from, const tl_model_config *config,
                      tl_err *err) {
  tl_model_config mc = {0};
  if (from)
    TL_TRY(tl_model_read_config(from, &mc, err));
  else
    mc = *config;
  mc.dropout = c->opt.dropout;
  mc.attention_dropout = 0;
  if (c->opt.max_len > mc.max_len) c->opt.max_len = mc.max_len;
  if (tl_tokenizer_vocab_size(c->tok) > mc.vocab)
    return tl_fail(err, TL_CONFIG, "the tokenizer has %d tokens, the model only %lld",
                   tl_tokenizer_vocab_size(c->tok), (long long)mc.vocab);
  TL_TRY(tl_model_new_with(&mc, c->opt.seed, true, declare_head, c, &c->model, err));
  if (from) TL_TRY(tl_model_read_weights(c->model, from, err));
  TL_TRY(build(c, &c->train, true, c->opt.batch * c->opt.max_len, c->opt.batch, err));
  int64_t tokens = PREDICT_TOKENS > c->opt.max_len ? PREDICT_TOKENS : c->opt.max_len;
  return build(c, &c->predict, false, tokens, PREDICT_TEXTS, err);
}

tl_status tl_classifier_new(tl_ctx *ctx, const char *from, const tl_model_config *config,
                            const tl_tokenizer *tok, int n_classes,
                            const tl_finetune_options *options, tl_classifier **out, tl_err *err) {
  tl_classifier *c = calloc(1, sizeof *c);
  if (!c) return tl_fail(err, TL_NOMEM, "classifier: out of memory");
  c->ctx = ctx;
  c->tok = tok;
  c->opt = *options;
  c->n_classes = n_classes;
  tl_status s = init(c, from, config, err);
  if (s != TL_OK) {
    tl_classifier_free(c);
    return s;
  }
  *out = c;
  return TL_OK;
}

void tl_classifier_free(tl_classifier *c) {
  if (!c) return;
  tl_graph_free(c->train.g);
  tl_graph_free(c->predict.g);
  tl_model_free(c->model);
  free(c->ids);
  free(c);
}

double tl_classifier_flops(const tl_classifier *c) {
  return c->flops;
}

/* Appends one text as the next segment; *added is false when the tokens do not fit any more. */
static tl_status append_text(tl_classifier *c, text_graph *p, const char *text, int64_t *n_tokens,
                             int64_t *n_texts, bool *added, tl_err *err) {
  size_t n = 0;
  TL_TRY(tl_tokenizer_encode(c->tok, text, strlen(text), &c->ids, &n, &c->ids_cap, err));
  int bos = tl_tokenizer_special(c->tok, TL_TOK_BOS),
      eos = tl_tokenizer_special(c->tok, TL_TOK_EOS);
  int64_t room = c->opt.max_len - (bos >= 0) - (eos >= 0);
  int64_t keep = (int64_t)n < room ? (int64_t)n : room, len = keep + (bos >= 0) + (eos >= 0);
  *added = *n_texts < p->max_texts && *n_tokens + len <= p->max_tokens;
  if (!*added) return TL_OK;
  int32_t *tokens = (int32_t *)p->io.tokens->data + *n_tokens, at = 0;
  if (bos >= 0) tokens[at++] = bos;
  for (int64_t i = 0; i < keep; i++) tokens[at++] = (int32_t)c->ids[i];
  if (eos >= 0) tokens[at++] = eos;
  if (p->io.pos->live)
    for (int32_t i = 0; i < at; i++) ((int32_t *)p->io.pos->data)[*n_tokens + i] = i;
  int32_t q0 = (int32_t)*n_tokens;
  bool causal = !c->model->arch->encoder && !c->model->c.shifted;
  ((tl_segment *)p->io.segments->data)[(*n_texts)++] =
      (tl_segment){q0, q0 + at, q0, q0 + at, causal};
  *n_tokens += at;
  return TL_OK;
}

static void set_sizes(text_graph *p, int64_t n_tokens, int64_t n_texts) {
  tl_graph_set_dim(p->g, p->dim_tokens, n_tokens);
  tl_graph_set_dim(p->g, p->dim_texts, n_texts);
}

typedef struct plan {
  const tl_task_data *d;
  const size_t *index;
  size_t n;
  int64_t steps, per_epoch;
} plan;

static plan make_plan(const tl_classifier *c, const tl_task_data *d, const size_t *index,
                      size_t n) {
  plan p = {.d = d, .index = index, .n = n};
  p.per_epoch = ((int64_t)n + c->opt.batch - 1) / c->opt.batch;
  p.steps = p.per_epoch * c->opt.epochs;
  if (p.steps < c->opt.min_steps) p.steps = c->opt.min_steps;
  return p;
}

static tl_status fill_step(tl_classifier *c, const plan *p, int64_t step, int64_t *n_texts,
                           tl_err *err) {
  uint64_t epoch = (uint64_t)(step / p->per_epoch), key = tl_mix64(c->opt.seed, epoch);
  int64_t begin = step % p->per_epoch * c->opt.batch, n_tokens = 0;
  *n_texts = 0;
  for (int64_t i = begin; i < begin + c->opt.batch && i < (int64_t)p->n; i++) {
    size_t at = (size_t)tl_permute(key, p->n, (uint64_t)i);
    if (p->index) at = p->index[at];
    bool added = false;
    ((int32_t *)c->train.targets->data)[*n_texts] = p->d->label[at];
    TL_TRY(append_text(c, &c->train, p->d->text[at], &n_tokens, n_texts, &added, err));
  }
  set_sizes(&c->train, n_tokens, *n_texts);
  return TL_OK;
}

tl_status tl_classifier_train(tl_classifier *c, const tl_task_data *d, const size_t *index,
                              size_t n, tl_step_fn report, void *user, tl_err *err) {
  if (n == 0) return tl_fail(err, TL_DATA, "no examples to train on");
  plan p = make_plan(c, d, index, n);
  tl_optim *opt = NULL;
  tl_optim_options oo = {.type = TL_OPTIM_ADAMW,
                         .lr = (float)c->opt.lr,
                         .beta1 = 0.9f,
                         .beta2 = 0.98f,
                         .eps = 1e-8f,
                         .weight_decay = (float)c->opt.weight_decay};
  TL_TRY(tl_optim_new(c->ctx, &c->model->params, &oo, &opt, err));
  tl_schedule sched = {.kind = TL_SCHEDULE_LINEAR,
                       .warmup = (int64_t)(c->opt.warmup_fraction * (double)p.steps)};
  tl_status s = TL_OK;
  for (int64_t step = 0; s == TL_OK && step < p.steps; step++) {
    int64_t n_texts = 0;
    if ((s = fill_step(c, &p, step, &n_texts, err)) != TL_OK) break;
    tl_graph_run(c->train.g, &(tl_pass){.training = true,
                                        .loss_scale = 1.0f / (float)n_texts,
                                        .seed = c->opt.seed,
                                        .tick = (uint64_t)step});
    tl_cost cost = tl_graph_cost(c->train.g);
    c->flops += cost.flops_fwd + cost.flops_bwd;
    const float *l = c->train.loss->data;
    double norm = tl_grad_norm(c->ctx, &c->model->params), loss = l[TL_LOSS_SUM] / n_texts;
    if (!isfinite(norm) || !isfinite(loss)) {
      s = tl_fail(err, TL_DIVERGED,
                  "fine-tuning diverged at step %lld (loss %g); lower the learning rate %g",
                  (long long)step + 1, loss, c->opt.lr);
      break;
    }
    float scale = c->opt.clip > 0 && norm > c->opt.clip ? (float)(c->opt.clip / norm) : 1;
    tl_optim_step(opt, step + 1, tl_schedule_at(&sched, step + 1, p.steps), scale);
    if (report) report(user, step + 1, p.steps, loss);
    if (tl_ctx_cancelled(c->ctx)) s = tl_fail(err, TL_PREEMPTED, "stopped by request");
  }
  tl_optim_free(opt);
  return s;
}

static void read_batch(const tl_classifier *c, int64_t n, int32_t *label, float *prob) {
  for (int64_t t = 0; t < n; t++) {
    int best = 0;
    for (int k = 1; k < c->n_classes; k++)
      if (tl_value(c->predict.prob, t * c->n_classes + k) >
          tl_value(c->predict.prob, t * c->n_classes + best))
        best = k;
    label[t] = best;
    if (prob) prob[t] = tl_value(c->predict.prob, t * c->n_classes + best);
  }
}

tl_status tl_classifier_predict(tl_classifier *c, char *const *text, const size_t *index, size_t n,
                                int32_t *label, float *prob, tl_err *err) {
  for (size_t done = 0; done < n;) {
    int64_t n_tokens = 0, n_texts = 0;
    bool added = true;
    for (size_t i = done; added && i < n; i++)
      TL_TRY(append_text(c, &c->predict, text[index ? index[i] : i], &n_tokens, &n_texts, &added,
                         err));
    set_sizes(&c->predict, n_tokens, n_texts);
    tl_graph_run(c->predict.g, &(tl_pass){.loss_scale = 1});
    read_batch(c, n_texts, label + done, prob ? prob + done : NULL);
    done += (size_t)n_texts;
  }
  return TL_OK;
}
