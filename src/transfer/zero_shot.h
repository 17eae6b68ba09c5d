/* Pictures classified by names alone: what objective clip leaves (clip.h), at work. */
#ifndef TL_TRANSFER_ZERO_SHOT_H
#define TL_TRANSFER_ZERO_SHOT_H

#include "transfer/image_graph.h"

typedef struct tl_zero_shot {
  int32_t n;          /* names */
  int64_t width, dim; /* of the rows that are compared, and of a picture's features */
  float *names;       /* unit rows [n][width] */
  float *visual;      /* [width][dim] */
  float scale;        /* of the cosines in the logits */
} tl_zero_shot;
/* dir: the model's folder, whose features have dim columns. The captions' encoder reads the names,
 * and is given up again. Errors: NOINPUT (no such files in it), DATA, CONFIG, NOMEM. */
tl_status tl_zero_shot_open(tl_ctx *ctx, const char *dir, const tl_labels *names, int64_t dim,
                            tl_zero_shot *out, tl_err *err);
void tl_zero_shot_free(tl_zero_shot *z);
/* Of all pictures of d, as a changes them: the softmax over the names of the scaled cosines. The
 * graph is the body's; no loss is taken. */
tl_status tl_zero_shot_predict(const tl_zero_shot *z, tl_image_graph *g, const tl_image_data *d,
                               const tl_augment *a, tl_predictions *out, tl_err *err);

#endif
