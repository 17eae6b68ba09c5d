/* Inside of the label study: study.c trains, study_results.c keeps the results. */
#ifndef TL_TRAIN_STUDY_H
#define TL_TRAIN_STUDY_H

#include <jansson.h>

#include "tilth/transfer.h"
#include "train/part.h"
#include "transfer/task.h"

enum { TL_STUDY_LABELS = 32, TL_STUDY_SEEDS = 64, TL_STUDY_KEY = 96, TL_STUDY_ARMS = 6 };

typedef struct tl_study_arm {
  unsigned bit;
  const char *name, *title, *role;
  bool random;       /* task.random */
  const char *adapt; /* adapt.method; NULL: as configured */
} tl_study_arm;
extern const tl_study_arm tl_study_arm_list[TL_STUDY_ARMS];

/* A file of records. */
typedef struct tl_study_file {
  tl_task_data records; /* of pictures: a view of theirs */
  tl_image_data pictures;
  bool is_pictures;
} tl_study_file;

typedef struct tl_label_study_state {
  tl_ctx *ctx;
  const tl_study_options *o;
  tl_config *cfg; /* a copy that the arms change */
  const tl_task *task;
  unsigned arms;
  tl_study_file train, valid, test_file; /* valid: empty if there is no file */
  tl_part test;                          /* of test_file */
  int64_t labels[TL_STUDY_LABELS];       /* rising */
  int n_labels;
  size_t *order; /* of the training records for order_seed */
  uint64_t order_seed;
  uint64_t inputs_hash; /* of the model, its tokenizer and the records */
  json_t *doc, *cells, *rates;
  double work, done, started; /* of all trainings, of those finished since `started` */
  tl_study_fn report;
  void *user;
} tl_label_study_state;

/* study_pixels.c: a baseline for pictures, the accuracy of logistic regression on their pixels, at
 * most 32 x 32, a fifth of the training ones choosing its penalty. */
tl_status tl_study_pixels(tl_ctx *ctx, const tl_part *train, const tl_part *test, double *accuracy,
                          tl_err *err);

/* study_results.c */
/* A score as shown: accuracies and the like in points of 100. */
double tl_study_scale(const tl_task *t);
bool tl_study_lower(const tl_task *t); /* less is better */
void tl_study_say(const tl_label_study_state *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
tl_status tl_study_open(tl_label_study_state *s, tl_err *err);
tl_status tl_study_save(const tl_label_study_state *s, tl_err *err);
/* What the pretrained model of the largest set says: examples, and where it is right. */
tl_status tl_study_show(tl_label_study_state *s, const tl_predictions *p, tl_err *err);
/* The finished document, and the table as lines. */
tl_status tl_study_conclude(tl_label_study_state *s, tl_err *err);

#endif
