/* From stored pictures to the numbers that a model reads: cropping, resizing, chance,
 * normalisation. All randomness is a function of (seed, position): the same pictures on any number
 * of threads. */
#ifndef TILTH_AUGMENT_H
#define TILTH_AUGMENT_H

#include "tilth/config.h"
#include "tilth/image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tl_crop {
  TL_CROP_CENTRE,  /* "none": the shorter side becomes `size`, the middle stays */
  TL_CROP_PAD,     /* "pad": the same with `pad` empty pixels on each side, cut at random */
  TL_CROP_RESIZED, /* "resized": a random part of the area, stretched to size x size */
} tl_crop;

/* Probabilities and strengths; all zero: pictures as they are. */
typedef struct tl_augment {
  int32_t size, channels; /* of the result */
  tl_crop crop;
  bool whole; /* the whole picture is stretched to size x size, not its middle; "resized" then draws
                 parts of the picture's own proportions */
  int32_t pad;
  double crop_min; /* smallest part of the area */
  double flip;     /* left to right */
  double jitter; /* strength of changes of brightness, contrast, saturation; a quarter of it: hue */
  double grey, blur, solarize; /* probabilities */
  int32_t cutout;              /* side of the square that is emptied; 0: none */
  int32_t ops;                 /* RandAugment: operations in turn */
  double magnitude;            /* of these, 0 to 1 */
  float mean[3], std[3];       /* of normalisation: (x / 255 - mean) / std; std 0 stands for 1 */
} tl_augment;

/* The options of the section `image`; train false: what is measured, without chance. */
void tl_augment_from(const tl_config *c, int32_t size, int32_t channels, bool train,
                     tl_augment *out);
/* out: f32 [channels][size][size]. m has a->channels. NOMEM. */
tl_status tl_augment_run(const tl_augment *a, const tl_image *m, uint64_t seed, uint64_t position,
                         float *out, tl_err *err);

/* The same for a picture and its mask, u8 classes and TL_MASK_VOID of m's size: what moves pixels
 * moves both (the mask's are never mixed: the nearest counts). classes: i32 [side][side], -1: void,
 * empty borders and what cutout emptied too; side divides a->size. */
tl_status tl_augment_pair(const tl_augment *a, const tl_image *m, const tl_image *mask,
                          int32_t side, uint64_t seed, uint64_t position, float *out,
                          int32_t *classes, tl_err *err);

/* Mixing of two pictures of a batch and their labels. */
typedef struct tl_mix {
  double mixup, cutmix; /* alpha of the Beta distribution of the share; 0: off; both: either */
} tl_mix;
/* a [channels][size][size] becomes a mixture with b; returns the share of a that is left. */
double tl_mix_run(const tl_mix *m, int32_t size, int32_t channels, uint64_t seed, uint64_t position,
                  float *a, const float *b);

#ifdef __cplusplus
}
#endif

#endif
