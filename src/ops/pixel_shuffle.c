/* Pictures of G x G rows become pictures of sG x sG rows (Shi et al., 2016): x [n G G, s s C] -> y
 * [n sG sG, C], where the row at (Y, X) is columns ((Y mod s) s + X mod s) C + (0 .. C - 1) of the
 * row at (Y / s, X / s). Behind a linear layer it is a transposed convolution of stride and width
 * s. */
#include "ops/ops.h"
#include "ops/parallel.h"
#include "ops/windows.h"

typedef struct attr {
  int64_t grid, s;
} attr;

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  const attr *a = n->attr;
  const tl_node *x = n->in[0];
  if (x->ndim != 2 || x->dt == TL_I32 || a->grid < 1 || a->s < 1 ||
      x->shape[0] % (a->grid * a->grid) || x->shape[1] % (a->s * a->s))
    return tl_fail(err, TL_INTERNAL,
                   "%s must be [n * %lld * %lld, C * %lld * %lld] to be spread out", x->name,
                   (long long)a->grid, (long long)a->grid, (long long)a->s, (long long)a->s);
  n->shape[0] = x->shape[0] * a->s * a->s;
  n->shape[1] = x->shape[1] / (a->s * a->s);
  n->dim = tl_picture_dim(g, x, a->grid * a->grid, a->grid * a->grid * a->s * a->s, err);
  return n->dim < 0 ? TL_INTERNAL : TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
  bool add;
} job;

/* Where the s C columns of row `row` of x that lie in its line `sub` begin in y: they are
 * consecutive there. */
static int64_t place(const tl_node *n, int64_t row, int64_t sub) {
  const attr *a = n->attr;
  int64_t x = row % a->grid, line = row / a->grid; /* lines of all pictures */
  return ((line * a->s + sub) * a->grid + x) * a->s * n->shape[1];
}

static void forward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  int64_t s = ((const attr *)n->attr)->s, run = s * n->shape[1];
  for (int64_t r = begin; r < end; r++)
    for (int64_t k = 0; k < s; k++)
      j->x->k->row.convert(n->dt, tl_at(n->dt, n->in[0]->data, (r * s + k) * run), n->dt,
                           tl_at(n->dt, n->data, place(n, r, k)), run);
}

static void backward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const tl_row_kernels *kernels = &j->x->k->row;
  int64_t s = ((const attr *)n->attr)->s, run = s * n->shape[1];
  for (int64_t r = begin; r < end; r++)
    for (int64_t k = 0; k < s; k++) {
      const void *dy = tl_at(n->dt, n->grad, place(n, r, k));
      void *dx = tl_at(n->dt, n->in[0]->grad, (r * s + k) * run);
      if (j->add)
        kernels->acc(n->dt, run, dy, dx);
      else
        kernels->convert(n->dt, dy, n->dt, dx, run);
    }
}

static void run_rows(tl_exec *x, tl_node *n, tl_range_fn fn, bool add) {
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n->in[0]), tl_row_grain(n->in[0]->shape[1]), fn,
                     &(job){x, n, add});
}

static void forward(tl_exec *x, tl_node *n) {
  run_rows(x, n, forward_rows, false);
}

static void backward(tl_exec *x, tl_node *n) {
  run_rows(x, n, backward_rows, tl_grad_adds(x, n, 0));
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double bytes = (double)tl_count(g, n->in[0]) * (double)tl_dtype_size(n->dt);
  c->bytes_fwd = 2 * bytes;
  c->bytes_bwd = 2 * bytes;
}

/* pictures, grid, s, C */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  tl_node *x = tl_case_input(g, d[0] * d[1] * d[1], d[2] * d[2] * d[3]);
  return tl_pixel_shuffle(g, x, d[1], d[2]);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1, 1, 1}, {1, 1, 3, 2},  {2, 3, 2, 5},
                                                  {3, 5, 1, 7}, {2, 9, 4, 17}, {0}};

const tl_op tl_op_pixel_shuffle = {
    .name = "pixel_shuffle",
    .formula = "y[Y, X] = columns of x[Y / s, X / s]: pictures s times as high and wide",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .build_case = build_case,
    .cases = cases,
    .bench = {8, 20, 8, 32},
    .tol = {0, 0},
    .tol_bwd = {0, 0},
    .grad_tol = 1e-3f,
};

tl_node *tl_pixel_shuffle(tl_graph *g, tl_node *x, int64_t grid, int64_t s) {
  attr a = {grid, s};
  return tl_graph_op(g, &tl_op_pixel_shuffle, &x, 1, &a, sizeof a);
}
