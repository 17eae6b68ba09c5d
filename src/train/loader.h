/* From the prepared data and a sample number to a micro-batch. */
#ifndef TL_TRAIN_LOADER_H
#define TL_TRAIN_LOADER_H

#include "objectives/objective.h"
#include "tilth/dataset.h"

typedef struct tl_loader {
  const tl_dataset *data;
  tl_split split;
  tl_order order;
  const tl_objective *objective;
  bool documents;         /* attention stays inside each document */
  uint32_t *tok, *starts; /* [window + 1] */
} tl_loader;

/* DATA when the split is shorter than one window. Borrows data and objective. */
tl_status tl_loader_init(tl_loader *l, const tl_dataset *data, tl_split split, uint64_t seed,
                         uint32_t window, bool documents, const tl_objective *o, tl_err *err);
void tl_loader_free(tl_loader *l);
uint64_t tl_loader_per_epoch(const tl_loader *l);
/* Appends sample `position`, for which b has room; false at the end of a sequential order. */
bool tl_loader_add(tl_loader *l, const tl_objective_args *a, uint64_t position, tl_batch *b);
/* Clears b and appends samples position .. position + n - 1 (fewer when a sequential order ends).
 */
void tl_loader_fill(tl_loader *l, const tl_objective_args *a, uint64_t position, int64_t n,
                    tl_batch *b);
/* A loss in nats per token as bits per byte of the split's text. */
double tl_loader_bpb(const tl_loader *l, double loss);

#endif
