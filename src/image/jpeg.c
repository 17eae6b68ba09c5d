/* JPEG through libjpeg-turbo. Its errors come by longjmp, out of one function that keeps nothing in
 * locals across it. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
/* jpeglib.h needs stdio.h before it */
#include <jerror.h>
#include <jpeglib.h>

#include "image/decode.h"

typedef struct reader {
  struct jpeg_error_mgr base; /* first: libjpeg hands it back */
  struct jpeg_decompress_struct c;
  jmp_buf out;
  char message[JMSG_LENGTH_MAX];
  const char *name;
  const tl_image_limits *limits;
  tl_image *image;
  tl_err *err;
  bool decode;
} reader;

static void on_error(j_common_ptr c) {
  reader *r = (reader *)c->err;
  r->base.format_message(c, r->message);
  longjmp(r->out, 1);
}

/* Warnings are damage (a cut file is one) but for bytes between the parts. */
static void on_message(j_common_ptr c, int level) {
  if (level < 0 && c->err->msg_code != JWRN_EXTRANEOUS_DATA) on_error(c);
}

static void on_output(j_common_ptr c) {
  (void)c;
}

static tl_status decode_rows(reader *r) {
  struct jpeg_decompress_struct *c = &r->c;
  jpeg_start_decompress(c);
  while (c->output_scanline < c->output_height) {
    size_t row = (size_t)r->image->width * (size_t)r->image->channels;
    JSAMPROW at = r->image->pixels + (size_t)c->output_scanline * row;
    jpeg_read_scanlines(c, &at, 1);
  }
  jpeg_finish_decompress(c);
  return TL_OK;
}

static tl_status read_it(reader *r, const void *bytes, size_t n) {
  struct jpeg_decompress_struct *c = &r->c;
  jpeg_mem_src(c, bytes, (unsigned long)n);
  jpeg_read_header(c, TRUE);
  bool grey = c->jpeg_color_space == JCS_GRAYSCALE;
  if (c->jpeg_color_space == JCS_CMYK || c->jpeg_color_space == JCS_YCCK)
    return tl_fail(r->err, TL_DATA, "%s: a JPEG in CMYK; expected grey or RGB", r->name);
  TL_TRY(tl_image_check_size(c->image_width, c->image_height, grey ? 1 : 3, r->name, r->limits,
                             r->image, r->err));
  if (!r->decode) return TL_OK;
  TL_TRY(tl_image_alloc(r->image, r->name, r->err));
  c->out_color_space = grey ? JCS_GRAYSCALE : JCS_RGB;
  c->dct_method = JDCT_ISLOW;
  return decode_rows(r);
}

tl_status tl_image_jpeg(const void *bytes, size_t n, const char *name,
                        const tl_image_limits *limits, bool decode, tl_image *out, tl_err *err) {
  reader *r = calloc(1, sizeof *r);
  if (!r) return tl_fail(err, TL_NOMEM, "%s: out of memory", name);
  *r = (reader){.name = name, .limits = limits, .image = out, .err = err, .decode = decode};
  r->c.err = jpeg_std_error(&r->base);
  r->base.error_exit = on_error;
  r->base.emit_message = on_message;
  r->base.output_message = on_output;
  tl_status s;
  if (setjmp(r->out)) {
    s = tl_fail(err, TL_DATA, "%s: JPEG: %s", name, r->message);
  } else {
    jpeg_create_decompress(&r->c);
    /* Coefficients of a progressive file, whatever its header claims of scans. */
    r->c.mem->max_memory_to_use = 1L << 30;
    s = read_it(r, bytes, n);
  }
  jpeg_destroy_decompress(&r->c);
  free(r);
  return s;
}
