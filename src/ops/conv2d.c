/* Convolution as a product: y [n h w, out] = windows(x) [n h w, k k in] W^T + b. The windows are
 * copied in the blocks that the product works on; the whole matrix never exists.
 *
 * dW = dy^T windows(x), computed as its transpose. dx gathers too: pixel y of a picture reads dy at
 * (y + pad - i) / stride for those i of the kernel for which that is whole. With stride s the
 * pixels fall into s * s phases by y mod s and x mod s, each of them a convolution of dy by the
 * part of the kernel that meets it, with stride 1 and the kernel reversed. */
#include <string.h>

#include "kernels/gemm.h"
#include "ops/ops.h"
#include "ops/partials.h"
#include "ops/windows.h"

enum { ORDER_OUT = 16 }; /* output channels a task, where weights change their order */
/* The gradient of few weights is too little work to be cut by its elements: it is the sum, in
 * order, of products over parts of the rows. */
enum { PARTS_FOR = 32768, PART_ROWS = 1024, MOST_PARTS = 64 };

typedef struct attr {
  tl_conv_spec spec;
  int64_t in, out, h, w; /* channels; pixels of y */
  /* Packed weights, kept between runs while the parameters stay: of the forward, and of each phase
   * one after the other. */
  void *fwd, *bwd;
  uint64_t fwd_version, bwd_version;                         /* of the values packed, plus 1 */
  size_t weight_bytes, partial_bytes, phase_bytes, dw_bytes; /* parts of the scratch */
} attr;

static size_t align64(size_t n) {
  return (n + 63) / 64 * 64;
}

/* One axis of a phase: `taps` of the kernel, the first of them i0, then every stride'th; `pixels`
 * of x at phase + stride t, the first of which meets dy at `first` - taps + 1 .. first. */
typedef struct phase {
  int64_t at, i0, taps, first, pixels;
} phase;

static phase phase_of(const tl_conv_spec *s, int64_t at, int64_t side) {
  phase p = {.at = at, .i0 = (at + s->pad) % s->stride};
  p.taps = p.i0 < s->kernel ? (s->kernel - p.i0 + s->stride - 1) / s->stride : 0;
  p.first = (at + s->pad - p.i0) / s->stride;
  p.pixels = at < side ? (side - at + s->stride - 1) / s->stride : 0;
  return p;
}

static int64_t pictures(const tl_graph *g, const tl_node *n) {
  const attr *a = n->attr;
  return tl_rows(g, n) / (a->h * a->w);
}

static int64_t taps(const attr *a) {
  return a->spec.kernel * a->spec.kernel;
}

/* --- weights -----------------------------------------------------------------------------------
 */

typedef struct order_job {
  const attr *a;
  phase y, x;
  float *to;
} order_job;

/* Outputs [begin, end) of w [out][in][k k] as [out][k k][in]. */
static void order_forward(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const order_job *j = arg;
  const attr *a = j->a;
  int64_t t = taps(a);
  const float *w = a->spec.w->data + begin * a->in * t;
  for (int64_t o = begin; o < end; o++)
    for (int64_t c = 0; c < a->in; c++, w += t)
      for (int64_t i = 0; i < t; i++) j->to[(o * t + i) * a->in + c] = w[i];
}

/* Outputs [begin, end) of the part of the kernel of one phase, reversed: to [taps][out][in]. */
static void order_phase(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const order_job *j = arg;
  const attr *a = j->a;
  int64_t k = a->spec.kernel, s = a->spec.stride, tap = 0;
  for (int64_t u = j->y.taps - 1; u >= 0; u--)
    for (int64_t v = j->x.taps - 1; v >= 0; v--, tap++) {
      const float *w = a->spec.w->data + (j->y.i0 + s * u) * k + j->x.i0 + s * v;
      float *to = j->to + tap * a->out * a->in;
      for (int64_t i = begin * a->in; i < end * a->in; i++) to[i] = w[i * k * k];
    }
}

static void pack_forward(tl_exec *x, attr *a, tl_dtype dt) {
  if (a->fwd_version == x->g->params->version + 1) return;
  a->fwd_version = x->g->params->version + 1;
  tl_parallel_ranges(x->ctx, a->out, ORDER_OUT, order_forward,
                     &(order_job){.a = a, .to = x->scratch});
  tl_gemm_pack(x->ctx, &(tl_gemm_pack_args){.dt = dt,
                                            .K = taps(a) * a->in,
                                            .N = a->out,
                                            .src = x->scratch,
                                            .src_dt = TL_F32,
                                            .ld = taps(a) * a->in,
                                            .trans = true,
                                            .rows = taps(a) * a->in,
                                            .cols = a->out,
                                            .packed = a->fwd});
}

static size_t phase_pack_bytes(const tl_ctx *ctx, const attr *a, tl_dtype dt, int64_t n_taps) {
  return align64(tl_gemm_packed_bytes(ctx->k, dt, n_taps * a->out, a->in));
}

static void pack_phases(tl_exec *x, attr *a, tl_dtype dt) {
  if (a->bwd_version == x->g->params->version + 1) return;
  a->bwd_version = x->g->params->version + 1;
  char *to = a->bwd;
  for (int64_t i = 0; i < a->spec.stride; i++)
    for (int64_t j = 0; j < a->spec.stride; j++) {
      phase py = phase_of(&a->spec, i, a->spec.height), px = phase_of(&a->spec, j, a->spec.width);
      int64_t n = py.taps * px.taps;
      if (!n) continue;
      tl_parallel_ranges(x->ctx, a->out, ORDER_OUT, order_phase,
                         &(order_job){a, py, px, x->scratch});
      tl_gemm_pack(x->ctx, &(tl_gemm_pack_args){.dt = dt,
                                                .K = n * a->out,
                                                .N = a->in,
                                                .src = x->scratch,
                                                .src_dt = TL_F32,
                                                .ld = a->in,
                                                .rows = n * a->out,
                                                .cols = a->in,
                                                .packed = to});
      to += phase_pack_bytes(x->ctx, a, dt, n);
    }
}

/* --- building ----------------------------------------------------------------------------------
 */

static tl_windows windows_of(const tl_exec *x, const tl_node *n) {
  const attr *a = n->attr;
  const tl_conv_spec *s = &a->spec;
  return (tl_windows){.k = &x->k->row,
                      .dt = n->dt,
                      .pixels = n->in[0]->data,
                      .height = s->height,
                      .width = s->width,
                      .channels = a->in,
                      .out_h = a->h,
                      .out_w = a->w,
                      .kernel_h = s->kernel,
                      .kernel_w = s->kernel,
                      .stride = s->stride,
                      .top = s->pad,
                      .left = s->pad};
}

/* Rows of each part but the last, by the largest batch. */
static int64_t part_rows(const tl_node *n) {
  int64_t rows = n->shape[0], least = (rows + MOST_PARTS - 1) / MOST_PARTS;
  if (((const attr *)n->attr)->spec.w->n > PARTS_FOR) return rows;
  return least > PART_ROWS ? least : PART_ROWS;
}

static int64_t parts_of(const tl_node *n, int64_t rows) {
  return (rows + part_rows(n) - 1) / part_rows(n);
}

static tl_gemm_args dw_args(const tl_node *n, int64_t rows, const tl_gemm_source *source) {
  const attr *a = n->attr;
  return (tl_gemm_args){.M = taps(a) * a->in,
                        .N = a->out,
                        .K = rows,
                        .dt = n->dt,
                        .a_trans = true,
                        .a_source = source,
                        .b = n->grad,
                        .ldb = a->out,
                        .ldc = a->out,
                        .c_dt = TL_F32};
}

static tl_status check(const tl_node *n, tl_err *err) {
  const tl_conv_spec *s = &((const attr *)n->attr)->spec;
  const tl_node *x = n->in[0];
  if (x->ndim != 2 || x->dt == TL_I32)
    return tl_fail(err, TL_INTERNAL, "%s must be [N, channels]", x->name);
  const int64_t *w = s->w->shape;
  if (s->w->ndim != 4 || w[1] != x->shape[1] || w[2] != s->kernel || w[3] != s->kernel ||
      (s->b && s->b->n != w[0]))
    return tl_fail(err, TL_INTERNAL, "%s is not [out, %lld, %lld, %lld], or its bias not [out]",
                   s->w->name, (long long)x->shape[1], (long long)s->kernel, (long long)s->kernel);
  if (s->stride < 1 || s->pad < 0 || s->pad >= s->kernel || s->height + 2 * s->pad < s->kernel ||
      s->width + 2 * s->pad < s->kernel)
    return tl_fail(
        err, TL_INTERNAL,
        "kernel %lld with stride %lld and padding %lld on pictures of %lld x %lld pixels",
        (long long)s->kernel, (long long)s->stride, (long long)s->pad, (long long)s->height,
        (long long)s->width);
  return TL_OK;
}

static tl_status backward_memory(tl_graph *g, tl_node *n, tl_err *err) {
  attr *a = n->attr;
  const tl_conv_spec *s = &a->spec;
  size_t pack = 0, size = tl_dtype_size(n->dt);
  for (int64_t i = 0; i < s->stride; i++)
    for (int64_t j = 0; j < s->stride; j++) {
      phase y = phase_of(s, i, s->height), x = phase_of(s, j, s->width);
      if (y.taps && x.taps) pack += phase_pack_bytes(g->ctx, a, n->dt, y.taps * x.taps);
    }
  a->bwd = tl_arena_alloc(&g->arena, pack + 64);
  if (!a->bwd) return tl_fail(err, TL_NOMEM, "out of memory for packed weights");
  a->bwd = (void *)(((uintptr_t)a->bwd + 63) / 64 * 64);
  int64_t images = n->shape[0] / (a->h * a->w);
  phase y = phase_of(s, 0, s->height), x = phase_of(s, 0, s->width);
  if (s->stride > 1)
    a->phase_bytes = align64((size_t)(images * y.pixels * x.pixels * a->in) * size);
  a->partial_bytes =
      s->b ? align64(tl_partials_bytes(n->shape[0], tl_row_grain(a->out), a->out)) : 0;
  tl_gemm_args dw = dw_args(n, part_rows(n), NULL);
  const tl_gemm_batch parts = {.count = parts_of(n, n->shape[0])};
  a->dw_bytes = align64((size_t)(parts.count * s->w->n) * sizeof(float));
  size_t work = a->dw_bytes + tl_gemm_batched_work_bytes(g->ctx, &dw, &parts);
  size_t dx = a->weight_bytes > a->phase_bytes ? a->weight_bytes : a->phase_bytes;
  if (dx > work) work = dx;
  n->scratch_bwd = a->partial_bytes > work ? a->partial_bytes : work;
  return TL_OK;
}

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  attr *a = n->attr;
  const tl_conv_spec *s = &a->spec;
  TL_TRY(check(n, err));
  a->in = s->w->shape[1];
  a->out = s->w->shape[0];
  a->h = tl_conv_side(s->height, s->kernel, s->stride, s->pad);
  a->w = tl_conv_side(s->width, s->kernel, s->stride, s->pad);
  int64_t pixels = s->height * s->width;
  n->dim = tl_picture_dim(g, n->in[0], pixels, a->h * a->w, err);
  if (n->dim < 0) return TL_INTERNAL;
  n->shape[0] = n->in[0]->shape[0] / pixels * a->h * a->w;
  n->shape[1] = a->out;
  a->fwd = tl_arena_alloc(&g->arena,
                          64 + tl_gemm_packed_bytes(g->ctx->k, n->dt, taps(a) * a->in, a->out));
  if (!a->fwd) return tl_fail(err, TL_NOMEM, "out of memory for packed weights");
  a->fwd = (void *)(((uintptr_t)a->fwd + 63) / 64 * 64);
  n->scratch_fwd = a->weight_bytes = align64((size_t)s->w->n * sizeof(float));
  return g->opt.training ? backward_memory(g, n, err) : TL_OK;
}

/* --- running -----------------------------------------------------------------------------------
 */

static void forward(tl_exec *x, tl_node *n) {
  attr *a = n->attr;
  tl_windows w = windows_of(x, n);
  pack_forward(x, a, n->dt);
  tl_gemm(x->ctx,
          &(tl_gemm_args){.M = tl_rows(x->g, n),
                          .N = a->out,
                          .K = taps(a) * a->in,
                          .dt = n->dt,
                          .a_source = &(tl_gemm_source){.copy = tl_windows_copy, .from = &w},
                          .b_packed = a->fwd,
                          .c = n->data,
                          .ldc = a->out,
                          .c_dt = n->dt,
                          .bias = a->spec.b ? a->spec.b->data : NULL});
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
  phase py, px;
  const float *dw; /* [parts][k k in][out] */
  int64_t parts;
  bool add;
} job;

/* Lines of pixels of a phase to their places in dx; without taps they have no gradient. */
static void place_lines(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const attr *a = n->attr;
  const tl_row_kernels *k = &j->x->k->row;
  int64_t c = a->in, s = a->spec.stride, size = (int64_t)tl_dtype_size(n->dt);
  bool zero = !j->py.taps || !j->px.taps;
  for (int64_t line = begin; line < end; line++) {
    int64_t picture = line / j->py.pixels, y = line % j->py.pixels * s + j->py.at;
    int64_t to = ((picture * a->spec.height + y) * a->spec.width + j->px.at) * c;
    const char *from = (const char *)j->x->scratch + line * j->px.pixels * c * size;
    for (int64_t i = 0; i < j->px.pixels; i++, to += s * c, from += c * size) {
      void *dx = tl_at(n->dt, n->in[0]->grad, to);
      if (zero && !j->add)
        memset(dx, 0, (size_t)(c * size));
      else if (j->add && !zero)
        k->acc(n->dt, c, from, dx);
      else if (!zero)
        memcpy(dx, from, (size_t)(c * size));
    }
  }
}

static void backward_phase(const job *j, const void *packed) {
  const tl_node *n = j->n;
  const attr *a = n->attr;
  tl_windows w = {.k = &j->x->k->row,
                  .dt = n->dt,
                  .pixels = n->grad,
                  .height = a->h,
                  .width = a->w,
                  .channels = a->out,
                  .out_h = j->py.pixels,
                  .out_w = j->px.pixels,
                  .kernel_h = j->py.taps,
                  .kernel_w = j->px.taps,
                  .stride = 1,
                  .top = j->py.taps - 1 - j->py.first,
                  .left = j->px.taps - 1 - j->px.first};
  int64_t lines = pictures(j->x->g, n) * j->py.pixels;
  bool whole = a->spec.stride == 1;
  if (j->py.taps && j->px.taps)
    tl_gemm(j->x->ctx,
            &(tl_gemm_args){.M = lines * j->px.pixels,
                            .N = a->in,
                            .K = j->py.taps * j->px.taps * a->out,
                            .dt = n->dt,
                            .a_source = &(tl_gemm_source){.copy = tl_windows_copy, .from = &w},
                            .b_packed = packed,
                            .c = whole ? n->in[0]->grad : j->x->scratch,
                            .ldc = a->in,
                            .c_dt = n->dt,
                            .add = whole && j->add});
  if (!whole)
    tl_parallel_ranges(j->x->ctx, lines, tl_row_grain(j->px.pixels * a->in), place_lines,
                       (void *)(uintptr_t)j);
}

static void backward_x(tl_exec *x, tl_node *n) {
  attr *a = n->attr;
  job j = {.x = x, .n = n, .add = tl_grad_adds(x, n, 0)};
  pack_phases(x, a, n->dt);
  const char *packed = a->bwd;
  for (int64_t i = 0; i < a->spec.stride; i++)
    for (int64_t k = 0; k < a->spec.stride; k++) {
      j.py = phase_of(&a->spec, i, a->spec.height);
      j.px = phase_of(&a->spec, k, a->spec.width);
      backward_phase(&j, packed);
      int64_t n_taps = j.py.taps * j.px.taps;
      if (n_taps) packed += phase_pack_bytes(x->ctx, a, n->dt, n_taps);
    }
}

/* Outputs [begin, end) of the gradient [out][in][k k], from the parts of its transpose. */
static void order_gradient(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const attr *a = j->n->attr;
  int64_t t = taps(a), row = a->in * t;
  for (int64_t c = 0; c < a->in; c++)
    for (int64_t i = 0; i < t; i++) {
      const float *v = j->dw + (i * a->in + c) * a->out + begin;
      float *g = a->spec.w->grad + begin * row + c * t + i, sum[ORDER_OUT] = {0};
      for (int64_t p = 0; p < j->parts; p++, v += row * a->out)
        for (int64_t o = 0; o < end - begin; o++) sum[o] += v[o];
      for (int64_t o = 0; o < end - begin; o++) g[o * row] = j->add ? g[o * row] + sum[o] : sum[o];
    }
}

static void backward_w(tl_exec *x, tl_node *n) {
  const attr *a = n->attr;
  tl_windows w = windows_of(x, n);
  int64_t rows = tl_rows(x->g, n), part = part_rows(n), whole = rows / part;
  int64_t values = a->spec.w->n;
  tl_gemm_source source = {.copy = tl_windows_copy, .from = &w};
  tl_gemm_args dw = dw_args(n, part, &source);
  dw.c = x->scratch;
  dw.work = (char *)x->scratch + a->dw_bytes;
  tl_gemm_batched(
      x->ctx, &dw,
      &(tl_gemm_batch){
          .count = whole, .stride_a = part, .stride_b = part * a->out, .stride_c = values});
  source.row0 = whole * part;
  dw.K = rows - source.row0;
  dw.b = tl_at(n->dt, n->grad, source.row0 * a->out);
  dw.c = (float *)x->scratch + whole * values;
  if (dw.K > 0) tl_gemm(x->ctx, &dw);
  job j = {
      .x = x, .n = n, .dw = x->scratch, .parts = parts_of(n, rows), .add = tl_grad_adds(x, n, 1)};
  tl_parallel_ranges(x->ctx, a->out, ORDER_OUT, order_gradient, &j);
}

static void bias_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  int64_t out = n->shape[1];
  j->x->k->row.col_sum(n->dt, end - begin, out, tl_at(n->dt, n->grad, begin * out), out,
                       tl_partial(j->x->scratch, begin, tl_row_grain(out), out));
}

static void backward(tl_exec *x, tl_node *n) {
  int64_t rows = tl_rows(x->g, n), out = n->shape[1], grain = tl_row_grain(out);
  if (tl_wants_grad(n, 0)) backward_x(x, n);
  if (tl_wants_grad(n, 1)) backward_w(x, n);
  if (!tl_wants_grad(n, 2)) return;
  tl_parallel_ranges(x->ctx, rows, grain, bias_rows, &(job){.x = x, .n = n});
  tl_partials_reduce(x, n, 2, rows, grain, out, 0, out);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  const attr *a = n->attr;
  double rows = (double)tl_rows(g, n), size = (double)tl_dtype_size(n->dt);
  int grads = tl_wants_grad(n, 0) + tl_wants_grad(n, 1);
  c->flops_fwd = 2 * rows * (double)a->spec.w->n;
  c->flops_bwd = c->flops_fwd * grads;
  c->bytes_fwd = size * (double)(tl_count(g, n->in[0]) + tl_count(g, n));
  c->bytes_bwd = grads * c->bytes_fwd;
}

/* {pictures, height, width, in, out, kernel, stride, padding + 16 with a bias} */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  tl_node *x = tl_case_input(g, d[0] * d[1] * d[2], d[3]);
  int64_t shape[] = {d[4], d[3], d[5], d[5]};
  tl_conv_spec s = {
      .height = d[1], .width = d[2], .kernel = d[5], .stride = d[6], .pad = d[7] % 16};
  s.w = tl_case_param(g, 4, shape, 0, 0.3f);
  if (d[7] >= 16) s.b = tl_case_param(g, 1, &d[4], 0, 0.5f);
  return tl_conv2d(g, x, &s);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1, 1, 1, 1, 1, 1, 0},
                                                  {2, 5, 7, 3, 5, 3, 1, 17},
                                                  {3, 6, 5, 4, 7, 3, 2, 17},
                                                  {2, 9, 8, 5, 3, 1, 2, 0},
                                                  {1, 11, 13, 2, 9, 5, 3, 2},
                                                  {2, 8, 8, 33, 17, 3, 1, 1},
                                                  {1, 7, 7, 3, 10, 7, 2, 19},
                                                  {1, 6, 6, 1, 3, 2, 2, 0},
                                                  {2, 7, 6, 60, 34, 3, 2, 1},
                                                  {3, 9, 9, 40, 24, 4, 3, 16},
                                                  {3, 21, 19, 3, 5, 3, 1, 17},
                                                  {2, 65, 67, 3, 40, 3, 1, 1},
                                                  {0}};

const tl_op tl_op_conv2d = {
    .name = "conv2d",
    .formula = "y = windows(x) W^T + b",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 1,
    .build_case = build_case,
    .cases = cases,
    .bench = {64, 32, 32, 64, 64, 3, 1, 1},
    .tol = {2e-5f, 1e-2f},
    .tol_bwd = {2e-5f, 2e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_conv2d(tl_graph *g, tl_node *x, const tl_conv_spec *spec) {
  tl_node *in[] = {x, tl_graph_param(g, spec->w), spec->b ? tl_graph_param(g, spec->b) : NULL};
  return tl_graph_op(g, &tl_op_conv2d, in, 3, &(attr){.spec = *spec}, sizeof(attr));
}
