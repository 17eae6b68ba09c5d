/* Checkpoints: folders that are either complete and verified, or ignored.
 *
 *   <run>/checkpoints/step-00001000/   the files, and manifest.json with size and XXH3-64 of each
 *   <run>/checkpoints/latest           name of the newest, for people and scripts
 *   <run>/checkpoints/.tmp-*           being written, or left by a crash
 *
 * Writing: every file is written and synced in a temporary folder, the manifest last; the folder is
 * synced, renamed into place, its parent synced. When tl_ckpt_commit returns OK the checkpoint
 * survives a crash or power loss at any later instant. A failure at any point leaves the older
 * checkpoints as they were. The manifest carries its own checksum and a serial number: the newest
 * checkpoint is the one written last, also after a run went back to an earlier step. */
#ifndef TILTH_CHECKPOINT_H
#define TILTH_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/safetensors.h"
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_ckpt_writer tl_ckpt_writer;

/* Begins the checkpoint of `step` in a temporary folder. run_dir must exist. */
tl_status tl_ckpt_begin(const char *run_dir, int64_t step, tl_ckpt_writer **out, tl_err *err);
/* Adds a file; name: a plain file name, each given once. The data is on disk when this returns. */
tl_status tl_ckpt_add_tensors(tl_ckpt_writer *w, const char *name, const tl_st_tensor *t, size_t n,
                              const tl_st_pair *meta, size_t n_meta, tl_err *err);
tl_status tl_ckpt_add_file(tl_ckpt_writer *w, const char *name, const void *data, size_t n,
                           tl_err *err);
/* The evaluation loss at this step (lower is better); without it the checkpoint is never "best". */
void tl_ckpt_set_score(tl_ckpt_writer *w, double score);
/* Makes the checkpoint durable. A checkpoint of the same step is replaced. Frees w in any case. */
tl_status tl_ckpt_commit(tl_ckpt_writer *w, tl_err *err);
/* Removes what was written; frees w. NULL is allowed. */
void tl_ckpt_abort(tl_ckpt_writer *w);

typedef struct tl_ckpt tl_ckpt;

/* Opens one checkpoint folder and verifies every byte of it. Errors: DATA (names the file that is
 * missing, cut or changed), NOINPUT, IO, NOMEM. */
tl_status tl_ckpt_open(const char *dir, tl_ckpt **out, tl_err *err);
/* Opens the newest checkpoint of a run that verifies. `warning` (may be NULL) gets one line about
 * newer ones that did not, or "". NOINPUT when the run has no checkpoint at all; DATA when it has
 * only damaged ones. */
tl_status tl_ckpt_open_latest(const char *run_dir, tl_ckpt **out, char *warning,
                              size_t warning_size, tl_err *err);
void tl_ckpt_close(tl_ckpt *c); /* NULL is allowed */
int64_t tl_ckpt_step(const tl_ckpt *c);
const char *tl_ckpt_dir(const tl_ckpt *c);           /* borrowed */
bool tl_ckpt_score(const tl_ckpt *c, double *score); /* false: it has none */
bool tl_ckpt_has(const tl_ckpt *c, const char *name);
/* The bytes of one of its files; borrowed, valid until tl_ckpt_close. NOINPUT when absent. */
tl_status tl_ckpt_file(tl_ckpt *c, const char *name, const void **data, size_t *n, tl_err *err);
/* Opens one of its safetensors files; the caller closes *out. */
tl_status tl_ckpt_tensors(const tl_ckpt *c, const char *name, tl_st **out, tl_err *err);

typedef struct tl_ckpt_info {
  char name[32]; /* "step-00001000" */
  int64_t step, serial;
  bool readable; /* its manifest is intact; the files are not verified */
  bool has_score;
  double score;
  uint64_t bytes;
} tl_ckpt_info;

/* All checkpoints of a run, oldest first (those without a readable manifest before all others).
 * *list: malloc'ed, freed by the caller; NULL and 0 when there are none. */
tl_status tl_ckpt_list(const char *run_dir, tl_ckpt_info **list, size_t *n, tl_err *err);
/* Removes all but the keep_last newest and the keep_best with the lowest score. Verifies the newest
 * first; if that fails nothing is removed. Damaged ones are left for inspection. */
tl_status tl_ckpt_rotate(const char *run_dir, int keep_last, int keep_best, tl_err *err);
/* Removes what crashes left behind. Only for the process that holds the run's lock. */
tl_status tl_ckpt_clean(const char *run_dir, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
