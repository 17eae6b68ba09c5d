/* Metrics of predictions: classes, several labels at once, real values, scores, probabilities.
 *
 * Where defined, the results are scikit-learn's and SciPy's (tests/golden/metrics); where not (a
 * division by zero that says nothing), the comment says what comes back, mostly NAN.
 * `index`: NULL for all of the n examples, else the n examples to use, with repetitions: so each
 * metric can be resampled by tl_bootstrap (eval/stats.h). Errors of all: DATA (a value that the
 * comment excludes; the message names the example), NOMEM. *out is written on success only. */
#ifndef TL_EVAL_METRICS_H
#define TL_EVAL_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"

/* --- Precision, recall and F1 of a class, or of an average of classes --- */
typedef struct tl_prf {
  double precision, recall, f1; /* a ratio with a zero denominator is 0 */
  size_t correct, predicted, actual;
} tl_prf;

typedef enum tl_average {
  TL_AVERAGE_MICRO,    /* of the summed counts */
  TL_AVERAGE_MACRO,    /* the plain mean over classes; NAN without a class */
  TL_AVERAGE_WEIGHTED, /* the mean weighted by `actual`; 0 if that is 0 everywhere */
} tl_average;

tl_prf tl_prf_of_counts(size_t correct, size_t predicted, size_t actual);
/* keep_absent: a class neither predicted nor true counts with F1 = 0 in the macro average, as
 * scikit-learn has it for label columns; else it is left out, as for classes and entities. */
tl_prf tl_prf_average(const tl_prf *class_prf, size_t n_classes, tl_average how, bool keep_absent);

/* --- One class per example: all from the confusion matrix --- */
/* matrix[n_classes * n_classes], overwritten: row is the true class, column the predicted one.
 * Class ids outside [0, n_classes) are an error. */
tl_status tl_confusion_count(const int *truth, const int *pred, const size_t *index, size_t n,
                             size_t n_classes, size_t *matrix, tl_err *err);
double tl_confusion_accuracy(const size_t *matrix, size_t n_classes); /* NAN without examples */
/* The mean recall of the classes that occur (Brodersen et al. 2010); NAN without examples. */
double tl_confusion_balanced_accuracy(const size_t *matrix, size_t n_classes);
/* Matthews' coefficient for several classes, R_K (Gorodkin 2004); 0 if all examples have one true
 * or one predicted class. */
double tl_confusion_matthews(const size_t *matrix, size_t n_classes);
void tl_confusion_prf(const size_t *matrix, size_t n_classes, tl_prf *class_prf);

/* --- Any number of labels per example: truth, pred[n_rows * n_labels] of 0 and 1 --- */
tl_status tl_multilabel_prf(const uint8_t *truth, const uint8_t *pred, const size_t *index,
                            size_t n, size_t n_labels, tl_prf *label_prf, tl_err *err);
/* The share of examples whose labels are all right; NAN for n == 0. */
double tl_multilabel_subset_accuracy(const uint8_t *truth, const uint8_t *pred, const size_t *index,
                                     size_t n, size_t n_labels);

/* --- Real values --- */
/* Both correlations are NAN for n < 2, a constant input, or a value that is not finite. */
double tl_pearson(const double *x, const double *y, const size_t *index, size_t n);
/* Pearson's correlation of the ranks; equal values share their average rank. */
tl_status tl_spearman(const double *x, const double *y, const size_t *index, size_t n, double *out,
                      tl_err *err);
double tl_mean_squared_error(const double *truth, const double *pred, const size_t *index,
                             size_t n); /* NAN for n == 0 */

/* --- Scores: any finite number, larger for "more likely the class" --- */
/* Area under the ROC curve, truth 0 or 1: the share of (positive, negative) pairs in the right
 * order, equal scores counting half (Hanley and McNeil 1982). NAN if one of the classes is absent.
 */
tl_status tl_roc_auc(const double *score, const int *truth, const size_t *index, size_t n,
                     double *out, tl_err *err);
/* The plain mean over classes of the area of each against the rest; score[n_rows * n_classes],
 * truth in [0, n_classes). NAN if one of the classes is absent, or n_classes < 2. */
tl_status tl_roc_auc_ovr(const double *score, const int *truth, const size_t *index, size_t n,
                         size_t n_classes, double *out, tl_err *err);
/* Sum over thresholds of (step in recall) * precision, without interpolation; equal scores are one
 * threshold. NAN without positives (scikit-learn warns and says 0). */
tl_status tl_average_precision(const double *score, const int *truth, const size_t *index, size_t n,
                               double *out, tl_err *err);

/* --- Probabilities --- */
enum { TL_ECE_BINS = 15 }; /* as Guo et al. 2017 */

typedef struct tl_reliability_bin {
  size_t n;
  double confidence, accuracy; /* means over the bin; 0 if it is empty */
} tl_reliability_bin;

/* Equal-width bins (i/n_bins, (i+1)/n_bins], the first with its 0. confidence in [0, 1], of the
 * predicted class; correct: 0 or 1, whether that class is the true one. */
tl_status tl_reliability(const double *confidence, const uint8_t *correct, const size_t *index,
                         size_t n, tl_reliability_bin *bins, size_t n_bins, tl_err *err);
/* Expected calibration error: the mean of |confidence - accuracy| weighted by bin size (Naeini et
 * al. 2015; Guo et al. 2017); NAN without examples. */
double tl_expected_calibration_error(const tl_reliability_bin *bins, size_t n_bins);
/* Mean squared distance between the probabilities and the truth's 0/1 vector (Brier 1950), halved
 * for two classes, as scikit-learn does, so that prob[n_rows * 2] and the one column prob[n_rows]
 * of class 1 (n_classes == 1, truth 0 or 1) agree. NAN for n == 0. */
tl_status tl_brier(const double *prob, const int *truth, const size_t *index, size_t n,
                   size_t n_classes, double *out, tl_err *err);

#endif
