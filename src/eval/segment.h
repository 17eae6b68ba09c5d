/* Text as sacreBLEU sees it: code points in, words out. Internal to bleu.c and chrf.c. */
#ifndef TL_EVAL_SEGMENT_H
#define TL_EVAL_SEGMENT_H

#include <stdbool.h>
#include "base/buf.h"
#include "eval/bleu.h"
#include "eval/ngram.h"

bool tl_segment_is_space(uint32_t cp); /* Python's str.isspace */

/* The text's code points, in lower case if asked for (Unicode's full mapping, as Python's
 * str.lower). *out is overwritten, and freed by tl_ids_free. Errors: DATA (not UTF-8), NOMEM. */
tl_status tl_segment_decode(tl_bleu_text text, bool lowercase, tl_ids *out, tl_err *err);

/* Puts spaces around tokens (a rewriting of *cps, which has no space at its end). */
tl_status tl_segment_tokenize(tl_bleu_tokenizer tok, tl_ids *cps, tl_err *err);

/* Words of several texts, numbered by content. Zero-initialise to use. */
typedef struct tl_words {
  struct tl_word *item;
  size_t n, cap;
} tl_words;

void tl_words_reset(tl_words *w);
void tl_words_free(tl_words *w);
/* Adds a word: cp[len], kept by reference. */
tl_status tl_words_add(tl_words *w, const uint32_t *cp, size_t len, tl_err *err);
/* number[i] of the i-th word added, equal exactly if the words are. number[w->n]. Ends the use of w
 * up to the next reset. */
void tl_words_number(tl_words *w, uint32_t *number);

/* Splits at spaces and adds the words to w, which refers to them in cps. punctuation: an ASCII one
 * at a word's end, else one at its start, is a word of its own (chrF++). */
tl_status tl_segment_words(const tl_ids *cps, bool punctuation, tl_words *w, tl_err *err);

/* The texts of one segment, the hypothesis first, and what is counted in them. Zero-initialise,
 * tl_workspace_init, tl_workspace_free. */
typedef struct tl_workspace {
  tl_ids *text; /* [n] code points */
  size_t n;
  tl_words words;
  size_t *n_words; /* [n] */
  tl_ids number;
  tl_ngrams grams;
} tl_workspace;

tl_status tl_workspace_init(tl_workspace *w, size_t n, tl_err *err);
void tl_workspace_free(tl_workspace *w);
/* Fills `grams` with the words of every text: n = 1. */
tl_status tl_workspace_words(tl_workspace *w, bool punctuation, tl_err *err);

#endif
