/* Unit tests of the readers of labelled data: what each format gives. */
#include <math.h>
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
  strcpy(g_dir, "/tmp/tl_task_XXXXXX");
  return mkdtemp(g_dir) ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

static char *write_file(const char *name, const char *text) {
  char *path = tl_path_join(g_dir, name);
  assert_int_equal(tl_file_write_atomic(path, text, strlen(text), NULL), TL_OK);
  return path;
}

static tl_task_data read_file(const char *name, const char *text, tl_task_options o) {
  char *path = write_file(name, text);
  tl_task_data d;
  tl_err err = {0};
  if (tl_task_read(path, &o, &d, &err) != TL_OK) fail_msg("%s", err.msg);
  free(path);
  return d;
}

static const char *label_of(const tl_task_data *d, size_t i) {
  assert_in_range(d->label[i], 0, d->labels.n - 1);
  return d->labels.name[d->label[i]];
}

static void assert_pair(const tl_task_data *d, size_t i, const char *a, const char *b) {
  assert_string_equal(d->text[i], a);
  assert_string_equal(d->text_b[i], b);
}

/* The same three records, however they are written. */
static void assert_films(tl_task_data d) {
  assert_int_equal(d.n, 3);
  assert_int_equal(d.labels.n, 2);
  assert_string_equal(d.labels.name[0], "neg");
  assert_string_equal(d.labels.name[1], "pos");
  assert_string_equal(label_of(&d, 0), "pos");
  assert_string_equal(label_of(&d, 1), "neg");
  assert_string_equal(label_of(&d, 2), "pos");
  assert_string_equal(d.text[0], "a fine film");
  assert_string_equal(d.text[1], "d\xC3\xA9j\xC3\xA0 vu");
  assert_string_equal(d.text[2], "good");
  assert_null(d.text_b);
  tl_task_data_free(&d);
}
#define DEJA "d\xC3\xA9j\xC3\xA0 vu"

static void formats_agree(void **state) {
  (void)state;
  const tl_task_options o = {0};
  assert_films(read_file("a.tsv", "pos\ta fine film\nneg\t" DEJA "\npos\tgood\n", o));
  assert_films(
      read_file("b.tsv", "\xEF\xBB\xBFpos\ta fine film\r\n\r\nneg\t" DEJA "\r\npos\tgood", o));
  assert_films(read_file(
      "c.tsv", "id\tSentence\tlabel\n1\ta fine film\tpos\n2\t" DEJA "\tneg\n3\tgood\tpos", o));
  assert_films(read_file("d.csv", "\"text\",label\na fine film,pos\n" DEJA ",neg\ngood,pos\n", o));
  assert_films(read_file("e.csv", "pos,a fine film\n\nneg,\"" DEJA "\"\r\n\"pos\",good", o));
  assert_films(read_file("f.jsonl",
                         "{\"text\": \"a fine film\", \"label\": \"pos\", \"x\": [1, null]}\n\n"
                         "{\"label\": \"neg\", \"text\": \"d\\u00e9j\\u00E0 vu\"}\n"
                         "{\"label\": \"pos\", \"text\": \"good\"}",
                         o));
  assert_films(read_file("g.txt", "pos a fine film\nneg " DEJA "\npos good\n", o));
  assert_films(read_file("h.txt", "pos\ta fine film\nneg\t" DEJA "\npos\tgood\n", o));
  assert_films(read_file("i.txt",
                         "{\"text\": \"a fine film\", \"label\": \"pos\"}\n"
                         "{\"text\": \"" DEJA "\", \"label\": \"neg\"}\n"
                         "{\"text\": \"good\", \"label\": \"pos\"}\n",
                         o));
  assert_films(read_file("o.CSV.gz", "pos,a fine film\nneg," DEJA "\npos,good\n", o));
  assert_films(read_file("j.data", "pos,a fine film\nneg," DEJA "\npos,good\n",
                         (tl_task_options){.format = TL_TASK_CSV}));
  assert_films(read_file("k.tsv",
                         "text\tlabel\tb\na fine film\tpos\t\n" DEJA "\tneg\t\ngood\tpos\t",
                         (tl_task_options){.columns = "label=2,text=1"}));
  assert_films(read_file("l.tsv", "x\tpos\ta fine film\nx\tneg\t" DEJA "\tmore\nx\tpos\tgood",
                         (tl_task_options){.columns = "text=3,label=2", .extra_columns = true}));
  assert_films(read_file("m.tsv", "a\tb\na fine film\tpos\n" DEJA "\tneg\ngood\tpos",
                         (tl_task_options){.columns = "text=a,label=b"}));
  assert_films(read_file("n.tsv", "a\tb\na fine film\tpos\n" DEJA "\tneg\ngood\tpos",
                         (tl_task_options){.columns = "text=1,label=2", .header = TL_HEADER_YES}));
}

static void a_file_for_each_class(void **state) {
  (void)state;
  char *neg = write_file("n.txt", DEJA "\r\n\n"), *pos = write_file("p.txt", "a fine film\ngood");
  char list[256], other[256];
  snprintf(list, sizeof list, "pos:%s,neg:%s", pos, neg);
  snprintf(other, sizeof other, "pos:%s,neg:%s", neg, pos);
  tl_task_data d, e;
  tl_task_options o = {0};
  tl_err err = {0};
  assert_int_equal(tl_task_read(list, &o, &d, &err), TL_OK);
  assert_int_equal(tl_task_read(other, &o, &e, &err), TL_OK);
  assert_int_not_equal(d.hash, e.hash);
  assert_int_equal(e.label[0], 1);
  tl_task_data_free(&e);
  assert_int_equal(d.n, 3);
  assert_string_equal(d.labels.name[0], "neg");
  const char *want[] = {"pos", "a fine film", "pos", "good", "neg", DEJA};
  for (size_t i = 0; i < 3; i++) {
    assert_string_equal(label_of(&d, i), want[2 * i]);
    assert_string_equal(d.text[i], want[2 * i + 1]);
  }
  assert_int_equal(d.line[1], 2);
  assert_int_equal(d.line[2], 1);
  tl_task_data_free(&d);

  /* Labels of the model; faults; no list for other tasks. */
  const char *names[] = {"bad", "pos"};
  tl_labels l;
  assert_int_equal(tl_labels_make(names, 2, &l, NULL), TL_OK);
  o.labels = &l;
  assert_int_equal(tl_task_read(list, &o, &d, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "n.txt:1: label \"neg\" is not among"));
  o.labels = NULL;
  tl_labels_free(&l);
  char *empty = write_file("empty.txt", "\n \n");
  snprintf(other, sizeof other, "pos:%s,neg:%s", pos, empty);
  assert_int_equal(tl_task_read(other, &o, &d, &err), TL_NOINPUT);
  assert_non_null(strstr(err.msg, "empty.txt"));
  snprintf(other, sizeof other, "pos:%s,neg:/nowhere/x", pos);
  assert_int_equal(tl_task_read(other, &o, &d, &err), TL_NOINPUT);
  o.kind = TL_TASK_VALUE;
  assert_int_equal(tl_task_read(list, &o, &d, &err), TL_NOINPUT);
  o = (tl_task_options){.columns = "text=1"};
  assert_int_equal(tl_task_read(list, &o, &d, &err), TL_CONFIG);
  assert_non_null(strstr(err.msg, "one class each"));
  free(neg);
  free(pos);
  free(empty);
}

static void text_is_all_after_the_first_tab(void **state) {
  (void)state;
  tl_task_data d = read_file("a.tsv", "dog\tone\tand two\ncat\tthree\n", (tl_task_options){0});
  assert_string_equal(d.text[0], "one\tand two");
  assert_string_equal(d.text[1], "three");
  assert_int_equal(d.line[1], 2);
  tl_task_data_free(&d);
  d = read_file("a.tsv", "label\ttext\nlabel\ttext\n", (tl_task_options){.header = TL_HEADER_NO});
  assert_int_equal(d.n, 2);
  tl_task_data_free(&d);
}

static void csv_quoting(void **state) {
  (void)state;
  tl_task_data d = read_file("q.csv",
                             "label,text,note\r\n"
                             "1,\"two\r\nlines, and a \"\"quote\"\"\",\r\n"
                             "\"0\",plain,\"\"\r\n"
                             "1,\"\"\"\",x",
                             (tl_task_options){0});
  assert_int_equal(d.n, 3);
  assert_string_equal(d.text[0], "two\nlines, and a \"quote\"");
  assert_string_equal(d.text[1], "plain");
  assert_string_equal(d.text[2], "\"");
  assert_string_equal(label_of(&d, 1), "0");
  assert_int_equal(d.line[0], 2);
  assert_int_equal(d.line[1], 4);
  assert_int_equal(d.line[2], 5);
  tl_task_data_free(&d);
}

static void pairs_and_values(void **state) {
  (void)state;
  tl_task_data d =
      read_file("p.tsv", "sentence2\tscore\tsentence1\nB one\t4.5\tA one\nB two\t-1e-1\tA two\n",
                (tl_task_options){.kind = TL_TASK_VALUE});
  assert_int_equal(d.n, 2);
  assert_pair(&d, 0, "A one", "B one");
  assert_pair(&d, 1, "A two", "B two");
  assert_true(d.value[0] == 4.5 && d.value[1] == -0.1);
  assert_null(d.label);
  assert_int_equal(d.labels.n, 0);
  tl_task_data_free(&d);

  d = read_file("p.jsonl",
                "{\"premise\": \"A\", \"hypothesis\": \"B\", \"label\": 2}\n"
                "{\"premise\": \"C\", \"hypothesis\": \"D\", \"label\": 0}\n",
                (tl_task_options){0});
  assert_pair(&d, 1, "C", "D");
  assert_string_equal(label_of(&d, 0), "2");
  assert_string_equal(label_of(&d, 1), "0");
  tl_task_data_free(&d);

  d = read_file("v.jsonl", "{\"text\": \"A\", \"score\": 2}\n{\"text\": \"B\", \"score\": 0.25}\n",
                (tl_task_options){.kind = TL_TASK_VALUE});
  assert_true(d.value[0] == 2 && d.value[1] == 0.25);
  tl_task_data_free(&d);
}

static void assert_items(const tl_task_data *d, size_t i, int n, const int32_t *item) {
  assert_int_equal(d->first[i + 1] - d->first[i], n);
  if (n) assert_memory_equal(d->item + d->first[i], item, (size_t)n * sizeof *item);
}

static void multi_label(void **state) {
  (void)state;
  tl_task_options o = {.kind = TL_TASK_MULTI};
  for (int csv = 0; csv < 3; csv++) {
    static const char *const names[] = {"m.tsv", "m.csv", "m.jsonl"};
    static const char *const content[] = {
        "text\tlabels\nx\tsad, joy ,sad\ny\t\nz\tanger\n",
        "labels,text\n\"sad,joy,sad\",x\n,y\nanger,z\n",
        "{\"text\": \"x\", \"labels\": [\"sad\", \"joy\", \"sad\"]}\n"
        "{\"text\": \"y\", \"labels\": []}\n{\"text\": \"z\", \"labels\": \"anger\"}\n"};
    tl_task_data d = read_file(names[csv], content[csv], o);
    assert_int_equal(d.n, 3);
    assert_int_equal(d.labels.n, 3);
    assert_string_equal(d.labels.name[0], "anger");
    assert_items(&d, 0, 2, (int32_t[]){1, 2}); /* rising, each once */
    assert_items(&d, 1, 0, NULL);
    assert_items(&d, 2, 1, (int32_t[]){0});
    assert_string_equal(d.text[2], "z");
    tl_task_data_free(&d);
  }
  o.label_separator = '|';
  tl_task_data d = read_file("s.tsv", "a|b,c\tx\n", o);
  assert_string_equal(d.labels.name[1], "b,c");
  tl_task_data_free(&d);
}

static void assert_sentences(tl_task_data d) {
  static const char *const words[] = {"Ada", "Lovelace", "wrote", "London", "calls"};
  static const char *const tags[] = {"B-PER", "I-PER", "O", "B-LOC", "O"};
  assert_int_equal(d.n, 2);
  assert_int_equal(d.first[1], 3);
  assert_int_equal(d.first[2], 5);
  assert_int_equal(d.labels.n, 4);
  for (size_t i = 0; i < d.n; i++) {
    const char *w = d.text[i];
    for (size_t k = d.first[i]; k < d.first[i + 1]; k++, w = tl_task_next_word(w)) {
      assert_string_equal(w, words[k]);
      assert_string_equal(d.labels.name[d.item[k]], tags[k]);
    }
  }
  tl_task_data_free(&d);
}

static void tagged_words(void **state) {
  (void)state;
  tl_task_options o = {.kind = TL_TASK_TOKENS};
  assert_sentences(read_file(
      "a.conll", "Ada\tB-PER\nLovelace\tI-PER\nwrote\tO\n\t\nLondon\tB-LOC\ncalls\tO", o));
  assert_sentences(read_file("b.bio",
                             "-DOCSTART- -X- O O\n\nAda NNP B-NP B-PER\nLovelace NNP  I-NP I-PER\n"
                             "wrote V O O\n\n\n-DOCSTART- (12)\nLondon N B-NP B-LOC\n"
                             "calls V O O\n\n",
                             o));
  assert_sentences(
      read_file("c.txt",
                "B-PER\tx\tAda\nI-PER\tx\tLovelace\nO\tx\twrote\n\n"
                "B-LOC\tx\tLondon\nO\tx\tcalls\n",
                (tl_task_options){.kind = TL_TASK_TOKENS, .columns = "text=3,label=1"}));
  assert_sentences(
      read_file("d.conllu",
                "# text = Ada\n1\tAda\t_\tB-PER\n2-3\tx\t_\t_\n2\tLovelace\t_\tI-PER\n"
                "2.1\tx\t_\t_\n3\twrote\t_\tO\n\n# c\n1\tLondon\t_\tB-LOC\n2\tcalls\t_\tO\n",
                o));
  assert_sentences(read_file("e.jsonl",
                             "{\"tokens\": [\"Ada\", \"Lovelace\", \"wrote\"], \"ner_tags\": "
                             "[\"B-PER\", \"I-PER\", \"O\"]}\n"
                             "{\"tokens\": [\"London\", \"calls\"], \"ner_tags\": [\"B-LOC\", "
                             "\"O\"]}\n",
                             o));
  tl_task_data d = read_file("f.conll", "# O\nx O\n", o); /* no comment in plain CoNLL */
  assert_int_equal(d.first[1], 2);
  assert_int_equal(d.line[0], 1);
  tl_task_data_free(&d);
}

static void two_texts(void **state) {
  (void)state;
  tl_task_options o = {.kind = TL_TASK_PAIR};
  char *de = write_file("x.de", "ein Hund\nzwei Katzen");
  o.path_b = de;
  tl_task_data d = read_file("x.en", "a dog\ntwo cats\n", o);
  assert_int_equal(d.n, 2);
  assert_pair(&d, 0, "a dog", "ein Hund");
  assert_pair(&d, 1, "two cats", "zwei Katzen");
  uint64_t hash = d.hash;
  tl_task_data_free(&d);
  free(de);
  de = write_file("x.de", "ein Hund\nzwei Katzen!");
  o.path_b = de;
  d = read_file("x.en", "a dog\ntwo cats\n", o);
  assert_true(d.hash != hash);
  tl_task_data_free(&d);
  free(de);
  o.path_b = NULL;
  d = read_file("y.tsv", "a dog\tein Hund\ntwo cats\tzwei Katzen\n", o);
  assert_pair(&d, 1, "two cats", "zwei Katzen");
  tl_task_data_free(&d);
  d = read_file("y.jsonl", "{\"completion\": \"4\", \"prompt\": \"2 + 2 =\"}\n", o);
  assert_pair(&d, 0, "2 + 2 =", "4");
  tl_task_data_free(&d);
  o.columns = "text=q,text_b=a";
  d = read_file("z.csv", "a,q\n4,2 + 2\n", o);
  assert_pair(&d, 0, "2 + 2", "4");
  tl_task_data_free(&d);
}

static void given_labels_keep_their_order(void **state) {
  (void)state;
  tl_labels l;
  assert_int_equal(tl_labels_make((const char *const[]){"pos", "odd", "neg"}, 3, &l, NULL), TL_OK);
  assert_int_equal(tl_labels_find(&l, "neg"), 2);
  assert_int_equal(tl_labels_find(&l, "ne"), -1);
  tl_task_data d = read_file("a.tsv", "neg\tx\npos\ty\n", (tl_task_options){.labels = &l});
  tl_labels_free(&l);
  assert_int_equal(d.labels.n, 3);
  assert_int_equal(d.label[0], 2);
  assert_int_equal(d.label[1], 0);
  assert_string_equal(d.labels.name[1], "odd");
  tl_task_data_free(&d);

  free(write_file("config.json", "{\"id2label\": {\"1\": \"O\", \"0\": \"B-X\"}}"));
  tl_err err = {0};
  if (tl_labels_read(g_dir, &l, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(l.n, 2);
  assert_string_equal(l.name[0], "B-X");
  tl_labels_free(&l);
}

static void many_labels_and_records(void **state) {
  (void)state;
  enum { N = 5000, K = 700 };
  tl_buf b = {0};
  for (int i = 0; i < N; i++) tl_buf_printf(&b, "class %03d\ttext number %d\tx\n", i * 37 % K, i);
  tl_task_data d = read_file("n.tsv", b.data, (tl_task_options){.columns = "label=1,text=2"});
  assert_int_equal(d.n, N);
  assert_int_equal(d.labels.n, K);
  for (int i = 0; i < N; i++) {
    char text[40];
    snprintf(text, sizeof text, "text number %d", i);
    assert_string_equal(d.text[i], text);
    assert_int_equal(d.label[i], i * 37 % K); /* names are sorted */
    assert_int_equal(d.line[i], i + 1);
  }
  tl_task_data_free(&d);
  tl_buf_free(&b);
}

static void the_hash_is_of_the_content(void **state) {
  (void)state;
  tl_task_data a = read_file("a.tsv", "x\ty\nz\tw\n", (tl_task_options){0});
  tl_task_data b = read_file("b.tsv", "x\ty\r\nz\tw\r\n", (tl_task_options){0});
  tl_task_data c = read_file("c.tsv", "x\ty\nz\tv\n", (tl_task_options){0});
  assert_true(a.hash == b.hash);
  assert_true(a.hash != c.hash);
  tl_task_data_free(&a);
  tl_task_data_free(&b);
  tl_task_data_free(&c);
}

static void orders_are_nested_and_stratified(void **state) {
  (void)state;
  enum { N = 400 };
  tl_buf b = {0};
  for (int i = 0; i < N; i++) tl_buf_printf(&b, "%s\tt%d\n", i % 4 ? "most" : "few", i);
  tl_task_data d = read_file("o.tsv", b.data, (tl_task_options){0});
  size_t order[N], again[N], other[N];
  assert_int_equal(tl_task_order(&d, 1, order, NULL), TL_OK);
  assert_int_equal(tl_task_order(&d, 1, again, NULL), TL_OK);
  assert_int_equal(tl_task_order(&d, 2, other, NULL), TL_OK);
  assert_memory_equal(order, again, sizeof order);
  assert_memory_not_equal(order, other, sizeof order);
  int seen[N] = {0}, few = 0;
  for (int i = 0; i < N; i++) {
    seen[order[i]]++;
    few += d.label[order[i]] == 0;
    assert_true(fabs(few - (i + 1) / 4.0) <= 1); /* each beginning has its share */
  }
  for (int i = 0; i < N; i++) assert_int_equal(seen[i], 1);
  tl_task_data_free(&d);

  d = read_file("p.tsv", b.data, (tl_task_options){.kind = TL_TASK_PAIR}); /* no classes */
  assert_int_equal(tl_task_order(&d, 1, other, NULL), TL_OK);
  memset(seen, 0, sizeof seen);
  for (int i = 0; i < N; i++) seen[other[i]]++;
  for (int i = 0; i < N; i++) assert_int_equal(seen[i], 1);
  tl_task_data_free(&d);
  tl_buf_free(&b);
}

static void parts_are_numbers_or_shares(void **state) {
  (void)state;
  static const struct {
    double train, valid;
    size_t n_train, n_valid; /* n_train 0: refused */
  } cases[] = {
      {0, 0, 30, 0},  {0, 0.1, 27, 3},  {0.5, 5, 15, 5},   {0.001, 0, 1, 0}, {20, 10, 20, 10},
      {20, 11, 0, 0}, {31, 0, 0, 0},    {0, 30, 0, 0},     {1.5, 0, 0, 0},   {-1, 0, 0, 0},
      {NAN, 0, 0, 0}, {0, 1e300, 0, 0}, {0.99, 0.1, 0, 0}, {1, 29, 1, 29},   {INFINITY, 0, 0, 0},
  };
  tl_task_data d = {.n = 30};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    size_t n_train = 0, n_valid = 0;
    tl_err err = {0};
    tl_status s = tl_task_split(&d, cases[i].train, cases[i].valid, &n_train, &n_valid, &err);
    if (cases[i].n_train == 0) {
      assert_int_equal(s, TL_CONFIG);
      assert_non_null(strstr(err.msg, "records"));
      continue;
    }
    assert_int_equal(s, TL_OK);
    assert_int_equal(n_train, cases[i].n_train);
    assert_int_equal(n_valid, cases[i].n_valid);
  }
}

static void names_parse(void **state) {
  (void)state;
  tl_task_kind k = TL_TASK_PAIR;
  tl_task_format f = TL_TASK_CSV;
  assert_true(tl_task_kind_parse("multi-label", &k));
  assert_int_equal(k, TL_TASK_MULTI);
  assert_false(tl_task_kind_parse("x", &k));
  assert_true(tl_task_format_parse("conllu", &f));
  assert_int_equal(f, TL_TASK_CONLLU);
  assert_false(tl_task_format_parse("x", &f));
  assert_int_equal(f, TL_TASK_CONLLU);
}

/* --- real data, where they are --------------------------------------------------------------- */

typedef struct real_set {
  const char *train, *other, *pair; /* in the data folder; pair: the aligned file of train */
  tl_task_options o;
  size_t n, n_other;
  int labels;
} real_set;

static const real_set real_sets[] = {
    {"sst2/train.txt", "sst2/test.txt", NULL, {0}, 6920, 1821, 2},
    {"trec/train.txt", "trec/test.txt", NULL, {.replace_bad_utf8 = true}, 5452, 500, 6},
    {"chemprot/train.txt", "chemprot/test.txt", NULL, {0}, 4169, 3469, 13},
    {"sci-cite/train.txt", "sci-cite/dev.txt", NULL, {0}, 7320, 916, 3},
    {"stsb/train.tsv",
     "stsb/dev.tsv",
     NULL,
     {.kind = TL_TASK_VALUE, .columns = "label=5,text=6,text_b=7", .extra_columns = true},
     5749,
     1500,
     0},
    {"wnut17/train.conll", "wnut17/test.conll", NULL, {.kind = TL_TASK_TOKENS}, 3394, 1287, 13},
    {"bc5cdr/train.txt", "bc5cdr/test.txt", NULL, {.kind = TL_TASK_TOKENS}, 3942, 4139, 3},
    {"multi30k/train.en", NULL, "multi30k/train.de", {.kind = TL_TASK_PAIR}, 29000, 0, 0},
};

static char *data_file(const char *name) {
  const char *dir = getenv("TILTH_DATA");
  char *path = tl_path_join(dir ? dir : TL_SOURCE_DIR "/../shared/data", name);
  if (path && tl_file_exists(path)) return path;
  free(path);
  path = tl_path_join("/work/shared/data", name);
  if (path && tl_file_exists(path)) return path;
  free(path);
  return NULL;
}

static void read_real(const real_set *r) {
  tl_task_options o = r->o;
  tl_err err = {0};
  tl_task_data d, e;
  char *path = data_file(r->train), *pair = r->pair ? data_file(r->pair) : NULL,
       *other = r->other ? data_file(r->other) : NULL;
  if (!path || (r->pair && !pair) || (r->other && !other)) {
    print_message("%s: not here, skipped\n", r->train);
  } else {
    o.path_b = pair;
    if (tl_task_read(path, &o, &d, &err) != TL_OK) fail_msg("%s", err.msg);
    if (d.n != r->n || d.labels.n != r->labels)
      fail_msg("%s: %zu records, %d labels", r->train, d.n, d.labels.n);
    o.labels = d.labels.n ? &d.labels : NULL;
    if (other) {
      if (tl_task_read(other, &o, &e, &err) != TL_OK) fail_msg("%s", err.msg);
      if (e.n != r->n_other || e.labels.n != d.labels.n) fail_msg("%s: %zu records", other, e.n);
      tl_task_data_free(&e);
    }
    tl_task_data_free(&d);
  }
  free(path);
  free(pair);
  free(other);
}

static void real_data_load(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof real_sets / sizeof *real_sets; i++) read_real(&real_sets[i]);
}

static void texts_in_memory(void **state) {
  (void)state;
  const char *text[] = {" Anna  sees\tRome", "x"}, *bad[] = {"good", "\xff"}, *empty[] = {" "};
  tl_task_data d;
  tl_err err = {0};
  assert_int_equal(tl_task_make(TL_TASK_CLASS, text, bad, 1, &d, &err), TL_OK);
  assert_pair(&d, 0, text[0], "good");
  tl_task_data_free(&d);
  assert_int_equal(tl_task_make(TL_TASK_TOKENS, text, NULL, 2, &d, &err), TL_OK);
  assert_int_equal(d.first[1], 3);
  assert_int_equal(d.first[2], 4);
  assert_string_equal(d.text[0], "Anna");
  assert_string_equal(tl_task_next_word(d.text[0]), "sees");
  assert_string_equal(tl_task_next_word(tl_task_next_word(d.text[0])), "Rome");
  assert_string_equal(d.text[1], "x");
  tl_task_data_free(&d);
  assert_int_equal(tl_task_make(TL_TASK_TEXTS, bad, NULL, 2, &d, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "text 1 is not UTF-8 (from byte 0 on)"));
  assert_int_equal(tl_task_make(TL_TASK_TEXTS, empty, NULL, 1, &d, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "text 0 is empty"));
  assert_int_equal(tl_task_make(TL_TASK_TEXTS, empty, NULL, 0, &d, &err), TL_DATA);
  assert_int_equal(tl_task_make(TL_TASK_TOKENS, text, text, 1, &d, &err), TL_CONFIG);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(formats_agree),
      cmocka_unit_test(a_file_for_each_class),
      cmocka_unit_test(text_is_all_after_the_first_tab),
      cmocka_unit_test(csv_quoting),
      cmocka_unit_test(pairs_and_values),
      cmocka_unit_test(multi_label),
      cmocka_unit_test(tagged_words),
      cmocka_unit_test(two_texts),
      cmocka_unit_test(given_labels_keep_their_order),
      cmocka_unit_test(many_labels_and_records),
      cmocka_unit_test(the_hash_is_of_the_content),
      cmocka_unit_test(orders_are_nested_and_stratified),
      cmocka_unit_test(parts_are_numbers_or_shares),
      cmocka_unit_test(texts_in_memory),
      cmocka_unit_test(names_parse),
      cmocka_unit_test(real_data_load),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
