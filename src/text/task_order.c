/* Nested, stratified subsets. */
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "tilth/task_data.h"

typedef struct place {
  double at;
  size_t record;
} place;

static int by_place(const void *a, const void *b) {
  const place *x = a, *y = b;
  if (x->at != y->at) return x->at < y->at ? -1 : 1;
  return x->record < y->record ? -1 : 1;
}

static size_t nth(const tl_task_data *d, uint64_t seed, size_t i) {
  return (size_t)tl_permute(tl_mix64(seed, TL_STREAM_SPLIT), d->n, i);
}

tl_status tl_task_order(const tl_task_data *d, uint64_t seed, size_t *order, tl_err *err) {
  if (!d->label) {
    for (size_t i = 0; i < d->n; i++) order[i] = nth(d, seed, i);
    return TL_OK;
  }
  size_t n_classes = (size_t)d->labels.n;
  place *p = malloc((d->n + 1) * sizeof *p);
  double *count = calloc(2 * n_classes + 1, sizeof *count);
  if (!p || !count) {
    free(p);
    free(count);
    return tl_fail(err, TL_NOMEM, "order of the records: out of memory");
  }
  double *rank = count + n_classes;
  for (size_t i = 0; i < d->n; i++) count[d->label[i]]++;
  tl_rng r = tl_rng_make(seed, TL_STREAM_SPLIT, 0, 0);
  for (size_t k = 0; k < n_classes; k++) rank[k] = (double)tl_rng_f32(&r);
  for (size_t i = 0; i < d->n; i++) {
    size_t record = nth(d, seed, i);
    int32_t k = d->label[record];
    p[i] = (place){rank[k] / count[k], record};
    rank[k]++;
  }
  qsort(p, d->n, sizeof *p, by_place);
  for (size_t i = 0; i < d->n; i++) order[i] = p[i].record;
  free(p);
  free(count);
  return TL_OK;
}

static tl_status part_size(double part, size_t n, const char *what, size_t *out, tl_err *err) {
  if (!(part >= 0) || (part >= 1 && part != floor(part)))
    return tl_fail(err, TL_CONFIG,
                   "%s part %g of the records: expected a whole number or a share below 1", what,
                   part);
  double size = part < 1 ? round(part * (double)n) : part;
  if (part > 0 && size < 1) size = 1;
  if (size > (double)n)
    return tl_fail(err, TL_CONFIG, "%s part of %g records wanted, but there are %zu", what, part,
                   n);
  *out = (size_t)size;
  return TL_OK;
}

tl_status tl_task_split(const tl_task_data *d, double train, double valid, size_t *n_train,
                        size_t *n_valid, tl_err *err) {
  TL_TRY(part_size(valid, d->n, "validation", n_valid, err));
  TL_TRY(part_size(train, d->n, "training", n_train, err));
  if (train == 0) *n_train = d->n - *n_valid;
  if (*n_train > d->n - *n_valid || *n_train == 0)
    return tl_fail(err, TL_CONFIG,
                   "%zu records to train on and %zu for validation wanted, but there are %zu",
                   *n_train, *n_valid, d->n);
  return TL_OK;
}
