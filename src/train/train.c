#include "tilth/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/trainer.h"

static void fill_result(const tl_trainer *t, tl_train_result *r) {
  if (t->run) snprintf(r->run_dir, sizeof r->run_dir, "%s", tl_run_dir(t->run));
  r->steps = t->s.step;
  r->tokens = t->s.tokens;
  r->loss = t->loss;
  r->val_loss = t->s.val_loss;
  r->best_val_loss = t->s.best_val_loss;
  r->best_step = t->s.best_step;
  r->val_bpb = t->val_ready ? tl_trainer_bpb(t, true, t->s.val_loss) : t->s.val_loss;
  r->seconds = tl_now() - t->started;
  r->flops = t->s.flops;
  r->params = tl_model_params(t->model);
}

static tl_status record(tl_trainer *t, tl_err *err) {
  char hex[20];
  snprintf(hex, sizeof hex, "%016llx", (unsigned long long)t->data_hash);
  const char *before = tl_run_text(t->run, "data_fingerprint");
  if (before && strcmp(before, hex))
    return tl_fail(err, TL_DATA,
                   "%s: the data has changed since the run began (fingerprint %s, was %s)",
                   t->data_name, hex, before);
  TL_TRY(tl_run_set_text(t->run, "data_fingerprint", hex, err));
  if (t->tok) {
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)tl_tokenizer_fingerprint(t->tok));
    TL_TRY(tl_run_set_text(t->run, "tokenizer_fingerprint", hex, err));
  }
  TL_TRY(tl_run_set_text(t->run, "dtype", tl_dtype_name(t->g->opt.dt), err));
  return tl_run_set_number(t->run, "parameters", (double)tl_model_params(t->model), err);
}

static tl_status record_end(tl_trainer *t, const tl_train_result *r, tl_err *err) {
  const struct {
    const char *key;
    double value;
  } list[] = {{"steps", (double)r->steps},   {"tokens", (double)r->tokens},
              {"seconds", r->seconds},       {"flops", r->flops},
              {"val_loss", r->val_loss},     {"val_bits_per_byte", r->val_bpb},
              {"peak_flops_per_s", t->peak}, {"peak_fraction", r->flops / r->seconds / t->peak}};
  for (size_t i = 0; i < sizeof list / sizeof *list; i++)
    TL_TRY(tl_run_set_number(t->run, list[i].key, list[i].value, err));
  return TL_OK;
}

/* Makes the profile and writes it to <run>/profile.json. The run is worth more: failures are only
 * told. */
static void report_profile(const tl_trainer *t, double started, tl_profile **out) {
  tl_err e = {0};
  tl_status s = tl_profiler_report(t->prof, started, out, &e);
  if (s == TL_OK) {
    char *path = tl_path_join(tl_run_dir(t->run), "profile.json"), *text = tl_profile_json(*out);
    s = path && text ? tl_file_write_atomic(path, text, strlen(text), &e)
                     : tl_fail(&e, TL_NOMEM, "profile: out of memory");
    free(path);
    free(text);
  }
  if (s != TL_OK) tl_log(t->ctx, TL_LOG_WARN, "%s", e.msg);
}

/* A disk that is too small is told at the start, not when the first checkpoint finds out. Room for
 * those that are kept, one in the making, and the model. */
static void warn_of_disk(tl_trainer *t) {
  const tl_config *c = t->cfg;
  double model = (double)t->model->params.n_values * sizeof(float);
  double checkpoint = model + (double)tl_optim_bytes(t->optim);
  double need = checkpoint * (double)(c->run.keep_last + c->run.keep_best + 1) + model;
  double room = tl_file_room(tl_run_dir(t->run));
  if (room >= 0 && room < need)
    tl_trainer_note(t, "warning",
                    "%s: %.0f MB of disk are left; the checkpoints and the model may take %.0f "
                    "(run.keep_last, run.keep_best)",
                    tl_run_dir(t->run), room / 1e6, need / 1e6);
}

static tl_status work(tl_trainer *t, bool resume, tl_train_result *result, tl_err *err) {
  TL_TRY(tl_trainer_init(t, err));
  TL_TRY(record(t, err));
  if (resume) {
    TL_TRY(tl_trainer_load(t, err));
    TL_TRY(tl_run_rewind(t->run, t->s.step, err));
    tl_trainer_note(t, "resume", "going on after step %lld", (long long)t->s.step);
  }
  tl_plan_stats plan = t->g->stats;
  tl_log(t->ctx, TL_LOG_INFO,
         "%s: %lld parameters (%lld in the body), %s, %d threads, kernels %s; memory: weights and "
         "gradients %lld MiB, optimizer %zu MiB, activations %zu MiB",
         tl_run_id(t->run), (long long)tl_model_params(t->model),
         (long long)tl_model_body_params(t->model), tl_dtype_name(t->g->opt.dt),
         tl_ctx_threads(t->ctx), tl_ctx_cpu(t->ctx),
         (long long)(t->model->params.n_values * 8 >> 20), tl_optim_bytes(t->optim) >> 20,
         plan.slab_bytes >> 20);
  warn_of_disk(t);
  t->peak = 1e9 * tl_peak_gflops(t->ctx->k->level, t->g->opt.dt) * tl_ctx_threads(t->ctx);
  if (t->opt->profile) TL_TRY(tl_profiler_new(t->g, t->optim, false, &t->prof, err));
  double started = tl_now();
  tl_status s = tl_trainer_run(t, result, err);
  fill_result(t, result);
  if (t->prof && (s == TL_OK || s == TL_PREEMPTED)) report_profile(t, started, &result->profile);
  return s == TL_OK ? record_end(t, result, err) : s;
}

static tl_status run_in(tl_ctx *ctx, const tl_config *cfg, tl_run *run, bool resume,
                        const tl_train_options *options, tl_train_result *result, tl_err *err) {
  tl_err e = {0};
  *result = (tl_train_result){0};
  tl_trainer *t = calloc(1, sizeof *t);
  if (!t) {
    tl_run_close(run, TL_NOMEM, "out of memory", NULL);
    return tl_fail(err, TL_NOMEM, "trainer: out of memory");
  }
  t->ctx = ctx;
  t->cfg = cfg;
  t->opt = options;
  t->learner = tl_trainer_learner(cfg);
  t->run = run;
  snprintf(result->run_dir, sizeof result->run_dir, "%s", tl_run_dir(run));
  tl_status s = work(t, resume, result, &e);
  tl_profiler_free(t->prof);
  tl_trainer_free(t);
  free(t);
  tl_status closed = tl_run_close(run, s, s == TL_OK ? NULL : e.msg, s == TL_OK ? &e : NULL);
  if (s == TL_OK) s = closed;
  return s == TL_OK ? TL_OK : tl_fail(err, s, "%s", e.msg);
}

static const tl_train_options no_options;

tl_status tl_train(tl_ctx *ctx, const tl_config *cfg, const tl_train_options *options,
                   tl_train_result *result, tl_err *err) {
  if (!options) options = &no_options;
  char *yaml = NULL;
  TL_TRY(tl_trainer_check(cfg, err));
  TL_TRY(tl_config_dump(cfg, false, &yaml, err));
  tl_run_options ro = {.dir = cfg->run.dir,
                       .name = cfg->run.name,
                       .config_yaml = yaml,
                       .argc = options->argc,
                       .argv = options->argv,
                       .seed = (uint64_t)cfg->run.seed,
                       .threads = tl_ctx_threads(ctx),
                       .cpu = tl_ctx_cpu(ctx)};
  tl_run *run = NULL;
  tl_status s = tl_run_create(&ro, &run, err);
  free(yaml);
  return s == TL_OK ? run_in(ctx, cfg, run, false, options, result, err) : s;
}

tl_status tl_train_given(tl_ctx *ctx, const tl_config *cfg, const tl_given_records *given,
                         tl_train_result *result, tl_err *err) {
  *result = (tl_train_result){0};
  tl_trainer *t = calloc(1, sizeof *t);
  if (!t) return tl_fail(err, TL_NOMEM, "trainer: out of memory");
  *t = (tl_trainer){.ctx = ctx,
                    .cfg = cfg,
                    .opt = &no_options,
                    .learner = tl_trainer_learner(cfg),
                    .given = given};
  tl_status s = tl_trainer_init(t, err);
  if (s == TL_OK) s = tl_trainer_run(t, result, err);
  if (s == TL_OK) fill_result(t, result);
  tl_trainer_free(t);
  free(t);
  return s;
}

tl_status tl_resume(tl_ctx *ctx, const char *run_dir, const tl_train_options *options,
                    tl_train_result *result, tl_err *err) {
  if (!options) options = &no_options;
  char *path = tl_path_join(run_dir, "config.yaml");
  if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", run_dir);
  tl_config *cfg = NULL;
  tl_status s = tl_config_new(&cfg, err);
  if (s == TL_OK) s = tl_config_apply_file(cfg, path, err);
  if (s == TL_OK) s = tl_config_finish(cfg, err);
  tl_run_options ro = {.argc = options->argc,
                       .argv = options->argv,
                       .seed = cfg ? (uint64_t)cfg->run.seed : 0,
                       .threads = tl_ctx_threads(ctx),
                       .cpu = tl_ctx_cpu(ctx)};
  tl_run *run = NULL;
  if (s == TL_OK) s = tl_run_resume(run_dir, &ro, &run, err);
  if (s == TL_OK) s = run_in(ctx, cfg, run, true, options, result, err);
  tl_config_free(cfg);
  free(path);
  return s;
}
