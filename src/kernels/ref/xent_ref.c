/* Reference of the cross-entropy. With lse = log Z = log sum exp(l), the target distribution
 * t = (1-s) onehot + s/v and p = exp(l - lse):
 *   loss = lse - sum_j t_j l_j,  zloss = z lse^2,  d(loss + zloss)/dl = p (1 + 2 z lse) - t. */
#include "kernels/ref/ref.h"

static float log_sum_exp(int64_t v, const float *l) {
  float max = -INFINITY;
  double sum = 0;
  for (int64_t j = 0; j < v; j++) max = fmaxf(max, l[j]);
  for (int64_t j = 0; j < v; j++) sum += expf(l[j] - max);
  return max + logf((float)sum);
}

static bool is_argmax(int64_t v, const float *l, int64_t t) {
  for (int64_t j = 0; j < v; j++)
    if (isnan(l[j]) || l[j] > l[t] || (j < t && l[j] == l[t])) return false;
  return true;
}

static float row_loss(int64_t v, const float *l, int64_t t, float smoothing, float lse) {
  double sum = 0;
  if (smoothing == 0) return lse - l[t];
  for (int64_t j = 0; j < v; j++) sum += l[j];
  return lse - (1.0f - smoothing) * l[t] - smoothing / (float)v * (float)sum;
}

static void xent(tl_dtype dt, int64_t rows, int64_t v, const float *logits, int64_t ld,
                 const int32_t *target, float smoothing, float z_coef, float grad_scale,
                 void *dlogits, int64_t ldd, float *loss, float *zloss, int32_t *correct) {
  for (int64_t r = 0; r < rows; r++) {
    const float *l = logits + r * ld;
    int64_t t = target[r];
    float lse = t < 0 ? 0 : log_sum_exp(v, l);
    loss[r] = t < 0 ? 0 : row_loss(v, l, t, smoothing, lse);
    if (zloss) zloss[r] = z_coef * lse * lse;
    if (correct) correct[r] = t >= 0 && is_argmax(v, l, t);
    for (int64_t j = 0; grad_scale != 0 && j < v; j++) {
      float tj = smoothing / (float)v + (j == t ? 1.0f - smoothing : 0.0f);
      float g = t < 0 ? 0 : expf(l[j] - lse) * (1.0f + 2.0f * z_coef * lse) - tj;
      ref_set(dt, dlogits, r * ldd + j, grad_scale * g);
    }
  }
}

void tl_ref_init_xent(tl_row_kernels *k) {
  k->xent = xent;
}
