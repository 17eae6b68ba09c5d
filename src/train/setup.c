#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/trainer.h"

/* Prepares data.text into <run>/data; a resumed run finds it there. */
static tl_status prepare_text(tl_trainer *t, const char *dir, tl_err *err) {
  const tl_config *c = t->cfg;
  if (!*c->data.tokenizer)
    return tl_fail(err, TL_CONFIG,
                   "data.tokenizer is needed with data.text: a folder made by `tilth tokenizer "
                   "train`, or \"bytes\"");
  tl_tokenizer *tok = NULL;
  tl_text_reader *r = NULL;
  TL_TRY(tl_tokenizer_open(t->ctx, c->data.tokenizer, &tok, err));
  tl_text_options to = {
      .text_key = c->data.text_key,
  };
  tl_text_unit_parse(c->data.unit, &to.unit);
  bool byte_level =
      strcmp(tl_tokenizer_type(tok), "wordpiece") && strcmp(tl_tokenizer_type(tok), "unigram");
  if (byte_level) to.utf8 = TL_UTF8_KEEP;
  tl_status s = tl_text_open(c->data.text.item, c->data.text.n, &to, &r, err);
  bool tail = !strcmp(c->data.split, "tail");
  if (s == TL_OK)
    s = tl_prepare(t->ctx, r, tok,
                   &(tl_prepare_options){.val_fraction = c->data.val_fraction,
                                         .split_tail = tail,
                                         .seed = (uint64_t)c->run.seed,
                                         .add_bos = true,
                                         .add_eos = true},
                   dir, false, NULL, err);
  tl_text_close(r);
  tl_tokenizer_free(tok);
  return s;
}

static tl_status open_data(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  char *own = tl_path_join(tl_run_dir(t->run), "data");
  if (!own) return tl_fail(err, TL_NOMEM, "data: out of memory");
  const char *dir = *c->data.path ? c->data.path : own;
  tl_status s = TL_OK;
  if (!*c->data.path && !tl_is_dir(own)) s = prepare_text(t, own, err);
  if (s == TL_OK) s = tl_dataset_open(dir, false, &t->data, err);
  if (s == TL_OK) s = tl_tokenizer_load(dir, &t->tok, err);
  free(own);
  return s;
}

static tl_status make_batches(tl_trainer *t, tl_err *err) {
  int64_t tokens = t->cfg->train.batch * t->cfg->train.seq_len;
  t->micro = calloc((size_t)t->cfg->train.accum, sizeof *t->micro);
  if (!t->micro) return tl_fail(err, TL_NOMEM, "batches: out of memory");
  for (int64_t i = 0; i < t->cfg->train.accum; i++)
    TL_TRY(tl_batch_init(&t->micro[i], tokens, err));
  return tl_batch_init(&t->val_batch, tokens, err);
}

static tl_status make_model(tl_trainer *t, int64_t vocab, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_model_config mc;
  TL_TRY(tl_model_config_from(c, vocab, c->train.seq_len, &mc, err));
  TL_TRY(tl_model_new(&mc, (uint64_t)c->run.seed, true, &t->model, err));
  t->objective = tl_objective_find(c->objective.type);
  TL_TRY(tl_objective_args_from(t->objective, c, t->tok, &t->args, err));
  tl_lm_options lo = {.dt = tl_kernels_dtype(t->ctx->k, c->run.dtype),
                      .max_tokens = c->train.batch * c->train.seq_len,
                      .training = true,
                      .smoothing = c->objective.label_smoothing,
                      .z_loss = c->objective.z_loss};
  return tl_lm_new(t->ctx, t->model, t->objective, &lo, &t->lm, err);
}

tl_status tl_trainer_optim(const tl_config *c, tl_optim_options *o, tl_err *err) {
  *o = (tl_optim_options){.lr = (float)c->optim.lr,
                          .muon_lr = (float)c->optim.muon_lr,
                          .beta1 = (float)c->optim.beta1,
                          .beta2 = (float)c->optim.beta2,
                          .eps = (float)c->optim.eps,
                          .momentum = (float)c->optim.momentum,
                          .weight_decay = (float)c->optim.weight_decay,
                          .ema = (float)c->optim.ema};
  if (tl_optim_parse(c->optim.type, &o->type)) return TL_OK;
  return tl_fail(err, TL_INTERNAL, "optim.type has no code");
}

static tl_status make_optim(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_optim_options oo;
  TL_TRY(tl_trainer_optim(c, &oo, err));
  t->schedule = (tl_schedule){.warmup = c->optim.warmup,
                              .decay_fraction = c->optim.decay_fraction,
                              .min_lr_ratio = c->optim.min_lr_ratio};
  tl_guard_options go = {.window = (int)c->guard.window,
                         .z_threshold = c->guard.z_threshold,
                         .max_consecutive = (int)c->guard.max_consecutive,
                         .lr_factor = c->guard.lr_factor,
                         /* a growing masking rate makes the task harder, and the loss rise */
                         .rise = c->objective.mask_rate_end > c->objective.mask_rate ? 0 : 0.1};
  if (!tl_schedule_parse(c->optim.schedule, &t->schedule.kind) ||
      !tl_guard_parse(c->guard.policy, &go.policy))
    return tl_fail(err, TL_INTERNAL, "optim.schedule or guard.policy has no code");
  tl_guard_init(&t->guard, &go);
  return tl_optim_new(t->ctx, &t->model->params, &oo, &t->optim, err);
}

tl_status tl_trainer_check(const tl_config *c, tl_err *err) {
  const tl_arch *arch = tl_arch_find(c->model.type);
  const tl_objective *objective = tl_objective_find(c->objective.type);
  if (!*c->data.path && c->data.text.n == 0)
    return tl_fail(
        err, TL_CONFIG,
        "no data: set data.path (a folder made by `tilth prepare`) or data.text (files)");
  if (c->run.minutes == 0 && c->train.steps == 0 && c->train.tokens == 0)
    return tl_fail(err, TL_CONFIG,
                   "how long to train? set train.steps, train.tokens or run.minutes");
  if (!arch || !objective)
    return tl_fail(err, TL_INTERNAL, "model.type or objective.type has no code");
  return tl_lm_check(arch, objective, err);
}

static void plan_steps(tl_trainer *t) {
  const tl_config *c = t->cfg;
  int64_t per_step = c->train.batch * c->train.seq_len * c->train.accum;
  if (c->run.minutes > 0) return; /* planned from the measured speed */
  t->s.steps = c->train.steps;
  if (t->s.steps == 0) t->s.steps = (c->train.tokens + per_step - 1) / per_step;
}

tl_status tl_trainer_init(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  plan_steps(t);
  TL_TRY(open_data(t, err));
  TL_TRY(make_model(t, tl_tokenizer_vocab_size(t->tok), err));
  TL_TRY(make_batches(t, err));
  uint32_t window = (uint32_t)c->train.seq_len;
  uint64_t seed = (uint64_t)c->run.seed;
  TL_TRY(tl_loader_init(&t->train, t->data, TL_TRAIN, seed, window, c->data.documents, t->objective,
                        err));
  TL_TRY(make_optim(t, err));
  if (t->guard.opt.policy == TL_GUARD_ROLLBACK) TL_TRY(tl_snapshot_init(t, err));
  t->val_ready = tl_loader_init(&t->val, t->data, TL_VAL, seed, window, c->data.documents,
                                t->objective, NULL) == TL_OK;
  t->s.val_loss = t->s.best_val_loss = __builtin_nan("");
  t->saved_step = -1;
  return TL_OK;
}

tl_status tl_trainer_init_made_up(tl_trainer *t, const tl_made_up *m, int64_t steps, tl_err *err) {
  t->s.steps = steps;
  TL_TRY(tl_tokenizer_open(t->ctx, "bytes", &t->tok, err));
  TL_TRY(make_model(t, m->vocab, err));
  t->args.vocab = (int)m->vocab;
  t->args.n_special = (int)m->first;
  t->args.mask_id = 0;
  t->args.whole_word = false;
  TL_TRY(make_batches(t, err));
  TL_TRY(tl_loader_init_made_up(&t->train, m, (uint32_t)t->cfg->train.seq_len, t->objective, err));
  TL_TRY(make_optim(t, err));
  t->guard.opt.policy = TL_GUARD_OFF;
  return TL_OK;
}

void tl_trainer_free(tl_trainer *t) {
  tl_snapshot_free(t);
  tl_optim_free(t->optim);
  tl_lm_free(&t->lm);
  tl_loader_free(&t->train);
  tl_loader_free(&t->val);
  for (int64_t i = 0; t->micro && i < t->cfg->train.accum; i++) tl_batch_free(&t->micro[i]);
  free(t->micro);
  tl_batch_free(&t->val_batch);
  tl_model_free(t->model);
  tl_tokenizer_free(t->tok);
  tl_dataset_close(t->data);
}
