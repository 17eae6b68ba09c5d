/* Pictures and their captions (objective clip): what is added to a model of pictures, its graph,
 * and what of the finished model stands where.
 *
 * A second body reads the captions, an encoder whose hidden states' mean is a caption's; linear
 * layers bring both to one width. A finished model's folder is that of the pictures' body; in its
 * folder TL_CLIP_TEXT stands the encoder with its tokenizer, and in its file TL_CLIP_FILE are the
 * layers, by the names of Hugging Face's CLIPModel: visual_projection.weight [P, D],
 * text_projection.weight [P, D'], logit_scale [1], the logarithm of the scale. */
#ifndef TL_TRANSFER_CLIP_H
#define TL_TRANSFER_CLIP_H

#include "transfer/task.h"

#define TL_CLIP_TEXT "text"
#define TL_CLIP_FILE "projections.safetensors"
#define TL_CLIP_VISUAL "visual_projection.weight"
#define TL_CLIP_TEXTUAL "text_projection.weight"
#define TL_CLIP_SCALE "logit_scale"

typedef struct tl_clip_parts {
  int64_t vocab;  /* of the captions' tokenizer */
  tl_model *text; /* whose parameters are the picture model's */
  tl_param *visual, *textual, *log_scale;
} tl_clip_parts;

typedef struct tl_clip_graph {
  tl_model_io io; /* of the captions */
  int dim_tokens;
  tl_node *mask; /* see tl_clip_mask */
  tl_node *rows; /* [2 batch, P], of pictures and captions; kept readable */
} tl_clip_graph;

/* Sizes of the captions' body by the section `objective`. */
tl_status tl_clip_text_config(const tl_config *c, int64_t vocab, tl_model_config *out, tl_err *err);
/* Writes what belongs to a finished model besides the pictures' body into its folder. */
tl_status tl_clip_save(const tl_clip_parts *parts, const tl_params *params, const tl_tokenizer *tok,
                       const char *dir, tl_err *err);

/* Retrieval among n pairs of unit rows [n][d], pair i with caption text[i] of n_texts. Sets recall
 * at 1, 5 and 10: of captions, for the pictures, then of pictures, for the captions. Equal captions
 * are one, and any of its pictures will do. Ties count as misses, so that rows that are all the
 * same find nothing. */
enum { TL_RECALLS = 6 };
typedef struct tl_retrieval {
  double recall[TL_RECALLS];
} tl_retrieval;
tl_status tl_retrieve(tl_ctx *ctx, const float *pictures, const float *texts, const int32_t *text,
                      int64_t n, int64_t n_texts, int64_t d, tl_retrieval *out, tl_err *err);

#endif
