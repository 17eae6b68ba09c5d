/* Activations and gated linear units over vec.h. An activation is a function of registers, called
 * through a table: a call per vector costs little beside the arithmetic and keeps the code small.
 */
#include "kernels/vec_math.h"

/* Sets *y = f(x) and *slope = f'(x). */
typedef void (*act_both_fn)(vf x, vf *y, vf *slope);
typedef vf (*act_fn)(vf x);

static void both_none(vf x, vf *y, vf *slope) {
  *y = x;
  *slope = vf_all(1.0f);
}

static void both_gelu(vf x, vf *y, vf *slope) {
  vf density, cdf = vf_normal_cdf(x, &density);
  *y = x * cdf;
  *slope = cdf + x * density;
}

/* With 1 + tanh(u) = 2 sigmoid(2u); c is sqrt(2/pi). */
static void both_gelu_tanh(vf x, vf *y, vf *slope) {
  const float c2 = 1.59576912160573071f, cubic = 0.044715f;
  vf s = vf_sigmoid(c2 * (x + cubic * x * x * x));
  *y = x * s;
  *slope = s + x * s * (1.0f - s) * (c2 * (1.0f + 3.0f * cubic * x * x));
}

static void both_relu(vf x, vf *y, vf *slope) {
  *y = vf_max(vf_all(0.0f), x);
  *slope = vf_where_lt(vf_all(0.0f), x, vf_all(1.0f), vf_all(0.0f));
}

static void both_relu2(vf x, vf *y, vf *slope) {
  vf r = vf_max(vf_all(0.0f), x);
  *y = r * r;
  *slope = 2.0f * r;
}

static void both_silu(vf x, vf *y, vf *slope) {
  vf s = vf_sigmoid(x);
  *y = x * s;
  *slope = s * (1.0f + x * (1.0f - s));
}

static void both_tanh(vf x, vf *y, vf *slope) {
  vf t = vf_tanh(x);
  *y = t;
  *slope = 1.0f - t * t;
}

static void both_sigmoid(vf x, vf *y, vf *slope) {
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

#define ACT_VALUE(upper, lower)                                                                    \
  static vf value_##lower(vf x) {                                                                  \
    vf y, slope;                                                                                   \
    both_##lower(x, &y, &slope);                                                                   \
    return y;                                                                                      \
  }
ACT_MAP(ACT_VALUE)

#define ACT_VALUE_ROW(upper, lower) [TL_ACT_##upper] = value_##lower,
#define ACT_BOTH_ROW(upper, lower) [TL_ACT_##upper] = both_##lower,
static const act_fn act_value[TL_N_ACTS] = {ACT_MAP(ACT_VALUE_ROW)};
static const act_both_fn act_both[TL_N_ACTS] = {ACT_MAP(ACT_BOTH_ROW)};

VEC_INLINE void act_body(tl_dtype dt, act_fn f, int64_t n, const void *x, void *y) {
  VEC_EACH(n, i, m, { vf_set(dt, y, i, m, f(vf_get(dt, x, i, m))); });
}

static void act_fast(tl_dtype dt, tl_act f, int64_t n, const void *x, void *y) {
  VEC_BY_DTYPE(dt, act_body, act_value[f], n, x, y);
}

VEC_INLINE void act_bwd_body(tl_dtype dt, act_both_fn f, int64_t n, const void *x, const void *dy,
                             void *dx, bool add) {
  VEC_EACH(n, i, m, {
    vf y, slope;
    f(vf_get(dt, x, i, m), &y, &slope);
    vf_put(dt, dx, i, m, vf_get(dt, dy, i, m) * slope, add);
  });
}

static void act_bwd_fast(tl_dtype dt, tl_act f, int64_t n, const void *x, const void *dy, void *dx,
                         bool add) {
  VEC_BY_DTYPE(dt, act_bwd_body, act_both[f], n, x, dy, dx, add);
}

VEC_INLINE void glu_body(tl_dtype dt, act_fn f, int64_t rows, int64_t d, const void *x, void *y) {
  for (int64_t r = 0; r < rows; r++) {
    const void *a = vec_at(dt, x, r * 2 * d), *b = vec_at(dt, a, d);
    void *yr = vec_at_mut(dt, y, r * d);
    VEC_EACH(d, i, m, { vf_set(dt, yr, i, m, f(vf_get(dt, a, i, m)) * vf_get(dt, b, i, m)); });
  }
}

static void glu_fast(tl_dtype dt, tl_act f, int64_t rows, int64_t d, const void *x, void *y) {
  VEC_BY_DTYPE(dt, glu_body, act_value[f], rows, d, x, y);
}

VEC_INLINE void glu_bwd_body(tl_dtype dt, act_both_fn f, int64_t rows, int64_t d, const void *x,
                             const void *dy, void *dx, bool add) {
  for (int64_t r = 0; r < rows; r++) {
    const void *a = vec_at(dt, x, r * 2 * d), *b = vec_at(dt, a, d), *g = vec_at(dt, dy, r * d);
    void *da = vec_at_mut(dt, dx, r * 2 * d), *db = vec_at_mut(dt, da, d);
    VEC_EACH(d, i, m, {
      vf y, slope;
      f(vf_get(dt, a, i, m), &y, &slope);
      vf gi = vf_get(dt, g, i, m);
      vf_put(dt, da, i, m, gi * vf_get(dt, b, i, m) * slope, add);
      vf_put(dt, db, i, m, gi * y, add);
    });
  }
}

static void glu_bwd_fast(tl_dtype dt, tl_act f, int64_t rows, int64_t d, const void *x,
                         const void *dy, void *dx, bool add) {
  VEC_BY_DTYPE(dt, glu_bwd_body, act_both[f], rows, d, x, dy, dx, add);
}

static void init_act(tl_row_kernels *k) {
  k->act = act_fast;
  k->act_bwd = act_bwd_fast;
  k->glu = glu_fast;
  k->glu_bwd = glu_bwd_fast;
}
