/* Batch normalisation (Ioffe and Szegedy, 2015) over the rows of each column, with what follows it
 * in a residual network in the same pass: y = f((x - mean) / sqrt(var + eps) * gain + bias +
 * residual), f ReLU or nothing.
 *
 * In training mean and var are those of the batch (a micro-batch), and the running ones follow
 * them: fixed parameters, so that checkpoints hold them. Otherwise the running ones are used. With
 * xhat = (x - mean) rstd and dpre = dy f'(pre): dx = gain rstd (dpre - mean(dpre) -
 * xhat mean(dpre xhat)), which is a dpre + b x + c of each column. */
#include <math.h>

#include "ops/ops.h"
#include "ops/partials.h"

enum { IN_GAIN = 1, IN_BIAS, IN_RESIDUAL };
enum { COLUMNS = 64 }; /* per task of what is done once for each column */

static void again(tl_exec *x, tl_node *n);

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  (void)g;
  const tl_batch_norm_spec *s = n->attr;
  const tl_node *x = n->in[0], *residual = n->in[IN_RESIDUAL];
  if (x->ndim != 2 || x->dt == TL_I32)
    return tl_fail(err, TL_INTERNAL, "%s must be [N, d]", x->name);
  int64_t rows = x->shape[0], d = x->shape[1], grain = tl_row_grain(d);
  const tl_param *p[] = {s->gain, s->bias, s->mean, s->var};
  for (int i = 0; i < 4; i++)
    if (p[i] ? p[i]->n != d : i < 2 || s->mean || s->var)
      return tl_fail(err, TL_INTERNAL, "a parameter is missing or has not %lld values",
                     (long long)d);
  if (residual && (residual->dt != n->dt || residual->dim != n->dim || residual->shape[0] != rows ||
                   tl_cols(residual) != d))
    return tl_fail(err, TL_INTERNAL, "residual %s is not of the output's shape", residual->name);
  n->saved_bytes = 4 * (size_t)d * sizeof(float);
  n->scratch_fwd = tl_partials_bytes(rows, grain, 3 * d);
  n->scratch_bwd = tl_partials_bytes(rows, grain, 2 * d) + 3 * (size_t)d * sizeof(float);
  n->again = again;
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  tl_node *n;
  float *mean, *rstd; /* [d], saved */
  tl_affine f;        /* its scale and shift too */
  float *a, *b, *c;   /* of dx; behind the partials */
  int64_t rows, d, grain;
} job;

static job make_job(tl_exec *x, tl_node *n) {
  const tl_batch_norm_spec *s = n->attr;
  float *saved = n->saved;
  int64_t d = n->shape[1];
  job j = {.x = x, .n = n, .mean = saved, .rstd = saved + d};
  j.f = (tl_affine){.scale = saved + 2 * d, .shift = saved + 3 * d, .relu = s->relu};
  if (n->in[IN_RESIDUAL]) j.f.residual = n->in[IN_RESIDUAL]->data;
  j.rows = tl_rows(x->g, n);
  j.d = d;
  j.grain = tl_row_grain(d);
  j.a = (float *)((char *)x->scratch + tl_partials_bytes(j.rows, j.grain, 2 * d));
  j.b = j.a + d;
  j.c = j.b + d;
  return j;
}

/* --- forward -----------------------------------------------------------------------------------
 */

/* Partials: [chunk][sum | sum of squares | what both are taken from: the chunk's first row]. */
static void sum_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  const void *x = tl_at(n->dt, n->in[0]->data, begin * j->d);
  float *p = tl_partial(j->x->scratch, begin, j->grain, 3 * j->d);
  j->x->k->row.convert(n->dt, x, TL_F32, p + 2 * j->d, j->d);
  j->x->k->row.moments(n->dt, end - begin, j->d, x, p + 2 * j->d, p, p + j->d);
}

/* The moments of a column from its chunks, in order (Chan et al., 1983): mean and the sum of
 * squared distances from it. */
static void column_moments(const job *j, int64_t col, double *mean, double *squares) {
  double count = 0;
  *mean = *squares = 0;
  for (int64_t begin = 0; begin < j->rows; begin += j->grain) {
    const float *p = (const float *)j->x->scratch + begin / j->grain * 3 * j->d + col;
    int64_t left = j->rows - begin;
    double n = (double)(left < j->grain ? left : j->grain);
    double s = (double)p[0], q = (double)p[j->d], apart = (double)p[2 * j->d] + s / n - *mean;
    *mean += apart * n / (count + n);
    *squares += fmax(q - s * s / n, 0) + apart * apart * count * n / (count + n);
    count += n;
  }
}

static void follow(float *running, double value, double momentum) {
  *running = (float)((1 - momentum) * (double)*running + momentum * value);
}

static void set_columns(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_batch_norm_spec *s = j->n->attr;
  bool batch = j->x->training || !s->mean;
  for (int64_t i = begin; i < end; i++) {
    double mean, var, squares;
    if (batch) {
      column_moments(j, i, &mean, &squares);
      var = squares / (double)j->rows;
    } else {
      mean = (double)s->mean->data[i];
      var = (double)s->var->data[i];
    }
    /* A step that is not finite is left out by the guard: it must leave nothing behind. */
    if (batch && s->mean && isfinite(mean) && isfinite(var)) {
      follow(&s->mean->data[i], mean, (double)s->momentum);
      follow(&s->var->data[i], j->rows > 1 ? squares / (double)(j->rows - 1) : var,
             (double)s->momentum);
    }
    double rstd = 1 / sqrt(var + (double)s->eps), scale = (double)s->gain->data[i] * rstd;
    j->mean[i] = (float)mean;
    j->rstd[i] = (float)rstd;
    ((float *)j->n->saved)[2 * j->d + i] = (float)scale;
    ((float *)j->n->saved)[3 * j->d + i] = (float)((double)s->bias->data[i] - mean * scale);
  }
}

static void apply_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  tl_affine f = j->f;
  if (f.residual) f.residual = tl_at(n->dt, f.residual, begin * j->d);
  j->x->k->row.affine(n->dt, end - begin, j->d, &f, tl_at(n->dt, n->in[0]->data, begin * j->d),
                      tl_at(n->dt, n->data, begin * j->d));
}

static void again(tl_exec *x, tl_node *n) {
  job j = make_job(x, n);
  tl_parallel_ranges(x->ctx, j.rows, j.grain, apply_rows, &j);
}

static void forward(tl_exec *x, tl_node *n) {
  job j = make_job(x, n);
  const tl_batch_norm_spec *s = n->attr;
  if (j.rows == 0) return;
  if (x->training || !s->mean) tl_parallel_ranges(x->ctx, j.rows, j.grain, sum_rows, &j);
  tl_parallel_ranges(x->ctx, j.d, COLUMNS, set_columns, &j);
  tl_parallel_ranges(x->ctx, j.rows, j.grain, apply_rows, &j);
}

/* --- backward ----------------------------------------------------------------------------------
 */

static tl_affine affine_at(const job *j, int64_t row) {
  tl_affine f = j->f;
  if (f.residual) f.residual = tl_at(j->n->dt, f.residual, row * j->d);
  return f;
}

/* Partials: [chunk][sum of dpre | of dpre (x - mean)]. */
static void sum_gradients(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *n = j->n;
  tl_affine f = affine_at(j, begin);
  float *p = tl_partial(j->x->scratch, begin, j->grain, 2 * j->d);
  j->x->k->row.affine_sums(n->dt, end - begin, j->d, &f, tl_at(n->dt, n->in[0]->data, begin * j->d),
                           tl_at(n->dt, n->grad, begin * j->d), j->mean, p, p + j->d);
}

static void put_gradient(const job *j, int i, int64_t col, double v) {
  if (!tl_wants_grad(j->n, i)) return;
  float *g = (float *)j->n->in[i]->grad + col;
  *g = tl_grad_adds(j->x, j->n, i) ? *g + (float)v : (float)v;
}

static void gradient_columns(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_batch_norm_spec *s = j->n->attr;
  int64_t chunks = (j->rows + j->grain - 1) / j->grain;
  for (int64_t i = begin; i < end; i++) {
    double sum = 0, sum_x = 0, rstd = (double)j->rstd[i], count = (double)j->rows;
    for (int64_t c = 0; c < chunks; c++) {
      const float *p = (const float *)j->x->scratch + c * 2 * j->d + i;
      sum += (double)p[0];
      sum_x += (double)p[j->d];
    }
    put_gradient(j, IN_GAIN, i, sum_x * rstd);
    put_gradient(j, IN_BIAS, i, sum);
    double a = (double)s->gain->data[i] * rstd, b = -a * rstd * rstd * sum_x / count;
    j->a[i] = (float)a;
    j->b[i] = (float)b;
    j->c[i] = (float)(-a * sum / count - b * (double)j->mean[i]);
  }
}

static void pass_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  tl_node *n = j->n;
  int64_t at = begin * j->d;
  tl_affine f = affine_at(j, begin);
  bool x = tl_wants_grad(n, 0), residual = tl_wants_grad(n, IN_RESIDUAL);
  j->x->k->row.affine_bwd(
      n->dt, end - begin, j->d, &f, tl_at(n->dt, n->in[0]->data, at), tl_at(n->dt, n->grad, at),
      j->a, j->b, j->c, x ? tl_at(n->dt, n->in[0]->grad, at) : NULL, x && tl_grad_adds(j->x, n, 0),
      residual ? tl_at(n->dt, n->in[IN_RESIDUAL]->grad, at) : NULL,
      residual && tl_grad_adds(j->x, n, IN_RESIDUAL));
}

static void backward(tl_exec *x, tl_node *n) {
  job j = make_job(x, n);
  tl_parallel_ranges(x->ctx, j.rows, j.grain, sum_gradients, &j);
  tl_parallel_ranges(x->ctx, j.d, COLUMNS, gradient_columns, &j);
  tl_parallel_ranges(x->ctx, j.rows, j.grain, pass_rows, &j);
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  double count = (double)tl_count(g, n), bytes = count * (double)tl_dtype_size(n->dt);
  bool residual = n->in[IN_RESIDUAL];
  c->flops_fwd = 6 * count;
  c->flops_bwd = 10 * count;
  c->bytes_fwd = (3 + residual) * bytes;
  c->bytes_bwd = (5 + 3 * residual) * bytes;
}

/* Parameters that the harness does not differentiate: the running statistics. */
static tl_param *case_running(tl_graph *g, int64_t d, float value) {
  tl_param *p = tl_arena_alloc(&g->arena, sizeof *p);
  float *data = tl_arena_alloc(&g->arena, (size_t)d * sizeof *data);
  if (!p || !data) {
    tl_graph_fail(g, TL_NOMEM, "test case: out of memory");
    return NULL;
  }
  for (int64_t i = 0; i < d; i++) data[i] = value;
  *p = (tl_param){.name = "running", .ndim = 1, .shape = {d}, .n = d, .data = data};
  return p;
}

/* {rows, d, relu, residual, running statistics}; few values with relu, since rounding to bf16 turns
 * those near 0 on and off. */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  tl_node *x = tl_case_input(g, d[0], d[1]);
  tl_batch_norm_spec s = {.gain = tl_case_param(g, 1, &d[1], 1, 0.2f),
                          .bias = tl_case_param(g, 1, &d[1], 0, 0.5f),
                          .eps = 1e-3f,
                          .momentum = 0.1f,
                          .relu = d[2]};
  if (d[3]) s.residual = tl_case_input(g, d[0], d[1]);
  if (d[4]) {
    s.mean = case_running(g, d[1], 0);
    s.var = case_running(g, d[1], 1);
  }
  return tl_batch_norm(g, x, &s);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{5, 1},
                                                  {7, 5, 0, 0, 1},
                                                  {33, 17, 0, 1},
                                                  {600, 129, 0, 1, 1},
                                                  {50, 70, 1, 0},
                                                  {1500, 64, 0, 0, 1},
                                                  {9, 40, 1, 1},
                                                  {40, 300, 0, 1},
                                                  {0}};

const tl_op tl_op_batch_norm = {
    .name = "batch_norm",
    .formula = "y = f((x - mean) / sqrt(var + eps) * gain + bias + residual), over rows",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 1 | 1u << IN_RESIDUAL,
    .again_inputs = 1 | 1u << IN_RESIDUAL,
    .grad_over = 1,
    .build_case = build_case,
    .cases = cases,
    .bench = {65536, 64, 1},
    .tol = {1e-5f, 1e-2f},
    .tol_bwd = {4e-5f, 2e-2f},
    .grad_tol = 2e-2f,
};

tl_node *tl_batch_norm(tl_graph *g, tl_node *x, const tl_batch_norm_spec *spec) {
  tl_node *in[] = {x, tl_graph_param(g, spec->gain), tl_graph_param(g, spec->bias), spec->residual};
  tl_batch_norm_spec s = *spec;
  if (g->batch_moments) s.mean = s.var = NULL;
  return tl_graph_op(g, &tl_op_batch_norm, in, 4, &s, sizeof s);
}
