#include "core/graph.h"

#include "base/file.h"
#include "base/rng.h"

bool tl_grad_adds(const tl_exec *x, const tl_node *n, int i) {
  bool later = n->grad_add >> i & 1;
  return later || (x->accumulate && n->in[i]->kind == TL_NODE_PARAM);
}

tl_dropout tl_exec_dropout(const tl_exec *x, const tl_node *n, float p) {
  uint64_t key = tl_mix64(x->tick, (uint64_t)n->id);
  return (tl_dropout){.seed = x->seed, .sub = (uint32_t)key, .p = x->training ? p : 0};
}

static void timed(tl_exec *x, tl_node *n, void (*fn)(tl_exec *, tl_node *), int pass) {
  double *seconds = x->g->seconds, start = seconds ? tl_now() : 0;
  fn(x, n);
  if (seconds) seconds[pass * x->g->n_nodes + n->id] += tl_now() - start;
}

/* Before the backward of n: outputs it reads that were not kept. */
static void make_again(tl_exec *x, const tl_node *n) {
  for (int k = 0; k < n->n_in; k++) {
    tl_node *in = n->in[k];
    if (!in || !in->memory[1] || in->again_for != n->id) continue;
    in->data = in->memory[1];
    timed(x, in, in->again, 1);
  }
}

void tl_graph_run(tl_graph *g, const tl_pass *run) {
  tl_exec x = {.ctx = g->ctx,
               .k = g->ctx->k,
               .g = g,
               .training = run->training && g->opt.training && g->loss,
               .accumulate = run->accumulate,
               .loss_scale = run->loss_scale,
               .seed = run->seed,
               .tick = run->tick};
  tl_params_refresh(g->ctx, g->params);
  for (int i = 0; i < g->n_nodes; i++) {
    tl_node *n = g->node[i];
    if (n->kind != TL_NODE_OP || !n->live) continue;
    x.scratch = g->scratch_fwd[i];
    n->data = n->memory[0];
    timed(&x, n, n->op->forward, 0);
  }
  if (!x.training) return;
  for (int i = g->n_nodes - 1; i >= 0; i--) {
    tl_node *n = g->node[i];
    if (n->kind != TL_NODE_OP || !n->needs_grad || !n->op->backward) continue;
    make_again(&x, n);
    x.scratch = g->scratch_bwd[i];
    timed(&x, n, n->op->backward, 1);
  }
}

tl_cost tl_graph_cost(const tl_graph *g) {
  tl_cost sum = {0};
  for (int i = 0; i < g->n_nodes; i++) {
    const tl_node *n = g->node[i];
    if (n->kind != TL_NODE_OP || !n->live || !n->op->cost) continue;
    tl_cost c = {0};
    n->op->cost(g, n, &c);
    sum.flops_fwd += c.flops_fwd;
    sum.bytes_fwd += c.bytes_fwd;
    if (!n->needs_grad) continue;
    sum.flops_bwd += c.flops_bwd;
    sum.bytes_bwd += c.bytes_bwd;
  }
  return sum;
}
