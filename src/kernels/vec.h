/* A thin layer of lane operations, so that row kernels are written once and compiled per
 * instruction set. vf is VL floats; + - * / and comparisons of vu are the compiler's own vector
 * operators. Operations on `m` lanes touch exactly m elements of memory (0 < m <= VL) and leave 0
 * in the other lanes; m is a constant VL in the body of a loop, so that costs nothing there.
 *
 * Included by the files of avx2/ and avx512/ only. */
#ifndef TL_KERNELS_VEC_H
#define TL_KERNELS_VEC_H

#include <immintrin.h>
#include <string.h>
#include "kernels/kernels.h"

#define VEC_INLINE static inline __attribute__((always_inline))

/* Runs a block for i = 0, VL, ... < n with m lanes to do: VL, and what is left at the end. */
#define VEC_EACH(n, i, m, ...)                                                                     \
  do {                                                                                             \
    int64_t i = 0;                                                                                 \
    for (; i + VL <= (n); i += VL) {                                                               \
      enum { m = VL };                                                                             \
      __VA_ARGS__                                                                                  \
    }                                                                                              \
    if (i < (n)) {                                                                                 \
      const int m = (int)((n)-i);                                                                  \
      __VA_ARGS__                                                                                  \
    }                                                                                              \
  } while (0)

/* The same with u = 0, 1, 2, 3 in turn, to keep four sums independent of each other; which u a
 * position gets depends on n alone. */
#define VEC_EACH4(n, i, m, u, ...)                                                                 \
  do {                                                                                             \
    int64_t i = 0;                                                                                 \
    while (i + 4 * VL <= (n)) {                                                                    \
      VEC_STEP(i, m, u, 0, __VA_ARGS__)                                                            \
      VEC_STEP(i, m, u, 1, __VA_ARGS__)                                                            \
      VEC_STEP(i, m, u, 2, __VA_ARGS__)                                                            \
      VEC_STEP(i, m, u, 3, __VA_ARGS__)                                                            \
    }                                                                                              \
    while (i + VL <= (n)) VEC_STEP(i, m, u, 0, __VA_ARGS__)                                        \
    if (i < (n)) {                                                                                 \
      enum { u = 1 };                                                                              \
      const int m = (int)((n)-i);                                                                  \
      __VA_ARGS__                                                                                  \
    }                                                                                              \
  } while (0)
#define VEC_STEP(i, m, u, index, ...)                                                              \
  {                                                                                                \
    enum { m = VL, u = index };                                                                    \
    __VA_ARGS__                                                                                    \
    i += VL;                                                                                       \
  }

/* Calls an always-inlined body with the type of elements as a constant. */
#define VEC_BY_DTYPE(dt, body, ...)                                                                \
  ((dt) == TL_BF16 ? body(TL_BF16, __VA_ARGS__) : body(TL_F32, __VA_ARGS__))

#ifdef __AVX512F__
#include "kernels/vec512.h"
#else
#include "kernels/vec256.h"
#endif

/* Lanes < m of v, the others of `other`. */
VEC_INLINE vf vf_keep(vf v, int m, vf other) {
  return m == VL ? v : vf_first(v, m, other);
}

VEC_INLINE vf vf_get(tl_dtype dt, const void *p, int64_t i, int m) {
  return dt == TL_BF16 ? vf_load_bf16((const tl_bf16 *)p + i, m) : vf_load((const float *)p + i, m);
}

VEC_INLINE void vf_set(tl_dtype dt, void *p, int64_t i, int m, vf v) {
  if (dt == TL_BF16)
    vf_store_bf16((tl_bf16 *)p + i, m, v);
  else
    vf_store((float *)p + i, m, v);
}

/* Sets m elements from element i to v or, with add, adds v to them. The empty statement keeps that
 * sum from being fused with a product that made v: whether it would be is up to the optimizer. */
VEC_INLINE void vf_put(tl_dtype dt, void *p, int64_t i, int m, vf v, bool add) {
  __asm__("" : "+v"(v));
  vf_set(dt, p, i, m, add ? vf_get(dt, p, i, m) + v : v);
}

/* Element j of a row that may be absent (NULL stands for `fill` everywhere). */
VEC_INLINE vf vf_param(const float *p, int64_t i, int m, float fill) {
  return p ? vf_load(p + i, m) : vf_all(fill);
}

VEC_INLINE const void *vec_at(tl_dtype dt, const void *p, int64_t i) {
  return dt == TL_BF16 ? (const void *)((const tl_bf16 *)p + i)
                       : (const void *)((const float *)p + i);
}

VEC_INLINE void *vec_at_mut(tl_dtype dt, void *p, int64_t i) {
  return dt == TL_BF16 ? (void *)((tl_bf16 *)p + i) : (void *)((float *)p + i);
}

/* Sums of four registers, then of lanes, in a fixed order. */
VEC_INLINE float vf_sum4(const vf s[4]) {
  return vf_sum((s[0] + s[1]) + (s[2] + s[3]));
}

#endif
