#include "transfer/task.h"

#include <math.h>
#include <string.h>

static const tl_task tasks[] = {
    {"classify", TL_TASK_CLASS, TL_HEAD_SEQUENCE, TL_LOSS_CLASS, "single_label_classification",
     "accuracy", false, false},
    {"multilabel", TL_TASK_MULTI, TL_HEAD_SEQUENCE, TL_LOSS_MULTI, "multi_label_classification",
     "f1_micro", false, false},
    {"regression", TL_TASK_VALUE, TL_HEAD_SEQUENCE, TL_LOSS_VALUE, "regression", "spearman", false,
     false},
    {"tokens", TL_TASK_TOKENS, TL_HEAD_TOKENS, TL_LOSS_CLASS, NULL, "entity_f1", false, false},
    {"prompt", TL_TASK_PAIR, TL_HEAD_NONE, TL_LOSS_TOKEN, NULL, "loss", false, false},
    {"simcse", TL_TASK_TEXTS, TL_HEAD_NONE, TL_LOSS_CONTRAST, NULL, "spearman", false, false},
    {"image_classify", TL_TASK_CLASS, TL_HEAD_SEQUENCE, TL_LOSS_CLASS,
     "single_label_classification", "accuracy", false, true},
    {"image_multilabel", TL_TASK_MULTI, TL_HEAD_SEQUENCE, TL_LOSS_MULTI,
     "multi_label_classification", "f1_micro", false, true},
    {"image_segment", TL_TASK_TEXTS, TL_HEAD_MASKS, TL_LOSS_CLASS, NULL, "miou", false, true},
    {"translate", TL_TASK_PAIR, TL_HEAD_NONE, TL_LOSS_TOKEN, NULL, "bleu", true, false},
};
enum { N_TASKS = sizeof tasks / sizeof *tasks };

const tl_task *tl_task_find(const char *name) {
  for (int i = 0; i < N_TASKS; i++)
    if (!strcmp(tasks[i].name, name)) return &tasks[i];
  return NULL;
}

int tl_task_outputs(const tl_task *t, const tl_labels *labels) {
  return t->head == TL_HEAD_NONE || t->loss == TL_LOSS_VALUE ? 1 : labels->n;
}

double tl_scores_find(const tl_scores *s, const char *name) {
  for (int i = 0; i < s->n; i++)
    if (!strcmp(s->score[i].name, name)) return s->score[i].value;
  return NAN;
}
