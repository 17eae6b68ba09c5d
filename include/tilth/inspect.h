/* Looking into a model: what its heads attend to and are worth, where its loss lies, how gradients
 * flow, which embeddings are near each other. */
#ifndef TILTH_INSPECT_H
#define TILTH_INSPECT_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/context.h"
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_inspect_options { /* numbers 0: the defaults */
  const char *text;  /* whose attention maps are shown; NULL: the beginning of data */
  const char *data;  /* file of text, a line each, to measure on; NULL: the text */
  const char *words; /* whose neighbours are shown, with commas between; NULL: those of the text */
  int64_t length;    /* tokens per window; 128, or the model's longest if that is less */
  int64_t windows;   /* of the data; 8 */
  uint64_t seed;     /* of random sequences and masks */
} tl_inspect_options;

/* Measures, in f32, and sets *json to the document (malloc'ed, freed by the caller):
 *   attention   per layer and head: the map over the text's first 48 tokens, entropy in nats, the
 *               mean attention to the token before and to the first token
 *   induction   decoders: on random tokens repeated once, the attention from each token of the
 *               repetition to the one behind its first occurrence (Olsson et al. 2022), the losses
 *               of both halves
 *   importance  how much the loss rises when a head's output is zero
 *   position    the loss at each position of a window
 *   gradients   norm of the gradient of each layer's weights, and the same with all skip
 *               connections cut
 *   neighbours  tokens whose embeddings have the highest cosine
 * Decoders are measured on the next token; encoders on 15 % of the tokens, masked.
 * Errors: USAGE (neither text nor data), CONFIG (an encoder-decoder, sizes), DATA (too little text,
 * an encoder without a mask token), those of tl_model_load and tl_task_read. */
tl_status tl_inspect(tl_ctx *ctx, const char *model_dir, const tl_inspect_options *options,
                     char **json, tl_err *err);
/* What a run folder recorded of its gradients (run.layer_norms): {"layers": [name], "step": [n],
 * "norm": [[of each layer] per step]}; tl_report_run draws it. *json as above. DATA: it has none.
 */
tl_status tl_inspect_run(const char *run_dir, char **json, tl_err *err);
/* The document as one HTML page with drawings, without scripts. DATA: not such a document. */
tl_status tl_inspect_html(const char *json, const char *path, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
