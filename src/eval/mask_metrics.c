#include "eval/mask_metrics.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

typedef uint64_t counts[TL_MASK_MOST][TL_PIXELS_N];

static void add_up(const uint64_t *pixels, size_t k, const size_t *index, size_t n, counts sum) {
  memset(sum, 0, k * sizeof *sum);
  for (size_t i = 0; i < n; i++) {
    const uint64_t *row = pixels + (index ? index[i] : i) * k * TL_PIXELS_N;
    for (size_t c = 0; c < k * TL_PIXELS_N; c++) sum[c / TL_PIXELS_N][c % TL_PIXELS_N] += row[c];
  }
}

double tl_mask_iou(const uint64_t *pixels, size_t k, const size_t *index, size_t n, double *iou) {
  counts sum;
  double total = 0;
  size_t occur = 0;
  add_up(pixels, k, index, n, sum);
  for (size_t c = 0; c < k; c++) {
    const uint64_t *s = sum[c];
    bool there = s[TL_PIXELS_TRUE] > 0;
    uint64_t all = s[TL_PIXELS_PREDICTED] + s[TL_PIXELS_TRUE] - s[TL_PIXELS_RIGHT];
    double x = there ? (double)s[TL_PIXELS_RIGHT] / (double)all : NAN;
    if (iou) iou[c] = x;
    if (there) total += x;
    occur += there;
  }
  return occur ? total / (double)occur : NAN;
}

double tl_mask_accuracy(const uint64_t *pixels, size_t k, const size_t *index, size_t n) {
  counts sum;
  uint64_t right = 0, all = 0;
  add_up(pixels, k, index, n, sum);
  for (size_t c = 0; c < k; c++) {
    right += sum[c][TL_PIXELS_RIGHT];
    all += sum[c][TL_PIXELS_TRUE];
  }
  return all ? (double)right / (double)all : NAN;
}

double tl_mask_class_accuracy(const uint64_t *pixels, size_t k, const size_t *index, size_t n) {
  counts sum;
  double total = 0;
  size_t occur = 0;
  add_up(pixels, k, index, n, sum);
  for (size_t c = 0; c < k; c++) {
    if (sum[c][TL_PIXELS_TRUE] == 0) continue;
    total += (double)sum[c][TL_PIXELS_RIGHT] / (double)sum[c][TL_PIXELS_TRUE];
    occur++;
  }
  return occur ? total / (double)occur : NAN;
}
