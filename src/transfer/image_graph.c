#include "transfer/image_graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "ops/parallel.h"

static void make_inputs(tl_image_graph *p) {
  tl_graph *g = p->g;
  const tl_model_config *c = &p->model->c;
  int64_t outputs = p->model->task.n_outputs, pixels = c->channels * c->patch * c->patch;
  int64_t patches[] = {p->room * p->n_patches, pixels}, rows = p->room * p->n_rows;
  int64_t segments[] = {p->room, sizeof(tl_segment) / sizeof(int32_t)}, t[] = {p->room, outputs};
  p->dim_images = tl_graph_dim(g, p->room);
  p->dim_patches = tl_graph_dim(g, patches[0]);
  p->dim_rows = p->n_rows == p->n_patches ? p->dim_patches : tl_graph_dim(g, rows);
  tl_graph_scope(g, "input");
  p->io =
      (tl_model_io){.patches = tl_graph_input(g, "patches", g->opt.dt, 2, patches, p->dim_patches),
                    .pos = tl_graph_input(g, "positions", TL_I32, 1, &rows, p->dim_rows),
                    .patch_rows = tl_graph_input(g, "rows", TL_I32, 1, &rows, p->dim_rows),
                    .segments = tl_graph_input(g, "segments", TL_I32, 2, segments, p->dim_images)};
  p->rows = tl_graph_input(g, "first", TL_I32, 1, &p->room, p->dim_images);
  p->targets = tl_graph_input(g, "targets", TL_F32, 2, t, p->dim_images);
}

/* What stays the same from batch to batch. */
static void fill_constants(tl_image_graph *p) {
  int32_t n = (int32_t)p->n_rows, first = p->n_rows != p->n_patches;
  for (int32_t i = 0; i < (int32_t)p->room; i++) {
    ((tl_segment *)p->io.segments->data)[i] =
        (tl_segment){i * n, (i + 1) * n, i * n, (i + 1) * n, 0};
    if (p->rows->live) ((int32_t *)p->rows->data)[i] = i * n;
    for (int32_t r = 0; r < n; r++) {
      ((int32_t *)p->io.pos->data)[i * n + r] = r;
      if (p->io.patch_rows->live)
        ((int32_t *)p->io.patch_rows->data)[i * n + r] =
            r < first ? -1 : i * (int32_t)p->n_patches + r - first;
    }
  }
}

tl_status tl_image_graph_new(tl_ctx *ctx, tl_model *m, tl_dtype dt, int64_t room, bool training,
                             tl_image_graph *p, tl_err *err) {
  int64_t grid = m->c.image_size / m->c.patch;
  tl_graph *g = tl_graph_new(ctx, &m->params, &(tl_graph_options){dt, training});
  *p = (tl_image_graph){
      .model = m, .g = g, .room = room, .n_patches = grid * grid, .n_rows = m->c.max_len};
  if (!g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  make_inputs(p);
  tl_node *h = m->arch->body(m, g, &p->io);
  p->features = tl_task_head_features(m, g, h, p->rows, p->io.segments);
  tl_graph_scope(g, "loss");
  p->loss = tl_soft_cross_entropy(g, tl_linear1(g, p->features, m->task.w, m->task.b), p->targets);
  tl_status s = tl_graph_compile(g, p->loss, &p->features, 1, err);
  if (s == TL_OK)
    fill_constants(p);
  else
    tl_image_graph_free(p);
  return s;
}

void tl_image_graph_free(tl_image_graph *p) {
  tl_graph_free(p->g);
  *p = (tl_image_graph){0};
}

void tl_image_patches(const tl_model_config *c, const float *picture, float *patches) {
  int64_t grid = c->image_size / c->patch, size = c->image_size;
  for (int64_t gy = 0; gy < grid; gy++)
    for (int64_t gx = 0; gx < grid; gx++)
      for (int64_t k = 0; k < c->channels; k++)
        for (int64_t y = 0; y < c->patch; y++, patches += c->patch)
          memcpy(patches, picture + (k * size + gy * c->patch + y) * size + gx * c->patch,
                 (size_t)c->patch * sizeof *patches);
}

void tl_image_graph_set(tl_image_graph *p, int64_t n, const float *patches, const float *targets) {
  const tl_kernels *k = p->g->ctx->k;
  int64_t cols = tl_cols(p->io.patches), outputs = tl_cols(p->targets);
  p->n = n;
  k->row.convert(TL_F32, patches, p->io.patches->dt, p->io.patches->data, n * p->n_patches * cols);
  if (targets)
    memcpy(p->targets->data, targets, (size_t)(n * outputs) * sizeof(float));
  else
    memset(p->targets->data, 0, (size_t)(n * outputs) * sizeof(float));
}

const float *tl_image_graph_run(tl_image_graph *p, const tl_pass *pass) {
  tl_graph_set_dim(p->g, p->dim_images, p->n);
  tl_graph_set_dim(p->g, p->dim_patches, p->n * p->n_patches);
  if (p->dim_rows != p->dim_patches) tl_graph_set_dim(p->g, p->dim_rows, p->n * p->n_rows);
  tl_graph_run(p->g, pass);
  return p->loss->data;
}

/* --- predictions -------------------------------------------------------------------------------
 */

typedef struct batch_job {
  const tl_image_graph *p;
  const tl_image_data *d;
  const size_t *index;
  size_t first;
  const tl_augment *a;
  float *patches, *targets;
  tl_err *err; /* [room]: of each picture */
} batch_job;

static void load_one(void *arg, int64_t i, int worker) {
  (void)worker;
  const batch_job *j = arg;
  const tl_model_config *c = &j->p->model->c;
  size_t at = j->first + (size_t)i, record = j->index ? j->index[at] : at;
  int64_t values = c->channels * c->image_size * c->image_size;
  int64_t outputs = j->p->model->task.n_outputs;
  tl_image m;
  j->err[i].code = TL_OK;
  float *picture = malloc((size_t)values * sizeof *picture);
  if (!picture) {
    tl_fail(&j->err[i], TL_NOMEM, "pictures: out of memory");
    return;
  }
  if (tl_image_get(j->d, record, (int32_t)c->channels, &m, &j->err[i]) == TL_OK &&
      tl_augment_run(j->a, &m, 0, 0, picture, &j->err[i]) == TL_OK)
    tl_image_patches(c, picture, j->patches + i * values);
  tl_image_free(&m);
  free(picture);
  float *t = j->targets + i * outputs;
  memset(t, 0, (size_t)outputs * sizeof *t);
  if (j->d->records.label) t[j->d->records.label[record]] = 1;
}

/* Probabilities of the batch that ran, from the features and the master weights. */
static void read_batch(const tl_image_graph *p, tl_predictions *out, size_t at) {
  tl_task_graph view = {.model = p->model, .g = p->g, .features = p->features, .n_targets = p->n};
  int n = out->n_outputs;
  tl_task_graph_logits(&view, out->output + at * (size_t)n);
  for (int64_t i = 0; i < p->n; i++) {
    float *x = out->output + (at + (size_t)i) * (size_t)n;
    int best = 0;
    for (int k = 1; k < n; k++)
      if (x[k] > x[best]) best = k;
    double max = (double)x[best], sum = 0;
    for (int k = 0; k < n; k++) sum += exp((double)x[k] - max);
    for (int k = 0; k < n; k++) x[k] = (float)(exp((double)x[k] - max) / sum);
    out->label[at + (size_t)i] = best;
  }
}

static tl_status run_batches(tl_image_graph *p, batch_job *j, size_t n, tl_predictions *out,
                             tl_err *err) {
  double loss = 0;
  for (size_t at = 0; at < n; at += (size_t)p->room) {
    int64_t m = (int64_t)(n - at) < p->room ? (int64_t)(n - at) : p->room;
    j->first = at;
    tl_parallel(p->g->ctx->pool, m, load_one, j);
    for (int64_t i = 0; i < m; i++)
      if (j->err[i].code != TL_OK) return tl_fail(err, j->err[i].code, "%s", j->err[i].msg);
    tl_image_graph_set(p, m, j->patches, j->targets);
    loss += (double)tl_image_graph_run(p, &(tl_pass){.loss_scale = 1})[TL_LOSS_SUM];
    read_batch(p, out, at);
    if (tl_ctx_cancelled(p->g->ctx)) return tl_fail(err, TL_PREEMPTED, "stopped by request");
  }
  if (j->d->records.label && n > 0) out->loss = loss / (double)n;
  return TL_OK;
}

tl_status tl_image_graph_predict(tl_image_graph *p, const tl_image_data *d, const size_t *index,
                                 size_t n, const tl_augment *a, tl_predictions *out, tl_err *err) {
  const tl_model_config *c = &p->model->c;
  size_t values = (size_t)(c->channels * c->image_size * c->image_size), room = (size_t)p->room;
  int outputs = p->model->task.n_outputs;
  *out = (tl_predictions){.n = n, .n_outputs = outputs, .loss = NAN};
  out->output = malloc((n * (size_t)outputs + 1) * sizeof *out->output);
  out->label = malloc((n + 1) * sizeof *out->label);
  batch_job j = {.p = p,
                 .d = d,
                 .index = index,
                 .a = a,
                 .patches = malloc(room * values * sizeof(float)),
                 .targets = malloc(room * (size_t)outputs * sizeof(float)),
                 .err = calloc(room, sizeof *j.err)};
  tl_status s = out->output && out->label && j.patches && j.targets && j.err
                    ? run_batches(p, &j, n, out, err)
                    : tl_fail(err, TL_NOMEM, "predictions: out of memory for %zu pictures", n);
  free(j.patches);
  free(j.targets);
  free(j.err);
  if (s != TL_OK) tl_predictions_free(out);
  return s;
}
