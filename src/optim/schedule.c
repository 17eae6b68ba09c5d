#include "optim/schedule.h"

#include <math.h>
#include <string.h>

bool tl_schedule_parse(const char *name, tl_schedule_kind *out) {
  static const char *const names[] = {"cosine", "linear", "wsd", "constant", "inverse_sqrt"};
  for (int i = 0; i < TL_N_SCHEDULES; i++)
    if (!strcmp(name, names[i])) {
      *out = (tl_schedule_kind)i;
      return true;
    }
  return false;
}

/* Part of the fall that is done at t in [0, 1]. */
static double fallen(tl_schedule_kind kind, double t) {
  switch (kind) {
  case TL_SCHEDULE_COSINE:
    return 0.5 * (1 - cos(3.14159265358979323846 * t));
  case TL_SCHEDULE_LINEAR:
    return t;
  case TL_SCHEDULE_WSD:
    return sqrt(t);
  default:
    return 0;
  }
}

float tl_schedule_at(const tl_schedule *s, int64_t step, int64_t total) {
  if (step < 1) step = 1;
  if (total > 0 && step > total) step = total;
  if (step <= s->warmup) return (float)((double)step / ((double)s->warmup + 1));
  if (s->kind == TL_SCHEDULE_INVERSE_SQRT)
    return (float)fmax(s->min_lr_ratio, sqrt(((double)s->warmup + 1) / (double)step));
  if (total <= 0) return 1;
  int64_t fall = total - s->warmup; /* steps; at least 1 here */
  if (s->kind == TL_SCHEDULE_WSD) {
    double part = ceil(s->decay_fraction * (double)total);
    if (part < (double)fall) fall = (int64_t)part;
  }
  int64_t into = step - 1 - (total - fall);
  if (into <= 0 || fall <= 0) return 1;
  double done = fallen(s->kind, (double)into / (double)fall);
  return (float)(1 - (1 - s->min_lr_ratio) * done);
}

float tl_teacher_decay(double begin, int64_t step, int64_t total) {
  double part = total > 0 ? fmin(1, (double)(step - 1) / (double)total) : 0;
  return (float)(begin + (1 - begin) * fallen(TL_SCHEDULE_COSINE, part));
}
