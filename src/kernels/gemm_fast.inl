/* The epilogue of a tile over vec.h, included by the vector levels after `enum { MR, NR }`. A file
 * whose instructions round to bf16 defines FINISH_ROUND(p, m, v) first: it stores m lanes of v. */
#include "kernels/gemm_impl.h"
#include "kernels/vec.h"

VEC_INLINE void prefetch_out(const tl_gemm_block *g) {
  for (int r = 0; r < g->m; r++)
    for (int64_t at = 0; at < g->out_bytes; at += 64)
      _mm_prefetch(g->out + r * g->out_ld + at, _MM_HINT_T0);
}

static void fence(void) {
  _mm_sfence();
}

VEC_INLINE void finish_set(tl_dtype dt, void *p, int64_t i, int m, vf v) {
#ifdef FINISH_ROUND
  if (dt == TL_BF16) {
    FINISH_ROUND((tl_bf16 *)p + i, m, v);
    return;
  }
#endif
  vf_set(dt, p, i, m, v);
}

/* From the sums to the value before the activation; without an activation to C at once. */
VEC_INLINE void finish_sums(tl_dtype dt, const tl_gemm_args *g, float *tile, int64_t i0, int64_t j0,
                            int m, int n) {
  float alpha = g->alpha == 0 ? 1 : g->alpha;
  for (int r = 0; r < m; r++) {
    float *t = tile + r * NR;
    int64_t at = (i0 + r) * g->ldc + j0, res = (i0 + r) * g->ldr + j0;
    VEC_EACH(n, j, l, {
      vf v = vf_load(t + j, l) * alpha;
      if (g->add) v += vf_get(dt, g->c, at + j, l);
      if (g->bias) v += vf_load(g->bias + j0 + j, l);
      if (g->pre_act) {
        finish_set(dt, g->pre_act, at + j, l, v);
        v = vf_get(dt, g->pre_act, at + j, l);
      }
      if (g->act != TL_ACT_NONE) {
        vf_store(t + j, l, v);
      } else {
        if (g->residual) v += vf_get(dt, g->residual, res + j, l);
        finish_set(dt, g->c, at + j, l, v);
      }
    });
  }
}

/* From the values of the activation to C. */
VEC_INLINE void finish_acts(tl_dtype dt, const tl_gemm_args *g, const float *tile, int64_t i0,
                            int64_t j0, int m, int n) {
  for (int r = 0; r < m; r++) {
    const float *t = tile + r * NR;
    int64_t at = (i0 + r) * g->ldc + j0, res = (i0 + r) * g->ldr + j0;
    VEC_EACH(n, j, l, {
      vf v = vf_load(t + j, l);
      if (g->residual) v += vf_get(dt, g->residual, res + j, l);
      finish_set(dt, g->c, at + j, l, v);
    });
  }
}

VEC_INLINE void finish_by_dtype(tl_dtype dt, const tl_gemm_args *g, const tl_row_kernels *row,
                                float *tile, int64_t i0, int64_t j0, int m, int n) {
  finish_sums(dt, g, tile, i0, j0, m, n);
  if (g->act == TL_ACT_NONE) return;
  row->act(TL_F32, g->act, (int64_t)m * NR, tile, tile);
  finish_acts(dt, g, tile, i0, j0, m, n);
}

static void finish(const tl_gemm_args *g, const tl_row_kernels *row, float *tile, int64_t i0,
                   int64_t j0, int m, int n) {
  if (n == NR)
    VEC_BY_DTYPE(g->c_dt, finish_by_dtype, g, row, tile, i0, j0, m, NR);
  else
    VEC_BY_DTYPE(g->c_dt, finish_by_dtype, g, row, tile, i0, j0, m, n);
}
