/* A set of operations like RandAugment's (Cubuk et al., 2020): some of them in turn, drawn with
 * replacement, at one magnitude and with a random sign. */
#include <math.h>

#include "image/augment.h"

/* Where output pixel (x, y) comes from, from the middle: u = a x + b y + e, v = c x + d y + f. */
typedef struct affine {
  double a, b, c, d, e, f;
} affine;

static float sample(const tl_canvas *c, int32_t u, int32_t v, int32_t k) {
  bool in = u >= 0 && u < c->size && v >= 0 && v < c->size;
  return in ? c->px[(v * c->size + u) * c->channels + k] : 0.5f;
}

/* The class nearest to a place. */
static uint8_t sample_id(const tl_canvas *c, double u, double v) {
  int32_t x = (int32_t)floor(u + 0.5), y = (int32_t)floor(v + 0.5);
  bool in = x >= 0 && x < c->size && y >= 0 && y < c->size;
  return in ? c->ids[y * c->size + x] : TL_MASK_VOID;
}

static void warp(tl_canvas *c, const affine *t) {
  int32_t n = c->size, ch = c->channels;
  double mid = (n - 1) / 2.0;
  for (int32_t y = 0; y < n; y++)
    for (int32_t x = 0; x < n; x++) {
      double u = t->a * (x - mid) + t->b * (y - mid) + t->e * n + mid;
      double v = t->c * (x - mid) + t->d * (y - mid) + t->f * n + mid;
      if (c->mask) c->spare_ids[y * n + x] = sample_id(c, u, v);
      int32_t u0 = (int32_t)floor(u), v0 = (int32_t)floor(v);
      float p = (float)(u - u0), q = (float)(v - v0);
      for (int32_t k = 0; k < ch; k++)
        c->spare[(y * n + x) * ch + k] =
            (1 - q) * ((1 - p) * sample(c, u0, v0, k) + p * sample(c, u0 + 1, v0, k)) +
            q * ((1 - p) * sample(c, u0, v0 + 1, k) + p * sample(c, u0 + 1, v0 + 1, k));
    }
  tl_canvas_swap(c);
}

static void auto_contrast(tl_canvas *c) {
  for (int32_t k = 0; k < c->channels; k++) {
    float lo = 1, hi = 0;
    int32_t n = c->size * c->size * c->channels;
    for (int32_t i = k; i < n; i += c->channels) {
      if (c->px[i] < lo) lo = c->px[i];
      if (c->px[i] > hi) hi = c->px[i];
    }
    for (int32_t i = k; hi > lo && i < n; i += c->channels) c->px[i] = (c->px[i] - lo) / (hi - lo);
  }
}

static void posterize(tl_canvas *c, double magnitude) {
  float levels = (float)(1 << (8 - (int)(4 * magnitude)));
  for (int32_t i = 0; i < c->size * c->size * c->channels; i++)
    c->px[i] = floorf(c->px[i] * (levels - 1) + 0.5f) / (levels - 1);
}

static void apply(tl_canvas *c, uint64_t op, double m, double sign) {
  double s = sign * m;
  switch (op) {
  case 0:
    break; /* as it is */
  case 1: {
    double turn = s * 30 / 57.29577951;
    warp(c, &(affine){cos(turn), -sin(turn), sin(turn), cos(turn), 0, 0});
    break;
  }
  case 2:
    warp(c, &(affine){1, 0.3 * s, 0, 1, 0, 0});
    break;
  case 3:
    warp(c, &(affine){1, 0, 0.3 * s, 1, 0, 0});
    break;
  case 4:
    warp(c, &(affine){1, 0, 0, 1, 0.3 * s, 0});
    break;
  case 5:
    warp(c, &(affine){1, 0, 0, 1, 0, 0.3 * s});
    break;
  case 6:
    tl_canvas_brightness(c, 1 + 0.9 * s);
    break;
  case 7:
    tl_canvas_contrast(c, 1 + 0.9 * s);
    break;
  case 8:
    tl_canvas_saturation(c, 1 + 0.9 * s);
    break;
  case 9:
    posterize(c, m);
    break;
  case 10:
    tl_canvas_solarize(c, 1 - m);
    break;
  default:
    auto_contrast(c);
  }
}

void tl_canvas_rand_augment(tl_canvas *c, int32_t ops, double magnitude, tl_rng *r) {
  enum { N_OPS = 12 };
  for (int32_t i = 0; i < ops; i++) {
    uint64_t op = tl_rng_below(r, N_OPS);
    double sign = tl_rng_chance(r, 0.5) ? 1 : -1;
    apply(c, op, magnitude, sign);
  }
}
