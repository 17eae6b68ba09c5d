/* An object a line. The keys are those of the first object. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/task_internal.h"

static const char *type_of(const json_t *v) {
  static const char *const names[] = {
      [JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list",    [JSON_STRING] = "a string",
      [JSON_INTEGER] = "a number", [JSON_REAL] = "a fraction", [JSON_TRUE] = "true",
      [JSON_FALSE] = "false",      [JSON_NULL] = "null"};
  return names[json_typeof(v)];
}

typedef struct keys {
  char *name[TL_N_ROLES]; /* NULL: not used */
} keys;

static void free_keys(keys *k) {
  for (int r = 0; r < TL_N_ROLES; r++) free(k->name[r]);
}

static tl_status find_keys(tl_task_builder *b, json_t *object, keys *k, tl_err *err) {
  tl_span name[TL_MAX_COLUMNS];
  tl_columns c;
  int n = 0;
  const char *key;
  json_t *value;
  json_object_foreach(object, key, value) {
    if (n < TL_MAX_COLUMNS) name[n++] = (tl_span){(char *)key, strlen(key)};
  }
  TL_TRY(tl_columns_find(b, name, n, &c, err));
  for (int r = 0; r < TL_N_ROLES; r++)
    if (c.at[r] >= 0 && !(k->name[r] = strdup(name[c.at[r]].s)))
      return tl_fail(err, TL_NOMEM, "%s: out of memory", b->path);
  return TL_OK;
}

static tl_status member(const tl_task_builder *b, const json_t *object, const char *key,
                        json_t **out, tl_err *err) {
  *out = json_object_get(object, key);
  return *out ? TL_OK : tl_task_fail(b, TL_DATA, err, "the object has no key \"%.60s\"", key);
}

static tl_status text_of(const tl_task_builder *b, const json_t *object, const char *key,
                         tl_span *out, tl_err *err) {
  json_t *v = NULL;
  *out = (tl_span){0};
  if (!key) return TL_OK;
  TL_TRY(member(b, object, key, &v, err));
  if (!json_is_string(v))
    return tl_task_fail(b, TL_DATA, err, "\"%.60s\" is %s; expected a string", key, type_of(v));
  *out = (tl_span){(char *)json_string_value(v), json_string_length(v)};
  return TL_OK;
}

/* A label as a string; buf holds it where it is none in the file. */
static tl_status name_of(const tl_task_builder *b, const json_t *v, const char *key, char buf[64],
                         tl_span *out, tl_err *err) {
  bool number = b->d->kind == TL_TASK_VALUE;
  if (json_is_string(v)) {
    *out = (tl_span){(char *)json_string_value(v), json_string_length(v)};
    return TL_OK;
  }
  if (json_is_integer(v))
    snprintf(buf, 64, "%lld", (long long)json_integer_value(v));
  else if (json_is_real(v) && number)
    snprintf(buf, 64, "%.17g", json_real_value(v));
  else if (json_is_boolean(v) && !number)
    snprintf(buf, 64, "%s", json_is_true(v) ? "true" : "false");
  else
    return tl_task_fail(b, TL_DATA, err, "\"%.60s\" holds %s; expected %s%s", key, type_of(v),
                        number ? "a number" : "a label (string or whole number)",
                        json_is_array(v) && !number ? "; lists are for the task multi-label" : "");
  *out = (tl_span){buf, strlen(buf)};
  return TL_OK;
}

static tl_status add_label(tl_task_builder *b, const json_t *v, const char *key, tl_err *err) {
  char buf[64];
  tl_span name;
  if (b->d->kind == TL_TASK_MULTI && json_is_array(v)) {
    for (size_t i = 0; i < json_array_size(v); i++) {
      TL_TRY(name_of(b, json_array_get(v, i), key, buf, &name, err));
      TL_TRY(tl_task_label(b, name, err));
    }
    return TL_OK;
  }
  TL_TRY(name_of(b, v, key, buf, &name, err));
  return tl_task_label(b, name, err);
}

static tl_status add_words(tl_task_builder *b, const json_t *object, const keys *k, tl_err *err) {
  char buf[64];
  json_t *words = NULL, *tags = NULL;
  const char *word_key = k->name[TL_ROLE_TEXT], *tag_key = k->name[TL_ROLE_LABEL];
  TL_TRY(member(b, object, word_key, &words, err));
  TL_TRY(member(b, object, tag_key, &tags, err));
  if (!json_is_array(words) || !json_is_array(tags))
    return tl_task_fail(b, TL_DATA, err, "expected lists in \"%.60s\" and \"%.60s\"", word_key,
                        tag_key);
  size_t n = json_array_size(words);
  if (n != json_array_size(tags) || n == 0)
    return tl_task_fail(b, TL_DATA, err, "%zu words in \"%.60s\" but %zu tags in \"%.60s\"%s", n,
                        word_key, json_array_size(tags), tag_key,
                        n == 0 ? "; a record needs at least one" : "");
  for (size_t i = 0; i < n; i++) {
    tl_span tag;
    const json_t *w = json_array_get(words, i);
    if (!json_is_string(w))
      return tl_task_fail(b, TL_DATA, err, "word %zu is %s; expected a string", i + 1, type_of(w));
    TL_TRY(name_of(b, json_array_get(tags, i), tag_key, buf, &tag, err));
    TL_TRY(
        tl_task_word(b, (tl_span){(char *)json_string_value(w), json_string_length(w)}, tag, err));
  }
  return tl_task_end_words(b, b->at, err);
}

static tl_status add_object(tl_task_builder *b, json_t *object, keys *k, tl_err *err) {
  json_t *label = NULL;
  tl_span text[TL_MAX_TEXTS];
  if (!k->name[TL_ROLE_TEXT]) TL_TRY(find_keys(b, object, k, err));
  if (b->d->kind == TL_TASK_TOKENS) return add_words(b, object, k, err);
  if (k->name[TL_ROLE_LABEL]) {
    TL_TRY(member(b, object, k->name[TL_ROLE_LABEL], &label, err));
    TL_TRY(add_label(b, label, k->name[TL_ROLE_LABEL], err));
  }
  TL_TRY(text_of(b, object, k->name[TL_ROLE_TEXT], &text[0], err));
  TL_TRY(text_of(b, object, k->name[TL_ROLE_TEXT_B], &text[1], err));
  TL_TRY(text_of(b, object, k->name[TL_ROLE_TEXT_C], &text[2], err));
  return tl_task_texts(b, text, err);
}

/* Jansson reports most failed allocations as an error without a text. */
tl_status tl_task_bad_json(const char *path, uint64_t line, const json_error_t *why, tl_err *err) {
  if (!why->text[0] || json_error_code(why) == json_error_out_of_memory)
    return tl_fail(err, TL_NOMEM, "%s: out of memory while parsing", path);
  return tl_fail(err, TL_DATA, "%s:%llu: bad JSON at column %d: %s", path, (unsigned long long)line,
                 why->column, why->text);
}

static tl_status read_lines(tl_task_builder *b, keys *k, tl_err *err) {
  for (;;) {
    tl_span line;
    TL_TRY(tl_task_line(b, &line, err));
    if (!line.s) return TL_OK;
    if (tl_span_blank(line)) continue;
    json_error_t why = {0};
    json_t *object = json_loadb(line.s, line.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    tl_status s = object ? TL_OK : tl_task_bad_json(b->path, b->at, &why, err);
    if (object && !json_is_object(object))
      s = tl_task_fail(b, TL_DATA, err, "%s; expected one JSON object a line", type_of(object));
    if (s == TL_OK) s = add_object(b, object, k, err);
    json_decref(object);
    TL_TRY(s);
  }
}

tl_status tl_task_read_jsonl(tl_task_builder *b, tl_err *err) {
  keys k = {{NULL}};
  tl_status s = read_lines(b, &k, err);
  free_keys(&k);
  return s;
}
