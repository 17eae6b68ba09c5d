/* The learning rate over a run, as a factor on the peak. */
#ifndef TL_OPTIM_SCHEDULE_H
#define TL_OPTIM_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum tl_schedule_kind {
  TL_SCHEDULE_COSINE,       /* half a cosine from 1 to min_lr_ratio */
  TL_SCHEDULE_LINEAR,       /* a line from 1 to min_lr_ratio */
  TL_SCHEDULE_WSD,          /* 1, then a 1-sqrt fall over the last decay_fraction of all steps */
  TL_SCHEDULE_CONSTANT,     /* 1 */
  TL_SCHEDULE_INVERSE_SQRT, /* sqrt((warmup + 1) / step), at least min_lr_ratio */
  TL_N_SCHEDULES
} tl_schedule_kind;

typedef struct tl_schedule {
  tl_schedule_kind kind;
  int64_t warmup; /* steps */
  double decay_fraction, min_lr_ratio;
} tl_schedule;

/* "cosine", "linear", "wsd", "constant" or "inverse_sqrt"; false for another name. */
bool tl_schedule_parse(const char *name, tl_schedule_kind *out);

/* The factor in [0, 1] for a step in 1 .. total (later steps: as the last). It rises from
 * 1 / (warmup + 1) at step 1 to 1 at step warmup + 1, where the fall begins; the value at step
 * total is one step short of min_lr_ratio, so that a fall to 0 has no step without effect.
 * total <= 0 (unknown): constant after the warm-up. A function of its arguments alone. */
float tl_schedule_at(const tl_schedule *s, int64_t step, int64_t total);

/* The decay of a teacher's average in step `step` of `total`: from `begin` up to 1, along a cosine
 * (Grill et al., 2020). total == 0: not known, it stays. */
float tl_teacher_decay(double begin, int64_t step, int64_t total);

#endif
