/* Pretraining as the loop sees it: windows of a tokenized corpus, an objective, a language model.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "eval/generator.h"
#include "train/trainer.h"

/* Prepares data.text into <run>/data; a resumed run finds it there. */
static tl_status prepare_text(tl_trainer *t, const char *dir, tl_err *err) {
  const tl_config *c = t->cfg;
  const char *tokenizer = *c->data.tokenizer ? c->data.tokenizer : c->model.from;
  if (!*tokenizer)
    return tl_fail(err, TL_CONFIG,
                   "data.tokenizer is needed with data.text: a folder made by `tilth tokenizer "
                   "train`, or \"bytes\"");
  tl_tokenizer *tok = NULL;
  tl_text_reader *r = NULL;
  TL_TRY(tl_tokenizer_open(t->ctx, tokenizer, &tok, err));
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

/* The sizes of model.from, where training text of this tokenizer and length must fit. */
static tl_status config_from_model(const tl_config *c, int64_t vocab, tl_model_config *mc,
                                   tl_err *err) {
  TL_TRY(tl_model_read_config(c->model.from, mc, err));
  TL_TRY(tl_model_without_rows(mc, c->model.from, err));
  if (vocab > mc->vocab)
    return tl_fail(err, TL_CONFIG,
                   "%s: the text's tokenizer and the objective need %lld ids, the model has %lld; "
                   "prepare the text with the model's own tokenizer",
                   c->model.from, (long long)vocab, (long long)mc->vocab);
  if (c->train.seq_len > mc->max_len)
    return tl_fail(err, TL_CONFIG, "%s: train.seq_len is %lld; the model takes %lld tokens",
                   c->model.from, (long long)c->train.seq_len, (long long)mc->max_len);
  mc->dropout = c->model.dropout;
  mc->attention_dropout = c->model.attention_dropout;
  mc->shifted = !strcmp(c->objective.type, "hybrid");
  return TL_OK;
}

static tl_status make_model(tl_trainer *t, int64_t vocab, tl_err *err) {
  const tl_config *c = t->cfg;
  tl_model_config mc;
  bool goes_on = *c->model.from != 0;
  t->objective = tl_objective_find(c->objective.type);
  vocab += tl_objective_more_tokens(t->objective, t->tok);
  TL_TRY(goes_on ? config_from_model(c, vocab, &mc, err)
                 : tl_model_config_from(c, vocab, c->train.seq_len, &mc, err));
  TL_TRY(tl_model_alloc(&mc, true, NULL, NULL, &t->model, err));
  tl_params_init(t->ctx, &t->model->params, (uint64_t)c->run.seed);
  if (goes_on) TL_TRY(tl_model_read_weights(t->model, c->model.from, err));
  TL_TRY(tl_objective_args_from(t->objective, c, t->tok, &t->args, err));
  if (t->objective->seq2seq) t->args.bos = tl_model_start(&mc, t->tok);
  TL_TRY(tl_objective_sentinels(t->objective, &t->args, mc.vocab, err));
  tl_lm_options lo = {.dt = tl_kernels_dtype(t->ctx->k, c->run.dtype),
                      .max_tokens = c->train.batch * c->train.seq_len,
                      .training = true,
                      .smoothing = c->objective.label_smoothing,
                      .z_loss = c->objective.z_loss};
  TL_TRY(tl_lm_new(t->ctx, t->model, t->objective, &lo, &t->lm, err));
  t->g = t->lm.g;
  return TL_OK;
}

static void plan_steps(tl_trainer *t) {
  const tl_config *c = t->cfg;
  int64_t per_step = c->train.batch * c->train.seq_len * c->train.accum;
  if (c->run.minutes > 0) return; /* planned from the measured speed */
  t->s.steps = c->train.steps;
  if (t->s.steps == 0) t->s.steps = (c->train.tokens + per_step - 1) / per_step;
}

enum { SAMPLE_TOKENS = 100 };

static void add_sample(void *user, const char *text, size_t len) {
  for (size_t i = 0; i < len; i++) tl_buf_putc(user, text[i] ? text[i] : ' ');
}

/* What the model says today goes to the events of the run; a text that is lost stops nothing. */
static tl_status write_sample(tl_trainer *t, tl_err *err) {
  tl_sampling how = tl_sampling_defaults();
  tl_buf text = {0};
  tl_err unheard;
  how.max_tokens = SAMPLE_TOKENS;
  how.seed = (uint64_t)t->cfg->run.seed;
  tl_buf_puts(&text, t->cfg->run.sample);
  tl_status s =
      tl_generator_run(t->sampler, t->cfg->run.sample, &how, add_sample, &text, NULL, err);
  if (s == TL_PREEMPTED) s = TL_OK; /* the loop sees it, too */
  if (s == TL_OK && t->run && !text.oom)
    tl_run_event(t->run, t->s.step, "sample", text.data, &unheard);
  tl_buf_free(&text);
  return s;
}

static tl_status init(tl_trainer *t, tl_err *err) {
  const tl_config *c = t->cfg;
  plan_steps(t);
  TL_TRY(open_data(t, err));
  t->tok_dir = t->data_name = tl_dataset_dir(t->data);
  t->data_hash = tl_dataset_fingerprint(t->data);
  TL_TRY(make_model(t, tl_tokenizer_vocab_size(t->tok), err));
  TL_TRY(make_batches(t, err));
  if (*c->run.sample)
    TL_TRY(tl_generator_over(t->ctx, t->model, t->tok, tl_kernels_dtype(t->ctx->k, c->run.dtype),
                             &t->sampler, err));
  uint32_t window = (uint32_t)c->train.seq_len;
  uint64_t seed = (uint64_t)c->run.seed;
  TL_TRY(tl_loader_init(&t->train, t->data, TL_TRAIN, seed, window, c->data.documents, t->objective,
                        err));
  t->val_ready = tl_loader_init(&t->val, t->data, TL_VAL, seed, window, c->data.documents,
                                t->objective, NULL) == TL_OK;
  return TL_OK;
}

static tl_status made_up(tl_trainer *t, const tl_made_up *m, tl_err *err) {
  TL_TRY(tl_tokenizer_open(t->ctx, "bytes", &t->tok, err));
  TL_TRY(make_model(t, m->vocab, err));
  t->args.vocab = (int)m->vocab;
  t->args.n_special = (int)m->first;
  t->args.mask_id = 0;
  t->args.whole_word = false;
  TL_TRY(make_batches(t, err));
  return tl_loader_init_made_up(&t->train, m, (uint32_t)t->cfg->train.seq_len, t->objective, err);
}

static int64_t load(tl_trainer *t, int64_t m, uint64_t position) {
  t->args.progress = t->s.steps > 0 ? (double)t->s.step / (double)t->s.steps : 0;
  tl_objective_begin(t->objective, &t->args, (uint64_t)(t->s.step * t->cfg->train.accum + m));
  tl_loader_fill(&t->train, &t->args, position, t->cfg->train.batch, &t->micro[m]);
  return t->micro[m].n_counted;
}

static tl_lm_loss run(tl_trainer *t, int64_t m, const tl_pass *pass, tl_run_size *size) {
  *size = (tl_run_size){t->micro[m].n_tokens, t->micro[m].n_segments};
  return tl_lm_run(&t->lm, &t->micro[m], pass);
}

static tl_status evaluate(tl_trainer *t, tl_eval_result *r, tl_err *err) {
  if (t->sampler) TL_TRY(write_sample(t, err));
  return tl_lm_evaluate(&t->lm, &t->val, &t->args, t->cfg->train.batch, t->cfg->run.eval_tokens,
                        &t->val_batch, r, err);
}

static double bpb(const tl_trainer *t, bool val, double loss) {
  return tl_loader_bpb(val ? &t->val : &t->train, loss);
}

static void release(tl_trainer *t) {
  tl_generator_free(t->sampler);
  tl_lm_free(&t->lm);
  tl_loader_free(&t->train);
  tl_loader_free(&t->val);
  for (int64_t i = 0; t->micro && i < t->cfg->train.accum; i++) tl_batch_free(&t->micro[i]);
  free(t->micro);
  tl_batch_free(&t->val_batch);
  tl_dataset_close(t->data);
}

const tl_learner tl_pretraining = {.init = init,
                                   .made_up = made_up,
                                   .load = load,
                                   .run = run,
                                   .evaluate = evaluate,
                                   .bpb = bpb,
                                   .free = release};
