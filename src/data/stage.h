/* A folder that appears complete or not at all: it is filled beside its place and renamed. */
#ifndef TL_DATA_STAGE_H
#define TL_DATA_STAGE_H

#include <stdbool.h>
#include "tilth/status.h"

typedef struct tl_stage {
  char *final;  /* where the folder will be; no slash at its end */
  char *parent; /* of it */
  char *dir;    /* where it is filled; NULL when there is none */
} tl_stage;

/* Makes the temporary folder. CREATE if `path` exists, unless overwrite is set and it is an empty
 * folder or one that holds a file `marker` (nothing else is ever replaced). */
tl_status tl_stage_begin(const char *path, bool overwrite, const char *marker, tl_stage *out,
                         tl_err *err);
/* Puts the folder into its place and syncs the parent; frees the stage when it succeeds. */
tl_status tl_stage_commit(tl_stage *s, tl_err *err);
void tl_stage_abort(tl_stage *s); /* removes the temporary folder; no-op after a commit */

#endif
