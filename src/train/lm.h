/* A language-model graph: model, objective and loss over packed micro-batches. */
#ifndef TL_TRAIN_LM_H
#define TL_TRAIN_LM_H

#include "models/model.h"
#include "objectives/objective.h"

typedef struct tl_lm {
  tl_graph *g;
  tl_model *model;
  const tl_objective *objective;
  int dim_tokens, dim_segments, dim_targets, dim_source;
  tl_model_io io;
  tl_node *idx, *targets, *loss;
} tl_lm;

typedef struct tl_lm_options {
  tl_dtype dt;
  int64_t max_tokens;
  bool training;
  double smoothing, z_loss;
} tl_lm_options;

/* CONFIG when an architecture cannot serve the objective. */
tl_status tl_lm_check(const tl_arch *a, const tl_objective *o, tl_err *err);

/* Borrows model and objective. CONFIG when the model cannot serve the objective. */
tl_status tl_lm_new(tl_ctx *ctx, tl_model *m, const tl_objective *o, const tl_lm_options *options,
                    tl_lm *out, tl_err *err);
void tl_lm_free(tl_lm *lm);

typedef struct tl_lm_loss {
  double sum, z, count, correct;
} tl_lm_loss;
/* Copies the batch into the graph's inputs and runs it. */
tl_lm_loss tl_lm_run(tl_lm *lm, const tl_batch *b, const tl_pass *run);

#endif
