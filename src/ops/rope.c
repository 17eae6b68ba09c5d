/* Rotary position embedding, rotate-half form: columns j and j + hd/2 of each of the first `heads`
 * heads turn by the angle pos theta^(-2j/hd); the other columns pass. */
#include "ops/ops.h"
#include "ops/parallel.h"

#include <math.h>
#include <string.h>

typedef struct attr {
  int heads, hd, max_pos;
  float theta;
  tl_rope_scaling scaling;
  const float *cos_sin; /* [max_pos][hd]: hd/2 cosines, then hd/2 sines */
} attr;

/* The table of an earlier node of the graph with the same angles (one per model, not per layer). */
static const float *find_table(const tl_graph *g, const attr *a) {
  for (int i = 0; i < g->n_nodes; i++) {
    if (g->node[i]->op != &tl_op_rope) continue;
    const attr *b = g->node[i]->attr;
    if (b->cos_sin && b->hd == a->hd && b->theta == a->theta && b->max_pos >= a->max_pos &&
        !memcmp(&b->scaling, &a->scaling, sizeof a->scaling))
      return b->cos_sin;
  }
  return NULL;
}

double tl_rope_frequency(const tl_rope_scaling *s, double frequency) {
  if (s->factor == 0) return frequency;
  if (s->original == 0) return frequency / s->factor;
  double turns = s->original * frequency / (2 * 3.14159265358979323846);
  double keep = (turns - s->low) / (s->high - s->low);
  keep = keep < 0 ? 0 : keep > 1 ? 1 : keep;
  return (1 - keep) * frequency / s->factor + keep * frequency;
}

static const float *make_table(tl_graph *g, const attr *a) {
  float *t = tl_arena_alloc(&g->arena, (size_t)a->max_pos * (size_t)a->hd * sizeof *t);
  int half = a->hd / 2;
  for (int j = 0; t && j < half; j++) {
    double frequency = tl_rope_frequency(&a->scaling, pow(a->theta, -2.0 * j / a->hd));
    for (int64_t pos = 0; pos < a->max_pos; pos++) {
      t[pos * a->hd + j] = (float)cos((double)pos * frequency);
      t[pos * a->hd + half + j] = (float)sin((double)pos * frequency);
    }
  }
  return t;
}

static tl_status infer(tl_graph *g, tl_node *n, tl_err *err) {
  attr *a = n->attr;
  const tl_node *x = n->in[0], *pos = n->in[1];
  if (x->ndim != 2 || x->dt == TL_I32 || a->heads < 0 || a->hd < 2 || a->hd % 2 ||
      (int64_t)a->heads * a->hd > x->shape[1])
    return tl_fail(err, TL_INTERNAL, "%d heads of %d columns (even) do not fit %s", a->heads, a->hd,
                   x->name);
  if (pos->dt != TL_I32 || pos->dim != x->dim || tl_max_count(pos) != x->shape[0])
    return tl_fail(err, TL_INTERNAL, "%s must be i32 with one position per row of %s", pos->name,
                   x->name);
  if (a->max_pos < 1 || !(a->theta > 0))
    return tl_fail(err, TL_INTERNAL, "theta %g and %d positions must be positive", (double)a->theta,
                   a->max_pos);
  a->cos_sin = find_table(g, a);
  if (!a->cos_sin) a->cos_sin = make_table(g, a);
  if (!a->cos_sin)
    return tl_fail(err, TL_NOMEM, "out of memory for the angles of %d positions", a->max_pos);
  return TL_OK;
}

typedef struct job {
  tl_exec *x;
  const tl_node *n;
  const void *from; /* x or dy */
  void *to;         /* y or dx */
  bool inverse, add;
} job;

static void run_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  const tl_row_kernels *k = &j->x->k->row;
  const attr *a = j->n->attr;
  tl_dtype dt = j->n->dt;
  int64_t c = j->n->shape[1], turned = (int64_t)a->heads * a->hd;
  const int32_t *pos = j->n->in[1]->data;
  k->rope(dt, end - begin, a->heads, a->hd, tl_at(dt, j->from, begin * c), c, pos + begin,
          a->cos_sin, j->inverse, tl_at(dt, j->to, begin * c), c, j->add);
  if (j->from == j->to || turned == c) return;
  for (int64_t r = begin; r < end; r++) {
    const void *from = tl_at(dt, j->from, r * c + turned);
    void *to = tl_at(dt, j->to, r * c + turned);
    if (j->add)
      k->acc(dt, c - turned, from, to);
    else
      k->convert(dt, from, dt, to, c - turned);
  }
}

static void run(job j) {
  tl_parallel_ranges(j.x->ctx, tl_rows(j.x->g, j.n), tl_row_grain(j.n->shape[1]), run_rows, &j);
}

static void forward(tl_exec *x, tl_node *n) {
  run((job){x, n, n->in[0]->data, n->data, false, false});
}

static void backward(tl_exec *x, tl_node *n) {
  if (tl_wants_grad(n, 0)) run((job){x, n, n->grad, n->in[0]->grad, true, tl_grad_adds(x, n, 0)});
}

static void cost(const tl_graph *g, const tl_node *n, tl_cost *c) {
  const attr *a = n->attr;
  c->flops_fwd = c->flops_bwd = 3 * (double)tl_rows(g, n) * a->heads * a->hd;
  c->bytes_fwd = c->bytes_bwd = 2 * (double)tl_count(g, n) * (double)tl_dtype_size(n->dt);
}

static tl_node *build_case(tl_graph *g, const int64_t *d) {
  int32_t pos[256];
  for (int64_t i = 0; i < d[0]; i++) pos[i] = (int32_t)(i * 7 % 40);
  tl_node *x = tl_case_input(g, d[0], d[1]);
  return tl_rope(g, x, tl_case_ints(g, 1, d, pos), (int)d[2], (int)d[3], 10000.0f, 40,
                 &(tl_rope_scaling){0});
}

/* rows (at most 256), columns, heads, head size */
static const int64_t cases[][TL_MAX_CASE_DIMS] = {
    {1, 2, 1, 2}, {3, 20, 2, 6}, {130, 192, 8, 16}, {64, 64, 1, 64}, {0}};

const tl_op tl_op_rope = {
    .name = "rope",
    .formula = "(x1, x2) -> (x1 c - x2 s, x2 c + x1 s), c, s = cos, sin(pos theta^(-2j/hd))",
    .infer = infer,
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .bwd_inputs = 2,
    .inplace = true,
    .grad_over = 1,
    .build_case = build_case,
    .cases = cases,
    .bench = {256, 2304, 24, 64},
    .tol = {2e-6f, 1e-2f},
    .tol_bwd = {2e-6f, 1e-2f},
    .grad_tol = 1e-3f,
};

tl_node *tl_rope(tl_graph *g, tl_node *x, tl_node *pos, int heads, int hd, float theta, int max_pos,
                 const tl_rope_scaling *scaling) {
  tl_node *in[] = {x, pos};
  attr a = {heads, hd, max_pos, theta, *scaling, NULL};
  return tl_graph_op(g, &tl_op_rope, in, 2, &a, sizeof a);
}
