/* Transfer: from pretrained weights to a task with labels. */
#ifndef TILTH_TRANSFER_H
#define TILTH_TRANSFER_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/context.h"
#include "tilth/model.h"
#include "tilth/status.h"
#include "tilth/task_data.h"
#include "tilth/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_finetune_options {
  double lr;
  int64_t epochs, batch; /* passes over the examples; examples per step */
  int64_t min_steps;     /* epochs are raised until there are this many steps */
  int64_t max_len;       /* tokens per text, specials included; longer texts are cut */
  double dropout, weight_decay, warmup_fraction, clip;
  uint64_t seed;
  const char *dtype; /* "auto", "f32", "bf16" */
} tl_finetune_options;
tl_finetune_options tl_finetune_defaults(void);

typedef struct tl_classifier tl_classifier;

/* A classifier on the body of the model in `from`, or, from == NULL, on random weights of `config`.
 * The head (mean of the hidden states, dropout, linear) is new. Borrows tok, which must outlive it.
 */
tl_status tl_classifier_new(tl_ctx *ctx, const char *from, const tl_model_config *config,
                            const tl_tokenizer *tok, int n_classes,
                            const tl_finetune_options *options, tl_classifier **out, tl_err *err);
void tl_classifier_free(tl_classifier *c);
/* Called after each step with step, steps and the mean loss of the step; may be NULL. */
typedef void (*tl_step_fn)(void *user, int64_t step, int64_t steps, double loss);
/* Trains all weights on the records index[0..n) of d, a TL_TASK_CLASS set with single texts (index
 * NULL: the first n): AdamW, linear warm-up and fall.
 * TL_DIVERGED when the loss is not finite, TL_PREEMPTED on cancel. */
tl_status tl_classifier_train(tl_classifier *c, const tl_task_data *d, const size_t *index,
                              size_t n, tl_step_fn step, void *user, tl_err *err);
/* Most likely class and its probability for each of n texts (by index, NULL: all). prob may be
 * NULL. */
tl_status tl_classifier_predict(tl_classifier *c, char *const *text, const size_t *index, size_t n,
                                int32_t *label, float *prob, tl_err *err);
double tl_classifier_flops(const tl_classifier *c); /* spent so far in training */

/* The label-efficiency study: accuracy against the number of labels, pretrained against the same
 * network from random weights (each with its own best learning rate, chosen on held-out training
 * texts no more than the labels at hand) and against naive Bayes; the same seeds and nested subsets
 * for all. */
typedef struct tl_study_options {
  const char *from;         /* pretrained model folder */
  const char *train, *test; /* labelled texts, see tl_task_read */
  const char *title;        /* of the report */
  const char *run_dir;  /* the pretraining run, whose curves and cost join the report; or NULL */
  const char *out_json; /* results, written after each cell so that an interrupted study goes on */
  const int64_t *labels;
  int n_labels, n_seeds;
  const double *lrs; /* learning rates to choose from, for each arm */
  int n_lrs;
  int64_t max_test;         /* test texts used; 0: all */
  tl_finetune_options tune; /* the rest of the fine-tuning settings */
} tl_study_options;
/* A line of progress, or (result) of the table at the end. */
typedef void (*tl_study_fn)(void *user, const char *line, bool result);
tl_status tl_label_study(tl_ctx *ctx, const tl_study_options *options, tl_study_fn report,
                         void *user, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
