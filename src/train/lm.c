#include "train/lm.h"

#include <string.h>

tl_status tl_lm_check(const tl_arch *a, const tl_objective *o, tl_err *err) {
  if (a->image)
    return tl_fail(err, TL_CONFIG, "model.type %s reads pictures; use task.type=image_classify",
                   a->name);
  if (a->seq2seq ? o->seq2seq : a->encoder ? o->encoder : o->decoder) return TL_OK;
  return tl_fail(err, TL_CONFIG, "objective.type %s does not fit model.type %s (%s); use %s",
                 o->name, a->name,
                 a->seq2seq   ? "an encoder-decoder"
                 : a->encoder ? "an encoder"
                              : "a decoder",
                 a->seq2seq   ? "denoise or span_corruption"
                 : a->encoder ? "masked or hybrid"
                              : "next_token or hybrid");
}

tl_status tl_lm_new(tl_ctx *ctx, tl_model *m, const tl_objective *o, const tl_lm_options *options,
                    tl_lm *lm, tl_err *err) {
  *lm = (tl_lm){.model = m, .objective = o};
  TL_TRY(tl_lm_check(m->arch, o, err));
  tl_graph *g = tl_graph_new(ctx, &m->params, &(tl_graph_options){options->dt, options->training});
  if (!g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  lm->g = g;
  int64_t n = options->max_tokens;
  lm->dim_tokens = tl_graph_dim(g, n);
  lm->dim_segments = tl_graph_dim(g, n);
  lm->dim_targets = o->selects ? tl_graph_dim(g, n) : lm->dim_tokens;
  lm->io = tl_model_inputs(m, g, lm->dim_tokens, n, lm->dim_segments, n);
  if (o->seq2seq) {
    lm->dim_source = tl_graph_dim(g, n);
    tl_model_source(g, &lm->io, lm->dim_source, n, lm->dim_segments, n);
  }
  lm->targets = tl_graph_input(g, "targets", TL_I32, 1, &n, lm->dim_targets);
  if (o->selects) lm->idx = tl_graph_input(g, "selected", TL_I32, 1, &n, lm->dim_targets);
  tl_node *h = m->arch->body(m, g, &lm->io);
  if (o->selects) h = tl_gather_rows(g, h, lm->idx);
  h = tl_model_head(m, g, h);
  tl_graph_scope(g, "loss");
  lm->loss = tl_cross_entropy(g, h, lm->targets,
                              &(tl_xent_spec){.w = m->out_w,
                                              .b = m->out_b,
                                              .smoothing = (float)options->smoothing,
                                              .z_loss = (float)options->z_loss});
  tl_status s = tl_graph_compile(g, lm->loss, NULL, 0, err);
  if (s != TL_OK) tl_lm_free(lm);
  return s;
}

void tl_lm_free(tl_lm *lm) {
  tl_graph_free(lm->g);
  *lm = (tl_lm){0};
}

static void fill(tl_node *input, const void *data, int64_t n, size_t size) {
  if (input && input->live) memcpy(input->data, data, (size_t)n * size);
}

tl_lm_loss tl_lm_run(tl_lm *lm, const tl_batch *b, const tl_pass *run) {
  tl_graph *g = lm->g;
  tl_graph_set_dim(g, lm->dim_tokens, b->n_tokens);
  tl_graph_set_dim(g, lm->dim_segments, b->n_segments);
  if (lm->objective->selects) tl_graph_set_dim(g, lm->dim_targets, b->n_targets);
  fill(lm->io.tokens, b->tokens, b->n_tokens, sizeof *b->tokens);
  fill(lm->io.pos, b->pos, b->n_tokens, sizeof *b->pos);
  fill(lm->io.segments, b->segments, b->n_segments, sizeof *b->segments);
  if (lm->objective->seq2seq) {
    tl_graph_set_dim(g, lm->dim_source, b->n_source);
    fill(lm->io.src_tokens, b->src_tokens, b->n_source, sizeof *b->src_tokens);
    fill(lm->io.src_pos, b->src_pos, b->n_source, sizeof *b->src_pos);
    fill(lm->io.src_segments, b->src_segments, b->n_segments, sizeof *b->src_segments);
    fill(lm->io.cross, b->cross, b->n_segments, sizeof *b->cross);
  }
  fill(lm->idx, b->idx, b->n_targets, sizeof *b->idx);
  fill(lm->targets, b->targets, b->n_targets, sizeof *b->targets);
  tl_graph_run(g, run);
  const float *l = lm->loss->data;
  return (tl_lm_loss){l[TL_LOSS_SUM], l[TL_LOSS_Z], l[TL_LOSS_COUNT], l[TL_LOSS_CORRECT]};
}
