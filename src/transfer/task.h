/* Tasks: what a fine-tuned model learns from labelled records, and how it is judged.
 *
 * To add one (four places): 1. a row in tasks[] of task.c, with its part in task_encode.c and
 * task_graph.c where it differs from the others; 2. its word in task.type of config_keys.def; 3.
 * its scores in task_score.c; 4. a case in tests/unit/test_task.c. */
#ifndef TL_TRANSFER_TASK_H
#define TL_TRANSFER_TASK_H

#include "models/task_head.h"
#include "tilth/predict.h"
#include "tilth/tokenizer.h"

typedef enum tl_task_loss {
  TL_LOSS_CLASS,    /* softmax cross-entropy, one class per row */
  TL_LOSS_MULTI,    /* sigmoid cross-entropy, any of the labels per row */
  TL_LOSS_VALUE,    /* squared error */
  TL_LOSS_TOKEN,    /* the language model's own: the next token */
  TL_LOSS_CONTRAST, /* texts that mean the same against all others of the batch (contrast.h) */
} tl_task_loss;

typedef struct tl_task {
  const char *name; /* task.type */
  tl_task_kind records;
  tl_head_kind head; /* TL_HEAD_NONE: the language model's output layer */
  tl_task_loss loss;
  const char *problem; /* Hugging Face's problem_type, or NULL */
  const char *metric;  /* the score that chooses the best model; more is better, but for "loss" */
  bool seq2seq;        /* from one text to another, by an encoder-decoder */
  bool pictures;       /* of pictures, not texts */
} tl_task;
const tl_task *tl_task_find(const char *name); /* NULL if unknown */
/* Outputs of the head: labels, or 1. */
int tl_task_outputs(const tl_task *t, const tl_labels *labels);

/* The records index[0 .. n) as a set of their own, whose texts and labels are d's and must stay. */
tl_status tl_task_select(const tl_task_data *d, const size_t *index, size_t n, tl_task_data *out,
                         tl_err *err);
void tl_task_select_free(tl_task_data *part);

/* --- samples: records as tokens -------------------------------------------------------------- */

typedef struct tl_encode_options {
  int64_t max_len;              /* tokens of a sample, specials and learned rows included */
  tl_pooling pool;              /* sequences: which row is the target's */
  tl_learned_rows learned;      /* stand before a text; translation: before the source */
  const tl_model_config *model; /* translation: see tl_model_start; may be NULL */
} tl_encode_options;
/* For this model and texts of at most max_len tokens beside its learned rows. */
tl_encode_options tl_encode_for(const tl_model *m, int64_t max_len);

/* Translation: the source is `x [eos]` and stands before the decoder's input `[bos] y`, whose
 * targets are `y [eos]`; source and target have max_len tokens each. A text longer than max_len
 * keeps its beginning (pairs: the longer of the two is cut first); a sentence of words is cut into
 * windows at word borders; of a prompt with its answer the prompt loses its beginning first, then
 * the answer its end. */
typedef struct tl_task_samples {
  int64_t n;      /* samples; record[s] is the record that sample s comes from, rising */
  int64_t *start; /* [n + 1] into token */
  int32_t *token;
  int32_t *second; /* [n] the row at which the second text (the decoder's input) begins; the length
                      if there is none */
  int64_t *target; /* [n + 1] into row and label */
  int32_t *row;    /* the target's row in its sample; translation: in the decoder's input */
  int32_t *label;  /* class, tag or next token; 0 where the record has its values */
  int32_t *record; /* [n] */
  int64_t n_cut;   /* records that were cut or windowed */
} tl_task_samples;
/* Errors: DATA (a record without a token), CONFIG (max_len leaves no room; no token that ends a
 * translation), NOMEM. */
tl_status tl_task_encode(const tl_task *t, const tl_tokenizer *tok, const tl_task_data *d,
                         const tl_encode_options *o, tl_task_samples *out, tl_err *err);
void tl_task_samples_free(tl_task_samples *s);

/* --- the graph: packed samples to a loss and to features -------------------------------------- */

/* The most that a batch holds. source: tokens of a translation's sources; tokens are then those of
 * the decoder, each with its target. */
typedef struct tl_task_room {
  int64_t texts, tokens, source, targets;
} tl_task_room;
/* Raises tokens, source and targets of *room to what any room->texts samples need together. */
tl_status tl_task_room_for(const tl_task *t, const tl_task_samples *s, tl_task_room *room,
                           tl_err *err);

typedef struct tl_task_graph_options {
  tl_dtype dt;
  tl_task_room room;
  double smoothing; /* of labels, where the loss is a softmax cross-entropy */
  bool training;
} tl_task_graph_options;

typedef struct tl_task_graph {
  const tl_task *task;
  tl_model *model;
  tl_graph *g;
  /* dim_targets is dim_texts for sequences, dim_tokens for translation */
  int dim_tokens, dim_texts, dim_targets, dim_source;
  tl_task_room room;
  tl_model_io io;
  tl_node *rows, *targets, *features,
      *loss; /* features [targets, D]: what the head's linear layer
                reads, kept readable; rows is NULL for translation */
  int64_t n_tokens, n_texts, n_targets, n_source; /* in the batch */
} tl_task_graph;
tl_status tl_task_graph_new(tl_ctx *ctx, const tl_task *t, tl_model *m,
                            const tl_task_graph_options *o, tl_task_graph *out, tl_err *err);
void tl_task_graph_free(tl_task_graph *p);

/* A batch is filled sample by sample: clear, add..., run. add returns false when sample `s` does
 * not fit any more; d may be NULL when the targets do not matter (prediction). */
void tl_task_graph_clear(tl_task_graph *p);
bool tl_task_graph_add(tl_task_graph *p, const tl_task_samples *samples, const tl_task_data *d,
                       int64_t s);
/* The loss values of tl_cross_entropy (TL_LOSS_SUM ...). */
const float *tl_task_graph_run(tl_task_graph *p, const tl_pass *pass);
/* logits [n_targets, outputs] of the batch that ran, in f32 from the features and master weights.
 */
void tl_task_graph_logits(const tl_task_graph *p, float *logits);

/* --- predictions and scores --------------------------------------------------------------------
 */

/* d: the records with their labels; NULL for the outputs alone (the loss is NaN then). Translations
 * are not made here (translator.h). */
tl_status tl_task_predict(tl_task_graph *p, const tl_task_samples *samples, const tl_task_data *d,
                          tl_predictions *out, tl_err *err);

/* intervals: draw the bootstrap too (1,000 resamples by seed). Errors: DATA, NOMEM. */
tl_status tl_task_scores(const tl_task *t, const tl_task_data *d, const tl_predictions *p,
                         bool intervals, uint64_t seed, tl_scores *out, tl_err *err);

#endif
