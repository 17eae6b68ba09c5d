#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/context.h"
#include "base/rng.h"
#include "data/batch.h"
#include "data/data_manifest.h"
#include "data/shard.h"
#include "data/stage.h"
#include "tilth/dataset.h"

enum { REPORT_SECONDS = 2, DEFAULT_SHARD_TOKENS = 100000000 };

/* One document of the tail split's spool: the stream's length, and so the place of the cut, is
 * known at its end only. */
typedef struct spool_doc {
  uint64_t n_ids, bytes;
} spool_doc;

typedef struct job {
  tl_ctx *ctx;
  tl_text_reader *reader;
  tl_prepare_options options;
  tl_stage stage;
  tl_split_writer split[TL_N_SPLITS];
  char *spool_path[2]; /* tail split: ids as uint32, and spool_doc */
  tl_out spool[2];
  uint64_t docs, tokens, bytes; /* so far */
  double begin, next_report;
} job;

static tl_status check_options(const tl_prepare_options *o, const tl_tokenizer *tok, tl_err *err) {
  if (!(o->val_fraction >= 0 && o->val_fraction < 1))
    return tl_fail(err, TL_CONFIG, "val_fraction is %g; expected 0 <= val_fraction < 1",
                   o->val_fraction);
  if (o->shard_tokens > UINT32_MAX)
    return tl_fail(err, TL_CONFIG, "shard_tokens is %llu; expected at most %lu",
                   (unsigned long long)o->shard_tokens, (unsigned long)UINT32_MAX);
  if (tl_tokenizer_vocab_size(tok) < 1)
    return tl_fail(err, TL_CONFIG, "the tokenizer has an empty vocabulary");
  return TL_OK;
}

/* By content, so that all copies of a document land on one side. */
static tl_split split_of(const job *j, const char *text, size_t len) {
  uint64_t key = tl_mix64(j->options.seed, TL_STREAM_SPLIT);
  double u = (double)(XXH3_64bits_withSeed(text, len, key) >> 11) * 0x1p-53;
  return u < j->options.val_fraction ? TL_VAL : TL_TRAIN;
}

static tl_status append_document(job *j, const char *text, size_t len, const uint32_t *ids,
                                 size_t n, tl_err *err) {
  j->docs++;
  j->tokens += n;
  j->bytes += len;
  if (!j->options.split_tail)
    return tl_split_writer_add(&j->split[split_of(j, text, len)], ids, n, len, err);
  spool_doc d = {n, len};
  TL_TRY(tl_out_write(&j->spool[0], ids, n * sizeof *ids, err));
  return tl_out_write(&j->spool[1], &d, sizeof d, err);
}

static tl_status append_batch(job *j, const tl_doc_batch *b, const tl_encoder *e, tl_err *err) {
  for (size_t t = 0; t < e->n_tasks; t++) {
    const uint32_t *ids = e->tasks[t].ids.data;
    for (size_t i = e->tasks[t].first; i < e->tasks[t].end; i++) {
      const tl_doc *d = &b->docs[i];
      if (d->n_ids == 0) continue;
      TL_TRY(append_document(j, b->text.data + d->offset, d->len, ids, d->n_ids, err));
      ids += d->n_ids;
    }
  }
  return TL_OK;
}

static void report_progress(job *j) {
  double now = tl_now(), mb = (double)j->bytes * 1e-6;
  if (now < j->next_report) return;
  j->next_report = now + REPORT_SECONDS;
  tl_log(j->ctx, TL_LOG_INFO, "prepare: %llu documents, %.1f MB, %llu tokens, %.1f MB/s",
         (unsigned long long)j->docs, mb, (unsigned long long)j->tokens, mb / (now - j->begin));
}

static tl_status encode_all(job *j, const tl_tokenizer *tok, tl_err *err) {
  tl_doc_batch batch[2];
  memset(batch, 0, sizeof batch);
  tl_encoder e = {.tok = tok, .vocab_size = j->split[0].kind.vocab_size};
  e.bos = j->options.add_bos ? tl_tokenizer_special(tok, TL_TOK_BOS) : -1;
  e.eos = j->options.add_eos ? tl_tokenizer_special(tok, TL_TOK_EOS) : -1;
  tl_doc_batch *ready = NULL;
  tl_status s = TL_OK;
  for (int turn = 0; s == TL_OK; turn ^= 1) {
    tl_doc_batch *to = ready && ready->last ? NULL : &batch[turn];
    s = tl_doc_batch_run(j->ctx->pool, &e, j->reader, to, ready, err);
    if (s == TL_OK && ready) s = append_batch(j, ready, &e, err);
    if (s == TL_OK && to && to->status != TL_OK) {
      s = to->status;
      if (err) *err = to->err;
    }
    if (s == TL_OK && tl_ctx_cancelled(j->ctx))
      s = tl_fail(err, TL_PREEMPTED, "stopped by request after %llu documents; nothing was written",
                  (unsigned long long)j->docs);
    report_progress(j);
    if (!to) break;
    ready = to;
  }
  tl_encoder_free(&e);
  for (int i = 0; i < 2; i++) tl_doc_batch_free(&batch[i]);
  return s;
}

static tl_status open_spool(job *j, tl_err *err) {
  static const char *const names[2] = {"ids.spool", "docs.spool"};
  for (int i = 0; i < 2; i++) {
    j->spool_path[i] = tl_path_join(j->stage.dir, names[i]);
    if (!j->spool_path[i]) return tl_fail(err, TL_NOMEM, "%s: out of memory", j->stage.dir);
    TL_TRY(tl_out_open(j->spool_path[i], &j->spool[i], err));
  }
  return TL_OK;
}

/* Cuts the spooled stream: the last val_fraction of its tokens is validation, and a document across
 * the cut counts in both, its bytes shared out by tokens. */
static tl_status split_spool(job *j, const uint32_t *ids, const spool_doc *docs, tl_err *err) {
  uint64_t n_val = (uint64_t)((double)j->tokens * j->options.val_fraction);
  uint64_t cut = j->tokens - n_val, at = 0;
  for (uint64_t i = 0; i < j->docs; i++) {
    uint64_t n = docs[i].n_ids;
    uint64_t n_train = at >= cut ? 0 : cut - at < n ? cut - at : n;
    uint64_t train_bytes = (uint64_t)((double)docs[i].bytes * (double)n_train / (double)n);
    if (n_train)
      TL_TRY(tl_split_writer_add(&j->split[TL_TRAIN], ids + at, n_train, train_bytes, err));
    if (n_train < n)
      TL_TRY(tl_split_writer_add(&j->split[TL_VAL], ids + at + n_train, n - n_train,
                                 docs[i].bytes - train_bytes, err));
    at += n;
    if (i % 65536 == 0 && tl_ctx_cancelled(j->ctx))
      return tl_fail(err, TL_PREEMPTED, "stopped by request; nothing was written");
  }
  return TL_OK;
}

static tl_status end_spool(job *j, tl_err *err) {
  tl_map map[2] = {{NULL, 0}, {NULL, 0}};
  tl_status s = TL_OK;
  for (int i = 0; i < 2 && s == TL_OK; i++) {
    s = tl_out_commit(&j->spool[i], NULL, err);
    if (s == TL_OK) s = tl_map_open(j->spool_path[i], &map[i], err);
    unlink(j->spool_path[i]); /* the map keeps the contents */
  }
  if (s == TL_OK)
    s = split_spool(j, (const uint32_t *)(const void *)map[0].data,
                    (const spool_doc *)(const void *)map[1].data, err);
  for (int i = 0; i < 2; i++) tl_map_close(&map[i]);
  return s;
}

static tl_status check_splits(const job *j, tl_err *err) {
  const char *empty = j->split[TL_TRAIN].tokens == 0                                ? "train"
                      : j->split[TL_VAL].tokens == 0 && j->options.val_fraction > 0 ? "validation"
                                                                                    : NULL;
  if (j->tokens == 0)
    return tl_fail(err, TL_DATA,
                   "the tokenizer makes no tokens of this text; is it the right one?");
  if (!empty) return TL_OK;
  return tl_fail(err, TL_DATA,
                 "the %s split would be empty (%llu documents, %llu tokens, val_fraction %g): give "
                 "more documents, another val_fraction (--val-fraction; 0: no validation), or "
                 "split the end of the text off (--split tail); --unit line or paragraph makes "
                 "more documents of the same text",
                 empty, (unsigned long long)j->docs, (unsigned long long)j->tokens,
                 j->options.val_fraction);
}

static tl_status write_manifest(job *j, const tl_tokenizer *tok, tl_err *err) {
  tl_data_manifest m = {.kind = j->split[0].kind};
  for (int s = 0; s < TL_N_SPLITS; s++) {
    const tl_split_writer *w = &j->split[s];
    m.split[s] = (tl_data_manifest_split){w->docs, w->tokens, w->bytes, w->shards, w->n_shards};
  }
  m.fingerprint = tl_data_manifest_fingerprint(&m);
  return tl_data_manifest_write(&m, j->stage.dir, tl_tokenizer_type(tok), &j->options, err);
}

static tl_status prepare(job *j, const tl_tokenizer *tok, tl_err *err) {
  tl_shard_kind kind = {(uint32_t)tl_tokenizer_vocab_size(tok), tl_tokenizer_fingerprint(tok),
                        j->options.shard_tokens};
  for (int s = 0; s < TL_N_SPLITS; s++) {
    j->split[s].kind = kind;
    j->split[s].split = (tl_split)s;
    j->split[s].dir = j->stage.dir;
  }
  if (j->options.split_tail) TL_TRY(open_spool(j, err));
  TL_TRY(encode_all(j, tok, err));
  if (j->options.split_tail) TL_TRY(end_spool(j, err));
  TL_TRY(check_splits(j, err));
  for (int s = 0; s < TL_N_SPLITS; s++) TL_TRY(tl_split_writer_end(&j->split[s], err));
  TL_TRY(tl_tokenizer_save(tok, j->stage.dir, err));
  return write_manifest(j, tok, err);
}

static void fill_report(const job *j, tl_prepare_report *r) {
  for (int s = 0; s < TL_N_SPLITS; s++) {
    r->docs[s] = j->split[s].docs;
    r->tokens[s] = j->split[s].tokens;
    r->bytes[s] = j->split[s].bytes;
  }
  r->seconds = tl_now() - j->begin;
}

tl_status tl_prepare(tl_ctx *ctx, tl_text_reader *reader, const tl_tokenizer *tok,
                     const tl_prepare_options *options, const char *out_dir, bool overwrite,
                     tl_prepare_report *report, tl_err *err) {
  static const tl_prepare_options defaults = {
      .val_fraction = 0.005, .add_bos = true, .add_eos = true};
  job j = {.ctx = ctx, .reader = reader, .options = options ? *options : defaults};
  TL_TRY(check_options(&j.options, tok, err));
  if (j.options.shard_tokens == 0) j.options.shard_tokens = DEFAULT_SHARD_TOKENS;
  j.begin = tl_now();
  j.next_report = j.begin + REPORT_SECONDS;
  TL_TRY(tl_stage_begin(out_dir, overwrite, "dataset.json", &j.stage, err));
  tl_status s = prepare(&j, tok, err);
  if (s == TL_OK) s = tl_stage_commit(&j.stage, err);
  if (s == TL_OK && report) fill_report(&j, report);
  for (int i = 0; i < 2; i++) {
    tl_out_abort(&j.spool[i]);
    free(j.spool_path[i]);
  }
  for (int i = 0; i < TL_N_SPLITS; i++) tl_split_writer_free(&j.split[i]);
  tl_stage_abort(&j.stage);
  return s;
}
