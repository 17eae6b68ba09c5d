/* y [N, d] = rows first + ids of table [V, d], zeros where there is no
 * such row. The gradient is scattered by column slices, each
 * owned by one task that takes the rows in order: frequent ids do not unbalance it, and the sums
 * are the same on any number of threads. */
#include <string.h>

#include "ops/ops.h"
#include "ops/partials.h"

enum { SLICE = 128 }; /* columns per task of the scatter */

typedef struct attr {
  int64_t first; /* row of the table for id 0 */
} attr;

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  const tl_node *table = n->in[0], *ids = n->in[1];
  if (table->kind != TL_NODE_PARAM || table->ndim != 2)
    return tl_fail(err, TL_INTERNAL, "%s must be a parameter [V, d]", table->name);
  if (ids->dt != TL_I32 || ids->ndim != 1)
    return tl_fail(err, TL_INTERNAL, "%s must be i32 [N]", ids->name);
  int64_t first = ((const attr *)n->attr)->first;
  if (first < 0 || first >= table->shape[0])
    return tl_fail(err, TL_INTERNAL, "%s has no row %lld", table->name, (long long)first);
  n->dt = g->opt.dt;
  n->dim = ids->dim;
  n->shape[0] = ids->shape[0];
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
  int64_t d = n->shape[1];
  const float *table = (const float *)n->in[0]->data + ((const attr *)n->attr)->first * d;
  const int32_t *ids = n->in[1]->data;
  int64_t limit = n->in[0]->shape[0] - ((const attr *)n->attr)->first;
  for (int64_t r = begin; r < end; r++) {
    void *y = tl_at(n->dt, n->data, r * d);
    if (ids[r] < limit)
      j->x->k->row.convert(TL_F32, table + ids[r] * d, n->dt, y, d);
    else
      memset(y, 0, (size_t)d * tl_dtype_size(n->dt));
  }
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(n->shape[1]), forward_rows,
                     &(job){x, n});
}

static void scatter_columns(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  int64_t d = n->shape[1];
  float *grad = (float *)n->in[0]->grad + ((const attr *)n->attr)->first * d;
  const int32_t *ids = n->in[1]->data;
  int64_t limit = n->in[0]->shape[0] - ((const attr *)n->attr)->first;
  int64_t rows = tl_rows(j->x->g, n);
  for (int64_t r = 0; r < rows; r++) /* one row's "column sum" adds it to the f32 gradient */
    if (ids[r] < limit)
      j->x->k->row.col_sum(n->dt, 1, end - begin, tl_at(n->dt, n->grad, r * d + begin), d,
                           grad + ids[r] * d + begin);
}

static void backward(tl_exec *x, tl_node *n) {
  if (!tl_grad_adds(x, n, 0))
    tl_parallel_zero(x->ctx, n->in[0]->grad, (size_t)tl_max_count(n->in[0]) * sizeof(float));
  tl_parallel_ranges(x->ctx, n->shape[1], SLICE, scatter_columns, &(job){x, n});
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n), size = (double)tl_dtype_size(n->dt);
  c->bytes_fwd = count * (4 + size);
  c->flops_bwd = count;
  c->bytes_bwd = count * (8 + size) + 4 * (double)tl_max_count(n->in[0]);
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  int32_t ids[256];
  for (int64_t i = 0; i < d[0]; i++)
    ids[i] = (int32_t)(i * i * 31 % (d[1] - d[3])); /* with repetitions */
  int64_t shape[] = {d[1], d[2]};
  return tl_embedding_from(g, tl_case_param(g, 2, shape, 0, 1), tl_case_ints(g, 1, d, ids), d[3]);
}

/* rows (at most 256), vocabulary, d, first row */
static const int64_t cases[][TL_MAX_CASE_DIMS] = {
    {1, 1, 1}, {7, 5, 17}, {9, 6, 17, 2}, {200, 50, 300}, {0}};

const tl_op tl_op_embedding = {
    .name = "embedding",
    .formula = "y[r] = table[first + ids[r]]",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 2,
    .build_case = build_case,
    .cases = cases,
    .bench = {256, 8192, 768},
    .tol = {0, 0},
    .tol_bwd = {1e-6f, 1e-2f},
    .grad_tol = 1e-3f,
};

tl_node *tl_embedding_from(tl_graph *g, tl_param *table, tl_node *ids, int64_t first) {
  tl_node *in[] = {tl_graph_param(g, table), ids};
  attr a = {first};
  return tl_graph_op(g, &tl_op_embedding, in, 2, &a, sizeof a);
}

tl_node *tl_embedding(tl_graph *g, tl_param *table, tl_node *ids) {
  return tl_embedding_from(g, table, ids, 0);
}
