/* BLEU (Papineni et al. 2002) and chrF (Popovic 2015; with words chrF++, Popovic 2017), the same as
 * sacreBLEU 2.6 (Post 2018): its corpus_bleu and corpus_chrf with their defaults.
 *
 * Per segment there are counts; the score of any choice of segments follows from their sums, so
 * resampling (tl_bootstrap) costs no second look at the text. Texts are UTF-8. */
#ifndef TL_EVAL_BLEU_H
#define TL_EVAL_BLEU_H

#include <stdbool.h>
#include <stddef.h>
#include "tilth/status.h"

typedef struct tl_bleu_text {
  const char *text; /* not owned, need not end in NUL */
  size_t len;
} tl_bleu_text;

typedef enum tl_bleu_tokenizer {
  TL_BLEU_13A,  /* mteval-v13a of the WMT evaluations: ASCII punctuation, for Western languages */
  TL_BLEU_INTL, /* mteval-v14 --international-tokenization: Unicode punctuation and symbols */
  TL_BLEU_CHAR, /* each character */
  TL_BLEU_NONE, /* words as they stand between spaces */
} tl_bleu_tokenizer;

enum { TL_BLEU_ORDER = 4, TL_CHRF_CHARS = 6, TL_CHRF_MAX_WORDS = 2 };

/* All zero: sacreBLEU's defaults. */
typedef struct tl_bleu_opts {
  tl_bleu_tokenizer tokenizer;
  bool lowercase;
  bool effective_order; /* leave out orders without n-grams: for single sentences */
} tl_bleu_opts;

typedef struct tl_bleu_counts {
  size_t hyp_len, ref_len; /* in tokens; of the reference closest in length, the shorter on a tie */
  size_t correct[TL_BLEU_ORDER], total[TL_BLEU_ORDER]; /* n-grams of the hypothesis */
} tl_bleu_counts;

typedef struct tl_bleu_score {
  double score; /* 0 to 100; 0 without a single match */
  double precision[TL_BLEU_ORDER], brevity_penalty;
  tl_bleu_counts counts; /* sums */
} tl_bleu_score;

/* hyp[n]; refs[n * n_refs], the references of a segment side by side; counts[n]. Errors: DATA (no
 * reference, ill-formed UTF-8; the message names the segment), NOMEM. */
tl_status tl_bleu_count(const tl_bleu_opts *opts, const tl_bleu_text *hyp, const tl_bleu_text *refs,
                        size_t n, size_t n_refs, tl_bleu_counts *counts, tl_err *err);
/* Of the segments index[n]; NULL: of all n. Smoothing "exp": the k-th order without a match counts
 * as 1 / 2^k matches. */
tl_bleu_score tl_bleu_score_of(const tl_bleu_opts *opts, const tl_bleu_counts *counts,
                               const size_t *index, size_t n);

typedef struct tl_chrf_opts {
  int words; /* longest word n-gram: 0 chrF2, 2 chrF2++ */
  bool lowercase;
} tl_chrf_opts;

/* n-grams of 1 to 6 characters, then of 1 to `words` words, of the reference with the best score.
 */
typedef struct tl_chrf_counts {
  size_t hyp[TL_CHRF_CHARS + TL_CHRF_MAX_WORDS]; /* 0 where the reference has no n-gram */
  size_t ref[TL_CHRF_CHARS + TL_CHRF_MAX_WORDS];
  size_t match[TL_CHRF_CHARS + TL_CHRF_MAX_WORDS];
} tl_chrf_counts;

/* As tl_bleu_count. Errors: also USAGE (words outside 0 .. 2). */
tl_status tl_chrf_count(const tl_chrf_opts *opts, const tl_bleu_text *hyp, const tl_bleu_text *refs,
                        size_t n, size_t n_refs, tl_chrf_counts *counts, tl_err *err);
/* 0 to 100, recall weighing twice as much as precision (beta = 2). index as above. */
double tl_chrf_score_of(const tl_chrf_opts *opts, const tl_chrf_counts *counts, const size_t *index,
                        size_t n);

/* sacreBLEU's signature with our version: "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:
 * tilth-0.1.0". Writes at most `size` bytes with the NUL; 128 are enough. */
void tl_bleu_signature(const tl_bleu_opts *opts, size_t n_refs, char *out, size_t size);
void tl_chrf_signature(const tl_chrf_opts *opts, size_t n_refs, char *out, size_t size);

#endif
