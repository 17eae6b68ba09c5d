#include "tilth/gguf.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/file.h"
#include "formats/gguf_blocks.h"

/* Far above what models have, far below what would cost memory. */
static const uint64_t MAX_KV = 100000, MAX_TENSORS = 1000000, MAX_STRING = 64 << 20,
                      MAX_ALIGN = 1 << 16;

struct tl_gguf_map {
  tl_map map;
};

typedef struct cursor {
  const char *path;
  const unsigned char *data;
  uint64_t size, at;
} cursor;

static const uint8_t kind_bytes[TL_GGUF_N_KINDS] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static tl_status bad(const cursor *c, const char *what, tl_err *err) {
  return tl_fail(err, TL_DATA, "%s: offset %llu: %s", c->path, (unsigned long long)c->at, what);
}

static uint64_t le(const unsigned char *p, int bytes) {
  uint64_t v = 0;
  for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << 8 * i;
  return v;
}

static tl_status take(cursor *c, int bytes, uint64_t *v, tl_err *err) {
  *v = 0;
  if (c->size - c->at < (uint64_t)bytes) return bad(c, "the file ends inside its header", err);
  *v = le(c->data + c->at, bytes);
  c->at += (uint64_t)bytes;
  return TL_OK;
}

static tl_status take_string(cursor *c, tl_gguf_str *out, tl_err *err) {
  uint64_t n;
  TL_TRY(take(c, 8, &n, err));
  if (n > MAX_STRING) return bad(c, "a string of over 64 MiB", err);
  if (n > c->size - c->at) return bad(c, "a string runs past the end of the file", err);
  *out = (tl_gguf_str){(const char *)c->data + c->at, n};
  c->at += n;
  return TL_OK;
}

/* The value's bytes are left where they are; strings are walked so that reading them is safe. */
static tl_status take_value(cursor *c, tl_gguf_kv *kv, tl_err *err) {
  uint64_t kind, elem;
  kv->n = 1;
  TL_TRY(take(c, 4, &kind, err));
  if (kind >= TL_GGUF_N_KINDS) return bad(c, "an unknown type of value", err);
  elem = kind;
  if (kind == TL_GGUF_ARRAY) {
    TL_TRY(take(c, 4, &elem, err));
    if (elem >= TL_GGUF_N_KINDS || elem == TL_GGUF_ARRAY)
      return bad(c, "an array of an unknown type, or of arrays", err);
    TL_TRY(take(c, 8, &kv->n, err));
  }
  kv->kind = (tl_gguf_kind)kind;
  kv->elem = (tl_gguf_kind)elem;
  kv->data = c->data + c->at;
  uint64_t begin = c->at, bytes = kind_bytes[elem];
  if (elem == TL_GGUF_STRING) {
    tl_gguf_str s;
    for (uint64_t i = 0; i < kv->n; i++) TL_TRY(take_string(c, &s, err));
  } else {
    if (kv->n > (c->size - c->at) / bytes) return bad(c, "an array runs past the end", err);
    c->at += kv->n * bytes;
  }
  kv->size = c->at - begin;
  for (uint64_t i = 0; elem == TL_GGUF_BOOL && i < kv->n; i++)
    if (kv->data[i] > 1) return bad(c, "a truth value that is neither 0 nor 1", err);
  return TL_OK;
}

static int compare_strings(tl_gguf_str a, tl_gguf_str b) {
  size_t n = (size_t)(a.n < b.n ? a.n : b.n);
  int order = n ? memcmp(a.s, b.s, n) : 0;
  return order ? order : a.n < b.n ? -1 : a.n > b.n;
}

static int by_name(const void *a, const void *b) {
  return compare_strings(*(const tl_gguf_str *)a, *(const tl_gguf_str *)b);
}

/* names: [n], sorted here. */
static tl_status check_unique(const cursor *c, tl_gguf_str *names, size_t n, tl_err *err) {
  if (n) qsort(names, n, sizeof *names, by_name);
  for (size_t i = 1; i < n; i++)
    if (!compare_strings(names[i - 1], names[i]))
      return tl_fail(err, TL_DATA, "%s: the name '%.*s' occurs twice", c->path,
                     (int)(names[i].n < 100 ? names[i].n : 100), names[i].s);
  return TL_OK;
}

static tl_status take_keys(cursor *c, tl_gguf *g, uint64_t n, tl_err *err) {
  /* A key takes at least 13 bytes: what cannot be there is not allocated. */
  if (n > MAX_KV || n > (c->size - c->at) / 13) return bad(c, "more keys than it can hold", err);
  g->kv = calloc((size_t)n + 1, sizeof *g->kv);
  tl_gguf_str *names = calloc((size_t)n + 1, sizeof *names);
  tl_status s = g->kv && names ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", c->path);
  for (; s == TL_OK && g->n_kv < n; g->n_kv++) {
    tl_gguf_kv *kv = &g->kv[g->n_kv];
    s = take_string(c, &kv->key, err);
    if (s == TL_OK && (kv->key.n == 0 || kv->key.n > 65535))
      s = bad(c, "a key of 0 or over 65535 bytes", err);
    if (s == TL_OK) s = take_value(c, kv, err);
    names[g->n_kv] = kv->key;
  }
  if (s == TL_OK) s = check_unique(c, names, g->n_kv, err);
  free(names);
  return s;
}

static tl_status take_tensor(cursor *c, tl_gguf_tensor *t, uint64_t *offset, tl_err *err) {
  uint64_t v, count = 1;
  TL_TRY(take_string(c, &t->name, err));
  if (t->name.n == 0 || t->name.n > TL_GGUF_MAX_NAME)
    return bad(c, "a tensor's name of 0 or over 63 bytes", err);
  TL_TRY(take(c, 4, &v, err));
  if (v < 1 || v > TL_GGUF_MAX_NDIM) return bad(c, "a tensor with 0 or over 4 axes", err);
  t->ndim = (int)v;
  for (int i = t->ndim - 1; i >= 0; i--) {
    TL_TRY(take(c, 8, &v, err));
    if (v > INT64_MAX || __builtin_mul_overflow(count, v, &count))
      return bad(c, "a tensor's size overflows", err);
    t->shape[i] = (int64_t)v;
  }
  TL_TRY(take(c, 4, &v, err));
  const tl_ggml_block *block = tl_ggml_find((int64_t)v);
  if (!block) return bad(c, "an unknown type of tensor", err);
  t->type = block->type;
  if ((uint64_t)t->shape[t->ndim - 1] % block->elements)
    return bad(c, "a row that is not a multiple of its type's block", err);
  if (__builtin_mul_overflow(count / block->elements, block->bytes, &t->size))
    return bad(c, "a tensor's size overflows", err);
  return take(c, 8, offset, err);
}

static tl_status alignment(const cursor *c, const tl_gguf *g, uint64_t *align, tl_err *err) {
  const tl_gguf_kv *kv = tl_gguf_find(g, "general.alignment");
  *align = TL_GGUF_ALIGN;
  if (!kv) return TL_OK;
  if (kv->kind != TL_GGUF_U32) return bad(c, "general.alignment is not a u32", err);
  *align = le(kv->data, 4);
  if (*align < 8 || *align > MAX_ALIGN || (*align & (*align - 1)))
    return bad(c, "general.alignment is not a power of two from 8 to 65536", err);
  return TL_OK;
}

/* Tensors lie one behind another, each padded to the alignment, as the format demands. */
static tl_status place_tensors(cursor *c, tl_gguf *g, const uint64_t *offset, uint64_t align,
                               tl_err *err) {
  uint64_t at = 0, begin = (c->at + align - 1) / align * align;
  if (g->n_tensors && begin > c->size) return bad(c, "the file ends before its tensors", err);
  for (size_t i = 0; i < g->n_tensors; i++) {
    tl_gguf_tensor *t = &g->tensor[i];
    if (offset[i] != at)
      return tl_fail(err, TL_DATA, "%s: tensor '%.*s' lies at %llu of the data, expected %llu",
                     c->path, (int)t->name.n, t->name.s, (unsigned long long)offset[i],
                     (unsigned long long)at);
    if (at > c->size - begin || t->size > c->size - begin - at)
      return tl_fail(err, TL_DATA, "%s: tensor '%.*s' runs past the end of the file", c->path,
                     (int)t->name.n, t->name.s);
    t->data = c->data + begin + at;
    at += (t->size + align - 1) / align * align; /* size <= the file's: no overflow */
  }
  return TL_OK;
}

static tl_status take_tensors(cursor *c, tl_gguf *g, uint64_t n, tl_err *err) {
  uint64_t align;
  TL_TRY(alignment(c, g, &align, err));
  /* A tensor's description takes at least 33 bytes. */
  if (n > MAX_TENSORS || n > (c->size - c->at) / 33)
    return bad(c, "more tensors than it can hold", err);
  g->tensor = calloc((size_t)n + 1, sizeof *g->tensor);
  uint64_t *offset = calloc((size_t)n + 1, sizeof *offset);
  tl_gguf_str *names = calloc((size_t)n + 1, sizeof *names);
  tl_status s =
      g->tensor && offset && names ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", c->path);
  for (; s == TL_OK && g->n_tensors < n; g->n_tensors++) {
    s = take_tensor(c, &g->tensor[g->n_tensors], &offset[g->n_tensors], err);
    names[g->n_tensors] = g->tensor[g->n_tensors].name;
  }
  if (s == TL_OK) s = check_unique(c, names, g->n_tensors, err);
  if (s == TL_OK) s = place_tensors(c, g, offset, align, err);
  free(offset);
  free(names);
  return s;
}

static tl_status read_all(cursor *c, tl_gguf *g, tl_err *err) {
  uint64_t version, n_tensors, n_kv;
  if (c->size < 4 || memcmp(c->data, "GGUF", 4)) return bad(c, "it does not begin with GGUF", err);
  c->at = 4;
  TL_TRY(take(c, 4, &version, err));
  if (version < 2 || version > 3)
    return tl_fail(err, TL_DATA, "%s: GGUF version %llu; supported are 2 and 3", c->path,
                   (unsigned long long)version);
  g->version = (uint32_t)version;
  TL_TRY(take(c, 8, &n_tensors, err));
  TL_TRY(take(c, 8, &n_kv, err));
  TL_TRY(take_keys(c, g, n_kv, err));
  return take_tensors(c, g, n_tensors, err);
}

tl_status tl_gguf_open(const char *path, tl_gguf *out, tl_err *err) {
  *out = (tl_gguf){.map = calloc(1, sizeof *out->map)};
  if (!out->map) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  tl_status s = tl_map_open(path, &out->map->map, err);
  cursor c = {path, out->map->map.data, out->map->map.size, 0};
  if (s == TL_OK) s = read_all(&c, out, err);
  if (s != TL_OK) tl_gguf_close(out);
  return s;
}

bool tl_gguf_is_file(const char *path) {
  static const char end[] = ".gguf";
  tl_map map;
  struct stat st;
  size_t n = strlen(path), k = sizeof end - 1;
  if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return false;
  if (n > k && !strcmp(path + n - k, end)) return true;
  if (tl_map_open(path, &map, NULL) != TL_OK) return false;
  bool begins = map.size >= 4 && !memcmp(map.data, "GGUF", 4);
  tl_map_close(&map);
  return begins;
}

void tl_gguf_close(tl_gguf *g) {
  if (g->map) tl_map_close(&g->map->map);
  free(g->map);
  free(g->kv);
  free(g->tensor);
  *g = (tl_gguf){0};
}

bool tl_gguf_is(tl_gguf_str s, const char *name) {
  return s.n == strlen(name) && !memcmp(s.s, name, (size_t)s.n);
}

const tl_gguf_kv *tl_gguf_find(const tl_gguf *g, const char *key) {
  for (size_t i = 0; i < g->n_kv; i++)
    if (tl_gguf_is(g->kv[i].key, key)) return &g->kv[i];
  return NULL;
}

const tl_gguf_tensor *tl_gguf_find_tensor(const tl_gguf *g, const char *name) {
  for (size_t i = 0; i < g->n_tensors; i++)
    if (tl_gguf_is(g->tensor[i].name, name)) return &g->tensor[i];
  return NULL;
}

tl_gguf_str tl_gguf_string(const tl_gguf_kv *kv, uint64_t i) {
  const unsigned char *p = kv->data;
  for (; i > 0; i--) p += 8 + le(p, 8);
  return (tl_gguf_str){(const char *)p + 8, le(p, 8)};
}

tl_gguf_str tl_gguf_next_string(const tl_gguf_kv *kv, tl_gguf_str s) {
  const unsigned char *p = s.s ? (const unsigned char *)s.s + s.n : kv->data;
  return (tl_gguf_str){(const char *)p + 8, le(p, 8)};
}

double tl_gguf_number(const tl_gguf_kv *kv, uint64_t i) {
  int bytes = kind_bytes[kv->elem];
  uint64_t v = le(kv->data + i * (uint64_t)bytes, bytes);
  float f;
  double d;
  uint32_t low = (uint32_t)v;
  switch (kv->elem) {
  case TL_GGUF_F32:
    memcpy(&f, &low, 4);
    return (double)f;
  case TL_GGUF_F64:
    memcpy(&d, &v, 8);
    return d;
  case TL_GGUF_I8:
    return (int8_t)v;
  case TL_GGUF_I16:
    return (int16_t)v;
  case TL_GGUF_I32:
    return (int32_t)v;
  case TL_GGUF_I64:
    return (double)(int64_t)v;
  default:
    return (double)v;
  }
}

tl_status tl_gguf_read_f32(const tl_gguf_tensor *t, float *out, tl_err *err) {
  const tl_ggml_block *block = tl_ggml_find(t->type);
  size_t n = 1;
  for (int i = 0; i < t->ndim; i++) n *= (size_t)t->shape[i];
  if (t->type == TL_GGML_F32) {
    if (n) memcpy(out, t->data, 4 * n);
    return TL_OK;
  }
  if (!block || !block->unpack)
    return tl_fail(err, TL_DATA,
                   "tensor '%.*s' has type %s; expected F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K or "
                   "Q6_K",
                   (int)t->name.n, t->name.s, tl_ggml_name(t->type));
  const unsigned char *p = t->data;
  for (size_t i = 0; i < n; i += block->elements, p += block->bytes) block->unpack(p, out + i);
  return TL_OK;
}
