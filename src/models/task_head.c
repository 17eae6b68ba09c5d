#include "models/task_head.h"

#include <stdio.h>
#include <string.h>

#include "tilth/task_data.h"

static void declare_layers(tl_model *m, tl_declare *d, const tl_task_head_options *o) {
  const tl_head_style *style = &m->arch->task;
  tl_task_head *h = &m->task;
  bool sequence = o->kind == TL_HEAD_SEQUENCE;
  const char *name = sequence ? style->sequence : style->tokens;
  char full[64];
  float std = (float)m->c.init_std;
  h->kind = o->kind;
  h->n_outputs = o->n_outputs;
  h->dropout = o->dropout;
  snprintf(h->problem, sizeof h->problem, "%s", o->problem ? o->problem : "");
  h->smoothing = o->smoothing;
  h->void_id = o->void_id;
  if (o->kind == TL_HEAD_MASKS) {
    tl_mask_head_declare(m, d);
    return;
  }
  if (m->arch->declare_classes) {
    m->arch->declare_classes(m, d);
    return;
  }
  if (sequence && style->pooler) {
    snprintf(full, sizeof full, "%s.weight", style->pooler);
    h->pool_w = tl_declare_matrix(d, full, m->c.dim, m->c.dim, std, true);
    snprintf(full, sizeof full, "%s.bias", style->pooler);
    h->pool_b = tl_declare_vector(d, full, m->c.dim, 0);
  }
  snprintf(full, sizeof full, "%s.weight", name);
  h->w = tl_declare_matrix(d, full, o->n_outputs, m->c.dim, std, false);
  snprintf(full, sizeof full, "%s.bias", name);
  if (!sequence || style->sequence_bias) h->b = tl_declare_vector(d, full, o->n_outputs, 0);
}

static void declare_head(tl_model *m, tl_declare *d, void *user) {
  const tl_task_head_options *o = user;
  if (o->kind != TL_HEAD_NONE) declare_layers(m, d, o);
  if (o->extra) o->extra(m, d, o->user);
}

static bool copy_names(tl_model *m, const tl_task_head_options *o) {
  if (!o->name) return true;
  char **name = tl_arena_alloc(&m->arena, (size_t)o->n_outputs * sizeof *name);
  for (int i = 0; name && i < o->n_outputs; i++)
    if (!(name[i] = tl_arena_strdup(&m->arena, o->name[i]))) return false;
  m->task.name = name;
  return name != NULL;
}

tl_status tl_model_new_task(const tl_model_config *config, const tl_task_head_options *o,
                            uint64_t seed, bool with_grads, tl_model **out, tl_err *err) {
  tl_model *m = NULL;
  tl_task_head_options copy = *o;
  const tl_arch *arch = tl_arch_find(config->type);
  if (o->kind != TL_HEAD_NONE && arch && !arch->task.hf_stem)
    return tl_fail(err, TL_CONFIG, "model.type %s has no task heads; use task.type=translate",
                   arch->name);
  TL_TRY(tl_model_new_with(config, seed, with_grads, declare_head, &copy, &m, err));
  if (!copy_names(m, o)) {
    tl_model_free(m);
    return tl_fail(err, TL_NOMEM, "task head: out of memory for %d label names", o->n_outputs);
  }
  *out = m;
  return TL_OK;
}

static tl_status load(const char *name, const tl_hf_task *t, tl_model **m, tl_err *err) {
  tl_model_config c;
  tl_model_place place;
  tl_labels labels = {0};
  TL_TRY(tl_model_read_config(name, &c, err));
  TL_TRY(tl_model_locate(name, &place, err));
  tl_status s = tl_labels_read(place.described, &labels, err);
  tl_model_place_free(&place);
  TL_TRY(s);
  tl_task_head_options o = {.kind = t->kind,
                            .n_outputs = labels.n,
                            .name = (const char *const *)labels.name,
                            .problem = t->problem,
                            .void_id = t->void_id};
  s = tl_model_new_task(&c, &o, 0, false, m, err);
  tl_labels_free(&labels);
  if (s == TL_OK) s = tl_model_read_weights(*m, name, err);
  if (s == TL_OK && (*m)->task.w) s = tl_model_require(*m, name, (*m)->task.w, err);
  return s;
}

tl_status tl_model_load_task(const char *name, tl_model **out, tl_err *err) {
  tl_hf_task t;
  tl_model *m = NULL;
  TL_TRY(tl_model_read_task(name, &t, err));
  if (t.kind == TL_HEAD_NONE) return tl_model_load(name, false, out, err);
  tl_status s = load(name, &t, &m, err);
  if (s == TL_OK)
    *out = m;
  else
    tl_model_free(m);
  return s;
}

tl_node *tl_task_head_features(const tl_model *m, tl_graph *g, tl_node *h, tl_node *rows,
                               tl_node *segments) {
  const tl_head_style *style = &m->arch->task;
  bool sequence = m->task.kind == TL_HEAD_SEQUENCE;
  tl_graph_scope(g, "task");
  if (sequence && tl_model_pooling(m) == TL_POOL_MEAN)
    h = tl_segment_mean(g, h, segments);
  else
    h = tl_gather_rows(g, h, rows);
  if (style->head) h = m->arch->head(m, g, h);
  if (sequence && m->task.pool_w) {
    tl_linear_spec pooler = tl_spec1(m->task.pool_w, m->task.pool_b, false);
    pooler.act = TL_ACT_TANH;
    h = tl_linear(g, h, &pooler);
  }
  return tl_dropout_node(g, h, (float)m->task.dropout);
}
