/* Activations and gated linear units over vec.h. Each loop is compiled once per activation: with a
 * call per vector its constants were loaded anew for each, at three times the cost.
 */
#include "kernels/vec_math.h"

/* Each sets *y = f(x) and *slope = f'(x). */
VEC_INLINE void both_none(vf x, vf *y, vf *slope) {
  *y = x;
  *slope = vf_all(1.0f);
}

VEC_INLINE void both_gelu(vf x, vf *y, vf *slope) {
  vf density, cdf = vf_normal_cdf(x, &density);
  *y = x * cdf;
  *slope = cdf + x * density;
}

/* With 1 + tanh(u) = 2 sigmoid(2u); c is sqrt(2/pi). */
VEC_INLINE void both_gelu_tanh(vf x, vf *y, vf *slope) {
  const float c2 = 1.59576912160573071f, cubic = 0.044715f;
  vf s = vf_sigmoid(c2 * (x + cubic * x * x * x));
  *y = x * s;
  *slope = s + x * s * (1.0f - s) * (c2 * (1.0f + 3.0f * cubic * x * x));
}

VEC_INLINE void both_relu(vf x, vf *y, vf *slope) {
  *y = vf_max(vf_all(0.0f), x);
  *slope = vf_where_lt(vf_all(0.0f), x, vf_all(1.0f), vf_all(0.0f));
}

VEC_INLINE void both_relu2(vf x, vf *y, vf *slope) {
  vf r = vf_max(vf_all(0.0f), x);
  *y = r * r;
  *slope = 2.0f * r;
}

VEC_INLINE void both_silu(vf x, vf *y, vf *slope) {
  vf s = vf_sigmoid(x);
  *y = x * s;
  *slope = s * (1.0f + x * (1.0f - s));
}

VEC_INLINE void both_tanh(vf x, vf *y, vf *slope) {
  vf t = vf_tanh(x);
  *y = t;
  *slope = 1.0f - t * t;
}

VEC_INLINE void both_sigmoid(vf x, vf *y, vf *slope) {
  vf s = vf_sigmoid(x);
  *y = s;
  *slope = s * (1.0f - s);
}

/* X(enum suffix, function suffix), in the order of tl_act. */
#define ACT_MAP(X)                                                                                 \
  X(NONE, none)                                                                                    \
  X(GELU, gelu)                                                                                    \
  X(GELU_TANH, gelu_tanh)                                                                          \
  X(RELU, relu) X(RELU2, relu2) X(SILU, silu) X(TANH, tanh) X(SIGMOID, sigmoid)

/* The loops over one activation, whose function `both` is a constant. */
#define ACT_BOTH void (*both)(vf, vf *, vf *)

VEC_INLINE void act_body(tl_dtype dt, ACT_BOTH, int64_t n, const void *x, void *y) {
  VEC_EACH(n, i, m, {
    vf v, slope;
    both(vf_get(dt, x, i, m), &v, &slope);
    vf_set(dt, y, i, m, v);
  });
}

VEC_INLINE void act_bwd_body(tl_dtype dt, ACT_BOTH, int64_t n, const void *x, const void *dy,
                             void *dx, bool add) {
  VEC_EACH(n, i, m, {
    vf v, slope;
    both(vf_get(dt, x, i, m), &v, &slope);
    vf_put(dt, dx, i, m, vf_get(dt, dy, i, m) * slope, add);
  });
}

VEC_INLINE void glu_body(tl_dtype dt, ACT_BOTH, int64_t rows, int64_t d, const void *x, void *y) {
  for (int64_t r = 0; r < rows; r++) {
    const void *a = vec_at(dt, x, r * 2 * d), *b = vec_at(dt, a, d);
    void *yr = vec_at_mut(dt, y, r * d);
    VEC_EACH(d, i, m, {
      vf v, slope;
      both(vf_get(dt, a, i, m), &v, &slope);
      vf_set(dt, yr, i, m, v * vf_get(dt, b, i, m));
    });
  }
}

VEC_INLINE void glu_bwd_body(tl_dtype dt, ACT_BOTH, int64_t rows, int64_t d, const void *x,
                             const void *dy, void *dx, bool add) {
  for (int64_t r = 0; r < rows; r++) {
    const void *a = vec_at(dt, x, r * 2 * d), *b = vec_at(dt, a, d), *g = vec_at(dt, dy, r * d);
    void *da = vec_at_mut(dt, dx, r * 2 * d), *db = vec_at_mut(dt, da, d);
    VEC_EACH(d, i, m, {
      vf v, slope;
      both(vf_get(dt, a, i, m), &v, &slope);
      vf gi = vf_get(dt, g, i, m);
      vf_put(dt, da, i, m, gi * vf_get(dt, b, i, m) * slope, add);
      vf_put(dt, db, i, m, gi * v, add);
    });
  }
}

#define ACT_LOOPS(upper, lower)                                                                    \
  static void act_##lower(tl_dtype dt, int64_t n, const void *x, void *y) {                        \
    VEC_BY_DTYPE(dt, act_body, both_##lower, n, x, y);                                             \
  }                                                                                                \
  static void act_bwd_##lower(tl_dtype dt, int64_t n, const void *x, const void *dy, void *dx,     \
                              bool add) {                                                          \
    VEC_BY_DTYPE(dt, act_bwd_body, both_##lower, n, x, dy, dx, add);                               \
  }                                                                                                \
  static void glu_##lower(tl_dtype dt, int64_t rows, int64_t d, const void *x, void *y) {          \
    VEC_BY_DTYPE(dt, glu_body, both_##lower, rows, d, x, y);                                       \
  }                                                                                                \
  static void glu_bwd_##lower(tl_dtype dt, int64_t rows, int64_t d, const void *x, const void *dy, \
                              void *dx, bool add) {                                                \
    VEC_BY_DTYPE(dt, glu_bwd_body, both_##lower, rows, d, x, dy, dx, add);                         \
  }
ACT_MAP(ACT_LOOPS)

static const struct {
  void (*act)(tl_dtype dt, int64_t n, const void *x, void *y);
  void (*act_bwd)(tl_dtype dt, int64_t n, const void *x, const void *dy, void *dx, bool add);
  void (*glu)(tl_dtype dt, int64_t rows, int64_t d, const void *x, void *y);
  void (*glu_bwd)(tl_dtype dt, int64_t rows, int64_t d, const void *x, const void *dy, void *dx,
                  bool add);
} act_loops[TL_N_ACTS] = {
#define ACT_ROW(upper, lower)                                                                      \
  [TL_ACT_##upper] = {act_##lower, act_bwd_##lower, glu_##lower, glu_bwd_##lower},
    ACT_MAP(ACT_ROW)};

static void act_fast(tl_dtype dt, tl_act f, int64_t n, const void *x, void *y) {
  act_loops[f].act(dt, n, x, y);
}

static void act_bwd_fast(tl_dtype dt, tl_act f, int64_t n, const void *x, const void *dy, void *dx,
                         bool add) {
  act_loops[f].act_bwd(dt, n, x, dy, dx, add);
}

static void glu_fast(tl_dtype dt, tl_act f, int64_t rows, int64_t d, const void *x, void *y) {
  act_loops[f].glu(dt, rows, d, x, y);
}

static void glu_bwd_fast(tl_dtype dt, tl_act f, int64_t rows, int64_t d, const void *x,
                         const void *dy, void *dx, bool add) {
  act_loops[f].glu_bwd(dt, rows, d, x, dy, dx, add);
}

static void init_act(tl_row_kernels *k) {
  k->act = act_fast;
  k->act_bwd = act_bwd_fast;
  k->glu = glu_fast;
  k->glu_bwd = glu_bwd_fast;
}
