/* cache[pos[r]] = x[r, k_col .. k_col + 2 kv): keys and values of new tokens join the cache. */
#include <string.h>

#include "ops/ops.h"

typedef struct attr {
  int k_col, kv_cols;
} attr;

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const attr *a = n->attr;
  const tl_node *cache = n->in[0], *x = n->in[1], *pos = n->in[2];
  if (cache->kind != TL_NODE_STATE || cache->dt != x->dt || cache->shape[1] != 2 * a->kv_cols)
    return tl_fail(err, TL_INTERNAL, "the cache must be a state [max, %d]", 2 * a->kv_cols);
  if (a->k_col + 2 * a->kv_cols > x->shape[1] || pos->dt != TL_I32 || pos->dim != x->dim)
    return tl_fail(err, TL_INTERNAL, "%s has too few columns, or positions do not fit", x->name);
  return TL_OK;
}

static void forward(tl_exec *x, tl_node *n) {
  const attr *a = n->attr;
  const tl_node *src = n->in[1];
  const int32_t *pos = n->in[2]->data;
  size_t size = tl_dtype_size(n->dt), bytes = 2 * (size_t)a->kv_cols * size;
  for (int64_t r = 0; r < tl_rows(x->g, src); r++)
    memcpy((char *)n->data + (size_t)pos[r] * bytes,
           (char *)src->data + ((size_t)(r * src->shape[1]) + (size_t)a->k_col) * size, bytes);
}

/* {rows, positions, columns of keys, first column}: rows go to positions in another order */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  int32_t pos[64];
  for (int r = 0; r < (int)d[0]; r++) pos[r] = (int32_t)d[1] - 1 - r;
  int64_t shape[] = {d[1], 2 * d[2]};
  return tl_kv_append(g, tl_graph_state(g, "cache", g->opt.dt, 2, shape),
                      tl_case_input(g, d[0], d[3] + 2 * d[2] + 1), tl_case_ints(g, 1, d, pos),
                      (int)d[3], (int)d[2]);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1, 1, 0}, {5, 9, 6, 7}, {40, 40, 3, 1}, {0}};

const tl_op tl_op_kv_append = {
    .name = "kv_append",
    .formula = "cache[pos[r]] = (k | v)[r]",
    .infer = infer,
    .forward = forward,
    .alias_in0 = true,
    .build_case = build_case,
    .cases = cases,
    .tol = {0, 0},
};

tl_node *tl_kv_append(tl_graph *g, tl_node *cache, tl_node *x, tl_node *pos, int k_col,
                      int kv_cols) {
  tl_node *in[] = {cache, x, pos};
  return tl_graph_op(g, &tl_op_kv_append, in, 3, &(attr){k_col, kv_cols}, sizeof(attr));
}
