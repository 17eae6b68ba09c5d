/* Buckets of relative positions: the values that Hugging Face's
 * T5Attention._relative_position_bucket gives, where one bucket follows another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ops/ops.h"

/* From the first distance at which the bucket is another than at the one before. */
typedef struct step {
  int distance, bucket;
} step;

static void follow(const step *s, int n, int buckets, int max_distance, bool causal) {
  for (int d = -150, at = 0; d <= 150; d++) {
    if (at + 1 < n && s[at + 1].distance == d) at++;
    assert_int_equal(tl_relative_bucket(d, buckets, max_distance, causal), s[at].bucket);
  }
}

static void buckets_are_those_of_transformers(void **state) {
  (void)state;
  static const step b32_both[] = {
      {-150, 31}, {-90, 30}, {-63, 29}, {-45, 28}, {-31, 27}, {-22, 26}, {-15, 25}, {-11, 24},
      {-7, 23},   {-6, 22},  {-5, 21},  {-4, 20},  {-3, 19},  {-2, 18},  {-1, 17},  {0, 0},
      {1, 1},     {2, 2},    {3, 3},    {4, 4},    {5, 5},    {6, 6},    {7, 7},    {8, 8},
      {12, 9},    {16, 10},  {23, 11},  {32, 12},  {46, 13},  {64, 14},  {91, 15}};
  follow(b32_both, sizeof b32_both / sizeof *b32_both, 32, 128, false);
  static const step b32_causal[] = {
      {-150, 0}, {1, 1},   {2, 2},   {3, 3},   {4, 4},   {5, 5},   {6, 6},   {7, 7},
      {8, 8},    {9, 9},   {10, 10}, {11, 11}, {12, 12}, {13, 13}, {14, 14}, {15, 15},
      {16, 16},  {19, 17}, {21, 18}, {24, 19}, {27, 20}, {31, 21}, {35, 22}, {40, 23},
      {46, 24},  {52, 25}, {59, 26}, {67, 27}, {77, 28}, {87, 29}, {99, 30}, {113, 31}};
  follow(b32_causal, sizeof b32_causal / sizeof *b32_causal, 32, 128, true);
  static const step b8_both[] = {{-150, 7}, {-6, 6}, {-1, 5}, {0, 0}, {1, 1}, {2, 2}, {7, 3}};
  follow(b8_both, sizeof b8_both / sizeof *b8_both, 8, 20, false);
  static const step b8_causal[] = {{-150, 0}, {1, 1}, {2, 2}, {3, 3},
                                   {4, 4},    {6, 5}, {9, 6}, {14, 7}};
  follow(b8_causal, sizeof b8_causal / sizeof *b8_causal, 8, 20, true);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(buckets_are_those_of_transformers)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
