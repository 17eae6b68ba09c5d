/* Augmentation: each operation on a picture small enough to say what must come out, and the same
 * pictures on any number of threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/pool.h"
#include "image/augment.h"

enum { S = 8, CH = 3, HW = S * S, N = CH * HW, BIG = 64, PICTURES = 60 };

/* Every pixel its own value; 0 does not occur, so that emptied pixels show. */
static tl_image gradient(int32_t size, int32_t channels) {
  tl_image m = {size, size, channels, malloc((size_t)(size * size * channels))};
  for (int32_t y = 0; y < size; y++)
    for (int32_t x = 0; x < size; x++)
      for (int32_t k = 0; k < channels; k++)
        m.pixels[(y * size + x) * channels + k] =
            (uint8_t)(1 + (k == 0   ? 3 * x
                           : k == 1 ? 3 * y
                                    : (x * 31 + y * 53) % 250));
  return m;
}

static void run(const tl_augment *a, const tl_image *m, uint64_t seed, uint64_t at, float *out) {
  tl_err err = {TL_OK, ""};
  if (tl_augment_run(a, m, seed, at, out, &err) != TL_OK) fail_msg("%s", err.msg);
}

static float stored(const tl_image *m, int k, int y, int x) {
  return (float)m->pixels[(y * m->width + x) * m->channels + k] / 255.0f;
}

static bool near(float a, float b) {
  return fabsf(a - b) < 1e-5f;
}

static void nothing_asked_for_changes_nothing(void **state) {
  (void)state;
  tl_image m = gradient(S, CH);
  tl_augment a = {.size = S, .channels = CH}, n = a;
  float out[N], normal[N];
  for (int k = 0; k < CH; k++) {
    n.mean[k] = 0.25f * (float)k;
    n.std[k] = 0.5f;
  }
  run(&a, &m, 1, 0, out);
  run(&n, &m, 2, 9, normal);
  for (int k = 0; k < CH; k++)
    for (int i = 0; i < HW; i++) {
      assert_true(near(out[k * HW + i], stored(&m, k, i / S, i % S)));
      assert_true(near(normal[k * HW + i], (out[k * HW + i] - n.mean[k]) / 0.5f));
    }
  tl_image_free(&m);
}

static void flipping_twice_is_nothing(void **state) {
  (void)state;
  tl_image m = gradient(S, CH), mirrored = gradient(S, CH);
  tl_augment plain = {.size = S, .channels = CH}, a = plain;
  a.flip = 1;
  float out[N], flipped[N], twice[N];
  run(&plain, &m, 1, 0, out);
  run(&a, &m, 1, 0, flipped);
  for (int i = 0; i < N; i++) assert_true(flipped[i] == out[i / S * S + S - 1 - i % S]);
  for (int i = 0; i < HW; i++)
    for (int k = 0; k < CH; k++)
      mirrored.pixels[i * CH + k] = m.pixels[(i / S * S + S - 1 - i % S) * CH + k];
  run(&a, &mirrored, 7, 3, twice);
  assert_memory_equal(twice, out, sizeof out);
  int n = 0;
  a.flip = 0.25;
  for (uint64_t at = 0; at < 1000; at++) {
    run(&a, &m, 1, at, flipped);
    n += flipped[0] != out[0];
  }
  assert_in_range(n, 200, 300);
  tl_image_free(&m);
  tl_image_free(&mirrored);
}

static void a_padded_crop_is_a_shift(void **state) {
  (void)state;
  enum { PAD = 2, SPAN = 2 * PAD + 1 };
  tl_image m = gradient(S, 1);
  for (int i = 0; i < HW; i++) m.pixels[i] = (uint8_t)(i + 1);
  tl_augment a = {.size = S, .channels = 1, .crop = TL_CROP_PAD, .pad = PAD};
  int seen[SPAN * SPAN] = {0};
  for (uint64_t at = 0; at < 400; at++) {
    float out[HW];
    run(&a, &m, 5, at, out);
    int centre = (int)lrintf(out[S / 2 * S + S / 2] * 255) - 1; /* never empty: PAD < S / 2 */
    int dy = centre / S - S / 2, dx = centre % S - S / 2;
    assert_in_range(dy + PAD, 0, 2 * PAD);
    assert_in_range(dx + PAD, 0, 2 * PAD);
    seen[(dy + PAD) * SPAN + dx + PAD]++;
    for (int y = 0; y < S; y++)
      for (int x = 0; x < S; x++) {
        bool in = y + dy >= 0 && y + dy < S && x + dx >= 0 && x + dx < S;
        assert_true(near(out[y * S + x], in ? stored(&m, 0, y + dy, x + dx) : 0));
      }
  }
  for (int i = 0; i < SPAN * SPAN; i++) assert_true(seen[i] > 0);
  tl_image_free(&m);
}

/* Where the part lay is read from the gradients that came out. */
static void a_resized_crop_stays_inside(void **state) {
  (void)state;
  tl_image m = gradient(BIG, CH);
  tl_augment a = {.size = S, .channels = CH, .crop = TL_CROP_RESIZED, .crop_min = 0.3};
  double smallest = 1, largest = 0;
  for (uint64_t at = 0; at < 400; at++) {
    float out[N];
    double from[2], length[2];
    run(&a, &m, 3, at, out);
    for (int k = 0; k < 2; k++) {
      int step = k ? S : 1, mid = k ? S / 2 : S / 2 * S;
      double p = (double)out[k * HW + mid + 2 * step], q = (double)out[k * HW + mid + 5 * step];
      double per = (q - p) * 255 / 3 / 3; /* pixels of the picture to one that came out */
      length[k] = per * S;
      from[k] = (p * 255 - 1) / 3 + 0.5 - 2.5 * per;
      assert_true(from[k] > -0.7 && from[k] + length[k] < BIG + 0.7);
    }
    double area = length[0] * length[1] / (BIG * BIG), ratio = length[0] / length[1];
    assert_true(area > 0.3 * 0.95 && area < 1.05);
    assert_true(ratio > 0.75 * 0.95 && ratio < 4.0 / 3 * 1.05);
    smallest = fmin(smallest, area);
    largest = fmax(largest, area);
  }
  assert_true(smallest < 0.4 && largest > 0.85);
  tl_image_free(&m);
}

static void cutting_out_empties_a_square(void **state) {
  (void)state;
  enum { SIDE = 4 };
  tl_image m = gradient(S, CH);
  tl_augment a = {.size = S, .channels = CH, .cutout = SIDE, .mean = {2, 2, 2}};
  int whole = 0;
  for (uint64_t at = 0; at < 200; at++) {
    float out[N];
    int x0 = S, x1 = -1, y0 = S, y1 = -1, n = 0;
    run(&a, &m, 1, at, out);
    for (int i = 0; i < HW; i++) {
      bool empty = out[i] == 0; /* the mean, which lies beyond all values of the picture */
      assert_true(empty == (out[HW + i] == 0) && empty == (out[2 * HW + i] == 0));
      if (!empty) continue;
      n++;
      if (i % S < x0) x0 = i % S;
      if (i % S > x1) x1 = i % S;
      if (i / S < y0) y0 = i / S;
      if (i / S > y1) y1 = i / S;
    }
    assert_int_equal(n, (x1 - x0 + 1) * (y1 - y0 + 1));
    assert_in_range(x1 - x0 + 1, SIDE / 2, SIDE);
    assert_in_range(y1 - y0 + 1, SIDE / 2, SIDE);
    whole += n == SIDE * SIDE;
  }
  assert_true(whole > 20 && whole < 200);
  tl_image_free(&m);
}

static void colours_change_as_asked(void **state) {
  (void)state;
  tl_image m = gradient(S, CH);
  tl_augment plain = {.size = S, .channels = CH}, grey = plain, inverse = plain, blur = plain,
             jitter = plain;
  grey.grey = inverse.solarize = blur.blur = 1;
  jitter.jitter = 0.5;
  float x[N], y[N];
  run(&plain, &m, 1, 0, x);
  run(&grey, &m, 1, 0, y);
  for (int i = 0; i < HW; i++) {
    float luma = 0.299f * x[i] + 0.587f * x[HW + i] + 0.114f * x[2 * HW + i];
    for (int k = 0; k < CH; k++) assert_true(near(y[k * HW + i], luma));
  }
  run(&inverse, &m, 1, 0, y);
  int turned = 0;
  for (int i = 0; i < N; i++) {
    assert_true(near(y[i], x[i] >= 0.5f ? 1 - x[i] : x[i]));
    turned += x[i] >= 0.5f;
  }
  assert_true(turned > 0 && turned < N);
  run(&blur, &m, 1, 0, y);
  double before = 0, after = 0, difference = 0;
  for (int i = 0; i < HW - 1; i++) { /* the third channel is the rough one */
    before += fabs((double)(x[2 * HW + i + 1] - x[2 * HW + i]));
    after += fabs((double)(y[2 * HW + i + 1] - y[2 * HW + i]));
    difference += fabs((double)(y[2 * HW + i] - x[2 * HW + i]));
  }
  assert_true(after < before && difference > 0);
  int moved = 0;
  for (uint64_t at = 0; at < 200; at++) {
    run(&jitter, &m, 1, at, y);
    moved += memcmp(x, y, sizeof x) != 0;
    for (int i = 0; i < N; i++) assert_true(y[i] >= 0 && y[i] <= 1);
  }
  assert_in_range(moved, 130, 190); /* four of five */
  tl_image_free(&m);
}

static void mixing_says_what_is_left(void **state) {
  (void)state;
  const tl_mix off = {0}, mixup = {.mixup = 0.8}, cutmix = {.cutmix = 1}, both = {0.8, 1};
  float a[N], b[N] = {0};
  int blended = 0, pasted = 0;
  for (uint64_t at = 0; at < 300; at++) {
    for (int i = 0; i < N; i++) a[i] = 1;
    assert_true(tl_mix_run(&off, S, CH, 1, at, a, b) == 1);
    double share = tl_mix_run(&mixup, S, CH, 1, at, a, b);
    assert_true(share >= 0 && share <= 1);
    for (int i = 0; i < N; i++) assert_true(near(a[i], (float)share));
    /* with 1 for the picture and 0 for the other, what is left is the mean */
    for (int i = 0; i < N; i++) a[i] = 1;
    share = tl_mix_run(&cutmix, S, CH, 1, at, a, b);
    int left = 0;
    for (int i = 0; i < N; i++) {
      assert_true(a[i] == 1 || a[i] == 0);
      left += a[i] == 1;
    }
    assert_true(fabs(share - (double)left / N) < 1e-9);
    for (int i = 0; i < N; i++) a[i] = 1;
    share = tl_mix_run(&both, S, CH, 1, at, a, b);
    double sum = 0;
    bool whole = true;
    for (int i = 0; i < N; i++) {
      sum += (double)a[i];
      whole = whole && (a[i] == 1 || a[i] == 0);
    }
    assert_true(fabs(share - sum / N) < 1e-5);
    if (whole)
      pasted++;
    else
      blended++;
  }
  assert_in_range(pasted, 110, 190);
  assert_in_range(blended, 110, 190);
}

typedef struct batch {
  const tl_augment *a;
  const tl_image *m;
  uint64_t seed;
  float out[PICTURES][N];
} batch;

static void one(void *arg, int64_t i, int worker) {
  (void)worker;
  batch *b = arg;
  tl_err err;
  if (tl_augment_run(b->a, b->m, b->seed, (uint64_t)i, b->out[i], &err) != TL_OK)
    memset(b->out[i], 0, sizeof b->out[i]);
}

static void threads_do_not_matter(void **state) {
  (void)state;
  tl_image m = gradient(20, CH);
  const tl_augment a = {.size = S,
                        .channels = CH,
                        .crop = TL_CROP_RESIZED,
                        .crop_min = 0.2,
                        .flip = 0.5,
                        .jitter = 0.4,
                        .grey = 0.2,
                        .blur = 0.5,
                        .solarize = 0.2,
                        .cutout = 3,
                        .ops = 2,
                        .magnitude = 0.6};
  static batch alone, together, other;
  alone = (batch){.a = &a, .m = &m, .seed = 1};
  other = (batch){.a = &a, .m = &m, .seed = 2};
  for (int i = PICTURES; i-- > 0;) { /* the order in which they are made does not matter either */
    one(&alone, i, 0);
    one(&other, i, 0);
  }
  for (int threads = 1; threads <= 3; threads++) {
    tl_pool *pool = NULL;
    together = (batch){.a = &a, .m = &m, .seed = 1};
    assert_int_equal(tl_pool_new(threads, false, &pool, NULL), TL_OK);
    tl_parallel(pool, PICTURES, one, &together);
    tl_pool_free(pool);
    assert_memory_equal(together.out, alone.out, sizeof alone.out);
  }
  for (int i = 0; i < PICTURES; i++) {
    assert_memory_not_equal(alone.out[i], other.out[i], sizeof alone.out[i]);
    if (i > 0) assert_memory_not_equal(alone.out[i], alone.out[i - 1], sizeof alone.out[i]);
    for (int k = 0; k < N; k++) assert_true(isfinite(alone.out[i][k]));
  }
  tl_image_free(&m);
}

/* --- masks -------------------------------------------------------------------------------------
 */

enum { MASK_W = 40, MASK_H = 30, MASK_S = 24 };

/* Red where the class is 1, green where it is 0; void in a corner. */
static void coloured(tl_image *m, tl_image *mask) {
  *m = (tl_image){MASK_W, MASK_H, CH, malloc(MASK_W * MASK_H * CH)};
  *mask = (tl_image){MASK_W, MASK_H, 1, malloc(MASK_W * MASK_H)};
  for (int y = 0; y < MASK_H; y++)
    for (int x = 0; x < MASK_W; x++) {
      bool red = x < 14 || y > 2 * x / 3;
      mask->pixels[y * MASK_W + x] = x > 35 && y < 4 ? TL_MASK_VOID : red;
      memcpy(m->pixels + (y * MASK_W + x) * CH, (uint8_t[3]){red ? 255 : 0, red ? 0 : 255, 9}, CH);
    }
}

/* Share of the pixels with a class whose colour says the same, over `rounds` positions. */
static double agreement(const tl_augment *a, int32_t side, int rounds, double *voids) {
  static float out[CH * MASK_S * MASK_S];
  int32_t classes[MASK_S * MASK_S], step = MASK_S / side;
  tl_image m, mask;
  tl_err err = {TL_OK, ""};
  double same = 0, all = 0, none = 0;
  coloured(&m, &mask);
  for (int at = 0; at < rounds; at++) {
    if (tl_augment_pair(a, &m, &mask, side, 3, (uint64_t)at, out, classes, &err) != TL_OK)
      fail_msg("%s", err.msg);
    for (int i = 0; i < side * side; i++) {
      int p = (i / side * step + step / 2) * MASK_S + i % side * step + step / 2;
      none += classes[i] < 0;
      if (classes[i] < 0) continue;
      assert_in_range(classes[i], 0, 1);
      same += (out[p] > out[MASK_S * MASK_S + p]) == (classes[i] == 1);
      all++;
    }
  }
  *voids = none / (none + all);
  tl_image_free(&m);
  tl_image_free(&mask);
  return same / all;
}

static void a_mask_goes_where_its_picture_goes(void **state) {
  (void)state;
  const tl_augment plain = {.size = MASK_S, .channels = CH, .whole = true};
  tl_augment a = plain;
  double voids;
  assert_true(agreement(&plain, MASK_S, 1, &voids) > 0.97);
  assert_true(voids > 0.005 && voids < 0.03);
  assert_true(agreement(&plain, MASK_S / 3, 1, &voids) > 0.95);
  a.flip = 0.5;
  assert_true(agreement(&a, MASK_S, 20, &voids) > 0.97);
  a.crop = TL_CROP_RESIZED;
  a.crop_min = 0.3;
  assert_true(agreement(&a, MASK_S, 50, &voids) > 0.95);
  a.crop = TL_CROP_PAD;
  a.pad = 6;
  assert_true(agreement(&a, MASK_S, 50, &voids) > 0.97);
  assert_true(voids > 0.1); /* the borders that came in */
  a = plain;
  a.cutout = 12;
  agreement(&a, MASK_S, 50, &voids);
  assert_true(voids > 0.1);
  a = plain;
  a.ops = 2; /* some of them change colours so that they say nothing */
  a.magnitude = 0.5;
  assert_true(agreement(&a, MASK_S, 300, &voids) > 0.85);
  assert_true(voids > 0.02);
}

/* A picture drawn with its mask is the same as without. */
static void a_mask_changes_nothing_of_its_picture(void **state) {
  (void)state;
  static float alone[CH * MASK_S * MASK_S], paired[CH * MASK_S * MASK_S];
  int32_t classes[MASK_S * MASK_S];
  tl_image m, mask;
  tl_err err = {TL_OK, ""};
  const tl_augment a = {.size = MASK_S,
                        .channels = CH,
                        .crop = TL_CROP_RESIZED,
                        .crop_min = 0.2,
                        .flip = 0.5,
                        .jitter = 0.3,
                        .cutout = 4,
                        .ops = 2,
                        .magnitude = 0.4};
  coloured(&m, &mask);
  for (uint64_t at = 0; at < 30; at++) {
    run(&a, &m, 5, at, alone);
    assert_int_equal(tl_augment_pair(&a, &m, &mask, MASK_S, 5, at, paired, classes, &err), TL_OK);
    assert_memory_equal(alone, paired, sizeof alone);
  }
  tl_image_free(&m);
  tl_image_free(&mask);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_asked_for_changes_nothing),
                                     cmocka_unit_test(flipping_twice_is_nothing),
                                     cmocka_unit_test(a_padded_crop_is_a_shift),
                                     cmocka_unit_test(a_resized_crop_stays_inside),
                                     cmocka_unit_test(cutting_out_empties_a_square),
                                     cmocka_unit_test(colours_change_as_asked),
                                     cmocka_unit_test(mixing_says_what_is_left),
                                     cmocka_unit_test(a_mask_goes_where_its_picture_goes),
                                     cmocka_unit_test(a_mask_changes_nothing_of_its_picture),
                                     cmocka_unit_test(threads_do_not_matter)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
