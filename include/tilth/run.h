/* The folder of a run.
 *
 *   <dir>/<name>-<UTC time>-<4 hex>/
 *     run.json       what was run, where, with which versions; status and exit code
 *     config.yaml    the resolved configuration
 *     metrics.jsonl  one object per logged step
 *     events.jsonl   checkpoints, resumes, spikes, warnings
 *     tb/            the metrics as TensorBoard event files
 *     checkpoints/   see tilth/checkpoint.h
 *     run.lock       held by the process that works on the run
 *
 * Lines are appended whole; after a kill at any instant at most the last one is torn, and it is
 * dropped when the run is resumed. */
#ifndef TILTH_RUN_H
#define TILTH_RUN_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_run tl_run;

typedef struct tl_run_options {
  const char *dir, *name;  /* tl_run_create: the parent folder (made if missing) and the name */
  const char *config_yaml; /* text of config.yaml; for tl_run_resume NULL: leave it as it is */
  int argc;                /* the command line, for the record */
  char *const *argv;
  uint64_t seed;
  int threads;
  const char *cpu; /* kernel level in use */
} tl_run_options;

/* Makes the folder and locks it. Errors: CONFIG (name: letters, digits, '.', '_' and '-' only),
 * CREATE, PERM, IO, NOMEM. */
tl_status tl_run_create(const tl_run_options *o, tl_run **out, tl_err *err);
/* Locks an existing run folder and removes temporary files that a crash left. Errors: CREATE when
 * another process works on it (the message names it), NOINPUT, DATA (run.json), IO, NOMEM. */
tl_status tl_run_resume(const char *run_dir, const tl_run_options *o, tl_run **out, tl_err *err);
/* Goes back to `step`: metrics of later steps and torn lines are dropped. Call it once after
 * tl_run_resume, with the step of the checkpoint, before new metrics. */
tl_status tl_run_rewind(tl_run *r, int64_t step, tl_err *err);
/* Records how the run ended (OK: finished, PREEMPTED: preempted, else failed; message may be NULL),
 * unlocks and frees. NULL is allowed. */
tl_status tl_run_close(tl_run *r, tl_status how, const char *message, tl_err *err);

const char *tl_run_dir(const tl_run *r); /* borrowed */
const char *tl_run_id(const tl_run *r);  /* the folder's name; borrowed */

/* A fact in run.json ("data_fingerprint", ...): written at once. */
tl_status tl_run_set_text(tl_run *r, const char *key, const char *value, tl_err *err);
tl_status tl_run_set_number(tl_run *r, const char *key, double value, tl_err *err);
const char *tl_run_text(const tl_run *r, const char *key); /* NULL if absent; borrowed */

typedef struct tl_metric {
  const char *name; /* "loss", "eval/loss" */
  double value;     /* NaN and infinities become null in metrics.jsonl */
} tl_metric;

/* Appends one line to metrics.jsonl and one event to the TensorBoard file. */
tl_status tl_run_metrics(tl_run *r, int64_t step, const tl_metric *m, size_t n, tl_err *err);
/* Appends {"time", "step", "event", "message"} to events.jsonl. */
tl_status tl_run_event(tl_run *r, int64_t step, const char *event, const char *message,
                       tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
