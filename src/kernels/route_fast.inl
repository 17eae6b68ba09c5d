/* Routing by agreement over vec.h: one walk over the capsules below for each step, each prediction
 * read once. Sums over the capsules are taken in their order. */
#include "kernels/vec_math.h"

VEC_INLINE float route_dot(const float *a, const float *b, int64_t n) {
  vf sum = vf_all(0);
  VEC_EACH(n, i, m, { sum = vf_fma(vf_load(a + i, m), vf_load(b + i, m), sum); });
  return vf_sum(sum);
}

VEC_INLINE void route_add(float weight, const float *u, float *sum, int64_t d) {
  VEC_EACH(d, k, m, {
    vf_store(sum + k, m, vf_fma(vf_all(weight), vf_load(u + k, m), vf_load(sum + k, m)));
  });
}

static void vote_fast(const tl_route *r, const float *v, float *b, float *c, float *s) {
  int64_t n_out = r->n_out, d = r->d;
  memset(s, 0, (size_t)(n_out * d) * sizeof *s);
  for (int64_t i = 0; i < r->n_in; i++, b += n_out, c += n_out) {
    const float *u = r->u + i * n_out * d;
    for (int64_t j = 0; v && j < n_out; j++) b[j] += route_dot(u + j * d, v + j * d, d);
    softmax_fast(TL_F32, 1, n_out, b, c);
    for (int64_t j = 0; j < n_out; j++) route_add(c[j], u + j * d, s + j * d, d);
  }
}

static void vote_bwd_fast(const tl_route *r, const float *c, const float *ds, const float *later,
                          float *db, float *dv) {
  int64_t n_out = r->n_out, d = r->d;
  memset(dv, 0, (size_t)(n_out * d) * sizeof *dv);
  for (int64_t i = 0; i < r->n_in; i++, c += n_out, db += n_out) {
    const float *u = r->u + i * n_out * d;
    for (int64_t j = 0; j < n_out; j++) db[j] = route_dot(u + j * d, ds + j * d, d);
    float mean = route_dot(c, db, n_out);
    for (int64_t j = 0; j < n_out; j++) {
      db[j] = c[j] * (db[j] - mean) + (later ? later[i * n_out + j] : 0);
      route_add(db[j], u + j * d, dv + j * d, d);
    }
  }
}

static void mix_fast(const tl_route *r, int n, const float *weight, const float *vector) {
  int64_t pairs = r->n_in * r->n_out, row = r->n_out * r->d, j = 0;
  for (int64_t p = 0; p < pairs; p++, j = j + 1 < r->n_out ? j + 1 : 0)
    VEC_EACH(r->d, k, m, {
      vf sum = vf_all(0);
      for (int t = 0; t < n; t++)
        sum =
            vf_fma(vf_all(weight[t * pairs + p]), vf_load(vector + t * row + j * r->d + k, m), sum);
      vf_store(r->u + p * r->d + k, m, sum);
    });
}

static void init_route(tl_route_kernels *k) {
  *k = (tl_route_kernels){.vote = vote_fast, .vote_bwd = vote_bwd_fast, .mix = mix_fast};
}
