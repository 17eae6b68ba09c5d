/* Where a model's files are. A model's name is a folder: a whole model, or an adapter of Hugging
 * Face's peft (adapter_config.json), whose base it names; or "BASE,ADAPTER", two folders. In place
 * of a whole model's folder a GGUF file may stand. */
#ifndef TL_MODELS_PLACE_H
#define TL_MODELS_PLACE_H

#include "tilth/status.h"
#include "tilth/tokenizer.h"

typedef struct tl_model_place {
  char *base;      /* folder of the weights, or a GGUF file */
  char *adapter;   /* folder of the adapter; NULL: none */
  char *described; /* folder of the config.json that tells the task: the adapter's, if it has one */
} tl_model_place;
/* Errors: NOINPUT (the base that an adapter names is not there), DATA, NOMEM. */
tl_status tl_model_locate(const char *name, tl_model_place *out, tl_err *err);
void tl_model_place_free(tl_model_place *p);
/* The tokenizer of such a name: beside the adapter, or that of the base. */
tl_status tl_model_tokenizer(const char *name, tl_tokenizer **out, tl_err *err);

#endif
