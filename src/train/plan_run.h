/* What tilth plan measures (tilth/plan.h): passes over one made-up micro-batch. */
#ifndef TL_TRAIN_PLAN_RUN_H
#define TL_TRAIN_PLAN_RUN_H

#include "tilth/plan.h"
#include "train/trainer.h"

typedef struct tl_plan_subject {
  tl_model *model;
  tl_graph *g;
  int64_t tokens, targets; /* of a micro-batch; tokens as the loop counts them */
  int64_t steps;           /* that the configuration asks for; 0: not said */
  void (*run)(void *user, const tl_pass *pass);
  void *user;
} tl_plan_subject;

/* Sets all of *p, zeroed before. */
tl_status tl_plan_measure(tl_ctx *ctx, const tl_config *c, const tl_plan_subject *x, tl_plan *p,
                          tl_err *err);

/* plan_pictures.c: sizes are those of data.images, without it of 32 x 32 in colours. */
struct tl_picture_objective;
tl_status tl_plan_pictures(tl_ctx *ctx, const tl_config *c, const struct tl_picture_objective *o,
                           tl_plan *plan, tl_err *err);

#endif
