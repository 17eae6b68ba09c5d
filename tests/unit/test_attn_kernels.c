/* Attention kernels: the reference against a naive softmax in double precision and finite
 * differences, then every faster level against the reference. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/attn.h"

typedef struct attn_case {
  const char *name;
  int n_heads, n_kv, hd, window;
  float p;
  int n_segs;
  tl_segment segs[3]; /* in row order; rows between them belong to none */
} attn_case;

/* One packed set of operands, as the models lay them out: q|k|v in one row when q and k have the
 * same rows. `rows` are of q and o, `keys` of k and v. */
typedef struct setup {
  tl_attn_args a;
  int rows, keys;
  void *q, *k, *v, *o, *d_o, *dq, *dk, *dv;
  float *lse;
} setup;

static float get(tl_dtype dt, const void *x, int64_t i) {
  return dt == TL_BF16 ? tl_bf16_to_f32(((const tl_bf16 *)x)[i]) : ((const float *)x)[i];
}

static void set(tl_dtype dt, void *x, int64_t i, float v) {
  if (dt == TL_BF16)
    ((tl_bf16 *)x)[i] = tl_f32_to_bf16(v);
  else
    ((float *)x)[i] = v;
}

static void *random_array(tl_dtype dt, int64_t n, uint32_t sub) {
  void *x = calloc((size_t)n, 4);
  tl_rng r = tl_rng_make(7, TL_STREAM_TEST, sub, 0);
  for (int64_t i = 0; i < n; i++) set(dt, x, i, tl_rng_normal(&r));
  return x;
}

/* Columns beyond the heads are there to catch wrong strides. */
enum { EXTRA = 3 };

static setup make(const attn_case *c, tl_dtype dt) {
  setup s = {0};
  for (int i = 0; i < c->n_segs; i++) {
    if (c->segs[i].q1 > s.rows) s.rows = c->segs[i].q1;
    if (c->segs[i].k1 > s.keys) s.keys = c->segs[i].k1;
  }
  int64_t ldq = (int64_t)c->n_heads * c->hd + EXTRA, ldk = (int64_t)c->n_kv * c->hd + EXTRA;
  s.q = random_array(dt, s.rows * ldq, 1);
  s.k = random_array(dt, s.keys * ldk, 2);
  s.v = random_array(dt, s.keys * ldk, 3);
  s.d_o = random_array(dt, s.rows * ldq, 4);
  s.o = random_array(dt, s.rows * ldq, 5);
  s.dq = random_array(dt, s.rows * ldq, 6);
  s.dk = random_array(dt, s.keys * ldk, 7);
  s.dv = random_array(dt, s.keys * ldk, 8);
  s.lse = calloc((size_t)(c->n_heads * s.rows), sizeof *s.lse);
  s.a = (tl_attn_args){.dt = dt,
                       .n_heads = c->n_heads,
                       .n_kv = c->n_kv,
                       .hd = c->hd,
                       .scale = 1 / sqrtf((float)c->hd),
                       .window = c->window,
                       .q = s.q,
                       .k = s.k,
                       .v = s.v,
                       .ldq = ldq,
                       .ldk = ldk,
                       .ldv = ldk,
                       .o = s.o,
                       .ldo = ldq,
                       .lse = s.lse,
                       .ld_lse = s.rows,
                       .dropout = {.seed = 0x123456789abcdefu, .sub = 11, .p = c->p},
                       .d_o = s.d_o,
                       .lddo = ldq,
                       .dq = s.dq,
                       .dk = s.dk,
                       .dv = s.dv,
                       .lddq = ldq,
                       .lddk = ldk,
                       .lddv = ldk};
  return s;
}

static void release(setup *s) {
  void *all[] = {s->q, s->k, s->v, s->o, s->d_o, s->dq, s->dk, s->dv, s->lse};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* Room for one direction: NaNs, unaligned, and with a guard behind it. */
static char *scratch_new(const tl_attn_kernels *k, const setup *s, bool backward) {
  size_t bytes = k->scratch(&s->a, s->keys, backward);
  char *block = malloc(bytes + 64);
  memset(block, 0xff, bytes + 64);
  return block;
}

static void scratch_free(const tl_attn_kernels *k, const setup *s, bool backward, char *block) {
  size_t bytes = k->scratch(&s->a, s->keys, backward);
  for (size_t i = bytes + 4; i < bytes + 64; i++) assert_int_equal((unsigned char)block[i], 0xff);
  free(block);
}

static void run_case(const tl_attn_kernels *k, const setup *s, const attn_case *c) {
  for (int backward = 0; backward < 2; backward++) {
    char *block = scratch_new(k, s, backward);
    for (int i = 0; i < c->n_segs; i++) {
      const tl_segment *g = c->segs + i;
      for (int h = 0; h < (backward ? c->n_kv : c->n_heads); h++)
        if (backward)
          k->backward(&s->a, g, h, block + 4);
        else
          k->forward(&s->a, g, h, g->q0, g->q1, block + 4);
    }
    scratch_free(k, s, backward, block);
  }
}

/* Largest difference relative to the largest value of `want`, over rows x cols. */
static double distance(tl_dtype dt, const void *want, const void *got, int rows, int cols,
                       int64_t ld) {
  double worst = 0, top = 1e-3;
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < cols; c++) {
      double w = get(dt, want, r * ld + c), g = get(dt, got, r * ld + c);
      if (isnan(w) || isnan(g)) return INFINITY;
      worst = fmax(worst, fabs(w - g));
      top = fmax(top, fabs(w));
    }
  return worst / top;
}

static int sees(const tl_segment *g, int window, int i, int key) {
  int j = i + (g->k1 - g->k0) - (g->q1 - g->q0);
  if (g->causal && key > j) return 0;
  if (window > 0 && g->causal && key <= j - window) return 0;
  if (window > 0 && !g->causal && abs(j - key) > window / 2) return 0;
  return 1;
}

static double factor(const tl_attn_args *a, int head, int row, int key) {
  if (a->dropout.p == 0) return 1;
  uint64_t e = ((uint64_t)(head * a->ld_lse + row) << 20) + (uint64_t)key;
  tl_philox w = tl_philox4x32(a->dropout.seed, TL_STREAM_DROPOUT, a->dropout.sub, e / 4);
  return w.v[e % 4] >= a->dropout.p * 0x1p32 ? 1 / (1 - (double)a->dropout.p) : 0;
}

/* sum over heads and queries of dO . o, by the definition, in double. Also fills o [rows][n_heads *
 * hd] and lse where they are not NULL. */
static double naive_loss(const tl_attn_args *a, const attn_case *c, double *o, double *lse) {
  double loss = 0, *p = calloc(4096, sizeof *p);
  for (int s = 0; s < c->n_segs; s++)
    for (int h = 0; h < c->n_heads; h++)
      for (int row = c->segs[s].q0; row < c->segs[s].q1; row++) {
        const tl_segment *g = c->segs + s;
        int nk = g->k1 - g->k0, kv = h / (c->n_heads / c->n_kv) * c->hd;
        double sum = 0;
        for (int j = 0; j < nk; j++) {
          double x = 0;
          for (int d = 0; d < c->hd; d++)
            x += (double)get(a->dt, a->q, row * a->ldq + h * c->hd + d) *
                 get(a->dt, a->k, (g->k0 + j) * a->ldk + kv + d);
          p[j] = sees(g, c->window, row - g->q0, j) ? exp(x * (double)a->scale) : 0;
          sum += p[j];
        }
        if (lse) lse[h * a->ld_lse + row] = log(sum);
        for (int d = 0; d < c->hd; d++) {
          double y = 0;
          for (int j = 0; j < nk && sum > 0; j++)
            y +=
                p[j] / sum * factor(a, h, row, j) * get(a->dt, a->v, (g->k0 + j) * a->ldv + kv + d);
          if (o) o[row * a->ldo + h * c->hd + d] = y;
          loss += y * get(a->dt, a->d_o, row * a->lddo + h * c->hd + d);
        }
      }
  free(p);
  return loss;
}

static const attn_case small_cases[] = {
    {"full", 1, 1, 4, 0, 0, 1, {{0, 5, 0, 5, 0}}},
    {"causal, two segments with a gap", 2, 2, 3, 0, 0, 2, {{0, 4, 0, 4, 1}, {6, 9, 6, 9, 1}}},
    {"cross, grouped", 4, 2, 5, 0, 0, 1, {{0, 3, 0, 7, 0}}},
    {"cache: causal with earlier keys", 1, 1, 4, 0, 0, 1, {{0, 2, 0, 6, 1}}},
    {"fewer keys than queries", 1, 1, 4, 0, 0, 1, {{0, 6, 0, 3, 1}}},
    {"causal window", 2, 1, 4, 3, 0, 1, {{0, 8, 0, 8, 1}}},
    {"two-sided window", 2, 1, 4, 4, 0, 1, {{0, 8, 0, 8, 0}}},
    {"dropout", 2, 1, 4, 0, 0.3f, 1, {{0, 8, 0, 8, 1}}},
};

/* o and lse within 2e-6; gradients within 2e-3 of central differences of step 1e-2 (f32 operands;
 * the error of the difference itself is of order step^2). */
static void reference_follows_the_definition(void **state) {
  (void)state;
  tl_attn_kernels ref[2];
  tl_attn_init_ref(ref);
  for (size_t n = 0; n < sizeof small_cases / sizeof *small_cases; n++) {
    const attn_case *c = small_cases + n;
    setup s = make(c, TL_F32);
    run_case(ref, &s, c);
    double *o = calloc((size_t)(s.rows * s.a.ldo), sizeof *o);
    double *lse = calloc((size_t)(c->n_heads * s.rows), sizeof *lse);
    naive_loss(&s.a, c, o, lse);
    for (int g = 0; g < c->n_segs; g++)
      for (int r = c->segs[g].q0; r < c->segs[g].q1; r++)
        for (int h = 0; h < c->n_heads; h++) {
          double l = lse[h * s.rows + r], got = (double)s.lse[h * s.rows + r];
          assert_true(isinf(l) ? got == -INFINITY : fabs(l - got) < 2e-6);
          for (int d = 0; d < c->hd; d++) {
            int64_t i = r * s.a.ldo + h * c->hd + d;
            assert_true(fabs(o[i] - (double)((float *)s.o)[i]) < 2e-6);
          }
        }
    struct {
      float *x, *dx;
      int rows, cols;
      int64_t ld;
    } wrt[3] = {{s.q, s.dq, s.rows, c->n_heads * c->hd, s.a.ldq},
                {s.k, s.dk, s.keys, c->n_kv * c->hd, s.a.ldk},
                {s.v, s.dv, s.keys, c->n_kv * c->hd, s.a.ldv}};
    for (int w = 0; w < 3; w++)
      for (int g = 0; g < c->n_segs; g++)
        for (int r = w ? c->segs[g].k0 : c->segs[g].q0; r < (w ? c->segs[g].k1 : c->segs[g].q1);
             r++)
          for (int d = 0; d < wrt[w].cols; d++) {
            float *x = wrt[w].x + r * wrt[w].ld + d, x0 = *x;
            *x = x0 + 1e-2f;
            double up = naive_loss(&s.a, c, NULL, NULL), step = (double)*x;
            *x = x0 - 1e-2f;
            double slope = (up - naive_loss(&s.a, c, NULL, NULL)) / (step - (double)*x);
            *x = x0;
            assert_true(fabs(slope - (double)wrt[w].dx[r * wrt[w].ld + d]) < 2e-3);
          }
    free(o);
    free(lse);
    release(&s);
  }
}

static const attn_case cases[] = {
    {"one", 1, 1, 1, 0, 0, 1, {{0, 1, 0, 1, 1}}},
    {"odd lengths and head size", 2, 2, 17, 0, 0, 2, {{0, 77, 0, 77, 1}, {80, 131, 80, 131, 0}}},
    {"hd 64 causal", 2, 2, 64, 0, 0, 2, {{0, 128, 0, 128, 1}, {128, 321, 128, 321, 1}}},
    {"hd 64 full", 1, 1, 64, 0, 0, 1, {{0, 130, 0, 130, 0}}},
    {"hd 32 short", 3, 3, 32, 0, 0, 3, {{0, 7, 0, 7, 1}, {7, 40, 7, 40, 1}, {40, 56, 40, 56, 0}}},
    {"hd 80", 1, 1, 80, 0, 0, 1, {{0, 70, 0, 70, 1}}},
    {"hd 256", 1, 1, 256, 0, 0, 1, {{0, 70, 0, 70, 1}}},
    {"hd 250", 1, 1, 250, 0, 0, 1, {{0, 67, 0, 67, 0}}},
    {"hd 8", 2, 1, 8, 0, 0, 1, {{0, 100, 0, 100, 1}}},
    {"cross, grouped", 6, 2, 16, 0, 0, 2, {{0, 33, 0, 150, 0}, {33, 140, 150, 171, 0}}},
    {"cache", 2, 1, 32, 0, 0, 2, {{0, 1, 0, 200, 1}, {1, 70, 200, 390, 1}}},
    {"one query", 4, 2, 64, 0, 0, 3, {{0, 1, 0, 700, 1}, {1, 2, 700, 701, 1}, {3, 4, 701, 750, 0}}},
    {"one query, odd head size", 3, 1, 37, 0, 0, 2, {{0, 1, 0, 131, 1}, {1, 2, 131, 200, 1}}},
    {"one query, hd 80, window", 2, 2, 80, 60, 0, 2, {{0, 1, 0, 200, 1}, {1, 2, 200, 230, 0}}},
    {"one query, hd 256, no keys", 1, 1, 256, 0, 0, 2, {{0, 1, 0, 90, 1}, {1, 2, 90, 90, 1}}},
    {"one query, dropout", 2, 1, 24, 0, 0.5f, 1, {{0, 1, 0, 90, 1}}},
    {"one query, a very long cache", 1, 1, 16, 0, 0, 1, {{0, 1, 0, 9000, 1}}},
    {"fewer keys than queries", 2, 1, 32, 0, 0, 1, {{0, 150, 0, 40, 1}}},
    {"no keys at all", 1, 1, 16, 0, 0, 1, {{0, 5, 0, 0, 0}}},
    {"causal window 1", 1, 1, 16, 1, 0, 1, {{0, 150, 0, 150, 1}}},
    {"causal window 50", 2, 1, 48, 50, 0, 1, {{0, 300, 0, 300, 1}}},
    {"two-sided window 40", 2, 1, 32, 40, 0, 1, {{0, 260, 0, 260, 0}}},
    {"two-sided window beyond the keys", 1, 1, 16, 20, 0, 1, {{0, 150, 0, 40, 0}}},
    {"dropout causal", 4, 2, 32, 0, 0.25f, 2, {{0, 90, 0, 90, 1}, {90, 290, 90, 290, 1}}},
    {"dropout cross", 2, 2, 20, 0, 0.9f, 1, {{0, 65, 0, 131, 0}}},
};

/* f32 within 1e-5 of the largest value, bf16 within 1e-2 (its step is 2^-8 of a value). */
static void compare_with_reference(const tl_attn_kernels *fast, const tl_attn_kernels *ref) {
  for (size_t n = 0; n < sizeof cases / sizeof *cases; n++)
    for (int dt = TL_F32; dt <= TL_BF16; dt++) {
      const attn_case *c = cases + n;
      setup want = make(c, (tl_dtype)dt), got = make(c, (tl_dtype)dt);
      run_case(ref + dt, &want, c);
      run_case(fast + dt, &got, c);
      double tol = dt == TL_F32 ? 1e-5 : 1e-2;
      int q_cols = (int)want.a.ldq, k_cols = (int)want.a.ldk; /* the extra columns too: untouched */
      double d[5] = {distance((tl_dtype)dt, want.o, got.o, want.rows, q_cols, q_cols),
                     distance((tl_dtype)dt, want.dq, got.dq, want.rows, q_cols, q_cols),
                     distance((tl_dtype)dt, want.dk, got.dk, want.keys, k_cols, k_cols),
                     distance((tl_dtype)dt, want.dv, got.dv, want.keys, k_cols, k_cols), 0};
      for (int i = 0; i < c->n_heads * want.rows; i++)
        if (want.lse[i] != got.lse[i]) d[4] = fmax(d[4], fabs(want.lse[i] - got.lse[i]));
      for (int i = 0; i < 5; i++)
        if (!(d[i] < (i == 4 ? 2e-5 : tol)))
          fail_msg("%s, %s: o dq dk dv lse differ by %g %g %g %g %g", c->name,
                   dt == TL_F32 ? "f32" : "bf16", d[0], d[1], d[2], d[3], d[4]);
      release(&want);
      release(&got);
    }
}

static bool levels(tl_cpu_level level, tl_attn_kernels k[2]) {
  tl_attn_init_ref(k);
  if (level > tl_cpu_detect()) return false;
  if (level >= TL_CPU_AVX2) tl_attn_init_avx2(k);
  if (level >= TL_CPU_AVX512) tl_attn_init_avx512(k);
  if (level >= TL_CPU_AVX512BF16) tl_attn_init_avx512bf16(k);
  return true;
}

static void fast_levels_follow_the_reference(void **state) {
  (void)state;
  tl_attn_kernels ref[2], fast[2];
  tl_attn_init_ref(ref);
  for (int l = TL_CPU_AVX2; l < TL_N_CPU_LEVELS; l++)
    if (levels((tl_cpu_level)l, fast)) compare_with_reference(fast, ref);
}

/* The same bits for whole heads at once and for tasks cut at multiples of the block. */
static void rows_do_not_depend_on_how_they_are_cut(void **state) {
  (void)state;
  attn_case c = {"cut", 1, 1, 32, 0, 0.1f, 1, {{0, 200, 0, 200, 1}}};
  tl_attn_kernels k[2];
  for (int l = TL_CPU_REF; l < TL_N_CPU_LEVELS; l++)
    for (int dt = TL_F32; dt <= TL_BF16 && levels((tl_cpu_level)l, k); dt++) {
      setup whole = make(&c, (tl_dtype)dt), cut = make(&c, (tl_dtype)dt);
      void *scratch = malloc(k[dt].scratch(&whole.a, 200, false));
      k[dt].forward(&whole.a, c.segs, 0, 0, 200, scratch);
      for (int q = 0; q < 200; q += TL_ATTN_BLOCK)
        k[dt].forward(&cut.a, c.segs, 0, q, q + TL_ATTN_BLOCK < 200 ? q + TL_ATTN_BLOCK : 200,
                      scratch);
      assert_memory_equal(whole.o, cut.o,
                          tl_dtype_size((tl_dtype)dt) * (size_t)(200 * whole.a.ldo));
      assert_memory_equal(whole.lse, cut.lse, sizeof(float) * 200);
      free(scratch);
      release(&whole);
      release(&cut);
    }
}

/* The second call adds what the first one set; NULL leaves a gradient out. */
static void gradients_add_and_may_be_left_out(void **state) {
  (void)state;
  attn_case c = {"add", 2, 1, 20, 0, 0, 1, {{0, 70, 0, 70, 1}}};
  tl_attn_kernels table[2];
  const tl_attn_kernels *k = table + TL_F32;
  for (int l = TL_CPU_REF; l < TL_N_CPU_LEVELS; l++) {
    if (!levels((tl_cpu_level)l, table)) continue;
    setup once = make(&c, TL_F32), twice = make(&c, TL_F32), part = make(&c, TL_F32);
    run_case(k, &once, &c);
    run_case(k, &twice, &c);
    twice.a.dq_add = twice.a.dkv_add = true;
    run_case(k, &twice, &c);
    part.a.dk = part.a.dv = NULL;
    run_case(k, &part, &c);
    part.a.dk = part.dk, part.a.dv = part.dv, part.a.dq = NULL;
    run_case(k, &part, &c);
    for (int r = 0; r < 70; r++) {
      for (int d = 0; d < 40; d++) {
        int64_t i = r * once.a.ldq + d;
        assert_true(((float *)twice.dq)[i] == 2 * ((float *)once.dq)[i]);
        assert_true(((float *)part.dq)[i] == ((float *)once.dq)[i]);
      }
      for (int d = 0; d < 20; d++) {
        int64_t i = r * once.a.ldk + d;
        assert_true(((float *)twice.dk)[i] == 2 * ((float *)once.dk)[i]);
        assert_true(((float *)twice.dv)[i] == 2 * ((float *)once.dv)[i]);
        assert_true(((float *)part.dk)[i] == ((float *)once.dk)[i]);
        assert_true(((float *)part.dv)[i] == ((float *)once.dv)[i]);
      }
    }
    release(&once);
    release(&twice);
    release(&part);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reference_follows_the_definition),
      cmocka_unit_test(fast_levels_follow_the_reference),
      cmocka_unit_test(rows_do_not_depend_on_how_they_are_cut),
      cmocka_unit_test(gradients_add_and_may_be_left_out),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
