/* The largest value of each window of a picture, channel by channel; pixels outside do not count.
 */
#include <string.h>

#include "ops/ops.h"
#include "ops/parallel.h"
#include "ops/windows.h"

enum { MAX_KERNEL = 15 }; /* the place in a window is kept in a byte */

typedef struct attr {
  tl_pool_spec spec;
  int64_t h, w; /* pixels of y */
} attr;

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  attr *a = n->attr;
  const tl_pool_spec *s = &a->spec;
  const tl_node *x = n->in[0];
  if (x->ndim != 2 || x->dt == TL_I32)
    return tl_fail(err, TL_INTERNAL, "%s must be [N, channels]", x->name);
  if (s->kernel < 1 || s->kernel > MAX_KERNEL || s->stride < 1 || s->pad < 0 ||
      2 * s->pad > s->kernel || s->height + 2 * s->pad < s->kernel ||
      s->width + 2 * s->pad < s->kernel)
    return tl_fail(err, TL_INTERNAL,
                   "windows of %lld with stride %lld and padding %lld on %lld x %lld pixels",
                   (long long)s->kernel, (long long)s->stride, (long long)s->pad,
                   (long long)s->height, (long long)s->width);
  a->h = tl_conv_side(s->height, s->kernel, s->stride, s->pad);
  a->w = tl_conv_side(s->width, s->kernel, s->stride, s->pad);
  int64_t pixels = s->height * s->width;
  n->dim = tl_picture_dim(g, x, pixels, a->h * a->w, err);
  if (n->dim < 0) return TL_INTERNAL;
  n->shape[0] = x->shape[0] / pixels * a->h * a->w;
  n->saved_bytes = (size_t)tl_max_count(n);
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
} job;

/* The pixels of window r of a picture that lie inside of it: where they are in the picture, and
 * their place in the window. */
typedef struct window {
  int n;
  int64_t pixel[MAX_KERNEL * MAX_KERNEL];
  uint8_t place[MAX_KERNEL * MAX_KERNEL];
} window;

static void find_window(const attr *a, int64_t r, window *w) {
  const tl_pool_spec *s = &a->spec;
  int64_t y0 = r / a->w * s->stride - s->pad, x0 = r % a->w * s->stride - s->pad;
  w->n = 0;
  for (int64_t i = 0; i < s->kernel * s->kernel; i++) {
    int64_t y = y0 + i / s->kernel, x = x0 + i % s->kernel;
    if (y < 0 || y >= s->height || x < 0 || x >= s->width) continue;
    w->pixel[w->n] = y * s->width + x;
    w->place[w->n++] = (uint8_t)i;
  }
}

/* Row r of y: the largest of its window, and where it was (the first of equals). */
static void pool_row(const job *j, int64_t r) {
  const tl_node *n = j->n, *in = n->in[0];
  const attr *a = n->attr;
  int64_t c = n->shape[1], each = a->h * a->w;
  int64_t first = r / each * a->spec.height * a->spec.width;
  const void *x[MAX_KERNEL * MAX_KERNEL];
  window w;
  find_window(a, r % each, &w);
  for (int i = 0; i < w.n; i++) x[i] = tl_at(n->dt, in->data, (first + w.pixel[i]) * c);
  j->x->k->row.max_of(n->dt, w.n, c, x, w.place, tl_at(n->dt, n->data, r * c),
                      (uint8_t *)n->saved + r * c);
}

static void forward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  for (int64_t r = begin; r < end; r++) pool_row(arg, r);
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(n->shape[1]), forward_rows,
                     &(job){x, n});
}

static void add_row(const job *j, int64_t picture, int64_t r) {
  const tl_node *n = j->n;
  const attr *a = n->attr;
  int64_t c = n->shape[1], row = (picture * a->h * a->w + r) * c;
  int64_t first = picture * a->spec.height * a->spec.width;
  void *dx[MAX_KERNEL * MAX_KERNEL];
  window w;
  find_window(a, r, &w);
  for (int i = 0; i < w.n; i++) dx[i] = tl_at(n->dt, n->in[0]->grad, (first + w.pixel[i]) * c);
  j->x->k->row.max_of_bwd(n->dt, w.n, c, dx, w.place, (const uint8_t *)n->saved + row,
                          tl_at(n->dt, n->grad, row));
}

/* Windows may overlap: a picture belongs to one task. */
static void backward_pictures(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  tl_node *n = j->n;
  const attr *a = n->attr;
  int64_t values = a->spec.height * a->spec.width * n->shape[1];
  for (int64_t i = begin; i < end; i++) {
    if (!tl_grad_adds(j->x, n, 0))
      memset(tl_at(n->dt, n->in[0]->grad, i * values), 0, (size_t)values * tl_dtype_size(n->dt));
    for (int64_t r = 0; r < a->h * a->w; r++) add_row(j, i, r);
  }
}

static void backward(tl_exec *x, tl_node *n) {
  const attr *a = n->attr;
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n) / (a->h * a->w), 1, backward_pictures, &(job){x, n});
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double in = (double)tl_count(g, n->in[0]), out = (double)tl_count(g, n);
  double size = (double)tl_dtype_size(n->dt);
  const tl_pool_spec *s = &((const attr *)n->attr)->spec;
  c->flops_fwd = out * (double)(s->kernel * s->kernel);
  c->flops_bwd = out;
  c->bytes_fwd = size * (in + out) + out;
  c->bytes_bwd = size * (in + out) + out;
}

/* {pictures, height, width, channels, kernel, stride, padding} */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  tl_node *x = tl_case_input(g, d[0] * d[1] * d[2], d[3]);
  return tl_max_pool(g, x, &(tl_pool_spec){d[1], d[2], d[4], d[5], d[6]});
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1, 1, 1, 1, 1, 0},  {2, 5, 7, 3, 3, 2, 1},
                                                  {3, 6, 8, 17, 2, 2, 0}, {1, 9, 4, 5, 3, 1, 1},
                                                  {2, 7, 7, 4, 2, 3, 0},  {0}};

const tl_op tl_op_max_pool = {
    .name = "max_pool",
    .formula = "y = max over windows(x), by channel",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .build_case = build_case,
    .cases = cases,
    .bench = {64, 32, 32, 64, 2, 2, 0},
    .tol = {0, 0},
    .tol_bwd = {0, 1e-2f},
    .grad_tol = 2e-2f,
};

tl_node *tl_max_pool(tl_graph *g, tl_node *x, const tl_pool_spec *spec) {
  return tl_graph_op(g, &tl_op_max_pool, &x, 1, &(attr){.spec = *spec}, sizeof(attr));
}
