/* Layers out of operators. A layer that owns parameters is declared once (parameters are added to
 * the store) and built into any number of graphs. */
#ifndef TL_NN_NN_H
#define TL_NN_NN_H

#include "ops/ops.h"

/* Declares parameters under a changing prefix; the first failure is kept. */
typedef struct tl_declare {
  tl_params *ps;
  char prefix[160];
  tl_err err;
} tl_declare;
void tl_declare_prefix(tl_declare *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A matrix [rows, cols], N(0, std); hidden: Muon may train it. */
tl_param *tl_declare_matrix(tl_declare *d, const char *name, int64_t rows, int64_t cols, float std,
                            bool hidden);
/* The same with any shape; not for Muon. */
tl_param *tl_declare_tensor(tl_declare *d, const char *name, int ndim, const int64_t *shape,
                            float std);
/* A vector of n equal values (gain: 1, bias: 0). Not decayed. */
tl_param *tl_declare_vector(tl_declare *d, const char *name, int64_t n, float value);

typedef enum tl_norm_kind { TL_NORM_LAYER, TL_NORM_RMS } tl_norm_kind;

typedef struct tl_norm {
  tl_norm_kind kind;
  tl_param *gain, *bias; /* bias may be NULL */
  float eps;
} tl_norm;
/* NAME.weight and, with bias, NAME.bias. */
tl_norm tl_declare_norm(tl_declare *d, const char *name, tl_norm_kind kind, int64_t dim, bool bias,
                        float eps);
tl_node *tl_nn_norm(tl_graph *g, tl_node *x, const tl_norm *n);

/* A convolution without bias, with batch normalisation behind it: NAME.convolution.weight [out, in,
 * kernel, kernel] with the gain of He et al. (2015), which Muon may train, and
 * NAME.normalization.weight, bias, running_mean, running_var. `conv` comes with kernel, stride and
 * pad. */
typedef struct tl_conv_norm {
  tl_conv_spec conv;
  tl_batch_norm_spec norm;
} tl_conv_norm;
void tl_declare_conv_norm(tl_declare *d, const char *name, int64_t in, int64_t out, float eps,
                          tl_conv_norm *l);
/* act(norm(conv(x)) + residual) of pictures of side x side pixels; residual may be NULL. */
tl_node *tl_nn_conv_norm(tl_graph *g, tl_node *x, const tl_conv_norm *l, int64_t side, tl_act act,
                         tl_node *residual);

/* An adapter behind a layer's last product (Houlsby et al. 2019): h + up(act(down(h))), where `up`
 * begins near 0; down.n == 0: none. */
typedef struct tl_bottleneck {
  tl_linear_spec down, up;
} tl_bottleneck;

/* Self-attention of one block: projections, optional QK-norm, optional RoPE, output projection. */
typedef struct tl_self_attention {
  tl_linear_spec qkv; /* concatenated output: q heads, then k heads, then v heads */
  tl_linear_spec out;
  int n_heads, n_kv, hd;
  bool qk_norm;
  tl_param *gain_q, *gain_k;
  float norm_eps;
  bool rope;
  float rope_theta;
  tl_rope_scaling rope_scaling;
  int max_len, window;
  float dropout;
  float scale; /* of the scores; 0: 1/sqrt(hd) */
  tl_relative rel;
  tl_bottleneck after;
  tl_param *prefix; /* [P, 2*n_kv*hd]: keys and values of the rows whose token is a learned one */
  int64_t first_learned; /* the first such token */
} tl_self_attention;

/* What a model reads: i32 nodes; types (BERT only, else NULL) stay 0 unless written. cache: NULL,
 * or one state [rows, 2*n_kv*hd] per layer; cache_rows: the row of each token there (NULL: its
 * position). The rest is an encoder-decoder's: the encoder's inputs, the segments of the rows above
 * (q0, q1) in the encoder's (k0, k1), and, in place of the encoder's inputs, what an encoder before
 * gave (tl_model_cross_kv), one per layer. */
typedef struct tl_model_io {
  tl_node *tokens, *pos, *types, *segments;
  tl_node **cache, *cache_rows;
  tl_node *pictures;   /* rows as the architecture's layout has them (tl_arch.layout) */
  tl_node *patch_rows; /* for each row of the body the patch, -1: the class token */
  tl_node *src_tokens, *src_pos, *src_segments, *cross, **cross_kv;
} tl_model_io;
/* Where a layer's result goes: x + dropout(result). */
typedef struct tl_residual {
  tl_node *x; /* [N, D] */
  float dropout;
} tl_residual;
/* x [N, D] -> [N, D], added to `to`. */
tl_node *tl_nn_self_attention(tl_graph *g, tl_node *x, const tl_self_attention *a,
                              const tl_model_io *io, int layer, const tl_residual *to);
/* Attention of a decoder's rows to an encoder's hidden states. */
typedef struct tl_cross_attention {
  tl_linear_spec q, kv, out; /* kv: k heads, then v heads */
  int n_heads, n_kv, hd;
  bool qk_norm;
  tl_param *gain_q, *gain_k;
  float norm_eps, dropout, scale;
} tl_cross_attention;
/* Keys and values [M, 2*n_kv*hd] of hidden states [M, D]. */
tl_node *tl_nn_cross_kv(tl_graph *g, tl_node *memory, const tl_cross_attention *a);
/* x [N, D] -> [N, D], added to `to`. */
tl_node *tl_nn_cross_attention(tl_graph *g, tl_node *x, tl_node *kv, const tl_cross_attention *a,
                               tl_node *segments, const tl_residual *to);
/* act(x W1 + b1) W2 + b2; or with `gated`: (act(a) * b) W2 where (a | b) = x W1. Added to `to`. */
typedef struct tl_mlp {
  tl_linear_spec in, out;
  bool gated;
  tl_act act;
  tl_bottleneck after;
} tl_mlp;
tl_node *tl_nn_mlp(tl_graph *g, tl_node *x, const tl_mlp *m, const tl_residual *to);

#endif
