#include "core/params.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "kernels/normal.h"

enum {
  PARAM_ALIGN = 16,       /* elements: one cache line of f32 */
  STREAM_BYTES = 8 << 20, /* packs of more than this do not stay in the cache until they are read */
};

tl_param *tl_params_find(const tl_params *ps, const char *name) {
  for (int i = 0; i < ps->n; i++)
    if (!strcmp(ps->p[i]->name, name)) return ps->p[i];
  return NULL;
}

tl_param *tl_params_add(tl_params *ps, const char *name, int ndim, const int64_t *shape,
                        tl_init init, float init_scale, unsigned flags) {
  if (ps->values || ndim < 1 || ndim > TL_MAX_NDIM || tl_params_find(ps, name)) return NULL;
  if (ps->n == ps->cap) {
    int cap = ps->cap ? 2 * ps->cap : 64;
    tl_param **p = realloc(ps->p, (size_t)cap * sizeof *p);
    if (!p) return NULL;
    ps->p = p;
    ps->cap = cap;
  }
  tl_param *w = tl_arena_alloc(&ps->arena, sizeof *w);
  char *copy = tl_arena_strdup(&ps->arena, name);
  if (!w || !copy) return NULL;
  *w = (tl_param){.name = copy,
                  .ndim = ndim,
                  .n = 1,
                  .init = init,
                  .init_scale = init_scale,
                  .flags = flags,
                  .trainable = true};
  for (int d = 0; d < ndim; d++) {
    w->shape[d] = shape[d];
    if (shape[d] <= 0 || __builtin_mul_overflow(w->n, shape[d], &w->n)) return NULL;
  }
  ps->p[ps->n++] = w;
  return w;
}

tl_status tl_params_alloc(tl_params *ps, bool with_grads, tl_err *err) {
  int64_t n = 0;
  for (int i = 0; i < ps->n; i++) {
    ps->p[i]->offset = n;
    n += (ps->p[i]->n + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
  }
  ps->n_values = n;
  size_t bytes = (size_t)n * sizeof(float);
  ps->values = tl_slab_alloc(bytes);
  ps->grads = with_grads ? tl_slab_alloc(bytes) : NULL;
  if (!ps->values || (with_grads && !ps->grads))
    return tl_fail(err, TL_NOMEM, "out of memory for %lld parameters (%zu MiB)", (long long)n,
                   bytes >> 20);
  for (int i = 0; i < ps->n; i++) {
    tl_param *w = ps->p[i];
    w->data = ps->values + w->offset;
    w->grad = with_grads && w->trainable ? ps->grads + w->offset : NULL;
  }
  return TL_OK;
}

/* Elements of a task: huge pages, that one thread touches first. */
enum { INIT_PART = 1 << 19 };

static void init_range(const tl_kernels *k, const tl_param *w, uint64_t seed, int64_t begin,
                       int64_t n) {
  uint32_t sub = (uint32_t)tl_hash64(w->name, strlen(w->name));
  switch (w->init) {
  case TL_INIT_NORMAL:
    k->optim.normal(seed, TL_STREAM_INIT, sub, begin, n, w->init_scale, w->data + begin);
    break;
  case TL_INIT_CONST:
    for (int64_t i = begin; i < begin + n; i++) w->data[i] = w->init_scale;
    break;
  }
}

void tl_param_init(tl_param *w, uint64_t seed) {
  init_range(tl_kernels_get(tl_cpu_detect()), w, seed, 0, w->n);
}

typedef struct init_job {
  const tl_kernels *k;
  const tl_params *ps;
  uint64_t seed;
} init_job;

/* The parameters' elements in one row are cut into tasks. */
static void init_task(void *arg, int64_t task, int worker) {
  (void)worker;
  const init_job *j = arg;
  int64_t begin = task * INIT_PART, end = begin + INIT_PART;
  for (int i = 0; i < j->ps->n; i++) {
    const tl_param *w = j->ps->p[i];
    int64_t from = begin > w->offset ? begin - w->offset : 0;
    int64_t to = end - w->offset < w->n ? end - w->offset : w->n;
    from = from / TL_NORMAL_GROUP * TL_NORMAL_GROUP;
    if (to < w->n) to = to / TL_NORMAL_GROUP * TL_NORMAL_GROUP;
    if (from < to) init_range(j->k, w, j->seed, from, to - from);
  }
}

void tl_params_init(tl_ctx *ctx, tl_params *ps, uint64_t seed) {
  init_job j = {ctx ? ctx->k : tl_kernels_get(tl_cpu_detect()), ps, seed};
  int64_t tasks = (ps->n_values + INIT_PART - 1) / INIT_PART;
  if (ctx)
    tl_parallel(ctx->pool, tasks, init_task, &j);
  else
    for (int64_t t = 0; t < tasks; t++) init_task(&j, t, 0);
  tl_params_changed(ps);
}

int64_t tl_params_count(const tl_params *ps, bool trainable_only) {
  int64_t n = 0;
  for (int i = 0; i < ps->n; i++)
    if (ps->p[i]->trainable || !trainable_only) n += ps->p[i]->n;
  return n;
}

void tl_params_free(tl_params *ps) {
  for (tl_pack *k = ps->packs; k; k = k->next) tl_slab_free(k->data, k->bytes);
  tl_slab_free(ps->values, (size_t)ps->n_values * sizeof(float));
  tl_slab_free(ps->grads, (size_t)ps->n_values * sizeof(float));
  free(ps->p);
  tl_arena_free(&ps->arena);
  *ps = (tl_params){0};
}

static int64_t weight_out(const tl_param *w, bool conv1d) {
  return conv1d ? w->shape[1] : w->shape[0];
}
static int64_t weight_in(const tl_param *w, bool conv1d) {
  return conv1d ? w->shape[0] : w->shape[1];
}

static bool same_key(const tl_pack *k, const tl_kernels *kern, tl_pack_kind kind, tl_dtype dt,
                     int n, tl_param *const *w, bool conv1d) {
  if (k->kernels != kern || k->kind != kind || k->dt != dt || k->n != n || k->conv1d != conv1d)
    return false;
  for (int i = 0; i < n; i++)
    if (k->w[i] != w[i]) return false;
  return true;
}

const tl_pack *tl_params_pack(tl_params *ps, const tl_kernels *kern, tl_pack_kind kind, tl_dtype dt,
                              int n, tl_param *const *w, bool conv1d) {
  for (tl_pack *k = ps->packs; k; k = k->next)
    if (same_key(k, kern, kind, dt, n, w, conv1d)) return k;
  tl_pack *k = tl_arena_alloc(&ps->arena, sizeof *k);
  tl_pack_use *use = tl_arena_alloc(&ps->arena, (size_t)n * sizeof *use);
  if (!k || !use) return NULL;
  *k = (tl_pack){.kind = kind, .dt = dt, .kernels = kern, .n = n, .conv1d = conv1d};
  k->in = weight_in(w[0], conv1d);
  for (int i = 0; i < n; i++) {
    if (w[i]->ndim != 2 || weight_in(w[i], conv1d) != k->in) return NULL;
    k->w[i] = w[i];
    use[i] = (tl_pack_use){k, k->out, NULL};
    k->out += weight_out(w[i], conv1d);
  }
  k->bytes = kind == TL_PACK_FORWARD ? tl_gemm_packed_bytes(kern, dt, k->in, k->out)
                                     : tl_gemm_packed_bytes(kern, dt, k->out, k->in);
  k->data = tl_slab_alloc(k->bytes);
  if (!k->data) return NULL;
  for (int i = 0; i < n; i++) {
    use[i].next = w[i]->uses;
    w[i]->uses = &use[i];
  }
  k->next = ps->packs;
  ps->packs = k;
  ps->pack_bytes += k->bytes;
  return k;
}

void tl_params_changed(tl_params *ps) {
  ps->version++;
}

static bool is_fresh(const tl_ctx *ctx, const tl_params *ps, const tl_pack *k) {
  return k->kernels == ctx->k && k->version == ps->version + 1;
}

/* A block of weight w, which begins at `at` on the output axis, as a part of the pack's B. */
static tl_gemm_pack_args part_of(const tl_pack *k, const tl_param *w, int64_t at, tl_rect b) {
  bool fwd = k->kind == TL_PACK_FORWARD, swap = fwd != k->conv1d; /* B's rows are w's columns */
  int64_t row0 = b.row0 + (k->conv1d ? 0 : at), col0 = b.col0 + (k->conv1d ? at : 0);
  return (tl_gemm_pack_args){.dt = k->dt,
                             .K = fwd ? k->in : k->out,
                             .N = fwd ? k->out : k->in,
                             .src = w->data + b.row0 * w->shape[1] + b.col0,
                             .src_dt = TL_F32,
                             .ld = w->shape[1],
                             .trans = swap,
                             .k0 = swap ? col0 : row0,
                             .n0 = swap ? row0 : col0,
                             .rows = swap ? b.cols : b.rows,
                             .cols = swap ? b.rows : b.cols,
                             .packed = k->data};
}

void tl_params_pack_block(const tl_ctx *ctx, const tl_params *ps, const tl_param *w, tl_rect b) {
  for (const tl_pack_use *u = w->uses; u; u = u->next) {
    if (!is_fresh(ctx, ps, u->pack)) continue;
    tl_gemm_pack_args a = part_of(u->pack, w, u->at, b);
    tl_gemm_pack_here(ctx->k, &a, ps->pack_bytes > STREAM_BYTES);
  }
}

void tl_params_followed(const tl_ctx *ctx, tl_params *ps) {
  for (tl_pack *k = ps->packs; k; k = k->next)
    if (is_fresh(ctx, ps, k)) k->version++;
  tl_params_changed(ps);
}

void tl_params_refresh(tl_ctx *ctx, tl_params *ps) {
  for (tl_pack *k = ps->packs; k; k = k->next) {
    if (k->kernels != ctx->k || is_fresh(ctx, ps, k)) continue;
    int64_t at = 0;
    for (int i = 0; i < k->n; i++) {
      const tl_param *w = k->w[i];
      tl_gemm_pack_args a = part_of(k, w, at, (tl_rect){0, w->shape[0], 0, w->shape[1]});
      tl_gemm_pack(ctx, &a);
      at += weight_out(w, k->conv1d);
    }
    k->version = ps->version + 1;
  }
}
