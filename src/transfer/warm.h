/* Warm start of an encoder-decoder from two pretrained models, one per side. */
#ifndef TL_TRANSFER_WARM_H
#define TL_TRANSFER_WARM_H

#include "models/model.h"

typedef struct tl_warm_start {
  const char *encoder, *decoder; /* models' folders; "": that side keeps its random weights */
} tl_warm_start;

/* How many tensors of m were taken, and how many keep their random values. */
typedef struct tl_warm_counts {
  int encoder, decoder, shared, fresh;
} tl_warm_counts;

/* Copies weights into m (new, with random values) by their roles: norms, attention and feed-forward
 * layers of each block, the last norm. Weights that one side stores together and the other apart
 * are cut. Of an encoder-decoder's folder the same side is taken, with its attention to the source,
 * which no other model has. The embedding, and an output matrix of its own, come from the first
 * folder, the encoder's before the decoder's, whose tokenizer is `tok`. What differs without
 * keeping weights from being used (activation, base of the rotary positions) is logged as a
 * warning. Errors: CONFIG where numbers of blocks, heads or shapes differ, or positions are of
 * another kind; and those of reading. */
tl_status tl_warm_start_model(tl_ctx *ctx, tl_model *m, const tl_tokenizer *tok,
                              const tl_warm_start *o, tl_warm_counts *out, tl_err *err);

#endif
