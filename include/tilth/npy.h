/* NumPy's file of one array (.npy). */
#ifndef TILTH_NPY_H
#define TILTH_NPY_H

#include <stddef.h>
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes data [rows, cols] in f32, row by row; replaces what is at path. Errors: IO, PERM, FULL,
 * NOMEM; nothing is left at path then. */
tl_status tl_npy_write(const char *path, const float *data, size_t rows, size_t cols, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
