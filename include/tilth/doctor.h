/* What this machine and this build offer, and what is likely to make training slow or fail. */
#ifndef TILTH_DOCTOR_H
#define TILTH_DOCTOR_H

#include <stdbool.h>
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One finding; borrowed during the callback. Findings of a section come in a row. */
typedef struct tl_finding {
  const char *section; /* "cpu", "memory", ... */
  const char *key;     /* "model", "available", ...; "advice" for a problem and its remedy */
  const char *text;    /* for people: "15.3 GiB" */
  bool is_number;
  double number; /* the same for programs: bytes or counts */
} tl_finding;
typedef void (*tl_finding_fn)(void *user, const tl_finding *f);

/* Examines the machine as seen from this process; reads only. n_threads: as for tl_ctx_new.
 * *n_advice: problems found. */
void tl_doctor(int n_threads, tl_finding_fn fn, void *user, int *n_advice);

#ifdef __cplusplus
}
#endif

#endif
