#include <string.h>

#include "train/trainer.h"
#include "objectives/objective.h"
#include "transfer/picture_objective.h"
#include "transfer/task.h"

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

static int64_t warmup_steps(const tl_trainer *t) {
  if (t->cfg->optim.warmup_fraction == 0) return t->cfg->optim.warmup;
  return (int64_t)(t->cfg->optim.warmup_fraction * (double)t->s.steps);
}

static tl_status make_optim(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_optim_options oo;
  TL_TRY(tl_trainer_optim(c, &oo, err));
  if (t->teacher) {
    if (oo.ema > 0)
      return tl_fail(err, TL_CONFIG,
                     "optim.ema: the average of the weights is this objective's teacher already; "
                     "objective.teacher is its decay");
    oo.ema = (float)c->objective.teacher;
    oo.teacher = t->teacher;
  }
  t->schedule = (tl_schedule){.warmup = warmup_steps(t),
                              .decay_fraction = c->optim.decay_fraction,
                              .min_lr_ratio = c->optim.min_lr_ratio};
  /* A growing masking rate makes the task harder, and a teacher that learns, too: the loss rises.
   */
  bool moves = c->objective.mask_rate_end > tl_objective_mask_rate(c) || t->teacher;
  tl_guard_options go = {.window = (int)c->guard.window,
                         .z_threshold = c->guard.z_threshold,
                         .max_consecutive = (int)c->guard.max_consecutive,
                         .lr_factor = c->guard.lr_factor,
                         .rise = moves ? 0 : 0.1};
  if (!tl_schedule_parse(c->optim.schedule, &t->schedule.kind) ||
      !tl_guard_parse(c->guard.policy, &go.policy))
    return tl_fail(err, TL_INTERNAL, "optim.schedule or guard.policy has no code");
  tl_guard_init(&t->guard, &go);
  TL_TRY(tl_optim_new(t->ctx, &t->model->params, &oo, &t->optim, err));
  if (t->learner->rates) t->learner->rates(t, tl_optim_lr_factors(t->optim));
  return TL_OK;
}

static tl_status check_pictures(const tl_config *c, tl_err *err) {
  if (*c->data.path || c->data.text.n > 0)
    return tl_fail(err, TL_CONFIG, "data.images and data.path or data.text: one of them");
  const tl_picture_objective *o = tl_picture_objective_find(c->objective.type);
  if (o && o->check) TL_TRY(o->check(c, err));
  if (o) return *c->model.from ? TL_OK : tl_picture_model_check(o, c->model.type, err);
  return tl_fail(err, TL_CONFIG,
                 "objective.type %s is for texts; pictures (data.images) have simclr, byol, moco, "
                 "barlow, mae and clip",
                 c->objective.type);
}

tl_status tl_trainer_check(const tl_config *c, tl_err *err) {
  if (*c->task.train) return TL_OK; /* the records say how many steps an epoch has */
  if (*c->data.images) return check_pictures(c, err);
  const char *type = c->model.type;
  tl_model_config from;
  const tl_objective *objective = tl_objective_find(c->objective.type);
  if (tl_picture_objective_find(c->objective.type))
    return tl_fail(err, TL_CONFIG, "objective.type %s learns from pictures: set data.images",
                   c->objective.type);
  if (!*c->data.path && c->data.text.n == 0)
    return tl_fail(
        err, TL_CONFIG,
        "no data: set data.path (a folder made by `tilth prepare`) or data.text (files)");
  if (c->run.minutes == 0 && c->train.steps == 0 && c->train.tokens == 0)
    return tl_fail(err, TL_CONFIG,
                   "how long to train? set train.steps, train.tokens or run.minutes");
  if (*c->model.from) {
    TL_TRY(tl_model_read_config(c->model.from, &from, err));
    type = from.type;
  }
  const tl_arch *arch = tl_arch_find(type);
  if (!arch || !objective)
    return tl_fail(err, TL_INTERNAL, "model.type or objective.type has no code");
  if (*c->model.from) { /* the folder says what it is */
    tl_model_config mc;
    TL_TRY(tl_model_read_config(c->model.from, &mc, err));
    arch = tl_arch_find(mc.type);
  }
  return tl_lm_check(arch, objective, err);
}

const tl_learner *tl_trainer_learner(const tl_config *c) {
  if (!*c->task.train) return *c->data.images ? &tl_image_pretraining : &tl_pretraining;
  if (tl_task_find(c->task.type)->pictures) return &tl_imaging;
  return strcmp(c->task.type, "simcse") ? &tl_finetuning : &tl_contrastive;
}

tl_status tl_trainer_init(tl_trainer *t, tl_err *err) {
  TL_TRY(t->learner->init(t, err));
  TL_TRY(make_optim(t, err));
  if (t->guard.opt.policy == TL_GUARD_ROLLBACK) TL_TRY(tl_snapshot_init(t, err));
  t->s.val_loss = t->s.best_val_loss = t->s.best = __builtin_nan("");
  t->saved_step = -1;
  return TL_OK;
}

tl_status tl_trainer_init_made_up(tl_trainer *t, const tl_made_up *m, int64_t steps, tl_err *err) {
  t->s.steps = steps;
  TL_TRY(t->learner->made_up(t, m, err));
  TL_TRY(make_optim(t, err));
  t->guard.opt.policy = TL_GUARD_OFF;
  return TL_OK;
}

void tl_trainer_free(tl_trainer *t) {
  tl_snapshot_free(t);
  tl_optim_free(t->optim);
  if (t->learner) t->learner->free(t);
  tl_model_free(t->model);
  tl_tokenizer_free(t->tok);
}
