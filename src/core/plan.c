/* Reverse-mode differentiation and the memory plan.
 *
 * Time runs 0 .. 2n-1: node i's forward is at time i, its backward at 2n-1-i. Everything that a
 * node needs is a buffer with a lifetime on that line; buffers whose lifetimes do not meet share
 * memory. */
#include "core/graph.h"

#include <stdlib.h>
#include <string.h>

/* AGAIN_BYTES: smaller outputs are kept, even if they could be computed again. */
enum { ALIGN = 64, AGAIN_BYTES = 1 << 20 };

typedef struct buffer {
  size_t bytes, offset;
  int begin, end; /* first and last time, inclusive */
  bool used;
} buffer;

enum { B_DATA, B_GRAD, B_AGAIN, B_SAVED, B_FWD, B_BWD, B_KINDS };

typedef struct planner {
  tl_graph *g;
  tl_node *loss;
  int n;
  buffer *buf;  /* [B_KINDS][n] */
  int *shared;  /* [2][n]: the node whose B_DATA (B_GRAD) buffer this node uses */
  bool *output; /* [n] */
  bool *seen;   /* [n] */
} planner;

static int fwd_time(const tl_node *n) {
  return n->id;
}
static int bwd_time(const planner *p, const tl_node *n) {
  return 2 * p->n - 1 - n->id;
}
static int grad_time(const planner *p, const tl_node *consumer) {
  return consumer->op->grad_in_forward ? fwd_time(consumer) : bwd_time(p, consumer);
}
static buffer *buf_of(planner *p, int kind, int id) {
  return &p->buf[kind * p->n + id];
}
static size_t node_bytes(const tl_node *n) {
  return (size_t)tl_max_count(n) * tl_dtype_size(n->dt);
}

static void mark_live(tl_graph *g, tl_node *loss, tl_node *const *outputs, int n_outputs) {
  for (int i = 0; i < n_outputs; i++) outputs[i]->live = true;
  if (loss) loss->live = true;
  for (int i = g->n_nodes - 1; i >= 0; i--) {
    tl_node *n = g->node[i];
    for (int k = 0; n->live && k < n->n_in; k++)
      if (n->in[k]) n->in[k]->live = true;
  }
}

/* needs_grad: depends on a trainable parameter, and the loss depends on it through differentiable
 * operators. */
static void differentiate(planner *p) {
  tl_graph *g = p->g;
  if (!p->loss || !g->opt.training) return;
  for (int i = 0; i < p->n; i++) {
    tl_node *n = g->node[i];
    if (n->kind == TL_NODE_PARAM) n->needs_grad = n->param->trainable && n->param->grad;
    if (n->kind != TL_NODE_OP || !(n->op->backward || n->op->grad_in_forward)) continue;
    for (int k = 0; k < n->n_in; k++)
      if (tl_wants_grad(n, k)) n->needs_grad = true;
  }
  p->seen[p->loss->id] = true;
  for (int i = p->n - 1; i >= 0; i--) {
    tl_node *n = g->node[i];
    n->needs_grad = n->needs_grad && p->seen[i];
    for (int k = 0; n->needs_grad && k < n->n_in; k++)
      if (tl_wants_grad(n, k)) p->seen[n->in[k]->id] = true;
  }
}

/* Records, for one consumer in time order, which contributions are first (set) and which add. */
static void contribute(planner *p, tl_node *n) {
  if (!n->needs_grad) return;
  for (int k = 0; k < n->n_in; k++) {
    if (!tl_wants_grad(n, k)) continue;
    tl_node *in = n->in[k];
    if (p->seen[in->id])
      n->grad_add |= 1u << k;
    else
      buf_of(p, B_GRAD, in->id)->begin = grad_time(p, n);
    p->seen[in->id] = true;
  }
}

static void order_contributions(planner *p) {
  memset(p->seen, 0, (size_t)p->n * sizeof *p->seen);
  for (int i = 0; i < p->n; i++) {
    tl_node *n = p->g->node[i];
    if (n->kind == TL_NODE_OP && n->op->grad_in_forward) contribute(p, n);
  }
  for (int i = p->n - 1; i >= 0; i--) {
    tl_node *n = p->g->node[i];
    if (n->kind == TL_NODE_OP && !n->op->grad_in_forward) contribute(p, n);
  }
}

static void extend(buffer *b, int time) {
  if (time > b->end) b->end = time;
}

/* Whether n's output is computed again for the backward: in[] that it reads must be kept. */
static bool is_again(const planner *p, const tl_node *n) {
  if (!n->again || !n->needs_grad || n->op->bwd_output || p->output[n->id]) return false;
  if (node_bytes(n) < AGAIN_BYTES) return false;
  for (int k = 0; k < n->n_in; k++)
    if (n->in[k] && (n->op->again_inputs >> k & 1) && n->in[k]->again_for) return false;
  return true;
}

/* The backward of n reads in's output. */
static void extend_to_backward(planner *p, const tl_node *n, tl_node *in) {
  int time = bwd_time(p, n);
  if (!in->again_for) {
    extend(buf_of(p, B_DATA, in->id), time);
    return;
  }
  buffer *b = buf_of(p, B_AGAIN, in->id);
  if (!b->used) *b = (buffer){node_bytes(in), 0, time, time, true};
  if (time <= b->begin) {
    b->begin = time;
    in->again_for = n->id;
  }
  extend(b, time);
}

static void data_lifetimes(planner *p) {
  int last = 2 * p->n - 1;
  for (int i = 0; i < p->n; i++) {
    tl_node *n = p->g->node[i];
    if (!n->live) continue;
    buffer *b = buf_of(p, B_DATA, i);
    bool persistent = n->kind == TL_NODE_INPUT || n->kind == TL_NODE_STATE;
    *b = (buffer){.bytes = node_bytes(n), .begin = persistent ? 0 : i, .end = i};
    b->used = n->kind != TL_NODE_PARAM;
    if (persistent || p->output[i]) b->end = last;
    if (n->kind != TL_NODE_OP) continue;
    if (is_again(p, n)) n->again_for = -1;
    if (n->needs_grad && n->op->bwd_output) extend(b, bwd_time(p, n));
    for (int k = 0; k < n->n_in; k++) {
      if (!n->in[k]) continue;
      extend(buf_of(p, B_DATA, n->in[k]->id), i);
      if (n->needs_grad && (n->op->bwd_inputs >> k & 1)) extend_to_backward(p, n, n->in[k]);
    }
    int end = n->needs_grad && !n->op->grad_in_forward ? bwd_time(p, n) : i;
    *buf_of(p, B_SAVED, i) = (buffer){n->saved_bytes, 0, i, end, n->saved_bytes > 0};
    *buf_of(p, B_FWD, i) = (buffer){n->scratch_fwd, 0, i, i, n->scratch_fwd > 0};
    if (n->needs_grad && n->scratch_bwd)
      *buf_of(p, B_BWD, i) = (buffer){n->scratch_bwd, 0, bwd_time(p, n), bwd_time(p, n), true};
  }
}

static void grad_lifetimes(planner *p) {
  for (int i = 0; i < p->n; i++) {
    tl_node *n = p->g->node[i];
    if (n->kind != TL_NODE_OP || !n->needs_grad || n == p->loss) continue;
    buffer *b = buf_of(p, B_GRAD, i);
    b->bytes = node_bytes(n);
    b->end = bwd_time(p, n);
    b->used = true;
  }
}

static int root(const int *shared, int id) {
  while (shared[id] != id) id = shared[id];
  return id;
}

/* Makes `member` use the buffer of `owner`, whose lifetime grows to cover both. */
static void share(planner *p, int kind, int owner, int member) {
  int *shared = p->shared + (kind == B_GRAD ? p->n : 0);
  owner = root(shared, owner);
  buffer *a = buf_of(p, kind, owner), *b = buf_of(p, kind, member);
  if (b->begin < a->begin) a->begin = b->begin;
  extend(a, b->end);
  b->used = false;
  shared[member] = owner;
}

static void share_forward(planner *p) {
  for (int i = 0; i < p->n; i++) {
    tl_node *n = p->g->node[i];
    if (n->kind != TL_NODE_OP || !n->live) continue;
    tl_node *in = n->in[0];
    if (n->op->alias_in0) share(p, B_DATA, in->id, i);
    if (!n->op->inplace || in->kind != TL_NODE_OP || in->op->alias_in0) continue;
    const buffer *b = buf_of(p, B_DATA, in->id);
    int owner = root(p->shared, in->id);
    if (b->end != i || p->output[in->id] || buf_of(p, B_DATA, owner)->end != i) continue;
    if (node_bytes(in) != node_bytes(n)) continue;
    share(p, B_DATA, in->id, i);
  }
}

/* True if, once `m` shares the gradient memory of the group of `y`, some later contribution to one
 * member would destroy what another member has still to read. over: y's backward itself changes it.
 */
static bool alias_hazard(planner *p, const tl_node *y, const tl_node *m, bool over) {
  int *shared = p->shared + p->n, group = root(shared, y->id);
  int now = bwd_time(p, y);
  for (int b = 0; over && b < p->n; b++)
    if (b != y->id && root(shared, b) == group && bwd_time(p, p->g->node[b]) > now) return true;
  for (int a = 0; a < p->n; a++) {
    if (a != m->id && root(shared, a) != group) continue;
    for (int c = 0; c < p->n; c++) { /* writers of a */
      const tl_node *w = p->g->node[c];
      if (w->kind != TL_NODE_OP || !w->needs_grad) continue;
      bool writes = false;
      for (int k = 0; k < w->n_in; k++)
        if (w->in[k] && w->in[k]->id == a) writes = true;
      int t = grad_time(p, w);
      if (!writes || t <= now) continue;
      for (int b = 0; b < p->n; b++) { /* readers: each member's own backward */
        if (b == a || (b != m->id && root(shared, b) != group)) continue;
        /* Equality: w itself, which would read its gradient from the memory it adds to. */
        if (t <= bwd_time(p, p->g->node[b])) return true;
      }
    }
  }
  return false;
}

static void share_gradients(planner *p) {
  for (int i = p->n - 1; i >= 0; i--) {
    tl_node *n = p->g->node[i];
    if (n->kind != TL_NODE_OP || !n->needs_grad || n == p->loss) continue;
    for (int k = 0; k < n->n_in; k++) {
      bool over = n->op->grad_over >> k & 1;
      if (!over && !(n->op->grad_alias >> k & 1)) continue;
      if (!tl_wants_grad(n, k) || (n->grad_add >> k & 1)) continue;
      tl_node *in = n->in[k];
      bool fits = in->kind == TL_NODE_OP && node_bytes(in) == node_bytes(n) && in->dt == n->dt;
      if (fits && !alias_hazard(p, n, in, over)) share(p, B_GRAD, i, in->id);
    }
  }
}

static int by_size(const void *a, const void *b) {
  const buffer *x = *(buffer *const *)a, *y = *(buffer *const *)b;
  if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
  return x < y ? -1 : 1; /* the plan is the same each time */
}

/* Best known simple rule: largest first, each at the lowest offset free during its lifetime. */
static tl_status place(planner *p, tl_err *err) {
  int total = B_KINDS * p->n, n = 0;
  buffer **list = malloc((size_t)total * 2 * sizeof *list);
  if (!list) return tl_fail(err, TL_NOMEM, "graph: out of memory for the plan");
  buffer **meet = list + total;
  for (int i = 0; i < total; i++)
    if (p->buf[i].used) list[n++] = &p->buf[i];
  qsort(list, (size_t)n, sizeof *list, by_size);
  size_t end = 0;
  for (int i = 0; i < n; i++) {
    buffer *b = list[i];
    b->bytes = (b->bytes + ALIGN - 1) / ALIGN * ALIGN;
    int n_meet = 0;
    for (int k = 0; k < i; k++) { /* those alive at the same time, by offset (insertion sort) */
      if (list[k]->end < b->begin || list[k]->begin > b->end) continue;
      int at = n_meet++;
      for (; at > 0 && meet[at - 1]->offset > list[k]->offset; at--) meet[at] = meet[at - 1];
      meet[at] = list[k];
    }
    size_t offset = 0;
    for (int k = 0; k < n_meet && offset + b->bytes > meet[k]->offset; k++)
      if (meet[k]->offset + meet[k]->bytes > offset) offset = meet[k]->offset + meet[k]->bytes;
    b->offset = offset;
    if (offset + b->bytes > end) end = offset + b->bytes;
    p->g->stats.sum_bytes += b->bytes;
  }
  p->g->stats.slab_bytes = end;
  free(list);
  return TL_OK;
}

static void *at(planner *p, int kind, int id) {
  const buffer *b = buf_of(p, kind, id);
  return b->used ? (char *)p->g->slab + b->offset : NULL;
}

static void bind(planner *p) {
  tl_graph *g = p->g;
  for (int i = 0; i < p->n; i++) {
    tl_node *n = g->node[i];
    if (n->kind == TL_NODE_PARAM) {
      n->data = n->memory[0] = n->param->data;
      n->grad = n->param->grad;
      continue;
    }
    n->data = n->memory[0] = at(p, B_DATA, root(p->shared, i));
    n->memory[1] = at(p, B_AGAIN, i);
    n->grad = n->needs_grad ? at(p, B_GRAD, root(p->shared + p->n, i)) : NULL;
    n->saved = at(p, B_SAVED, i);
    g->scratch_fwd[i] = at(p, B_FWD, i);
    g->scratch_bwd[i] = at(p, B_BWD, i);
    if (n->kind == TL_NODE_INPUT && n->attr && n->data) memcpy(n->data, n->attr, node_bytes(n));
  }
}

static tl_status plan(planner *p, tl_err *err) {
  tl_graph *g = p->g;
  for (int i = 0; i < p->n; i++) p->shared[i] = p->shared[p->n + i] = i;
  differentiate(p);
  if (g->opt.training && p->loss && !p->loss->needs_grad)
    return tl_fail(err, TL_INTERNAL, "%s: the loss does not depend on any trainable parameter",
                   p->loss->name);
  order_contributions(p);
  data_lifetimes(p);
  grad_lifetimes(p);
  share_forward(p);
  share_gradients(p);
  TL_TRY(place(p, err));
  g->slab = tl_slab_alloc(g->stats.slab_bytes);
  g->scratch_fwd = tl_arena_alloc(&g->arena, (size_t)p->n * sizeof(void *));
  g->scratch_bwd = tl_arena_alloc(&g->arena, (size_t)p->n * sizeof(void *));
  if (!g->slab || !g->scratch_fwd || !g->scratch_bwd)
    return tl_fail(err, TL_NOMEM, "graph: out of memory for %zu MiB of activations",
                   g->stats.slab_bytes >> 20);
  bind(p);
  g->stats.n_nodes = p->n;
  g->loss = p->loss;
  g->compiled = true;
  return TL_OK;
}

tl_status tl_graph_compile(tl_graph *g, tl_node *loss, tl_node *const *outputs, int n_outputs,
                           tl_err *err) {
  if (g->err.code != TL_OK) return tl_fail(err, g->err.code, "%s", g->err.msg);
  if (g->compiled) return tl_fail(err, TL_INTERNAL, "graph: compiled twice");
  int n = g->n_nodes;
  planner p = {.g = g, .loss = loss, .n = n};
  p.buf = calloc((size_t)(B_KINDS * n), sizeof *p.buf);
  p.shared = malloc((size_t)(2 * n) * sizeof *p.shared);
  p.output = calloc((size_t)n, sizeof *p.output);
  p.seen = calloc((size_t)n, sizeof *p.seen);
  tl_status s = TL_OK;
  if (!p.buf || !p.shared || !p.output || !p.seen) {
    s = tl_fail(err, TL_NOMEM, "graph: out of memory for the plan of %d nodes", n);
  } else {
    mark_live(g, loss, outputs, n_outputs);
    for (int i = 0; i < n_outputs; i++) p.output[outputs[i]->id] = true;
    if (loss) p.output[loss->id] = true;
    s = plan(&p, err);
  }
  free(p.buf);
  free(p.shared);
  free(p.output);
  free(p.seen);
  return s;
}
