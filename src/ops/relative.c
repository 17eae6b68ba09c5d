#include <math.h>

#include "ops/ops.h"

/* In f32 and in this order, as PyTorch computes it: distances whose logarithms' ratio is whole must
 * fall to the same side. */
int tl_relative_bucket(int d, int buckets, int max_distance, bool causal) {
  int first = 0;
  if (!causal) {
    buckets /= 2;
    if (d < 0) first = buckets, d = -d;
  } else if (d < 0) {
    d = 0;
  }
  int near = buckets / 2;
  if (d < near) return first + d;
  float ratio = logf((float)d / (float)near) / (float)log((double)max_distance / (double)near);
  int far = near + (int)(ratio * (float)(buckets - near));
  return first + (far < buckets ? far : buckets - 1);
}
