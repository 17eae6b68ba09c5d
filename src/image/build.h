/* Pictures while they are read: what the readers of the containers share. */
#ifndef TL_IMAGE_BUILD_H
#define TL_IMAGE_BUILD_H

#include "base/arena.h"
#include "base/buf.h"
#include "image/decode.h"
#include "tilth/npy.h"

/* A picture: its pixels, or what they are decoded from (bytes, or a file). */
typedef struct tl_image_entry {
  int32_t width, height, channels;
  const uint8_t *pixels, *bytes; /* one of them, or neither: the file named text[i] */
  size_t n_bytes;
} tl_image_entry;

/* What pixels and bytes point into. */
typedef struct tl_image_block {
  struct tl_image_block *next;
  uint8_t *data;
} tl_image_block;

/* What of a set of pictures with masks is read. */
typedef enum tl_image_role { TL_ROLE_ALL, TL_ROLE_PICTURES, TL_ROLE_MASKS } tl_image_role;

typedef struct tl_image_builder {
  const tl_image_options *o;
  const char *path;
  tl_image_role role; /* not ALL: label is what a picture and its mask have in common */
  const char *part;   /* the folder in the path of all that is read; NULL: everything */
  int32_t n_ids;      /* masks: one more than the largest class so far */
  tl_image_data *d;
  size_t cap, used, budget; /* used: bytes of decoded pixels */
  tl_arena names;           /* of the labels */
  const char **label;       /* [cap] of each picture; NULL: it has none */
  size_t n_labelled;
} tl_image_builder;

/* Keeps a block until the data is freed; frees it at once when out of memory. */
tl_status tl_image_keep(tl_image_builder *b, uint8_t *data, tl_err *err);
/* An encoded picture; `bytes` stay the caller's and are copied when they must be kept. file: `name`
 * is a path from which they can be read again. Broken ones are passed over if the options say so.
 */
tl_status tl_image_add(tl_image_builder *b, const char *name, const char *label, const void *bytes,
                       size_t n, bool file, tl_err *err);
/* Counts a picture as broken, for the reason in *why, or fails with it. */
tl_status tl_image_bad(tl_image_builder *b, const tl_err *why, tl_err *err);
/* n pictures of one size, one after the other in a block that has been kept; class[i] (NULL: no
 * labels) from 0 on. */
tl_status tl_image_add_block(tl_image_builder *b, const uint8_t *pixels, size_t n,
                             const tl_image *shape, const int32_t *class, tl_err *err);

/* Pictures of b->path into b->d, without numbers of their labels (image_data.c). */
tl_status tl_image_build(tl_image_builder *b, tl_err *err);
/* Masks' pixels as they are kept: counts the classes, and makes b's void value TL_MASK_VOID. DATA:
 * a class that cannot be. */
tl_status tl_mask_take(tl_image_builder *b, const char *name, tl_image *m, tl_err *err);
void tl_mask_void(tl_image *m, int32_t void_id); /* the second of these alone */
/* Whether the file `name`, a path below what is read, is to be read, and what it has in common with
 * its mask or its picture, appended to key (masks.c). */
bool tl_mask_wanted(const tl_image_builder *b, const char *name);
void tl_mask_key(const char *name, tl_buf *key);
/* tl_image_read with masks. */
tl_status tl_mask_read(const char *path, const tl_image_options *o, tl_image_data *out,
                       tl_err *err);

/* The readers. */
tl_status tl_image_read_folder(tl_image_builder *b, tl_err *err);
tl_status tl_image_read_csv(tl_image_builder *b, tl_err *err);
tl_status tl_image_read_tar(tl_image_builder *b, tl_err *err);
tl_status tl_image_read_idx(tl_image_builder *b, tl_err *err);
tl_status tl_image_read_cifar(tl_image_builder *b, tl_err *err);
tl_status tl_image_read_npz(tl_image_builder *b, tl_err *err);

/* --- members of archives, and compressed files ------------------------------------------------ */

typedef enum tl_members_kind { TL_MEMBERS_TAR, TL_MEMBERS_ZIP, TL_MEMBERS_RAW } tl_members_kind;
typedef struct tl_members {
  struct archive *a;
  const char *path;
  const char *name; /* of the current member, valid until the next */
} tl_members;
/* RAW: one member, the file with its compression taken off. */
tl_status tl_members_open(tl_members *m, const char *path, tl_members_kind kind, tl_err *err);
/* The next regular file; *more = false behind the last. */
tl_status tl_members_next(tl_members *m, bool *more, tl_err *err);
/* Its bytes in place of out's; DATA beyond max. */
tl_status tl_members_read(tl_members *m, size_t max, tl_buf *out, tl_err *err);
void tl_members_close(tl_members *m);
/* A whole file, its compression (.gz, .xz, ...) taken off. */
tl_status tl_members_file(const char *path, size_t max, tl_buf *out, tl_err *err);

/* --- arrays -------------------------------------------------------------------------------------
 */

/* An IDX file as an array. DATA: damaged, truncated, longer than its shape, an unsupported type. */
tl_status tl_idx_parse(const char *name, const uint8_t *bytes, size_t n, tl_npy *out, tl_err *err);
/* Pictures [n, h, w] or [n, h, w, 1 or 3] (or [n, 3, h, w]) of 8 or 16 bits, or floats in 0 .. 1,
 * and labels [n] or [n, 1] (NULL: none) of whole numbers. */
tl_status tl_image_add_arrays(tl_image_builder *b, const char *name, const tl_npy *x,
                              const char *label_name, const tl_npy *y, tl_err *err);

#endif
