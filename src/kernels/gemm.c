#include "kernels/gemm.h"

#include <string.h>
#include <time.h>

#include "kernels/gemm_impl.h"

/* --- packing ------------------------------------------------------------------------------- */

size_t tl_gemm_packed_bytes(const tl_kernels *k, tl_dtype dt, int64_t K, int64_t N) {
  const tl_gemm_kernels *g = &k->gemm[dt];
  return (size_t)(ceil_div(N, g->nr) * g->nr * tl_gemm_round_k(g, K) * tl_gemm_elem(g));
}

/* What one packing task handles: rows of k and panels. A task reads long stretches of memory along
 * the contiguous axis of its source. */
enum { PACK_K = 256, PACK_ROWS = 32, PACK_PANELS = 12 };

typedef struct pack_job {
  const tl_gemm_kernels *g;
  tl_gemm_pack_args a;
  int64_t first_panel, panels, rows, row_tasks, panels_per_task;
} pack_job;

/* Zeroes columns [from, nr) of groups [g0, g1) of a panel. */
static void zero_columns(const tl_gemm_kernels *g, char *panel, int64_t from, int64_t g0,
                         int64_t g1) {
  int64_t group = g->k_group * tl_gemm_elem(g);
  for (int64_t i = g0; i < g1; i++)
    memset(panel + (i * g->nr + from) * group, 0, (size_t)((g->nr - from) * group));
}

/* Packs rows [r0, r1) of the source into one panel. */
static void pack_panel(const pack_job *job, int64_t panel, int64_t r0, int64_t r1) {
  const tl_gemm_kernels *g = job->g;
  const tl_gemm_pack_args *a = &job->a;
  int64_t elem = tl_gemm_elem(g), src_elem = (int64_t)tl_dtype_size(a->src_dt);
  int64_t c0 = panel * g->nr, c1 = min64(c0 + g->nr, a->N);
  if (c0 < a->n0) c0 = a->n0;
  if (c1 > a->n0 + a->cols) c1 = a->n0 + a->cols;
  int64_t first = c0 - panel * g->nr, k = a->k0 + r0;
  char *base = (char *)a->packed + panel * tl_gemm_round_k(g, a->K) * g->nr * elem;
  char *dst = base + (k / g->k_group * g->nr + first) * g->k_group * elem;
  int64_t at = a->trans ? (c0 - a->n0) * a->ld + r0 : r0 * a->ld + c0 - a->n0;
  const char *src = (const char *)a->src + at * src_elem;
  const struct tl_gemm_impl *impl = tl_gemm_impl_of(g);
  (a->trans ? impl->pack_cols : impl->pack_rows)(a->src_dt, src, a->ld, r1 - r0, c1 - c0, g->nr,
                                                 dst);
  if (c1 == a->N && c1 < (panel + 1) * g->nr)
    zero_columns(g, base, c1 - panel * g->nr, k / g->k_group, ceil_div(a->k0 + r1, g->k_group));
}

static void pack_task(void *arg, int64_t task, int worker) {
  (void)worker;
  const pack_job *job = arg;
  int64_t r0 = task % job->row_tasks * job->rows, r1 = min64(r0 + job->rows, job->a.rows);
  int64_t p0 = task / job->row_tasks * job->panels_per_task;
  int64_t p1 = min64(p0 + job->panels_per_task, job->panels);
  for (int64_t p = p0; p < p1; p++) pack_panel(job, job->first_panel + p, r0, r1);
}

void tl_gemm_pack(tl_ctx *ctx, const tl_gemm_pack_args *a) {
  if (a->rows <= 0 || a->cols <= 0) return;
  const tl_gemm_kernels *g = &ctx->k->gemm[a->dt];
  pack_job job = {.g = g, .a = *a, .first_panel = a->n0 / g->nr};
  job.panels = ceil_div(a->n0 + a->cols, g->nr) - job.first_panel;
  job.rows = a->trans ? PACK_K : PACK_ROWS;
  job.panels_per_task = a->trans ? 1 : PACK_PANELS;
  job.row_tasks = ceil_div(a->rows, job.rows);
  tl_parallel(ctx->pool, job.row_tasks * ceil_div(job.panels, job.panels_per_task), pack_task,
              &job);
}

/* pack_panel of a panel that the source fills, by way of a buffer that stays in the first cache. */
static void stream_panel(const tl_kernels *kern, const pack_job *job, int64_t panel) {
  enum { BUFFER = 16384 };
  _Alignas(64) char buffer[BUFFER];
  const tl_gemm_kernels *g = job->g;
  const tl_gemm_pack_args *a = &job->a;
  pack_job part = *job;
  int64_t row = g->nr * tl_gemm_elem(g), step = BUFFER / row, c = panel * g->nr - a->n0;
  char *dst = (char *)a->packed + (panel * tl_gemm_round_k(g, a->K) + a->k0) * row;
  part.a.N = part.a.cols = g->nr;
  part.a.k0 = part.a.n0 = 0;
  part.a.packed = buffer;
  for (int64_t r = 0; r < a->rows; r += step) {
    int64_t at = a->trans ? c * a->ld + r : r * a->ld + c;
    part.a.src = (const char *)a->src + at * (int64_t)tl_dtype_size(a->src_dt);
    part.a.K = part.a.rows = min64(step, a->rows - r);
    pack_panel(&part, 0, 0, part.a.rows);
    kern->optim.stream(dst + r * row, buffer, (size_t)(tl_gemm_round_k(g, part.a.rows) * row));
  }
}

void tl_gemm_pack_here(const tl_kernels *k, const tl_gemm_pack_args *a, bool stream) {
  if (a->rows <= 0 || a->cols <= 0) return;
  pack_job job = {.g = &k->gemm[a->dt], .a = *a};
  int64_t nr = job.g->nr, end = a->n0 + a->cols;
  for (int64_t p = a->n0 / nr; p < ceil_div(end, nr); p++) {
    if (stream && p * nr >= a->n0 && (p + 1) * nr <= end)
      stream_panel(k, &job, p);
    else
      pack_panel(&job, p, 0, a->rows);
  }
}

/* --- product ------------------------------------------------------------------------------- */

typedef struct gemm_job {
  tl_gemm_args a;
  const tl_gemm_kernels *g;
  const tl_row_kernels *row;
  tl_ctx *ctx;
  int64_t kc, k_blocks; /* by K alone: the order in which an element of C is summed */
  int64_t mc, nc, m_tiles, n_tiles;
  bool pack_a;
  bool direct; /* the sums go straight to C: f32, and nothing follows them */
  bool stream;
} gemm_job;

/* n cut into `tiles` of equal size, up to one unit. */
static int64_t even_tile(int64_t n, int64_t unit, int64_t tiles) {
  return ceil_div(ceil_div(n, unit), tiles) * unit;
}

typedef struct tile_size {
  int mc, nc;
} tile_size;

/* Cuts C into tiles: as large as the cache blocks allow, but at least TASKS_PER_THREAD of them for
 * each thread while they are worth a task. Tiles do not affect the result. */
static void choose_tiles(gemm_job *job) {
  enum { TASKS_PER_THREAD = 8, SIZES = 6 };
  static const tile_size sizes[SIZES] = {
      {TL_GEMM_MC, TL_GEMM_NC}, {96, 256}, {96, 128}, {48, 128}, {48, 64}, {24, 64}};
  /* Where a task packs its rows of A and needs no partial sums, it keeps them for many columns. */
  static const tile_size wide[SIZES] = {{TL_GEMM_MC, 1536}, {48, 1536}, {48, 768},
                                        {48, 384},          {24, 384},  {24, 128}};
  const tl_gemm_args *a = &job->a;
  bool keeps_a = job->pack_a && job->direct;
  int64_t wanted =
      (keeps_a ? TASKS_PER_THREAD / 2 : TASKS_PER_THREAD) * (int64_t)tl_ctx_threads(job->ctx);
  for (int i = 0; i < SIZES; i++) {
    tile_size s = (keeps_a ? wide : sizes)[i];
    job->mc = even_tile(a->M, job->g->mr, ceil_div(a->M, s.mc));
    job->nc = even_tile(a->N, job->g->nr, ceil_div(a->N, s.nc));
    job->m_tiles = ceil_div(a->M, job->mc);
    job->n_tiles = ceil_div(a->N, job->nc);
    if (job->m_tiles * job->n_tiles >= wanted) break;
  }
}

static gemm_job make_job(tl_ctx *ctx, const tl_gemm_args *a) {
  gemm_job job = {.a = *a, .ctx = ctx, .g = &ctx->k->gemm[a->dt], .row = &ctx->k->row};
  const tl_gemm_kernels *g = job.g;
  job.k_blocks = ceil_div(a->K, g->kc);
  if (job.k_blocks < 1) job.k_blocks = 1;
  job.kc = tl_gemm_round_k(g, ceil_div(a->K, job.k_blocks));
  /* The kernels read A as it is when it is row-major with panel elements. */
  job.pack_a = a->a_trans || (int64_t)tl_dtype_size(a->dt) != tl_gemm_elem(g);
  job.direct = tl_gemm_is_plain(a);
  job.stream = a->stream && job.direct && !a->add && job.k_blocks == 1 &&
               tl_gemm_impl_of(g)->fence && ((uintptr_t)a->c | (uintptr_t)(a->ldc * 4)) % 64 == 0;
  choose_tiles(&job);
  return job;
}

static void copy_source(const tl_gemm_args *a, int64_t row0, int64_t rows, int64_t col0,
                        int64_t cols, char *dst, int64_t ld) {
  const tl_gemm_source *s = a->a_source;
  s->copy(s->from, s->row0 + row0, rows, col0, cols, dst, ld);
}

/* Packs A[i0 .. i0+m)[k0 .. k0+kn) into a panel of mc rows. Behind the panel lies what a source
 * gives, unless it is the panel already: rows of f32 in a panel without groups of k. */
static void pack_a_block(const gemm_job *job, int64_t i0, int64_t m, int64_t k0, int64_t kn,
                         char *dst) {
  const tl_gemm_args *a = &job->a;
  const struct tl_gemm_impl *impl = tl_gemm_impl_of(job->g);
  int64_t at = a->a_trans ? k0 * a->lda + i0 : i0 * a->lda + k0, ld = a->lda;
  const char *src = (const char *)a->a + at * (int64_t)tl_dtype_size(a->dt);
  if (a->a_source) {
    bool panel = a->a_trans && a->dt == TL_F32 && job->g->k_group == 1;
    char *rows = panel ? dst : dst + TL_GEMM_A_BYTES;
    ld = panel ? job->mc : a->a_trans ? m : kn;
    if (a->a_trans)
      copy_source(a, k0, kn, i0, m, rows, ld);
    else
      copy_source(a, i0, m, k0, kn, rows, ld);
    if (panel) return;
    src = rows;
  }
  (a->a_trans ? impl->pack_rows : impl->pack_cols)(a->dt, src, ld, kn, m, job->mc, dst);
}

/* Rows [i0, i1) and columns [j0, j1) of C. */
typedef struct tile {
  int64_t i0, i1, j0, j1;
} tile;

/* Consecutive tasks, on all threads, share columns of B, so that its panels come from far memory
 * once. */
static tile tile_of(const gemm_job *job, int64_t task) {
  int64_t i = task % job->m_tiles * job->mc, j = task / job->m_tiles * job->nc;
  return (tile){i, min64(i + job->mc, job->a.M), j, min64(j + job->nc, job->a.N)};
}

static const char *b_panel(const gemm_job *job, int64_t j, int64_t k) {
  int64_t row = job->g->nr * tl_gemm_elem(job->g);
  return (const char *)job->a.b_packed +
         (j / job->g->nr * tl_gemm_round_k(job->g, job->a.K) + k) * row;
}

/* One k block of a panel's rows of C: kernel calls down the rows. `sums` holds the partial sums of
 * this panel unless they go straight to C; `next` is the panel to come. */
static void panel_block(const gemm_job *job, const tile *t, int64_t j, int64_t kb,
                        const char *a_base, float *sums, const char *next) {
  const tl_gemm_args *a = &job->a;
  const tl_gemm_kernels *g = job->g;
  const struct tl_gemm_impl *impl = tl_gemm_impl_of(g);
  int64_t k0 = kb * job->kc, c_elem = (int64_t)tl_dtype_size(a->c_dt);
  int n = (int)min64(g->nr, t->j1 - j);
  bool last = kb == job->k_blocks - 1, direct = job->direct && n == g->nr;
  tl_gemm_block b = {
      .n = n, .kc = min64(job->kc, a->K - k0), .b = b_panel(job, j, k0), .next = next};
  b.rs = (a->a_source ? job->kc : a->lda) * tl_gemm_elem(g), b.cs = g->k_group * tl_gemm_elem(g);
  if (job->pack_a) b.rs = b.cs, b.cs *= job->mc;
  b.ldc = direct ? a->ldc : g->nr;
  if (direct && job->stream)
    b.put = TL_GEMM_STREAM;
  else
    b.put = kb > 0 || (direct && a->add) ? TL_GEMM_ADD : TL_GEMM_SET;
  b.out_ld = a->ldc * c_elem;
  b.out_bytes = b.put != TL_GEMM_STREAM && (direct || last) ? n * c_elem : 0;
  int64_t next_bytes = b.kc / g->k_group / TL_GEMM_NEXT_GROUPS * 64;
  for (int64_t i = t->i0; i < t->i1; i += g->mr) {
    b.m = (int)min64(g->mr, t->i1 - i);
    b.a = a_base + (i - t->i0) * b.rs;
    b.out = (const char *)a->c + (i * a->ldc + j) * c_elem;
    b.c = direct ? (float *)a->c + i * a->ldc + j : sums;
    impl->micro(&b);
    if (last && !direct) impl->finish(a, job->row, b.c, i, j, b.m, n);
    b.next += next_bytes;
    if (job->k_blocks > 1) sums += g->mr * g->nr;
  }
}

/* A tile of C. The partial sums of all k blocks stay in f32, so C is rounded once. `then` is the
 * first panel of the tile that probably follows. */
static void gemm_tile(const gemm_job *job, tile t, const char *then, char *scratch) {
  const tl_gemm_args *a = &job->a;
  const tl_gemm_kernels *g = job->g;
  char *a_block = scratch + TL_GEMM_SUMS_BYTES;
  for (int64_t kb = 0; kb < job->k_blocks; kb++) {
    int64_t k0 = kb * job->kc;
    const char *a_base = (const char *)a->a + (t.i0 * a->lda + k0) * tl_gemm_elem(g);
    if (job->pack_a) {
      pack_a_block(job, t.i0, t.i1 - t.i0, k0, min64(job->kc, a->K - k0), a_block);
      a_base = a_block;
    } else if (a->a_source) {
      copy_source(a, t.i0, t.i1 - t.i0, k0, min64(job->kc, a->K - k0), a_block, job->kc);
      a_base = a_block;
    }
    const char *last_next = kb + 1 < job->k_blocks ? b_panel(job, t.j0, k0 + job->kc) : then;
    float *sums = (float *)scratch;
    for (int64_t j = t.j0; j < t.j1; j += g->nr) {
      const char *next = j + g->nr < t.j1 ? b_panel(job, j + g->nr, k0) : last_next;
      panel_block(job, &t, j, kb, a_base, sums, next);
      if (!job->direct) sums += job->mc * g->nr;
    }
  }
}

static void gemm_task(void *arg, int64_t task, int worker) {
  const gemm_job *job = arg;
  tile t = tile_of(job, task),
       after = tile_of(job, min64(task + 1, job->m_tiles * job->n_tiles - 1));
  gemm_tile(job, t, b_panel(job, after.j0, 0), job->ctx->scratch + worker * TL_GEMM_SCRATCH_BYTES);
  if (job->stream) tl_gemm_impl_of(job->g)->fence();
}

size_t tl_gemm_work_bytes(const tl_ctx *ctx, const tl_gemm_args *a) {
  if (a->b_packed) return 0;
  /* With fewer k, or with A from a source, it goes the other way. */
  size_t packed = tl_gemm_packed_bytes(ctx->k, a->dt, a->K, a->N);
  size_t sliced = tl_gemm_is_sliced(a) ? tl_gemm_slices_bytes(ctx, a) : 0;
  return sliced > packed ? sliced : packed;
}

static tl_gemm_pack_args pack_of_b(const tl_gemm_args *a, void *packed) {
  return (tl_gemm_pack_args){.dt = a->dt,
                             .K = a->K,
                             .N = a->N,
                             .src = a->b,
                             .src_dt = a->dt,
                             .ld = a->ldb,
                             .trans = a->b_trans,
                             .rows = a->K,
                             .cols = a->N,
                             .packed = packed};
}

void tl_gemm(tl_ctx *ctx, const tl_gemm_args *a) {
  if (a->M <= 0 || a->N <= 0) return;
  if (tl_gemm_is_sliced(a)) {
    tl_gemm_sliced(ctx, a);
    return;
  }
  gemm_job job = make_job(ctx, a);
  if (!a->b_packed) {
    tl_gemm_pack_args p = pack_of_b(a, a->work);
    tl_gemm_pack(ctx, &p);
    job.a.b_packed = a->work;
  }
  tl_parallel(ctx->pool, job.m_tiles * job.n_tiles, gemm_task, &job);
}

/* --- batches ------------------------------------------------------------------------------- */

/* With at least this many matrices per thread, each is one task; otherwise they are computed one
 * after the other on all threads. */
enum { MATRICES_PER_THREAD = 4 };

static bool one_task_per_matrix(const tl_ctx *ctx, const tl_gemm_batch *batch) {
  return batch->count >= MATRICES_PER_THREAD * (int64_t)tl_ctx_threads(ctx);
}

static size_t round_64(size_t n) {
  return (n + 63) / 64 * 64;
}

size_t tl_gemm_batched_work_bytes(const tl_ctx *ctx, const tl_gemm_args *a,
                                  const tl_gemm_batch *batch) {
  if (!one_task_per_matrix(ctx, batch)) return tl_gemm_work_bytes(ctx, a);
  return round_64(tl_gemm_packed_bytes(ctx->k, a->dt, a->K, a->N)) * (size_t)tl_ctx_threads(ctx);
}

/* source: room for the matrix's own, where A has one. */
static tl_gemm_args matrix_of_batch(const tl_gemm_args *a, const tl_gemm_batch *batch, int64_t i,
                                    tl_gemm_source *source) {
  tl_gemm_args m = *a;
  if (a->a_source) {
    *source = *a->a_source;
    source->row0 += i * batch->stride_a;
    m.a_source = source;
  }
  int64_t elem = (int64_t)tl_dtype_size(a->dt), c_elem = (int64_t)tl_dtype_size(a->c_dt);
  m.a = (const char *)a->a + i * batch->stride_a * elem;
  m.b = (const char *)a->b + i * batch->stride_b * elem;
  m.c = (char *)a->c + i * batch->stride_c * c_elem;
  if (a->pre_act) m.pre_act = (char *)a->pre_act + i * batch->stride_c * c_elem;
  if (a->residual) m.residual = (const char *)a->residual + i * batch->stride_c * c_elem;
  return m;
}

typedef struct batch_job {
  gemm_job gemm;
  const tl_gemm_batch *batch;
} batch_job;

static void batch_task(void *arg, int64_t task, int worker) {
  const batch_job *b = arg;
  gemm_job job = b->gemm;
  tl_ctx *ctx = job.ctx;
  tl_gemm_source source;
  job.a = matrix_of_batch(&b->gemm.a, b->batch, task, &source);
  char *packed =
      (char *)job.a.work +
      (size_t)worker * round_64(tl_gemm_packed_bytes(ctx->k, job.a.dt, job.a.K, job.a.N));
  pack_job pack = {.g = job.g, .a = pack_of_b(&job.a, packed)};
  for (int64_t p = 0; p < ceil_div(job.a.N, job.g->nr); p++)
    if (job.a.K > 0) pack_panel(&pack, p, 0, job.a.K);
  job.a.b_packed = packed;
  for (int64_t t = 0; t < job.m_tiles * job.n_tiles; t++) gemm_task(&job, t, worker);
}

void tl_gemm_batched(tl_ctx *ctx, const tl_gemm_args *a, const tl_gemm_batch *batch) {
  if (a->M <= 0 || a->N <= 0) return;
  if (!one_task_per_matrix(ctx, batch)) {
    for (int64_t i = 0; i < batch->count; i++) {
      tl_gemm_source source;
      tl_gemm_args m = matrix_of_batch(a, batch, i, &source);
      tl_gemm(ctx, &m);
    }
    return;
  }
  batch_job job = {make_job(ctx, a), batch};
  job.gemm.mc = TL_GEMM_MC;
  job.gemm.nc = TL_GEMM_NC;
  job.gemm.m_tiles = ceil_div(a->M, TL_GEMM_MC);
  job.gemm.n_tiles = ceil_div(a->N, TL_GEMM_NC);
  tl_parallel(ctx->pool, batch->count, batch_task, &job);
}

/* --- peak ---------------------------------------------------------------------------------- */

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Of about n multiply-adds. */
static double peak_now(const tl_gemm_kernels *k, int64_t n) {
  double start = seconds();
  int64_t flops = tl_gemm_impl_of(k)->peak(n);
  return (double)flops / (seconds() - start) * 1e-9;
}

double tl_peak_gflops(tl_cpu_level level, tl_dtype dt) {
  const tl_gemm_kernels *k = &tl_kernels_get(level)->gemm[dt];
  double best = 0, begin = seconds();
  for (int run = 0; run < 3 || seconds() - begin < 0.06; run++) {
    double rate = peak_now(k, 1 << 24);
    if (rate > best) best = rate;
  }
  return best;
}

bool tl_gemm_bf16_pays(const tl_gemm_kernels *f32, const tl_gemm_kernels *bf16) {
  double best[2] = {0};
  for (int run = 0; run < 24; run++) {
    double rate = peak_now(run % 2 ? bf16 : f32, 1 << 20);
    if (rate > best[run % 2]) best[run % 2] = rate;
  }
  return best[1] > 1.25 * best[0];
}
