/* Pictures for report pages, as parts of the document that tilth/report.h describes. */
#ifndef TL_TRANSFER_GALLERY_H
#define TL_TRANSFER_GALLERY_H

#include <jansson.h>

#include "models/model.h"
#include "tilth/augment.h"
#include "tilth/predict.h"

enum { TL_GALLERY_SIDE = 112 }; /* pixels that are worth their bytes on a page */

/* A group of `pictures`; columns: names of the pictures in each row, ended by NULL, or NULL: the
 * rows have one picture each. NULL when out of memory. */
json_t *tl_gallery_group(const char *title, const char *note, const char *const *columns);
/* A new row of the group: its list of pictures, borrowed. */
json_t *tl_gallery_row(json_t *group, const char *text);
/* Appends a picture to a list. Errors: NOMEM, USAGE. */
tl_status tl_gallery_add(json_t *list, const tl_image *m, tl_err *err);
/* Values f32 [channels][size][size], normalised as `a` has it, as a picture to be freed. */
tl_status tl_gallery_image(const float *values, const tl_augment *a, tl_image *out, tl_err *err);
/* Appends such values. */
tl_status tl_gallery_add_values(json_t *list, const float *values, const tl_augment *a,
                                tl_err *err);

/* The name of a picture's class; "" where there are no labels. */
const char *tl_gallery_label(const tl_image_data *d, size_t record);

/* How pictures of the training data become what the model of `size` sees: a group with each
 * picture and some of its changes; NULL in *out where the configuration changes nothing. */
tl_status tl_gallery_samples(const tl_config *c, const tl_image_data *d, int32_t size, json_t **out,
                             tl_err *err);
/* `predictions`: right ones at random, and the wrong ones that were the surest. d: the labelled
 * pictures, of which those at index[0 .. p->n) (NULL: all) were predicted. */
tl_status tl_gallery_predictions(const tl_image_data *d, const size_t *index,
                                 const tl_predictions *p, json_t **out, tl_err *err);

/* Classes of pixels, as the model m of the folder dir predicts them for the pictures with masks
 * index[0 .. n) of d: a group of some of them with truth and prediction, and one of the classes'
 * colours and scores. */
tl_status tl_gallery_masks(tl_ctx *ctx, tl_model *m, const char *dir, const tl_image_data *d,
                           const size_t *index, size_t n, json_t **rows, json_t **classes,
                           tl_err *err);

/* Where the model in a folder looks: for some pictures, the attention of its last layer over the
 * picture, by head, and through all layers; NULL in *out for a model without attention. */
tl_status tl_gallery_attention(tl_ctx *ctx, const char *model, const tl_image_data *d, json_t **out,
                               tl_err *err);

/* Appends to groups what a CapsNet with a decoder, read with its head from dir, makes again of some
 * pictures, and of one with changed capsules; nothing for other models. */
tl_status tl_gallery_capsules(tl_ctx *ctx, tl_model *m, const char *dir, const tl_image_data *d,
                              json_t *groups, tl_err *err);

/* What a masked autoencoder, left in dir by a run of this configuration, fills in; NULL in *out for
 * other objectives. */
tl_status tl_gallery_mae(tl_ctx *ctx, const tl_config *cfg, const char *dir, const tl_image_data *d,
                         json_t **out, tl_err *err);

/* What a run on pictures has to show: {"pictures", "predictions", "notes"} of a report document;
 * NULL in *out for other runs. Data that cannot be read are a note. */
tl_status tl_gallery_run(tl_ctx *ctx, const char *run_dir, json_t **out, tl_err *err);

#endif
