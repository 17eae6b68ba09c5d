/* The output layer fused with its loss: logits exist for one chunk of rows at a time.
 *
 * Rows with a target are taken in chunks of a size fixed by the shape. A chunk's logits (f32) give
 * its losses and, when training, at once its gradients, with G = d loss / d logits in the type of
 * activations:  dh = G w,  dw += G^T h,  db += sum of rows of G. Rows without a target cost only
 * the zero in dh. */
#include <string.h>

#include "ops/ops.h"
#include "ops/partials.h"

/* Rows of logits and gradients are whole cache lines, an odd number of them: far from a power of
 * two, at which rows would compete for the same places in a cache. */
enum { LINE = 32 };

/* Elements of a chunk's logits, about: enough rows that adding to dw, once per chunk, costs little
 * beside the products. */
enum { CHUNK_LOGITS = 1 << 25, MIN_CHUNK = 64, MAX_CHUNK = 1024 };

/* Logits of more bytes than this leave the caches before they are read. */
enum { FAR_BYTES = 32 << 20 };

typedef struct xent_attr {
  tl_xent_spec spec;
  const tl_pack *forward, *backward;
  int64_t chunk, d, v;
  int64_t ld; /* row stride of logits and their gradient */
} xent_attr;

enum { IN_H, IN_TARGETS, IN_W, IN_B };

/* Scratch, in this order; sizes for `chunk` rows. */
typedef struct xent_scratch {
  float *logits;       /* [chunk, ld] */
  void *grad;          /* [chunk, ld] of h's type */
  void *h, *dh;        /* [chunk, d], where rows are not contiguous */
  int32_t *row;        /* [N]: the rows with a target */
  int32_t *target;     /* [chunk] */
  float *loss, *zloss; /* [chunk] */
  int32_t *correct;    /* [chunk] */
  void *work;          /* of the product for dw */
} xent_scratch;

static void *carve(char **at, size_t bytes) {
  char *p = *at;
  *at = p + (bytes + 63) / 64 * 64;
  return p;
}

static tl_gemm_args dw_args(const tl_node *n, const void *grad, const void *h, int64_t rows) {
  const xent_attr *a = n->attr;
  return (tl_gemm_args){.M = a->v,
                        .N = a->d,
                        .K = rows,
                        .dt = n->in[IN_H]->dt,
                        .a = grad,
                        .lda = a->ld,
                        .a_trans = true,
                        .b = h,
                        .ldb = a->d,
                        .c = n->in[IN_W]->grad,
                        .ldc = a->d,
                        .c_dt = TL_F32};
}

/* Lays the scratch out from `base`; returns its size. */
static size_t lay_out(const tl_ctx *ctx, const tl_node *n, bool training, char *base,
                      xent_scratch *s) {
  const xent_attr *a = n->attr;
  size_t chunk = (size_t)a->chunk, ld = (size_t)a->ld, d = (size_t)a->d;
  size_t size = tl_dtype_size(n->in[IN_H]->dt);
  tl_gemm_args dw = dw_args(n, NULL, NULL, a->chunk);
  char *at = base;
  s->logits = carve(&at, chunk * ld * sizeof(float));
  s->grad = carve(&at, training ? chunk * ld * size : 0);
  s->h = carve(&at, chunk * d * size);
  s->dh = carve(&at, training ? chunk * d * size : 0);
  s->row = carve(&at, (size_t)n->in[IN_H]->shape[0] * sizeof(int32_t));
  s->target = carve(&at, chunk * sizeof(int32_t));
  s->loss = carve(&at, chunk * sizeof(float));
  s->zloss = carve(&at, chunk * sizeof(float));
  s->correct = carve(&at, chunk * sizeof(int32_t));
  s->work = carve(&at, training ? tl_gemm_work_bytes(ctx, &dw) : 0);
  return (size_t)(at - base);
}

/* The rows of each chunk when `rows` are cut into the fewest chunks of at most `most`: no small one
 * is left at the end. */
static int64_t even_chunk(int64_t rows, int64_t most) {
  int64_t chunks = (rows + most - 1) / most;
  return chunks > 0 ? (rows + chunks - 1) / chunks : 1;
}

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  xent_attr *a = n->attr;
  const tl_node *h = n->in[IN_H], *t = n->in[IN_TARGETS], *w = n->in[IN_W], *b = n->in[IN_B];
  if (w->ndim != 2 || w->shape[1] != tl_cols(h))
    return tl_fail(err, TL_INTERNAL, "%s must be [V, %lld]", w->name, (long long)tl_cols(h));
  if (b && tl_max_count(b) != w->shape[0])
    return tl_fail(err, TL_INTERNAL, "%s must have %lld elements", b->name, (long long)w->shape[0]);
  if (t->dt != TL_I32 || t->dim != h->dim || t->shape[0] != h->shape[0] || tl_cols(t) != 1)
    return tl_fail(err, TL_INTERNAL, "targets must be i32, one per row of %s", h->name);
  if (!(a->spec.smoothing >= 0 && a->spec.smoothing < 1) || !(a->spec.z_loss >= 0))
    return tl_fail(err, TL_CONFIG, "label smoothing %g must be in [0, 1), z-loss %g >= 0",
                   (double)a->spec.smoothing, (double)a->spec.z_loss);
  a->v = w->shape[0];
  a->ld = (a->v + LINE - 1) / LINE * LINE;
  if (a->ld / LINE % 2 == 0) a->ld += LINE;
  a->d = w->shape[1];
  a->chunk = CHUNK_LOGITS / a->v / MIN_CHUNK * MIN_CHUNK;
  if (a->chunk < MIN_CHUNK) a->chunk = MIN_CHUNK;
  if (a->chunk > MAX_CHUNK) a->chunk = MAX_CHUNK;
  a->chunk = even_chunk(h->shape[0], a->chunk);
  tl_param *const *weight = &a->spec.w;
  a->forward = tl_params_pack(g->params, g->ctx->k, TL_PACK_FORWARD, h->dt, 1, weight, false);
  if (g->opt.training)
    a->backward = tl_params_pack(g->params, g->ctx->k, TL_PACK_BACKWARD, h->dt, 1, weight, false);
  if (!a->forward || (g->opt.training && !a->backward))
    return tl_fail(err, TL_NOMEM, "out of memory for the packed %s", w->name);
  tl_shape_losses(n);
  n->scratch_fwd = lay_out(g->ctx, n, g->opt.training, NULL, &(xent_scratch){0});
  return TL_OK;
}

/* One chunk of rows with a target. */
typedef struct chunk {
  tl_exec *x;
  tl_node *n;
  const xent_attr *a;
  xent_scratch s;
  const int32_t *row; /* [rows] */
  int64_t rows;
  bool contiguous; /* rows follow each other: h and dh are used in place */
  bool first;      /* gradients of parameters that do not add are set */
  bool grads;
} chunk;

static void gather_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const chunk *c = arg;
  const tl_node *h = c->n->in[IN_H];
  size_t bytes = (size_t)c->a->d * tl_dtype_size(h->dt);
  for (int64_t r = begin; r < end; r++)
    memcpy((char *)c->s.h + (size_t)r * bytes, (char *)h->data + (size_t)c->row[r] * bytes, bytes);
}

static void scatter_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const chunk *c = arg;
  const tl_node *h = c->n->in[IN_H];
  int64_t d = c->a->d;
  bool add = tl_grad_adds(c->x, c->n, IN_H);
  for (int64_t r = begin; r < end; r++) {
    const void *from = tl_at(h->dt, c->s.dh, r * d);
    void *to = tl_at(h->dt, h->grad, c->row[r] * d);
    if (add)
      c->x->k->row.acc(h->dt, d, from, to);
    else
      memcpy(to, from, (size_t)d * tl_dtype_size(h->dt));
  }
}

static void xent_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const chunk *c = arg;
  const xent_scratch *s = &c->s;
  tl_dtype dt = c->n->in[IN_H]->dt;
  int64_t v = c->a->v, ld = c->a->ld;
  c->x->k->row.xent(dt, end - begin, v, s->logits + begin * ld, ld, s->target + begin,
                    c->x->training ? c->a->spec.smoothing : 0, c->a->spec.z_loss,
                    c->grads ? c->x->loss_scale : 0,
                    c->grads ? tl_at(dt, s->grad, begin * ld) : NULL, ld, s->loss + begin,
                    s->zloss + begin, s->correct + begin);
}

static void bias_columns(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const chunk *c = arg;
  tl_dtype dt = c->n->in[IN_H]->dt;
  c->x->k->row.col_sum(dt, c->rows, end - begin, tl_at(dt, c->s.grad, begin), c->a->ld,
                       (float *)c->n->in[IN_B]->grad + begin);
}

/* dh, dw and db of the chunk, from its gradient of the logits. */
static void backward_chunk(chunk *c, const void *h) {
  tl_node *n = c->n, *in = n->in[IN_H];
  tl_ctx *ctx = c->x->ctx;
  int64_t d = c->a->d, v = c->a->v;
  if (tl_wants_grad(n, IN_H)) {
    tl_gemm(ctx,
            &(tl_gemm_args){.M = c->rows,
                            .N = d,
                            .K = v,
                            .dt = in->dt,
                            .a = c->s.grad,
                            .lda = c->a->ld,
                            .b_packed = c->a->backward->data,
                            .c = c->contiguous ? tl_at(in->dt, in->grad, c->row[0] * d) : c->s.dh,
                            .ldc = d,
                            .c_dt = in->dt,
                            .add = c->contiguous && tl_grad_adds(c->x, n, IN_H)});
    if (!c->contiguous) tl_parallel_ranges(ctx, c->rows, tl_row_grain(d), scatter_rows, c);
  }
  if (tl_wants_grad(n, IN_W)) {
    tl_gemm_args dw = dw_args(n, c->s.grad, h, c->rows);
    dw.work = c->s.work;
    dw.add = !c->first || tl_grad_adds(c->x, n, IN_W);
    dw.stream = tl_grads_are_far(c->x->g->params);
    tl_gemm(ctx, &dw);
  }
  if (tl_wants_grad(n, IN_B)) tl_parallel_ranges(ctx, v, 1024, bias_columns, c);
}

/* Adds the chunk's sums to loss. */
static void run_chunk(chunk *c, double loss[TL_LOSS_N]) {
  const tl_node *in = c->n->in[IN_H];
  const int32_t *targets = c->n->in[IN_TARGETS]->data;
  tl_ctx *ctx = c->x->ctx;
  int64_t d = c->a->d, v = c->a->v;
  c->contiguous = c->row[c->rows - 1] - c->row[0] == c->rows - 1;
  if (!c->contiguous) tl_parallel_ranges(ctx, c->rows, tl_row_grain(d), gather_rows, c);
  const void *h = c->contiguous ? tl_at(in->dt, in->data, c->row[0] * d) : c->s.h;
  for (int64_t r = 0; r < c->rows; r++) c->s.target[r] = targets[c->row[r]];
  tl_gemm(ctx, &(tl_gemm_args){.M = c->rows,
                               .N = v,
                               .K = d,
                               .dt = in->dt,
                               .a = h,
                               .lda = d,
                               .b_packed = c->a->forward->data,
                               .c = c->s.logits,
                               .ldc = c->a->ld,
                               .c_dt = TL_F32,
                               .stream = c->rows * c->a->ld > FAR_BYTES / 4,
                               .bias = c->n->in[IN_B] ? c->n->in[IN_B]->data : NULL});
  tl_parallel_ranges(ctx, c->rows, tl_row_grain(v), xent_rows, c);
  for (int64_t r = 0; r < c->rows; r++) {
    loss[TL_LOSS_SUM] += (double)c->s.loss[r];
    loss[TL_LOSS_Z] += (double)c->s.zloss[r];
    loss[TL_LOSS_CORRECT] += c->s.correct[r];
  }
  loss[TL_LOSS_COUNT] += (double)c->rows;
  if (c->grads) backward_chunk(c, h);
}

/* Zeroes what the chunks will not set: dh of rows without a target, db, and dw if no chunk comes.
 */
static void zero_grads(chunk *c, int64_t n_valid) {
  tl_node *n = c->n;
  for (int i = IN_H; i < n->n_in; i++) {
    if (i == IN_TARGETS || !tl_wants_grad(n, i) || tl_grad_adds(c->x, n, i)) continue;
    bool set_by_chunks = n_valid > 0 && c->grads &&
                         (i == IN_W || (i == IN_H && n_valid == tl_rows(c->x->g, n->in[IN_H])));
    if (!set_by_chunks)
      tl_parallel_zero(c->x->ctx, n->in[i]->grad,
                       (size_t)tl_count(c->x->g, n->in[i]) * tl_dtype_size(n->in[i]->dt));
  }
}

static void forward(tl_exec *x, tl_node *n) {
  const xent_attr *a = n->attr;
  const int32_t *targets = n->in[IN_TARGETS]->data;
  chunk c = {.x = x, .n = n, .a = a};
  lay_out(x->ctx, n, x->g->opt.training, x->scratch, &c.s);
  int64_t rows = tl_rows(x->g, n->in[IN_H]), n_valid = 0;
  for (int64_t r = 0; r < rows; r++)
    if (targets[r] >= 0) c.s.row[n_valid++] = (int32_t)r;
  c.grads = x->training && n->needs_grad && x->loss_scale != 0;
  if (x->training && n->needs_grad) zero_grads(&c, n_valid);
  double loss[TL_LOSS_N] = {0};
  int64_t most = even_chunk(n_valid, a->chunk);
  for (int64_t at = 0; at < n_valid; at += most) {
    c.row = c.s.row + at;
    c.rows = n_valid - at < most ? n_valid - at : most;
    c.first = at == 0;
    run_chunk(&c, loss);
  }
  float *out = n->data;
  for (int i = 0; i < TL_LOSS_N; i++) out[i] = (float)loss[i];
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  const xent_attr *a = n->attr;
  const int32_t *targets = n->in[IN_TARGETS]->data;
  int64_t rows = tl_rows(g, n->in[IN_H]), n_valid = 0;
  for (int64_t r = 0; targets && r < rows; r++) n_valid += targets[r] >= 0;
  double valid = (double)(targets ? n_valid : rows), v = (double)a->v, d = (double)a->d;
  double size = (double)tl_dtype_size(n->in[IN_H]->dt), chunks = valid / (double)a->chunk + 1;
  c->flops_fwd = valid * v * (2 * d + 6);
  c->bytes_fwd = valid * (d * size + 8 * v) + chunks * v * d * size;
  c->flops_bwd = 4 * valid * v * d;
  c->bytes_bwd = valid * (2 * d + 3 * v) * size + chunks * v * d * (8 + size);
}

/* Dims: rows, d, vocabulary, kind, smoothing in percent, z-loss in thousandths. Kinds: all rows
 * have targets; with a bias and every third row without; no targets; tied (h is the weight itself,
 * which then has two gradients). */
enum { ALL = 1, BIAS_GAPS, NONE, TIED };

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  int32_t targets[2048];
  for (int64_t r = 0; r < d[0]; r++) {
    targets[r] = (int32_t)(r * r * 7 % d[2]);
    if (d[3] == NONE || (d[3] == BIAS_GAPS && r % 3 == 1)) targets[r] = -1;
  }
  tl_xent_spec s = {.smoothing = (float)d[4] / 100, .z_loss = (float)d[5] / 1000};
  int64_t shape[] = {d[2], d[1]};
  s.w = tl_case_param(g, 2, shape, 0, 0.3f);
  if (d[3] == BIAS_GAPS) s.b = tl_case_param(g, 1, d + 2, 0, 1);
  tl_node *h = d[3] == TIED ? tl_from_param(g, s.w) : tl_case_input(g, d[0], d[1]);
  return tl_cross_entropy(g, h, tl_case_ints(g, 1, d, targets), &s);
}

static const int64_t cases[][TL_MAX_CASE_DIMS] = {{1, 1, 2, ALL},
                                                  {7, 16, 33, ALL},
                                                  {40, 20, 50, BIAS_GAPS, 10, 1},
                                                  {70, 8, 300, ALL, 20},
                                                  {30, 24, 17, ALL, 0, 10},
                                                  {9, 8, 5, NONE},
                                                  {19, 8, 19, TIED},
                                                  {2048, 4, 6, BIAS_GAPS}, /* several chunks */
                                                  {0}};

const tl_op tl_op_cross_entropy = {
    .name = "cross_entropy",
    .formula = "loss = sum over targets t >= 0 of -log softmax(h w^T + b)[t]",
    .infer = infer,
    .forward = forward,
    .cost = cost,
    .grad_in_forward = true,
    .build_case = build_case,
    .cases = cases,
    .bench = {512, 384, 4096, ALL},
    .tol = {1e-5f, 1e-2f},
    .tol_bwd = {1e-5f, 2e-2f},
    .grad_tol = 5e-3f,
};

tl_node *tl_cross_entropy(tl_graph *g, tl_node *h, tl_node *targets, const tl_xent_spec *spec) {
  tl_node *in[] = {h, targets, tl_graph_param(g, spec->w),
                   spec->b ? tl_graph_param(g, spec->b) : NULL};
  xent_attr a = {.spec = *spec};
  return tl_graph_op(g, &tl_op_cross_entropy, in, spec->b ? 4 : 3, &a, sizeof a);
}
