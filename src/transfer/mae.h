/* Masked autoencoder (He et al., 2021): most patches of a picture are hidden, the body reads the
 * others, and a small decoder makes the pixels of the hidden ones. Names and sizes are those of
 * transformers' ViTMAEForPreTraining, which opens the finished model; so does any reader of ViT,
 * for the body alone. */
#ifndef TL_TRANSFER_MAE_H
#define TL_TRANSFER_MAE_H

#include "models/model.h"

typedef struct tl_mae_decoder {
  tl_model_config c; /* its sizes: dim, layers, heads, ff, ... */
  tl_param *embed_w, *embed_b, *mask_token, *pos, *pred_w, *pred_b;
  tl_block *block; /* [c.layers] */
  tl_norm norm;
} tl_mae_decoder;

/* In a graph of n pictures of `patches`, each with first = 1 row more if there is a class token. */
typedef struct tl_mae_graph {
  int64_t first, patches, visible, cols; /* cols: values of a patch */
  bool normalise;                        /* targets: each patch to mean 0 and variance 1 */
  /* The decoder's inputs: i32 [n (first + patches)] each row's row of the body's, -1: hidden, and
   * its position; the segments; i32 [n (patches - visible)] the rows of hidden patches. */
  tl_node *source, *pos, *segments, *hidden;
  tl_node *targets; /* f32 [n (patches - visible), cols], pixel by pixel, channels last */
  tl_node *made;    /* the same, as the decoder makes them */
  float *moments;   /* [n (patches - visible)][2] mean and spread of hidden patches (0 and 1 where
                       they are not normalised) */
  uint8_t *mask;    /* [n][patches] 1: hidden */
} tl_mae_graph;

#endif
