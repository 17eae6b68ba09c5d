#include "eval/metrics.h"

#include <math.h>
#include <string.h>

static size_t at(const size_t *index, size_t i) {
  return index ? index[i] : i;
}

static double ratio(double a, double b) {
  return b > 0 ? a / b : 0;
}

tl_prf tl_prf_of_counts(size_t correct, size_t predicted, size_t actual) {
  double c = (double)correct, p = (double)predicted, a = (double)actual;
  tl_prf r = {ratio(c, p), ratio(c, a), ratio(2 * c, p + a), correct, predicted, actual};
  return r;
}

tl_prf tl_prf_average(const tl_prf *class_prf, size_t n_classes, tl_average how, bool keep_absent) {
  size_t correct = 0, predicted = 0, actual = 0;
  double weight = 0, precision = 0, recall = 0, f1 = 0;
  for (size_t c = 0; c < n_classes; c++) {
    const tl_prf *p = &class_prf[c];
    correct += p->correct;
    predicted += p->predicted;
    actual += p->actual;
    if (!keep_absent && !p->predicted && !p->actual) continue;
    double w = how == TL_AVERAGE_WEIGHTED ? (double)p->actual : 1;
    weight += w;
    precision += w * p->precision;
    recall += w * p->recall;
    f1 += w * p->f1;
  }
  tl_prf r = tl_prf_of_counts(correct, predicted, actual);
  if (how == TL_AVERAGE_MICRO) return r;
  if (weight > 0) {
    r.precision = precision / weight;
    r.recall = recall / weight;
    r.f1 = f1 / weight;
  } else {
    r.precision = r.recall = r.f1 = how == TL_AVERAGE_MACRO ? NAN : 0;
  }
  return r;
}

tl_status tl_confusion_count(const int *truth, const int *pred, const size_t *index, size_t n,
                             size_t n_classes, size_t *matrix, tl_err *err) {
  for (size_t i = 0; i < n_classes * n_classes; i++) matrix[i] = 0;
  for (size_t i = 0; i < n; i++) {
    size_t e = at(index, i);
    if (truth[e] < 0 || (size_t)truth[e] >= n_classes)
      return tl_fail(err, TL_DATA, "example %zu: true class %d is not in [0, %zu)", e, truth[e],
                     n_classes);
    if (pred[e] < 0 || (size_t)pred[e] >= n_classes)
      return tl_fail(err, TL_DATA, "example %zu: predicted class %d is not in [0, %zu)", e, pred[e],
                     n_classes);
    matrix[(size_t)truth[e] * n_classes + (size_t)pred[e]]++;
  }
  return TL_OK;
}

/* Sums of row c, of column c. */
static void margins(const size_t *matrix, size_t n_classes, size_t c, size_t *row, size_t *column) {
  *row = *column = 0;
  for (size_t k = 0; k < n_classes; k++) {
    *row += matrix[c * n_classes + k];
    *column += matrix[k * n_classes + c];
  }
}

double tl_confusion_accuracy(const size_t *matrix, size_t n_classes) {
  size_t n = 0, correct = 0;
  for (size_t i = 0; i < n_classes * n_classes; i++) n += matrix[i];
  for (size_t c = 0; c < n_classes; c++) correct += matrix[c * n_classes + c];
  return n ? (double)correct / (double)n : NAN;
}

double tl_confusion_balanced_accuracy(const size_t *matrix, size_t n_classes) {
  double sum = 0;
  size_t present = 0;
  for (size_t c = 0; c < n_classes; c++) {
    size_t actual, predicted;
    margins(matrix, n_classes, c, &actual, &predicted);
    if (!actual) continue;
    sum += (double)matrix[c * n_classes + c] / (double)actual;
    present++;
  }
  return present ? sum / (double)present : NAN;
}

double tl_confusion_matthews(const size_t *matrix, size_t n_classes) {
  double n = 0, correct = 0, tp = 0, tt = 0, pp = 0;
  for (size_t c = 0; c < n_classes; c++) {
    size_t actual, predicted;
    margins(matrix, n_classes, c, &actual, &predicted);
    double t = (double)actual, p = (double)predicted;
    n += t;
    correct += (double)matrix[c * n_classes + c];
    tp += t * p;
    tt += t * t;
    pp += p * p;
  }
  double spread = (n * n - tt) * (n * n - pp);
  return spread > 0 ? (correct * n - tp) / sqrt(spread) : 0;
}

void tl_confusion_prf(const size_t *matrix, size_t n_classes, tl_prf *class_prf) {
  for (size_t c = 0; c < n_classes; c++) {
    size_t actual, predicted;
    margins(matrix, n_classes, c, &actual, &predicted);
    class_prf[c] = tl_prf_of_counts(matrix[c * n_classes + c], predicted, actual);
  }
}

tl_status tl_multilabel_prf(const uint8_t *truth, const uint8_t *pred, const size_t *index,
                            size_t n, size_t n_labels, tl_prf *label_prf, tl_err *err) {
  for (size_t k = 0; k < n_labels; k++) {
    size_t correct = 0, predicted = 0, actual = 0;
    for (size_t i = 0; i < n; i++) {
      size_t e = at(index, i) * n_labels + k;
      if (truth[e] > 1 || pred[e] > 1)
        return tl_fail(err, TL_DATA, "example %zu, label %zu: %d is neither 0 nor 1", at(index, i),
                       k, truth[e] > 1 ? truth[e] : pred[e]);
      correct += truth[e] & pred[e];
      predicted += pred[e];
      actual += truth[e];
    }
    label_prf[k] = tl_prf_of_counts(correct, predicted, actual);
  }
  return TL_OK;
}

double tl_multilabel_subset_accuracy(const uint8_t *truth, const uint8_t *pred, const size_t *index,
                                     size_t n, size_t n_labels) {
  size_t correct = 0;
  for (size_t i = 0; i < n; i++) {
    size_t e = at(index, i) * n_labels;
    correct += !memcmp(truth + e, pred + e, n_labels);
  }
  return n ? (double)correct / (double)n : NAN;
}

double tl_mean_squared_error(const double *truth, const double *pred, const size_t *index,
                             size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) {
    double d = truth[at(index, i)] - pred[at(index, i)];
    sum += d * d;
  }
  return n ? sum / (double)n : NAN;
}

tl_status tl_reliability(const double *confidence, const uint8_t *correct, const size_t *index,
                         size_t n, tl_reliability_bin *bins, size_t n_bins, tl_err *err) {
  if (!n_bins) return tl_fail(err, TL_DATA, "a reliability diagram needs at least one bin");
  for (size_t b = 0; b < n_bins; b++) bins[b] = (tl_reliability_bin){0};
  double width = 1.0 / (double)n_bins;
  for (size_t i = 0; i < n; i++) {
    size_t e = at(index, i);
    double c = confidence[e];
    if (!(c >= 0 && c <= 1))
      return tl_fail(err, TL_DATA, "example %zu: confidence %g is not in [0, 1]", e, c);
    if (correct[e] > 1)
      return tl_fail(err, TL_DATA, "example %zu: %d is neither 0 (wrong) nor 1 (right)", e,
                     correct[e]);
    size_t b = (size_t)(c * (double)n_bins);
    if (b >= n_bins) b = n_bins - 1;
    if (b > 0 && c <= (double)b * width) b--; /* the edge belongs to the bin below */
    bins[b].n++;
    bins[b].confidence += c;
    bins[b].accuracy += correct[e];
  }
  for (size_t b = 0; b < n_bins; b++) {
    bins[b].confidence = ratio(bins[b].confidence, (double)bins[b].n);
    bins[b].accuracy = ratio(bins[b].accuracy, (double)bins[b].n);
  }
  return TL_OK;
}

double tl_expected_calibration_error(const tl_reliability_bin *bins, size_t n_bins) {
  double sum = 0;
  size_t n = 0;
  for (size_t b = 0; b < n_bins; b++) {
    sum += (double)bins[b].n * fabs(bins[b].confidence - bins[b].accuracy);
    n += bins[b].n;
  }
  return n ? sum / (double)n : NAN;
}

tl_status tl_brier(const double *prob, const int *truth, const size_t *index, size_t n,
                   size_t n_classes, double *out, tl_err *err) {
  size_t top = n_classes == 1 ? 2 : n_classes;
  double sum = 0;
  for (size_t i = 0; i < n; i++) {
    size_t e = at(index, i);
    if (truth[e] < 0 || (size_t)truth[e] >= top)
      return tl_fail(err, TL_DATA, "example %zu: true class %d is not in [0, %zu)", e, truth[e],
                     top);
    for (size_t k = 0; k < n_classes; k++) {
      double p = prob[e * n_classes + k];
      if (!(p >= 0 && p <= 1))
        return tl_fail(err, TL_DATA, "example %zu, class %zu: probability %g is not in [0, 1]", e,
                       k, p);
      double d = p - (n_classes == 1 ? truth[e] : (size_t)truth[e] == k);
      sum += d * d;
    }
  }
  *out = n ? sum / (double)n / (n_classes == 2 ? 2 : 1) : NAN;
  return TL_OK;
}
