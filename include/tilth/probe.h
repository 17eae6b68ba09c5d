/* What a frozen body's features are worth: nearest neighbours and a linear classifier on them,
 * beside what the same classifiers make of features that nothing was learnt for. */
#ifndef TILTH_PROBE_H
#define TILTH_PROBE_H

#include "tilth/context.h"
#include "tilth/image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_probe_options { /* all zero: the defaults */
  /* What represents a picture or a text: "first" (its class token, its first token), "mean" (of the
   * patches or tokens), texts also "last"; NULL: as the model's own head has it, texts the mean. */
  const char *pool;
  const char *dtype;  /* "auto" (NULL: this), "f32", "bf16" */
  int64_t max_len;    /* tokens per text; 0: what the model takes, at most 512 */
  double labels;      /* training records that are used, or a share (below 1), in a stratified order
                         by seed (tl_task_order); 0: all */
  int64_t per_class;  /* of each class in that order, instead; 0: as labels says */
  int64_t neighbours; /* 0: 20 */
  double temperature; /* 0: 0.07 */
  /* Baselines: a body of the same shape with random weights; k-means of patches (pictures alone;
   * Coates, Lee and Ng, 2011): patches of `pictures` training pictures, whatever labels says (0:
   * 5,000), give `centroids` (0: 200), four times as many features. */
  bool random, kmeans;
  int64_t centroids, pictures;
  uint64_t seed;                              /* 0: 1 */
  void (*note)(void *user, const char *line); /* told what is being done; NULL: nobody */
  void *user;
} tl_probe_options;

typedef struct tl_probe_row {
  const char *features;    /* "model", "random", "k-means"; static */
  const char *method;      /* "knn", "linear"; static */
  int64_t dim;             /* features of a record */
  double accuracy, lo, hi; /* on the test records, with the 95 % bootstrap interval */
  /* Baselines: by how much the model's features are better with the same method, with the interval
   * over the same resampled records; NaN for the model's own rows. */
  double gain, gain_lo, gain_hi;
  double l2;      /* the penalty that the held-out part chose; NaN for knn */
  double seconds; /* features (in the first row of each) and classifier */
} tl_probe_row;

enum { TL_PROBE_ROWS = 5 };
typedef struct tl_probe_result {
  size_t n_train, n_valid, n_test; /* n_valid of the n_train chose the penalty */
  int32_t n_classes;
  double majority; /* accuracy of always saying the training records' commonest class */
  int n;
  tl_probe_row row[TL_PROBE_ROWS];
} tl_probe_result;

/* Whether it is tl_probe_images that serves the model, and not tl_probe_texts. dir: a model's name
 * (tl_model_load). Errors: those of reading its config.json. */
tl_status tl_probe_reads_images(const char *dir, bool *out, tl_err *err);

/* The model's head is not looked at. Features are standardised by the training records; the linear
 * classifier is multinomial logistic regression by L-BFGS whose L2 penalty is chosen on a fifth of
 * the training records (with fewer than ten a class: 0.01), then fitted on all. train and test have
 * the same classes, in one order (give the first's labels to the reading of the second). Same bits
 * on any number of threads. Errors: CONFIG, DATA (no labels, one class, other classes), PREEMPTED,
 * NOMEM, those of tl_model_load. */
tl_status tl_probe_images(tl_ctx *ctx, const char *dir, const tl_image_data *train,
                          const tl_image_data *test, const tl_probe_options *options,
                          tl_probe_result *out, tl_err *err);
/* Records of TL_TASK_CLASS, not pairs. */
tl_status tl_probe_texts(tl_ctx *ctx, const char *dir, const tl_task_data *train,
                         const tl_task_data *test, const tl_probe_options *options,
                         tl_probe_result *out, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
