/* Pictures in arrays: IDX, CIFAR's binary files, NPZ. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "image/build.h"

enum { CIFAR_SIDE = 32, CIFAR_PLANE = 1024, CIFAR_PIXELS = 3 * CIFAR_PLANE };
static const size_t max_file = (size_t)4 << 30;

static void mix_hash(tl_image_builder *b, const void *bytes, size_t n) {
  b->d->records.hash = tl_mix64(b->d->records.hash, tl_hash64(bytes, n));
}

/* "train-images-idx3-ubyte.gz" -> "train-labels-idx1-ubyte.gz"; NULL: the name is of another kind,
 * or there is no such file. Freed by the caller. */
static char *labels_beside(const char *path) {
  const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
  const char *images = strstr(base, "images"), *three = strstr(base, "idx3");
  char *out = images ? strdup(path) : NULL;
  if (!out) return NULL;
  memcpy(out + (images - path), "labels", 6);
  if (three) out[three - path + 3] = '1';
  if (tl_file_exists(out)) return out;
  free(out);
  return NULL;
}

tl_status tl_image_read_idx(tl_image_builder *b, tl_err *err) {
  const char *comma = strchr(b->path, ',');
  char *images = comma ? strndup(b->path, (size_t)(comma - b->path)) : strdup(b->path);
  char *labels = comma ? strdup(comma + 1) : labels_beside(b->path);
  tl_buf x = {0}, y = {0};
  tl_npy ax, ay;
  tl_status s = images ? tl_members_file(images, max_file, &x, err)
                       : tl_fail(err, TL_NOMEM, "%s: out of memory", b->path);
  if (s == TL_OK) s = tl_idx_parse(images, (const uint8_t *)x.data, x.len, &ax, err);
  if (s == TL_OK && labels) s = tl_members_file(labels, max_file, &y, err);
  if (s == TL_OK && labels) s = tl_idx_parse(labels, (const uint8_t *)y.data, y.len, &ay, err);
  if (s == TL_OK) s = tl_image_add_arrays(b, images, &ax, labels, labels ? &ay : NULL, err);
  if (s == TL_OK) mix_hash(b, x.data, x.len);
  if (s == TL_OK) mix_hash(b, y.data, y.len);
  tl_buf_free(&x);
  tl_buf_free(&y);
  free(images);
  free(labels);
  return s;
}

/* What stands before a picture's red, green and blue: CIFAR-10 has its label, CIFAR-100 that of the
 * group of classes and then its own. A file's length tells which it is. */
typedef struct cifar_form {
  size_t labels;
  int classes;
} cifar_form;

static tl_status cifar_form_of(const char *path, size_t len, cifar_form *out, tl_err *err) {
  static const cifar_form forms[] = {{1, 10}, {2, 100}};
  for (size_t i = 0; len && i < sizeof forms / sizeof *forms; i++) {
    *out = forms[i];
    if (len % (forms[i].labels + CIFAR_PIXELS) == 0) return TL_OK;
  }
  return tl_fail(err, TL_DATA,
                 "%s: %zu bytes; expected %d for each picture (CIFAR-10: a label, then red, green, "
                 "blue) or %d (CIFAR-100: two labels)",
                 path, len, 1 + CIFAR_PIXELS, 2 + CIFAR_PIXELS);
}

static tl_status cifar_rows(const char *path, const uint8_t *row, size_t n, const cifar_form *f,
                            int32_t *class, uint8_t *pixels, tl_err *err) {
  const int last = f->classes - 1;
  for (size_t i = 0; i < n; i++, pixels += CIFAR_PIXELS) {
    class[i] = row[f->labels - 1];
    if (class[i] > last)
      return tl_fail(err, TL_DATA, "%s: label %d of picture %zu; expected 0 to %d", path, class[i],
                     i, last);
    row += f->labels;
    for (size_t k = 0; k < 3; k++)
      for (size_t q = 0; q < CIFAR_PLANE; q++) pixels[q * 3 + k] = *row++;
  }
  return TL_OK;
}

static tl_status add_cifar(tl_image_builder *b, const char *path, const uint8_t *p, size_t len,
                           tl_err *err) {
  cifar_form f;
  TL_TRY(cifar_form_of(path, len, &f, err));
  size_t n = len / (f.labels + CIFAR_PIXELS);
  tl_image m = {.width = CIFAR_SIDE, .height = CIFAR_SIDE, .channels = 3};
  int32_t *class = malloc(n * sizeof *class);
  uint8_t *pixels = malloc(n * CIFAR_PIXELS);
  tl_status s = class && pixels
                    ? cifar_rows(path, p, n, &f, class, pixels, err)
                    : tl_fail(err, TL_NOMEM, "%s: out of memory for %zu pictures", path, n);
  if (s == TL_OK)
    s = tl_image_keep(b, pixels, err);
  else
    free(pixels);
  if (s == TL_OK) s = tl_image_add_block(b, pixels, n, &m, class, err);
  free(class);
  return s;
}

tl_status tl_image_read_cifar(tl_image_builder *b, tl_err *err) {
  char *paths = strdup(b->path), *save = NULL;
  tl_status s = paths ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", b->path);
  char *one = paths ? strtok_r(paths, ",", &save) : NULL;
  for (; s == TL_OK && one; one = strtok_r(NULL, ",", &save)) {
    tl_buf x = {0};
    s = tl_members_file(one, max_file, &x, err);
    if (s == TL_OK) s = add_cifar(b, one, (const uint8_t *)x.data, x.len, err);
    if (s == TL_OK) mix_hash(b, x.data, x.len);
    tl_buf_free(&x);
  }
  free(paths);
  return s;
}

/* --- NPZ ---------------------------------------------------------------------------------------
 */

/* Whether member "PART_images.npy" (or "images.npy", "x.npy" when part is empty) is meant. */
static bool is_member(const char *name, const char *part, const char *what, const char *letter) {
  size_t n = strlen(part);
  if (n) {
    if (strncmp(name, part, n) || name[n] != '_') return false;
    name += n + 1;
  }
  size_t w = strlen(what), l = strlen(letter);
  return (!strncmp(name, what, w) && !strcmp(name + w, ".npy")) ||
         (!strncmp(name, letter, l) && !strcmp(name + l, ".npy"));
}

static tl_status load_npz(const char *file, const char *part, tl_buf *x, tl_buf *y, tl_err *err) {
  tl_members m;
  TL_TRY(tl_members_open(&m, file, TL_MEMBERS_ZIP, err));
  bool more = true;
  tl_status s = TL_OK;
  while (s == TL_OK && (s = tl_members_next(&m, &more, err)) == TL_OK && more) {
    if (is_member(m.name, part, "images", "x")) s = tl_members_read(&m, max_file, x, err);
    if (is_member(m.name, part, "labels", "y")) s = tl_members_read(&m, max_file, y, err);
  }
  tl_members_close(&m);
  if (s == TL_OK && !x->len)
    s = tl_fail(err, TL_DATA,
                "%s: no array \"%s%simages\" in it; name the part behind a comma: FILE.npz,train",
                file, part, *part ? "_" : "");
  return s;
}

tl_status tl_image_read_npz(tl_image_builder *b, tl_err *err) {
  const char *comma = strchr(b->path, ','), *part = comma ? comma + 1 : "";
  char *file = comma ? strndup(b->path, (size_t)(comma - b->path)) : strdup(b->path);
  tl_buf x = {0}, y = {0};
  tl_npy ax, ay;
  tl_status s = file ? load_npz(file, part, &x, &y, err)
                     : tl_fail(err, TL_NOMEM, "%s: out of memory", b->path);
  if (s == TL_OK) s = tl_npy_parse(b->path, (const uint8_t *)x.data, x.len, &ax, err);
  if (s == TL_OK && y.len) s = tl_npy_parse(b->path, (const uint8_t *)y.data, y.len, &ay, err);
  if (s == TL_OK) s = tl_image_add_arrays(b, b->path, &ax, b->path, y.len ? &ay : NULL, err);
  if (s == TL_OK) mix_hash(b, x.data, x.len);
  if (s == TL_OK) mix_hash(b, y.data, y.len);
  tl_buf_free(&x);
  tl_buf_free(&y);
  free(file);
  return s;
}
