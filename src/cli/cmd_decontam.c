/* tilth decontam: keeps the test texts of a task out of pretraining text. */
#include <inttypes.h>
#include <stdio.h>
#include "cli/cli.h"
#include "tilth/decontam.h"

static void print_report(const tl_decontam_report *r, bool json) {
  if (json) {
    printf("{\"schema_version\":1,\"test_texts\":%" PRIu64 ",\"test_texts_found\":%" PRIu64
           ",\"documents\":%" PRIu64 ",\"documents_changed\":%" PRIu64
           ",\"documents_dropped\":%" PRIu64 ",\"lines\":%" PRIu64 ",\"lines_cut\":%" PRIu64
           ",\"bytes_in\":%" PRIu64 ",\"bytes_out\":%" PRIu64 "}\n",
           r->texts, r->texts_found, r->docs, r->docs_changed, r->docs_dropped, r->lines,
           r->lines_cut, r->bytes_in, r->bytes_out);
    return;
  }
  double cut = r->bytes_in ? 100.0 * (double)(r->bytes_in - r->bytes_out) / (double)r->bytes_in : 0;
  printf("test texts    %" PRIu64 ", of them found in the input: %" PRIu64 "\n", r->texts,
         r->texts_found);
  printf("documents     %" PRIu64 ", of them changed: %" PRIu64 ", dropped: %" PRIu64 "\n", r->docs,
         r->docs_changed, r->docs_dropped);
  printf("lines         %" PRIu64 ", of them cut: %" PRIu64 "\n", r->lines, r->lines_cut);
  printf("bytes         %" PRIu64 " -> %" PRIu64 " (%.2f %% cut)\n", r->bytes_in, r->bytes_out,
         cut);
}

typedef struct choices {
  tl_cli_list against;
  const char *out, *text_key;
  int64_t ngram;
  bool overwrite, json;
} choices;

static int run(const choices *c, const tl_cli_args *args) {
  tl_err err = {0};
  tl_decontam *d = NULL;
  tl_decontam_report report;
  /* Out of int's range is out of the allowed range, too. */
  int ngram = c->ngram > 0 && c->ngram <= TL_DECONTAM_NGRAM_MAX ? (int)c->ngram : -1;
  tl_status s = tl_decontam_new(ngram, &d, &err);
  for (size_t i = 0; i < c->against.n && s == TL_OK; i++)
    s = tl_decontam_add_file(d, c->against.item[i], &err);
  if (s == TL_OK)
    s = tl_decontam_files(d, args->item, args->n, c->text_key, c->out, c->overwrite, &err);
  if (s == TL_OK) {
    tl_decontam_get_report(d, &report);
    print_report(&report, c->json);
  }
  tl_decontam_free(d);
  return s == TL_OK ? 0 : tl_cli_fail(&err);
}

int tl_cmd_decontam(int argc, char **argv) {
  choices c = {.ngram = TL_DECONTAM_NGRAM};
  const tl_opt opts[] = {
      {"against", 'a', TL_OPT_LIST, &c.against, "FILE",
       "test texts, one a line, or label<TAB>text (repeatable)"},
      {"out", 'o', TL_OPT_STR, &c.out, "DIR", "folder for the filtered text, a file per input"},
      {"ngram", 'n', TL_OPT_INT, &c.ngram, "WORDS", "words in a row that make a match (8)"},
      {"text-key", 0, TL_OPT_STR, &c.text_key, "KEY", "key of the text in JSON Lines (text)"},
      {"overwrite", 0, TL_OPT_FLAG, &c.overwrite, NULL, "replace files that exist"},
      {"json", 0, TL_OPT_FLAG, &c.json, NULL, "print the counts as JSON"},
      {0}};
  const tl_usage usage = {
      .name = "decontam",
      .synopsis = "--against FILE --out DIR INPUT...",
      .summary =
          "Copies text without the lines that hold a test text of a task, so that a model\n"
          "pretrained on it has not seen the test. A test text of fewer words than --ngram\n"
          "matches where all its words stand in a row, a longer one where any --ngram of them do;\n"
          "case and punctuation do not count.",
      .examples = "tilth decontam --against wordnet/test.tsv --out clean pretrain/*.txt",
      .opts = opts,
      .min_args = 1,
      .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  if (!c.against.n || !c.out)
    rc = tl_cli_usage_error("decontam", "--against and --out are needed");
  else
    rc = run(&c, &args);
  tl_cli_args_free(&args);
  return rc;
}
