/* The largest value of each window of a picture, channel by channel; pixels outside do not count.
 */
#include <math.h>
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

/* Row r of y: the largest of its window, and where it was (the first of equals). */
static void pool_row(const tl_node *n, int64_t r, uint8_t *place) {
  const attr *a = n->attr;
  const tl_pool_spec *s = &a->spec;
  int64_t c = n->shape[1], picture = r / (a->h * a->w);
  int64_t y0 = r / a->w % a->h * s->stride - s->pad, x0 = r % a->w * s->stride - s->pad;
  bool first = true;
  for (int64_t i = 0; i < s->kernel * s->kernel; i++) {
    int64_t y = y0 + i / s->kernel, x = x0 + i % s->kernel;
    if (y < 0 || y >= s->height || x < 0 || x >= s->width) continue;
    const tl_node *in = n->in[0];
    int64_t from = ((picture * s->height + y) * s->width + x) * c, to = r * c;
    for (int64_t k = 0; k < c; k++) {
      float v = tl_value(in, from + k), best = first ? v : tl_value(n, to + k);
      if (!first && !(v > best || v != v)) continue;
      if (n->dt == TL_BF16)
        ((tl_bf16 *)n->data)[to + k] = ((const tl_bf16 *)in->data)[from + k];
      else
        ((float *)n->data)[to + k] = v;
      place[k] = (uint8_t)i;
    }
    first = false;
  }
}

static void forward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  for (int64_t r = begin; r < end; r++)
    pool_row(j->n, r, (uint8_t *)j->n->saved + r * j->n->shape[1]);
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(n->shape[1]), forward_rows,
                     &(job){x, n});
}

static void add_row(const tl_node *n, int64_t picture, int64_t r) {
  const attr *a = n->attr;
  const tl_pool_spec *s = &a->spec;
  int64_t c = n->shape[1], row = picture * a->h * a->w + r;
  int64_t y0 = r / a->w * s->stride - s->pad, x0 = r % a->w * s->stride - s->pad;
  const uint8_t *place = (const uint8_t *)n->saved + row * c;
  for (int64_t k = 0; k < c; k++) {
    int64_t y = y0 + place[k] / s->kernel, x = x0 + place[k] % s->kernel;
    int64_t to = ((picture * s->height + y) * s->width + x) * c + k;
    if (n->dt == TL_BF16) {
      tl_bf16 *d = (tl_bf16 *)n->in[0]->grad + to;
      *d = tl_f32_to_bf16(tl_bf16_to_f32(*d) + tl_bf16_to_f32(((tl_bf16 *)n->grad)[row * c + k]));
    } else {
      ((float *)n->in[0]->grad)[to] += ((float *)n->grad)[row * c + k];
    }
  }
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
    for (int64_t r = 0; r < a->h * a->w; r++) add_row(n, i, r);
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
