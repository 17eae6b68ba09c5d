/* Objectives on pictures without labels.
 *
 * To add one (four places): 1. a file with its tl_picture_objective; 2. a row in
 * TL_PICTURE_OBJECTIVES; 3. its word in objective.type of config_keys.def; 4. a case in
 * tests/unit/test_image_pretrain.c. */
#ifndef TL_TRANSFER_PICTURE_OBJECTIVE_H
#define TL_TRANSFER_PICTURE_OBJECTIVE_H

#include "objectives/views.h"
#include "tilth/config.h"
#include "transfer/image_graph.h"
#include "transfer/clip.h"
#include "transfer/mae.h"

#define TL_PICTURE_OBJECTIVES(X) X(simclr) X(byol) X(moco) X(barlow) X(mae) X(clip)

/* What an objective adds to a model. */
typedef struct tl_picture_parts {
  tl_projector projector, predictor;
  tl_mae_decoder decoder;
  tl_clip_parts clip;
} tl_picture_parts;

typedef struct tl_picture_objective tl_picture_objective;

/* A batch of pictures to a loss. Its sizes are fixed. */
typedef struct tl_picture_graph {
  const tl_picture_objective *objective;
  const tl_config *cfg;
  tl_model *model;
  const tl_picture_parts *parts; /* of this model */
  tl_graph *g;
  int64_t batch, n; /* pictures; with all their views, in rows [view][picture] */
  int64_t values;   /* of one picture */
  tl_model_io io;   /* of the n */
  tl_node *first;   /* i32 [n]: the pictures' first rows in the body's */
  tl_node *taught;  /* the teacher's rows for the n; NULL: no teacher */
  tl_node *out;     /* the loss; of a teacher's graph its rows */
  int64_t targets;  /* what the losses of a batch are divided by */
  tl_mae_graph mae;
  tl_clip_graph clip;
} tl_picture_graph;

struct tl_picture_objective {
  const char *name;
  int views;     /* of each picture */
  bool whole;    /* the loss is one number of the whole batch, not one for each view */
  bool patches;  /* reads models whose rows are patches only */
  bool captions; /* each picture comes with a text, and the loss is one for each of both */
  bool keeps;    /* the finished model keeps the parameters that are declared here */
  tl_status (*check)(const tl_config *c, tl_err *err); /* settings of its own; NULL: none */
  /* Parameters besides the body's; a teacher has the same ones. */
  void (*declare)(tl_declare *d, const tl_model *m, const tl_config *c, tl_picture_parts *parts);
  /* Computed values among them; and what config.json says of them. NULL: nothing. */
  void (*set_values)(const tl_model *m, const tl_picture_parts *parts);
  json_t *(*describe)(const tl_config *c, const tl_picture_parts *parts);
  /* In place of whole pictures: the graph's inputs (p->io, p->values), and what they are for a
   * batch whose first sample stands at this position. NULL: whole pictures. */
  void (*inputs)(tl_picture_graph *p);
  void (*fill)(tl_picture_graph *p, const float *pictures, uint64_t position);
  tl_node *(*loss)(tl_picture_graph *p); /* the values of a loss operator */
  /* Of a second model, whose weights are an average of the first's: its rows for the same pictures,
   * and the input of the first's graph that takes them. NULL: no teacher. */
  tl_node *(*teach)(tl_picture_graph *p);
  tl_node *(*taught)(tl_picture_graph *p);
};

const tl_picture_objective *tl_picture_objective_find(const char *name); /* NULL if unknown */
/* CONFIG when models of this type do not learn by it. */
tl_status tl_picture_model_check(const tl_picture_objective *o, const char *type, tl_err *err);
/* A model of pictures with the objective's parameters, which `parts` then holds. Teachers have no
 * gradients. mc->vocab: tokens of the captions; only with them. */
tl_status tl_picture_model_new(const tl_picture_objective *o, const tl_config *c,
                               const tl_model_config *mc, bool with_grads, tl_picture_parts *parts,
                               tl_model **out, tl_err *err);

/* Borrows all. batch: pictures. teacher: the graph of the teacher, of a model without gradients. */
tl_status tl_picture_graph_new(tl_ctx *ctx, const tl_picture_objective *o, const tl_config *c,
                               tl_model *m, const tl_picture_parts *parts, tl_dtype dt,
                               bool teacher, tl_picture_graph *out, tl_err *err);
void tl_picture_graph_free(tl_picture_graph *p);
/* Pictures f32 [views][batch], each as tl_picture_rows gives it, samples from `position` on, and a
 * pass over them; teacher: its graph, NULL if there is none. The loss values. */
const float *tl_picture_graph_run(tl_picture_graph *p, tl_picture_graph *teacher,
                                  const float *pictures, uint64_t position, const tl_pass *pass);
/* The pictures' features [n, D] of the body's rows, as a class head reads them. */
tl_node *tl_picture_features(tl_picture_graph *p);

/* Of objective mae: the inputs for n pictures, whose hidden patches p->mae.mask tells; and after a
 * run picture i, f32 [channels][size][size], with the hidden patches as the decoder made them, or
 * (made false) 0. NOMEM. */
void tl_mae_set(tl_picture_graph *p, const float *pictures);
tl_status tl_mae_picture(const tl_picture_graph *p, int64_t i, bool made, float *picture,
                         tl_err *err);

/* Of objective clip: the batch's captions, texts text[0 .. batch) of the samples; and after a run
 * the unit rows of its pictures and captions, f32 [batch][D] each. */
void tl_clip_set(tl_picture_graph *p, const tl_task_samples *samples, const int32_t *text);
void tl_clip_rows(const tl_picture_graph *p, float *pictures, float *texts);

#endif
