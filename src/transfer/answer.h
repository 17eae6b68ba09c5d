/* What a model said of a record, beside the truth, as texts for report pages. */
#ifndef TL_TRANSFER_ANSWER_H
#define TL_TRANSFER_ANSWER_H

#include <jansson.h>

#include "tilth/predict.h"

/* Whether row `at` of p has the class, or all the labels and no others, of record i. d's records
 * have classes or labels. */
bool tl_answer_right(const tl_task_data *d, size_t i, const tl_predictions *p, size_t at);
/* How sure the model was: the probability of its class; of labels that of the surest wrong one. */
double tl_answer_surety(const tl_task_data *d, size_t i, const tl_predictions *p, size_t at);
/* Record i and row `at` of p (of words: record i's) as an entry of `predictions` (tilth/report.h);
 * NULL when out of memory. */
json_t *tl_answer_json(const tl_task_data *d, size_t i, const tl_predictions *p, size_t at);

#endif
