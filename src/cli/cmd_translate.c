/* tilth translate: the lines of a file by an encoder-decoder; BLEU when there are references. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/translate.h"

static void print_plain(const tl_translations *t) {
  for (size_t i = 0; i < t->n; i++)
    for (size_t k = 0; k < t->n_best; k++) {
      const char *text = t->text[i * t->n_best + k];
      if (!text) continue;
      if (t->n_best > 1) printf("%zu\t%.4f\t", i + 1, t->score[i * t->n_best + k]);
      printf("%s\n", text);
    }
}

static void dump(json_t *o) {
  json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
  putchar('\n');
  json_decref(o);
}

static void print_json(const tl_translations *t, char *const *source) {
  for (size_t i = 0; i < t->n; i++) {
    json_t *list = json_array();
    for (size_t k = 0; k < t->n_best; k++) {
      size_t at = i * t->n_best + k;
      if (t->text[at])
        json_array_append_new(list,
                              json_pack("{s:s,s:f}", "text", t->text[at], "score", t->score[at]));
    }
    dump(json_pack("{s:s,s:o}", "source", source[i], "translations", list));
  }
}

static tl_status translate(tl_translator *t, const char *data, const char *reference, bool json,
                           tl_err *err) {
  tl_text_lines source = {0}, want = {0};
  tl_translations out = {0};
  tl_scores scores = {0};
  tl_status s = tl_text_lines_read(data, &source, err);
  if (s == TL_OK && reference) s = tl_text_lines_read(reference, &want, err);
  if (s == TL_OK && reference && want.n != source.n)
    s = tl_fail(err, TL_DATA, "%s has %zu lines, %s %zu: a reference is needed for each line", data,
                source.n, reference, want.n);
  if (s == TL_OK) s = tl_translator_run(t, (const char *const *)source.line, source.n, &out, err);
  if (s == TL_OK && reference)
    s = tl_translations_score(&out, (const char *const *)want.line, &scores, err);
  if (s == TL_OK) {
    if (json)
      print_json(&out, source.line);
    else
      print_plain(&out);
    if (reference && json)
      dump(json_pack("{s:o}", "scores", tl_cli_scores_json(&scores)));
    else if (reference)
      tl_cli_print_scores(NULL, &scores, stderr);
    if (out.n_cut)
      fprintf(stderr, "tilth: warning: %zu texts were cut to --max-len tokens\n", out.n_cut);
  }
  tl_translations_free(&out);
  tl_text_lines_free(&source);
  tl_text_lines_free(&want);
  return s;
}

int tl_cmd_translate(int argc, char **argv) {
  const char *data = NULL, *reference = NULL;
  tl_translate_options o = tl_translate_defaults();
  bool json = false;
  const char *adapter = NULL;
  const tl_opt opts[] = {
      {"data", 0, TL_OPT_STR, &data, "FILE", "texts to translate, one a line (-: standard input)"},
      {"reference", 0, TL_OPT_STR, &reference, "FILE",
       "their translations, for BLEU and chrF (on stderr)"},
      {"beam", 0, TL_OPT_INT, &o.beam, "N", "beams, 1 to 64; 1: greedy (5)"},
      {"length-penalty", 0, TL_OPT_DOUBLE, &o.length_penalty, "A",
       "log p / length^A is what counts (1)"},
      {"n-best", 0, TL_OPT_INT, &o.n_best, "N", "print N translations with number and score (1)"},
      {"max-len", 0, TL_OPT_INT, &o.max_len, "N",
       "tokens per text (default: the model's, at most 256)"},
      {"dtype", 0, TL_OPT_STR, &o.dtype, "T", "auto, f32, bf16"},
      {"json", 0, TL_OPT_FLAG, &json, NULL, "one JSON object a line, then the scores"},
      {"adapter", 0, TL_OPT_STR, &adapter, "DIR", TL_ADAPTER_HELP},
      {0}};
  const tl_usage usage = {
      .name = "translate",
      .synopsis = "MODEL --data FILE [options]",
      .summary = "Translates each line with a model made by tilth finetune -p translate-small.",
      .examples = "tilth translate runs/en-de/model --data test.en --reference test.de > out.de\n"
                  "echo 'A dog runs.' | tilth translate runs/en-de/model --data - --n-best 3",
      .opts = opts,
      .min_args = 1,
      .max_args = 1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  tl_ctx *ctx = NULL;
  tl_translator *t = NULL;
  tl_status s = TL_OK;
  if (!data)
    s = tl_fail(&err, TL_USAGE, "translate: --data FILE is needed");
  else if (strcmp(o.dtype, "auto") && strcmp(o.dtype, "f32") && strcmp(o.dtype, "bf16"))
    s = tl_fail(&err, TL_USAGE, "translate: --dtype must be auto, f32 or bf16");
  if (s == TL_OK) s = tl_cli_make_ctx(NULL, &ctx, &err);
  if (s == TL_OK) s = tl_translator_open(ctx, tl_cli_model(&args, adapter), &o, &t, &err);
  if (s == TL_OK) s = translate(t, data, reference, json, &err);
  rc = s == TL_OK ? 0 : tl_cli_fail(&err);
  tl_translator_free(t);
  tl_ctx_free(ctx);
  tl_cli_args_free(&args);
  return rc;
}
