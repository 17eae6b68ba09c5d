/* Which columns hold the texts and the labels: as asked, or by well-known names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tilth/suggest.h"
#include "text/task_internal.h"

#define KIND(k) (1u << TL_TASK_##k)
enum { TEXTS = KIND(CLASS) | KIND(MULTI) | KIND(VALUE) | KIND(TEXTS) };

/* Well-known names, the first that is there is taken; documented in docs/task-data.md. */
typedef struct known_texts {
  unsigned kinds;
  const char *text, *text_b; /* both must be there; text_b NULL: one text */
  const char *text_c;        /* taken if it is there */
} known_texts;
static const known_texts texts[] = {
    {KIND(TEXTS), "sent0", "sent1", "hard_neg"},
    {KIND(TEXTS), "anchor", "positive", "negative"},
    {KIND(TEXTS), "text_a", "text_b", "text_c"},
    {TEXTS, "sentence1", "sentence2", NULL},
    {TEXTS, "premise", "hypothesis", NULL},
    {TEXTS, "question1", "question2", NULL},
    {TEXTS, "text_a", "text_b", NULL},
    {TEXTS, "text1", "text2", NULL},
    {TEXTS, "question", "sentence", NULL},
    {TEXTS, "text", NULL, NULL},
    {TEXTS, "sentence", NULL, NULL},
    {TEXTS, "question", NULL, NULL},
    {TEXTS, "review", NULL, NULL},
    {TEXTS, "content", NULL, NULL},
    {KIND(PAIR), "source", "target", NULL},
    {KIND(PAIR), "src", "tgt", NULL},
    {KIND(PAIR), "prompt", "answer", NULL},
    {KIND(PAIR), "prompt", "completion", NULL},
    {KIND(PAIR), "prompt", "response", NULL},
    {KIND(PAIR), "instruction", "answer", NULL},
    {KIND(PAIR), "instruction", "response", NULL},
    {KIND(PAIR), "instruction", "output", NULL},
    {KIND(PAIR), "question", "answer", NULL},
    {KIND(TOKENS), "tokens", NULL, NULL},
    {KIND(TOKENS), "words", NULL, NULL},
};
typedef struct known_label {
  unsigned kinds;
  const char *name;
} known_label;
static const known_label labels[] = {
    {KIND(CLASS) | KIND(MULTI), "label"},
    {KIND(CLASS) | KIND(MULTI), "labels"},
    {KIND(CLASS) | KIND(MULTI), "class"},
    {KIND(CLASS) | KIND(MULTI), "category"},
    {KIND(VALUE), "score"},
    {KIND(VALUE), "label"},
    {KIND(VALUE), "value"},
    {KIND(VALUE), "similarity"},
    {KIND(TOKENS), "tags"},
    {KIND(TOKENS), "ner_tags"},
    {KIND(TOKENS), "labels"},
};
enum { N_TEXTS = sizeof texts / sizeof *texts, N_LABELS = sizeof labels / sizeof *labels };
static const char *const roles[] = {[TL_ROLE_TEXT] = "text",
                                    [TL_ROLE_TEXT_B] = "text_b",
                                    [TL_ROLE_TEXT_C] = "text_c",
                                    [TL_ROLE_LABEL] = "label"};

static int find_name(const char *want, size_t len, const tl_span *name, int n, bool fold) {
  for (int i = 0; i < n; i++)
    if (name[i].n == len &&
        !(fold ? strncasecmp(name[i].s, want, len) : strncmp(name[i].s, want, len)))
      return i;
  return -1;
}

static void find_texts(tl_task_kind kind, const tl_span *name, int n, tl_columns *c) {
  for (int i = 0; i < N_TEXTS; i++) {
    const known_texts *k = &texts[i];
    if (!(k->kinds & (1u << kind))) continue;
    int a = find_name(k->text, strlen(k->text), name, n, true);
    int b = k->text_b ? find_name(k->text_b, strlen(k->text_b), name, n, true) : -1;
    if (a < 0 || (k->text_b && b < 0)) continue;
    c->at[TL_ROLE_TEXT] = a;
    c->at[TL_ROLE_TEXT_B] = b;
    if (k->text_c) c->at[TL_ROLE_TEXT_C] = find_name(k->text_c, strlen(k->text_c), name, n, true);
    return;
  }
}

static void find_label(tl_task_kind kind, const tl_span *name, int n, tl_columns *c) {
  for (int i = 0; i < N_LABELS && c->at[TL_ROLE_LABEL] < 0; i++)
    if (labels[i].kinds & (1u << kind))
      c->at[TL_ROLE_LABEL] = find_name(labels[i].name, strlen(labels[i].name), name, n, true);
}

static bool has_label(tl_task_kind kind) {
  return kind != TL_TASK_PAIR && kind != TL_TASK_TEXTS;
}

static bool needed(tl_task_kind kind, int role) {
  if (role == TL_ROLE_TEXT_B) return kind == TL_TASK_PAIR;
  if (role == TL_ROLE_LABEL) return has_label(kind);
  return role == TL_ROLE_TEXT;
}

bool tl_columns_known(tl_task_kind kind, const tl_span *name, int n) {
  tl_columns c = {{-1, -1, -1, -1}};
  find_texts(kind, name, n, &c);
  if (!has_label(kind)) return c.at[TL_ROLE_TEXT] >= 0;
  find_label(kind, name, n, &c);
  return c.at[TL_ROLE_TEXT] >= 0 && c.at[TL_ROLE_LABEL] >= 0;
}

bool tl_columns_stsb(tl_task_kind kind, const tl_span *cell, int n) {
  return kind == TL_TASK_VALUE && n >= 7 && cell[0].n > 0 &&
         strspn(cell[0].s, "+-.0123456789") == 0;
}

/* The next "role=column" of options->columns, which *at runs through; false at the end. */
static bool next_part(const char **at, tl_span *role, tl_span *column) {
  if (!*at || !**at) return false;
  size_t n = strcspn(*at, ",");
  const char *s = *at, *eq = memchr(s, '=', n);
  *role = (tl_span){(char *)s, eq ? (size_t)(eq - s) : n};
  *column = eq ? (tl_span){(char *)eq + 1, n - (size_t)(eq + 1 - s)} : (tl_span){0};
  *at = s + n + (s[n] == ',');
  return true;
}

/* The column's number, 0 when it is a name. */
static long number_of(tl_span s) {
  char text[8];
  if (s.n == 0 || s.n >= sizeof text || strspn(s.s, "0123456789") < s.n) return 0;
  memcpy(text, s.s, s.n);
  text[s.n] = 0;
  return strtol(text, NULL, 10);
}

bool tl_columns_by_name(const tl_task_options *o) {
  tl_span role, column;
  for (const char *at = o->columns; next_part(&at, &role, &column);)
    if (number_of(column) == 0) return true;
  return false;
}

static tl_status no_such_column(const tl_task_builder *b, tl_span want, const tl_span *name, int n,
                                tl_err *err) {
  char list[400] = "", shown[64], word[64], words[32][64];
  const char *candidates[32];
  size_t at = 0;
  int k = 0;
  for (; k < n && k < 32 && at < 320; k++) {
    candidates[k] = tl_span_show(name[k], words[k]);
    at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", k ? ", " : "", candidates[k]);
  }
  const char *near = tl_suggest(tl_span_show(want, word), candidates, (size_t)k);
  return tl_task_fail(b, TL_CONFIG, err, "no column \"%s\" among: %s%s%s%s%s",
                      tl_span_show(want, shown), list, k < n ? ", ..." : "",
                      near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static tl_status asked(const tl_task_builder *b, tl_span role, tl_span column, const tl_span *name,
                       int n, tl_columns *c, tl_err *err) {
  char shown[64];
  int r = 0;
  while (r < TL_N_ROLES && (strlen(roles[r]) != role.n || strncmp(roles[r], role.s, role.n))) r++;
  if (r == TL_N_ROLES || column.n == 0)
    return tl_fail(err, TL_CONFIG,
                   "columns: bad part \"%s\"; expected text=COLUMN, text_b=COLUMN or label=COLUMN, "
                   "split by commas",
                   tl_span_show(role, shown));
  c->at[r] = name ? find_name(column.s, column.n, name, n, false) : -1;
  if (c->at[r] >= 0) return TL_OK;
  long number = number_of(column);
  if (number > n)
    return tl_task_fail(b, TL_CONFIG, err, "column %ld is wanted for %s, but there are %d", number,
                        roles[r], n);
  c->at[r] = (int)number - 1;
  if (number) return TL_OK;
  if (name) return no_such_column(b, column, name, n, err);
  return tl_task_fail(b, TL_CONFIG, err,
                      "column \"%s\" is asked for by name, but there is no header",
                      tl_span_show(column, shown));
}

static tl_status check_columns(const tl_task_builder *b, const tl_columns *c, tl_err *err) {
  for (int r = 0; r < TL_N_ROLES; r++) {
    if (needed(b->d->kind, r) && c->at[r] < 0)
      return tl_task_fail(b, TL_CONFIG, err,
                          "cannot tell which column holds the %s; name it: columns %s=NAME or "
                          "number",
                          r == TL_ROLE_LABEL  ? "labels"
                          : r == TL_ROLE_TEXT ? "texts"
                                              : "second texts",
                          roles[r]);
    for (int q = 0; q < r; q++)
      if (c->at[r] >= 0 && c->at[r] == c->at[q])
        return tl_task_fail(b, TL_CONFIG, err, "column %d is to be both %s and %s", c->at[r] + 1,
                            roles[q], roles[r]);
  }
  return TL_OK;
}

tl_status tl_columns_find(const tl_task_builder *b, const tl_span *name, int n, tl_columns *out,
                          tl_err *err) {
  tl_span role, column;
  tl_columns c = {{-1, -1, -1, -1}};
  tl_task_kind kind = b->d->kind;
  for (const char *at = b->o->columns; next_part(&at, &role, &column);)
    TL_TRY(asked(b, role, column, name, n, &c, err));
  if (name && c.at[TL_ROLE_TEXT] < 0 && c.at[TL_ROLE_TEXT_B] < 0) {
    find_texts(kind, name, n, &c);
    int a = c.at[TL_ROLE_TEXT];
    if (kind == TL_TASK_PAIR && a >= 0 && find_name("instruction", 11, &name[a], 1, true) == 0 &&
        find_name("input", 5, name, n, true) >= 0)
      return tl_task_fail(
          b, TL_CONFIG, err,
          "\"instruction\" and \"input\" make one prompt together: join them in the "
          "data, or name the columns (text=instruction) to leave the input out");
  }
  if (name && has_label(kind) && c.at[TL_ROLE_LABEL] < 0) find_label(kind, name, n, &c);
  if (!has_label(kind)) c.at[TL_ROLE_LABEL] = -1;
  if (kind != TL_TASK_TEXTS) c.at[TL_ROLE_TEXT_C] = -1;
  if (kind == TL_TASK_TOKENS) c.at[TL_ROLE_TEXT_B] = -1;
  *out = c;
  return check_columns(b, out, err);
}
