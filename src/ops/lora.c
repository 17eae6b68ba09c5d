/* Low-rank adaptation (Hu et al. 2021): y' = y + s (x A_i^T) B_i^T in the columns of the i-th of
 * the weights that made y side by side; a weight without a pair (A_i, B_i) keeps its columns.
 *
 * dA_i = s (dy_i B_i)^T x, dB_i = s dy_i^T (x A_i^T), dx += s (dy_i B_i) A_i; y passes its gradient
 * on. */
#include <string.h>

#include "ops/ops.h"
#include "ops/parallel.h"

enum { IN_Y, IN_X, IN_A };

typedef struct lora_attr {
  tl_lora_spec spec;
  const tl_pack *a_fwd[TL_MAX_CAT], *a_bwd[TL_MAX_CAT], *b_fwd[TL_MAX_CAT], *b_bwd[TL_MAX_CAT];
  int64_t in, out, rank; /* rank: the sum */
  size_t dh_bytes;       /* in the backward scratch, before work */
} lora_attr;

static int64_t rank_of(const lora_attr *a, int i) {
  return a->spec.a[i] ? a->spec.a[i]->shape[0] : 0;
}

static tl_status check(const tl_node *n, const lora_attr *a, tl_err *err) {
  int64_t cols = 0;
  for (int i = 0; i < a->spec.n; i++) {
    const tl_param *A = a->spec.a[i], *B = a->spec.b[i];
    cols += a->spec.out[i];
    if (!A && !B) continue;
    if (!A || !B || A->ndim != 2 || B->ndim != 2 || A->shape[1] != a->in ||
        B->shape[0] != a->spec.out[i] || A->shape[0] != B->shape[1])
      return tl_fail(err, TL_INTERNAL, "lora of %s: A must be [r, %lld], B [%lld, r]",
                     n->in[IN_Y]->name, (long long)a->in, (long long)a->spec.out[i]);
  }
  if (cols != a->out || n->in[IN_X]->dim != n->dim || n->in[IN_X]->dt != n->dt)
    return tl_fail(err, TL_INTERNAL, "lora of %s: its input and output do not fit together",
                   n->in[IN_Y]->name);
  return TL_OK;
}

static bool make_packs(tl_graph *g, lora_attr *a, tl_dtype dt) {
  bool ok = true;
  for (int i = 0; i < a->spec.n; i++) {
    if (!a->spec.a[i]) continue;
    const struct {
      const tl_pack **pack;
      tl_param *const *w;
      tl_pack_kind kind;
    } list[] = {{&a->a_fwd[i], &a->spec.a[i], TL_PACK_FORWARD},
                {&a->b_fwd[i], &a->spec.b[i], TL_PACK_FORWARD},
                {&a->a_bwd[i], &a->spec.a[i], TL_PACK_BACKWARD},
                {&a->b_bwd[i], &a->spec.b[i], TL_PACK_BACKWARD}};
    for (int k = 0; k < (g->opt.training ? 4 : 2); k++) {
      *list[k].pack = tl_params_pack(g->params, g->ctx->k, list[k].kind, dt, 1, list[k].w, false);
      ok = ok && *list[k].pack;
    }
  }
  return ok;
}

/* h_i [rows, r_i], a part of h [rows, rank] at column `at`. */
static tl_gemm_args h_args(const tl_node *n, int i, int64_t at, int64_t rows, void *h) {
  const lora_attr *a = n->attr;
  return (tl_gemm_args){.M = rows,
                        .N = rank_of(a, i),
                        .K = a->in,
                        .dt = n->dt,
                        .a = n->in[IN_X]->data,
                        .lda = a->in,
                        .b_packed = a->a_fwd[i]->data,
                        .c = tl_at(n->dt, h, at),
                        .ldc = a->rank,
                        .c_dt = n->dt};
}

/* dA_i = dh_i^T x (`left` is dh, [rows, r_i]); dB_i = s dy_i^T h_i (`left` is dy). */
static tl_gemm_args grad_args(const tl_node *n, tl_param *p, const void *left, int64_t ld_left,
                              const void *right, int64_t ld_right, int64_t rows, float alpha) {
  return (tl_gemm_args){.M = p->shape[0],
                        .N = p->shape[1],
                        .K = rows,
                        .dt = n->dt,
                        .a = left,
                        .lda = ld_left,
                        .a_trans = true,
                        .b = right,
                        .ldb = ld_right,
                        .c = p->grad,
                        .ldc = p->shape[1],
                        .c_dt = TL_F32,
                        .alpha = alpha};
}

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  lora_attr *a = n->attr;
  a->in = tl_cols(n->in[IN_X]);
  a->out = n->shape[1];
  TL_TRY(check(n, a, err));
  if (!make_packs(g, a, n->dt)) return tl_fail(err, TL_NOMEM, "lora: out of memory for its packs");
  a->rank = 0;
  size_t work = 0;
  int64_t rows = n->shape[0];
  for (int i = 0; i < a->spec.n; i++) a->rank += rank_of(a, i);
  for (int i = 0; i < a->spec.n; i++) {
    if (!a->spec.a[i]) continue;
    tl_gemm_args da = grad_args(n, a->spec.a[i], NULL, a->rank, NULL, a->in, rows, 1);
    tl_gemm_args db = grad_args(n, a->spec.b[i], NULL, a->out, NULL, a->rank, rows, 1);
    size_t wa = tl_gemm_work_bytes(g->ctx, &da), wb = tl_gemm_work_bytes(g->ctx, &db);
    if (wa > work) work = wa;
    if (wb > work) work = wb;
  }
  size_t h_bytes = (size_t)(rows * a->rank) * tl_dtype_size(n->dt);
  a->dh_bytes = (h_bytes + 63) / 64 * 64;
  n->saved_bytes = h_bytes;
  n->scratch_bwd = a->dh_bytes + work;
  return TL_OK;
}

static void copy_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const tl_node *n = arg;
  size_t size = tl_dtype_size(n->dt);
  memcpy(tl_at(n->dt, n->data, begin), tl_at(n->dt, n->in[IN_Y]->data, begin),
         (size_t)(end - begin) * size);
}

static void forward(tl_exec *x, tl_node *n) {
  const lora_attr *a = n->attr;
  int64_t rows = tl_rows(x->g, n), col = 0, at = 0;
  if (n->data != n->in[IN_Y]->data)
    tl_parallel_ranges(x->ctx, tl_count(x->g, n), TL_CHUNK, copy_range, n);
  for (int i = 0; i < a->spec.n; i++) {
    if (a->spec.a[i]) {
      tl_gemm_args h = h_args(n, i, at, rows, n->saved);
      tl_gemm(x->ctx, &h);
      tl_gemm(x->ctx, &(tl_gemm_args){.M = rows,
                                      .N = a->spec.out[i],
                                      .K = rank_of(a, i),
                                      .dt = n->dt,
                                      .a = h.c,
                                      .lda = a->rank,
                                      .b_packed = a->b_fwd[i]->data,
                                      .c = tl_at(n->dt, n->data, col),
                                      .ldc = a->out,
                                      .c_dt = n->dt,
                                      .alpha = a->spec.scale,
                                      .add = true});
    }
    at += rank_of(a, i);
    col += a->spec.out[i];
  }
}

/* One pair. dh is scratch, `adds`: whether dx is added to. */
static void backward_pair(tl_exec *x, tl_node *n, int i, int64_t at, int64_t col, bool adds) {
  const lora_attr *a = n->attr;
  tl_node *in = n->in[IN_X];
  int64_t rows = tl_rows(x->g, n), r = rank_of(a, i);
  void *dh = x->scratch, *work = (char *)x->scratch + a->dh_bytes;
  const void *dy = tl_at(n->dt, n->grad, col), *h = tl_at(n->dt, n->saved, at);
  int ia = IN_A + 2 * i;
  tl_gemm(x->ctx, &(tl_gemm_args){.M = rows,
                                  .N = r,
                                  .K = a->spec.out[i],
                                  .dt = n->dt,
                                  .a = dy,
                                  .lda = a->out,
                                  .b_packed = a->b_bwd[i]->data,
                                  .c = dh,
                                  .ldc = r,
                                  .c_dt = n->dt,
                                  .alpha = a->spec.scale});
  if (tl_wants_grad(n, ia)) {
    tl_gemm_args da = grad_args(n, a->spec.a[i], dh, r, in->data, a->in, rows, 1);
    da.add = tl_grad_adds(x, n, ia);
    da.work = work;
    tl_gemm(x->ctx, &da);
  }
  if (tl_wants_grad(n, ia + 1)) {
    tl_gemm_args db = grad_args(n, a->spec.b[i], dy, a->out, h, a->rank, rows, a->spec.scale);
    db.add = tl_grad_adds(x, n, ia + 1);
    db.work = work;
    tl_gemm(x->ctx, &db);
  }
  if (tl_wants_grad(n, IN_X))
    tl_gemm(x->ctx, &(tl_gemm_args){.M = rows,
                                    .N = a->in,
                                    .K = r,
                                    .dt = n->dt,
                                    .a = dh,
                                    .lda = r,
                                    .b_packed = a->a_bwd[i]->data,
                                    .c = in->grad,
                                    .ldc = a->in,
                                    .c_dt = n->dt,
                                    .add = adds});
}

static void backward(tl_exec *x, tl_node *n) {
  const lora_attr *a = n->attr;
  int64_t at = 0, col = 0;
  bool adds = tl_grad_adds(x, n, IN_X);
  for (int i = 0; i < a->spec.n; i++) {
    if (a->spec.a[i]) {
      backward_pair(x, n, i, at, col, adds);
      adds = true;
    }
    at += rank_of(a, i);
    col += a->spec.out[i];
  }
  tl_grad_pass(x, n, IN_Y);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  const lora_attr *a = n->attr;
  double rows = (double)tl_rows(g, n), size = (double)tl_dtype_size(n->dt);
  for (int i = 0; i < a->spec.n; i++) {
    double r = (double)rank_of(a, i), in = (double)a->in, out = (double)a->spec.out[i];
    c->flops_fwd += 2 * rows * r * (in + out);
    c->flops_bwd += 2 * rows * r * (in + out) * (1 + (tl_wants_grad(n, IN_X) ? 1 : 0));
    c->bytes_fwd += r > 0 ? size * rows * (in + 2 * out) : 0;
    c->bytes_bwd += r > 0 ? size * rows * (2 * in + 2 * out) : 0;
  }
}

/* {rows, in, out, weights, pairs (bit i: weight i has one), rank} */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  tl_lora_spec s = {.n = (int)d[3], .scale = 0.5f};
  int64_t cols = 0;
  for (int i = 0; i < s.n; i++) {
    s.out[i] = d[2] + 2 * i;
    cols += s.out[i];
    int64_t a[] = {d[5] + i, d[1]}, b[] = {s.out[i], d[5] + i};
    if (!(d[4] >> i & 1)) continue;
    s.a[i] = tl_case_param(g, 2, a, 0, 0.3f);
    s.b[i] = tl_case_param(g, 2, b, 0, 0.3f);
  }
  tl_node *y = tl_case_input(g, d[0], cols);
  return tl_lora(g, y, tl_case_input(g, d[0], d[1]), &s);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {
    {1, 1, 1, 1, 1, 1}, {7, 5, 6, 3, 5, 2}, {65, 40, 34, 2, 3, 8}, {130, 64, 96, 3, 4, 4}, {0}};

const tl_op tl_op_lora = {
    .name = "lora",
    .formula = "y + s (x A^T) B^T, in the columns of each adapted weight",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 1 << IN_X,
    .inplace = true,
    .grad_alias = 1 << IN_Y,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 768, 768, 1, 1, 8},
    .tol = {1e-5f, 2e-2f},
    .tol_bwd = {1e-5f, 2e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_lora(tl_graph *g, tl_node *y, tl_node *x, const tl_lora_spec *spec) {
  tl_node *in[TL_MAX_IN] = {y, x};
  int n_in = 2;
  for (int i = 0; i < spec->n; i++) {
    n_in = IN_A + 2 * (i + 1);
    if (!spec->a[i]) continue;
    in[IN_A + 2 * i] = tl_graph_param(g, spec->a[i]);
    in[IN_A + 2 * i + 1] = tl_graph_param(g, spec->b[i]);
  }
  lora_attr a = {.spec = *spec};
  return tl_graph_op(g, &tl_op_lora, in, n_in, &a, sizeof a);
}
