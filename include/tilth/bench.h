/* The speed of operators, kernels and whole training steps on this machine, beside what it can
 * reach at all. */
#ifndef TILTH_BENCH_H
#define TILTH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "tilth/config.h"
#include "tilth/context.h"
#include "tilth/dtype.h"
#include "tilth/profile.h"
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The limits, measured on the spot with the context's kernels and threads. */
typedef struct tl_bench_peak {
  double gflops[2]; /* multiply-adds from registers, all threads: {f32, bf16} */
  double gbytes;    /* per second of memory: y = a + b over 256 MB, counted once each */
} tl_bench_peak;
tl_status tl_bench_measure_peak(tl_ctx *ctx, tl_bench_peak *out, tl_err *err);

/* One timing: the fastest of many runs. Borrowed during the callback. */
typedef struct tl_bench_row {
  const char *name;  /* of the operator or kernel */
  const char *shape; /* the dims of its case, "1024 768"; of a product "M N K" */
  const char *pass;  /* "forward", "backward", "both" (a loss), "run" (a kernel) */
  tl_dtype dt;
  double seconds;
  double flops, bytes; /* of one run; 0: not counted */
} tl_bench_row;
typedef void (*tl_bench_fn)(void *user, const tl_bench_row *row);

/* Times the operator or kernel named `only` (NULL: all), each for about `seconds` per type, in f32
 * and bf16. Stops early with PREEMPTED when the context is cancelled. Errors: USAGE for an unknown
 * name, NOMEM. */
tl_status tl_bench(tl_ctx *ctx, const char *only, double seconds, tl_bench_fn fn, void *user,
                   tl_err *err);

typedef struct tl_bench_step_options {
  int64_t warmup, steps;   /* steps before the timed ones (>= 0), and timed ones (>= 1) */
  const uint32_t *lengths; /* tokens of documents, cycled: joined to one stream, cut into windows of
                              train.seq_len, attention inside each; NULL: whole windows */
  size_t n_lengths;
  bool profile;  /* of the timed steps, see tilth/profile.h */
  bool finetune; /* a classifier of two classes instead of a language model: train.batch documents a
                    step, of at most train.seq_len tokens */
} tl_bench_step_options;

typedef struct tl_bench_step_result {
  double *step_seconds; /* [steps] */
  int64_t steps;
  double median, min, max; /* of step_seconds */
  int64_t params;
  double tokens, segments, targets; /* per step: of the input (none is padding; of pictures the rows
                                       of the model's body), pieces of documents that attention
                                       stays inside, or pictures, and predicted tokens or labels */
  double tokens_per_s, segments_per_s; /* by the median */
  double flops_per_token; /* as tl_graph_cost counts a training pass: products (6 for each weight),
                             attention over what its mask leaves, output layer on predicted tokens
                             only, and the arithmetic of the rest (under 1 %) */
  double gflops;          /* by the median */
  double peak_gflops;     /* measured, of dt on all threads */
  double peak_rss;        /* bytes of memory that the process has held at most */
  double to_first, to_first_end; /* seconds from the start of the process to the beginning and the
                                    end of the first step */
  double loss;                   /* of the last step */
  tl_dtype dt;
  tl_profile *profile; /* NULL unless asked for */
} tl_bench_step_result;

/* Trains by the configuration, with the trainer's own step, on random tokens: no disk, no data, no
 * evaluation, no snapshots. model.vocab 0: the tokenizer's size (data.tokenizer, data.path), else
 * that of bytes. A model of pictures learns labels of random pictures, 10 classes (task.type, where
 * it is one on pictures, else image_classify), 32 x 32 pixels of three channels where
 * model.image_size and image.channels are 0. Free the result with tl_bench_step_free. Errors:
 * CONFIG, USAGE, NOMEM, DIVERGED, PREEMPTED on cancel. */
tl_status tl_bench_step(tl_ctx *ctx, const tl_config *cfg, const tl_bench_step_options *options,
                        tl_bench_step_result *out, tl_err *err);
void tl_bench_step_free(tl_bench_step_result *r);

typedef struct tl_bench_generate_options {
  int64_t prompt, tokens; /* tokens of the prompt and new ones, each >= 1 */
  int64_t warmup, runs;   /* sequences before the timed ones (>= 0), and timed ones (>= 1) */
} tl_bench_generate_options;

typedef struct tl_bench_generate_result {
  double median;                           /* seconds of a whole sequence, prompt included */
  double prompt_seconds;                   /* of the fastest prompt */
  double token_seconds;                    /* of a new token, without the prompt */
  double tokens_per_s;                     /* new tokens by the median */
  double peak_rss, to_first, to_first_end; /* as in tl_bench_step_result, of the first sequence */
  int64_t params;
  tl_dtype dt;
} tl_bench_generate_result;

/* Times greedy generation of one sequence by a decoder with random weights of the configuration's
 * model (model.vocab 0: 256; at most train.seq_len or model.max_len tokens). Errors: CONFIG, NOMEM,
 * PREEMPTED. */
tl_status tl_bench_generate(tl_ctx *ctx, const tl_config *cfg,
                            const tl_bench_generate_options *options, tl_bench_generate_result *out,
                            tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
