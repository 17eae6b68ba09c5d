/* References of the activations and gated linear units. */
#include "kernels/ref/ref.h"

static const float sqrt_half = 0.70710678118654752f;
static const float inv_sqrt_2pi = 0.39894228040143268f;
static const float sqrt_2_over_pi = 0.79788456080286536f;
static const float gelu_cubic = 0.044715f;

static float sigmoid(float x) {
  return 1.0f / (1.0f + expf(-x));
}

/* Phi(x), the normal distribution function; by erfc, so that the lower tail keeps its digits. */
static float normal_cdf(float x) {
  return 0.5f * erfcf(-x * sqrt_half);
}

float tl_ref_act(tl_act f, float x) {
  float r = x < 0 ? 0 : x; /* NaN stays NaN */
  switch (f) {
  case TL_ACT_GELU:
    return x * normal_cdf(x);
  case TL_ACT_GELU_TANH:
    return 0.5f * x * (1.0f + tanhf(sqrt_2_over_pi * (x + gelu_cubic * x * x * x)));
  case TL_ACT_RELU:
    return r;
  case TL_ACT_RELU2:
    return r * r;
  case TL_ACT_SILU:
    return x * sigmoid(x);
  case TL_ACT_TANH:
    return tanhf(x);
  case TL_ACT_SIGMOID:
    return sigmoid(x);
  default:
    return x;
  }
}

static float gelu_tanh_slope(float x) {
  float t = tanhf(sqrt_2_over_pi * (x + gelu_cubic * x * x * x));
  float du = sqrt_2_over_pi * (1.0f + 3.0f * gelu_cubic * x * x);
  return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * du;
}

float tl_ref_act_slope(tl_act f, float x) {
  float s = sigmoid(x), t = tanhf(x);
  switch (f) {
  case TL_ACT_GELU:
    return normal_cdf(x) + x * inv_sqrt_2pi * expf(-0.5f * x * x);
  case TL_ACT_GELU_TANH:
    return gelu_tanh_slope(x);
  case TL_ACT_RELU:
    return x > 0 ? 1.0f : 0.0f;
  case TL_ACT_RELU2:
    return x < 0 ? 0.0f : 2.0f * x;
  case TL_ACT_SILU:
    return s * (1.0f + x * (1.0f - s));
  case TL_ACT_TANH:
    return 1.0f - t * t;
  case TL_ACT_SIGMOID:
    return s * (1.0f - s);
  default:
    return 1.0f;
  }
}

static void act(tl_dtype dt, tl_act f, int64_t n, const void *x, void *y) {
  for (int64_t i = 0; i < n; i++) ref_set(dt, y, i, tl_ref_act(f, ref_get(dt, x, i)));
}

static void act_bwd(tl_dtype dt, tl_act f, int64_t n, const void *x, const void *dy, void *dx,
                    bool add) {
  for (int64_t i = 0; i < n; i++) {
    float slope = tl_ref_act_slope(f, ref_get(dt, x, i));
    ref_put(dt, dx, i, ref_get(dt, dy, i) * slope, add);
  }
}

static void glu(tl_dtype dt, tl_act f, int64_t rows, int64_t d, const void *x, void *y) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < d; j++) {
      float a = ref_get(dt, x, r * 2 * d + j), b = ref_get(dt, x, r * 2 * d + d + j);
      ref_set(dt, y, r * d + j, tl_ref_act(f, a) * b);
    }
}

static void glu_bwd(tl_dtype dt, tl_act f, int64_t rows, int64_t d, const void *x, const void *dy,
                    void *dx, bool add) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < d; j++) {
      int64_t ia = r * 2 * d + j, ib = ia + d;
      float a = ref_get(dt, x, ia), b = ref_get(dt, x, ib), g = ref_get(dt, dy, r * d + j);
      ref_put(dt, dx, ia, g * b * tl_ref_act_slope(f, a), add);
      ref_put(dt, dx, ib, g * tl_ref_act(f, a), add);
    }
}

void tl_ref_init_act(tl_row_kernels *k) {
  k->act = act;
  k->act_bwd = act_bwd;
  k->glu = glu;
  k->glu_bwd = glu_bwd;
}
