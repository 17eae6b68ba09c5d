/* tilth tokenizer: trains tokenizers, and encodes, decodes and inspects with them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/cli.h"
#include "tilth/suggest.h"
#include "tilth/text.h"
#include "tilth/tokenizer.h"

/* ---- text in ---- */

typedef struct input {
  const char *unit, *text_key;
  tl_text_reader *reader;
} input;

static tl_status open_input(input *in, const tl_cli_args *args, size_t first, bool any_bytes,
                            tl_err *err) {
  tl_text_options o = {.text_key = in->text_key,
                       .utf8 = any_bytes ? TL_UTF8_KEEP : TL_UTF8_REPLACE};
  if (!tl_text_unit_parse(in->unit, &o.unit))
    return tl_fail(err, TL_USAGE, "--unit %s: expected auto, file, line, paragraph or jsonl",
                   in->unit);
  static const char *const standard[] = {"-"};
  if (args->n == first) return tl_text_open(standard, 1, &o, &in->reader, err);
  return tl_text_open(args->item + first, args->n - first, &o, &in->reader, err);
}

static bool is_byte_level(const char *type) {
  return strcmp(type, "bpe") == 0 || strcmp(type, "bytes") == 0;
}

/* ---- train ---- */

typedef struct train_choices {
  const char *type, *out;
  int64_t vocab_size, max_bytes;
  bool lowercase, overwrite;
  input in;
} train_choices;

static tl_status check_out(const train_choices *c, tl_err *err) {
  char path[4096];
  int n = snprintf(path, sizeof path, "%s/tokenizer.json", c->out);
  if (n < 0 || (size_t)n >= sizeof path) return tl_fail(err, TL_USAGE, "--out is too long");
  if (!c->overwrite && access(path, F_OK) == 0)
    return tl_fail(err, TL_CREATE, "%s exists; give another --out, or --overwrite to replace it",
                   path);
  return TL_OK;
}

static tl_status train(tl_ctx *ctx, train_choices *c, const tl_cli_args *args, tl_tokenizer **t,
                       tl_err *err) {
  tl_tokenizer_train_options o = {.type = c->type,
                                  .vocab_size = (int)c->vocab_size,
                                  .lowercase = c->lowercase,
                                  .max_bytes = c->max_bytes};
  if (c->vocab_size < 0 || c->vocab_size > INT32_MAX || c->max_bytes < 0)
    return tl_fail(err, TL_USAGE, "--vocab-size and --max-bytes take positive numbers");
  TL_TRY(check_out(c, err));
  if (args->n == 0 && strcmp(c->type, "bytes") != 0)
    return tl_fail(err, TL_USAGE, "no input: name the files to train on (- for standard input)");
  if (args->n == 0) return tl_tokenizer_train(ctx, &o, NULL, NULL, t, err);
  TL_TRY(open_input(&c->in, args, 0, is_byte_level(c->type), err));
  return tl_tokenizer_train(ctx, &o, tl_text_next, c->in.reader, t, err);
}

static void print_trained(const tl_tokenizer *t, const train_choices *c) {
  tl_text_stats stats = {0};
  if (c->in.reader) tl_text_get_stats(c->in.reader, &stats);
  printf("type          %s\nvocabulary    %d\n", tl_tokenizer_type(t), tl_tokenizer_vocab_size(t));
  if (c->in.reader)
    printf("trained on    %" PRIu64 " documents, %" PRIu64 " bytes\n", stats.docs, stats.bytes);
  printf("fingerprint   %016" PRIx64 "\nwritten to    %s\n", tl_tokenizer_fingerprint(t), c->out);
}

static int run_train(train_choices *c, const tl_cli_args *args) {
  tl_err err = {0};
  tl_ctx *ctx = NULL;
  tl_tokenizer *t = NULL;
  tl_ctx_options o = tl_cli_ctx_options();
  tl_cli_catch_signals();
  tl_status s = tl_ctx_new(&o, &ctx, &err);
  if (s == TL_OK) s = train(ctx, c, args, &t, &err);
  if (s == TL_OK) s = tl_tokenizer_save(t, c->out, &err);
  if (s == TL_OK) print_trained(t, c);
  tl_text_close(c->in.reader);
  tl_tokenizer_free(t);
  tl_ctx_free(ctx);
  return s == TL_OK ? 0 : tl_cli_fail(&err);
}

static int cmd_train(int argc, char **argv) {
  train_choices c = {.type = "bpe", .vocab_size = 8192, .in.unit = "auto"};
  const tl_opt opts[] = {
      {"type", 't', TL_OPT_STR, &c.type, "TYPE", "bpe, wordpiece, unigram or bytes (bpe)"},
      {"vocab-size", 'n', TL_OPT_INT, &c.vocab_size, "N", "tokens, specials included (8192)"},
      {"lowercase", 0, TL_OPT_FLAG, &c.lowercase, NULL,
       "wordpiece, unigram: lower case without accents, as in BERT uncased"},
      {"out", 'o', TL_OPT_STR, &c.out, "DIR", "folder for tokenizer.json"},
      {"max-bytes", 0, TL_OPT_INT, &c.max_bytes, "N", "stop reading after N bytes"},
      {"unit", 0, TL_OPT_STR, &c.in.unit, "UNIT",
       "what a document is: auto, file, line, paragraph, jsonl"},
      {"text-key", 0, TL_OPT_STR, &c.in.text_key, "KEY", "key of the text in JSON Lines (text)"},
      {"overwrite", 0, TL_OPT_FLAG, &c.overwrite, NULL, "replace a tokenizer that exists"},
      {0}};
  const tl_usage usage = {
      .name = "tokenizer train",
      .synopsis = "[options] --out DIR INPUT...",
      .summary = "Trains a tokenizer on text and writes it in the form of Hugging Face's\n"
                 "tokenizers. INPUT: files, folders or globs, compressed or not.",
      .examples = "tilth tokenizer train --vocab-size 8192 --out tok corpus/*.txt.zst\n"
                  "tilth tokenizer train -t wordpiece --lowercase -n 8192 -o tok docs.jsonl\n"
                  "tilth tokenizer train --type bytes --out tok",
      .opts = opts,
      .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  rc = c.out ? run_train(&c, &args) : tl_cli_usage_error(usage.name, "--out is needed");
  tl_cli_args_free(&args);
  return rc;
}

/* ---- encode ---- */

typedef struct encode_choices {
  const char *text;
  bool tokens, special, parse, count;
  input in;
} encode_choices;

typedef struct counts {
  uint64_t docs, bytes, tokens, unknown;
} counts;

static void print_id(const tl_tokenizer *t, uint32_t id, bool as_token, const char *before) {
  if (as_token)
    printf("%s%s", before, tl_tokenizer_token(t, id));
  else
    printf("%s%" PRIu32, before, id);
}

static void print_ids(const tl_tokenizer *t, const encode_choices *c, const uint32_t *ids,
                      size_t n) {
  for (size_t i = 0; i < n; i++) print_id(t, ids[i], c->tokens, i ? " " : "");
  putchar('\n');
}

/* Delivers the text given on the command line once. */
static tl_status next_given(void *user, const char **text, size_t *len, tl_err *err) {
  (void)err;
  const char **given = user;
  *text = *given;
  *len = *given ? strlen(*given) : 0;
  *given = NULL;
  return TL_OK;
}

/* Encodes all documents of the input; prints them unless only counts are wanted; uses (may be NULL)
 * counts the uses of each id. */
static tl_status encode_all(const tl_tokenizer *t, encode_choices *c, counts *k, uint64_t *uses,
                            tl_err *err) {
  uint32_t *ids = NULL;
  size_t cap = 0;
  tl_text_next_fn next = c->text ? next_given : tl_text_next;
  void *user = c->text ? (void *)&c->text : (void *)c->in.reader;
  int unk = tl_tokenizer_special(t, TL_TOK_UNK);
  unsigned flags = (c->special ? TL_ENCODE_WRAP : 0) | (c->parse ? TL_ENCODE_PARSE : 0);
  tl_status s;
  for (;;) {
    const char *text;
    size_t len, n = 0;
    s = next(user, &text, &len, err);
    if (s != TL_OK || !text) break;
    s = tl_tokenizer_encode_with(t, flags, text, len, &ids, &n, &cap, err);
    if (s != TL_OK) break;
    k->docs++;
    k->bytes += len;
    k->tokens += n;
    for (size_t i = 0; i < n; i++) {
      k->unknown += unk >= 0 && ids[i] == (uint32_t)unk;
      if (uses) uses[ids[i]]++;
    }
    if (!c->count) print_ids(t, c, ids, n);
  }
  free(ids);
  return s;
}

static void print_counts(const counts *k) {
  printf("documents     %" PRIu64 "\nbytes         %" PRIu64 "\ntokens        %" PRIu64 "\n",
         k->docs, k->bytes, k->tokens);
  if (!k->tokens) return;
  printf("bytes/token   %.3f\nunknown       %.4f %%\n", (double)k->bytes / (double)k->tokens,
         100.0 * (double)k->unknown / (double)k->tokens);
}

static int run_encode(encode_choices *c, const tl_cli_args *args) {
  tl_err err = {0};
  tl_tokenizer *t = NULL;
  counts k = {0};
  tl_status s = tl_tokenizer_load(args->item[0], &t, &err);
  if (s == TL_OK && !c->text)
    s = open_input(&c->in, args, 1, is_byte_level(tl_tokenizer_type(t)), &err);
  if (s == TL_OK) s = encode_all(t, c, &k, NULL, &err);
  if (s == TL_OK && c->count) print_counts(&k);
  tl_text_close(c->in.reader);
  tl_tokenizer_free(t);
  return s == TL_OK ? 0 : tl_cli_fail(&err);
}

static int cmd_encode(int argc, char **argv) {
  encode_choices c = {.in.unit = "auto"};
  const tl_opt opts[] = {
      {"text", 0, TL_OPT_STR, &c.text, "TEXT", "encode this text instead of files"},
      {"tokens", 0, TL_OPT_FLAG, &c.tokens, NULL, "print tokens instead of ids"},
      {"special", 0, TL_OPT_FLAG, &c.special, NULL, "put around what the file says (begin, end)"},
      {"parse", 0, TL_OPT_FLAG, &c.parse, NULL, "special tokens written in the text are tokens"},
      {"count", 0, TL_OPT_FLAG, &c.count, NULL, "print only how much there is"},
      {"unit", 0, TL_OPT_STR, &c.in.unit, "UNIT",
       "what a document is: auto, file, line, paragraph, jsonl"},
      {"text-key", 0, TL_OPT_STR, &c.in.text_key, "KEY", "key of the text in JSON Lines (text)"},
      {0}};
  const tl_usage usage = {
      .name = "tokenizer encode",
      .synopsis = "[options] TOKENIZER [INPUT...]",
      .summary = "Prints the token ids of each document on a line of its own. TOKENIZER: a\n"
                 "tokenizer.json or its folder. Without INPUT, standard input is read.",
      .examples = "tilth tokenizer encode tok --text \"Ready for seed.\"\n"
                  "tilth tokenizer encode --tokens --unit line tok notes.txt\n"
                  "tilth tokenizer encode --count tok corpus/*.zst",
      .opts = opts,
      .min_args = 1,
      .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  rc = c.text && args.n > 1 ? tl_cli_usage_error(usage.name, "--text goes without INPUT")
                            : run_encode(&c, &args);
  tl_cli_args_free(&args);
  return rc;
}

/* ---- decode ---- */

typedef struct id_list {
  uint32_t *id;
  size_t n, cap;
} id_list;

/* Appends the ids in a string, separated by white space or commas. */
static tl_status parse_ids(const char *s, id_list *v, tl_err *err) {
  static const char between[] = " \t\r\n,[]";
  for (s += strspn(s, between); *s; s += strspn(s, between)) {
    char *end;
    unsigned long id = strtoul(s, &end, 10);
    if (end == s || *s == '-' || *s == '+' || id > UINT32_MAX || (*end && !strchr(between, *end)))
      return tl_fail(err, TL_DATA, "'%.*s' is not a token id", (int)strcspn(s, between), s);
    if (v->n == v->cap) {
      size_t cap = v->cap ? v->cap * 2 : 256;
      uint32_t *p = realloc(v->id, cap * sizeof *p);
      if (!p) return tl_fail(err, TL_NOMEM, "out of memory for token ids");
      v->id = p;
      v->cap = cap;
    }
    v->id[v->n++] = (uint32_t)id;
    s = end;
  }
  return TL_OK;
}

static tl_status print_decoded(const tl_tokenizer *t, const id_list *v, bool special, tl_err *err) {
  char *text;
  size_t len;
  TL_TRY(tl_tokenizer_decode(t, v->id, v->n, !special, &text, &len, err));
  fwrite(text, 1, len, stdout);
  putchar('\n');
  free(text);
  return TL_OK;
}

static tl_status decode_lines(const tl_tokenizer *t, id_list *v, bool special, tl_err *err) {
  char *line = NULL;
  size_t cap = 0;
  tl_status s = TL_OK;
  while (s == TL_OK && getline(&line, &cap, stdin) >= 0) {
    v->n = 0;
    s = parse_ids(line, v, err);
    if (s == TL_OK) s = print_decoded(t, v, special, err);
  }
  free(line);
  if (s == TL_OK && ferror(stdin)) s = tl_fail_errno(err, "standard input");
  return s;
}

static int run_decode(const tl_cli_args *args, bool special) {
  tl_err err = {0};
  tl_tokenizer *t = NULL;
  id_list v = {0};
  tl_status s = tl_tokenizer_load(args->item[0], &t, &err);
  for (size_t i = 1; i < args->n && s == TL_OK; i++) s = parse_ids(args->item[i], &v, &err);
  if (s == TL_OK)
    s = args->n > 1 ? print_decoded(t, &v, special, &err) : decode_lines(t, &v, special, &err);
  free(v.id);
  tl_tokenizer_free(t);
  return s == TL_OK ? 0 : tl_cli_fail(&err);
}

static int cmd_decode(int argc, char **argv) {
  bool special = false;
  const tl_opt opts[] = {{"special", 0, TL_OPT_FLAG, &special, NULL, "print special tokens, too"},
                         {0}};
  const tl_usage usage = {
      .name = "tokenizer decode",
      .synopsis = "[options] TOKENIZER [ID...]",
      .summary = "Prints the text of token ids. Without ID, each line of standard input is\n"
                 "decoded on its own.",
      .examples = "tilth tokenizer decode tok 1 304 2\n"
                  "tilth tokenizer encode tok notes.txt | tilth tokenizer decode tok",
      .opts = opts,
      .min_args = 1,
      .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  rc = run_decode(&args, special);
  tl_cli_args_free(&args);
  return rc;
}

/* ---- inspect ---- */

static void print_summary(const tl_tokenizer *t) {
  static const char *const role[TL_TOK_N_SPECIAL] = {"pad", "bos", "eos", "unk", "mask"};
  int n = tl_tokenizer_vocab_size(t), starts = 0;
  size_t longest = 0, at = 0;
  for (int i = 0; i < n; i++) {
    size_t len = strlen(tl_tokenizer_token(t, (uint32_t)i));
    starts += tl_tokenizer_word_starts(t)[i];
    if (len <= longest) continue;
    longest = len;
    at = (size_t)i;
  }
  printf("type          %s\nvocabulary    %d, of them starting a word: %d\n", tl_tokenizer_type(t),
         n, starts);
  printf("fingerprint   %016" PRIx64 "\nspecials     ", tl_tokenizer_fingerprint(t));
  for (int r = 0; r < TL_TOK_N_SPECIAL; r++) {
    int id = tl_tokenizer_special(t, (tl_special)r);
    if (id >= 0) printf(" %s=%s:%d", role[r], tl_tokenizer_token(t, (uint32_t)id), id);
  }
  printf("\nlongest       %s (id %zu)\n", tl_tokenizer_token(t, (uint32_t)at), at);
}

static tl_status print_use(const tl_tokenizer *t, input *in, tl_err *err) {
  int n = tl_tokenizer_vocab_size(t), used = 0;
  uint64_t *uses = calloc((size_t)n, sizeof *uses);
  if (!uses) return tl_fail(err, TL_NOMEM, "out of memory for counts of %d tokens", n);
  encode_choices c = {.count = true, .in = *in};
  counts k = {0};
  tl_status s = encode_all(t, &c, &k, uses, err);
  for (int i = 0; i < n; i++) used += uses[i] > 0;
  free(uses);
  if (s != TL_OK) return s;
  print_counts(&k);
  printf("tokens used   %d of %d\n", used, n);
  return TL_OK;
}

static int run_inspect(const tl_cli_args *args, bool vocab, input *in) {
  tl_err err = {0};
  tl_tokenizer *t = NULL;
  tl_status s = tl_tokenizer_load(args->item[0], &t, &err);
  if (s == TL_OK && vocab) {
    for (int i = 0; i < tl_tokenizer_vocab_size(t); i++)
      printf("%d\t%s\n", i, tl_tokenizer_token(t, (uint32_t)i));
  } else if (s == TL_OK) {
    print_summary(t);
  }
  if (s == TL_OK && args->n > 1) {
    s = open_input(in, args, 1, is_byte_level(tl_tokenizer_type(t)), &err);
    if (s == TL_OK) s = print_use(t, in, &err);
  }
  tl_text_close(in->reader);
  tl_tokenizer_free(t);
  return s == TL_OK ? 0 : tl_cli_fail(&err);
}

static int cmd_inspect(int argc, char **argv) {
  bool vocab = false;
  input in = {.unit = "auto"};
  const tl_opt opts[] = {
      {"vocab", 0, TL_OPT_FLAG, &vocab, NULL, "list all tokens: id, tab, token"},
      {"unit", 0, TL_OPT_STR, &in.unit, "UNIT",
       "what a document is: auto, file, line, paragraph, jsonl"},
      {"text-key", 0, TL_OPT_STR, &in.text_key, "KEY", "key of the text in JSON Lines (text)"},
      {0}};
  const tl_usage usage = {
      .name = "tokenizer inspect",
      .synopsis = "[options] TOKENIZER [INPUT...]",
      .summary = "Checks a tokenizer and tells what it is; with INPUT, how well it fits the text.",
      .examples = "tilth tokenizer inspect tok\n"
                  "tilth tokenizer inspect tok corpus/*.txt\n"
                  "tilth tokenizer inspect --vocab tok | sort -k2",
      .opts = opts,
      .min_args = 1,
      .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  rc = run_inspect(&args, vocab, &in);
  tl_cli_args_free(&args);
  return rc;
}

static const struct verb {
  const char *name;
  tl_command_fn run;
  const char *help;
} verbs[] = {
    {"train", cmd_train, "train a tokenizer on text"},
    {"encode", cmd_encode, "text to token ids"},
    {"decode", cmd_decode, "token ids to text"},
    {"inspect", cmd_inspect, "check a tokenizer and show how it fits a text"},
};
enum { N_VERBS = sizeof verbs / sizeof *verbs };

static int show_help(int argc, char **argv) {
  char summary[512] = "Verbs, each with options of its own (`tilth tokenizer VERB --help`):";
  for (int i = 0; i < N_VERBS; i++) {
    size_t n = strlen(summary);
    snprintf(summary + n, sizeof summary - n, "\n  %-8s %s", verbs[i].name, verbs[i].help);
  }
  const tl_usage usage = {.name = "tokenizer",
                          .synopsis = "VERB [options] ...",
                          .summary = summary,
                          .examples =
                              "tilth tokenizer train --vocab-size 8192 --out tok corpus.txt\n"
                              "tilth tokenizer encode tok --text \"Ready for seed.\""};
  tl_cli_args args;
  return tl_cli_parse(&usage, argc, argv, &args);
}

int tl_cmd_tokenizer(int argc, char **argv) {
  const char *names[N_VERBS];
  if (argc < 2)
    return tl_cli_usage_error("tokenizer", "a verb is needed: train, encode, decode, inspect");
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) return show_help(argc, argv);
  for (int i = 0; i < N_VERBS; i++) {
    if (strcmp(argv[1], verbs[i].name) == 0) return verbs[i].run(argc - 1, argv + 1);
    names[i] = verbs[i].name;
  }
  const char *near = tl_suggest(argv[1], names, N_VERBS);
  return tl_cli_usage_error("tokenizer", "unknown verb '%s'%s%s%s", argv[1],
                            near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}
