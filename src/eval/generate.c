#include "tilth/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/rng.h"
#include "eval/generator.h"

tl_sampling tl_sampling_defaults(void) {
  return (tl_sampling){.max_tokens = 200, .temperature = 0.8, .top_k = 200, .top_p = 1, .seed = 1};
}

tl_status tl_generator_build(tl_generator *s, tl_dtype dt, tl_err *err) {
  s->g = tl_graph_new(s->ctx, &s->model->params, &(tl_graph_options){dt, false});
  if (!s->g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  s->cand = malloc((size_t)s->vocab * sizeof *s->cand);
  s->weight = malloc((size_t)s->vocab * sizeof *s->weight);
  if (!s->cand || !s->weight) return tl_fail(err, TL_NOMEM, "out of memory");
  int64_t one = 1;
  s->dim = tl_graph_dim(s->g, TL_GENERATOR_PREFILL);
  s->io = tl_model_inputs(s->model, s->g, s->dim, TL_GENERATOR_PREFILL, 0, 1);
  s->io.cache = tl_model_cache(s->model, s->g, s->model->c.max_len);
  s->last = tl_graph_input(s->g, "last", TL_I32, 1, &one, 0);
  tl_node *h = s->model->arch->body(s->model, s->g, &s->io);
  s->logits = tl_model_logits(s->model, s->g, tl_gather_rows(s->g, h, s->last));
  return tl_graph_compile(s->g, NULL, &s->logits, 1, err);
}

static tl_status check_kind(const tl_model *m, const char *where, tl_err *err) {
  if (m->arch->encoder && !m->c.shifted)
    return tl_fail(err, TL_CONFIG, "%s: an encoder (%s) does not generate; use `tilth fill`", where,
                   m->arch->name);
  if (m->arch->seq2seq)
    return tl_fail(err, TL_CONFIG,
                   "%s: an encoder-decoder continues no text; use `tilth translate`", where);
  return TL_OK;
}

static tl_status open_generator(tl_generator *s, const char *dir, tl_err *err) {
  TL_TRY(tl_model_load(dir, false, &s->model, err));
  TL_TRY(check_kind(s->model, dir, err));
  TL_TRY(tl_model_tokenizer(dir, &s->tok, err));
  s->vocab = tl_tokenizer_vocab_size(s->tok);
  if (s->vocab > s->model->c.vocab)
    return tl_fail(err, TL_CONFIG, "%s: the tokenizer has %d tokens, the model %lld", dir, s->vocab,
                   (long long)s->model->c.vocab);
  return tl_generator_build(s, tl_kernels_dtype(s->ctx->k, "auto"), err);
}

void tl_generator_close(tl_generator *s) {
  tl_graph_free(s->g);
  if (!s->borrowed) tl_tokenizer_free(s->tok);
  if (!s->borrowed) tl_model_free(s->model);
  free(s->cand);
  free(s->weight);
}

static void feed_pass(tl_generator *s, const uint32_t *ids, int64_t n) {
  tl_graph_set_dim(s->g, s->dim, n);
  for (int64_t i = 0; i < n; i++) {
    ((int32_t *)s->io.tokens->data)[i] = (int32_t)ids[i];
    ((int32_t *)s->io.pos->data)[i] = (int32_t)(s->pos + i);
  }
  if (s->io.types && s->io.types->live) memset(s->io.types->data, 0, (size_t)n * sizeof(int32_t));
  int32_t q = (int32_t)n, k = (int32_t)(s->pos + n);
  *(tl_segment *)s->io.segments->data = (tl_segment){0, q, 0, k, 1};
  *(int32_t *)s->last->data = q - 1;
  tl_graph_run(s->g, &(tl_pass){.loss_scale = 1});
  s->pos += n;
}

void tl_generator_feed(tl_generator *s, const uint32_t *ids, int64_t n) {
  for (int64_t i = 0; i < n; i += TL_GENERATOR_PREFILL)
    feed_pass(s, ids + i, n - i < TL_GENERATOR_PREFILL ? n - i : TL_GENERATOR_PREFILL);
}

static float logit(const tl_generator *s, int i) {
  float x = ((const float *)s->logits->data)[i];
  return x == x ? x : -INFINITY; /* NaN has no place in an order */
}

static int likeliest(const tl_generator *s) {
  int best = 0;
  for (int i = 1; i < s->vocab; i++)
    if (logit(s, i) > logit(s, best)) best = i;
  return best;
}

/* Weights of all tokens: the softmax of logits / temperature. */
static void weigh(tl_generator *s, double temperature) {
  float max = logit(s, likeliest(s)), t = (float)temperature;
  for (int i = 0; i < s->vocab; i++) s->weight[i] = (logit(s, i) - max) / t;
  s->ctx->k->row.softmax(TL_F32, 1, s->vocab, s->weight, s->weight);
}

/* Candidates that hold the `count` heaviest tokens, or so many of the heaviest that they weigh
 * `enough`, and few more: those above a bound that counting in bins finds. A bin is an exponent and
 * 4 bits of the mantissa, which order weights as they are >= 0. Returns their number. */
static int gather(tl_generator *s, int count, double enough) {
  enum { BINS = 4096, SHIFT = 19 };
  int in_bin[BINS] = {0}, n = 0;
  for (int i = 0; i < s->vocab; i++) {
    uint32_t u;
    memcpy(&u, s->weight + i, sizeof u);
    in_bin[u >> SHIFT & (BINS - 1)]++;
  }
  double weight = 0; /* at least */
  uint32_t bound = (uint32_t)BINS << SHIFT;
  float least = 0;
  while (bound > 0 && n < count && weight < enough) {
    bound -= 1u << SHIFT;
    memcpy(&least, &bound, sizeof least);
    int more = in_bin[bound >> SHIFT];
    n += more;
    if (more > 0) weight += more * (double)least;
  }
  n = 0;
  for (int i = 0; i < s->vocab; i++) {
    s->cand[n] = (tl_candidate){s->weight[i], i};
    n += s->weight[i] >= least;
  }
  return n;
}

static bool before(tl_candidate a, tl_candidate b) {
  return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
}

/* Moves the heaviest of c[n] to the front, the fewest that are `count` or weigh `enough`; returns
 * how many. Quickselect: their order is arbitrary, but the same for the same weights. */
static int heaviest(tl_candidate *c, int n, int count, double enough) {
  int begin = 0, end = n; /* those before begin are chosen, those from end on are not */
  double chosen = 0;
  while (begin < end && begin < count && chosen < enough) {
    tl_candidate pivot = c[begin + (end - begin) / 2];
    c[begin + (end - begin) / 2] = c[end - 1];
    int at = begin;
    double weight = 0;
    for (int i = begin; i < end - 1; i++) {
      tl_candidate x = c[i];
      bool first = before(x, pivot);
      c[i] = c[at];
      c[at] = x;
      at += first;
      weight += first ? (double)x.weight : 0;
    }
    c[end - 1] = c[at];
    c[at] = pivot;
    if (at >= count || chosen + weight >= enough) {
      end = at;
    } else {
      chosen += weight + (double)pivot.weight;
      begin = at + 1;
    }
  }
  return begin;
}

static double weight_of(const tl_candidate *c, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += (double)c[i].weight;
  return sum;
}

/* Draws from the softmax of the current logits, cut to top-k and then to top-p; number `at` of the
 * text. */
uint32_t tl_generator_draw(tl_generator *s, const tl_sampling *p, int64_t at) {
  if (p->temperature <= 0) return (uint32_t)likeliest(s);
  weigh(s, p->temperature);
  tl_candidate *c = s->cand;
  int n = s->vocab;
  if (p->top_k > 0 && p->top_k < n) {
    n = heaviest(c, gather(s, (int)p->top_k, INFINITY), (int)p->top_k, INFINITY);
    if (p->top_p < 1) n = heaviest(c, n, n, p->top_p * weight_of(c, n));
  } else if (p->top_p < 1) {
    n = heaviest(c, gather(s, n, p->top_p), n, p->top_p);
  } else {
    n = gather(s, n, INFINITY);
  }
  tl_rng r = tl_rng_make(p->seed, TL_STREAM_SAMPLE, 0, (uint64_t)at);
  double u = weight_of(c, n) * (double)tl_rng_f32(&r);
  int i = 0;
  for (; i < n - 1; i++) {
    u -= (double)c[i].weight;
    if (u < 0) break;
  }
  return (uint32_t)c[i].id;
}

/* Bytes at the end of text that begin a UTF-8 character without completing it. */
static size_t incomplete_tail(const char *text, size_t len) {
  for (size_t back = 1; back <= 3 && back <= len; back++) {
    unsigned char c = (unsigned char)text[len - back];
    if ((c & 0xC0) == 0x80) continue;
    size_t need = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
    return need > back ? back : 0;
  }
  return 0;
}

/* The text on its way out. Only the last tokens are decoded again for a new one. */
typedef struct stream {
  tl_ids ids;  /* since the last token that ended a piece of text */
  size_t sent; /* bytes of their text that are out */
} stream;

/* What follows a token that has a text decodes the same after it alone: a space or none depends on
 * whether something stands before. The tokens before it are then done with. */
static tl_status forget_sent(tl_generator *s, stream *st, tl_err *err) {
  char *text = NULL;
  size_t len = 0;
  if (st->ids.len < 2) return TL_OK;
  uint32_t last = st->ids.data[st->ids.len - 1];
  TL_TRY(tl_tokenizer_decode(s->tok, &last, 1, true, &text, &len, err));
  if (len > 0) {
    st->ids.data[0] = last;
    st->ids.len = 1;
    st->sent = len;
  }
  free(text);
  return TL_OK;
}

static tl_status emit_new(tl_generator *s, stream *st, bool end, tl_emit_fn emit, void *user,
                          tl_err *err) {
  char *text = NULL;
  size_t len = 0;
  TL_TRY(tl_tokenizer_decode(s->tok, st->ids.data, st->ids.len, true, &text, &len, err));
  size_t keep = end ? 0 : incomplete_tail(text, len);
  if (len - keep > st->sent) {
    if (emit) emit(user, text + st->sent, len - keep - st->sent);
    st->sent = len - keep;
  }
  tl_status r = keep == 0 && st->sent == len ? forget_sent(s, st, err) : TL_OK;
  free(text);
  return r;
}

/* The last token of the prompt comes first in the stream, as already sent: whether the text goes on
 * with a space or inside a word depends on it. */
static tl_status begin_stream(tl_generator *s, stream *st, uint32_t last, tl_err *err) {
  tl_ids_push(&st->ids, last);
  if (st->ids.oom) return tl_fail(err, TL_NOMEM, "out of memory");
  return emit_new(s, st, true, NULL, NULL, err);
}

static tl_status feed_prompt(tl_generator *s, const char *prompt, stream *stream_out,
                             tl_generate_stats *stats, tl_err *err) {
  tl_ids ids = {0};
  double start = tl_now();
  int bos = tl_tokenizer_special(s->tok, TL_TOK_BOS);
  tl_learned_rows learned = tl_model_learned_rows(s->model);
  for (int32_t i = 0; i < learned.n; i++) tl_ids_push(&ids, (uint32_t)(learned.first + i));
  if (bos >= 0) tl_ids_push(&ids, (uint32_t)bos);
  size_t added = ids.len;
  tl_status st = ids.oom ? tl_fail(err, TL_NOMEM, "out of memory")
                         : tl_tokenizer_encode(s->tok, prompt, strlen(prompt), &ids.data, &ids.len,
                                               &ids.cap, err);
  if (st == TL_OK && (int64_t)ids.len >= s->model->c.max_len)
    st = tl_fail(err, TL_CONFIG, "the prompt has %zu tokens; the model takes at most %lld in all",
                 ids.len - added, (long long)s->model->c.max_len);
  if (st == TL_OK && ids.len == (size_t)learned.n)
    st = tl_fail(err, TL_CONFIG, "the prompt is empty");
  if (st == TL_OK && ids.len > added) st = begin_stream(s, stream_out, ids.data[ids.len - 1], err);
  if (st == TL_OK) {
    tl_generator_feed(s, ids.data, (int64_t)ids.len);
    stats->prompt_tokens = s->pos;
    stats->prompt_seconds = tl_now() - start;
  }
  tl_ids_free(&ids);
  return st;
}

static tl_status draw_all(tl_generator *s, stream *st, const tl_sampling *p, tl_emit_fn emit,
                          void *user, tl_generate_stats *stats, tl_err *err) {
  int eos = tl_tokenizer_special(s->tok, TL_TOK_EOS);
  while (stats->new_tokens < p->max_tokens) {
    uint32_t id = tl_generator_draw(s, p, stats->new_tokens);
    stats->new_tokens++;
    stats->ended = (int)id == eos;
    if (stats->ended) break;
    tl_ids_push(&st->ids, id);
    if (st->ids.oom) return tl_fail(err, TL_NOMEM, "out of memory");
    TL_TRY(emit_new(s, st, false, emit, user, err));
    if (s->pos >= s->model->c.max_len) break;
    tl_generator_feed(s, &id, 1);
    if (tl_ctx_cancelled(s->ctx))
      return tl_fail(err, TL_PREEMPTED, "stopped by request after %lld tokens",
                     (long long)stats->new_tokens);
  }
  return TL_OK;
}

static tl_status generate(tl_generator *s, const char *prompt, const tl_sampling *p,
                          tl_emit_fn emit, void *user, tl_generate_stats *stats, tl_err *err) {
  stream st = {0};
  tl_status r = feed_prompt(s, prompt, &st, stats, err);
  if (r == TL_OK) {
    double start = tl_now();
    r = draw_all(s, &st, p, emit, user, stats, err);
    stats->new_seconds = tl_now() - start;
  }
  if (r == TL_OK || r == TL_PREEMPTED) {
    tl_status shown = emit_new(s, &st, true, emit, user, err);
    if (shown != TL_OK) r = shown;
  }
  tl_ids_free(&st.ids);
  return r;
}

tl_status tl_generator_open(tl_ctx *ctx, const char *model_dir, tl_generator **out, tl_err *err) {
  tl_generator *g = calloc(1, sizeof *g);
  if (!g) return tl_fail(err, TL_NOMEM, "generator: out of memory");
  g->ctx = ctx;
  tl_status st = open_generator(g, model_dir, err);
  if (st == TL_OK)
    *out = g;
  else
    tl_generator_free(g);
  return st;
}

tl_status tl_generator_over(tl_ctx *ctx, tl_model *m, tl_tokenizer *tok, tl_dtype dt,
                            tl_generator **out, tl_err *err) {
  TL_TRY(check_kind(m, "run.sample", err));
  tl_generator *g = calloc(1, sizeof *g);
  if (!g) return tl_fail(err, TL_NOMEM, "generator: out of memory");
  *g = (tl_generator){
      .ctx = ctx, .model = m, .tok = tok, .borrowed = true, .vocab = tl_tokenizer_vocab_size(tok)};
  tl_status s = tl_generator_build(g, dt, err);
  if (s == TL_OK)
    *out = g;
  else
    tl_generator_free(g);
  return s;
}

void tl_generator_free(tl_generator *g) {
  if (!g) return;
  tl_generator_close(g);
  free(g);
}

tl_status tl_generator_run(tl_generator *g, const char *prompt, const tl_sampling *sampling,
                           tl_emit_fn emit, void *user, tl_generate_stats *stats, tl_err *err) {
  tl_generate_stats own;
  const tl_sampling defaults = tl_sampling_defaults();
  if (!sampling) sampling = &defaults;
  if (!stats) stats = &own;
  *stats = (tl_generate_stats){0};
  g->pos = 0;
  return generate(g, prompt, sampling, emit, user, stats, err);
}

tl_status tl_generate(tl_ctx *ctx, const char *model_dir, const char *prompt,
                      const tl_sampling *sampling, tl_emit_fn emit, void *user,
                      tl_generate_stats *stats, tl_err *err) {
  tl_generator *g = NULL;
  if (stats) *stats = (tl_generate_stats){0};
  TL_TRY(tl_generator_open(ctx, model_dir, &g, err));
  tl_status st = tl_generator_run(g, prompt, sampling, emit, user, stats, err);
  tl_generator_free(g);
  return st;
}
