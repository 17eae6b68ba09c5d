/* Architectures: each is one file that declares parameters and builds a graph.
 *
 * To add one (four places): 1. src/models/<name>.c with its tl_arch; 2. a row in TL_ARCHS below; 3.
 * its word in model.type of config_keys.def; 4. a golden in tests/golden. */
#ifndef TL_MODELS_MODEL_H
#define TL_MODELS_MODEL_H

#include <jansson.h>
#include <stddef.h>
#include "models/place.h"
#include "nn/nn.h"
#include "tilth/model.h"
#include "tilth/safetensors.h"

#define TL_ARCHS(X)                                                                                \
  X(gpt2) X(llama) X(bert) X(roberta) X(encoder) X(encdec) X(t5) X(vit) X(capsnet) X(unet) X(resnet)

/* One key of config.json and the member of tl_model_config that it carries. A member may have
 * several keys: all are written, for older and newer readers, and the last that is present counts.
 */
typedef struct tl_hf_key {
  const char *key; /* dots lead into nested objects */
  enum { TL_HF_INT, TL_HF_REAL } type;
  size_t offset;
  bool optional; /* reading: the member keeps 0 when the key is absent or null */
} tl_hf_key;
#define TL_HF_I(name, member)                                                                      \
  { name, TL_HF_INT, offsetof(tl_model_config, member), false }
#define TL_HF_R(name, member)                                                                      \
  { name, TL_HF_REAL, offsetof(tl_model_config, member), false }
#define TL_HF_OPT(type, name, member)                                                              \
  { name, type, offsetof(tl_model_config, member), true }

/* A key of config.json that must be absent, null or this value (as JSON). */
typedef struct tl_hf_fixed {
  const char *key, *value;
} tl_hf_fixed;

/* How an architecture's task heads read the body, as Hugging Face's classes for it do. */
typedef enum tl_pooling { TL_POOL_MEAN, TL_POOL_FIRST, TL_POOL_LAST } tl_pooling;
typedef struct tl_head_style {
  const char *hf_stem; /* "Bert": BertForSequenceClassification, BertForTokenClassification */
  tl_pooling pool;     /* what represents a text */
  bool head;           /* arch->head comes before the linear layer */
  const char *pooler;  /* sequences: name of a dense + tanh layer before it; NULL: none */
  const char *sequence, *tokens; /* names of the linear layer */
  bool sequence_bias;            /* token heads always have a bias */
} tl_head_style;

/* How a picture f32 [channels][size][size] lies in the rows of a picture model's input. */
typedef enum tl_picture_layout {
  TL_LAYOUT_PATCHES, /* a row for each patch, in reading order: [channels * patch^2] */
  TL_LAYOUT_PIXELS,  /* a row for each pixel, in reading order: [channels] (convolutions) */
} tl_picture_layout;

/* What a classifier of pictures of its own gives: scores [n, classes], at least 0 and the largest
 * that of the class (predictions are their shares of the sum), and the loss (TL_LOSS_SUM ...). */
typedef struct tl_picture_classes {
  tl_node *scores, *loss;
  tl_node *capsules, *made; /* capsnet: vectors f32 [n, classes * width], and the pictures made from
                               one of each row; NULL: none */
} tl_picture_classes;

typedef struct tl_arch {
  const char *name;     /* model.type, and config.json's model_type unless hf_type */
  const char *hf_type;  /* "gpt2", "llama", "bert", "modernbert" */
  const char *hf_class; /* "GPT2LMHeadModel", ... */
  /* The same with model.qk_norm, and of what Hugging Face's class does not have (write_constants);
   * NULL: as without. */
  const char *hf_type_qk, *hf_class_qk;
  const char *hf_type_pretraining; /* what holds such a body and a part for pretraining; or NULL */
  const char *body_prefix; /* optional prefix of body tensors in files ("transformer.", "bert.") */
  bool encoder;
  bool seq2seq;      /* an encoder's rows and a decoder's: see tl_model_source */
  bool head_in_file; /* a file that holds lm_head.weight has it of its own, whatever it says */
  bool image;        /* reads pictures: no vocabulary, and io's pictures in place of tokens */
  tl_picture_layout layout; /* of pictures; the body gives max_len rows for each of them */
  bool unit_pixels;         /* pictures are values in 0 .. 1, not normalised */
  const char *default_act;
  double default_eps;
  int64_t (*default_ff)(int64_t dim);
  /* Settings of its own; NULL: none. */
  tl_status (*configure)(const tl_config *cfg, tl_model_config *c, tl_err *err);
  /* Checks and completes sizes of its own; NULL: none. */
  tl_status (*check)(tl_model_config *c, tl_err *err);
  /* Adds the parameters to m->params and fills m->layer and m's common parts. */
  void (*declare)(tl_model *m, tl_declare *d);
  /* Sets values that are computed, behind the random ones; NULL: none. */
  void (*set_values)(tl_model *m);
  /* A tensor of another shape than p: sets p's values from it if that makes sense (*done); NULL:
   * never. */
  tl_status (*fit)(const tl_model *m, tl_param *p, const tl_st_tensor *t, bool *done, tl_err *err);
  /* Hidden states [N, D] after the last norm; of an encoder-decoder: of the decoder. */
  tl_node *(*body)(const tl_model *m, tl_graph *g, const tl_model_io *io);
  /* Encoder-decoders: hidden states [M, D] of the encoder. */
  tl_node *(*encode)(const tl_model *m, tl_graph *g, const tl_model_io *io);
  /* What stands between hidden states and the output matrix; NULL: nothing. [P, D] -> [P, D]. */
  tl_node *(*head)(const tl_model *m, tl_graph *g, tl_node *h);
  /* Pictures: classes that do not come from a linear layer on pooled rows, trained by cross-entropy
   * (capsules: lengths and margins). Both or neither. declare_classes adds what depends on the
   * number of classes, m->task.n_outputs, in place of the head's linear layer; classify builds on
   * the body's rows h, with targets f32 [n, classes] (label_smoothing and mixing included) and io's
   * segments, one for each picture's rows. */
  void (*declare_classes)(tl_model *m, tl_declare *d);
  tl_picture_classes (*classify)(const tl_model *m, tl_graph *g, const tl_model_io *io, tl_node *h,
                                 tl_node *targets);
  /* Hugging Face's config.json: the keys that carry sizes (read and written by one table, ended by
   * key NULL), the key of the activation, and the constants that its loader wants besides. */
  const tl_hf_key *keys;
  const char *act_key;
  void (*write_constants)(const tl_model *m, json_t *o);
  /* What the keys' table cannot say, read after it; NULL: nothing. path: for messages. */
  tl_status (*read_rest)(const json_t *o, const char *path, tl_model_config *c, tl_err *err);
  /* Settings that this program has with one value only; any other in a file is an error, since the
   * model would be silently wrong. Ended by key NULL; may be NULL. */
  const tl_hf_fixed *fixed;
  /* Ends of tensors' names in older files: {here, there}; ended by NULL; may be NULL. */
  const char *const (*aliases)[2];
  tl_head_style task;
} tl_arch;

#define TL_ARCH_DECLARE(name) extern const tl_arch tl_arch_##name;
TL_ARCHS(TL_ARCH_DECLARE)
#undef TL_ARCH_DECLARE

/* A model's task head (task_head.h); kind TL_HEAD_NONE: a language model. */
typedef enum tl_head_kind {
  TL_HEAD_NONE,
  TL_HEAD_SEQUENCE,
  TL_HEAD_TOKENS,
  TL_HEAD_MASKS,
} tl_head_kind;
typedef struct tl_task_head {
  tl_head_kind kind;
  int n_outputs;
  char *const *name; /* [n_outputs] of the labels; NULL: not known */
  char problem[32];  /* Hugging Face's problem_type; "": not said */
  double dropout, smoothing;
  int void_id; /* masks: the value in files of pixels without a class; -1: none */
  tl_param *pool_w, *pool_b, *w, *b; /* pooler (masks: what spreads rows out) and b may be NULL */
} tl_task_head;

typedef struct tl_block {
  tl_norm norm1,
      norm2; /* before (pre-norm) or after (BERT) attention and MLP; gain NULL: identity */
  tl_self_attention attn;
  tl_norm norm_cross; /* blocks of an encoder-decoder's decoder; gain NULL: no cross-attention */
  tl_cross_attention cross;
  tl_mlp mlp;
} tl_block;

struct tl_model {
  const tl_arch *arch;
  tl_model_config c;
  tl_act act;
  tl_arena arena;
  tl_params params;
  bool with_grads;
  tl_block *block; /* [n_blocks]; of an encoder-decoder the encoder's come first */
  int64_t n_blocks;
  tl_param *tok_embed, *pos_embed, *type_embed;
  tl_param *prompt_embed;                    /* [prompt, D]; NULL: none */
  tl_param *patch_w, *patch_b, *class_token; /* pictures; class_token may be NULL */
  struct {
    tl_conv_spec first, primary;
    tl_param *decoder_w[3], *decoder_b[3]; /* NULL: no reconstruction */
  } capsnet;
  struct tl_resnet *resnet;                    /* in the arena */
  struct tl_unet *unet;                        /* in the arena */
  tl_norm embed_norm, final_norm, source_norm; /* source_norm: the encoder's last */
  tl_param *head_dense, *head_dense_bias; /* the transform before the output matrix (encoders) */
  tl_norm head_norm;
  tl_task_head task;
  tl_param *out_w, *out_b; /* output matrix (tok_embed when tied) and bias (may be NULL) */
  tl_st *weights;          /* the file that values are views of (a model only to be run), or NULL */
  json_t *more;   /* of config.json besides, for parameters that are not the body's; or NULL */
  json_t *origin; /* the config.json that the weights came with: keys unknown here stay; or NULL */
};

const tl_arch *tl_arch_find(const char *name);          /* by model.type; NULL if unknown */
const tl_arch *tl_arch_find_hf(const char *model_type); /* by config.json's model_type */
bool tl_arch_is_hf(const tl_arch *a, const char *model_type);
tl_act tl_act_find(const char *name); /* our word or Hugging Face's; TL_ACT_NONE if unknown */
const char *tl_act_hf_name(tl_act act);

/* Pieces the architectures share. */
tl_linear_spec tl_spec1(tl_param *w, tl_param *b, bool conv1d);
float tl_residual_std(
    const tl_model *m); /* init_std / sqrt(2 layers): GPT-2's residual projections */
tl_node *tl_model_dropout(const tl_model *m, tl_graph *g, tl_node *x);
/* x + dropout(f(norm(x))) for attention and MLP of one block, the layer'th with a cache, and
 * between them for attention to kv, which is NULL without an encoder; then for all blocks. */
tl_node *tl_prenorm_block(const tl_model *m, tl_graph *g, tl_node *x, const tl_block *b,
                          const tl_model_io *io, int layer, tl_node *kv);
tl_node *tl_prenorm_blocks(const tl_model *m, tl_graph *g, tl_node *x, const tl_model_io *io);
/* tl_arch.encode and body of encoder-decoders. */
tl_node *tl_encdec_encode(const tl_model *m, tl_graph *g, const tl_model_io *io);
tl_node *tl_encdec_body(const tl_model *m, tl_graph *g, const tl_model_io *io);
/* The token that a target begins with: what the model's file says, else the tokenizer's that begins
 * a text, else the one that ends it. c may be NULL. */
int tl_model_start(const tl_model_config *c, const tl_tokenizer *tok);

/* Adapters, prefixes and prompts (added.c). A text of a model with learned rows begins with the
 * tokens first .. first + n - 1, which no tokenizer gives: first is the vocabulary's size. The rows
 * of a prefix are keys alone: a text's queries begin behind them. */
typedef struct tl_learned_rows {
  int32_t first, n; /* n == 0: none */
  int32_t keys;     /* those of a prefix: n or 0 */
} tl_learned_rows;
tl_learned_rows tl_model_learned_rows(const tl_model *m);
/* For what reads texts without them: CONFIG if the model in dir has learned rows. */
tl_status tl_model_without_rows(const tl_model_config *c, const char *dir, tl_err *err);
void tl_model_declare_added(tl_model *m, tl_declare *d);
/* Rows of the token embedding, those of a prompt included. */
tl_node *tl_model_embed(const tl_model *m, tl_graph *g, tl_node *tokens);

/* Inputs of a graph with at most max_tokens packed tokens in at most max_segments segments. */
tl_model_io tl_model_inputs(const tl_model *m, tl_graph *g, int dim_tokens, int64_t max_tokens,
                            int dim_segments, int64_t max_segments);
/* Adds an encoder-decoder's source side with at most max_source tokens, and cross; both have the
 * segments of the decoder's rows in number. */
void tl_model_source(tl_graph *g, tl_model_io *io, int dim_source, int64_t max_source,
                     int dim_segments, int64_t max_segments);
/* Keys and values of decoder block `layer` for encoder states h [M, D]. */
tl_node *tl_model_cross_kv(const tl_model *m, tl_graph *g, tl_node *h, int layer);
/* Per-layer caches of a generation graph for `rows` tokens; set io->cache to it. */
tl_node **tl_model_cache(const tl_model *m, tl_graph *g, int64_t rows);
/* The transform before the output matrix (identity for decoders). */
tl_node *tl_model_head(const tl_model *m, tl_graph *g, tl_node *h);
/* What represents a text or a picture for the task's head. */
tl_pooling tl_model_pooling(const tl_model *m);
/* Pieces of ViT. A block of these sizes, behind the declaration's prefix; a token of its own; a
 * position for each of `rows`, learned or (sine) fixed, with the values that tl_vit_set_sines
 * gives: of a square of patches, half of the columns for the row and half for the column, each half
 * sines then cosines at wavelengths from 2 pi to 10,000 * 2 pi; rows before the patches get 0. */
void tl_vit_declare_block(tl_declare *d, const tl_model_config *c, tl_act act, tl_block *b);
tl_param *tl_vit_declare_token(tl_declare *d, const char *name, int64_t dim, float std);
tl_param *tl_vit_declare_positions(tl_declare *d, const char *name, int64_t rows, int64_t dim,
                                   float std, bool sine);
void tl_vit_set_sines(tl_param *p, int64_t grid);
/* Values in [from * from, d] resized to [to * to, d], by cubic convolution as PyTorch's bicubic. */
void tl_vit_resize_grid(const float *in, int64_t from, float *out, int64_t to, int64_t d);
/* CapsNet's pictures [n, size^2 * channels] in 0 .. 1, as TL_LAYOUT_PIXELS, from capsules [n,
 * classes * width] of which each row has one. */
tl_node *tl_capsnet_decode(const tl_model *m, tl_graph *g, tl_node *capsules);
/* Logits [P, V] of hidden states: for generation and prediction on few rows. */
tl_node *tl_model_logits(const tl_model *m, tl_graph *g, tl_node *h);

/* Adds a parameter of a task head and (re)allocates; see tl_model_new_with. */
typedef void (*tl_declare_extra_fn)(tl_model *m, tl_declare *d, void *user);
/* As tl_model_new, with extra parameters declared by the caller (task heads) before allocation. */
tl_status tl_model_new_with(const tl_model_config *config, uint64_t seed, bool with_grads,
                            tl_declare_extra_fn extra, void *user, tl_model **out, tl_err *err);
/* The same without values: they are the caller's to set. */
tl_status tl_model_alloc(const tl_model_config *config, bool with_grads, tl_declare_extra_fn extra,
                         void *user, tl_model **out, tl_err *err);
/* A second body, of texts, whose parameters are added to the owner's before they are allocated (in
 * an extra function): for graphs on the owner's parameters, never freed by itself. NULL with the
 * reason in d->err. */
tl_model *tl_model_declare_within(tl_model *owner, tl_declare *d, const tl_model_config *config);
/* The text of config.json (malloc'ed; NULL when out of memory), and the parameters as tensors for
 * model.safetensors (malloc'ed array of *n; data borrowed): all, or (finished) without low-rank
 * pairs, which have been merged then, and without what an objective added. */
char *tl_model_config_json(const tl_model *m, const tl_tokenizer *tok);
/* The config.json that the model was read from with today's keys added (malloc'ed; NULL when out of
 * memory or not read from one). dtype: Hugging Face's word for the weights' type. */
char *tl_model_converted_json(const tl_model *m, const char *dtype);
/* The tensor that holds a parameter, by any of its names; NULL if absent. */
const tl_st_tensor *tl_model_find_tensor(const tl_st *st, const tl_model *m, const char *name);
tl_st_tensor *tl_model_tensors(const tl_model *m, bool finished, size_t *n);
tl_st_tensor tl_param_tensor(const tl_param *p, const char *name, const float *data);
/* Here and below dir is a model's name (place.h): a folder, an adapter's folder, or both.
 *
 * Reads dir/config.json; DATA when the weights beside it cannot be those of such a model. */
tl_status tl_model_read_config(const char *dir, tl_model_config *out, tl_err *err);
/* The task head that dir/config.json speaks of: kind from its class (NONE for language models and
 * for classes that are not classification), problem_type or "". */
typedef struct tl_hf_task {
  tl_head_kind kind;
  char problem[32];
  int void_id; /* masks: as in tl_task_head */
} tl_hf_task;
tl_status tl_model_read_task(const char *dir, tl_hf_task *out, tl_err *err);
/* DATA when the weights' file in dir lacks this parameter. */
tl_status tl_model_require(const tl_model *m, const char *dir, const tl_param *p, tl_err *err);
/* Copies values from dir/model.safetensors for every parameter with the same name (with or without
 * the body prefix). A body parameter that is missing or has another shape is an error (DATA);
 * `extras` of task heads may be absent and keep their values. */
tl_status tl_model_read_weights(tl_model *m, const char *dir, tl_err *err);
/* The same for the start of a fine-tuning: what a head has in another size (other classes) keeps its
 * values, and *new_head says so. */
tl_status tl_model_start_weights(tl_model *m, const char *dir, bool *new_head, tl_err *err);
/* Takes out the adapter that a model read by tl_model_read_weights has, and applies another one
 * (NULL: none). base and adapter are folders. After an error the weights must not be used. */
tl_status tl_model_switch(tl_model *m, const char *base, const char *adapter, tl_err *err);

/* Which of n_blocks + 2 groups a weight belongs to: 0 the embeddings, 1 .. n_blocks the blocks (by
 * the first number that stands alone in its name; the decoder's behind the encoder's), then what is
 * left: last norm, output layer, head. */
int64_t tl_model_group_of(const tl_model *m, const tl_param *p);

#endif
