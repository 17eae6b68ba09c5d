/* Metrics of masks from counts of pixels: [n][n_classes][3] in each picture the pixels that are
 * rightly of a class, predicted as it, and truly of it. Pixels without a class are in none of them.
 * index as in eval/metrics.h. */
#ifndef TL_EVAL_MASK_METRICS_H
#define TL_EVAL_MASK_METRICS_H

#include <stddef.h>
#include <stdint.h>

enum { TL_PIXELS_RIGHT, TL_PIXELS_PREDICTED, TL_PIXELS_TRUE, TL_PIXELS_N, TL_MASK_MOST = 255 };

/* Over all pictures together: right / (predicted + true - right) of each class into iou[n_classes]
 * (NULL: not wanted; NAN: the class does not occur in the truth), and the mean over the classes
 * that occur; NAN without any. n_classes is at most TL_MASK_MOST. */
double tl_mask_iou(const uint64_t *pixels, size_t n_classes, const size_t *index, size_t n,
                   double *iou);
/* The share of the pixels that are right, and the mean of the classes' shares; NAN without any. */
double tl_mask_accuracy(const uint64_t *pixels, size_t n_classes, const size_t *index, size_t n);
double tl_mask_class_accuracy(const uint64_t *pixels, size_t n_classes, const size_t *index,
                              size_t n);

#endif
