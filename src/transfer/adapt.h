/* Which weights a fine-tuning moves, and how.
 *
 *   full    all
 *   probe   the task head alone
 *   last    the top `layers` blocks, what stands above them, and the head
 *   bitfit  biases and gains (Ben Zaken et al. 2022), and the head
 *   lora    low-rank updates of the blocks' matrices (Hu et al. 2021), and the head
 *   dora    the same with a learned length of each output (Liu et al. 2024), and the head
 *   adapter bottlenecks behind attention and MLP (Houlsby et al. 2019), and the head
 *   prefix  keys and values in front of each layer's (Li and Liang 2021), and the head
 *   prompt  embeddings in front of each text (Lester et al. 2021), and the head
 *
 * With layer_decay < 1 the rate falls from the head down by that factor per block (ELECTRA). */
#ifndef TL_TRANSFER_ADAPT_H
#define TL_TRANSFER_ADAPT_H

#include "models/model.h"

typedef enum tl_adapt_method {
  TL_ADAPT_FULL,
  TL_ADAPT_PROBE,
  TL_ADAPT_LAST,
  TL_ADAPT_BITFIT,
  TL_ADAPT_LORA,
  TL_ADAPT_DORA,
  TL_ADAPT_ADAPTER,
  TL_ADAPT_PREFIX,
  TL_ADAPT_PROMPT,
} tl_adapt_method;

typedef struct tl_adapt_options {
  tl_adapt_method method;
  int64_t layers;     /* last: blocks */
  double layer_decay; /* 1: none */
  double head_lr;     /* factor on the rate of the head; 1: none */
  int64_t rank;
  double alpha, dropout; /* lora: the update counts alpha / rank times; dropout of its input */
  bool rs;               /* alpha / sqrt(rank) instead (Kalajdzievski 2023) */
  const char *targets;   /* "all", "attention", "mlp", or last parts of modules' names with commas
                            between ("q_proj,v_proj") */
  int64_t width;         /* adapter: of the bottleneck */
  const char *where;     /* adapter: "both", "attention", "mlp" */
  int64_t length;        /* prefix, prompt: rows */
} tl_adapt_options;

/* false for an unknown word. */
bool tl_adapt_parse(const char *name, tl_adapt_method *out);
/* What the method adds to a model, as sizes: to be called before it is made. */
void tl_adapt_config(tl_model_config *c, const tl_adapt_options *o);
/* To be called while the model is declared, after body and head: adds the low-rank pairs and fixes
 * what is trained. Sets d->err: CONFIG when a target names nothing or a matrix is smaller than the
 * rank. */
void tl_adapt_declare(tl_model *m, tl_declare *d, const tl_adapt_options *o);
/* Factors on the learning rate by parameter (tl_optim_lr_factors). */
void tl_adapt_rates(const tl_model *m, const tl_adapt_options *o, float *factor);
/* To be called when the weights are there: magnitudes begin as the lengths of the outputs. */
void tl_adapt_begin(tl_model *m);
/* Adds the low-rank updates to the weights they belong to. */
void tl_adapt_merge(tl_model *m);

#endif
