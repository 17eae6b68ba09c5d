#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/trainer.h"

tl_status tl_lm_evaluate(tl_lm *lm, tl_loader *val, const tl_objective_args *args, int64_t batch,
                         int64_t tokens, tl_batch *b, tl_eval_result *r, tl_err *err) {
  double start = tl_now();
  *r = (tl_eval_result){0};
  uint64_t all = tl_loader_per_epoch(val), n = all, window = val->order.window;
  if (tokens > 0 && (uint64_t)tokens / window < all) n = (uint64_t)tokens / window;
  if (n == 0) n = 1;
  uint64_t stride = all / n; /* the windows are spread evenly */
  tl_objective_args a = *args;
  a.progress = 0;
  a.causal = !lm->objective->needs_mask;
  double sum = 0, correct = 0;
  for (uint64_t i = 0; i < n;) {
    tl_batch_clear(b);
    for (int64_t k = 0; k < batch && i < n; k++) tl_loader_add(val, &a, i++ * stride, b);
    tl_lm_loss l = tl_lm_run(lm, b, &(tl_pass){.loss_scale = 1});
    sum += l.sum;
    correct += l.correct;
    r->targets += (uint64_t)l.count;
    r->tokens += (uint64_t)b->n_tokens;
    if (tl_ctx_cancelled(lm->g->ctx)) return tl_fail(err, TL_PREEMPTED, "stopped by request");
  }
  if (r->targets == 0)
    return tl_fail(err, TL_DATA, "evaluation: no targets in %llu windows", (unsigned long long)n);
  r->loss = sum / (double)r->targets;
  r->criterion = r->loss;
  r->bpb = tl_loader_bpb(val, r->loss);
  r->perplexity = exp(r->loss);
  r->accuracy = correct / (double)r->targets;
  r->seconds = tl_now() - start;
  return TL_OK;
}

static tl_status evaluate(tl_ctx *ctx, tl_model *m, const tl_tokenizer *tok, const tl_dataset *data,
                          const tl_objective *o, int64_t seq_len, int64_t tokens, tl_eval_result *r,
                          tl_err *err) {
  tl_config *cfg = NULL;
  tl_objective_args args;
  tl_loader val = {0};
  tl_batch batch = {0};
  tl_lm lm = {0};
  int64_t rows = seq_len < 4096 ? 4096 / seq_len : 1;
  tl_status s = tl_config_new(&cfg, err);
  if (s == TL_OK) s = tl_objective_args_from(o, cfg, tok, &args, err);
  if (s == TL_OK && o->seq2seq) args.bos = tl_model_start(&m->c, tok);
  if (s == TL_OK) s = tl_objective_sentinels(o, &args, m->c.vocab, err);
  if (s == TL_OK) s = tl_loader_init(&val, data, TL_VAL, 1, (uint32_t)seq_len, true, o, err);
  if (s == TL_OK) s = tl_batch_init(&batch, rows * seq_len, err);
  if (s == TL_OK)
    s = tl_lm_new(
        ctx, m, o,
        &(tl_lm_options){.dt = tl_kernels_dtype(ctx->k, "auto"), .max_tokens = rows * seq_len}, &lm,
        err);
  if (s == TL_OK) s = tl_lm_evaluate(&lm, &val, &args, rows, tokens, &batch, r, err);
  tl_lm_free(&lm);
  tl_batch_free(&batch);
  tl_loader_free(&val);
  tl_config_free(cfg);
  return s;
}

/* Ids of another tokenizer would give a loss without meaning. A model folder may lack its own. */
static tl_status check_tokenizer(const char *model_dir, const tl_dataset *data, tl_err *err) {
  tl_tokenizer *own = NULL;
  tl_status s = tl_model_tokenizer(model_dir, &own, err);
  if (s == TL_NOINPUT) return TL_OK;
  if (s == TL_OK && tl_tokenizer_fingerprint(own) != tl_dataset_tokenizer(data))
    s = tl_fail(err, TL_CONFIG,
                "%s was prepared with another tokenizer than that of %s; prepare the text with "
                "--tokenizer %s",
                tl_dataset_dir(data), model_dir, model_dir);
  tl_tokenizer_free(own);
  return s;
}

tl_status tl_evaluate(tl_ctx *ctx, const char *model_dir, const char *data_dir,
                      const char *objective, int64_t seq_len, int64_t tokens, tl_eval_result *r,
                      tl_err *err) {
  tl_model *m = NULL;
  tl_dataset *data = NULL;
  tl_tokenizer *tok = NULL;
  TL_TRY(tl_model_load(model_dir, false, &m, err));
  tl_status s = tl_model_without_rows(&m->c, model_dir, err);
  if (s == TL_OK) s = tl_dataset_open(data_dir, false, &data, err);
  if (s == TL_OK) s = tl_tokenizer_load(data_dir, &tok, err);
  if (s == TL_OK) s = check_tokenizer(model_dir, data, err);
  if (s == TL_OK && tl_tokenizer_vocab_size(tok) > m->c.vocab)
    s = tl_fail(err, TL_CONFIG, "%s has %d tokens, the model in %s only %lld: another tokenizer?",
                data_dir, tl_tokenizer_vocab_size(tok), model_dir, (long long)m->c.vocab);
  if (!*objective)
    objective = m->c.shifted       ? "hybrid"
                : m->arch->seq2seq ? "denoise"
                : m->arch->encoder ? "masked"
                                   : "next_token";
  const tl_objective *o = tl_objective_find(objective);
  if (s == TL_OK && !o) s = tl_fail(err, TL_CONFIG, "objective \"%s\" is unknown", objective);
  if (seq_len == 0) seq_len = m->c.max_len;
  if (s == TL_OK && seq_len > m->c.max_len)
    s = tl_fail(err, TL_CONFIG, "sequences of %lld tokens: the model takes at most %lld",
                (long long)seq_len, (long long)m->c.max_len);
  if (s == TL_OK) s = evaluate(ctx, m, tok, data, o, seq_len, tokens, r, err);
  tl_tokenizer_free(tok);
  tl_dataset_close(data);
  tl_model_free(m);
  return s;
}
