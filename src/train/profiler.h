/* Measures where a step's time goes (tilth/profile.h). All functions take NULL for "off". */
#ifndef TL_TRAIN_PROFILER_H
#define TL_TRAIN_PROFILER_H

#include "base/file.h"
#include "optim/optim.h"
#include "tilth/profile.h"
#include "train/lm.h"

typedef enum tl_phase {
  /* of a step */
  TL_PHASE_BATCHES,
  TL_PHASE_PACKING,
  TL_PHASE_NORM,
  TL_PHASE_OPTIMIZER,
  TL_PHASE_GUARD,
  TL_PHASE_STEP, /* the whole of it */
  /* outside */
  TL_PHASE_EVALUATION,
  TL_PHASE_CHECKPOINTS,
  TL_PHASE_LOGGING,
  TL_N_PHASES
} tl_phase;

typedef struct tl_profiler tl_profiler;

/* For training with this graph and optimizer, which it borrows. warm: the process has done steps
 * before. Errors: NOMEM. */
tl_status tl_profiler_new(tl_graph *g, const tl_optim *optim, bool warm, tl_profiler **out,
                          tl_err *err);
void tl_profiler_free(tl_profiler *p);

static inline double tl_profiler_start(const tl_profiler *p) {
  return p ? tl_now() : 0;
}
/* Adds the time since `start` to a phase. */
void tl_profiler_add(tl_profiler *p, tl_phase phase, double start);
/* Around a run of the graph: its operators are timed, their FLOPs and bytes counted. */
void tl_profiler_begin_run(tl_profiler *p);
/* The cost of the run of g that ended. */
tl_cost tl_profiler_end_run(tl_profiler *p, tl_graph *g);
double tl_profiler_begin_step(tl_profiler *p);
/* Ends a step that began at `start`. */
void tl_profiler_end_step(tl_profiler *p, double start);
/* Measures the machine's limits, for about 0.2 s, and makes the profile; the whole began at
 * `started`. Errors: NOMEM. */
tl_status tl_profiler_report(const tl_profiler *p, double started, tl_profile **out, tl_err *err);

#endif
