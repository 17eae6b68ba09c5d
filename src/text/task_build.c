/* The records of a tl_task_data, one after the other, out of what the readers find. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tilth/suggest.h"
#include "text/task_internal.h"

tl_status tl_task_fail(const tl_task_builder *b, tl_status code, tl_err *err, const char *fmt,
                       ...) {
  char what[800];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(what, sizeof what, fmt, ap);
  va_end(ap);
  return tl_fail(err, code, "%s:%llu: %s", b->path, (unsigned long long)b->at, what);
}

static tl_status no_memory(const tl_task_builder *b, tl_err *err) {
  return tl_fail(err, TL_NOMEM, "%s: out of memory for %zu records", b->path, b->d->n);
}

static bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

bool tl_span_blank(tl_span s) {
  for (size_t i = 0; i < s.n; i++)
    if (!is_space(s.s[i])) return false;
  return true;
}

const char *tl_span_show(tl_span s, char out[64]) {
  size_t n = s.n < 60 ? s.n : 60;
  while (n > 0 && n < s.n && ((unsigned char)s.s[n] & 0xC0) == 0x80) n--;
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)s.s[i];
    out[i] = c < 0x20 || c == 0x7F ? '?' : (char)c;
  }
  snprintf(out + n, 4, "%s", n < s.n ? "..." : "");
  return out;
}

tl_status tl_task_line(tl_task_builder *b, tl_span *out, tl_err *err) {
  *out = (tl_span){0};
  if (b->p == b->end) return TL_OK;
  char *nl = memchr(b->p, '\n', (size_t)(b->end - b->p));
  *out = (tl_span){b->p, (size_t)((nl ? nl : b->end) - b->p)};
  b->at = ++b->line;
  b->p = nl ? nl + 1 : b->end;
  if (out->n > b->max)
    return tl_task_fail(b, TL_DATA, err, "a line of %zu bytes; the limit is %zu", out->n, b->max);
  return TL_OK;
}

/* Room for one more record in each of the arrays that this kind of task has. */
static bool grow_records(tl_task_builder *b, bool pair, bool triple) {
  tl_task_data *d = b->d;
  bool lists = d->kind == TL_TASK_MULTI || d->kind == TL_TASK_TOKENS;
  if (d->n == UINT32_MAX) return false;
  size_t cap = d->n < b->cap ? b->cap : b->cap ? 2 * b->cap : 256;
#define GROW(field, wanted)                                                                        \
  if ((wanted) && (cap > b->cap || !d->field)) {                                                   \
    void *p = realloc(d->field, (cap + 1) * sizeof *d->field);                                     \
    if (!p) return false;                                                                          \
    d->field = p;                                                                                  \
  }
  GROW(text, true)
  GROW(line, true)
  GROW(text_b, pair || d->text_b)
  GROW(text_c, triple || d->text_c)
  GROW(label, d->kind == TL_TASK_CLASS)
  GROW(value, d->kind == TL_TASK_VALUE)
  GROW(first, lists)
#undef GROW
  if (lists && d->n == 0) d->first[0] = 0;
  b->cap = cap;
  return true;
}

static bool push_item(tl_task_builder *b, int32_t id) {
  if (b->n_items == b->cap_items) {
    size_t cap = b->cap_items ? 2 * b->cap_items : 1024;
    int32_t *p = realloc(b->d->item, cap * sizeof *p);
    if (!p) return false;
    b->d->item = p;
    b->cap_items = cap;
  }
  b->d->item[b->n_items++] = id;
  return true;
}

static tl_status unknown_label(const tl_task_builder *b, tl_span name, tl_err *err) {
  const tl_labels *l = &b->d->labels;
  char shown[64], known[320], word[64];
  size_t at = 0;
  int32_t k = 0;
  for (; k < l->n && at < 240; k++) {
    tl_span s = {l->name[k], strlen(l->name[k])};
    at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", k ? ", " : "",
                           tl_span_show(s, word));
  }
  if (k < l->n) snprintf(known + at, sizeof known - at, ", ...");
  snprintf(word, sizeof word, "%.*s", (int)(name.n < 63 ? name.n : 63), name.s);
  const char *near = tl_suggest(word, (const char *const *)l->name, (size_t)l->n);
  return tl_task_fail(b, TL_DATA, err, "%s \"%s\" is not among the %d known: %s%s%.60s%s",
                      b->d->kind == TL_TASK_TOKENS ? "tag" : "label", tl_span_show(name, shown),
                      l->n, known, near ? "; did you mean \"" : "", near ? near : "",
                      near ? "\"?" : "");
}

static tl_status find_label(tl_task_builder *b, tl_span name, int32_t *id, tl_err *err) {
  if (tl_span_blank(name))
    return tl_task_fail(b, TL_DATA, err, "empty %s",
                        b->d->kind == TL_TASK_TOKENS ? "tag" : "label");
  if (b->open_labels) {
    tl_err why = {0};
    tl_status s = tl_labels_add(&b->d->labels, name.s, name.n, id, &why);
    return s == TL_OK ? TL_OK : tl_task_fail(b, s, err, "%s", why.msg);
  }
  *id = tl_labels_find_span(&b->d->labels, name.s, name.n);
  return *id < 0 ? unknown_label(b, name, err) : TL_OK;
}

static tl_status read_value(tl_task_builder *b, tl_span s, double *out, tl_err *err) {
  char text[64], shown[64], *end = text;
  if (s.n < sizeof text) {
    memcpy(text, s.s, s.n);
    text[s.n] = 0;
    *out = strtod(text, &end);
    while (is_space(*end)) end++;
  }
  if (tl_span_blank(s)) return tl_task_fail(b, TL_DATA, err, "empty value; expected a number");
  if (s.n >= sizeof text || *end || !isfinite(*out))
    return tl_task_fail(b, TL_DATA, err, "value \"%s\" is not a finite number",
                        tl_span_show(s, shown));
  return TL_OK;
}

tl_status tl_task_label(tl_task_builder *b, tl_span label, tl_err *err) {
  int32_t id = 0;
  if (!grow_records(b, false, false)) return no_memory(b, err);
  tl_task_data *d = b->d;
  if (d->kind == TL_TASK_VALUE) return read_value(b, label, &d->value[d->n], err);
  TL_TRY(find_label(b, label, &id, err));
  if (d->kind == TL_TASK_CLASS)
    d->label[d->n] = id;
  else if (!push_item(b, id))
    return no_memory(b, err);
  return TL_OK;
}

static char *keep(tl_task_builder *b, tl_span s) {
  char *to = b->kept;
  memmove(to, s.s, s.n);
  to[s.n] = 0;
  b->kept += s.n + 1;
  return to;
}

static void end_record(tl_task_builder *b, uint64_t line) {
  tl_task_data *d = b->d;
  d->line[d->n++] = line < UINT32_MAX ? (uint32_t)line : UINT32_MAX;
  if (d->first) d->first[d->n] = b->n_items;
}

tl_status tl_task_word(tl_task_builder *b, tl_span word, tl_span tag, tl_err *err) {
  int32_t id = 0;
  if (tl_span_blank(word)) return tl_task_fail(b, TL_DATA, err, "empty word");
  if (!b->o->unlabelled) TL_TRY(find_label(b, tag, &id, err));
  if (!grow_records(b, false, false)) return no_memory(b, err);
  tl_task_data *d = b->d;
  bool is_first = b->n_items == d->first[d->n];
  if (!push_item(b, id)) return no_memory(b, err);
  char *kept = keep(b, word);
  if (is_first) d->text[d->n] = kept;
  return TL_OK;
}

tl_status tl_task_end_words(tl_task_builder *b, uint64_t line, tl_err *err) {
  if (!grow_records(b, false, false)) return no_memory(b, err);
  if (b->n_items > b->d->first[b->d->n]) end_record(b, line);
  return TL_OK;
}

tl_status tl_task_texts(tl_task_builder *b, const tl_span text[TL_MAX_TEXTS], tl_err *err) {
  static const char *const which[] = {"first", "second", "third"};
  bool several = text[1].s || text[2].s;
  int order[TL_MAX_TEXTS], n = 0;
  for (int i = 0; i < TL_MAX_TEXTS; i++) {
    if (i > 0 && !text[i].s) continue;
    if (tl_span_blank(text[i]))
      return several ? tl_task_fail(b, TL_DATA, err, "the %s text is empty", which[i])
                     : tl_task_fail(b, TL_DATA, err, "empty text");
    /* In the order of the file: what is kept may lie over what comes before it there. */
    int at = n++;
    for (; at > 0 && (uintptr_t)text[order[at - 1]].s > (uintptr_t)text[i].s; at--)
      order[at] = order[at - 1];
    order[at] = i;
  }
  if (!grow_records(b, text[1].s != NULL, text[2].s != NULL)) return no_memory(b, err);
  tl_task_data *d = b->d;
  char **list[TL_MAX_TEXTS] = {d->text, d->text_b, d->text_c};
  for (int i = 0; i < n; i++) list[order[i]][d->n] = keep(b, text[order[i]]);
  end_record(b, b->at);
  return TL_OK;
}

tl_status tl_task_aligned(tl_task_builder *b, tl_span line, tl_span line_b, tl_err *err) {
  if (!grow_records(b, true, false)) return no_memory(b, err);
  b->d->text[b->d->n] = keep(b, line);
  b->d->text_b[b->d->n] = line_b.s;
  line_b.s[line_b.n] = 0;
  end_record(b, b->at);
  return TL_OK;
}

static tl_span trimmed(tl_span s) {
  while (s.n && is_space(s.s[0])) s = (tl_span){s.s + 1, s.n - 1};
  while (s.n && is_space(s.s[s.n - 1])) s.n--;
  return s;
}

static tl_status label_list(tl_task_builder *b, tl_span list, tl_err *err) {
  char separator = b->o->label_separator ? b->o->label_separator : ',';
  if (tl_span_blank(list)) return TL_OK; /* no labels */
  for (;;) {
    char *cut = memchr(list.s, separator, list.n);
    size_t n = cut ? (size_t)(cut - list.s) : list.n;
    TL_TRY(tl_task_label(b, trimmed((tl_span){list.s, n}), err));
    if (!cut) return TL_OK;
    list = (tl_span){cut + 1, list.n - n - 1};
  }
}

tl_status tl_task_row(tl_task_builder *b, tl_span label, const tl_span text[TL_MAX_TEXTS],
                      tl_err *err) {
  if (b->d->kind == TL_TASK_MULTI)
    TL_TRY(label_list(b, label, err));
  else if (b->d->kind != TL_TASK_PAIR && b->d->kind != TL_TASK_TEXTS)
    TL_TRY(tl_task_label(b, label, err));
  return tl_task_texts(b, text, err);
}
