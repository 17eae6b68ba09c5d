/* Pictures made again from their capsules (model.type=capsnet), and from changed ones: what each
 * column of a capsule has learnt to stand for (Sabour et al., 2017, figures 3 and 4). Pictures are
 * f32 [channels][size][size] in 0 .. 1, as tl_augment_run gives them for such a model. */
#ifndef TL_TRANSFER_RECONSTRUCT_H
#define TL_TRANSFER_RECONSTRUCT_H

#include "models/model.h"

enum { TL_CAPSULE_WIDTH = 16 };

/* Whether the model, read with its head, can do so. */
bool tl_can_reconstruct(const tl_model *m);
/* For each of n pictures: label, the class of its longest capsule; that capsule
 * [TL_CAPSULE_WIDTH]; and the picture made from it alone. Each of the three may be NULL.
 * Errors: CONFIG (no such model), NOMEM. */
tl_status tl_reconstruct(tl_ctx *ctx, tl_model *m, const float *pictures, int64_t n, float *made,
                         float *capsules, int32_t *labels, tl_err *err);
/* What the decoder makes of a capsule of class `label` with change[i] added to its column k:
 * made [TL_CAPSULE_WIDTH][n][channels][size][size]. Errors: as above. */
tl_status tl_reconstruct_changed(tl_ctx *ctx, tl_model *m, const float *capsule, int32_t label,
                                 const float *change, int64_t n, float *made, tl_err *err);

#endif
