/* Unit tests of src/base. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/pool.h"
#include "base/rng.h"

static void permute_is_a_bijection(void **state) {
  (void)state;
  static const uint64_t sizes[] = {1, 2, 3, 7, 64, 1000, 4097};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    uint64_t n = sizes[s];
    unsigned char *seen = calloc(n, 1);
    for (uint64_t i = 0; i < n; i++) {
      uint64_t j = tl_permute(42, n, i);
      assert_true(j < n);
      assert_int_equal(seen[j], 0);
      seen[j] = 1;
    }
    free(seen);
  }
}

/* Known answers published with Random123 (kat_vectors, philox4x32 10 rounds). */
static void philox_matches_published_vectors(void **state) {
  (void)state;
  tl_philox p = tl_philox4x32(0, 0, 0, 0);
  assert_int_equal(p.v[0], 0x6627e8d5u);
  assert_int_equal(p.v[1], 0xe169c58du);
  assert_int_equal(p.v[2], 0xbc57ac4cu);
  assert_int_equal(p.v[3], 0x9b00dbd8u);
  p = tl_philox4x32(UINT64_MAX, UINT32_MAX, UINT32_MAX, UINT64_MAX);
  assert_int_equal(p.v[0], 0x408f276du);
  assert_int_equal(p.v[1], 0x41c83b0eu);
  assert_int_equal(p.v[2], 0xa20bc7c6u);
  assert_int_equal(p.v[3], 0x6d5451fdu);
}

static void count_task(void *arg, int64_t task, int worker) {
  (void)worker;
  ((unsigned char *)arg)[task]++;
}

static void parallel_runs_each_task_once(void **state) {
  (void)state;
  tl_pool *p = NULL;
  assert_int_equal(tl_pool_new(3, false, &p, NULL), TL_OK);
  static unsigned char hits[500];
  for (int round = 0; round < 200; round++) tl_parallel(p, 500, count_task, hits);
  for (int i = 0; i < 500; i++) assert_int_equal(hits[i], 200);
  tl_pool_free(p);
}

static void atomic_write_and_read_back(void **state) {
  (void)state;
  char dir[] = "/tmp/tilth-base-XXXXXX";
  assert_non_null(mkdtemp(dir));
  char *path = tl_path_join(dir, "a/b/c.txt"), *sub = tl_path_join(dir, "a/b");
  assert_int_equal(tl_mkdirs(sub, NULL), TL_OK);
  assert_int_equal(tl_file_write_atomic(path, "hello", 5, NULL), TL_OK);
  tl_buf b = {0};
  assert_int_equal(tl_file_read(path, 100, &b, NULL), TL_OK);
  assert_string_equal(b.data, "hello");
  tl_err err;
  assert_int_equal(tl_file_read(path, 3, &b, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "c.txt"));
  assert_int_equal(tl_file_read("/nonexistent/x", 3, &b, &err), TL_NOINPUT);
  tl_buf_free(&b);
  assert_int_equal(tl_remove_tree(dir, NULL), TL_OK);
  assert_false(tl_file_exists(dir));
  free(path);
  free(sub);
}

static void arena_aligns_and_zeroes(void **state) {
  (void)state;
  tl_arena a = {0};
  for (size_t n = 1; n < 200000; n = n * 3 + 1) {
    unsigned char *p = tl_arena_alloc(&a, n);
    assert_int_equal((uintptr_t)p % 64, 0);
    for (size_t i = 0; i < n; i++) assert_int_equal(p[i], 0);
    memset(p, 0xff, n);
  }
  assert_string_equal(tl_arena_printf(&a, "blk.%d", 3), "blk.3");
  tl_arena_free(&a);
}

static void base64_matches_rfc_4648(void **state) {
  (void)state;
  static const char *const cases[][2] = {{"", ""},
                                         {"f", "Zg=="},
                                         {"fo", "Zm8="},
                                         {"foo", "Zm9v"},
                                         {"foob", "Zm9vYg=="},
                                         {"\xfb\xff", "+/8="},
                                         {"fooba", "Zm9vYmE="}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tl_buf b = {0};
    tl_buf_puts(&b, "");
    tl_buf_put_base64(&b, cases[i][0], strlen(cases[i][0]));
    assert_string_equal(b.data, cases[i][1]);
    tl_buf_free(&b);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(permute_is_a_bijection),
      cmocka_unit_test(philox_matches_published_vectors),
      cmocka_unit_test(parallel_runs_each_task_once),
      cmocka_unit_test(atomic_write_and_read_back),
      cmocka_unit_test(arena_aligns_and_zeroes),
      cmocka_unit_test(base64_matches_rfc_4648),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
