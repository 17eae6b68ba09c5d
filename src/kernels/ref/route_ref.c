/* References of routing by agreement. Sums over columns and over the capsules below are taken in
 * f64. */
#include <math.h>

#include "kernels/kernels.h"

static double dot(const float *a, const float *b, int64_t n) {
  double sum = 0;
  for (int64_t k = 0; k < n; k++) sum += (double)a[k] * (double)b[k];
  return sum;
}

static void softmax(const float *b, float *c, int64_t n) {
  float max = b[0];
  double sum = 0;
  for (int64_t j = 1; j < n; j++) max = fmaxf(max, b[j]);
  for (int64_t j = 0; j < n; j++) sum += (double)expf(b[j] - max);
  for (int64_t j = 0; j < n; j++) c[j] = (float)((double)expf(b[j] - max) / sum);
}

/* out [n_out][d] = sum over i of weight[i][j] u_ij */
static void weighted_sum(const tl_route *r, const float *weight, float *out) {
  int64_t row = r->n_out * r->d;
  for (int64_t j = 0; j < r->n_out; j++)
    for (int64_t k = 0; k < r->d; k++) {
      double sum = 0;
      for (int64_t i = 0; i < r->n_in; i++)
        sum += (double)weight[i * r->n_out + j] * (double)r->u[i * row + j * r->d + k];
      out[j * r->d + k] = (float)sum;
    }
}

static void vote(const tl_route *r, const float *v, float *b, float *c, float *s) {
  for (int64_t i = 0; i < r->n_in; i++) {
    float *bi = b + i * r->n_out;
    for (int64_t j = 0; v && j < r->n_out; j++)
      bi[j] += (float)dot(r->u + (i * r->n_out + j) * r->d, v + j * r->d, r->d);
    softmax(bi, c + i * r->n_out, r->n_out);
  }
  weighted_sum(r, c, s);
}

static void vote_bwd(const tl_route *r, const float *c, const float *ds, const float *later,
                     float *db, float *dv) {
  for (int64_t i = 0; i < r->n_in; i++) {
    const float *ci = c + i * r->n_out;
    float *dbi = db + i * r->n_out;
    for (int64_t j = 0; j < r->n_out; j++)
      dbi[j] = (float)dot(r->u + (i * r->n_out + j) * r->d, ds + j * r->d, r->d);
    double mean = dot(ci, dbi, r->n_out);
    for (int64_t j = 0; j < r->n_out; j++)
      dbi[j] =
          (float)((double)ci[j] * ((double)dbi[j] - mean)) + (later ? later[i * r->n_out + j] : 0);
  }
  weighted_sum(r, db, dv);
}

static void mix(const tl_route *r, int n, const float *weight, const float *vector) {
  int64_t pairs = r->n_in * r->n_out, row = r->n_out * r->d;
  for (int64_t p = 0; p < pairs; p++)
    for (int64_t k = 0; k < r->d; k++) {
      double sum = 0;
      for (int t = 0; t < n; t++)
        sum += (double)weight[t * pairs + p] * (double)vector[t * row + p % r->n_out * r->d + k];
      r->u[p * r->d + k] = (float)sum;
    }
}

void tl_route_init_ref(tl_route_kernels *k) {
  *k = (tl_route_kernels){.vote = vote, .vote_bwd = vote_bwd, .mix = mix};
}
