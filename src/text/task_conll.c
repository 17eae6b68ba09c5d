/* A word a line with its tag, sentences between blank lines. */
#include <ctype.h>
#include <string.h>

#include "text/task_internal.h"

typedef struct conll {
  char separator; /* tab, or ' ' for runs of blanks; 0 before the first word */
  int n;          /* columns */
  bool u;         /* CoNLL-U */
  tl_columns at;
} conll;

tl_status tl_task_split_blanks(tl_task_builder *b, tl_span line, tl_span *cell, int *n,
                               tl_err *err) {
  char *p = line.s, *end = line.s + line.n;
  for (*n = 0;;) {
    while (p < end && isspace((unsigned char)*p)) p++;
    if (p == end) return TL_OK;
    if (*n == TL_MAX_COLUMNS)
      return tl_task_fail(b, TL_DATA, err, "more than %d columns", (int)TL_MAX_COLUMNS);
    char *from = p;
    while (p < end && !isspace((unsigned char)*p)) p++;
    cell[(*n)++] = (tl_span){from, (size_t)(p - from)};
  }
}

static tl_status find_columns(tl_task_builder *b, conll *c, tl_err *err) {
  if (b->o->unlabelled && !b->o->columns) {
    const int word = c->u && c->n > 1 ? 1 : 0;
    c->at = (tl_columns){{word, -1, -1, word}};
    return TL_OK;
  }
  if (b->o->columns) return tl_columns_find(b, NULL, c->n, &c->at, err);
  c->at = (tl_columns){{c->u ? 1 : 0, -1, -1, c->u ? 3 : c->n - 1}};
  if (c->n > c->at.at[TL_ROLE_LABEL] && c->n > 1) return TL_OK;
  return tl_task_fail(b, TL_DATA, err, "%d column%s; expected a word and a tag%s", c->n,
                      c->n == 1 ? "" : "s", c->u ? " in columns 2 and 4" : "");
}

/* Multiword ranges "3-4" and empty words "3.1" of CoNLL-U. */
static bool is_extra(tl_span id) {
  size_t digits = 0;
  while (digits < id.n && isdigit((unsigned char)id.s[digits])) digits++;
  return digits > 0 && digits < id.n && (id.s[digits] == '-' || id.s[digits] == '.');
}

static bool starts_with(tl_span s, const char *with) {
  size_t n = strlen(with);
  return s.n >= n && !memcmp(s.s, with, n);
}

static tl_status word_line(tl_task_builder *b, conll *c, tl_span line, tl_err *err) {
  tl_span cell[TL_MAX_COLUMNS];
  int n = 0;
  bool first = !c->separator;
  if (first) c->separator = memchr(line.s, '\t', line.n) ? '\t' : ' ';
  TL_TRY(c->separator == '\t' ? tl_task_split_line(b, line, '\t', cell, &n, err)
                              : tl_task_split_blanks(b, line, cell, &n, err));
  if (first) {
    c->n = n;
    TL_TRY(find_columns(b, c, err));
  }
  if (n < c->n || (n > c->n && !b->o->extra_columns))
    return tl_task_fail(b, TL_DATA, err, "%d columns; expected %d as in the first word's line", n,
                        c->n);
  if (c->u && is_extra(cell[0])) return TL_OK;
  return tl_task_word(b, cell[c->at.at[TL_ROLE_TEXT]], cell[c->at.at[TL_ROLE_LABEL]], err);
}

static tl_status read_sentences(tl_task_builder *b, conll c, tl_err *err) {
  uint64_t begin = 1;
  for (;;) {
    tl_span line;
    TL_TRY(tl_task_line(b, &line, err));
    if (line.s && c.u && line.s[0] == '#') continue;
    if (line.s && !tl_span_blank(line) && !starts_with(line, "-DOCSTART-")) {
      TL_TRY(word_line(b, &c, line, err));
      continue;
    }
    TL_TRY(tl_task_end_words(b, begin, err));
    if (!line.s) return TL_OK;
    begin = b->line + 1;
  }
}

tl_status tl_task_read_conll(tl_task_builder *b, tl_err *err) {
  return read_sentences(b, (conll){.u = false}, err);
}

tl_status tl_task_read_conllu(tl_task_builder *b, tl_err *err) {
  return read_sentences(b, (conll){.u = true}, err);
}
