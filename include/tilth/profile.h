/* Where the time of training steps goes: one row per kind of operator and pass, and one for each
 * part of a step that is no operator. */
#ifndef TILTH_PROFILE_H
#define TILTH_PROFILE_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/dtype.h"
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All numbers are means over the counted steps, of one whole step (all its micro-batches). */
typedef struct tl_profile_row {
  char name[32];  /* of the operator, or "optimizer", "batches", ... */
  char shape[32]; /* of a linear layer "in x out": these have a row for each; else "" */
  const char
      *pass; /* "forward", "backward", "both" (a loss with its gradients), "" (no operator) */
  double calls, seconds;
  double flops, bytes; /* as the operators count them: multiply-adds are 2, bytes moved at least
                          once; 0: not counted */
  double floor; /* seconds that the machine's peak and memory allow: max(flops / peak, bytes /
                   bandwidth). Data that stays in the caches can be faster. */
} tl_profile_row;

typedef struct tl_profile {
  int64_t steps;         /* counted; the first step of a process, which touches all memory for the
                            first time, only counts when it is the only one */
  double step_seconds;   /* the sum of the rows, the last of which is "other" */
  tl_dtype dt;           /* the compute type, to whose peak the rows are compared */
  double gflops, gbytes; /* measured peak of it, and of memory, per second and with all threads */
  size_t n;
  tl_profile_row *row; /* operators first, each part by falling time */
  /* Seconds in all, outside of the counted steps. The whole is the sum with steps * step_seconds.
   */
  double first_step, evaluation, checkpoints, logging, outside; /* outside: the rest */
  double seconds;                                               /* the whole */
} tl_profile;

/* The profile as a JSON object, to be freed by the caller; NULL when out of memory. */
char *tl_profile_json(const tl_profile *p);
void tl_profile_free(tl_profile *p); /* NULL is allowed */

#ifdef __cplusplus
}
#endif

#endif
