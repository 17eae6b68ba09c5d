#ifndef TL_MODELS_GGUF_TOKENIZER_H
#define TL_MODELS_GGUF_TOKENIZER_H

#include "models/model.h"
#include "tilth/gguf.h"

/* Writes the keys of dir's tokenizer for a model with `vocab` ids; those that the tokenizer lacks
 * are named [PADi] and unused. CONFIG when llama.cpp has no tokenizer that gives the same ids. */
tl_status tl_gguf_put_tokenizer(tl_gguf_writer *w, const char *dir, int64_t vocab, tl_err *err);

#endif
