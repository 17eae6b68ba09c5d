/* Beam search with an encoder-decoder: many sources at once, each with its beams, on one key-value
 * cache. The encoder runs once per source.
 *
 * A hypothesis scores log p / length^length_penalty, the token that ends it included in both. A
 * source is done when it has as many ended hypotheses as beams and no open one scores better now.
 * One beam is greedy search. */
#ifndef TL_TRANSFER_BEAM_H
#define TL_TRANSFER_BEAM_H

#include "transfer/task.h"

enum { TL_MAX_BEAM = 64 };

typedef struct tl_beam_limits {
  int beam;           /* at most TL_MAX_BEAM */
  int64_t max_source; /* tokens of one source */
  int64_t max_len;    /* tokens of a hypothesis, the last included; not above the model's max_len */
  int vocab, bos, eos; /* tokens from vocab on are never chosen */
} tl_beam_limits;

typedef struct tl_beam tl_beam;
/* Borrows ctx and model. Errors: CONFIG, NOMEM. */
tl_status tl_beam_new(tl_ctx *ctx, tl_model *m, tl_dtype dt, const tl_beam_limits *l, tl_beam **out,
                      tl_err *err);
void tl_beam_free(tl_beam *b);

typedef struct tl_beam_options {
  int beam, n_best; /* n_best <= beam <= that of the limits */
  double length_penalty;
  int64_t max_len; /* 0: twice the source and 16 more; never above that of the limits */
} tl_beam_options;

typedef struct tl_hypothesis {
  int32_t *token; /* without the first and the last; NULL: there is none */
  int32_t n;
  double score, log_p;
} tl_hypothesis;
typedef struct tl_hypotheses {
  int64_t n;
  int n_best;
  tl_hypothesis *h; /* [n][n_best], best first */
} tl_hypotheses;
/* Of the sources of all samples (of a translation). Errors: NOMEM, PREEMPTED. */
tl_status tl_beam_search(tl_beam *b, const tl_beam_options *o, const tl_task_samples *s,
                         tl_hypotheses *out, tl_err *err);
void tl_hypotheses_free(tl_hypotheses *h);

/* The best one of each source as text: malloc'ed [s->n] of malloc'ed strings. */
tl_status tl_beam_texts(tl_beam *b, const tl_tokenizer *tok, const tl_beam_options *o,
                        const tl_task_samples *s, char ***out, tl_err *err);

#endif
