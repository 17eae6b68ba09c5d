#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/file.h"
#include "base/rng.h"
#include "formats/checkpoint.h"
#include "formats/manifest.h"

struct tl_ckpt_writer {
  char *root, *tmp; /* <run>/checkpoints and the temporary folder in it */
  tl_manifest m;
};

static void writer_free(tl_ckpt_writer *w) {
  tl_manifest_free(&w->m);
  free(w->root);
  free(w->tmp);
  free(w);
}

static unsigned random_suffix(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (unsigned)tl_mix64((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec,
                            (uint64_t)getpid());
}

static tl_status next_serial(const char *run_dir, int64_t *serial, tl_err *err) {
  tl_ckpt_info *list = NULL;
  size_t n = 0;
  TL_TRY(tl_ckpt_list(run_dir, &list, &n, err));
  *serial = n && list[n - 1].serial >= 0 ? list[n - 1].serial + 1 : 0;
  free(list);
  return TL_OK;
}

static tl_status make_folders(tl_ckpt_writer *w, const char *run_dir, tl_err *err) {
  if (mkdir(w->root, 0755) == 0)
    TL_TRY(tl_dir_sync(run_dir, err));
  else if (errno != EEXIST)
    return tl_fail_errno(err, "%s: cannot create the folder", w->root);
  if (mkdir(w->tmp, 0755) != 0) return tl_fail_errno(err, "%s: cannot create the folder", w->tmp);
  return TL_OK;
}

tl_status tl_ckpt_begin(const char *run_dir, int64_t step, tl_ckpt_writer **out, tl_err *err) {
  if (step < 0) return tl_fail(err, TL_CONFIG, "a checkpoint of step %lld", (long long)step);
  tl_ckpt_writer *w = calloc(1, sizeof *w);
  if (!w) return tl_fail(err, TL_NOMEM, "%s: out of memory for a checkpoint", run_dir);
  w->m.step = step;
  w->root = tl_ckpt_root(run_dir);
  if (!w->root ||
      asprintf(&w->tmp, "%s/.tmp-%lld-%08x", w->root, (long long)step, random_suffix()) < 0)
    w->tmp = NULL;
  tl_status s = w->tmp ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", run_dir);
  if (s == TL_OK) s = next_serial(run_dir, &w->m.serial, err);
  if (s == TL_OK) s = make_folders(w, run_dir, err);
  if (s == TL_OK)
    *out = w;
  else
    writer_free(w);
  return s;
}

/* *path: malloc'ed path of a new file of the checkpoint. */
static tl_status new_file(tl_ckpt_writer *w, const char *name, char **path, tl_err *err) {
  if (!*name || *name == '.' || strchr(name, '/') || !strcmp(name, TL_MANIFEST_NAME) ||
      json_object_get(w->m.files, name))
    return tl_fail(err, TL_CONFIG, "'%.200s' is not a name for a new file of a checkpoint", name);
  *path = tl_path_join(w->tmp, name);
  return *path ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", name);
}

tl_status tl_ckpt_add_tensors(tl_ckpt_writer *w, const char *name, const tl_st_tensor *t, size_t n,
                              const tl_st_pair *meta, size_t n_meta, tl_err *err) {
  char *path = NULL;
  uint64_t size = 0, hash = 0;
  TL_TRY(new_file(w, name, &path, err));
  tl_status s = tl_st_write(path, t, n, meta, n_meta, &size, &hash, err);
  free(path);
  return s == TL_OK ? tl_manifest_add(&w->m, name, size, hash, err) : s;
}

tl_status tl_ckpt_add_file(tl_ckpt_writer *w, const char *name, const void *data, size_t n,
                           tl_err *err) {
  char *path = NULL;
  uint64_t hash = 0;
  tl_out o = {0};
  TL_TRY(new_file(w, name, &path, err));
  tl_status s = tl_out_open(path, &o, err);
  if (s == TL_OK) s = tl_out_write(&o, data, n, err);
  if (s == TL_OK) s = tl_out_commit(&o, &hash, err);
  tl_out_abort(&o);
  free(path);
  return s == TL_OK ? tl_manifest_add(&w->m, name, n, hash, err) : s;
}

void tl_ckpt_set_score(tl_ckpt_writer *w, double score) {
  w->m.has_score = score - score == 0; /* JSON has no NaN; such a model is not the best one */
  w->m.score = w->m.has_score ? score : 0;
}

/* Swaps with an existing checkpoint in one step where the system can, so that there is a complete
 * one under the name at every instant. */
static tl_status put_in_place(const char *tmp, const char *final, tl_err *err) {
  if (rename(tmp, final) == 0) return TL_OK;
  if (errno != ENOTEMPTY && errno != EEXIST)
    return tl_fail_errno(err, "%s: cannot rename into place", final);
  if (renameat2(AT_FDCWD, tmp, AT_FDCWD, final, RENAME_EXCHANGE) == 0) return TL_OK;
  if (errno != EINVAL && errno != ENOSYS)
    return tl_fail_errno(err, "%s: cannot exchange with the new checkpoint", final);
  TL_TRY(tl_remove_tree(final, err));
  return rename(tmp, final) == 0 ? TL_OK
                                 : tl_fail_errno(err, "%s: cannot rename into place", final);
}

static tl_status commit(tl_ckpt_writer *w, tl_err *err) {
  char name[32];
  snprintf(name, sizeof name, "step-%08lld", (long long)w->m.step);
  TL_TRY(tl_manifest_write(&w->m, w->tmp, err));
  TL_TRY(tl_dir_sync(w->tmp, err));
  char *final = tl_path_join(w->root, name), *latest = tl_path_join(w->root, "latest");
  tl_status s = final && latest ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", w->root);
  if (s == TL_OK) s = put_in_place(w->tmp, final, err);
  if (s == TL_OK) s = tl_dir_sync(w->root, err);
  if (s == TL_OK) {
    strcat(name, "\n");
    s = tl_file_write_atomic(latest, name, strlen(name), err);
  }
  free(final);
  free(latest);
  return s;
}

tl_status tl_ckpt_commit(tl_ckpt_writer *w, tl_err *err) {
  tl_status s = commit(w, err);
  /* After a failure: the temporary files. After an exchange: the checkpoint that was replaced. */
  tl_remove_tree(w->tmp, NULL);
  writer_free(w);
  return s;
}

void tl_ckpt_abort(tl_ckpt_writer *w) {
  if (!w) return;
  tl_remove_tree(w->tmp, NULL);
  writer_free(w);
}
