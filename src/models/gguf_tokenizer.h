#ifndef TL_MODELS_GGUF_TOKENIZER_H
#define TL_MODELS_GGUF_TOKENIZER_H

#include "models/model.h"
#include "tilth/gguf.h"

/* Writes the keys of dir's tokenizer for a model with `vocab` ids; those that the tokenizer lacks
 * are named [PADi] and unused. CONFIG when llama.cpp has no tokenizer that gives the same ids. */
tl_status tl_gguf_put_tokenizer(tl_gguf_writer *w, const char *dir, int64_t vocab, tl_err *err);

/* The other way: dir (created) gets tokenizer.json and tokenizer_config.json. path is the file's,
 * for messages. DATA: what is not a byte-level BPE tokenizer of at most `vocab` ids with a known
 * pre-tokenizer. */
tl_status tl_gguf_save_tokenizer(const tl_gguf *g, const char *path, int64_t vocab, const char *dir,
                                 tl_err *err);

enum { /* kinds of tokens, as stored */
       TL_GGUF_NORMAL = 1,
       TL_GGUF_UNKNOWN = 2,
       TL_GGUF_CONTROL = 3,
       TL_GGUF_USER = 4,
       TL_GGUF_UNUSED = 5
};
typedef struct tl_gguf_split {
  const char *name, *regex; /* llama.cpp's name of a pre-tokenizer */
} tl_gguf_split;
extern const tl_gguf_split tl_gguf_splits[]; /* ends with zeros, as tl_gguf_roles does */
typedef struct tl_gguf_role {
  const char *key, *hf; /* in GGUF; in tokenizer_config.json */
  tl_special role;
} tl_gguf_role;
extern const tl_gguf_role tl_gguf_roles[];

#endif
