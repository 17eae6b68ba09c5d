#include "train/plan_run.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "objectives/objective.h"
#include "transfer/picture_objective.h"

enum { TIMED_PASSES = 3 };

/* A micro-batch of random tokens with as many targets as the objective makes. */
static void made_up_batch(const tl_config *c, const tl_objective *o, int64_t vocab, tl_batch *b) {
  int64_t seq = c->train.seq_len, n = c->train.batch * seq;
  tl_rng r = tl_rng_make(1, TL_STREAM_TEST, 0, 0);
  for (int64_t i = 0; i < n; i++) {
    b->tokens[i] = (int32_t)tl_rng_below(&r, (uint64_t)vocab);
    b->pos[i] = (int32_t)(i % seq);
    if (i % seq == 0)
      b->segments[b->n_segments++] = (tl_segment){(int32_t)i, (int32_t)(i + seq), (int32_t)i,
                                                  (int32_t)(i + seq), !o->needs_mask};
    bool target = !o->selects || (double)tl_rng_f32(&r) < tl_objective_mask_rate(c);
    if (!target) continue;
    b->idx[b->n_targets] = (int32_t)i;
    b->targets[b->n_targets++] = b->tokens[i];
  }
  b->n_tokens = n;
  b->n_counted = b->n_targets;
}

/* Of an encoder-decoder the objective itself makes the pairs. */
static tl_status made_up_pairs(const tl_config *c, const tl_objective *o, int64_t vocab,
                               int64_t model_vocab, tl_batch *b, tl_err *err) {
  enum { BOS = 1, EOS = 2, MASK = 4, FIRST = 5 }; /* as our tokenizers have them */
  tl_made_up m = {.seed = 1, .first = FIRST, .vocab = (uint32_t)vocab};
  tl_objective_args a = {.seed = 1,
                         .rate = tl_objective_mask_rate(c),
                         .rate_end = tl_objective_mask_rate(c),
                         .span_mean = c->objective.span_mean,
                         .vocab = (int)vocab,
                         .bos = BOS,
                         .eos = EOS,
                         .mask_id = MASK,
                         .n_sentinels = o->sentinels};
  tl_loader l;
  if (vocab <= FIRST)
    return tl_fail(err, TL_CONFIG, "a vocabulary of %lld is too small", (long long)vocab);
  TL_TRY(tl_objective_sentinels(o, &a, model_vocab, err));
  TL_TRY(tl_loader_init_made_up(&l, &m, (uint32_t)c->train.seq_len, o, err));
  tl_loader_fill(&l, &a, 0, c->train.batch, b);
  tl_loader_free(&l);
  return TL_OK;
}

/* Of the optimizer's state: its memory is taken, but never touched. */
static tl_status optimizer_bytes(tl_ctx *ctx, const tl_config *c, tl_params *ps, double *bytes,
                                 tl_err *err) {
  tl_optim_options o;
  tl_optim *optim = NULL;
  TL_TRY(tl_trainer_optim(c, &o, err));
  TL_TRY(tl_optim_new(ctx, ps, &o, &optim, err));
  for (int i = 0; i < tl_optim_n_tensors(optim); i++)
    *bytes += (double)tl_optim_tensor_at(optim, i)->param->n * sizeof(float);
  tl_optim_free(optim);
  return TL_OK;
}

static void time_passes(const tl_plan_subject *x, tl_plan *p) {
  tl_pass pass = {.training = true, .loss_scale = 1.0f / (float)(x->targets ? x->targets : 1)};
  x->run(x->user, &pass); /* the first pass touches the memory */
  double best = INFINITY;
  for (int i = 0; i < TIMED_PASSES; i++) {
    double start = tl_now();
    x->run(x->user, &pass);
    best = fmin(best, tl_now() - start);
  }
  tl_cost cost = tl_graph_cost(x->g);
  p->flops_per_token = (cost.flops_fwd + cost.flops_bwd) / (double)x->tokens;
  p->seconds_per_step = best;
}

tl_status tl_plan_measure(tl_ctx *ctx, const tl_config *c, const tl_plan_subject *x, tl_plan *p,
                          tl_err *err) {
  const tl_params *ps = &x->model->params;
  double state_bytes = 0;
  TL_TRY(optimizer_bytes(ctx, c, &x->model->params, &state_bytes, err));
  time_passes(x, p);
  p->params = tl_model_params(x->model);
  p->body_params = tl_model_body_params(x->model);
  p->vocab = x->model->c.vocab;
  p->tokens_per_step = x->tokens * c->train.accum;
  p->seconds_per_step *= (double)c->train.accum;
  p->tokens_per_s = (double)p->tokens_per_step / p->seconds_per_step;
  p->steps = x->steps;
  if (c->run.minutes > 0) p->steps = (int64_t)(c->run.minutes * 60 / p->seconds_per_step);
  p->tokens = (double)p->steps * (double)p->tokens_per_step;
  p->flops = p->tokens * p->flops_per_token;
  p->seconds = (double)p->steps * p->seconds_per_step;
  p->weights_bytes = 2.0 * (double)ps->n_values * sizeof(float);
  p->optimizer_bytes = state_bytes;
  if (!strcmp(c->guard.policy, "rollback"))
    p->optimizer_bytes += p->optimizer_bytes + (double)ps->n_values * sizeof(float);
  p->activations_bytes = (double)x->g->stats.slab_bytes;
  for (const tl_pack *k = ps->packs; k; k = k->next) p->packed_bytes += (double)k->bytes;
  p->total_bytes = p->weights_bytes + p->optimizer_bytes + p->activations_bytes + p->packed_bytes;
  p->checkpoint_bytes = (double)ps->n_values * sizeof(float) + state_bytes;
  double peak = 1e9 * tl_peak_gflops(ctx->k->level, x->g->opt.dt) * tl_pool_size(ctx->pool);
  p->peak_fraction = p->tokens_per_s * p->flops_per_token / peak;
  return TL_OK;
}

typedef struct text_run {
  tl_lm lm;
  tl_batch batch;
} text_run;

static void run_text(void *user, const tl_pass *pass) {
  text_run *r = user;
  tl_lm_run(&r->lm, &r->batch, pass);
}

static tl_status plan_text(tl_ctx *ctx, const tl_config *c, const tl_objective *o, int64_t vocab,
                           tl_plan *plan, tl_err *err) {
  tl_model_config mc;
  tl_model *m = NULL;
  text_run r = {0};
  TL_TRY(tl_model_config_from(c, vocab + o->sentinels, c->train.seq_len, &mc, err));
  TL_TRY(tl_model_new(&mc, 1, true, &m, err));
  int64_t tokens = c->train.batch * c->train.seq_len, per_step = tokens * c->train.accum;
  tl_lm_options lo = {
      .dt = tl_kernels_dtype(ctx->k, c->run.dtype), .max_tokens = tokens, .training = true};
  tl_status s = tl_lm_new(ctx, m, o, &lo, &r.lm, err);
  if (s == TL_OK) s = tl_batch_init(&r.batch, tokens, err);
  if (s == TL_OK && o->seq2seq) s = made_up_pairs(c, o, vocab, mc.vocab, &r.batch, err);
  if (s == TL_OK) {
    if (!o->seq2seq) made_up_batch(c, o, vocab, &r.batch);
    tl_plan_subject x = {.model = m,
                         .g = r.lm.g,
                         .tokens = tokens,
                         .targets = r.batch.n_targets,
                         .steps = c->train.steps,
                         .run = run_text,
                         .user = &r};
    if (x.steps == 0 && c->train.tokens > 0) x.steps = (c->train.tokens + per_step - 1) / per_step;
    s = tl_plan_measure(ctx, c, &x, plan, err);
  }
  tl_batch_free(&r.batch);
  tl_lm_free(&r.lm);
  tl_model_free(m);
  return s;
}

tl_status tl_plan_run(tl_ctx *ctx, const tl_config *c, int64_t vocab, tl_plan *plan, tl_err *err) {
  *plan = (tl_plan){0};
  const tl_objective *o = tl_objective_find(c->objective.type);
  if (!*c->data.images && o) return plan_text(ctx, c, o, vocab, plan, err);
  const tl_picture_objective *p = tl_picture_objective_find(c->objective.type);
  if (p) return tl_plan_pictures(ctx, c, p, plan, err);
  return tl_fail(err, TL_CONFIG, "objective.type %s is for texts, and data.images has pictures",
                 c->objective.type);
}
