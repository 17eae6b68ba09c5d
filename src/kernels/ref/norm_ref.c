/* References of the normalisations and softmax. Sums over a row are taken in f64, so that what the
 * faster versions are compared with carries no rounding of its own. */
#include "kernels/ref/ref.h"

static void layer_norm(tl_dtype dt, int64_t rows, int64_t d, const void *x, const float *gain,
                       const float *bias, float eps, void *y, float *mean, float *rstd) {
  for (int64_t r = 0; r < rows; r++) {
    double sum = 0, var = 0;
    for (int64_t j = 0; j < d; j++) sum += ref_get(dt, x, r * d + j);
    double mu = sum / (double)d;
    for (int64_t j = 0; j < d; j++) {
      double c = ref_get(dt, x, r * d + j) - mu;
      var += c * c;
    }
    mean[r] = (float)mu;
    rstd[r] = (float)(1.0 / sqrt(var / (double)d + eps));
    for (int64_t j = 0; j < d; j++) {
      float xhat = (ref_get(dt, x, r * d + j) - mean[r]) * rstd[r];
      ref_set(dt, y, r * d + j, xhat * (gain ? gain[j] : 1.0f) + (bias ? bias[j] : 0.0f));
    }
  }
}

/* With xhat = (x - mean) rstd and g = dy gain: dx = rstd (g - mean(g) - xhat mean(g xhat)). */
static void layer_norm_bwd(tl_dtype dt, int64_t rows, int64_t d, const void *x, const float *gain,
                           const float *mean, const float *rstd, const void *dy, void *dx, bool add,
                           float *dgain, float *dbias) {
  for (int64_t r = 0; r < rows; r++) {
    double sum_g = 0, sum_gx = 0;
    for (int64_t j = 0; j < d; j++) {
      float xhat = (ref_get(dt, x, r * d + j) - mean[r]) * rstd[r];
      float dyj = ref_get(dt, dy, r * d + j), g = dyj * (gain ? gain[j] : 1.0f);
      sum_g += g;
      sum_gx += (double)g * xhat;
      if (dgain) dgain[j] += dyj * xhat;
      if (dbias) dbias[j] += dyj;
    }
    float mean_g = (float)(sum_g / (double)d), mean_gx = (float)(sum_gx / (double)d);
    for (int64_t j = 0; dx && j < d; j++) {
      float xhat = (ref_get(dt, x, r * d + j) - mean[r]) * rstd[r];
      float g = ref_get(dt, dy, r * d + j) * (gain ? gain[j] : 1.0f);
      ref_put(dt, dx, r * d + j, rstd[r] * (g - mean_g - xhat * mean_gx), add);
    }
  }
}

static void rms_norm(tl_dtype dt, int64_t rows, int64_t d, const void *x, int64_t ldx,
                     const float *gain, float eps, void *y, int64_t ldy, float *rstd) {
  for (int64_t r = 0; r < rows; r++) {
    double sum = 0;
    for (int64_t j = 0; j < d; j++) {
      double v = ref_get(dt, x, r * ldx + j);
      sum += v * v;
    }
    rstd[r] = (float)(1.0 / sqrt(sum / (double)d + eps));
    for (int64_t j = 0; j < d; j++)
      ref_set(dt, y, r * ldy + j, ref_get(dt, x, r * ldx + j) * rstd[r] * (gain ? gain[j] : 1.0f));
  }
}

/* With xhat = x rstd and g = dy gain: dx = rstd (g - xhat mean(g xhat)). */
static void rms_norm_bwd(tl_dtype dt, int64_t rows, int64_t d, const void *x, int64_t ldx,
                         const float *gain, const float *rstd, const void *dy, int64_t lddy,
                         void *dx, int64_t lddx, bool add, float *dgain) {
  for (int64_t r = 0; r < rows; r++) {
    double sum_gx = 0;
    for (int64_t j = 0; j < d; j++) {
      float xhat = ref_get(dt, x, r * ldx + j) * rstd[r], dyj = ref_get(dt, dy, r * lddy + j);
      sum_gx += (double)(dyj * (gain ? gain[j] : 1.0f)) * xhat;
      if (dgain) dgain[j] += dyj * xhat;
    }
    float mean_gx = (float)(sum_gx / (double)d);
    for (int64_t j = 0; dx && j < d; j++) {
      float xhat = ref_get(dt, x, r * ldx + j) * rstd[r];
      float g = ref_get(dt, dy, r * lddy + j) * (gain ? gain[j] : 1.0f);
      ref_put(dt, dx, r * lddx + j, rstd[r] * (g - xhat * mean_gx), add);
    }
  }
}

static void softmax(tl_dtype dt, int64_t rows, int64_t d, const void *x, void *y) {
  for (int64_t r = 0; r < rows; r++) {
    float max = -INFINITY;
    double sum = 0;
    for (int64_t j = 0; j < d; j++) max = fmaxf(max, ref_get(dt, x, r * d + j));
    for (int64_t j = 0; j < d; j++) sum += expf(ref_get(dt, x, r * d + j) - max);
    float scale = (float)(1.0 / sum);
    for (int64_t j = 0; j < d; j++)
      ref_set(dt, y, r * d + j, expf(ref_get(dt, x, r * d + j) - max) * scale);
  }
}

/* dx = y (dy - sum(y dy)) */
static void softmax_bwd(tl_dtype dt, int64_t rows, int64_t d, const void *y, const void *dy,
                        void *dx, bool add) {
  for (int64_t r = 0; r < rows; r++) {
    double sum = 0;
    for (int64_t j = 0; j < d; j++)
      sum += (double)ref_get(dt, y, r * d + j) * ref_get(dt, dy, r * d + j);
    for (int64_t j = 0; j < d; j++) {
      float g = ref_get(dt, dy, r * d + j) - (float)sum;
      ref_put(dt, dx, r * d + j, ref_get(dt, y, r * d + j) * g, add);
    }
  }
}

void tl_ref_init_norm(tl_row_kernels *k) {
  k->layer_norm = layer_norm;
  k->layer_norm_bwd = layer_norm_bwd;
  k->rms_norm = rms_norm;
  k->rms_norm_bwd = rms_norm_bwd;
  k->softmax = softmax;
  k->softmax_bwd = softmax_bwd;
}
