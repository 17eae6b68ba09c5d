/* safetensors: reading (memory-mapped, every rule of the format checked) and writing. */
#ifndef TILTH_SAFETENSORS_H
#define TILTH_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, bits per element), in the format's order of writing: last first. */
#define TL_ST_DTYPE_MAP(X)                                                                         \
  X(BOOL, 8)                                                                                       \
  X(F4, 4)                                                                                         \
  X(F6_E2M3, 6)                                                                                    \
  X(F6_E3M2, 6)                                                                                    \
  X(U8, 8)                                                                                         \
  X(I8, 8)                                                                                         \
  X(F8_E5M2, 8)                                                                                    \
  X(F8_E4M3, 8)                                                                                    \
  X(F8_E8M0, 8)                                                                                    \
  X(F8_E4M3FNUZ, 8)                                                                                \
  X(F8_E5M2FNUZ, 8)                                                                                \
  X(I16, 16)                                                                                       \
  X(U16, 16)                                                                                       \
  X(F16, 16)                                                                                       \
  X(BF16, 16)                                                                                      \
  X(I32, 32)                                                                                       \
  X(U32, 32)                                                                                       \
  X(F32, 32)                                                                                       \
  X(C64, 64)                                                                                       \
  X(F64, 64)                                                                                       \
  X(I64, 64)                                                                                       \
  X(U64, 64)

typedef enum tl_st_dtype {
#define TL_ST_ENUM(name, bits) TL_ST_##name,
  TL_ST_DTYPE_MAP(TL_ST_ENUM)
#undef TL_ST_ENUM
      TL_ST_N_DTYPES
} tl_st_dtype;
const char *tl_st_dtype_name(tl_st_dtype t); /* "F32" */

enum { TL_ST_MAX_NDIM = 8 };

typedef struct tl_st_tensor {
  const char *name;
  tl_st_dtype dtype;
  int ndim; /* 0: a scalar */
  int64_t shape[TL_ST_MAX_NDIM];
  const void *data; /* little-endian, row-major, packed; a mapped tensor may be unaligned */
  uint64_t size;    /* bytes; a writer computes it from dtype and shape */
} tl_st_tensor;

typedef struct tl_st tl_st;

/* path: a .safetensors file, an .index.json of shards, or a folder with model.safetensors or
 * model.safetensors.index.json. Tensors and names live until tl_st_close. Errors: DATA (names the
 * file and the tensor), NOINPUT, IO, NOMEM. */
tl_status tl_st_open(const char *path, tl_st **out, tl_err *err);
void tl_st_close(tl_st *st); /* NULL is allowed */
size_t tl_st_count(const tl_st *st);
const tl_st_tensor *tl_st_at(const tl_st *st, size_t i);           /* sorted by name */
const tl_st_tensor *tl_st_find(const tl_st *st, const char *name); /* NULL if absent */
/* A value of __metadata__ (of the first shard); NULL if absent. */
const char *tl_st_meta(const tl_st *st, const char *key);
int64_t tl_st_elements(const tl_st_tensor *t);
/* Converts an F64, F32, BF16 or F16 tensor to out[elements]; other types are a DATA error. */
tl_status tl_st_read_f32(const tl_st_tensor *t, float *out, tl_err *err);

typedef struct tl_st_pair {
  const char *key, *value;
} tl_st_pair;

/* Writes a file in one step (temporary file, sync, rename). The order of `t` does not matter: the
 * same tensors give the same bytes. Data begins at a multiple of 64; __metadata__ holds
 * {"format": "pt"} and `meta`. *size and *hash (XXH3-64) of the file may be NULL. Errors: CONFIG
 * (a name twice, a shape or a name that the format does not allow), IO, NOMEM. */
tl_status tl_st_write(const char *path, const tl_st_tensor *t, size_t n, const tl_st_pair *meta,
                      size_t n_meta, uint64_t *size, uint64_t *hash, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
