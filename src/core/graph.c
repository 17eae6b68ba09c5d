#include "core/graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

tl_graph *tl_graph_new(tl_ctx *ctx, tl_params *params, const tl_graph_options *options) {
  tl_graph *g = calloc(1, sizeof *g);
  if (!g) return NULL;
  g->stand_in = (tl_node){.kind = TL_NODE_INPUT, .name = "error", .ndim = 1, .shape = {1}};
  g->ctx = ctx;
  g->params = params;
  g->opt = *options;
  g->n_dims = 1; /* dim 0 means static */
  return g;
}

void tl_graph_free(tl_graph *g) {
  if (!g) return;
  tl_slab_free(g->slab, g->stats.slab_bytes);
  tl_arena_free(&g->arena);
  free(g->seconds);
  free(g->node);
  free(g);
}

void tl_graph_scope(tl_graph *g, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(g->scope, sizeof g->scope, fmt, ap);
  va_end(ap);
}

void tl_graph_fail(tl_graph *g, tl_status code, const char *fmt, ...) {
  if (g->err.code != TL_OK) return;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(g->err.msg, sizeof g->err.msg, fmt, ap);
  va_end(ap);
  g->err.code = code;
}

int tl_graph_dim(tl_graph *g, int64_t max) {
  if (g->n_dims == TL_MAX_DIMS) {
    tl_graph_fail(g, TL_INTERNAL, "graph: more than %d dynamic sizes", TL_MAX_DIMS - 1);
    return 0;
  }
  g->dim_max[g->n_dims] = g->dim_cur[g->n_dims] = max;
  return g->n_dims++;
}

void tl_graph_set_dim(tl_graph *g, int dim, int64_t current) {
  if (current < 0) current = 0;
  g->dim_cur[dim] = current < g->dim_max[dim] ? current : g->dim_max[dim];
  for (int i = 1; i < g->n_dims; i++)
    if (g->dim_of[i] == dim) g->dim_cur[i] = g->dim_times[i] * g->dim_cur[dim];
}

int tl_graph_dim_times(tl_graph *g, int of, int64_t times) {
  for (int i = 1; i < g->n_dims; i++)
    if (g->dim_of[i] == of && g->dim_times[i] == times) return i;
  int dim = tl_graph_dim(g, times * g->dim_max[of]);
  if (!dim) return 0;
  g->dim_of[dim] = of;
  g->dim_times[dim] = times;
  return dim;
}

static tl_node *new_node(tl_graph *g, tl_node_kind kind, const char *name) {
  if (g->n_nodes == g->cap) {
    int cap = g->cap ? 2 * g->cap : 128;
    tl_node **p = realloc(g->node, (size_t)cap * sizeof *p);
    if (p) {
      g->node = p;
      g->cap = cap;
    }
  }
  tl_node *n = g->n_nodes < g->cap ? tl_arena_alloc(&g->arena, sizeof *n) : NULL;
  if (n) n->name = tl_arena_printf(&g->arena, "%s%s%s", g->scope, *g->scope ? "/" : "", name);
  if (!n || !n->name) {
    tl_graph_fail(g, TL_NOMEM, "graph: out of memory at node %d (%s)", g->n_nodes, name);
    return &g->stand_in;
  }
  n->id = g->n_nodes;
  n->kind = kind;
  g->node[g->n_nodes++] = n;
  return n;
}

static void set_shape(tl_graph *g, tl_node *n, tl_dtype dt, int ndim, const int64_t *shape,
                      int dim) {
  n->dt = dt;
  n->ndim = ndim;
  n->dim = dim;
  for (int d = 0; d < ndim; d++) n->shape[d] = shape[d];
  if (dim && shape[0] != g->dim_max[dim])
    tl_graph_fail(g, TL_INTERNAL, "%s: first axis is %lld, its dynamic size at most %lld", n->name,
                  (long long)shape[0], (long long)g->dim_max[dim]);
}

tl_node *tl_graph_input(tl_graph *g, const char *name, tl_dtype dt, int ndim, const int64_t *shape,
                        int dim) {
  tl_node *n = new_node(g, TL_NODE_INPUT, name);
  if (n != &g->stand_in) set_shape(g, n, dt, ndim, shape, dim);
  return n;
}

tl_node *tl_graph_constant(tl_graph *g, const char *name, tl_dtype dt, int ndim,
                           const int64_t *shape, const void *values) {
  tl_node *n = tl_graph_input(g, name, dt, ndim, shape, 0);
  if (n == &g->stand_in) return n;
  size_t bytes = (size_t)tl_max_count(n) * tl_dtype_size(dt);
  n->attr = tl_arena_alloc(&g->arena, bytes ? bytes : 1); /* copied into place by compile */
  if (n->attr)
    memcpy(n->attr, values, bytes);
  else
    tl_graph_fail(g, TL_NOMEM, "%s: out of memory", n->name);
  return n;
}

tl_node *tl_graph_state(tl_graph *g, const char *name, tl_dtype dt, int ndim,
                        const int64_t *shape) {
  tl_node *n = new_node(g, TL_NODE_STATE, name);
  if (n != &g->stand_in) set_shape(g, n, dt, ndim, shape, 0);
  return n;
}

tl_node *tl_graph_param(tl_graph *g, tl_param *p) {
  if (!p) {
    tl_graph_fail(g, TL_INTERNAL, "%s: a parameter is missing", g->scope);
    return &g->stand_in;
  }
  for (int i = 0; i < g->n_nodes; i++)
    if (g->node[i]->param == p) return g->node[i];
  tl_node *n = new_node(g, TL_NODE_PARAM, "param");
  if (n == &g->stand_in) return n;
  n->name = p->name;
  n->param = p;
  set_shape(g, n, TL_F32, p->ndim, p->shape, 0);
  return n;
}

tl_node *tl_graph_op(tl_graph *g, const tl_op *op, tl_node *const *in, int n_in, const void *attr,
                     size_t attr_bytes) {
  tl_node *n = new_node(g, TL_NODE_OP, op->name);
  if (n == &g->stand_in || g->err.code != TL_OK) return n;
  n->op = op;
  n->n_in = n_in;
  for (int i = 0; i < n_in; i++) n->in[i] = in[i];
  if (attr_bytes) {
    n->attr = tl_arena_alloc(&g->arena, attr_bytes);
    if (!n->attr) {
      tl_graph_fail(g, TL_NOMEM, "%s: out of memory", n->name);
      return n;
    }
    memcpy(n->attr, attr, attr_bytes);
  }
  if (n_in > 0 && in[0]) {
    n->dt = in[0]->dt;
    n->ndim = in[0]->ndim;
    n->dim = in[0]->dim;
    memcpy(n->shape, in[0]->shape, sizeof n->shape);
  }
  tl_err err = {0};
  tl_status s = op->infer(g, n, &err);
  if (s != TL_OK) tl_graph_fail(g, s, "%s: %s", n->name, err.msg);
  return n;
}

int64_t tl_rows(const tl_graph *g, const tl_node *n) {
  return n->dim ? g->dim_cur[n->dim] : n->shape[0];
}

int64_t tl_cols(const tl_node *n) {
  int64_t c = 1;
  for (int d = 1; d < n->ndim; d++) c *= n->shape[d];
  return c;
}

int64_t tl_count(const tl_graph *g, const tl_node *n) {
  return tl_rows(g, n) * tl_cols(n);
}

int64_t tl_max_count(const tl_node *n) {
  return n->shape[0] * tl_cols(n);
}

tl_node *tl_case_input(tl_graph *g, int64_t rows, int64_t cols) {
  int64_t shape[] = {rows, cols};
  tl_param *p = tl_case_param(g, 2, shape, 0, 1);
  extern const tl_op tl_op_from_param; /* the one operator that the tests' leaves need */
  tl_node *leaf = tl_graph_param(g, p);
  return tl_graph_op(g, &tl_op_from_param, &leaf, 1, NULL, 0);
}

tl_param *tl_case_param(tl_graph *g, int ndim, const int64_t *shape, float mean, float std) {
  tl_params *ps = g->params;
  char name[32];
  snprintf(name, sizeof name, "case.%d", ps->n);
  tl_param *p = tl_params_add(ps, name, ndim, shape, TL_INIT_NORMAL, std, 0);
  if (!p) {
    tl_graph_fail(g, TL_NOMEM, "test case: cannot add parameter %s", name);
    return NULL;
  }
  /* Case parameters own their memory: each is made while the graph is being built. */
  p->data = tl_arena_alloc(&ps->arena, (size_t)p->n * sizeof(float));
  p->grad = tl_arena_alloc(&ps->arena, (size_t)p->n * sizeof(float));
  if (!p->data || !p->grad) {
    tl_graph_fail(g, TL_NOMEM, "test case: out of memory");
    return NULL;
  }
  tl_rng r = tl_rng_make(7, TL_STREAM_TEST, (uint32_t)ps->n, 0);
  for (int64_t i = 0; i < p->n; i++) p->data[i] = mean + std * tl_rng_normal(&r);
  return p;
}

tl_node *tl_case_ints(tl_graph *g, int ndim, const int64_t *shape, const int32_t *values) {
  return tl_graph_constant(g, "values", TL_I32, ndim, shape, values);
}

tl_node *tl_case_floats(tl_graph *g, int ndim, const int64_t *shape, const float *values) {
  return tl_graph_constant(g, "values", TL_F32, ndim, shape, values);
}
