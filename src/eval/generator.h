/* Inside of generation: one sequence, its key-value cache, and the draw of the next token. */
#ifndef TL_EVAL_GENERATOR_H
#define TL_EVAL_GENERATOR_H

#include "models/model.h"
#include "tilth/generate.h"

enum { TL_GENERATOR_PREFILL = 256 }; /* prompt tokens per pass */

typedef struct tl_candidate {
  float weight;
  int32_t id;
} tl_candidate;

struct tl_generator {
  tl_ctx *ctx;
  tl_model *model; /* owned, as tok is (which may be NULL), unless borrowed */
  tl_tokenizer *tok;
  bool borrowed;
  tl_graph *g;
  int dim;
  tl_model_io io;
  tl_node *last, *logits;
  int64_t pos;        /* tokens in the cache; 0 begins anew */
  int vocab;          /* of the tokenizer: rows beyond it are padding */
  tl_candidate *cand; /* [vocab] */
  float *weight;      /* [vocab] */
};

/* ctx, model and vocab are set. */
tl_status tl_generator_build(tl_generator *s, tl_dtype dt, tl_err *err);
void tl_generator_close(tl_generator *s);
/* A generator over a model that is being trained: each run has the weights of that moment. m and
 * tok are borrowed. CONFIG where a model continues no text. */
tl_status tl_generator_over(tl_ctx *ctx, tl_model *m, tl_tokenizer *tok, tl_dtype dt,
                            tl_generator **out, tl_err *err);
/* Appends n tokens to the cache, which must have room; logits are of the last one. */
void tl_generator_feed(tl_generator *s, const uint32_t *ids, int64_t n);
/* The token behind the `at`-th drawn one. */
uint32_t tl_generator_draw(tl_generator *s, const tl_sampling *p, int64_t at);

#endif
