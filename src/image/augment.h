/* Inside of augmentation: a picture as f32 [size][size][channels], 0 to 1. */
#ifndef TL_IMAGE_AUGMENT_H
#define TL_IMAGE_AUGMENT_H

#include "base/rng.h"
#include "tilth/augment.h"

typedef struct tl_canvas {
  int32_t size, channels;
  float *px, *spare;        /* [size * size * channels] each */
  const tl_image *mask;     /* of the picture; NULL: none, and no ids */
  uint8_t *ids, *spare_ids; /* its classes [size * size] each: they go where the pixels go */
} tl_canvas;

/* A part of m, stretched to the canvas: a triangle filter as wide as the reduction, so that fine
 * patterns do not turn into false ones. */
tl_status tl_canvas_crop(tl_canvas *c, const tl_image *m, double x0, double y0, double w, double h,
                         tl_err *err);
void tl_canvas_swap(tl_canvas *c); /* what was written to the spare ones becomes the picture */
double tl_rng_range(tl_rng *r, double lo, double hi);
static inline bool tl_rng_chance(tl_rng *r, double p) {
  return (double)tl_rng_f32(r) < p; /* always draws: later draws stay where they are */
}

/* colour.c */
void tl_canvas_brightness(tl_canvas *c, double f);
void tl_canvas_contrast(tl_canvas *c, double f);
void tl_canvas_saturation(tl_canvas *c, double f);
void tl_canvas_jitter(tl_canvas *c, double strength, tl_rng *r);
void tl_canvas_blur(tl_canvas *c, double sigma);
void tl_canvas_solarize(tl_canvas *c, double threshold);
/* randaugment.c */
void tl_canvas_rand_augment(tl_canvas *c, int32_t ops, double magnitude, tl_rng *r);

#endif
