#include "train/image_batch.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "transfer/image_graph.h"

typedef struct slot {
  uint64_t position;
  bool ready;
  float *patches, *targets, *pictures;
  int32_t *classes;
} slot;

struct tl_image_feed {
  tl_image_feed_options o;
  int64_t values; /* of one picture */
  int64_t outputs;
  slot *slot;           /* [ahead]: batch b of the present run of batches lies in slot b % ahead */
  uint64_t first;       /* position of batch 0 */
  uint64_t made, asked; /* batches done, batches given out */
  uint64_t generation;  /* grows with every new start */
  tl_err error;
  bool stop, running;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t change;
};

size_t tl_image_feed_record(const tl_image_feed *f, uint64_t position) {
  uint64_t n = (uint64_t)f->o.n;
  uint64_t i = tl_permute(tl_mix64(f->o.seed, position / n), n, position % n);
  return f->o.index[i];
}

/* seed: of its chance */
static tl_status load_picture(tl_image_feed *f, uint64_t seed, uint64_t position, float *out,
                              int32_t *classes, tl_err *err) {
  tl_image m, mask = {0};
  size_t at = tl_image_feed_record(f, position);
  TL_TRY(tl_image_get(f->o.data, at, f->o.augment.channels, &m, err));
  tl_status s = classes ? tl_image_get(f->o.data->masks, at, 1, &mask, err) : TL_OK;
  if (s == TL_OK && classes)
    s = tl_augment_pair(&f->o.augment, &m, &mask, (int32_t)f->o.side, seed, position, out, classes,
                        err);
  else if (s == TL_OK)
    s = tl_augment_run(&f->o.augment, &m, seed, position, out, err);
  tl_image_free(&m);
  tl_image_free(&mask);
  return s;
}

static void add_label(const tl_image_feed *f, uint64_t position, double share, float *t) {
  const tl_task_data *d = &f->o.data->records;
  size_t record = tl_image_feed_record(f, position);
  double smoothing = d->label ? f->o.smoothing : 0, even = smoothing / (double)f->outputs;
  if (f->o.class_weights) share *= (double)f->o.class_weights[d->label[record]];
  for (int64_t k = 0; k < f->outputs; k++) t[k] += (float)(share * even);
  tl_image_target(d, record, (float)(share * (1 - smoothing)), t);
}

/* Sample i is mixed with the one as far from the other end, as that was before. */
static void mix(tl_image_feed *f, const slot *s, float *mixed) {
  const tl_augment *a = &f->o.augment;
  int64_t n = f->o.batch;
  memset(s->targets, 0, (size_t)(n * f->outputs) * sizeof(float));
  for (int64_t i = 0; i < n; i++) {
    int64_t other = n - 1 - i;
    memcpy(mixed, s->pictures + i * f->values, (size_t)f->values * sizeof *mixed);
    double share = tl_mix_run(&f->o.mix, a->size, a->channels, f->o.seed, s->position + (uint64_t)i,
                              mixed, s->pictures + other * f->values);
    float *t = s->targets + i * f->outputs;
    add_label(f, s->position + (uint64_t)i, share, t);
    if (share < 1) add_label(f, s->position + (uint64_t)other, 1 - share, t);
    tl_picture_rows(&f->o.model, mixed, s->patches + i * f->values);
  }
}

/* All pictures of one view; a broken one stays empty. */
static tl_status make_view(tl_image_feed *f, slot *s, int view, tl_err *err) {
  tl_status first = TL_OK;
  int64_t pixels = f->o.side * f->o.side;
  uint64_t seed = view ? tl_mix64(f->o.seed, (uint64_t)view) : f->o.seed;
  for (int64_t i = 0; i < f->o.batch; i++) {
    float *to = s->pictures + i * f->values;
    int32_t *classes = pixels ? s->classes + i * pixels : NULL;
    tl_status one =
        load_picture(f, seed, s->position + (uint64_t)i, to, classes, first == TL_OK ? err : NULL);
    if (one != TL_OK) memset(to, 0, (size_t)f->values * sizeof *to);
    if (one != TL_OK && pixels) memset(classes, 0xff, (size_t)pixels * sizeof *classes);
    if (pixels || f->o.views)
      tl_picture_rows(&f->o.model, to, s->patches + (view * f->o.batch + i) * f->values);
    if (first == TL_OK) first = one;
  }
  return first;
}

static tl_status make(tl_image_feed *f, slot *s, tl_err *err) {
  tl_status first = make_view(f, s, 0, err);
  for (int v = 1; v < f->o.views; v++) {
    tl_status one = make_view(f, s, v, first == TL_OK ? err : NULL);
    if (first == TL_OK) first = one;
  }
  if (f->o.side || f->o.views) return first;
  float *mixed = malloc((size_t)f->values * sizeof *mixed);
  if (!mixed) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  mix(f, s, mixed);
  free(mixed);
  return first;
}

/* One slot always belongs to the batch given out last and those before it that are still in use. */
static bool has_room(const tl_image_feed *f) {
  return f->made < f->asked + (uint64_t)(f->o.ahead + 1) / 2;
}

static void *work(void *arg) {
  tl_image_feed *f = arg;
  pthread_mutex_lock(&f->lock);
  while (!f->stop) {
    if (!has_room(f)) {
      pthread_cond_wait(&f->change, &f->lock);
      continue;
    }
    uint64_t generation = f->generation;
    slot *s = &f->slot[f->made % (uint64_t)f->o.ahead];
    s->position = f->first + f->made * (uint64_t)f->o.batch;
    s->ready = false;
    pthread_mutex_unlock(&f->lock);
    tl_err err = {TL_OK, ""};
    tl_status status = make(f, s, &err);
    pthread_mutex_lock(&f->lock);
    if (status != TL_OK && f->error.code == TL_OK) f->error = err;
    if (generation != f->generation) continue;
    s->ready = true;
    f->made++;
    pthread_cond_broadcast(&f->change);
  }
  pthread_mutex_unlock(&f->lock);
  return NULL;
}

static tl_status alloc(tl_image_feed *f, tl_err *err) {
  size_t n = (size_t)f->o.batch, values = n * (size_t)f->values * sizeof(float);
  f->slot = calloc((size_t)f->o.ahead, sizeof *f->slot);
  if (!f->slot) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  for (int i = 0; i < f->o.ahead; i++) {
    slot *s = &f->slot[i];
    s->patches = malloc(values * (size_t)(f->o.views ? f->o.views : 1));
    s->pictures = malloc(values);
    s->targets = malloc((n * (size_t)f->outputs + 1) * sizeof(float));
    s->classes = malloc((n * (size_t)(f->o.side * f->o.side) + 1) * sizeof *s->classes);
    if (!s->patches || !s->pictures || !s->targets || !s->classes)
      return tl_fail(err, TL_NOMEM, "pictures: out of memory for batches of %zu", n);
  }
  return TL_OK;
}

tl_status tl_image_feed_new(const tl_image_feed_options *o, tl_image_feed **out, tl_err *err) {
  tl_image_feed *f = calloc(1, sizeof *f);
  if (!f) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  f->o = *o;
  f->values = o->model.channels * o->model.image_size * o->model.image_size;
  f->outputs = o->views ? 0 : o->data->records.labels.n;
  f->first = UINT64_MAX; /* nothing is asked for yet */
  pthread_mutex_init(&f->lock, NULL);
  pthread_cond_init(&f->change, NULL);
  tl_status s = alloc(f, err);
  if (s != TL_OK) {
    tl_image_feed_free(f);
    return s;
  }
  *out = f;
  return TL_OK;
}

void tl_image_feed_free(tl_image_feed *f) {
  if (!f) return;
  pthread_mutex_lock(&f->lock);
  f->stop = true;
  pthread_cond_broadcast(&f->change);
  pthread_mutex_unlock(&f->lock);
  if (f->running) pthread_join(f->thread, NULL);
  for (int i = 0; f->slot && i < f->o.ahead; i++) {
    free(f->slot[i].patches);
    free(f->slot[i].pictures);
    free(f->slot[i].targets);
    free(f->slot[i].classes);
  }
  free(f->slot);
  pthread_cond_destroy(&f->change);
  pthread_mutex_destroy(&f->lock);
  free(f);
}

tl_image_batch tl_image_feed_get(tl_image_feed *f, uint64_t position) {
  pthread_mutex_lock(&f->lock);
  if (f->first == UINT64_MAX || position != f->first + f->asked * (uint64_t)f->o.batch) {
    f->first = position;
    f->made = f->asked = 0;
    f->generation++;
  }
  slot *s = &f->slot[f->asked % (uint64_t)f->o.ahead];
  f->asked++;
  if (!f->running && pthread_create(&f->thread, NULL, work, f) == 0) f->running = true;
  pthread_cond_broadcast(&f->change);
  while (f->running && f->made < f->asked) pthread_cond_wait(&f->change, &f->lock);
  if (!f->running) { /* no thread to be had: made here */
    s->position = position;
    if (make(f, s, &f->error) != TL_OK && f->error.code == TL_OK) f->error.code = TL_FAILED;
    f->made = f->asked;
  }
  pthread_mutex_unlock(&f->lock);
  if (f->o.side) return (tl_image_batch){.patches = s->patches, .classes = s->classes};
  return (tl_image_batch){.patches = s->patches, .targets = f->o.views ? NULL : s->targets};
}

tl_status tl_image_feed_error(tl_image_feed *f, tl_err *err) {
  pthread_mutex_lock(&f->lock);
  tl_err e = f->error;
  pthread_mutex_unlock(&f->lock);
  return e.code == TL_OK ? TL_OK : tl_fail(err, e.code, "%s", e.msg);
}
