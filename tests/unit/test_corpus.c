/* Unit tests of scripts/corpus: each filter on a few lines of its kind of source. */
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

static char dir[64];

static int make_dir(void **state) {
  (void)state;
  snprintf(dir, sizeof dir, "/tmp/tilth-corpus-XXXXXX");
  return mkdtemp(dir) ? 0 : -1;
}
static int remove_dir(void **state) {
  (void)state;
  return tl_remove_tree(dir, NULL) == TL_OK ? 0 : -1;
}

static void put(const char *name, const char *text) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  assert_int_equal(tl_file_write_atomic(path, text, strlen(text), NULL), TL_OK);
}

/* Runs `perl SCRIPT` with the rest of the command line in the test's folder. */
static void expect(const char *script_and_rest, const char *output) {
  if (system("perl -e 1") != 0) {
    print_message("skipped: perl is not there\n");
    skip();
  }
  char command[512], got[4096];
  snprintf(command, sizeof command, "cd %s && perl %s/scripts/corpus/%s", dir, TL_SOURCE_DIR,
           script_and_rest);
  FILE *f = popen(command, "r");
  assert_non_null(f);
  size_t n = fread(got, 1, sizeof got - 1, f);
  got[n] = 0;
  assert_int_equal(pclose(f), 0);
  assert_string_equal(got, output);
}

static void dictionary(void **state) {
  (void)state;
  put("dict",
      "00-database-info\n   licence text\nBegin\n\n"
      "Lariat \\Lar\"i*at\\ (l[a^]r\"[i^]*[a^]t), n. [Sp. la reata the\n   rope. Cf. {Reata}.]\n"
      "   A long, slender rope made of hemp,\n   used as a lasso. [Mexico]\n"
      "   [1913 Webster]\n\n   Syn: a rope.\n        [WordNet 1.5]\n\n"
      "catabolic \\catabolic\\ adj.\n   1. Of catabolism.\n      [PJC]\n\n   2. destructive.\n\n"
      "Empty \\x\\ n.\n   [1913 Webster]\n");
  expect(
      "dict.pl '\\\\' < dict",
      "Lariat, n.\nA long, slender rope made of hemp, used as a lasso. [Mexico]\nSyn: a rope.\n\n"
      "catabolic adj.\n1. Of catabolism.\n2. destructive.\n\n");
}

static void restructured_text(void **state) {
  (void)state;
  put("a.rst",
      ".. SPDX: x\n\n=====\nTitle\n=====\n\nThis paragraph is *prose* about ``code``\nand a "
      ":ref:`link <target>`, as in::\n\n    int code = 0;\n\n    more_code();\n\n"
      "Prose goes on here after the block, in words.\n\n"
      ".. note::\n   A note is prose that is kept, as it should be.\n\n"
      ".. code-block:: c\n\n   dropped dropped dropped dropped;\n\n"
      "==== ====\na    b\n==== ====\n");
  expect("rst.pl < /dev/null", "");
  put("list", "a.rst\n");
  expect("rst.pl < list", "Title\nThis paragraph is prose about code and a link, as in:\n"
                          "Prose goes on here after the block, in words.\n"
                          "A note is prose that is kept, as it should be.\n\n");
}

static void html_pages(void **state) {
  (void)state;
  put("a.html",
      "<html><head><title>no</title></head><body><p>Before the display area, left out.</p>"
      "<div id=\"DisplayArea\" x=\"y\"><h1>Changes</h1><p>Choose <b>Edit &amp; go</b> to "
      "see the changes.</p><p>Too short.</p><pre>some code that is not kept at all</pre>"
      "<ul><li><p>An item with a paragraph in it.</p></li></ul></div>"
      "<div id=\"SearchFrame\"></div><p>After the text, left out as well.</p></body></html>");
  put("list", "a.html\n");
  expect("html.pl < list", "Changes\nChoose Edit & go to see the changes.\n"
                           "An item with a paragraph in it.\n\n");
}

static void package_descriptions(void **state) {
  (void)state;
  put("tr",
      "Package: a\nDescription-md5: 1\nDescription-en: short one\n Long text\n goes on.\n .\n"
      "  * item one\n  * item two\n\nPackage: b\nDescription-en: another\n Long text\n goes on.\n"
      " .\n Its own words.\n\nPackage: c\nDescription-en: short only\n");
  expect("packages.pl < tr", "short one\nLong text goes on.\n* item one\n* item two\n\n"
                             "another\nIts own words.\n\n");
}

static void wordnet_glosses(void **state) {
  (void)state;
  put("data.noun",
      "  1 licence\n"
      "00000001 03 n 01 thing 0 000 | a separate thing; \"it is a thing\"; a whole  \n"
      "00000002 18 n 01 man 0 000 | an adult male  \n"
      "00000003 28 n 01 day 0 000 | time from noon to noon (24 hours); \"two days\"  \n"
      "00000004 06 n 01 x 0 000 | An adult, male!  \n");
  expect("wordnet.pl data.noun 1 . && cat test.tsv train.tsv | LC_ALL=C sort && wc -l < test.tsv",
         "noun.Tops\ta separate thing; a whole\nnoun.person\tan adult male\n"
         "noun.time\ttime from noon to noon (24 hours)\n1\n");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(dictionary),      cmocka_unit_test(restructured_text),
      cmocka_unit_test(html_pages),      cmocka_unit_test(package_descriptions),
      cmocka_unit_test(wordnet_glosses),
  };
  return cmocka_run_group_tests_name("corpus", tests, make_dir, remove_dir);
}
