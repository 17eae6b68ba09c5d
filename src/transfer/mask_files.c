/* Predicted masks as files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "transfer/mask.h"

/* A fraction of a turn around the colours, at full strength, to RGB. */
static double channel(double turn, double at) {
  double x = turn - at;
  x -= (double)(int)x;
  if (x < 0) x += 1;
  double y = x < 0.5 ? x : 1 - x; /* distance to `at`, 0 to 1/2 */
  double v = 2 - 6 * y;
  return v < 0 ? 0 : v > 1 ? 1 : v;
}

void tl_mask_colours(uint8_t (*palette)[3], size_t n) {
  static const double golden = 0.6180339887498949; /* of a turn: neighbours lie far apart */
  for (size_t i = 0; i < n; i++)
    for (int k = 0; k < 3; k++) {
      double v = channel((double)i * golden, k / 3.0), bright = i % 3 == 1 ? 0.55 : 0.95;
      palette[i][k] = (uint8_t)(255 * bright * (i % 2 ? v : 0.25 + 0.75 * v));
    }
  if (n > TL_MASK_VOID) memset(palette[TL_MASK_VOID], 0, 3);
}

/* --- names -------------------------------------------------------------------------------------
 */

/* DIR/NAME.png for ".../NAME.jpg" or "FILE.tar:.../NAME.jpg"; NULL when out of memory. */
static char *name_of(const char *dir, const char *picture) {
  const char *slash = strrchr(picture, '/'), *colon = strrchr(picture, ':');
  const char *base = slash ? slash + 1 : colon ? colon + 1 : picture, *dot = strrchr(base, '.');
  size_t stem = dot ? (size_t)(dot - base) : strlen(base), size = strlen(dir) + stem + 8;
  char *out = malloc(size);
  if (out) snprintf(out, size, "%s/%.*s.png", dir, (int)stem, base);
  return out;
}

static int by_text(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Two pictures whose masks would be one file are an error. */
static tl_status check_twice(char *const *name, size_t n, tl_err *err) {
  char **sorted = malloc((n + 1) * sizeof *sorted);
  if (!sorted) return tl_fail(err, TL_NOMEM, "masks: out of memory for %zu names", n);
  if (n) memcpy(sorted, name, n * sizeof *sorted);
  qsort(sorted, n, sizeof *sorted, by_text);
  tl_status s = TL_OK;
  for (size_t i = 1; s == TL_OK && i < n; i++)
    if (!strcmp(sorted[i], sorted[i - 1]))
      s = tl_fail(err, TL_DATA, "%s: two pictures have this name; predict their folders in turn",
                  sorted[i]);
  free(sorted);
  return s;
}

tl_status tl_mask_names(const tl_image_data *d, const char *dir, char ***out, tl_err *err) {
  size_t n = d->records.n;
  char **name = *out = calloc(n + 1, sizeof *name);
  if (!name) return tl_fail(err, TL_NOMEM, "masks: out of memory for %zu names", n);
  for (size_t i = 0; i < n; i++)
    if (!(name[i] = name_of(dir, d->records.text[i])))
      return tl_fail(err, TL_NOMEM, "masks: out of memory for %zu names", n);
  TL_TRY(check_twice(name, n, err));
  return tl_mkdirs(dir, err);
}

tl_status tl_mask_write(void *user, size_t i, const tl_image *classes, tl_err *err) {
  const tl_mask_files *f = user;
  uint8_t palette[TL_MASK_CLASSES][3], *png = NULL;
  size_t n = 0;
  tl_mask_colours(palette, (size_t)f->n_classes);
  TL_TRY(tl_image_encode_png(classes, (const uint8_t(*)[3])palette, (size_t)f->n_classes, &png, &n,
                             err));
  tl_status s = tl_file_write_atomic(f->name[i], png, n, err);
  free(png);
  return s;
}
