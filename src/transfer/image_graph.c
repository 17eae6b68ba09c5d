#include "transfer/image_graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "ops/parallel.h"

tl_picture_shape tl_picture_shape_of(const tl_model_config *c) {
  int64_t values = c->channels * c->image_size * c->image_size, cols = c->channels;
  if (tl_arch_find(c->type)->layout == TL_LAYOUT_PATCHES) cols *= c->patch * c->patch;
  return (tl_picture_shape){values / cols, cols};
}

static void patch_rows(const tl_model_config *c, const float *picture, float *rows) {
  int64_t grid = c->image_size / c->patch, size = c->image_size;
  for (int64_t gy = 0; gy < grid; gy++)
    for (int64_t gx = 0; gx < grid; gx++)
      for (int64_t k = 0; k < c->channels; k++)
        for (int64_t y = 0; y < c->patch; y++, rows += c->patch)
          memcpy(rows, picture + (k * size + gy * c->patch + y) * size + gx * c->patch,
                 (size_t)c->patch * sizeof *rows);
}

void tl_picture_rows(const tl_model_config *c, const float *picture, float *rows) {
  int64_t pixels = c->image_size * c->image_size;
  if (tl_arch_find(c->type)->layout == TL_LAYOUT_PATCHES) {
    patch_rows(c, picture, rows);
    return;
  }
  for (int64_t k = 0; k < c->channels; k++)
    for (int64_t i = 0; i < pixels; i++) rows[i * c->channels + k] = picture[k * pixels + i];
}

bool tl_image_several(const tl_model *m) {
  return !strcmp(m->task.problem, "multi_label_classification");
}

void tl_image_target(const tl_task_data *d, size_t record, float share, float *t) {
  if (d->label) t[d->label[record]] += share;
  if (d->first)
    for (size_t i = d->first[record]; i < d->first[record + 1]; i++) t[d->item[i]] += share;
}

static void make_inputs(tl_image_graph *p) {
  tl_graph *g = p->g;
  int64_t pictures[] = {p->room * p->shape.rows, p->shape.cols}, rows = p->room * p->n_rows;
  int64_t segments[] = {p->room, sizeof(tl_segment) / sizeof(int32_t)};
  int64_t outputs = p->model->task.n_outputs, targets[] = {p->room, outputs ? outputs : 1};
  int64_t pixels = p->room * p->side * p->side, parts = p->room * tl_mask_rows(p->model);
  p->dim_images = tl_graph_dim(g, p->room);
  int dim_pictures = tl_graph_dim_times(g, p->dim_images, p->shape.rows);
  int dim_rows = tl_graph_dim_times(g, p->dim_images, p->n_rows);
  tl_graph_scope(g, "input");
  p->io =
      (tl_model_io){.pictures = tl_graph_input(g, "pictures", g->opt.dt, 2, pictures, dim_pictures),
                    .pos = tl_graph_input(g, "positions", TL_I32, 1, &rows, dim_rows),
                    .patch_rows = tl_graph_input(g, "rows", TL_I32, 1, &rows, dim_rows),
                    .segments = tl_graph_input(g, "segments", TL_I32, 2, segments, p->dim_images)};
  if (p->side) {
    p->rows = tl_graph_input(g, "parts", TL_I32, 1, &parts,
                             tl_graph_dim_times(g, p->dim_images, parts / p->room));
    p->targets = tl_graph_input(g, "targets", TL_I32, 1, &pixels,
                                tl_graph_dim_times(g, p->dim_images, p->side * p->side));
    p->weights = tl_graph_input(g, "weights", TL_F32, 1, &outputs, 0);
    return;
  }
  p->rows = tl_graph_input(g, "first", TL_I32, 1, &p->room, p->dim_images);
  p->targets = tl_graph_input(g, "targets", TL_F32, 2, targets, p->dim_images);
}

/* The rows that the head reads: the first of each picture, or all but the class token. */
static void fill_rows(tl_image_graph *p) {
  int32_t *to = p->rows->data, n = (int32_t)p->n_rows;
  int32_t parts = p->side ? (int32_t)tl_mask_rows(p->model) : 1;
  int32_t first = p->side ? n - parts : 0;
  for (int32_t i = 0; i < (int32_t)p->room; i++)
    for (int32_t r = 0; r < parts; r++) *to++ = i * n + first + r;
}

void tl_image_places_fill(const tl_model_config *c, int64_t n, const tl_image_places *to) {
  int32_t patches = (int32_t)tl_picture_shape_of(c).rows, rows = (int32_t)c->max_len;
  int32_t first = rows != patches;
  for (int32_t i = 0; i < (int32_t)n; i++) {
    int32_t at = i * rows, end = at + rows;
    if (to->segments) to->segments[i] = (tl_segment){at, end, at, end, 0};
    if (to->first) to->first[i] = at;
    for (int32_t r = 0; r < rows; r++) {
      if (to->pos) to->pos[at + r] = r;
      if (to->patch_rows) to->patch_rows[at + r] = r < first ? -1 : i * patches + r - first;
    }
  }
}

static void *data_of(const tl_node *n) {
  return n->live ? n->data : NULL;
}

/* What stays the same from batch to batch. */
static void fill_constants(tl_image_graph *p) {
  const tl_image_places places = {.segments = data_of(p->io.segments),
                                  .pos = data_of(p->io.pos),
                                  .patch_rows = data_of(p->io.patch_rows)};
  tl_image_places_fill(&p->model->c, p->room, &places);
  if (p->rows->live) fill_rows(p);
  for (int64_t k = 0; p->weights && k < p->model->task.n_outputs; k++)
    ((float *)p->weights->data)[k] = 1;
}

/* From the body's rows to features and loss. */
static void make_classes(tl_image_graph *p, tl_node *h) {
  const tl_model *m = p->model;
  tl_graph *g = p->g;
  if (p->side) {
    p->features = tl_mask_head(m, g, h, p->rows);
    tl_graph_scope(g, "loss");
    p->loss =
        tl_weighted_softmax_loss(g, p->features, p->targets, p->weights, (float)m->task.smoothing);
    return;
  }
  if (m->arch->classify) {
    tl_picture_classes c = m->arch->classify(m, g, &p->io, h, p->targets);
    p->features = c.scores;
    p->loss = c.loss;
    p->capsules = c.capsules;
    p->made = c.made;
    return;
  }
  p->features = tl_task_head_features(m, g, h, p->rows, p->io.segments);
  tl_graph_scope(g, "loss");
  tl_node *logits = tl_linear1(g, p->features, m->task.w, m->task.b);
  p->loss = tl_image_several(m) ? tl_sigmoid_cross_entropy(g, logits, p->targets)
                                : tl_soft_cross_entropy(g, logits, p->targets);
}

static tl_status begin(tl_ctx *ctx, tl_model *m, const tl_graph_options *o, int64_t room,
                       tl_image_graph *p, tl_err *err) {
  *p = (tl_image_graph){.model = m,
                        .g = tl_graph_new(ctx, &m->params, o),
                        .room = room,
                        .shape = tl_picture_shape_of(&m->c),
                        .n_rows = m->c.max_len,
                        .side = m->task.kind == TL_HEAD_MASKS ? tl_mask_side(m) : 0};
  if (!p->g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  make_inputs(p);
  return TL_OK;
}

static tl_status end(tl_image_graph *p, tl_node *const *outputs, int n, tl_err *err) {
  tl_status s = tl_graph_compile(p->g, p->loss, outputs, n, err);
  if (s == TL_OK)
    fill_constants(p);
  else
    tl_image_graph_free(p);
  return s;
}

tl_status tl_image_graph_new(tl_ctx *ctx, tl_model *m, tl_dtype dt, int64_t room, bool training,
                             tl_image_graph *p, tl_err *err) {
  TL_TRY(begin(ctx, m, &(tl_graph_options){dt, training}, room, p, err));
  p->hidden = m->arch->body(m, p->g, &p->io);
  make_classes(p, p->hidden);
  tl_node *outputs[4] = {p->features};
  int n = 1;
  if (p->capsules) outputs[n++] = p->capsules;
  if (p->made) outputs[n++] = p->made;
  if (!training) outputs[n++] = p->hidden;
  return end(p, outputs, n, err);
}

const tl_node *tl_image_graph_attention(const tl_image_graph *p, int layer) {
  for (int i = 0; i < p->g->n_nodes; i++)
    if (p->g->node[i]->op == &tl_op_attention && layer-- == 0) return p->g->node[i];
  return NULL;
}

tl_status tl_image_graph_body(tl_ctx *ctx, tl_model *m, int64_t room, tl_image_graph *p,
                              tl_err *err) {
  TL_TRY(begin(ctx, m, &(tl_graph_options){.dt = TL_F32}, room, p, err));
  p->hidden = m->arch->body(m, p->g, &p->io);
  tl_node **keep = malloc((size_t)(m->n_blocks + 1) * sizeof *keep);
  if (!keep) {
    tl_image_graph_free(p);
    return tl_fail(err, TL_NOMEM, "graph: out of memory");
  }
  int n = 0;
  keep[n++] = p->hidden;
  for (int i = 0; i < m->n_blocks; i++) {
    const tl_node *a = tl_image_graph_attention(p, i);
    if (a) keep[n++] = a->in[0];
  }
  tl_status s = end(p, keep, n, err);
  free(keep);
  return s;
}

void tl_image_graph_free(tl_image_graph *p) {
  tl_graph_free(p->g);
  *p = (tl_image_graph){0};
}

void tl_image_graph_set(tl_image_graph *p, int64_t n, const float *pictures, const void *targets) {
  const tl_kernels *k = p->g->ctx->k;
  int64_t values = p->shape.rows * p->shape.cols;
  size_t bytes = (size_t)(n * (p->side ? p->side * p->side : tl_cols(p->targets))) *
                 tl_dtype_size(p->targets->dt);
  p->n = n;
  k->row.convert(TL_F32, pictures, p->io.pictures->dt, p->io.pictures->data, n * values);
  if (!p->targets->live) return;
  if (targets)
    memcpy(p->targets->data, targets, bytes);
  else
    memset(p->targets->data, p->side ? 0xff : 0, bytes); /* -1, or nothing of any class */
}

const float *tl_image_graph_run(tl_image_graph *p, const tl_pass *pass) {
  tl_graph_set_dim(p->g, p->dim_images, p->n);
  tl_graph_run(p->g, pass);
  return p->loss ? p->loss->data : NULL;
}

/* --- batches of a set --------------------------------------------------------------------------
 */

typedef struct batch_job {
  const tl_image_graph *p;
  const tl_image_data *d;
  const size_t *index;
  size_t first;
  const tl_augment *a;
  float *pictures, *targets; /* targets NULL: none */
  tl_err *err;               /* [room]: of each picture */
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
    tl_picture_rows(c, picture, j->pictures + i * values);
  tl_image_free(&m);
  free(picture);
  if (!j->targets) return;
  float *t = j->targets + i * outputs;
  memset(t, 0, (size_t)outputs * sizeof *t);
  tl_image_target(&j->d->records, record, 1, t);
}

/* Takes what the graph made of the pictures at .. at + p->n of the set. */
typedef void (*take_fn)(void *user, const tl_image_graph *p, size_t at);

static tl_status run_batches(tl_image_graph *p, batch_job *j, size_t n, take_fn take, void *user,
                             tl_err *err) {
  for (size_t at = 0; at < n; at += (size_t)p->room) {
    int64_t m = (int64_t)(n - at) < p->room ? (int64_t)(n - at) : p->room;
    j->first = at;
    tl_parallel(p->g->ctx->pool, m, load_one, j);
    for (int64_t i = 0; i < m; i++)
      if (j->err[i].code != TL_OK) return tl_fail(err, j->err[i].code, "%s", j->err[i].msg);
    tl_image_graph_set(p, m, j->pictures, j->targets);
    tl_image_graph_run(p, &(tl_pass){.loss_scale = 1});
    take(user, p, at);
    if (tl_ctx_cancelled(p->g->ctx)) return tl_fail(err, TL_PREEMPTED, "stopped by request");
  }
  return TL_OK;
}

/* The pictures index[0 .. n) (NULL: all) batch by batch. */
static tl_status each_batch(tl_image_graph *p, const tl_image_data *d, const size_t *index,
                            size_t n, const tl_augment *a, bool targets, take_fn take, void *user,
                            tl_err *err) {
  size_t values = (size_t)(p->shape.rows * p->shape.cols), room = (size_t)p->room;
  size_t outputs = targets ? (size_t)p->model->task.n_outputs : 0;
  batch_job j = {.p = p, .d = d, .index = index, .a = a};
  j.pictures = malloc(room * values * sizeof *j.pictures);
  j.targets = targets ? malloc(room * outputs * sizeof *j.targets) : NULL;
  j.err = calloc(room, sizeof *j.err);
  tl_status s = j.pictures && (j.targets || !targets) && j.err
                    ? run_batches(p, &j, n, take, user, err)
                    : tl_fail(err, TL_NOMEM, "out of memory for %zu pictures at once", room);
  free(j.pictures);
  free(j.targets);
  free(j.err);
  return s;
}

/* --- predictions -------------------------------------------------------------------------------
 */

/* Logits as probabilities, together or each by itself, and scores as shares; the class. */
static int softmax(int n, float *x) {
  int best = 0;
  for (int k = 1; k < n; k++)
    if (x[k] > x[best]) best = k;
  double max = (double)x[best], sum = 0;
  for (int k = 0; k < n; k++) sum += exp((double)x[k] - max);
  for (int k = 0; k < n; k++) x[k] = (float)(exp((double)x[k] - max) / sum);
  return best;
}

static int sigmoid(int n, float *x) {
  int best = 0;
  for (int k = 0; k < n; k++) {
    if (x[k] > x[best]) best = k;
    x[k] = (float)(1 / (1 + exp(-(double)x[k])));
  }
  return best;
}

static int shares(int n, float *x) {
  int best = 0;
  double sum = 0;
  for (int k = 0; k < n; k++) {
    if (x[k] > x[best]) best = k;
    sum += (double)x[k];
  }
  for (int k = 0; k < n; k++) x[k] = sum > 0 ? (float)((double)x[k] / sum) : 1 / (float)n;
  return best;
}

/* Probabilities of the batch that ran, from the features and the master weights. */
static void read_batch(const tl_image_graph *p, tl_predictions *out, size_t at) {
  tl_task_graph view = {.model = p->model, .g = p->g, .features = p->features, .n_targets = p->n};
  int n = out->n_outputs;
  bool scores = p->model->arch->classify != NULL;
  float *x = out->output + at * (size_t)n;
  if (scores)
    p->g->ctx->k->row.convert(p->features->dt, p->features->data, TL_F32, x, p->n * n);
  else
    tl_task_graph_logits(&view, x);
  for (int64_t i = 0; i < p->n; i++, x += n)
    out->label[at + (size_t)i] = (scores                       ? shares
                                  : tl_image_several(p->model) ? sigmoid
                                                               : softmax)(n, x);
}

typedef struct prediction {
  tl_predictions *out;
  double loss, count;
} prediction;

static void take_prediction(void *user, const tl_image_graph *p, size_t at) {
  prediction *to = user;
  to->loss += (double)((const float *)p->loss->data)[TL_LOSS_SUM];
  to->count += (double)((const float *)p->loss->data)[TL_LOSS_COUNT];
  read_batch(p, to->out, at);
}

tl_status tl_image_graph_predict(tl_image_graph *p, const tl_image_data *d, const size_t *index,
                                 size_t n, const tl_augment *a, tl_predictions *out, tl_err *err) {
  int outputs = p->model->task.n_outputs;
  *out = (tl_predictions){.n = n, .n_outputs = outputs, .loss = NAN};
  out->output = malloc((n * (size_t)outputs + 1) * sizeof *out->output);
  out->label = malloc((n + 1) * sizeof *out->label);
  prediction to = {.out = out};
  tl_status s = out->output && out->label
                    ? each_batch(p, d, index, n, a, true, take_prediction, &to, err)
                    : tl_fail(err, TL_NOMEM, "predictions: out of memory for %zu pictures", n);
  if (s == TL_OK && d->records.labels.n && n > 0) out->loss = to.loss / to.count;
  if (s != TL_OK) tl_predictions_free(out);
  return s;
}

/* --- features ----------------------------------------------------------------------------------
 */

typedef struct pooling_job {
  const tl_image_graph *p;
  tl_image_pool pool;
  float *out;
  size_t at;
} pooling_job;

int64_t tl_image_graph_dim(const tl_image_graph *p) {
  return tl_cols(p->hidden);
}

/* Of one picture, from the body's rows: the mean is that of the patches, the class token left out.
 */
static void pool_one(void *arg, int64_t i, int worker) {
  (void)worker;
  const pooling_job *j = arg;
  const tl_image_graph *p = j->p;
  int64_t dim = tl_cols(p->hidden), begin = i * p->n_rows, end = begin + p->n_rows;
  float *out = j->out + ((int64_t)j->at + i) * dim;
  if (j->pool == TL_IMAGE_POOL_FIRST)
    end = begin + 1;
  else if (p->model->class_token)
    begin++;
  for (int64_t c = 0; c < dim; c++) {
    double sum = 0;
    for (int64_t r = begin; r < end; r++) sum += (double)tl_value(p->hidden, r * dim + c);
    out[c] = (float)(sum / (double)(end - begin));
  }
}

static void take_features(void *user, const tl_image_graph *p, size_t at) {
  pooling_job *j = user;
  j->at = at;
  tl_parallel(p->g->ctx->pool, p->n, pool_one, j);
}

tl_status tl_image_graph_features(tl_image_graph *p, const tl_image_data *d, const size_t *index,
                                  size_t n, const tl_augment *a, tl_image_pool pool, float *out,
                                  tl_err *err) {
  bool first = tl_model_pooling(p->model) == TL_POOL_FIRST && p->model->class_token;
  if (pool == TL_IMAGE_POOL_OWN) pool = first ? TL_IMAGE_POOL_FIRST : TL_IMAGE_POOL_MEAN;
  pooling_job j = {.p = p, .pool = pool, .out = out};
  return each_batch(p, d, index, n, a, false, take_features, &j, err);
}
