/* Which decoder, and the limits that hold before it allocates. */
#include "image/decode.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = 16384, MAX_PIXELS = 64 << 20, MAX_BYTES = 256 << 20 };

void tl_image_free(tl_image *m) {
  free(m->pixels);
  *m = (tl_image){0};
}

tl_image_limits tl_image_limits_of(const tl_image_limits *limits) {
  tl_image_limits l = limits ? *limits : (tl_image_limits){0};
  if (l.max_side <= 0) l.max_side = MAX_SIDE;
  if (l.max_pixels <= 0) l.max_pixels = MAX_PIXELS;
  if (l.max_bytes == 0) l.max_bytes = MAX_BYTES;
  return l;
}

tl_status tl_image_check_size(uint64_t width, uint64_t height, int32_t channels, const char *name,
                              const tl_image_limits *limits, tl_image *out, tl_err *err) {
  uint64_t side = (uint64_t)limits->max_side;
  if (width == 0 || height == 0)
    return tl_fail(err, TL_DATA, "%s: a picture without pixels (%llu x %llu)", name,
                   (unsigned long long)width, (unsigned long long)height);
  if (width > side || height > side || width * height > (uint64_t)limits->max_pixels)
    return tl_fail(err, TL_DATA,
                   "%s: %llu x %llu pixels; at most %d a side and %lld in all are allowed", name,
                   (unsigned long long)width, (unsigned long long)height, limits->max_side,
                   (long long)limits->max_pixels);
  *out = (tl_image){.width = (int32_t)width, .height = (int32_t)height, .channels = channels};
  return TL_OK;
}

tl_status tl_image_alloc(tl_image *m, const char *name, tl_err *err) {
  m->pixels = malloc((size_t)m->width * (size_t)m->height * (size_t)m->channels);
  return m->pixels ? TL_OK
                   : tl_fail(err, TL_NOMEM, "%s: out of memory for %d x %d pixels", name, m->width,
                             m->height);
}

static bool is_png(const void *bytes, size_t n) {
  static const unsigned char png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  return n >= sizeof png && !memcmp(bytes, png, sizeof png);
}

static tl_status check_bytes(size_t n, const char *name, const tl_image_limits *l, tl_err *err) {
  if (n <= l->max_bytes) return TL_OK;
  return tl_fail(err, TL_DATA, "%s: %zu bytes; at most %zu are allowed for a picture", name, n,
                 l->max_bytes);
}

tl_status tl_image_decode_ids(const void *bytes, size_t n, const char *name,
                              const tl_image_limits *limits, tl_image *out, tl_err *err) {
  tl_image_limits l = tl_image_limits_of(limits);
  *out = (tl_image){0};
  TL_TRY(check_bytes(n, name, &l, err));
  tl_status s = is_png(bytes, n) ? tl_image_png_ids(bytes, n, name, &l, out, err)
                                 : tl_fail(err, TL_DATA, "%s: a mask must be PNG", name);
  if (s != TL_OK) tl_image_free(out);
  return s;
}

static tl_status open_any(const void *bytes, size_t n, const char *name,
                          const tl_image_limits *limits, bool decode, tl_image *out, tl_err *err) {
  static const unsigned char jpeg[3] = {0xff, 0xd8, 0xff};
  tl_image_limits l = tl_image_limits_of(limits);
  *out = (tl_image){0};
  TL_TRY(check_bytes(n, name, &l, err));
  tl_status s = TL_OK;
  if (is_png(bytes, n))
    s = tl_image_png(bytes, n, name, &l, decode, out, err);
  else if (n >= sizeof jpeg && !memcmp(bytes, jpeg, sizeof jpeg))
    s = tl_image_jpeg(bytes, n, name, &l, decode, out, err);
  else
    s = tl_fail(err, TL_DATA, "%s: neither PNG nor JPEG (%zu bytes)", name, n);
  if (s != TL_OK) tl_image_free(out);
  return s;
}

tl_status tl_image_probe(const void *bytes, size_t n, const char *name,
                         const tl_image_limits *limits, tl_image *out, tl_err *err) {
  return open_any(bytes, n, name, limits, false, out, err);
}

tl_status tl_image_decode(const void *bytes, size_t n, const char *name,
                          const tl_image_limits *limits, tl_image *out, tl_err *err) {
  return open_any(bytes, n, name, limits, true, out, err);
}
