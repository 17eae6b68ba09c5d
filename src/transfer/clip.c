#include "transfer/clip.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "transfer/embed.h"
#include "transfer/picture_objective.h"

/* --- parts -------------------------------------------------------------------------------------
 */

tl_status tl_clip_text_config(const tl_config *c, int64_t vocab, tl_model_config *out,
                              tl_err *err) {
  if (c->objective.text_dim % c->objective.text_heads)
    return tl_fail(err, TL_CONFIG,
                   "objective.text_dim %lld is not a multiple of objective.text_heads %lld",
                   (long long)c->objective.text_dim, (long long)c->objective.text_heads);
  *out = (tl_model_config){.type = "encoder",
                           .dim = c->objective.text_dim,
                           .layers = c->objective.text_layers,
                           .heads = c->objective.text_heads,
                           .vocab = (vocab + 63) / 64 * 64,
                           .max_len = c->objective.text_len,
                           .dropout = c->model.dropout,
                           .attention_dropout = c->model.attention_dropout,
                           .init_std = c->model.init_std,
                           .tie = true};
  return TL_OK;
}

static tl_status check(const tl_config *c, tl_err *err) {
  tl_model_config mc;
  if (!*c->data.tokenizer)
    return tl_fail(err, TL_CONFIG,
                   "objective.type clip reads captions: set data.tokenizer (a folder, "
                   "tokenizer.json, or bytes)");
  if (c->train.batch < 2)
    return tl_fail(err, TL_CONFIG,
                   "objective.type clip compares the pictures and captions of a batch: train.batch "
                   "must be at least 2");
  return tl_clip_text_config(c, 1, &mc, err);
}

static tl_param *projection(tl_declare *d, const char *name, int64_t out, int64_t in) {
  return tl_declare_matrix(d, name, out, in, (float)(1 / sqrt((double)in)), false);
}

static void declare(tl_declare *d, const tl_model *m, const tl_config *c, tl_picture_parts *parts) {
  tl_clip_parts *p = &parts->clip;
  tl_model_config mc;
  int64_t width = c->objective.projection;
  if (d->err.code != TL_OK || tl_clip_text_config(c, p->vocab, &mc, &d->err) != TL_OK) return;
  p->text = tl_model_declare_within((tl_model *)(uintptr_t)m, d, &mc);
  p->visual = projection(d, TL_CLIP_VISUAL, width, m->c.dim);
  p->textual = projection(d, TL_CLIP_TEXTUAL, width, mc.dim);
  p->log_scale = tl_declare_vector(d, TL_CLIP_SCALE, 1, (float)-log(c->objective.temperature));
}

tl_status tl_clip_save(const tl_clip_parts *p, const tl_params *params, const tl_tokenizer *tok,
                       const char *dir, tl_err *err) {
  tl_model *m = NULL;
  tl_param *const own[] = {p->visual, p->textual, p->log_scale};
  tl_st_tensor t[3];
  for (int i = 0; i < 3; i++) t[i] = tl_param_tensor(own[i], own[i]->name, own[i]->data);
  TL_TRY(tl_model_new(&p->text->c, 0, false, &m, err));
  for (int i = 0; i < m->params.n; i++) {
    tl_param *to = m->params.p[i];
    memcpy(to->data, tl_params_find(params, to->name)->data, (size_t)to->n * sizeof *to->data);
  }
  char *text = tl_path_join(dir, TL_CLIP_TEXT), *file = tl_path_join(dir, TL_CLIP_FILE);
  tl_status s = text && file ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  if (s == TL_OK) s = tl_model_save(m, tok, text, err);
  if (s == TL_OK) s = tl_st_write(file, t, 3, NULL, 0, NULL, NULL, err);
  free(text);
  free(file);
  tl_model_free(m);
  return s;
}

/* --- graph -------------------------------------------------------------------------------------
 */

static tl_node *loss(tl_picture_graph *p) {
  tl_graph *g = p->g;
  tl_clip_graph *c = &p->clip;
  const tl_clip_parts *parts = &p->parts->clip;
  int64_t room = p->n * parts->text->c.max_len, mask[] = {2 * p->n, 2 * p->n};
  tl_node *x = tl_picture_features(p);
  c->dim_tokens = tl_graph_dim(g, room);
  c->io = tl_model_inputs(parts->text, g, c->dim_tokens, room, 0, p->n);
  c->mask = tl_graph_input(g, "mask", g->opt.dt, 2, mask, 0);
  tl_node *y = tl_segment_mean(g, parts->text->arch->body(parts->text, g, &c->io), c->io.segments);
  tl_graph_scope(g, "clip");
  x = tl_unit_rows(g, tl_linear1(g, x, parts->visual, NULL));
  y = tl_unit_rows(g, tl_linear1(g, y, parts->textual, NULL));
  return tl_clip_loss(g, x, y, parts->log_scale, c->mask, &c->rows);
}

void tl_clip_set(tl_picture_graph *p, const tl_task_samples *s, const int32_t *text) {
  int64_t at = 0;
  for (int64_t i = 0; i < p->n; i++) {
    int64_t begin = s->start[text[i]], n = s->start[text[i] + 1] - begin;
    tl_embed_put(p->parts->clip.text, &p->clip.io, at, i, s->token + begin, n);
    at += n;
  }
  tl_graph_set_dim(p->g, p->clip.dim_tokens, at);
  tl_clip_mask(p->clip.mask, text);
}

void tl_clip_rows(const tl_picture_graph *p, float *pictures, float *texts) {
  const tl_node *z = p->clip.rows;
  int64_t values = p->n * tl_cols(z);
  for (int64_t i = 0; i < values; i++) {
    pictures[i] = tl_value(z, i);
    texts[i] = tl_value(z, values + i);
  }
}

const tl_picture_objective tl_picture_objective_clip = {
    .name = "clip", .views = 1, .captions = true, .check = check, .declare = declare, .loss = loss};
