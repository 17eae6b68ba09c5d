/* Causal and masked modelling in one model (GPT-BERT, Charpentier and Samuel, 2024): a share of the
 * micro-batches is causal, the others are bidirectional with hidden tokens; in both the prediction
 * for a token stands one row before it. */
#include "objectives/objective.h"

static void add(const tl_objective_args *a, const tl_sample *s, tl_batch *b) {
  int64_t row0 = tl_batch_append(b, s, a->causal);
  if (!a->causal) {
    tl_mask_sample(a, s, b, row0, -1);
    return;
  }
  for (uint32_t i = 1; i < s->n; i++) {
    if (b->pos[row0 + i] == 0) continue; /* the first token of a document */
    b->idx[b->n_targets] = (int32_t)(row0 + i - 1);
    b->targets[b->n_targets++] = (int32_t)s->tok[i];
    b->n_counted++;
  }
}

const tl_objective tl_objective_hybrid = {.name = "hybrid",
                                          .selects = true,
                                          .encoder = true,
                                          .decoder = true,
                                          .needs_mask = true,
                                          .add = add};
