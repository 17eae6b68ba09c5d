/* Learned rows inside a batch (prompts, prefixes): y = x, but where ids[r] >= first, the C columns
 * from `col` on are row ids[r] - first of table [P, C].
 *
 * The gradient of those cells goes to the table, that of all others to x. */
#include <string.h>

#include "ops/ops.h"
#include "ops/partials.h"

enum { IN_X, IN_TABLE, IN_IDS, SLICE = 128 };

typedef struct attr {
  int64_t first, col;
} attr;

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const attr *a = n->attr;
  const tl_node *x = n->in[IN_X], *t = n->in[IN_TABLE], *ids = n->in[IN_IDS];
  if (x->ndim != 2 || t->kind != TL_NODE_PARAM || t->ndim != 2 || ids->dt != TL_I32 ||
      ids->dim != x->dim || a->col < 0 || a->col + t->shape[1] > x->shape[1])
    return tl_fail(err, TL_INTERNAL, "rows of %s do not fit into %s", t->name, x->name);
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
} job;

static bool is_learned(const tl_node *n, int64_t r, int64_t *row) {
  *row = ((const int32_t *)n->in[IN_IDS]->data)[r] - ((const attr *)n->attr)->first;
  return *row >= 0 && *row < n->in[IN_TABLE]->shape[0];
}

static void forward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const tl_row_kernels *k = &j->x->k->row;
  int64_t cols = n->shape[1], c = n->in[IN_TABLE]->shape[1], row;
  const float *table = n->in[IN_TABLE]->data;
  for (int64_t r = begin; r < end; r++) {
    if (n->data != n->in[IN_X]->data)
      k->convert(n->dt, tl_at(n->dt, n->in[IN_X]->data, r * cols), n->dt,
                 tl_at(n->dt, n->data, r * cols), cols);
    if (is_learned(n, r, &row))
      k->convert(TL_F32, table + row * c, n->dt,
                 tl_at(n->dt, n->data, r * cols + ((const attr *)n->attr)->col), c);
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
  float *grad = n->in[IN_TABLE]->grad;
  int64_t cols = n->shape[1], c = n->in[IN_TABLE]->shape[1], row, rows = tl_rows(j->x->g, n);
  int64_t col = ((const attr *)n->attr)->col;
  for (int64_t r = 0; r < rows; r++)
    if (is_learned(n, r, &row))
      j->x->k->row.col_sum(n->dt, 1, end - begin, tl_at(n->dt, n->grad, r * cols + col + begin),
                           cols, grad + row * c + begin);
}

static void pass_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const tl_row_kernels *k = &j->x->k->row;
  int64_t cols = n->shape[1], c = n->in[IN_TABLE]->shape[1], row;
  int64_t col = ((const attr *)n->attr)->col, behind = col + c;
  bool adds = tl_grad_adds(j->x, n, IN_X);
  size_t size = tl_dtype_size(n->dt);
  for (int64_t r = begin; r < end; r++) {
    char *dx = tl_at(n->dt, n->in[IN_X]->grad, r * cols);
    const char *dy = tl_at(n->dt, n->grad, r * cols);
    bool learned = is_learned(n, r, &row);
    int64_t head = learned ? col : cols;
    if (adds) {
      k->acc(n->dt, head, dy, dx);
      if (learned) k->acc(n->dt, cols - behind, tl_at(n->dt, dy, behind), tl_at(n->dt, dx, behind));
      continue;
    }
    if (dx != dy) k->convert(n->dt, dy, n->dt, dx, cols);
    if (learned) memset(dx + (size_t)col * size, 0, (size_t)c * size);
  }
}

static void backward(tl_exec *x, tl_node *n) {
  if (tl_wants_grad(n, IN_TABLE)) {
    if (!tl_grad_adds(x, n, IN_TABLE))
      tl_parallel_zero(x->ctx, n->in[IN_TABLE]->grad,
                       (size_t)tl_max_count(n->in[IN_TABLE]) * sizeof(float));
    tl_parallel_ranges(x->ctx, n->in[IN_TABLE]->shape[1], SLICE, scatter_columns, &(job){x, n});
  }
  if (tl_wants_grad(n, IN_X))
    tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(n->shape[1]), pass_rows,
                       &(job){x, n});
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double bytes = (double)tl_count(g, n) * (double)tl_dtype_size(n->dt);
  c->bytes_fwd = 2 * bytes;
  c->bytes_bwd = 2 * bytes;
}

/* {rows, columns, learned rows, their columns, col} */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  int32_t ids[256];
  for (int64_t i = 0; i < d[0]; i++) ids[i] = (int32_t)(100 - 3 + i * 7 % (d[2] + 3));
  int64_t shape[] = {d[2], d[3]};
  tl_node *x = tl_case_input(g, d[0], d[1]);
  return tl_splice(g, x, tl_case_param(g, 2, shape, 0, 1), tl_case_ints(g, 1, d, ids), 100, d[4]);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {
    {1, 1, 1, 1, 0}, {7, 5, 4, 5, 0}, {9, 12, 3, 6, 4}, {200, 300, 20, 200, 100}, {0}};

const tl_op tl_op_splice = {
    .name = "splice",
    .formula = "y = x, with learned rows where ids >= first",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 1 << IN_IDS,
    .inplace = true,
    .grad_over = 1 << IN_X,
    .build_case = build_case,
    .cases = cases,
    .bench = {256, 768, 16, 768, 0},
    .tol = {0, 0},
    .tol_bwd = {1e-6f, 1e-2f},
    .grad_tol = 1e-3f,
};

tl_node *tl_splice(tl_graph *g, tl_node *x, tl_param *table, tl_node *ids, int64_t first,
                   int64_t col) {
  tl_node *in[] = {x, tl_graph_param(g, table), ids};
  attr a = {first, col};
  return tl_graph_op(g, &tl_op_splice, in, 3, &a, sizeof a);
}
