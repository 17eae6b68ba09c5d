/* Flash attention (Dao et al., 2022) on the CPU, compiled once per instruction set.
 *
 * A block of 64 queries is kept transposed, [hd][64], so that lanes are queries all the way: scores
 * S^T [64 keys][64 queries], running maximum and sum, and O^T [hd][64]. Softmax then needs no sums
 * across lanes, keys and values are read as broadcasts without being transposed, and a query's
 * result does not depend on which lane it has or on which rows are computed with it. Keys come in
 * blocks on a fixed grid from the segment's first key.
 *
 * The includer defines PAIR: 1 for operands converted to f32, 2 for operands kept as pairs of bf16
 * along the dimension that a product sums over (P and dS are then rounded to bf16; sums stay f32).
 * "Words" are f32 or such pairs. A row of hd elements is padded to hp (f32) or hw words. */
#include <math.h>

#include "kernels/attn_lanes.h"
#include "kernels/attn_mm.inl"

enum { BQ = TL_ATTN_BLOCK, BK = 64, SUB = 16 };

#define LOG2E 1.44269504088896341f
#define LN2 0.693147180559945309f

/* A span of a key block's rows for which the same vectors of queries have something to see. */
typedef struct run {
  int k0, k1;  /* keys, from the block's first */
  int v0, v1;  /* vectors of queries */
  bool masked; /* some query of these vectors does not see some key */
} run;

/* The queries of a block and what they see. Lanes beyond nq repeat the last query's span. */
typedef struct queries {
  int row, nq, nv;      /* first row; queries; vectors of queries */
  int lo, hi;           /* keys that some query sees */
  int from[BQ], to[BQ]; /* keys that each query sees; both ascend */
  uint32_t pos[2][BQ];  /* Philox position of key 0 (low and high half), with dropout */
} queries;

static int padded(int hd) {
  return (hd + 15) / 16 * 16;
}

static void queries_init(queries *q, const tl_attn_args *a, const tl_segment *s, int head, int row,
                         int nq) {
  q->row = row, q->nq = nq, q->nv = (nq + VL - 1) / VL;
  for (int i = 0; i < q->nv * VL; i++) {
    int r = row + (i < nq ? i : nq - 1);
    tl_attn_span span = tl_attn_keys(s, a->window, r - s->q0);
    q->from[i] = span.lo;
    q->to[i] = span.hi > 0 ? span.hi : 0;
    uint64_t pos = tl_attn_dropout_base(a, head, r) / 4;
    q->pos[0][i] = (uint32_t)pos;
    q->pos[1][i] = (uint32_t)(pos >> 32);
  }
  q->lo = q->from[0], q->hi = q->to[nq - 1];
}

/* The runs of keys [kb, kb + nk); at most BK / SUB. */
static int find_runs(const queries *q, int kb, int nk, run *runs) {
  int n = 0;
  for (int k = 0; k < nk; k += SUB) {
    int end = k + SUB < nk ? k + SUB : nk, v0 = 0, v1 = q->nv;
    while (v0 < v1 && q->to[v0 * VL + VL - 1] <= kb + k) v0++;
    while (v0 < v1 && q->from[(v1 - 1) * VL] >= kb + end) v1--;
    if (v0 == v1) continue;
    bool masked = q->to[v0 * VL] < kb + end || q->from[v1 * VL - 1] > kb + k;
    run *last = runs + n - 1;
    if (n > 0 && last->k1 == k && last->v0 == v0 && last->v1 == v1 && last->masked == masked)
      last->k1 = end;
    else
      runs[n++] = (run){k, end, v0, v1, masked};
  }
  return n;
}

static int words(int hd) {
  return padded(hd) / PAIR;
}

/* dst [rows][hw] = rows of x from column col, in words; padding is 0. */
static void load_rows(tl_dtype dt, const void *x, int64_t ld, int64_t row, int64_t col, int rows,
                      int hd, float *dst) {
  int hw = words(hd);
  for (int r = 0; r < rows; r++, dst += hw) {
    int64_t i = (row + r) * ld + col;
    int c = 0;
#if PAIR == 2
    (void)dt;
    const tl_bf16 *src = (const tl_bf16 *)x + i;
    for (; c + 2 * VL <= hd; c += 2 * VL)
      _mm512_storeu_si512(dst + c / 2, _mm512_loadu_si512(src + c));
    for (; c < hd; c += VL) {
      __m256i half = _mm256_maskz_loadu_epi16(vec_mask(hd - c < VL ? hd - c : VL), src + c);
      _mm256_storeu_si256((__m256i *)(dst + c / 2), half);
    }
#else
    for (; c + VL <= hd; c += VL) vf_store(dst + c, VL, vf_get(dt, x, i + c, VL));
    if (c < hd) vf_store(dst + c, VL, vf_get(dt, x, i + c, hd - c)), c += VL;
    for (; c < hw; c += VL) vf_store(dst + c, VL, vf_all(0));
#endif
  }
}

/* dst [ceil(rows / PAIR)][hp]: words of equal columns of PAIR rows after each other; a missing last
 * row counts as 0. With PAIR 1 that is src itself. Returns it. */
static const float *pair_rows(const float *src, int64_t rows, int hd, float *dst) {
#if PAIR == 2
  int hp = padded(hd), hw = words(hd);
  for (int64_t r = 0; r < rows; r += 2)
    for (int c = 0; c < hp; c += VL) {
      const __m256i *a = (const __m256i *)(src + r * hw + c / 2);
      const __m256i *b = (const __m256i *)(src + (r + 1) * hw + c / 2);
      __m512i lo = _mm512_cvtepu16_epi32(_mm256_loadu_si256(a)), hi = _mm512_setzero_si512();
      if (r + 1 < rows) hi = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(b)), 16);
      _mm512_storeu_si512(dst + r / 2 * hp + c, _mm512_or_si512(lo, hi));
    }
  return dst;
#else
  (void)rows, (void)hd, (void)dst;
  return src;
#endif
}

/* The same of rows of x, as load_rows reads them: dst [ceil(rows / PAIR)][hp]. */
static void load_pairs(tl_dtype dt, const void *x, int64_t ld, int64_t row, int64_t col, int rows,
                       int hd, float *dst) {
#if PAIR == 2
  (void)dt;
  const tl_bf16 *src = (const tl_bf16 *)x + row * ld + col;
  for (int r = 0; r < rows; r += 2, src += 2 * ld)
    for (int c = 0; c < hd; c += VL, dst += VL) {
      __mmask16 m = vec_mask(hd - c < VL ? hd - c : VL), m2 = r + 1 < rows ? m : 0;
      __m512i lo = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, src + c));
      __m512i hi = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m2, src + ld + c));
      _mm512_storeu_si512(dst, _mm512_or_si512(lo, _mm512_slli_epi32(hi, 16)));
    }
#else
  load_rows(dt, x, ld, row, col, rows, hd, dst);
#endif
}

/* line[BK - 1 + l - k] is what the bias adds for lane l of the block's queries and key kb + k: one
 * more lane or one key less is one step in distance. */
static void load_line(const tl_attn_args *a, const tl_segment *s, const queries *q, int head,
                      int kb, float *line) {
  const float *rel = a->rel + (int64_t)head * (2 * a->rel_max + 1);
  for (int i = 0; i < BK + BQ - 1; i++)
    line[i] = rel[tl_attn_rel(a, s, q->row - s->q0 + i, kb + BK - 1)];
}

/* Adds the bias to the scores of a run. */
static void add_line(const float *line, const run *r, float *st) {
  for (int k = r->k0; k < r->k1; k++)
    for (int v = r->v0; v < r->v1; v++) {
      float *x = st + k * BQ + v * VL;
      vf_store(x, VL, vf_load(x, VL) + vf_load(line + BK - 1 - k + v * VL, VL));
    }
}

static void store_row(tl_dtype dt, const float *src, int hd, float f, void *x, int64_t i,
                      bool add) {
  int c = 0;
  for (; c + VL <= hd; c += VL) vf_put(dt, x, i + c, VL, vf_load(src + c, VL) * f, add);
  if (c < hd) vf_put(dt, x, i + c, hd - c, vf_load(src + c, VL) * f, add);
}

/* dst [cols][ldd] = transpose of src [rows][lds]; both counts are rounded up to 8. */
static void transpose(const float *src, int64_t lds, int rows, int cols, float *dst, int64_t ldd) {
  for (int r = 0; r < rows; r += 8)
    for (int c = 0; c < cols; c += 8) transpose8(src + r * lds + c, lds, dst + c * ldd + r, ldd);
}

/* Loads queries' rows as [64][hw] and transposed [hw][64]; lanes without a query are 0. */
static void load_queries(const tl_attn_args *a, const queries *q, const void *x, int64_t ld,
                         int head, float *rows, float *columns) {
  int hw = words(a->hd), lanes = q->nv * VL;
  load_rows(a->dt, x, ld, q->row, (int64_t)head * a->hd, q->nq, a->hd, rows);
  memset(rows + q->nq * hw, 0, sizeof(float) * (size_t)((lanes - q->nq) * hw));
  transpose(rows, hw, lanes, hw, columns, BQ);
}

/* Dropout factors of 4 keys from `key` (a multiple of 4) for one vector of queries: bits of which
 * are kept. */
VEC_INLINE void keep4(const tl_attn_args *a, const queries *q, int v, int key, uint32_t limit,
                      vm keep[4]) {
  vu words[4], lo = vu_load(q->pos[0] + v * VL) + (uint32_t)(key / 4);
  vu_philox_lanes(&a->dropout, lo, vu_load(q->pos[1] + v * VL), words);
  for (int w = 0; w < 4; w++) keep[w] = vm_reaches(words[w], vu_all(limit));
}

static uint32_t dropout_limit(const tl_attn_args *a) {
  return (uint32_t)ceil((double)a->dropout.p * 0x1p32);
}

/* Carves arrays out of the caller's scratch on cache lines. */
static float *carve(char **at, int64_t floats) {
  char *p = (char *)(((uintptr_t)*at + 63) / 64 * 64);
  *at = p + sizeof(float) * (size_t)floats;
  return (float *)p;
}

/* Stores the words of keys k .. k+3 (rows k/PAIR ..) of a vector of queries. */
VEC_INLINE void store_words(float *column, int k, const vf p[4]) {
  float *to = column + k / PAIR * BQ;
#if PAIR == 2
  vf_store(to, VL, words_of(p[0], p[1]));
  vf_store(to + BQ, VL, words_of(p[2], p[3]));
#else
  for (int i = 0; i < 4; i++) vf_store(to + i * BQ, VL, p[i]);
#endif
}

typedef struct fwd {
  const tl_attn_args *a;
  const tl_segment *s;
  int head;
  queries q;
  float *qt, *k, *vp;     /* [hw][BQ], [BK][hw], [BK/PAIR][hp] */
  float *st, *ot;         /* [BK][BQ] scores, then words of probabilities; [hp][BQ] */
  float max[BQ], sum[BQ]; /* of scores times scale log2(e), of 2^(score - max) */
  float rescale[BQ];
  float scale; /* scale log2(e) */
  float line[BK + BQ];
} fwd;

/* The running maximum with the runs' scores; masks the scores. */
VEC_INLINE vf max_lanes(fwd *f, int kb, const run *runs, int n_runs, int v) {
  vf max = vf_all(-INFINITY);
  vu from = vu_load((uint32_t *)f->q.from + v * VL), to = vu_load((uint32_t *)f->q.to + v * VL);
  for (const run *r = runs; r < runs + n_runs; r++) {
    if (v < r->v0 || v >= r->v1) continue;
    float *s = f->st + r->k0 * BQ + v * VL;
    for (int k = r->k0; k < r->k1; k++, s += BQ) {
      vf x = vf_load(s, VL);
      if (r->masked) {
        x = vf_pick(vm_within(vu_all((uint32_t)(kb + k)), from, to), x, vf_all(-INFINITY));
        vf_store(s, VL, x);
      }
      max = vf_max(x, max);
    }
  }
  return vf_max(max * f->scale, vf_load(f->max + v * VL, VL));
}

/* Scores of the runs to unnormalised probabilities, for one vector of queries; updates the running
 * maximum and sum. Returns whether what was accumulated must be rescaled. */
VEC_INLINE bool softmax_lanes(fwd *f, int kb, const run *runs, int n_runs, int v) {
  vf old = vf_load(f->max + v * VL, VL), max = max_lanes(f, kb, runs, n_runs, v), sum = {0};
  const bool drop = f->a->dropout.p > 0;
  uint32_t limit = drop ? dropout_limit(f->a) : 0;
  float factor = drop ? 1 / (1 - f->a->dropout.p) : 1;
  vf scale = vf_all(f->scale);
  float *column = f->st + v * VL;
  for (const run *r = runs; r < runs + n_runs; r++) {
    if (v < r->v0 || v >= r->v1) continue;
    for (int k = r->k0; k < r->k1; k += 4) {
      vf p[4];
      vm keep[4] = {0};
      if (drop) keep4(f->a, &f->q, v, kb + k, limit, keep);
      _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) {
        if (k + i >= r->k1) {
          p[i] = vf_all(0);
          continue;
        }
        p[i] = vf_exp2(vf_fma(vf_load(column + (k + i) * BQ, VL), scale, -max));
        sum += p[i];
        if (drop) p[i] = vf_pick(keep[i], p[i] * factor, vf_all(0));
      }
      store_words(column, k, p);
    }
  }
  vf rescale = vf_exp2(old - max);
  vf_store(f->rescale + v * VL, VL, rescale);
  vf_store(f->sum + v * VL, VL, vf_fma(vf_load(f->sum + v * VL, VL), rescale, sum));
  vf_store(f->max + v * VL, VL, max);
  return !vf_same(old, max);
}

static void forward_keys(fwd *f, int kb, int nk, bool first) {
  int hd = f->a->hd, hp = padded(hd), hw = words(hd), hk = (hd + PAIR - 1) / PAIR;
  run runs[BK / SUB];
  int n_runs = find_runs(&f->q, kb, nk, runs);
  for (const run *r = runs; r < runs + n_runs; r++)
    mm(false, r->k1 - r->k0, r->v1 - r->v0,
       (mm_args){hk, f->k + r->k0 * hw, f->qt + r->v0 * VL, f->st + r->k0 * BQ + r->v0 * VL, hw, BQ,
                 BQ, false});
  if (f->a->rel) {
    load_line(f->a, f->s, &f->q, f->head, kb, f->line);
    for (const run *r = runs; r < runs + n_runs; r++) add_line(f->line, r, f->st);
  }
  for (int v = 0; v < f->q.nv; v++) {
    bool moved = softmax_lanes(f, kb, runs, n_runs, v);
    if (!moved || first) continue;
    vf x = vf_load(f->rescale + v * VL, VL);
    for (float *o = f->ot + v * VL; o < f->ot + hd * BQ; o += BQ)
      vf_store(o, VL, vf_load(o, VL) * x);
  }
  for (const run *r = runs; r < runs + n_runs; r++)
    mm(true, hd, r->v1 - r->v0,
       (mm_args){(r->k1 - r->k0 + PAIR - 1) / PAIR, f->vp + r->k0 / PAIR * hp,
                 f->st + r->k0 / PAIR * BQ + r->v0 * VL, f->ot + r->v0 * VL, hp, BQ, BQ, true});
}

/* Normalises and stores; `rows` is room for [64][hp]. */
static void forward_finish(fwd *f, int head, float *rows) {
  const tl_attn_args *a = f->a;
  int hp = padded(a->hd);
  transpose(f->ot, BQ, a->hd, f->q.nv * VL, rows, hp);
  for (int i = 0; i < f->q.nq; i++) {
    float sum = f->sum[i];
    store_row(a->dt, rows + i * hp, a->hd, sum != 0 ? 1 / sum : 0, a->o,
              (f->q.row + i) * a->ldo + (int64_t)head * a->hd, false);
    a->lse[head * a->ld_lse + f->q.row + i] = sum != 0 ? f->max[i] * LN2 + logf(sum) : -INFINITY;
  }
}

static void forward_block(fwd *f, const tl_segment *s, int head) {
  const tl_attn_args *a = f->a;
  int hp = padded(a->hd);
  int64_t kv_col = (int64_t)(head / (a->n_heads / a->n_kv)) * a->hd;
  load_queries(a, &f->q, a->q, a->ldq, head, f->ot, f->qt);
  memset(f->ot, 0, sizeof(float) * (size_t)(hp * BQ));
  for (int i = 0; i < BQ; i++) f->max[i] = -1e30f, f->sum[i] = 0; /* finite: no inf - inf */
  int first = f->q.lo / BK * BK;
  for (int kb = first; kb < f->q.hi; kb += BK) {
    int nk = f->q.hi - kb < BK ? f->q.hi - kb : BK;
    load_rows(a->dt, a->k, a->ldk, s->k0 + kb, kv_col, nk, a->hd, f->k);
    load_pairs(a->dt, a->v, a->ldv, s->k0 + kb, kv_col, nk, a->hd, f->vp);
    forward_keys(f, kb, nk, kb == first);
  }
  forward_finish(f, head, f->qt);
}

#include "kernels/attn_one.inl"

static void forward(const tl_attn_args *a, const tl_segment *s, int head, int begin, int end,
                    void *scratch) {
  if (s->q1 - s->q0 == 1 && a->dropout.p == 0) {
    one_query(a, s, head, begin, scratch);
    return;
  }
  fwd f;
  f.a = a, f.s = s, f.head = head, f.scale = a->scale * LOG2E;
  int hp = padded(a->hd), hw = words(a->hd);
  char *at = scratch;
  f.qt = carve(&at, BQ * hp), f.ot = carve(&at, BQ * hp);
  f.k = carve(&at, BK * hw), f.vp = carve(&at, BK / PAIR * hp);
  f.st = carve(&at, BK * BQ);
  for (int row = begin, next; row < end; row = next) {
    next = row + BQ - (row - s->q0) % BQ;
    if (next > end) next = end;
    queries_init(&f.q, a, s, head, row, next - row);
    forward_block(&f, s, head);
  }
}

typedef struct bwd {
  const tl_attn_args *a;
  const tl_segment *s;
  int head;
  queries q;
  float *k, *v, *dk, *dv;    /* [keys][hw] twice, [keys][hp] twice */
  const float *kp;           /* [keys/PAIR][hp]: pairs of keys */
  float *qr, *dor;           /* [BQ][hw] */
  const float *qp, *dop;     /* [BQ/PAIR][hp]: pairs of queries */
  float *qt, *dot;           /* [hw][BQ] */
  float *st, *dst, *dsp;     /* [BK][BQ] twice, [BK/PAIR][BQ]: pairs of keys */
  float *dqt, *room;         /* [hp][BQ], [BQ][hp] */
  float *qp_room, *dop_room; /* with PAIR 2, what qp and dop point to */
  float lse[BQ], delta[BQ];  /* times log2(e); rowsum(dO o) */
  float line[BK + BQ], dline[BK + BQ];
} bwd;

/* Stores row k of P^T or dS^T for the sums over queries: words along the queries. */
VEC_INLINE void store_query_words(float *rows, int k, int v, vf x) {
#if PAIR == 2
  _mm256_storeu_si256((__m256i *)(rows + k * BQ + v * VL / 2), (__m256i)_mm512_cvtneps_pbh(x));
#else
  vf_store(rows + k * BQ + v * VL, VL, x);
#endif
}

/* S^T and dP^T of a run to words of P^T (with dropout) and of scale dS^T, for a vector of queries.
 * In place: what is overwritten has been read, as vectors and keys ascend. */
VEC_INLINE void backward_lanes(bwd *b, int kb, const run *r, int v) {
  const tl_attn_args *a = b->a;
  const bool drop = a->dropout.p > 0;
  const uint32_t limit = drop ? dropout_limit(a) : 0;
  const vf factor = vf_all(drop ? 1 / (1 - a->dropout.p) : 1), scale = vf_all(a->scale);
  vf lse = vf_load(b->lse + v * VL, VL), delta = vf_load(b->delta + v * VL, VL);
  vu from = vu_load((uint32_t *)b->q.from + v * VL), to = vu_load((uint32_t *)b->q.to + v * VL);
  vf log2_scale = vf_all(a->scale * LOG2E);
  for (int k = r->k0; k < r->k1; k += 4) {
    vf ds[4];
    vm keep[4] = {0};
    if (drop) keep4(a, &b->q, v, kb + k, limit, keep);
    _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) {
      ds[i] = vf_all(0);
      if (k + i >= r->k1) continue;
      int64_t at = (k + i) * BQ + v * VL;
      vf p = vf_exp2(vf_fma(vf_load(b->st + at, VL), log2_scale, -lse));
      vf dp = vf_load(b->dst + at, VL);
      if (r->masked) p = vf_pick(vm_within(vu_all((uint32_t)(kb + k + i)), from, to), p, vf_all(0));
      vf kept = p;
      if (drop) {
        kept = vf_pick(keep[i], p * factor, vf_all(0));
        dp = vf_pick(keep[i], dp * factor, vf_all(0));
      }
      ds[i] = p * scale * (dp - delta);
      if (a->drel) {
        float *d = b->dline + BK - 1 - (k + i) + v * VL;
        vf_store(d, VL, vf_load(d, VL) + ds[i]);
      }
      store_query_words(b->st, k + i, v, kept);
      if (PAIR == 2) store_query_words(b->dst, k + i, v, ds[i]);
    }
    store_words(b->dsp + v * VL, k, ds);
  }
}

/* Adds the block's gradient of the bias to that of the head. */
static void keep_line(const bwd *b, int kb) {
  const tl_attn_args *a = b->a;
  float *drel = a->drel + (int64_t)(b->head % (a->n_heads / a->n_kv)) * (2 * a->rel_max + 1);
  for (int i = 0; i < BK + BQ - 1; i++)
    drel[tl_attn_rel(a, b->s, b->q.row - b->s->q0 + i, kb + BK - 1)] += b->dline[i];
}

static void backward_keys(bwd *b, int kb, int nk) {
  int hd = b->a->hd, hp = padded(hd), hw = words(hd), hk = (hd + PAIR - 1) / PAIR;
  run runs[BK / SUB];
  int n_runs = find_runs(&b->q, kb, nk, runs);
  if (b->a->rel) load_line(b->a, b->s, &b->q, b->head, kb, b->line);
  if (b->a->drel) memset(b->dline, 0, sizeof b->dline);
  for (const run *r = runs; r < runs + n_runs; r++) {
    int nk_run = r->k1 - r->k0, nv = r->v1 - r->v0, q0 = r->v0 * VL;
    int nq = (r->v1 * VL < b->q.nq ? r->v1 * VL : b->q.nq) - q0;
    int q_words = (nq + PAIR - 1) / PAIR, k_words = (nk_run + PAIR - 1) / PAIR;
    int64_t key = kb + r->k0, at = r->k0 * BQ + q0, by_query = r->k0 * BQ + q0 / PAIR;
    const float *ds_keys = b->dsp + r->k0 / PAIR * BQ + q0;
    mm(false, nk_run, nv,
       (mm_args){hk, b->k + key * hw, b->qt + q0, b->st + at, hw, BQ, BQ, false});
    mm(false, nk_run, nv,
       (mm_args){hk, b->v + key * hw, b->dot + q0, b->dst + at, hw, BQ, BQ, false});
    if (b->a->rel) add_line(b->line, r, b->st);
    for (int v = r->v0; v < r->v1; v++) backward_lanes(b, kb, r, v);
    if (b->a->dk) {
      mm(false, nk_run, hp / VL,
         (mm_args){q_words, b->st + by_query, b->dop + q0 / PAIR * hp, b->dv + key * hp, BQ, hp, hp,
                   true});
      mm(false, nk_run, hp / VL,
         (mm_args){q_words, b->dst + by_query, b->qp + q0 / PAIR * hp, b->dk + key * hp, BQ, hp, hp,
                   true});
    }
    if (b->a->dq)
      mm(true, hd, nv,
         (mm_args){k_words, b->kp + key / PAIR * hp, ds_keys, b->dqt + q0, hp, BQ, BQ, true});
  }
  if (b->a->drel) keep_line(b, kb);
}

/* sum of x y over hd elements from ix and iy. */
static float dot(tl_dtype dt, const void *x, int64_t ix, const void *y, int64_t iy, int hd) {
  vf sum = {0};
  int c = 0;
  for (; c + VL <= hd; c += VL)
    sum = vf_fma(vf_get(dt, x, ix + c, VL), vf_get(dt, y, iy + c, VL), sum);
  if (c < hd) sum = vf_fma(vf_get(dt, x, ix + c, hd - c), vf_get(dt, y, iy + c, hd - c), sum);
  return vf_sum(sum);
}

/* delta and lse of the block's queries. */
static void backward_stats(bwd *b, int head) {
  const tl_attn_args *a = b->a;
  for (int i = 0; i < b->q.nv * VL; i++) {
    b->lse[i] = i < b->q.nq ? 0 : 1e30f, b->delta[i] = 0; /* lanes without a query: P is 0 */
    if (i >= b->q.nq) continue;
    int64_t row = b->q.row + i, col = (int64_t)head * a->hd;
    float lse = a->lse[head * a->ld_lse + row];
    if (lse > -INFINITY) b->lse[i] = lse * LOG2E;
    b->delta[i] = dot(a->dt, a->d_o, row * a->lddo + col, a->o, row * a->ldo + col, a->hd);
  }
}

static void backward_block(bwd *b, int head) {
  const tl_attn_args *a = b->a;
  int hp = padded(a->hd), lanes = b->q.nv * VL;
  load_queries(a, &b->q, a->q, a->ldq, head, b->qr, b->qt);
  load_queries(a, &b->q, a->d_o, a->lddo, head, b->dor, b->dot);
  b->qp = pair_rows(b->qr, lanes, a->hd, b->qp_room);
  b->dop = pair_rows(b->dor, lanes, a->hd, b->dop_room);
  backward_stats(b, head);
  memset(b->dqt, 0, sizeof(float) * (size_t)(hp * BQ));
  for (int kb = b->q.lo / BK * BK; kb < b->q.hi; kb += BK)
    backward_keys(b, kb, b->q.hi - kb < BK ? b->q.hi - kb : BK);
  if (!a->dq) return;
  transpose(b->dqt, BQ, a->hd, lanes, b->room, hp);
  for (int i = 0; i < b->q.nq; i++)
    store_row(a->dt, b->room + i * hp, a->hd, 1, a->dq,
              (b->q.row + i) * a->lddq + (int64_t)head * a->hd, a->dq_add);
}

/* Arrays of one call; kp_room is for the pairs of keys. */
static void backward_carve(bwd *b, int n_keys, void *scratch, float **kp_room) {
  int hp = padded(b->a->hd), hw = words(b->a->hd),
      paired = PAIR - 1; /* 0: the plain array is used */
  int64_t keys = n_keys;
  char *at = scratch;
  b->qr = carve(&at, BQ * hw), b->dor = carve(&at, BQ * hw);
  b->qt = carve(&at, BQ * hw), b->dot = carve(&at, BQ * hw);
  b->qp_room = carve(&at, paired * BQ / PAIR * hp),
  b->dop_room = carve(&at, paired * BQ / PAIR * hp);
  b->dqt = carve(&at, BQ * hp), b->room = carve(&at, BQ * hp);
  b->st = carve(&at, BK * BQ), b->dst = carve(&at, BK * BQ);
  b->dsp = paired ? carve(&at, BK / PAIR * BQ) : b->dst;
  b->k = carve(&at, keys * hw), b->v = carve(&at, keys * hw);
  b->dk = carve(&at, keys * hp), b->dv = carve(&at, keys * hp);
  *kp_room = carve(&at, paired * ((keys + 1) / PAIR) * hp);
}

static void backward(const tl_attn_args *a, const tl_segment *s, int kv_head, void *scratch) {
  bwd b;
  b.a = a, b.s = s;
  int hp = padded(a->hd), n_keys = s->k1 - s->k0, group = a->n_heads / a->n_kv;
  int64_t kv = (int64_t)n_keys * hp, col = (int64_t)kv_head * a->hd;
  float *kp_room;
  backward_carve(&b, n_keys, scratch, &kp_room);
  load_rows(a->dt, a->k, a->ldk, s->k0, col, n_keys, a->hd, b.k);
  load_rows(a->dt, a->v, a->ldv, s->k0, col, n_keys, a->hd, b.v);
  b.kp = pair_rows(b.k, n_keys, a->hd, kp_room);
  memset(b.dk, 0, sizeof(float) * (size_t)kv);
  memset(b.dv, 0, sizeof(float) * (size_t)kv);
  for (int head = kv_head * group; head < (kv_head + 1) * group; head++)
    for (int row = s->q0; row < s->q1; row += BQ) {
      queries_init(&b.q, a, s, head, row, s->q1 - row < BQ ? s->q1 - row : BQ);
      b.head = head;
      backward_block(&b, head);
    }
  for (int k = 0; a->dk && k < n_keys; k++) {
    store_row(a->dt, b.dk + (int64_t)k * hp, a->hd, 1, a->dk, (s->k0 + k) * a->lddk + col,
              a->dkv_add);
    store_row(a->dt, b.dv + (int64_t)k * hp, a->hd, 1, a->dv, (s->k0 + k) * a->lddv + col,
              a->dkv_add);
  }
}

static size_t scratch(const tl_attn_args *a, int max_k, bool backward) {
  size_t hp = (size_t)padded(a->hd), hw = (size_t)words(a->hd), keys = (size_t)max_k;
  size_t paired = PAIR - 1, floats;
  if (backward)
    floats = 4 * BQ * hw + 2 * BQ * hp + 2 * BK * BQ + 2 * keys * (hw + hp) +
             paired * (2 * BQ * hp + BK * BQ + (keys + 1) * hp) / PAIR;
  else
    floats = 2 * BQ * hp + BK * hw + BK / PAIR * hp + BK * BQ;
  return sizeof(float) * floats + 20 * 64; /* each array starts on a cache line */
}
