#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/process.h"
#include "base/rng.h"
#include "eval/generator.h"
#include "eval/stats.h"
#include "tilth/bench.h"

static tl_status make_model(tl_ctx *ctx, const tl_config *c, tl_generator *s, tl_err *err) {
  tl_model_config mc;
  int64_t vocab = c->model.vocab > 0 ? c->model.vocab : 256;
  TL_TRY(tl_model_config_from(c, vocab, c->train.seq_len, &mc, err));
  TL_TRY(tl_model_alloc(&mc, false, NULL, NULL, &s->model, err));
  if (s->model->arch->encoder || s->model->arch->seq2seq)
    return tl_fail(err, TL_CONFIG,
                   "bench generate: model.type %s does not continue text; use gpt2 "
                   "or llama",
                   s->model->arch->name);
  tl_params_init(ctx, &s->model->params, (uint64_t)c->run.seed);
  s->vocab = (int)mc.vocab;
  return tl_generator_build(s, tl_kernels_dtype(ctx->k, c->run.dtype), err);
}

/* One sequence: the prompt, then the likeliest token each time. */
static void run_once(tl_generator *s, const uint32_t *prompt, const tl_bench_generate_options *o,
                     double *prompt_seconds, double *seconds) {
  const tl_sampling greedy = {.temperature = 0};
  double start = tl_now();
  s->pos = 0;
  tl_generator_feed(s, prompt, o->prompt);
  *prompt_seconds = tl_now() - start;
  for (int64_t i = 0; i < o->tokens; i++) {
    uint32_t id = tl_generator_draw(s, &greedy, i);
    if (i + 1 < o->tokens) tl_generator_feed(s, &id, 1);
  }
  *seconds = tl_now() - start;
}

static tl_status time_runs(tl_generator *s, const uint32_t *prompt,
                           const tl_bench_generate_options *o, double *seconds,
                           tl_bench_generate_result *r, tl_err *err) {
  double best_prompt = 1e30;
  for (int64_t i = 0; i < o->warmup + o->runs; i++) {
    double t, p;
    if (i == 0) r->to_first = tl_process_age();
    run_once(s, prompt, o, &p, &t);
    if (i == 0) r->to_first_end = tl_process_age();
    if (tl_ctx_cancelled(s->ctx)) return tl_fail(err, TL_PREEMPTED, "stopped by request");
    if (i < o->warmup) continue;
    seconds[i - o->warmup] = t;
    if (p < best_prompt) best_prompt = p;
  }
  tl_sort(seconds, (size_t)o->runs);
  r->median = tl_quantile(seconds, (size_t)o->runs, 0.5);
  r->prompt_seconds = best_prompt;
  r->token_seconds = (r->median - best_prompt) / (double)o->tokens;
  r->tokens_per_s = (double)o->tokens / r->median;
  r->params = tl_model_params(s->model);
  r->peak_rss = tl_process_peak_rss();
  r->dt = s->g->opt.dt;
  return TL_OK;
}

tl_status tl_bench_generate(tl_ctx *ctx, const tl_config *cfg, const tl_bench_generate_options *o,
                            tl_bench_generate_result *r, tl_err *err) {
  tl_generator s = {.ctx = ctx};
  *r = (tl_bench_generate_result){0};
  tl_status st = make_model(ctx, cfg, &s, err);
  if (st == TL_OK && o->prompt + o->tokens > s.model->c.max_len)
    st = tl_fail(err, TL_CONFIG, "%lld tokens of prompt and %lld new ones; the model takes %lld",
                 (long long)o->prompt, (long long)o->tokens, (long long)s.model->c.max_len);
  uint32_t *prompt = malloc((size_t)o->prompt * sizeof *prompt);
  double *seconds = malloc((size_t)o->runs * sizeof *seconds);
  if (st == TL_OK && (!prompt || !seconds)) st = tl_fail(err, TL_NOMEM, "bench: out of memory");
  if (st == TL_OK) {
    tl_rng rng = tl_rng_make((uint64_t)cfg->run.seed, TL_STREAM_TEST, 0, 0);
    for (int64_t i = 0; i < o->prompt; i++)
      prompt[i] = (uint32_t)tl_rng_below(&rng, (uint64_t)s.vocab);
    st = time_runs(&s, prompt, o, seconds, r, err);
  }
  free(prompt);
  free(seconds);
  tl_generator_close(&s);
  return st;
}
