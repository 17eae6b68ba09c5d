/* What a run will cost, before it runs. */
#ifndef TILTH_PLAN_H
#define TILTH_PLAN_H

#include "tilth/config.h"
#include "tilth/context.h"
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_plan {
  int64_t params, body_params;
  int64_t vocab;
  int64_t tokens_per_step, steps; /* steps: 0 if only run.minutes is set and nothing was measured */
  double tokens;                  /* in all */
  double flops_per_token, flops;  /* forward and backward; in all */
  double weights_bytes, optimizer_bytes, activations_bytes, packed_bytes, total_bytes;
  double checkpoint_bytes;
  double seconds_per_step, seconds,
      tokens_per_s;     /* measured on made-up tokens; evaluation not included */
  double peak_fraction; /* of the measured peak */
} tl_plan;

/* Builds the model and the graph of the configuration, runs a few micro-batches of made-up tokens
 * to measure the speed, and writes nothing. vocab: the tokenizer's size, used when the
 * configuration names no data. Errors: CONFIG, NOMEM. */
tl_status tl_plan_run(tl_ctx *ctx, const tl_config *cfg, int64_t vocab, tl_plan *plan, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
