#include "transfer/mask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/mask_metrics.h"
#include "eval/stats.h"

/* --- predictions -------------------------------------------------------------------------------
 */

typedef struct mask_job {
  const tl_image_graph *p;
  const tl_image_data *d;
  const size_t *index;
  size_t first;
  const tl_augment *a;
  float *pictures;   /* [room][values] */
  int32_t *targets;  /* [room][side][side] */
  tl_image *truth;   /* [room]; without pixels: not known */
  tl_image *classes; /* [room] */
  uint64_t *pixels;  /* of the picture `first` */
  size_t *confusion; /* [room][outputs][outputs] */
  tl_err *err;       /* [room] */
} mask_job;

static size_t record_of(const mask_job *j, int64_t i) {
  size_t at = j->first + (size_t)i;
  return j->index ? j->index[at] : at;
}

static tl_status load(const mask_job *j, int64_t i, float *picture, tl_err *err) {
  const tl_model_config *c = &j->p->model->c;
  int64_t pixels = j->p->side * j->p->side;
  tl_image m = {0};
  tl_image *mask = &j->truth[i];
  TL_TRY(tl_image_get(j->d, record_of(j, i), (int32_t)c->channels, &m, err));
  tl_status s = TL_OK;
  if (j->d->masks) s = tl_image_get(j->d->masks, record_of(j, i), 1, mask, err);
  int32_t *to = j->targets + i * pixels;
  if (s == TL_OK && j->d->masks) {
    s = tl_augment_pair(j->a, &m, mask, (int32_t)j->p->side, 0, 0, picture, to, err);
  } else if (s == TL_OK) {
    memset(to, 0xff, (size_t)pixels * sizeof *to);
    s = tl_augment_run(j->a, &m, 0, 0, picture, err);
  }
  j->classes[i] = (tl_image){.width = m.width, .height = m.height, .channels = 1};
  tl_image_free(&m);
  return s;
}

static void load_one(void *arg, int64_t i, int worker) {
  (void)worker;
  const mask_job *j = arg;
  const tl_model_config *c = &j->p->model->c;
  int64_t values = c->channels * c->image_size * c->image_size;
  float *picture = malloc((size_t)values * sizeof *picture);
  j->err[i].code = TL_OK;
  if (!picture)
    tl_fail(&j->err[i], TL_NOMEM, "pictures: out of memory");
  else if (load(j, i, picture, &j->err[i]) == TL_OK)
    tl_picture_rows(c, picture, j->pictures + i * values);
  free(picture);
}

/* The two samples of a line of `side` around the middle of place i of n, and the second's share. */
typedef struct between {
  int64_t lo, hi;
  float share;
} between;

static between between_of(int32_t i, int32_t n, int64_t side) {
  double at = ((double)i + 0.5) * (double)side / n - 0.5;
  if (at < 0) at = 0;
  if (at > (double)(side - 1)) at = (double)(side - 1);
  int64_t lo = (int64_t)at;
  return (between){lo, lo + 1 < side ? lo + 1 : lo, (float)(at - (double)lo)};
}

/* The likeliest class of each pixel, and what is right. */
static void classify(const mask_job *j, int64_t i, const float *logits) {
  tl_image *m = &j->classes[i];
  const tl_image *truth = &j->truth[i];
  int64_t side = j->p->side, v = j->p->model->task.n_outputs;
  size_t *confusion = j->confusion + i * v * v;
  uint64_t *counts = j->pixels + i * v * TL_PIXELS_N;
  for (int32_t y = 0; y < m->height; y++) {
    between r = between_of(y, m->height, side);
    for (int32_t x = 0; x < m->width; x++) {
      between c = between_of(x, m->width, side);
      const float *q[4] = {logits + (r.lo * side + c.lo) * v, logits + (r.lo * side + c.hi) * v,
                           logits + (r.hi * side + c.lo) * v, logits + (r.hi * side + c.hi) * v};
      float best = -INFINITY;
      size_t at = (size_t)y * (size_t)m->width + (size_t)x;
      int64_t k = 0;
      for (int64_t o = 0; o < v; o++) {
        float up = q[0][o] + c.share * (q[1][o] - q[0][o]);
        float down = q[2][o] + c.share * (q[3][o] - q[2][o]), z = up + r.share * (down - up);
        if (z > best) k = o;
        if (z > best) best = z;
      }
      m->pixels[at] = (uint8_t)k;
      if (truth->pixels && truth->pixels[at] == TL_MASK_VOID) continue;
      counts[k * TL_PIXELS_N + TL_PIXELS_PREDICTED]++;
      if (!truth->pixels) continue;
      int64_t t = truth->pixels[at];
      counts[t * TL_PIXELS_N + TL_PIXELS_TRUE]++;
      counts[k * TL_PIXELS_N + TL_PIXELS_RIGHT] += t == k;
      confusion[t * v + k]++;
    }
  }
}

static void read_one(void *arg, int64_t i, int worker) {
  (void)worker;
  const mask_job *j = arg;
  const tl_image_graph *p = j->p;
  tl_image *m = &j->classes[i];
  int64_t values = p->side * p->side * p->model->task.n_outputs;
  float *logits = malloc((size_t)values * sizeof *logits);
  m->pixels = malloc((size_t)m->width * (size_t)m->height);
  if (logits && m->pixels) {
    const char *from = p->features->data;
    p->g->ctx->k->row.convert(p->features->dt,
                              from + i * values * (int64_t)tl_dtype_size(p->features->dt), TL_F32,
                              logits, values);
    classify(j, i, logits);
  } else {
    tl_fail(&j->err[i], TL_NOMEM, "masks: out of memory for %d x %d pixels", m->width, m->height);
  }
  free(logits);
}

static tl_status first_error(const mask_job *j, int64_t n, tl_err *err) {
  for (int64_t i = 0; i < n; i++)
    if (j->err[i].code != TL_OK) return tl_fail(err, j->err[i].code, "%s", j->err[i].msg);
  return TL_OK;
}

static void free_pictures(mask_job *j, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    tl_image_free(&j->truth[i]);
    tl_image_free(&j->classes[i]);
  }
}

/* m pictures from j->first on; adds to loss[0] the losses and to loss[1] their pixels. */
static tl_status run_batch(tl_image_graph *p, mask_job *j, int64_t m, tl_mask_fn each, void *user,
                           double *loss, tl_predictions *out, tl_err *err) {
  int64_t v = out->n_outputs;
  memset(j->confusion, 0, (size_t)(m * v * v) * sizeof *j->confusion);
  tl_parallel(p->g->ctx->pool, m, load_one, j);
  TL_TRY(first_error(j, m, err));
  tl_image_graph_set(p, m, j->pictures, j->targets);
  const float *l = tl_image_graph_run(p, &(tl_pass){.loss_scale = 1});
  loss[0] += (double)l[TL_LOSS_SUM];
  loss[1] += (double)l[TL_LOSS_COUNT];
  tl_parallel(p->g->ctx->pool, m, read_one, j);
  TL_TRY(first_error(j, m, err));
  for (int64_t i = 0; i < m * v * v; i++) out->confusion[i % (v * v)] += j->confusion[i];
  for (int64_t i = 0; each && i < m; i++)
    TL_TRY(each(user, j->first + (size_t)i, &j->classes[i], err));
  return TL_OK;
}

static tl_status run_batches(tl_image_graph *p, mask_job *j, tl_mask_fn each, void *user,
                             tl_predictions *out, tl_err *err) {
  double loss[2] = {0, 0};
  size_t n = out->n;
  for (size_t at = 0; at < n; at += (size_t)p->room) {
    int64_t m = (int64_t)(n - at) < p->room ? (int64_t)(n - at) : p->room;
    j->first = at;
    j->pixels = out->pixels + at * (size_t)out->n_outputs * TL_PIXELS_N;
    tl_status s = run_batch(p, j, m, each, user, loss, out, err);
    free_pictures(j, m);
    TL_TRY(s);
    if (tl_ctx_cancelled(p->g->ctx)) return tl_fail(err, TL_PREEMPTED, "stopped by request");
  }
  if (loss[1] > 0) out->loss = loss[0] / loss[1];
  return TL_OK;
}

tl_status tl_mask_predict(tl_image_graph *p, const tl_image_data *d, const size_t *index, size_t n,
                          const tl_augment *a, tl_mask_fn each, void *user, tl_predictions *out,
                          tl_err *err) {
  const tl_model_config *c = &p->model->c;
  size_t room = (size_t)p->room, v = (size_t)p->model->task.n_outputs;
  size_t values = (size_t)(c->channels * c->image_size * c->image_size);
  *out = (tl_predictions){.n = n, .n_outputs = (int)v, .loss = NAN};
  out->pixels = calloc(n * v * TL_PIXELS_N + 1, sizeof *out->pixels);
  out->confusion = calloc(v * v, sizeof *out->confusion);
  mask_job j = {.p = p,
                .d = d,
                .index = index,
                .a = a,
                .pictures = malloc(room * values * sizeof(float)),
                .targets = malloc(room * (size_t)(p->side * p->side) * sizeof(int32_t)),
                .truth = calloc(room, sizeof *j.truth),
                .classes = calloc(room, sizeof *j.classes),
                .confusion = malloc(room * v * v * sizeof *j.confusion),
                .err = calloc(room, sizeof *j.err)};
  tl_status s = out->pixels && out->confusion && j.pictures && j.targets && j.truth && j.classes &&
                        j.confusion && j.err
                    ? run_batches(p, &j, each, user, out, err)
                    : tl_fail(err, TL_NOMEM, "masks: out of memory for %zu pictures", n);
  free(j.pictures);
  free(j.targets);
  free(j.truth);
  free(j.classes);
  free(j.confusion);
  free(j.err);
  if (s != TL_OK) tl_predictions_free(out);
  return s;
}

/* --- weights -----------------------------------------------------------------------------------
 */

/* pixels[c]: of class c; around[c]: with a class, in the pictures where c occurs. */
typedef struct occurrence {
  double pixels[TL_MASK_CLASSES], around[TL_MASK_CLASSES];
} occurrence;

static void count(const tl_image *m, int n_classes, occurrence *sum) {
  size_t n = (size_t)m->width * (size_t)m->height, have[TL_MASK_VOID + 1] = {0};
  for (size_t i = 0; i < n; i++) have[m->pixels[i]]++;
  for (int c = 0; c < n_classes; c++) {
    sum->pixels[c] += (double)have[c];
    if (have[c]) sum->around[c] += (double)(n - have[TL_MASK_VOID]);
  }
}

static void weigh(const occurrence *sum, int n_classes, float *weights) {
  double sorted[TL_MASK_CLASSES], total = 0, weighted = 0;
  size_t n = 0;
  for (int c = 0; c < n_classes; c++)
    if (sum->pixels[c] > 0) sorted[n++] = sum->pixels[c] / sum->around[c];
  tl_sort(sorted, n);
  double median = tl_quantile(sorted, n, 0.5);
  for (int c = 0; c < n_classes; c++) {
    bool occurs = sum->pixels[c] > 0;
    double w = occurs ? median * sum->around[c] / sum->pixels[c] : 0;
    weights[c] = (float)w;
    total += sum->pixels[c];
    weighted += w * sum->pixels[c];
  }
  for (int c = 0; c < n_classes; c++)
    weights[c] = weights[c] > 0 ? (float)((double)weights[c] * total / weighted) : 1;
}

tl_status tl_mask_balance(const tl_image_data *d, const size_t *index, size_t n, int n_classes,
                          float *weights, tl_err *err) {
  occurrence sum = {0};
  for (size_t i = 0; i < n; i++) {
    tl_image m;
    TL_TRY(tl_image_get(d->masks, index ? index[i] : i, 1, &m, err));
    count(&m, n_classes, &sum);
    tl_image_free(&m);
  }
  weigh(&sum, n_classes, weights);
  return TL_OK;
}
