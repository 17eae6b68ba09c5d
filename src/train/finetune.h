/* What the learners of fine-tuning share (finetune.c). */
#ifndef TL_TRAIN_FINETUNE_H
#define TL_TRAIN_FINETUNE_H

#include "train/trainer.h"
#include "transfer/adapt.h"

tl_status tl_finetune_adapt(const tl_config *c, tl_adapt_options *o, tl_err *err);
/* A file of records of the configured task. labels: those there may be; NULL: those that occur. */
tl_status tl_finetune_read(const tl_config *c, const char *path, const tl_labels *labels,
                           tl_task_data *out, tl_err *err);
/* From task.from or task.tokenizer; sets tok and tok_dir. */
tl_status tl_finetune_tokenizer(tl_trainer *t, tl_err *err);
/* Of the model to begin from, with the dropout of the task. */
tl_status tl_finetune_config(tl_trainer *t, tl_model_config *mc, tl_err *err);
/* Those of task.from into t->model, unless random ones are asked for; says so where its head is for
 * other classes and a new one begins. */
tl_status tl_finetune_weights(tl_trainer *t, tl_err *err);
/* What becomes of the finished model's updates: see trainer.h, lora. task: peft's task_type. */
tl_status tl_finetune_end(tl_trainer *t, const tl_adapt_options *o, const char *task, tl_err *err);
/* The records of d in a fair order: the first become *train, and the last, unless there is a file
 * for them, *valid. */
tl_status tl_finetune_split(const tl_config *c, const tl_task_data *d, bool has_valid,
                            tl_task_data *train, tl_task_data *valid, tl_err *err);
/* Sets the steps for passes over n samples. */
void tl_finetune_plan(tl_trainer *t, int64_t n);
/* Which of n samples stands at a position: each pass over them has an order of its own. */
int64_t tl_finetune_sample(const tl_trainer *t, int64_t n, uint64_t position);

#endif
