/* Pictures to a loss and to features: the graph of a picture model with a head for classes, of the
 * picture or of its pixels. */
#ifndef TL_TRANSFER_IMAGE_GRAPH_H
#define TL_TRANSFER_IMAGE_GRAPH_H

#include "tilth/augment.h"
#include "transfer/task.h"

/* A picture in the input of a model, as arch->layout has it. */
typedef struct tl_picture_shape {
  int64_t rows, cols;
} tl_picture_shape;
tl_picture_shape tl_picture_shape_of(const tl_model_config *c);
/* Values of a picture f32 [channels][size][size] as those rows. */
void tl_picture_rows(const tl_model_config *c, const float *picture, float *rows);

/* Where pictures 0 .. n - 1 lie in the body's rows, max_len for each: the segments [n], the first
 * row of each [n], and of each row its position and its patch (-1: the class token), [n max_len].
 * NULL: not wanted. */
typedef struct tl_image_places {
  tl_segment *segments;
  int32_t *first, *pos, *patch_rows;
} tl_image_places;
void tl_image_places_fill(const tl_model_config *c, int64_t n, const tl_image_places *to);

typedef struct tl_image_graph {
  tl_model *model;
  tl_graph *g;
  int dim_images;         /* the graph's other sizes are multiples of it */
  int64_t room;           /* pictures */
  tl_picture_shape shape; /* of a picture in the input */
  int64_t n_rows;         /* that the body gives for each */
  int64_t n;              /* pictures in the batch */
  int64_t side;           /* masks: of the grid of classes (tl_mask_side); 0: one class a picture */
  tl_model_io io;
  /* features [n, D]: what the head's linear layer reads; of an architecture with arch->classify the
   * classes' scores [n, outputs]; of masks the pixels' logits [n side side, outputs]. */
  tl_node *rows, *targets, *features, *loss;
  tl_node *hidden;  /* [n n_rows, D] of the body; kept readable where nothing is differentiated */
  tl_node *weights; /* masks: f32 [outputs], of the classes in the loss; 1 at first */
  tl_node *capsules, *made; /* as tl_picture_classes has them, readable after a run; NULL: none */
} tl_image_graph;
/* At most `room` pictures a batch. */
tl_status tl_image_graph_new(tl_ctx *ctx, tl_model *m, tl_dtype dt, int64_t room, bool training,
                             tl_image_graph *out, tl_err *err);
/* The body alone, to be run in f32, without features and loss; what its attention operators read
 * stays readable, too (eval/inspect.h). */
tl_status tl_image_graph_body(tl_ctx *ctx, tl_model *m, int64_t room, tl_image_graph *out,
                              tl_err *err);
/* The attention operator of layer i of the body; NULL: there is none. */
const tl_node *tl_image_graph_attention(const tl_image_graph *p, int layer);
void tl_image_graph_free(tl_image_graph *p);
/* A batch of n pictures, each as tl_picture_rows gives it, and targets: f32 [n][outputs], of masks
 * i32 [n][side][side] (NULL: none). */
void tl_image_graph_set(tl_image_graph *p, int64_t n, const float *pictures, const void *targets);
/* The loss values of tl_soft_cross_entropy; of masks those of tl_weighted_softmax_loss; of a body
 * alone NULL. */
const float *tl_image_graph_run(tl_image_graph *p, const tl_pass *pass);

/* Adds share to the target of each class of a record (none without labels) in t[outputs]. */
void tl_image_target(const tl_task_data *d, size_t record, float share, float *t);
/* Whether a picture has any number of classes, by the head's problem_type. */
bool tl_image_several(const tl_model *m);

/* Pictures a batch where nothing is to be differentiated: bounded by their size. */
int64_t tl_image_room(const tl_model_config *c);
/* Probabilities of the pictures index[0 .. n) (NULL: all), as a changes them; labels are those of
 * the model's head, and the loss is taken where d has labels. */
tl_status tl_image_graph_predict(tl_image_graph *p, const tl_image_data *d, const size_t *index,
                                 size_t n, const tl_augment *a, tl_predictions *out, tl_err *err);

/* What represents a picture: as the model's head has it, or its first row (the class token), or the
 * mean of the others. */
typedef enum tl_image_pool {
  TL_IMAGE_POOL_OWN,
  TL_IMAGE_POOL_FIRST,
  TL_IMAGE_POOL_MEAN
} tl_image_pool;
/* Sets out[n][tl_image_graph_dim] of the pictures index[0 .. n) (NULL: all); the graph is not one
 * for training. */
tl_status tl_image_graph_features(tl_image_graph *p, const tl_image_data *d, const size_t *index,
                                  size_t n, const tl_augment *a, tl_image_pool pool, float *out,
                                  tl_err *err);
int64_t tl_image_graph_dim(const tl_image_graph *p); /* D */

/* Mean and spread of the channels over at most 5,000 pictures of those at index, into a. */
tl_status tl_image_statistics(const tl_image_data *d, const size_t *index, size_t n, tl_augment *a,
                              tl_err *err);
/* dir/preprocessor_config.json, as Hugging Face's libraries have it: size, mean and spread. Reading
 * without such a file gives 0.5 and 0.5. */
tl_status tl_image_write_preprocessor(const char *dir, const tl_augment *a, tl_err *err);
tl_status tl_image_read_preprocessor(const char *dir, tl_augment *a, tl_err *err);
/* How a finished model's pictures are made: size and channels of c, the rest from the file beside
 * it (an adapter's own comes before the base's). */
tl_status tl_image_plain(const tl_model_place *place, const tl_model_config *c, tl_augment *a,
                         tl_err *err);

#endif
