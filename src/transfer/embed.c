#include "transfer/embed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/parallel.h"
#include "transfer/sentence.h"

enum { EMBED_TOKENS = 8192, EMBED_TEXTS = 1024, MAX_LEN = 512 };

bool tl_pooling_parse(const char *name, tl_pooling *out) {
  static const char *const names[] = {
      [TL_POOL_MEAN] = "mean", [TL_POOL_FIRST] = "first", [TL_POOL_LAST] = "last"};
  for (int i = 0; i < 3; i++)
    if (!strcmp(names[i], name)) {
      *out = (tl_pooling)i;
      return true;
    }
  return false;
}

tl_status tl_embed_encode(const tl_tokenizer *tok, const tl_task_data *d, int which,
                          const tl_encode_options *o, tl_task_samples *out, tl_err *err) {
  char **const text[] = {d->text, d->text_b, d->text_c};
  tl_task_data one = {.kind = TL_TASK_TEXTS, .n = d->n, .text = text[which], .line = d->line};
  return tl_task_encode(tl_task_find("simcse"), tok, &one, o, out, err);
}

void tl_embed_put(const tl_model *m, const tl_model_io *io, int64_t at, int64_t s,
                  const int32_t *token, int64_t n) {
  int32_t begin = (int32_t)at, end = (int32_t)(at + n);
  memcpy((int32_t *)io->tokens->data + at, token, (size_t)n * sizeof *token);
  for (int64_t r = 0; io->pos->live && r < n; r++) ((int32_t *)io->pos->data)[at + r] = (int32_t)r;
  bool causal = !m->arch->encoder && !m->c.shifted;
  ((tl_segment *)io->segments->data)[s] =
      (tl_segment){begin + tl_model_learned_rows(m).keys, end, begin, end, causal};
}

/* --- the graph -------------------------------------------------------------------------------- */

tl_status tl_embed_graph_new(tl_ctx *ctx, tl_model *m, tl_dtype dt, int64_t max_tokens,
                             int64_t max_texts, tl_embed_graph *p, tl_err *err) {
  *p = (tl_embed_graph){.model = m, .max_tokens = max_tokens, .max_texts = max_texts};
  if (m->arch->seq2seq)
    return tl_fail(err, TL_CONFIG, "an encoder-decoder (%s) gives no embeddings of texts",
                   m->arch->name);
  tl_graph *g = p->g = tl_graph_new(ctx, &m->params, &(tl_graph_options){dt, false});
  if (!g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  p->dim_tokens = tl_graph_dim(g, max_tokens);
  p->dim_texts = tl_graph_dim(g, max_texts);
  p->io = tl_model_inputs(m, g, p->dim_tokens, max_tokens, p->dim_texts, max_texts);
  p->hidden = m->arch->body(m, g, &p->io);
  tl_status s = tl_graph_compile(g, NULL, &p->hidden, 1, err);
  if (s != TL_OK) tl_embed_graph_free(p);
  return s;
}

void tl_embed_graph_free(tl_embed_graph *p) {
  tl_graph_free(p->g);
  *p = (tl_embed_graph){0};
}

typedef struct pool_job {
  const tl_embed_graph *p;
  tl_pooling pool;
  bool normalize;
  float *out;
} pool_job;

static void pool_texts(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const pool_job *j = arg;
  const tl_node *h = j->p->hidden;
  tl_learned_rows learned = tl_model_learned_rows(j->p->model);
  int32_t prompt = j->pool == TL_POOL_FIRST ? learned.n - learned.keys : 0;
  int64_t d = tl_cols(h);
  for (int64_t i = begin; i < end; i++) {
    tl_segment s = ((const tl_segment *)j->p->io.segments->data)[i];
    int32_t from = j->pool == TL_POOL_LAST ? s.q1 - 1 : s.q0;
    from += prompt;
    int32_t to = j->pool == TL_POOL_FIRST ? from + 1 : s.q1;
    float *out = j->out + i * d;
    double square = 0;
    for (int64_t c = 0; c < d; c++) {
      double sum = 0;
      for (int32_t r = from; r < to; r++) sum += (double)tl_value(h, r * d + c);
      sum /= to - from;
      square += sum * sum;
      out[c] = (float)sum;
    }
    if (!j->normalize || square <= 0) continue;
    double scale = 1 / sqrt(square);
    for (int64_t c = 0; c < d; c++) out[c] = (float)((double)out[c] * scale);
  }
}

tl_status tl_embed_run(tl_embed_graph *p, const tl_task_samples *s, tl_pooling pool, bool normalize,
                       float *out, tl_err *err) {
  int64_t d = tl_cols(p->hidden);
  for (int64_t i = 0; i < s->n;) {
    int64_t first = i, tokens = 0;
    for (; i < s->n && i - first < p->max_texts; i++) {
      int64_t n = s->start[i + 1] - s->start[i];
      if (tokens + n > p->max_tokens) break;
      tl_embed_put(p->model, &p->io, tokens, i - first, s->token + s->start[i], n);
      tokens += n;
    }
    if (i == first)
      return tl_fail(err, TL_INTERNAL, "text %lld does not fit the graph", (long long)i);
    tl_graph_set_dim(p->g, p->dim_tokens, tokens);
    tl_graph_set_dim(p->g, p->dim_texts, i - first);
    tl_graph_run(p->g, &(tl_pass){0});
    tl_parallel_ranges(p->g->ctx, i - first, 4, pool_texts,
                       &(pool_job){p, pool, normalize, out + first * d});
    if (tl_ctx_cancelled(p->g->ctx)) return tl_fail(err, TL_PREEMPTED, "stopped by request");
  }
  return TL_OK;
}

/* --- a model's folder at work ------------------------------------------------------------------
 */

struct tl_embedder {
  tl_tokenizer *tok;
  tl_model *model;
  tl_embed_graph graph;
  tl_encode_options encode;
  bool normalize;
};

/* With the weights of the folder, or random ones by *seed. */
static tl_status load_model(tl_embedder *e, const char *dir, const uint64_t *seed, tl_err *err) {
  tl_model_config c;
  if (!seed) return tl_model_load(dir, false, &e->model, err);
  TL_TRY(tl_model_read_config(dir, &c, err));
  return tl_model_new(&c, *seed, false, &e->model, err);
}

static tl_status load(tl_embedder *e, tl_ctx *ctx, const char *dir, const tl_embed_options *o,
                      const uint64_t *seed, tl_err *err) {
  const char *dtype = o->dtype ? o->dtype : "auto";
  tl_sentence_settings own = {.pool = TL_POOL_MEAN};
  if (!o->pool) TL_TRY(tl_sentence_read(dir, &own, err));
  e->encode.pool = own.found ? own.pool : TL_POOL_MEAN;
  if (o->pool && !tl_pooling_parse(o->pool, &e->encode.pool))
    return tl_fail(err, TL_CONFIG, "pooling \"%s\" is unknown; expected mean, first or last",
                   o->pool);
  if (o->max_len < 0 || (o->max_len > 0 && o->max_len < 8))
    return tl_fail(err, TL_CONFIG, "at least 8 tokens per text are needed, not %lld",
                   (long long)o->max_len);
  TL_TRY(tl_model_tokenizer(dir, &e->tok, err));
  TL_TRY(load_model(e, dir, seed, err));
  const tl_model_config *c = &e->model->c;
  if (tl_tokenizer_vocab_size(e->tok) > c->vocab)
    return tl_fail(err, TL_CONFIG, "%s: the tokenizer has %d tokens, the model only %lld", dir,
                   tl_tokenizer_vocab_size(e->tok), (long long)c->vocab);
  int64_t len = o->max_len ? o->max_len : own.max_len ? own.max_len : MAX_LEN;
  tl_pooling pool = e->encode.pool;
  e->encode = tl_encode_for(e->model, len);
  e->encode.pool = pool;
  int64_t tokens = e->encode.max_len > EMBED_TOKENS ? e->encode.max_len : EMBED_TOKENS;
  return tl_embed_graph_new(ctx, e->model, tl_kernels_dtype(ctx->k, dtype), tokens, EMBED_TEXTS,
                            &e->graph, err);
}

static tl_status open_with(tl_ctx *ctx, const char *dir, const tl_embed_options *o,
                           const uint64_t *seed, tl_embedder **out, tl_err *err) {
  static const tl_embed_options defaults;
  if (!o) o = &defaults;
  tl_embedder *e = calloc(1, sizeof *e);
  if (!e) return tl_fail(err, TL_NOMEM, "embedder: out of memory");
  e->normalize = !o->raw;
  tl_status s = load(e, ctx, dir, o, seed, err);
  if (s == TL_OK)
    *out = e;
  else
    tl_embedder_free(e);
  return s;
}

tl_status tl_embedder_open(tl_ctx *ctx, const char *dir, const tl_embed_options *o,
                           tl_embedder **out, tl_err *err) {
  return open_with(ctx, dir, o, NULL, out, err);
}

tl_status tl_embedder_open_random(tl_ctx *ctx, const char *dir, const tl_embed_options *o,
                                  uint64_t seed, tl_embedder **out, tl_err *err) {
  return open_with(ctx, dir, o, &seed, out, err);
}

void tl_embedder_free(tl_embedder *e) {
  if (!e) return;
  tl_embed_graph_free(&e->graph);
  tl_model_free(e->model);
  tl_tokenizer_free(e->tok);
  free(e);
}

int64_t tl_embedder_dim(const tl_embedder *e) {
  return e->model->c.dim;
}

static tl_status embed(tl_embedder *e, const tl_task_data *d, int which, bool normalize, float *out,
                       tl_err *err) {
  tl_task_samples samples;
  TL_TRY(tl_embed_encode(e->tok, d, which, &e->encode, &samples, err));
  tl_status s = tl_embed_run(&e->graph, &samples, e->encode.pool, normalize, out, err);
  tl_task_samples_free(&samples);
  return s;
}

tl_status tl_embedder_run(tl_embedder *e, const char *const *text, size_t n, float *out,
                          tl_err *err) {
  tl_task_data d = {.kind = TL_TASK_TEXTS, .n = n, .text = (char **)(uintptr_t)text};
  return embed(e, &d, 0, e->normalize, out, err);
}

tl_status tl_embedder_sts(tl_embedder *e, const tl_task_data *d, tl_scores *out, tl_err *err) {
  size_t dim = (size_t)e->model->c.dim;
  *out = (tl_scores){0};
  if (d->kind != TL_TASK_VALUE || !d->text_b)
    return tl_fail(err, TL_DATA, "similarity needs pairs of texts with a value each");
  float *x = malloc((2 * d->n * dim + 1) * sizeof *x);
  if (!x) return tl_fail(err, TL_NOMEM, "out of memory for the embeddings of %zu pairs", d->n);
  tl_status s = embed(e, d, 0, true, x, err);
  if (s == TL_OK) s = embed(e, d, 1, true, x + d->n * dim, err);
  if (s == TL_OK) s = tl_sts_scores(x, x + d->n * dim, d->n, dim, d->value, true, 1, out, err);
  free(x);
  return s;
}
