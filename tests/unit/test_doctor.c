/* Unit tests of src/plan/doctor.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tilth/doctor.h"

typedef struct seen {
  int advice, turns, lowered;
  double memory, threads;
  char level[32], rows[64];
} seen;

static void note(void *user, const tl_finding *f) {
  seen *s = user;
  assert_true(f->section[0] && f->key[0] && f->text[0]);
  if (!strcmp(f->key, "advice")) {
    s->advice++;
    s->turns += strstr(f->text, "take turns") != NULL;
    s->lowered += strstr(f->text, "TILTH_CPU") != NULL;
  }
  if (!strcmp(f->section, "memory") && !strcmp(f->key, "total")) s->memory = f->number;
  if (!strcmp(f->key, "threads")) s->threads = f->number;
  if (!strcmp(f->key, "level in use")) strncpy(s->level, f->text, sizeof s->level - 1);
  if (!strcmp(f->key, "ref rows")) strncpy(s->rows, f->text, sizeof s->rows - 1);
}

static void finds_the_machine(void **state) {
  (void)state;
  seen s = {0};
  int n = -1;
  tl_doctor(100000, note, &s, &n);
  assert_int_equal(n, s.advice);
  assert_int_equal(s.turns, 1);
  assert_true(s.memory > 1e8);
  assert_true(s.threads == 100000);
  assert_non_null(strstr(s.rows, " ref"));
}

static void sees_lowered_kernels(void **state) {
  (void)state;
  seen s = {0};
  int n = 0;
  setenv("TILTH_CPU", "none-such", 1);
  tl_doctor(1, note, &s, &n);
  unsetenv("TILTH_CPU");
  assert_string_equal(s.level, "none-such");
  assert_int_equal(s.lowered, 1);
  assert_int_equal(s.turns, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(finds_the_machine),
      cmocka_unit_test(sees_lowered_kernels),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
