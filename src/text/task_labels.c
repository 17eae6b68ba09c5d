/* Label sets: names in an arena, found by an open hash table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "text/task_internal.h"

/* More labels than this are taken for a wrong column. */
enum { MAX_LABELS = 65536, MAX_CONFIG = 16 << 20 };

struct tl_label_index {
  tl_arena names;
  int32_t *slot; /* [cap] label, -1: free; a power of two, at most half full */
  size_t cap;
  int32_t cap_names;
};

static size_t find_slot(const struct tl_label_index *x, char *const *names, const char *name,
                        size_t n) {
  size_t i = (size_t)tl_hash64(name, n) & (x->cap - 1);
  while (x->slot[i] >= 0) {
    const char *have = names[x->slot[i]];
    if (!strncmp(have, name, n) && !have[n]) break;
    i = (i + 1) & (x->cap - 1);
  }
  return i;
}

int32_t tl_labels_find_span(const tl_labels *l, const char *name, size_t n) {
  return l->index && l->index->cap ? l->index->slot[find_slot(l->index, l->name, name, n)] : -1;
}

int32_t tl_labels_find(const tl_labels *l, const char *name) {
  return tl_labels_find_span(l, name, strlen(name));
}

static void fill_slots(tl_labels *l) {
  struct tl_label_index *x = l->index;
  for (size_t i = 0; i < x->cap; i++) x->slot[i] = -1;
  for (int32_t k = 0; k < l->n; k++)
    x->slot[find_slot(x, l->name, l->name[k], strlen(l->name[k]))] = k;
}

static bool grow(tl_labels *l) {
  if (!l->index && !(l->index = calloc(1, sizeof *l->index))) return false;
  struct tl_label_index *x = l->index;
  if (l->n < x->cap_names) return true;
  int32_t cap = x->cap_names ? 2 * x->cap_names : 16;
  char **names = realloc(l->name, (size_t)cap * sizeof *names);
  if (names) l->name = names;
  int32_t *slot = realloc(x->slot, 2 * (size_t)cap * sizeof *slot);
  if (slot) x->slot = slot;
  if (!names || !slot) return false;
  x->cap_names = cap;
  x->cap = 2 * (size_t)cap;
  fill_slots(l);
  return true;
}

tl_status tl_labels_add(tl_labels *l, const char *name, size_t n, int32_t *id, tl_err *err) {
  *id = tl_labels_find_span(l, name, n);
  if (*id >= 0) return TL_OK;
  if (l->n == MAX_LABELS)
    return tl_fail(err, TL_DATA, "more than %d different labels; is this the column of the labels?",
                   (int)MAX_LABELS);
  char *copy = grow(l) ? tl_arena_alloc(&l->index->names, n + 1) : NULL;
  if (!copy) return tl_fail(err, TL_NOMEM, "labels: out of memory");
  memcpy(copy, name, n);
  l->index->slot[find_slot(l->index, l->name, name, n)] = l->n;
  l->name[l->n] = copy;
  *id = l->n++;
  return TL_OK;
}

typedef struct named {
  const char *name;
  int32_t id;
} named;

static int by_name(const void *a, const void *b) {
  return strcmp(((const named *)a)->name, ((const named *)b)->name);
}

tl_status tl_labels_sort(tl_labels *l, int32_t *new_id, tl_err *err) {
  if (l->n == 0) return TL_OK;
  named *v = malloc((size_t)l->n * sizeof *v);
  if (!v) return tl_fail(err, TL_NOMEM, "labels: out of memory");
  for (int32_t k = 0; k < l->n; k++) v[k] = (named){l->name[k], k};
  qsort(v, (size_t)l->n, sizeof *v, by_name);
  for (int32_t k = 0; k < l->n; k++) {
    l->name[k] = (char *)v[k].name;
    new_id[v[k].id] = k;
  }
  fill_slots(l);
  free(v);
  return TL_OK;
}

static tl_status add_all(const char *const *names, size_t n, tl_labels *l, tl_err *err) {
  for (size_t i = 0; i < n; i++) {
    int32_t id = 0;
    if (!names[i] || !*names[i]) return tl_fail(err, TL_CONFIG, "label %zu has no name", i);
    TL_TRY(tl_labels_add(l, names[i], strlen(names[i]), &id, err));
    if ((size_t)id != i)
      return tl_fail(err, TL_CONFIG, "label \"%.60s\" stands twice in the list of labels",
                     names[i]);
  }
  return TL_OK;
}

tl_status tl_labels_make(const char *const *names, size_t n, tl_labels *out, tl_err *err) {
  *out = (tl_labels){0};
  if (n == 0 || n > MAX_LABELS)
    return tl_fail(err, TL_CONFIG, "%zu labels; expected 1 to %d", n, (int)MAX_LABELS);
  tl_status s = add_all(names, n, out, err);
  if (s != TL_OK) tl_labels_free(out);
  return s;
}

void tl_labels_free(tl_labels *l) {
  if (l->index) {
    tl_arena_free(&l->index->names);
    free(l->index->slot);
    free(l->index);
  }
  free(l->name);
  *l = (tl_labels){0};
}

/* The names of id2label, which must have the keys "0" .. "n-1"; the strings belong to `map`. */
static tl_status names_of(const char *path, const json_t *map, const char **names, size_t n,
                          tl_err *err) {
  for (size_t i = 0; i < n; i++) {
    char key[24];
    snprintf(key, sizeof key, "%zu", i);
    names[i] = json_string_value(json_object_get(map, key));
    if (!names[i])
      return tl_fail(err, TL_DATA,
                     "%s: id2label has %zu entries but no name for \"%s\"; expected the keys \"0\" "
                     "to \"%zu\" with strings",
                     path, n, key, n - 1);
  }
  return TL_OK;
}

static tl_status read_names(const char *path, const json_t *config, tl_labels *out, tl_err *err) {
  const json_t *map = json_object_get(config, "id2label");
  size_t n = json_object_size(map);
  if (n == 0 || n > MAX_LABELS)
    return tl_fail(err, TL_DATA, "%s: no id2label with 1 to %d names: this model has no labels",
                   path, (int)MAX_LABELS);
  const char **names = malloc(n * sizeof *names);
  if (!names) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  tl_status s = names_of(path, map, names, n, err);
  tl_err why = {0};
  if (s == TL_OK && (s = tl_labels_make(names, n, out, &why)) != TL_OK)
    s = tl_fail(err, s == TL_CONFIG ? TL_DATA : s, "%s: id2label: %s", path, why.msg);
  free(names);
  return s;
}

tl_status tl_labels_read(const char *model_dir, tl_labels *out, tl_err *err) {
  *out = (tl_labels){0};
  char *path = tl_path_join(model_dir, "config.json");
  if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", model_dir);
  tl_buf text = {0};
  json_t *config = NULL;
  tl_status s = tl_file_read(path, MAX_CONFIG, &text, err);
  json_error_t why = {0};
  if (s == TL_OK) {
    config = json_loadb(text.len ? text.data : "", text.len, JSON_REJECT_DUPLICATES, &why);
    if (!config) s = tl_task_bad_json(path, (uint64_t)why.line, &why, err);
  }
  if (s == TL_OK) s = read_names(path, config, out, err);
  json_decref(config);
  tl_buf_free(&text);
  free(path);
  return s;
}
