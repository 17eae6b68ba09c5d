/* Unit tests of src/ops/bench.c: that every operator's bench case builds and is timed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "ops/ops.h"
#include "tilth/bench.h"

typedef struct seen {
  const char *name;
  int forward, backward;
} seen;

static void check_row(void *user, const tl_bench_row *r) {
  seen *s = user;
  assert_string_equal(r->name, s->name);
  assert_true(r->seconds > 0 && r->seconds < 100);
  assert_true(r->flops >= 0 && r->bytes >= 0 && r->shape[0]);
  s->forward += !strcmp(r->pass, "forward") || !strcmp(r->pass, "both");
  s->backward += !strcmp(r->pass, "backward");
}

static void every_operator_is_timed(void **state) {
  (void)state;
  tl_ctx *ctx = NULL;
  tl_err err = {0};
  assert_int_equal(tl_ctx_new(NULL, &ctx, &err), TL_OK);
  for (int i = 0; i < tl_n_ops; i++) {
    seen s = {.name = tl_ops[i]->name};
    if (!tl_ops[i]->build_case) continue;
    if (tl_bench(ctx, s.name, 0, check_row, &s, &err) != TL_OK) fail_msg("%s", err.msg);
    assert_int_equal(s.forward, 2);
    assert_int_equal(s.backward, tl_ops[i]->backward ? 2 : 0);
  }
  tl_ctx_free(ctx);
}

static void unknown_names_are_refused(void **state) {
  (void)state;
  tl_ctx *ctx = NULL;
  tl_err err = {0};
  assert_int_equal(tl_ctx_new(NULL, &ctx, &err), TL_OK);
  assert_int_equal(tl_bench(ctx, "gem", 0, NULL, NULL, &err), TL_USAGE);
  assert_non_null(strstr(err.msg, "'gemm'"));
  tl_ctx_free(ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_operator_is_timed),
      cmocka_unit_test(unknown_names_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
