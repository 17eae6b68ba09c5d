#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "formats/safetensors.h"

enum { ALIGN = 64 };
static const size_t MAX_HEADER = 100000000;

/* Widest types first, so that each tensor is aligned for its type; then by name. */
static int writing_order(const void *a, const void *b) {
  const tl_st_tensor *x = *(const tl_st_tensor *const *)a, *y = *(const tl_st_tensor *const *)b;
  if (x->dtype != y->dtype) return x->dtype > y->dtype ? -1 : 1;
  return strcmp(x->name, y->name);
}

static json_t *describe(const tl_st_tensor *t, uint64_t begin, uint64_t end) {
  json_t *shape = json_array();
  int bad = shape == NULL;
  for (int i = 0; i < t->ndim; i++) bad |= json_array_append_new(shape, json_integer(t->shape[i]));
  json_t *j = json_pack("{s:s, s:O, s:[I, I]}", "dtype", tl_st_dtype_name(t->dtype), "shape", shape,
                        "data_offsets", (json_int_t)begin, (json_int_t)end);
  json_decref(shape);
  if (!bad) return j;
  json_decref(j);
  return NULL;
}

static tl_status add_tensors(json_t *root, const tl_st_tensor **order, size_t n, const char *path,
                             tl_err *err) {
  uint64_t at = 0;
  for (size_t i = 0; i < n; i++) {
    const tl_st_tensor *t = order[i];
    uint64_t size;
    if (t->ndim < 0 || t->ndim > TL_ST_MAX_NDIM ||
        !tl_st_byte_size(t->dtype, t->ndim, t->shape, &size) || size > INT64_MAX - at)
      return tl_fail(err, TL_CONFIG, "%s: tensor '%.200s' has a shape that cannot be written", path,
                     t->name);
    if (json_object_get(root, t->name) || !strcmp(t->name, "__metadata__"))
      return tl_fail(err, TL_CONFIG, "%s: the name '%.200s' is given twice or reserved", path,
                     t->name);
    if (json_object_set_new(root, t->name, describe(t, at, at + size)) != 0)
      return tl_fail(err, TL_CONFIG, "%s: a tensor's name is not UTF-8, or out of memory", path);
    at += size;
  }
  return TL_OK;
}

/* *text: the header, padded so that 8 + its length is a multiple of ALIGN; freed by the caller. */
static tl_status make_header(const char *path, const tl_st_tensor **order, size_t n,
                             const tl_st_pair *meta, size_t n_meta, tl_buf *text, tl_err *err) {
  json_t *root = json_object(), *m = json_object();
  int bad = json_object_set_new(m, "format", json_string("pt"));
  for (size_t i = 0; i < n_meta; i++)
    bad |= json_object_set_new(m, meta[i].key, json_string(meta[i].value));
  bad |= json_object_set_new(root, "__metadata__", m);
  tl_status s = bad ? tl_fail(err, TL_CONFIG, "%s: metadata is not UTF-8, or out of memory", path)
                    : add_tensors(root, order, n, path, err);
  char *dump = s == TL_OK ? json_dumps(root, JSON_COMPACT) : NULL;
  if (s == TL_OK && !dump) s = tl_fail(err, TL_NOMEM, "%s: out of memory for the header", path);
  if (s == TL_OK) {
    tl_buf_puts(text, dump);
    while (!text->oom && (8 + text->len) % ALIGN) tl_buf_putc(text, ' ');
    s = tl_buf_check(text, err);
  }
  if (s == TL_OK && text->len > MAX_HEADER)
    s = tl_fail(err, TL_CONFIG, "%s: the header would exceed the format's limit of %zu bytes", path,
                MAX_HEADER);
  free(dump);
  json_decref(root);
  return s;
}

static tl_status write_file(const char *path, const tl_buf *header, const tl_st_tensor **order,
                            size_t n, uint64_t *size, uint64_t *hash, tl_err *err) {
  tl_out o = {0};
  unsigned char length[8];
  for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header->len >> 8 * i);
  tl_status s = tl_out_open(path, &o, err);
  if (s == TL_OK) s = tl_out_write(&o, length, 8, err);
  if (s == TL_OK) s = tl_out_write(&o, header->data, header->len, err);
  for (size_t i = 0; i < n && s == TL_OK; i++) {
    uint64_t bytes = 0;
    tl_st_byte_size(order[i]->dtype, order[i]->ndim, order[i]->shape, &bytes);
    s = tl_out_write(&o, order[i]->data, (size_t)bytes, err);
  }
  if (s == TL_OK && size) *size = o.size;
  if (s == TL_OK) s = tl_out_commit(&o, hash, err);
  tl_out_abort(&o);
  return s;
}

tl_status tl_st_write(const char *path, const tl_st_tensor *t, size_t n, const tl_st_pair *meta,
                      size_t n_meta, uint64_t *size, uint64_t *hash, tl_err *err) {
  tl_buf header = {0}, tmp = {0};
  const tl_st_tensor **order = calloc(n + 1, sizeof *order);
  tl_buf_printf(&tmp, "%s.tmp-%ld", path, (long)getpid());
  tl_status s = order ? tl_buf_check(&tmp, err) : tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  for (size_t i = 0; s == TL_OK && i < n; i++) order[i] = &t[i];
  if (s == TL_OK && n) qsort(order, n, sizeof *order, writing_order);
  if (s == TL_OK) s = make_header(path, order, n, meta, n_meta, &header, err);
  if (s == TL_OK) s = write_file(tmp.data, &header, order, n, size, hash, err);
  if (s == TL_OK) s = tl_file_rename(tmp.data, path, err);
  free(order);
  tl_buf_free(&header);
  tl_buf_free(&tmp);
  return s;
}
