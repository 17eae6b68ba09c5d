/* Trains a unigram language model (Kudo 2018): many frequent substrings as seed pieces; then rounds
 * of expectation maximisation, each followed by dropping the pieces whose loss costs the likelihood
 * of the text least, until the vocabulary has the size asked for. Characters always stay.
 *
 * Words are cut where the class of characters changes (letters, digits, others), so no piece mixes
 * them. Sums run over blocks of words that do not depend on the number of threads. */
#include "tok_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>
#include <xxhash.h>

enum {
  MAX_PIECE = 16,      /* characters */
  MAX_UNITS = 1 << 19, /* the most frequent distinct words are learnt from */
  SEEDS_PER_PIECE = 6, /* seed pieces for each one wanted */
  N_BLOCKS = 16,       /* of words, for sums */
  EM_STEPS = 2,        /* before each pruning */
  MAX_UNIT = 256,      /* bytes, from tok_count */
};
static const double KEEP = 0.75, OVERSHOOT = 1.1, COVERAGE = 0.9995;

typedef struct piece {
  const unsigned char *p; /* in the words' memory */
  uint32_t len;
  bool letter;   /* a single character: never dropped */
  double score;  /* log probability */
  double weight; /* exp(score) * GAUGE^len, see expect */
  double rank;   /* for sorting */
} piece;

typedef struct trainer {
  tl_ctx *ctx;
  const tok_word *unit;
  size_t n_units;
  piece *piece;
  size_t n;
  tok_trie trie;
  double unk;            /* log probability of a character without piece */
  double *sum[N_BLOCKS]; /* [n] by block */
  double total[N_BLOCKS];
} trainer;

/* ---- units ---- */

enum kind { WORD, NUMBER, SPACE, OTHER };

static enum kind kind_of(int32_t cp) {
  if (cp < 0) return OTHER;
  if (tok_is_letter(cp)) return WORD;
  if (tok_is_number(cp)) return NUMBER;
  if (tok_is_space(cp)) return SPACE;
  utf8proc_category_t c = utf8proc_category(cp);
  return c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_ME ? WORD : OTHER;
}

/* "▁" belongs to the run after it. */
bool tok_unigram_split(const tl_tokenizer *t, const unsigned char *p, size_t len, bool first,
                       tl_buf *scratch, tok_emit_fn emit, void *arg) {
  tl_buf norm = {0};
  if (tok_normalize(&t->norm, p, len, &norm, NULL) != TL_OK) return false;
  tl_buf_clear(scratch);
  tok_metaspace((const unsigned char *)norm.data, norm.len, first, scratch);
  tl_buf_free(&norm);
  if (scratch->oom) return false;
  const unsigned char *q = (const unsigned char *)scratch->data;
  size_t begin = 0;
  bool open = false; /* the unit has more than its "▁" */
  enum kind last = OTHER;
  for (size_t i = 0; i < scratch->len;) {
    int32_t cp;
    size_t n = tok_utf8(q + i, scratch->len - i, &cp);
    bool meta = cp == 0x2581;
    enum kind k = kind_of(cp);
    if (i > begin && (meta || (open && k != last))) {
      emit(arg, q + begin, i - begin);
      begin = i;
    }
    open = !meta;
    last = k;
    i += n;
  }
  if (scratch->len > begin) emit(arg, q + begin, scratch->len - begin);
  return true;
}

/* ---- seed pieces ---- */

typedef struct substring {
  const unsigned char *p;
  uint32_t len, hash;
  uint64_t count;
  uint32_t chars;
} substring;

typedef struct substrings {
  substring *slot;
  size_t mask, n;
} substrings;

static bool grow(substrings *s) {
  size_t cap = s->slot ? (s->mask + 1) * 2 : 1 << 16;
  substring *slot = calloc(cap, sizeof *slot);
  if (!slot) return false;
  for (size_t i = 0; s->slot && i <= s->mask; i++) {
    if (!s->slot[i].p) continue;
    size_t j = s->slot[i].hash & (cap - 1);
    while (slot[j].p) j = (j + 1) & (cap - 1);
    slot[j] = s->slot[i];
  }
  free(s->slot);
  s->slot = slot;
  s->mask = cap - 1;
  return true;
}

static bool count_one(substrings *s, const unsigned char *p, size_t len, uint32_t chars,
                      uint64_t count) {
  if ((!s->slot || s->n * 2 > s->mask) && !grow(s)) return false;
  uint32_t h = (uint32_t)XXH3_64bits(p, len);
  size_t i = h & s->mask;
  for (; s->slot[i].p; i = (i + 1) & s->mask) {
    substring *x = &s->slot[i];
    if (x->hash == h && x->len == len && memcmp(x->p, p, len) == 0) {
      x->count += count;
      return true;
    }
  }
  s->slot[i] = (substring){p, (uint32_t)len, h, count, chars};
  s->n++;
  return true;
}

/* All substrings of up to MAX_PIECE characters without ill-formed bytes. NUL cannot be written. */
static bool count_substrings(const tok_word *w, substrings *s) {
  for (size_t i = 0; i < w->len;) {
    int32_t cp;
    size_t first = tok_utf8(w->p + i, w->len - i, &cp);
    uint32_t chars = 0;
    for (size_t j = i; j < w->len && chars < MAX_PIECE;) {
      size_t n = tok_utf8(w->p + j, w->len - j, &cp);
      if (cp <= 0) break;
      j += n;
      if (!count_one(s, w->p + i, j - i, ++chars, w->count)) return false;
    }
    i += first;
  }
  return true;
}

static int by_bytes(const piece *a, const piece *b) {
  int c = memcmp(a->p, b->p, a->len < b->len ? a->len : b->len);
  return c ? c : (a->len > b->len) - (a->len < b->len);
}

static int by_rank(const void *x, const void *y) {
  const piece *a = x, *b = y;
  if (a->letter != b->letter) return a->letter ? -1 : 1;
  if (a->rank != b->rank) return a->rank > b->rank ? -1 : 1;
  return by_bytes(a, b);
}

/* Letters first, by count; rare ones beyond the coverage or the room are left to byte pieces. */
static size_t choose_letters(piece *p, size_t n, size_t room) {
  double total = 0, seen = 0;
  for (size_t i = 0; i < n; i++) total += p[i].rank;
  size_t k = 0;
  while (k < n && k < room && seen < COVERAGE * total) seen += p[k++].rank;
  return k;
}

static tl_status make_seeds(trainer *r, size_t wanted, size_t letter_room, tl_err *err) {
  substrings s = {0};
  bool ok = true;
  for (size_t i = 0; i < r->n_units && ok; i++) ok = count_substrings(&r->unit[i], &s);
  r->piece = ok ? malloc((s.n + 1) * sizeof *r->piece) : NULL;
  if (!r->piece) {
    free(s.slot);
    return tok_nomem(err);
  }
  size_t n_letters = 0;
  for (size_t i = 0; s.slot && i <= s.mask; i++) {
    substring *x = &s.slot[i];
    bool letter = x->chars == 1;
    if (!x->p || (!letter && x->count < 2)) continue;
    double rank = (double)x->count * x->chars;
    r->piece[r->n++] = (piece){.p = x->p, .len = x->len, .letter = letter, .rank = rank};
    n_letters += letter;
  }
  free(s.slot);
  qsort(r->piece, r->n, sizeof *r->piece, by_rank);
  size_t keep = choose_letters(r->piece, n_letters, letter_room);
  memmove(r->piece + keep, r->piece + n_letters, (r->n - n_letters) * sizeof *r->piece);
  r->n -= n_letters - keep;
  if (r->n > keep + wanted) r->n = keep + wanted;
  double total = 0;
  for (size_t i = 0; i < r->n; i++) total += r->piece[i].rank;
  for (size_t i = 0; i < r->n; i++) r->piece[i].score = log(r->piece[i].rank / total);
  return TL_OK;
}

/* ---- expectation maximisation ---- */

/* Sums over all ways to cut a word are made of products of probabilities. A gauge per byte, which
 * cancels in every ratio, keeps them within the range of doubles. */
static const double LOG_GAUGE = 1.5;

static tl_status rebuild(trainer *r, tl_err *err) {
  tok_trie_free(&r->trie);
  r->unk = 0;
  for (size_t i = 0; i < r->n; i++) {
    piece *p = &r->piece[i];
    p->weight = exp(p->score + LOG_GAUGE * p->len);
    if (p->score < r->unk) r->unk = p->score;
    if (!tok_trie_add(&r->trie, p->p, p->len, (uint32_t)i)) return tok_nomem(err);
  }
  r->unk -= 10;
  for (int b = 0; b < N_BLOCKS; b++) {
    free(r->sum[b]);
    r->sum[b] = calloc(r->n + 1, sizeof *r->sum[b]);
    if (!r->sum[b]) return tok_nomem(err);
    r->total[b] = 0;
  }
  return TL_OK;
}

/* A way from byte `from` to byte `to` of a word. */
typedef struct edge {
  uint16_t from, to;
  uint32_t piece; /* TOK_NONE: a character without piece */
} edge;

/* All edges of a word, by start. */
static size_t find_edges(const trainer *r, const tok_word *w, edge *e) {
  size_t n = 0;
  for (size_t i = 0, width; i < w->len; i += width) {
    int32_t cp;
    width = tok_utf8(w->p + i, w->len - i, &cp);
    bool single = false;
    uint32_t node = 0;
    for (size_t j = i; j < w->len; j++) {
      node = tok_trie_step(&r->trie, node, w->p[j]);
      if (node == TOK_NONE) break;
      uint32_t id = r->trie.value[node];
      if (id == TOK_NONE) continue;
      if (j + 1 - i == width) single = true;
      e[n++] = (edge){(uint16_t)i, (uint16_t)(j + 1), id};
    }
    if (!single) e[n++] = (edge){(uint16_t)i, (uint16_t)(i + width), TOK_NONE};
  }
  return n;
}

static double weight_of(const trainer *r, const edge *e) {
  return e->piece == TOK_NONE ? exp(r->unk + LOG_GAUGE * (e->to - e->from))
                              : r->piece[e->piece].weight;
}

enum { MAX_EDGES = MAX_UNIT * (MAX_PIECE + 1) };

/* Adds the expected number of uses of each piece in one word: forward-backward. */
static void expect(const trainer *r, const tok_word *w, edge *e, double *sum) {
  double from[MAX_UNIT + 1] = {1}, to[MAX_UNIT + 1];
  size_t n = find_edges(r, w, e);
  for (size_t i = 1; i <= w->len; i++) from[i] = 0;
  for (size_t i = 0; i < w->len; i++) to[i] = 0;
  to[w->len] = 1;
  for (size_t k = 0; k < n; k++) from[e[k].to] += from[e[k].from] * weight_of(r, &e[k]);
  for (size_t k = n; k-- > 0;) to[e[k].from] += to[e[k].to] * weight_of(r, &e[k]);
  double all = from[w->len];
  if (!(all > 1e-150 && all < 1e150)) return; /* odd and rare: hundreds of unknown characters */
  double scale = (double)w->count / all;
  for (size_t k = 0; k < n; k++) {
    if (e[k].piece == TOK_NONE) continue;
    sum[e[k].piece] += scale * from[e[k].from] * weight_of(r, &e[k]) * to[e[k].to];
  }
}

/* Adds the uses of each piece in the best cut of one word. */
static double count_best(const trainer *r, const tok_word *w, edge *e, double *sum) {
  double best[MAX_UNIT + 1] = {0};
  const edge *last[MAX_UNIT + 1] = {0};
  size_t n = find_edges(r, w, e);
  for (size_t k = 0; k < n; k++) {
    double v = best[e[k].from] + (e[k].piece == TOK_NONE ? r->unk : r->piece[e[k].piece].score);
    if (!last[e[k].to] || v > best[e[k].to]) {
      best[e[k].to] = v;
      last[e[k].to] = &e[k];
    }
  }
  double used = 0;
  for (size_t end = w->len; end > 0; end = last[end]->from) {
    if (last[end]->piece == TOK_NONE) continue;
    sum[last[end]->piece] += (double)w->count;
    used += (double)w->count;
  }
  return used;
}

static void each_unit(trainer *r, int64_t block, bool best) {
  edge *e = malloc(MAX_EDGES * sizeof *e);
  if (!e) {
    r->total[block] = -1;
    return;
  }
  size_t begin = r->n_units * (size_t)block / N_BLOCKS;
  size_t end = r->n_units * ((size_t)block + 1) / N_BLOCKS;
  for (size_t i = begin; i < end; i++) {
    if (best)
      r->total[block] += count_best(r, &r->unit[i], e, r->sum[block]);
    else
      expect(r, &r->unit[i], e, r->sum[block]);
  }
  free(e);
}

static void expect_block(void *arg, int64_t block, int worker) {
  (void)worker;
  each_unit(arg, block, false);
}

static void best_block(void *arg, int64_t block, int worker) {
  (void)worker;
  each_unit(arg, block, true);
}

/* Runs over all words; the sums end up in block 0. */
static tl_status over_units(trainer *r, tl_task_fn fn, tl_err *err) {
  TL_TRY(rebuild(r, err));
  tl_parallel(r->ctx->pool, N_BLOCKS, fn, r);
  for (int b = 0; b < N_BLOCKS; b++) {
    if (r->total[b] < 0) return tok_nomem(err);
    if (b == 0) continue;
    r->total[0] += r->total[b];
    for (size_t i = 0; i < r->n; i++) r->sum[0][i] += r->sum[b][i];
  }
  return TL_OK;
}

/* d/dx log Gamma(x), x > 0. */
static double digamma(double x) {
  double r = 0;
  for (; x < 7; x++) r -= 1 / x;
  double y = 1 / (x * x);
  return r + log(x) - 0.5 / x - y * (1.0 / 12 - y * (1.0 / 120 - y * (1.0 / 252 - y / 240)));
}

/* The digamma makes the estimate Bayesian: rare pieces weigh less than their count says. */
static tl_status maximise(trainer *r, tl_err *err) {
  TL_TRY(over_units(r, expect_block, err));
  const double least = 0.5;
  double total = 0;
  size_t n = 0;
  for (size_t i = 0; i < r->n; i++) {
    double c = r->sum[0][i];
    if (c < least && !r->piece[i].letter) continue;
    r->piece[n] = r->piece[i];
    r->piece[n].rank = c < least ? least : c;
    total += r->piece[n++].rank;
  }
  r->n = n;
  for (size_t i = 0; i < n; i++) r->piece[i].score = digamma(r->piece[i].rank) - digamma(total);
  return TL_OK;
}

/* ---- pruning ---- */

/* What the likelihood of the text loses, per use of a piece, if piece i were dropped: its uses go
 * to the best cut of it into others. Letters are not asked. */
static double loss_of(const trainer *r, size_t i, edge *e) {
  const piece *p = &r->piece[i];
  double uses = r->sum[0][i], total = r->total[0];
  if (uses == 0) return 0;
  double best[MAX_UNIT + 1] = {0};
  const edge *last[MAX_UNIT + 1] = {0};
  size_t n = find_edges(r, &(tok_word){p->p, p->len, 0}, e), parts = 0;
  for (size_t k = 0; k < n; k++) {
    if (e[k].piece == i) continue;
    double v = best[e[k].from] + (e[k].piece == TOK_NONE ? r->unk : r->piece[e[k].piece].score);
    if (!last[e[k].to] || v > best[e[k].to]) {
      best[e[k].to] = v;
      last[e[k].to] = &e[k];
    }
  }
  for (size_t end = p->len; end > 0; end = last[end]->from) {
    if (last[end]->piece == TOK_NONE) return INFINITY; /* nothing else spells it */
    parts++;
  }
  double log_total = log(total + uses * (double)(parts - 1)), alt = 0;
  for (size_t end = p->len; end > 0; end = last[end]->from)
    alt += log(r->sum[0][last[end]->piece] + uses) - log_total;
  return uses / total * (log(uses) - log(total) - alt);
}

static tl_status prune(trainer *r, size_t size, tl_err *err) {
  TL_TRY(over_units(r, best_block, err));
  edge *e = malloc(MAX_EDGES * sizeof *e);
  if (!e) return tok_nomem(err);
  for (size_t i = 0; i < r->n; i++)
    r->piece[i].rank = r->piece[i].letter ? r->sum[0][i] : loss_of(r, i, e);
  free(e);
  qsort(r->piece, r->n, sizeof *r->piece, by_rank);
  size_t keep = (size_t)((double)r->n * KEEP);
  if (keep < size) keep = size;
  if (keep < r->n) r->n = keep;
  return TL_OK;
}

static tl_status fit(trainer *r, size_t size, tl_err *err) {
  size_t overshoot = (size_t)((double)size * OVERSHOOT);
  for (;;) {
    for (int i = 0; i < EM_STEPS; i++) TL_TRY(maximise(r, err));
    if (tl_ctx_cancelled(r->ctx))
      return tl_fail(err, TL_PREEMPTED, "tokenizer training was stopped");
    if (r->n <= overshoot) return TL_OK;
    TL_TRY(prune(r, overshoot, err));
  }
}

/* ---- the result ---- */

static int by_score(const void *x, const void *y) {
  const piece *a = x, *b = y;
  if (a->score != b->score) return a->score > b->score ? -1 : 1;
  return by_bytes(a, b);
}

static tl_status add_byte_pieces(tl_tokenizer *t, tl_err *err) {
  for (int b = 0; b < TOK_BYTES; b++) {
    char s[8];
    snprintf(s, sizeof s, "<0x%02X>", b);
    if (tok_add(t, s, strlen(s)) == TOK_NONE) return tok_nomem(err);
  }
  return TL_OK;
}

/* The letters and the best of the others, in the order of their scores. Scores are rounded to what
 * the file holds, so that a loaded tokenizer is the same. */
static tl_status add_pieces(tl_tokenizer *t, trainer *r, size_t size, tl_err *err) {
  for (size_t i = 0; i < r->n; i++) r->piece[i].rank = r->piece[i].score;
  qsort(r->piece, r->n, sizeof *r->piece, by_rank);
  if (r->n > size) r->n = size;
  qsort(r->piece, r->n, sizeof *r->piece, by_score);
  t->score = calloc(t->n + r->n, sizeof *t->score);
  if (!t->score) return tok_nomem(err);
  for (size_t i = 0; i < r->n; i++) {
    uint32_t id = tok_add(t, (const char *)r->piece[i].p, r->piece[i].len);
    if (id == TOK_NONE) return tok_nomem(err);
    char s[32];
    snprintf(s, sizeof s, "%.6f", r->piece[i].score);
    t->score[id] = strtod(s, NULL);
  }
  return TL_OK;
}

tl_status tok_unigram_train(tl_tokenizer *t, tl_ctx *ctx, const tok_words *w, int vocab_size,
                            tl_err *err) {
  if (vocab_size <= TL_TOK_N_SPECIAL + TOK_BYTES)
    return tl_fail(err, TL_CONFIG,
                   "tokenizer: vocab_size %d is too small for unigram: the special tokens and the "
                   "256 byte pieces take %d",
                   vocab_size, TL_TOK_N_SPECIAL + TOK_BYTES);
  size_t size = (size_t)vocab_size - TL_TOK_N_SPECIAL - TOK_BYTES;
  trainer r = {.ctx = ctx, .unit = w->word, .n_units = w->n < MAX_UNITS ? w->n : MAX_UNITS};
  tl_status s = add_byte_pieces(t, err);
  if (s == TL_OK) s = make_seeds(&r, size * SEEDS_PER_PIECE, (size + 1) / 2, err);
  if (s == TL_OK) s = fit(&r, size, err);
  if (s == TL_OK) s = add_pieces(t, &r, size, err);
  if (s == TL_OK && t->n < (uint32_t)vocab_size) s = tok_too_large(t, vocab_size, err);
  tok_trie_free(&r.trie);
  for (int b = 0; b < N_BLOCKS; b++) free(r.sum[b]);
  free(r.piece);
  return s;
}
