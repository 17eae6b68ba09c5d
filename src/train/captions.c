#include "train/captions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "transfer/embed.h"

const char *const tl_captions_metric = "recall@1";

/* In the metrics; scores are called what follows the first PREFIX bytes. */
enum { PREFIX = sizeof "eval/" - 1 };
static const char *const names[TL_RECALLS] = {"eval/image_to_text@1",  "eval/image_to_text@5",
                                              "eval/image_to_text@10", "eval/text_to_image@1",
                                              "eval/text_to_image@5",  "eval/text_to_image@10"};

/* --- reading -----------------------------------------------------------------------------------
 */

static tl_status encode(tl_trainer *t, tl_captions *c, tl_err *err) {
  const tl_labels *l = &c->records->labels;
  tl_task_data d = {.kind = TL_TASK_TEXTS, .n = (size_t)l->n, .text = l->name};
  tl_encode_options o = {.max_len = t->cfg->objective.text_len, .pool = TL_POOL_MEAN};
  TL_TRY(tl_embed_encode(c->tok, &d, 0, &o, &c->samples, err));
  if (c->samples.n_cut > 0)
    tl_trainer_note(t, "warning", "%lld captions are longer than objective.text_len and were cut",
                    (long long)c->samples.n_cut);
  return TL_OK;
}

static void mix_hash(tl_trainer *t, const tl_captions *c) {
  const tl_task_data *d = c->records;
  uint64_t h = tl_tokenizer_fingerprint(c->tok);
  for (int32_t k = 0; k < d->labels.n; k++)
    h = tl_mix64(h, tl_hash64(d->labels.name[k], strlen(d->labels.name[k])));
  h = tl_mix64(h, tl_hash64(d->label, d->n * sizeof *d->label));
  t->data_hash = tl_mix64(t->data_hash, h);
}

tl_status tl_captions_init(tl_trainer *t, const tl_task_data *records, int64_t room, tl_captions *c,
                           tl_err *err) {
  *c = (tl_captions){.records = records, .room = room};
  size_t values = (size_t)(room * t->cfg->objective.projection) + 1;
  TL_TRY(tl_tokenizer_open(t->ctx, t->cfg->data.tokenizer, &c->tok, err));
  TL_TRY(encode(t, c, err));
  mix_hash(t, c);
  c->batch = malloc((size_t)t->cfg->train.batch * sizeof *c->batch);
  c->pictures = malloc(values * sizeof *c->pictures);
  c->texts = malloc(values * sizeof *c->texts);
  c->text = malloc(((size_t)room + 1) * sizeof *c->text);
  if (c->batch && c->pictures && c->texts && c->text) return TL_OK;
  return tl_fail(err, TL_NOMEM, "captions: out of memory");
}

void tl_captions_free(tl_captions *c) {
  tl_tokenizer_free(c->tok);
  tl_task_samples_free(&c->samples);
  free(c->batch);
  free(c->pictures);
  free(c->texts);
  free(c->text);
  *c = (tl_captions){0};
}

/* --- batches -----------------------------------------------------------------------------------
 */

void tl_captions_set(tl_captions *c, tl_picture_graph *g, const tl_image_feed *f,
                     uint64_t position) {
  for (int64_t i = 0; i < g->n; i++)
    c->batch[i] = c->records->label[tl_image_feed_record(f, position + (uint64_t)i)];
  tl_clip_set(g, &c->samples, c->batch);
}

void tl_captions_take(tl_captions *c, const tl_picture_graph *g) {
  int64_t at = c->n * tl_cols(g->clip.rows);
  tl_clip_rows(g, c->pictures + at, c->texts + at);
  memcpy(c->text + c->n, c->batch, (size_t)g->n * sizeof *c->text);
  c->n += g->n;
}

tl_status tl_captions_score(tl_trainer *t, tl_captions *c, tl_eval_result *e, tl_err *err) {
  int64_t n = c->n;
  c->n = 0;
  TL_TRY(tl_retrieve(t->ctx, c->pictures, c->texts, c->text, n, c->records->labels.n,
                     t->cfg->objective.projection, &c->found, err));
  e->criterion = -(c->found.recall[0] + c->found.recall[3]) / 2;
  return TL_OK;
}

tl_status tl_captions_log(tl_trainer *t, const tl_captions *c, tl_err *err) {
  const double *x = c->found.recall;
  tl_metric list[TL_RECALLS];
  tl_trainer_note(t, "retrieval",
                  "recall@1/5/10: captions of pictures %.3f %.3f %.3f, pictures of captions %.3f "
                  "%.3f %.3f",
                  x[0], x[1], x[2], x[3], x[4], x[5]);
  if (!t->run) return TL_OK;
  for (int i = 0; i < TL_RECALLS; i++) list[i] = (tl_metric){names[i], x[i]};
  return tl_run_metrics(t->run, t->s.step, list, TL_RECALLS, err);
}

static void add(tl_scores *out, const char *name, double value) {
  out->score[out->n++] = (tl_score){.name = name, .value = value, .lo = NAN, .hi = NAN};
}

void tl_captions_scores(const tl_captions *c, const tl_eval_result *e, tl_scores *out) {
  *out = (tl_scores){0};
  add(out, "loss", e->loss);
  add(out, tl_captions_metric, -e->criterion);
  for (int i = 0; i < TL_RECALLS; i++) add(out, names[i] + PREFIX, c->found.recall[i]);
}
