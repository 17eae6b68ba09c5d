/* References of the optimizer updates. */
#include <math.h>
#include <string.h>
#include "base/rng.h"
#include "kernels/kernels.h"
#include "kernels/normal.h"

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

static float horner(const float *c, int degree, float x) {
  float p = c[degree];
  for (int i = degree - 1; i >= 0; i--) p = fmaf(p, x, c[i]);
  return p;
}

static void normal_pair(uint32_t a, uint32_t b, float std, float *cosine, float *sine) {
  static const float log_c[] = TL_NORMAL_LOG, sin_c[] = TL_NORMAL_SIN, cos_c[] = TL_NORMAL_COS;
  float u = ((float)(int32_t)(a >> 1) + 1) * 0x1p-31f, m;
  uint32_t bits;
  memcpy(&bits, &u, sizeof bits);
  bits += TL_NORMAL_SHIFT;
  float e = (float)(int32_t)(bits >> 23) - 127;
  bits = (bits & 0x7fffff) + TL_NORMAL_HALF;
  memcpy(&m, &bits, sizeof m);
  float f = m - 1, r = std * sqrtf(fmaf(e, TL_NORMAL_2LOG2, f * horner(log_c, 9, f)));
  uint32_t quarter = (b + 0x20000000u) >> 30;
  float t = (float)(int32_t)(b - (quarter << 30)) * TL_NORMAL_TURN, z = t * t;
  float s = fmaf(t * z, horner(sin_c, 2, z), t), c = fmaf(z, horner(cos_c, 3, z), 1);
  float x = quarter & 1 ? s : c, y = quarter & 1 ? c : s;
  *cosine = r * ((quarter + 1) & 2 ? -x : x);
  *sine = r * (quarter & 2 ? -y : y);
}

static void normal(uint64_t seed, uint32_t stream_id, uint32_t sub, int64_t first, int64_t n,
                   float std, float *x) {
  for (int64_t i = 0; i < n; i += TL_NORMAL_GROUP) {
    float group[TL_NORMAL_GROUP];
    int64_t count = n - i < TL_NORMAL_GROUP ? n - i : TL_NORMAL_GROUP;
    for (int j = 0; j < 16; j++) {
      tl_philox w = tl_philox4x32(seed, stream_id, sub, (uint64_t)((first + i) / 4 + j));
      normal_pair(w.v[0], w.v[1], std, &group[j], &group[16 + j]);
      normal_pair(w.v[2], w.v[3], std, &group[32 + j], &group[48 + j]);
    }
    memcpy(x + i, group, (size_t)count * sizeof *x);
  }
}

static void stream(void *dst, const void *src, size_t bytes) {
  memcpy(dst, src, bytes);
}

void tl_optim_init_ref(tl_optim_kernels *k) {
  k->adamw = adamw;
  k->sgd = sgd;
  k->ema = ema;
  k->normal = normal;
  k->stream = stream;
}
