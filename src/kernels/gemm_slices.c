/* Products with few outputs and a long sum: the gradient of a small weight, whose k are the rows of
 * a batch. Packing all of B would cost more than the product, so k is cut into slices that are
 * tasks of their own: a task packs what it needs of A and B block by block, next to where it reads
 * it, and sums to a C of its own; these are added in order at the end. */
#include <string.h>

#include "kernels/gemm_impl.h"

/* The least k of a product that comes here and of a slice, the most elements of C, the bytes of a
 * column of a k block (a panel of B and a strip of A share the first cache), and the columns of B
 * that are packed at once. */
enum {
  LEAST_K = 512,
  SLICE_K = 1024,
  SLICE_OUTPUTS = 1 << 18,
  SLICE_KC_BYTES = 1024,
  SLICE_NC = 128,
  PACK_K = 32 /* rows that are packed at once: all of a row's cache lines in turn */
};
_Static_assert(SLICE_NC *SLICE_KC_BYTES <= TL_GEMM_SCRATCH_BYTES, "B's block fits the scratch");

typedef struct slice_job {
  const tl_gemm_args *a;
  const tl_gemm_kernels *g;
  const tl_kernels *k;
  char *b_blocks; /* per worker */
  char *strips;   /* per worker: a k block of A in strips of mr rows */
  int64_t strip_bytes;
  float *partial; /* C of all slices but the first, [M, N] each */
  int64_t slices, length, kc;
  int64_t parts, columns; /* of C: columns are tasks of their own where there are few slices */
} slice_job;

static int64_t min64(int64_t a, int64_t b) {
  return a < b ? a : b;
}

bool tl_gemm_is_sliced(const tl_gemm_args *a) {
  return a->a_trans && !a->a_source && !a->b_packed && tl_gemm_is_plain(a) && a->K >= LEAST_K &&
         a->M * a->N <= SLICE_OUTPUTS;
}

static int64_t slices_of(const tl_gemm_args *a) {
  return a->K < 2 * SLICE_K ? 1 : a->K / SLICE_K;
}

static int64_t strip_bytes(const tl_gemm_kernels *g, const tl_gemm_args *a) {
  return tl_ceil_div(a->M, g->mr) * g->mr * SLICE_KC_BYTES;
}

size_t tl_gemm_slices_bytes(const tl_ctx *ctx, const tl_gemm_args *a) {
  const tl_gemm_kernels *g = &ctx->k->gemm[a->dt];
  tl_gemm_args shorter = *a; /* with fewer rows the product may be one of the others */
  if (shorter.K >= LEAST_K) shorter.K = LEAST_K - 1;
  size_t other = tl_gemm_packed_bytes(ctx->k, a->dt, shorter.K, a->N);
  size_t mine = (size_t)(tl_ctx_threads(ctx) * strip_bytes(g, a)) +
                (size_t)((slices_of(a) - 1) * a->M * a->N) * sizeof(float);
  return mine > other ? mine : other;
}

/* Rows of far memory that are wanted next, as cache lines to be asked for: few lines of a row are
 * too short a stream for the CPU to see it coming. */
typedef struct walk {
  const char *at;
  int64_t stride, bytes, rows; /* bytes: of each row */
  int64_t row, byte;           /* where it stands */
  int64_t lines;               /* a call of the kernel asks for */
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

/* The same in as many calls. */
static walk spread(walk w, int64_t calls) {
  w.lines = calls > 0 ? tl_ceil_div(tl_ceil_div(w.bytes, 64) * w.rows, calls) : 0;
  return w;
}

static walk rows_of_a(const slice_job *s, int64_t k0, int64_t kn) {
  int64_t size = (int64_t)tl_dtype_size(s->a->dt), stride = s->a->lda * size;
  return (walk){(const char *)s->a->a + k0 * stride, stride, s->a->M * size, kn, 0, 0, 0};
}

static walk rows_of_b(const slice_job *s, int64_t k0, int64_t kn, int64_t j0, int64_t j1) {
  int64_t size = (int64_t)tl_dtype_size(s->a->dt), stride = s->a->ldb * size;
  const char *b = s->a->b;
  if (s->a->b_trans)
    return (walk){b + j0 * stride + k0 * size, stride, kn * size, j1 - j0, 0, 0, 0};
  return (walk){b + k0 * stride + j0 * size, stride, (j1 - j0) * size, kn, 0, 0, 0};
}

/* A[0 .. M)[k0 .. k0 + kn) in strips of mr rows. */
static void pack_strips(const slice_job *s, int64_t k0, int64_t kn, char *dst) {
  const tl_gemm_args *a = s->a;
  int64_t mr = s->g->mr, row = mr * tl_gemm_elem(s->g), strip = tl_gemm_round_k(s->g, kn) * row;
  for (int64_t k = 0; k < kn; k += PACK_K) {
    int64_t rows = min64(kn - k, PACK_K);
    char *to = dst + k * row;
    for (int64_t i = 0; i < a->M; i += mr, to += strip) {
      int64_t at = (k0 + k) * a->lda + i;
      const char *src = (const char *)a->a + at * (int64_t)tl_dtype_size(a->dt);
      tl_gemm_impl_of(s->g)->pack_rows(a->dt, src, a->lda, rows, min64(a->M - i, mr), mr, to);
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

/* All rows of C's columns [j, j + cols), at most a panel's, from one k block: sets or adds. */
typedef struct panel_work {
  const char *strips, *panel;
  int64_t kn, cols;
  float *c;
  int64_t ldc;
  bool add;
  walk *next_a, *next_b;
} panel_work;

static void panel_rows(const slice_job *s, const panel_work *p) {
  const tl_gemm_kernels *g = s->g;
  int64_t group = g->k_group * tl_gemm_elem(g), M = s->a->M;
  int64_t strip = tl_gemm_round_k(g, p->kn) * g->mr * tl_gemm_elem(g);
  tl_gemm_block b = {.n = (int)p->cols,
                     .kc = p->kn,
                     .a = p->strips,
                     .rs = group,
                     .cs = group * g->mr,
                     .b = p->panel,
                     .ldc = p->ldc,
                     .next = p->panel,
                     .out = p->panel};
  for (int64_t i = 0; i < M; i += g->mr, b.a += strip) {
    prefetch(p->next_a, p->next_a->lines);
    prefetch(p->next_b, p->next_b->lines);
    b.m = (int)min64(M - i, g->mr);
    b.c = p->c + i * p->ldc;
    b.put = p->add ? TL_GEMM_ADD : TL_GEMM_SET;
    if (p->cols < g->nr)
      narrow(g, b, p->add);
    else
      tl_gemm_impl_of(g)->micro(&b);
  }
}

/* What a task computes: a slice's sums for some columns of C. */
typedef struct slice_work {
  int64_t k0, k1, j0, j1;
  float *c;
  int64_t ldc;
  char *strips, *block;
} slice_work;

/* One k block. The rows that the next one begins with are asked for meanwhile. */
static void k_block(const slice_job *s, const slice_work *w, int64_t k, bool add) {
  int64_t kn = min64(w->k1 - k, s->kc), next = min64(w->k1 - k - kn, s->kc), nr = s->g->nr;
  int64_t panel = tl_gemm_round_k(s->g, kn) * nr * tl_gemm_elem(s->g);
  pack_strips(s, k, kn, w->strips);
  for (int64_t jb = w->j0; jb < w->j1; jb += SLICE_NC) {
    int64_t je = min64(jb + SLICE_NC, w->j1), jn = min64(je + SLICE_NC, w->j1);
    int64_t calls = tl_ceil_div(s->a->M, s->g->mr) * tl_ceil_div(je - jb, nr);
    bool last = je == w->j1;
    walk a = spread(rows_of_a(s, k + kn, last ? next : 0), calls);
    walk b = spread(last ? rows_of_b(s, k + kn, next, w->j0, min64(w->j0 + SLICE_NC, w->j1))
                         : rows_of_b(s, k, kn, je, jn),
                    calls);
    pack_panels(s, k, kn, jb, je, w->block);
    for (int64_t j = jb; j < je; j += nr)
      panel_rows(s, &(panel_work){.strips = w->strips,
                                  .panel = w->block + (j - jb) / nr * panel,
                                  .kn = kn,
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
  int64_t slice = task % s->slices, j0 = task / s->slices * s->columns;
  slice_work w = {.k0 = slice * s->length,
                  .k1 = min64((slice + 1) * s->length, a->K),
                  .j0 = j0,
                  .j1 = min64(j0 + s->columns, a->N),
                  .c = slice ? s->partial + (slice - 1) * a->M * a->N : a->c,
                  .ldc = slice ? a->N : a->ldc,
                  .strips = s->strips + worker * s->strip_bytes,
                  .block = s->b_blocks + worker * (int64_t)TL_GEMM_SCRATCH_BYTES};
  walk first_a = rows_of_a(s, w.k0, min64(w.k1 - w.k0, s->kc));
  walk first_b = rows_of_b(s, w.k0, min64(w.k1 - w.k0, s->kc), w.j0, min64(w.j0 + SLICE_NC, w.j1));
  prefetch(&first_a, INT64_MAX);
  prefetch(&first_b, INT64_MAX);
  for (int64_t k = w.k0; k < w.k1; k += s->kc)
    k_block(s, &w, k, k > w.k0 || (slice == 0 && a->add));
}

enum { SUM_ROWS = 16 };

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
  int64_t threads = tl_ctx_threads(ctx);
  slice_job s = {.a = a,
                 .g = g,
                 .k = ctx->k,
                 .b_blocks = ctx->scratch,
                 .strips = a->work,
                 .strip_bytes = strip_bytes(g, a),
                 .slices = slices_of(a)};
  s.partial = (float *)((char *)a->work + threads * s.strip_bytes);
  s.length = tl_gemm_round_k(g, tl_ceil_div(a->K, s.slices));
  int64_t blocks = tl_ceil_div(s.length, SLICE_KC_BYTES / tl_gemm_elem(g));
  s.kc = tl_gemm_round_k(g, tl_ceil_div(s.length, blocks));
  int64_t panels = tl_ceil_div(a->N, g->nr), parts = tl_ceil_div(2 * threads, s.slices);
  s.columns = tl_ceil_div(panels, min64(parts, panels)) * g->nr;
  s.parts = tl_ceil_div(a->N, s.columns);
  tl_parallel(ctx->pool, s.slices * s.parts, slice_task, &s);
  if (s.slices > 1) tl_parallel(ctx->pool, tl_ceil_div(a->M, SUM_ROWS), sum_task, &s);
}
