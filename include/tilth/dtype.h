/* Element types. */
#ifndef TILTH_DTYPE_H
#define TILTH_DTYPE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, bytes, text, safetensors name) */
#define TL_DTYPE_MAP(X)                                                                            \
  X(F32, 4, "f32", "F32")                                                                          \
  X(BF16, 2, "bf16", "BF16")                                                                       \
  X(I32, 4, "i32", "I32")

typedef enum tl_dtype {
#define TL_DTYPE_ENUM(name, bytes, text, st) TL_##name,
  TL_DTYPE_MAP(TL_DTYPE_ENUM)
#undef TL_DTYPE_ENUM
      TL_N_DTYPES
} tl_dtype;

size_t tl_dtype_size(tl_dtype t);
const char *tl_dtype_name(tl_dtype t);

#ifdef __cplusplus
}
#endif

#endif
