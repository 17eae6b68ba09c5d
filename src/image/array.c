/* IDX and NPY: an array's header, checked against the bytes that follow. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/build.h"

static tl_status finish(const char *name, const uint8_t *data, size_t left, tl_array *a,
                        tl_err *err) {
  a->n = 1;
  for (int i = 0; i < a->ndim; i++)
    if (__builtin_mul_overflow(a->n, a->shape[i], &a->n))
      return tl_fail(err, TL_DATA, "%s: the shape overflows", name);
  size_t bytes;
  if (__builtin_mul_overflow(a->n, a->item, &bytes) || bytes != left)
    return tl_fail(err, TL_DATA,
                   "%s: the header describes %zu elements of %zu bytes, but %zu bytes follow it",
                   name, a->n, a->item, left);
  a->data = data;
  return TL_OK;
}

tl_status tl_array_idx(const char *name, const uint8_t *p, size_t n, tl_array *a, tl_err *err) {
  static const struct {
    uint8_t code;
    char type;
    size_t item;
  } types[] = {{8, 'u', 1}, {9, 'i', 1}, {11, 'i', 2}, {12, 'i', 4}, {13, 'f', 4}, {14, 'f', 8}};
  *a = (tl_array){.big_endian = true};
  if (n < 4 || p[0] || p[1])
    return tl_fail(err, TL_DATA, "%s: not IDX: it begins with two zero bytes, type and axes", name);
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    if (types[i].code == p[2]) {
      a->type = types[i].type;
      a->item = types[i].item;
    }
  if (!a->item) return tl_fail(err, TL_DATA, "%s: IDX type 0x%02x is unknown", name, p[2]);
  a->ndim = p[3];
  if (a->ndim < 1 || a->ndim > 4)
    return tl_fail(err, TL_DATA, "%s: %d axes; expected 1 to 4", name, a->ndim);
  size_t head = 4 + 4 * (size_t)a->ndim;
  if (n < head) return tl_fail(err, TL_DATA, "%s: truncated in its header", name);
  for (int i = 0; i < a->ndim; i++) {
    const uint8_t *q = p + 4 + 4 * i;
    a->shape[i] = (size_t)q[0] << 24 | (size_t)q[1] << 16 | (size_t)q[2] << 8 | q[3];
  }
  return finish(name, p + head, n - head, a, err);
}

/* Behind "'key':" in a dictionary literal; NULL if the key is absent. */
static const char *value_of(const char *dict, const char *key) {
  char quoted[32];
  snprintf(quoted, sizeof quoted, "'%s':", key);
  const char *at = strstr(dict, quoted);
  if (!at) return NULL;
  at += strlen(quoted);
  while (*at == ' ') at++;
  return at;
}

static bool read_shape(const char *at, tl_array *a) {
  if (!at || *at++ != '(') return false;
  for (;;) {
    while (*at == ' ') at++;
    if (*at == ')') return true;
    if (!isdigit((unsigned char)*at) || a->ndim == 4) return false;
    char *end;
    unsigned long long v = strtoull(at, &end, 10);
    if (v > SIZE_MAX / 2) return false;
    a->shape[a->ndim++] = (size_t)v;
    for (at = end; *at == ' ' || *at == 'L';) at++;
    if (*at == ',')
      at++;
    else if (*at != ')')
      return false;
  }
}

static tl_status read_dict(const char *name, const char *dict, tl_array *a, tl_err *err) {
  const char *descr = value_of(dict, "descr"), *order = value_of(dict, "fortran_order");
  if (!descr || *descr != '\'' || !order || !read_shape(value_of(dict, "shape"), a))
    return tl_fail(err, TL_DATA,
                   "%s: a header without simple descr, fortran_order and shape (at most 4 axes)",
                   name);
  if (!strncmp(order, "True", 4))
    return tl_fail(err, TL_DATA, "%s: columns first (fortran_order); expected C order", name);
  char end = descr[1], type = descr[2], size = descr[3];
  a->type = type;
  a->big_endian = end == '>';
  a->item = size >= '1' && size <= '8' ? (size_t)(size - '0') : 0;
  bool whole = (type == 'u' || type == 'i') && strchr("1248", size);
  bool real = type == 'f' && strchr("48", size);
  bool boolean = type == 'b' && size == '1';
  if (!strchr("<>|=", end) || descr[4] != '\'' || !(whole || real || boolean))
    return tl_fail(err, TL_DATA,
                   "%s: elements of type %.16s; expected u1 to u8, i1 to i8, f4, f8, b1", name,
                   descr);
  return TL_OK;
}

tl_status tl_array_npy(const char *name, const uint8_t *p, size_t n, tl_array *a, tl_err *err) {
  *a = (tl_array){0};
  if (n < 10 || memcmp(p, "\x93NUMPY", 6))
    return tl_fail(err, TL_DATA, "%s: not NPY, or truncated", name);
  size_t at = p[6] == 1 ? 10 : 12, len = (size_t)p[8] | (size_t)p[9] << 8;
  if (p[6] < 1 || p[6] > 3) return tl_fail(err, TL_DATA, "%s: NPY version %d", name, p[6]);
  if (n < at) return tl_fail(err, TL_DATA, "%s: truncated in its header", name);
  if (p[6] > 1) len |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
  if (len > n - at || len > 1 << 16)
    return tl_fail(err, TL_DATA, "%s: a header of %zu bytes in a file of %zu", name, len, n);
  char *dict = strndup((const char *)p + at, len);
  if (!dict) return tl_fail(err, TL_NOMEM, "%s: out of memory", name);
  tl_status s = read_dict(name, dict, a, err);
  free(dict);
  return s == TL_OK ? finish(name, p + at + len, n - at - len, a, err) : s;
}

double tl_array_at(const tl_array *a, size_t i) {
  const uint8_t *p = a->data + i * a->item;
  uint64_t v = 0;
  for (size_t k = 0; k < a->item; k++)
    v |= (uint64_t)p[a->big_endian ? a->item - 1 - k : k] << (8 * k);
  if (a->type == 'f' && a->item == 4) {
    uint32_t bits = (uint32_t)v;
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
  }
  if (a->type == 'f') {
    double f;
    memcpy(&f, &v, sizeof f);
    return f;
  }
  if (a->type != 'i') return (double)v;
  unsigned shift = 64 - 8 * (unsigned)a->item;
  return (double)((int64_t)(v << shift) >> shift);
}

/* --- pictures ----------------------------------------------------------------------------------
 */

static tl_status read_classes(const char *name, const tl_array *y, size_t n, int32_t **out,
                              tl_err *err) {
  if (y->n != n || y->ndim > 2 || (y->ndim == 2 && y->shape[1] != 1) || y->type == 'f')
    return tl_fail(err, TL_DATA,
                   "%s: %zu labels for %zu pictures; expected whole numbers, one each", name, y->n,
                   n);
  int32_t *class = malloc((n + 1) * sizeof *class);
  if (!class) return tl_fail(err, TL_NOMEM, "%s: out of memory", name);
  for (size_t i = 0; i < n; i++) {
    double v = tl_array_at(y, i);
    if (v < 0 || v > 65535) {
      free(class);
      return tl_fail(err, TL_DATA, "%s: label %.0f of picture %zu; expected 0 to 65535", name, v,
                     i);
    }
    class[i] = (int32_t)v;
  }
  *out = class;
  return TL_OK;
}

/* A sample as 8 bits: 16 bits and floats in 0 .. 1 are rounded. */
static uint8_t to_u8(const tl_array *a, size_t i) {
  double v = tl_array_at(a, i);
  if (a->type == 'f') v *= 255;
  if (a->type == 'u' && a->item == 2) v *= 255.0 / 65535;
  if (a->type == 'b') v *= 255;
  return (uint8_t)(v > 0 ? v < 255 ? v + 0.5 : 255 : 0); /* a NaN is 0 */
}

static uint8_t *to_pixels(const tl_array *x, size_t n, const tl_image *m, bool planes) {
  size_t c = (size_t)m->channels, hw = (size_t)m->width * (size_t)m->height;
  uint8_t *out = malloc(x->n);
  if (out && !planes && x->type == 'u' && x->item == 1) return memcpy(out, x->data, x->n);
  for (size_t i = 0; out && i < n; i++)
    for (size_t k = 0; k < c; k++)
      for (size_t p = 0; p < hw; p++)
        out[(i * hw + p) * c + k] = to_u8(x, i * hw * c + (planes ? k * hw + p : p * c + k));
  return out;
}

tl_status tl_image_add_arrays(tl_image_builder *b, const char *name, const tl_array *x,
                              const char *label_name, const tl_array *y, tl_err *err) {
  tl_image_limits l = tl_image_limits_of(&b->o->limits);
  bool planes = x->ndim == 4 && x->shape[1] == 3 && x->shape[3] != 3 && x->shape[3] != 1;
  size_t c = x->ndim == 3 ? 1 : x->shape[planes ? 1 : 3];
  bool type = (x->type == 'u' && x->item <= 2) || x->type == 'f' || x->type == 'b';
  if (x->ndim < 3 || (c != 1 && c != 3) || !type)
    return tl_fail(err, TL_DATA,
                   "%s: expected pictures [n, height, width], with 1 or 3 channels behind, of 8 or "
                   "16 bits or floats",
                   name);
  if (x->shape[0] == 0) return tl_fail(err, TL_DATA, "%s: no pictures", name);
  tl_image m;
  TL_TRY(tl_image_check_size(x->shape[planes ? 3 : 2], x->shape[planes ? 2 : 1], (int32_t)c, name,
                             &l, &m, err));
  int32_t *class = NULL;
  if (y) TL_TRY(read_classes(label_name, y, x->shape[0], &class, err));
  uint8_t *pixels = to_pixels(x, x->shape[0], &m, planes);
  tl_status s = pixels ? tl_image_keep(b, pixels, err)
                       : tl_fail(err, TL_NOMEM, "%s: out of memory for %zu bytes", name, x->n);
  if (s == TL_OK) s = tl_image_add_block(b, pixels, x->shape[0], &m, class, err);
  free(class);
  return s;
}
