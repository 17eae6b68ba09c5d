/* What llama.cpp calls the architectures and tensors, for both directions. */
#ifndef TL_MODELS_GGUF_NAMES_H
#define TL_MODELS_GGUF_NAMES_H

#include "models/model.h"
#include "tilth/gguf.h"

typedef enum tl_gguf_how { /* how a tensor lies in the file */
                           TL_GGUF_AS_IS,
                           TL_GGUF_TRANSPOSED,
                           TL_GGUF_ROPE_Q, /* rows change places where the arch is interleaved */
                           TL_GGUF_ROPE_K,
                           TL_GGUF_F32_ONLY
} tl_gguf_how;

typedef struct tl_gguf_name {
  const char *from, *to; /* without ".weight" and ".bias", nor the block's prefix */
  tl_gguf_how how;
} tl_gguf_name;

typedef struct tl_gguf_arch {
  const tl_arch *arch;
  bool qk_norm;
  const char *name, *block; /* llama.cpp's word; the prefix of a block's tensors */
  const tl_gguf_name *names;
  tl_act act;       /* the only one that llama.cpp has there */
  bool interleaved; /* rotated pairs lie beside each other: rows of q and k change places */
} tl_gguf_arch;

enum { TL_GGUF_NAME_ROOM = 160 };

extern const tl_gguf_arch tl_gguf_archs[]; /* ends with a row of zeros */

/* Sets the file's name of a parameter; NULL: it has none. */
const tl_gguf_name *tl_gguf_name_of(const tl_gguf_arch *a, const char *param,
                                    char name[TL_GGUF_NAME_ROOM]);
/* What Llama 3's rule divides frequency i of a head's dim / heads / 2 by; the tensor of them. */
float tl_gguf_rope_factor(const tl_model_config *c, int64_t i);
#define TL_GGUF_ROPE_FACTORS "rope_freqs.weight"

/* x: [rows, cols]. Sets y: [cols, rows]. */
void tl_gguf_transpose(const float *x, int64_t rows, int64_t cols, float *y);
/* Row j and row j + hd/2 of each head, which are turned together, come to lie beside each other, or
 * with `undo` apart again. Sets y: [rows, cols]. */
void tl_gguf_interleave(const float *x, int64_t heads, int64_t rows, int64_t cols, bool undo,
                        float *y);

#endif
