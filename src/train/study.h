/* Inside of the label study: study.c trains, study_rates.c chooses learning rates,
 * study_baselines.c has simple methods, study_results.c keeps the results. */
#ifndef TL_TRAIN_STUDY_H
#define TL_TRAIN_STUDY_H

#include <jansson.h>

#include "tilth/train.h"
#include "tilth/transfer.h"
#include "train/part.h"
#include "transfer/task.h"

enum {
  TL_STUDY_LABELS = 32,
  TL_STUDY_SEEDS = 64,
  TL_STUDY_RATES = 32,
  TL_STUDY_KEY = 96,
  TL_STUDY_ARMS = 6
};

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

/* study.c */
/* Of a cell. */
void tl_study_key(char key[TL_STUDY_KEY], const tl_study_arm *a, int64_t n, int seed);
bool tl_study_is_network(const tl_study_arm *a); /* else a baseline */
tl_status tl_study_take(const tl_study_file *f, const size_t *order, size_t n, tl_part *out,
                        tl_err *err);
/* Trains on the first n records of the seed's order, and measures on `test`; pred may be NULL. A
 * training that diverges sets *diverged, and *r and *pred to nothing. */
tl_status tl_study_fit(tl_label_study_state *s, const tl_study_arm *a, int64_t n, int seed,
                       double lr, const tl_part *test, tl_predictions *pred, tl_train_result *r,
                       bool *diverged, tl_err *err);
/* The task's score; 0 for values that all are the same, which correlate with nothing. */
double tl_study_value(const tl_label_study_state *s, const tl_train_result *r);
void tl_study_eta(const tl_label_study_state *s, char out[48]); /* ", 5 min left", or "" */

/* study_rates.c */
/* Labels to choose a rate with for n labels; sets *n_dev, how many records judge. */
int64_t tl_study_tuning_size(const tl_label_study_state *s, int64_t n, int64_t *n_dev);
/* What was tried for n labels; NULL: nothing is to be chosen, or it has another form. */
json_t *tl_study_rates(tl_label_study_state *s, const tl_study_arm *a, int64_t n);
/* The learning rates for an arm and number of labels, the best first, in best[TL_STUDY_RATES],
 * without those that diverged; those that were not tried yet are. */
tl_status tl_study_rank_rates(tl_label_study_state *s, const tl_study_arm *a, int64_t labels,
                              double *best, int *n, tl_err *err);

/* study_baselines.c: the task's score of simple methods on records with classes or labels, of
 * which each is a question of its own. Of texts, naive Bayes; of pictures, logistic regression on
 * their pixels, at most 32 x 32, a fifth of the training ones choosing its penalty. */
tl_status tl_study_bayes(const tl_task *t, const tl_part *train, const tl_part *test, double *score,
                         tl_err *err);
tl_status tl_study_pixels(tl_ctx *ctx, const tl_task *t, const tl_part *train, const tl_part *test,
                          double *score, tl_err *err);

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
