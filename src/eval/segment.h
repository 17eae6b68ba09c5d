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

/* Words of several texts, see segment.c. */
typedef struct tl_words {
  struct tl_word *item;
  size_t n, cap;
} tl_words;

/* The texts of one segment, the hypothesis first, and what is counted in them. Zero-initialise,
 * tl_texts_init, tl_texts_free. */
typedef struct tl_texts {
  tl_ids *text; /* [n] code points */
  size_t n;
  tl_words words;
  size_t *n_words; /* [n] */
  tl_ids number;
  tl_ngrams grams;
} tl_texts;

tl_status tl_texts_init(tl_texts *w, size_t n, tl_err *err);
void tl_texts_free(tl_texts *w);
/* Fills `grams` with the words of every text, between spaces: n = 1. punctuation_apart: an ASCII
 * one at a word's end, else one at its start, is a word of its own (chrF++). */
tl_status tl_texts_words(tl_texts *w, bool punctuation_apart, tl_err *err);

#endif
