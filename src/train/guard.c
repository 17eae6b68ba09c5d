#include "train/guard.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOSS_SIGMA_FLOOR 0.01
#define NORM_SIGMA_FLOOR 0.2
enum { RECENT = 8 }; /* steps whose median is the newest level */
#define TINY 1e-8    /* losses and norms below it are all the same */

bool tl_guard_parse(const char *name, tl_guard_policy *out) {
  static const char *const names[] = {"off", "warn", "skip", "rollback", "stop"};
  for (int i = 0; i < TL_N_GUARD_POLICIES; i++)
    if (!strcmp(name, names[i])) {
      *out = (tl_guard_policy)i;
      return true;
    }
  return false;
}

void tl_guard_init(tl_guard *g, const tl_guard_options *options) {
  memset(g, 0, sizeof *g);
  g->opt = *options;
  g->lr_scale = 1;
}

static int ascending(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static double median(float *x, int n) {
  qsort(x, (size_t)n, sizeof *x, ascending);
  return 0.5 * ((double)x[(n - 1) / 2] + (double)x[n / 2]);
}

/* How many robust standard deviations x lies above where the window's trend leads: a line through
 * the medians of the older and the newer half. Without it a loss that falls fast hides spikes. But
 * a fast fall bends, and the line then leads below anything that can be expected: what lies at the
 * level of the newest steps is never a spike. */
static double robust_z(const tl_guard *g, const float *ring, double x, double sigma_floor,
                       double *sigma_out) {
  float value[TL_GUARD_MAX_WINDOW], work[TL_GUARD_MAX_WINDOW];
  int n = g->n, half = n / 2, window = g->opt.window;
  for (int i = 0; i < n; i++) value[i] = ring[(g->at + window - n + i) % window];
  memcpy(work, value, (size_t)n * sizeof *work);
  double older = median(work, half), newer = median(work + half, n - half);
  double slope = (newer - older) / (0.5 * n), middle = 0.5 * (older + newer);
  for (int i = 0; i < n; i++)
    work[i] = (float)((double)value[i] - middle - slope * (i + 0.5 - 0.5 * n));
  double level = median(work, n), expected = middle + level + slope * 0.5 * n;
  for (int i = 0; i < n; i++) work[i] = fabsf(work[i] - (float)level);
  double sigma = 1.4826 * median(work, n); /* of a normal distribution with this deviation */
  *sigma_out = sigma;
  int newest = n < RECENT ? n : RECENT;
  memcpy(work, value + n - newest, (size_t)newest * sizeof *work);
  return (x - fmax(expected, median(work, newest))) / fmax(sigma, sigma_floor);
}

/* Whether the loss has climbed for good. The lowest of many levels lies some 4 of its standard
 * errors under the truth, and the highest as far above; twice that is never chance. */
static bool has_risen(tl_guard *g, double sigma) {
  float work[TL_GUARD_LEVEL];
  int window = g->opt.window, n = g->n < TL_GUARD_LEVEL ? g->n : TL_GUARD_LEVEL;
  for (int i = 0; i < n; i++) work[i] = g->loss[(g->at + window - n + i) % window];
  double level = median(work, n), limit = fmax(g->opt.rise, 20 * sigma / sqrt(n));
  if (!g->has_level || level < g->lowest) g->lowest = level;
  g->has_level = true;
  g->climbed = (level - g->lowest) / limit;
  return g->climbed > 1;
}

static void remember(tl_guard *g, double log_loss, double log_norm) {
  g->loss[g->at] = (float)log_loss;
  g->norm[g->at] = (float)log_norm;
  g->at = (g->at + 1) % g->opt.window;
  if (g->n < g->opt.window) g->n++;
}

static tl_guard_action on_good(tl_guard *g) {
  g->bad_in_a_row = 0;
  if (++g->good_in_a_row >= g->opt.window) g->rollbacks = 0;
  return TL_GUARD_DO_APPLY;
}

static tl_guard_action roll_back(tl_guard *g) {
  g->rollbacks++;
  g->n_rollbacks++;
  g->lr_scale *= g->opt.lr_factor;
  return TL_GUARD_DO_ROLLBACK;
}

static tl_guard_action on_bad(tl_guard *g, bool finite) {
  tl_guard_policy policy = g->opt.policy;
  g->n_bad++;
  if (finite && policy == TL_GUARD_WARN) {
    g->bad_in_a_row = 0;
    return TL_GUARD_DO_WARN;
  }
  g->good_in_a_row = 0;
  g->bad_in_a_row++;
  if (policy == TL_GUARD_STOP || g->bad_in_a_row >= g->opt.max_consecutive) return TL_GUARD_DO_STOP;
  g->n_skipped++;
  if (policy != TL_GUARD_ROLLBACK || g->bad_in_a_row % TL_GUARD_ROLLBACK_AFTER != 0)
    return TL_GUARD_DO_SKIP;
  if (g->rollbacks == TL_GUARD_MAX_ROLLBACKS) return TL_GUARD_DO_STOP;
  return roll_back(g);
}

static tl_guard_action on_rise(tl_guard *g) {
  g->n_bad++;
  if (g->opt.policy == TL_GUARD_STOP || g->rollbacks == TL_GUARD_MAX_ROLLBACKS)
    return TL_GUARD_DO_STOP;
  if (g->opt.policy != TL_GUARD_ROLLBACK) { /* dropping a step does not help; say it once */
    g->has_level = false;
    return TL_GUARD_DO_WARN;
  }
  g->n_skipped++;
  g->good_in_a_row = 0;
  g->n = 0; /* what was learnt of the climb is not normal; climbed stays until there is a level */
  return roll_back(g);
}

bool tl_guard_is_calm(const tl_guard *g) {
  return g->bad_in_a_row == 0 && g->climbed < 0.25;
}

tl_guard_verdict tl_guard_check(tl_guard *g, int64_t step, double loss, double norm) {
  tl_guard_verdict v = {0};
  if (!isfinite(loss) || !isfinite(norm)) {
    v.z_loss = isfinite(loss) ? 0 : INFINITY;
    v.z_norm = isfinite(norm) ? 0 : INFINITY;
    v.action = on_bad(g, false);
    snprintf(v.reason, sizeof v.reason, "step %lld: loss %g, gradient norm %g: not finite",
             (long long)step, loss, norm);
    return v;
  }
  double log_loss = log(fmax(loss, TINY)), log_norm = log(fmax(norm, TINY));
  int needed = g->opt.window < TL_GUARD_MIN_WINDOW ? g->opt.window : TL_GUARD_MIN_WINDOW;
  bool risen = false;
  if (g->n >= needed) {
    double sigma = 0, unused;
    v.z_loss = robust_z(g, g->loss, log_loss, LOSS_SIGMA_FLOOR, &sigma);
    v.z_norm = robust_z(g, g->norm, log_norm, NORM_SIGMA_FLOOR, &unused);
    risen = g->opt.rise > 0 && g->opt.policy != TL_GUARD_OFF && has_risen(g, sigma);
  }
  bool bad = v.z_loss > g->opt.z_threshold || v.z_norm > g->opt.z_threshold;
  if (risen)
    v.action = on_rise(g);
  else
    v.action = bad && g->opt.policy != TL_GUARD_OFF ? on_bad(g, true) : on_good(g);
  /* What was applied is the new normal, warned of or not. */
  if (v.action == TL_GUARD_DO_APPLY || v.action == TL_GUARD_DO_WARN)
    remember(g, log_loss, log_norm);
  if (risen)
    snprintf(v.reason, sizeof v.reason, "step %lld: the loss has climbed and stays up, now %.4g",
             (long long)step, loss);
  else if (v.action != TL_GUARD_DO_APPLY)
    snprintf(v.reason, sizeof v.reason,
             "step %lld: loss %.4g (z %.1f), gradient norm %.4g (z %.1f), limit %.1f",
             (long long)step, loss, v.z_loss, norm, v.z_norm, g->opt.z_threshold);
  return v;
}
