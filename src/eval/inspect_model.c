/* What the inspection measures in a model. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "eval/inspect.h"
#include "kernels/attn.h"
#include "ops/parallel.h"

/* --- the forward graph -------------------------------------------------------------------------
 */

/* The attention operators and, to keep, the projections that they read; the logits first. */
static tl_status compile(tl_inspector *p, tl_err *err) {
  tl_node **keep = malloc(((size_t)p->layers + 1) * sizeof *keep);
  p->attn = malloc(((size_t)p->layers + 1) * sizeof *p->attn);
  int n = 0;
  if (!keep || !p->attn) {
    free(keep);
    return tl_fail(err, TL_NOMEM, "inspection: out of memory");
  }
  keep[0] = p->logits;
  for (int i = 0; i < p->g->n_nodes && n < p->layers; i++) {
    if (p->g->node[i]->op != &tl_op_attention) continue;
    p->attn[n++] = p->g->node[i];
    keep[n] = p->g->node[i]->in[0];
  }
  tl_status s = tl_graph_compile(p->g, NULL, keep, n + 1, err);
  free(keep);
  if (s == TL_OK && n != p->layers)
    s = tl_fail(err, TL_INTERNAL, "%d attention operators in %d layers", n, p->layers);
  return s;
}

tl_status tl_inspector_open(tl_ctx *ctx, tl_model *m, int64_t max, tl_inspector *p, tl_err *err) {
  *p = (tl_inspector){.ctx = ctx,
                      .model = m,
                      .max = max,
                      .layers = (int)m->n_blocks,
                      .heads = (int)m->c.heads,
                      .causal = !m->arch->encoder && !m->c.shifted};
  if (m->arch->seq2seq)
    return tl_fail(err, TL_CONFIG, "an encoder-decoder (%s) cannot be inspected", m->arch->name);
  p->g = tl_graph_new(ctx, &m->params, &(tl_graph_options){.dt = TL_F32});
  if (!p->g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  p->dim = tl_graph_dim(p->g, max);
  p->io = tl_model_inputs(m, p->g, p->dim, max, 0, 1);
  p->logits = tl_model_logits(m, p->g, m->arch->body(m, p->g, &p->io));
  tl_status s = compile(p, err);
  if (s != TL_OK) tl_inspector_close(p);
  return s;
}

void tl_inspector_close(tl_inspector *p) {
  tl_graph_free(p->g);
  free(p->attn);
  *p = (tl_inspector){0};
}

static void put_window(const tl_model_io *io, int64_t at, int64_t segment, const int32_t *token,
                       int64_t n, bool causal) {
  int32_t q0 = (int32_t)at, q1 = (int32_t)(at + n);
  memcpy((int32_t *)io->tokens->data + at, token, (size_t)n * sizeof *token);
  for (int64_t i = 0; io->pos->live && i < n; i++) ((int32_t *)io->pos->data)[at + i] = (int32_t)i;
  ((tl_segment *)io->segments->data)[segment] = (tl_segment){q0, q1, q0, q1, causal};
}

void tl_inspector_run(tl_inspector *p, const int32_t *token, int64_t n) {
  p->n = n;
  put_window(&p->io, 0, 0, token, n, p->causal);
  tl_graph_set_dim(p->g, p->dim, n);
  tl_graph_run(p->g, &(tl_pass){.loss_scale = 1});
}

/* The kernels never hold a row of probabilities; here it is, from their queries and keys. */
void tl_attention_row(const tl_node *a, const tl_segment *seg, int head, int row, float *out) {
  const tl_attention_spec *s = a->attr; /* the operator's first member */
  int64_t ld = tl_cols(a->in[0]);
  const float *x = a->in[0]->data, *keys = x + seg->k0 * ld;
  tl_attn_span span = tl_attn_keys(seg, s->window, row);
  const float *q = x + (seg->q0 + row) * ld + s->q_col + (int64_t)head * s->hd;
  int64_t k_col = s->k_col + (int64_t)(head / (s->n_heads / s->n_kv)) * s->hd;
  double scale = s->scale != 0 ? (double)s->scale : 1 / sqrt((double)s->hd);
  double max = -INFINITY, sum = 0;
  memset(out, 0, (size_t)(seg->k1 - seg->k0) * sizeof *out);
  for (int j = span.lo; j < span.hi; j++) {
    double dot = 0;
    for (int c = 0; c < s->hd; c++) dot += (double)q[c] * (double)keys[j * ld + k_col + c];
    out[j] = (float)(dot * scale);
    if ((double)out[j] > max) max = (double)out[j];
  }
  for (int j = span.lo; j < span.hi; j++) sum += exp((double)out[j] - max);
  for (int j = span.lo; j < span.hi; j++) out[j] = (float)(exp((double)out[j] - max) / sum);
}

typedef struct map_job {
  const tl_inspector *p;
  const tl_node *attn;
  int head;
  float *map;
} map_job;

static void map_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const map_job *j = arg;
  const tl_segment seg = {0, (int32_t)j->p->n, 0, (int32_t)j->p->n, j->p->causal};
  for (int64_t r = begin; r < end; r++)
    tl_attention_row(j->attn, &seg, j->head, (int)r, j->map + r * j->p->n);
}

void tl_inspector_attention(const tl_inspector *p, int layer, int head, float *map) {
  tl_parallel_ranges(p->ctx, p->n, 8, map_rows, &(map_job){p, p->attn[layer], head, map});
}

typedef struct loss_job {
  const tl_inspector *p;
  const int32_t *target;
  double *loss;
} loss_job;

static void loss_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const loss_job *j = arg;
  int64_t v = j->p->model->c.vocab;
  for (int64_t r = begin; r < end; r++) {
    const float *x = (const float *)j->p->logits->data + r * v;
    double max = -INFINITY, sum = 0;
    j->loss[r] = 0;
    if (j->target[r] < 0) continue;
    for (int64_t i = 0; i < v; i++) max = (double)x[i] > max ? (double)x[i] : max;
    for (int64_t i = 0; i < v; i++) sum += exp((double)x[i] - max);
    j->loss[r] = log(sum) + max - (double)x[j->target[r]];
  }
}

void tl_inspector_losses(const tl_inspector *p, const int32_t *target, double *loss) {
  tl_parallel_ranges(p->ctx, p->n, 4, loss_rows, &(loss_job){p, target, loss});
}

/* --- ablation ----------------------------------------------------------------------------------
 */

/* Copies a head's part of the output projection into kept (NULL: not) and sets it to `from` (NULL:
 * zeros). */
static void swap_head(tl_inspector *p, int layer, int head, float *kept, const float *from) {
  const tl_self_attention *a = &p->model->block[layer].attn;
  tl_param *w = a->out.w[0];
  int64_t in = (int64_t)a->n_heads * a->hd, out = p->model->c.dim;
  for (int64_t c = 0; c < a->hd; c++)
    for (int64_t o = 0; o < out; o++) {
      int64_t i = head * a->hd + c, at = a->out.conv1d ? i * out + o : o * in + i;
      if (kept) kept[c * out + o] = w->data[at];
      w->data[at] = from ? from[c * out + o] : 0;
    }
  tl_params_changed(&p->model->params);
}

void tl_inspector_ablate(tl_inspector *p, int layer, int head, float *kept) {
  swap_head(p, layer, head, kept, NULL);
}

void tl_inspector_restore(tl_inspector *p, int layer, int head, const float *kept) {
  swap_head(p, layer, head, NULL, kept);
}

/* --- induction ---------------------------------------------------------------------------------
 */

static void add_scores(const tl_inspector *p, int64_t half, int64_t sequences, float *map,
                       tl_induction *x) {
  int64_t n = p->n;
  double share = 1 / ((double)(half - 1) * (double)sequences);
  for (int i = 0; i < p->layers * p->heads; i++) {
    tl_inspector_attention(p, i / p->heads, i % p->heads, map);
    /* The last token of the repetition is left out for all: behind its first occurrence the
     * repetition itself begins. */
    for (int64_t q = half; q < n - 1; q++) {
      x->induction[i] += share * (double)map[q * n + q - half + 1];
      x->previous[i] += share * (double)map[q * n + q - 1];
      x->duplicate[i] += share * (double)map[q * n + q - half];
    }
  }
}

tl_status tl_inspect_induction(tl_inspector *p, int64_t vocab, int64_t half, int64_t sequences,
                               uint64_t seed, tl_induction *x, tl_err *err) {
  int64_t n = 2 * half;
  size_t all = (size_t)(p->layers * p->heads);
  *x = (tl_induction){calloc(all, sizeof(double)), calloc(all, sizeof(double)),
                      calloc(all, sizeof(double)), 0, 0};
  float *map = malloc((size_t)(n * n) * sizeof *map);
  int32_t *token = malloc(2 * (size_t)n * sizeof *token), *target = token ? token + n : NULL;
  double *loss = malloc((size_t)n * sizeof *loss);
  tl_status s = TL_OK;
  if (!x->induction || !x->previous || !x->duplicate || !map || !token || !loss)
    s = tl_fail(err, TL_NOMEM, "inspection: out of memory");
  for (int64_t k = 0; s == TL_OK && k < sequences; k++) {
    tl_rng r = tl_rng_make(seed, TL_STREAM_SAMPLE, (uint32_t)k, 0);
    for (int64_t i = 0; i < n; i++)
      token[i] = i < half ? (int32_t)tl_rng_below(&r, (uint64_t)vocab) : token[i - half];
    for (int64_t i = 0; i < n; i++) target[i] = i + 1 < n ? token[i + 1] : -1;
    tl_inspector_run(p, token, n);
    tl_inspector_losses(p, target, loss);
    /* Row half - 1 foretells the first token of the repetition, which nothing tells. */
    for (int64_t i = 0; i < half - 1; i++) {
      x->loss_first += loss[i] / ((double)(half - 1) * (double)sequences);
      x->loss_repeat += loss[half + i] / ((double)(half - 1) * (double)sequences);
    }
    add_scores(p, half, sequences, map, x);
    if (tl_ctx_cancelled(p->ctx)) s = tl_fail(err, TL_PREEMPTED, "stopped by request");
  }
  free(map);
  free(token);
  free(loss);
  if (s != TL_OK) tl_induction_free(x);
  return s;
}

void tl_induction_free(tl_induction *x) {
  free(x->induction);
  free(x->previous);
  free(x->duplicate);
  *x = (tl_induction){0};
}

/* --- gradients ---------------------------------------------------------------------------------
 */

typedef struct gradient_graph {
  tl_graph *g;
  tl_model_io io;
  tl_node *rows, *targets;
  int64_t n_targets;
} gradient_graph;

static int64_t count_targets(const tl_inspect_window *w, int64_t n) {
  int64_t targets = 0;
  for (int64_t k = 0; k < n; k++)
    for (int64_t i = 0; i < w[k].n; i++) targets += w[k].target[i] >= 0;
  return targets;
}

static tl_status build(gradient_graph *p, tl_ctx *ctx, const tl_model *m, int64_t tokens,
                       int64_t windows, bool cut_skips, tl_err *err) {
  tl_graph_options o = {.dt = TL_F32, .training = true};
  tl_graph *g = p->g = tl_graph_new(ctx, (tl_params *)(uintptr_t)&m->params, &o);
  if (!g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  g->cut_skips = cut_skips;
  p->io = tl_model_inputs(m, g, 0, tokens, 0, windows);
  p->rows = tl_graph_input(g, "rows", TL_I32, 1, &p->n_targets, 0);
  p->targets = tl_graph_input(g, "targets", TL_I32, 1, &p->n_targets, 0);
  tl_node *h = tl_gather_rows(g, m->arch->body(m, g, &p->io), p->rows);
  tl_node *loss = tl_cross_entropy(g, tl_model_head(m, g, h), p->targets,
                                   &(tl_xent_spec){.w = m->out_w, .b = m->out_b});
  return tl_graph_compile(g, loss, NULL, 0, err);
}

tl_status tl_inspect_gradients(tl_ctx *ctx, tl_model *m, const tl_inspect_window *w, int64_t n,
                               bool cut_skips, double *out, tl_err *err) {
  gradient_graph p = {.n_targets = count_targets(w, n)};
  int64_t tokens = 0, target = 0;
  bool causal = !m->arch->encoder && !m->c.shifted;
  for (int64_t k = 0; k < n; k++) tokens += w[k].n;
  if (p.n_targets == 0) return tl_fail(err, TL_DATA, "too little text to measure gradients on");
  tl_status s = build(&p, ctx, m, tokens, n, cut_skips, err);
  int64_t at = 0;
  for (int64_t k = 0; s == TL_OK && k < n; at += w[k++].n) {
    put_window(&p.io, at, k, w[k].token, w[k].n, causal);
    for (int64_t i = 0; i < w[k].n; i++) {
      if (w[k].target[i] < 0) continue;
      ((int32_t *)p.rows->data)[target] = (int32_t)(at + i);
      ((int32_t *)p.targets->data)[target++] = w[k].target[i];
    }
  }
  if (s == TL_OK) {
    tl_graph_run(p.g, &(tl_pass){.training = true, .loss_scale = 1.0f / (float)p.n_targets});
    for (int64_t i = 0; i < m->n_blocks + 2; i++) out[i] = 0;
    for (int i = 0; i < m->params.n; i++) {
      const tl_param *q = m->params.p[i];
      double *sum = &out[tl_model_group_of(m, q)];
      for (int64_t k = 0; k < q->n; k++) *sum += (double)q->grad[k] * (double)q->grad[k];
    }
    for (int64_t i = 0; i < m->n_blocks + 2; i++) out[i] = sqrt(out[i]);
  }
  tl_graph_free(p.g);
  return s;
}
