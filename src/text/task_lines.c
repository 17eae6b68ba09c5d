/* Lines that are label and text, and the lines of two files that belong together. */
#include <string.h>

#include "base/rng.h"
#include "text/task_internal.h"

tl_status tl_task_read_labelled(tl_task_builder *b, tl_err *err) {
  char separator = 0;
  if (b->o->columns)
    return tl_fail(err, TL_CONFIG, "%s: lines of label and text have no columns to choose",
                   b->path);
  for (;;) {
    tl_span line;
    TL_TRY(tl_task_line(b, &line, err));
    if (!line.s) return TL_OK;
    if (tl_span_blank(line)) continue;
    if (!separator) separator = memchr(line.s, '\t', line.n) ? '\t' : ' ';
    char *cut = memchr(line.s, separator, line.n);
    if (!cut)
      return tl_task_fail(b, TL_DATA, err, "expected a label, a %s and a text",
                          separator == '\t' ? "tab" : "blank");
    size_t n = (size_t)(cut - line.s);
    tl_span text[TL_MAX_TEXTS] = {{cut + 1, line.n - n - 1}};
    TL_TRY(tl_task_row(b, (tl_span){line.s, n}, text, err));
  }
}

/* Each line is a sentence, its words between blanks. */
static tl_status read_words(tl_task_builder *b, tl_err *err) {
  tl_span line, word[TL_MAX_COLUMNS];
  for (;;) {
    int n = 0;
    TL_TRY(tl_task_line(b, &line, err));
    if (!line.s) return TL_OK;
    TL_TRY(tl_task_split_blanks(b, line, word, &n, err));
    for (int i = 0; i < n; i++) TL_TRY(tl_task_word(b, word[i], word[i], err));
    TL_TRY(tl_task_end_words(b, b->at, err));
  }
}

tl_status tl_task_read_lines(tl_task_builder *b, tl_err *err) {
  if (b->o->columns)
    return tl_fail(err, TL_CONFIG,
                   "%s: lines of text have no columns to choose; for a table say format tsv",
                   b->path);
  if (b->d->kind == TL_TASK_TOKENS) return read_words(b, err);
  for (;;) {
    tl_span text[TL_MAX_TEXTS] = {{0}};
    TL_TRY(tl_task_line(b, &text[0], err));
    if (!text[0].s) return TL_OK;
    if (!tl_span_blank(text[0])) TL_TRY(tl_task_texts(b, text, err));
  }
}

static uint64_t count_lines(const char *p, const char *end) {
  uint64_t n = 0;
  for (; p < end; n++) {
    const char *nl = memchr(p, '\n', (size_t)(end - p));
    p = nl ? nl + 1 : end;
  }
  return n;
}

tl_status tl_task_read_aligned(tl_task_builder *b, tl_err *err) {
  const char *path_b = b->o->path_b;
  if (!path_b || b->o->columns)
    return tl_fail(err, TL_CONFIG, "%s: aligned lines need a second file and have no columns",
                   b->path);
  uint64_t hash = 0;
  tl_buf content = {0};
  tl_status s = tl_task_load(path_b, b->o->replace_bad_utf8, &content, &hash, err);
  b->d->bytes_b = content.data;
  TL_TRY(s);
  b->d->hash = tl_mix64(b->d->hash, hash);
  tl_task_builder other = *b;
  other.path = path_b;
  other.p = content.data;
  other.end = content.data + content.len;
  uint64_t n = count_lines(b->p, b->end), n_b = count_lines(other.p, other.end);
  if (n != n_b)
    return tl_fail(err, TL_DATA,
                   "%s has %llu lines, %s %llu: line %llu of %s has no partner; every line of one "
                   "must belong to the line with the same number of the other",
                   b->path, (unsigned long long)n, path_b, (unsigned long long)n_b,
                   (unsigned long long)(n < n_b ? n : n_b) + 1, n < n_b ? path_b : b->path);
  for (;;) {
    tl_span line, line_b;
    TL_TRY(tl_task_line(b, &line, err));
    TL_TRY(tl_task_line(&other, &line_b, err));
    if (!line.s) return TL_OK;
    if (tl_span_blank(line) || tl_span_blank(line_b))
      return tl_task_fail(tl_span_blank(line) ? b : &other, TL_DATA, err,
                          "empty line; take it and its partner out of both files");
    TL_TRY(tl_task_aligned(b, line, line_b, err));
  }
}
