/* Unit tests of the data order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tilth/dataset.h"

static void each_epoch_visits_each_window_once(void **state) {
  (void)state;
  static const struct {
    uint64_t tokens;
    uint32_t window;
  } cases[] = {{10, 10}, {11, 10}, {19, 10}, {20, 10}, {1000, 1}, {1003, 7}, {100000, 33}};
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    tl_order o = {.seed = 5, .n_tokens = cases[c].tokens, .window = cases[c].window};
    uint64_t per = tl_order_per_epoch(&o);
    assert_true(per >= 1);
    /* At most one window is lost to the shift, one to the remainder. */
    assert_true(per + 2 > o.n_tokens / o.window);
    unsigned char *seen = malloc(per);
    for (uint64_t epoch = 0; epoch < 5; epoch++) {
      uint64_t shift = UINT64_MAX;
      for (uint64_t i = 0; i < per; i++) seen[i] = 0;
      for (uint64_t i = 0; i < per; i++) {
        uint32_t n;
        uint64_t begin = tl_order_at(&o, epoch * per + i, &n);
        assert_int_equal(n, o.window);
        assert_true(begin + n <= o.n_tokens);
        if (shift == UINT64_MAX) shift = begin % o.window;
        assert_int_equal(begin % o.window, shift);
        assert_int_equal(seen[begin / o.window]++, 0);
      }
    }
    free(seen);
  }
}

static void the_order_depends_on_seed_and_epoch(void **state) {
  (void)state;
  tl_order a = {.seed = 1, .n_tokens = 64000, .window = 64}, b = a;
  b.seed = 2;
  uint64_t per = tl_order_per_epoch(&a);
  uint32_t n;
  unsigned same_seed = 0, same_epoch = 0, ascending = 0, shifts = 0;
  for (uint64_t i = 0; i < per; i++) {
    uint64_t here = tl_order_at(&a, i, &n);
    assert_int_equal(here, tl_order_at(&a, i, &n));
    same_seed += here == tl_order_at(&b, i, &n);
    same_epoch += here == tl_order_at(&a, per + i, &n);
    ascending += i > 0 && here == tl_order_at(&a, i - 1, &n) + 64;
  }
  assert_true(same_seed < 20);
  assert_true(same_epoch < 20);
  assert_true(ascending < 20);
  uint64_t first = tl_order_at(&a, 0, &n) % 64;
  for (uint64_t e = 1; e < 20; e++) shifts += tl_order_at(&a, e * per, &n) % 64 != first;
  assert_true(shifts > 15);
}

/* The values are part of the format of a run: a resumed run must see the same data. */
static void the_order_is_fixed_for_ever(void **state) {
  (void)state;
  tl_order o = {.seed = 42, .n_tokens = 1000000, .window = 257};
  uint32_t n;
  assert_int_equal(tl_order_per_epoch(&o), 3890);
  static const uint64_t positions[4] = {0, 1, 3890, UINT64_C(1) << 60};
  static const uint64_t want[4] = {423789, 677705, 618308, 520698};
  for (int i = 0; i < 4; i++) assert_int_equal(tl_order_at(&o, positions[i], &n), want[i]);
}

static void sequential_covers_everything_in_order(void **state) {
  (void)state;
  for (uint64_t tokens = 1; tokens < 40; tokens++) {
    tl_order o = {.seed = 9, .n_tokens = tokens, .window = 8, .sequential = true};
    uint64_t per = tl_order_per_epoch(&o), next = 0;
    for (uint64_t i = 0; i < per; i++) {
      uint32_t n;
      assert_int_equal(tl_order_at(&o, i, &n), next);
      assert_true(n > 0 && n <= 8);
      next += n;
    }
    assert_int_equal(next, tokens);
    uint32_t n;
    assert_int_equal(tl_order_at(&o, per, &n), 0);
  }
}

static void too_little_data(void **state) {
  (void)state;
  uint32_t n = 77;
  tl_order o = {.n_tokens = 9, .window = 10};
  assert_int_equal(tl_order_per_epoch(&o), 0);
  assert_int_equal(tl_order_at(&o, 3, &n), 0);
  assert_int_equal(n, 0);
  o = (tl_order){.n_tokens = 9, .window = 0};
  assert_int_equal(tl_order_per_epoch(&o), 0);
  o = (tl_order){.n_tokens = 0, .window = 4, .sequential = true};
  assert_int_equal(tl_order_per_epoch(&o), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_epoch_visits_each_window_once),
      cmocka_unit_test(the_order_depends_on_seed_and_epoch),
      cmocka_unit_test(the_order_is_fixed_for_ever),
      cmocka_unit_test(sequential_covers_everything_in_order),
      cmocka_unit_test(too_little_data),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
