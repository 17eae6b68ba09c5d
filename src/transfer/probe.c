/* Probes of frozen features: the records, who makes features of them, and the rows of the result.
 */
#include "tilth/probe.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "eval/knn.h"
#include "eval/patch_means.h"
#include "eval/softmax_regression.h"
#include "eval/stats.h"
#include "transfer/embed.h"
#include "transfer/image_graph.h"

enum { RESAMPLES = 1000, CENTROIDS = 200, PATCH_PICTURES = 5000, NEIGHBOURS = 20 };
/* Sides of the pictures that k-means looks at; training records of each class from which a held-out
 * part is taken, and its share. */
enum { KMEANS_MIN_SIDE = 8, KMEANS_MAX_SIDE = 32, HELD_OUT_FROM = 10, HELD_OUT_PART = 5 };

typedef struct records {
  const tl_task_data *d;
  const tl_image_data *images; /* NULL: texts */
  size_t *index;               /* [n] those in use, in their order */
  int32_t *label;              /* [n] */
  size_t n;
} records;

typedef struct probe {
  tl_ctx *ctx;
  const char *dir;
  tl_probe_options o;
  records part[2];               /* train, test */
  int32_t *class;                /* [test] of the row at work */
  uint8_t *right[TL_PROBE_ROWS]; /* [test] of each row */
  tl_probe_result *result;
} probe;

/* Features of both parts, one row a record. */
typedef struct features {
  const char *name;
  int64_t dim;
  float *x[2];
  double start; /* when their making began */
} features;

__attribute__((format(printf, 2, 3))) static void note(const probe *p, const char *fmt, ...) {
  char line[256];
  va_list args;
  if (!p->o.note) return;
  va_start(args, fmt);
  vsnprintf(line, sizeof line, fmt, args);
  va_end(args);
  p->o.note(p->o.user, line);
}

/* --- records -----------------------------------------------------------------------------------
 */

/* The first per_class of each class, in their order, to the front; how many. */
static size_t take_per_class(const probe *p, const tl_task_data *d, size_t *order, int64_t *count) {
  size_t n = 0;
  for (size_t i = 0; i < d->n; i++)
    if (count[d->label[order[i]]]++ < p->o.per_class) order[n++] = order[i];
  return n;
}

static tl_status choose_train(const probe *p, records *r, tl_err *err) {
  size_t none;
  TL_TRY(tl_task_order(r->d, p->o.seed, r->index, err));
  if (p->o.per_class == 0) return tl_task_split(r->d, p->o.labels, 0, &r->n, &none, err);
  int64_t *count = calloc((size_t)r->d->labels.n, sizeof *count);
  if (!count) return tl_fail(err, TL_NOMEM, "probe: out of memory");
  r->n = take_per_class(p, r->d, r->index, count);
  free(count);
  return TL_OK;
}

static tl_status take(const probe *p, records *r, bool train, tl_err *err) {
  r->n = r->d->n;
  r->index = malloc((r->n + 1) * sizeof *r->index);
  r->label = malloc((r->n + 1) * sizeof *r->label);
  if (!r->index || !r->label)
    return tl_fail(err, TL_NOMEM, "probe: out of memory for %zu records", r->n);
  for (size_t i = 0; i < r->n; i++) r->index[i] = i;
  if (train) TL_TRY(choose_train(p, r, err));
  for (size_t i = 0; i < r->n; i++) r->label[i] = r->d->label[r->index[i]];
  return TL_OK;
}

static tl_status check_records(const probe *p, tl_err *err) {
  const tl_task_data *a = p->part[0].d, *b = p->part[1].d;
  for (int i = 0; i < 2; i++) {
    const tl_task_data *d = p->part[i].d;
    const char *which = i ? "test" : "training";
    if (!d->label || d->n == 0)
      return tl_fail(err, TL_DATA, "probe: the %s records have no labels", which);
    if (d->text_b)
      return tl_fail(err, TL_CONFIG, "probe: the %s records are pairs; expected one text", which);
  }
  bool same = a->labels.n == b->labels.n;
  for (int32_t k = 0; same && k < a->labels.n; k++)
    same = !strcmp(a->labels.name[k], b->labels.name[k]);
  if (!same) return tl_fail(err, TL_DATA, "probe: training and test records have other classes");
  if (a->labels.n < 2)
    return tl_fail(err, TL_DATA, "probe: only one class occurs, \"%s\"", a->labels.name[0]);
  return TL_OK;
}

/* The share of the test records that have the training records' commonest class. */
static tl_status majority(const probe *p, double *out, tl_err *err) {
  const records *train = &p->part[0], *test = &p->part[1];
  size_t *count = calloc((size_t)train->d->labels.n, sizeof *count), n = 0;
  if (!count) return tl_fail(err, TL_NOMEM, "probe: out of memory");
  int32_t best = 0;
  for (size_t i = 0; i < train->n; i++) count[train->label[i]]++;
  for (int32_t k = 1; k < train->d->labels.n; k++)
    if (count[k] > count[best]) best = k;
  for (size_t i = 0; i < test->n; i++) n += test->label[i] == best;
  *out = (double)n / (double)test->n;
  free(count);
  return TL_OK;
}

static tl_status start(probe *p, tl_err *err) {
  tl_probe_result *r = p->result;
  if (p->o.labels < 0 || p->o.per_class < 0 || (p->o.labels > 0 && p->o.per_class > 0))
    return tl_fail(err, TL_CONFIG, "probe: labels in all or for each class, one of them");
  TL_TRY(check_records(p, err));
  TL_TRY(take(p, &p->part[0], true, err));
  TL_TRY(take(p, &p->part[1], false, err));
  size_t n = p->part[0].n, classes = (size_t)p->part[0].d->labels.n;
  *r = (tl_probe_result){.n_train = n, .n_test = p->part[1].n, .n_classes = (int32_t)classes};
  if (n >= HELD_OUT_FROM * classes) r->n_valid = n / HELD_OUT_PART;
  p->class = malloc((r->n_test + 1) * sizeof *p->class);
  if (!p->class) return tl_fail(err, TL_NOMEM, "probe: out of memory");
  return majority(p, &r->majority, err);
}

static void release(probe *p) {
  for (int i = 0; i < 2; i++) {
    free(p->part[i].index);
    free(p->part[i].label);
  }
  for (int i = 0; i < TL_PROBE_ROWS; i++) free(p->right[i]);
  free(p->class);
}

/* --- rows of the result ------------------------------------------------------------------------
 */

static double share_right(const size_t *index, size_t n, void *user) {
  const uint8_t *right = user;
  size_t sum = 0;
  for (size_t i = 0; i < n; i++) sum += right[index ? index[i] : i];
  return (double)sum / (double)n;
}

/* The row of the classes in p->class. */
static tl_status add_row(probe *p, const features *f, const char *method, double l2, double seconds,
                         tl_err *err) {
  tl_probe_result *r = p->result;
  size_t n = r->n_test;
  tl_bootstrap_interval b;
  tl_probe_row row = {f->name, method, f->dim, 0, 0, 0, NAN, NAN, NAN, l2, seconds};
  uint8_t *right = p->right[r->n] = malloc(n);
  if (!right) return tl_fail(err, TL_NOMEM, "probe: out of memory");
  for (size_t i = 0; i < n; i++) right[i] = p->class[i] == p->part[1].label[i];
  TL_TRY(tl_bootstrap(share_right, right, n, 1, RESAMPLES, 0.95, &b, err));
  row.accuracy = b.value;
  row.lo = b.low;
  row.hi = b.high;
  for (int i = 0; i < r->n; i++) {
    if (strcmp(r->row[i].features, "model") || strcmp(r->row[i].method, method)) continue;
    TL_TRY(tl_bootstrap_paired(share_right, p->right[i], right, n, 1, RESAMPLES, 0.95, &b, err));
    row.gain = b.value;
    row.gain_lo = b.low;
    row.gain_hi = b.high;
  }
  r->row[r->n++] = row;
  note(p, "%s, %s: accuracy %.4f", f->name, method, row.accuracy);
  return TL_OK;
}

static tl_status neighbours(probe *p, const features *f, tl_err *err) {
  const tl_knn_options o = {p->o.neighbours, p->o.temperature};
  TL_TRY(tl_knn(p->ctx, &o, f->x[0], p->part[0].label, (int64_t)p->part[0].n, f->x[1],
                (int64_t)p->part[1].n, f->dim, p->result->n_classes, p->class, err));
  return add_row(p, f, "knn", NAN, tl_now() - f->start, err);
}

/* Standardises the features, too. */
static tl_status linear(probe *p, const features *f, double start, tl_err *err) {
  int64_t n = (int64_t)p->part[0].n, m = (int64_t)p->part[1].n;
  tl_softmax_regression r;
  tl_standardise(p->ctx, f->x[0], n, f->dim, f->x[1], m);
  TL_TRY(tl_softmax_regression_fit(p->ctx, f->x[0], p->part[0].label, n, f->dim,
                                   p->result->n_classes, (int64_t)p->result->n_valid, &r, err));
  tl_status s = tl_softmax_regression_predict(p->ctx, &r, f->x[1], m, p->class, err);
  if (s == TL_OK) s = add_row(p, f, "linear", r.l2, tl_now() - start, err);
  tl_softmax_regression_free(&r);
  return s;
}

static tl_status features_alloc(const probe *p, features *f, tl_err *err) {
  for (int i = 0; i < 2; i++) {
    f->x[i] = malloc(p->part[i].n * (size_t)f->dim * sizeof *f->x[i]);
    if (!f->x[i])
      return tl_fail(err, TL_NOMEM, "probe: out of memory for %lld features of %zu records",
                     (long long)f->dim, p->part[i].n);
  }
  return TL_OK;
}

static void features_free(features *f) {
  free(f->x[0]);
  free(f->x[1]);
}

/* --- features of pictures ----------------------------------------------------------------------
 */

static tl_status image_pool(const char *name, tl_image_pool *out, tl_err *err) {
  *out = TL_IMAGE_POOL_OWN;
  if (!name) return TL_OK;
  if (strcmp(name, "first") && strcmp(name, "mean"))
    return tl_fail(err, TL_CONFIG, "pooling \"%s\" is unknown; expected first or mean", name);
  *out = strcmp(name, "first") ? TL_IMAGE_POOL_MEAN : TL_IMAGE_POOL_FIRST;
  return TL_OK;
}

static tl_status run_image_graph(const probe *p, tl_image_graph *g, const tl_augment *plain,
                                 features *f, tl_err *err) {
  tl_image_pool pool;
  TL_TRY(image_pool(p->o.pool, &pool, err));
  f->dim = tl_image_graph_dim(g);
  TL_TRY(features_alloc(p, f, err));
  for (int i = 0; i < 2; i++) {
    const records *r = &p->part[i];
    note(p, "%s: features of %zu pictures", f->name, r->n);
    TL_TRY(tl_image_graph_features(g, r->images, r->index, r->n, plain, pool, f->x[i], err));
  }
  return TL_OK;
}

static tl_status image_body(const probe *p, bool random, features *f, tl_err *err) {
  tl_model_config c;
  tl_model *m = NULL;
  tl_image_graph g = {0};
  tl_augment plain;
  tl_model_place place = {0};
  const tl_task_head_options o = {.kind = TL_HEAD_SEQUENCE, .n_outputs = p->result->n_classes};
  TL_TRY(tl_model_read_config(p->dir, &c, err));
  TL_TRY(tl_model_locate(p->dir, &place, err));
  tl_status s = tl_image_plain(&place, &c, &plain, err);
  if (s == TL_OK) s = tl_model_new_task(&c, &o, p->o.seed, false, &m, err);
  if (s == TL_OK && !random) s = tl_model_read_weights(m, p->dir, err);
  if (s == TL_OK)
    s = tl_image_graph_new(p->ctx, m, tl_kernels_dtype(p->ctx->k, p->o.dtype), tl_image_room(&c),
                           false, &g, err);
  if (s == TL_OK) s = run_image_graph(p, &g, &plain, f, err);
  if (g.g) tl_image_graph_free(&g);
  tl_model_free(m);
  tl_model_place_free(&place);
  return s;
}

static int32_t kmeans_side(const tl_image_data *d) {
  int32_t side = d->width > d->height ? d->width : d->height;
  return side < KMEANS_MIN_SIDE ? KMEANS_MIN_SIDE : side > KMEANS_MAX_SIDE ? KMEANS_MAX_SIDE : side;
}

static tl_status kmeans_features(const probe *p, features *f, tl_err *err) {
  const tl_image_data *d = p->part[0].images;
  size_t *order = malloc((d->records.n + 1) * sizeof *order);
  tl_patch_means *means = NULL;
  tl_patch_means_options o = {.centroids = p->o.centroids,
                              .pictures = p->o.pictures,
                              .size = kmeans_side(d),
                              .channels = d->channels,
                              .seed = p->o.seed};
  tl_status s = order ? TL_OK : tl_fail(err, TL_NOMEM, "probe: out of memory");
  if (s == TL_OK) s = tl_task_order(&d->records, p->o.seed, order, err);
  note(p, "%s: %lld centroids", f->name, (long long)o.centroids);
  if (s == TL_OK) s = tl_patch_means_learn(p->ctx, d, order, d->records.n, &o, &means, err);
  if (s == TL_OK) {
    f->dim = tl_patch_means_dim(means);
    s = features_alloc(p, f, err);
  }
  for (int i = 0; s == TL_OK && i < 2; i++) {
    const records *r = &p->part[i];
    note(p, "%s: features of %zu pictures", f->name, r->n);
    s = tl_patch_means_run(means, r->images, r->index, r->n, f->x[i], err);
  }
  tl_patch_means_free(means);
  free(order);
  return s;
}

/* --- features of texts -------------------------------------------------------------------------
 */

static tl_status embed_part(tl_embedder *e, const records *r, float *out, tl_err *err) {
  const char **text = malloc((r->n + 1) * sizeof *text);
  if (!text) return tl_fail(err, TL_NOMEM, "probe: out of memory");
  for (size_t i = 0; i < r->n; i++) text[i] = r->d->text[r->index[i]];
  tl_status s = tl_embedder_run(e, text, r->n, out, err);
  free((void *)(uintptr_t)text);
  return s;
}

static tl_status text_body(const probe *p, bool random, features *f, tl_err *err) {
  const tl_embed_options o = {
      .pool = p->o.pool, .dtype = p->o.dtype, .max_len = p->o.max_len, .raw = true};
  tl_embedder *e = NULL;
  tl_status s = random ? tl_embedder_open_random(p->ctx, p->dir, &o, p->o.seed, &e, err)
                       : tl_embedder_open(p->ctx, p->dir, &o, &e, err);
  if (s == TL_OK) {
    f->dim = tl_embedder_dim(e);
    s = features_alloc(p, f, err);
  }
  for (int i = 0; s == TL_OK && i < 2; i++) {
    note(p, "%s: features of %zu texts", f->name, p->part[i].n);
    s = embed_part(e, &p->part[i], f->x[i], err);
  }
  tl_embedder_free(e);
  return s;
}

/* --- the whole ---------------------------------------------------------------------------------
 */

static tl_status probe_body(probe *p, bool random, tl_err *err) {
  features f = {.name = random ? "random" : "model", .start = tl_now()};
  tl_status s = p->part[0].images ? image_body(p, random, &f, err) : text_body(p, random, &f, err);
  if (s == TL_OK) s = neighbours(p, &f, err);
  if (s == TL_OK) s = linear(p, &f, tl_now(), err);
  features_free(&f);
  return s;
}

static tl_status probe_kmeans(probe *p, tl_err *err) {
  features f = {.name = "k-means", .start = tl_now()};
  tl_status s = kmeans_features(p, &f, err);
  if (s == TL_OK) s = linear(p, &f, f.start, err);
  features_free(&f);
  return s;
}

static void set_defaults(tl_probe_options *o) {
  if (!o->dtype) o->dtype = "auto";
  if (o->neighbours == 0) o->neighbours = NEIGHBOURS;
  if (o->temperature == 0) o->temperature = 0.07;
  if (o->centroids == 0) o->centroids = CENTROIDS;
  if (o->pictures == 0) o->pictures = PATCH_PICTURES;
  if (o->seed == 0) o->seed = 1;
}

static tl_status run(probe *p, const tl_probe_options *o, tl_err *err) {
  if (o) p->o = *o;
  set_defaults(&p->o);
  tl_status s = start(p, err);
  if (s == TL_OK) s = probe_body(p, false, err);
  if (s == TL_OK && p->o.random) s = probe_body(p, true, err);
  if (s == TL_OK && p->o.kmeans) s = probe_kmeans(p, err);
  release(p);
  return s;
}

tl_status tl_probe_reads_images(const char *dir, bool *out, tl_err *err) {
  tl_model_config c;
  TL_TRY(tl_model_read_config(dir, &c, err));
  *out = tl_arch_find(c.type)->image;
  return TL_OK;
}

static tl_status check_kind(const char *dir, bool images, tl_err *err) {
  bool reads = false;
  TL_TRY(tl_probe_reads_images(dir, &reads, err));
  if (reads == images) return TL_OK;
  return tl_fail(err, TL_CONFIG, "%s: the model reads %s", dir, reads ? "pictures" : "texts");
}

tl_status tl_probe_images(tl_ctx *ctx, const char *dir, const tl_image_data *train,
                          const tl_image_data *test, const tl_probe_options *o,
                          tl_probe_result *out, tl_err *err) {
  probe p = {.ctx = ctx, .dir = dir, .result = out};
  p.part[0] = (records){.d = &train->records, .images = train};
  p.part[1] = (records){.d = &test->records, .images = test};
  *out = (tl_probe_result){0};
  TL_TRY(check_kind(dir, true, err));
  return run(&p, o, err);
}

tl_status tl_probe_texts(tl_ctx *ctx, const char *dir, const tl_task_data *train,
                         const tl_task_data *test, const tl_probe_options *o, tl_probe_result *out,
                         tl_err *err) {
  probe p = {.ctx = ctx, .dir = dir, .result = out};
  p.part[0] = (records){.d = train};
  p.part[1] = (records){.d = test};
  *out = (tl_probe_result){0};
  TL_TRY(check_kind(dir, false, err));
  if (o && o->kmeans) return tl_fail(err, TL_CONFIG, "probe: k-means of patches is for pictures");
  return run(&p, o, err);
}
