/* Objectives: how unlabelled windows of tokens become inputs and targets.
 *
 * To add one (four places): 1. src/objectives/<name>.c with its tl_objective; 2. a row in
 * TL_OBJECTIVES;
 * 3. its word in objective.type of config_keys.def; 4. its case in tests/unit/test_objectives.c. */
#ifndef TL_OBJECTIVES_OBJECTIVE_H
#define TL_OBJECTIVES_OBJECTIVE_H

#include "base/rng.h"
#include "kernels/kernels.h"
#include "tilth/config.h"
#include "tilth/tokenizer.h"

#define TL_OBJECTIVES(X) X(next_token) X(masked) X(hybrid) X(span_corruption) X(denoise)

/* A micro-batch: what is copied into a graph's inputs. Arrays are owned by the batch. */
typedef struct tl_batch {
  int64_t max_tokens;
  int64_t n_tokens, n_segments, n_targets; /* n_targets: entries of idx and targets */
  int64_t n_counted;                       /* targets that are not ignored (>= 0) */
  int32_t *tokens, *pos;                   /* [max_tokens] */
  tl_segment *segments;                    /* [max_tokens] */
  int32_t *idx, *targets; /* [max_tokens]; idx unused unless the objective selects */
  uint8_t *hide;          /* [max_tokens], scratch */
  /* An encoder-decoder's source; above are then the decoder's input and its targets, row by row. */
  int64_t n_source;
  int32_t *src_tokens, *src_pos;    /* [max_tokens] */
  tl_segment *src_segments, *cross; /* [max_tokens], n_segments */
  int64_t src_begin, tgt_begin;     /* of the pair being made */
} tl_batch;

tl_status tl_batch_init(tl_batch *b, int64_t max_tokens, tl_err *err);
void tl_batch_clear(tl_batch *b);
void tl_batch_free(tl_batch *b);

/* One window of the data. tok[n] exists (the token after the window) when has_next. starts:
 * positions in [0, n] at which a document starts, increasing (n: the token after the window does);
 * position 0 is a segment start even if not listed. */
typedef struct tl_sample {
  const uint32_t *tok;
  uint32_t n;
  bool has_next;
  const uint32_t *starts;
  size_t n_starts;
  uint64_t position; /* sample number: all randomness depends on (seed, position) */
} tl_sample;

typedef struct tl_objective_args {
  uint64_t seed;
  double progress; /* of training, 0..1: the masking rate moves with it */
  double rate, rate_end, keep, random, causal_share;
  double span_mean;
  int span;
  bool whole_word;
  int vocab, mask_id, bos, eos;
  int sentinel, n_sentinels;  /* the id of the first */
  int sentinel_step;          /* from one to the next: -1 or 1 */
  bool has_sentinels;         /* these are the tokenizer's own */
  int n_special;              /* tokens with an id below it are never hidden or drawn */
  const uint8_t *word_starts; /* [vocab] */
  bool causal;                /* hybrid: what this micro-batch is (tl_objective_begin) */
} tl_objective_args;

typedef struct tl_objective {
  const char *name;
  bool selects; /* logits on the rows idx only; otherwise targets align with all rows */
  bool encoder; /* needs an architecture that may attend in both directions */
  bool decoder; /* works with a causal architecture */
  bool seq2seq; /* is for encoder-decoders */
  bool needs_mask;
  int sentinels; /* tokens that stand for hidden spans: the tokenizer's <extra_id_0> ..., or, where
                    it has none, the last ids of the model */
  /* Appends one sample to the batch (room is guaranteed for n tokens). */
  void (*add)(const tl_objective_args *a, const tl_sample *s, tl_batch *b);
} tl_objective;

/* objective.mask_rate, or what it stands for. */
double tl_objective_mask_rate(const tl_config *c);
const tl_objective *tl_objective_find(const char *name); /* NULL if unknown */
/* Arguments from the configuration; CONFIG if the tokenizer lacks what the objective needs. */
tl_status tl_objective_args_from(const tl_objective *o, const tl_config *c, const tl_tokenizer *t,
                                 tl_objective_args *out, tl_err *err);
/* How many ids the model needs besides the tokenizer's. */
int tl_objective_more_tokens(const tl_objective *o, const tl_tokenizer *t);
/* Which of a model's tokens are the sentinels, unless the tokenizer has them. CONFIG when it has
 * too few besides the tokenizer's.
 */
tl_status tl_objective_sentinels(const tl_objective *o, tl_objective_args *a, int64_t model_vocab,
                                 tl_err *err);
/* Draws what is decided once per micro-batch (number `batch` since the start of training). */
void tl_objective_begin(const tl_objective *o, tl_objective_args *a, uint64_t batch);

/* Pieces the objectives share. */
/* Appends tokens, positions and segments; returns the batch row of the first token. */
int64_t tl_batch_append(tl_batch *b, const tl_sample *s, bool causal);
/* Hides tokens: batch rows row0..row0+n get replaced inputs; a target entry (row + shift, original
 * id) is appended for each hidden token whose row + shift lies in the same segment. shift 0: BERT,
 * -1: the prediction stands one row earlier. */
void tl_mask_sample(const tl_objective_args *a, const tl_sample *s, tl_batch *b, int64_t row0,
                    int shift);

/* Spans to hide among n >= 2 tokens, at the rate of now: marks hide[n] and returns their number, at
 * most `most`. A token is shown between two spans. even: all ways to cut the hidden tokens into
 * spans of that mean length are as likely; else the lengths are Poisson numbers. */
enum { TL_SHOWN, TL_HIDDEN, TL_SPAN /* hidden, the first of its span */ };
uint32_t tl_hide_spans(const tl_objective_args *a, tl_rng *r, bool even, uint32_t most, uint32_t n,
                       uint8_t *hide);
/* The next document, or part of one, in a window; zero-initialise. */
typedef struct tl_piece {
  const uint32_t *tok; /* [n], without the tokens that begin and end a document */
  uint32_t n, room;    /* room: with them */
  bool ends;           /* the document ends here */
  uint32_t end;        /* in the window */
  size_t next;         /* start of a document */
} tl_piece;
bool tl_next_piece(const tl_objective_args *a, const tl_sample *s, tl_piece *p);
/* A pair: begin, its tokens in any order, end. A target's row reads the token before it. */
void tl_pair_begin(tl_batch *b);
void tl_pair_source(tl_batch *b, int32_t token);
void tl_pair_target(const tl_objective_args *a, tl_batch *b, int32_t token);
void tl_pair_end(tl_batch *b);

#endif
