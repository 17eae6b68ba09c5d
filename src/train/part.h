/* Labelled records of one purpose: a selection of a file's, of texts or of pictures. */
#ifndef TL_TRAIN_PART_H
#define TL_TRAIN_PART_H

#include "tilth/config.h"
#include "tilth/image.h"
#include "tilth/model.h"

typedef struct tl_part {
  tl_task_data records;          /* [n]; names and labels are the file's, which must stay */
  const tl_image_data *pictures; /* the file; NULL: texts */
  size_t *index;                 /* [n] pictures: their places in it */
} tl_part;

/* The first n of `records` in this order (NULL: in turn); pictures: the file whose records they
 * are, or NULL. */
tl_status tl_part_take(const tl_task_data *records, const tl_image_data *pictures,
                       const size_t *order, size_t n, tl_part *out, tl_err *err);
void tl_part_free(tl_part *p);

/* A file of pictures with labels, or (task.type image_segment) with masks, as the section `image`
 * says. labels: those there may be; NULL: those that occur, and of masks those of image.classes. */
tl_status tl_part_read_pictures(const tl_config *c, const char *path, const tl_labels *labels,
                                tl_image_data *out, tl_err *err);
/* The same without labels or masks, whatever the file has. */
tl_status tl_part_read_unlabelled(const tl_config *c, const char *path, tl_image_data *out,
                                  tl_err *err);

/* Pictures with captions, which are their labels. */
tl_status tl_part_read_captions(const tl_config *c, const char *path, tl_image_data *out,
                                tl_err *err);

/* Sizes of a model for the pictures of d: those of the model `from`, or ("") the section `model`'s,
 * with the pictures' own side and channels where it says nothing. */
tl_status tl_part_model_config(const tl_config *c, const char *from, const tl_image_data *d,
                               tl_model_config *mc, tl_err *err);

#endif
