/* Adapters (LoRA, DoRA) in the files of Hugging Face's peft. How a model and its adapter are named
 * stands at tl_model_load; switching between adapters at tl_predictor_switch. */
#ifndef TILTH_ADAPTER_H
#define TILTH_ADAPTER_H

#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the model of a base and its adapter ("BASE,ADAPTER", or the adapter's folder alone) as one
 * model into the folder out, with the tokenizer. Errors: CONFIG (no adapter), those of
 * tl_model_load and tl_model_save. */
tl_status tl_adapter_merge(const char *name, const char *out, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
