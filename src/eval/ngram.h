/* Counting the n-grams that sequences of tokens have in common, for one n after the other. Internal
 * to bleu.c and chrf.c. */
#ifndef TL_EVAL_NGRAM_H
#define TL_EVAL_NGRAM_H

#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "tilth/status.h"

/* Zero-initialise to use, one object for many sets of sequences. Everything is owned. */
typedef struct tl_ngrams {
  tl_ids token;  /* of all sequences, one behind the other */
  size_t *start; /* [n_seq + 1] into token */
  size_t n_seq, seq_cap;
  size_t order; /* n, from 1 */
  uint32_t *id; /* [token.len]: of the n-gram that starts there, equal exactly if the n-grams are */
  uint32_t *count;          /* [token.len] */
  uint32_t *most;           /* [token.len] */
  struct tl_ngram_key *key; /* [token.len] */
  size_t cap;
} tl_ngrams;

void tl_ngrams_free(tl_ngrams *g);
void tl_ngrams_reset(tl_ngrams *g);
/* Ends a sequence: the tokens pushed to g->token since the last one (any 32-bit values). */
tl_status tl_ngrams_end(tl_ngrams *g, tl_err *err);
size_t tl_ngrams_length(const tl_ngrams *g, size_t seq); /* in tokens */

/* After the last sequence: n = 1. */
tl_status tl_ngrams_first(tl_ngrams *g, tl_err *err);
void tl_ngrams_next(tl_ngrams *g);                      /* n + 1 */
size_t tl_ngrams_total(const tl_ngrams *g, size_t seq); /* number of n-grams of a sequence */
/* Sum over n-grams of min(count in seq, largest count in one of the sequences first .. last - 1).
 */
size_t tl_ngrams_match(tl_ngrams *g, size_t seq, size_t first, size_t last);

#endif
