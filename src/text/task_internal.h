/* How the readers of labelled data build a tl_task_data.
 *
 * The content of the file is read whole; the readers move what is to be kept to the front of the
 * same memory, so that a set needs its file's size and a few bytes a record. A reader takes a
 * record's parts (spans of the content not yet read over), gives its labels first and its texts
 * last: keeping texts may overwrite everything up to the end of the record. */
#ifndef TL_TEXT_TASK_INTERNAL_H
#define TL_TEXT_TASK_INTERNAL_H

#include <jansson.h>

#include "base/buf.h"
#include "tilth/task_data.h"

typedef struct tl_span {
  char *s; /* NULL: absent */
  size_t n;
} tl_span;

typedef struct tl_task_builder {
  const tl_task_options *o;
  tl_task_data *d;
  const char *path;
  char *p, *end; /* content not read yet; *end is NUL */
  char *kept;    /* end of what is kept, <= p */
  uint64_t line; /* lines read so far */
  uint64_t at;   /* line where the record begins */
  size_t max;    /* bytes a record may have */
  size_t cap, cap_items, n_items;
  bool open_labels; /* labels not seen before join the set */
} tl_task_builder;

/* Fails with "path:line: ". */
tl_status tl_task_fail(const tl_task_builder *b, tl_status code, tl_err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The next line without its newline; s == NULL at the end. Sets b->at. */
tl_status tl_task_line(tl_task_builder *b, tl_span *out, tl_err *err);
bool tl_span_blank(tl_span s);
/* s for a message: at most 60 bytes, control characters as '?'. */
const char *tl_span_show(tl_span s, char out[64]);

/* Adds one label (CLASS, MULTI), or the value (VALUE), of the record being made. */
tl_status tl_task_label(tl_task_builder *b, tl_span label, tl_err *err);
/* Adds one word of the record being made and its tag. */
tl_status tl_task_word(tl_task_builder *b, tl_span word, tl_span tag, tl_err *err);
/* Ends the record of words begun at `line`; no record if it has no words. */
tl_status tl_task_end_words(tl_task_builder *b, uint64_t line, tl_err *err);
enum { TL_MAX_TEXTS = 3 };
/* Ends the record with its text and those of the others whose s is not NULL. */
tl_status tl_task_texts(tl_task_builder *b, const tl_span text[TL_MAX_TEXTS], tl_err *err);
/* Ends the record with lines of two files; the second one stays where it is. */
tl_status tl_task_aligned(tl_task_builder *b, tl_span line, tl_span line_b, tl_err *err);
/* A record of a table: the label (a list of them for MULTI), then the texts. */
tl_status tl_task_row(tl_task_builder *b, tl_span label, const tl_span text[TL_MAX_TEXTS],
                      tl_err *err);

/* Labels that grow. *id gets the index; NOMEM, or DATA when there are too many. */
tl_status tl_labels_add(tl_labels *l, const char *name, size_t n, int32_t *id, tl_err *err);
int32_t tl_labels_find_span(const tl_labels *l, const char *name, size_t n);
/* Sorts the names bytewise; new_id[old] for those who hold ids. */
tl_status tl_labels_sort(tl_labels *l, int32_t *new_id, tl_err *err);

/* Which columns (or keys) hold what. */
enum { TL_ROLE_TEXT, TL_ROLE_TEXT_B, TL_ROLE_TEXT_C, TL_ROLE_LABEL, TL_N_ROLES };
typedef struct tl_columns {
  int at[TL_N_ROLES]; /* index of the column, -1: none */
} tl_columns;
/* Finds them among the names of the header (objects: of the first object's keys), by what
 * options->columns says and else by well-known names. Without names (name == NULL): by numbers
 * alone. */
tl_status tl_columns_find(const tl_task_builder *b, const tl_span *name, int n, tl_columns *out,
                          tl_err *err);
/* All that the task needs is there by well-known names. */
bool tl_columns_known(tl_task_kind kind, const tl_span *name, int n);
/* A row of STS-B: genre, file, year, number, value, two texts, and perhaps sources. */
bool tl_columns_stsb(tl_task_kind kind, const tl_span *cell, int n);
/* options->columns asks for some column by name, not number. */
bool tl_columns_by_name(const tl_task_options *o);

/* A table's next row; *n == 0 at the end. Cells are spans of the content. */
enum { TL_MAX_COLUMNS = 1024 };
typedef tl_status (*tl_next_row)(tl_task_builder *b, tl_span *cell, int *n, tl_err *err);
tl_status tl_task_read_table(tl_task_builder *b, tl_next_row next, tl_err *err);
/* Splits one line at `separator`. */
tl_status tl_task_split_line(tl_task_builder *b, tl_span line, char separator, tl_span *cell,
                             int *n, tl_err *err);

/* Splits one line at runs of white space. */
tl_status tl_task_split_blanks(tl_task_builder *b, tl_span line, tl_span *cell, int *n,
                               tl_err *err);

tl_status tl_task_bad_json(const char *path, uint64_t line, const json_error_t *why, tl_err *err);

tl_status tl_task_read_tsv(tl_task_builder *b, tl_err *err);
tl_status tl_task_read_csv(tl_task_builder *b, tl_err *err);
tl_status tl_task_read_jsonl(tl_task_builder *b, tl_err *err);
tl_status tl_task_read_conll(tl_task_builder *b, tl_err *err);
tl_status tl_task_read_conllu(tl_task_builder *b, tl_err *err);
tl_status tl_task_read_labelled(tl_task_builder *b, tl_err *err);
tl_status tl_task_read_aligned(tl_task_builder *b, tl_err *err);
tl_status tl_task_read_lines(tl_task_builder *b, tl_err *err);

/* How many files a list "label:path,label:path" names; 0 if it is a file's name or no such list. */
size_t tl_task_class_files(const char *list);
/* Reads the n files of that list, b->path, into b->d->bytes and records of one class each. */
tl_status tl_task_read_class_files(tl_task_builder *b, size_t n, tl_err *err);

/* The content of one file, whole, behind *out (empty before); *hash of it. */
tl_status tl_task_load(const char *path, bool replace_bad_utf8, tl_buf *out, uint64_t *hash,
                       tl_err *err);

#endif
