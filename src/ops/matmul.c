/* y = alpha op(a) op(b), for matrices or equal batches of them; op transposes or does nothing.
 *
 * With A = op(a) [M, K] and B = op(b) [K, N]: dA = alpha dY B^T, dB = alpha A^T dY; the gradient of
 * a transposed argument is computed transposed. */
#include "ops/ops.h"

typedef struct attr {
  bool ta, tb;
  float alpha;
} attr;

typedef struct sizes {
  int64_t count, M, N, K;
} sizes;

static sizes sizes_of(const tl_node *n) {
  const attr *t = n->attr;
  const tl_node *a = n->in[0], *b = n->in[1];
  int r = a->ndim - 2;
  return (sizes){.count = r ? a->shape[0] : 1,
                 .M = a->shape[r + t->ta],
                 .K = a->shape[r + !t->ta],
                 .N = b->shape[r + !t->tb]};
}

/* One product of a [M, K] and b [K, N] in stored form; lda and ldb are the stored row lengths. */
static tl_gemm_args product(const tl_node *n, int64_t M, int64_t N, int64_t K, const void *a,
                            bool a_trans, const void *b, bool b_trans, void *c) {
  return (tl_gemm_args){.M = M,
                        .N = N,
                        .K = K,
                        .dt = n->dt,
                        .alpha = ((const attr *)n->attr)->alpha,
                        .a = a,
                        .lda = a_trans ? M : K,
                        .a_trans = a_trans,
                        .b = b,
                        .ldb = b_trans ? K : N,
                        .b_trans = b_trans,
                        .c = c,
                        .ldc = N,
                        .c_dt = n->dt};
}

static tl_gemm_args forward_args(const tl_node *n) {
  const attr *t = n->attr;
  sizes s = sizes_of(n);
  return product(n, s.M, s.N, s.K, n->in[0]->data, t->ta, n->in[1]->data, t->tb, n->data);
}

static tl_gemm_args da_args(const tl_node *n) {
  const attr *t = n->attr;
  sizes s = sizes_of(n);
  const void *b = n->in[1]->data;
  return t->ta ? product(n, s.K, s.M, s.N, b, t->tb, n->grad, true, n->in[0]->grad)
               : product(n, s.M, s.K, s.N, n->grad, false, b, !t->tb, n->in[0]->grad);
}

static tl_gemm_args db_args(const tl_node *n) {
  const attr *t = n->attr;
  sizes s = sizes_of(n);
  const void *a = n->in[0]->data;
  return t->tb ? product(n, s.N, s.K, s.M, n->grad, true, a, t->ta, n->in[1]->grad)
               : product(n, s.K, s.N, s.M, a, !t->ta, n->grad, false, n->in[1]->grad);
}

static tl_gemm_batch batch_of(const tl_node *n, const tl_gemm_args *p) {
  return (tl_gemm_batch){sizes_of(n).count, p->M * p->K, p->K * p->N, p->M * p->N};
}

static size_t work_bytes(const tl_graph *g, const tl_node *n, tl_gemm_args p) {
  tl_gemm_batch batch = batch_of(n, &p);
  return tl_gemm_batched_work_bytes(g->ctx, &p, &batch);
}

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  const tl_node *a = n->in[0], *b = n->in[1];
  if (a->dt != b->dt || a->dt == TL_I32 || a->ndim != b->ndim || a->ndim < 2 || a->ndim > 3)
    return tl_fail(err, TL_INTERNAL, "%s and %s must both have 2 or both 3 axes and one type",
                   a->name, b->name);
  if (a->dim || b->dim)
    return tl_fail(err, TL_INTERNAL, "%s or %s has a dynamic size; matmul takes fixed ones",
                   a->name, b->name);
  const attr *t = n->attr;
  sizes s = sizes_of(n);
  int r = a->ndim - 2;
  if (b->shape[r + t->tb] != s.K || (r && b->shape[0] != a->shape[0]))
    return tl_fail(err, TL_INTERNAL, "inner sizes %lld and %lld, or the batches, differ",
                   (long long)s.K, (long long)b->shape[r + t->tb]);
  n->shape[r] = s.M;
  n->shape[r + 1] = s.N;
  n->scratch_fwd = work_bytes(g, n, forward_args(n));
  size_t da = work_bytes(g, n, da_args(n)), db = work_bytes(g, n, db_args(n));
  n->scratch_bwd = da > db ? da : db;
  return TL_OK;
}

static void run(tl_exec *x, const tl_node *n, tl_gemm_args p, bool add) {
  tl_gemm_batch batch = batch_of(n, &p);
  p.add = add;
  p.work = x->scratch;
  tl_gemm_batched(x->ctx, &p, &batch);
}

static void forward(tl_exec *x, tl_node *n) {
  run(x, n, forward_args(n), false);
}

static void backward(tl_exec *x, tl_node *n) {
  if (tl_wants_grad(n, 0)) run(x, n, da_args(n), tl_grad_adds(x, n, 0));
  if (tl_wants_grad(n, 1)) run(x, n, db_args(n), tl_grad_adds(x, n, 1));
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  (void)g;
  sizes s = sizes_of(n);
  double flops = 2.0 * (double)s.count * (double)s.M * (double)s.N * (double)s.K;
  double bytes =
      (double)s.count * (double)(s.M * s.K + s.K * s.N + s.M * s.N) * (double)tl_dtype_size(n->dt);
  int grads = tl_wants_grad(n, 0) + tl_wants_grad(n, 1);
  *c = (tl_cost){flops, flops * grads, bytes, bytes * grads};
}

static tl_node *case_matrix(tl_graph *g, int64_t count, int64_t rows, int64_t cols) {
  int64_t shape[] = {count, rows, cols};
  return count ? tl_from_param(g, tl_case_param(g, 3, shape, 0, 1)) : tl_case_input(g, rows, cols);
}

/* {M, N, K, transpose a, transpose b, batch (0: plain matrices)} */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  tl_node *a = case_matrix(g, d[5], d[3] ? d[2] : d[0], d[3] ? d[0] : d[2]);
  tl_node *b = case_matrix(g, d[5], d[4] ? d[1] : d[2], d[4] ? d[2] : d[1]);
  return tl_matmul(g, a, b, d[3], d[4], 0.5f);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1, 1, 0, 0},      {3, 5, 7, 0, 0},
                                                  {17, 33, 20, 1, 0},   {40, 31, 65, 0, 1},
                                                  {9, 66, 31, 1, 1},    {70, 130, 258, 0, 1},
                                                  {5, 9, 12, 0, 0, 3},  {17, 8, 33, 1, 0, 5},
                                                  {12, 20, 7, 1, 1, 2}, {0}};

const tl_op tl_op_matmul = {
    .name = "matmul",
    .formula = "y = alpha op(a) op(b)",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 3,
    .build_case = build_case,
    .cases = cases,
    .tol = {2e-5f, 1e-2f},
    .tol_bwd = {2e-5f, 2e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_matmul(tl_graph *g, tl_node *a, tl_node *b, bool trans_a, bool trans_b, float alpha) {
  tl_node *in[] = {a, b};
  return tl_graph_op(g, &tl_op_matmul, in, 2, &(attr){trans_a, trans_b, alpha}, sizeof(attr));
}
