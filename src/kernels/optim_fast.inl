/* Optimizer updates over vec.h. */
#include <math.h>
#include "kernels/normal.h"
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

typedef int32_t vi __attribute__((vector_size(sizeof(vf))));

VEC_INLINE vf vi_to_float(vu x) {
  return __builtin_convertvector((vi)x, vf);
}

VEC_INLINE vf horner(const float *c, int degree, vf x) {
  vf p = vf_all(c[degree]);
  _Pragma("GCC unroll 16") for (int i = degree - 1; i >= 0; i--) p = vf_fma(p, x, vf_all(c[i]));
  return p;
}

VEC_INLINE void normal_pair(vu a, vu b, float std, float *cosine, float *sine) {
  static const float log_c[] = TL_NORMAL_LOG, sin_c[] = TL_NORMAL_SIN, cos_c[] = TL_NORMAL_COS;
  vf u = (vi_to_float(a >> 1) + 1.0f) * 0x1p-31f;
  vu bits = (vu)u + TL_NORMAL_SHIFT;
  vf e = vi_to_float(bits >> 23) - 127.0f;
  vf f = (vf)((bits & 0x7fffff) + TL_NORMAL_HALF) - 1.0f;
  vf r = std * vf_sqrt(vf_fma(e, vf_all(TL_NORMAL_2LOG2), f * horner(log_c, 9, f)));
  vu quarter = (b + 0x20000000u) >> 30;
  vf t = vi_to_float(b - (quarter << 30)) * TL_NORMAL_TURN, z = t * t;
  vu s = (vu)vf_fma(t * z, horner(sin_c, 2, z), t),
     c = (vu)vf_fma(z, horner(cos_c, 3, z), vf_all(1));
  vu odd = -(quarter & 1), swap = (s ^ c) & odd;
  vf_store(cosine, VL, r * (vf)(c ^ swap ^ (((quarter + 1) & 2) << 30)));
  vf_store(sine, VL, r * (vf)(s ^ swap ^ ((quarter & 2) << 30)));
}

static void normal_fast(uint64_t seed, uint32_t stream, uint32_t sub, int64_t first, int64_t n,
                        float std, float *x) {
  for (int64_t i = 0; i < n; i += TL_NORMAL_GROUP) {
    float last[TL_NORMAL_GROUP], *group = n - i < TL_NORMAL_GROUP ? last : x + i;
    for (int j = 0; j < 16; j += VL) {
      vu w[4];
      vu_philox_blocks(seed, stream, sub, (uint64_t)((first + i) / 4 + j), w);
      normal_pair(w[0], w[1], std, group + j, group + 16 + j);
      normal_pair(w[2], w[3], std, group + 32 + j, group + 48 + j);
    }
    if (group == last) memcpy(x + i, last, (size_t)(n - i) * sizeof *x);
  }
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
  k->normal = normal_fast;
  k->stream = stream_fast;
}
