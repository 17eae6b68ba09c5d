/* Unit tests of the readers of labelled data: every fault is an error that says where and what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "tilth/task_data.h"

static char g_dir[64];

static int set_up(void **state) {
  (void)state;
  strcpy(g_dir, "/tmp/tl_faults_XXXXXX");
  return mkdtemp(g_dir) ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

static void assert_has(const char *message, const char *part) {
  if (!strstr(message, part)) fail_msg("\"%s\" is not in: %s", part, message);
}

static void assert_fault_n(const char *name, const char *text, size_t n, tl_task_options o,
                           tl_status code, const char *part, const char *part2) {
  char *path = tl_path_join(g_dir, name);
  tl_task_data d;
  tl_err err = {0};
  assert_int_equal(tl_file_write_atomic(path, text, n, NULL), TL_OK);
  tl_status s = tl_task_read(path, &o, &d, &err);
  if (s != code) fail_msg("%s: %s (%s)", text, tl_status_name(s), err.msg);
  assert_has(err.msg, name);
  assert_has(err.msg, part);
  assert_has(err.msg, part2);
  assert_null(d.text);
  assert_null(d.bytes);
  assert_int_equal(d.n, 0);
  free(path);
}

static void assert_fault(const char *name, const char *text, tl_task_kind kind, const char *part,
                         const char *part2) {
  assert_fault_n(name, text, strlen(text), (tl_task_options){.kind = kind}, TL_DATA, part, part2);
}

static void assert_misuse(const char *name, const char *text, tl_task_options o, const char *part,
                          const char *part2) {
  assert_fault_n(name, text, strlen(text), o, TL_CONFIG, part, part2);
}

static void bytes_that_are_no_text(void **state) {
  (void)state;
  const tl_task_options o = {0};
  assert_fault_n("a.tsv", "x\ty\nz\tw\0w\n", 10, o, TL_DATA, "NUL", "a.tsv");
  tl_buf b = {0}; /* far behind the beginning, too */
  for (int i = 0; i < 20000; i++) tl_buf_puts(&b, "x\tyyyy\n");
  tl_buf_append(&b, "x\ty\0\n", 5);
  assert_fault_n("a.tsv", b.data, b.len, o, TL_DATA, "a.tsv:20001: a NUL byte", "UTF-8");
  tl_buf_free(&b);
  assert_fault("a.tsv", "x\ty\nx\tcaf\xE9\n", TL_TASK_CLASS, "a.tsv:2:", "0xE9");
  assert_fault("a.tsv", "\xFF\xFEx", TL_TASK_CLASS, "UTF-16", "iconv");
  assert_fault_n("a.tsv", "", 0, o, TL_NOINPUT, "no documents", "");
  assert_fault_n("a.tsv", "\n \n", 3, o, TL_NOINPUT, "no documents", "");
  assert_fault("a.tsv", "text\tlabel\n", TL_TASK_CLASS, "no records", "");

  tl_task_data d;
  tl_err err = {0};
  assert_int_equal(tl_task_read("/nonexistent/x.tsv", &o, &d, &err), TL_NOINPUT);
  assert_has(err.msg, "/nonexistent/x.tsv");
  assert_int_equal(tl_task_read(g_dir, &(tl_task_options){.kind = 77}, &d, &err), TL_CONFIG);

  char *path = tl_path_join(g_dir, "r.tsv");
  assert_int_equal(tl_file_write_atomic(path, "x\tcaf\xE9\n", 7, NULL), TL_OK);
  assert_int_equal(tl_task_read(path, &(tl_task_options){.replace_bad_utf8 = true}, &d, &err),
                   TL_OK);
  assert_string_equal(d.text[0], "caf\xEF\xBF\xBD");
  tl_task_data_free(&d);
  free(path);
}

static void long_records(void **state) {
  (void)state;
  tl_task_options o = {.max_record_bytes = 20};
  const char *line = "x\tshort\nx\t0123456789 0123456789\n";
  assert_fault_n("a.tsv", line, strlen(line), o, TL_DATA, "a.tsv:2:", "limit is 20");
  line = "x,short\nx,0123456789 0123456789\n";
  assert_fault_n("a.csv", line, strlen(line), o, TL_DATA, "a.csv:2:", "20 bytes");
  line = "x,short\nx,\"0123456789\n0123456789\n0123";
  assert_fault_n("a.csv", line, strlen(line), o, TL_DATA, "a.csv:2:", "within the limit");
}

static void tables(void **state) {
  (void)state;
  assert_fault("a.tsv", "x\ty\n\nno tab\n", TL_TASK_CLASS, "a.tsv:3:", "tab");
  assert_fault("a.tsv", "x\ty\n\tz\n", TL_TASK_CLASS, "a.tsv:2:", "empty label");
  assert_fault("a.tsv", "x\ty\nz\t \n", TL_TASK_CLASS, "a.tsv:2:", "empty text");
  assert_fault("a.tsv", "text\tlabel\tn\nx\ty\tz\nx\ty\n", TL_TASK_CLASS, "a.tsv:3: 2 columns",
               "expected 3");
  assert_fault("a.tsv", "text\tlabel\nx\ty\tz\n", TL_TASK_CLASS, "a.tsv:2: 3 columns",
               "expected 2");
  assert_fault("a.tsv", "sentence1\tsentence2\tlabel\na\t\tx\n", TL_TASK_CLASS,
               "a.tsv:2:", "second text is empty");
  assert_fault("a.csv", "x,y\nz\n", TL_TASK_CLASS, "a.csv:2: 1 columns", "expected 2");
  assert_fault("a.csv", "x,y\nz,\"a\"b\n", TL_TASK_CLASS, "a.csv:2:", "closing quote");
  assert_fault("a.csv", "x,y\nz,a\"b\n", TL_TASK_CLASS, "a.csv:2:", "quotes within it twice");
  assert_fault("a.csv", "x,y\nz,\"a\n\n", TL_TASK_CLASS, "a.csv:2:", "no end");
  assert_fault("a.txt", "x y\nz\n", TL_TASK_CLASS, "a.txt:2:", "a blank and a text");
  assert_fault("a.tsv", "4.5\tx\nhigh\ty\n", TL_TASK_VALUE, "a.tsv:2:", "\"high\"");
  assert_fault("a.tsv", "4.5\tx\n\ty\n", TL_TASK_VALUE, "a.tsv:2:", "empty value");
  assert_fault("a.tsv", "4.5\tx\nnan\ty\n", TL_TASK_VALUE, "a.tsv:2:", "finite");
  assert_fault("a.tsv", "4,5\tx\n", TL_TASK_VALUE, "a.tsv:1:", "\"4,5\"");
  assert_fault("a.tsv", "a,,b\tx\n", TL_TASK_MULTI, "a.tsv:1:", "empty label");
}

static void columns(void **state) {
  (void)state;
  tl_task_options o = {.columns = "text=sentense,label=label"};
  const char *t = "sentence\tlabel\nx\ty\n";
  assert_misuse("a.tsv", t, o, "\"sentense\"", "did you mean \"sentence\"");
  o.columns = "text=1,label=3";
  assert_misuse("a.tsv", t, o, "column 3", "2");
  o.columns = "text=1";
  assert_misuse("a.tsv", "x\ty\n", o, "labels", "label=NAME");
  o.columns = "text=1,label=1";
  assert_misuse("a.tsv", t, o, "both text and label", "");
  tl_err err = {0};
  tl_task_data d;
  char *path = tl_path_join(g_dir, "a.tsv");
  o.columns = "txt=1";
  assert_int_equal(tl_task_read(path, &o, &d, &err), TL_CONFIG);
  assert_has(err.msg, "\"txt\"");
  o.columns = "text=";
  assert_int_equal(tl_task_read(path, &o, &d, &err), TL_CONFIG);
  free(path);
  o.columns = "text=sentence";
  o.header = TL_HEADER_NO;
  assert_misuse("a.tsv", t, o, "no header", "\"sentence\"");
  o = (tl_task_options){0};
  assert_misuse("a.csv", "x,y,z\n", o, "3 columns", "label=1,text=2");
  o.header = TL_HEADER_YES;
  assert_misuse("a.tsv", "x\ty\nz\tw\n", o, "a.tsv:1:", "text=NAME");
  o.header = TL_HEADER_AUTO;
  assert_misuse("a.jsonl", "{\"a\": \"x\"}\n", o, "a.jsonl:1:", "text=NAME");
  o.kind = TL_TASK_PAIR;
  assert_misuse("a.jsonl", "{\"instruction\": \"x\", \"input\": \"y\", \"output\": \"z\"}\n", o,
                "join", "text=instruction");
  o.kind = TL_TASK_TOKENS;
  assert_misuse("a.tsv", "x\ty\n", o, "tsv", "tokens");
  o.kind = TL_TASK_CLASS;
  o.path_b = g_dir;
  assert_misuse("a.txt", "x\n", o, "aligned", "class");
}

static void unseen_labels(void **state) {
  (void)state;
  tl_labels l, tags;
  assert_int_equal(tl_labels_make((const char *const[]){"negative", "positive"}, 2, &l, NULL),
                   TL_OK);
  tl_task_options o = {.labels = &l};
  const char *t = "positive\tx\npostive\ty\n";
  assert_fault_n("a.tsv", t, strlen(t), o, TL_DATA,
                 "a.tsv:2: label \"postive\" is not among the 2 known: negative, positive",
                 "did you mean \"positive\"?");
  t = "{\"text\": \"x\", \"label\": 7}\n";
  assert_fault_n("a.jsonl", t, strlen(t), o, TL_DATA, "a.jsonl:1:", "label \"7\"");
  assert_int_equal(tl_labels_make((const char *const[]){"B-LOC", "O"}, 2, &tags, NULL), TL_OK);
  o = (tl_task_options){.kind = TL_TASK_TOKENS, .labels = &tags};
  t = "a O\nb B-LOCC\n";
  assert_fault_n("a.conll", t, strlen(t), o, TL_DATA, "a.conll:2: tag \"B-LOCC\"",
                 "mean \"B-LOC\"?");
  tl_labels_free(&l);
  tl_labels_free(&tags);

  tl_err err = {0};
  assert_int_equal(tl_labels_make((const char *const[]){"a", "a"}, 2, &l, &err), TL_CONFIG);
  assert_has(err.msg, "twice");
  assert_int_equal(tl_labels_make((const char *const[]){"a", ""}, 2, &l, &err), TL_CONFIG);
  assert_int_equal(tl_labels_make(NULL, 0, &l, &err), TL_CONFIG);
  assert_int_equal(tl_labels_read("/nonexistent", &l, &err), TL_NOINPUT);
  char *path = tl_path_join(g_dir, "config.json");
  static const char *const bad[] = {"{}",
                                    "{\"id2label\": {\"0\": \"a\", \"2\": \"b\"}}",
                                    "{\"id2label\": {\"0\": 1}}",
                                    "{\"id2label\": {}}",
                                    "[",
                                    "{\"id2label\": {\"0\": \"a\", \"1\": \"a\"}}"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(tl_file_write_atomic(path, bad[i], strlen(bad[i]), NULL), TL_OK);
    assert_int_equal(tl_labels_read(g_dir, &l, &err), TL_DATA);
    assert_has(err.msg, "config.json");
    assert_null(l.name);
  }
  free(path);

  tl_buf b = {0}; /* the column of the texts taken for the labels */
  for (int i = 0; i < 70000; i++) tl_buf_printf(&b, "%d\tx\n", i);
  assert_fault("a.tsv", b.data, TL_TASK_CLASS, "a.tsv:65537:", "column of the labels");
  tl_buf_free(&b);
}

static void json_lines(void **state) {
  (void)state;
  const char *good = "{\"text\": \"x\", \"label\": \"y\"}\n";
  static const struct {
    const char *line, *part;
  } bad[] = {
      {"{\"text\": \"x\", \"text\": \"z\", \"label\": \"y\"}", "duplicate"},
      {"{\"text\": \"x\"}", "no key \"label\""},
      {"{\"label\": \"y\"}", "no key \"text\""},
      {"{\"text\": 1, \"label\": \"y\"}", "expected a string"},
      {"{\"text\": \"\", \"label\": \"y\"}", "empty text"},
      {"{\"text\": \"x\", \"label\": \" \"}", "empty label"},
      {"{\"text\": \"x\", \"label\": null}", "null"},
      {"{\"text\": \"x\", \"label\": 1.5}", "fraction"},
      {"{\"text\": \"x\", \"label\": [\"y\"]}", "multi-label"},
      {"{\"text\": \"x\\u0000\", \"label\": \"y\"}", "JSON"},
      {"{\"text\": \"x\", \"label\": \"y\"", "JSON"},
      {"[1]", "a list; expected one JSON object"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    tl_buf b = {0};
    tl_buf_printf(&b, "%s\n%s\n", good, bad[i].line);
    assert_fault("a.jsonl", b.data, TL_TASK_CLASS, "a.jsonl:3:", bad[i].part);
    tl_buf_free(&b);
  }
  assert_fault("a.jsonl", "{\"text\": \"x\", \"score\": \"high\"}", TL_TASK_VALUE,
               "a.jsonl:1:", "\"high\"");
  assert_fault("a.jsonl", "{\"text\": \"x\", \"score\": true}", TL_TASK_VALUE,
               "a.jsonl:1:", "expected a number");
}

static void words_and_tags(void **state) {
  (void)state;
  assert_fault("a.conll", "a O\nb\n", TL_TASK_TOKENS, "a.conll:2: 1 columns", "expected 2");
  assert_fault("a.conll", "a O\nb x O\n", TL_TASK_TOKENS, "a.conll:2: 3 columns", "expected 2");
  assert_fault("a.conll", "a\n", TL_TASK_TOKENS, "a.conll:1: 1 column;", "a word and a tag");
  assert_fault("a.conll", "a\tO\nb\t\n", TL_TASK_TOKENS, "a.conll:2:", "empty tag");
  assert_fault("a.conll", "a\tO\n\tO\n", TL_TASK_TOKENS, "a.conll:2:", "empty word");
  assert_fault("a.conll", "-DOCSTART- O\n\n", TL_TASK_TOKENS, "no records", "");
  assert_fault("a.conllu", "# c\n1 x\n", TL_TASK_TOKENS, "a.conllu:2:", "columns 2 and 4");
  assert_fault("a.jsonl", "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"O\"]}\n", TL_TASK_TOKENS,
               "a.jsonl:1: 2 words", "1 tags");
  assert_fault("a.jsonl", "{\"tokens\": [], \"tags\": []}\n", TL_TASK_TOKENS,
               "a.jsonl:1:", "at least one");
  assert_fault("a.jsonl", "{\"tokens\": [1], \"tags\": [\"O\"]}\n", TL_TASK_TOKENS, "word 1",
               "string");
  assert_fault("a.jsonl", "{\"tokens\": \"a\", \"tags\": [\"O\"]}\n", TL_TASK_TOKENS, "lists",
               "\"tokens\"");
}

static void aligned_files(void **state) {
  (void)state;
  static const struct {
    const char *a, *b, *part, *part2;
  } bad[] = {
      {"x\ny\n", "x\n", "a.en has 2 lines", "line 2 of"},
      {"x\n", "x\ny\nz", "b.de 3", "line 2 of"},
      {"x\n\nz\n", "x\ny\nz\n", "a.en:2: empty line", ""},
      {"x\ny\nz\n", "x\ny\n \n", "b.de:3: empty line", ""},
      {"x\ny\n", "x\n\xE9\n", "b.de:2:", "0xE9"},
  };
  char *a = tl_path_join(g_dir, "a.en"), *b = tl_path_join(g_dir, "b.de");
  tl_task_options o = {.kind = TL_TASK_PAIR, .path_b = b};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    tl_task_data d;
    tl_err err = {0};
    assert_int_equal(tl_file_write_atomic(a, bad[i].a, strlen(bad[i].a), NULL), TL_OK);
    assert_int_equal(tl_file_write_atomic(b, bad[i].b, strlen(bad[i].b), NULL), TL_OK);
    assert_int_equal(tl_task_read(a, &o, &d, &err), TL_DATA);
    assert_has(err.msg, bad[i].part);
    assert_has(err.msg, bad[i].part2);
    assert_null(d.bytes_b);
  }
  o.path_b = NULL;
  o.format = TL_TASK_ALIGNED;
  assert_misuse("a.en", "x\n", o, "second file", "");
  free(a);
  free(b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bytes_that_are_no_text),
      cmocka_unit_test(long_records),
      cmocka_unit_test(tables),
      cmocka_unit_test(columns),
      cmocka_unit_test(unseen_labels),
      cmocka_unit_test(json_lines),
      cmocka_unit_test(words_and_tags),
      cmocka_unit_test(aligned_files),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
