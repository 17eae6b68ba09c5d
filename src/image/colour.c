/* Changes of colour, on values from 0 to 1. */
#include <math.h>
#include <string.h>

#include "image/augment.h"

static int32_t pixels(const tl_canvas *c) {
  return c->size * c->size;
}

static float clip(float v) {
  return v < 0 ? 0 : v > 1 ? 1 : v;
}

static float luma(const tl_canvas *c, int32_t i) {
  const float *p = c->px + i * c->channels;
  return c->channels == 1 ? *p : 0.299f * p[0] + 0.587f * p[1] + 0.114f * p[2];
}

/* Each value moved towards (f < 1) or away from a fixed one. */
static void blend(tl_canvas *c, float to, float f) {
  for (int32_t i = 0; i < pixels(c) * c->channels; i++) c->px[i] = clip(to + (c->px[i] - to) * f);
}

void tl_canvas_brightness(tl_canvas *c, double f) {
  blend(c, 0, (float)f);
}

void tl_canvas_contrast(tl_canvas *c, double f) {
  double sum = 0;
  for (int32_t i = 0; i < pixels(c); i++) sum += (double)luma(c, i);
  blend(c, (float)(sum / pixels(c)), (float)f);
}

void tl_canvas_saturation(tl_canvas *c, double f) {
  for (int32_t i = 0; c->channels == 3 && i < pixels(c); i++) {
    float grey = luma(c, i);
    for (int k = 0; k < 3; k++) {
      float *v = &c->px[3 * i + k];
      *v = clip(grey + (*v - grey) * (float)f);
    }
  }
}

/* Turns the colours around the grey axis (in YIQ) by a part of the circle. */
static void hue(tl_canvas *c, double part) {
  float u = (float)cos(2 * 3.14159265358979 * part), w = (float)sin(2 * 3.14159265358979 * part);
  for (int32_t n = 0; c->channels == 3 && n < pixels(c); n++) {
    float *p = c->px + 3 * n;
    float y = 0.299f * p[0] + 0.587f * p[1] + 0.114f * p[2];
    float i = 0.596f * p[0] - 0.274f * p[1] - 0.322f * p[2];
    float q = 0.211f * p[0] - 0.523f * p[1] + 0.312f * p[2];
    float i2 = u * i - w * q, q2 = w * i + u * q;
    p[0] = clip(y + 0.956f * i2 + 0.621f * q2);
    p[1] = clip(y - 0.272f * i2 - 0.647f * q2);
    p[2] = clip(y - 1.106f * i2 + 1.703f * q2);
  }
}

/* As SimCLR has it: four pictures of five, all four changes. */
void tl_canvas_jitter(tl_canvas *c, double s, tl_rng *r) {
  bool on = tl_rng_chance(r, 0.8);
  double least = s < 1 ? 1 - s : 0;
  double b = tl_rng_range(r, least, 1 + s), k = tl_rng_range(r, least, 1 + s);
  double t = tl_rng_range(r, least, 1 + s), h = tl_rng_range(r, -s / 4, s / 4);
  if (!on) return;
  tl_canvas_brightness(c, b);
  tl_canvas_contrast(c, k);
  tl_canvas_saturation(c, t);
  hue(c, h);
}

static int32_t inside(int32_t i, int32_t n) {
  return i < 0 ? 0 : i >= n ? n - 1 : i;
}

/* One pass along an axis: from px to spare, which change places. */
static void blur_pass(tl_canvas *c, const float *w, int32_t radius, bool down) {
  int32_t n = c->size, ch = c->channels;
  for (int32_t y = 0; y < n; y++)
    for (int32_t x = 0; x < n; x++)
      for (int32_t k = 0; k < ch; k++) {
        float sum = 0;
        for (int32_t d = -radius; d <= radius; d++) {
          int32_t v = down ? inside(y + d, n) : y, u = down ? x : inside(x + d, n);
          sum += w[d + radius] * c->px[(v * n + u) * ch + k];
        }
        c->spare[(y * n + x) * ch + k] = sum;
      }
  float *t = c->px;
  c->px = c->spare;
  c->spare = t;
}

void tl_canvas_blur(tl_canvas *c, double sigma) {
  enum { MOST = 32 };
  float w[2 * MOST + 1];
  int32_t radius = (int32_t)ceil(3 * sigma);
  if (radius > MOST) radius = MOST;
  double sum = 0;
  for (int32_t d = -radius; d <= radius; d++) sum += exp(-d * d / (2 * sigma * sigma));
  for (int32_t d = -radius; d <= radius; d++)
    w[d + radius] = (float)(exp(-d * d / (2 * sigma * sigma)) / sum);
  blur_pass(c, w, radius, false);
  blur_pass(c, w, radius, true);
}

void tl_canvas_solarize(tl_canvas *c, double threshold) {
  for (int32_t i = 0; i < pixels(c) * c->channels; i++)
    if ((double)c->px[i] >= threshold) c->px[i] = 1 - c->px[i];
}
