/* Weighted nearest neighbours by cosine (Wu et al. 2018, "Unsupervised feature learning via
 * non-parametric instance discrimination"): each of the k nearest rows of the base votes for its
 * class with exp(cosine / temperature). */
#ifndef TL_EVAL_KNN_H
#define TL_EVAL_KNN_H

#include "base/context.h"
#include "tilth/status.h"

typedef struct tl_knn_options {
  int64_t k; /* 1 .. 1,024; more than there are rows: all */
  double temperature;
} tl_knn_options;
/* base f32 [n][dim] with label[n] in [0, n_classes), query [m][dim]; sets class[m]. Equal cosines:
 * the earlier row is nearer; equal votes: the lower class. Rows of zeros have cosine 0. Errors:
 * NOMEM, PREEMPTED. */
tl_status tl_knn(tl_ctx *ctx, const tl_knn_options *o, const float *base, const int32_t *label,
                 int64_t n, const float *query, int64_t m, int64_t dim, int64_t n_classes,
                 int32_t *class, tl_err *err);

#endif
