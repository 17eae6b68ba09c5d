#ifndef TL_FORMATS_GGUF_BLOCKS_H
#define TL_FORMATS_GGUF_BLOCKS_H

#include <stdint.h>

/* How a type of tensor is stored: blocks of so many elements in so many bytes. */
typedef struct tl_ggml_block {
  int type;
  const char *name;
  uint64_t elements, bytes;
  /* Sets out[elements] of one block (any alignment); NULL: F32, which need not be
   * unpacked, and types that this program does not read. */
  void (*unpack)(const unsigned char *block, float *out);
} tl_ggml_block;

const tl_ggml_block *tl_ggml_find(int64_t type); /* NULL if unknown */

#endif
