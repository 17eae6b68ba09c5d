/* L-BFGS for smooth convex functions of a few thousand to a million variables (Nocedal and Wright,
 * Numerical Optimization, 2006, algorithms 7.4 and 7.5), with steps halved until the function falls
 * enough (Armijo). Deterministic; all in f64. */
#ifndef TL_EVAL_LBFGS_H
#define TL_EVAL_LBFGS_H

#include <stdbool.h>
#include <stdint.h>
#include "tilth/status.h"

/* The function's value at x[n]; sets gradient[n]. */
typedef double (*tl_smooth_fn)(void *user, const double *x, double *gradient);

typedef struct tl_lbfgs_options {
  int max_steps;
  double gradient; /* done when no element of the gradient is larger, */
  double progress; /* or when a step lowers the value by less than this part of it */
} tl_lbfgs_options;

typedef struct tl_lbfgs_result {
  double value;
  int steps, evaluations;
  bool converged; /* false: max_steps, or no step that lowers the value was found */
} tl_lbfgs_result;

/* From x[n] on; *x is the best point found. NOMEM. */
tl_status tl_lbfgs(tl_smooth_fn fn, void *user, int64_t n, const tl_lbfgs_options *o, double *x,
                   tl_lbfgs_result *out, tl_err *err);

#endif
