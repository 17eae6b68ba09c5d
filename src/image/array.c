/* Pictures and labels out of arrays: NumPy's, and IDX's, which become one of those. */
#include <stdlib.h>
#include <string.h>

#include "image/build.h"

tl_status tl_idx_parse(const char *name, const uint8_t *p, size_t n, tl_npy *a, tl_err *err) {
  static const struct {
    uint8_t code;
    char kind;
    int item;
  } types[] = {{8, 'u', 1}, {9, 'i', 1}, {11, 'i', 2}, {12, 'i', 4}, {13, 'f', 4}, {14, 'f', 8}};
  *a = (tl_npy){.big_endian = true, .n = 1};
  if (n < 4 || p[0] || p[1])
    return tl_fail(err, TL_DATA, "%s: not IDX: it begins with two zero bytes, type and axes", name);
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    if (types[i].code == p[2]) {
      a->kind = types[i].kind;
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
    a->shape[i] = (int64_t)q[0] << 24 | (int64_t)q[1] << 16 | (int64_t)q[2] << 8 | q[3];
    if (__builtin_mul_overflow(a->n, a->shape[i], &a->n))
      return tl_fail(err, TL_DATA, "%s: the shape overflows", name);
  }
  uint64_t bytes;
  if (__builtin_mul_overflow((uint64_t)a->n, (uint64_t)a->item, &bytes) || bytes != n - head)
    return tl_fail(err, TL_DATA,
                   "%s: the header describes %lld elements of %d bytes, but %zu bytes follow it",
                   name, (long long)a->n, a->item, n - head);
  a->data = p + head;
  return TL_OK;
}

static tl_status read_classes(const char *name, const tl_npy *y, int64_t n, int32_t **out,
                              tl_err *err) {
  if (y->n != n || y->ndim > 2 || (y->ndim == 2 && y->shape[1] != 1) || strchr("fc", y->kind))
    return tl_fail(err, TL_DATA,
                   "%s: %lld labels for %lld pictures; expected whole numbers, one each", name,
                   (long long)y->n, (long long)n);
  int32_t *class = malloc(((size_t)n + 1) * sizeof *class);
  if (!class) return tl_fail(err, TL_NOMEM, "%s: out of memory", name);
  for (int64_t i = 0; i < n; i++) {
    double v = tl_npy_at(y, i);
    if (v < 0 || v > 65535) {
      free(class);
      return tl_fail(err, TL_DATA, "%s: label %.0f of picture %lld; expected 0 to 65535", name, v,
                     (long long)i);
    }
    class[i] = (int32_t)v;
  }
  *out = class;
  return TL_OK;
}

/* A sample as 8 bits: 16 bits and floats in 0 .. 1 are rounded. */
static uint8_t to_u8(const tl_npy *a, int64_t i) {
  double v = tl_npy_at(a, i);
  if (a->kind == 'f') v *= 255;
  if (a->kind == 'u' && a->item == 2) v *= 255.0 / 65535;
  if (a->kind == 'b') v *= 255;
  return (uint8_t)(v > 0 ? v < 255 ? v + 0.5 : 255 : 0); /* a NaN is 0 */
}

static uint8_t *to_pixels(const tl_npy *x, const tl_image *m, bool planes) {
  int64_t c = m->channels, hw = (int64_t)m->width * m->height;
  uint8_t *out = malloc((size_t)x->n);
  if (out && !planes && x->kind == 'u' && x->item == 1) return memcpy(out, x->data, (size_t)x->n);
  for (int64_t i = 0; out && i < x->shape[0]; i++)
    for (int64_t k = 0; k < c; k++)
      for (int64_t p = 0; p < hw; p++)
        out[(i * hw + p) * c + k] = to_u8(x, i * hw * c + (planes ? k * hw + p : p * c + k));
  return out;
}

tl_status tl_image_add_arrays(tl_image_builder *b, const char *name, const tl_npy *x,
                              const char *label_name, const tl_npy *y, tl_err *err) {
  tl_image_limits l = tl_image_limits_of(&b->o->limits);
  bool planes = x->ndim == 4 && x->shape[1] == 3 && x->shape[3] != 3 && x->shape[3] != 1;
  int64_t c = x->ndim == 3 ? 1 : x->shape[planes ? 1 : 3];
  bool type = (x->kind == 'u' && x->item <= 2) || x->kind == 'f' || x->kind == 'b';
  if (x->fortran || (y && y->fortran))
    return tl_fail(err, TL_DATA, "%s: columns first (fortran_order); expected C order", name);
  if (x->ndim < 3 || x->ndim > 4 || (c != 1 && c != 3) || !type)
    return tl_fail(err, TL_DATA,
                   "%s: expected pictures [n, height, width], with 1 or 3 channels behind, of 8 or "
                   "16 bits or floats",
                   name);
  if (x->shape[0] == 0) return tl_fail(err, TL_DATA, "%s: no pictures", name);
  tl_image m;
  TL_TRY(tl_image_check_size((size_t)x->shape[planes ? 3 : 2], (size_t)x->shape[planes ? 2 : 1],
                             (int32_t)c, name, &l, &m, err));
  int32_t *class = NULL;
  if (y) TL_TRY(read_classes(label_name, y, x->shape[0], &class, err));
  uint8_t *pixels = to_pixels(x, &m, planes);
  tl_status s =
      pixels ? tl_image_keep(b, pixels, err)
             : tl_fail(err, TL_NOMEM, "%s: out of memory for %lld bytes", name, (long long)x->n);
  if (s == TL_OK) s = tl_image_add_block(b, pixels, (size_t)x->shape[0], &m, class, err);
  free(class);
  return s;
}
