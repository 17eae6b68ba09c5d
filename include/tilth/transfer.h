/* Transfer: what pretraining is worth on a task with labels. */
#ifndef TILTH_TRANSFER_H
#define TILTH_TRANSFER_H

#include <stdbool.h>
#include <stdint.h>
#include "tilth/config.h"
#include "tilth/context.h"
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Arms of the study. Besides the pretrained model, all are the same network, or a baseline. */
typedef enum tl_study_arm_set {
  TL_STUDY_PRETRAINED = 1,  /* the model of task.from, adapted as the section adapt says */
  TL_STUDY_SCRATCH = 2,     /* random weights, all trained */
  TL_STUDY_FROZEN = 4,      /* random weights, only the head is trained (adapt.method probe) */
  TL_STUDY_FROZEN_LORA = 8, /* random weights, the head and low-rank updates are trained */
  TL_STUDY_BAYES = 16,      /* naive Bayes, of single texts with classes or labels */
  TL_STUDY_PIXELS = 32,     /* logistic regression on the pixels of pictures */
} tl_study_arm_set;
/* "pretrained", "scratch", "frozen", "frozen-lora", "bayes", "pixels", with commas between; 0 for
 * another word. */
unsigned tl_study_arms_parse(const char *list);

/* The label-efficiency study of any task of fine-tuning: its score against the number of labels,
 * for each arm, on the same records and seeds, smaller sets being part of larger ones. Each arm has
 * its own best learning rate out of the same list, chosen on records that none of them learns from
 * (task.valid, or the end of task.train), no more than the labels at hand. Training runs in the
 * loop of tl_train for the same number of steps; the last step's model counts. A training that
 * diverges is done again with the next best rate; arms that a task or network cannot have are left
 * out. */
typedef struct tl_study_options {
  const tl_config *config; /* of a fine-tuning; task.from, task.train and task.test are needed */
  const char *title;       /* of the report */
  const char *run_dir;     /* the pretraining run, whose curves and cost join the report; or NULL */
  const char *out_json;    /* results, written after each training so that an interrupted study goes
                              on; a report document (tilth/report.h) at the end */
  const double *labels;    /* numbers of records (from 1), shares of them (below 1), or 0: all */
  int n_labels, n_seeds;
  const double *lrs; /* learning rates to choose from, for each arm */
  int n_lrs;
  unsigned arms;    /* tl_study_arm_set */
  int64_t max_test; /* test records used, a fair sample; 0: all */
} tl_study_options;
/* A line of progress, or (result) of the table at the end. */
typedef void (*tl_study_fn)(void *user, const char *line, bool result);
/* Errors: USAGE, those of reading and of training; CREATE (out_json is there and comes from other
 * settings); PREEMPTED. */
tl_status tl_label_study(tl_ctx *ctx, const tl_study_options *options, tl_study_fn report,
                         void *user, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
