#include <stdlib.h>

#include "eval/softmax_regression.h"
#include "tilth/augment.h"
#include "train/study.h"

enum { SIDE = 32 };

/* x [n][channels * size * size]. */
static tl_status read_pixels(const tl_part *p, const tl_augment *a, int64_t dim, float *x,
                             tl_err *err) {
  for (size_t i = 0; i < p->records.n; i++) {
    tl_image m;
    TL_TRY(tl_image_get(p->pictures, p->index[i], a->channels, &m, err));
    tl_status s = tl_augment_run(a, &m, 0, 0, x + (int64_t)i * dim, err);
    tl_image_free(&m);
    if (s != TL_OK) return s;
  }
  return TL_OK;
}

tl_status tl_study_pixels(tl_ctx *ctx, const tl_part *train, const tl_part *test, double *accuracy,
                          tl_err *err) {
  const tl_image_data *d = train->pictures;
  int32_t side = d->width > d->height ? d->width : d->height;
  tl_augment a = {.size = side < SIDE ? side : SIDE, .channels = d->channels};
  int64_t n = (int64_t)train->records.n, m = (int64_t)test->records.n, right = 0;
  int64_t dim = (int64_t)a.size * a.size * a.channels;
  float *x = malloc((size_t)(n * dim) * sizeof *x), *y = malloc((size_t)(m * dim) * sizeof *y);
  int32_t *class = malloc((size_t)m * sizeof *class);
  tl_softmax_regression r = {0};
  tl_status s = x && y && class ? TL_OK : tl_fail(err, TL_NOMEM, "study: out of memory");
  if (s == TL_OK) s = read_pixels(train, &a, dim, x, err);
  if (s == TL_OK) s = read_pixels(test, &a, dim, y, err);
  if (s == TL_OK) {
    tl_standardise(ctx, x, n, dim, y, m);
    s = tl_softmax_regression_fit(ctx, x, train->records.label, n, dim, train->records.labels.n,
                                  n / 5, &r, err);
  }
  if (s == TL_OK) s = tl_softmax_regression_predict(ctx, &r, y, m, class, err);
  for (int64_t i = 0; s == TL_OK && i < m; i++) right += class[i] == test->records.label[i];
  *accuracy = (double)right / (double)m;
  tl_softmax_regression_free(&r);
  free(x);
  free(y);
  free(class);
  return s;
}
