/* Labelled pictures: several containers and file formats, one form in memory. */
#ifndef TILTH_IMAGE_H
#define TILTH_IMAGE_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"
#include "tilth/task_data.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A picture: u8 [height][width][channels]; channels: 1 (grey) or 3 (RGB). */
typedef struct tl_image {
  int32_t width, height, channels;
  uint8_t *pixels; /* owned */
} tl_image;
void tl_image_free(tl_image *m);

typedef struct tl_image_limits { /* zeros: the defaults */
  int32_t max_side;              /* of width and height; 0: 16,384 */
  int64_t max_pixels;            /* width * height; 0: 64 Mi */
  size_t max_bytes;              /* of an encoded picture; 0: 256 MiB */
} tl_image_limits;

/* Width, height and channels of a PNG or JPEG file in memory, checked against the limits, without
 * decoding it (pixels: NULL). `name` is for messages. DATA: neither format, damaged, too large. */
tl_status tl_image_probe(const void *bytes, size_t n, const char *name,
                         const tl_image_limits *limits, tl_image *out, tl_err *err);
/* The same, decoded. Alpha is dropped; 16 bits are rounded to 8. A truncated or otherwise damaged
 * file is an error (DATA) and leaves *out empty. Errors besides: NOMEM. */
tl_status tl_image_decode(const void *bytes, size_t n, const char *name,
                          const tl_image_limits *limits, tl_image *out, tl_err *err);

/* The raw values of a grey or palette PNG of at most 8 bits, one channel. */
tl_status tl_image_decode_ids(const void *bytes, size_t n, const char *name,
                              const tl_image_limits *limits, tl_image *out, tl_err *err);

/* A PNG file of m, malloc'ed into *png; palette: n_colours colours RGB, at most 256, for a picture
 * of one channel whose values are their indices (a mask that shows in colours and still holds ids);
 * NULL: none. Errors: USAGE (a palette for three channels, a size of 0), NOMEM. */
tl_status tl_image_encode_png(const tl_image *m, const uint8_t (*palette)[3], size_t n_colours,
                              uint8_t **png, size_t *n, tl_err *err);

typedef enum tl_image_format {
  TL_IMAGES_AUTO,   /* "auto": by what the path is */
  TL_IMAGES_FOLDER, /* "folder": a folder for each class; pictures directly in it: no labels */
  TL_IMAGES_CSV,    /* "csv": path,label (RFC 4180); paths relative to the file's folder */
  TL_IMAGES_TAR,    /* "tar": the class is the last folder of a member's path; or WebDataset
                       (KEY.jpg with KEY.cls); name-{000..012}.tar: several */
  TL_IMAGES_IDX,    /* "idx": MNIST's (.gz too): pictures, labels beside them; or "a,b" */
  TL_IMAGES_CIFAR,  /* "cifar": CIFAR-10's .bin; files with commas between */
  TL_IMAGES_NPZ,    /* "npz": "file.npz,train": train_images and train_labels in it, without the
                       part images and labels (x, y) */
} tl_image_format;
bool tl_image_format_parse(const char *name, tl_image_format *out);

/* Pictures with a mask each: the class of every pixel. Masks are PNG, grey or with a palette, of at
 * most 8 bits, whose raw values (a palette's indices) are the classes' numbers. A folder, or a tar
 * archive's part ("FILE.tar,val": what lies below a folder val), has images/NAME.* with
 * masks/NAME.png (folders of these names at any depth), or NAME.* with NAME_mask.png; a list (.csv)
 * has the columns path,mask. */
enum { TL_MASK_VOID = 255, TL_MASK_CLASSES = 255 }; /* a pixel without a class; the most classes */
typedef struct tl_mask_options {
  int32_t void_id; /* the value in files that stands for no class; -1: none */
} tl_mask_options;

typedef struct tl_image_options { /* all zero: the defaults */
  tl_image_format format;
  bool skip_bad;           /* broken pictures are counted and left out instead of an error */
  bool unlabelled;         /* classes are not looked at: folders are only places, a list is
                              paths alone, or whatever stands behind them; masks are not
                              read, only left out */
  bool several;            /* lists alone: a picture has any number of classes, with ';' between
                              them (records are then of kind MULTI); not with masks */
  const tl_labels *labels; /* the classes there may be, in their order; NULL: those that occur,
                              sorted (as numbers where all are). Where a file has numbers (IDX,
                              NPZ, CIFAR), these stand for the names 0, 1, ... */
  const tl_mask_options *masks; /* NULL: pictures with labels, or without any; else with masks, and
                                   labels are the names of the classes 0, 1, ...; NULL: numbers, up
                                   to the largest that occurs */
  tl_image_limits limits;
  size_t memory; /* decoded pictures kept in memory, bytes; what is beyond is kept encoded and
                    decoded when asked for; 0: 1 GiB */
} tl_image_options;

enum { TL_IMAGE_MAX_BAD = 20 };
typedef struct tl_image_data {
  tl_task_data records;        /* kind CLASS (or MULTI): text are the pictures' names; label (or
                                  first and item) is NULL and labels.n == 0 when there are none. With
                                  masks: kind TEXTS, and        labels are the classes */
  int32_t channels;            /* the most that any picture has */
  int32_t width, height;       /* of the largest picture, each by itself */
  size_t n_decoded;            /* pictures kept decoded */
  size_t n_bad;                /* left out */
  char *bad[TL_IMAGE_MAX_BAD]; /* why, the first of them */
  struct tl_image_data *masks; /* the pictures' masks, in their order, each of its picture's size;
                                  NULL: none */
  bool ids;                    /* these are masks: pixels are classes or TL_MASK_VOID */
  int32_t void_id;             /* of the files */
  struct tl_image_entry *entry;
  struct tl_image_block *blocks;
  tl_image_limits limits;
} tl_image_data;

/* Every picture is decoded once here, so that broken ones are known before they are used.
 * Errors: DATA with file (and member or row), what was found and what was expected; CONFIG;
 * NOINPUT, PERM, IO, NOMEM. *out is empty after an error. Freed by tl_image_data_free. */
tl_status tl_image_read(const char *path, const tl_image_options *options, tl_image_data *out,
                        tl_err *err);
void tl_image_data_free(tl_image_data *d);
/* Picture i with 1 or 3 channels (0: its own) in a new buffer. Several threads may ask. DATA: a
 * file has changed since. */
tl_status tl_image_get(const tl_image_data *d, size_t i, int32_t channels, tl_image *out,
                       tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
