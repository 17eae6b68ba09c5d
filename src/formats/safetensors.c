#include "tilth/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include "base/arena.h"
#include "base/file.h"
#include "base/half.h"
#include "formats/json.h"
#include "formats/safetensors.h"

enum { MAX_SHARDS = 4096, MAX_INDEX = 64 << 20 };
static const uint64_t MAX_HEADER = 100000000; /* the format's limit; not 100 MiB */

static const struct {
  const char *name;
  unsigned bits;
} dtypes[TL_ST_N_DTYPES] = {
#define ROW(name, bits) {#name, bits},
    TL_ST_DTYPE_MAP(ROW)
#undef ROW
};

struct tl_st {
  tl_arena arena;
  tl_map *maps;
  size_t n_maps;
  tl_st_tensor *t; /* sorted by name */
  size_t n;
  json_t *meta; /* of the first file, or NULL */
};

const char *tl_st_dtype_name(tl_st_dtype t) {
  return dtypes[t].name;
}

int tl_st_dtype_from_name(const char *name) {
  for (int i = 0; i < TL_ST_N_DTYPES; i++)
    if (!strcmp(dtypes[i].name, name)) return i;
  return -1;
}

bool tl_st_byte_size(tl_st_dtype dtype, int ndim, const int64_t *shape, uint64_t *size) {
  uint64_t bits = dtypes[dtype].bits;
  for (int i = 0; i < ndim; i++)
    if (shape[i] < 0 || __builtin_mul_overflow(bits, (uint64_t)shape[i], &bits)) return false;
  *size = bits / 8;
  return bits % 8 == 0;
}

/* --- one file ----------------------------------------------------------------------------------
 */

typedef struct entry {
  tl_st_tensor t;
  uint64_t begin, end;
} entry;

static tl_status read_shape(const char *path, entry *e, const json_t *shape, tl_err *err) {
  size_t n = json_array_size(shape);
  if (!json_is_array(shape) || n > TL_ST_MAX_NDIM)
    return tl_fail(err, TL_DATA, "%s: tensor '%.200s': shape is not an array of at most %d numbers",
                   path, e->t.name, TL_ST_MAX_NDIM);
  e->t.ndim = (int)n;
  for (size_t i = 0; i < n; i++) {
    const json_t *d = json_array_get(shape, i);
    if (!json_is_integer(d) || json_integer_value(d) < 0)
      return tl_fail(err, TL_DATA, "%s: tensor '%.200s': dimension %zu is not a whole number", path,
                     e->t.name, i);
    e->t.shape[i] = json_integer_value(d);
  }
  return TL_OK;
}

static tl_status read_entry(const char *path, entry *e, const json_t *j, tl_err *err) {
  const json_t *dtype = json_object_get(j, "dtype"), *off = json_object_get(j, "data_offsets");
  if (!json_is_object(j) || !json_is_string(dtype))
    return tl_fail(err, TL_DATA, "%s: tensor '%.200s': no dtype in its description", path,
                   e->t.name);
  int t = tl_st_dtype_from_name(json_string_value(dtype));
  if (t < 0)
    return tl_fail(err, TL_DATA, "%s: tensor '%.200s': unknown dtype '%.40s'", path, e->t.name,
                   json_string_value(dtype));
  e->t.dtype = (tl_st_dtype)t;
  TL_TRY(read_shape(path, e, json_object_get(j, "shape"), err));
  const json_t *b = json_array_get(off, 0), *f = json_array_get(off, 1);
  if (json_array_size(off) != 2 || !json_is_integer(b) || !json_is_integer(f) ||
      json_integer_value(b) < 0 || json_integer_value(f) < json_integer_value(b))
    return tl_fail(err, TL_DATA, "%s: tensor '%.200s': data_offsets is not [begin, end]", path,
                   e->t.name);
  e->begin = (uint64_t)json_integer_value(b);
  e->end = (uint64_t)json_integer_value(f);
  if (!tl_st_byte_size(e->t.dtype, e->t.ndim, e->t.shape, &e->t.size))
    return tl_fail(err, TL_DATA,
                   "%s: tensor '%.200s': shape too large, or not a whole number of bytes", path,
                   e->t.name);
  if (e->end - e->begin != e->t.size)
    return tl_fail(err, TL_DATA,
                   "%s: tensor '%.200s': data_offsets span %llu bytes, dtype and shape need %llu",
                   path, e->t.name, (unsigned long long)(e->end - e->begin),
                   (unsigned long long)e->t.size);
  return TL_OK;
}

static int by_offset(const void *a, const void *b) {
  const entry *x = a, *y = b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  if (x->end != y->end) return x->end < y->end ? -1 : 1;
  return strcmp(x->t.name, y->t.name);
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const tl_st_tensor *)a)->name, ((const tl_st_tensor *)b)->name);
}

/* Holes, overlaps and bytes after the last tensor could hide other content: all are refused. */
static tl_status check_layout(const char *path, entry *e, size_t n, uint64_t data_size,
                              tl_err *err) {
  if (n) qsort(e, n, sizeof *e, by_offset);
  uint64_t at = 0;
  for (size_t i = 0; i < n; i++) {
    if (e[i].begin != at)
      return tl_fail(err, TL_DATA,
                     "%s: tensor '%.200s' begins at byte %llu of the data, expected %llu", path,
                     e[i].t.name, (unsigned long long)e[i].begin, (unsigned long long)at);
    at = e[i].end;
    if (at > data_size)
      return tl_fail(err, TL_DATA,
                     "%s: tensor '%.200s' ends at byte %llu of the data, but there are only %llu; "
                     "the file is truncated",
                     path, e[i].t.name, (unsigned long long)at, (unsigned long long)data_size);
  }
  if (at != data_size)
    return tl_fail(err, TL_DATA, "%s: %llu bytes after the last tensor", path,
                   (unsigned long long)(data_size - at));
  return TL_OK;
}

static tl_status check_metadata(const char *path, json_t *meta, tl_err *err) {
  if (!meta || json_is_null(meta)) return TL_OK;
  if (!json_is_object(meta))
    return tl_fail(err, TL_DATA, "%s: __metadata__ is not an object", path);
  const char *key;
  json_t *value;
  json_object_foreach(meta, key, value) {
    if (!json_is_string(value))
      return tl_fail(err, TL_DATA, "%s: __metadata__: the value of '%.200s' is not a string", path,
                     key);
  }
  return TL_OK;
}

/* Parses the header into st->t (appended). The map stays owned by the caller. */
static tl_status read_tensors(tl_st *st, const char *path, const tl_map *map, json_t *root,
                              uint64_t data_at, tl_err *err) {
  size_t n = json_object_size(root);
  TL_TRY(check_metadata(path, json_object_get(root, "__metadata__"), err));
  entry *e = calloc(n + 1, sizeof *e);
  if (!e) return tl_fail(err, TL_NOMEM, "%s: out of memory for %zu tensors", path, n);
  tl_status s = TL_OK;
  const char *key;
  json_t *value;
  n = 0;
  json_object_foreach(root, key, value) {
    if (!strcmp(key, "__metadata__")) continue;
    if (!(e[n].t.name = tl_arena_strdup(&st->arena, key)))
      s = tl_fail(err, TL_NOMEM, "%s: out of memory", path);
    if (s == TL_OK) s = read_entry(path, &e[n], value, err);
    if (s != TL_OK) break;
    n++;
  }
  if (s == TL_OK) s = check_layout(path, e, n, map->size - data_at, err);
  tl_st_tensor *t = s == TL_OK ? realloc(st->t, (st->n + n + 1) * sizeof *t) : NULL;
  if (t) {
    st->t = t;
    for (size_t i = 0; i < n; i++) {
      e[i].t.data = map->data + data_at + e[i].begin;
      t[st->n++] = e[i].t;
    }
  } else if (s == TL_OK) {
    s = tl_fail(err, TL_NOMEM, "%s: out of memory for %zu tensors", path, n);
  }
  free(e);
  return s;
}

static tl_status read_header(tl_st *st, const char *path, const tl_map *map, tl_err *err) {
  if (map->size < 8)
    return tl_fail(err, TL_DATA, "%s: %zu bytes are too few for a safetensors file", path,
                   map->size);
  uint64_t n = 0;
  for (int i = 7; i >= 0; i--) n = n << 8 | map->data[i];
  if (n > MAX_HEADER)
    return tl_fail(err, TL_DATA,
                   "%s: header length %llu exceeds the limit of %llu; not safetensors?", path,
                   (unsigned long long)n, (unsigned long long)MAX_HEADER);
  if (n > map->size - 8)
    return tl_fail(err, TL_DATA, "%s: header of %llu bytes in a file of %zu; it is truncated", path,
                   (unsigned long long)n, map->size);
  json_t *root = NULL;
  TL_TRY(tl_json_object(path, (const char *)map->data + 8, (size_t)n, &root, err));
  tl_status s = read_tensors(st, path, map, root, 8 + n, err);
  if (s == TL_OK && !st->meta) {
    json_t *meta = json_object_get(root, "__metadata__");
    st->meta = json_is_object(meta) ? json_incref(meta) : json_object();
  }
  json_decref(root);
  return s;
}

static tl_status open_file(tl_st *st, const char *path, tl_err *err) {
  tl_map *maps = realloc(st->maps, (st->n_maps + 1) * sizeof *maps);
  if (!maps) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  st->maps = maps;
  TL_TRY(tl_map_open(path, &maps[st->n_maps], err));
  st->n_maps++;
  return read_header(st, path, &maps[st->n_maps - 1], err);
}

/* --- shards ------------------------------------------------------------------------------------
 */

/* Only plain names: an index must not reach outside its folder. */
static bool is_basename(const char *name) {
  return *name && *name != '.' && !strchr(name, '/') && !strchr(name, '\\');
}

static tl_status open_shard(tl_st *st, const char *dir, const char *file, tl_err *err) {
  char *path = tl_path_join(dir, file);
  if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", file);
  tl_status s = open_file(st, path, err);
  free(path);
  return s;
}

/* Keeps of a shard's tensors (from `first` on) those that the index assigns to it. */
static void keep_mapped(tl_st *st, size_t first, const json_t *map, const char *file) {
  size_t n = first;
  for (size_t i = first; i < st->n; i++) {
    const char *owner = json_string_value(json_object_get(map, st->t[i].name));
    if (owner && !strcmp(owner, file)) st->t[n++] = st->t[i];
  }
  st->n = n;
}

static tl_status open_shards(tl_st *st, const char *path, const char *dir, json_t *map,
                             tl_err *err) {
  const char *tensor;
  json_t *file, *seen = json_object();
  tl_status s = seen ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  json_object_foreach(map, tensor, file) {
    const char *name = json_string_value(file);
    if (s != TL_OK) break;
    if (!name || !is_basename(name))
      s = tl_fail(err, TL_DATA, "%s: tensor '%.200s': '%.200s' is not the name of a file beside it",
                  path, tensor, name ? name : "");
    else if (json_object_get(seen, name))
      continue;
    else if (json_object_size(seen) >= MAX_SHARDS)
      s = tl_fail(err, TL_DATA, "%s: more than %d shards", path, MAX_SHARDS);
    else if (json_object_set_new(seen, name, json_true()) != 0)
      s = tl_fail(err, TL_NOMEM, "%s: out of memory", path);
    size_t first = st->n;
    if (s == TL_OK) s = open_shard(st, dir, name, err);
    if (s == TL_OK) keep_mapped(st, first, map, name);
  }
  json_decref(seen);
  if (s == TL_OK && st->n) qsort(st->t, st->n, sizeof *st->t, by_name);
  if (s != TL_OK || st->n == json_object_size(map)) return s;
  json_object_foreach(map, tensor, file) {
    if (!tl_st_find(st, tensor))
      return tl_fail(err, TL_DATA, "%s: tensor '%.200s' is not in %.200s", path, tensor,
                     json_string_value(file));
  }
  return s;
}

static tl_status open_index(tl_st *st, const char *path, tl_err *err) {
  tl_buf text = {0};
  TL_TRY(tl_file_read(path, MAX_INDEX, &text, err));
  json_t *root = NULL;
  tl_status s = tl_json_object(path, text.data, text.len, &root, err);
  json_t *map = json_object_get(root, "weight_map");
  const char *slash = strrchr(path, '/');
  char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
  if (s == TL_OK && !json_is_object(map))
    s = tl_fail(err, TL_DATA, "%s: no object weight_map", path);
  if (s == TL_OK && !dir) s = tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  if (s == TL_OK) s = open_shards(st, path, dir, map, err);
  free(dir);
  json_decref(root);
  tl_buf_free(&text);
  return s;
}

/* --- the interface -----------------------------------------------------------------------------
 */

static tl_status open_folder(tl_st *st, const char *dir, tl_err *err) {
  char *file = tl_path_join(dir, "model.safetensors");
  char *index = tl_path_join(dir, "model.safetensors.index.json");
  tl_status s;
  if (!file || !index)
    s = tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  else if (tl_file_exists(file))
    s = open_file(st, file, err);
  else if (tl_file_exists(index))
    s = open_index(st, index, err);
  else
    s = tl_fail(err, TL_NOINPUT,
                "%s: neither model.safetensors nor model.safetensors.index.json in this folder",
                dir);
  free(file);
  free(index);
  return s;
}

tl_status tl_st_open(const char *path, tl_st **out, tl_err *err) {
  static const char suffix[] = ".index.json";
  size_t n = strlen(path), k = sizeof suffix - 1;
  tl_st *st = calloc(1, sizeof *st);
  if (!st) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  tl_status s;
  if (tl_is_dir(path))
    s = open_folder(st, path, err);
  else if (n > k && !strcmp(path + n - k, suffix))
    s = open_index(st, path, err);
  else
    s = open_file(st, path, err);
  if (s != TL_OK) {
    tl_st_close(st);
    return s;
  }
  if (st->n) qsort(st->t, st->n, sizeof *st->t, by_name);
  *out = st;
  return TL_OK;
}

void tl_st_close(tl_st *st) {
  if (!st) return;
  for (size_t i = 0; i < st->n_maps; i++) tl_map_close(&st->maps[i]);
  json_decref(st->meta);
  free(st->maps);
  free(st->t);
  tl_arena_free(&st->arena);
  free(st);
}

size_t tl_st_count(const tl_st *st) {
  return st->n;
}

const tl_st_tensor *tl_st_at(const tl_st *st, size_t i) {
  return i < st->n ? &st->t[i] : NULL;
}

const tl_st_tensor *tl_st_find(const tl_st *st, const char *name) {
  tl_st_tensor key = {.name = name};
  return st->n ? bsearch(&key, st->t, st->n, sizeof key, by_name) : NULL;
}

const char *tl_st_meta(const tl_st *st, const char *key) {
  return json_string_value(json_object_get(st->meta, key));
}

int64_t tl_st_elements(const tl_st_tensor *t) {
  int64_t n = 1;
  for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
  return n;
}

tl_status tl_st_read_f32(const tl_st_tensor *t, float *out, tl_err *err) {
  const unsigned char *p = t->data;
  size_t n = (size_t)tl_st_elements(t);
  uint16_t h;
  switch (t->dtype) {
  case TL_ST_F32:
    if (n) memcpy(out, p, 4 * n);
    return TL_OK;
  case TL_ST_F64:
    for (size_t i = 0; i < n; i++) {
      double d;
      memcpy(&d, p + 8 * i, 8);
      out[i] = (float)d;
    }
    return TL_OK;
  case TL_ST_BF16:
    for (size_t i = 0; i < n; i++) {
      memcpy(&h, p + 2 * i, 2);
      out[i] = tl_bf16_to_f32(h);
    }
    return TL_OK;
  case TL_ST_F16:
    for (size_t i = 0; i < n; i++) {
      memcpy(&h, p + 2 * i, 2);
      out[i] = tl_half_to_f32(h);
    }
    return TL_OK;
  default:
    return tl_fail(err, TL_DATA, "tensor '%.200s' has dtype %s; expected F32, F64, BF16 or F16",
                   t->name, tl_st_dtype_name(t->dtype));
  }
}
