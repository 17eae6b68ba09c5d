/* PNG through libspng. */
#include <spng.h>
#include <stdlib.h>

#include "image/decode.h"

/* Of ancillary chunks (profiles, texts), which nothing here needs. */
enum { CHUNK_LIMIT = 16 << 20 };

static tl_status png_fail(int code, const char *name, const char *what, tl_err *err) {
  if (code == SPNG_EMEM) return tl_fail(err, TL_NOMEM, "%s: out of memory", name);
  return tl_fail(err, TL_DATA, "%s: PNG %s: %s", name, what, spng_strerror(code));
}

static int channels_of(const struct spng_ihdr *h) {
  bool grey = h->color_type == SPNG_COLOR_TYPE_GRAYSCALE ||
              h->color_type == SPNG_COLOR_TYPE_GRAYSCALE_ALPHA;
  return grey ? 1 : 3;
}

/* Samples of `from` channels a pixel to out's: the first ones, or the first one. */
static void take_u8(const uint8_t *in, int from, tl_image *out) {
  size_t n = (size_t)out->width * (size_t)out->height, c = (size_t)out->channels;
  for (size_t i = 0; i < n; i++)
    for (size_t k = 0; k < c; k++) out->pixels[i * c + k] = in[i * (size_t)from + k];
}

static void take_u16(const uint16_t *in, int from, tl_image *out) {
  size_t n = (size_t)out->width * (size_t)out->height, c = (size_t)out->channels;
  for (size_t i = 0; i < n; i++)
    for (size_t k = 0; k < c; k++)
      out->pixels[i * c + k] = (uint8_t)((in[i * (size_t)from + k] * 255u + 32767u) / 65535u);
}

static tl_status decode_pixels(spng_ctx *c, const struct spng_ihdr *h, const char *name,
                               tl_image *out, tl_err *err) {
  static const int samples[7] = {1, 0, 3, 0, 2, 0, 4}; /* by colour type, at 16 bits */
  bool wide = h->bit_depth == 16;
  int fmt = wide ? SPNG_FMT_PNG : SPNG_FMT_RGBA8;
  size_t size = 0;
  int code = spng_decoded_image_size(c, fmt, &size);
  if (code) return png_fail(code, name, "header", err);
  void *raw = malloc(size);
  if (!raw) return tl_fail(err, TL_NOMEM, "%s: out of memory for %zu bytes of pixels", name, size);
  code = spng_decode_image(c, raw, size, fmt, 0);
  if (!code) code = spng_decode_chunks(c); /* to the end mark: a cut file shows */
  tl_status s = code ? png_fail(code, name, "data", err) : tl_image_alloc(out, name, err);
  if (s == TL_OK && wide) take_u16(raw, samples[h->color_type], out);
  if (s == TL_OK && !wide) take_u8(raw, 4, out);
  free(raw);
  return s;
}

/* Rows of samples of 1, 2, 4 or 8 bits, the leftmost in the highest bits. */
static void unpack(const uint8_t *raw, int bits, tl_image *out) {
  size_t w = (size_t)out->width, line = (w * (size_t)bits + 7) / 8, per_byte = (size_t)(8 / bits);
  for (size_t y = 0; y < (size_t)out->height; y++)
    for (size_t x = 0; x < w; x++) {
      unsigned shift = (unsigned)(per_byte - 1 - x % per_byte) * (unsigned)bits;
      unsigned value = raw[y * line + x / per_byte] >> shift;
      out->pixels[y * w + x] = (uint8_t)(value & ((1u << bits) - 1));
    }
}

static tl_status decode_ids(spng_ctx *c, const struct spng_ihdr *h, const char *name, tl_image *out,
                            tl_err *err) {
  bool palette = h->color_type == SPNG_COLOR_TYPE_INDEXED;
  if ((!palette && h->color_type != SPNG_COLOR_TYPE_GRAYSCALE) || h->bit_depth > 8)
    return tl_fail(err, TL_DATA,
                   "%s: a mask must be grey or have a palette, with at most 8 bits a pixel, whose "
                   "values are the classes; this one has %s",
                   name, h->bit_depth > 8 ? "16 bits" : "colours");
  size_t size = 0;
  int code = spng_decoded_image_size(c, SPNG_FMT_PNG, &size);
  if (code) return png_fail(code, name, "header", err);
  uint8_t *raw = malloc(size);
  if (!raw) return tl_fail(err, TL_NOMEM, "%s: out of memory for %zu bytes of pixels", name, size);
  code = spng_decode_image(c, raw, size, SPNG_FMT_PNG, 0);
  if (!code) code = spng_decode_chunks(c);
  tl_status s = code ? png_fail(code, name, "data", err) : tl_image_alloc(out, name, err);
  if (s == TL_OK) unpack(raw, h->bit_depth, out);
  free(raw);
  return s;
}

static tl_status open_png(const void *bytes, size_t n, const char *name, spng_ctx **out,
                          struct spng_ihdr *h, tl_err *err) {
  spng_ctx *c = *out = spng_ctx_new(0);
  if (!c) return tl_fail(err, TL_NOMEM, "%s: out of memory", name);
  spng_set_chunk_limits(c, CHUNK_LIMIT, CHUNK_LIMIT);
  spng_set_crc_action(c, SPNG_CRC_ERROR, SPNG_CRC_ERROR);
  int code = spng_set_png_buffer(c, bytes, n);
  if (!code) code = spng_get_ihdr(c, h);
  return code ? png_fail(code, name, "header", err) : TL_OK;
}

tl_status tl_image_png(const void *bytes, size_t n, const char *name, const tl_image_limits *limits,
                       bool decode, tl_image *out, tl_err *err) {
  struct spng_ihdr h;
  spng_ctx *c;
  tl_status s = open_png(bytes, n, name, &c, &h, err);
  if (s == TL_OK)
    s = tl_image_check_size(h.width, h.height, channels_of(&h), name, limits, out, err);
  if (s == TL_OK && decode) s = decode_pixels(c, &h, name, out, err);
  spng_ctx_free(c);
  return s;
}

tl_status tl_image_png_ids(const void *bytes, size_t n, const char *name,
                           const tl_image_limits *limits, tl_image *out, tl_err *err) {
  struct spng_ihdr h;
  spng_ctx *c;
  tl_status s = open_png(bytes, n, name, &c, &h, err);
  if (s == TL_OK) s = tl_image_check_size(h.width, h.height, 1, name, limits, out, err);
  if (s == TL_OK) s = decode_ids(c, &h, name, out, err);
  spng_ctx_free(c);
  return s;
}

/* --- writing -----------------------------------------------------------------------------------
 */

static int set_header(spng_ctx *c, const tl_image *m, const uint8_t (*palette)[3], size_t n) {
  struct spng_ihdr h = {.width = (uint32_t)m->width,
                        .height = (uint32_t)m->height,
                        .bit_depth = 8,
                        .color_type = m->channels == 3 ? SPNG_COLOR_TYPE_TRUECOLOR
                                      : palette        ? SPNG_COLOR_TYPE_INDEXED
                                                       : SPNG_COLOR_TYPE_GRAYSCALE};
  int code = spng_set_ihdr(c, &h);
  if (code || !palette) return code;
  struct spng_plte p = {.n_entries = (uint32_t)n};
  for (size_t i = 0; i < n; i++) {
    p.entries[i].red = palette[i][0];
    p.entries[i].green = palette[i][1];
    p.entries[i].blue = palette[i][2];
  }
  return spng_set_plte(c, &p);
}

tl_status tl_image_encode_png(const tl_image *m, const uint8_t (*palette)[3], size_t n_colours,
                              uint8_t **png, size_t *n, tl_err *err) {
  *png = NULL;
  if (m->width < 1 || m->height < 1 || (m->channels != 1 && m->channels != 3) ||
      (palette && (m->channels != 1 || n_colours < 1 || n_colours > 256)))
    return tl_fail(err, TL_USAGE, "PNG: %d x %d pixels of %d channels, %zu colours; cannot be",
                   m->width, m->height, m->channels, n_colours);
  spng_ctx *c = spng_ctx_new(SPNG_CTX_ENCODER);
  if (!c) return tl_fail(err, TL_NOMEM, "PNG: out of memory");
  size_t bytes = (size_t)m->width * (size_t)m->height * (size_t)m->channels;
  int code = spng_set_option(c, SPNG_ENCODE_TO_BUFFER, 1);
  if (!code) code = set_header(c, m, palette, n_colours);
  if (!code) code = spng_encode_image(c, m->pixels, bytes, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
  if (!code) *png = spng_get_png_buffer(c, n, &code);
  spng_ctx_free(c);
  return code ? png_fail(code, "PNG", "encoder", err) : TL_OK;
}
