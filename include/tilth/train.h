/* Pretraining: the one training loop, its run folder, and what it reports. */
#ifndef TILTH_TRAIN_H
#define TILTH_TRAIN_H

#include <stdbool.h>
#include <stdint.h>
#include "tilth/config.h"
#include "tilth/context.h"
#include "tilth/predict.h"
#include "tilth/profile.h"
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_progress {
  int64_t step, steps; /* steps: planned in all; 0: not known yet */
  uint64_t tokens;
  double loss, bpb;         /* nats per target, bits per byte of text */
  double val_loss, val_bpb; /* NaN before the first evaluation */
  double lr, grad_norm;
  double tokens_per_s, flops_per_s;
  double peak;         /* flops_per_s as a part of the measured peak; NaN if not measured */
  double seconds, eta; /* since the start of the run; left (NaN if not known) */
  const char *note; /* an event to be shown (checkpoint, spike); NULL for a plain progress line */
  int warning;      /* 1: the note is to be seen by those who want no others, too; else 0 */
} tl_progress;

/* Called every run.log_every steps and for events. */
typedef void (*tl_progress_fn)(void *user, const tl_progress *p);

typedef struct tl_train_options {
  int argc; /* for the record in run.json */
  char *const *argv;
  tl_progress_fn progress; /* may be NULL */
  void *user;
  bool profile; /* measure where the time goes, for the result and <run>/profile.json */
} tl_train_options;

/* What a fine-tuning adds to the result. */
typedef struct tl_task_result {
  const char *type;   /* task.type, or "clip": pretraining by it; NULL: other pretraining */
  const char *metric; /* the score that chose the best step */
  double best;        /* its value there on the validation records */
  int64_t trained;    /* weights that moved */
  int64_t n_train, n_valid, n_test; /* records */
  int64_t n_cut;                    /* training records longer than task.max_len */
  tl_scores valid, test;            /* of the finished model; n == 0: no such records */
} tl_task_result;

typedef struct tl_train_result {
  char run_dir[512];
  int64_t steps;
  uint64_t tokens;
  double loss, val_loss, val_bpb; /* of the last step; of the last evaluation (NaN: none) */
  double best_val_loss;
  int64_t best_step;
  double seconds, flops;
  int64_t params;
  tl_task_result task;
  tl_profile *profile; /* NULL unless asked for; of this process's steps; free: tl_profile_free */
} tl_train_result;

/* Trains by the configuration into a new run folder (options may be NULL); the finished model is
 * <run>/model. On TL_PREEMPTED (cancel) and TL_DIVERGED the run folder is complete and can be
 * resumed; a profile comes with TL_PREEMPTED too. */
tl_status tl_train(tl_ctx *ctx, const tl_config *cfg, const tl_train_options *options,
                   tl_train_result *result, tl_err *err);
/* Goes on from the newest good checkpoint of run_dir, to the same bits as without the interruption.
 */
tl_status tl_resume(tl_ctx *ctx, const char *run_dir, const tl_train_options *options,
                    tl_train_result *result, tl_err *err);

typedef struct tl_eval_result {
  double loss, bpb, perplexity, accuracy; /* per target; bits per byte of text */
  double
      criterion; /* what the best step is chosen by, lower is better: the loss, or minus a score */
  uint64_t targets, tokens;
  double seconds;
} tl_eval_result;
/* Loss of a model folder on the validation part of a prepared data folder. objective: "next_token",
 * "masked", "hybrid", "denoise", "span_corruption" or "" (the natural one). seq_len 0: the model's.
 * tokens 0: all. CONFIG when the data was prepared with another tokenizer than the model's. */
tl_status tl_evaluate(tl_ctx *ctx, const char *model_dir, const char *data_dir,
                      const char *objective, int64_t seq_len, int64_t tokens,
                      tl_eval_result *result, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
