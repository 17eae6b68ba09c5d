/* RMS norm of each head of hd columns inside packed rows [N, C] (QK-norm): heads [0, heads_q) with
 * gain_q, heads [heads_q, heads) with gain_k; the other columns pass. */
#include "ops/ops.h"
#include "ops/partials.h"

typedef struct attr {
  int heads, heads_q, hd;
  float eps;
} attr;

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const attr *a = n->attr;
  const tl_node *x = n->in[0];
  if (x->ndim != 2 || x->dt == TL_I32 || a->hd < 1 || a->heads_q < 0 || a->heads < a->heads_q ||
      (int64_t)a->heads * a->hd > x->shape[1])
    return tl_fail(err, TL_INTERNAL, "%d heads (%d of q) of %d columns do not fit %s", a->heads,
                   a->heads_q, a->hd, x->name);
  for (int i = 1; i < 3; i++)
    if (n->in[i] && tl_max_count(n->in[i]) != a->hd)
      return tl_fail(err, TL_INTERNAL, "%s must have %d values", n->in[i]->name, a->hd);
  n->saved_bytes = (size_t)(x->shape[0] * a->heads) * sizeof(float);
  n->scratch_bwd = tl_partials_bytes(x->shape[0], tl_row_grain(x->shape[1]), 2 * a->hd);
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
} job;

static const float *param_data(const tl_node *n, int i) {
  return n->in[i] ? n->in[i]->data : NULL;
}

static void forward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const tl_row_kernels *k = &j->x->k->row;
  const attr *a = n->attr;
  int64_t c = n->shape[1], normed = (int64_t)a->heads * a->hd, q = (int64_t)a->heads_q * a->hd;
  for (int64_t r = begin; r < end; r++) {
    const void *x = tl_at(n->dt, n->in[0]->data, r * c);
    void *y = tl_at(n->dt, n->data, r * c);
    float *rstd = (float *)n->saved + r * a->heads;
    k->rms_norm(n->dt, a->heads_q, a->hd, x, a->hd, param_data(n, 1), a->eps, y, a->hd, rstd);
    k->rms_norm(n->dt, a->heads - a->heads_q, a->hd, tl_at(n->dt, x, q), a->hd, param_data(n, 2),
                a->eps, tl_at(n->dt, y, q), a->hd, rstd + a->heads_q);
    k->convert(n->dt, tl_at(n->dt, x, normed), n->dt, tl_at(n->dt, y, normed), c - normed);
  }
}

static void forward(tl_exec *x, tl_node *n) {
  tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(n->shape[1]), forward_rows,
                     &(job){x, n});
}

/* Heads [h0, h1) of row r with the gain n->in[i]; dgain may be NULL. */
static void backward_heads(const job *j, int64_t r, int h0, int h1, int i, float *dgain) {
  const tl_node *n = j->n;
  const attr *a = n->attr;
  int64_t at = r * n->shape[1] + (int64_t)h0 * a->hd;
  j->x->k->row.rms_norm_bwd(n->dt, h1 - h0, a->hd, tl_at(n->dt, n->in[0]->data, at), a->hd,
                            param_data(n, i), (const float *)n->saved + r * a->heads + h0,
                            tl_at(n->dt, n->grad, at), a->hd,
                            tl_wants_grad(n, 0) ? tl_at(n->dt, n->in[0]->grad, at) : NULL, a->hd,
                            tl_grad_adds(j->x, n, 0), dgain);
}

/* Partials: [chunk][dgain_q | dgain_k]. */
static void backward_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const attr *a = n->attr;
  int64_t c = n->shape[1], normed = (int64_t)a->heads * a->hd;
  float *partial = tl_partial(j->x->scratch, begin, tl_row_grain(c), 2 * a->hd);
  for (int64_t r = begin; r < end; r++) {
    backward_heads(j, r, 0, a->heads_q, 1, tl_wants_grad(n, 1) ? partial : NULL);
    backward_heads(j, r, a->heads_q, a->heads, 2, tl_wants_grad(n, 2) ? partial + a->hd : NULL);
    if (!tl_wants_grad(n, 0)) continue;
    if (n->in[0]->grad == n->grad) continue;
    const void *dy = tl_at(n->dt, n->grad, r * c + normed);
    void *dx = tl_at(n->dt, n->in[0]->grad, r * c + normed);
    if (tl_grad_adds(j->x, n, 0))
      j->x->k->row.acc(n->dt, c - normed, dy, dx);
    else
      j->x->k->row.convert(n->dt, dy, n->dt, dx, c - normed);
  }
}

static void backward(tl_exec *x, tl_node *n) {
  const attr *a = n->attr;
  int64_t rows = tl_rows(x->g, n), grain = tl_row_grain(n->shape[1]);
  tl_parallel_ranges(x->ctx, rows, grain, backward_rows, &(job){x, n});
  tl_partials_reduce(x, n, 1, rows, grain, 2 * a->hd, 0, a->hd);
  tl_partials_reduce(x, n, 2, rows, grain, 2 * a->hd, a->hd, a->hd);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  const attr *a = n->attr;
  double normed = (double)tl_rows(g, n) * a->heads * a->hd;
  double bytes = (double)tl_count(g, n) * (double)tl_dtype_size(n->dt);
  c->flops_fwd = 4 * normed;
  c->flops_bwd = 10 * normed;
  c->bytes_fwd = 2 * bytes;
  c->bytes_bwd = 3 * bytes;
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  tl_node *x = tl_case_input(g, d[0], d[1]);
  tl_param *gain_q = d[5] ? tl_case_param(g, 1, &d[4], 1, 0.2f) : NULL;
  tl_param *gain_k = d[5] ? tl_case_param(g, 1, &d[4], 1, 0.2f) : NULL;
  return tl_head_norm(g, x, (int)d[2], (int)d[3], (int)d[4], gain_q, gain_k, 1e-5f);
}

/* rows, columns, heads, heads of q, head size, with gains */
static const int64_t cases[][TL_MAX_CASE_DIMS] = {{3, 20, 3, 2, 5, 1},
                                                  {130, 192, 8, 4, 16, 1},
                                                  {600, 65, 4, 2, 12, 1},
                                                  {5, 48, 2, 2, 16, 0},
                                                  {0}};

const tl_op tl_op_head_norm = {
    .name = "head_norm",
    .formula = "y = x / sqrt(mean(x^2) + eps) * gain, over each head's columns",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 1,
    .grad_over = 1,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 2304, 24, 12, 64, 1},
    .tol = {4e-6f, 1e-2f},
    .tol_bwd = {1e-5f, 1e-2f},
    .grad_tol = 1e-2f,
};

tl_node *tl_head_norm(tl_graph *g, tl_node *x, int heads, int heads_q, int hd, tl_param *gain_q,
                      tl_param *gain_k, float eps) {
  tl_node *in[] = {x, gain_q ? tl_graph_param(g, gain_q) : NULL,
                   gain_k ? tl_graph_param(g, gain_k) : NULL};
  attr a = {heads, heads_q, hd, eps};
  return tl_graph_op(g, &tl_op_head_norm, in, 3, &a, sizeof a);
}
