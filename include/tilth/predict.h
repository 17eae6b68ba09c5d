/* Fine-tuned models at work: predictions and scores. (They are made by tl_train with the sections
 * task and adapt of the configuration.) */
#ifndef TILTH_PREDICT_H
#define TILTH_PREDICT_H

#include "tilth/context.h"
#include "tilth/image.h"
#include "tilth/task_data.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TL_MAX_SCORES = 16 };

typedef struct tl_score {
  const char *name;     /* "accuracy", "f1_macro", "entity_f1", "spearman", "loss", ...; static */
  double value, lo, hi; /* 95 % bootstrap interval over the records; NaN where none was made */
} tl_score;
typedef struct tl_scores {
  int n;
  tl_score score[TL_MAX_SCORES];
} tl_scores;
double tl_scores_find(const tl_scores *s, const char *name); /* NaN if absent */
/* How the score of this name is computed, as sacreBLEU writes it; "" where there is nothing to say.
 * 128 bytes are enough. */
void tl_score_signature(const char *name, char *out, size_t size);

/* Of all records of a set, in their order. */
typedef struct tl_predictions {
  int n_outputs;
  size_t n;          /* rows: records, or (tokens) words */
  float *output;     /* [n][n_outputs] probabilities (several labels: of each), or values; NULL for
                        prompts */
  int32_t *label;    /* [n] the most likely class or tag (several labels: of no use) */
  char **text;       /* [n] translations; names of the masks' files; NULL for other tasks */
  uint64_t *pixels;  /* masks: [n][n_outputs][3], in each picture the pixels that are rightly of a
                        class, predicted as it, and truly of it; NULL for other tasks */
  size_t *confusion; /* masks: [n_outputs][n_outputs] pixels of all pictures; row: truth */
  double loss;       /* mean over the targets in nats; NaN without targets */
} tl_predictions;
void tl_predictions_free(tl_predictions *p);

/* --- where a model is right ------------------------------------------------------------------ */

/* Of a class, a label, or a type of entity. */
typedef struct tl_label_score {
  const char *name; /* borrowed from the labels or, for entities, from the details */
  double precision, recall, f1;
  double iou; /* masks: intersection over union of pixels; NaN: the class does not occur, and for
                 other tasks */
  size_t correct, predicted, actual;
} tl_label_score;
/* The predictions whose confidence lies in (i / n_bins, (i + 1) / n_bins]. */
typedef struct tl_calibration_bin {
  size_t n;
  double confidence, accuracy; /* means; 0 if there are none */
} tl_calibration_bin;
enum { TL_CALIBRATION_BINS = 15 };

typedef struct tl_details {
  size_t n_labels; /* classes, labels, or types of entities; 0: values, texts */
  tl_label_score *label;
  size_t *confusion;       /* [n_labels * n_labels] row: truth, column: predicted; NULL: not of
                              classes */
  tl_calibration_bin *bin; /* [TL_CALIBRATION_BINS] by the probability of the predicted class; NULL:
                              not of classes */
  char *names;             /* of the entities' types */
} tl_details;
/* d: the records with their labels, p: what was predicted for them. Errors: DATA, NOMEM. */
tl_status tl_details_make(const tl_task_data *d, const tl_predictions *p, tl_details *out,
                          tl_err *err);
void tl_details_free(tl_details *d);
/* {"labels": [{"label", "precision", "recall", "f1", "iou", "correct", "predicted", "actual"}],
 * "confusion": [[n]], "calibration": [{"from", "to", "n", "confidence", "accuracy"}]}; what is not
 * there is left out. malloc'ed; NULL when out of memory. */
char *tl_details_json(const tl_details *d);

/* --- a finished model at work ---------------------------------------------------------------- */

typedef struct tl_predictor tl_predictor;
/* dir: a model's name (tl_model_load) with a head for sequences, tokens or pictures
 * (ViTForImageClassification), from here or from Hugging Face's libraries. dtype: "auto", "f32",
 * "bf16". max_len: tokens per text, 0: what the model takes (at most 512). Borrows ctx. Errors:
 * CONFIG (no such head), those of tl_model_load. */
tl_status tl_predictor_open(tl_ctx *ctx, const char *dir, const char *dtype, int64_t max_len,
                            tl_predictor **out, tl_err *err);
/* A classifier of pictures by names alone, in f32: dir is what objective.type=clip leaves, and a
 * picture's class the name whose text is nearest. A name may be any text ("a photo of a cat").
 * Errors: CONFIG (names that are empty or repeat; no such model), those of tl_model_load. */
tl_status tl_predictor_open_names(tl_ctx *ctx, const char *dir, const char *const *names, size_t n,
                                  tl_predictor **out, tl_err *err);
void tl_predictor_free(tl_predictor *p);
/* Takes out the adapter that is in, and puts in another one of the same base and labels (NULL:
 * none), without reading the base's other weights again. After an error the predictor can only be
 * freed. Errors: CONFIG (other labels), DATA (too: neither base nor adapter has a head),
 * NOINPUT, NOMEM. */
tl_status tl_predictor_switch(tl_predictor *p, const char *adapter, tl_err *err);
const char *tl_predictor_task(const tl_predictor *p); /* the word of task.type */
tl_task_kind tl_predictor_kind(const tl_predictor *p);
const tl_labels *tl_predictor_labels(const tl_predictor *p);
/* Whether it is tl_predictor_run_images that serves this model, and not tl_predictor_run. */
bool tl_predictor_reads_images(const tl_predictor *p);
/* scores (NULL: not wanted) compares with the records' own labels, whose set must be that of
 * tl_predictor_labels (give it to tl_task_read). Errors: CONFIG (the model reads pictures), DATA,
 * NOMEM, PREEMPTED. */
tl_status tl_predictor_run(tl_predictor *p, const tl_task_data *d, tl_predictions *out,
                           tl_scores *scores, tl_err *err);
/* The same for pictures: a prediction for each, in their order, after resizing (the shorter side,
 * then the middle), and the normalisation of the model's preprocessor_config.json. For scores give
 * the labels to tl_image_read; without them (unlabelled) scores must be NULL. Errors: CONFIG (the
 * model reads texts), DATA (no labels; a file has changed since it was read), NOMEM, PREEMPTED. */
tl_status tl_predictor_run_images(tl_predictor *p, const tl_image_data *d, tl_predictions *out,
                                  tl_scores *scores, tl_err *err);

/* Of a model for classes of pixels: how masks are read beside its pictures (tl_image_options); NULL
 * for another model. */
const tl_mask_options *tl_predictor_masks(const tl_predictor *p);
/* Its prediction for each picture, in the picture's size, as dir/NAME.png: a PNG with a palette,
 * whose indices are the classes; out->text has the files' names, out->pixels what they hold. scores
 * (NULL: not wanted) compares with d's masks. Errors as above; DATA (two pictures of one name), IO.
 */
tl_status tl_predictor_run_masks(tl_predictor *p, const tl_image_data *d, const char *dir,
                                 tl_predictions *out, tl_scores *scores, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
