/* Masks: the class of every pixel, from a graph of pictures with a head for masks. */
#ifndef TL_TRANSFER_MASK_H
#define TL_TRANSFER_MASK_H

#include "transfer/image_graph.h"

/* Gets the predicted classes of picture i of those asked for, at the mask's size or, without masks,
 * at the picture's; the pixels are valid during the call. Called in their order. */
typedef tl_status (*tl_mask_fn)(void *user, size_t i, const tl_image *classes, tl_err *err);

/* The classes of the pictures index[0 .. n) (NULL: all) of d: the logits of the picture as `a`
 * changes it, stretched to the mask's own size by linear interpolation; the likeliest class counts.
 * out gets the counts of pixels, against the masks of d if it has them (else of predicted pixels
 * alone), and the loss at the grid of the logits. each may be NULL. */
tl_status tl_mask_predict(tl_image_graph *p, const tl_image_data *d, const size_t *index, size_t n,
                          const tl_augment *a, tl_mask_fn each, void *user, tl_predictions *out,
                          tl_err *err);

/* Colours of classes, of which neighbours differ; that of TL_MASK_VOID, if it is among them, is
 * black. */
void tl_mask_colours(uint8_t (*palette)[3], size_t n);
/* dir/NAME.png for each picture of d, into *out[n], which is the caller's to free even after an
 * error; makes dir. DATA: two pictures of one name. */
tl_status tl_mask_names(const tl_image_data *d, const char *dir, char ***out, tl_err *err);
/* A tl_mask_fn that writes PNG files of indices with these colours. user: tl_mask_files. */
typedef struct tl_mask_files {
  char *const *name;
  int n_classes;
} tl_mask_files;
tl_status tl_mask_write(void *user, size_t i, const tl_image *classes, tl_err *err);

/* Weights by median frequency (Eigen and Fergus, 2015) over the masks at index: the median of the
 * classes' frequencies over the class's own, a frequency being the class's share of the pixels of
 * the pictures it occurs in; all times one factor, so that the mean over all pixels is 1. Classes
 * that do not occur have 1. */
tl_status tl_mask_balance(const tl_image_data *d, const size_t *index, size_t n, int n_classes,
                          float *weights, tl_err *err);

#endif
