/* Reading, listing and rotating checkpoints. Writing: checkpoint_write.c. */
#include "formats/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "formats/manifest.h"

struct tl_ckpt {
  char *dir;
  tl_manifest m;
  struct ckpt_map {
    char *name;
    tl_map map;
  } * maps;
  size_t n_maps;
};

char *tl_ckpt_root(const char *run_dir) {
  return tl_path_join(run_dir, "checkpoints");
}

/* --- opening -----------------------------------------------------------------------------------
 */

tl_status tl_ckpt_open(const char *dir, tl_ckpt **out, tl_err *err) {
  tl_ckpt *c = calloc(1, sizeof *c);
  if (c) c->dir = strdup(dir);
  tl_status s = c && c->dir ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  if (s == TL_OK) s = tl_manifest_read(dir, &c->m, err);
  if (s == TL_OK) s = tl_manifest_verify(&c->m, dir, err);
  if (s == TL_OK)
    *out = c;
  else
    tl_ckpt_close(c);
  return s;
}

static tl_status open_newest(const char *run_dir, const char *root, const tl_ckpt_info *list,
                             size_t n, tl_ckpt **out, char *warning, size_t size, tl_err *err) {
  tl_err first = {0};
  size_t bad = 0;
  for (size_t i = n; i-- > 0;) {
    char *dir = tl_path_join(root, list[i].name);
    if (!dir) return tl_fail(err, TL_NOMEM, "%s: out of memory", root);
    tl_err why = {0};
    tl_status s = tl_ckpt_open(dir, out, &why);
    free(dir);
    if (s == TL_OK && bad)
      snprintf(warning, size, "%zu damaged checkpoint%s passed over, going back to %s: %s", bad,
               bad == 1 ? "" : "s", list[i].name, first.msg);
    if (s == TL_OK || s == TL_NOMEM) return s == TL_OK ? s : tl_fail(err, s, "%s", why.msg);
    if (!bad++) first = why;
  }
  if (bad)
    return tl_fail(err, TL_DATA, "%s: no intact checkpoint; %zu damaged, the newest: %.600s",
                   run_dir, bad, first.msg);
  return tl_fail(err, TL_NOINPUT, "%s: no checkpoint in this run folder", run_dir);
}

/* Damaged manifests have no serial number and are listed first; by step they may be the newest. A
 * person who resumes should hear of those too. */
static void warn_of_unreadable(const tl_ckpt_info *list, size_t n, const tl_ckpt *c, char *warning,
                               size_t size) {
  for (size_t i = 0; i < n && !*warning; i++)
    if (!list[i].readable && list[i].step > tl_ckpt_step(c))
      snprintf(warning, size,
               "%s is damaged (its manifest) and passed over, going back to step %lld",
               list[i].name, (long long)tl_ckpt_step(c));
}

tl_status tl_ckpt_open_latest(const char *run_dir, tl_ckpt **out, char *warning,
                              size_t warning_size, tl_err *err) {
  char unused[1];
  if (!warning || !warning_size) {
    warning = unused;
    warning_size = sizeof unused;
  }
  *warning = 0;
  tl_ckpt_info *list = NULL;
  size_t n = 0;
  char *root = tl_ckpt_root(run_dir);
  tl_status s = root ? tl_ckpt_list(run_dir, &list, &n, err)
                     : tl_fail(err, TL_NOMEM, "%s: out of memory", run_dir);
  if (s == TL_OK) s = open_newest(run_dir, root, list, n, out, warning, warning_size, err);
  if (s == TL_OK) warn_of_unreadable(list, n, *out, warning, warning_size);
  free(list);
  free(root);
  return s;
}

void tl_ckpt_close(tl_ckpt *c) {
  if (!c) return;
  for (size_t i = 0; i < c->n_maps; i++) {
    tl_map_close(&c->maps[i].map);
    free(c->maps[i].name);
  }
  free(c->maps);
  tl_manifest_free(&c->m);
  free(c->dir);
  free(c);
}

int64_t tl_ckpt_step(const tl_ckpt *c) {
  return c->m.step;
}

const char *tl_ckpt_dir(const tl_ckpt *c) {
  return c->dir;
}

bool tl_ckpt_score(const tl_ckpt *c, double *score) {
  if (c->m.has_score) *score = c->m.score;
  return c->m.has_score;
}

bool tl_ckpt_has(const tl_ckpt *c, const char *name) {
  return json_object_get(c->m.files, name) != NULL;
}

static char *file_path(const tl_ckpt *c, const char *name, tl_status *s, tl_err *err) {
  if (!tl_ckpt_has(c, name)) {
    *s = tl_fail(err, TL_NOINPUT, "%s: no file '%.200s' in this checkpoint", c->dir, name);
    return NULL;
  }
  char *path = tl_path_join(c->dir, name);
  *s = path ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", c->dir);
  return path;
}

tl_status tl_ckpt_file(tl_ckpt *c, const char *name, const void **data, size_t *n, tl_err *err) {
  for (size_t i = 0; i < c->n_maps; i++)
    if (!strcmp(c->maps[i].name, name)) {
      *data = c->maps[i].map.data;
      *n = c->maps[i].map.size;
      return TL_OK;
    }
  tl_status s;
  char *path = file_path(c, name, &s, err);
  if (!path) return s;
  struct ckpt_map *maps = realloc(c->maps, (c->n_maps + 1) * sizeof *maps);
  if (maps) c->maps = maps;
  struct ckpt_map m = {.name = strdup(name)};
  s = maps && m.name ? tl_map_open(path, &m.map, err)
                     : tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  free(path);
  if (s != TL_OK) {
    free(m.name);
    return s;
  }
  c->maps[c->n_maps++] = m;
  *data = m.map.data;
  *n = m.map.size;
  return TL_OK;
}

tl_status tl_ckpt_tensors(const tl_ckpt *c, const char *name, tl_st **out, tl_err *err) {
  tl_status s;
  char *path = file_path(c, name, &s, err);
  if (!path) return s;
  s = tl_st_open(path, out, err);
  free(path);
  return s;
}

/* --- listing -----------------------------------------------------------------------------------
 */

/* step-<digits>; -1 for any other name. */
static int64_t step_of_name(const char *name) {
  if (strncmp(name, "step-", 5) || strlen(name) >= sizeof((tl_ckpt_info *)0)->name) return -1;
  size_t n = strspn(name + 5, "0123456789");
  if (n == 0 || n > 18 || name[5 + n]) return -1;
  return strtoll(name + 5, NULL, 10);
}

static int oldest_first(const void *a, const void *b) {
  const tl_ckpt_info *x = a, *y = b;
  if (x->serial != y->serial) return x->serial < y->serial ? -1 : 1;
  return x->step < y->step ? -1 : x->step > y->step;
}

/* A damaged manifest is a fact about the checkpoint; only a lack of memory is an error. */
static tl_status describe(const char *root, tl_ckpt_info *info, tl_err *err) {
  char *dir = tl_path_join(root, info->name);
  tl_manifest m = {0};
  tl_status s = dir ? tl_manifest_read(dir, &m, NULL) : TL_NOMEM;
  free(dir);
  if (s == TL_NOMEM) return tl_fail(err, s, "%s/%s: out of memory", root, info->name);
  if (s != TL_OK) return TL_OK;
  info->readable = m.step == info->step;
  info->serial = info->readable ? m.serial : -1;
  info->has_score = m.has_score;
  info->score = m.score;
  info->bytes = tl_manifest_bytes(&m);
  tl_manifest_free(&m);
  return TL_OK;
}

tl_status tl_ckpt_list(const char *run_dir, tl_ckpt_info **list, size_t *n, tl_err *err) {
  *list = NULL;
  *n = 0;
  char *root = tl_ckpt_root(run_dir);
  if (!root) return tl_fail(err, TL_NOMEM, "%s: out of memory", run_dir);
  tl_names names = {0};
  tl_err why = {0};
  tl_status s = tl_dir_list(root, &names, &why);
  if (s == TL_NOINPUT) s = TL_OK; /* no folder yet: no checkpoints */
  if (s != TL_OK) tl_fail(err, s, "%s", why.msg);
  tl_ckpt_info *out = s == TL_OK && names.n ? calloc(names.n, sizeof *out) : NULL;
  if (s == TL_OK && names.n && !out) s = tl_fail(err, TL_NOMEM, "%s: out of memory", root);
  for (size_t i = 0; s == TL_OK && i < names.n; i++) {
    int64_t step = step_of_name(names.name[i]);
    if (step < 0) continue;
    tl_ckpt_info *info = &out[(*n)++];
    info->step = step;
    info->serial = -1;
    snprintf(info->name, sizeof info->name, "%s", names.name[i]);
    s = describe(root, info, err);
  }
  if (*n) qsort(out, *n, sizeof *out, oldest_first);
  tl_names_free(&names);
  free(root);
  if (s != TL_OK) *n = 0;
  if (*n == 0) {
    free(out);
    out = NULL;
  }
  *list = out;
  return s;
}

/* --- removing ----------------------------------------------------------------------------------
 */

/* A checkpoint leaves its name before its files go, so that it never looks damaged. */
static tl_status remove_one(const char *root, const char *name, tl_err *err) {
  tl_buf from = {0}, to = {0};
  tl_buf_printf(&from, "%s/%s", root, name);
  tl_buf_printf(&to, "%s/.tmp-removed-%s", root, name);
  tl_status s = tl_buf_check(&from, err);
  if (s == TL_OK) s = tl_buf_check(&to, err);
  if (s == TL_OK) s = tl_remove_tree(to.data, err);
  if (s == TL_OK && rename(from.data, to.data) != 0)
    s = tl_fail_errno(err, "%s: cannot rename for removal", from.data);
  if (s == TL_OK) s = tl_remove_tree(to.data, err);
  tl_buf_free(&from);
  tl_buf_free(&to);
  return s;
}

/* Marks the keep_best lowest scores by clearing their names from the list of removals. */
static void spare_best(tl_ckpt_info *list, size_t n, int keep_best, bool *spared) {
  for (int k = 0; k < keep_best; k++) {
    size_t best = n;
    for (size_t i = 0; i < n; i++)
      if (list[i].readable && list[i].has_score && list[i].score == list[i].score &&
          (best == n || list[i].score < list[best].score))
        best = i;
    if (best == n) return;
    spared[best] = true;
    list[best].has_score = false; /* counted; the next round finds the next one */
  }
}

static tl_status rotate(const char *root, tl_ckpt_info *list, size_t n, int keep_last,
                        int keep_best, tl_err *err) {
  char *newest = tl_path_join(root, list[n - 1].name);
  bool *spared = calloc(n, sizeof *spared);
  tl_ckpt *c = NULL;
  tl_status s = newest && spared ? tl_ckpt_open(newest, &c, err)
                                 : tl_fail(err, TL_NOMEM, "%s: out of memory", root);
  tl_ckpt_close(c);
  free(newest);
  if (s == TL_OK) spare_best(list, n, keep_best, spared);
  for (size_t i = 0; s == TL_OK && i + (size_t)keep_last < n; i++)
    if (list[i].readable && !spared[i]) s = remove_one(root, list[i].name, err);
  free(spared);
  return s;
}

tl_status tl_ckpt_rotate(const char *run_dir, int keep_last, int keep_best, tl_err *err) {
  if (keep_last < 1) keep_last = 1;
  tl_ckpt_info *list = NULL;
  size_t n = 0;
  TL_TRY(tl_ckpt_list(run_dir, &list, &n, err));
  tl_status s = TL_OK;
  char *root = n ? tl_ckpt_root(run_dir) : NULL;
  if (n && !root) s = tl_fail(err, TL_NOMEM, "%s: out of memory", run_dir);
  if (n && s == TL_OK) s = rotate(root, list, n, keep_last, keep_best, err);
  free(root);
  free(list);
  return s;
}

tl_status tl_ckpt_clean(const char *run_dir, tl_err *err) {
  char *root = tl_ckpt_root(run_dir);
  if (!root) return tl_fail(err, TL_NOMEM, "%s: out of memory", run_dir);
  tl_names names = {0};
  tl_status s = TL_OK;
  if (tl_is_dir(root)) s = tl_dir_list(root, &names, err);
  for (size_t i = 0; s == TL_OK && i < names.n; i++) {
    if (!strstr(names.name[i], ".tmp-")) continue;
    char *path = tl_path_join(root, names.name[i]);
    s = path ? tl_remove_tree(path, err) : tl_fail(err, TL_NOMEM, "%s: out of memory", root);
    free(path);
  }
  tl_names_free(&names);
  free(root);
  return s;
}
