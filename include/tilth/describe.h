/* What a file of one of the known formats holds, safely: nothing in it is trusted or executed. */
#ifndef TILTH_DESCRIBE_H
#define TILTH_DESCRIBE_H

#include <stdbool.h>
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* path: a .safetensors file (or the index of several), a GGUF, .npy, .npz, TensorBoard event file,
 * a tokenizer.json, a checkpoint's or model's folder; the contents decide, not the name. *text:
 * lines to print, or one JSON document (malloc'ed); characters that a terminal would obey are
 * escaped. Errors: DATA (damaged, or of no known format), NOINPUT, PERM, IO, NOMEM. */
tl_status tl_describe_file(const char *path, bool json, char **text, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
