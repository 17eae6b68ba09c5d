/* A sum of block sums over a fixed binary tree: added as a binary counter carries, blocks (0,1),
 * (2,3), then (01,23), and so on; what is left is added from the lowest level up. */
#ifndef TL_KERNELS_SUM_TREE_H
#define TL_KERNELS_SUM_TREE_H

#include <stdint.h>

typedef struct tl_sum_tree {
  double level[64];
  uint64_t used; /* bit l: level[l] holds the sum of 2^l blocks */
} tl_sum_tree;

static inline void tl_sum_tree_add(tl_sum_tree *t, double s) {
  int l = 0;
  for (; t->used >> l & 1; l++) s = t->level[l] + s;
  t->level[l] = s;
  t->used += 1;
}

static inline double tl_sum_tree_total(const tl_sum_tree *t) {
  double total = 0;
  for (int l = 0; l < 64; l++)
    if (t->used >> l & 1) total = t->level[l] + total;
  return total;
}

#endif
