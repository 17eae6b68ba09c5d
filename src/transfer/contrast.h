/* Contrastive learning of embeddings (SimCSE; Gao et al. 2021): of all texts in a batch, a text is
 * to be nearest to its partner: itself with other dropout, or a text that means the same. */
#ifndef TL_TRANSFER_CONTRAST_H
#define TL_TRANSFER_CONTRAST_H

#include "transfer/embed.h"

typedef struct tl_contrast_options {
  tl_dtype dt;
  int64_t batch, views; /* views of each record: 2 (text, partner), or 3: a hard negative too */
  int64_t max_tokens;   /* of a batch's texts, all views */
  tl_pooling pool;
  double temperature;
} tl_contrast_options;

/* The graph: body -> pooling -> RMS norm (a length of sqrt(D)) -> products / (D temperature), which
 * are the cosines over the temperature [batch, batch (views - 1)] -> cross-entropy, where row i's
 * class is its partner, column i; negatives follow the partners. */
typedef struct tl_contrast_graph {
  tl_model *model;
  tl_graph *g;
  tl_contrast_options o;
  int dim_tokens;
  tl_model_io io;
  tl_node *rows[2];   /* of the anchors and of the others: segments, or the pooled rows */
  tl_node *pooled[2]; /* [batch, D], [batch (views - 1), D]; kept readable */
  tl_node *targets, *loss;
  int64_t n_tokens, n_texts; /* filled */
} tl_contrast_graph;
/* Borrows ctx and the model, which has gradients. CONFIG: an encoder-decoder. */
tl_status tl_contrast_new(tl_ctx *ctx, tl_model *m, const tl_contrast_options *o,
                          tl_contrast_graph *out, tl_err *err);
void tl_contrast_free(tl_contrast_graph *p);

/* A batch is filled text by text: all anchors, then all partners, then all negatives. */
void tl_contrast_clear(tl_contrast_graph *p);
void tl_contrast_add(tl_contrast_graph *p, const int32_t *token, int64_t n);
/* Of the full batch: the values of tl_softmax_loss. */
const float *tl_contrast_pass(tl_contrast_graph *p, const tl_pass *pass);
/* The normalised embeddings of the batch that ran: [batch][D] of the anchors or (1) partners. */
void tl_contrast_embeddings(const tl_contrast_graph *p, int which, float *out);

#endif
