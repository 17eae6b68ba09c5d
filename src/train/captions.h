/* The captions of pictures while training runs (objective clip). */
#ifndef TL_TRAIN_CAPTIONS_H
#define TL_TRAIN_CAPTIONS_H

#include "train/image_batch.h"
#include "train/trainer.h"
#include "transfer/picture_objective.h"

typedef struct tl_captions {
  tl_tokenizer *tok;
  const tl_task_data *records; /* borrowed: a record's label is its caption */
  tl_task_samples samples;     /* one for each label */
  int32_t *batch;              /* [batch] the captions of the batch */
  int64_t room;                /* held-out pictures that are kept, */
  float *pictures, *texts;     /* [room][projection] each, */
  int32_t *text;               /* [room] and their captions */
  int64_t n;                   /* taken since the last score */
  tl_retrieval found;          /* of the last score */
} tl_captions;

extern const char *const tl_captions_metric; /* the mean of both recalls at 1 */

/* For the pictures of t->pictures; mixes what it reads into t->data_hash. CONFIG, NOINPUT, ...: the
 * tokenizer; DATA: a caption without a token. */
tl_status tl_captions_init(tl_trainer *t, const tl_task_data *records, int64_t room,
                           tl_captions *out, tl_err *err);
void tl_captions_free(tl_captions *c);
/* Into the graph: the captions of the batch at this position of a feed. */
void tl_captions_set(tl_captions *c, tl_picture_graph *g, const tl_image_feed *f,
                     uint64_t position);
/* Keeps the rows of the batch that ran. */
void tl_captions_take(tl_captions *c, const tl_picture_graph *g);
/* Retrieval among what was taken, and e's criterion. */
tl_status tl_captions_score(tl_trainer *t, tl_captions *c, tl_eval_result *e, tl_err *err);
/* A note of the last score, and a line of the metrics. */
tl_status tl_captions_log(tl_trainer *t, const tl_captions *c, tl_err *err);
/* The last score, and e's loss. */
void tl_captions_scores(const tl_captions *c, const tl_eval_result *e, tl_scores *out);

#endif
