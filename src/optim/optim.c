#include "optim/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "optim/muon.h"

/* PART: elements of an update's task; COLS: columns of one in a matrix. Its weights stay in the
 * second cache until they are packed, and its rows are long enough for prefetching.
 * CHUNK: elements per task of the norm, a multiple of sum_sq's blocks; GROUP: chunks whose sums fit
 * on the stack. */
enum { PART = 49152, COLS = 3072, CHUNK = 32768, GROUP = 256, MAX_TENSORS_PER_PARAM = 3 };

typedef enum rule { RULE_NONE, RULE_ADAMW, RULE_MUON, RULE_SGD } rule;

/* What belongs to one parameter; unused pointers are NULL. */
typedef struct slot {
  rule rule;
  bool conv1d;
  float *m, *v, *ema;
} slot;

/* A part of a parameter; vectors count as one row. */
typedef struct part {
  int param;
  tl_rect b;
} part;

struct tl_optim {
  tl_ctx *ctx;
  tl_params *ps;
  tl_optim_options opt;
  tl_arena arena;
  slot *slot;       /* by parameter */
  float *lr_factor; /* by parameter */
  part *part;       /* of all that elementwise rules update, then of muon's matrices */
  int64_t n_parts, n_elementwise;
  float *state; /* one slab */
  size_t state_bytes;
  tl_optim_tensor *tensor;
  int n_tensors;
  tl_muon *muon;
  float lr_scale, ema_decay; /* of the step that runs */
  bool ema_set;              /* ema_decay is the caller's */
  tl_adamw_args adam;
};

bool tl_optim_parse(const char *name, tl_optim_type *out) {
  static const char *const names[] = {"adamw", "muon", "sgd"};
  for (int i = 0; i < TL_N_OPTIMS; i++)
    if (!strcmp(name, names[i])) {
      *out = (tl_optim_type)i;
      return true;
    }
  return false;
}

static rule rule_of(tl_optim_type type, const tl_param *p) {
  if (!p->trainable || !p->grad) return RULE_NONE;
  if (type == TL_OPTIM_SGD) return RULE_SGD;
  bool matrix = p->ndim >= 2 && (p->flags & TL_PARAM_HIDDEN);
  return type == TL_OPTIM_MUON && matrix ? RULE_MUON : RULE_ADAMW;
}

/* Whether the products read this weight as [in, out]. */
static bool is_conv1d(const tl_param *p) {
  return p->uses && p->uses->pack->conv1d;
}

/* Columns of what Muon takes for a matrix: of a convolution's kernel [out, in, k, k] all behind the
 * first axis. */
static int64_t muon_cols(const tl_param *p) {
  return p->n / p->shape[0];
}

static int64_t padded(int64_t n) {
  return (n + 15) / 16 * 16;
}

static int64_t min64(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static int64_t row_length(const tl_param *p) {
  return p->ndim == 2 ? p->shape[1] : p->n;
}

/* Cuts parameter i into parts, which are stored if `out` is given; returns their number. */
static int64_t cut(const tl_params *ps, int i, part *out) {
  const tl_param *p = ps->p[i];
  bool matrix = p->ndim == 2;
  int64_t width = row_length(p), height = p->n / width, n = 0;
  int64_t cols = min64(matrix ? COLS : PART, width);
  int64_t rows = (PART / cols + TL_PACK_ALIGN - 1) / TL_PACK_ALIGN * TL_PACK_ALIGN;
  for (int64_t r = 0; r < height; r += rows)
    for (int64_t c = 0; c < width; c += cols, n++)
      if (out) out[n] = (part){i, {r, min64(rows, height - r), c, min64(cols, width - c)}};
  return n;
}

static tl_status alloc_tables(tl_optim *o, tl_err *err) {
  int n = o->ps->n;
  size_t tensors = (size_t)n * MAX_TENSORS_PER_PARAM;
  o->slot = tl_arena_alloc(&o->arena, (size_t)n * sizeof *o->slot + 1);
  o->lr_factor = tl_arena_alloc(&o->arena, (size_t)n * sizeof *o->lr_factor + 1);
  o->tensor = tl_arena_alloc(&o->arena, tensors * sizeof *o->tensor + 1);
  if (!o->slot || !o->lr_factor || !o->tensor) goto oom;
  int64_t parts = 0;
  for (int i = 0; i < n; i++) {
    const tl_param *p = o->ps->p[i];
    o->lr_factor[i] = 1;
    o->slot[i].rule = rule_of(o->opt.type, p);
    o->slot[i].conv1d = is_conv1d(p);
    if (o->slot[i].rule != RULE_NONE) parts += cut(o->ps, i, NULL);
  }
  o->part = tl_arena_alloc(&o->arena, (size_t)parts * sizeof *o->part + 1);
  if (!o->part) goto oom;
  for (int pass = 0; pass < 2; pass++) {
    for (int i = 0; i < n; i++) {
      rule r = o->slot[i].rule;
      if (r == RULE_NONE || (r == RULE_MUON) != (pass == 1)) continue;
      o->n_parts += cut(o->ps, i, &o->part[o->n_parts]);
    }
    if (pass == 0) o->n_elementwise = o->n_parts;
  }
  return TL_OK;
oom:
  return tl_fail(err, TL_NOMEM, "optimizer: out of memory for its tables");
}

/* Gives parameter i its part of the slab at *used (counted only, before the slab exists). */
static float *take(tl_optim *o, int i, const char *kind, int64_t *used) {
  tl_param *p = o->ps->p[i];
  int64_t at = *used;
  *used += padded(p->n);
  if (!o->state) return NULL;
  o->tensor[o->n_tensors++] =
      (tl_optim_tensor){tl_arena_printf(&o->arena, "%s/%s", kind, p->name), p, o->state + at};
  return o->state + at;
}

/* The average of parameter i: the teacher's weight, where there is one. */
static float *take_average(tl_optim *o, int i, int64_t *used) {
  if (!o->opt.teacher) return take(o, i, "ema", used);
  tl_param *p = o->ps->p[i];
  float *data = tl_params_find(o->opt.teacher, p->name)->data;
  if (o->state)
    o->tensor[o->n_tensors++] =
        (tl_optim_tensor){tl_arena_printf(&o->arena, "ema/%s", p->name), p, data};
  return data;
}

static int64_t bind_state(tl_optim *o) {
  int64_t used = 0;
  for (int i = 0; i < o->ps->n; i++) {
    slot *s = &o->slot[i];
    if (s->rule == RULE_NONE) continue;
    s->m = take(o, i, s->rule == RULE_ADAMW ? "adam.m" : "momentum", &used);
    if (s->rule == RULE_ADAMW) s->v = take(o, i, "adam.v", &used);
    if (o->opt.ema > 0) s->ema = take_average(o, i, &used);
  }
  return used;
}

static tl_status check_teacher(const tl_optim *o, tl_err *err) {
  for (int i = 0; o->opt.teacher && i < o->ps->n; i++) {
    const tl_param *p = o->ps->p[i], *q = tl_params_find(o->opt.teacher, p->name);
    if (o->slot[i].rule != RULE_NONE && (!q || q->n != p->n))
      return tl_fail(err, TL_INTERNAL, "optimizer: the teacher has no weight %s of this size",
                     p->name);
  }
  return TL_OK;
}

static tl_status alloc_state(tl_optim *o, tl_err *err) {
  TL_TRY(check_teacher(o, err));
  o->state_bytes = (size_t)bind_state(o) * sizeof(float);
  o->state = tl_slab_alloc(o->state_bytes ? o->state_bytes : sizeof(float));
  if (!o->state)
    return tl_fail(err, TL_NOMEM, "optimizer: out of memory for %zu MiB of state",
                   o->state_bytes >> 20);
  bind_state(o);
  for (int i = 0; i < o->n_tensors; i++)
    if (!o->tensor[i].name) return tl_fail(err, TL_NOMEM, "optimizer: out of memory for names");
  for (int i = 0; i < o->ps->n; i++)
    if (o->slot[i].ema)
      memcpy(o->slot[i].ema, o->ps->p[i]->data, (size_t)o->ps->p[i]->n * sizeof(float));
  return TL_OK;
}

static tl_status alloc_muon(tl_optim *o, tl_err *err) {
  int n = 0;
  int64_t(*shapes)[2] = calloc((size_t)o->ps->n + 1, sizeof *shapes);
  if (!shapes) return tl_fail(err, TL_NOMEM, "optimizer: out of memory");
  for (int i = 0; i < o->ps->n; i++)
    if (o->slot[i].rule == RULE_MUON) {
      shapes[n][0] = o->ps->p[i]->shape[0];
      shapes[n++][1] = muon_cols(o->ps->p[i]);
    }
  tl_status s = n ? tl_muon_new(o->ctx, n, (const int64_t(*)[2])shapes, &o->muon, err) : TL_OK;
  free(shapes);
  return s;
}

tl_status tl_optim_new(tl_ctx *ctx, tl_params *ps, const tl_optim_options *options, tl_optim **out,
                       tl_err *err) {
  tl_optim *o = calloc(1, sizeof *o);
  if (!o) return tl_fail(err, TL_NOMEM, "optimizer: out of memory");
  o->ctx = ctx;
  o->ps = ps;
  o->opt = *options;
  tl_status s = alloc_tables(o, err);
  if (s == TL_OK) s = alloc_state(o, err);
  if (s == TL_OK) s = alloc_muon(o, err);
  if (s != TL_OK) {
    tl_optim_free(o);
    return s;
  }
  *out = o;
  return TL_OK;
}

void tl_optim_free(tl_optim *o) {
  if (!o) return;
  tl_muon_free(o->muon);
  tl_slab_free(o->state, o->state_bytes ? o->state_bytes : sizeof(float));
  tl_arena_free(&o->arena);
  free(o);
}

float *tl_optim_lr_factors(tl_optim *o) {
  return o->lr_factor;
}

static float decay_of(const tl_optim *o, const tl_param *p) {
  return p->flags & TL_PARAM_DECAY ? o->opt.weight_decay : 0;
}

/* Updates n elements from element `at` of a parameter. */
static void step_row(const tl_optim *o, int param, int64_t at, int64_t n) {
  const slot *s = &o->slot[param];
  const tl_param *p = o->ps->p[param];
  const tl_optim_kernels *k = &o->ctx->k->optim;
  float lr = o->opt.lr * o->lr_scale * o->lr_factor[param], decay = decay_of(o, p);
  const float *g = p->grad + at;
  float *w = p->data + at, *m = s->m + at;
  if (s->rule == RULE_ADAMW) {
    tl_adamw_args a = o->adam;
    a.lr = lr;
    a.weight_decay = decay;
    k->adamw(&a, n, g, m, s->v + at, w);
  } else if (s->rule == RULE_SGD) {
    k->sgd(lr, o->opt.momentum, true, decay, o->adam.grad_scale, n, g, m, w);
  }
}

/* Calls fn for the ranges of elements that a part consists of. */
static void each_row(const tl_optim *o, const part *t,
                     void (*fn)(const tl_optim *, int, int64_t, int64_t)) {
  int64_t width = row_length(o->ps->p[t->param]), at = t->b.row0 * width + t->b.col0;
  if (t->b.cols == width) {
    fn(o, t->param, at, t->b.rows * width);
    return;
  }
  for (int64_t r = 0; r < t->b.rows; r++) fn(o, t->param, at + r * width, t->b.cols);
}

static void ema_row(const tl_optim *o, int param, int64_t at, int64_t n) {
  o->ctx->k->optim.ema(o->ema_decay, n, o->ps->p[param]->data + at, o->slot[param].ema + at);
}

/* What follows the update of a part, while its weights are in the cache. */
static void after_update(const tl_optim *o, const part *t) {
  if (o->opt.ema > 0) each_row(o, t, ema_row);
  tl_params_pack_block(o->ctx, o->ps, o->ps->p[t->param], t->b);
}

static void step_part(void *arg, int64_t task, int worker) {
  (void)worker;
  const tl_optim *o = arg;
  each_row(o, &o->part[task], step_row);
  after_update(o, &o->part[task]);
}

static void muon_part(void *arg, int64_t task, int worker) {
  (void)worker;
  const tl_optim *o = arg;
  after_update(o, &o->part[o->n_elementwise + task]);
}

static void step_matrices(tl_optim *o) {
  for (int i = 0; i < o->ps->n; i++) {
    if (o->slot[i].rule != RULE_MUON) continue;
    const tl_param *p = o->ps->p[i];
    tl_muon_args a = {.rows = p->shape[0],
                      .cols = muon_cols(p),
                      .lr = o->opt.muon_lr * o->lr_scale * o->lr_factor[i],
                      .momentum = o->opt.momentum,
                      .weight_decay = decay_of(o, p),
                      .grad_scale = o->adam.grad_scale,
                      .conv1d = o->slot[i].conv1d,
                      .g = p->grad,
                      .m = o->slot[i].m,
                      .p = p->data};
    tl_muon_update(o->muon, &a);
  }
}

void tl_optim_step(tl_optim *o, int64_t step, float lr_scale, float grad_scale) {
  const tl_optim_options *opt = &o->opt;
  o->lr_scale = lr_scale;
  o->adam = (tl_adamw_args){.beta1 = opt->beta1,
                            .beta2 = opt->beta2,
                            .eps = opt->eps,
                            .grad_scale = grad_scale,
                            .bias1 = (float)-expm1((double)step * log((double)opt->beta1)),
                            .bias2 = (float)-expm1((double)step * log((double)opt->beta2))};
  /* A shorter memory at first, so that the initial weights are forgotten. */
  float ramp = (float)((1.0 + (double)step) / (10.0 + (double)step));
  if (!o->ema_set) o->ema_decay = opt->ema < ramp ? opt->ema : ramp;
  tl_parallel(o->ctx->pool, o->n_elementwise, step_part, o);
  if (o->muon) {
    step_matrices(o);
    tl_parallel(o->ctx->pool, o->n_parts - o->n_elementwise, muon_part, o);
  }
  tl_params_followed(o->ctx, o->ps);
  if (opt->teacher) tl_params_changed(opt->teacher);
}

void tl_optim_set_ema(tl_optim *o, float decay) {
  o->ema_decay = decay;
  o->ema_set = true;
}

static void swap_row(const tl_optim *o, int param, int64_t at, int64_t n) {
  float *w = o->ps->p[param]->data + at, *e = o->slot[param].ema + at;
  for (int64_t i = 0; i < n; i++) {
    float t = w[i];
    w[i] = e[i];
    e[i] = t;
  }
}

static void swap_part(void *arg, int64_t task, int worker) {
  (void)worker;
  const tl_optim *o = arg;
  each_row(o, &o->part[task], swap_row);
}

void tl_optim_swap_ema(tl_optim *o) {
  if (!(o->opt.ema > 0) || o->opt.teacher) return;
  tl_parallel(o->ctx->pool, o->n_parts, swap_part, o);
  tl_params_changed(o->ps);
}

typedef struct norm_job {
  const tl_kernels *k;
  const float *g[GROUP];
  int64_t n[GROUP];
  double sum[GROUP];
} norm_job;

static void norm_chunk(void *arg, int64_t task, int worker) {
  (void)worker;
  norm_job *j = arg;
  j->sum[task] = j->k->row.sum_sq(j->n[task], j->g[task]);
}

static double sum_group(tl_ctx *ctx, norm_job *j, int n) {
  double sum = 0;
  tl_parallel(ctx->pool, n, norm_chunk, j);
  for (int i = 0; i < n; i++) sum += j->sum[i];
  return sum;
}

double tl_grad_norm(tl_ctx *ctx, const tl_params *ps) {
  norm_job j = {.k = ctx->k};
  double sum = 0;
  int used = 0;
  for (int i = 0; i < ps->n; i++) {
    const tl_param *p = ps->p[i];
    int64_t n = p->trainable && p->grad ? p->n : 0;
    for (int64_t at = 0; at < n; at += CHUNK) {
      j.g[used] = p->grad + at;
      j.n[used++] = n - at < CHUNK ? n - at : CHUNK;
      if (used < GROUP) continue;
      sum += sum_group(ctx, &j, used);
      used = 0;
    }
  }
  sum += sum_group(ctx, &j, used);
  return sqrt(sum);
}

double tl_grad_sum_sq(tl_ctx *ctx, const tl_param *p) {
  norm_job j = {.k = ctx->k};
  double sum = 0;
  for (int64_t at = 0; p->trainable && p->grad && at < p->n;) {
    int used = 0;
    for (; used < GROUP && at < p->n; at += CHUNK) {
      j.g[used] = p->grad + at;
      j.n[used++] = p->n - at < CHUNK ? p->n - at : CHUNK;
    }
    sum += sum_group(ctx, &j, used);
  }
  return sum;
}

int tl_optim_n_tensors(const tl_optim *o) {
  return o->n_tensors;
}

const tl_optim_tensor *tl_optim_tensor_at(const tl_optim *o, int i) {
  return &o->tensor[i];
}

size_t tl_optim_bytes(const tl_optim *o) {
  return o->state_bytes + (o->muon ? tl_muon_bytes(o->muon) : 0);
}

double tl_optim_flops(const tl_optim *o) {
  double sum = 0;
  for (int i = 0; i < o->ps->n; i++)
    if (o->slot[i].rule == RULE_MUON)
      sum += tl_muon_flops(o->ps->p[i]->shape[0], muon_cols(o->ps->p[i]));
  return sum;
}
