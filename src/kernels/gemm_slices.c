/* Products with few columns and a long sum: the gradient of a small weight, whose k are the rows of
 * a batch. Packing all of B would cost as much as the product, so a task packs what it needs of A
 * and B block by block, next to where it reads it. Where k is very long, it is cut into slices, by
 * K alone, with a C each; these are added in order at the end. */
#include <string.h>

#include "kernels/gemm_impl.h"

enum {
  LEAST_K = 512,  /* of a product that comes here */
  MOST_N = 512,   /* its columns */
  SLICE_K = 1024, /* k of a slice, at least */
  MOST_SLICES = 4,
  KC_BYTES =
      1024,      /* of a column of a k block: a panel of B and a strip of A share the first cache */
  BLOCK_M = 384, /* rows of C of a task: a multiple of every mr */
  BLOCK_N = 128, /* columns of B that are packed at once: a multiple of every nr */
  PACK_K = 32,   /* k that are packed at once: all of a row's cache lines in turn */
  STRIPS_BYTES = BLOCK_M * KC_BYTES,
  SUM_ROWS = 16
};
_Static_assert(BLOCK_N *KC_BYTES <= TL_GEMM_SCRATCH_BYTES, "a block of B fits the scratch");

typedef struct slice_job {
  const tl_gemm_args *a;
  const tl_gemm_kernels *g;
  const tl_kernels *k;
  char *blocks;   /* per worker: a k block of some columns of B, in panels */
  char *strips;   /* per worker: a k block of some rows of A, in strips of mr rows */
  float *partial; /* C of all slices but the first, [M, N] each */
  int64_t slices, length, kc;
  int64_t m_blocks, columns; /* of C: each task has a block of rows and so many columns */
} slice_job;

bool tl_gemm_is_sliced(const tl_gemm_args *a) {
  return a->a_trans && !a->a_source && !a->b_packed && tl_gemm_is_plain(a) && a->K >= LEAST_K &&
         a->N <= MOST_N;
}

static int64_t slices_of(const tl_gemm_args *a) {
  return a->K < 2 * SLICE_K ? 1 : min64(a->K / SLICE_K, MOST_SLICES);
}

size_t tl_gemm_slices_bytes(const tl_ctx *ctx, const tl_gemm_args *a) {
  return (size_t)tl_ctx_threads(ctx) * STRIPS_BYTES +
         (size_t)((slices_of(a) - 1) * a->M * a->N) * sizeof(float);
}

/* --- far memory ----------------------------------------------------------------------------- */

/* Rows that are wanted next, as cache lines to be asked for: the few lines of a row are too short a
 * stream for the CPU to see it coming. */
typedef struct walk {
  const char *at;
  int64_t stride, bytes, rows; /* bytes: of each row */
  int64_t row, byte;           /* where it stands */
  int64_t lines;               /* that a kernel call asks for */
} walk;

static void prefetch(walk *w, int64_t lines) {
  for (; lines > 0 && w->row < w->rows; lines--) {
    __builtin_prefetch(w->at + w->row * w->stride + w->byte, 0, 2);
    w->byte += 64;
    if (w->byte < w->bytes) continue;
    w->byte = 0;
    w->row++;
  }
}

static walk spread(walk w, int64_t calls) {
  w.lines = ceil_div(ceil_div(w.bytes, 64) * w.rows, calls);
  return w;
}

static walk rows_of_a(const slice_job *s, int64_t k0, int64_t kn, int64_t i0, int64_t i1) {
  int64_t size = (int64_t)tl_dtype_size(s->a->dt), stride = s->a->lda * size;
  const char *at = (const char *)s->a->a + k0 * stride + i0 * size;
  return (walk){.at = at, .stride = stride, .bytes = (i1 - i0) * size, .rows = kn};
}

static walk rows_of_b(const slice_job *s, int64_t k0, int64_t kn, int64_t j0, int64_t j1) {
  int64_t size = (int64_t)tl_dtype_size(s->a->dt), stride = s->a->ldb * size;
  int64_t row = s->a->b_trans ? j0 : k0, col = s->a->b_trans ? k0 : j0;
  walk w = {.at = (const char *)s->a->b + row * stride + col * size, .stride = stride};
  w.rows = s->a->b_trans ? j1 - j0 : kn;
  w.bytes = (s->a->b_trans ? kn : j1 - j0) * size;
  return w;
}

/* --- packing -------------------------------------------------------------------------------- */

/* A[i0 .. i1)[k0 .. k0 + kn) in strips of mr rows. */
static void pack_strips(const slice_job *s, int64_t k0, int64_t kn, int64_t i0, int64_t i1,
                        char *dst) {
  const tl_gemm_args *a = s->a;
  int64_t mr = s->g->mr, row = mr * tl_gemm_elem(s->g), strip = tl_gemm_round_k(s->g, kn) * row;
  for (int64_t k = 0; k < kn; k += PACK_K) {
    int64_t rows = min64(kn - k, PACK_K);
    char *to = dst + k * row;
    for (int64_t i = i0; i < i1; i += mr, to += strip) {
      int64_t at = (k0 + k) * a->lda + i;
      const char *src = (const char *)a->a + at * (int64_t)tl_dtype_size(a->dt);
      tl_gemm_impl_of(s->g)->pack_rows(a->dt, src, a->lda, rows, min64(i1 - i, mr), mr, to);
    }
  }
}

/* B[k0 .. k0 + kn)[j0 .. j1) in panels of nr columns. */
static void pack_panels(const slice_job *s, int64_t k0, int64_t kn, int64_t j0, int64_t j1,
                        char *dst) {
  const tl_gemm_args *a = s->a;
  const struct tl_gemm_impl *impl = tl_gemm_impl_of(s->g);
  int64_t nr = s->g->nr, row = nr * tl_gemm_elem(s->g), panel = tl_gemm_round_k(s->g, kn) * row;
  if ((j1 - j0) % nr) memset(dst + (j1 - j0) / nr * panel, 0, (size_t)panel);
  for (int64_t k = 0; k < kn; k += PACK_K) {
    int64_t rows = min64(kn - k, PACK_K);
    char *to = dst + k * row;
    for (int64_t j = j0; j < j1; j += nr, to += panel) {
      int64_t at = a->b_trans ? j * a->ldb + k0 + k : (k0 + k) * a->ldb + j;
      const char *src = (const char *)a->b + at * (int64_t)tl_dtype_size(a->dt);
      (a->b_trans ? impl->pack_cols : impl->pack_rows)(a->dt, src, a->ldb, rows, min64(j1 - j, nr),
                                                       nr, to);
    }
  }
}

/* --- sums ----------------------------------------------------------------------------------- */

/* A tile that is narrower than the panel comes by way of a buffer. */
static void narrow(const tl_gemm_kernels *g, tl_gemm_block b, bool add) {
  enum { MOST = 64 * 8 };
  _Alignas(64) float tile[MOST];
  float *c = b.c;
  int64_t ldc = b.ldc;
  b.c = tile, b.ldc = g->nr, b.put = TL_GEMM_SET;
  tl_gemm_impl_of(g)->micro(&b);
  for (int r = 0; r < b.m; r++)
    for (int j = 0; j < b.n; j++) c[r * ldc + j] = tile[r * g->nr + j] + (add ? c[r * ldc + j] : 0);
}

/* `rows` of C in `cols` columns, at most a panel's, from one k block: sets or adds. */
typedef struct panel_work {
  const char *strips, *panel;
  int64_t kn, rows, cols;
  float *c;
  int64_t ldc;
  bool add;
  walk *next_a, *next_b; /* asked for meanwhile */
} panel_work;

static void panel_rows(const slice_job *s, const panel_work *p) {
  const tl_gemm_kernels *g = s->g;
  int64_t group = g->k_group * tl_gemm_elem(g);
  int64_t strip = tl_gemm_round_k(g, p->kn) * g->mr * tl_gemm_elem(g);
  tl_gemm_block b = {.n = (int)p->cols,
                     .kc = p->kn,
                     .a = p->strips,
                     .rs = group,
                     .cs = group * g->mr,
                     .b = p->panel,
                     .ldc = p->ldc,
                     .put = p->add ? TL_GEMM_ADD : TL_GEMM_SET,
                     .next = p->panel};
  for (int64_t i = 0; i < p->rows; i += g->mr, b.a += strip) {
    prefetch(p->next_a, p->next_a->lines);
    prefetch(p->next_b, p->next_b->lines);
    b.m = (int)min64(p->rows - i, g->mr);
    b.c = p->c + i * p->ldc;
    if (p->cols < g->nr)
      narrow(g, b, p->add);
    else
      tl_gemm_impl_of(g)->micro(&b);
  }
}

/* A task: a slice's sums for a part of C. */
typedef struct slice_work {
  int64_t k1, i0, i1, j0, j1;
  float *c; /* its row i0 */
  int64_t ldc;
  char *strips, *block;
} slice_work;

/* One k block. What the next block begins with is asked for meanwhile. */
static void k_block(const slice_job *s, const slice_work *w, int64_t k, bool add) {
  int64_t kn = min64(w->k1 - k, s->kc), then = k + kn, next = min64(w->k1 - then, s->kc);
  int64_t nr = s->g->nr, panel = tl_gemm_round_k(s->g, kn) * nr * tl_gemm_elem(s->g);
  pack_strips(s, k, kn, w->i0, w->i1, w->strips);
  for (int64_t jb = w->j0; jb < w->j1; jb += BLOCK_N) {
    int64_t je = min64(jb + BLOCK_N, w->j1);
    int64_t calls = ceil_div(w->i1 - w->i0, s->g->mr) * ceil_div(je - jb, nr);
    bool last = je == w->j1;
    int64_t first = last ? w->j0 : je, end = min64(first + BLOCK_N, w->j1);
    walk a = spread(rows_of_a(s, then, last ? next : 0, w->i0, w->i1), calls);
    walk b = spread(rows_of_b(s, last ? then : k, last ? next : kn, first, end), calls);
    pack_panels(s, k, kn, jb, je, w->block);
    for (int64_t j = jb; j < je; j += nr)
      panel_rows(s, &(panel_work){.strips = w->strips,
                                  .panel = w->block + (j - jb) / nr * panel,
                                  .kn = kn,
                                  .rows = w->i1 - w->i0,
                                  .cols = min64(je - j, nr),
                                  .c = w->c + j,
                                  .ldc = w->ldc,
                                  .add = add,
                                  .next_a = &a,
                                  .next_b = &b});
  }
}

static void slice_task(void *arg, int64_t task, int worker) {
  const slice_job *s = arg;
  const tl_gemm_args *a = s->a;
  int64_t slice = task % s->slices, part = task / s->slices, k0 = slice * s->length;
  int64_t i0 = part % s->m_blocks * BLOCK_M, j0 = part / s->m_blocks * s->columns;
  slice_work w = {.k1 = min64(k0 + s->length, a->K),
                  .i0 = i0,
                  .i1 = min64(i0 + BLOCK_M, a->M),
                  .j0 = j0,
                  .j1 = min64(j0 + s->columns, a->N),
                  .c = (float *)a->c + i0 * a->ldc,
                  .ldc = a->ldc,
                  .strips = s->strips + (int64_t)worker * STRIPS_BYTES,
                  .block = s->blocks + (int64_t)worker * TL_GEMM_SCRATCH_BYTES};
  if (slice) w.c = s->partial + ((slice - 1) * a->M + i0) * a->N, w.ldc = a->N;
  int64_t kn = min64(w.k1 - k0, s->kc);
  walk first_a = rows_of_a(s, k0, kn, w.i0, w.i1);
  walk first_b = rows_of_b(s, k0, kn, w.j0, min64(w.j0 + BLOCK_N, w.j1));
  prefetch(&first_a, INT64_MAX);
  prefetch(&first_b, INT64_MAX);
  for (int64_t k = k0; k < w.k1; k += s->kc) k_block(s, &w, k, k > k0 || (slice == 0 && a->add));
}

static void sum_task(void *arg, int64_t task, int worker) {
  (void)worker;
  const slice_job *s = arg;
  const tl_gemm_args *a = s->a;
  int64_t i1 = min64((task + 1) * SUM_ROWS, a->M);
  for (int64_t i = task * SUM_ROWS; i < i1; i++)
    for (int64_t slice = 0; slice < s->slices - 1; slice++)
      s->k->row.acc(TL_F32, a->N, s->partial + (slice * a->M + i) * a->N,
                    (float *)a->c + i * a->ldc);
}

void tl_gemm_sliced(tl_ctx *ctx, const tl_gemm_args *a) {
  const tl_gemm_kernels *g = &ctx->k->gemm[a->dt];
  int64_t threads = tl_ctx_threads(ctx), panels = ceil_div(a->N, g->nr);
  slice_job s = {.a = a,
                 .g = g,
                 .k = ctx->k,
                 .blocks = ctx->scratch,
                 .strips = a->work,
                 .partial = (float *)((char *)a->work + threads * STRIPS_BYTES),
                 .slices = slices_of(a),
                 .m_blocks = ceil_div(a->M, BLOCK_M)};
  s.length = tl_gemm_round_k(g, ceil_div(a->K, s.slices));
  int64_t blocks = ceil_div(s.length, KC_BYTES / tl_gemm_elem(g));
  s.kc = tl_gemm_round_k(g, ceil_div(s.length, blocks));
  /* Columns are cut where there are too few tasks; a task packs A for itself. */
  int64_t parts = min64(ceil_div(2 * threads, s.slices * s.m_blocks), panels);
  s.columns = ceil_div(panels, parts) * g->nr;
  int64_t tasks = s.slices * s.m_blocks * ceil_div(a->N, s.columns);
  tl_parallel(ctx->pool, tasks, slice_task, &s);
  if (s.slices > 1) tl_parallel(ctx->pool, ceil_div(a->M, SUM_ROWS), sum_task, &s);
}
