#include "transfer/beam.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/parallel.h"

/* Rows of a step, rows of the cache, tokens of a batch's sources: enough that the products are
 * worth their start, few enough for the cache of the CPU. */
enum { MAX_ROWS = 320, MAX_CACHE_ROWS = 40960, SOURCE_TOKENS = 8192 };

typedef struct candidate {
  double log_p;
  int32_t token;
  int parent; /* the live beam that it continues */
} candidate;

/* An open hypothesis; its tokens and its part of the cache lie in a slot. */
typedef struct live {
  double log_p;
  int slot;
} live;

typedef struct sentence {
  int64_t sample;
  int32_t k0, k1; /* rows of its source */
  int32_t limit;  /* tokens of a hypothesis */
  int base;       /* its first slot */
  int n_live, n_done;
  live live[TL_MAX_BEAM];
  tl_hypothesis done[TL_MAX_BEAM]; /* best first */
} sentence;

struct tl_beam {
  tl_ctx *ctx;
  tl_model *model;
  tl_beam_limits l;
  int rows; /* also slots */
  tl_graph *encoder, *decoder;
  int dim_source, dim_sources; /* of the encoder: tokens, texts */
  int dim_rows, dim_cross;     /* of the decoder */
  tl_model_io source, io;
  tl_node **kv, *logits;
  int top_n;          /* candidates of each row */
  int32_t *top_token; /* [rows][2 * beam] */
  float *top_p, *end_p;
  int32_t *history; /* [rows][max_len] */
  sentence *sentence;
};

static tl_status build_encoder(tl_beam *b, tl_dtype dt, int64_t tokens, tl_err *err) {
  const tl_model *m = b->model;
  tl_graph *g = b->encoder =
      tl_graph_new(b->ctx, &b->model->params, &(tl_graph_options){dt, false});
  if (!g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  b->dim_source = tl_graph_dim(g, tokens);
  b->dim_sources = tl_graph_dim(g, b->rows);
  tl_model_source(g, &b->source, b->dim_source, tokens, b->dim_sources, b->rows);
  b->kv = calloc((size_t)m->c.layers, sizeof *b->kv);
  if (!b->kv) return tl_fail(err, TL_NOMEM, "beam search: out of memory");
  tl_node *h = m->arch->encode(m, g, &b->source);
  for (int i = 0; i < m->c.layers; i++) b->kv[i] = tl_model_cross_kv(m, g, h, i);
  return tl_graph_compile(g, NULL, b->kv, (int)m->c.layers, err);
}

static tl_status build_decoder(tl_beam *b, tl_dtype dt, int64_t tokens, tl_err *err) {
  const tl_model *m = b->model;
  tl_graph *g = b->decoder =
      tl_graph_new(b->ctx, &b->model->params, &(tl_graph_options){dt, false});
  if (!g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  int64_t rows = b->rows, cross[] = {rows, sizeof(tl_segment) / sizeof(int32_t)};
  b->dim_rows = tl_graph_dim(g, rows);
  b->dim_cross = tl_graph_dim(g, rows);
  b->io = tl_model_inputs(m, g, b->dim_rows, rows, b->dim_rows, rows);
  b->io.cache_rows = tl_graph_input(g, "cache_rows", TL_I32, 1, &rows, b->dim_rows);
  b->io.cross = tl_graph_input(g, "cross", TL_I32, 2, cross, b->dim_cross);
  b->io.cache = tl_model_cache(m, g, rows * b->l.max_len);
  b->io.cross_kv = tl_arena_alloc(&g->arena, (size_t)m->c.layers * sizeof *b->io.cross_kv);
  if (!b->io.cross_kv || !b->io.cache) return tl_fail(err, TL_NOMEM, "beam search: out of memory");
  for (int i = 0; i < m->c.layers; i++) {
    int64_t shape[] = {tokens, tl_cols(b->kv[i])};
    b->io.cross_kv[i] = tl_graph_input(g, "source", dt, 2, shape, 0);
  }
  b->logits = tl_model_logits(m, g, m->arch->body(m, g, &b->io));
  return tl_graph_compile(g, NULL, &b->logits, 1, err);
}

static tl_status build(tl_beam *b, tl_dtype dt, tl_err *err) {
  const tl_beam_limits *l = &b->l;
  if (!b->model->arch->seq2seq)
    return tl_fail(err, TL_CONFIG, "model type %s does not translate; encdec and t5 do",
                   b->model->arch->name);
  if (l->beam < 1 || l->beam > TL_MAX_BEAM || l->max_len < 1 || l->max_len > b->model->c.max_len ||
      l->max_source > b->model->c.max_len || l->vocab > b->model->c.vocab)
    return tl_fail(err, TL_INTERNAL, "beam search: limits outside those of the model");
  int64_t tokens = l->max_source > SOURCE_TOKENS ? l->max_source : SOURCE_TOKENS;
  int64_t rows = MAX_CACHE_ROWS / l->max_len;
  b->rows = rows > MAX_ROWS ? MAX_ROWS : rows < l->beam ? l->beam : (int)rows;
  size_t n = (size_t)b->rows, k = 2 * (size_t)l->beam;
  b->top_token = malloc(n * k * sizeof *b->top_token);
  b->top_p = malloc(n * k * sizeof *b->top_p);
  b->end_p = malloc(n * sizeof *b->end_p);
  b->history = malloc(n * (size_t)l->max_len * sizeof *b->history);
  b->sentence = calloc(n, sizeof *b->sentence);
  if (!b->top_token || !b->top_p || !b->end_p || !b->history || !b->sentence)
    return tl_fail(err, TL_NOMEM, "beam search: out of memory for %d rows", b->rows);
  TL_TRY(build_encoder(b, dt, tokens, err));
  return build_decoder(b, dt, tokens, err);
}

tl_status tl_beam_new(tl_ctx *ctx, tl_model *m, tl_dtype dt, const tl_beam_limits *l, tl_beam **out,
                      tl_err *err) {
  tl_beam *b = calloc(1, sizeof *b);
  if (!b) return tl_fail(err, TL_NOMEM, "beam search: out of memory");
  b->ctx = ctx;
  b->model = m;
  b->l = *l;
  tl_status s = build(b, dt, err);
  if (s == TL_OK)
    *out = b;
  else
    tl_beam_free(b);
  return s;
}

void tl_beam_free(tl_beam *b) {
  if (!b) return;
  tl_graph_free(b->encoder);
  tl_graph_free(b->decoder);
  free(b->kv);
  free(b->top_token);
  free(b->top_p);
  free(b->end_p);
  free(b->history);
  free(b->sentence);
  free(b);
}

/* --- one batch ---------------------------------------------------------------------------------
 */

typedef struct search {
  tl_beam *b;
  const tl_beam_options *o;
  const tl_task_samples *s;
  const int64_t *order; /* samples by falling length of their sources */
  int n;                /* sentences in the batch */
  tl_status status;
} search;

static int32_t *ints(tl_node *n) {
  return n->data;
}

/* Takes the next sentences, from order[*at] on, and runs the encoder. */
static void encode(search *x, int64_t *at) {
  tl_beam *b = x->b;
  int64_t n_tokens = 0, room = b->source.src_tokens->shape[0];
  int32_t keys = tl_model_learned_rows(b->model).keys;
  x->n = 0;
  for (; *at < x->s->n && (x->n + 1) * x->o->beam <= b->rows; ++*at, x->n++) {
    int64_t i = x->order[*at], n = x->s->second[i], limit = x->o->max_len;
    if (n_tokens + n > room) break;
    if (limit == 0) limit = 2 * n + 16;
    sentence *s = &b->sentence[x->n];
    s->sample = i;
    s->k0 = (int32_t)n_tokens;
    s->k1 = (int32_t)(n_tokens + n);
    s->limit = (int32_t)(limit < b->l.max_len ? limit : b->l.max_len);
    s->base = x->n * x->o->beam;
    s->n_live = 1;
    s->n_done = 0;
    s->live[0] = (live){0, s->base};
    memcpy(ints(b->source.src_tokens) + n_tokens, x->s->token + x->s->start[i],
           (size_t)n * sizeof(int32_t));
    for (int32_t r = 0; b->source.src_pos->live && r < n; r++)
      ints(b->source.src_pos)[n_tokens + r] = r;
    ((tl_segment *)b->source.src_segments->data)[x->n] =
        (tl_segment){s->k0 + keys, s->k1, s->k0, s->k1, 0};
    n_tokens += n;
  }
  tl_graph_set_dim(b->encoder, b->dim_source, n_tokens);
  tl_graph_set_dim(b->encoder, b->dim_sources, x->n);
  tl_graph_run(b->encoder, &(tl_pass){.loss_scale = 1});
  for (int i = 0; i < b->model->c.layers; i++)
    memcpy(b->io.cross_kv[i]->data, b->kv[i]->data,
           (size_t)(n_tokens * tl_cols(b->kv[i])) * tl_dtype_size(b->kv[i]->dt));
}

/* The rows of all live beams, whose last token has number t (0: the first one, which begins). */
static int64_t fill_rows(search *x, int32_t t) {
  tl_beam *b = x->b;
  int32_t row = 0, n_cross = 0, len = (int32_t)b->l.max_len;
  int32_t keys = tl_model_learned_rows(b->model).keys;
  for (int i = 0; i < x->n; i++) {
    const sentence *s = &b->sentence[i];
    int32_t q0 = row;
    for (int k = 0; k < s->n_live; k++, row++) {
      int32_t slot = s->live[k].slot * len;
      ints(b->io.tokens)[row] = t == 0 ? b->l.bos : b->history[slot + t - 1];
      if (b->io.pos->live) ints(b->io.pos)[row] = t;
      ints(b->io.cache_rows)[row] = slot + t;
      ((tl_segment *)b->io.segments->data)[row] = (tl_segment){row, row + 1, slot, slot + t + 1, 0};
    }
    if (row > q0)
      ((tl_segment *)b->io.cross->data)[n_cross++] = (tl_segment){q0, row, s->k0 + keys, s->k1, 0};
  }
  tl_graph_set_dim(b->decoder, b->dim_rows, row);
  tl_graph_set_dim(b->decoder, b->dim_cross, n_cross);
  return row;
}

/* The likeliest tokens of each row, the lower id first among equals. */
static void choose_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  tl_beam *b = arg;
  int64_t v = tl_cols(b->logits);
  for (int64_t r = begin; r < end; r++) {
    float *p = (float *)b->logits->data + r * v, *top = b->top_p + r * b->top_n;
    int32_t *token = b->top_token + r * b->top_n;
    int n = 0;
    b->ctx->k->row.softmax(TL_F32, 1, v, p, p);
    for (int32_t id = 0; id < b->l.vocab; id++) {
      if (n == b->top_n && !(p[id] > top[n - 1])) continue;
      int at = n < b->top_n ? n++ : n - 1;
      for (; at > 0 && p[id] > top[at - 1]; at--) {
        top[at] = top[at - 1];
        token[at] = token[at - 1];
      }
      top[at] = p[id];
      token[at] = id;
    }
    b->end_p[r] = p[b->l.eos];
  }
}

static bool before(const candidate *a, const candidate *b) {
  if (a->log_p != b->log_p) return a->log_p > b->log_p;
  return a->parent != b->parent ? a->parent < b->parent : a->token < b->token;
}

/* Inserts into the list of the best `most`; returns their number. */
static int insert(candidate *best, int n, int most, candidate c) {
  if (n == most && !before(&c, &best[n - 1])) return n;
  int at = n < most ? n++ : n - 1;
  for (; at > 0 && before(&c, &best[at - 1]); at--) best[at] = best[at - 1];
  best[at] = c;
  return n;
}

static double score_of(const search *x, double log_p, int32_t length) {
  return log_p / pow((double)length, x->o->length_penalty);
}

/* The hypothesis in `slot` of t tokens ends. */
static void end_hypothesis(search *x, sentence *s, int slot, int32_t t, double log_p) {
  tl_hypothesis h = {.n = t, .log_p = log_p, .score = score_of(x, log_p, t + 1)};
  int at = s->n_done;
  if (at == x->o->beam) {
    if (!(h.score > s->done[at - 1].score)) return;
    free(s->done[--at].token);
  } else {
    s->n_done++;
  }
  h.token = malloc(((size_t)t + 1) * sizeof *h.token);
  if (h.token)
    memcpy(h.token, x->b->history + (int64_t)slot * x->b->l.max_len, (size_t)t * sizeof *h.token);
  else
    x->status = TL_NOMEM;
  for (; at > 0 && h.score > s->done[at - 1].score; at--) s->done[at] = s->done[at - 1];
  s->done[at] = h;
}

static void copy_slot(tl_beam *b, int from, int to, int32_t t) {
  int64_t len = b->l.max_len;
  memcpy(b->history + to * len, b->history + from * len, (size_t)t * sizeof *b->history);
  for (int i = 0; i < b->model->c.layers; i++) {
    tl_node *c = b->io.cache[i];
    size_t row = (size_t)tl_cols(c) * tl_dtype_size(c->dt);
    memcpy((char *)c->data + (size_t)(to * len) * row, (char *)c->data + (size_t)(from * len) * row,
           (size_t)(t + 1) * row);
  }
}

/* Makes the chosen candidates the live beams. The first child of a beam stays in its slot, others
 * get a copy in a slot that nobody keeps. */
static void go_on(search *x, sentence *s, const candidate *next, int n, int32_t t) {
  tl_beam *b = x->b;
  live now[TL_MAX_BEAM];
  bool kept[TL_MAX_BEAM] = {false}, first[TL_MAX_BEAM] = {false};
  for (int i = 0; i < n; i++) {
    int slot = s->live[next[i].parent].slot;
    first[i] = !kept[slot - s->base];
    kept[slot - s->base] = true;
    now[i] = (live){next[i].log_p, slot};
  }
  for (int i = 0, free_slot = 0; i < n; i++) {
    if (first[i]) continue;
    while (kept[free_slot]) free_slot++;
    copy_slot(b, now[i].slot, s->base + free_slot, t);
    now[i].slot = s->base + free_slot++;
  }
  for (int i = 0; i < n; i++) {
    b->history[now[i].slot * b->l.max_len + t] = next[i].token;
    s->live[i] = now[i];
  }
  s->n_live = n;
}

/* Token number t + 1 of a sentence whose live beams stand on rows `row` and on. */
static void advance(search *x, sentence *s, int64_t row, int32_t t) {
  tl_beam *b = x->b;
  candidate best[2 * TL_MAX_BEAM], next[TL_MAX_BEAM];
  int n = 0, n_next = 0, beam = x->o->beam;
  bool last = t + 1 == s->limit;
  for (int i = 0; i < s->n_live; i++) {
    const float *p = last ? b->end_p + row + i : b->top_p + (row + i) * b->top_n;
    for (int k = 0; k < (last ? 1 : b->top_n); k++)
      if (p[k] == p[k])
        n = insert(best, n, 2 * beam,
                   (candidate){s->live[i].log_p + log((double)p[k]),
                               last ? b->l.eos : b->top_token[(row + i) * b->top_n + k], i});
  }
  for (int i = 0; i < n; i++) {
    if (best[i].token != b->l.eos) {
      if (n_next < beam) next[n_next++] = best[i];
    } else if (i < beam) {
      end_hypothesis(x, s, s->live[best[i].parent].slot, t, best[i].log_p);
    }
  }
  bool beaten = s->n_done == beam && n_next > 0 &&
                score_of(x, next[0].log_p, t + 1) <= s->done[beam - 1].score;
  if (n_next == 0 && s->n_done == 0) /* weights that are no numbers */
    end_hypothesis(x, s, s->live[0].slot, t, -INFINITY);
  if (beaten || n_next == 0)
    s->n_live = 0;
  else
    go_on(x, s, next, n_next, t);
}

static void run_batch(search *x) {
  tl_beam *b = x->b;
  b->top_n = 2 * x->o->beam < b->l.vocab ? 2 * x->o->beam : b->l.vocab;
  for (int32_t t = 0; x->status == TL_OK; t++) {
    int64_t rows = fill_rows(x, t), row = 0;
    if (rows == 0) return;
    tl_graph_run(b->decoder, &(tl_pass){.loss_scale = 1});
    tl_parallel_ranges(b->ctx, rows, 4, choose_rows, b);
    for (int i = 0; i < x->n; i++) {
      int live_rows = b->sentence[i].n_live;
      if (live_rows) advance(x, &b->sentence[i], row, t);
      row += live_rows;
    }
    if (tl_ctx_cancelled(b->ctx)) x->status = TL_PREEMPTED;
  }
}

static void take_results(search *x, tl_hypotheses *out) {
  for (int i = 0; i < x->n; i++) {
    sentence *s = &x->b->sentence[i];
    for (int k = 0; k < s->n_done; k++)
      if (k < out->n_best)
        out->h[s->sample * out->n_best + k] = s->done[k];
      else
        free(s->done[k].token);
  }
}

/* --- all sources -------------------------------------------------------------------------------
 */

typedef struct length {
  int32_t n;
  int64_t sample;
} length;

static int longest_first(const void *a, const void *b) {
  const length *x = a, *y = b;
  if (x->n != y->n) return x->n < y->n ? 1 : -1;
  return (x->sample > y->sample) - (x->sample < y->sample);
}

/* Batches of sources of like length have few rows that wait for the others. */
static int64_t *order_of(const tl_task_samples *s) {
  length *l = malloc((size_t)(s->n + 1) * sizeof *l);
  int64_t *order = malloc((size_t)(s->n + 1) * sizeof *order);
  for (int64_t i = 0; l && i < s->n; i++) l[i] = (length){s->second[i], i};
  if (l) qsort(l, (size_t)s->n, sizeof *l, longest_first);
  for (int64_t i = 0; l && order && i < s->n; i++) order[i] = l[i].sample;
  if (!l) {
    free(order);
    order = NULL;
  }
  free(l);
  return order;
}

tl_status tl_beam_search(tl_beam *b, const tl_beam_options *o, const tl_task_samples *s,
                         tl_hypotheses *out, tl_err *err) {
  search x = {.b = b, .o = o, .s = s, .status = TL_OK};
  int64_t *order = order_of(s);
  *out = (tl_hypotheses){.n = s->n, .n_best = o->n_best};
  out->h = calloc((size_t)(s->n * o->n_best) + 1, sizeof *out->h);
  x.order = order;
  if (!order || !out->h) x.status = TL_NOMEM;
  for (int64_t at = 0; x.status == TL_OK && at < s->n;) {
    encode(&x, &at);
    run_batch(&x);
    take_results(&x, out);
  }
  free(order);
  if (x.status == TL_OK) return TL_OK;
  tl_hypotheses_free(out);
  return x.status == TL_PREEMPTED
             ? tl_fail(err, TL_PREEMPTED, "stopped by request")
             : tl_fail(err, x.status, "beam search: out of memory for %lld texts", (long long)s->n);
}

void tl_hypotheses_free(tl_hypotheses *h) {
  for (int64_t i = 0; h->h && i < h->n * h->n_best; i++) free(h->h[i].token);
  free(h->h);
  *h = (tl_hypotheses){0};
}

tl_status tl_beam_texts(tl_beam *b, const tl_tokenizer *tok, const tl_beam_options *o,
                        const tl_task_samples *s, char ***out, tl_err *err) {
  tl_hypotheses h;
  tl_beam_options one = *o;
  one.n_best = 1;
  TL_TRY(tl_beam_search(b, &one, s, &h, err));
  char **text = calloc((size_t)s->n + 1, sizeof *text);
  tl_status st = text ? TL_OK : tl_fail(err, TL_NOMEM, "translations: out of memory");
  for (int64_t i = 0; st == TL_OK && i < s->n; i++)
    st = tl_tokenizer_decode_utf8(tok, (const uint32_t *)h.h[i].token, (size_t)h.h[i].n, &text[i],
                                  err);
  tl_hypotheses_free(&h);
  if (st == TL_OK) {
    *out = text;
    return TL_OK;
  }
  for (int64_t i = 0; text && i < s->n; i++) free(text[i]);
  free(text);
  return st;
}
