#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/process.h"
#include "eval/stats.h"
#include "models/model.h"
#include "tilth/bench.h"
#include "train/trainer.h"
#include "transfer/picture_objective.h"

/* --- made-up data --------------------------------------------------------------------------- */

static bool on_pictures(const tl_config *c) {
  return tl_arch_find(c->model.type)->image;
}

static tl_status choose_learner(const tl_config *c, const tl_bench_step_options *o,
                                const tl_learner **out, tl_err *err) {
  *out = on_pictures(c) ? &tl_imaging : o->finetune ? &tl_finetuning : &tl_pretraining;
  if (on_pictures(c) && o->n_lengths)
    return tl_fail(err, TL_USAGE, "documents have lengths (--lengths), pictures have not");
  if (tl_picture_objective_find(c->objective.type))
    return tl_fail(
        err, TL_CONFIG,
        "objective.type %s: on pictures, steps with labels alone are timed; leave it out",
        c->objective.type);
  return TL_OK;
}

static tl_status find_vocab(tl_ctx *ctx, const tl_config *c, int64_t *vocab, tl_err *err) {
  const char *name = *c->data.path        ? c->data.path
                     : *c->data.tokenizer ? c->data.tokenizer
                                          : "bytes";
  tl_tokenizer *t = NULL;
  *vocab = c->model.vocab;
  if (*vocab > 0 || on_pictures(c)) return TL_OK;
  TL_TRY(tl_tokenizer_open(ctx, name, &t, err));
  *vocab = tl_tokenizer_vocab_size(t);
  tl_tokenizer_free(t);
  return TL_OK;
}

static tl_status make_up(const tl_config *c, const tl_bench_step_options *o, int64_t vocab,
                         tl_made_up *m, tl_err *err) {
  *m = (tl_made_up){.seed = (uint64_t)c->run.seed, .first = 1, .vocab = (uint32_t)vocab};
  if (vocab < 2 && !on_pictures(c))
    return tl_fail(err, TL_CONFIG, "model.vocab must be at least 2, not %lld", (long long)vocab);
  if (o->n_lengths == 0) return TL_OK;
  uint64_t *starts = malloc((o->n_lengths + 1) * sizeof *starts);
  if (!starts) return tl_fail(err, TL_NOMEM, "bench: out of memory");
  starts[0] = 0;
  m->starts = starts;
  m->n_lengths = o->n_lengths;
  for (size_t i = 0; i < o->n_lengths; i++) {
    if (o->lengths[i] == 0) return tl_fail(err, TL_USAGE, "bench: a document of 0 tokens");
    starts[i + 1] = starts[i] + o->lengths[i];
  }
  return TL_OK;
}

/* --- steps ---------------------------------------------------------------------------------- */

static tl_status summarize(const tl_trainer *t, double flops, tl_bench_step_result *r,
                           tl_err *err) {
  size_t n = (size_t)r->steps;
  double *sorted = malloc(n * sizeof *sorted);
  if (!sorted) return tl_fail(err, TL_NOMEM, "bench: out of memory");
  memcpy(sorted, r->step_seconds, n * sizeof *sorted);
  tl_sort(sorted, n);
  r->median = tl_quantile(sorted, n, 0.5);
  r->min = sorted[0];
  r->max = sorted[n - 1];
  free(sorted);
  double steps = (double)r->steps;
  r->tokens /= steps;
  r->segments /= steps;
  r->targets /= steps;
  r->tokens_per_s = r->tokens / r->median;
  r->segments_per_s = r->segments / r->median;
  r->flops_per_token = flops / steps / r->tokens;
  r->gflops = flops / steps / r->median * 1e-9;
  r->params = tl_model_params(t->model);
  r->dt = t->g->opt.dt;
  r->peak_gflops = tl_peak_gflops(t->ctx->k->level, r->dt) * tl_ctx_threads(t->ctx);
  r->peak_rss = tl_process_peak_rss();
  return TL_OK;
}

static tl_status run_steps(tl_trainer *t, const tl_bench_step_options *o, tl_bench_step_result *r,
                           tl_err *err) {
  double flops = 0, started = tl_now();
  for (int64_t i = 0; i < o->warmup + o->steps; i++) {
    tl_step_stats st;
    int64_t timed = i - o->warmup;
    if (i == 0) r->to_first = tl_process_age();
    if (timed == 0 && o->profile) {
      TL_TRY(tl_profiler_new(t->g, t->optim, i > 0, &t->prof, err));
      started = tl_now();
    }
    double start = tl_now();
    TL_TRY(tl_trainer_step(t, &st, err));
    double seconds = tl_now() - start;
    if (i == 0) r->to_first_end = tl_process_age();
    if (tl_ctx_cancelled(t->ctx))
      return tl_fail(err, TL_PREEMPTED, "stopped by request at step %lld", (long long)i + 1);
    if (timed < 0) continue;
    r->step_seconds[timed] = seconds;
    r->loss = st.loss;
    r->targets += st.targets;
    flops += st.flops;
    r->tokens += (double)st.size.tokens;
    r->segments += (double)st.size.segments;
  }
  TL_TRY(summarize(t, flops, r, err));
  return o->profile ? tl_profiler_report(t->prof, started, &r->profile, err) : TL_OK;
}

static tl_status bench_step(tl_trainer *t, const tl_bench_step_options *o, const tl_made_up *m,
                            tl_bench_step_result *r, tl_err *err) {
  *r = (tl_bench_step_result){.steps = o->steps};
  r->step_seconds = calloc((size_t)o->steps, sizeof *r->step_seconds);
  if (!r->step_seconds) return tl_fail(err, TL_NOMEM, "bench: out of memory");
  TL_TRY(choose_learner(t->cfg, o, &t->learner, err));
  TL_TRY(tl_trainer_init_made_up(t, m, o->warmup + o->steps, err));
  return run_steps(t, o, r, err);
}

tl_status tl_bench_step(tl_ctx *ctx, const tl_config *cfg, const tl_bench_step_options *o,
                        tl_bench_step_result *out, tl_err *err) {
  int64_t vocab = 0;
  tl_made_up m = {0};
  *out = (tl_bench_step_result){0};
  if (o->warmup < 0 || o->steps < 1)
    return tl_fail(err, TL_USAGE, "bench: at least 1 step to time, and not fewer than 0 before");
  TL_TRY(find_vocab(ctx, cfg, &vocab, err));
  const tl_train_options none = {0};
  tl_trainer *t = calloc(1, sizeof *t);
  if (!t) return tl_fail(err, TL_NOMEM, "trainer: out of memory");
  tl_status s = make_up(cfg, o, vocab, &m, err);
  if (s == TL_OK) {
    t->ctx = ctx;
    t->cfg = cfg;
    t->opt = &none;
    s = bench_step(t, o, &m, out, err);
    tl_profiler_free(t->prof);
    tl_trainer_free(t);
  }
  free(t);
  free((void *)m.starts);
  if (s != TL_OK) tl_bench_step_free(out);
  return s;
}

void tl_bench_step_free(tl_bench_step_result *r) {
  free(r->step_seconds);
  tl_profile_free(r->profile);
  *r = (tl_bench_step_result){0};
}
