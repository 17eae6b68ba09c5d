/* From the prepared data and a sample number to a micro-batch. */
#ifndef TL_TRAIN_LOADER_H
#define TL_TRAIN_LOADER_H

#include "objectives/objective.h"
#include "tilth/dataset.h"

/* A stream of random tokens in place of data: no disk, no end, the same for the same seed. */
typedef struct tl_made_up {
  uint64_t seed;
  uint32_t first, vocab; /* tokens are drawn from [first, vocab) */
  const uint64_t
      *starts;      /* [n_lengths + 1] where documents start in a cycle that repeats; its end */
  size_t n_lengths; /* documents in the cycle; 0: the stream has no documents */
} tl_made_up;

typedef struct tl_loader {
  const tl_dataset *data; /* NULL: made up */
  const tl_made_up *made_up;
  tl_split split;
  tl_order order;
  const tl_objective *objective;
  bool documents;         /* attention stays inside each document */
  uint32_t *tok, *starts; /* [window + 1] */
} tl_loader;

/* DATA when the split is shorter than one window. Borrows data and objective. */
tl_status tl_loader_init(tl_loader *l, const tl_dataset *data, tl_split split, uint64_t seed,
                         uint32_t window, bool documents, const tl_objective *o, tl_err *err);
/* Windows of a made-up stream, which is borrowed. Errors: NOMEM. */
tl_status tl_loader_init_made_up(tl_loader *l, const tl_made_up *m, uint32_t window,
                                 const tl_objective *o, tl_err *err);
void tl_loader_free(tl_loader *l);
uint64_t tl_loader_per_epoch(const tl_loader *l);
/* Appends sample `position`, for which b has room; false at the end of a sequential order. */
bool tl_loader_add(tl_loader *l, const tl_objective_args *a, uint64_t position, tl_batch *b);
/* Clears b and appends samples position .. position + n - 1 (fewer when a sequential order ends).
 */
void tl_loader_fill(tl_loader *l, const tl_objective_args *a, uint64_t position, int64_t n,
                    tl_batch *b);
/* A loss in nats per token as bits per byte of the split's text; NaN when it is made up. */
double tl_loader_bpb(const tl_loader *l, double loss);

#endif
