/* y [N, out] = act(x [N, in] W^T + b) + residual, W one to three weights side by side on the output
 * axis.
 *
 * dx = dpre W, dW_i = dpre_i^T x, db_i = column sums of dpre_i, with dpre = dy * act'(pre); the
 * residual's gradient is dy. */
#include <string.h>

#include "ops/ops.h"
#include "ops/partials.h"

enum { IN_RESIDUAL = TL_MAX_IN - 1 };

typedef struct attr {
  tl_linear_spec spec;
  const tl_pack *fwd, *bwd;         /* bwd is NULL in graphs that are not for training */
  size_t bias_bytes;                /* of the joined bias, at the start of the forward scratch */
  size_t partial_bytes, dpre_bytes; /* in the backward scratch, in this order, then work */
} attr;

static size_t align64(size_t n) {
  return (n + 63) / 64 * 64;
}

static bool has_bias(const tl_linear_spec *s) {
  return s->b[0] != NULL;
}

static int64_t out_of(const tl_linear_spec *s, int i) {
  return s->conv1d ? s->w[i]->shape[1] : s->w[i]->shape[0];
}

static tl_gemm_args forward_args(const tl_node *n, int64_t rows) {
  const attr *a = n->attr;
  const tl_node *residual = n->in[IN_RESIDUAL];
  return (tl_gemm_args){.M = rows,
                        .N = a->fwd->out,
                        .K = a->fwd->in,
                        .dt = n->in[0]->dt,
                        .a = n->in[0]->data,
                        .lda = a->fwd->in,
                        .b_packed = a->fwd->data,
                        .c = n->data,
                        .ldc = a->fwd->out,
                        .c_dt = n->dt,
                        .act = a->spec.act,
                        .pre_act = n->saved,
                        .residual = residual ? residual->data : NULL,
                        .ldr = a->fwd->out};
}

static tl_gemm_args dx_args(const tl_node *n, const void *dpre, int64_t rows) {
  const attr *a = n->attr;
  return (tl_gemm_args){.M = rows,
                        .N = a->bwd->in,
                        .K = a->bwd->out,
                        .dt = n->dt,
                        .a = dpre,
                        .lda = a->bwd->out,
                        .b_packed = a->bwd->data,
                        .c = n->in[0]->grad,
                        .ldc = a->bwd->in,
                        .c_dt = n->dt};
}

/* The gradient of weight i, whose outputs start at column `col` of dpre [rows, out]. */
static tl_gemm_args dw_args(const tl_node *n, int i, const void *dpre, int64_t col, int64_t rows) {
  const attr *a = n->attr;
  int64_t in = a->fwd->in, out = a->fwd->out, mine = out_of(&a->spec, i);
  const void *dy = tl_at(n->dt, dpre, col), *x = n->in[0]->data;
  bool conv = a->spec.conv1d; /* dW [in, out] = x^T dpre; otherwise dW [out, in] = dpre^T x */
  return (tl_gemm_args){.M = conv ? in : mine,
                        .N = conv ? mine : in,
                        .K = rows,
                        .dt = n->dt,
                        .a = conv ? x : dy,
                        .lda = conv ? in : out,
                        .a_trans = true,
                        .b = conv ? dy : x,
                        .ldb = conv ? out : in,
                        .c = a->spec.w[i]->grad,
                        .ldc = conv ? mine : in,
                        .c_dt = TL_F32};
}

static tl_status check(const tl_graph *g, const tl_node *n, const tl_linear_spec *s, tl_err *err) {
  const tl_node *x = n->in[0];
  if (s->f32_out && g->opt.training)
    return tl_fail(err, TL_INTERNAL, "%s: an f32 output has no gradient", n->name);
  if (x->ndim != 2 || x->dt == TL_I32)
    return tl_fail(err, TL_INTERNAL, "%s must be [N, in]", x->name);
  for (int i = 0; i < s->n; i++) {
    if (s->w[i]->ndim != 2) return tl_fail(err, TL_INTERNAL, "%s must have 2 axes", s->w[i]->name);
    int64_t in = s->conv1d ? s->w[i]->shape[0] : s->w[i]->shape[1];
    if (in != x->shape[1])
      return tl_fail(err, TL_INTERNAL, "%s takes %lld columns, %s has %lld", s->w[i]->name,
                     (long long)in, x->name, (long long)x->shape[1]);
    if (s->n > 1 && out_of(s, i) % 2)
      return tl_fail(err, TL_INTERNAL, "%s: joined weights need even sizes", s->w[i]->name);
    if ((s->b[i] != NULL) != has_bias(s) || (s->b[i] && s->b[i]->n != out_of(s, i)))
      return tl_fail(err, TL_INTERNAL, "bias of %s: missing or of another size", s->w[i]->name);
  }
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
  const void *dpre;
} job;

static void again_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  j->x->k->row.act(n->dt, ((const attr *)n->attr)->spec.act, end - begin,
                   tl_at(n->dt, n->saved, begin), tl_at(n->dt, n->data, begin));
}

/* The output from the saved pre-activation: without the product. */
static void again(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_count(x->g, n), TL_CHUNK, again_range, &(job){x, n, NULL});
}

static void backward_memory(tl_graph *g, tl_node *n, int64_t rows) {
  attr *a = n->attr;
  int64_t out = a->fwd->out;
  tl_gemm_args dx = dx_args(n, NULL, rows);
  size_t work = tl_gemm_work_bytes(g->ctx, &dx);
  for (int i = 0; i < a->spec.n; i++) {
    tl_gemm_args dw = dw_args(n, i, NULL, 0, rows);
    size_t bytes = tl_gemm_work_bytes(g->ctx, &dw);
    if (bytes > work) work = bytes;
  }
  a->dpre_bytes = a->spec.act ? align64((size_t)(rows * out) * tl_dtype_size(n->dt)) : 0;
  a->partial_bytes =
      has_bias(&a->spec) ? align64(tl_partials_bytes(rows, tl_row_grain(out), out)) : 0;
  n->scratch_bwd = a->dpre_bytes + a->partial_bytes + work;
  if (a->spec.act) n->saved_bytes = (size_t)(rows * out) * tl_dtype_size(n->dt);
  if (a->spec.act && !a->spec.residual) n->again = again;
}

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  attr *a = n->attr;
  TL_TRY(check(g, n, &a->spec, err));
  const tl_linear_spec *s = &a->spec;
  a->fwd = tl_params_pack(g->params, g->ctx->k, TL_PACK_FORWARD, n->dt, s->n, s->w, s->conv1d);
  if (s->f32_out) n->dt = TL_F32;
  if (g->opt.training)
    a->bwd = tl_params_pack(g->params, g->ctx->k, TL_PACK_BACKWARD, n->dt, s->n, s->w, s->conv1d);
  if (!a->fwd || (g->opt.training && !a->bwd))
    return tl_fail(err, TL_NOMEM, "out of memory for packed weights");
  n->shape[1] = a->fwd->out;
  const tl_node *residual = n->in[IN_RESIDUAL];
  if (residual && (residual->dt != n->dt || residual->dim != n->dim ||
                   residual->shape[0] != n->shape[0] || tl_cols(residual) != tl_cols(n)))
    return tl_fail(err, TL_INTERNAL, "residual %s is not of the output's shape", residual->name);
  a->bias_bytes = has_bias(s) && s->n > 1 ? align64((size_t)a->fwd->out * sizeof(float)) : 0;
  tl_gemm_args y = forward_args(n, n->shape[0]);
  n->scratch_fwd = a->bias_bytes + tl_gemm_work_bytes(g->ctx, &y);
  if (g->opt.training) backward_memory(g, n, n->shape[0]);
  return TL_OK;
}

static void forward(tl_exec *x, tl_node *n) {
  const attr *a = n->attr;
  tl_gemm_args y = forward_args(n, tl_rows(x->g, n));
  if (a->bias_bytes) {
    float *joined = x->scratch;
    y.bias = joined;
    for (int i = 0; i < a->spec.n; i++) {
      memcpy(joined, a->spec.b[i]->data, (size_t)a->spec.b[i]->n * sizeof(float));
      joined += a->spec.b[i]->n;
    }
  } else if (has_bias(&a->spec)) {
    y.bias = a->spec.b[0]->data;
  }
  y.work = (char *)x->scratch + a->bias_bytes;
  tl_gemm(x->ctx, &y);
}

static void act_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  j->x->k->row.act_bwd(n->dt, ((const attr *)n->attr)->spec.act, end - begin,
                       tl_at(n->dt, n->saved, begin), tl_at(n->dt, n->grad, begin),
                       tl_at(n->dt, j->dpre, begin), false);
}

static void bias_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  int64_t out = n->shape[1];
  j->x->k->row.col_sum(n->dt, end - begin, out, tl_at(n->dt, j->dpre, begin * out), out,
                       tl_partial(j->x->scratch, begin, tl_row_grain(out), out));
}

static void backward_bias(const job *j, int64_t rows) {
  const attr *a = j->n->attr;
  int64_t out = j->n->shape[1], grain = tl_row_grain(out), col = 0;
  tl_parallel_ranges(j->x->ctx, rows, grain, bias_rows, (void *)(uintptr_t)j);
  for (int i = 0; i < a->spec.n; i++) {
    tl_partials_reduce(j->x, j->n, 1 + a->spec.n + i, rows, grain, out, col, a->spec.b[i]->n);
    col += a->spec.b[i]->n;
  }
}

static void backward(tl_exec *x, tl_node *n) {
  const attr *a = n->attr;
  int64_t rows = tl_rows(x->g, n);
  char *dpre = (char *)x->scratch + a->partial_bytes;
  job j = {x, n, a->spec.act ? dpre : n->grad};
  void *work = dpre + a->dpre_bytes;
  if (a->spec.act) tl_parallel_ranges(x->ctx, rows * n->shape[1], TL_CHUNK, act_range, &j);
  if (tl_wants_grad(n, 0)) {
    tl_gemm_args dx = dx_args(n, j.dpre, rows);
    dx.add = tl_grad_adds(x, n, 0);
    dx.work = work;
    tl_gemm(x->ctx, &dx);
  }
  int64_t col = 0;
  for (int i = 0; i < a->spec.n; i++) {
    if (tl_wants_grad(n, 1 + i)) {
      tl_gemm_args dw = dw_args(n, i, j.dpre, col, rows);
      dw.add = tl_grad_adds(x, n, 1 + i);
      dw.work = work;
      dw.stream = tl_grads_are_far(x->g->params);
      tl_gemm(x->ctx, &dw);
    }
    col += out_of(&a->spec, i);
  }
  if (has_bias(&a->spec) && tl_wants_grad(n, 1 + a->spec.n)) backward_bias(&j, rows);
  tl_grad_pass(x, n, IN_RESIDUAL);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  const attr *a = n->attr;
  double rows = (double)tl_rows(g, n), in = (double)a->fwd->in, out = (double)a->fwd->out;
  double size = (double)tl_dtype_size(n->dt);
  int grads = tl_wants_grad(n, 0) + tl_wants_grad(n, 1);
  c->flops_fwd = 2 * rows * in * out;
  c->flops_bwd = c->flops_fwd * grads;
  c->bytes_fwd = size * (rows * in + in * out + rows * out);
  c->bytes_bwd = grads * size * (rows * in + rows * out) + (size + 4) * in * out;
}

/* {rows, in, out, weights, bias, conv1d, activation, residual} */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  tl_node *x = tl_case_input(g, d[0], d[1]);
  tl_linear_spec s = {.n = (int)d[3], .conv1d = d[5], .act = (tl_act)d[6]};
  for (int i = 0; i < s.n; i++) {
    int64_t out = d[2] + 2 * i;
    int64_t shape[] = {d[5] ? d[1] : out, d[5] ? out : d[1]};
    s.w[i] = tl_case_param(g, 2, shape, 0, 0.3f);
    if (d[4]) s.b[i] = tl_case_param(g, 1, &out, 0, 0.5f);
  }
  if (d[7]) s.residual = tl_case_input(g, d[0], s.n * (d[2] + s.n - 1));
  return tl_linear(g, x, &s);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {
    {1, 1, 1, 1, 0, 0, TL_ACT_NONE},         {3, 5, 7, 1, 1, 0, TL_ACT_NONE},
    {33, 64, 48, 1, 1, 1, TL_ACT_GELU_TANH}, {17, 31, 10, 3, 1, 0, TL_ACT_NONE},
    {65, 40, 34, 2, 0, 0, TL_ACT_SILU},      {129, 257, 66, 1, 1, 0, TL_ACT_GELU},
    {20, 16, 12, 2, 1, 1, TL_ACT_RELU2},     {65, 40, 34, 1, 1, 0, TL_ACT_NONE, 1},
    {19, 24, 10, 2, 0, 1, TL_ACT_TANH, 1},   {0}};

const tl_op tl_op_linear = {
    .name = "linear",
    .formula = "y = act(x concat(W)^T + concat(b)) + residual",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 1,
    .grad_alias = 1u << IN_RESIDUAL,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 768, 768, 1, 1, 0, TL_ACT_NONE},
    .tol = {2e-5f, 1e-2f},
    .tol_bwd = {2e-5f, 2e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_linear(tl_graph *g, tl_node *x, const tl_linear_spec *spec) {
  tl_node *in[TL_MAX_IN] = {x};
  bool bias = spec->b[0] != NULL;
  for (int i = 0; i < spec->n; i++) {
    in[1 + i] = tl_graph_param(g, spec->w[i]);
    if (bias) in[1 + spec->n + i] = tl_graph_param(g, spec->b[i]);
  }
  in[IN_RESIDUAL] = spec->residual;
  attr a = {.spec = *spec};
  return tl_graph_op(g, &tl_op_linear, in, TL_MAX_IN, &a, sizeof a);
}

tl_node *tl_linear1(tl_graph *g, tl_node *x, tl_param *w, tl_param *b) {
  return tl_linear(g, x, &(tl_linear_spec){.n = 1, .w = {w}, .b = {b}});
}
