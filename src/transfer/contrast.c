#include "transfer/contrast.h"

#include <math.h>
#include <string.h>

/* Anchors (which 0) or the others, pooled: [n, D]. The number of texts is fixed, as matmul wants.
 */
static tl_node *pool(tl_contrast_graph *p, tl_node *h, int which, int64_t n) {
  tl_graph *g = p->g;
  if (p->o.pool == TL_POOL_MEAN) {
    int64_t shape[] = {n, sizeof(tl_segment) / sizeof(int32_t)};
    p->rows[which] = tl_graph_input(g, "texts", TL_I32, 2, shape, 0);
    return tl_segment_mean(g, h, p->rows[which]);
  }
  p->rows[which] = tl_graph_input(g, "rows", TL_I32, 1, &n, 0);
  return tl_gather_rows(g, h, p->rows[which]);
}

tl_status tl_contrast_new(tl_ctx *ctx, tl_model *m, const tl_contrast_options *o,
                          tl_contrast_graph *p, tl_err *err) {
  static const float eps = 1e-10f; /* far below any hidden state's mean square */
  *p = (tl_contrast_graph){.model = m, .o = *o};
  if (m->arch->seq2seq)
    return tl_fail(err, TL_CONFIG, "task.type simcse needs an encoder or a decoder, not %s",
                   m->arch->name);
  tl_graph *g = p->g = tl_graph_new(ctx, &m->params, &(tl_graph_options){o->dt, true});
  if (!g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  int64_t texts = o->batch * o->views;
  p->dim_tokens = tl_graph_dim(g, o->max_tokens);
  p->io = tl_model_inputs(m, g, p->dim_tokens, o->max_tokens, 0, texts);
  tl_node *h = m->arch->body(m, g, &p->io);
  tl_graph_scope(g, "contrast");
  p->pooled[0] = pool(p, h, 0, o->batch);
  p->pooled[1] = pool(p, h, 1, texts - o->batch);
  p->targets = tl_graph_input(g, "targets", TL_I32, 1, &o->batch, 0);
  float scale = (float)(1 / ((double)m->c.dim * o->temperature));
  tl_node *similar = tl_matmul(g, tl_rms_norm(g, p->pooled[0], NULL, eps),
                               tl_rms_norm(g, p->pooled[1], NULL, eps), false, true, scale);
  p->loss = tl_softmax_loss(g, similar, p->targets);
  tl_status s = tl_graph_compile(g, p->loss, p->pooled, 2, err);
  if (s != TL_OK) {
    tl_contrast_free(p);
    return s;
  }
  for (int64_t i = 0; i < o->batch; i++) ((int32_t *)p->targets->data)[i] = (int32_t)i;
  return TL_OK;
}

void tl_contrast_free(tl_contrast_graph *p) {
  tl_graph_free(p->g);
  *p = (tl_contrast_graph){0};
}

void tl_contrast_clear(tl_contrast_graph *p) {
  p->n_tokens = p->n_texts = 0;
}

void tl_contrast_add(tl_contrast_graph *p, const int32_t *token, int64_t n) {
  int64_t text = p->n_texts++, at = p->n_tokens;
  tl_embed_put(p->model, &p->io, at, text, token, n);
  p->n_tokens += n;
  int which = text >= p->o.batch;
  int64_t i = text - which * p->o.batch;
  if (p->o.pool == TL_POOL_MEAN)
    ((tl_segment *)p->rows[which]->data)[i] = ((const tl_segment *)p->io.segments->data)[text];
  else
    ((int32_t *)p->rows[which]->data)[i] =
        (int32_t)(p->o.pool == TL_POOL_FIRST ? at + tl_model_learned_rows(p->model).n : at + n - 1);
}

const float *tl_contrast_pass(tl_contrast_graph *p, const tl_pass *pass) {
  tl_graph_set_dim(p->g, p->dim_tokens, p->n_tokens);
  tl_graph_run(p->g, pass);
  return p->loss->data;
}

void tl_contrast_embeddings(const tl_contrast_graph *p, int which, float *out) {
  const tl_node *x = p->pooled[which];
  int64_t d = tl_cols(x);
  for (int64_t i = 0; i < p->o.batch; i++) {
    double square = 0;
    for (int64_t c = 0; c < d; c++) {
      double v = (double)tl_value(x, i * d + c);
      square += v * v;
    }
    double scale = square > 0 ? 1 / sqrt(square) : 0;
    for (int64_t c = 0; c < d; c++)
      out[i * d + c] = (float)((double)tl_value(x, i * d + c) * scale);
  }
}
