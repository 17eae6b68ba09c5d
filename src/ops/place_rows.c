/* y [P, d]: row r is row src[r] of x [N, d], or where src[r] is negative the fill [1, d]: a class
 * token before the patches of a picture, mask tokens in place of hidden ones. No row of x is taken
 * twice; in the gradient of x the rows not taken are 0. */
#include "ops/ops.h"
#include "ops/partials.h"

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const tl_node *x = n->in[0], *fill = n->in[1], *src = n->in[2];
  if (x->ndim != 2 || x->dt == TL_I32)
    return tl_fail(err, TL_INTERNAL, "%s must be [N, d]", x->name);
  if (fill->kind != TL_NODE_PARAM || fill->param->n != x->shape[1])
    return tl_fail(err, TL_INTERNAL, "%s must be a parameter with the columns of %s", fill->name,
                   x->name);
  if (src->dt != TL_I32 || src->ndim != 1)
    return tl_fail(err, TL_INTERNAL, "%s must be i32 [P]", src->name);
  n->dim = src->dim;
  n->shape[0] = src->shape[0];
  n->scratch_bwd = tl_partials_bytes(n->shape[0], tl_row_grain(n->shape[1]), n->shape[1]);
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
} job;

static void forward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const int32_t *src = n->in[2]->data;
  int64_t d = n->shape[1];
  for (int64_t r = begin; r < end; r++) {
    bool taken = src[r] >= 0;
    const void *from = taken ? tl_at(n->dt, n->in[0]->data, src[r] * d) : n->in[1]->data;
    j->x->k->row.convert(taken ? n->dt : TL_F32, from, n->dt, tl_at(n->dt, n->data, r * d), d);
  }
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(n->shape[1]), forward_rows,
                     &(job){x, n});
}

static void backward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const int32_t *src = n->in[2]->data;
  int64_t d = n->shape[1];
  float *fill = tl_partial(j->x->scratch, begin, tl_row_grain(d), d);
  for (int64_t r = begin; r < end; r++) {
    const void *dy = tl_at(n->dt, n->grad, r * d);
    if (src[r] < 0)
      for (int64_t c = 0; c < d; c++)
        fill[c] +=
            n->dt == TL_BF16 ? tl_bf16_to_f32(((const tl_bf16 *)dy)[c]) : ((const float *)dy)[c];
    else if (tl_wants_grad(n, 0))
      j->x->k->row.acc(n->dt, d, dy, tl_at(n->dt, n->in[0]->grad, src[r] * d));
  }
}

static void backward(tl_exec *x, tl_node *n) {
  int64_t rows = tl_rows(x->g, n), d = n->shape[1], grain = tl_row_grain(d);
  if (tl_wants_grad(n, 0) && !tl_grad_adds(x, n, 0))
    tl_parallel_zero(x->ctx, n->in[0]->grad,
                     (size_t)tl_count(x->g, n->in[0]) * tl_dtype_size(n->dt));
  tl_parallel_ranges(x->ctx, rows, grain, backward_rows, &(job){x, n});
  tl_partials_reduce(x, n, 1, rows, grain, d, 0, d);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double size = (double)tl_dtype_size(n->dt), count = (double)tl_count(g, n);
  c->bytes_fwd = 2 * count * size;
  c->flops_bwd = count;
  c->bytes_bwd = (3 * count + (double)tl_count(g, n->in[0])) * size;
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  int32_t src[256], next = 0;
  for (int64_t i = 0; i < d[1]; i++) src[i] = i % 4 == 0 || next >= d[0] ? -1 : next++;
  tl_node *x = tl_case_input(g, d[0], d[2]);
  tl_param *fill = tl_case_param(g, 2, (int64_t[]){1, d[2]}, 0, 1);
  return tl_place_rows(g, x, fill, tl_case_ints(g, 1, &d[1], src));
}

/* N, P (at most 256), d */
static const int64_t cases[][TL_MAX_CASE_DIMS] = {
    {1, 1, 1}, {10, 11, 17}, {300, 256, 129}, {30, 256, 64}, {0}};

const tl_op tl_op_place_rows = {
    .name = "place_rows",
    .formula = "y[r] = src[r] >= 0 ? x[src[r]] : fill",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 4,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 256, 768},
    .tol = {0, 0},
    .tol_bwd = {1e-5f, 1e-2f},
    .grad_tol = 1e-3f,
};

tl_node *tl_place_rows(tl_graph *g, tl_node *x, tl_param *fill, tl_node *src) {
  tl_node *in[] = {x, tl_graph_param(g, fill), src};
  return tl_graph_op(g, &tl_op_place_rows, in, 3, NULL, 0);
}
