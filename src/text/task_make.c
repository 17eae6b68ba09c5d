/* Records out of texts that are already in memory. */
#include <stdlib.h>
#include <string.h>

#include "text/task_internal.h"
#include "text/text_utf8.h"

static bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

static tl_status check(const char *text, size_t i, tl_err *err) {
  tl_span s = {(char *)(uintptr_t)text, text ? strlen(text) : 0};
  if (!text || tl_span_blank(s)) return tl_fail(err, TL_DATA, "text %zu is empty", i);
  size_t good = tl_utf8_valid_prefix(text, s.n);
  if (good != s.n)
    return tl_fail(err, TL_DATA, "text %zu is not UTF-8 (from byte %zu on)", i, good);
  return TL_OK;
}

/* Copies the n texts into one block, *bytes, and points list[i] at each. */
static tl_status copy(const char *const *text, size_t n, char **bytes, char ***list, tl_err *err) {
  size_t size = 1;
  for (size_t i = 0; i < n; i++) {
    TL_TRY(check(text[i], i, err));
    if (__builtin_add_overflow(size, strlen(text[i]) + 1, &size))
      return tl_fail(err, TL_NOMEM, "%zu texts: too large", n);
  }
  *list = calloc(n + 1, sizeof **list);
  char *to = *bytes = malloc(size);
  if (!*list || !to) return tl_fail(err, TL_NOMEM, "out of memory for %zu texts", n);
  for (size_t i = 0; i < n; i++) {
    size_t len = strlen(text[i]) + 1;
    (*list)[i] = memcpy(to, text[i], len);
    to += len;
  }
  return TL_OK;
}

/* Cuts a text into its words, which come to stand behind each other; returns how many. */
static size_t cut_words(char *text) {
  size_t words = 0;
  char *to = text;
  for (const char *p = text; *p;) {
    while (is_space(*p)) p++;
    if (!*p) break;
    while (*p && !is_space(*p)) *to++ = *p++;
    bool last = !*p;
    words++;
    *to++ = 0;
    if (last) break;
    p++;
  }
  return words;
}

static tl_status make_words(tl_task_data *d, tl_err *err) {
  d->first = calloc(d->n + 1, sizeof *d->first);
  if (!d->first) return tl_fail(err, TL_NOMEM, "out of memory for %zu texts", d->n);
  for (size_t i = 0; i < d->n; i++) d->first[i + 1] = d->first[i] + cut_words(d->text[i]);
  d->item = calloc(d->first[d->n] + 1, sizeof *d->item);
  return d->item ? TL_OK : tl_fail(err, TL_NOMEM, "out of memory for the words");
}

tl_status tl_task_make(tl_task_kind kind, const char *const *text, const char *const *text_b,
                       size_t n, tl_task_data *out, tl_err *err) {
  *out = (tl_task_data){.kind = kind, .n = n};
  tl_status s = n > 0 ? copy(text, n, &out->bytes, &out->text, err)
                      : tl_fail(err, TL_DATA, "there are no texts");
  if (s == TL_OK && text_b && kind == TL_TASK_TOKENS)
    s = tl_fail(err, TL_CONFIG, "words to be tagged come in single texts, not in pairs");
  if (s == TL_OK && text_b) s = copy(text_b, n, &out->bytes_b, &out->text_b, err);
  if (s == TL_OK && kind == TL_TASK_TOKENS) s = make_words(out, err);
  if (s != TL_OK) tl_task_data_free(out);
  return s;
}
