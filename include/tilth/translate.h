/* An encoder-decoder at work: from texts to texts by beam search. (It is made by tl_train with
 * task.type translate.) */
#ifndef TILTH_TRANSLATE_H
#define TILTH_TRANSLATE_H

#include <stddef.h>
#include "tilth/context.h"
#include "tilth/predict.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_translate_options {
  int64_t beam;          /* 1 .. 64; 1: greedy */
  int64_t n_best;        /* translations per text, at most beam */
  double length_penalty; /* log p / length^this is what counts */
  int64_t max_len;   /* tokens per text and per translation; 0: what the model takes, at most 256.
                        A translation has at most twice its source's and 16 */
  const char *dtype; /* "auto", "f32", "bf16" */
} tl_translate_options;
tl_translate_options tl_translate_defaults(void); /* 5 beams, the best one, penalty 1 */

typedef struct tl_translator tl_translator;
/* dir: a model folder. Borrows ctx. Errors: CONFIG (options, or the model does not translate),
 * those of tl_model_load. */
tl_status tl_translator_open(tl_ctx *ctx, const char *dir, const tl_translate_options *o,
                             tl_translator **out, tl_err *err);
void tl_translator_free(tl_translator *t);

typedef struct tl_translations {
  size_t n, n_best;
  char **text;   /* [n][n_best], best first; NULL: fewer were found */
  double *score; /* [n][n_best] */
  size_t n_cut;  /* texts longer than max_len, whose end was left out */
} tl_translations;
/* Of text[n], UTF-8; a blank text has the translation "". Errors: DATA, NOMEM, PREEMPTED. */
tl_status tl_translator_run(tl_translator *t, const char *const *text, size_t n,
                            tl_translations *out, tl_err *err);
void tl_translations_free(tl_translations *t);
/* BLEU and chrF of the best translations against reference[t->n], with 95 % bootstrap intervals. */
tl_status tl_translations_score(const tl_translations *t, const char *const *reference,
                                tl_scores *out, tl_err *err);

/* The lines of a file ("-": standard input), compressed or not, blank ones too. */
typedef struct tl_text_lines {
  size_t n;
  char **line; /* [n], NUL-terminated */
  char *bytes; /* what they point into */
} tl_text_lines;
/* Errors: DATA (ill-formed UTF-8, NUL bytes), NOINPUT, PERM, IO, NOMEM. */
tl_status tl_text_lines_read(const char *path, tl_text_lines *out, tl_err *err);
void tl_text_lines_free(tl_text_lines *l);

#ifdef __cplusplus
}
#endif

#endif
