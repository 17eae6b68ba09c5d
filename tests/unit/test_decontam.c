/* Unit tests of src/text/decontam.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "tilth/decontam.h"

static tl_decontam *new_with(int ngram, const char *const *texts, size_t n) {
  tl_decontam *d = NULL;
  assert_int_equal(tl_decontam_new(ngram, &d, NULL), TL_OK);
  for (size_t i = 0; i < n; i++)
    assert_int_equal(tl_decontam_add(d, texts[i], strlen(texts[i]), NULL), TL_OK);
  return d;
}

static void expect(tl_decontam *d, const char *doc, const char *clean) {
  const char *out = NULL;
  size_t len = 0;
  assert_int_equal(tl_decontam_filter(d, doc, strlen(doc), &out, &len, NULL), TL_OK);
  assert_int_equal(len, strlen(clean));
  assert_memory_equal(out, clean, len);
}

static void short_texts_match_whole(void **state) {
  (void)state;
  const char *texts[] = {"a Genus of moths", "caf\xc3\xa9 noir"};
  tl_decontam *d = new_with(0, texts, 2);
  expect(d, "Moth, n.\nA small insect of many kinds.\n1. (Zool.) A  genus\tof MOTHS; see Moth.",
         "Moth, n.\nA small insect of many kinds.");
  expect(d, "a genus of moth\nthe genus of moths", "a genus of moth\nthe genus of moths");
  expect(d, "one two three four\na CAF\xc3\x89 (noir)", "one two three four");
  tl_decontam_report r;
  tl_decontam_get_report(d, &r);
  assert_int_equal(r.texts, 2);
  assert_int_equal(r.texts_found, 2);
  assert_int_equal(r.docs, 3);
  assert_int_equal(r.docs_changed, 2);
  assert_int_equal(r.lines, 7);
  assert_int_equal(r.lines_cut, 2);
  tl_decontam_free(d);
}

static void long_texts_match_by_ngram(void **state) {
  (void)state;
  const char *texts[] = {"w1 w2 w3 w4 w5 w6", "w2 w3 w4 w5"};
  tl_decontam *d = new_with(4, texts, 1);
  expect(d, "x x x\nw1 w2 w3 y w4 w5 w6\nw3 w4 w5 w6 z", "x x x\nw1 w2 w3 y w4 w5 w6");
  tl_decontam_free(d);
  d = new_with(4, texts, 2);
  expect(d, "w2 w3 w4 w5 x x\na a a a", "a a a a");
  tl_decontam_report r;
  tl_decontam_get_report(d, &r);
  assert_int_equal(r.texts_found, 2); /* both hold the n-gram */
  tl_decontam_free(d);
}

static void a_match_over_lines_cuts_all_it_touches(void **state) {
  (void)state;
  const char *texts[] = {"one two three"};
  tl_decontam *d = new_with(0, texts, 1);
  expect(d, "keep this line here\nsays one\n\ntwo\nthree more\nand keep this",
         "keep this line here\nand keep this");
  tl_decontam_free(d);
}

static void what_is_left_of_little_is_dropped(void **state) {
  (void)state;
  const char *texts[] = {"the natural family of birds"};
  tl_decontam *d = new_with(0, texts, 1);
  expect(d, "Laridae\nThe natural family of birds including gulls.", "");
  tl_decontam_report r;
  tl_decontam_get_report(d, &r);
  assert_int_equal(r.docs_dropped, 1);
  assert_int_equal(r.lines_cut, 2);
  assert_int_equal(r.bytes_out, 0);
  tl_decontam_free(d);
}

static void nothing_to_find_changes_nothing(void **state) {
  (void)state;
  tl_decontam *d = new_with(0, NULL, 0);
  expect(d, "a b c\n\nd e f\n", "a b c\nd e f");
  expect(d, "", "");
  tl_decontam_free(d);
  tl_err err = {0};
  assert_int_equal(tl_decontam_new(1, &d, &err), TL_CONFIG);
}

static void reads_labelled_lines(void **state) {
  (void)state;
  char path[] = "/tmp/tilth-decontam-XXXXXX";
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  const char rows[] = "noun.time\ta day of rest\nplain words here\n\n";
  assert_int_equal(write(fd, rows, sizeof rows - 1), sizeof rows - 1);
  close(fd);
  tl_decontam *d = new_with(0, NULL, 0);
  assert_int_equal(tl_decontam_add_file(d, path, NULL), TL_OK);
  expect(d, "noun time\nit was a day of rest\nplain words here\nand all the other words",
         "noun time\nand all the other words");
  assert_int_equal(truncate(path, 0), 0);
  tl_err err = {0};
  assert_int_equal(tl_decontam_add_file(d, path, &err), TL_DATA);
  assert_non_null(strstr(err.msg, path));
  unlink(path);
  assert_int_equal(tl_decontam_add_file(d, path, &err), TL_NOINPUT);
  tl_decontam_free(d);
}

static void write_file(const char *path, const char *text) {
  assert_int_equal(tl_file_write_atomic(path, text, strlen(text), NULL), TL_OK);
}

static void files_are_filtered_one_by_one(void **state) {
  (void)state;
  char dir[] = "/tmp/tilth-decontam-XXXXXX";
  assert_non_null(mkdtemp(dir));
  char a[64], b[64], same[64], out[64], a_out[80], b_out[80];
  snprintf(a, sizeof a, "%s/a.txt", dir);
  snprintf(b, sizeof b, "%s/b.jsonl", dir);
  snprintf(same, sizeof same, "%s/a.jsonl", dir);
  snprintf(out, sizeof out, "%s/out", dir);
  snprintf(a_out, sizeof a_out, "%s/a.txt", out);
  snprintf(b_out, sizeof b_out, "%s/b.txt", out);
  write_file(a, "one two\nthe test text\nthree four\n\n\nThe TEST text\n\nlast one");
  write_file(b, "{\"t\":\"first\\n\\nfirst\"}\n{\"t\":\"second\"}\n");
  write_file(same, "{\"t\":\"x\"}\n");
  const char *texts[] = {"the test text"}, *inputs[] = {a, b}, *clash[] = {a, same};
  tl_decontam *d = new_with(0, texts, 1);
  tl_err err = {0};
  if (tl_decontam_files(d, inputs, 2, "t", out, false, &err) != TL_OK) fail_msg("%s", err.msg);
  tl_buf got = {0};
  assert_int_equal(tl_file_read(a_out, 1000, &got, NULL), TL_OK);
  assert_string_equal(got.data, "one two\nthree four\n\nlast one\n\n");
  tl_buf_clear(&got);
  assert_int_equal(tl_file_read(b_out, 1000, &got, NULL), TL_OK);
  assert_string_equal(got.data, "first\nfirst\n\nsecond\n\n");
  tl_buf_free(&got);
  assert_int_equal(tl_decontam_files(d, inputs, 2, "t", out, false, &err), TL_CREATE);
  assert_int_equal(tl_decontam_files(d, inputs, 2, "t", out, true, &err), TL_OK);
  assert_int_equal(tl_decontam_files(d, clash, 2, "t", out, true, &err), TL_DATA);
  tl_decontam_free(d);
  assert_int_equal(tl_remove_tree(dir, NULL), TL_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(short_texts_match_whole),
      cmocka_unit_test(long_texts_match_by_ngram),
      cmocka_unit_test(a_match_over_lines_cuts_all_it_touches),
      cmocka_unit_test(what_is_left_of_little_is_dropped),
      cmocka_unit_test(nothing_to_find_changes_nothing),
      cmocka_unit_test(reads_labelled_lines),
      cmocka_unit_test(files_are_filtered_one_by_one),
  };
  return cmocka_run_group_tests_name("decontam", tests, NULL, NULL);
}
