/* Multinomial logistic regression on given features: the linear probe, and the classifier of the
 * baselines. Full-batch L-BFGS; the strength of the penalty is chosen on a held-out part.
 *
 *   minimise over W, b:  mean_i cross_entropy(x_i W + b, label_i) + l2 / 2 |W|^2 */
#ifndef TL_EVAL_SOFTMAX_REGRESSION_H
#define TL_EVAL_SOFTMAX_REGRESSION_H

#include "base/context.h"
#include "tilth/status.h"

typedef struct tl_softmax_regression {
  int64_t dim, n_classes;
  double *w;    /* [dim][n_classes], then the bias [n_classes] */
  double l2;    /* the one in use */
  double valid; /* accuracy on the held-out part with it; NaN without one */
  int steps;    /* of L-BFGS, in all fits together */
} tl_softmax_regression;

/* x f32 [n][dim], label[n] in [0, n_classes). The last n_valid rows choose l2 among 1, 0.1, ...,
 * 1e-6 by their accuracy (equal: by their loss), then all rows are fitted; n_valid 0: l2 is 0.01.
 * Deterministic on any number of threads. Errors: DATA (n_valid >= n), PREEMPTED, NOMEM. */
tl_status tl_softmax_regression_fit(tl_ctx *ctx, const float *x, const int32_t *label, int64_t n,
                                    int64_t dim, int64_t n_classes, int64_t n_valid,
                                    tl_softmax_regression *out, tl_err *err);
/* Sets class[n], the likeliest (equal: the first). NOMEM. */
tl_status tl_softmax_regression_predict(tl_ctx *ctx, const tl_softmax_regression *r, const float *x,
                                        int64_t n, int32_t *class, tl_err *err);
void tl_softmax_regression_free(tl_softmax_regression *r);

/* Columns of x f32 [n][dim] to mean 0 and deviation 1 in place (constant ones: to 0); the same is
 * done to other [m][dim], by x's mean and deviation. */
void tl_standardise(tl_ctx *ctx, float *x, int64_t n, int64_t dim, float *other, int64_t m);

#endif
