#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/half.h"
#include "tilth/gguf.h"

enum { VERSION = 3, CHUNK = 8192 }; /* elements converted at a time, a multiple of Q8_0's block */

typedef struct item {
  char name[TL_GGUF_MAX_NAME + 1];
  tl_ggml_type type;
  int ndim;
  int64_t shape[TL_GGUF_MAX_NDIM]; /* row-major */
  const float *data;               /* borrowed, or owned */
  float *owned;
} item;

struct tl_gguf_writer {
  tl_buf kv;
  uint64_t n_kv;
  item *item;
  size_t n, cap;
  bool oom;
};

tl_gguf_writer *tl_gguf_writer_new(void) {
  return calloc(1, sizeof(tl_gguf_writer));
}

static void put_le(tl_buf *b, uint64_t v, int bytes) {
  for (int i = 0; i < bytes; i++) tl_buf_putc(b, (char)(v >> 8 * i & 0xFF));
}

static void put_str(tl_buf *b, const char *s) {
  size_t n = strlen(s);
  put_le(b, n, 8);
  tl_buf_append(b, s, n);
}

static tl_buf *begin_value(tl_gguf_writer *w, const char *key, tl_gguf_kind kind) {
  w->n_kv++;
  put_str(&w->kv, key);
  put_le(&w->kv, kind, 4);
  return &w->kv;
}

static tl_buf *begin_array(tl_gguf_writer *w, const char *key, tl_gguf_kind elem, size_t n) {
  tl_buf *b = begin_value(w, key, TL_GGUF_ARRAY);
  put_le(b, elem, 4);
  put_le(b, n, 8);
  return b;
}

void tl_gguf_put_u32(tl_gguf_writer *w, const char *key, uint32_t v) {
  put_le(begin_value(w, key, TL_GGUF_U32), v, 4);
}

void tl_gguf_put_f32(tl_gguf_writer *w, const char *key, float v) {
  tl_buf_append(begin_value(w, key, TL_GGUF_F32), &v, 4);
}

void tl_gguf_put_bool(tl_gguf_writer *w, const char *key, bool v) {
  put_le(begin_value(w, key, TL_GGUF_BOOL), v, 1);
}

void tl_gguf_put_string(tl_gguf_writer *w, const char *key, const char *s) {
  put_str(begin_value(w, key, TL_GGUF_STRING), s);
}

void tl_gguf_put_strings(tl_gguf_writer *w, const char *key, const char *const *s, size_t n) {
  tl_buf *b = begin_array(w, key, TL_GGUF_STRING, n);
  for (size_t i = 0; i < n; i++) put_str(b, s[i]);
}

void tl_gguf_put_i32s(tl_gguf_writer *w, const char *key, const int32_t *v, size_t n) {
  tl_buf_append(begin_array(w, key, TL_GGUF_I32, n), v, n * sizeof *v);
}

void tl_gguf_put_f32s(tl_gguf_writer *w, const char *key, const float *v, size_t n) {
  tl_buf_append(begin_array(w, key, TL_GGUF_F32, n), v, n * sizeof *v);
}

void tl_gguf_add(tl_gguf_writer *w, const char *name, tl_ggml_type type, int ndim,
                 const int64_t *shape, const float *data, float *owned) {
  if (w->n == w->cap) {
    size_t cap = w->cap ? 2 * w->cap : 64;
    item *bigger = realloc(w->item, cap * sizeof *bigger);
    if (!bigger) {
      w->oom = true;
      free(owned);
      return;
    }
    w->item = bigger;
    w->cap = cap;
  }
  item *t = &w->item[w->n++];
  *t = (item){.type = type, .ndim = ndim, .data = data, .owned = owned};
  /* One longer than allowed is found when the file is written. */
  if (strlen(name) <= TL_GGUF_MAX_NAME) snprintf(t->name, sizeof t->name, "%s", name);
  for (int i = 0; i < ndim && i < TL_GGUF_MAX_NDIM; i++) t->shape[i] = shape[i];
}

void tl_gguf_writer_free(tl_gguf_writer *w) {
  if (!w) return;
  for (size_t i = 0; i < w->n; i++) free(w->item[i].owned);
  free(w->item);
  tl_buf_free(&w->kv);
  free(w);
}

static int64_t elements(const item *t) {
  int64_t n = 1;
  for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
  return n;
}

static uint64_t bytes_of(tl_ggml_type type, int64_t n) {
  switch (type) {
  case TL_GGML_Q8_0:
    return (uint64_t)n / TL_GGUF_Q8_BLOCK * (2 + TL_GGUF_Q8_BLOCK);
  case TL_GGML_F32:
    return 4 * (uint64_t)n;
  default:
    return 2 * (uint64_t)n;
  }
}

static uint64_t padded(uint64_t n) {
  return (n + TL_GGUF_ALIGN - 1) / TL_GGUF_ALIGN * TL_GGUF_ALIGN;
}

static tl_status check(const item *t, const char *path, tl_err *err) {
  if (!*t->name || t->ndim < 1 || t->ndim > TL_GGUF_MAX_NDIM)
    return tl_fail(err, TL_CONFIG, "%s: a tensor has no name, one of over %d bytes, or %d axes",
                   path, TL_GGUF_MAX_NAME, t->ndim);
  if (t->type == TL_GGML_Q8_0 && t->shape[t->ndim - 1] % TL_GGUF_Q8_BLOCK)
    return tl_fail(err, TL_CONFIG, "%s: Q8_0 needs rows of a multiple of %d; %s has %lld", path,
                   TL_GGUF_Q8_BLOCK, t->name, (long long)t->shape[t->ndim - 1]);
  return TL_OK;
}

static tl_status make_head(const tl_gguf_writer *w, const char *path, tl_buf *b, tl_err *err) {
  uint64_t at = 0;
  tl_buf_puts(b, "GGUF");
  put_le(b, VERSION, 4);
  put_le(b, w->n, 8);
  put_le(b, w->n_kv, 8);
  tl_buf_append(b, w->kv.data, w->kv.len);
  for (size_t i = 0; i < w->n; i++) {
    const item *t = &w->item[i];
    TL_TRY(check(t, path, err));
    put_str(b, t->name);
    put_le(b, (uint64_t)t->ndim, 4);
    for (int d = t->ndim - 1; d >= 0; d--) put_le(b, (uint64_t)t->shape[d], 8);
    put_le(b, t->type, 4);
    put_le(b, at, 8);
    at += padded(bytes_of(t->type, elements(t)));
  }
  while (!b->oom && b->len % TL_GGUF_ALIGN) tl_buf_putc(b, 0);
  b->oom |= w->oom || w->kv.oom;
  return tl_buf_check(b, err);
}

/* Blocks of 32: the scale in half precision, then the values as multiples of it. */
static void quantize(const float *x, int64_t n, unsigned char *out) {
  for (int64_t b = 0; b < n; b += TL_GGUF_Q8_BLOCK) {
    float largest = 0;
    for (int i = 0; i < TL_GGUF_Q8_BLOCK; i++) largest = fmaxf(largest, fabsf(x[b + i]));
    float scale = largest / 127, inverse = scale > 0 ? 1 / scale : 0;
    uint16_t h = tl_f32_to_half(scale);
    memcpy(out, &h, 2);
    for (int i = 0; i < TL_GGUF_Q8_BLOCK; i++)
      out[2 + i] = (unsigned char)(signed char)roundf(x[b + i] * inverse);
    out += 2 + TL_GGUF_Q8_BLOCK;
  }
}

static void convert(tl_ggml_type type, const float *x, int64_t n, void *out) {
  uint16_t *half = out;
  if (type == TL_GGML_Q8_0) quantize(x, n, out);
  if (type == TL_GGML_F16)
    for (int64_t i = 0; i < n; i++) half[i] = tl_f32_to_half(x[i]);
  if (type == TL_GGML_BF16)
    for (int64_t i = 0; i < n; i++) half[i] = tl_f32_to_bf16(x[i]);
}

static tl_status write_tensor(tl_out *o, const item *t, tl_err *err) {
  static const char zero[TL_GGUF_ALIGN];
  uint16_t chunk[CHUNK];
  int64_t n = elements(t);
  uint64_t size = bytes_of(t->type, n);
  if (t->type == TL_GGML_F32) {
    TL_TRY(tl_out_write(o, t->data, (size_t)size, err));
  } else {
    for (int64_t i = 0; i < n; i += CHUNK) {
      int64_t k = n - i < CHUNK ? n - i : CHUNK;
      convert(t->type, t->data + i, k, chunk);
      TL_TRY(tl_out_write(o, chunk, (size_t)bytes_of(t->type, k), err));
    }
  }
  return tl_out_write(o, zero, (size_t)(padded(size) - size), err);
}

tl_status tl_gguf_write(const tl_gguf_writer *w, const char *path, uint64_t *size, tl_err *err) {
  tl_buf head = {0}, tmp = {0};
  tl_out o = {0};
  tl_buf_printf(&tmp, "%s.tmp-%ld", path, (long)getpid());
  tl_status s = tl_buf_check(&tmp, err);
  if (s == TL_OK) s = make_head(w, path, &head, err);
  if (s == TL_OK) s = tl_out_open(tmp.data, &o, err);
  if (s == TL_OK) s = tl_out_write(&o, head.data, head.len, err);
  for (size_t i = 0; s == TL_OK && i < w->n; i++) s = write_tensor(&o, &w->item[i], err);
  if (s == TL_OK && size) *size = o.size;
  if (s == TL_OK) s = tl_out_commit(&o, NULL, err);
  tl_out_abort(&o);
  if (s == TL_OK) s = tl_file_rename(tmp.data, path, err);
  tl_buf_free(&head);
  tl_buf_free(&tmp);
  return s;
}
