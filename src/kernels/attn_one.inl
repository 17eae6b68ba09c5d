/* Attention of one query alone, as in generation from a cache: lanes run along the head and along
 * the keys' scores, where a block of queries would have one lane in use. Part of attn_fast.inl. */

enum {
  ONE_KEYS = BK * BQ, /* scores at a time; longer ranges are joined as blocks of keys are */
  ONE_AHEAD = 12      /* rows that a row's load runs ahead: they lie too far apart to be guessed */
};

VEC_INLINE void one_fetch(tl_dtype dt, const void *x, int64_t i, int n) {
  const int per_line = dt == TL_BF16 ? 32 : 16;
  for (int c = 0; c < n; c += per_line) __builtin_prefetch(vec_at(dt, x, i + c));
}

/* p[j] = q . row j of k, for n rows of ld elements from element `at`. */
VEC_INLINE void one_scores(tl_dtype dt, const tl_attn_args *a, const float *q, int64_t at, int n,
                           float *p) {
  const int hd = a->hd, whole = hd / VL * VL;
  for (int j = 0; j < n; j++, at += a->ldk) {
    if (j + ONE_AHEAD < n) one_fetch(dt, a->k, at + ONE_AHEAD * a->ldk, hd);
    vf sum[2] = {{0}};
    int c = 0;
    for (; c + 2 * VL <= hd; c += 2 * VL) {
      sum[0] = vf_fma(vf_load(q + c, VL), vf_get(dt, a->k, at + c, VL), sum[0]);
      sum[1] = vf_fma(vf_load(q + c + VL, VL), vf_get(dt, a->k, at + c + VL, VL), sum[1]);
    }
    if (c < whole) sum[0] = vf_fma(vf_load(q + c, VL), vf_get(dt, a->k, at + c, VL), sum[0]);
    if (whole < hd)
      sum[1] = vf_fma(vf_load(q + whole, VL), vf_get(dt, a->k, at + whole, hd - whole), sum[1]);
    p[j] = vf_sum(sum[0] + sum[1]);
  }
}

/* o[c] += sum over j of p[j] v[j][c], of nv vectors from column c; the last has m columns. */
VEC_INLINE void one_columns(tl_dtype dt, const tl_attn_args *a, const int nv, int m, const float *p,
                            int64_t at, int n, float *o) {
  vf acc[4];
  _Pragma("GCC unroll 4") for (int v = 0; v < nv; v++) acc[v] = vf_load(o + v * VL, VL);
  for (int j = 0; j < n; j++, at += a->ldv) {
    vf x = vf_all(p[j]);
    if (j + ONE_AHEAD < n) one_fetch(dt, a->v, at + ONE_AHEAD * a->ldv, nv * VL);
    _Pragma("GCC unroll 4") for (int v = 0; v < nv; v++) acc[v] =
        vf_fma(x, vf_get(dt, a->v, at + v * VL, v < nv - 1 ? VL : m), acc[v]);
  }
  _Pragma("GCC unroll 4") for (int v = 0; v < nv; v++) vf_store(o + v * VL, VL, acc[v]);
}

VEC_INLINE void one_values(tl_dtype dt, const tl_attn_args *a, const float *p, int64_t at, int n,
                           float *o) {
  int c = 0;
  for (; c + 4 * VL <= a->hd; c += 4 * VL) one_columns(dt, a, 4, VL, p, at + c, n, o + c);
  for (; c + VL <= a->hd; c += VL) one_columns(dt, a, 1, VL, p, at + c, n, o + c);
  if (c < a->hd) one_columns(dt, a, 1, a->hd - c, p, at + c, n, o + c);
}

/* p[j] += the bias of key kb + j, in the unit of the scores. */
static void one_bias(const tl_attn_args *a, const tl_segment *s, int head, int row, int kb, int n,
                     float *p) {
  const float *rel = a->rel + (int64_t)head * (2 * a->rel_max + 1), unit = a->scale * LOG2E;
  for (int j = 0; j < n; j++) p[j] += unit * rel[tl_attn_rel(a, s, row - s->q0, kb + j)];
}

static float one_max(const float *p, int n) {
  vf max = vf_all(-INFINITY);
  VEC_EACH(n, i, m, max = vf_max(vf_keep(vf_load(p + i, m), m, max), max););
  float lane[VL], top = -INFINITY;
  vf_store(lane, VL, max);
  for (int i = 0; i < VL; i++) top = lane[i] > top ? lane[i] : top;
  return top;
}

/* p = 2^(p - max); returns the sum. */
static float one_exp(float *p, int n, float max) {
  vf sum = {0};
  VEC_EACH(n, i, m, vf x = vf_exp2(vf_load(p + i, m) - max); vf_store(p + i, m, x);
           sum += vf_keep(x, m, vf_all(0)););
  return vf_sum(sum);
}

static void one_query(const tl_attn_args *a, const tl_segment *s, int head, int row,
                      char *scratch) {
  const int hd = a->hd, hp = padded(hd);
  const int64_t q_at = row * a->ldq + (int64_t)head * hd;
  const int64_t kv_col = (int64_t)(head / (a->n_heads / a->n_kv)) * hd;
  float *q = carve(&scratch, hp), *o = carve(&scratch, hp), *p = carve(&scratch, ONE_KEYS);
  VEC_EACH(hd, i, m, vf_store(q + i, VL, vf_get(a->dt, a->q, q_at + i, m) * (a->scale * LOG2E)););
  memset(o, 0, sizeof(float) * (size_t)hp);
  float max = -1e30f, sum = 0; /* finite: no inf - inf */
  tl_attn_span span = tl_attn_keys(s, a->window, row - s->q0);
  for (int kb = span.lo; kb < span.hi; kb += ONE_KEYS) {
    int n = span.hi - kb < ONE_KEYS ? span.hi - kb : ONE_KEYS;
    int64_t k_at = (s->k0 + kb) * a->ldk + kv_col, v_at = (s->k0 + kb) * a->ldv + kv_col;
    VEC_BY_DTYPE(a->dt, one_scores, a, q, k_at, n, p);
    if (a->rel) one_bias(a, s, head, row, kb, n, p);
    float top = one_max(p, n);
    if (!(top > max)) top = max;
    float rescale = exp2f(max - top);
    sum = sum * rescale + one_exp(p, n, top);
    if (kb > span.lo) VEC_EACH(hd, i, m, vf_store(o + i, m, vf_load(o + i, m) * rescale););
    VEC_BY_DTYPE(a->dt, one_values, a, p, v_at, n, o);
    max = top;
  }
  store_row(a->dt, o, hd, sum != 0 ? 1 / sum : 0, a->o, row * a->ldo + (int64_t)head * hd, false);
  a->lse[head * a->ld_lse + row] = sum != 0 ? max * LN2 + logf(sum) : -INFINITY;
}
