/* The pictures of a run, from its folder and the data that its configuration names. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tilth/report.h"
#include "transfer/gallery.h"
#include "transfer/image_graph.h"
#include "transfer/task.h"

enum { MOST_TESTED = 1000 };

typedef struct run_pictures {
  tl_ctx *ctx;
  tl_config *cfg;
  char *model; /* folder; NULL: the run has none yet */
  json_t *doc;
} run_pictures;

static json_t *list_in(json_t *doc, const char *key) {
  json_t *list = json_object_get(doc, key);
  if (!list) json_object_set_new(doc, key, list = json_array());
  return list;
}

static tl_status add_group(run_pictures *r, tl_status s, json_t *group) {
  if (s == TL_OK && group) json_array_append_new(list_in(r->doc, "pictures"), group);
  return s;
}

static bool has_masks(const run_pictures *r) {
  return !strcmp(r->cfg->task.type, "image_segment");
}

/* ok false: the file cannot be read, which is noted. */
static tl_status read_pictures(run_pictures *r, const char *path, const tl_labels *labels,
                               tl_image_data *d, bool *ok, tl_err *err) {
  tl_err why = {TL_OK, ""};
  const tl_mask_options masks = {.void_id = (int32_t)r->cfg->image.void_id};
  tl_image_options o = {.skip_bad = true,
                        .labels = labels,
                        .several = !strcmp(r->cfg->task.type, "image_multilabel"),
                        .memory = (size_t)r->cfg->image.memory_mb << 20};
  if (has_masks(r)) o.masks = &masks;
  o.unlabelled = !*r->cfg->task.train; /* pretraining, which looks at no labels */
  tl_image_format_parse(r->cfg->image.format, &o.format);
  tl_status s = tl_image_read(path, &o, d, &why);
  *ok = s == TL_OK;
  if (s == TL_NOMEM) return tl_fail(err, s, "%s", why.msg);
  if (s == TL_OK) return TL_OK;
  char note[sizeof why.msg + 64];
  snprintf(note, sizeof note, "Some pictures are missing here: %s", why.msg);
  json_array_append_new(list_in(r->doc, "notes"), json_string(note));
  return TL_OK;
}

static tl_status predict(run_pictures *r, tl_model *m, const tl_image_data *d, tl_err *err) {
  tl_image_graph graph;
  tl_augment plain = {.size = (int32_t)m->c.image_size, .channels = (int32_t)m->c.channels};
  tl_predictions pred = {0};
  json_t *list = NULL;
  size_t n = d->records.n < MOST_TESTED ? d->records.n : MOST_TESTED;
  size_t *order = malloc((d->records.n + 1) * sizeof *order);
  if (!order) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  tl_status s = tl_task_order(&d->records, 1, order, err);
  if (s == TL_OK) s = tl_image_read_preprocessor(r->model, &plain, err);
  if (s == TL_OK) s = tl_image_graph_new(r->ctx, m, TL_F32, 32, false, &graph, err);
  if (s == TL_OK) {
    s = tl_image_graph_predict(&graph, d, order, n, &plain, &pred, err);
    tl_image_graph_free(&graph);
  }
  if (s == TL_OK) s = tl_gallery_predictions(d, order, &pred, &list, err);
  if (list) json_object_set_new(r->doc, "predictions", list);
  tl_predictions_free(&pred);
  free(order);
  return s;
}

/* held: d are pictures for tests; else training pictures, whose end was kept for validation. */
static tl_status predict_masks(run_pictures *r, tl_model *m, const tl_image_data *d, bool held,
                               tl_err *err) {
  const tl_config *c = r->cfg;
  json_t *rows = NULL, *classes = NULL;
  size_t n = d->records.n, n_train = 0, *order = malloc((n + 1) * sizeof *order);
  if (!order) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  tl_status s = tl_task_order(&d->records, held ? 1 : (uint64_t)c->run.seed, order, err);
  if (s == TL_OK && !held)
    s = tl_task_split(&d->records, (double)c->task.limit, c->task.valid_fraction, &n_train, &n,
                      err);
  if (s == TL_OK && n > MOST_TESTED) n = MOST_TESTED;
  if (s == TL_OK && n > 0)
    s = tl_gallery_masks(r->ctx, m, r->model, d, held ? order : order + d->records.n - n, n, &rows,
                         &classes, err);
  free(order);
  s = add_group(r, s, rows);
  return add_group(r, s, classes);
}

/* Predictions for the test pictures, by the classes that the model has. */
static tl_status tested(run_pictures *r, tl_err *err) {
  const tl_config *c = r->cfg;
  const char *path = *c->task.test ? c->task.test : c->task.valid;
  bool held = *path;
  if (!held && has_masks(r)) path = c->task.train;
  tl_model *m = NULL;
  tl_image_data d = {0};
  bool ok = false;
  if (!r->model || !*path) return TL_OK;
  TL_TRY(tl_model_load_task(r->model, &m, err));
  const tl_labels labels = {.n = m->task.n_outputs, .name = (char **)(uintptr_t)m->task.name};
  tl_status s = labels.n ? read_pictures(r, path, &labels, &d, &ok, err) : TL_OK;
  if (s == TL_OK && ok && d.records.labels.n && !d.masks) s = predict(r, m, &d, err);
  if (s == TL_OK && ok)
    s = tl_gallery_capsules(r->ctx, m, r->model, &d, list_in(r->doc, "pictures"), err);
  if (s == TL_OK && ok && d.masks) s = predict_masks(r, m, &d, held, err);
  tl_image_data_free(&d);
  tl_model_free(m);
  return s;
}

static tl_status trained(run_pictures *r, const char *path, tl_err *err) {
  tl_image_data d = {0};
  tl_model_config mc;
  bool ok = false;
  json_t *group = NULL;
  tl_labels names = {0}; /* of the classes that are numbers in the file */
  if (r->model && *r->cfg->task.train && *r->cfg->image.classes)
    TL_TRY(tl_labels_read(r->model, &names, err));
  tl_status s = read_pictures(r, path, names.n ? &names : NULL, &d, &ok, err);
  tl_labels_free(&names);
  if (s != TL_OK || !ok) return s;
  int32_t size = d.width > d.height ? d.width : d.height;
  if (r->model) s = tl_model_read_config(r->model, &mc, err);
  if (s == TL_OK && r->model) size = (int32_t)mc.image_size;
  if (s == TL_OK) s = tl_gallery_samples(r->cfg, &d, size, &group, err);
  s = add_group(r, s, group);
  group = NULL;
  if (s == TL_OK && r->model && !*r->cfg->task.train)
    s = tl_gallery_mae(r->ctx, r->cfg, r->model, &d, &group, err);
  s = add_group(r, s, group);
  group = NULL;
  if (s == TL_OK && r->model) s = tl_gallery_attention(r->ctx, r->model, &d, &group, err);
  s = add_group(r, s, group);
  tl_image_data_free(&d);
  return s;
}

static tl_status read_run(run_pictures *r, const char *dir, tl_err *err) {
  char *path = tl_path_join(dir, "config.yaml");
  r->model = tl_path_join(dir, "model");
  tl_status s =
      path && r->model ? tl_config_new(&r->cfg, err) : tl_fail(err, TL_NOMEM, "out of memory");
  if (s == TL_OK) s = tl_config_apply_file(r->cfg, path, err);
  if (s == TL_OK) s = tl_config_finish(r->cfg, err);
  if (s == TL_OK && !tl_is_dir(r->model)) {
    free(r->model);
    r->model = NULL;
  }
  free(path);
  return s;
}

/* The training pictures that the configuration names; NULL: none. */
static const char *data_of(const tl_config *c) {
  if (*c->task.train) return tl_task_find(c->task.type)->pictures ? c->task.train : NULL;
  return *c->data.images ? c->data.images : NULL;
}

tl_status tl_gallery_run(tl_ctx *ctx, const char *run_dir, json_t **out, tl_err *err) {
  run_pictures r = {.ctx = ctx, .doc = json_object()};
  *out = NULL;
  tl_status s = r.doc ? read_run(&r, run_dir, err) : tl_fail(err, TL_NOMEM, "out of memory");
  const char *path = s == TL_OK ? data_of(r.cfg) : NULL;
  if (path) {
    s = trained(&r, path, err);
    if (s == TL_OK) s = tested(&r, err);
    if (s == TL_OK) *out = json_incref(r.doc);
  }
  json_decref(r.doc);
  free(r.model);
  tl_config_free(r.cfg);
  return s;
}

tl_status tl_report_pictures(tl_ctx *ctx, const char *run_dir, tl_err *err) {
  json_t *doc = NULL;
  TL_TRY(tl_gallery_run(ctx, run_dir, &doc, err));
  if (!doc) return TL_OK;
  char *path = tl_path_join(run_dir, "pictures.json"), *text = json_dumps(doc, JSON_INDENT(1));
  tl_status s = path && text ? tl_file_write_atomic(path, text, strlen(text), err)
                             : tl_fail(err, TL_NOMEM, "out of memory");
  free(path);
  free(text);
  json_decref(doc);
  return s;
}
