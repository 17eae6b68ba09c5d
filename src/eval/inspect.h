/* Parts of the inspection of models; tilth/inspect.h says what is measured. */
#ifndef TL_EVAL_INSPECT_H
#define TL_EVAL_INSPECT_H

#include "models/model.h"
#include "tilth/inspect.h"

enum { TL_INSPECT_MAP = 48 }; /* tokens of an attention map */

/* Attention of row `row` of a segment to each of its keys, out[k1 - k0]: of an operator of
 * self-attention (tl_op_attention) in f32 whose input stayed readable. */
void tl_attention_row(const tl_node *attention, const tl_segment *seg, int head, int row,
                      float *out);

/* A forward graph of one window, whose queries, keys and logits stay readable. */
typedef struct tl_inspector {
  tl_ctx *ctx;
  tl_model *model; /* borrowed, with gradients: weights are changed and put back */
  tl_graph *g;
  int dim;
  int64_t max, n; /* tokens: room, and of the window that ran */
  tl_model_io io;
  tl_node *logits; /* [max, V] f32 */
  tl_node **attn;  /* [layers] attention operators */
  int layers, heads;
  bool causal;
} tl_inspector;
/* CONFIG: an encoder-decoder. */
tl_status tl_inspector_open(tl_ctx *ctx, tl_model *m, int64_t max, tl_inspector *out, tl_err *err);
void tl_inspector_close(tl_inspector *p);
void tl_inspector_run(tl_inspector *p, const int32_t *token, int64_t n);
/* map [n][n]: row q holds the attention of token q of the window that ran to each token. */
void tl_inspector_attention(const tl_inspector *p, int layer, int head, float *map);
/* loss[n] in nats of target[i] by row i; 0 where the target is negative. */
void tl_inspector_losses(const tl_inspector *p, const int32_t *target, double *loss);
/* Zeroes what a head gives to its layer's output; kept[dim * head size] gets its weights, with
 * which _restore puts it back. */
void tl_inspector_ablate(tl_inspector *p, int layer, int head, float *kept);
void tl_inspector_restore(tl_inspector *p, int layer, int head, const float *kept);

/* Per head [layers * heads], on `sequences` random sequences of `half` tokens below vocab, each
 * repeated once. */
typedef struct tl_induction {
  double *induction, *previous, *duplicate; /* mean attention in the repetition: to the token behind
                                               the first occurrence, to the token before, to the
                                               first occurrence */
  double loss_first, loss_repeat;           /* mean over the tokens of each half */
} tl_induction;
tl_status tl_inspect_induction(tl_inspector *p, int64_t vocab, int64_t half, int64_t sequences,
                               uint64_t seed, tl_induction *out, tl_err *err);
void tl_induction_free(tl_induction *x);

/* One window to learn from: token[n], and the tokens wanted of the rows idx[n_targets]. */
typedef struct tl_inspect_window {
  int32_t *token, *target; /* [n]; target negative: none */
  int64_t n;
} tl_inspect_window;
/* Norms of the gradients of the mean loss over the windows, which have one length: of the
 * embeddings (group 0), of each block, and of what is left (final norm, output layer). out[blocks +
 * 2]. */
tl_status tl_inspect_gradients(tl_ctx *ctx, tl_model *m, const tl_inspect_window *w, int64_t n,
                               bool cut_skips, double *out, tl_err *err);

#endif
