/* Element-wise kernels, rotary embedding, dropout and sums over the lane operations of vec.h. */
#include "base/rng.h"
#include "kernels/sum_tree.h"
#include "kernels/vec_math.h"

VEC_INLINE void convert_body(tl_dtype from, const void *x, tl_dtype to, void *y, int64_t n) {
  VEC_EACH(n, i, m, { vf_set(to, y, i, m, vf_get(from, x, i, m)); });
}

static void convert_fast(tl_dtype from, const void *x, tl_dtype to, void *y, int64_t n) {
  if (n > 0 && from == to)
    memcpy(y, x, (size_t)n * (from == TL_BF16 ? 2 : 4));
  else if (from == TL_BF16)
    convert_body(TL_BF16, x, TL_F32, y, n);
  else
    convert_body(TL_F32, x, TL_BF16, y, n);
}

VEC_INLINE void add_body(tl_dtype dt, int64_t n, const void *a, const void *b, void *y) {
  VEC_EACH(n, i, m, { vf_set(dt, y, i, m, vf_get(dt, a, i, m) + vf_get(dt, b, i, m)); });
}

static void add_fast(tl_dtype dt, int64_t n, const void *a, const void *b, void *y) {
  VEC_BY_DTYPE(dt, add_body, n, a, b, y);
}

static void acc_fast(tl_dtype dt, int64_t n, const void *x, void *y) {
  VEC_BY_DTYPE(dt, add_body, n, y, x, y);
}

VEC_INLINE void mul_body(tl_dtype dt, int64_t n, const void *a, const void *b, void *y, bool add) {
  VEC_EACH(n, i, m, { vf_put(dt, y, i, m, vf_get(dt, a, i, m) * vf_get(dt, b, i, m), add); });
}

static void mul_fast(tl_dtype dt, int64_t n, const void *a, const void *b, void *y, bool add) {
  VEC_BY_DTYPE(dt, mul_body, n, a, b, y, add);
}

VEC_INLINE void scale_body(tl_dtype dt, int64_t n, float alpha, const void *x, void *y, bool add) {
  VEC_EACH(n, i, m, { vf_put(dt, y, i, m, alpha * vf_get(dt, x, i, m), add); });
}

static void scale_fast(tl_dtype dt, int64_t n, float alpha, const void *x, void *y, bool add) {
  VEC_BY_DTYPE(dt, scale_body, n, alpha, x, y, add);
}

VEC_INLINE void rope_head(tl_dtype dt, int64_t half, const void *x, const float *c, const float *s,
                          float sign, void *y, bool add) {
  VEC_EACH(half, j, m, {
    vf x1 = vf_get(dt, x, j, m);
    vf x2 = vf_get(dt, x, j + half, m);
    vf cj = vf_load(c + j, m);
    vf sj = sign * vf_load(s + j, m);
    vf_put(dt, y, j, m, vf_fma(x1, cj, -(x2 * sj)), add);
    vf_put(dt, y, j + half, m, vf_fma(x2, cj, x1 * sj), add);
  });
}

VEC_INLINE void rope_body(tl_dtype dt, int64_t rows, int64_t heads, int64_t hd, const void *x,
                          int64_t ldx, const int32_t *pos, const float *cos_sin, float sign,
                          void *y, int64_t ldy, bool add) {
  for (int64_t r = 0; r < rows; r++) {
    const float *c = cos_sin + pos[r] * hd;
    for (int64_t h = 0; h < heads; h++)
      rope_head(dt, hd / 2, vec_at(dt, x, r * ldx + h * hd), c, c + hd / 2, sign,
                vec_at_mut(dt, y, r * ldy + h * hd), add);
  }
}

static void rope_fast(tl_dtype dt, int64_t rows, int64_t heads, int64_t hd, const void *x,
                      int64_t ldx, const int32_t *pos, const float *cos_sin, bool inverse, void *y,
                      int64_t ldy, bool add) {
  float sign = inverse ? -1.0f : 1.0f;
  VEC_BY_DTYPE(dt, rope_body, rows, heads, hd, x, ldx, pos, cos_sin, sign, y, ldy, add);
}

/* Elements [i, end) of the call, whose mask words start at words[0]. */
VEC_INLINE void dropout_part(tl_dtype dt, int64_t n, const uint32_t *words, uint32_t limit,
                             float keep, const void *x, void *y, bool add) {
  VEC_EACH(n, i, m, {
    vf v = vf_where_word_ge(words + i, limit, keep * vf_get(dt, x, i, m));
    vf_put(dt, y, i, m, v, add);
  });
}

VEC_INLINE void dropout_body(tl_dtype dt, const tl_dropout *d, int64_t begin, int64_t n,
                             const void *x, void *y, bool add) {
  double exact = (double)d->p * 0x1p32;
  uint64_t limit = (uint64_t)exact + (exact > (double)(uint64_t)exact);
  float keep = limit > UINT32_MAX ? 0.0f : 1.0f / (1.0f - d->p);
  uint32_t words[5 * VL]; /* the last VL only pad reads of a part that starts inside a block */
  memset(words + 4 * VL, 0, sizeof *words * VL);
  for (int64_t i = 0; i < n;) {
    int64_t e = begin + i, skip = e % 4, part = 4 * VL - skip;
    if (part > n - i) part = n - i;
    vu_philox(d->seed, TL_STREAM_DROPOUT, d->sub, (uint64_t)e / 4, words);
    dropout_part(dt, part, words + skip, limit > UINT32_MAX ? UINT32_MAX : (uint32_t)limit, keep,
                 vec_at(dt, x, i), vec_at_mut(dt, y, i), add);
    i += part;
  }
}

static void dropout_fast(tl_dtype dt, const tl_dropout *d, int64_t begin, int64_t n, const void *x,
                         void *y, bool add) {
  VEC_BY_DTYPE(dt, dropout_body, d, begin, n, x, y, add);
}

/* Four registers of columns at a time, down all rows: each sum is taken in the order of rows. */
VEC_INLINE void col_sum_body(tl_dtype dt, int64_t rows, int64_t d, const void *x, int64_t ldx,
                             float *out) {
  int64_t j = 0;
  for (; j + 4 * VL <= d; j += 4 * VL) {
    vf s[4];
    for (int u = 0; u < 4; u++) s[u] = vf_load(out + j + u * VL, VL);
    for (int64_t r = 0; r < rows; r++)
      for (int u = 0; u < 4; u++) s[u] += vf_get(dt, x, r * ldx + j + u * VL, VL);
    for (int u = 0; u < 4; u++) vf_store(out + j + u * VL, VL, s[u]);
  }
  VEC_EACH(d - j, i, m, {
    vf s = vf_load(out + j + i, m);
    for (int64_t r = 0; r < rows; r++) s += vf_get(dt, x, r * ldx + j + i, m);
    vf_store(out + j + i, m, s);
  });
}

static void col_sum_fast(tl_dtype dt, int64_t rows, int64_t d, const void *x, int64_t ldx,
                         float *out) {
  VEC_BY_DTYPE(dt, col_sum_body, rows, d, x, ldx, out);
}

static double sum_sq_block(int64_t n, const float *x) {
  vd16 s = {0};
  double lane[16];
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) vd_add_squares(&s, x + i);
  vd_store(lane, &s);
  for (; i < n; i++) lane[i % 16] += (double)x[i] * x[i];
  for (int w = 8; w > 0; w /= 2)
    for (int l = 0; l < w; l++) lane[l] += lane[l + w];
  return lane[0];
}

static double sum_sq_fast(int64_t n, const float *x) {
  tl_sum_tree t = {.used = 0};
  for (int64_t i = 0; i < n; i += 4096)
    tl_sum_tree_add(&t, sum_sq_block(n - i < 4096 ? n - i : 4096, x + i));
  return tl_sum_tree_total(&t);
}

static void copy_fast(int64_t rows, int64_t bytes, const void *x, int64_t ldx, void *y,
                      int64_t ldy) {
  const char *from = x;
  char *to = y;
  int64_t n = bytes / 4, rest = bytes % 4;
  for (int64_t r = 0; r < rows; r++, from += ldx, to += ldy) {
    VEC_EACH(n, i, m, {
      vf_store((float *)(void *)to + i, m, vf_load((const float *)(const void *)from + i, m));
    });
    if (rest) memcpy(to + 4 * n, from + 4 * n, 2);
  }
}

static void init_elementwise(tl_row_kernels *k) {
  k->convert = convert_fast;
  k->copy = copy_fast;
  k->add = add_fast;
  k->acc = acc_fast;
  k->mul = mul_fast;
  k->scale = scale_fast;
  k->rope = rope_fast;
  k->dropout = dropout_fast;
  k->col_sum = col_sum_fast;
  k->sum_sq = sum_sq_fast;
}
