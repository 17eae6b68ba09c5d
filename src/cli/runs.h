/* Folders of runs, as tilth dash and tilth runs read them. */
#ifndef TL_CLI_RUNS_H
#define TL_CLI_RUNS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "tilth/status.h"

typedef struct tl_run_entry {
  char *dir;        /* of the run */
  const char *name; /* the last part of dir */
  json_t *facts;    /* run.json */
} tl_run_entry;

typedef struct tl_run_list {
  tl_run_entry *run; /* sorted by name within each path given */
  size_t n;
} tl_run_list;

/* The runs at `paths`: each a run's folder or one that holds such folders; those without a readable
 * run.json are left out. Errors: NOINPUT (a path that is no folder), NOMEM. Freed by
 * tl_run_list_free. */
tl_status tl_run_list_read(const char *const *paths, size_t n_paths, tl_run_list *out, tl_err *err);
void tl_run_list_free(tl_run_list *l);

/* "finished", "running", ...; "died" when its process is gone. */
const char *tl_run_status(const tl_run_entry *r);

#endif
