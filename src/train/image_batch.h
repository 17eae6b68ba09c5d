/* Batches of pictures, decoded and augmented by a thread of its own while training runs. What a
 * batch holds depends on its position alone. */
#ifndef TL_TRAIN_IMAGE_BATCH_H
#define TL_TRAIN_IMAGE_BATCH_H

#include "tilth/augment.h"
#include "tilth/model.h"

typedef struct tl_image_feed tl_image_feed;

typedef struct tl_image_feed_options {
  const tl_image_data *data; /* borrowed; with labels or masks, unless there are views */
  const size_t *index;       /* [n] the records to train on; borrowed */
  int64_t n;
  int64_t batch; /* samples of each batch */
  int ahead;     /* batches that may be ready at once */
  uint64_t seed;
  tl_augment augment;
  tl_mix mix;
  double smoothing;           /* of labels */
  const float *class_weights; /* [classes] factors on a picture's loss; borrowed; NULL: all 1 */
  int64_t side; /* of the masks that are asked for; 0: labels. Pictures with masks are not mixed */
  int views;    /* above 0: of each picture so many, changed each by its own chance; no targets */
  tl_model_config model;
} tl_image_feed_options;

tl_status tl_image_feed_new(const tl_image_feed_options *o, tl_image_feed **out, tl_err *err);
void tl_image_feed_free(tl_image_feed *f); /* NULL is allowed */

/* The batch of samples position .. position + batch - 1: patches and targets (masks: classes) as
 * tl_image_graph_set wants them, valid while it is one of the last ahead / 2 that were asked for.
 * Batches in turn are made ahead; any other position starts anew there. */
typedef struct tl_image_batch {
  const float *patches;   /* [views][batch] pictures where there are views */
  const float *targets;   /* NULL: there are masks or views */
  const int32_t *classes; /* [batch][side][side]; NULL: there are none */
} tl_image_batch;
tl_image_batch tl_image_feed_get(tl_image_feed *f, uint64_t position);
/* The record of the sample at this position. */
size_t tl_image_feed_record(const tl_image_feed *f, uint64_t position);
/* The first failure of a picture (it stayed empty); TL_OK: there was none. */
tl_status tl_image_feed_error(tl_image_feed *f, tl_err *err);

#endif
