/* Runs the operators' own test, and checks that it can fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "tilth/selftest.h"

static void count(void *user, const tl_selftest_result *r) {
  int *n = user;
  (*n)++;
  if (!r->ok) print_error("%s: %s\n", r->op, r->message);
  assert_true(r->n_cases > 0);
}

static void all_operators_pass(void **state) {
  (void)state;
  int n = 0, n_failed = -1;
  tl_err err = {0};
  assert_int_equal(tl_selftest(NULL, NULL, count, &n, &n_failed, &err), TL_OK);
  assert_true(n >= 2);
  assert_int_equal(n_failed, 0);
}

static void one_operator(void **state) {
  (void)state;
  int n = 0, n_failed = -1;
  tl_err err = {0};
  assert_int_equal(tl_selftest("add", "ref", count, &n, &n_failed, &err), TL_OK);
  assert_int_equal(n, 1);
  assert_int_equal(n_failed, 0);
}

static void wrong_names(void **state) {
  (void)state;
  int n_failed = 0;
  tl_err err = {0};
  assert_int_equal(tl_selftest("ad", NULL, NULL, NULL, &n_failed, &err), TL_USAGE);
  assert_non_null(strstr(err.msg, "'add'"));
  assert_int_equal(tl_selftest("add", "mmx", NULL, NULL, &n_failed, &err), TL_CONFIG);
}

static void docs_name_every_operator(void **state) {
  (void)state;
  char *text = NULL;
  assert_int_equal(tl_selftest_docs(&text, NULL), TL_OK);
  assert_non_null(strstr(text, "| `add` | `y = a + b` |"));
  assert_non_null(strstr(text, "| `inner` |"));
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_operators_pass),
      cmocka_unit_test(one_operator),
      cmocka_unit_test(wrong_names),
      cmocka_unit_test(docs_name_every_operator),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
