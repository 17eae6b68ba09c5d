/* SentencePiece's BPE, which llama.cpp calls "llama": of all neighbours whose joined text is a
 * token, those with the best score are joined first, the leftmost of equals. A tokenizer.json has
 * merges of pairs in an order instead. This file finds the order of one from the other.
 *
 * It is enough to look at the text of each token by itself. What happens within a stretch of text
 * does not depend on what stands around it, as long as no merge crosses its ends; so two symbols a
 * and b can become neighbours in some text exactly if the text ab by itself comes to be these two.
 * Hence a token has at most one pair that ever makes it: the last of its own text's way. Other
 * pairs of it never meet, whether they are in the list of merges or not, and the ranks of these
 * pairs put the tokens in an order that gives the same ids for every text. The one thing that
 * scores cannot say is that neighbours whose text is a token stay apart. */
#include <math.h>
#include <stdlib.h>
#include "tok_gguf.h"

typedef struct way {
  const tl_tokenizer *t;
  tok_spm_rank_fn rank;
  const void *user;
  const char *text;
  size_t n;                   /* symbols */
  size_t at[TOK_SPM_MAX + 1]; /* [n + 1] where they begin in the text */
  double when[TOK_SPM_MAX];   /* [n - 1] of symbols i and i + 1 */
  tok_spm_pair last;          /* the latest merge of the last two symbols; first 0: none */
} way;

static double rank_at(const way *w, size_t i) {
  const char *begin = w->text + w->at[i];
  uint32_t id = tok_find(w->t, begin, w->at[i + 2] - w->at[i]);
  return id == TOK_NONE ? (double)INFINITY : w->rank(w->user, id, w->at[i + 1] - w->at[i]);
}

/* false: too many characters. */
static bool cut(way *w, const char *text) {
  size_t len = strlen(text), at = 0;
  w->text = text;
  w->last = (tok_spm_pair){0};
  for (w->n = 0; at < len && w->n < TOK_SPM_MAX; w->n++) {
    int32_t cp;
    w->at[w->n] = at;
    at += tok_utf8((const unsigned char *)text + at, len - at, &cp);
  }
  w->at[w->n] = at;
  return at == len;
}

static void merge_all(way *w) {
  for (size_t i = 0; i + 1 < w->n; i++) w->when[i] = rank_at(w, i);
  while (w->n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < w->n; i++)
      if (w->when[i] < w->when[best]) best = i;
    if (isinf(w->when[best])) return;
    if (w->n == 2) w->last = (tok_spm_pair){.first = (uint32_t)w->at[1], .rank = w->when[0]};
    w->n--;
    for (size_t i = best + 1; i <= w->n; i++) w->at[i] = w->at[i + 1];
    for (size_t i = best; i + 1 < w->n; i++) w->when[i] = w->when[i + 1];
    if (best > 0) w->when[best - 1] = rank_at(w, best - 1);
    if (best + 1 < w->n) w->when[best] = rank_at(w, best);
  }
}

static int by_rank(const void *a, const void *b) {
  const tok_spm_pair *x = a, *y = b;
  if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
  return x->id < y->id ? -1 : x->id > y->id;
}

static tl_status find_pair(way *w, uint32_t id, tl_err *err) {
  const char *s = tok_str(w->t, id);
  if (!cut(w, s))
    return tl_fail(err, TL_DATA, "token %u has more than %d characters", id, TOK_SPM_MAX);
  if (tok_find(w->t, s, strlen(s)) != id)
    return tl_fail(err, TL_DATA, "token %u \"%.100s\" is there twice", id, s);
  merge_all(w);
  w->last.id = id;
  if (w->n != 2) return TL_OK;
  return tl_fail(err, TL_CONFIG,
                 "llama.cpp would join \"%.*s\" and \"%.60s\" to token %u, which no merge of this "
                 "tokenizer does",
                 (int)(w->at[1] < 60 ? w->at[1] : 60), s, s + w->at[1], id);
}

tl_status tok_spm_order(const tl_tokenizer *t, tok_spm_rank_fn rank, const void *user,
                        tok_spm_pair **out, size_t *n, tl_err *err) {
  way *w = malloc(sizeof *w);
  tok_spm_pair *pair = malloc(((size_t)t->n + 1) * sizeof *pair);
  tl_status s = w && pair ? TL_OK : tok_nomem(err);
  *n = 0;
  if (w) *w = (way){.t = t, .rank = rank, .user = user};
  for (uint32_t id = 0; s == TL_OK && id < t->n; id++) {
    s = find_pair(w, id, err);
    if (s == TL_OK && w->last.first) pair[(*n)++] = w->last;
  }
  free(w);
  if (s == TL_OK && *n) qsort(pair, *n, sizeof *pair, by_rank);
  if (s != TL_OK) {
    free(pair);
    pair = NULL;
  }
  *out = pair;
  return s;
}
