/* The guard against exploding gradients: from each step's loss and gradient norm it decides whether
 * the update is applied. A pure state machine; the training loop carries the actions out.
 *
 * A step is bad if its loss or gradient norm is not finite, or if the logarithm of one of them lies
 * more than z_threshold robust standard deviations (median absolute deviation over the last
 * `window` good steps) above the trend of that window and above the newest steps. Logarithms,
 * because near a loss of 0 ordinary batches differ by factors. Deviations below 1 % of the loss and
 * 20 % of the norm count as that much, and only non-finite values are bad before
 * TL_GUARD_MIN_WINDOW steps were seen.
 *
 * A rate that is too high shows in no single step: the loss climbs and stays up. So the level of
 * the loss (the median of the newest TL_GUARD_LEVEL good steps) is compared with the lowest one so
 * far; when it has risen by more than `rise` and than its noise explains, the weights are to blame.
 */
#ifndef TL_TRAIN_GUARD_H
#define TL_TRAIN_GUARD_H

#include <stdbool.h>
#include <stdint.h>

enum {
  TL_GUARD_MIN_WINDOW = 32,
  TL_GUARD_MAX_WINDOW = 1024,
  TL_GUARD_LEVEL = 32,
  TL_GUARD_ROLLBACK_AFTER = 3, /* bad steps in a row: the weights, not the batch, are to blame */
  TL_GUARD_MAX_ROLLBACKS = 5,  /* without `window` good steps in a row after one of them */
};

/* What to do on a bad step. A non-finite step is never applied, whatever the policy. */
typedef enum tl_guard_policy {
  TL_GUARD_OFF,      /* only non-finite steps are bad */
  TL_GUARD_WARN,     /* apply it, but say so */
  TL_GUARD_SKIP,     /* drop the update */
  TL_GUARD_ROLLBACK, /* drop it; go back to the last snapshot when they come in a row */
  TL_GUARD_STOP,     /* stop at once */
  TL_N_GUARD_POLICIES
} tl_guard_policy;

/* "off", "warn", "skip", "rollback" or "stop"; false for another name. */
bool tl_guard_parse(const char *name, tl_guard_policy *out);

typedef enum tl_guard_action {
  TL_GUARD_DO_APPLY,
  TL_GUARD_DO_WARN, /* apply and report */
  TL_GUARD_DO_SKIP,
  TL_GUARD_DO_ROLLBACK, /* restore weights and optimizer of the last snapshot, go on with new data
                         */
  TL_GUARD_DO_STOP      /* do not apply; end with TL_DIVERGED */
} tl_guard_action;

typedef struct tl_guard_options {
  tl_guard_policy policy;
  int window; /* in [8, TL_GUARD_MAX_WINDOW] */
  double z_threshold;
  int max_consecutive; /* bad steps in a row after which to stop */
  double lr_factor;    /* multiplies the learning rate at each rollback */
  double rise;         /* of the logarithm of the loss's level, over the lowest; 0: not looked at */
} tl_guard_options;

/* Plain data, without pointers: a checkpoint may store it as it is. */
typedef struct tl_guard {
  tl_guard_options opt;
  int n, at; /* good steps held, and where the next goes */
  float loss[TL_GUARD_MAX_WINDOW], norm[TL_GUARD_MAX_WINDOW]; /* logarithms */
  int bad_in_a_row, good_in_a_row, rollbacks;
  /* The lowest level, once there is one, and how far the present one has climbed from it to where
   * it counts as risen (1). */
  bool has_level;
  double lowest, climbed;
  int64_t n_bad, n_skipped, n_rollbacks; /* over the whole run */
  /* Product of the lr_factor of all rollbacks; multiply the schedule by it. It stays: the run has
   * shown that the rate was too high for it. */
  double lr_scale;
} tl_guard;

typedef struct tl_guard_verdict {
  tl_guard_action action;
  double z_loss, z_norm; /* 0 while the window is too short; infinite if not finite */
  char reason[160];      /* for the log; empty when the step is good */
} tl_guard_verdict;

void tl_guard_init(tl_guard *g, const tl_guard_options *options);
/* True if the weights are worth a snapshot: no trouble, and the loss near its lowest level. */
bool tl_guard_is_calm(const tl_guard *g);
/* Judges one step before its update. loss: the mean over the step, >= 0; norm: of the gradient,
 * before clipping. */
tl_guard_verdict tl_guard_check(tl_guard *g, int64_t step, double loss, double norm);

#endif
