/* usage: make_pictures folder|idx|npz NAME N: N toy pictures of two classes, "0" and "1" (bars that
 * lie or stand, in noise), for the tests of the command line.
 *
 *   folder  NAME/0/I.png, NAME/1/I.jpg and the other way round: PNG (RGB) and JPEG (grey)
 *   idx     NAME-images-idx3-ubyte and NAME-labels-idx1-ubyte
 *   npz     NAME.npz with train_images and train_labels, the same as in idx */
#include <archive.h>
#include <archive_entry.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
/* jpeglib.h needs stdio.h before it */
#include <jpeglib.h>

#include "tilth/image.h"

enum { SIDE = 8, PIXELS = SIDE * SIDE };
static int g_n; /* pictures of the set: sets of other sizes have other pictures */

static void stop(const char *what) {
  fprintf(stderr, "make_pictures: %s\n", what);
  exit(1);
}

/* Of picture i; the noise is splitmix64's. */
static uint8_t pixel(int i, int p) {
  uint64_t x = ((uint64_t)g_n << 32) + (uint64_t)(i * PIXELS + p) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return (uint8_t)(((i % 2 ? p % SIDE : p / SIDE) % 4 < 2 ? 160 : 40) + (int)((x >> 40) % 40));
}

static void write_file(const char *path, const void *data, size_t n) {
  FILE *f = fopen(path, "wb");
  if (!f || fwrite(data, 1, n, f) != n || fclose(f)) stop(path);
}

/* Header and one byte for each number. */
static uint8_t *with_header(const void *header, size_t n_header, int n, bool labels, size_t *size) {
  *size = n_header + (size_t)n * (labels ? 1 : PIXELS);
  uint8_t *out = malloc(*size), *at = out + n_header;
  if (!out) stop("out of memory");
  memcpy(out, header, n_header);
  for (int i = 0; i < n; i++) {
    if (labels) *at++ = (uint8_t)(i % 2);
    for (int p = 0; !labels && p < PIXELS; p++) *at++ = pixel(i, p);
  }
  return out;
}

/* --- idx and npz ------------------------------------------------------------------------------ */

static void write_idx(const char *name, int n) {
  const uint8_t high = (uint8_t)(n >> 8), low = (uint8_t)n;
  const uint8_t images[16] = {0, 0, 8, 3, 0, 0, high, low, 0, 0, 0, SIDE, 0, 0, 0, SIDE};
  const uint8_t labels[8] = {0, 0, 8, 1, 0, 0, high, low};
  for (int k = 0; k < 2; k++) {
    char path[512];
    size_t size;
    snprintf(path, sizeof path, "%s-%s", name, k ? "labels-idx1-ubyte" : "images-idx3-ubyte");
    uint8_t *data = with_header(k ? labels : images, k ? 8 : 16, n, k, &size);
    write_file(path, data, size);
    free(data);
  }
}

static void add_member(struct archive *a, const char *name, const void *data, size_t n) {
  struct archive_entry *e = archive_entry_new();
  archive_entry_set_pathname(e, name);
  archive_entry_set_size(e, (la_int64_t)n);
  archive_entry_set_filetype(e, AE_IFREG);
  archive_entry_set_perm(e, 0644);
  if (archive_write_header(a, e) != ARCHIVE_OK || archive_write_data(a, data, n) != (la_ssize_t)n)
    stop(archive_error_string(a));
  archive_entry_free(e);
}

static void write_npz(const char *name, int n) {
  char path[512];
  struct archive *a = archive_write_new();
  snprintf(path, sizeof path, "%s.npz", name);
  archive_write_set_format_zip(a);
  if (archive_write_open_filename(a, path) != ARCHIVE_OK) stop(path);
  for (int k = 0; k < 2; k++) {
    char head[128], dict[117];
    size_t size;
    memset(dict, ' ', sizeof dict);
    int used =
        snprintf(dict, sizeof dict, "{'descr': '|u1', 'fortran_order': False, 'shape': (%d%s}", n,
                 k ? ",)" : ", 8, 8)");
    dict[used] = ' ';
    memcpy(head, "\x93NUMPY\1\0\x76\0", 10); /* 118 bytes follow */
    memcpy(head + 10, dict, 117);
    head[127] = '\n';
    uint8_t *data = with_header(head, sizeof head, n, k, &size);
    add_member(a, k ? "train_labels.npy" : "train_images.npy", data, size);
    free(data);
  }
  if (archive_write_free(a) != ARCHIVE_OK) stop(path);
}

/* --- folders ---------------------------------------------------------------------------------- */

static void write_png(const char *path, int i) {
  uint8_t pixels[PIXELS * 3], *png = NULL;
  tl_image m = {SIDE, SIDE, 3, pixels};
  size_t n = 0;
  tl_err err;
  for (int p = 0; p < PIXELS; p++) memset(pixels + 3 * p, pixel(i, p), 3);
  if (tl_image_encode_png(&m, NULL, 0, &png, &n, &err) != TL_OK) stop(err.msg);
  write_file(path, png, n);
  free(png);
}

static void write_jpeg(const char *path, int i) {
  struct jpeg_compress_struct c;
  struct jpeg_error_mgr e;
  unsigned char *mem = NULL, row[SIDE];
  unsigned long n = 0;
  c.err = jpeg_std_error(&e);
  jpeg_create_compress(&c);
  jpeg_mem_dest(&c, &mem, &n);
  c.image_width = c.image_height = SIDE;
  c.input_components = 1;
  c.in_color_space = JCS_GRAYSCALE;
  jpeg_set_defaults(&c);
  jpeg_set_quality(&c, 95, TRUE);
  jpeg_start_compress(&c, TRUE);
  for (int y = 0; y < SIDE; y++) {
    for (int x = 0; x < SIDE; x++) row[x] = pixel(i, y * SIDE + x);
    jpeg_write_scanlines(&c, &(JSAMPROW){row}, 1);
  }
  jpeg_finish_compress(&c);
  jpeg_destroy_compress(&c);
  write_file(path, mem, n);
  free(mem);
}

static void write_folder(const char *name, int n) {
  char path[512];
  mkdir(name, 0755);
  for (int k = 0; k < 2; k++) {
    snprintf(path, sizeof path, "%s/%d", name, k);
    mkdir(path, 0755);
  }
  for (int i = 0; i < n; i++) {
    bool png = i / 2 % 2 == 0;
    snprintf(path, sizeof path, "%s/%d/%03d.%s", name, i % 2, i, png ? "png" : "jpg");
    (png ? write_png : write_jpeg)(path, i);
  }
}

int main(int argc, char **argv) {
  int n = argc == 4 ? atoi(argv[3]) : 0;
  g_n = n;
  if (n < 1 || n > 65535) stop("usage: make_pictures folder|idx|npz NAME N");
  if (!strcmp(argv[1], "folder"))
    write_folder(argv[2], n);
  else if (!strcmp(argv[1], "idx"))
    write_idx(argv[2], n);
  else if (!strcmp(argv[1], "npz"))
    write_npz(argv[2], n);
  else
    stop("folder, idx or npz");
  return 0;
}
