#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/trainer.h"

/* Speed between two log lines. */
typedef struct meter {
  double time, flops;
  uint64_t tokens;
} meter;

double tl_trainer_bpb(const tl_trainer *t, bool val, double loss) {
  return t->learner->bpb ? t->learner->bpb(t, val, loss) : NAN;
}

static tl_progress progress_of(const tl_trainer *t, const tl_step_stats *st, const meter *m) {
  double now = tl_now(), dt = now - m->time;
  tl_progress p = {.step = t->s.step,
                   .steps = t->s.steps,
                   .tokens = t->s.tokens,
                   .loss = st->loss,
                   .bpb = tl_trainer_bpb(t, false, st->loss),
                   .val_loss = t->s.val_loss,
                   .lr = st->lr,
                   .grad_norm = st->norm,
                   .tokens_per_s = dt > 0 ? (double)(t->s.tokens - m->tokens) / dt : 0,
                   .flops_per_s = dt > 0 ? (t->s.flops - m->flops) / dt : 0,
                   .seconds = now - t->started,
                   .eta = NAN};
  p.val_bpb = t->val_ready ? tl_trainer_bpb(t, true, p.val_loss) : NAN;
  p.peak = t->peak > 0 ? p.flops_per_s / t->peak : NAN;
  if (t->s.steps > 0 && t->s.step > 0)
    p.eta = p.seconds / (double)t->s.step * (double)(t->s.steps - t->s.step);
  return p;
}

void tl_trainer_note(tl_trainer *t, const char *event, const char *fmt, ...) {
  char text[512];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  if (t->run)
    tl_run_event(t->run, t->s.step, event, text, NULL); /* a lost line of the log stops nothing */
  if (!t->opt->progress) return;
  bool warning = !strcmp(event, "warning") || !strcmp(event, "rollback");
  tl_progress p = {.step = t->s.step, .steps = t->s.steps, .note = text, .warning = warning};
  t->opt->progress(t->opt->user, &p);
}

/* Prepares all micro-batches first: the scale of every gradient is 1 / (targets of the whole step).
 */
static int64_t load_step(tl_trainer *t) {
  int64_t targets = 0, batch = t->cfg->train.batch, accum = t->cfg->train.accum;
  for (int64_t m = 0; m < accum; m++)
    targets += t->learner->load(t, m, t->s.position + (uint64_t)(m * batch));
  t->s.position += (uint64_t)(accum * batch);
  return targets;
}

static tl_step_stats compute_gradient(tl_trainer *t) {
  double start = tl_profiler_start(t->prof);
  int64_t targets = load_step(t);
  tl_profiler_add(t->prof, TL_PHASE_BATCHES, start);
  tl_step_stats st = {.targets = (double)targets};
  double sum = 0;
  for (int64_t m = 0; m < t->cfg->train.accum; m++) {
    tl_pass run = {.training = true,
                   .accumulate = m > 0,
                   .loss_scale = targets > 0 ? 1.0f / (float)targets : 0,
                   .seed = (uint64_t)t->cfg->run.seed,
                   .tick = (uint64_t)(t->s.step * t->cfg->train.accum + m)};
    tl_run_size size = {0};
    tl_profiler_begin_run(t->prof);
    tl_lm_loss l = t->learner->run(t, m, &run, &size);
    tl_cost c = tl_profiler_end_run(t->prof, t->g);
    sum += l.sum + l.z;
    st.flops += c.flops_fwd + c.flops_bwd;
    t->s.tokens += (uint64_t)size.tokens;
    st.size.tokens += size.tokens;
    st.size.segments += size.segments;
  }
  st.loss = targets > 0 ? sum / (double)targets : 0;
  start = tl_profiler_start(t->prof);
  st.norm = tl_grad_norm(t->ctx, &t->model->params);
  tl_profiler_add(t->prof, TL_PHASE_NORM, start);
  t->s.flops += st.flops;
  return st;
}

static void apply_update(tl_trainer *t, tl_step_stats *st) {
  double clip = t->cfg->optim.clip;
  float scale = clip > 0 && st->norm > clip ? (float)(clip / st->norm) : 1;
  float lr = tl_schedule_at(&t->schedule, t->s.step + 1, t->s.steps) * (float)t->guard.lr_scale;
  st->lr = lr * t->cfg->optim.lr;
  double start = tl_profiler_start(t->prof);
  if (t->teacher)
    tl_optim_set_ema(t->optim,
                     tl_teacher_decay(t->cfg->objective.teacher, t->s.step + 1, t->s.steps));
  tl_optim_step(t->optim, ++t->s.updates, lr, scale);
  tl_profiler_add(t->prof, TL_PHASE_OPTIMIZER, start);
}

tl_status tl_trainer_step(tl_trainer *t, tl_step_stats *st, tl_err *err) {
  double began = tl_profiler_begin_step(t->prof);
  *st = compute_gradient(t);
  double start = tl_profiler_start(t->prof);
  tl_guard_verdict v = tl_guard_check(&t->guard, t->s.step + 1, st->loss, st->norm);
  tl_profiler_add(t->prof, TL_PHASE_GUARD, start);
  if (*v.reason) tl_trainer_note(t, "spike", "%s", v.reason);
  switch (v.action) {
  case TL_GUARD_DO_APPLY:
  case TL_GUARD_DO_WARN:
    apply_update(t, st);
    break;
  case TL_GUARD_DO_SKIP:
    break;
  case TL_GUARD_DO_ROLLBACK:
    tl_snapshot_restore(t);
    /* In the warm-up the rate would soon be back at where it went wrong: that is the new peak. */
    if (t->s.step < t->schedule.warmup)
      t->guard.lr_scale *= tl_schedule_at(&t->schedule, t->s.step + 1, t->s.steps);
    tl_trainer_note(t, "rollback", "back to the weights of step %lld; learning rate x %g from here",
                    (long long)t->snap.step, t->guard.lr_scale);
    break;
  case TL_GUARD_DO_STOP:
    return tl_fail(err, TL_DIVERGED,
                   "training diverged at step %lld: %s. Lower optim.lr, raise optim.warmup, or set "
                   "guard.policy=rollback; the last good checkpoint is kept",
                   (long long)t->s.step + 1, v.reason);
  }
  t->s.step++;
  start = tl_profiler_start(t->prof);
  if (t->snap.values && tl_guard_is_calm(&t->guard) &&
      t->s.step % t->cfg->guard.snapshot_every == 0)
    tl_snapshot_take(t);
  tl_profiler_add(t->prof, TL_PHASE_GUARD, start);
  tl_profiler_end_step(t->prof, began);
  return TL_OK;
}

/* run.minutes: the number of steps is planned from the measured speed until the fall of the
 * learning rate begins (at latest at 4/5 of the time), then it is fixed. */
static void plan_by_time(tl_trainer *t) {
  if (t->cfg->run.minutes == 0 || t->s.step < 10) return;
  double used = (tl_now() - t->started) / (t->cfg->run.minutes * 60), fixed = 0.8;
  if (t->schedule.kind == TL_SCHEDULE_WSD) fixed = fmin(fixed, 1 - t->schedule.decay_fraction);
  if (t->s.steps > 0 && (double)t->s.step >= fixed * (double)t->s.steps) return;
  t->s.steps = (int64_t)((double)t->s.step / used);
  if (t->s.steps <= t->s.step) t->s.steps = t->s.step + 1;
}

/* The list, and the norm of each layer's gradient of this step. */
static tl_status log_metrics(tl_trainer *t, const tl_metric *list, size_t n, tl_err *err) {
  enum { NAME = 40 };
  const tl_params *ps = &t->model->params;
  const size_t groups = t->cfg->run.layer_norms ? (size_t)t->model->n_blocks + 2 : 0;
  tl_metric *all = malloc((n + groups) * sizeof *all);
  char(*name)[NAME] = malloc((groups + 1) * sizeof *name);
  tl_status s = TL_OK;
  if (!all || !name) s = tl_fail(err, TL_NOMEM, "log: out of memory");
  if (s == TL_OK) {
    memcpy(all, list, n * sizeof *all);
    for (size_t i = 0; i < groups; i++) {
      snprintf(name[i], NAME,
               i == 0            ? "grad_norm/embeddings"
               : i == groups - 1 ? "grad_norm/head"
                                 : "grad_norm/layer %zu",
               i - 1);
      all[n + i] = (tl_metric){name[i], 0};
    }
    for (int i = 0; groups && i < ps->n; i++)
      all[n + (size_t)tl_model_group_of(t->model, ps->p[i])].value +=
          tl_grad_sum_sq(t->ctx, ps->p[i]);
    for (size_t i = 0; i < groups; i++) all[n + i].value = sqrt(all[n + i].value);
    s = tl_run_metrics(t->run, t->s.step, all, n + groups, err);
  }
  free(all);
  free(name);
  return s;
}

static tl_status log_step(tl_trainer *t, const tl_step_stats *st, meter *m, tl_err *err) {
  double start = tl_profiler_start(t->prof);
  tl_progress p = progress_of(t, st, m);
  const tl_metric list[] = {{"loss", p.loss},
                            {"bpb", p.bpb},
                            {"lr", p.lr},
                            {"grad_norm", p.grad_norm},
                            {"tokens", (double)p.tokens},
                            {"tokens_per_s", p.tokens_per_s},
                            {"flops_per_s", p.flops_per_s},
                            {"peak", p.peak},
                            {"seconds", p.seconds}};
  if (t->opt->progress) t->opt->progress(t->opt->user, &p);
  *m = (meter){tl_now(), t->s.flops, t->s.tokens};
  tl_status s = t->run ? log_metrics(t, list, sizeof list / sizeof *list, err) : TL_OK;
  tl_profiler_add(t->prof, TL_PHASE_LOGGING, start);
  return s;
}

/* Evaluates the averaged weights, if there are some, and keeps the best where that is asked for. */
static tl_status evaluate(tl_trainer *t, tl_eval_result *r, tl_err *err) {
  tl_optim_swap_ema(t->optim);
  tl_status s = t->learner->evaluate(t, r, err);
  bool better = s == TL_OK && !(t->s.best <= r->criterion);
  if (better && t->learner->keeps_best) s = tl_trainer_save_best(t, err);
  tl_optim_swap_ema(t->optim);
  if (s != TL_OK) return s;
  t->s.evaluated = t->s.step;
  t->s.val_loss = r->loss;
  if (better) {
    t->s.best = r->criterion;
    t->s.best_val_loss = r->loss;
    t->s.best_step = t->s.step;
  }
  return TL_OK;
}

static tl_status evaluate_step(tl_trainer *t, tl_err *err) {
  tl_eval_result r;
  double start = tl_profiler_start(t->prof);
  TL_TRY(evaluate(t, &r, err));
  tl_profiler_add(t->prof, TL_PHASE_EVALUATION, start);
  const tl_metric list[] = {{"eval/loss", r.loss},
                            {"eval/bpb", r.bpb},
                            {"eval/accuracy", r.accuracy},
                            {"tokens", (double)t->s.tokens}};
  const char *metric = t->learner->metric ? t->learner->metric(t) : NULL;
  if (metric && isnan(r.loss))
    tl_trainer_note(t, "evaluation", "validation %s %.4f", metric, -r.criterion);
  else if (metric && !strcmp(metric, "loss"))
    tl_trainer_note(t, "evaluation", "validation loss %.4f", r.loss);
  else if (metric)
    tl_trainer_note(t, "evaluation", "validation loss %.4f, %s %.4f", r.loss, metric, -r.criterion);
  else
    tl_trainer_note(t, "evaluation", "validation loss %.4f nats, %.4f bits per byte, accuracy %.3f",
                    r.loss, r.bpb, r.accuracy);
  return tl_run_metrics(t->run, t->s.step, list, sizeof list / sizeof *list, err);
}

static bool due(int64_t step, int64_t every) {
  return every > 0 && step % every == 0;
}

static bool eval_due(const tl_trainer *t) {
  int64_t every = t->cfg->run.eval_every;
  if (every == 0) every = t->s.steps >= 10 ? t->s.steps / 10 : t->s.steps;
  return t->val_ready && (due(t->s.step, every) || t->s.step == t->s.steps);
}

static bool save_due(const tl_trainer *t) {
  const double minutes = t->cfg->run.checkpoint_minutes;
  if (!t->run) return false;
  return due(t->s.step, t->cfg->run.checkpoint_every) ||
         (minutes > 0 && tl_now() - t->last_saved > 60 * minutes);
}

/* A save that fails loses nothing that was saved before: training goes on and tries again later. */
static tl_status save_or_warn(tl_trainer *t, bool must, tl_err *err) {
  tl_err e = {0};
  double start = tl_profiler_start(t->prof);
  tl_status s = tl_trainer_save(t, &e);
  tl_profiler_add(t->prof, TL_PHASE_CHECKPOINTS, start);
  if (s == TL_OK) return TL_OK;
  if (must) return tl_fail(err, s, "%s", e.msg);
  tl_trainer_note(t, "warning",
                  "checkpoint failed: %s; older ones are untouched, trying again later", e.msg);
  t->last_saved = tl_now();
  return TL_OK;
}

static tl_status finish(tl_trainer *t, tl_train_result *r, tl_err *err) {
  if (!t->run) return t->learner->finish ? t->learner->finish(t, r, err) : TL_OK;
  TL_TRY(save_or_warn(t, true, err));
  char *dir = tl_path_join(tl_run_dir(t->run), "model");
  if (!dir) return tl_fail(err, TL_NOMEM, "out of memory");
  double start = tl_profiler_start(t->prof);
  tl_optim_swap_ema(t->optim); /* the finished model is the averaged one, if there is one */
  tl_status s = t->learner->finish ? t->learner->finish(t, r, err) : TL_OK;
  if (s == TL_OK)
    s = t->lora.base ? tl_lora_save(t->model, &t->lora, dir, err)
                     : tl_model_save(t->model, t->tok, dir, err);
  if (s == TL_OK && t->lora.base && t->tok) s = tl_tokenizer_save(t->tok, dir, err);
  tl_optim_swap_ema(t->optim);
  tl_profiler_add(t->prof, TL_PHASE_CHECKPOINTS, start);
  free(dir);
  return s;
}

/* Says how a run goes on whose state is saved. */
static tl_status say_stopped(tl_trainer *t, tl_err *err) {
  return tl_fail(err, TL_PREEMPTED, "stopped at step %lld; go on with: tilth resume %s",
                 (long long)t->s.step, tl_run_dir(t->run));
}

/* A request to stop, also one that came in the middle of an evaluation: a resumed run begins with
 * it. */
static tl_status stop(tl_trainer *t, tl_err *err) {
  if (!t->run) return tl_fail(err, TL_PREEMPTED, "stopped by request");
  TL_TRY(save_or_warn(t, true, err));
  return say_stopped(t, err);
}

tl_status tl_trainer_run(tl_trainer *t, tl_train_result *r, tl_err *err) {
  t->started = tl_now() - t->s.seconds;
  t->last_saved = tl_now();
  meter m = {tl_now(), t->s.flops, t->s.tokens};
  tl_step_stats st = {0};
  int64_t first = t->s.step + 1;
  bool missed = t->s.step > 0 && t->s.evaluated != t->s.step && eval_due(t); /* stopped in it */
  tl_status s = missed ? evaluate_step(t, err) : TL_OK;
  while (s == TL_OK && (t->s.steps == 0 || t->s.step < t->s.steps)) {
    TL_TRY(tl_trainer_step(t, &st, err));
    t->loss = st.loss;
    plan_by_time(t);
    bool last = t->s.step == t->s.steps;
    if (due(t->s.step, t->cfg->run.log_every) || t->s.step == first || last)
      TL_TRY(log_step(t, &st, &m, err));
    if (eval_due(t)) s = evaluate_step(t, err);
    if (s == TL_OK && !last && save_due(t)) TL_TRY(save_or_warn(t, false, err));
    if (s == TL_OK && tl_ctx_cancelled(t->ctx)) s = TL_PREEMPTED;
  }
  if (s == TL_PREEMPTED) return stop(t, err);
  if (s == TL_OK) s = finish(t, r, err);
  return s == TL_PREEMPTED && t->run ? say_stopped(t, err) : s;
}
