/* Models: a description (architecture and sizes) with its parameters. */
#ifndef TILTH_MODEL_H
#define TILTH_MODEL_H

#include <stdint.h>
#include "tilth/config.h"
#include "tilth/context.h"
#include "tilth/status.h"
#include "tilth/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_model tl_model;

enum { TL_MAX_STAGES = 8 };

typedef struct tl_model_config {
  char type[16]; /* "gpt2", "llama", "bert", "roberta", "encoder", "encdec", "t5",
                  "vit", "capsnet", "unet", "resnet" */
  int64_t dim, layers, heads, kv_heads, ff, vocab, max_len;
  int64_t encoder_layers;            /* encdec, t5; layers are the decoder's */
  int64_t head_dim;                  /* t5: columns of a head; 0: dim / heads */
  int64_t rel_buckets, rel_distance; /* t5: of the bias by relative position; 0: 32 and 128 */
  int64_t start;                     /* with has_start: the token that every target begins with */
  bool has_start;
  bool scale_logits; /* t5: by dim^-1/2 */
  int64_t window, global_every;
  double dropout, attention_dropout, rope_theta, init_std, norm_eps;
  double rope_theta_local; /* of an encoder's layers with a window; 0: rope_theta */
  /* llama: frequencies are divided by the factor (0: none); original > 0: by Llama 3's rule. */
  double rope_factor, rope_low, rope_high, rope_original;
  int64_t pos_first;        /* roberta: row of the position table for position 0 */
  int64_t type_vocab;       /* bert, roberta: kinds of segments */
  bool attn_bias, mlp_bias; /* llama */
  /* Added for a task: width of the adapters behind attention and MLP (0: none), and where they are
   * (1: attention, 2: MLP, 3: both); learned rows in front of each text, as keys and values of each
   * layer (prefix) or as embeddings (prompt). */
  int64_t adapter, adapter_where, prefix, prompt;
  int64_t image_size, patch, channels; /* vit: pixels a side, of the picture and of a patch */
  /* capsnet: maps of primary capsules, iterations, weight of the squared error (0: no decoder) */
  int64_t capsules, routing;
  double reconstruction;
  /* resnet: layers and channels of each stage, channels of the first convolution; layers of three
   * convolutions (bottleneck) or two; the first convolution of 3 x 3 without pooling (small_stem),
   * as for pictures of few pixels; which layers halve the sides. */
  int64_t stages, depths[TL_MAX_STAGES], widths[TL_MAX_STAGES], stem_width;
  bool bottleneck, small_stem, halve_first, halve_in_bottleneck;
  bool pool_first; /* encoder: its classifiers read the first token; else the mean of the text */
  bool pool_mean, sine; /* vit: no class token; positions that are not learnt */
  bool tie, qk_norm;
  bool shifted; /* the prediction for a token stands one row before it (objective hybrid) */
  char act[16]; /* "auto", "gelu", "gelu_tanh", "silu", "relu", "relu2" */
} tl_model_config;

/* Sizes from the configuration's model section; vocab and max_len fill what it leaves at 0. */
tl_status tl_model_config_from(const tl_config *c, int64_t vocab, int64_t max_len,
                               tl_model_config *out, tl_err *err);

/* A model with random weights (a function of seed and the parameters' names alone). Memory for
 * gradients is taken only with_grads. On success *out is freed with tl_model_free.
 * Errors: CONFIG (sizes that do not fit together), NOMEM. */
tl_status tl_model_new(const tl_model_config *config, uint64_t seed, bool with_grads,
                       tl_model **out, tl_err *err);
/* dir: a folder with config.json and model.safetensors, as tl_model_save or Hugging Face's
 * libraries write it; or a LoRA or DoRA adapter's, as tilth finetune or peft write it, whose base
 * is where the adapter says; or both with a comma between ("BASE,ADAPTER"). Low-rank updates are
 * added to the weights. Without gradients the model is only to be run: its f32 values are read-only
 * views of the mapped file, which must not be changed in place. */
tl_status tl_model_load(const char *dir, bool with_grads, tl_model **out, tl_err *err);
/* Writes dir/config.json and dir/model.safetensors (f32), and the tokenizer's files if tok is not
 * NULL. dir is created. Each file is replaced in one step. */
tl_status tl_model_save(const tl_model *m, const tl_tokenizer *tok, const char *dir, tl_err *err);
void tl_model_free(tl_model *m);

const tl_model_config *tl_model_get_config(const tl_model *m);
int64_t tl_model_params(const tl_model *m);      /* all parameters */
int64_t tl_model_body_params(const tl_model *m); /* without embeddings and output layer */
bool tl_model_is_encoder(const tl_model *m);

#ifdef __cplusplus
}
#endif

#endif
