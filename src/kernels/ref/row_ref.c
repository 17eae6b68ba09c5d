/* References of the element-wise kernels, rotary embedding, dropout and sums. */
#include "base/rng.h"
#include "kernels/ref/ref.h"
#include "kernels/sum_tree.h"

static void convert(tl_dtype from, const void *x, tl_dtype to, void *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) ref_set(to, y, i, ref_get(from, x, i));
}

static void add(tl_dtype dt, int64_t n, const void *a, const void *b, void *y) {
  for (int64_t i = 0; i < n; i++) ref_set(dt, y, i, ref_get(dt, a, i) + ref_get(dt, b, i));
}

static void acc(tl_dtype dt, int64_t n, const void *x, void *y) {
  for (int64_t i = 0; i < n; i++) ref_set(dt, y, i, ref_get(dt, y, i) + ref_get(dt, x, i));
}

static void mul(tl_dtype dt, int64_t n, const void *a, const void *b, void *y, bool adds) {
  for (int64_t i = 0; i < n; i++) ref_put(dt, y, i, ref_get(dt, a, i) * ref_get(dt, b, i), adds);
}

static void scale(tl_dtype dt, int64_t n, float alpha, const void *x, void *y, bool adds) {
  for (int64_t i = 0; i < n; i++) ref_put(dt, y, i, alpha * ref_get(dt, x, i), adds);
}

static void rope(tl_dtype dt, int64_t rows, int64_t heads, int64_t hd, const void *x, int64_t ldx,
                 const int32_t *pos, const float *cos_sin, bool inverse, void *y, int64_t ldy,
                 bool adds) {
  int64_t half = hd / 2;
  for (int64_t r = 0; r < rows; r++) {
    const float *c = cos_sin + pos[r] * hd, *s = c + half;
    for (int64_t h = 0; h < heads; h++) {
      int64_t ix = r * ldx + h * hd, iy = r * ldy + h * hd;
      for (int64_t j = 0; j < half; j++) {
        float x1 = ref_get(dt, x, ix + j), x2 = ref_get(dt, x, ix + j + half);
        float sj = inverse ? -s[j] : s[j];
        ref_put(dt, y, iy + j, x1 * c[j] - x2 * sj, adds);
        ref_put(dt, y, iy + j + half, x2 * c[j] + x1 * sj, adds);
      }
    }
  }
}

static void dropout(tl_dtype dt, const tl_dropout *d, int64_t begin, int64_t n, const void *x,
                    void *y, bool adds) {
  double limit = (double)d->p * 0x1p32;
  float keep = 1.0f / (1.0f - d->p);
  for (int64_t i = 0; i < n; i++) {
    uint64_t e = (uint64_t)(begin + i);
    uint32_t word = tl_philox4x32(d->seed, TL_STREAM_DROPOUT, d->sub, e / 4).v[e % 4];
    ref_put(dt, y, i, word >= limit ? ref_get(dt, x, i) * keep : 0.0f, adds);
  }
}

static void col_sum(tl_dtype dt, int64_t rows, int64_t d, const void *x, int64_t ldx, float *out) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < d; j++) out[j] += ref_get(dt, x, r * ldx + j);
}

/* 16 lanes of the block, each in order, then added in pairs. The square of an f32 is exact in f64,
 * so a fused multiply-add gives the same bits: every level computes the same value. */
static double sum_sq_block(int64_t n, const float *x) {
  double lane[16] = {0};
  for (int64_t i = 0; i < n; i++) lane[i % 16] += (double)x[i] * x[i];
  for (int w = 8; w > 0; w /= 2)
    for (int l = 0; l < w; l++) lane[l] += lane[l + w];
  return lane[0];
}

static double sum_sq(int64_t n, const float *x) {
  tl_sum_tree t = {.used = 0};
  for (int64_t i = 0; i < n; i += 4096)
    tl_sum_tree_add(&t, sum_sq_block(n - i < 4096 ? n - i : 4096, x + i));
  return tl_sum_tree_total(&t);
}

static void copy(int64_t rows, int64_t bytes, const void *x, int64_t ldx, void *y, int64_t ldy) {
  for (int64_t r = 0; r < rows; r++)
    memcpy((char *)y + r * ldy, (const char *)x + r * ldx, (size_t)bytes);
}

void tl_ref_init_elementwise(tl_row_kernels *k) {
  k->convert = convert;
  k->copy = copy;
  k->add = add;
  k->acc = acc;
  k->mul = mul;
  k->scale = scale;
  k->rope = rope;
  k->dropout = dropout;
  k->col_sum = col_sum;
  k->sum_sq = sum_sq;
}

void tl_row_init_ref(tl_row_kernels *k) {
  tl_ref_init_elementwise(k);
  tl_ref_init_act(k);
  tl_ref_init_norm(k);
  tl_ref_init_column(k);
  tl_ref_init_xent(k);
}
