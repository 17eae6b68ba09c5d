/* Sentence embeddings: one vector per text, from the hidden states of any model's body. */
#ifndef TILTH_EMBED_H
#define TILTH_EMBED_H

#include "tilth/context.h"
#include "tilth/predict.h"
#include "tilth/task_data.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_embed_options { /* all zero: the defaults */
  /* "mean" of the text's hidden states, its "first", its "last"; NULL: what the folder's files of
   * sentence-transformers say, else the mean. */
  const char *pool;
  const char *dtype; /* "auto" (NULL: this), "f32", "bf16"; the embeddings are f32 */
  int64_t max_len;   /* tokens per text, specials included; 0: what those files say, else what the
                        model   takes, at most 512 */
  bool raw;          /* keep the lengths; else each embedding has length 1 */
} tl_embed_options;

typedef struct tl_embedder tl_embedder;
/* dir: a model's folder, with whatever head. options may be NULL. Borrows ctx. Errors: CONFIG (an
 * encoder-decoder, an unknown option), those of tl_model_load and tl_tokenizer_load. */
tl_status tl_embedder_open(tl_ctx *ctx, const char *dir, const tl_embed_options *options,
                           tl_embedder **out, tl_err *err);
void tl_embedder_free(tl_embedder *e);
int64_t tl_embedder_dim(const tl_embedder *e);
/* Sets out[n][dim]. A text's embedding does not depend on the others. Errors: DATA (a text without
 * a token), PREEMPTED, NOMEM. */
tl_status tl_embedder_run(tl_embedder *e, const char *const *text, size_t n, float *out,
                          tl_err *err);
/* How well the cosines of pairs agree with people's: d is a TL_TASK_VALUE set of pairs. Scores:
 * "spearman" and "pearson" with intervals; "alignment", the mean squared distance of the pairs with
 * at least 4/5 of the highest value, and "uniformity", log mean exp(-2 distance^2) over pairs of
 * any texts, both of the normalised embeddings, lower is better (Wang and Isola 2020). */
tl_status tl_embedder_sts(tl_embedder *e, const tl_task_data *d, tl_scores *out, tl_err *err);

typedef struct tl_neighbour {
  size_t index;
  double cosine;
} tl_neighbour;
/* The k of base[n][dim] with the highest cosine to query[dim], best first (equal ones: the earlier
 * first); returns how many there are, min(k, n). Rows of zeros have cosine 0. */
size_t tl_nearest(const float *base, size_t n, size_t dim, const float *query, size_t k,
                  tl_neighbour *out);

#ifdef __cplusplus
}
#endif

#endif
