/* Predictions between two layers of capsules, and dynamic routing by agreement over them (Sabour et
 * al., 2017, procedure 1). For each picture, with capsules i below (u_i, d_in columns) and j above
 * (v_j, d_out columns), and b_ij = 0 at first:
 *
 *   p_ij = u_i W_ij;  `iterations` times:  c_i = softmax over j of b_i;  s_j = sum over i of c_ij
 * p_ij; v_j = squash(s_j);  b_ij += p_ij . v_j
 *
 * The gradient is that of this whole function: it flows through the agreements of all iterations,
 * nothing is held constant. Inside everything is f32, v too. Predictions are large (as published
 * 184,320 values a picture), so they exist for a block of pictures at a time, whose size depends on
 * the shape alone, and the backward makes them again; the gradient of W is summed block by block.
 */
#include <string.h>

#include "kernels/gemm.h"
#include "ops/ops.h"
#include "ops/partials.h"
#include "ops/squash.h"

enum { BLOCK_BYTES = 16 << 20, MAX_ITERATIONS = 16 };

typedef struct attr {
  tl_routing_spec spec;
  int64_t below, above; /* values of all capsules of a picture */
  int64_t pairs;        /* n_in n_out */
  int64_t state;        /* floats of a picture's routing */
  int64_t block;        /* pictures */
} attr;

/* Scratch of a block of pictures, each part with its rows one behind the other. */
typedef struct scratch {
  float *u, *du; /* [block][below] */
  float *p;      /* predictions, later their gradients [block][n_in][above] */
  float *state;  /* [block][state] */
  void *work;    /* of the products */
} scratch;

/* A picture's routing in its part of scratch.state. weight and vector are the terms of the
 * gradient of the predictions: c and ds of each iteration, then db and v of each but the last. */
typedef struct route_state {
  float *b;      /* [pairs] */
  float *weight; /* [2 iterations - 1][pairs] */
  float *vector; /* [2 iterations - 1][above] */
  float *s;      /* [iterations][above] */
  float *v;      /* [above] of the last iteration, and its gradient */
} route_state;

static int64_t floats_of_state(const attr *a) {
  int64_t terms = 2 * a->spec.iterations - 1;
  return a->pairs * (1 + terms) + a->above * (terms + a->spec.iterations + 1);
}

static route_state state_of(const attr *a, float *at) {
  int64_t terms = 2 * a->spec.iterations - 1;
  route_state r = {.b = at, .weight = at + a->pairs};
  r.vector = r.weight + terms * a->pairs;
  r.s = r.vector + terms * a->above;
  r.v = r.s + a->spec.iterations * a->above;
  return r;
}

static void *carve(char **at, int64_t bytes) {
  char *p = *at;
  *at = p + (bytes + 63) / 64 * 64;
  return p;
}

/* --- products: one for each capsule below ------------------------------------------------------
 */

/* p_i [pictures, above] = u_i [pictures, d_in] W_i [d_in, above] */
static tl_gemm_args predict_args(const tl_node *n, const scratch *s, int64_t pictures,
                                 tl_gemm_batch *batch) {
  const attr *a = n->attr;
  *batch = (tl_gemm_batch){a->spec.n_in, a->spec.d_in, a->spec.d_in * a->above, a->above};
  return (tl_gemm_args){.M = pictures,
                        .N = a->above,
                        .K = a->spec.d_in,
                        .dt = TL_F32,
                        .a = s->u,
                        .lda = a->below,
                        .b = n->in[1]->data,
                        .ldb = a->above,
                        .c = s->p,
                        .ldc = a->spec.n_in * a->above,
                        .c_dt = TL_F32,
                        .work = s->work};
}

/* dW_i [d_in, above] += u_i^T dp_i */
static tl_gemm_args dw_args(const tl_node *n, const scratch *s, int64_t pictures,
                            tl_gemm_batch *batch) {
  const attr *a = n->attr;
  *batch = (tl_gemm_batch){a->spec.n_in, a->spec.d_in, a->above, a->spec.d_in * a->above};
  return (tl_gemm_args){.M = a->spec.d_in,
                        .N = a->above,
                        .K = pictures,
                        .dt = TL_F32,
                        .a = s->u,
                        .lda = a->below,
                        .a_trans = true,
                        .b = s->p,
                        .ldb = a->spec.n_in * a->above,
                        .c = n->in[1]->grad,
                        .ldc = a->above,
                        .c_dt = TL_F32,
                        .work = s->work};
}

/* du_i [pictures, d_in] = dp_i W_i^T */
static tl_gemm_args du_args(const tl_node *n, const scratch *s, int64_t pictures,
                            tl_gemm_batch *batch) {
  const attr *a = n->attr;
  *batch = (tl_gemm_batch){a->spec.n_in, a->above, a->spec.d_in * a->above, a->spec.d_in};
  return (tl_gemm_args){.M = pictures,
                        .N = a->spec.d_in,
                        .K = a->above,
                        .dt = TL_F32,
                        .a = s->p,
                        .lda = a->spec.n_in * a->above,
                        .b = n->in[1]->data,
                        .ldb = a->above,
                        .b_trans = true,
                        .c = s->du,
                        .ldc = a->below,
                        .c_dt = TL_F32,
                        .work = s->work};
}

typedef tl_gemm_args (*args_fn)(const tl_node *n, const scratch *s, int64_t pictures,
                                tl_gemm_batch *batch);

static size_t work_bytes(const tl_ctx *ctx, const tl_node *n, bool backward) {
  const attr *a = n->attr;
  static const args_fn products[] = {predict_args, dw_args, du_args};
  size_t most = 0;
  for (int i = 0; i < (backward ? 3 : 1); i++) {
    tl_gemm_batch batch;
    tl_gemm_args args = products[i](n, &(scratch){0}, a->block, &batch);
    size_t bytes = tl_gemm_batched_work_bytes(ctx, &args, &batch);
    if (bytes > most) most = bytes;
  }
  return most;
}

/* Lays the scratch out from `base`; returns its size. */
static size_t lay_out(const tl_ctx *ctx, const tl_node *n, bool backward, char *base, scratch *s) {
  const attr *a = n->attr;
  int64_t size = sizeof(float);
  char *at = base;
  s->u = carve(&at, a->block * a->below * size);
  s->du = backward ? carve(&at, a->block * a->below * size) : NULL;
  s->p = carve(&at, a->block * a->spec.n_in * a->above * size);
  s->state = carve(&at, a->block * a->state * size);
  s->work = carve(&at, (int64_t)work_bytes(ctx, n, backward));
  return (size_t)(at - base);
}

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  attr *a = n->attr;
  const tl_routing_spec *s = &a->spec;
  const tl_node *x = n->in[0], *w = n->in[1];
  if (s->n_in < 1 || s->d_in < 1 || s->n_out < 1 || s->d_out < 1 || s->iterations < 1 ||
      s->iterations > MAX_ITERATIONS)
    return tl_fail(err, TL_INTERNAL, "routing over %lld * %lld to %lld * %lld, %d times",
                   (long long)s->n_in, (long long)s->d_in, (long long)s->n_out, (long long)s->d_out,
                   s->iterations);
  a->below = s->n_in * s->d_in;
  a->above = s->n_out * s->d_out;
  a->pairs = s->n_in * s->n_out;
  a->state = floats_of_state(a);
  if (x->ndim != 2 || x->dt == TL_I32 || a->below % x->shape[1] ||
      x->shape[0] % (a->below / x->shape[1]))
    return tl_fail(err, TL_INTERNAL, "%s must be [pictures * rows, %lld / rows]", x->name,
                   (long long)a->below);
  if (w->ndim != 2 || w->shape[0] != a->below || w->shape[1] != a->above)
    return tl_fail(err, TL_INTERNAL, "%s must be [%lld, %lld]", w->name, (long long)a->below,
                   (long long)a->above);
  n->dt = TL_F32;
  n->dim = s->dim;
  n->shape[0] = x->shape[0] / (a->below / x->shape[1]);
  n->shape[1] = a->above;
  int64_t bytes = (2 * a->below + s->n_in * a->above + a->state) * (int64_t)sizeof(float);
  a->block = BLOCK_BYTES / bytes;
  if (a->block > n->shape[0]) a->block = n->shape[0];
  if (a->block < 1) a->block = 1;
  n->scratch_fwd = lay_out(g->ctx, n, false, NULL, &(scratch){0});
  if (g->opt.training) n->scratch_bwd = lay_out(g->ctx, n, true, NULL, &(scratch){0});
  return TL_OK;
}

/* --- one block of pictures ---------------------------------------------------------------------
 */

typedef struct job {
  tl_exec *x;
  tl_node *n;
  const attr *a;
  scratch s;
  int64_t first; /* picture */
} job;

static void load_pictures(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *in = j->n->in[0];
  int64_t below = j->a->below;
  j->x->k->row.convert(in->dt, tl_at(in->dt, in->data, (j->first + begin) * below), TL_F32,
                       j->s.u + begin * below, (end - begin) * below);
}

static void predict(const job *j, int64_t pictures) {
  tl_gemm_batch batch;
  tl_parallel_ranges(j->x->ctx, pictures, 1, load_pictures, (void *)(uintptr_t)j);
  tl_gemm_args args = predict_args(j->n, &j->s, pictures, &batch);
  tl_gemm_batched(j->x->ctx, &args, &batch);
}

static tl_route route_of(const job *j, int64_t picture) {
  const tl_routing_spec *s = &j->a->spec;
  return (tl_route){s->n_in, s->n_out, s->d_out, j->s.p + picture * s->n_in * j->a->above};
}

static void squash_all(const attr *a, const float *s, float *v) {
  for (int64_t k = 0; k < a->above; k += a->spec.d_out)
    tl_squash_vector(s + k, a->spec.d_out, v + k);
}

/* All iterations, with c and s of each kept; v [above] of the last. */
static void route_picture(const job *j, const tl_route *r, const route_state *t, float *v) {
  const attr *a = j->a;
  memset(t->b, 0, (size_t)a->pairs * sizeof(float));
  for (int i = 0; i < a->spec.iterations; i++) {
    float *s = t->s + i * a->above;
    j->x->k->route.vote(r, i ? v : NULL, t->b, t->weight + i * a->pairs, s);
    squash_all(a, s, v);
  }
}

static void forward_pictures(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  for (int64_t i = begin; i < end; i++) {
    tl_route r = route_of(j, i);
    route_state t = state_of(j->a, j->s.state + i * j->a->state);
    route_picture(j, &r, &t, (float *)j->n->data + (j->first + i) * j->a->above);
  }
}

static void forward(tl_exec *x, tl_node *n) {
  job j = {.x = x, .n = n, .a = n->attr};
  int64_t rows = tl_rows(x->g, n), block = j.a->block;
  lay_out(x->ctx, n, false, x->scratch, &j.s);
  for (; j.first < rows; j.first += block) {
    int64_t pictures = rows - j.first < block ? rows - j.first : block;
    predict(&j, pictures);
    tl_parallel_ranges(x->ctx, pictures, 1, forward_pictures, &j);
  }
}

/* From dv of the last iteration to the gradient of the predictions, written over them. db of an
 * iteration is the gradient of b as its softmax found it. */
static void unroute_picture(const job *j, const tl_route *r, const route_state *t,
                            const float *dv_last) {
  const attr *a = j->a;
  int iterations = a->spec.iterations;
  const float *dv = dv_last;
  for (int i = iterations - 1; i >= 0; i--) {
    float *ds = t->vector + i * a->above;
    const float *s = t->s + i * a->above;
    for (int64_t k = 0; k < a->above; k += a->spec.d_out)
      tl_squash_vector_bwd(s + k, dv + k, a->spec.d_out, ds + k);
    if (i == 0) break;
    float *db = t->weight + (iterations + i - 1) * a->pairs;
    const float *later = i < iterations - 1 ? db + a->pairs : NULL;
    j->x->k->route.vote_bwd(r, t->weight + i * a->pairs, ds, later, db, t->v);
    squash_all(a, s - a->above, t->vector + (iterations + i - 1) * a->above);
    dv = t->v;
  }
  j->x->k->route.mix(r, 2 * iterations - 1, t->weight, t->vector);
}

static void backward_pictures(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  for (int64_t i = begin; i < end; i++) {
    tl_route r = route_of(j, i);
    route_state t = state_of(j->a, j->s.state + i * j->a->state);
    route_picture(j, &r, &t, t.v);
    unroute_picture(j, &r, &t, (const float *)j->n->grad + (j->first + i) * j->a->above);
  }
}

static void store_pictures(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_node *in = j->n->in[0];
  const tl_row_kernels *k = &j->x->k->row;
  int64_t below = j->a->below, count = (end - begin) * below;
  void *dx = tl_at(in->dt, in->grad, (j->first + begin) * below);
  const float *du = j->s.du + begin * below;
  if (!tl_grad_adds(j->x, j->n, 0)) {
    k->convert(TL_F32, du, in->dt, dx, count);
    return;
  }
  float *rounded = j->s.u + begin * below; /* what was there is no longer needed */
  k->convert(TL_F32, du, in->dt, rounded, count);
  k->acc(in->dt, count, rounded, dx);
}

static void backward_products(const job *j, int64_t pictures) {
  tl_node *n = j->n;
  tl_gemm_batch batch;
  if (tl_wants_grad(n, 1)) {
    tl_gemm_args dw = dw_args(n, &j->s, pictures, &batch);
    dw.add = j->first > 0 || tl_grad_adds(j->x, n, 1);
    tl_gemm_batched(j->x->ctx, &dw, &batch);
  }
  if (!tl_wants_grad(n, 0)) return;
  tl_gemm_args du = du_args(n, &j->s, pictures, &batch);
  tl_gemm_batched(j->x->ctx, &du, &batch);
  tl_parallel_ranges(j->x->ctx, pictures, 1, store_pictures, (void *)(uintptr_t)j);
}

static void backward(tl_exec *x, tl_node *n) {
  job j = {.x = x, .n = n, .a = n->attr};
  int64_t rows = tl_rows(x->g, n), block = j.a->block;
  lay_out(x->ctx, n, true, x->scratch, &j.s);
  if (rows == 0 && tl_wants_grad(n, 1) && !tl_grad_adds(x, n, 1))
    tl_parallel_zero(x->ctx, n->in[1]->grad, (size_t)tl_max_count(n->in[1]) * sizeof(float));
  for (; j.first < rows; j.first += block) {
    int64_t pictures = rows - j.first < block ? rows - j.first : block;
    predict(&j, pictures);
    tl_parallel_ranges(x->ctx, pictures, 1, backward_pictures, &j);
    backward_products(&j, pictures);
  }
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  const attr *a = n->attr;
  double rows = (double)tl_rows(g, n), weights = (double)(a->below * a->above);
  double votes = (double)(a->spec.n_in * a->above * a->spec.iterations);
  double blocks = rows / (double)a->block + 1, size = (double)tl_dtype_size(n->in[0]->dt);
  c->flops_fwd = rows * (2 * weights + 4 * votes);
  c->flops_bwd = rows * (4 * weights + 8 * votes);
  c->bytes_fwd = rows * (double)a->below * size + blocks * weights * 4;
  c->bytes_bwd = 3 * rows * (double)a->below * size + blocks * weights * 12;
}

/* pictures, capsules below, their columns, capsules above, their columns, iterations, rows of a
 * picture */
static tl_node *build_case(tl_graph *g, const int64_t *d) {
  tl_routing_spec s = {
      .n_in = d[1], .d_in = d[2], .n_out = d[3], .d_out = d[4], .iterations = (int)d[5]};
  int64_t w[] = {d[1] * d[2], d[3] * d[4]};
  tl_node *x = tl_case_input(g, d[0] * d[6], d[1] * d[2] / d[6]);
  s.w = tl_case_param(g, 2, w, 0, 0.3f);
  return tl_routing(g, x, &s);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {
    {1, 1, 1, 1, 1, 1, 1},     {2, 3, 4, 2, 5, 1, 1},
    {5, 12, 8, 10, 16, 3, 4},  {3, 7, 5, 3, 17, 4, 7},
    {70, 6, 2, 5, 3, 2, 3},    {6, 4, 1, 400, 200, 2, 4}, /* blocks */
    {2, 72, 8, 10, 16, 3, 36}, {0}};

const tl_op tl_op_routing = {
    .name = "routing",
    .formula =
        "v = squash(sum of c p), p = u W, c = softmax(agreements p v of the iterations before)",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 3,
    .build_case = build_case,
    .cases = cases,
    .bench = {64, 288, 8, 10, 16, 3, 36},
    .tol = {2e-5f, 1e-2f},
    .tol_bwd = {5e-5f, 2e-2f},
    .grad_tol = 1e-2f,
};

tl_node *tl_routing(tl_graph *g, tl_node *u, const tl_routing_spec *spec) {
  tl_node *in[] = {u, tl_graph_param(g, spec->w)};
  attr a = {.spec = *spec};
  return tl_graph_op(g, &tl_op_routing, in, 2, &a, sizeof a);
}

tl_node *tl_case_capsules(tl_graph *g, int64_t rows, int64_t capsules, int64_t width) {
  tl_routing_spec s = {.n_in = 1, .d_in = 4, .n_out = capsules, .d_out = width, .iterations = 1};
  int64_t w[] = {4, capsules * width};
  tl_node *x = tl_case_input(g, rows, 4);
  s.w = tl_case_param(g, 2, w, 0, 1);
  return tl_routing(g, x, &s);
}
