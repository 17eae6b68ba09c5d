/* One file per class, each line a text: "label:path,label:path". */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "text/task_internal.h"

typedef struct class_file {
  tl_span label;
  char *path;
  size_t begin, end; /* in the joined content */
} class_file;

/* The next "label:path" of a list that *at runs through; false at its end or where it is none. */
static bool next_file(const char **at, tl_span *label, tl_span *path) {
  if (!**at) return false;
  char *s = (char *)(uintptr_t)*at;
  size_t n = strcspn(s, ",");
  char *colon = memchr(s, ':', n);
  if (!colon || colon == s || colon + 1 == s + n) return false;
  *label = (tl_span){s, (size_t)(colon - s)};
  *path = (tl_span){colon + 1, n - (size_t)(colon + 1 - s)};
  *at = s + n + (s[n] == ',');
  return true;
}

size_t tl_task_class_files(const char *list) {
  tl_span label, path;
  size_t n = 0;
  const char *at = list;
  while (next_file(&at, &label, &path)) n++;
  return *at || tl_file_exists(list) ? 0 : n;
}

static tl_status join(const tl_task_builder *b, class_file *f, tl_buf *all, uint64_t *hash,
                      tl_err *err) {
  tl_buf one = {0};
  uint64_t h = 0;
  tl_status s = tl_task_load(f->path, b->o->replace_bad_utf8, &one, &h, err);
  if (s == TL_OK) {
    f->begin = all->len;
    tl_buf_append(all, one.data, one.len);
    tl_buf_putc(all, '\n');
    f->end = all->len;
    *hash = tl_mix64(*hash, tl_mix64(h, tl_hash64(f->label.s, f->label.n)));
    s = tl_buf_check(all, err);
  }
  tl_buf_free(&one);
  return s;
}

static tl_status read_lines(tl_task_builder *b, const class_file *f, tl_err *err) {
  b->path = f->path;
  b->p = b->d->bytes + f->begin;
  b->end = b->d->bytes + f->end;
  b->line = 0;
  for (;;) {
    tl_span text[TL_MAX_TEXTS] = {{0}};
    TL_TRY(tl_task_line(b, &text[0], err));
    if (!text[0].s) return TL_OK;
    if (!tl_span_blank(text[0])) TL_TRY(tl_task_row(b, f->label, text, err));
  }
}

static tl_status read_files(tl_task_builder *b, class_file *f, size_t n, tl_err *err) {
  const char *at = b->path;
  tl_span path;
  tl_buf all = {0};
  tl_status s = TL_OK;
  for (size_t i = 0; i < n && s == TL_OK && next_file(&at, &f[i].label, &path); i++) {
    f[i].path = strndup(path.s, path.n);
    s = f[i].path ? join(b, &f[i], &all, &b->d->hash, err)
                  : tl_fail(err, TL_NOMEM, "%s: out of memory", b->path);
  }
  b->d->bytes = b->kept = all.data;
  for (size_t i = 0; i < n && s == TL_OK; i++) s = read_lines(b, &f[i], err);
  return s;
}

tl_status tl_task_read_class_files(tl_task_builder *b, size_t n, tl_err *err) {
  const tl_task_options *o = b->o;
  const char *list = b->path;
  if (o->columns || (o->format != TL_TASK_AUTO && o->format != TL_TASK_LINES))
    return tl_fail(err, TL_CONFIG,
                   "%s: files with one class each hold a text a line: they have the format lines "
                   "and no columns",
                   list);
  class_file *f = calloc(n, sizeof *f);
  if (!f) return tl_fail(err, TL_NOMEM, "%s: out of memory", list);
  tl_status s = read_files(b, f, n, err);
  b->path = list;
  for (size_t i = 0; i < n; i++) free(f[i].path);
  free(f);
  return s;
}
