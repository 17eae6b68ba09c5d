#include <stdlib.h>
#include <string.h>

#include "models/task_head.h"
#include "transfer/picture_objective.h"

#define DECLARE(name) extern const tl_picture_objective tl_picture_objective_##name;
TL_PICTURE_OBJECTIVES(DECLARE)
#undef DECLARE

const tl_picture_objective *tl_picture_objective_find(const char *name) {
#define ROW(name) &tl_picture_objective_##name,
  static const tl_picture_objective *const all[] = {TL_PICTURE_OBJECTIVES(ROW)};
#undef ROW
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (!strcmp(all[i]->name, name)) return all[i];
  return NULL;
}

/* --- model -------------------------------------------------------------------------------------
 */

typedef struct extra {
  const tl_picture_objective *o;
  const tl_config *c;
  tl_picture_parts *parts;
} extra;

static void declare_parts(tl_model *m, tl_declare *d, void *user) {
  const extra *x = user;
  int before = d->ps->n;
  x->o->declare(d, m, x->c, x->parts);
  for (int i = before; !x->o->keeps && i < d->ps->n; i++) d->ps->p[i]->flags |= TL_PARAM_HELPER;
}

tl_status tl_picture_model_check(const tl_picture_objective *o, const char *type, tl_err *err) {
  const tl_arch *arch = tl_arch_find(type);
  bool fits = arch && arch->image && !arch->classify;
  if (fits && (!o->patches || arch->layout == TL_LAYOUT_PATCHES)) return TL_OK;
  return tl_fail(err, TL_CONFIG,
                 "objective.type %s needs a model of pictures (model.type=vit), not %s", o->name,
                 type);
}

tl_status tl_picture_model_new(const tl_picture_objective *o, const tl_config *c,
                               const tl_model_config *mc, bool with_grads, tl_picture_parts *parts,
                               tl_model **out, tl_err *err) {
  TL_TRY(tl_picture_model_check(o, mc->type, err));
  extra x = {o, c, parts};
  *parts = (tl_picture_parts){.clip.vocab = mc->vocab};
  if (o->check) TL_TRY(o->check(c, err));
  TL_TRY(tl_model_new_with(mc, (uint64_t)c->run.seed, with_grads, declare_parts, &x, out, err));
  if (o->set_values) o->set_values(*out, parts);
  if (!o->describe || ((*out)->more = o->describe(c, parts))) return TL_OK;
  tl_model_free(*out);
  return tl_fail(err, TL_NOMEM, "model: out of memory");
}

/* --- graph -------------------------------------------------------------------------------------
 */

static void make_inputs(tl_picture_graph *p) {
  tl_graph *g = p->g;
  const tl_model_config *c = &p->model->c;
  tl_picture_shape shape = tl_picture_shape_of(c);
  int64_t rows = p->n * c->max_len, pictures[] = {p->n * shape.rows, shape.cols};
  int64_t segments[] = {p->n, sizeof(tl_segment) / sizeof(int32_t)};
  tl_image_places at = {.segments = calloc((size_t)p->n, sizeof *at.segments),
                        .first = calloc((size_t)p->n, sizeof *at.first),
                        .pos = calloc((size_t)rows, sizeof *at.pos),
                        .patch_rows = calloc((size_t)rows, sizeof *at.patch_rows)};
  p->values = shape.rows * shape.cols;
  if (at.segments && at.first && at.pos && at.patch_rows) {
    tl_image_places_fill(c, p->n, &at);
    p->io = (tl_model_io){
        .pictures = tl_graph_input(g, "pictures", g->opt.dt, 2, pictures, 0),
        .pos = tl_graph_constant(g, "positions", TL_I32, 1, &rows, at.pos),
        .patch_rows = tl_graph_constant(g, "rows", TL_I32, 1, &rows, at.patch_rows),
        .segments = tl_graph_constant(g, "segments", TL_I32, 2, segments, at.segments)};
    p->first = tl_graph_constant(g, "first", TL_I32, 1, &p->n, at.first);
  } else {
    tl_graph_fail(g, TL_NOMEM, "pictures: out of memory for batches of %lld", (long long)p->n);
  }
  free(at.segments);
  free(at.first);
  free(at.pos);
  free(at.patch_rows);
}

tl_node *tl_picture_features(tl_picture_graph *p) {
  tl_node *h = p->model->arch->body(p->model, p->g, &p->io);
  tl_graph_scope(p->g, "features");
  if (tl_model_pooling(p->model) == TL_POOL_MEAN) return tl_segment_mean(p->g, h, p->io.segments);
  return tl_gather_rows(p->g, h, p->first);
}

static void build(tl_picture_graph *p, bool teacher) {
  tl_graph_scope(p->g, "input");
  if (p->objective->inputs)
    p->objective->inputs(p);
  else
    make_inputs(p);
  if (p->g->err.code != TL_OK) return;
  if (teacher) {
    p->out = p->objective->teach(p);
    return;
  }
  if (p->objective->taught) p->taught = p->objective->taught(p);
  p->out = p->objective->loss(p);
}

tl_status tl_picture_graph_new(tl_ctx *ctx, const tl_picture_objective *o, const tl_config *c,
                               tl_model *m, const tl_picture_parts *parts, tl_dtype dt,
                               bool teacher, tl_picture_graph *p, tl_err *err) {
  *p = (tl_picture_graph){.objective = o,
                          .cfg = c,
                          .model = m,
                          .parts = parts,
                          .batch = c->train.batch,
                          .n = c->train.batch * o->views,
                          .targets = o->whole ? 1 : c->train.batch * (o->views + o->captions)};
  p->g = tl_graph_new(ctx, &m->params, &(tl_graph_options){dt, !teacher});
  if (!p->g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  p->g->batch_moments = teacher;
  build(p, teacher);
  tl_node *outputs[3] = {p->out};
  int n_outputs = 1;
  if (p->mae.made) outputs[n_outputs++] = p->mae.made;
  if (p->clip.rows) outputs[n_outputs++] = p->clip.rows;
  tl_status s = tl_graph_compile(p->g, teacher ? NULL : p->out, outputs, n_outputs, err);
  if (s != TL_OK) tl_picture_graph_free(p);
  return s;
}

void tl_picture_graph_free(tl_picture_graph *p) {
  tl_graph_free(p->g);
  *p = (tl_picture_graph){0};
}

static void run(tl_picture_graph *p, const float *pictures, uint64_t position,
                const tl_pass *pass) {
  tl_node *to = p->io.pictures;
  if (p->objective->fill)
    p->objective->fill(p, pictures, position);
  else
    p->g->ctx->k->row.convert(TL_F32, pictures, to->dt, to->data, p->n * p->values);
  tl_graph_run(p->g, pass);
}

const float *tl_picture_graph_run(tl_picture_graph *p, tl_picture_graph *teacher,
                                  const float *pictures, uint64_t position, const tl_pass *pass) {
  if (p->taught) {
    const tl_node *from = teacher->out;
    run(teacher, pictures, position, &(tl_pass){0});
    p->g->ctx->k->row.convert(from->dt, from->data, p->taught->dt, p->taught->data,
                              tl_count(teacher->g, from));
  }
  run(p, pictures, position, pass);
  return p->out->data;
}
