/* The kernel table: raw-pointer compute on one thread, one function pointer per kernel.
 *
 * The table is filled once, as a ladder: the readable C reference (src/kernels/ref, the oracle of
 * every faster version), then what AVX2+FMA, AVX-512 and AVX512-BF16 override. TILTH_CPU lowers it.
 * Threads are the caller's business: kernels work on the rows they are given; their results must
 * not depend on how rows were cut, except where a comment says so.
 *
 * Conventions: `dt` is the type of activations, TL_F32 or TL_BF16; all arithmetic inside is f32.
 * Parameters such as gains and biases, and all statistics, are f32. `n`, `rows`, `d` are element
 * counts; ld* are row strides in elements. "sets" overwrites, "adds" accumulates into the output.
 * Pointers of one call do not overlap unless "in place" is said to be allowed. No alignment is
 * required. Rounding f32 -> bf16 is to nearest even; NaN stays NaN.
 *
 * To add a kernel: 1. a member below; 2. its reference in ref/; 3. optionally a faster one in avx2/
 * or avx512/ with its assignment in that folder's init function; the operator's cases check it. */
#ifndef TL_KERNELS_KERNELS_H
#define TL_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/half.h"
#include "tilth/dtype.h"

typedef enum tl_act {
  TL_ACT_NONE,
  TL_ACT_GELU,      /* x Phi(x), by erf */
  TL_ACT_GELU_TANH, /* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
  TL_ACT_RELU,
  TL_ACT_RELU2, /* max(x, 0)^2 */
  TL_ACT_SILU,  /* x sigmoid(x) */
  TL_ACT_TANH,
  TL_ACT_SIGMOID,
  TL_N_ACTS
} tl_act;

/* Where a dropout mask comes from: element i is kept iff word (i mod 4) of
 * Philox(seed, TL_STREAM_DROPOUT, sub, i / 4) >= p * 2^32. Kept elements are scaled by 1/(1-p). */
typedef struct tl_dropout {
  uint64_t seed;
  uint32_t sub;
  float p; /* 0: no dropout */
} tl_dropout;

/* pre = x scale[j] + shift[j] (+ residual) of each column j, f(pre) = max(pre, 0) with relu, else
 * pre. */
typedef struct tl_affine {
  const float *scale, *shift; /* [d] */
  const void *residual;       /* as x; NULL: none */
  bool relu;
} tl_affine;

typedef struct tl_row_kernels {
  void (*convert)(tl_dtype from, const void *x, tl_dtype to, void *y, int64_t n);
  /* Rows of `bytes` bytes (even), ldx and ldy bytes apart. */
  void (*copy)(int64_t rows, int64_t bytes, const void *x, int64_t ldx, void *y, int64_t ldy);
  void (*add)(tl_dtype dt, int64_t n, const void *a, const void *b,
              void *y);                                        /* y = a + b; in place ok */
  void (*acc)(tl_dtype dt, int64_t n, const void *x, void *y); /* y += x */
  void (*mul)(tl_dtype dt, int64_t n, const void *a, const void *b, void *y, bool add);
  /* y (+)= alpha x; in place ok */
  void (*scale)(tl_dtype dt, int64_t n, float alpha, const void *x, void *y, bool add);
  /* y = f(x); in place ok. dx (+)= dy f'(x), from the input x. */
  void (*act)(tl_dtype dt, tl_act f, int64_t n, const void *x, void *y);
  void (*act_bwd)(tl_dtype dt, tl_act f, int64_t n, const void *x, const void *dy, void *dx,
                  bool add);
  /* x [rows, 2d] = (a | b), y [rows, d] = f(a) * b. Backward sets or adds dx [rows, 2d]. */
  void (*glu)(tl_dtype dt, tl_act f, int64_t rows, int64_t d, const void *x, void *y);
  void (*glu_bwd)(tl_dtype dt, tl_act f, int64_t rows, int64_t d, const void *x, const void *dy,
                  void *dx, bool add);
  /* y = (x - mean) * rstd * gain + bias per row; sets mean[rows], rstd[rows]. gain, bias may be
   * NULL. Backward: dx (may be NULL) sets or adds; dgain[d], dbias[d] (f32, may be NULL) ADD this
   * call's rows. */
  void (*layer_norm)(tl_dtype dt, int64_t rows, int64_t d, const void *x, const float *gain,
                     const float *bias, float eps, void *y, float *mean, float *rstd);
  void (*layer_norm_bwd)(tl_dtype dt, int64_t rows, int64_t d, const void *x, const float *gain,
                         const float *mean, const float *rstd, const void *dy, void *dx, bool add,
                         float *dgain, float *dbias);
  /* y = x * rstd * gain, rstd = 1/sqrt(mean(x^2) + eps). Rows are ldx (ldy) apart so that heads
   * inside a wider row can be normalised. In the backward dx and dgain may be NULL,
   * and dx may be dy unless it adds. */
  void (*rms_norm)(tl_dtype dt, int64_t rows, int64_t d, const void *x, int64_t ldx,
                   const float *gain, float eps, void *y, int64_t ldy, float *rstd);
  void (*rms_norm_bwd)(tl_dtype dt, int64_t rows, int64_t d, const void *x, int64_t ldx,
                       const float *gain, const float *rstd, const void *dy, int64_t lddy, void *dx,
                       int64_t lddx, bool add, float *dgain);
  void (*softmax)(tl_dtype dt, int64_t rows, int64_t d, const void *x, void *y); /* in place ok */
  void (*softmax_bwd)(tl_dtype dt, int64_t rows, int64_t d, const void *y, const void *dy, void *dx,
                      bool add);
  /* Rotary embedding, rotate-half (NeoX) form, on `heads` heads of hd columns each starting at x
   * (row stride ldx): (x1, x2) -> (x1 c - x2 s, x2 c + x1 s) with c, s =
   * cos_sin[pos[row]][0..hd/2), stored as hd/2 cosines then hd/2 sines per position. inverse
   * negates s (the backward). y may be x. */
  void (*rope)(tl_dtype dt, int64_t rows, int64_t heads, int64_t hd, const void *x, int64_t ldx,
               const int32_t *pos, const float *cos_sin, bool inverse, void *y, int64_t ldy,
               bool add);
  /* Elements begin..begin+n of the dropout mask applied to x (pointers are to element begin); in
   * place ok. */
  void (*dropout)(tl_dtype dt, const tl_dropout *d, int64_t begin, int64_t n, const void *x,
                  void *y, bool add);
  /* out[d] (f32) ADDS the column sums of x [rows, d], rows in order. */
  void (*col_sum)(tl_dtype dt, int64_t rows, int64_t d, const void *x, int64_t ldx, float *out);
  /* sum[j] and sum_sq[j] ADD those of x - at[j] over the rows of each column, rows in order. */
  void (*moments)(tl_dtype dt, int64_t rows, int64_t d, const void *x, const float *at, float *sum,
                  float *sum_sq);
  /* y = f(pre). Backward, with dpre = dy f'(pre): sum[j] and sum_x[j] ADD those of dpre and of
   * dpre (x - at[j]); then dx = a[j] dpre + b[j] x + c[j], and dres = dpre, both set or added to,
   * both may be NULL. dx may be dy unless it adds. */
  void (*affine)(tl_dtype dt, int64_t rows, int64_t d, const tl_affine *f, const void *x, void *y);
  void (*affine_sums)(tl_dtype dt, int64_t rows, int64_t d, const tl_affine *f, const void *x,
                      const void *dy, const float *at, float *sum, float *sum_x);
  void (*affine_bwd)(tl_dtype dt, int64_t rows, int64_t d, const tl_affine *f, const void *x,
                     const void *dy, const float *a, const float *b, const float *c, void *dx,
                     bool dx_add, void *dres, bool dres_add);
  /* y[j] = the largest of x[t][j], t < n, and place[j] the which[t] of it: of the first of equals,
   * of the last NaN. Backward: dx[t][j] adds dy[j] where place[j] is which[t]. */
  void (*max_of)(tl_dtype dt, int n, int64_t d, const void *const *x, const uint8_t *which, void *y,
                 uint8_t *place);
  void (*max_of_bwd)(tl_dtype dt, int n, int64_t d, void *const *dx, const uint8_t *which,
                     const uint8_t *place, const void *dy);
  /* Cross-entropy of f32 logits [rows, v] (row stride ld), in place: target[r] < 0 is ignored (its
   * gradient row becomes 0, loss 0). With smoothing s the target distribution is
   * (1-s) onehot + s/v; z adds z_coef * log(Z)^2. Sets loss[r] (without the z part), zloss[r] (may
   * be NULL), correct[r] (argmax == target: 0/1, may be NULL). If grad_scale != 0, the gradient
   * grad_scale * d(loss + zloss)/dlogits is written to dlogits (type dt, row stride ldd; may not
   * overlap). */
  void (*xent)(tl_dtype dt, int64_t rows, int64_t v, const float *logits, int64_t ld,
               const int32_t *target, float smoothing, float z_coef, float grad_scale,
               void *dlogits, int64_t ldd, float *loss, float *zloss, int32_t *correct);
  /* Sum of squares in f64 over a fixed tree of 4096-element blocks; non-finite input gives a
   * non-finite result. */
  double (*sum_sq)(int64_t n, const float *x);
} tl_row_kernels;

/* One optimizer update of n elements. All pointers f32. `step` counts from 1. */
typedef struct tl_adamw_args {
  float lr, beta1, beta2, eps, weight_decay; /* decoupled: p -= lr * wd * p */
  float grad_scale;                          /* gradients are multiplied by it (clipping) */
  float bias1, bias2;                        /* 1 - beta^step */
} tl_adamw_args;

typedef struct tl_optim_kernels {
  void (*adamw)(const tl_adamw_args *a, int64_t n, const float *g, float *m, float *v, float *p);
  /* m = mu m + g*grad_scale; u = nesterov ? g*grad_scale + mu m : m; p -= lr (u + wd p) */
  void (*sgd)(float lr, float mu, bool nesterov, float wd, float grad_scale, int64_t n,
              const float *g, float *m, float *p);
  void (*ema)(float decay, int64_t n, const float *p, float *avg); /* avg += (1-decay)(p - avg) */
  /* x[i] = std times number first + i of the sequence of normal numbers that is (seed, stream,
   * sub), see normal.h; first is a multiple of TL_NORMAL_GROUP. The same bits on every level. */
  void (*normal)(uint64_t seed, uint32_t stream, uint32_t sub, int64_t first, int64_t n, float std,
                 float *x);
  /* Copies whole 64-byte lines to memory that will not be read soon, past the caches. */
  void (*stream)(void *dst, const void *src, size_t bytes);
} tl_optim_kernels;

/* Attention over packed segments. Row r of q is token r; heads are hd columns each, head h at
 * column h*hd of q and of o; kv head of h is h / (n_heads / n_kv). A segment is a query range
 * attending a key range: rows [q0, q1) of q against rows [k0, k1) of k and v. With causal, query
 * q0+i sees keys up to k0 + i + (k1-k0) - (q1-q0) (aligned at the end, so a cache may hold earlier
 * keys). With window w > 0, a query at aligned key position j sees keys in (j-w, j] when causal,
 * and |j - key| <= w/2 otherwise. */
typedef struct tl_segment {
  int32_t q0, q1, k0, k1, causal;
} tl_segment;

typedef struct tl_attn_args {
  tl_dtype dt;
  int n_heads, n_kv, hd;
  float scale; /* > 0 */
  int window;
  /* Bias by relative position, or NULL: [n_heads][2 rel_max + 1]; element rel_max + d is added to
   * q.k (before the scale) where the key lies d before the query's aligned position, d held within
   * -rel_max .. rel_max. */
  const float *rel;
  int rel_max;
  const void *q, *k, *v;
  int64_t ldq, ldk, ldv;
  void *o; /* forward output; read by the backward */
  int64_t ldo;
  float *lse; /* log-sum-exp of the scaled scores, [n_heads][ld_lse], index = query row */
  int64_t ld_lse;
  tl_dropout
      dropout; /* of the probabilities; element index ((head * ld_lse + q row) << 20) + key - k0 */
  /* backward only; dk and dv are set for the segment's keys (every key row belongs to one segment),
   * dq for the segment's queries; with *_add they are added to. NULL: not wanted (dk and dv
   * together). */
  const void *d_o;
  int64_t lddo;
  void *dq, *dk, *dv;
  bool dq_add, dkv_add;
  int64_t lddq, lddk, lddv;
  float
      *drel; /* of the kv head's query heads, [n_heads / n_kv][2 rel_max + 1]: added to; or NULL */
} tl_attn_args;

typedef struct tl_attn_kernels {
  /* Bytes a worker needs for segments of at most max_k keys. */
  size_t (*scratch)(const tl_attn_args *a, int max_k, bool backward);
  /* Queries [begin, end) (absolute rows inside the segment) of one head. Sets o and lse. */
  void (*forward)(const tl_attn_args *a, const tl_segment *s, int head, int begin, int end,
                  void *scratch);
  /* One whole segment and kv head: all its query heads, in order. */
  void (*backward)(const tl_attn_args *a, const tl_segment *s, int kv_head, void *scratch);
} tl_attn_kernels;

/* Routing by agreement (Sabour et al., 2017) of one picture, all f32: n_in capsules below predict
 * each of n_out capsules above, u [n_in][n_out][d]. */
typedef struct tl_route {
  int64_t n_in, n_out, d;
  float *u;
} tl_route;

typedef struct tl_route_kernels {
  /* b [n_in][n_out] adds u_ij . v_j (v NULL: b stays as it is); sets c = softmax of b over the
   * capsules above, and s [n_out][d] = sum over i of c_ij u_ij. */
  void (*vote)(const tl_route *r, const float *v, float *b, float *c, float *s);
  /* From ds: sets db [n_in][n_out], the gradient of b = c_ij (u_ij . ds_j - sum over k of c_ik
   * u_ik . ds_k), plus `later` [n_in][n_out] (may be NULL), and dv = sum over i of db_ij u_ij. */
  void (*vote_bwd)(const tl_route *r, const float *c, const float *ds, const float *later,
                   float *db, float *dv);
  /* Sets u_ij = sum over t < n of weight[t][i][j] vector[t][j]. */
  void (*mix)(const tl_route *r, int n, const float *weight, const float *vector);
} tl_route_kernels;

/* Matrix product micro-kernels; driven by gemm.h, which owns blocking, packing and threads. */
typedef struct tl_gemm_kernels {
  int mr, nr, kc;   /* tile of C in registers; k block */
  int k_group;      /* consecutive k interleaved in a packed panel (1: f32; 2: bf16 pairs) */
  int flags;        /* private to gemm.c and its kernels */
  const void *impl; /* private to gemm.c and its kernels */
} tl_gemm_kernels;

typedef enum tl_cpu_level {
  TL_CPU_REF,
  TL_CPU_AVX2,
  TL_CPU_AVX512,
  TL_CPU_AVX512BF16,
  TL_N_CPU_LEVELS
} tl_cpu_level;

typedef struct tl_kernels {
  tl_cpu_level level;
  const char *name; /* "ref", "avx2", "avx512", "avx512bf16" */
  bool native_bf16; /* the CPU multiplies bf16 faster than f32 (measured) */
  tl_row_kernels row;
  tl_optim_kernels optim;
  tl_attn_kernels attn[2]; /* by dtype: TL_F32, TL_BF16 */
  tl_gemm_kernels gemm[2]; /* by dtype: TL_F32, TL_BF16 */
  tl_route_kernels route;
} tl_kernels;

/* The compute type that "f32", "bf16" or "auto" stands for: auto is bf16 where it is faster. */
tl_dtype tl_kernels_dtype(const tl_kernels *k, const char *name);

/* The best level of this CPU (cpuid, and xgetbv for what the system saves). */
tl_cpu_level tl_cpu_detect(void);
const char *tl_cpu_level_name(tl_cpu_level level);
/* The table of a level <= tl_cpu_detect(); static, shared. */
const tl_kernels *tl_kernels_get(tl_cpu_level level);

/* The rungs of the ladder. Each assigns what its folder implements. */
void tl_row_init_ref(tl_row_kernels *k);
void tl_row_init_avx2(tl_row_kernels *k);
void tl_row_init_avx512(tl_row_kernels *k);
void tl_optim_init_ref(tl_optim_kernels *k);
void tl_optim_init_avx2(tl_optim_kernels *k);
void tl_optim_init_avx512(tl_optim_kernels *k);
void tl_attn_init_ref(tl_attn_kernels k[2]);
void tl_attn_init_avx2(tl_attn_kernels k[2]);
void tl_attn_init_avx512(tl_attn_kernels k[2]);
void tl_attn_init_avx512bf16(tl_attn_kernels k[2]);
void tl_route_init_ref(tl_route_kernels *k);
void tl_route_init_avx2(tl_route_kernels *k);
void tl_route_init_avx512(tl_route_kernels *k);
void tl_gemm_init_ref(tl_gemm_kernels k[2]);
void tl_gemm_init_avx2(tl_gemm_kernels k[2]);
void tl_gemm_init_avx512(tl_gemm_kernels k[2]);
void tl_gemm_init_avx512bf16(tl_gemm_kernels k[2]);

#endif
