/* Flash attention (Dao et al., 2022) on the CPU, compiled once per instruction set.
 *
 * A block of 64 queries is kept transposed, [hd][64], so that lanes are queries all the way: scores
 * S^T [64 keys][64 queries], running maximum and sum, and O^T [hd][64]. Softmax then needs no sums
 * across lanes, keys and values are read as broadcasts without being transposed, and a query's
 * result does not depend on which lane it has or on which rows are computed with it. Keys come in
 * blocks on a fixed grid from the segment's first key. Everything inside is f32.
 *
 * The includer defines ATTN_INIT, the name of the function that fills in the table. */
#include <math.h>

#include "kernels/attn_lanes.h"
#include "kernels/attn_mm.inl"

enum { BQ = TL_ATTN_BLOCK, BK = 64, SUB = 16, NV = BQ / VL };

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

/* dst [rows][hd, padded with zeros] = f * rows of x from column col. */
static void load_rows(tl_dtype dt, const void *x, int64_t ld, int64_t row, int64_t col, int rows,
                      int hd, float f, float *dst) {
  int hp = padded(hd);
  for (int r = 0; r < rows; r++, dst += hp) {
    int64_t i = (row + r) * ld + col;
    int c = 0;
    for (; c + VL <= hd; c += VL) vf_store(dst + c, VL, vf_get(dt, x, i + c, VL) * f);
    if (c < hd) vf_store(dst + c, VL, vf_get(dt, x, i + c, hd - c) * f), c += VL;
    for (; c < hp; c += VL) vf_store(dst + c, VL, vf_all(0));
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

/* Loads queries' rows as [64][hp] and transposed [hp][64]; lanes without a query are 0. */
static void load_queries(const tl_attn_args *a, const queries *q, const void *x, int64_t ld,
                         int head, float f, float *rows, float *columns) {
  int hp = padded(a->hd), lanes = q->nv * VL;
  load_rows(a->dt, x, ld, q->row, (int64_t)head * a->hd, q->nq, a->hd, f, rows);
  memset(rows + q->nq * hp, 0, sizeof(float) * (size_t)((lanes - q->nq) * hp));
  transpose(rows, hp, lanes, hp, columns, BQ);
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

typedef struct fwd {
  const tl_attn_args *a;
  queries q;
  float *qt, *k, *v, *st, *ot; /* [hp][BQ], [BK][hp], [BK][hp], [BK][BQ], [hp][BQ] */
  float max[BQ], sum[BQ];      /* of scores times log2(e), of 2^(score - max) */
  float rescale[BQ];
} fwd;

/* Scores of the runs to unnormalised probabilities, for one vector of queries; updates the running
 * maximum and sum. Returns whether what was accumulated must be rescaled. */
VEC_INLINE bool softmax_lanes(fwd *f, int kb, const run *runs, int n_runs, int v) {
  vf old = vf_load(f->max + v * VL, VL), max = old, sum = {0};
  vu from = vu_load((uint32_t *)f->q.from + v * VL), to = vu_load((uint32_t *)f->q.to + v * VL);
  for (int r = 0; r < n_runs; r++) {
    if (v < runs[r].v0 || v >= runs[r].v1) continue;
    float *s = f->st + runs[r].k0 * BQ + v * VL;
    for (int k = runs[r].k0; k < runs[r].k1; k++, s += BQ) {
      vf x = vf_load(s, VL);
      if (runs[r].masked) {
        x = vf_pick(vm_within(vu_all((uint32_t)(kb + k)), from, to), x, vf_all(-INFINITY));
        vf_store(s, VL, x);
      }
      max = vf_max(x, max);
    }
  }
  const bool drop = f->a->dropout.p > 0;
  uint32_t limit = drop ? dropout_limit(f->a) : 0;
  float factor = drop ? 1 / (1 - f->a->dropout.p) : 1;
  for (int r = 0; r < n_runs; r++) {
    if (v < runs[r].v0 || v >= runs[r].v1) continue;
    float *s = f->st + runs[r].k0 * BQ + v * VL;
    vm keep[4];
    for (int k = runs[r].k0; k < runs[r].k1; k++, s += BQ) {
      vf p = vf_exp2(vf_load(s, VL) - max);
      sum += p;
      if (drop) {
        if (k % 4 == 0) keep4(f->a, &f->q, v, kb + k, limit, keep);
        p = vf_pick(keep[k % 4], p * factor, vf_all(0));
      }
      vf_store(s, VL, p);
    }
  }
  vf rescale = vf_exp2(old - max);
  vf_store(f->rescale + v * VL, VL, rescale);
  vf_store(f->sum + v * VL, VL, vf_fma(vf_load(f->sum + v * VL, VL), rescale, sum));
  vf_store(f->max + v * VL, VL, max);
  return !vf_same(old, max);
}

static void forward_keys(fwd *f, int kb, int nk, bool first) {
  int hd = f->a->hd, hp = padded(hd), nv = f->q.nv;
  run runs[BK / SUB];
  int n_runs = find_runs(&f->q, kb, nk, runs);
  for (const run *r = runs; r < runs + n_runs; r++)
    mm(false, r->k1 - r->k0, r->v1 - r->v0,
       (mm_args){hd, f->k + r->k0 * hp, f->qt + r->v0 * VL, f->st + r->k0 * BQ + r->v0 * VL, hp, BQ,
                 BQ, false});
  for (int v = 0; v < nv; v++) {
    bool moved = softmax_lanes(f, kb, runs, n_runs, v);
    if (!moved || first) continue;
    vf x = vf_load(f->rescale + v * VL, VL);
    for (float *o = f->ot + v * VL; o < f->ot + hd * BQ; o += BQ)
      vf_store(o, VL, vf_load(o, VL) * x);
  }
  for (const run *r = runs; r < runs + n_runs; r++)
    mm(true, hd, r->v1 - r->v0,
       (mm_args){r->k1 - r->k0, f->v + r->k0 * hp, f->st + r->k0 * BQ + r->v0 * VL,
                 f->ot + r->v0 * VL, hp, BQ, BQ, true});
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
  load_queries(a, &f->q, a->q, a->ldq, head, a->scale * LOG2E, f->ot, f->qt);
  memset(f->ot, 0, sizeof(float) * (size_t)(hp * BQ));
  for (int i = 0; i < BQ; i++) f->max[i] = -1e30f, f->sum[i] = 0; /* finite: no inf - inf */
  int first = f->q.lo / BK * BK;
  for (int kb = first; kb < f->q.hi; kb += BK) {
    int nk = f->q.hi - kb < BK ? f->q.hi - kb : BK;
    load_rows(a->dt, a->k, a->ldk, s->k0 + kb, kv_col, nk, a->hd, 1, f->k);
    load_rows(a->dt, a->v, a->ldv, s->k0 + kb, kv_col, nk, a->hd, 1, f->v);
    forward_keys(f, kb, nk, kb == first);
  }
  forward_finish(f, head, f->qt);
}

static void forward(const tl_attn_args *a, const tl_segment *s, int head, int begin, int end,
                    void *scratch) {
  fwd f = {.a = a};
  int hp = padded(a->hd);
  char *at = scratch;
  f.qt = carve(&at, BQ * hp), f.ot = carve(&at, BQ * hp);
  f.k = carve(&at, BK * hp), f.v = carve(&at, BK * hp);
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
  queries q;
  float *k, *v, *dk, *dv;     /* [keys][hp] */
  float *qr, *dor, *qt, *dot; /* [BQ][hp] twice, [hp][BQ] twice */
  float *st, *dst, *dqt;      /* [BK][BQ] twice, [hp][BQ] */
  float lse[BQ], delta[BQ];   /* times log2(e); rowsum(dO o) */
} bwd;

/* S^T and dP^T of a run to P^T (with dropout) and scale dS^T, in place, for a vector of queries. */
VEC_INLINE void backward_lanes(bwd *b, int kb, const run *r, int v) {
  const tl_attn_args *a = b->a;
  const bool drop = a->dropout.p > 0;
  const uint32_t limit = drop ? dropout_limit(a) : 0;
  const vf factor = vf_all(drop ? 1 / (1 - a->dropout.p) : 1), scale = vf_all(a->scale);
  vf lse = vf_load(b->lse + v * VL, VL), delta = vf_load(b->delta + v * VL, VL);
  vu from = vu_load((uint32_t *)b->q.from + v * VL), to = vu_load((uint32_t *)b->q.to + v * VL);
  vf log2_scale = vf_all(a->scale * LOG2E);
  vm keep[4];
  for (int k = r->k0; k < r->k1; k++) {
    float *s = b->st + k * BQ + v * VL, *d = b->dst + k * BQ + v * VL;
    vf p = vf_exp2(vf_fma(vf_load(s, VL), log2_scale, -lse)), dp = vf_load(d, VL), kept = p;
    if (r->masked) {
      p = vf_pick(vm_within(vu_all((uint32_t)(kb + k)), from, to), p, vf_all(0));
      kept = p;
    }
    if (drop) {
      if (k % 4 == 0) keep4(a, &b->q, v, kb + k, limit, keep);
      kept = vf_pick(keep[k % 4], p * factor, vf_all(0));
      dp = vf_pick(keep[k % 4], dp * factor, vf_all(0));
    }
    vf_store(s, VL, kept);
    vf_store(d, VL, p * scale * (dp - delta));
  }
}

static void backward_keys(bwd *b, int kb, int nk) {
  int hd = b->a->hd, hp = padded(hd);
  run runs[BK / SUB];
  int n_runs = find_runs(&b->q, kb, nk, runs);
  for (const run *r = runs; r < runs + n_runs; r++) {
    int nk_run = r->k1 - r->k0, nv = r->v1 - r->v0, q0 = r->v0 * VL;
    int nq = (r->v1 * VL < b->q.nq ? r->v1 * VL : b->q.nq) - q0;
    int64_t key = (int64_t)(kb + r->k0) * hp, at = r->k0 * BQ + q0;
    float *st = b->st + at, *dst = b->dst + at;
    mm(false, nk_run, nv, (mm_args){hd, b->k + key, b->qt + q0, st, hp, BQ, BQ, false});
    mm(false, nk_run, nv, (mm_args){hd, b->v + key, b->dot + q0, dst, hp, BQ, BQ, false});
    for (int v = r->v0; v < r->v1; v++) backward_lanes(b, kb, r, v);
    if (b->a->dk) {
      mm(false, nk_run, hp / VL,
         (mm_args){nq, st, b->dor + q0 * hp, b->dv + key, BQ, hp, hp, true});
      mm(false, nk_run, hp / VL,
         (mm_args){nq, dst, b->qr + q0 * hp, b->dk + key, BQ, hp, hp, true});
    }
    if (b->a->dq)
      mm(true, hd, nv, (mm_args){nk_run, b->k + key, dst, b->dqt + q0, hp, BQ, BQ, true});
  }
}

/* delta and lse of the block's queries; `o` is room for one row. */
static void backward_stats(bwd *b, int head, float *o) {
  const tl_attn_args *a = b->a;
  int hp = padded(a->hd);
  for (int i = 0; i < b->q.nv * VL; i++) {
    b->lse[i] = 0, b->delta[i] = 0;
    if (i >= b->q.nq) continue;
    float lse = a->lse[head * a->ld_lse + b->q.row + i];
    if (lse > -INFINITY) b->lse[i] = lse * LOG2E;
    load_rows(a->dt, a->o, a->ldo, b->q.row + i, (int64_t)head * a->hd, 1, a->hd, 1, o);
    vf sum = {0};
    for (int c = 0; c < hp; c += VL)
      sum = vf_fma(vf_load(o + c, VL), vf_load(b->dor + i * hp + c, VL), sum);
    b->delta[i] = vf_sum(sum);
  }
}

static void backward_block(bwd *b, int head) {
  const tl_attn_args *a = b->a;
  int hp = padded(a->hd);
  load_queries(a, &b->q, a->q, a->ldq, head, 1, b->qr, b->qt);
  load_queries(a, &b->q, a->d_o, a->lddo, head, 1, b->dor, b->dot);
  backward_stats(b, head, b->dqt);
  memset(b->dqt, 0, sizeof(float) * (size_t)(hp * BQ));
  for (int kb = b->q.lo / BK * BK; kb < b->q.hi; kb += BK)
    backward_keys(b, kb, b->q.hi - kb < BK ? b->q.hi - kb : BK);
  if (!a->dq) return;
  transpose(b->dqt, BQ, a->hd, b->q.nv * VL, b->qr, hp);
  for (int i = 0; i < b->q.nq; i++)
    store_row(a->dt, b->qr + i * hp, a->hd, 1, a->dq,
              (b->q.row + i) * a->lddq + (int64_t)head * a->hd, a->dq_add);
}

static void backward(const tl_attn_args *a, const tl_segment *s, int kv_head, void *scratch) {
  bwd b = {.a = a};
  int hp = padded(a->hd), n_keys = s->k1 - s->k0, group = a->n_heads / a->n_kv;
  int64_t kv = (int64_t)n_keys * hp, col = (int64_t)kv_head * a->hd;
  char *at = scratch;
  b.qr = carve(&at, BQ * hp), b.dor = carve(&at, BQ * hp);
  b.qt = carve(&at, BQ * hp), b.dot = carve(&at, BQ * hp);
  b.dqt = carve(&at, BQ * hp);
  b.st = carve(&at, BK * BQ), b.dst = carve(&at, BK * BQ);
  b.k = carve(&at, kv), b.v = carve(&at, kv), b.dk = carve(&at, kv), b.dv = carve(&at, kv);
  load_rows(a->dt, a->k, a->ldk, s->k0, col, n_keys, a->hd, 1, b.k);
  load_rows(a->dt, a->v, a->ldv, s->k0, col, n_keys, a->hd, 1, b.v);
  memset(b.dk, 0, sizeof(float) * (size_t)kv);
  memset(b.dv, 0, sizeof(float) * (size_t)kv);
  for (int head = kv_head * group; head < (kv_head + 1) * group; head++)
    for (int row = s->q0; row < s->q1; row += BQ) {
      queries_init(&b.q, a, s, head, row, s->q1 - row < BQ ? s->q1 - row : BQ);
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
  size_t hp = (size_t)padded(a->hd), keys = (size_t)max_k;
  size_t floats =
      backward ? 5 * BQ * hp + 2 * BK * BQ + 4 * keys * hp : 2 * BQ * hp + 2 * BK * hp + BK * BQ;
  return sizeof(float) * floats + 12 * 64; /* each array starts on a cache line */
}

void ATTN_INIT(tl_attn_kernels *k) {
  *k = (tl_attn_kernels){scratch, forward, backward};
}
