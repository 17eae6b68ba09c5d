#include "train/profiler.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/ops.h"
#include "tilth/bench.h"

/* Operators that share a row: of one kind and, of linear layers, one shape. */
typedef struct group {
  const tl_op *op;
  int64_t in, out; /* of linear layers, else 0 */
  double calls[2];
  tl_cost cost;
} group;

struct tl_profiler {
  tl_graph *g;
  const tl_optim *optim;
  double phase[TL_N_PHASES];
  double *seconds; /* [2][n_nodes], as in tl_graph */
  int *group_of;   /* by node; -1: no operator, or never run */
  group *group;
  int n_groups;
  int64_t steps, updates, micro; /* counted: steps, calls of the optimizer, micro-batches */
  bool first_done;
  double first_step;
};

static int find_group(tl_profiler *p, const tl_node *n) {
  group key = {.op = n->op};
  if (n->op == &tl_op_linear) {
    key.in = tl_cols(n->in[0]);
    key.out = tl_cols(n);
  }
  int i = 0;
  while (i < p->n_groups &&
         (p->group[i].op != key.op || p->group[i].in != key.in || p->group[i].out != key.out))
    i++;
  if (i == p->n_groups) p->group[p->n_groups++] = key;
  return i;
}

tl_status tl_profiler_new(tl_graph *g, const tl_optim *optim, bool warm, tl_profiler **out,
                          tl_err *err) {
  size_t n = (size_t)g->n_nodes;
  tl_profiler *p = calloc(1, sizeof *p);
  if (p) {
    p->seconds = calloc(2 * n, sizeof *p->seconds);
    p->group_of = calloc(n, sizeof *p->group_of);
    p->group = calloc(n, sizeof *p->group);
  }
  if (!p || !p->seconds || !p->group_of || !p->group) {
    tl_profiler_free(p);
    return tl_fail(err, TL_NOMEM, "profile: out of memory");
  }
  p->g = g;
  p->optim = optim;
  p->first_done = warm;
  for (int i = 0; i < g->n_nodes; i++)
    p->group_of[i] =
        g->node[i]->kind == TL_NODE_OP && g->node[i]->live ? find_group(p, g->node[i]) : -1;
  *out = p;
  return TL_OK;
}

void tl_profiler_free(tl_profiler *p) {
  if (!p) return;
  free(p->seconds);
  free(p->group_of);
  free(p->group);
  free(p);
}

void tl_profiler_add(tl_profiler *p, tl_phase phase, double start) {
  if (!p) return;
  p->phase[phase] += tl_now() - start;
  p->updates += phase == TL_PHASE_OPTIMIZER;
}

/* Adds what one run of the graph, at its present sizes, counts. */
static tl_cost count_run(tl_profiler *p, const tl_graph *g) {
  tl_cost sum = {0};
  for (int i = 0; i < g->n_nodes; i++) {
    const tl_node *n = g->node[i];
    if (p->group_of[i] < 0) continue;
    group *r = &p->group[p->group_of[i]];
    tl_cost c = {0};
    if (n->op->cost) n->op->cost(g, n, &c);
    if (!n->needs_grad) c.flops_bwd = c.bytes_bwd = 0;
    r->calls[0]++;
    r->calls[1] += n->needs_grad && n->op->backward;
    r->cost.flops_fwd += c.flops_fwd;
    r->cost.flops_bwd += c.flops_bwd;
    r->cost.bytes_fwd += c.bytes_fwd;
    r->cost.bytes_bwd += c.bytes_bwd;
    sum.flops_fwd += c.flops_fwd;
    sum.flops_bwd += c.flops_bwd;
    sum.bytes_fwd += c.bytes_fwd;
    sum.bytes_bwd += c.bytes_bwd;
  }
  return sum;
}

void tl_profiler_begin_run(tl_profiler *p) {
  if (!p) return;
  double start = tl_now();
  tl_params_refresh(p->g->ctx, p->g->params);
  tl_profiler_add(p, TL_PHASE_PACKING, start);
  p->g->seconds = p->seconds;
}

tl_cost tl_profiler_end_run(tl_profiler *p, tl_graph *g) {
  g->seconds = NULL; /* evaluations use the same graph */
  if (!p) return tl_graph_cost(g);
  p->micro++;
  return count_run(p, g);
}

/* The first step touches all memory for the first time: it is told apart once there are others. */
static void forget_first(tl_profiler *p) {
  p->first_step = p->phase[TL_PHASE_STEP];
  for (int i = 0; i <= TL_PHASE_STEP; i++) p->phase[i] = 0;
  memset(p->seconds, 0, 2 * (size_t)p->g->n_nodes * sizeof *p->seconds);
  for (int i = 0; i < p->n_groups; i++) {
    p->group[i].calls[0] = p->group[i].calls[1] = 0;
    p->group[i].cost = (tl_cost){0};
  }
  p->steps = p->updates = p->micro = 0;
  p->first_done = true;
}

double tl_profiler_begin_step(tl_profiler *p) {
  if (!p) return 0;
  if (p->steps == 1 && !p->first_done) forget_first(p);
  return tl_now();
}

void tl_profiler_end_step(tl_profiler *p, double start) {
  if (!p) return;
  tl_profiler_add(p, TL_PHASE_STEP, start);
  p->steps++;
}

/* --- the report ----------------------------------------------------------------------------- */

static tl_profile_row *add_row(tl_profile *r, const char *name, const char *pass, double calls,
                               double seconds, double flops, double bytes) {
  tl_profile_row *row = &r->row[r->n++];
  double steps = fmax(1, (double)r->steps);
  *row = (tl_profile_row){.pass = pass,
                          .calls = calls / steps,
                          .seconds = seconds / steps,
                          .flops = flops / steps,
                          .bytes = bytes / steps};
  snprintf(row->name, sizeof row->name, "%s", name);
  row->floor = fmax(row->flops / (r->gflops * 1e9), row->bytes / (r->gbytes * 1e9));
  return row;
}

static void add_operators(const tl_profiler *p, tl_profile *r) {
  const tl_graph *g = p->g;
  for (int k = 0; k < p->n_groups; k++) {
    const group *o = &p->group[k];
    double seconds[2] = {0};
    for (int i = 0; i < 2 * g->n_nodes; i++)
      if (p->group_of[i % g->n_nodes] == k) seconds[i / g->n_nodes] += p->seconds[i];
    tl_cost c = o->cost;
    bool both = o->op->grad_in_forward;
    tl_profile_row *row =
        add_row(r, o->op->name, both ? "both" : "forward", o->calls[0], seconds[0],
                c.flops_fwd + both * c.flops_bwd, c.bytes_fwd + both * c.bytes_bwd);
    for (int pass = 0; pass < 2; pass++) {
      if (pass == 1 && o->calls[1] == 0) continue;
      if (pass == 1)
        row =
            add_row(r, o->op->name, "backward", o->calls[1], seconds[1], c.flops_bwd, c.bytes_bwd);
      if (o->in)
        snprintf(row->shape, sizeof row->shape, "%lld x %lld", (long long)o->in, (long long)o->out);
    }
  }
}

/* An update reads weights, gradients and state, writes weights and state, and packs. */
static double update_bytes(const tl_profiler *p, double values) {
  double sum = 12 * values;
  const tl_graph *g = p->g;
  for (int i = 0; i < tl_optim_n_tensors(p->optim); i++)
    sum += 8 * (double)tl_optim_tensor_at(p->optim, i)->param->n;
  for (const tl_pack *k = g->params->packs; k; k = k->next)
    if (k->kernels == g->ctx->k) sum += (double)k->bytes;
  return sum;
}

static int by_time(const void *a, const void *b) {
  double x = ((const tl_profile_row *)a)->seconds, y = ((const tl_profile_row *)b)->seconds;
  return (x < y) - (x > y);
}

static void add_parts(const tl_profiler *p, tl_profile *r) {
  const double *s = p->phase, steps = (double)r->steps;
  double values = (double)tl_params_count(p->g->params, true);
  double updates = (double)p->updates;
  size_t first = r->n;
  add_row(r, "optimizer", "", updates, s[TL_PHASE_OPTIMIZER], updates * tl_optim_flops(p->optim),
          updates * update_bytes(p, values));
  add_row(r, "weight packing", "", (double)p->micro, s[TL_PHASE_PACKING], 0, 0);
  add_row(r, "gradient norm", "", steps, s[TL_PHASE_NORM], 0, steps * 4 * values);
  add_row(r, "batches", "", steps, s[TL_PHASE_BATCHES], 0, 0);
  add_row(r, "guard", "", steps, s[TL_PHASE_GUARD], 0, 0);
  qsort(r->row + first, r->n - first, sizeof *r->row, by_time);
}

static void fill(const tl_profiler *p, tl_profile *r) {
  add_operators(p, r);
  qsort(r->row, r->n, sizeof *r->row, by_time);
  add_parts(p, r);
  double known = 0, steps = fmax(1, (double)r->steps);
  for (size_t i = 0; i < r->n; i++) known += r->row[i].seconds;
  r->step_seconds = p->phase[TL_PHASE_STEP] / steps;
  add_row(r, "other", "", steps, (r->step_seconds - known) * steps, 0, 0);
  r->first_step = p->first_step;
  r->evaluation = p->phase[TL_PHASE_EVALUATION];
  r->checkpoints = p->phase[TL_PHASE_CHECKPOINTS];
  r->logging = p->phase[TL_PHASE_LOGGING];
  r->outside = r->seconds - p->phase[TL_PHASE_STEP] - r->first_step - r->evaluation -
               r->checkpoints - r->logging;
}

tl_status tl_profiler_report(const tl_profiler *p, double started, tl_profile **out, tl_err *err) {
  enum { N_PARTS = 6 };
  tl_bench_peak peak;
  double now = tl_now();
  TL_TRY(tl_bench_measure_peak(p->g->ctx, &peak, err));
  tl_profile *r = calloc(1, sizeof *r);
  if (r) r->row = calloc(2 * (size_t)p->n_groups + N_PARTS, sizeof *r->row);
  if (!r || !r->row) {
    tl_profile_free(r);
    return tl_fail(err, TL_NOMEM, "profile: out of memory");
  }
  r->dt = p->g->opt.dt;
  r->gflops = peak.gflops[r->dt == TL_BF16];
  r->gbytes = peak.gbytes;
  r->steps = p->steps;
  r->seconds = now - started;
  fill(p, r);
  *out = r;
  return TL_OK;
}

void tl_profile_free(tl_profile *p) {
  if (!p) return;
  free(p->row);
  free(p);
}

static json_t *row_json(const tl_profile *p, const tl_profile_row *r) {
  double s = r->seconds > 0 ? r->seconds : INFINITY;
  return json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "name", r->name,
                   "shape", r->shape, "pass", r->pass, "calls", r->calls, "seconds", r->seconds,
                   "share", p->step_seconds > 0 ? r->seconds / p->step_seconds : 0, "flops",
                   r->flops, "gflops", r->flops / s * 1e-9, "peak", r->flops / s * 1e-9 / p->gflops,
                   "bytes", r->bytes, "gbytes_per_second", r->bytes / s * 1e-9, "floor_seconds",
                   r->floor);
}

char *tl_profile_json(const tl_profile *p) {
  json_t *rows = json_array();
  for (size_t i = 0; i < p->n; i++) json_array_append_new(rows, row_json(p, &p->row[i]));
  json_t *doc = json_pack(
      "{s:i, s:I, s:f, s:s, s:f, s:f, s:o, s:{s:f, s:f, s:f, s:f, s:f}, s:f}", "schema_version", 1,
      "steps", (json_int_t)p->steps, "step_seconds", p->step_seconds, "dtype", tl_dtype_name(p->dt),
      "peak_gflops", p->gflops, "memory_gbytes_per_second", p->gbytes, "rows", rows, "outside",
      "first_step", p->first_step, "evaluation", p->evaluation, "checkpoints", p->checkpoints,
      "logging", p->logging, "other", p->outside, "seconds", p->seconds);
  char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
  json_decref(doc);
  return text;
}
