/* Every row and optimizer kernel at every level of this CPU against the reference: odd sizes, both
 * types, unaligned pointers, nothing touched outside, values that are not finite. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "kernels/kernels.h"

enum { N_X = 4, N_F = 4, ROWS = 3, CAP = 40000 };

/* Buffers a case works on: x of the element type, f of f32, idx of integers. Inputs and outputs
 * alike are compared afterwards, with a margin on both sides, so a stray write shows. */
typedef struct io {
  unsigned char x_mem[N_X][CAP * 4], f_mem[N_F][CAP * 4];
  int32_t idx[CAP];
  void *x[N_X]; /* into x_mem: 5 elements in, so that pointers are not aligned */
  float *f[N_F];
} io;

static io ref_io, fast_io;
static const int64_t sizes[] = {0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 129, 257};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static size_t elem(tl_dtype dt) {
  return dt == TL_BF16 ? 2 : 4;
}

static void set(tl_dtype dt, void *p, int64_t i, float v) {
  if (dt == TL_BF16)
    ((tl_bf16 *)p)[i] = tl_f32_to_bf16(v);
  else
    ((float *)p)[i] = v;
}

static float get(tl_dtype dt, const void *p, int64_t i) {
  return dt == TL_BF16 ? tl_bf16_to_f32(((const tl_bf16 *)p)[i]) : ((const float *)p)[i];
}

/* Fills `count` elements of every buffer (margins included) with the same values for one seed. */
static void fill(io *b, tl_dtype dt, int64_t count, uint64_t seed) {
  static const float extreme[] = {0, -0.0f, 20, -20, 60, -60, 1e-40f, 12};
  tl_rng r = tl_rng_make(seed, TL_STREAM_TEST, 0, 0);
  assert_true(count <= CAP);
  for (int k = 0; k < N_X; k++) {
    for (int64_t i = 0; i < count; i++) {
      uint32_t w = tl_rng_u32(&r);
      float v = (float)(w >> 8) * 0x1p-21f - 4.0f;
      set(dt, b->x_mem[k], i, w % 41 == 0 && k == 0 ? extreme[w / 41 % 8] : v);
    }
    b->x[k] = b->x_mem[k] + 5 * elem(dt);
  }
  for (int k = 0; k < N_F; k++) {
    for (int64_t i = 0; i < count; i++) ((float *)b->f_mem[k])[i] = tl_rng_f32(&r) + 0.5f;
    b->f[k] = (float *)b->f_mem[k] + 3;
  }
  for (int64_t i = 0; i < count; i++) b->idx[i] = (int32_t)tl_rng_below(&r, 5);
}

static void check_close(float got, float want, float abs, float rel, const char *what,
                        const char *level, int64_t n, int64_t i) {
  if (isnan(want) ? isnan(got) : got == want || fabsf(got - want) <= abs + rel * fabsf(want))
    return;
  fail_msg("%s at %s, n %lld, element %lld: %.9g, reference %.9g", what, level, (long long)n,
           (long long)i, got, want);
}

typedef struct kernels {
  const tl_row_kernels *row;
  const tl_optim_kernels *optim;
} kernels;

/* One kernel: runs on the buffers with n elements per row; variant 0 or 1 picks add/inverse/NULL
 * parameters. tol: absolute and relative at f32, of the outputs in x and of those in f. bf16 adds
 * one unit in the last place of the result. */
typedef struct row_case {
  const char *name;
  void (*run)(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b);
  float abs, rel;
} row_case;

static void run_convert(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  if (variant == 0) {
    k->row->convert(dt, b->x[0], TL_F32, b->f[0], n);
    k->row->convert(TL_F32, b->f[1], dt, b->x[1], n);
  } else {
    k->row->convert(dt, b->x[0], TL_BF16, b->f[0], n);
    k->row->convert(dt, b->x[0], dt, b->x[1], n);
  }
}

static void run_add(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  k->row->add(dt, n, b->x[0], b->x[1], variant ? b->x[0] : b->x[2]);
  k->row->acc(dt, n, b->x[1], b->x[3]);
}

static void run_copy(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  int64_t size = (int64_t)tl_dtype_size(dt);
  k->row->copy(ROWS, n * size, b->x[0], (n + variant) * size, b->x[2], (n + 3) * size);
}

static void run_mul(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  k->row->mul(dt, n, b->x[0], b->x[1], b->x[2], variant);
}

static void run_scale(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  k->row->scale(dt, n, -1.7f, b->x[0], b->x[2], variant);
}

static void run_act(const kernels *k, tl_dtype dt, tl_act f, int64_t n, int variant, io *b) {
  k->row->act(dt, f, n, b->x[0], b->x[2]);
  k->row->act_bwd(dt, f, n, b->x[0], b->x[1], b->x[3], variant);
  if (variant) k->row->act(dt, f, n, b->x[0], b->x[0]);
}

static void run_glu(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  tl_act f = variant ? TL_ACT_SILU : TL_ACT_GELU;
  k->row->glu(dt, f, ROWS, n, b->x[0], b->x[2]);
  k->row->glu_bwd(dt, f, ROWS, n, b->x[0], b->x[1], b->x[3], variant);
}

#define ACT_CASE(lower, upper)                                                                     \
  static void run_##lower(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {          \
    run_act(k, dt, TL_ACT_##upper, n, variant, b);                                                 \
  }
ACT_CASE(none, NONE)
ACT_CASE(gelu, GELU)
ACT_CASE(gelu_tanh, GELU_TANH)
ACT_CASE(relu, RELU)
ACT_CASE(relu2, RELU2)
ACT_CASE(silu, SILU)
ACT_CASE(tanh, TANH)
ACT_CASE(sigmoid, SIGMOID)

/* Statistics for the backward are fixed values, so that it is compared on its own. */
static void run_layer_norm(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  static const float mean[ROWS] = {0.25f, -0.5f, 0}, rstd[ROWS] = {0.5f, 1.5f, 0.75f};
  if (n == 0) return;
  const float *gain = variant ? NULL : b->f[0], *bias = variant ? NULL : b->f[1];
  k->row->layer_norm(dt, ROWS, n, b->x[0], gain, bias, 1e-5f, b->x[2], b->f[2], b->f[2] + ROWS);
  k->row->layer_norm_bwd(dt, ROWS, n, b->x[0], gain, mean, rstd, b->x[1], b->x[3], variant,
                         variant ? NULL : b->f[3], variant ? NULL : b->f[3] + n);
}

static void run_rms_norm(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  static const float rstd[ROWS] = {0.5f, 1.5f, 0.75f};
  if (n == 0) return;
  const float *gain = variant ? NULL : b->f[0];
  k->row->rms_norm(dt, ROWS, n, b->x[0], n + 2, gain, 1e-5f, b->x[2], n + 1, b->f[2]);
  k->row->rms_norm_bwd(dt, ROWS, n, b->x[0], n + 2, gain, rstd, b->x[1], n + 3, b->x[3], n + 1,
                       variant, variant ? NULL : b->f[3]);
}

static void run_softmax(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  k->row->softmax(dt, ROWS, n, b->x[0], variant ? b->x[0] : b->x[2]);
  k->row->softmax_bwd(dt, ROWS, n, b->x[1], b->x[1], b->x[3], variant);
}

static void run_rope(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  int64_t hd = n / 2 * 2;
  k->row->rope(dt, ROWS, 2, hd, b->x[0], 2 * hd + 1, b->idx, b->f[0], variant, b->x[2], 2 * hd + 3,
               variant);
  if (variant)
    k->row->rope(dt, ROWS, 2, hd, b->x[3], 2 * hd + 1, b->idx, b->f[0], false, b->x[3], 2 * hd + 1,
                 false);
}

static void run_dropout(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  tl_dropout d = {.seed = 0x123456789abcdefu, .sub = 77, .p = variant ? 0.1f : 0.5f};
  for (int64_t begin = 0; begin < 5; begin++)
    k->row->dropout(dt, &d, begin, n, b->x[0], b->x[1 + begin % 3], variant);
  k->row->dropout(dt, &d, ((int64_t)1 << 34) - 30, n, b->x[0], b->x[3], true); /* carry at 2^32 */
  d.p = 0;
  k->row->dropout(dt, &d, 6, n, b->x[0], b->x[1], variant);
}

static void run_col_sum(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  k->row->col_sum(dt, variant ? 0 : ROWS, n, b->x[0], n + 2, b->f[3]);
}

static void run_affine(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  tl_affine f = {b->f[0], b->f[1], variant ? b->x[1] : NULL, variant};
  k->row->moments(dt, ROWS, n, b->x[0], b->f[0], b->f[2], b->f[2] + n);
  k->row->affine(dt, ROWS, n, &f, b->x[0], b->x[2]);
  k->row->affine_sums(dt, ROWS, n, &f, b->x[0], b->x[3], b->f[1], b->f[3], b->f[3] + n);
  k->row->affine_bwd(dt, ROWS, n, &f, b->x[0], b->x[3], b->f[0], b->f[1], b->f[0], b->x[2], variant,
                     variant ? b->x[3] : NULL, false);
}

static void run_max_of(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  static const uint8_t which[] = {0, 2, 7};
  uint8_t place[2 * ROWS * 257];
  if (variant && n > 8) { /* equal ones, and what is not a number */
    set(dt, b->x[1], 2, get(dt, b->x[0], 2));
    set(dt, b->x[0], 5, NAN);
    set(dt, b->x[1], 5, NAN);
    set(dt, b->x[2], 7, NAN);
  }
  k->row->max_of(dt, 3 - variant, n, (const void *const *)b->x, which, b->x[3], place);
  for (int64_t j = 0; j < n; j++) b->f[0][j] = place[j];
  k->row->max_of_bwd(dt, 3 - variant, n, b->x, which, place, b->x[3]);
}

static void run_adamw(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  tl_adamw_args a = {.lr = 0.01f,
                     .beta1 = 0.9f,
                     .beta2 = 0.95f,
                     .eps = 1e-8f,
                     .weight_decay = variant ? 0.1f : 0,
                     .grad_scale = 0.5f,
                     .bias1 = 0.19f,
                     .bias2 = 0.0975f};
  (void)dt;
  k->optim->adamw(&a, n, b->f[0], b->f[1], b->f[2], b->f[3]);
}

static void run_sgd(const kernels *k, tl_dtype dt, int64_t n, int variant, io *b) {
  (void)dt;
  k->optim->sgd(0.1f, 0.9f, variant, 0.01f, 0.5f, n, b->f[0], b->f[1], b->f[2]);
  k->optim->ema(0.99f, n, b->f[2], b->f[3]);
}

static const row_case row_cases[] = {
    {"convert", run_convert, 0, 0},
    {"copy", run_copy, 0, 0},
    {"add", run_add, 0, 0},
    {"mul", run_mul, 1e-6f, 2e-7f}, /* a product and a sum may be fused */
    {"scale", run_scale, 1e-6f, 2e-7f},
    {"none", run_none, 1e-6f, 2e-7f},
    {"gelu", run_gelu, 1e-6f, 1e-6f},
    {"gelu_tanh", run_gelu_tanh, 4e-6f, 1e-6f},
    {"relu", run_relu, 1e-6f, 2e-7f},
    {"relu2", run_relu2, 1e-6f, 2e-7f},
    {"silu", run_silu, 2e-6f, 1e-6f},
    {"tanh", run_tanh, 1e-6f, 5e-7f},
    {"sigmoid", run_sigmoid, 1e-6f, 5e-7f},
    {"glu", run_glu, 8e-6f, 1e-6f},
    {"layer_norm", run_layer_norm, 2e-5f, 2e-6f},
    {"rms_norm", run_rms_norm, 2e-5f, 2e-6f},
    {"softmax", run_softmax, 2e-4f, 2e-6f}, /* the backward sums unscaled products of 16 */
    {"rope", run_rope, 1e-5f, 1e-6f},
    {"dropout", run_dropout, 2e-6f, 2e-7f},
    {"col_sum", run_col_sum, 0, 0},
    {"affine", run_affine, 2e-5f, 2e-6f},
    {"max_of", run_max_of, 0, 0},
    {"adamw", run_adamw, 1e-7f, 1e-6f},
    {"sgd", run_sgd, 1e-7f, 1e-6f},
};

static void compare(const row_case *c, tl_dtype dt, const char *level, int64_t n, int64_t count) {
  float ulp = dt == TL_BF16 ? 0x1p-7f : 0;
  for (int k = 0; k < N_X; k++)
    for (int64_t i = 0; i < count; i++)
      check_close(get(dt, fast_io.x_mem[k], i), get(dt, ref_io.x_mem[k], i), c->abs, c->rel + ulp,
                  c->name, level, n, i);
  for (int k = 0; k < N_F; k++)
    for (int64_t i = 0; i < count; i++)
      check_close(((float *)fast_io.f_mem[k])[i], ((float *)ref_io.f_mem[k])[i], c->abs, c->rel,
                  c->name, level, n, i);
}

static void levels_match_the_reference(void **state) {
  (void)state;
  const tl_kernels *ref = tl_kernels_get(TL_CPU_REF);
  for (int level = TL_CPU_AVX2; level <= (int)tl_cpu_detect(); level++) {
    const tl_kernels *fast = tl_kernels_get(level);
    for (size_t c = 0; c < sizeof row_cases / sizeof *row_cases; c++)
      for (int run = 0; run < N_SIZES * 4; run++) {
        int64_t n = sizes[run / 4], count = 2 * ROWS * n + 48;
        tl_dtype dt = run & 1 ? TL_BF16 : TL_F32;
        uint64_t seed = 100 * c + (uint64_t)run;
        fill(&ref_io, dt, count, seed);
        fill(&fast_io, dt, count, seed);
        row_cases[c].run(&(kernels){&ref->row, &ref->optim}, dt, n, run >> 1 & 1, &ref_io);
        row_cases[c].run(&(kernels){&fast->row, &fast->optim}, dt, n, run >> 1 & 1, &fast_io);
        compare(&row_cases[c], dt, fast->name, n, count);
      }
  }
}

static void xent_levels_match(void **state) {
  (void)state;
  static const int64_t vocab[] = {1, 2, 15, 17, 100, 2048, 2049, 6001};
  const tl_row_kernels *ref = &tl_kernels_get(TL_CPU_REF)->row;
  for (int level = TL_CPU_AVX2; level <= (int)tl_cpu_detect(); level++)
    for (int run = 0; run < 8 * 8; run++) {
      const tl_kernels *fast = tl_kernels_get(level);
      int64_t v = vocab[run / 8], count = ROWS * (v + 2) + 48;
      tl_dtype dt = run & 1 ? TL_BF16 : TL_F32;
      float smoothing = run & 2 ? 0.1f : 0, z = run & 4 ? 1e-3f : 0, scale = 0.7f;
      int32_t target[ROWS] = {(int32_t)(v - 1), -1, (int32_t)(v / 3)};
      int32_t right[2][ROWS];
      fill(&ref_io, dt, count, (uint64_t)run);
      fill(&fast_io, dt, count, (uint64_t)run);
      ref_io.f[0][2 * (v + 1) + target[2]] = fast_io.f[0][2 * (v + 1) + target[2]] = 9;
      ref->xent(dt, ROWS, v, ref_io.f[0], v + 1, target, smoothing, z, scale, ref_io.x[2], v + 2,
                ref_io.f[1], ref_io.f[2], right[0]);
      fast->row.xent(dt, ROWS, v, fast_io.f[0], v + 1, target, smoothing, z, scale, fast_io.x[2],
                     v + 2, fast_io.f[1], fast_io.f[2], right[1]);
      compare(&(row_case){"xent", NULL, 1e-6f, 2e-6f}, dt, fast->name, v, count);
      assert_memory_equal(right[0], right[1], sizeof right[0]);
      assert_int_equal(right[1][1], 0);
      assert_int_equal(right[1][2], 1);
      fast->row.xent(dt, ROWS, v, fast_io.f[0], v + 1, target, smoothing, z, 0, NULL, 0,
                     fast_io.f[3], NULL, NULL); /* without a gradient: the same loss */
      assert_memory_equal(fast_io.f[3], fast_io.f[1], sizeof(float) * ROWS);
    }
}

/* Ties: the first of equal maxima is the argmax. Masked logits (-inf) get no gradient; NaN and
 * +inf make the loss not finite. */
static void xent_edge_cases(void **state) {
  (void)state;
  for (int level = TL_CPU_REF; level <= (int)tl_cpu_detect(); level++) {
    const tl_row_kernels *k = &tl_kernels_get(level)->row;
    float l[40], d[40], loss;
    int32_t target = 20, correct;
    for (int j = 0; j < 40; j++) l[j] = j == 20 || j == 30 ? 1 : -INFINITY;
    k->xent(TL_F32, 1, 40, l, 40, &target, 0, 0, 1, d, 40, &loss, NULL, &correct);
    assert_true(fabsf(loss - 0.693147f) < 1e-5f && correct == 1);
    assert_true(fabsf(d[20] + 0.5f) < 1e-6f && fabsf(d[30] - 0.5f) < 1e-6f && d[0] == 0);
    target = 30;
    k->xent(TL_F32, 1, 40, l, 40, &target, 0, 0, 0, NULL, 0, &loss, NULL, &correct);
    assert_int_equal(correct, 0);
    for (int bad = 0; bad < 2; bad++) {
      l[39] = bad ? NAN : INFINITY;
      k->xent(TL_F32, 1, 40, l, 40, &target, 0, 0, 1, d, 40, &loss, NULL, &correct);
      assert_true(!isfinite(loss) && correct == 0);
    }
  }
}

/* An element's result does not depend on where the range was cut: the end of a range runs the same
 * arithmetic as its middle. */
static void cuts_do_not_change_results(void **state) {
  (void)state;
  enum { N = 203 };
  static const int64_t cut[] = {0, 1, 38, 39, 100, N};
  tl_adamw_args a = {0.01f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.5f, 0.19f, 0.0975f};
  tl_dropout d = {.seed = 3, .sub = 4, .p = 0.3f};
  for (int level = TL_CPU_REF; level <= (int)tl_cpu_detect(); level++)
    for (tl_act f = TL_ACT_NONE; f < TL_N_ACTS; f++) {
      const tl_kernels *k = tl_kernels_get(level);
      io *whole = &ref_io, *parts = &fast_io;
      fill(whole, TL_F32, N + 48, f);
      fill(parts, TL_F32, N + 48, f);
      float **w = whole->f, **p = parts->f, *wx = whole->x[0], *px = parts->x[0];
      k->row.act_bwd(TL_F32, f, N, wx, w[0], whole->x[1], true);
      k->row.dropout(TL_F32, &d, 0, N, wx, whole->x[2], true);
      k->row.mul(TL_F32, N, wx, w[0], whole->x[3], true);
      k->optim.adamw(&a, N, w[0], w[1], w[2], w[3]);
      k->optim.sgd(0.1f, 0.9f, true, 0.01f, 0.5f, N, w[0], w[1], w[2]);
      for (int c = 0; c < 5; c++) {
        int64_t b = cut[c], n = cut[c + 1] - b;
        k->row.act_bwd(TL_F32, f, n, px + b, p[0] + b, (float *)parts->x[1] + b, true);
        k->row.dropout(TL_F32, &d, b, n, px + b, (float *)parts->x[2] + b, true);
        k->row.mul(TL_F32, n, px + b, p[0] + b, (float *)parts->x[3] + b, true);
        k->optim.adamw(&a, n, p[0] + b, p[1] + b, p[2] + b, p[3] + b);
        k->optim.sgd(0.1f, 0.9f, true, 0.01f, 0.5f, n, p[0] + b, p[1] + b, p[2] + b);
      }
      for (int i = 0; i < N_X; i++) {
        assert_memory_equal(whole->x_mem[i], parts->x_mem[i], sizeof(float) * (N + 48));
        assert_memory_equal(whole->f_mem[i], parts->f_mem[i], sizeof(float) * (N + 48));
      }
    }
}

/* Rounding to bf16 is the same bits everywhere, for NaN, infinities, ties and subnormals. */
static void bf16_rounding_is_the_same_bits(void **state) {
  (void)state;
  tl_rng r = tl_rng_make(5, TL_STREAM_TEST, 0, 0);
  static const uint32_t special[] = {0x7fc00000, 0xffc00001, 0x7f800001, 0x7fffffff, 0x7f800000,
                                     0xff800000, 0x7f7fffff, 0x00000001, 0x80000001, 0x3f808000,
                                     0x3f818000, 0x007fffff, 0x00008000, 0x00018000, 0};
  enum { N = 4099 };
  static uint32_t in[N];
  static tl_bf16 out[N];
  for (int i = 0; i < N; i++) in[i] = i < 15 ? special[i] : tl_rng_u32(&r);
  for (int level = TL_CPU_REF; level <= (int)tl_cpu_detect(); level++) {
    tl_kernels_get(level)->row.convert(TL_F32, in, TL_BF16, out, N);
    for (int i = 0; i < N; i++) {
      float f;
      memcpy(&f, &in[i], 4);
      assert_int_equal(out[i], tl_f32_to_bf16(f));
    }
  }
}

static void sum_sq_is_the_same_bits(void **state) {
  (void)state;
  static const int64_t counts[] = {0, 1, 15, 17, 4095, 4096, 4097, 30000};
  tl_rng r = tl_rng_make(6, TL_STREAM_TEST, 0, 0);
  static float x[30001];
  for (int i = 0; i < 30001; i++) x[i] = tl_rng_normal(&r);
  for (int c = 0; c < 8; c++) {
    double plain = 0, ref = tl_kernels_get(TL_CPU_REF)->row.sum_sq(counts[c], x + 1);
    for (int64_t i = 0; i < counts[c]; i++) plain += (double)x[i + 1] * x[i + 1];
    assert_true(fabs(plain - ref) <= 1e-13 * plain);
    for (int level = TL_CPU_AVX2; level <= (int)tl_cpu_detect(); level++)
      assert_true(tl_kernels_get(level)->row.sum_sq(counts[c], x + 1) == ref);
  }
  for (int level = TL_CPU_REF; level <= (int)tl_cpu_detect(); level++) {
    x[12345] = NAN;
    assert_false(isfinite(tl_kernels_get(level)->row.sum_sq(30000, x)));
    x[12345] = -INFINITY;
    assert_false(isfinite(tl_kernels_get(level)->row.sum_sq(30000, x)));
  }
}

/* Softmax of (0, x) is e^x / (1 + e^x): the exponential's relative error over its whole range. */
static void exponential_is_accurate(void **state) {
  (void)state;
  for (int level = TL_CPU_REF; level <= (int)tl_cpu_detect(); level++)
    for (float x = -110; x < 0; x += 0.0137f) {
      float in[2] = {0, x}, out[2];
      tl_kernels_get(level)->row.softmax(TL_F32, 1, 2, in, out);
      double e = exp(x), want = e / (1 + e);
      double tol = 4e-7 * want + 2e-45; /* one subnormal step */
      if (!(fabs(out[1] - want) <= tol))
        fail_msg("level %d: exp(%.9g) gives %.9g, want %.9g", level, x, out[1], want);
    }
}

static void activations_keep_what_is_not_finite(void **state) {
  (void)state;
  for (int level = TL_CPU_REF; level <= (int)tl_cpu_detect(); level++)
    for (tl_act f = TL_ACT_NONE; f < TL_N_ACTS; f++) {
      float x[17], y[17];
      for (int i = 0; i < 17; i++) x[i] = i % 2 ? NAN : INFINITY;
      tl_kernels_get(level)->row.act(TL_F32, f, 17, x, y);
      float top = f == TL_ACT_TANH || f == TL_ACT_SIGMOID ? 1 : INFINITY;
      for (int i = 0; i < 17; i++) assert_true(i % 2 ? isnan(y[i]) : y[i] == top);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(levels_match_the_reference),
      cmocka_unit_test(xent_levels_match),
      cmocka_unit_test(xent_edge_cases),
      cmocka_unit_test(cuts_do_not_change_results),
      cmocka_unit_test(bf16_rounding_is_the_same_bits),
      cmocka_unit_test(sum_sq_is_the_same_bits),
      cmocka_unit_test(exponential_is_accurate),
      cmocka_unit_test(activations_keep_what_is_not_finite),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
