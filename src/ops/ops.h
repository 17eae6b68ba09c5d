/* Constructors of the operators. All take and return nodes of one graph; shapes are written
 * [rows, columns]. N is a dynamic number of tokens: batches are packed, without padding. */
#ifndef TL_OPS_OPS_H
#define TL_OPS_OPS_H

#include "core/graph.h"

#define TL_OP(name) extern const tl_op tl_op_##name;
#include "ops/ops.def"
#undef TL_OP

/* All operators, in the order of ops.def. */
extern const tl_op *const tl_ops[];
extern const int tl_n_ops;

/* y [N, sum(out)] = act(x [N, in] concat(w)^T + concat(b)) + residual. Weights are stored [out,
 * in], or [in, out] with conv1d. b[i] may be NULL (all or none), and residual too. */
typedef struct tl_linear_spec {
  int n;
  tl_param *w[TL_MAX_CAT], *b[TL_MAX_CAT];
  bool conv1d;
  tl_act act;
  tl_node *residual; /* [N, sum(out)] */
  bool f32_out;      /* y is f32 whatever the type of x; forward only */
} tl_linear_spec;
tl_node *tl_linear(tl_graph *g, tl_node *x, const tl_linear_spec *spec);
/* y [N, sum(out)] with the low-rank update scale (x A_i^T) B_i^T added in the columns of weight i,
 * for each i with a pair a[i] [r, in], b[i] [out_i, r]; NULL: none. x is what y was computed from.
 */
typedef struct tl_lora_spec {
  int n;
  int64_t out[TL_MAX_CAT]; /* columns of each weight */
  tl_param *a[TL_MAX_CAT], *b[TL_MAX_CAT];
  float scale;
} tl_lora_spec;
tl_node *tl_lora(tl_graph *g, tl_node *y, tl_node *x, const tl_lora_spec *spec);
/* DoRA: u [N, sum(out)], the weights' and their updates' product without biases, with each output
 * brought to its magnitude (w[i]->lora_m; NULL: as it is), and the biases (may be NULL) added. */
typedef struct tl_dora_spec {
  int n;
  tl_param *w[TL_MAX_CAT], *b[TL_MAX_CAT];
  bool conv1d;
} tl_dora_spec;
tl_node *tl_dora(tl_graph *g, tl_node *u, const tl_dora_spec *spec);
/* Lengths |W_o + s B_o A| of the outputs [begin, end) of a weight with a pair: norm[end - begin].
 */
void tl_lora_norms(const tl_param *w, int64_t begin, int64_t end, float *norm);
/* One weight [out, in], optional bias, no activation. */
tl_node *tl_linear1(tl_graph *g, tl_node *x, tl_param *w, tl_param *b);
/* Convolution of pictures whose pixels are the rows of x [n * height * width, in], in reading
 * order: y [n * h * w, out] with h = (height + 2 pad - kernel) / stride + 1 and w likewise; pixels
 * outside are 0. w is [out, in, kernel, kernel], as PyTorch has it; b may be NULL. */
typedef struct tl_conv_spec {
  int64_t height, width;
  int64_t kernel, stride, pad;
  tl_param *w, *b;
} tl_conv_spec;
tl_node *tl_conv2d(tl_graph *g, tl_node *x, const tl_conv_spec *spec);
/* Pixels of one side of what a convolution (or pooling) of this many gives. */
static inline int64_t tl_conv_side(int64_t side, int64_t kernel, int64_t stride, int64_t pad) {
  return (side + 2 * pad - kernel) / stride + 1;
}
/* The largest of each window, [n * h * w, channels]; sides as of a convolution, 2 pad <= kernel. */
typedef struct tl_pool_spec {
  int64_t height, width;
  int64_t kernel, stride, pad;
} tl_pool_spec;
tl_node *tl_max_pool(tl_graph *g, tl_node *x, const tl_pool_spec *spec);
/* y = f((x - mean) / sqrt(var + eps) * gain + bias + residual), f = max(., 0) with relu; mean and
 * var of each column of x [N, d]. In training they are the batch's, and the running ones follow:
 * running (+)= momentum (batch's - running), with the unbiased variance. Otherwise those are used;
 * without them (both NULL) always the batch's. */
typedef struct tl_batch_norm_spec {
  tl_param *gain, *bias, *mean, *var; /* [d]; mean and var (running) are written in training */
  float eps, momentum;
  bool relu;
  tl_node *residual; /* [N, d] or NULL */
} tl_batch_norm_spec;
tl_node *tl_batch_norm(tl_graph *g, tl_node *x, const tl_batch_norm_spec *spec);
/* y [.., M, N] = alpha op(a) op(b) over equal leading axes (ndim 2 or 3). */
tl_node *tl_matmul(tl_graph *g, tl_node *a, tl_node *b, bool trans_a, bool trans_b, float alpha);
tl_node *tl_add(tl_graph *g, tl_node *a, tl_node *b);
tl_node *tl_mul(tl_graph *g, tl_node *a, tl_node *b);
tl_node *tl_scale(tl_graph *g, tl_node *x, float alpha);
/* exp(min(p, most)) x, p a parameter of one element. */
tl_node *tl_scale_exp(tl_graph *g, tl_node *x, tl_param *p, float most);
tl_node *tl_activation(tl_graph *g, tl_node *x, tl_act f);
/* x [N, 2d] = (a | b) -> f(a) * b, [N, d]: SwiGLU with SILU, GeGLU with GELU. */
tl_node *tl_glu(tl_graph *g, tl_node *x, tl_act f);
/* Over the columns of each row; gain [d] and bias [d] may be NULL. */
tl_node *tl_layer_norm(tl_graph *g, tl_node *x, tl_param *gain, tl_param *bias, float eps);
tl_node *tl_rms_norm(tl_graph *g, tl_node *x, tl_param *gain, float eps);
/* RMS norm of each of the first `heads` heads of hd columns; the other columns pass. The first
 * heads_q heads use gain_q [hd], the rest gain_k [hd] (QK-norm); gains may be NULL. */
tl_node *tl_head_norm(tl_graph *g, tl_node *x, int heads, int heads_q, int hd, tl_param *gain_q,
                      tl_param *gain_k, float eps);
/* Positions beyond those of pretraining: frequencies are divided by factor (0: as they are); with
 * original > 0, Llama 3's rule: those that turn at most `low` times within `original` positions are
 * divided, those that turn `high` times or more stay, those between are in between. */
typedef struct tl_rope_scaling {
  double factor, low, high, original;
} tl_rope_scaling;
double tl_rope_frequency(const tl_rope_scaling *s, double frequency);
/* Rotates the first `heads` heads of hd columns by pos i32 [N] (rotate-half); other columns pass.
 * 0 <= pos < max_pos. */
tl_node *tl_rope(tl_graph *g, tl_node *x, tl_node *pos, int heads, int hd, float theta, int max_pos,
                 const tl_rope_scaling *scaling);
/* A bias of q.k by how far the key lies from the query (Raffel et al., 2020): a row of the table
 * per bucket of distances, a column per head. Near distances have buckets of their own, further
 * ones share wider and wider ones up to max_distance, beyond which all have the last. */
typedef struct tl_relative {
  tl_param *table; /* [buckets, n_heads]; NULL: no bias */
  int max_distance;
  bool causal; /* keys after the query share bucket 0; otherwise they have the upper half */
} tl_relative;
/* The bucket of a key that lies d rows before the query (behind it: d < 0). */
int tl_relative_bucket(int d, int buckets, int max_distance, bool causal);
/* q: columns [q_col, q_col + n_heads*hd) of q_src [N, *]; k and v: n_kv*hd columns at k_col and
 * v_col of kv_src [M, *]. segments: i32 [S, 5], rows of tl_segment. Rows in no segment give 0. */
typedef struct tl_attention_spec {
  int n_heads, n_kv, hd;
  int q_col, k_col, v_col;
  float scale; /* 0: 1/sqrt(hd) */
  int window;  /* 0: none */
  float dropout;
  tl_relative rel;
} tl_attention_spec;
tl_node *tl_attention(tl_graph *g, tl_node *q_src, tl_node *kv_src, tl_node *segments,
                      const tl_attention_spec *spec);
tl_node *tl_softmax(tl_graph *g, tl_node *x);
/* x itself when p = 0 or the graph is not for training. */
tl_node *tl_dropout_node(tl_graph *g, tl_node *x, float p);
/* Rows of table [V, d] at ids i32 [N]; an id from V on, which stands for a learned row (tl_splice),
 * gives zeros. id >= 0 is the caller's duty (checked by the data). */
tl_node *tl_embedding(tl_graph *g, tl_param *table, tl_node *ids);
/* The same from row `first` of the table on: ids count from there. */
tl_node *tl_embedding_from(tl_graph *g, tl_param *table, tl_node *ids, int64_t first);
/* x [N, d], in whose rows r with ids[r] >= first the columns from col on are row ids[r] - first of
 * table [P, C]. */
tl_node *tl_splice(tl_graph *g, tl_node *x, tl_param *table, tl_node *ids, int64_t first,
                   int64_t col);
/* Rows idx i32 [P] of x; indices are unique. */
tl_node *tl_gather_rows(tl_graph *g, tl_node *x, tl_node *idx);
/* Rows src i32 [P] of x, each at most once; where src is negative, the parameter fill of d
 * elements.
 */
tl_node *tl_place_rows(tl_graph *g, tl_node *x, tl_param *fill, tl_node *src);
/* Mean of rows [q0, q1) of x for each segment of i32 [S, 5]: [S, d]; an empty segment gives 0. */
tl_node *tl_segment_mean(tl_graph *g, tl_node *x, tl_node *segments);
/* x [n grid^2, s^2 C], pictures of grid x grid rows, to [n (s grid)^2, C]: each row's columns are s
 * x s rows in its place, line by line. */
tl_node *tl_pixel_shuffle(tl_graph *g, tl_node *x, int64_t grid, int64_t s);
/* The capsules of x, `width` columns each, with lengths brought below 1: |x| x / (1 + |x|^2). */
tl_node *tl_squash(tl_graph *g, tl_node *x, int64_t width);
/* Capsules v f32 [N, n_out * d_out] from the n_in capsules of d_in columns that u has for each of
 * N pictures, in any number of rows: predictions u_i W_i, routed by agreement. Row i * d_in + k of
 * w [n_in * d_in, n_out * d_out] belongs to column k of capsule i. */
typedef struct tl_routing_spec {
  tl_param *w;
  int64_t n_in, d_in, n_out, d_out;
  int iterations; /* 1 .. 16; 3 as published */
  int dim;        /* the dynamic number of pictures, 0 if static */
} tl_routing_spec;
tl_node *tl_routing(tl_graph *g, tl_node *u, const tl_routing_spec *spec);
/* Of the capsules of each row of v (f32) the one with the largest of its targets f32 [N, capsules];
 * where all targets are 0 the longest; the others 0. Of the graph's type. */
tl_node *tl_capsule_mask(tl_graph *g, tl_node *v, tl_node *targets);
/* Lengths [N, capsules] of the capsules of v (f32), `width` columns each. */
tl_node *tl_capsule_length(tl_graph *g, tl_node *v, int64_t width);
/* For test cases: f32 capsules [rows, capsules * width] from tl_routing over one capsule. */
tl_node *tl_case_capsules(tl_graph *g, int64_t rows, int64_t capsules, int64_t width);
/* The activation of a parameter [rows, cols], converted to the graph's type. */
tl_node *tl_from_param(tl_graph *g, tl_param *p);
/* Writes columns [k_col, k_col + 2*kv_cols) of x [N, *] (k then v) into rows pos i32 [N] of the
 * cache state [max, 2*kv_cols]; the result is the cache. Forward only. */
tl_node *tl_kv_append(tl_graph *g, tl_node *cache, tl_node *x, tl_node *pos, int k_col,
                      int kv_cols);

/* Losses are f32 [TL_LOSS_N]: sums over the current rows. */
enum { TL_LOSS_SUM, TL_LOSS_Z, TL_LOSS_COUNT, TL_LOSS_CORRECT, TL_LOSS_N };
static inline void tl_shape_losses(tl_node *n) {
  n->dt = TL_F32;
  n->dim = 0;
  n->ndim = 1;
  n->shape[0] = TL_LOSS_N;
}
/* The shape rule of losses of x [N, C] against f32 targets of its shape: INTERNAL, or n's shape. */
static inline tl_status tl_infer_loss(tl_node *n, const tl_node *x, const tl_node *t, tl_err *err) {
  if (x->ndim != 2 || x->dt == TL_I32)
    return tl_fail(err, TL_INTERNAL, "%s must be [N, C]", x->name);
  if (t->dt != TL_F32 || t->dim != x->dim || t->shape[0] != x->shape[0] || tl_cols(t) != tl_cols(x))
    return tl_fail(err, TL_INTERNAL, "targets must be f32 with the shape of %s", x->name);
  tl_shape_losses(n);
  return TL_OK;
}
/* Fused output layer and cross-entropy: logits = h [N, D] w[V, D]^T + b[V], never materialised for
 * all rows. targets i32 [N], negative: ignored. The gradient is scaled by loss_scale. */
typedef struct tl_xent_spec {
  tl_param *w, *b;         /* b may be NULL */
  float smoothing, z_loss; /* smoothing: of the targets in training */
} tl_xent_spec;
tl_node *tl_cross_entropy(tl_graph *g, tl_node *h, tl_node *targets, const tl_xent_spec *spec);
/* Cross-entropy of logits that are activations: x [N, V], targets i32 [N], negative: ignored. */
tl_node *tl_softmax_loss(tl_graph *g, tl_node *x, tl_node *targets);
/* The same with each row's loss times its target's weight, weights f32 [V] (NULL: all 1), and with
 * smoothed targets in training. */
tl_node *tl_weighted_softmax_loss(tl_graph *g, tl_node *x, tl_node *targets, tl_node *weights,
                                  float smoothing);
/* The same against f32 distributions [N, V]: labels that are smoothed or mixed. */
tl_node *tl_soft_cross_entropy(tl_graph *g, tl_node *x, tl_node *targets);
/* x [N, C] against f32 targets [N, C], summed over all elements: the squared error, and the
 * cross-entropy of independent labels in [0, 1] (CORRECT counts the labels on the right side). */
tl_node *tl_squared_error(tl_graph *g, tl_node *x, tl_node *targets);
tl_node *tl_sigmoid_cross_entropy(tl_graph *g, tl_node *x, tl_node *targets);
/* The margin loss of lengths l f32 [N, classes] against f32 shares of the classes, and weight times
 * the sum of (y - pictures)^2; y NULL: without. y [N, P]; pictures have N * P values. */
tl_node *tl_capsule_loss(tl_graph *g, tl_node *l, tl_node *targets, tl_node *y, tl_node *pictures,
                         double weight);
/* Of correlations c [D, D]: scale times (the sum of (1 - c[i][i])^2, and `off` times that of the
 * other elements' squares); TL_LOSS_COUNT is 1. */
tl_node *tl_barlow_loss(tl_graph *g, tl_node *c, float off, float scale);
/* sum(x * r) for an f32 input r of x's shape: the loss of the gradient tests. */
tl_node *tl_inner(tl_graph *g, tl_node *x, tl_node *r);

#endif
