#include "tilth/npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/half.h"
#include "formats/npy.h"

enum { PRELUDE = 10, ALIGN = 64 };
static const char MAGIC[] = "\x93NUMPY";

/* Version 1.0: magic, two bytes of version, a length, and a Python dictionary padded with blanks to
 * a multiple of 64 bytes, the last of them a newline. */
size_t tl_npy_header(char out[TL_NPY_HEADER], int ndim, const int64_t *shape) {
  char sizes[TL_NPY_MAX_NDIM * 24] = "";
  size_t at = 0;
  for (int i = 0; i < ndim; i++)
    at += (size_t)snprintf(sizes + at, sizeof sizes - at, "%lld%s", (long long)shape[i],
                           ndim == 1      ? ","
                           : i + 1 < ndim ? ", "
                                          : "");
  memset(out, ' ', TL_NPY_HEADER);
  memcpy(out, "\x93NUMPY\x01\x00", 8);
  int n = snprintf(out + PRELUDE, TL_NPY_HEADER - PRELUDE,
                   "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", sizes);
  out[PRELUDE + n] = ' ';
  size_t total = (PRELUDE + (size_t)n + 1 + ALIGN - 1) / ALIGN * ALIGN, rest = total - PRELUDE;
  out[total - 1] = '\n';
  out[8] = (char)(rest & 0xFF);
  out[9] = (char)(rest >> 8);
  return total;
}

tl_status tl_npy_write(const char *path, const float *data, size_t rows, size_t cols, tl_err *err) {
  char head[TL_NPY_HEADER];
  const int64_t shape[] = {(int64_t)rows, (int64_t)cols};
  tl_out out = {0};
  tl_status s = tl_out_open(path, &out, err);
  if (s == TL_OK) s = tl_out_write(&out, head, tl_npy_header(head, 2, shape), err);
  if (s == TL_OK) s = tl_out_write(&out, data, rows * cols * sizeof *data, err);
  if (s == TL_OK) s = tl_out_commit(&out, NULL, err);
  if (s != TL_OK) tl_out_abort(&out);
  return s;
}

/* --- reading -----------------------------------------------------------------------------------
 */

typedef struct cursor {
  const char *what, *p, *end;
} cursor;

static tl_status bad(const cursor *c, const char *why, tl_err *err) {
  return tl_fail(err, TL_DATA, "%s: %s in the header of the array", c->what, why);
}

static void blanks(cursor *c) {
  while (c->p < c->end && (*c->p == ' ' || *c->p == '\n')) c->p++;
}

static bool next_is(cursor *c, const char *s) {
  size_t n = strlen(s);
  blanks(c);
  if ((size_t)(c->end - c->p) < n || memcmp(c->p, s, n)) return false;
  c->p += n;
  return true;
}

static tl_status quoted(cursor *c, char *out, size_t room, tl_err *err) {
  blanks(c);
  char quote = c->p < c->end ? *c->p : 0;
  size_t n = 0;
  if (quote != '\'' && quote != '"') return bad(c, "a string is expected", err);
  for (c->p++; c->p < c->end && *c->p != quote; c->p++) {
    if (n + 1 >= room) return bad(c, "an unknown key, or a type that is not a number,", err);
    out[n++] = *c->p;
  }
  if (c->p == c->end) return bad(c, "a string without an end", err);
  c->p++;
  out[n] = 0;
  return TL_OK;
}

static tl_status read_type(cursor *c, tl_npy *a, tl_err *err) {
  static const struct {
    char kind;
    const char *sizes;
  } kinds[] = {{'f', "248"}, {'i', "1248"}, {'u', "1248"}, {'b', "1"}, {'c', "8"}};
  char d[8];
  TL_TRY(quoted(c, d, sizeof d, err));
  bool form = strlen(d) == 3 && strchr("<>|=", d[0]);
  for (size_t i = 0; form && i < sizeof kinds / sizeof *kinds; i++)
    if (kinds[i].kind == d[1] && strchr(kinds[i].sizes, d[2])) {
      a->kind = d[1];
      a->item = d[2] - '0';
      a->big_endian = d[0] == '>';
      return TL_OK;
    }
  return tl_fail(
      err, TL_DATA,
      "%s: an array of type \"%s\", which is not a plain number (objects are never read)", c->what,
      d);
}

static tl_status read_shape(cursor *c, tl_npy *a, tl_err *err) {
  if (!next_is(c, "(")) return bad(c, "no shape", err);
  a->n = 1;
  a->ndim = 0;
  while (!next_is(c, ")")) {
    int64_t v = 0;
    const char *first = c->p;
    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++)
      if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *c->p - '0', &v))
        return bad(c, "a size that overflows", err);
    if (c->p == first) return bad(c, "a shape that is not made of numbers", err);
    if (a->ndim == TL_NPY_MAX_NDIM) return bad(c, "over 8 axes", err);
    a->shape[a->ndim++] = v;
    if (__builtin_mul_overflow(a->n, v, &a->n)) return bad(c, "a size that overflows", err);
    if (next_is(c, ",")) continue;
    if (!next_is(c, ")") || a->ndim < 2) return bad(c, "a shape without an end", err);
    break;
  }
  return TL_OK;
}

static tl_status read_dict(cursor *c, tl_npy *a, tl_err *err) {
  unsigned seen = 0;
  if (!next_is(c, "{")) return bad(c, "no dictionary", err);
  while (!next_is(c, "}")) {
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    char key[24];
    int k = 0;
    TL_TRY(quoted(c, key, sizeof key, err));
    while (k < 3 && strcmp(key, keys[k])) k++;
    if (k == 3 || (seen & 1u << k)) return bad(c, "an unknown key, or one twice,", err);
    seen |= 1u << k;
    if (!next_is(c, ":")) return bad(c, "no value", err);
    if (k == 0) TL_TRY(read_type(c, a, err));
    if (k == 2) TL_TRY(read_shape(c, a, err));
    if (k == 1) {
      a->fortran = next_is(c, "True");
      if (!a->fortran && !next_is(c, "False"))
        return bad(c, "fortran_order is no truth value", err);
    }
    if (next_is(c, ",")) continue;
    if (!next_is(c, "}")) return bad(c, "no end of the dictionary", err);
    break;
  }
  blanks(c);
  if (seen != 7 || c->p != c->end) return bad(c, "a missing key, or more than a dictionary", err);
  return TL_OK;
}

tl_status tl_npy_parse(const char *what, const unsigned char *bytes, size_t n, tl_npy *out,
                       tl_err *err) {
  *out = (tl_npy){0};
  if (n < PRELUDE || memcmp(bytes, MAGIC, 6))
    return tl_fail(err, TL_DATA, "%s: it does not begin as a .npy file", what);
  int version = bytes[6];
  if (version < 1 || version > 3 || bytes[7] != 0)
    return tl_fail(err, TL_DATA, "%s: version %d.%d of .npy; supported are 1.0 to 3.0", what,
                   version, bytes[7]);
  size_t begin = version == 1 ? 10 : 12, len = bytes[8] | (size_t)bytes[9] << 8;
  if (version > 1) {
    if (n < begin) return tl_fail(err, TL_DATA, "%s: the file ends in its header", what);
    len |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
  }
  if (len > n - begin || len > 1 << 16)
    return tl_fail(err, TL_DATA, "%s: the file ends in its header, or that is over 64 KiB", what);
  cursor c = {what, (const char *)bytes + begin, (const char *)bytes + begin + len};
  TL_TRY(read_dict(&c, out, err));
  uint64_t size;
  if (__builtin_mul_overflow((uint64_t)out->n, (uint64_t)out->item, &size) ||
      size != n - begin - len)
    return tl_fail(err, TL_DATA, "%s: %zu bytes of data; the header speaks of %lld elements of %d",
                   what, n - begin - len, (long long)out->n, out->item);
  out->data = bytes + begin + len;
  return TL_OK;
}

double tl_npy_at(const tl_npy *a, int64_t i) {
  const unsigned char *p = a->data + i * a->item;
  uint64_t v = 0;
  for (int k = 0; k < a->item; k++) v |= (uint64_t)p[a->big_endian ? a->item - 1 - k : k] << 8 * k;
  uint32_t low = (uint32_t)v;
  float f;
  double d;
  if (a->kind == 'c') return 0;
  if (a->kind == 'f' && a->item == 2) return (double)tl_half_to_f32((uint16_t)v);
  if (a->kind == 'f' && a->item == 4) {
    memcpy(&f, &low, 4);
    return (double)f;
  }
  if (a->kind == 'f') {
    memcpy(&d, &v, 8);
    return d;
  }
  if (a->kind != 'i') return (double)v;
  int shift = 64 - 8 * a->item;
  return (double)((int64_t)(v << shift) >> shift);
}

tl_status tl_npy_read_f32(const tl_npy *a, float *out, tl_err *err) {
  if (a->kind == 'c') return tl_fail(err, TL_DATA, "an array of complex numbers");
  int64_t at[TL_NPY_MAX_NDIM] = {0};
  for (int64_t i = 0; i < a->n; i++) {
    int64_t from = 0;
    if (a->fortran)
      for (int d = a->ndim - 1; d >= 0; d--) from = from * a->shape[d] + at[d];
    out[i] = (float)tl_npy_at(a, a->fortran ? from : i);
    for (int d = a->ndim - 1; d >= 0 && ++at[d] == a->shape[d]; d--) at[d] = 0;
  }
  return TL_OK;
}
