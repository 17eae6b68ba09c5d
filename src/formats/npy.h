/* What the writers of .npy and .npz share. */
#ifndef TL_FORMATS_NPY_H
#define TL_FORMATS_NPY_H

#include "tilth/npy.h"

enum { TL_NPY_HEADER = 320 }; /* room for any header */
/* The bytes before an array of f32; returns their number. */
size_t tl_npy_header(char out[TL_NPY_HEADER], int ndim, const int64_t *shape);

#endif
