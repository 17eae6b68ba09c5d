/* References of the optimizer updates. */
#include <math.h>
#include <string.h>
#include "kernels/kernels.h"

static void adamw(const tl_adamw_args *a, int64_t n, const float *g, float *m, float *v, float *p) {
  for (int64_t i = 0; i < n; i++) {
    float gi = g[i] * a->grad_scale;
    m[i] = a->beta1 * m[i] + (1.0f - a->beta1) * gi;
    v[i] = a->beta2 * v[i] + (1.0f - a->beta2) * gi * gi;
    float u = (m[i] / a->bias1) / (sqrtf(v[i] / a->bias2) + a->eps);
    p[i] -= a->lr * (u + a->weight_decay * p[i]);
  }
}

static void sgd(float lr, float mu, bool nesterov, float wd, float grad_scale, int64_t n,
                const float *g, float *m, float *p) {
  for (int64_t i = 0; i < n; i++) {
    float gi = g[i] * grad_scale;
    m[i] = mu * m[i] + gi;
    float u = nesterov ? gi + mu * m[i] : m[i];
    p[i] -= lr * (u + wd * p[i]);
  }
}

static void ema(float decay, int64_t n, const float *p, float *avg) {
  for (int64_t i = 0; i < n; i++) avg[i] += (1.0f - decay) * (p[i] - avg[i]);
}

static void stream(void *dst, const void *src, size_t bytes) {
  memcpy(dst, src, bytes);
}

void tl_optim_init_ref(tl_optim_kernels *k) {
  k->adamw = adamw;
  k->sgd = sgd;
  k->ema = ema;
  k->stream = stream;
}
