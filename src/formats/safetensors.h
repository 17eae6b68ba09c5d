/* What the reader and the writer of safetensors share. */
#ifndef TL_FORMATS_SAFETENSORS_H
#define TL_FORMATS_SAFETENSORS_H

#include "tilth/safetensors.h"

int tl_st_dtype_from_name(const char *name); /* a tl_st_dtype, or -1 */
/* Bytes of a tensor; false on overflow, a negative dimension, or a fraction of a byte. */
bool tl_st_byte_size(tl_st_dtype dtype, int ndim, const int64_t *shape, uint64_t *size);

#endif
