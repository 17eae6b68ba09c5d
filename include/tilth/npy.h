/* NumPy's files: of one array (.npy), of several by name (.npz). */
#ifndef TILTH_NPY_H
#define TILTH_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TL_NPY_MAX_NDIM = 8 };

/* Writes data [rows, cols] in f32, row by row; replaces what is at path. Errors: IO, PERM, FULL,
 * NOMEM; nothing is left at path then. */
tl_status tl_npy_write(const char *path, const float *data, size_t rows, size_t cols, tl_err *err);

typedef struct tl_npz_item {
  const char *name; /* without ".npy" */
  int ndim;
  int64_t shape[TL_NPY_MAX_NDIM];
  const float *data;
} tl_npz_item;
/* Writes arrays of f32, uncompressed; replaces what is at path in one step. The same arrays give
 * the same bytes. *size may be NULL. Errors as above. */
tl_status tl_npz_write(const char *path, const tl_npz_item *item, size_t n, uint64_t *size,
                       tl_err *err);

/* An array as stored: numbers only, never Python objects. */
typedef struct tl_npy {
  char kind;       /* 'f' float, 'i', 'u' integers, 'b' truth values, 'c' complex */
  int item;        /* bytes of a number */
  bool big_endian; /* of numbers of more than a byte */
  bool fortran;    /* the first axis is contiguous instead of the last */
  int ndim;
  int64_t shape[TL_NPY_MAX_NDIM];
  int64_t n; /* numbers */
  const unsigned char *data;
} tl_npy;
/* bytes: a whole .npy file, borrowed by *out; what: its name in messages. Types: f2, f4, f8, i1 to
 * i8, u1 to u8, b1, c8. DATA unless every byte is accounted for. */
tl_status tl_npy_parse(const char *what, const unsigned char *bytes, size_t n, tl_npy *out,
                       tl_err *err);
/* Number i in the order that they are stored in; 0 of complex ones. */
double tl_npy_at(const tl_npy *a, int64_t i);
/* Sets out[n] in the last-axis-contiguous order. DATA for complex numbers. */
tl_status tl_npy_read_f32(const tl_npy *a, float *out, tl_err *err);

/* Calls `each` for every array of an .npz, or once for an .npy (its name is then ""); stops at the
 * first failure. max_bytes: of one array, 0: 4 GiB. */
typedef tl_status (*tl_npy_fn)(void *user, const char *name, const tl_npy *a, tl_err *err);
tl_status tl_npz_each(const char *path, uint64_t max_bytes, tl_npy_fn each, void *user,
                      tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
