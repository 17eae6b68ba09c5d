/* tilth export, tilth import: models and token files for and from other programs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/cli.h"
#include "tilth/convert.h"

typedef tl_status (*export_fn)(const char *from, const char *out, const tl_convert_options *o,
                               tl_convert_report *r, tl_err *err);

static tl_status to_nanogpt(const char *from, const char *out, const tl_convert_options *o,
                            tl_convert_report *r, tl_err *err) {
  return tl_export_tokens(from, TL_TOKENS_NANOGPT, out, o, r, err);
}

static tl_status to_llmc(const char *from, const char *out, const tl_convert_options *o,
                         tl_convert_report *r, tl_err *err) {
  return tl_export_tokens(from, TL_TOKENS_LLMC, out, o, r, err);
}

/* A form to export to: a row here, its word in the help below. */
static const struct target {
  const char *name;
  export_fn run;
  bool tokens; /* of a dataset, not of a model */
} targets[] = {{"hf", tl_convert_hf, false},
               {"gguf", tl_export_gguf, false},
               {"npz", tl_export_npz, false},
               {"nanogpt", to_nanogpt, true},
               {"llmc", to_llmc, true}};

/* "500MB", "2GB", "1000000". */
static tl_status parse_size(const char *text, uint64_t *out, tl_err *err) {
  static const struct {
    const char *unit;
    double bytes;
  } units[] = {{"", 1}, {"B", 1}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}};
  *out = 0;
  if (!text) return TL_OK;
  char *end = NULL;
  double v = strtod(text, &end);
  for (size_t i = 0; end != text && i < sizeof units / sizeof *units; i++)
    if (!strcmp(end, units[i].unit) && v * units[i].bytes >= 1 && v * units[i].bytes < 1e18) {
      *out = (uint64_t)(v * units[i].bytes);
      return TL_OK;
    }
  return tl_fail(err, TL_USAGE, "\"%s\" is no size; expected a number with KB, MB or GB", text);
}

static void tell(const char *what, const char *out, const tl_convert_report *r, bool tokens) {
  if (tl_cli_quiet()) return;
  if (tokens) {
    fprintf(stderr, "%s: %lld tokens, %llu files: %s\n", what, (long long)r->tensors,
            (unsigned long long)r->files, out);
    return;
  }
  fprintf(stderr, "%s: %lld tensors, %.1f MB in %llu file%s: %s\n", what, (long long)r->tensors,
          (double)r->bytes * 1e-6, (unsigned long long)r->files, r->files == 1 ? "" : "s", out);
  if (r->renamed) fprintf(stderr, "  %lld got today's names\n", (long long)r->renamed);
  if (r->dropped) fprintf(stderr, "  %lld can be computed, left out\n", (long long)r->dropped);
  if (r->unused)
    fprintf(stderr, "  %lld are kept, though this model has no use for them\n",
            (long long)r->unused);
}

int tl_cmd_export(int argc, char **argv) {
  const char *to = "hf", *out = NULL, *size = NULL;
  tl_convert_options o = {0};
  const tl_opt opts[] = {
      {"to", 't', TL_OPT_STR, &to, "FORM",
       "hf (default), gguf, npz: of a model; nanogpt, llmc: of a prepared dataset"},
      {"out", 'o', TL_OPT_STR, &out, "PLACE", "the folder or file to write (needed)"},
      {"dtype", 0, TL_OPT_STR, &o.dtype, "TYPE",
       "of matrices: f32, f16, bf16; gguf also q8_0 (default: as they are; gguf: f32)"},
      {"max-shard-size", 0, TL_OPT_STR, &size, "SIZE",
       "hf: cut the weights into files of at most this size (500MB, 2GB)"},
      {"overwrite", 0, TL_OPT_FLAG, &o.overwrite, NULL, "write over what is at the place"},
      {0}};
  const tl_usage usage = {
      .name = "export",
      .synopsis = "MODEL --to FORM --out PLACE [options]",
      .summary = "A model or a dataset in the form of another program: Hugging Face's folder, "
                 "llama.cpp's\n"
                 "GGUF, NumPy's .npz; nanoGPT's and llm.c's token files.",
      .examples = "tilth export runs/my-run/model --to gguf --dtype q8_0 --out my.gguf\n"
                  "tilth export runs/my-run/model --dtype bf16 --max-shard-size 2GB --out my-hf\n"
                  "tilth export data/books --to nanogpt --out books-bin",
      .opts = opts,
      .min_args = 1,
      .max_args = 1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  tl_convert_report r = {0};
  const struct target *t = NULL;
  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
    if (!strcmp(targets[i].name, to)) t = &targets[i];
  tl_status s = TL_OK;
  if (!t)
    s = tl_fail(&err, TL_USAGE, "export: --to %s is unknown; expected hf, gguf, npz, nanogpt, llmc",
                to);
  else if (!out)
    s = tl_fail(&err, TL_USAGE, "export: --out PLACE is needed");
  else
    s = parse_size(size, &o.max_shard_bytes, &err);
  if (s == TL_OK) s = t->run(args.item[0], out, &o, &r, &err);
  if (s == TL_OK) tell("exported", out, &r, t->tokens);
  rc = s == TL_OK ? 0 : tl_cli_fail(&err);
  tl_cli_args_free(&args);
  return rc;
}

static bool is_folder(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_gguf(const char *path) {
  size_t n = strlen(path);
  return n > 5 && !strcmp(path + n - 5, ".gguf");
}

static tl_status import_tokens(const tl_cli_args *args, const tl_cli_list *val,
                               const char *tokenizer, const char *out, bool overwrite,
                               tl_convert_report *r, tl_err *err) {
  if (!tokenizer)
    return tl_fail(err, TL_USAGE, "import: token files need --tokenizer, which says what ids mean");
  const tl_import_tokens_options o = {.train = args->item,
                                      .n_train = args->n,
                                      .val = val->item,
                                      .n_val = val->n,
                                      .tokenizer = tokenizer,
                                      .overwrite = overwrite};
  return tl_import_tokens(&o, out, r, err);
}

int tl_cmd_import(int argc, char **argv) {
  const char *out = NULL, *size = NULL, *tokenizer = NULL;
  tl_cli_list val = {0};
  tl_convert_options o = {0};
  const tl_opt opts[] = {
      {"out", 'o', TL_OPT_STR, &out, "DIR", "the folder to write (needed)"},
      {"dtype", 0, TL_OPT_STR, &o.dtype, "TYPE", "f32, f16, bf16 (default: as they are)"},
      {"max-shard-size", 0, TL_OPT_STR, &size, "SIZE", "cut the weights into files of this size"},
      {"tokenizer", 0, TL_OPT_STR, &tokenizer, "PATH", "token files: tokenizer of their ids"},
      {"val", 0, TL_OPT_LIST, &val, "FILE", "token files: of the validation split"},
      {"overwrite", 0, TL_OPT_FLAG, &o.overwrite, NULL, "write over what is at the place"},
      {0}};
  const tl_usage usage = {
      .name = "import",
      .synopsis = "FOLDER | FILE.gguf | FILE.bin... --out DIR [options]",
      .summary =
          "Checks a folder in Hugging Face's form and writes it with today's names and keys "
          "(every\n"
          "command also takes such a folder as it is), makes such a folder of llama.cpp's GGUF "
          "file\n"
          "(which commands take as it is, too, turning its weights to f32 each time), or a dataset "
          "of\n"
          "nanoGPT's or llm.c's token files.",
      .examples = "tilth import ~/models/bert-base-uncased --out bert\n"
                  "tilth import model.gguf --out my-model\n"
                  "tilth import train.bin --val val.bin --tokenizer gpt2/ --out data/books",
      .opts = opts,
      .min_args = 1,
      .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  tl_convert_report r = {0};
  bool gguf = args.n == 1 && is_gguf(args.item[0]);
  bool model = gguf || (args.n == 1 && is_folder(args.item[0]));
  tl_status s = out ? parse_size(size, &o.max_shard_bytes, &err)
                    : tl_fail(&err, TL_USAGE, "import: --out DIR is needed");
  if (s == TL_OK)
    s = gguf    ? tl_import_gguf(args.item[0], out, &o, &r, &err)
        : model ? tl_convert_hf(args.item[0], out, &o, &r, &err)
                : import_tokens(&args, &val, tokenizer, out, o.overwrite, &r, &err);
  if (s == TL_OK) tell("imported", out, &r, !model);
  rc = s == TL_OK ? 0 : tl_cli_fail(&err);
  tl_cli_args_free(&args);
  return rc;
}
