/* Pictures: decoders, containers, damage. All files are made here. */
#include <archive.h>
#include <archive_entry.h>
#include <setjmp.h>
#include <spng.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
/* jpeglib.h needs stdio.h before it */
#include <jpeglib.h>

#include "base/buf.h"
#include "base/file.h"
#include "tilth/image.h"

static char dir[] = "/tmp/tilth-image-XXXXXX";
enum { W = 13, H = 9 };

static uint8_t sample(int x, int y, int c) {
  return (uint8_t)(17 * x + 5 * y + 60 * c);
}

/* --- making files ------------------------------------------------------------------------------
 */

static tl_buf make_png(int channels, int depth) {
  tl_buf raw = {0}, out = {0};
  for (int y = 0; y < H; y++)
    for (int x = 0; x < W; x++)
      for (int c = 0; c < channels; c++) {
        if (depth == 16) /* in the machine's order; the second byte must be rounded away */
          tl_buf_append(&raw, &(uint16_t){(uint16_t)(sample(x, y, c) * 257)}, 2);
        else
          tl_buf_putc(&raw, (char)sample(x, y, c));
      }
  spng_ctx *c = spng_ctx_new(SPNG_CTX_ENCODER);
  static const uint8_t types[5] = {0, SPNG_COLOR_TYPE_GRAYSCALE, SPNG_COLOR_TYPE_GRAYSCALE_ALPHA,
                                   SPNG_COLOR_TYPE_TRUECOLOR, SPNG_COLOR_TYPE_TRUECOLOR_ALPHA};
  struct spng_ihdr h = {
      .width = W, .height = H, .bit_depth = (uint8_t)depth, .color_type = types[channels]};
  assert_int_equal(spng_set_ihdr(c, &h), 0);
  spng_set_option(c, SPNG_ENCODE_TO_BUFFER, 1);
  assert_int_equal(spng_encode_image(c, raw.data, raw.len, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE), 0);
  size_t n;
  int code;
  void *png = spng_get_png_buffer(c, &n, &code);
  assert_non_null(png);
  tl_buf_append(&out, png, n);
  free(png);
  spng_ctx_free(c);
  tl_buf_free(&raw);
  return out;
}

/* Smooth, so that the loss is small. */
static tl_buf make_jpeg(int channels, int shade) {
  struct jpeg_compress_struct c;
  struct jpeg_error_mgr e;
  unsigned char *mem = NULL;
  unsigned long n = 0;
  c.err = jpeg_std_error(&e);
  jpeg_create_compress(&c);
  jpeg_mem_dest(&c, &mem, &n);
  c.image_width = W;
  c.image_height = H;
  c.input_components = channels;
  c.in_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&c);
  jpeg_set_quality(&c, 95, TRUE);
  jpeg_start_compress(&c, TRUE);
  unsigned char row[W * 3];
  for (int y = 0; y < H; y++) {
    for (int i = 0; i < W * channels; i++) row[i] = (unsigned char)(shade + 3 * (i / channels));
    jpeg_write_scanlines(&c, &(JSAMPROW){row}, 1);
  }
  jpeg_finish_compress(&c);
  jpeg_destroy_compress(&c);
  tl_buf out = {0};
  tl_buf_append(&out, mem, n);
  free(mem);
  return out;
}

static void path_of(char *to, const char *name) {
  snprintf(to, 512, "%s/%s", dir, name);
}

static void write_file(const char *name, const void *data, size_t n) {
  char path[512];
  tl_err err = {TL_OK, ""};
  path_of(path, name);
  char *slash = strrchr(path, '/');
  *slash = 0;
  assert_int_equal(tl_mkdirs(path, &err), TL_OK);
  *slash = '/';
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(data, 1, n, f), n);
  fclose(f);
}

typedef struct member {
  const char *name;
  tl_buf data;
} member;

static void write_archive(const char *name, bool zip, const member *m, size_t n) {
  char path[512];
  path_of(path, name);
  struct archive *a = archive_write_new();
  if (zip)
    archive_write_set_format_zip(a);
  else
    archive_write_set_format_ustar(a);
  assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
  for (size_t i = 0; i < n; i++) {
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, m[i].name);
    archive_entry_set_size(e, (la_int64_t)m[i].data.len);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
    archive_write_data(a, m[i].data.data, m[i].data.len);
    archive_entry_free(e);
  }
  archive_write_free(a);
}

static tl_buf text(const char *s) {
  tl_buf b = {0};
  tl_buf_puts(&b, s);
  return b;
}

static tl_image_data must_read(const char *name, const tl_image_options *o) {
  char path[512];
  tl_image_data d;
  tl_err err = {TL_OK, ""};
  path_of(path, name);
  if (tl_image_read(path, o, &d, &err) != TL_OK) fail_msg("%s", err.msg);
  return d;
}

/* The message must name what is wrong. */
static void must_fail(const char *name, const tl_image_options *o, tl_status code,
                      const char *word) {
  char path[512];
  tl_image_data d;
  tl_err err = {TL_OK, ""};
  path_of(path, name);
  assert_int_equal(tl_image_read(path, o, &d, &err), code);
  if (!strstr(err.msg, word)) fail_msg("\"%s\" does not say \"%s\"", err.msg, word);
  assert_null(d.entry);
  assert_int_equal(d.records.n, 0);
}

/* --- decoders ----------------------------------------------------------------------------------
 */

static void test_png(void **state) {
  (void)state;
  for (int depth = 8; depth <= 16; depth += 8)
    for (int channels = 1; channels <= 4; channels++) {
      tl_buf png = make_png(channels, depth);
      tl_image m;
      tl_err err = {TL_OK, ""};
      if (tl_image_decode(png.data, png.len, "x.png", NULL, &m, &err) != TL_OK)
        fail_msg("%s", err.msg);
      int c = channels < 3 ? 1 : 3;
      assert_int_equal(m.width, W);
      assert_int_equal(m.height, H);
      assert_int_equal(m.channels, c);
      for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
          for (int k = 0; k < c; k++)
            assert_int_equal(m.pixels[(y * W + x) * c + k], sample(x, y, k));
      tl_image_free(&m);
      tl_buf_free(&png);
    }
}

static void test_jpeg(void **state) {
  (void)state;
  for (int channels = 1; channels <= 3; channels += 2) {
    tl_buf jpeg = make_jpeg(channels, 100);
    tl_image m;
    tl_err err = {TL_OK, ""};
    if (tl_image_decode(jpeg.data, jpeg.len, "x.jpg", NULL, &m, &err) != TL_OK)
      fail_msg("%s", err.msg);
    assert_int_equal(m.channels, channels);
    assert_int_equal(m.width, W);
    assert_int_equal(m.height, H);
    for (int x = 0; x < W; x++)
      assert_in_range(m.pixels[x * channels], 100 + 3 * x - 6, 100 + 3 * x + 6);
    tl_image_free(&m);
    tl_buf_free(&jpeg);
  }
}

/* Every beginning of a file is refused, and every limit holds. */
static void test_damage(void **state) {
  (void)state;
  tl_buf files[] = {make_png(3, 8), make_png(1, 16), make_jpeg(3, 90)};
  for (size_t f = 0; f < 3; f++) {
    tl_image m;
    tl_err err = {TL_OK, ""};
    for (size_t n = 0; n < files[f].len; n++) {
      if (n >= files[f].len - (f == 2 ? 2 : 4)) continue; /* the pixels are whole */
      char *copy = malloc(n + 1); /* of exactly this size: reads beyond show under the sanitizers */
      memcpy(copy, files[f].data, n);
      err = (tl_err){TL_OK, ""};
      if (tl_image_decode(copy, n, "cut", NULL, &m, &err) == TL_OK)
        fail_msg("file %zu cut to %zu of %zu bytes was read", f, n, files[f].len);
      assert_int_equal(err.code, TL_DATA);
      assert_null(m.pixels);
      free(copy);
    }
    tl_image_limits side = {.max_side = W - 1}, pixels = {.max_pixels = W * H - 1},
                    bytes = {.max_bytes = files[f].len - 1};
    const tl_image_limits *limits[] = {&side, &pixels, &bytes};
    for (int i = 0; i < 3; i++)
      assert_int_equal(tl_image_probe(files[f].data, files[f].len, "x", limits[i], &m, &err),
                       TL_DATA);
    tl_image_limits fits = {W, W * H, files[f].len};
    assert_int_equal(tl_image_probe(files[f].data, files[f].len, "x", &fits, &m, &err), TL_OK);
    assert_int_equal(m.width, W);
    assert_null(m.pixels);
    /* Any byte changed: no crash; a PNG's checksums find it (that of the
     * end mark is not read). */
    for (size_t i = 8; i < files[f].len - 4; i++) {
      files[f].data[i] ^= 0x55;
      tl_status s = tl_image_decode(files[f].data, files[f].len, "x", NULL, &m, &err);
      files[f].data[i] ^= 0x55;
      if (s == TL_OK) tl_image_free(&m);
      if (f < 2) assert_int_not_equal(s, TL_OK);
    }
    tl_buf_free(&files[f]);
  }
}

/* What is written is read again, colours of a palette included. */
static void test_png_writer(void **state) {
  (void)state;
  static const uint8_t colours[3][3] = {{1, 2, 3}, {40, 50, 60}, {255, 0, 128}};
  uint8_t grey[6] = {0, 1, 2, 2, 1, 0}, rgb[18];
  for (int i = 0; i < 18; i++) rgb[i] = (uint8_t)(14 * i);
  const tl_image m[3] = {{3, 2, 1, grey}, {3, 2, 3, rgb}, {3, 2, 1, grey}};
  for (int i = 0; i < 3; i++) {
    uint8_t *png = NULL;
    size_t n = 0;
    tl_image back;
    tl_err err = {TL_OK, ""};
    if (tl_image_encode_png(&m[i], i == 2 ? colours : NULL, 3, &png, &n, &err) != TL_OK ||
        tl_image_decode(png, n, "written", NULL, &back, &err) != TL_OK)
      fail_msg("%s", err.msg);
    assert_int_equal(back.channels, i == 0 ? 1 : 3);
    for (int p = 0; p < 6; p++)
      for (int k = 0; k < back.channels; k++) {
        const uint8_t want[] = {grey[p], rgb[3 * p + k], colours[grey[p]][k]};
        assert_int_equal(back.pixels[p * back.channels + k], want[i]);
      }
    tl_image_free(&back);
    free(png);
  }
  uint8_t *png = NULL;
  size_t n = 0;
  assert_int_equal(tl_image_encode_png(&m[1], colours, 3, &png, &n, NULL), TL_USAGE);
  assert_null(png);
}

/* --- containers --------------------------------------------------------------------------------
 */

static void check_three(const tl_image_data *d) {
  assert_int_equal(d->records.n, 3);
  assert_int_equal(d->records.labels.n, 2);
  assert_string_equal(d->records.labels.name[0], "cat");
  assert_string_equal(d->records.labels.name[1], "dog");
  assert_int_equal(d->records.label[0], 0);
  assert_int_equal(d->records.label[1], 0);
  assert_int_equal(d->records.label[2], 1);
  assert_int_equal(d->channels, 3);
  for (size_t i = 0; i < 3; i++) {
    tl_image m;
    tl_err err = {TL_OK, ""};
    assert_int_equal(tl_image_get(d, i, 3, &m, &err), TL_OK);
    assert_int_equal(m.channels, 3);
    if (i == 0) assert_int_equal(m.pixels[3 * W + 3], sample(1, 1, 0)); /* grey in three */
    tl_image_free(&m);
  }
}

static void make_three(member *m, const char *a, const char *b, const char *c) {
  m[0] = (member){a, make_png(1, 8)};
  m[1] = (member){b, make_png(3, 8)};
  m[2] = (member){c, make_jpeg(3, 50)};
}

static void free_members(member *m, size_t n) {
  for (size_t i = 0; i < n; i++) tl_buf_free(&m[i].data);
}

static void test_folder_and_csv(void **state) {
  (void)state;
  member m[3];
  make_three(m, "set/cat/a.png", "set/cat/more/b.png", "set/dog/c.jpg");
  for (int i = 0; i < 3; i++) write_file(m[i].name, m[i].data.data, m[i].data.len);
  write_file("set/dog/notes.txt", "x", 1);
  tl_image_data d = must_read("set", NULL);
  check_three(&d);
  assert_int_equal(d.n_decoded, 3);
  uint64_t hash = d.records.hash;
  tl_image_data_free(&d);
  tl_image_options lazy = {.memory = 1}; /* nothing fits: decoded when asked for */
  d = must_read("set", &lazy);
  assert_int_equal(d.n_decoded, 0);
  check_three(&d);
  assert_true(d.records.hash == hash);
  tl_image_data_free(&d);

  const char *lists[] = {
      "path,label\nset/cat/a.png,cat\nset/cat/more/b.png,cat\nset/dog/c.jpg,dog\n",
      "set/cat/a.png,cat\nset/cat/more/b.png,cat\nset/dog/c.jpg,dog\n"};
  for (int i = 0; i < 2; i++) {
    write_file("list.csv", lists[i], strlen(lists[i]));
    d = must_read("list.csv", NULL);
    check_three(&d);
    tl_image_data_free(&d);
  }

  /* Broken files: named, or counted and left out. */
  write_file("set/dog/broken.png", m[0].data.data, 40);
  must_fail("set", NULL, TL_DATA, "broken.png");
  tl_image_options skip = {.skip_bad = true};
  d = must_read("set", &skip);
  check_three(&d);
  assert_int_equal(d.n_bad, 1);
  assert_non_null(strstr(d.bad[0], "broken.png"));
  /* Classes that are given: their order, and no others. */
  tl_labels known;
  tl_err err = {TL_OK, ""};
  const char *names[] = {"dog", "cow", "cat"};
  assert_int_equal(tl_labels_make(names, 3, &known, &err), TL_OK);
  tl_image_data_free(&d);
  tl_image_options given = {.skip_bad = true, .labels = &known};
  d = must_read("set", &given);
  assert_int_equal(d.records.label[0], 2);
  assert_int_equal(d.records.label[2], 0);
  tl_image_data_free(&d);
  tl_labels_free(&known);
  assert_int_equal(tl_labels_make(names, 2, &known, &err), TL_OK);
  must_fail("set", &given, TL_DATA, "\"cat\"");
  tl_labels_free(&known);
  write_file("mixed/cat/a.png", m[0].data.data, m[0].data.len);
  write_file("mixed/b.png", m[0].data.data, m[0].data.len);
  must_fail("mixed", NULL, TL_DATA, "b.png");
  must_fail("nothing-here", NULL, TL_NOINPUT, "nothing-here");
  free_members(m, 3);
}

static void test_tar(void **state) {
  (void)state;
  member m[3];
  make_three(m, "train/cat/0.png", "train/cat/1.png", "train/dog/0.jpg");
  write_archive("classes.tar", false, m, 3);
  tl_image_data d = must_read("classes.tar", NULL);
  check_three(&d);
  tl_image_data_free(&d);
  tl_image_options lazy = {.memory = 1};
  d = must_read("classes.tar", &lazy);
  assert_int_equal(d.n_decoded, 0);
  check_three(&d);
  tl_image_data_free(&d);

  member w[] = {{"a/0.png", m[0].data},
                {"a/0.cls", text("cat\n")},
                {"a/1.cls", text("cat")},
                {"a/1.png", m[1].data},
                {"a/1.json", text("{}")}};
  write_archive("shard-00.tar", false, w, 5);
  member last[] = {{"b.jpg", m[2].data}, {"b.cls", text("dog")}};
  write_archive("shard-01.tar", false, last, 2);
  d = must_read("shard-{00..01}.tar", NULL);
  check_three(&d);
  tl_image_data_free(&d);
  must_fail("shard-{00..02}.tar", NULL, TL_NOINPUT, "shard-02.tar");

  /* A tar that is cut within a member. */
  char path[512];
  path_of(path, "classes.tar");
  assert_int_equal(truncate(path, 512 + 100), 0);
  must_fail("classes.tar", NULL, TL_DATA, "classes.tar");
  tl_buf_free(&w[1].data);
  tl_buf_free(&w[2].data);
  tl_buf_free(&w[4].data);
  tl_buf_free(&last[1].data);
  free_members(m, 3);
}

static void test_idx(void **state) {
  (void)state;
  enum { N = 12 };
  uint8_t x[16 + N * 6] = {0, 0, 8, 3, 0, 0, 0, N, 0, 0, 0, 2, 0, 0, 0, 3};
  uint8_t y[8 + N] = {0, 0, 8, 1, 0, 0, 0, N};
  for (int i = 0; i < N * 6; i++) x[16 + i] = (uint8_t)(3 * i);
  for (int i = 0; i < N; i++) y[8 + i] = (uint8_t)i;
  write_file("t-images-idx3-ubyte", x, sizeof x);
  write_file("t-labels-idx1-ubyte", y, sizeof y);
  tl_image_data d = must_read("t-images-idx3-ubyte", NULL);
  assert_int_equal(d.records.n, N);
  assert_int_equal(d.height, 2);
  assert_int_equal(d.width, 3);
  assert_int_equal(d.records.labels.n, N);
  assert_string_equal(d.records.labels.name[10], "10"); /* as numbers, not as texts */
  tl_image m;
  tl_err err = {TL_OK, ""};
  assert_int_equal(tl_image_get(&d, 7, 0, &m, &err), TL_OK);
  assert_int_equal(d.records.label[7], 7);
  for (int i = 0; i < 6; i++) assert_int_equal(m.pixels[i], (3 * (42 + i)) & 255);
  tl_image_free(&m);
  tl_image_data_free(&d);
  for (size_t n = 0; n < sizeof x; n++) {
    write_file("t-images-idx3-ubyte", x, n);
    must_fail("t-images-idx3-ubyte", NULL, TL_DATA, "t-images");
  }
  write_file("t-images-idx3-ubyte", x, sizeof x);
  write_file("t-labels-idx1-ubyte", y, sizeof y - 1);
  must_fail("t-images-idx3-ubyte", NULL, TL_DATA, "t-labels");
  memset(x + 4, 0xff, 12); /* a shape beyond all bounds */
  write_file("t-images-idx3-ubyte", x, sizeof x);
  must_fail("t-images-idx3-ubyte", NULL, TL_DATA, "t-images");
}

static void test_cifar(void **state) {
  (void)state;
  static uint8_t rows[2 * 3073];
  rows[0] = 3;
  rows[3073] = 9;
  rows[1 + 5] = 11;
  rows[1 + 1024 + 5] = 22;
  rows[1 + 2048 + 5] = 33;
  write_file("data_batch_1.bin", rows, sizeof rows);
  tl_image_data d = must_read("data_batch_1.bin", NULL);
  assert_int_equal(d.records.n, 2);
  assert_string_equal(d.records.labels.name[0], "3");
  tl_image m;
  tl_err err = {TL_OK, ""};
  assert_int_equal(tl_image_get(&d, 0, 0, &m, &err), TL_OK);
  assert_int_equal(m.pixels[15], 11);
  assert_int_equal(m.pixels[16], 22);
  assert_int_equal(m.pixels[17], 33);
  tl_image_free(&m);
  tl_image_data_free(&d);
  write_file("data_batch_1.bin", rows, sizeof rows - 1);
  must_fail("data_batch_1.bin", NULL, TL_DATA, "3073");
  write_file("data_batch_1.bin", rows, 0);
  must_fail("data_batch_1.bin", NULL, TL_DATA, "data_batch_1.bin");
  rows[0] = 10;
  write_file("data_batch_1.bin", rows, sizeof rows);
  must_fail("data_batch_1.bin", NULL, TL_DATA, "label 10");
}

/* CIFAR-100: the group's label, then the picture's own, which counts. */
static void test_cifar_100(void **state) {
  (void)state;
  static uint8_t rows[2 * 3074];
  rows[0] = 19;
  rows[1] = 42;
  rows[3074] = 7;
  rows[3075] = 99;
  rows[3074 + 2 + 2048 + 1023] = 77; /* blue of the second one's last pixel */
  write_file("train.bin", rows, sizeof rows);
  tl_image_data d = must_read("train.bin", NULL);
  assert_int_equal(d.records.n, 2);
  assert_string_equal(d.records.labels.name[0], "42");
  assert_string_equal(d.records.labels.name[1], "99");
  tl_image m;
  tl_err err = {TL_OK, ""};
  assert_int_equal(tl_image_get(&d, 1, 0, &m, &err), TL_OK);
  assert_int_equal(m.pixels[3071], 77);
  tl_image_free(&m);
  tl_image_data_free(&d);
  rows[1] = 100;
  write_file("train.bin", rows, sizeof rows);
  must_fail("train.bin", NULL, TL_DATA, "label 100");
}

static tl_buf make_npy(const char *descr, const char *shape, const void *data, size_t n) {
  tl_buf b = {0}, dict = {0};
  tl_buf_printf(&dict, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape);
  while ((10 + dict.len + 1) % 64) tl_buf_putc(&dict, ' ');
  tl_buf_putc(&dict, '\n');
  tl_buf_append(&b, "\x93NUMPY\1\0", 8);
  tl_buf_append(&b, &(uint16_t){(uint16_t)dict.len}, 2);
  tl_buf_append(&b, dict.data, dict.len);
  tl_buf_append(&b, data, n);
  tl_buf_free(&dict);
  return b;
}

static void test_npz(void **state) {
  (void)state;
  uint8_t x[2 * 6] = {0, 50, 100, 150, 200, 250, 1, 2, 3, 4, 5, 6};
  uint16_t wide[6] = {0, 257, 514, 65535, 300, 128};
  float real[6] = {0, 1, 0.5f, 2, -1, 0.25f};
  int64_t y[2] = {1, 0};
  member m[] = {
      {"train_images.npy", make_npy("|u1", "(2, 2, 3)", x, sizeof x)},
      {"train_labels.npy", make_npy("<i8", "(2, 1)", y, sizeof y)},
      {"wide_images.npy", make_npy("<u2", "(1, 2, 3)", wide, sizeof wide)},
      {"real_images.npy", make_npy("<f4", "(1, 2, 1, 3)", real, sizeof real)},
      {"short_images.npy", make_npy("|u1", "(3, 2, 3)", x, sizeof x)},
      {"huge_images.npy", make_npy("|u1", "(4294967296, 4294967296, 4294967296)", x, sizeof x)},
      {"object_images.npy", make_npy("|O", "(2, 2, 3)", x, sizeof x)},
      {"complex_images.npy", make_npy("<c8", "(1, 1, 1)", x, 8)},
      {"columns_images.npy", make_npy("|u1", "(2, 2, 3)", x, sizeof x)},
      {"axes_images.npy", make_npy("|u1", "(1, 1, 1, 3, 4)", x, sizeof x)},
      {"few_images.npy", make_npy("|u1", "(2, 2, 3)", x, sizeof x)},
      {"few_labels.npy", make_npy("<i8", "(1,)", y, 8)}};
  memcpy(strstr(m[8].data.data + 10, "False"), "True ", 5);
  write_archive("x.npz", true, m, sizeof m / sizeof *m);
  tl_image_data d = must_read("x.npz,train", NULL);
  tl_image p;
  tl_err err = {TL_OK, ""};
  assert_int_equal(d.records.n, 2);
  assert_int_equal(d.records.label[0], 1);
  assert_int_equal(tl_image_get(&d, 1, 0, &p, &err), TL_OK);
  assert_memory_equal(p.pixels, x + 6, 6);
  tl_image_free(&p);
  tl_image_data_free(&d);
  d = must_read("x.npz,wide", NULL);
  assert_null(d.records.label);
  assert_int_equal(tl_image_get(&d, 0, 0, &p, &err), TL_OK);
  assert_memory_equal(p.pixels, ((uint8_t[]){0, 1, 2, 255, 1, 0}), 6);
  tl_image_free(&p);
  tl_image_data_free(&d);
  d = must_read("x.npz,real", NULL);
  assert_int_equal(tl_image_get(&d, 0, 0, &p, &err), TL_OK);
  assert_int_equal(p.channels, 3);
  assert_memory_equal(p.pixels, ((uint8_t[]){0, 255, 128, 255, 0, 64}), 6);
  tl_image_free(&p);
  tl_image_data_free(&d);
  must_fail("x.npz", NULL, TL_DATA, "images");
  must_fail("x.npz,short", NULL, TL_DATA, "18 elements");
  must_fail("x.npz,huge", NULL, TL_DATA, "overflows");
  must_fail("x.npz,object", NULL, TL_DATA, "|O");
  must_fail("x.npz,complex", NULL, TL_DATA, "expected pictures");
  must_fail("x.npz,columns", NULL, TL_DATA, "fortran_order");
  must_fail("x.npz,axes", NULL, TL_DATA, "expected pictures");
  must_fail("x.npz,few", NULL, TL_DATA, "1 labels");
  free_members(m, sizeof m / sizeof *m);
}

/* The real sets, where they are. */
static void test_real(void **state) {
  (void)state;
  const char *set = "/work/shared/data/pneumonia/pneumoniamnist.npz,train";
  const char *beside = TL_SOURCE_DIR "/../shared/data/pneumonia/pneumoniamnist.npz,train";
  char file[512];
  tl_image_data d;
  tl_err err = {TL_OK, ""};
  snprintf(file, sizeof file, "%.*s", (int)strcspn(beside, ","), beside);
  if (tl_file_exists(file)) set = beside;
  snprintf(file, sizeof file, "%.*s", (int)strcspn(set, ","), set);
  if (!tl_file_exists(file)) {
    print_message("skipped: no ../shared/data/pneumonia\n");
    return;
  }
  if (tl_image_read(set, NULL, &d, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_int_equal(d.records.n, 3882);
  assert_int_equal(d.width, 28);
  assert_int_equal(d.records.labels.n, 2);
  tl_image_data_free(&d);
}

static int setup(void **state) {
  (void)state;
  return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state) {
  (void)state;
  tl_err err;
  return tl_remove_tree(dir, &err) == TL_OK ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_png),
                                     cmocka_unit_test(test_png_writer),
                                     cmocka_unit_test(test_jpeg),
                                     cmocka_unit_test(test_damage),
                                     cmocka_unit_test(test_folder_and_csv),
                                     cmocka_unit_test(test_tar),
                                     cmocka_unit_test(test_idx),
                                     cmocka_unit_test(test_cifar),
                                     cmocka_unit_test(test_cifar_100),
                                     cmocka_unit_test(test_npz),
                                     cmocka_unit_test(test_real)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
