/* A toy of pictures in IDX files: the upper or the lower half is the brighter one, in noise. */
#ifndef TOY_PICTURES_H
#define TOY_PICTURES_H

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"

enum { TOY_SIDE = 8, TOY_MOST = 255, TOY_PATH = 600 };

static void toy_write_file(const char *path, const void *data, size_t n) {
  tl_err err = {TL_OK, ""};
  if (tl_file_write_atomic(path, data, n, &err) != TL_OK) fail_msg("%s", err.msg);
}

/* n pictures as dir/name-images-idx3-ubyte, whose path goes to path[TOY_PATH], and their labels. */
static void toy_pictures(const char *dir, const char *name, int n, uint64_t seed, char *path) {
  enum { PIXELS = TOY_SIDE * TOY_SIDE };
  static uint8_t x[16 + TOY_MOST * PIXELS], y[8 + TOY_MOST];
  const uint8_t count = (uint8_t)n;
  memcpy(x, (uint8_t[16]){0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, TOY_SIDE, 0, 0, 0, TOY_SIDE}, 16);
  memcpy(y, (uint8_t[8]){0, 0, 8, 1, 0, 0, 0, count}, 8);
  tl_rng r = tl_rng_make(seed, TL_STREAM_TEST, 0, 0);
  for (int i = 0; i < n; i++) {
    y[8 + i] = (uint8_t)(i % 2);
    for (int p = 0; p < PIXELS; p++) {
      bool bright = (p < PIXELS / 2) == (i % 2 == 0);
      x[16 + i * PIXELS + p] = (uint8_t)((bright ? 120 : 30) + tl_rng_below(&r, 100));
    }
  }
  char labels[TOY_PATH];
  snprintf(path, TOY_PATH, "%s/%s-images-idx3-ubyte", dir, name);
  snprintf(labels, sizeof labels, "%s/%s-labels-idx1-ubyte", dir, name);
  toy_write_file(path, x, 16 + (size_t)n * PIXELS);
  toy_write_file(labels, y, 8 + (size_t)n);
}

#endif
