#include "tilth/npy.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

enum { PRELUDE = 10, ALIGN = 64 };

/* Version 1.0: magic, two bytes of version, a length, and a Python dictionary padded with blanks to
 * a multiple of 64 bytes, the last of them a newline. */
static size_t header(char out[4 * ALIGN], size_t rows, size_t cols) {
  memset(out, ' ', 4 * ALIGN);
  memcpy(out, "\x93NUMPY\x01\x00", 8);
  int n = snprintf(out + PRELUDE, 4 * ALIGN - PRELUDE,
                   "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", rows, cols);
  out[PRELUDE + n] = ' ';
  size_t total = (PRELUDE + (size_t)n + 1 + ALIGN - 1) / ALIGN * ALIGN, rest = total - PRELUDE;
  out[total - 1] = '\n';
  out[8] = (char)(rest & 0xFF);
  out[9] = (char)(rest >> 8);
  return total;
}

tl_status tl_npy_write(const char *path, const float *data, size_t rows, size_t cols, tl_err *err) {
  char head[4 * ALIGN];
  tl_out out = {0};
  tl_status s = tl_out_open(path, &out, err);
  if (s == TL_OK) s = tl_out_write(&out, head, header(head, rows, cols), err);
  if (s == TL_OK) s = tl_out_write(&out, data, rows * cols * sizeof *data, err);
  if (s == TL_OK) s = tl_out_commit(&out, NULL, err);
  if (s != TL_OK) tl_out_abort(&out);
  return s;
}
