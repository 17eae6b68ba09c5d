/* Task heads: what stands on a body and turns hidden states into labels, as Hugging Face's classes
 * of the architecture have it, so that their libraries open the finished model.
 *
 *   sequence  one row per text: pooled hidden state -> [head] -> [pooler] -> dropout -> linear
 *   tokens    one row per word: hidden state of its first token -> [head] -> dropout -> linear
 *   masks     one row per pixel, see tl_mask_head; the names are ours: Hugging Face has no such
 *             class for ViT */
#ifndef TL_MODELS_TASK_HEAD_H
#define TL_MODELS_TASK_HEAD_H

#include "models/model.h"

typedef struct tl_task_head_options {
  tl_head_kind kind;
  int n_outputs;             /* labels; 1 for regression */
  const char *const *name;   /* [n_outputs] of the labels, or NULL */
  const char *problem;       /* Hugging Face's problem_type, or NULL */
  double dropout;            /* before the linear layer */
  double smoothing;          /* masks: of the labels in training */
  int void_id;               /* masks: see tl_task_head */
  tl_declare_extra_fn extra; /* called behind the head's declaration, or NULL */
  void *user;
} tl_task_head_options;

/* A model with random weights and this head; dropout of the body is config's. */
tl_status tl_model_new_task(const tl_model_config *config, const tl_task_head_options *o,
                            uint64_t seed, bool with_grads, tl_model **out, tl_err *err);

/* A model by its name (place.h) with the head that it was saved with, if it has one; only to be
 * run. Errors as of tl_model_load. */
tl_status tl_model_load_task(const char *name, tl_model **out, tl_err *err);

/* Features [R, D] of hidden states h [N, D]. Tokens: R rows, the words' first tokens. Sequences:
 * one row per segment, as tl_model_pooling has it: the mean of each segment
 * (rows is not used), or its first or last row, which rows then holds. */
tl_node *tl_task_head_features(const tl_model *m, tl_graph *g, tl_node *h, tl_node *rows,
                               tl_node *segments);

/* Masks: logits [n S S, classes] of every pixel of S x S, S = tl_mask_side, a part of the model's
 * image_size. A body whose rows are pixels of that grid has a linear layer on them. Of a coarser
 * one each row is spread out: linear and GELU to s s columns of 32, which become s x s rows
 * (tl_pixel_shuffle), then linear; s is at most 8. h: the body's rows; rows i32 [n P]: which of
 * them stand for parts of the picture, P = tl_mask_rows for each; read if there is a class token.
 */
void tl_mask_head_declare(tl_model *m, tl_declare *d);
int64_t tl_mask_rows(const tl_model *m);
int64_t tl_mask_side(const tl_model *m);
tl_node *tl_mask_head(const tl_model *m, tl_graph *g, tl_node *h, tl_node *rows);

#endif
