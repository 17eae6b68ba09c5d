/* Attention, row by row: the oracle of the fast kernels.
 *
 * Forward, per query row:  s_j = scale (q.k_j + rel_j),  P = softmax(s),  o = sum_j m_j P_j v_j
 * with m_j the dropout factor (0 or 1/(1-p)), and lse = log sum_j exp(s_j).
 * Backward, with P recomputed from lse:  dP_j = m_j dO.v_j,  delta = dO.o = sum_j P_j dP_j,
 * dS_j = P_j (dP_j - delta),  dq = scale sum_j dS_j k_j,  dk_j += scale dS_j q,
 * dv_j += m_j P_j dO,  drel_j += scale dS_j. */
#include <math.h>
#include <string.h>

#include "kernels/attn.h"
#include "kernels/ref/ref.h"

static float dot(tl_dtype dt, const void *x, int64_t ix, const void *y, int64_t iy, int n) {
  float sum = 0;
  for (int c = 0; c < n; c++) sum += ref_get(dt, x, ix + c) * ref_get(dt, y, iy + c);
  return sum;
}

/* The factor of one probability: 0 or 1/(1-p). */
static float keep(const tl_attn_args *a, uint64_t base, int key) {
  if (a->dropout.p <= 0) return 1;
  uint64_t i = base + (uint64_t)key;
  tl_philox w = tl_philox4x32(a->dropout.seed, TL_STREAM_DROPOUT, a->dropout.sub, i / 4);
  return (double)w.v[i % 4] >= (double)a->dropout.p * 4294967296.0 ? 1 / (1 - a->dropout.p) : 0;
}

static size_t ref_scratch(const tl_attn_args *a, int max_k, bool backward) {
  size_t hd = (size_t)a->hd, keys = (size_t)max_k;
  /* a row of P and one of o; a row of dq, and dk and dv */
  return sizeof(float) * (backward ? hd + 2 * keys * hd : hd + keys);
}

static float score(const tl_attn_args *a, const tl_segment *s, int head, int row, int key) {
  int hd = a->hd, kv_col = head / (a->n_heads / a->n_kv) * hd;
  float x = dot(a->dt, a->q, row * a->ldq + head * hd, a->k, (s->k0 + key) * a->ldk + kv_col, hd);
  if (a->rel) x += a->rel[head * (2 * a->rel_max + 1) + tl_attn_rel(a, s, row - s->q0, key)];
  return a->scale * x;
}

static void forward_row(const tl_attn_args *a, const tl_segment *s, int head, int row, float *p,
                        float *acc) {
  int hd = a->hd, kv_col = head / (a->n_heads / a->n_kv) * hd;
  tl_attn_span span = tl_attn_keys(s, a->window, row - s->q0);
  uint64_t base = tl_attn_dropout_base(a, head, row);
  float max = -INFINITY, sum = 0;
  for (int j = span.lo; j < span.hi; j++) {
    p[j] = score(a, s, head, row, j);
    if (p[j] > max) max = p[j];
  }
  memset(acc, 0, sizeof(float) * (size_t)hd);
  for (int j = span.lo; j < span.hi; j++) {
    float e = expf(p[j] - max), kept = e * keep(a, base, j);
    sum += e;
    for (int c = 0; c < hd; c++)
      acc[c] += kept * ref_get(a->dt, a->v, (s->k0 + j) * a->ldv + kv_col + c);
  }
  for (int c = 0; c < hd; c++)
    ref_set(a->dt, a->o, row * a->ldo + head * hd + c, sum > 0 ? acc[c] / sum : 0);
  a->lse[head * a->ld_lse + row] = max + logf(sum);
}

static void ref_forward(const tl_attn_args *a, const tl_segment *s, int head, int begin, int end,
                        void *scratch) {
  float *acc = scratch, *p = acc + a->hd;
  for (int row = begin; row < end; row++) forward_row(a, s, head, row, p, acc);
}

/* Adds one query row to dk and dv (f32 [keys, hd]) and stores its dq. */
static void backward_row(const tl_attn_args *a, const tl_segment *s, int head, int row, float *dq,
                         float *dk, float *dv) {
  int hd = a->hd, kv_col = head / (a->n_heads / a->n_kv) * hd;
  int64_t q = row * a->ldq + head * hd, d_o = row * a->lddo + head * hd;
  tl_attn_span span = tl_attn_keys(s, a->window, row - s->q0);
  uint64_t base = tl_attn_dropout_base(a, head, row);
  float lse = a->lse[head * a->ld_lse + row], delta = 0;
  for (int c = 0; c < hd; c++)
    delta += ref_get(a->dt, a->d_o, d_o + c) * ref_get(a->dt, a->o, row * a->ldo + head * hd + c);
  memset(dq, 0, sizeof(float) * (size_t)hd);
  for (int j = span.lo; j < span.hi; j++) {
    int64_t k = (s->k0 + j) * a->ldk + kv_col, v = (s->k0 + j) * a->ldv + kv_col;
    float p = expf(score(a, s, head, row, j) - lse), m = keep(a, base, j);
    float ds = a->scale * p * (m * dot(a->dt, a->d_o, d_o, a->v, v, hd) - delta);
    if (a->drel)
      a->drel[head % (a->n_heads / a->n_kv) * (2 * a->rel_max + 1) +
              tl_attn_rel(a, s, row - s->q0, j)] += ds;
    for (int c = 0; c < hd; c++) {
      dq[c] += ds * ref_get(a->dt, a->k, k + c);
      dk[j * (int64_t)hd + c] += ds * ref_get(a->dt, a->q, q + c);
      dv[j * (int64_t)hd + c] += m * p * ref_get(a->dt, a->d_o, d_o + c);
    }
  }
  for (int c = 0; a->dq && c < hd; c++)
    ref_put(a->dt, a->dq, row * a->lddq + head * hd + c, dq[c], a->dq_add);
}

static void ref_backward(const tl_attn_args *a, const tl_segment *s, int kv_head, void *scratch) {
  int hd = a->hd, group = a->n_heads / a->n_kv;
  int64_t n_keys = s->k1 - s->k0;
  float *dq = scratch, *dk = dq + hd, *dv = dk + n_keys * hd;
  memset(dk, 0, sizeof(float) * (size_t)(2 * n_keys * hd));
  for (int head = kv_head * group; head < (kv_head + 1) * group; head++)
    for (int row = s->q0; row < s->q1; row++) backward_row(a, s, head, row, dq, dk, dv);
  for (int64_t j = 0; a->dk && j < n_keys; j++)
    for (int c = 0; c < hd; c++) {
      ref_put(a->dt, a->dk, (s->k0 + j) * a->lddk + kv_head * hd + c, dk[j * hd + c], a->dkv_add);
      ref_put(a->dt, a->dv, (s->k0 + j) * a->lddv + kv_head * hd + c, dv[j * hd + c], a->dkv_add);
    }
}

void tl_attn_init_ref(tl_attn_kernels k[2]) {
  k[TL_F32] = k[TL_BF16] = (tl_attn_kernels){ref_scratch, ref_forward, ref_backward};
}
