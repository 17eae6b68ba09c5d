/* Text out of a pretrained model: continuation by a decoder, filling of masks by an encoder. */
#ifndef TILTH_GENERATE_H
#define TILTH_GENERATE_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/context.h"
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_sampling {
  int64_t max_tokens; /* new tokens at most */
  double temperature; /* 0: the most likely token each time */
  int64_t top_k;      /* only the k most likely; 0: all */
  double top_p;       /* only the most likely that together reach p; 1: all */
  uint64_t seed;
} tl_sampling;
tl_sampling
tl_sampling_defaults(void); /* 200 tokens, temperature 0.8, top-k 200, top-p 1, seed 1 */

/* Receives new text as it comes (whole UTF-8 characters). */
typedef void (*tl_emit_fn)(void *user, const char *text, size_t len);

typedef struct tl_generate_stats {
  int64_t prompt_tokens, new_tokens;
  double prompt_seconds, new_seconds;
  bool ended; /* the model ended the text itself */
} tl_generate_stats;

/* A decoder that stands ready: loaded once, for any number of texts. Borrows ctx. Errors: CONFIG
 * (an encoder not trained as hybrid, an encoder-decoder), those of tl_model_load and
 * tl_tokenizer_load.
 */
typedef struct tl_generator tl_generator;
tl_status tl_generator_open(tl_ctx *ctx, const char *model_dir, tl_generator **out, tl_err *err);
void tl_generator_free(tl_generator *g); /* NULL is allowed */
/* Continues `prompt` (keys and values are cached); the text before it is forgotten. sampling
 * (the defaults), emit and stats may be NULL. The same seed gives the same text on any number of
 * threads. Errors: CONFIG (a prompt of the model's whole length), DATA, NOMEM, PREEMPTED. */
tl_status tl_generator_run(tl_generator *g, const char *prompt, const tl_sampling *sampling,
                           tl_emit_fn emit, void *user, tl_generate_stats *stats, tl_err *err);

/* The three in one, for a single text. */
tl_status tl_generate(tl_ctx *ctx, const char *model_dir, const char *prompt,
                      const tl_sampling *sampling, tl_emit_fn emit, void *user,
                      tl_generate_stats *stats, tl_err *err);

enum { TL_FILL_MAX = 32 };
typedef struct tl_fill_choice {
  char token[64];
  double probability;
} tl_fill_choice;

/* For the i-th mask of the text: its `n` likeliest tokens, best first. */
typedef void (*tl_fill_fn)(void *user, int mask, const tl_fill_choice *choice, int n);

/* Predicts each mask token ("[MASK]", "<mask>") in `text` with the model in model_dir. n: choices
 * per mask, at most TL_FILL_MAX. Errors: CONFIG (no mask token in the tokenizer, a decoder not
 * trained as hybrid), DATA (no mask in the text, a text longer than the model takes). */
tl_status tl_fill(tl_ctx *ctx, const char *model_dir, const char *text, int n, tl_fill_fn report,
                  void *user, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
