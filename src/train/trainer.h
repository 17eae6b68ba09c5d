/* Inside of the training loop. Its parts: setup.c (from the configuration to a ready trainer),
 * loop.c (the steps), pretrain.c, image_pretrain.c, finetune.c, contrastive.c and imaging.c (what
 * is trained on what), evaluate.c, state.c (checkpoints, resume, snapshots in memory). */
#ifndef TL_TRAIN_TRAINER_H
#define TL_TRAIN_TRAINER_H

#include "models/lowrank.h"
#include "optim/optim.h"
#include "optim/schedule.h"
#include "tilth/run.h"
#include "tilth/train.h"
#include "train/guard.h"
#include "train/lm.h"
#include "train/loader.h"
#include "train/part.h"
#include "train/profiler.h"

/* All that changes from step to step, besides weights and optimizer state: plain data, stored as it
 * is in a checkpoint. */
typedef struct tl_train_state {
  int64_t step;      /* steps done */
  int64_t steps;     /* planned in all; 0: not known yet */
  uint64_t position; /* samples read: the place in the data */
  uint64_t tokens;
  int64_t updates; /* optimizer updates applied: its bias correction */
  double seconds, flops;
  double val_loss, best_val_loss; /* of the last and of the best evaluation */
  double best;                    /* its criterion (tl_eval_result), NaN before the first */
  int64_t best_step, evaluated; /* steps of the best and of the last evaluation */
} tl_train_state;

/* The last good state in memory, for rollbacks. */
typedef struct tl_snapshot {
  float *values, *optim; /* the value slab; all optimizer tensors one after another */
  size_t optim_bytes;
  int64_t updates, step;
} tl_snapshot;

typedef struct tl_trainer tl_trainer;

/* What a micro-batch has. */
typedef struct tl_run_size {
  int64_t tokens, segments;
} tl_run_size;

/* What the loop trains: a language model on windows of text (pretrain.c), or a task's model on
 * labelled records (finetune.c). */
typedef struct tl_learner {
  /* Opens the data and makes model and graph; sets g, model, tok, tok_dir, data_hash, data_name,
   * val_ready and the planned steps. */
  tl_status (*init)(tl_trainer *t, tl_err *err);
  /* The same without disk, on random data of m, which is borrowed; NULL: it has none. */
  tl_status (*made_up)(tl_trainer *t, const tl_made_up *m, tl_err *err);
  /* Prepares micro-batch m out of the samples from `position` on; returns the targets that count.
   */
  int64_t (*load)(tl_trainer *t, int64_t m, uint64_t position);
  tl_lm_loss (*run)(tl_trainer *t, int64_t m, const tl_pass *pass, tl_run_size *size);
  /* On the validation part. */
  tl_status (*evaluate)(tl_trainer *t, tl_eval_result *r, tl_err *err);
  double (*bpb)(const tl_trainer *t, bool val, double loss); /* NULL: it has no meaning */
  const char *(*metric)(
      const tl_trainer *t); /* name of minus the criterion; NULL: it is the loss */
  void (*rates)(const tl_trainer *t, float *factor); /* on the learning rate; NULL: all 1 */
  /* After the last step and before the model is saved; NULL: nothing. */
  tl_status (*finish)(tl_trainer *t, tl_train_result *r, tl_err *err);
  void (*free)(tl_trainer *t);
  bool keeps_best; /* the finished model is that of the best evaluation */
} tl_learner;
extern const tl_learner tl_pretraining, tl_finetuning, tl_contrastive, tl_imaging,
    tl_image_pretraining;

/* Records at hand, to be learnt and predicted without a run folder and without validation. */
typedef struct tl_given_records {
  const tl_part *train, *test; /* with the same labels; borrowed */
  tl_predictions *pred;        /* gets those of test; NULL: not wanted */
} tl_given_records;

struct tl_trainer {
  tl_ctx *ctx;
  const tl_config *cfg;
  const tl_train_options *opt;
  tl_run *run; /* NULL: nothing is written */
  const tl_learner *learner;
  tl_graph *g; /* the learner's */
  tl_tokenizer *tok;
  tl_model *model;
  tl_params *teacher;              /* follows the model's weights (tl_optim_options); or NULL */
  tl_lora_about lora;              /* base NULL: the finished model is saved whole */
  const char *tok_dir, *data_name; /* the folder of the tokenizer's files; for messages */
  uint64_t data_hash;
  /* pretraining */
  tl_dataset *data;
  const tl_objective *objective;
  tl_objective_args args;
  tl_lm lm;
  tl_loader train, val;
  struct tl_generator *sampler; /* of run.sample; NULL: none */
  tl_batch *micro;              /* [accum] */
  tl_batch val_batch;
  struct tl_task_run *task;         /* fine-tuning */
  const tl_given_records *given;    /* NULL: the files of the configuration */
  struct tl_contrast_run *contrast; /* fine-tuning by contrast */
  struct tl_image_run *image;       /* fine-tuning on pictures */
  struct tl_picture_run *pictures;  /* pretraining on pictures */
  tl_optim *optim;
  tl_schedule schedule;
  tl_guard guard;
  tl_train_state s;
  tl_snapshot snap;
  tl_profiler *prof;  /* NULL unless profiling */
  double peak;        /* measured FLOP/s of the compute type */
  double loss;        /* of the last step */
  double started;     /* tl_now() minus the seconds of earlier parts of the run */
  double last_saved;  /* tl_now() of the last checkpoint */
  int64_t saved_step; /* -1: none yet */
  bool val_ready;
};

/* setup.c */
tl_status tl_trainer_optim(const tl_config *c, tl_optim_options *o, tl_err *err);
/* What can be known to be wrong before a run folder is made. */
tl_status tl_trainer_check(const tl_config *c, tl_err *err);
const tl_learner *tl_trainer_learner(const tl_config *c);
/* ctx, cfg, opt, run and learner are set. */
tl_status tl_trainer_init(tl_trainer *t, tl_err *err);
/* The same for `steps` steps without disk (run is NULL), data, evaluation and snapshots: on random
 * tokens of m, which is borrowed; m->first is 1, token 0 the mask. Pictures need its seed alone. */
tl_status tl_trainer_init_made_up(tl_trainer *t, const tl_made_up *m, int64_t steps, tl_err *err);
void tl_trainer_free(tl_trainer *t);

/* train.c: fine-tunes in memory; result->task.test has the scores. The last step's model counts. */
tl_status tl_train_given(tl_ctx *ctx, const tl_config *cfg, const tl_given_records *given,
                         tl_train_result *result, tl_err *err);

/* loop.c */
typedef struct tl_step_stats {
  double loss, norm, lr, flops, targets;
  tl_run_size size; /* of all micro-batches */
} tl_step_stats;
/* A loss as bits per byte of the training or validation text; NaN where that has no meaning. */
double tl_trainer_bpb(const tl_trainer *t, bool val, double loss);
/* One step: batches, gradients, guard, update. DIVERGED when the guard stops the run. */
tl_status tl_trainer_step(tl_trainer *t, tl_step_stats *st, tl_err *err);
tl_status tl_trainer_run(tl_trainer *t, tl_train_result *r, tl_err *err);
void tl_trainer_note(tl_trainer *t, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* evaluate.c */
/* Over the first `tokens` tokens' worth of evenly spread windows (0: all). */
tl_status tl_lm_evaluate(tl_lm *lm, tl_loader *val, const tl_objective_args *args, int64_t batch,
                         int64_t tokens, tl_batch *b, tl_eval_result *r, tl_err *err);

/* state.c */
tl_status tl_trainer_save(tl_trainer *t, tl_err *err);
tl_status tl_trainer_load(tl_trainer *t,
                          tl_err *err); /* from the newest good checkpoint of the run */
/* The weights of the best evaluation, in <run>/best. */
tl_status tl_trainer_save_best(tl_trainer *t, tl_err *err);
tl_status tl_trainer_load_best(tl_trainer *t, tl_err *err);
tl_status tl_snapshot_init(tl_trainer *t, tl_err *err);
void tl_snapshot_take(tl_trainer *t);
void tl_snapshot_restore(tl_trainer *t);
void tl_snapshot_free(tl_trainer *t);

#endif
