/* Shared by the row references: one element in and out of a buffer of either type, and the
 * activations with their slopes. Written for reading; the fast versions are checked against it. */
#ifndef TL_KERNELS_REF_REF_H
#define TL_KERNELS_REF_REF_H

#include <math.h>
#include "kernels/kernels.h"

static inline float ref_get(tl_dtype dt, const void *p, int64_t i) {
  return dt == TL_BF16 ? tl_bf16_to_f32(((const tl_bf16 *)p)[i]) : ((const float *)p)[i];
}

static inline void ref_set(tl_dtype dt, void *p, int64_t i, float v) {
  if (dt == TL_BF16)
    ((tl_bf16 *)p)[i] = tl_f32_to_bf16(v);
  else
    ((float *)p)[i] = v;
}

/* Sets element i to v or, with add, adds v to it. */
static inline void ref_put(tl_dtype dt, void *p, int64_t i, float v, bool add) {
  ref_set(dt, p, i, add ? ref_get(dt, p, i) + v : v);
}

/* f(x) and f'(x) in f32. */
float tl_ref_act(tl_act f, float x);
float tl_ref_act_slope(tl_act f, float x);

/* Each file of references fills in its members. */
void tl_ref_init_elementwise(tl_row_kernels *k);
void tl_ref_init_act(tl_row_kernels *k);
void tl_ref_init_norm(tl_row_kernels *k);
void tl_ref_init_column(tl_row_kernels *k);
void tl_ref_init_xent(tl_row_kernels *k);

#endif
