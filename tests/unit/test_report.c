/* Unit tests of the report writer. */
#include <ctype.h>
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
#include "tilth/report.h"

static char json_path[64], html_path[64];

static int make_paths(void **state) {
  (void)state;
  snprintf(json_path, sizeof json_path, "/tmp/tilth-report-%ld.json", (long)getpid());
  snprintf(html_path, sizeof html_path, "/tmp/tilth-report-%ld.html", (long)getpid());
  return 0;
}
static int remove_paths(void **state) {
  (void)state;
  unlink(json_path);
  unlink(html_path);
  return 0;
}

/* Writes the document (single quotes stand for double ones), makes the page of it. */
static tl_status report(const char *doc, tl_buf *page, tl_err *err) {
  FILE *f = fopen(json_path, "w");
  assert_non_null(f);
  for (const char *p = doc; *p; p++) fputc(*p == '\'' ? '"' : *p, f);
  assert_int_equal(fclose(f), 0);
  tl_status s = tl_report_write(json_path, html_path, err);
  if (s == TL_OK && page) assert_int_equal(tl_file_read(html_path, 1 << 24, page, NULL), TL_OK);
  return s;
}

/* Every tag that is opened is closed in order; void elements apart. */
static void assert_balanced(const char *html) {
  static const char *const empty[] = {"meta", "!DOCTYPE", "img"};
  char stack[64][32];
  size_t depth = 0, tags = 0;
  for (const char *p = strchr(html, '<'); p; p = strchr(p, '<')) {
    bool closing = p[1] == '/';
    const char *name = p + 1 + closing;
    size_t n = 0;
    while (isalnum((unsigned char)name[n]) || name[n] == '!') n++;
    const char *end = strchr(p, '>');
    assert_non_null(end);
    assert_true(n > 0 && n < sizeof *stack);
    bool is_empty = end[-1] == '/';
    for (size_t i = 0; i < 3; i++) is_empty |= strlen(empty[i]) == n && !memcmp(empty[i], name, n);
    if (closing) {
      assert_true(depth > 0);
      depth--;
      if (strlen(stack[depth]) != n || memcmp(stack[depth], name, n) != 0)
        fail_msg("<%s> is closed by </%.*s>", stack[depth], (int)n, name);
    } else if (!is_empty) {
      assert_true(depth < 64);
      memcpy(stack[depth], name, n);
      stack[depth++][n] = 0;
    }
    tags++;
    p = end;
  }
  assert_int_equal(depth, 0);
  assert_true(tags > 10);
}

static const char full[] =
    "{'schema':'tilth-report/1','title':'A <b>bold</b> & \\u0001title','created':'2026-01-02',"
    "'info':{'Machine':{'CPU':'x86','Threads':2,'Tokens':1234567,'Pinned':true}},"
    "'notes':['one < two'],"
    "'costs':[{'phase':'Pretraining','seconds':598,'flops':1.5e15,'peak_fraction':0.415,"
    "'tokens':49000000},{'phase':'Rest','seconds':5}],"
    "'curves':[{'title':'Pretraining','step':[0,1,2],'loss':[9,5,3],'val_loss':[9.1,null,3.2],"
    "'lr':[0,0.001,0],'grad_norm':[1,0.5,0]}],"
    "'study':{'task':'glosses','classes':26,'test_size':5000,'majority':0.14,"
    "'labels':[100,1000,10000],'arms':["
    "{'title':'Pretrained','role':'pretrained','values':[[0.40,0.41,0.42],[0.6],[]]},"
    "{'title':'Random <i>','role':'scratch','values':[[0.20,0.21,0.19],[0.31,0.31],[0.51]]},"
    "{'title':'Naive Bayes','role':'baseline','values':[[0.3],[0.5],[0.7]]}]},"
    "'predictions':[{'text':'<script>alert(1)</script>','truth':'a','predicted':'a',"
    "'probability':0.9},{'text':'t','truth':'a','predicted':'b','probability':null}]}";

static void a_full_document_gives_a_sound_page(void **state) {
  (void)state;
  tl_buf page = {0};
  tl_err err = {0};
  if (report(full, &page, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_balanced(page.data);
  assert_null(strstr(page.data, "<script"));
  assert_null(strstr(page.data, "<b>bold"));
  assert_null(strstr(page.data, "nan"));
  assert_null(strstr(page.data, "http"));
  static const char *const expected[] = {
      "A &lt;b&gt;bold&lt;/b&gt; &amp;  title",
      "one &lt; two",
      "&lt;script&gt;alert(1)&lt;/script&gt;",
      "1,234,567",
      "9 min 58 s",
      "1.5e+15",
      "41.5&nbsp;%",
      "<td>Rest</td><td class=\"n\">5.0 s</td><td class=\"n\">&ndash;</td>",
      /* differences 0.20, 0.20, 0.23: mean 0.21, t(2) * s / sqrt(3) = 4.30265 * 0.01 */
      "+21.0 points",
      "interval 16.7 to 25.3",
      "41.0&nbsp;% <small>&plusmn;&nbsp;2.5</small>",
      /* random weights: 0.20 at 100, 0.31 at 1000, 0.51 at 10000; 0.41 lies half way: 3162 */
      "about 3,200 labels, 32 times as many",
      "3,200 <small>(32&times;)</small>",
  };
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
    if (!strstr(page.data, expected[i])) fail_msg("not in the page: %s", expected[i]);
  tl_buf_free(&page);
}

#define DOT "'data:image/png;base64,iVBORw0KGgo='"

static void pictures_stand_in_the_page(void **state) {
  (void)state;
  static const char doc[] =
      "{'schema':'tilth-report/1','title':'t',"
      "'predictions':[{'text':'name','truth':'a','predicted':'b','probability':0.9,'picture':" DOT
      "}],'pictures':[{'title':'Rows <b>','note':'why','rows':[{'text':'one','pictures':[" DOT
      "]}]},{'title':'Table','columns':['before','after'],'rows':[{'text':'two','pictures':[" DOT
      "," DOT "," DOT "]}]}]}";
  tl_buf page = {0};
  tl_err err = {0};
  if (report(doc, &page, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_balanced(page.data);
  size_t n = 0;
  for (const char *p = page.data; (p = strstr(p, "src=\"data:image/png;base64,iVBORw0KGgo=\""));
       p++)
    n++;
  assert_int_equal(n, 5);
  assert_non_null(strstr(page.data, "Rows &lt;b&gt;"));
  assert_non_null(strstr(page.data, "<th colspan=\"1\">before</th><th colspan=\"2\">after</th>"));
  assert_non_null(strstr(page.data, "alt=\"after\""));
  assert_null(strstr(page.data, "<q>name")); /* the picture stands for it */
  tl_buf_free(&page);
}

static void a_document_may_be_almost_empty(void **state) {
  (void)state;
  tl_buf page = {0};
  assert_int_equal(
      report("{'schema':'tilth-report/1','title':'t','curves':[],'costs':[]}", &page, NULL), TL_OK);
  assert_balanced(page.data);
  tl_buf_free(&page);
}

static void a_loss_is_not_called_a_gain(void **state) {
  (void)state;
  tl_buf page = {0};
  assert_int_equal(report("{'schema':'tilth-report/1','title':'t','study':{'labels':[10],'arms':["
                          "{'title':'P','role':'pretrained','values':[[0.5,0.52]]},"
                          "{'title':'S','role':'scratch','values':[[0.5,0.51]]}]}}",
                          &page, NULL),
                   TL_OK);
  assert_null(strstr(page.data, "Pretraining paid"));
  assert_non_null(strstr(page.data, "At no number of labels"));
  tl_buf_free(&page);
}

static void a_run_folder_has_a_page(void **state) {
  (void)state;
  char dir[] = "/tmp/tilth-report-XXXXXX";
  assert_non_null(mkdtemp(dir));
  char run[64], metrics[64], html[64];
  snprintf(run, sizeof run, "%s/run.json", dir);
  snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", dir);
  snprintf(html, sizeof html, "%s/report.html", dir);
  const char record[] = "{\"id\":\"r-1\",\"argv\":[\"tilth\",\"train\",\"<x>\"],\"threads\":2}";
  const char rows[] = "{\"step\":1,\"loss\":8.5,\"lr\":0.1}\n"
                      "{\"step\":2,\"loss\":null,\"eval/loss\":4.25}\n"
                      "{\"step\":3,\"loss\":2.5}\n{\"step\":4,\"lo";
  assert_int_equal(tl_file_write_atomic(run, record, strlen(record), NULL), TL_OK);
  assert_int_equal(tl_file_write_atomic(metrics, rows, strlen(rows), NULL), TL_OK);
  tl_err err = {0};
  if (tl_report_run(dir, NULL, &err) != TL_OK) fail_msg("%s", err.msg);
  tl_buf page = {0};
  assert_int_equal(tl_file_read(html, 1 << 20, &page, NULL), TL_OK);
  assert_balanced(page.data);
  assert_non_null(strstr(page.data, "<h1>r-1</h1>"));
  assert_non_null(strstr(page.data, "tilth train &lt;x&gt;"));
  assert_non_null(strstr(page.data, "Training and validation loss"));
  assert_non_null(strstr(page.data, "Learning rate over the run"));
  assert_null(strstr(page.data, "Gradient norm"));
  tl_buf_free(&page);
  assert_int_equal(tl_file_write_atomic(metrics, "{\"step\":1}\n[]\n", 14, NULL), TL_OK);
  assert_int_equal(tl_report_run(dir, NULL, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "metrics.jsonl:2"));
  assert_int_equal(tl_remove_tree(dir, NULL), TL_OK);
}

static void faults_are_named(void **state) {
  (void)state;
  static const struct {
    const char *doc, *message;
  } cases[] = {
      {"[1", "not valid JSON"},
      {"{}", "tilth-report/1"},
      {"{'schema':'tilth-report/1','schema':'tilth-report/1'}", "duplicate"},
      {"{'schema':'tilth-report/1'}", "title must be a string"},
      {"{'schema':'tilth-report/1','title':'t','curves':[{'step':[1],'loss':[1,2]}]}",
       "curves[0].loss has 2 values"},
      {"{'schema':'tilth-report/1','title':'t','curves':[{'loss':[1,2]}]}", "step or tokens"},
      {"{'schema':'tilth-report/1','title':'t','costs':[{'seconds':'x'}]}", "costs[0].seconds"},
      {"{'schema':'tilth-report/1','title':'t','study':{'labels':[5,5],'arms':[]}}",
       "study.labels[1]"},
      {"{'schema':'tilth-report/1','title':'t','study':{'labels':[5],'arms':[{'title':'a',"
       "'role':'scratch','values':[[1.5]]}]}}",
       "study.arms[0].values[0][0]"},
      {"{'schema':'tilth-report/1','title':'t','study':{'labels':[5],'arms':[{'title':'a',"
       "'role':'boss','values':[[1]]}]}}",
       "role"},
      {"{'schema':'tilth-report/1','title':'t','predictions':[{'text':'a'}]}", "predictions[0]"},
      {"{'schema':'tilth-report/1','title':'t','pictures':[{'title':'a'}]}", "pictures[0].rows"},
      {"{'schema':'tilth-report/1','title':'t','pictures':[{'rows':[{'text':'a'}]}]}",
       "pictures[0].rows[0].pictures"},
      {"{'schema':'tilth-report/1','title':'t','pictures':[{'rows':[{'pictures':["
       "'data:image/png;base64,a onload=b']}]}]}",
       "must be a PNG"},
      {"{'schema':'tilth-report/1','title':'t','pictures':[{'rows':[{'pictures':["
       "'http://example.org/a.png']}]}]}",
       "must be a PNG"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tl_err err = {0};
    unlink(html_path);
    assert_int_equal(report(cases[i].doc, NULL, &err), TL_DATA);
    if (!strstr(err.msg, cases[i].message)) fail_msg("%s: %s", cases[i].message, err.msg);
    assert_false(tl_file_exists(html_path));
  }
  assert_int_equal(tl_report_write("/nonexistent.json", html_path, NULL), TL_NOINPUT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_full_document_gives_a_sound_page),
      cmocka_unit_test(pictures_stand_in_the_page),
      cmocka_unit_test(a_document_may_be_almost_empty),
      cmocka_unit_test(a_loss_is_not_called_a_gain),
      cmocka_unit_test(a_run_folder_has_a_page),
      cmocka_unit_test(faults_are_named),
  };
  return cmocka_run_group_tests_name("report", tests, make_paths, remove_paths);
}
