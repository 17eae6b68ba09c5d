#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "tilth/text.h"
#include "tilth/transfer.h"

static int by_text(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static int find_class(const tl_examples *e, const char *name) {
  char **hit = e->n_classes ? bsearch(&name, e->class_name, (size_t)e->n_classes,
                                      sizeof *e->class_name, by_text)
                            : NULL;
  return hit ? (int)(hit - e->class_name) : -1;
}

static bool grow(tl_examples *e) {
  if (e->n < e->cap) return true;
  size_t cap = e->cap ? 2 * e->cap : 1024;
  char **t = realloc(e->text, cap * sizeof *t);
  if (t) e->text = t;
  int32_t *l = realloc(e->label, cap * sizeof *l);
  if (l) e->label = l;
  if (!t || !l) return false;
  e->cap = cap;
  return true;
}

static tl_status add_line(tl_examples *e, char ***names, const char *line, size_t len,
                          const char *path, size_t number, tl_err *err) {
  const char *tab = memchr(line, '\t', len);
  if (!tab || tab == line || tab + 1 == line + len)
    return tl_fail(err, TL_DATA, "%s: record %zu: expected `label<TAB>text` with both not empty",
                   path, number);
  char **bigger = realloc(*names, (e->n + 1) * sizeof *bigger);
  if (bigger) *names = bigger;
  if (!bigger || !grow(e)) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  size_t n_label = (size_t)(tab - line);
  char *name = strndup(line, n_label), *text = strndup(tab + 1, len - n_label - 1);
  if (!name || !text) {
    free(name);
    free(text);
    return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  }
  (*names)[e->n] = name;
  e->text[e->n++] = text;
  return TL_OK;
}

/* The distinct names, sorted. */
static bool make_classes(tl_examples *e, char *const *names) {
  char **sorted = malloc((e->n + 1) * sizeof *sorted);
  e->class_name = calloc(e->n + 1, sizeof *e->class_name);
  if (!sorted || !e->class_name) {
    free(sorted);
    return false;
  }
  memcpy(sorted, names, e->n * sizeof *sorted);
  qsort(sorted, e->n, sizeof *sorted, by_text);
  bool ok = true;
  for (size_t i = 0; ok && i < e->n; i++) {
    if (i > 0 && !strcmp(sorted[i], sorted[i - 1])) continue;
    ok = (e->class_name[e->n_classes++] = strdup(sorted[i])) != NULL;
  }
  free(sorted);
  return ok;
}

static bool copy_classes(tl_examples *e, const tl_examples *from) {
  e->class_name = calloc((size_t)from->n_classes + 1, sizeof *e->class_name);
  for (int i = 0; e->class_name && i < from->n_classes; i++)
    if (!(e->class_name[e->n_classes++] = strdup(from->class_name[i]))) return false;
  return e->class_name != NULL;
}

static tl_status read_lines(const char *path, tl_examples *e, char ***names, tl_err *err) {
  tl_text_reader *r = NULL;
  TL_TRY(tl_text_open(&path, 1, &(tl_text_options){.unit = TL_UNIT_LINE}, &r, err));
  tl_status s = TL_OK;
  const char *line = NULL;
  size_t len = 0;
  while (s == TL_OK && (s = tl_text_next(r, &line, &len, err)) == TL_OK && line)
    s = add_line(e, names, line, len, path, e->n + 1, err);
  tl_text_close(r);
  if (s == TL_OK && e->n == 0) s = tl_fail(err, TL_DATA, "%s: no examples", path);
  return s;
}

tl_status tl_examples_read(const char *path, const tl_examples *classes, tl_examples *e,
                           tl_err *err) {
  *e = (tl_examples){0};
  char **names = NULL;
  tl_status s = read_lines(path, e, &names, err);
  if (s == TL_OK && !(classes ? copy_classes(e, classes) : make_classes(e, names)))
    s = tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  for (size_t i = 0; s == TL_OK && i < e->n; i++) {
    e->label[i] = find_class(e, names[i]);
    if (e->label[i] < 0)
      s = tl_fail(err, TL_DATA,
                  "%s: record %zu: label \"%.60s\" does not occur in the training data", path,
                  i + 1, names[i]);
  }
  for (size_t i = 0; i < e->n; i++) free(names[i]);
  free(names);
  if (s != TL_OK) tl_examples_free(e);
  return s;
}

void tl_examples_free(tl_examples *e) {
  for (size_t i = 0; i < e->n; i++) free(e->text[i]);
  for (int i = 0; i < e->n_classes; i++) free(e->class_name[i]);
  free(e->text);
  free(e->label);
  free(e->class_name);
  *e = (tl_examples){0};
}
