#include "image/augment.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double tl_rng_range(tl_rng *r, double lo, double hi) {
  return lo + (hi - lo) * (double)tl_rng_f32(r);
}

void tl_augment_from(const tl_config *c, int32_t size, int32_t channels, bool train,
                     tl_augment *out) {
  *out = (tl_augment){.size = size, .channels = channels};
  if (!train) return;
  out->crop = !strcmp(c->image.crop, "pad")       ? TL_CROP_PAD
              : !strcmp(c->image.crop, "resized") ? TL_CROP_RESIZED
                                                  : TL_CROP_CENTRE;
  out->pad = (int32_t)c->image.pad;
  out->crop_min = c->image.crop_min;
  out->flip = c->image.flip;
  out->jitter = c->image.jitter;
  out->grey = c->image.grey;
  out->blur = c->image.blur;
  out->solarize = c->image.solarize;
  out->cutout = (int32_t)c->image.cutout;
  out->ops = (int32_t)c->image.ops;
  out->magnitude = c->image.magnitude;
}

/* --- geometry ----------------------------------------------------------------------------------
 */

/* Weights of input samples for one output place; at most `cap` of them. */
typedef struct taps {
  int32_t first, n;
  float *w;
} taps;

static void set_taps(taps *t, double centre, double support, int32_t limit) {
  int32_t lo = (int32_t)ceil(centre - support - 0.5), hi = (int32_t)floor(centre + support - 0.5);
  if (lo < 0) lo = 0;
  if (hi > limit - 1) hi = limit - 1;
  if (lo > hi) lo = hi = lo > limit - 1 ? limit - 1 : lo;
  double sum = 0;
  t->first = lo;
  t->n = hi - lo + 1;
  for (int32_t i = 0; i < t->n; i++) {
    double d = 1 - fabs((double)(lo + i) + 0.5 - centre) / support;
    t->w[i] = (float)(d > 0 ? d : 0);
    sum += (double)t->w[i];
  }
  for (int32_t i = 0; i < t->n; i++)
    t->w[i] = sum > 0 ? (float)((double)t->w[i] / sum) : 1.0f / (float)t->n;
}

/* Rows of m at the output's columns: [height][size][channels]. */
static void shrink_row(const tl_image *m, int32_t y, const taps *tx, int32_t size, float *row) {
  int32_t ch = m->channels;
  const uint8_t *in = m->pixels + (size_t)y * (size_t)m->width * (size_t)ch;
  for (int32_t x = 0; x < size; x++)
    for (int32_t k = 0; k < ch; k++) {
      float sum = 0;
      for (int32_t i = 0; i < tx[x].n; i++)
        sum += tx[x].w[i] * (float)in[(tx[x].first + i) * ch + k];
      row[x * ch + k] = sum / 255.0f;
    }
}

/* The nearest pixels of the mask. */
static void crop_ids(tl_canvas *c, double x0, double y0, double w, double h) {
  const tl_image *m = c->mask;
  for (int32_t y = 0; m && y < c->size; y++)
    for (int32_t x = 0; x < c->size; x++) {
      int32_t u = (int32_t)(x0 + (x + 0.5) * w / c->size);
      int32_t v = (int32_t)(y0 + (y + 0.5) * h / c->size);
      u = u < m->width ? u : m->width - 1;
      v = v < m->height ? v : m->height - 1;
      c->ids[y * c->size + x] = m->pixels[(size_t)v * (size_t)m->width + (size_t)u];
    }
}

tl_status tl_canvas_crop(tl_canvas *c, const tl_image *m, double x0, double y0, double w, double h,
                         tl_err *err) {
  int32_t size = c->size, row = size * c->channels;
  double fx = w / size, fy = h / size, sx = fx > 1 ? fx : 1, sy = fy > 1 ? fy : 1;
  int32_t cap = (int32_t)(2 * (sx > sy ? sx : sy)) + 3;
  float *weights = malloc((size_t)cap * 2 * (size_t)size * sizeof *weights);
  taps *t = malloc(2 * (size_t)size * sizeof *t);
  float *rows = malloc((size_t)m->height * (size_t)row * sizeof *rows);
  if (!weights || !t || !rows) {
    free(weights);
    free(t);
    free(rows);
    return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  }
  int32_t lo = m->height, hi = -1;
  for (int32_t i = 0; i < size; i++) {
    t[i].w = weights + (size_t)i * (size_t)cap;
    t[size + i].w = weights + (size_t)(size + i) * (size_t)cap;
    set_taps(&t[i], x0 + (i + 0.5) * fx, sx, m->width);
    set_taps(&t[size + i], y0 + (i + 0.5) * fy, sy, m->height);
    if (t[size + i].first < lo) lo = t[size + i].first;
    if (t[size + i].first + t[size + i].n - 1 > hi) hi = t[size + i].first + t[size + i].n - 1;
  }
  for (int32_t y = lo; y <= hi; y++) shrink_row(m, y, t, size, rows + (size_t)y * (size_t)row);
  for (int32_t y = 0; y < size; y++) {
    const taps *v = &t[size + y];
    for (int32_t i = 0; i < row; i++) {
      float sum = 0;
      for (int32_t k = 0; k < v->n; k++)
        sum += v->w[k] * rows[(size_t)(v->first + k) * (size_t)row + (size_t)i];
      c->px[y * row + i] = sum;
    }
  }
  free(weights);
  free(t);
  free(rows);
  crop_ids(c, x0, y0, w, h);
  return TL_OK;
}

static tl_status whole(tl_canvas *c, const tl_image *m, tl_err *err) {
  return tl_canvas_crop(c, m, 0, 0, m->width, m->height, err);
}

static tl_status centre(tl_canvas *c, const tl_image *m, tl_err *err) {
  double side = m->width < m->height ? m->width : m->height;
  return tl_canvas_crop(c, m, (m->width - side) / 2, (m->height - side) / 2, side, side, err);
}

/* A part of at least crop_min of the area, at most 4:3 as wide or high as a square, or (whole) as
 * the picture's own proportions. */
static tl_status resized(tl_canvas *c, const tl_augment *a, const tl_image *m, tl_rng *r,
                         tl_err *err) {
  double base = a->whole ? (double)m->width / m->height : 1, least = a->crop_min;
  double area = (double)m->width * m->height;
  for (int attempt = 0; attempt < 10; attempt++) {
    double part = area * tl_rng_range(r, least, 1);
    double ratio = base * exp(tl_rng_range(r, log(3.0 / 4), log(4.0 / 3)));
    double w = sqrt(part * ratio), h = sqrt(part / ratio);
    double u = (double)tl_rng_f32(r), v = (double)tl_rng_f32(r);
    if (w <= m->width && h <= m->height)
      return tl_canvas_crop(c, m, u * (m->width - w), v * (m->height - h), w, h, err);
  }
  return a->whole ? whole(c, m, err) : centre(c, m, err);
}

static void shift(tl_canvas *c, int32_t dx, int32_t dy) {
  int32_t n = c->size, ch = c->channels;
  for (int32_t y = 0; y < n; y++)
    for (int32_t x = 0; x < n; x++)
      for (int32_t k = 0; k < ch; k++) {
        int32_t u = x + dx, v = y + dy;
        bool inside = u >= 0 && u < n && v >= 0 && v < n;
        c->spare[(y * n + x) * ch + k] = inside ? c->px[(v * n + u) * ch + k] : 0;
        if (c->mask) c->spare_ids[y * n + x] = inside ? c->ids[v * n + u] : TL_MASK_VOID;
      }
  tl_canvas_swap(c);
}

void tl_canvas_swap(tl_canvas *c) {
  float *px = c->px;
  uint8_t *ids = c->ids;
  c->px = c->spare;
  c->spare = px;
  c->ids = c->spare_ids;
  c->spare_ids = ids;
}

static void flip(tl_canvas *c) {
  int32_t n = c->size, ch = c->channels;
  for (int32_t y = 0; y < n; y++)
    for (int32_t x = 0; x < n / 2; x++) {
      if (c->mask) {
        uint8_t *a = &c->ids[y * n + x], *b = &c->ids[y * n + n - 1 - x], t = *a;
        *a = *b;
        *b = t;
      }
      for (int32_t k = 0; k < ch; k++) {
        float *a = &c->px[(y * n + x) * ch + k], *b = &c->px[(y * n + n - 1 - x) * ch + k], t = *a;
        *a = *b;
        *b = t;
      }
    }
}

static tl_status geometry(tl_canvas *c, const tl_augment *a, const tl_image *m, tl_rng *r,
                          tl_err *err) {
  if (a->crop == TL_CROP_RESIZED) {
    TL_TRY(resized(c, a, m, r, err));
  } else {
    TL_TRY(a->whole ? whole(c, m, err) : centre(c, m, err));
    if (a->crop == TL_CROP_PAD && a->pad > 0) {
      int32_t span = 2 * a->pad + 1;
      int32_t dx = (int32_t)tl_rng_below(r, (uint64_t)span) - a->pad;
      int32_t dy = (int32_t)tl_rng_below(r, (uint64_t)span) - a->pad;
      shift(c, dx, dy);
    }
  }
  if (tl_rng_chance(r, a->flip)) flip(c);
  return TL_OK;
}

/* --- the whole ---------------------------------------------------------------------------------
 */

static void colours(tl_canvas *c, const tl_augment *a, tl_rng *r) {
  if (a->ops > 0) tl_canvas_rand_augment(c, a->ops, a->magnitude, r);
  if (a->jitter > 0) tl_canvas_jitter(c, a->jitter, r);
  if (tl_rng_chance(r, a->grey)) tl_canvas_saturation(c, 0);
  bool blurred = tl_rng_chance(r, a->blur);
  double sigma = tl_rng_range(r, 0.1, 2);
  if (blurred) tl_canvas_blur(c, sigma * c->size / 224 < 0.3 ? 0.3 : sigma * c->size / 224);
  if (tl_rng_chance(r, a->solarize)) tl_canvas_solarize(c, 0.5);
}

/* Normalised, and channel by channel. */
static void write_out(const tl_canvas *c, const tl_augment *a, float *out) {
  int32_t n = c->size * c->size, ch = c->channels;
  for (int32_t k = 0; k < ch; k++) {
    float scale = a->std[k] > 0 ? 1 / a->std[k] : 1;
    for (int32_t i = 0; i < n; i++) out[k * n + i] = (c->px[i * ch + k] - a->mean[k]) * scale;
  }
}

/* 0 is the mean. */
static void cut_out(float *out, int32_t size, int32_t channels, int32_t x0, int32_t y0, int32_t x1,
                    int32_t y1, const float *from) {
  for (int32_t k = 0; k < channels; k++)
    for (int32_t y = y0 < 0 ? 0 : y0; y < y1 && y < size; y++)
      for (int32_t x = x0 < 0 ? 0 : x0; x < x1 && x < size; x++) {
        int32_t i = (k * size + y) * size + x;
        out[i] = from ? from[i] : 0;
      }
}

/* Empties a square and makes its classes void. */
static void cut(tl_canvas *c, const tl_augment *a, tl_rng *r, float *out) {
  int32_t x0 = (int32_t)tl_rng_below(r, (uint64_t)a->size) - a->cutout / 2;
  int32_t y0 = (int32_t)tl_rng_below(r, (uint64_t)a->size) - a->cutout / 2;
  int32_t x1 = x0 + a->cutout, y1 = y0 + a->cutout;
  cut_out(out, a->size, a->channels, x0, y0, x1, y1, NULL);
  for (int32_t y = y0 < 0 ? 0 : y0; c->mask && y < y1 && y < a->size; y++)
    for (int32_t x = x0 < 0 ? 0 : x0; x < x1 && x < a->size; x++)
      c->ids[y * a->size + x] = TL_MASK_VOID;
}

/* The canvas has room for the picture, and the mask if there is one. */
static tl_status augment(tl_canvas *c, const tl_augment *a, const tl_image *m, uint64_t seed,
                         uint64_t position, float *out, tl_err *err) {
  tl_rng r = tl_rng_make(tl_mix64(seed, position), TL_STREAM_AUGMENT, 0, 0);
  TL_TRY(geometry(c, a, m, &r, err));
  colours(c, a, &r);
  write_out(c, a, out);
  if (a->cutout > 0) cut(c, a, &r, out);
  return TL_OK;
}

tl_status tl_augment_run(const tl_augment *a, const tl_image *m, uint64_t seed, uint64_t position,
                         float *out, tl_err *err) {
  size_t n = (size_t)a->size * (size_t)a->size * (size_t)a->channels;
  float *memory = malloc(2 * n * sizeof *memory);
  if (!memory) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  tl_canvas c = {.size = a->size, .channels = a->channels, .px = memory, .spare = memory + n};
  tl_status s = augment(&c, a, m, seed, position, out, err);
  free(memory);
  return s;
}

tl_status tl_augment_pair(const tl_augment *a, const tl_image *m, const tl_image *mask,
                          int32_t side, uint64_t seed, uint64_t position, float *out,
                          int32_t *classes, tl_err *err) {
  size_t pixels = (size_t)a->size * (size_t)a->size, n = pixels * (size_t)a->channels;
  float *memory = malloc(2 * n * sizeof *memory);
  uint8_t *ids = malloc(2 * pixels);
  tl_canvas c = {a->size, a->channels, memory, memory + n, mask, ids, ids + pixels};
  tl_status s = memory && ids ? augment(&c, a, m, seed, position, out, err)
                              : tl_fail(err, TL_NOMEM, "pictures: out of memory");
  int32_t step = a->size / side;
  for (int32_t y = 0; s == TL_OK && y < side; y++)
    for (int32_t x = 0; x < side; x++) {
      uint8_t id = c.ids[(y * step + step / 2) * a->size + x * step + step / 2];
      classes[y * side + x] = id == TL_MASK_VOID ? -1 : id;
    }
  free(memory);
  free(ids);
  return s;
}

/* --- mixing ------------------------------------------------------------------------------------
 */

/* Beta(alpha, alpha) by Johnk's method, which needs few tries while alpha is not far above 1. */
static double draw_beta(double alpha, tl_rng *r) {
  for (int i = 0; i < 1000; i++) {
    double x = pow((double)tl_rng_f32(r), 1 / alpha), y = pow((double)tl_rng_f32(r), 1 / alpha);
    if (x + y > 0 && x + y <= 1) return x / (x + y);
  }
  return 0.5;
}

double tl_mix_run(const tl_mix *m, int32_t size, int32_t channels, uint64_t seed, uint64_t position,
                  float *a, const float *b) {
  if (m->mixup <= 0 && m->cutmix <= 0) return 1;
  tl_rng r = tl_rng_make(tl_mix64(seed, position), TL_STREAM_AUGMENT, 1, 0);
  bool cut = m->mixup <= 0 || (tl_rng_chance(&r, 0.5) && m->cutmix > 0);
  double share = draw_beta(cut ? m->cutmix : m->mixup, &r);
  if (!cut) {
    for (int32_t i = 0; i < channels * size * size; i++)
      a[i] = (float)share * a[i] + (float)(1 - share) * b[i];
    return share;
  }
  int32_t side = (int32_t)(sqrt(1 - share) * size + 0.5);
  int32_t x0 = (int32_t)tl_rng_below(&r, (uint64_t)size) - side / 2;
  int32_t y0 = (int32_t)tl_rng_below(&r, (uint64_t)size) - side / 2;
  int32_t x1 = x0 + side < size ? x0 + side : size, y1 = y0 + side < size ? y0 + side : size;
  if (x0 < 0) x0 = 0;
  if (y0 < 0) y0 = 0;
  cut_out(a, size, channels, x0, y0, x1, y1, b);
  return 1 - (double)(x1 - x0) * (y1 - y0) / ((double)size * size);
}
