/* Masked language modelling (Devlin et al., 2019): hidden tokens are predicted from both sides;
 * logits on hidden positions only. */
#include "objectives/objective.h"

static void add(const tl_objective_args *a, const tl_sample *s, tl_batch *b) {
  int64_t row0 = tl_batch_append(b, s, false);
  tl_mask_sample(a, s, b, row0, 0);
}

const tl_objective tl_objective_masked = {
    .name = "masked", .selects = true, .encoder = true, .needs_mask = true, .add = add};
