/* Which weights a fine-tuning moves, and how.
 *
 *   full    all
 *   probe   the task head alone
 *   last    the top `layers` blocks, what stands above them, and the head
 *   bitfit  biases and gains (Ben Zaken et al. 2022), and the head
 *   lora    low-rank updates of the blocks' matrices (Hu et al. 2021), and the head
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
} tl_adapt_options;

/* false for an unknown word. */
bool tl_adapt_parse(const char *name, tl_adapt_method *out);
/* To be called while the model is declared, after body and head: adds the low-rank pairs and fixes
 * what is trained. Sets d->err: CONFIG when a target names nothing. */
void tl_adapt_declare(tl_model *m, tl_declare *d, const tl_adapt_options *o);
/* Factors on the learning rate by parameter (tl_optim_lr_factors). */
void tl_adapt_rates(const tl_model *m, const tl_adapt_options *o, float *factor);
/* Adds the low-rank updates to the weights they belong to (sign 1), or takes them out (-1). */
void tl_adapt_merge(tl_model *m, int sign);

#endif
