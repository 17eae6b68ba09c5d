/* Optimizer updates over vec.h. */
#include <math.h>
#include "kernels/vec_math.h"

static void adamw_fast(const tl_adamw_args *a, int64_t n, const float *g, float *m, float *v,
                       float *p) {
  const float scale1 = 1.0f / a->bias1, scale2 = 1.0f / a->bias2;
  const float rest1 = 1.0f - a->beta1, rest2 = 1.0f - a->beta2;
  VEC_EACH(n, i, lanes, {
    vf gi = vf_load(g + i, lanes) * a->grad_scale;
    vf mi = vf_fma(vf_all(a->beta1), vf_load(m + i, lanes), rest1 * gi);
    vf vi = vf_fma(vf_all(a->beta2), vf_load(v + i, lanes), rest2 * gi * gi);
    vf pi = vf_load(p + i, lanes);
    vf u = (mi * scale1) / (vf_sqrt(vi * scale2) + a->eps);
    vf_store(m + i, lanes, mi);
    vf_store(v + i, lanes, vi);
    vf_store(p + i, lanes, pi - a->lr * (u + a->weight_decay * pi));
  });
}

static void sgd_fast(float lr, float mu, bool nesterov, float wd, float grad_scale, int64_t n,
                     const float *g, float *m, float *p) {
  VEC_EACH(n, i, lanes, {
    vf gi = vf_load(g + i, lanes) * grad_scale;
    vf mi = vf_fma(vf_all(mu), vf_load(m + i, lanes), gi);
    vf pi = vf_load(p + i, lanes);
    vf u = nesterov ? vf_fma(vf_all(mu), mi, gi) : mi;
    vf_store(m + i, lanes, mi);
    vf_store(p + i, lanes, pi - lr * (u + wd * pi));
  });
}

static void ema_fast(float decay, int64_t n, const float *p, float *avg) {
  VEC_EACH(n, i, lanes, {
    vf ai = vf_load(avg + i, lanes);
    vf_store(avg + i, lanes, ai + (1.0f - decay) * (vf_load(p + i, lanes) - ai));
  });
}

static void stream_fast(void *dst, const void *src, size_t bytes) {
  for (size_t at = 0; at < bytes; at += VL * sizeof(float))
    vf_stream((float *)((char *)dst + at), vf_load((const float *)((const char *)src + at), VL));
  _mm_sfence(); /* streamed lines are not ordered with the stores that tell of them */
}

static void init_optim(tl_optim_kernels *k) {
  k->adamw = adamw_fast;
  k->sgd = sgd_fast;
  k->ema = ema_fast;
  k->stream = stream_fast;
}
