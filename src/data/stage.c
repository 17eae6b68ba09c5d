#define _GNU_SOURCE
#include "data/stage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static bool exists(const char *path) {
  struct stat st;
  return lstat(path, &st) == 0;
}

static tl_status check_place(const char *path, bool overwrite, const char *marker, tl_err *err) {
  if (!exists(path)) return TL_OK;
  if (!overwrite)
    return tl_fail(err, TL_CREATE,
                   "%s: exists already; choose another folder, or overwrite it with "
                   "--overwrite",
                   path);
  tl_names names;
  TL_TRY(tl_dir_list(path, &names, err));
  bool ours = names.n == 0;
  for (size_t i = 0; i < names.n; i++) ours = ours || !strcmp(names.name[i], marker);
  tl_names_free(&names);
  if (ours) return TL_OK;
  return tl_fail(err, TL_CREATE,
                 "%s: not replaced, because it is neither empty nor does it hold a %s; "
                 "choose another folder",
                 path, marker);
}

/* Fills s->dir with the name of a fresh folder beside the place. */
static tl_status make_temporary(tl_stage *s, tl_err *err) {
  for (int i = 0; i < 1000; i++) {
    if (asprintf(&s->dir, "%s.tmp-%ld-%d", s->final, (long)getpid(), i) < 0) {
      s->dir = NULL;
      return tl_fail(err, TL_NOMEM, "%s: out of memory", s->final);
    }
    if (mkdir(s->dir, 0777) == 0) return TL_OK;
    bool again = errno == EEXIST;
    tl_status status = tl_fail_errno(err, "%s: cannot create the folder", s->dir);
    free(s->dir);
    s->dir = NULL;
    if (!again) return status;
  }
  return tl_fail(err, TL_CREATE, "%s: 1000 temporary folders lie beside it; remove them", s->final);
}

tl_status tl_stage_begin(const char *path, bool overwrite, const char *marker, tl_stage *out,
                         tl_err *err) {
  *out = (tl_stage){0};
  size_t n = strlen(path);
  while (n > 1 && path[n - 1] == '/') n--;
  out->final = strndup(path, n);
  if (!out->final) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  char *slash = strrchr(out->final, '/');
  out->parent = !slash
                    ? strdup(".")
                    : strndup(out->final, slash == out->final ? 1 : (size_t)(slash - out->final));
  tl_status s = out->parent ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  if (s == TL_OK && n == 0) s = tl_fail(err, TL_CREATE, "the name of the folder to write is empty");
  if (s == TL_OK) s = check_place(out->final, overwrite, marker, err);
  if (s == TL_OK) s = tl_mkdirs(out->parent, err);
  if (s == TL_OK) s = make_temporary(out, err);
  if (s != TL_OK) tl_stage_abort(out);
  return s;
}

/* Moves what lies in the place aside; *old is NULL when nothing does. */
static tl_status move_aside(const tl_stage *s, char **old, tl_err *err) {
  *old = NULL;
  if (!exists(s->final)) return TL_OK;
  if (asprintf(old, "%s.old", s->dir) < 0) {
    *old = NULL;
    return tl_fail(err, TL_NOMEM, "%s: out of memory", s->final);
  }
  return rename(s->final, *old) == 0
             ? TL_OK
             : tl_fail_errno(err, "%s: cannot move the old folder aside", s->final);
}

tl_status tl_stage_commit(tl_stage *s, tl_err *err) {
  char *old;
  tl_status status = tl_dir_sync(s->dir, err);
  if (status != TL_OK) return status;
  status = move_aside(s, &old, err);
  if (status == TL_OK && rename(s->dir, s->final) != 0) {
    status = tl_fail_errno(err, "%s: cannot rename the finished folder into place", s->final);
    if (old && rename(old, s->final) != 0)
      status =
          tl_fail(err, TL_IO, "%s: cannot be renamed; the old folder is now %s", s->final, old);
  }
  if (status == TL_OK) {
    free(s->dir);
    s->dir = NULL;
    status = tl_dir_sync(s->parent, err);
    if (status == TL_OK && old) status = tl_remove_tree(old, err);
  }
  free(old);
  if (status == TL_OK) tl_stage_abort(s);
  return status;
}

void tl_stage_abort(tl_stage *s) {
  if (s->dir) tl_remove_tree(s->dir, NULL);
  free(s->dir);
  free(s->final);
  free(s->parent);
  *s = (tl_stage){0};
}
