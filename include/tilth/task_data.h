/* Labelled data for fine-tuning: several file formats, one form in memory. */
#ifndef TILTH_TASK_DATA_H
#define TILTH_TASK_DATA_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tl_task_kind {
  TL_TASK_CLASS,  /* "class": a text, or two, with one label */
  TL_TASK_MULTI,  /* "multi-label": ... with any number of labels */
  TL_TASK_VALUE,  /* "regression": ... with a number */
  TL_TASK_TOKENS, /* "tokens": words with one tag each */
  TL_TASK_PAIR,   /* "pair": two texts without label: source and target, prompt and answer */
  TL_TASK_TEXTS,  /* "texts": a text; or two that mean the same; or besides one that does not */
} tl_task_kind;

typedef enum tl_task_format {
  TL_TASK_AUTO,     /* "auto": by the name's extension, else by the first line */
  TL_TASK_TSV,      /* "tsv": columns split by tabs, no quoting */
  TL_TASK_CSV,      /* "csv": RFC 4180; CR LF within quotes becomes LF */
  TL_TASK_JSONL,    /* "jsonl": an object a line */
  TL_TASK_CONLL,    /* "conll": a word a line, columns split by tabs (if the first word's line has
                       one) or blanks, blank lines between sentences, -DOCSTART- lines left out */
  TL_TASK_CONLLU,   /* "conllu": as conll with word and tag in columns 2 and 4; comment lines,
                       ranges of words (3-4) and empty words (3.1) are left out */
  TL_TASK_LABELLED, /* "labelled": label, a tab (if the first line has one) or blank, text */
  TL_TASK_ALIGNED,  /* "aligned": line i of one file belongs to line i of another */
  TL_TASK_LINES,    /* "lines": each line is one text */
} tl_task_format;

/* The names above; false (and *out as it was) for another name. */
bool tl_task_kind_parse(const char *name, tl_task_kind *out);
bool tl_task_format_parse(const char *name, tl_task_format *out);

/* The names of classes or tags; a class is its index here. */
typedef struct tl_labels {
  int32_t n;
  char **name; /* [n] */
  struct tl_label_index *index;
} tl_labels;
/* Copies the names, in their order. CONFIG: a name is empty or occurs twice; n is not in 1 ..
 * 65,536. */
tl_status tl_labels_make(const char *const *names, size_t n, tl_labels *out, tl_err *err);
/* From id2label of the config.json in a model's folder. */
tl_status tl_labels_read(const char *model_dir, tl_labels *out, tl_err *err);
int32_t tl_labels_find(const tl_labels *l, const char *name); /* -1: none */
void tl_labels_free(tl_labels *l);

typedef enum tl_task_header { TL_HEADER_AUTO, TL_HEADER_YES, TL_HEADER_NO } tl_task_header;

typedef struct tl_task_options { /* all zero: the defaults */
  tl_task_kind kind;
  tl_task_format format;
  /* "text=sentence,text_b=2,label=label": names in the header or keys in the objects, or numbers
   * from 1; for tokens, text is the column of the words and label that of the tags. NULL, or a part
   * left out: columns of well-known names (docs/task-data.md lists them); with no header the tables
   * are label<TAB>text (all after the first tab), `label,text`, for pairs two columns, for texts
   * one to three, for values those of STS-B (5, 6 and 7 of seven or more: value and texts); CoNLL:
   * first and last column. */
  const char *columns;
  tl_task_header header; /* tables: is the first line one? AUTO: when a column is asked for by
                            name, or the first line holds well-known names for all that is needed */
  bool unlabelled;       /* records without labels: CLASS, MULTI and VALUE become TEXTS, and tokens
                            are words alone (the columns of CoNLL without tags, or lines of words
                            between blanks), all with the tag 0 */
  bool extra_columns;    /* rows may have more columns than the first */
  bool replace_bad_utf8; /* U+FFFD for ill-formed bytes instead of an error */
  char label_separator;  /* multi-label in tables; 0: ',' */
  const tl_labels *labels; /* the labels (tags) there may be, in their order; NULL: the ones that
                              occur, sorted bytewise */
  const char *path_b;      /* aligned: the other file */
  size_t max_record_bytes; /* longer lines or records are an error; 0: 16 MiB */
} tl_task_options;

/* n records. Texts are NUL-terminated, well-formed UTF-8, and hold something besides white space.
 */
typedef struct tl_task_data {
  tl_task_kind kind;
  size_t n;
  char **text;      /* [n]; tokens: the first word of the record, the next ones (tl_task_next_word)
                       behind it */
  char **text_b;    /* [n], or NULL: there are no pairs */
  char **text_c;    /* [n] texts: the one that means something else, or NULL: there are none */
  int32_t *label;   /* [n] class */
  double *value;    /* [n] regression */
  size_t *first;    /* [n + 1] multi-label, tokens: record i has item[first[i] .. first[i + 1]) */
  int32_t *item;    /* multi-label: labels, rising; tokens: a tag for each word */
  uint32_t *line;   /* [n] where the record begins, from 1; NULL: not from a file */
  tl_labels labels; /* n == 0: regression, pair, texts */
  uint64_t hash;    /* XXH3-64 of the decompressed content, byte order mark and CR of CR LF taken
                       off */
  char *bytes, *bytes_b; /* what the texts point into */
} tl_task_data;

/* Reads one file ("-": standard input), compressed or not; with CLASS also one file per class, each
 * line a text: "neg:train-neg.txt.zst,pos:train-pos.txt.zst" (labels without ':' and ',', paths
 * without ','; a file of that whole name comes first). Blank lines are passed over, except in
 * aligned files, where they are an error, and in CoNLL files, where they end a sentence.
 * Errors: DATA with file, line, what was found and what was expected: NUL bytes, ill-formed UTF-8,
 * empty text or label, another number of columns, a label that is not in options->labels, bad
 * quoting, bad JSON, keys missing or twice, numbers of words and tags or of lines that differ, no
 * records; CONFIG: options that do not fit the file or the task; NOINPUT, PERM, IO, NOMEM.
 * *out is empty after an error. Freed by tl_task_data_free. */
tl_status tl_task_read(const char *path, const tl_task_options *options, tl_task_data *out,
                       tl_err *err);
/* Records without labels (tokens: of tag 0) out of n texts in memory, which are copied; text_b
 * NULL: no pairs. Tokens: the words are what white space parts. line stays NULL. Errors: DATA (no
 * texts; one is empty or ill-formed, the message says which), CONFIG (tokens in pairs), NOMEM. */
tl_status tl_task_make(tl_task_kind kind, const char *const *text, const char *const *text_b,
                       size_t n, tl_task_data *out, tl_err *err);
void tl_task_data_free(tl_task_data *d);

const char *tl_task_next_word(const char *word); /* the word behind this one */

/* A random order of the records for `seed`, into order[d->n], of which any beginning is a fair
 * sample: smaller beginnings are part of larger ones, and every beginning (and every end, which can
 * serve for validation) has its share of every class. Other kinds than CLASS: a plain random order.
 * The r-th record of a class with m stands at (r + u) / m, with u drawn per class. */
tl_status tl_task_order(const tl_task_data *d, uint64_t seed, size_t *order, tl_err *err);
/* The sizes of a part to train on and one for validation, the beginning and the end of that order:
 * order[0 .. *n_train) and order[d->n - *n_valid .. d->n). Each is asked for as a number of records
 * (whole, from 1) or a share of d->n (below 1; rounded, at least one record); train 0: all that
 * validation leaves; valid 0: none. CONFIG: neither of these, or more than there are. */
tl_status tl_task_split(const tl_task_data *d, double train, double valid, size_t *n_train,
                        size_t *n_valid, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
