/* Embeddings of texts as other parts use them. */
#ifndef TL_TRANSFER_EMBED_H
#define TL_TRANSFER_EMBED_H

#include "tilth/embed.h"
#include "transfer/task.h"

bool tl_pooling_parse(const char *name, tl_pooling *out); /* "mean", "first", "last" */

/* Texts as tokens: the records' first, second or third texts (which: 0, 1, 2). */
tl_status tl_embed_encode(const tl_tokenizer *tok, const tl_task_data *d, int which,
                          const tl_encode_options *o, tl_task_samples *out, tl_err *err);

/* Writes a text of n tokens into a graph's inputs from row `at` on, as segment s. */
void tl_embed_put(const tl_model *m, const tl_model_io *io, int64_t at, int64_t s,
                  const int32_t *token, int64_t n);

/* A forward graph of the body. */
typedef struct tl_embed_graph {
  tl_model *model;
  tl_graph *g;
  int dim_tokens, dim_texts;
  int64_t max_tokens, max_texts;
  tl_model_io io;
  tl_node *hidden; /* [max_tokens, D] */
} tl_embed_graph;
/* Borrows ctx and the model. CONFIG: an encoder-decoder. */
tl_status tl_embed_graph_new(tl_ctx *ctx, tl_model *m, tl_dtype dt, int64_t max_tokens,
                             int64_t max_texts, tl_embed_graph *out, tl_err *err);
void tl_embed_graph_free(tl_embed_graph *p);
/* Sets out[s->n][D]. */
tl_status tl_embed_run(tl_embed_graph *p, const tl_task_samples *s, tl_pooling pool, bool normalize,
                       float *out, tl_err *err);

/* tl_embedder_open with random weights in place of the folder's. */
tl_status tl_embedder_open_random(tl_ctx *ctx, const char *dir, const tl_embed_options *options,
                                  uint64_t seed, tl_embedder **out, tl_err *err);

/* Pairs (a[i], b[i]) of normalised embeddings [n][dim] against what people say. */
tl_status tl_sts_scores(const float *a, const float *b, size_t n, size_t dim, const double *value,
                        bool intervals, uint64_t seed, tl_scores *out, tl_err *err);
/* Mean squared distance of a[i] and b[i]; NaN for n == 0. */
double tl_alignment(const float *a, const float *b, size_t n, size_t dim);
/* log mean exp(-2 |x_i - x_j|^2) over pairs i < j of at most 1,000 rows spread over x; NaN for
 * n < 2. */
double tl_uniformity(const float *x, size_t n, size_t dim);

#endif
