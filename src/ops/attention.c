/* Softmax attention over packed segments, with grouped heads, causal and windowed masks.
 *
 * Work is cut into (segment, head, block of queries) forward and (segment, key-value head)
 * backward. Segments do not overlap; rows in no segment give 0 and get no gradient.
 *
 * A bias by relative position is a table by bucket, laid out by distance for the kernels before
 * each pass. Its gradient comes back by distance and is summed by bucket, first within a segment
 * and head, then over segments in their order. */
#include <math.h>
#include <string.h>

#include "kernels/attn.h"
#include "ops/ops.h"
#include "ops/partials.h"

typedef struct attention_attr {
  tl_attention_spec spec;
  tl_attn_args args; /* without pointers */
} attention_attr;

enum { SEG_COLS = sizeof(tl_segment) / sizeof(int32_t), IN_TABLE = 3, TL_MAX_DISTANCE = 4096 };

static bool overlap(int64_t a, int64_t na, int64_t b, int64_t nb) {
  return a < b + nb && b < a + na;
}

static tl_status check_relative(const tl_node *table, const tl_attention_spec *s, tl_err *err) {
  int64_t buckets = table->shape[0];
  if (table->ndim != 2 || table->shape[1] != s->n_heads)
    return tl_fail(err, TL_INTERNAL, "%s must be [buckets, %d]", table->name, s->n_heads);
  if (buckets < 4 || buckets > 1024 || buckets % 2 || s->rel.max_distance <= buckets / 2 ||
      s->rel.max_distance > TL_MAX_DISTANCE)
    return tl_fail(err, TL_CONFIG,
                   "%lld buckets for relative positions up to %d: buckets must be even, 4 to 1024, "
                   "and the distance more than half of them, at most %d",
                   (long long)buckets, s->rel.max_distance, TL_MAX_DISTANCE);
  return TL_OK;
}

static tl_status check(const tl_node *n, const tl_attention_spec *s, tl_err *err) {
  const tl_node *q = n->in[0], *kv = n->in[1], *segs = n->in[2];
  if (s->hd < 1 || s->hd > TL_ATTN_MAX_HD)
    return tl_fail(err, TL_CONFIG, "head size %d is outside 1..%d", s->hd, TL_ATTN_MAX_HD);
  if (s->n_kv < 1 || s->n_heads < 1 || s->n_heads % s->n_kv)
    return tl_fail(err, TL_CONFIG, "%d heads cannot share %d key-value heads", s->n_heads, s->n_kv);
  int64_t q_cols = (int64_t)s->n_heads * s->hd, kv_cols = (int64_t)s->n_kv * s->hd;
  if (s->q_col < 0 || s->q_col + q_cols > tl_cols(q) || s->k_col < 0 ||
      s->k_col + kv_cols > tl_cols(kv) || s->v_col < 0 || s->v_col + kv_cols > tl_cols(kv))
    return tl_fail(err, TL_INTERNAL, "heads lie outside the columns of their source");
  if (overlap(s->k_col, kv_cols, s->v_col, kv_cols) ||
      (q == kv && (overlap(s->q_col, q_cols, s->k_col, kv_cols) ||
                   overlap(s->q_col, q_cols, s->v_col, kv_cols))))
    return tl_fail(err, TL_INTERNAL, "columns of queries, keys and values overlap");
  if (q->dt == TL_I32 || kv->dt != q->dt)
    return tl_fail(err, TL_INTERNAL, "queries and keys differ in type");
  if (segs->dt != TL_I32 || tl_cols(segs) != SEG_COLS)
    return tl_fail(err, TL_INTERNAL, "segments must be i32 [S, %d]", SEG_COLS);
  if (!(s->scale >= 0))
    return tl_fail(err, TL_CONFIG, "scale %g must not be negative", (double)s->scale);
  if (s->window < 0 || !(s->dropout >= 0 && s->dropout < 1))
    return tl_fail(err, TL_CONFIG, "window %d must be >= 0 and dropout %g in [0, 1)", s->window,
                   (double)s->dropout);
  if (n->in[IN_TABLE]) TL_TRY(check_relative(n->in[IN_TABLE], s, err));
  if (kv->shape[0] > 1 << 20) /* dropout positions and int rows */
    return tl_fail(err, TL_CONFIG, "%lld keys in one batch; at most 2^20 are possible",
                   (long long)kv->shape[0]);
  return TL_OK;
}

static size_t align64(size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

/* Distances of the bias. */
static int64_t reach(const tl_node *n) {
  const attention_attr *a = n->attr;
  return n->in[IN_TABLE] ? 2 * (int64_t)a->spec.rel.max_distance + 1 : 0;
}

/* Of a worker's block, before what the kernel asks for: gradients of the bias by distance. */
static size_t drel_bytes(const tl_node *n, bool backward) {
  const attention_attr *a = n->attr;
  return backward ? align64((size_t)(a->spec.n_heads / a->spec.n_kv * reach(n)) * sizeof(float))
                  : 0;
}

static size_t worker_bytes(const tl_kernels *k, const tl_node *n, bool backward) {
  const attention_attr *a = n->attr;
  return drel_bytes(n, backward) +
         align64(k->attn[n->dt].scratch(&a->args, (int)n->in[1]->shape[0], backward));
}

/* Scratch: partial gradients of the table, one per segment (backward); the bias by distance; task
 * counts before each segment; one block per worker. */
static size_t partials_bytes(const tl_node *n, bool backward) {
  const tl_node *table = n->in[IN_TABLE];
  return table && backward ? align64(tl_partials_bytes(n->in[2]->shape[0], 1, tl_max_count(table)))
                           : 0;
}

static size_t rel_bytes(const tl_node *n) {
  const attention_attr *a = n->attr;
  return align64((size_t)(a->spec.n_heads * reach(n)) * sizeof(float));
}

static size_t prefix_bytes(const tl_node *n, bool backward) {
  return partials_bytes(n, backward) + rel_bytes(n) +
         align64((size_t)(n->in[2]->shape[0] + 1) * sizeof(int64_t));
}

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  attention_attr *a = n->attr;
  const tl_attention_spec *s = &a->spec;
  TL_TRY(check(n, s, err));
  a->args = (tl_attn_args){.dt = n->dt,
                           .n_heads = s->n_heads,
                           .n_kv = s->n_kv,
                           .hd = s->hd,
                           .scale = s->scale != 0 ? s->scale : 1 / sqrtf((float)s->hd),
                           .window = s->window,
                           .rel_max = s->rel.max_distance,
                           .ldq = tl_cols(n->in[0]),
                           .ldk = tl_cols(n->in[1]),
                           .ldv = tl_cols(n->in[1]),
                           .ldo = (int64_t)s->n_heads * s->hd,
                           .ld_lse = n->in[0]->shape[0]};
  n->ndim = 2;
  n->shape[1] = a->args.ldo;
  n->saved_bytes = (size_t)(s->n_heads * n->shape[0]) * sizeof(float); /* lse */
  size_t workers = (size_t)tl_ctx_threads(g->ctx);
  n->scratch_fwd = prefix_bytes(n, false) + workers * worker_bytes(g->ctx->k, n, false);
  n->scratch_bwd = prefix_bytes(n, true) + workers * worker_bytes(g->ctx->k, n, true);
  return TL_OK;
}

static tl_attn_args bind(tl_exec *x, const tl_node *n) {
  const attention_attr *attr = n->attr;
  const tl_attention_spec *s = &attr->spec;
  tl_attn_args a = attr->args;
  a.q = tl_at(n->dt, n->in[0]->data, s->q_col);
  a.k = tl_at(n->dt, n->in[1]->data, s->k_col);
  a.v = tl_at(n->dt, n->in[1]->data, s->v_col);
  a.o = n->data;
  a.lse = n->saved;
  a.dropout = tl_exec_dropout(x, n, s->dropout);
  return a;
}

typedef struct job {
  const tl_attn_kernels *k;
  tl_attn_args a;
  const tl_segment *segs;
  int64_t n_segs, units, grain;
  int64_t *first; /* the first unit of each segment */
  char *scratch;
  size_t worker_bytes, drel_bytes; /* drel_bytes is 0 where the table has no gradient */
  float *partials;                 /* [segments][buckets][heads] */
  const tl_node *table;
  tl_relative rel;
  bool backward;
} job;

/* The table's values by distance, for each head. */
static void lay_out_bias(const tl_node *n, float *rel) {
  const attention_attr *attr = n->attr;
  const tl_node *table = n->in[IN_TABLE];
  const tl_relative *r = &attr->spec.rel;
  int heads = attr->spec.n_heads, buckets = (int)table->shape[0];
  for (int64_t i = 0; i < reach(n); i++) {
    int b = tl_relative_bucket((int)i - r->max_distance, buckets, r->max_distance, r->causal);
    for (int h = 0; h < heads; h++)
      rel[h * reach(n) + i] = ((const float *)table->data)[b * heads + h];
  }
}

/* What a unit gave by distance, to its heads' columns of its segment's partial. */
static void fold_bias(const job *j, int64_t segment, int kv_head, const float *drel) {
  int heads = j->a.n_heads, group = heads / j->a.n_kv, buckets = (int)j->table->shape[0];
  int max = j->a.rel_max;
  float *part = j->partials + segment * buckets * heads + kv_head * group;
  for (int b = 0; b < buckets; b++) memset(part + b * heads, 0, (size_t)group * sizeof *part);
  for (int h = 0; h < group; h++, drel += 2 * max + 1)
    for (int i = 0; i <= 2 * max; i++)
      part[tl_relative_bucket(i - max, buckets, max, j->rel.causal) * heads + h] += drel[i];
}

/* A task is several units when there are very many, so that short segments cost no more. */
enum { MANY_UNITS = 1024, UNITS_PER_TASK = 8 };

static int64_t blocks(const job *j, const tl_segment *s) {
  return j->backward ? 1 : (s->q1 - s->q0 + TL_ATTN_BLOCK - 1) / TL_ATTN_BLOCK;
}

static job job_new(tl_exec *x, const tl_node *n, bool backward) {
  job j = {.k = &x->k->attn[n->dt], .a = bind(x, n), .backward = backward};
  j.segs = n->in[2]->data;
  j.n_segs = tl_rows(x->g, n->in[2]);
  const attention_attr *attr = n->attr;
  j.partials = x->scratch;
  float *rel = (float *)((char *)x->scratch + partials_bytes(n, backward));
  j.first = (int64_t *)((char *)rel + rel_bytes(n));
  j.scratch = (char *)x->scratch + prefix_bytes(n, backward);
  j.worker_bytes = worker_bytes(x->k, n, backward);
  j.table = n->in[IN_TABLE];
  j.rel = attr->spec.rel;
  if (j.table) {
    lay_out_bias(n, rel);
    j.a.rel = rel;
  }
  if (backward && tl_wants_grad(n, IN_TABLE)) j.drel_bytes = drel_bytes(n, true);
  for (int64_t s = 0; s < j.n_segs; s++) {
    j.first[s] = j.units;
    j.units += blocks(&j, j.segs + s) * (backward ? j.a.n_kv : j.a.n_heads);
  }
  j.first[j.n_segs] = j.units;
  j.grain = j.units >= MANY_UNITS ? UNITS_PER_TASK : 1;
  return j;
}

/* The segment of a unit: the last one that starts at or before it. */
static int64_t segment_of(const job *j, int64_t unit) {
  int64_t lo = 0, hi = j->n_segs;
  while (hi - lo > 1) {
    int64_t mid = lo + (hi - lo) / 2;
    if (j->first[mid] <= unit)
      lo = mid;
    else
      hi = mid;
  }
  return lo;
}

static void backward_unit(const job *j, int64_t segment, int kv_head, char *scratch) {
  tl_attn_args a = j->a;
  if (j->drel_bytes) {
    a.drel = (float *)scratch;
    memset(scratch, 0, j->drel_bytes);
  }
  j->k->backward(&a, j->segs + segment, kv_head, scratch + j->drel_bytes);
  if (j->drel_bytes) fold_bias(j, segment, kv_head, a.drel);
}

static void run_units(void *arg, int64_t begin, int64_t end, int worker) {
  const job *j = arg;
  char *scratch = j->scratch + (size_t)worker * j->worker_bytes;
  int64_t at = segment_of(j, begin);
  for (int64_t u = begin; u < end; u++) {
    while (j->first[at + 1] <= u) at++;
    const tl_segment *s = j->segs + at;
    int64_t n_blocks = blocks(j, s), i = u - j->first[at];
    int head = (int)(i / n_blocks), q = s->q0 + (int)(i % n_blocks) * TL_ATTN_BLOCK;
    if (j->backward)
      backward_unit(j, at, head, scratch);
    else
      j->k->forward(&j->a, s, head, q, q + TL_ATTN_BLOCK < s->q1 ? q + TL_ATTN_BLOCK : s->q1,
                    scratch);
  }
}

/* Whether all rows (of queries, or of keys) lie in some segment. */
static bool covered(const job *j, int64_t rows, bool keys) {
  int64_t sum = 0;
  for (int64_t s = 0; s < j->n_segs; s++)
    sum += keys ? j->segs[s].k1 - j->segs[s].k0 : j->segs[s].q1 - j->segs[s].q0;
  return sum == rows;
}

static void zero(tl_exec *x, const tl_node *n, void *p) {
  tl_parallel_zero(x->ctx, p, (size_t)tl_count(x->g, n) * tl_dtype_size(n->dt));
}

static void forward(tl_exec *x, tl_node *n) {
  job j = job_new(x, n, false);
  if (!covered(&j, tl_rows(x->g, n), false)) zero(x, n, n->data);
  tl_parallel_ranges(x->ctx, j.units, j.grain, run_units, &j);
}

static void backward(tl_exec *x, tl_node *n) {
  const attention_attr *attr = n->attr;
  const tl_attention_spec *s = &attr->spec;
  job j = job_new(x, n, true);
  tl_node *q = n->in[0], *kv = n->in[1];
  int64_t q_cols = (int64_t)s->n_heads * s->hd, kv_cols = 2 * (int64_t)s->n_kv * s->hd;
  j.a.d_o = n->grad;
  j.a.lddo = j.a.ldo;
  j.a.lddq = j.a.ldq;
  j.a.lddk = j.a.lddv = j.a.ldk;
  j.a.dq_add = tl_grad_adds(x, n, 0);
  /* one packed source has one gradient, whose first contribution is that of the queries */
  j.a.dkv_add = q == kv ? j.a.dq_add : tl_grad_adds(x, n, 1);
  if (tl_wants_grad(n, 0)) {
    bool full = (q == kv ? q_cols + kv_cols : q_cols) == tl_cols(q);
    full = full && covered(&j, tl_rows(x->g, q), false);
    if (q == kv) full = full && covered(&j, tl_rows(x->g, kv), true);
    if (!j.a.dq_add && !full) zero(x, q, q->grad);
    j.a.dq = tl_at(n->dt, q->grad, s->q_col);
  }
  if (tl_wants_grad(n, 1)) {
    bool full = kv_cols == tl_cols(kv) && covered(&j, tl_rows(x->g, kv), true);
    if (q != kv && !j.a.dkv_add && !full) zero(x, kv, kv->grad);
    j.a.dk = tl_at(n->dt, kv->grad, s->k_col);
    j.a.dv = tl_at(n->dt, kv->grad, s->v_col);
  }
  tl_parallel_ranges(x->ctx, j.units, j.grain, run_units, &j);
  if (!j.drel_bytes) return;
  int64_t width = tl_max_count(j.table);
  tl_partials_reduce(x, n, IN_TABLE, j.n_segs, 1, width, 0, width);
}

/* Pairs of query and key that see each other, of the segments at hand or, while there are none, of
 * one segment over all rows. */
static double pairs(const tl_graph *g, const tl_node *n, int window) {
  const tl_segment *segs = n->in[2]->data;
  double sum = 0;
  for (int64_t s = 0; segs && s < tl_rows(g, n->in[2]); s++)
    for (int i = 0; i < segs[s].q1 - segs[s].q0; i++) {
      tl_attn_span span = tl_attn_keys(segs + s, window, i);
      if (span.hi > span.lo) sum += span.hi - span.lo;
    }
  return sum > 0 ? sum : (double)tl_rows(g, n) * (double)tl_rows(g, n->in[1]);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  const attention_attr *a = n->attr;
  c->flops_fwd = 4 * pairs(g, n, a->spec.window) * (double)a->args.ldo;
  c->flops_bwd = 2.5 * c->flops_fwd;
  double size = (double)tl_dtype_size(n->dt), rows = (double)tl_rows(g, n);
  double kv = 2 * (double)tl_rows(g, n->in[1]) * a->spec.n_kv * a->spec.hd * size;
  c->bytes_fwd = 2 * rows * (double)a->args.ldo * size + kv;
  c->bytes_bwd = 4 * rows * (double)a->args.ldo * size + 2 * kv;
}

/* Dims: rows, heads, key-value heads, head size, kind, window, dropout in percent. Kinds: full,
 * causal, cross (keys are another node), cached (causal over more keys), twice (two readers of one
 * source, which has columns of nobody). Then the largest distance of a bias with 8 buckets. */
enum { FULL = 1, CAUSAL, CROSS, CACHED, TWICE };

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  int rows = (int)d[0], third = rows / 3, kind = (int)d[4];
  int64_t q_cols = d[1] * d[3], kv_cols = d[2] * d[3];
  tl_attention_spec s = {.n_heads = (int)d[1],
                         .n_kv = (int)d[2],
                         .hd = (int)d[3],
                         .window = (int)d[5],
                         .dropout = (float)d[6] / 100};
  int32_t c = kind != FULL && kind != CROSS;
  /* the row between the second segment and the third belongs to none */
  tl_segment segs[] = {{0, third, 0, third, c},
                       {third, 2 * third, third, 2 * third, c},
                       {2 * third + 1, rows, 2 * third + 1, rows, c}};
  if (d[7])
    s.rel = (tl_relative){.table = tl_case_param(g, 2, (int64_t[]){8, d[1]}, 0, 1),
                          .max_distance = (int)d[7],
                          .causal = c};
  if (segs[2].q0 > rows) segs[2].q0 = segs[2].k0 = rows;
  if (kind == CROSS || kind == CACHED)
    for (int i = 0; i < 3; i++) segs[i].k0 += 5 * i, segs[i].k1 += 5 * i + 5;
  tl_node *seg = tl_case_ints(g, 2, (int64_t[]){3, SEG_COLS}, (const int32_t *)segs);
  if (kind == CROSS || kind == CACHED) {
    s.v_col = (int)kv_cols;
    return tl_attention(g, tl_case_input(g, rows, q_cols), tl_case_input(g, rows + 15, 2 * kv_cols),
                        seg, &s);
  }
  s.k_col = (int)q_cols;
  s.v_col = (int)(q_cols + kv_cols);
  tl_node *qkv = tl_case_input(g, rows, q_cols + 2 * kv_cols + (kind == TWICE));
  tl_node *o = tl_attention(g, qkv, qkv, seg, &s);
  if (kind != TWICE) return o;
  s.window = 3;
  return tl_add(g, o, tl_attention(g, qkv, qkv, seg, &s));
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1, 1, 1, FULL},
                                                  {17, 2, 2, 8, FULL},
                                                  {40, 2, 1, 16, CAUSAL},
                                                  {40, 4, 2, 5, CROSS},
                                                  {30, 2, 1, 8, CACHED},
                                                  {50, 2, 1, 8, CAUSAL, 6},
                                                  {50, 1, 1, 8, FULL, 8},
                                                  {33, 2, 2, 8, CAUSAL, 0, 20},
                                                  {40, 2, 1, 4, TWICE},
                                                  {320, 2, 1, 32, CAUSAL},
                                                  {50, 2, 2, 8, FULL, 0, 0, 20},
                                                  {60, 4, 2, 8, CAUSAL, 0, 20, 5},
                                                  {40, 2, 1, 4, TWICE, 0, 0, 12},
                                                  {30, 2, 1, 8, CACHED, 0, 0, 9},
                                                  {3, 2, 1, 8, CACHED, 0, 0, 9},
                                                  {330, 3, 3, 16, FULL, 0, 0, 128},
                                                  {0}};

const tl_op tl_op_attention = {
    .name = "attention",
    .formula = "o = softmax(mask(scale (q k^T + bias[bucket(distance)]))) v",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 15,
    .bwd_output = true,
    .build_case = build_case,
    .cases = cases,
    .bench = {1536, 12, 12, 64, CAUSAL},
    .tol = {1e-5f, 1.5e-2f},
    .tol_bwd = {1e-5f, 2.5e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_attention(tl_graph *g, tl_node *q_src, tl_node *kv_src, tl_node *segments,
                      const tl_attention_spec *spec) {
  tl_param *table = spec->rel.table;
  tl_node *in[] = {q_src, kv_src, segments, table ? tl_graph_param(g, table) : NULL};
  attention_attr a = {.spec = *spec};
  return tl_graph_op(g, &tl_op_attention, in, 4, &a, sizeof a);
}
