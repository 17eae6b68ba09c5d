/* The magnitudes of DoRA (Liu et al. 2024): y = u m_o / |W_o + s B_o A| + b_o for output o, where u
 * is what the weights and their low-rank updates gave without biases. The norms count as constants
 * in the gradient (section 4.3): dm_o = sum u dy / |..|, du = dy m_o / |..|.
 *
 * A weight without a magnitude keeps its columns (and gets its bias). */
#include <math.h>

#include "ops/ops.h"
#include "ops/parallel.h"

enum { IN_U, IN_M, IN_B = IN_M + TL_MAX_CAT, COLS = 32 };

typedef struct attr {
  tl_dora_spec spec;
} attr;

void tl_lora_norms(const tl_param *w, int64_t begin, int64_t end, float *norm) {
  const tl_param *a = w->lora_a, *b = w->lora_b;
  int64_t rank = a->shape[0], in = a->shape[1], out = b->shape[0];
  for (int64_t o = begin; o < end; o++) {
    double sum = 0;
    for (int64_t c = 0; c < in; c++) {
      double update = 0;
      for (int64_t k = 0; k < rank; k++)
        update += (double)b->data[o * rank + k] * (double)a->data[k * in + c];
      double v = (double)w->data[w->lora_conv1d ? c * out + o : o * in + c] +
                 (double)w->lora_scale * update;
      sum += v * v;
    }
    norm[o - begin] = (float)sqrt(sum);
  }
}

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const attr *a = n->attr;
  int64_t cols = 0;
  for (int i = 0; i < a->spec.n; i++) {
    const tl_param *w = a->spec.w[i];
    int64_t out = w->shape[a->spec.conv1d ? 1 : 0];
    if (w->lora_m && (!w->lora_a || !w->lora_b || w->lora_m->n != out))
      return tl_fail(err, TL_INTERNAL, "magnitudes of %s do not fit it", w->name);
    cols += out;
  }
  if (cols != n->shape[1])
    return tl_fail(err, TL_INTERNAL, "magnitudes do not fit %s", n->in[IN_U]->name);
  n->saved_bytes = (size_t)cols * sizeof(float);
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
  int i;       /* the weight */
  int64_t col; /* where its columns begin */
} job;

static void norm_range(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const attr *a = j->n->attr;
  tl_lora_norms(a->spec.w[j->i], begin, end, (float *)j->n->saved + j->col + begin);
}

static float cell(tl_dtype dt, const void *p, int64_t i) {
  return dt == TL_BF16 ? tl_bf16_to_f32(((const tl_bf16 *)p)[i]) : ((const float *)p)[i];
}

static void put(tl_dtype dt, void *p, int64_t i, float v) {
  if (dt == TL_BF16)
    ((tl_bf16 *)p)[i] = tl_f32_to_bf16(v);
  else
    ((float *)p)[i] = v;
}

static void scale_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const attr *a = n->attr;
  const tl_param *w = a->spec.w[j->i], *b = a->spec.b[j->i];
  int64_t cols = n->shape[1], out = w->shape[a->spec.conv1d ? 1 : 0];
  const float *norm = (const float *)n->saved + j->col;
  for (int64_t r = begin; r < end; r++)
    for (int64_t o = 0; o < out; o++) {
      int64_t at = r * cols + j->col + o;
      float v = cell(n->dt, n->in[IN_U]->data, at);
      if (w->lora_m) v = v * (w->lora_m->data[o] / norm[o]);
      put(n->dt, n->data, at, b ? v + b->data[o] : v);
    }
}

static void forward(tl_exec *x, tl_node *n) {
  const attr *a = n->attr;
  int64_t col = 0;
  for (int i = 0; i < a->spec.n; i++) {
    int64_t out = a->spec.w[i]->shape[a->spec.conv1d ? 1 : 0];
    job j = {x, n, i, col};
    if (a->spec.w[i]->lora_m) tl_parallel_ranges(x->ctx, out, COLS, norm_range, &j);
    tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(out), scale_rows, &j);
    col += out;
  }
}

/* Gradients of magnitudes and biases: each task owns columns and takes the rows in order. */
static void param_columns(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const tl_node *m = n->in[IN_M + j->i], *b = n->in[IN_B + j->i];
  int64_t cols = n->shape[1], rows = tl_rows(j->x->g, n);
  const float *norm = (const float *)n->saved + j->col;
  for (int64_t o = begin; o < end; o++) {
    double dm = 0, db = 0;
    for (int64_t r = 0; r < rows; r++) {
      int64_t at = r * cols + j->col + o;
      double dy = (double)cell(n->dt, n->grad, at);
      db += dy;
      dm += dy * (double)cell(n->dt, n->in[IN_U]->data, at);
    }
    if (m && m->needs_grad) {
      float *g = (float *)m->grad + o, v = (float)(dm / (double)norm[o]);
      *g = tl_grad_adds(j->x, n, IN_M + j->i) ? *g + v : v;
    }
    if (b && b->needs_grad) {
      float *g = (float *)b->grad + o;
      *g = tl_grad_adds(j->x, n, IN_B + j->i) ? *g + (float)db : (float)db;
    }
  }
}

static void pass_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const attr *a = n->attr;
  const tl_param *w = a->spec.w[j->i];
  int64_t cols = n->shape[1], out = w->shape[a->spec.conv1d ? 1 : 0];
  const float *norm = (const float *)n->saved + j->col;
  bool adds = tl_grad_adds(j->x, n, IN_U);
  void *du = n->in[IN_U]->grad;
  for (int64_t r = begin; r < end; r++)
    for (int64_t o = 0; o < out; o++) {
      int64_t at = r * cols + j->col + o;
      float v = cell(n->dt, n->grad, at);
      if (w->lora_m) v = v * (w->lora_m->data[o] / norm[o]);
      put(n->dt, du, at, adds ? cell(n->dt, du, at) + v : v);
    }
}

static void backward(tl_exec *x, tl_node *n) {
  const attr *a = n->attr;
  int64_t col = 0;
  for (int i = 0; i < a->spec.n; i++) {
    int64_t out = a->spec.w[i]->shape[a->spec.conv1d ? 1 : 0];
    job j = {x, n, i, col};
    if (tl_wants_grad(n, IN_M + i) || tl_wants_grad(n, IN_B + i))
      tl_parallel_ranges(x->ctx, out, COLS, param_columns, &j);
    if (tl_wants_grad(n, IN_U))
      tl_parallel_ranges(x->ctx, tl_rows(x->g, n), tl_row_grain(out), pass_rows, &j);
    col += out;
  }
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  const attr *a = n->attr;
  double count = (double)tl_count(g, n), size = (double)tl_dtype_size(n->dt);
  for (int i = 0; i < a->spec.n; i++)
    if (a->spec.w[i]->lora_m)
      c->flops_fwd += 2 * (double)a->spec.w[i]->n * (double)a->spec.w[i]->lora_a->shape[0];
  c->flops_fwd += 2 * count;
  c->flops_bwd = 4 * count;
  c->bytes_fwd = 2 * count * size;
  c->bytes_bwd = 3 * count * size;
}

/* A matrix that is no parameter of the case: its part of the norms counts as constant. */
static tl_param *constant(tl_graph *g, int64_t rows, int64_t cols) {
  tl_param *p = tl_arena_alloc(&g->arena, sizeof *p);
  float *data = tl_arena_alloc(&g->arena, (size_t)(rows * cols) * sizeof *data);
  if (!p || !data) {
    tl_graph_fail(g, TL_NOMEM, "test case: out of memory");
    return NULL;
  }
  for (int64_t i = 0; i < rows * cols; i++) data[i] = (float)(i * 37 % 101 - 50) / 50;
  *p = (tl_param){
      .name = "constant", .ndim = 2, .shape = {rows, cols}, .n = rows * cols, .data = data};
  return p;
}

/* {rows, in, out, weights, magnitudes (bit i: weight i has one), bias, conv1d} */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  tl_dora_spec s = {.n = (int)d[3], .conv1d = d[6]};
  int64_t cols = 0;
  for (int i = 0; i < s.n; i++) {
    int64_t out = d[2] + i;
    cols += out;
    tl_param *w = s.w[i] = d[6] ? constant(g, d[1], out) : constant(g, out, d[1]);
    if (!w) return tl_case_input(g, d[0], cols);
    if (d[5]) s.b[i] = tl_case_param(g, 1, &out, 0, 1);
    if (!(d[4] >> i & 1)) continue;
    w->lora_a = constant(g, 2, d[1]);
    w->lora_b = constant(g, out, 2);
    w->lora_m = tl_case_param(g, 1, &out, 2, 0.5f);
    w->lora_scale = 0.5f;
    w->lora_conv1d = s.conv1d;
  }
  return tl_dora(g, tl_case_input(g, d[0], cols), &s);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {
    {1, 1, 1, 1, 1, 0, 0}, {7, 5, 6, 3, 5, 1, 0}, {65, 40, 34, 2, 3, 1, 1}, {0}};

const tl_op tl_op_dora = {
    .name = "dora",
    .formula = "u m / |W + s B A| + b, by output",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 1 << IN_U,
    .inplace = true,
    .grad_over = 1 << IN_U,
    .build_case = build_case,
    .cases = cases,
    .bench = {1024, 768, 768, 1, 1, 1, 0},
    .tol = {1e-5f, 2e-2f},
    .tol_bwd = {1e-5f, 2e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_dora(tl_graph *g, tl_node *u, const tl_dora_spec *spec) {
  tl_node *in[IN_B + TL_MAX_CAT] = {u};
  for (int i = 0; i < spec->n; i++) {
    if (spec->w[i]->lora_m) in[IN_M + i] = tl_graph_param(g, spec->w[i]->lora_m);
    if (spec->b[i]) in[IN_B + i] = tl_graph_param(g, spec->b[i]);
  }
  attr a = {.spec = *spec};
  return tl_graph_op(g, &tl_op_dora, in, IN_B + TL_MAX_CAT, &a, sizeof a);
}
