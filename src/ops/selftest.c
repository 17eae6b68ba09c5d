/* The harness behind `tilth selftest`. A case is built once per (level, threads, type) with equal
 * parameter values, made into a scalar by a random inner product, and differentiated. */
#include "tilth/selftest.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "base/rng.h"
#include "ops/ops.h"
#include "tilth/suggest.h"

enum { MAX_THREADS = 3, MAX_OPS = 256 };
#define LOSS_SCALE 0.5f /* not 1: a loss that forgets it shows */

/* One built case. */
typedef struct built {
  tl_params params;
  tl_graph *g;
  tl_node *out, *loss; /* loss: NULL for an operator without a gradient */
  tl_node *r;          /* weights of the inner product; NULL if the operator is a loss itself */
} built;

/* A copy of what a run gave, as f32. */
typedef struct result {
  int n;         /* 1 + parameters */
  int64_t *size; /* [n] elements of the output, then of each gradient */
  float **value; /* [n] */
} result;

typedef struct tester {
  tl_ctx *ctx[TL_N_CPU_LEVELS][MAX_THREADS];
  int n_levels;
  const tl_op *op;
  const int64_t *dims;
  tl_dtype dt;
  tl_selftest_result *report;
} tester;

/* Records the first failure only: later ones usually follow from it. */
static void failed(tester *t, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void failed(tester *t, const char *where, const char *fmt, ...) {
  tl_selftest_result *r = t->report;
  if (!r->ok) return;
  r->ok = false;
  char dims[96], what[128];
  int n_dims = TL_MAX_CASE_DIMS, at = 0;
  while (n_dims > 1 && t->dims[n_dims - 1] == 0) n_dims--;
  for (int i = 0; i < n_dims && at < 80; i++)
    at += snprintf(dims + at, sizeof dims - (size_t)at, "%s%lld", i ? " " : "",
                   (long long)t->dims[i]);
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(what, sizeof what, fmt, ap);
  va_end(ap);
  snprintf(r->message, sizeof r->message, "case %s, %s, %s: %s", dims, tl_dtype_name(t->dt), where,
           what);
}

static bool is_loss(const tl_node *n) {
  return n->dt == TL_F32 && n->ndim == 1 && n->shape[0] == TL_LOSS_N;
}

static void built_free(built *b) {
  tl_graph_free(b->g);
  tl_params_free(&b->params);
}

static tl_status build(const tester *t, tl_ctx *ctx, built *b, tl_err *err) {
  *b = (built){0};
  bool differentiable = t->op->backward || t->op->grad_in_forward;
  b->g = tl_graph_new(ctx, &b->params, &(tl_graph_options){t->dt, differentiable});
  if (!b->g) return tl_fail(err, TL_NOMEM, "selftest: out of memory");
  b->out = t->op->build_case(b->g, t->dims);
  if (differentiable && is_loss(b->out)) b->loss = b->out;
  if (differentiable && !b->loss) {
    b->r = tl_graph_input(b->g, "r", TL_F32, b->out->ndim, b->out->shape, b->out->dim);
    b->loss = tl_inner(b->g, b->out, b->r);
  }
  TL_TRY(tl_graph_compile(b->g, b->loss, &b->out, 1, err));
  tl_rng rng = tl_rng_make(11, TL_STREAM_TEST, 0, 0);
  for (int64_t i = 0; b->r && i < tl_max_count(b->r); i++)
    ((float *)b->r->data)[i] = tl_rng_normal(&rng);
  return TL_OK;
}

static void run(built *b, bool accumulate) {
  tl_graph_run(b->g, &(tl_pass){.training = b->loss != NULL,
                                .accumulate = accumulate,
                                .loss_scale = LOSS_SCALE,
                                .seed = 5,
                                .tick = 9});
}

/* Fills everything that a run must write itself with NaN, so that reading stale memory, or adding
 * where it must be set, shows. */
static tl_status poison(built *b, tl_err *err) {
  tl_graph *g = b->g;
  unsigned char *copy = malloc(g->stats.slab_bytes + 1);
  if (!copy) return tl_fail(err, TL_NOMEM, "selftest: out of memory");
  memcpy(copy, g->slab, g->stats.slab_bytes);
  memset(g->slab, 0xff, g->stats.slab_bytes);
  for (int i = 0; i < g->n_nodes; i++) {
    const tl_node *n = g->node[i];
    if (!n->data || (n->kind != TL_NODE_INPUT && n->kind != TL_NODE_STATE)) continue;
    size_t at = (size_t)((char *)n->data - (char *)g->slab);
    memcpy(n->data, copy + at, (size_t)tl_max_count(n) * tl_dtype_size(n->dt));
  }
  free(copy);
  for (int i = 0; i < b->params.n; i++)
    memset(b->params.p[i]->grad, 0xff, (size_t)b->params.p[i]->n * sizeof(float));
  return TL_OK;
}

static void result_free(result *r) {
  for (int i = 0; r->value && i < r->n; i++) free(r->value[i]);
  free(r->value);
  free(r->size);
}

static tl_status result_take(const built *b, result *r, tl_err *err) {
  int n = 1 + (b->loss ? b->params.n : 0);
  *r = (result){.n = n};
  r->size = calloc((size_t)n, sizeof *r->size);
  r->value = calloc((size_t)n, sizeof *r->value);
  if (!r->size || !r->value) return tl_fail(err, TL_NOMEM, "selftest: out of memory");
  for (int i = 0; i < n; i++) {
    r->size[i] = i ? b->params.p[i - 1]->n : tl_count(b->g, b->out);
    r->value[i] = malloc((size_t)r->size[i] * sizeof(float) + 1);
    if (!r->value[i]) return tl_fail(err, TL_NOMEM, "selftest: out of memory");
    if (i > 0)
      memcpy(r->value[i], b->params.p[i - 1]->grad, (size_t)r->size[i] * sizeof(float));
    else if (b->out->dt == TL_BF16)
      for (int64_t k = 0; k < r->size[0]; k++)
        r->value[0][k] = tl_bf16_to_f32(((const tl_bf16 *)b->out->data)[k]);
    else
      memcpy(r->value[0], b->out->data, (size_t)r->size[0] * sizeof(float));
  }
  return TL_OK;
}

/* Builds, poisons, runs, copies the result. */
static tl_status evaluate(const tester *t, tl_ctx *ctx, result *r, tl_err *err) {
  built b;
  *r = (result){0};
  tl_status s = build(t, ctx, &b, err);
  if (s == TL_OK) s = poison(&b, err);
  if (s == TL_OK) {
    run(&b, false);
    s = result_take(&b, r, err);
  }
  built_free(&b);
  return s;
}

/* Largest |scale * ref - x| by the largest magnitude of scale * ref; infinite for a NaN. */
static float distance(const float *ref, float scale, const float *x, int64_t n) {
  float top = 0, diff = 0;
  for (int64_t i = 0; i < n; i++) {
    float a = scale * ref[i], d = fabsf(a - x[i]);
    if (!(d <= INFINITY)) return INFINITY;
    if (d > diff) diff = d;
    if (fabsf(a) > top) top = fabsf(a);
  }
  return diff == 0 ? 0 : diff / (top > 1e-30f ? top : 1e-30f);
}

static void worsen(float *worst, float err) {
  if (!(err <= *worst)) *worst = err;
}

/* Compares x with ref; wide: the looser bound between types. */
static void compare(tester *t, const char *where, const result *ref, const result *x, bool wide) {
  const tl_op *op = t->op;
  int dt = t->dt == TL_BF16;
  for (int i = 0; i < ref->n; i++) {
    float e = distance(ref->value[i], 1, x->value[i], ref->size[i]);
    float tol = wide ? 0.08f : i ? op->tol_bwd[dt] : op->tol[dt];
    if (!wide) worsen(i ? &t->report->grad_err[dt] : &t->report->value_err[dt], e);
    if (e <= tol) continue;
    if (i)
      failed(t, where, "gradient of parameter %d is off by %.2g (tolerance %.2g)", i - 1, (double)e,
             (double)tol);
    else
      failed(t, where, "output is off by %.2g (tolerance %.2g)", (double)e, (double)tol);
  }
}

static void compare_bits(tester *t, const char *level, int threads, const result *a,
                         const result *b) {
  char where[64];
  snprintf(where, sizeof where, "%s, %d threads", level, threads);
  for (int i = 0; i < a->n; i++)
    if (memcmp(a->value[i], b->value[i], (size_t)a->size[i] * sizeof(float)) != 0)
      failed(t, where, "%s differs from that of 1 thread", i ? "a gradient" : "the output");
}

/* The scalar that was differentiated, in f64. */
static double loss_value(const built *b) {
  const float *y = b->out->data;
  if (!b->r) return (double)LOSS_SCALE * ((double)y[TL_LOSS_SUM] + (double)y[TL_LOSS_Z]);
  const float *r = b->r->data;
  double sum = 0;
  for (int64_t i = 0; i < tl_count(b->g, b->out); i++) sum += (double)y[i] * (double)r[i];
  return (double)LOSS_SCALE * sum;
}

static double loss_at(built *b, tl_param *p, const float *base, const float *v, float eps) {
  for (int64_t i = 0; i < p->n; i++) p->data[i] = base[i] + eps * v[i];
  tl_params_changed(&b->params);
  run(b, false);
  return loss_value(b);
}

/* Best agreement over step sizes of the derivative along the random direction v with the gradient,
 * by the size that such a projection has. */
static float direction_error(built *b, tl_param *p, const float *grad, double floor,
                             float *base_and_v, float good) {
  static const float steps[] = {1e-2f, 3e-3f, 3e-2f, 1e-3f, 1e-1f};
  float *base = base_and_v, *v = base + p->n, best = INFINITY;
  double slope = 0, norm = 0;
  for (int64_t i = 0; i < p->n; i++) {
    slope += (double)grad[i] * (double)v[i];
    norm += (double)grad[i] * (double)grad[i];
  }
  double scale = fmax(fmax(sqrt(norm), fabs(slope)), floor);
  memcpy(base, p->data, (size_t)p->n * sizeof *base);
  for (size_t k = 0; k < sizeof steps / sizeof *steps && !(best <= good); k++) {
    double up = loss_at(b, p, base, v, steps[k]), down = loss_at(b, p, base, v, -steps[k]);
    float e = (float)(fabs((up - down) / (2 * (double)steps[k]) - slope) / scale);
    if (e < best) best = e;
  }
  memcpy(p->data, base, (size_t)p->n * sizeof *base);
  tl_params_changed(&b->params);
  return best;
}

static tl_status finite_differences(tester *t, tl_ctx *ctx, const result *at, tl_err *err) {
  built b;
  tl_status s = build(t, ctx, &b, err);
  double largest = 0;
  for (int i = 1; i < at->n; i++) {
    double norm = 0;
    for (int64_t k = 0; k < at->size[i]; k++)
      norm += (double)at->value[i][k] * (double)at->value[i][k];
    largest = fmax(largest, sqrt(norm));
  }
  for (int i = 1; s == TL_OK && i < at->n; i++) {
    tl_param *p = b.params.p[i - 1];
    float *work = malloc((size_t)p->n * 2 * sizeof *work);
    if (!work) {
      s = tl_fail(err, TL_NOMEM, "selftest: out of memory");
      break;
    }
    tl_rng rng = tl_rng_make(13, TL_STREAM_TEST, (uint32_t)i, 0);
    for (int64_t k = 0; k < p->n; k++) work[p->n + k] = tl_rng_normal(&rng);
    float tol = t->op->grad_tol;
    float e = direction_error(&b, p, at->value[i], 1e-3 * largest + 1e-6, work, tol / 2);
    free(work);
    worsen(&t->report->fd_err, e);
    if (!(e <= tol))
      failed(t, tl_ctx_cpu(ctx),
             "gradient of parameter %d is off finite differences by %.2g (tolerance %.2g)", i - 1,
             (double)e, (double)tol);
  }
  built_free(&b);
  return s;
}

/* A second micro-batch must add its gradients to those of the first. */
static tl_status accumulation(tester *t, tl_ctx *ctx, const result *one, tl_err *err) {
  built b;
  tl_status s = build(t, ctx, &b, err);
  if (s == TL_OK) {
    run(&b, false);
    run(&b, true);
  }
  for (int i = 1; s == TL_OK && i < one->n; i++) {
    float e = distance(one->value[i], 2, b.params.p[i - 1]->grad, one->size[i]);
    float tol = fmaxf(t->op->tol_bwd[t->dt == TL_BF16], 1e-6f);
    if (!(e <= tol))
      failed(t, tl_ctx_cpu(ctx), "accumulated gradient of parameter %d is off by %.2g", i - 1,
             (double)e);
  }
  built_free(&b);
  return s;
}

/* One case, type and level; ref (what the reference gave) is taken when level is TL_CPU_REF. */
static tl_status test_level(tester *t, int level, result *ref, tl_err *err) {
  result first = {0}, more = {0};
  const char *name = tl_cpu_level_name((tl_cpu_level)level);
  tl_status s = evaluate(t, t->ctx[level][0], &first, err);
  for (int k = 1; s == TL_OK && k < MAX_THREADS; k++) {
    s = evaluate(t, t->ctx[level][k], &more, err);
    if (s == TL_OK) compare_bits(t, name, k + 1, &first, &more);
    result_free(&more);
    more = (result){0};
  }
  if (s == TL_OK && level > TL_CPU_REF) compare(t, name, ref, &first, false);
  if (s == TL_OK) s = accumulation(t, t->ctx[level][0], &first, err);
  if (s == TL_OK && t->dt == TL_F32 && t->op->grad_tol > 0)
    s = finite_differences(t, t->ctx[level][0], &first, err);
  if (level == TL_CPU_REF && s == TL_OK)
    *ref = first;
  else
    result_free(&first);
  return s;
}

static tl_status test_case(tester *t, tl_err *err) {
  result ref[2] = {{0}, {0}};
  tl_status s = TL_OK;
  for (int dt = 0; dt < 2; dt++) {
    t->dt = dt ? TL_BF16 : TL_F32;
    for (int level = 0; s == TL_OK && level < t->n_levels; level++)
      s = test_level(t, level, &ref[dt], err);
  }
  if (s == TL_OK) compare(t, "ref against f32", &ref[0], &ref[1], true);
  result_free(&ref[0]);
  result_free(&ref[1]);
  return s;
}

static tl_status test_op(tester *t, tl_selftest_fn cb, void *user, int *n_failed, tl_err *err) {
  const tl_op *op = t->op;
  tl_selftest_result r = {.op = op->name,
                          .value_tol = {op->tol[0], op->tol[1]},
                          .grad_tol = {op->tol_bwd[0], op->tol_bwd[1]},
                          .fd_tol = op->grad_tol,
                          .ok = true};
  t->report = &r;
  for (int i = 0; op->cases[i][0]; i++, r.n_cases++) {
    t->dims = op->cases[i];
    tl_err e = {0};
    tl_status s = test_case(t, &e);
    if (s == TL_NOMEM) return tl_fail(err, s, "%s: %s", op->name, e.msg);
    if (s != TL_OK) failed(t, "build", "%s", e.msg);
  }
  *n_failed += !r.ok;
  if (cb) cb(user, &r);
  return TL_OK;
}

static tl_status find_op(const char *only, tl_err *err) {
  const char *names[MAX_OPS];
  size_t n = 0;
  for (int i = 0; i < tl_n_ops && n < MAX_OPS; i++) {
    if (!tl_ops[i]->build_case) continue;
    if (!strcmp(tl_ops[i]->name, only)) return TL_OK;
    names[n++] = tl_ops[i]->name;
  }
  const char *near = tl_suggest(only, names, n);
  return tl_fail(err, TL_USAGE, "selftest: no operator is called '%s'%s%s%s", only,
                 near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static tl_status open_contexts(tester *t, const char *cpu, tl_err *err) {
  tl_ctx *top = NULL;
  TL_TRY(tl_ctx_new(&(tl_ctx_options){.n_threads = 1, .cpu = cpu}, &top, err));
  t->n_levels = (int)top->k->level + 1;
  tl_ctx_free(top);
  for (int level = 0; level < t->n_levels; level++)
    for (int k = 0; k < MAX_THREADS; k++) {
      tl_ctx_options o = {.n_threads = k + 1, .cpu = tl_cpu_level_name((tl_cpu_level)level)};
      TL_TRY(tl_ctx_new(&o, &t->ctx[level][k], err));
    }
  return TL_OK;
}

tl_status tl_selftest(const char *only, const char *cpu, tl_selftest_fn cb, void *user,
                      int *n_failed, tl_err *err) {
  *n_failed = 0;
  if (only) TL_TRY(find_op(only, err));
  tester t = {0};
  tl_status s = open_contexts(&t, cpu, err);
  for (int i = 0; s == TL_OK && i < tl_n_ops; i++) {
    t.op = tl_ops[i];
    if (t.op->build_case && (!only || !strcmp(t.op->name, only)))
      s = test_op(&t, cb, user, n_failed, err);
  }
  for (int level = 0; level < TL_N_CPU_LEVELS; level++)
    for (int k = 0; k < MAX_THREADS; k++) tl_ctx_free(t.ctx[level][k]);
  return s;
}

tl_status tl_selftest_docs(char **text, tl_err *err) {
  tl_buf b = {0};
  tl_buf_puts(
      &b, "# Operators\n\n"
          "Written by `tilth selftest --docs`; do not edit.\n\n"
          "Every operator is one file, `src/ops/<name>.c`, with its formula, forward, backward, "
          "cost and test cases. `tilth selftest` compares each kernel level with the reference "
          "within the tolerances below (relative to the largest magnitude of the tensor), and "
          "each gradient with finite differences.\n\n"
          "| operator | formula | values f32 / bf16 | gradients f32 / bf16 | finite "
          "differences |\n|---|---|---|---|---|\n");
  for (int i = 0; i < tl_n_ops; i++) {
    const tl_op *op = tl_ops[i];
    tl_buf_printf(&b, "| `%s` | `%s` | ", op->name, op->formula);
    if (op->build_case)
      tl_buf_printf(&b, "%g / %g | ", (double)op->tol[0], (double)op->tol[1]);
    else
      tl_buf_puts(&b, "- | ");
    if (op->build_case && (op->backward || op->grad_in_forward))
      tl_buf_printf(&b, "%g / %g | ", (double)op->tol_bwd[0], (double)op->tol_bwd[1]);
    else
      tl_buf_puts(&b, "- | ");
    if (op->grad_tol > 0)
      tl_buf_printf(&b, "%g |\n", (double)op->grad_tol);
    else
      tl_buf_puts(&b, "- |\n");
  }
  tl_status s = tl_buf_check(&b, err);
  if (s != TL_OK) {
    tl_buf_free(&b);
    return s;
  }
  *text = b.data;
  return TL_OK;
}
