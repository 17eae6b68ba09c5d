/* A GGUF file as a model: what export_gguf.c writes, the other way round. */
#ifndef TL_MODELS_GGUF_MODEL_H
#define TL_MODELS_GGUF_MODEL_H

#include "models/model.h"

/* Architecture and sizes of the model in a file. DATA: what is damaged, or not supported; names the
 * key or tensor. */
tl_status tl_gguf_read_config(const char *path, tl_model_config *out, tl_err *err);
/* Sets the values of the body's parameters; with `changed`, only of those that are marked
 * TL_PARAM_CHANGED. Others (a task head's) keep theirs. */
tl_status tl_gguf_read_weights(tl_model *m, const char *path, bool changed, tl_err *err);
/* For what copies a folder's tensors: CONFIG when path is such a file. */
tl_status tl_gguf_refuse(const char *path, tl_err *err);

#endif
