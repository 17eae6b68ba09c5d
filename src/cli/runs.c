#include "cli/runs.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static tl_status no_memory(tl_err *err) {
  return tl_fail(err, TL_NOMEM, "out of memory for the list of runs");
}

/* Adds dir if it holds a run.json; *added tells. */
static tl_status add_run(tl_run_list *l, const char *dir, bool *added, tl_err *err) {
  char path[PATH_MAX];
  *added = false;
  if (snprintf(path, sizeof path, "%s/run.json", dir) >= (int)sizeof path) return TL_OK;
  json_t *facts = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
  if (!json_is_object(facts)) {
    json_decref(facts);
    return TL_OK;
  }
  tl_run_entry *p = realloc(l->run, (l->n + 1) * sizeof *p), e = {.facts = facts};
  if (p) l->run = p;
  e.dir = p ? strdup(dir) : NULL;
  if (!e.dir) {
    json_decref(facts);
    return no_memory(err);
  }
  size_t end = strlen(e.dir);
  while (end > 1 && e.dir[end - 1] == '/') e.dir[--end] = 0;
  const char *slash = strrchr(e.dir, '/');
  e.name = slash && slash[1] ? slash + 1 : e.dir;
  l->run[l->n++] = e;
  *added = true;
  return TL_OK;
}

static tl_status add_folder(tl_run_list *l, const char *dir, tl_err *err) {
  struct dirent **entry = NULL;
  int n = scandir(dir, &entry, NULL, alphasort);
  if (n < 0) return tl_fail_errno(err, "%s: cannot read the folder", dir);
  tl_status s = TL_OK;
  for (int i = 0; i < n; i++) {
    char path[PATH_MAX];
    bool added;
    if (s == TL_OK && entry[i]->d_name[0] != '.' &&
        snprintf(path, sizeof path, "%s/%s", dir, entry[i]->d_name) < (int)sizeof path)
      s = add_run(l, path, &added, err);
    free(entry[i]);
  }
  free(entry);
  return s;
}

tl_status tl_run_list_read(const char *const *paths, size_t n_paths, tl_run_list *out,
                           tl_err *err) {
  *out = (tl_run_list){0};
  tl_status s = TL_OK;
  for (size_t i = 0; s == TL_OK && i < n_paths; i++) {
    bool added = false;
    s = add_run(out, paths[i], &added, err);
    if (s == TL_OK && !added) s = add_folder(out, paths[i], err);
  }
  if (s != TL_OK) tl_run_list_free(out);
  return s;
}

void tl_run_list_free(tl_run_list *l) {
  for (size_t i = 0; i < l->n; i++) {
    json_decref(l->run[i].facts);
    free(l->run[i].dir);
  }
  free(l->run);
  *l = (tl_run_list){0};
}

const char *tl_run_status(const tl_run_entry *r) {
  const char *status = json_string_value(json_object_get(r->facts, "status"));
  const json_t *resumes = json_object_get(r->facts, "resumes");
  size_t n = json_array_size(resumes);
  const json_t *last = n ? json_array_get(resumes, n - 1) : r->facts; /* who works at it */
  const char *host = json_string_value(json_object_get(last, "host"));
  json_int_t pid = json_integer_value(json_object_get(last, "pid"));
  char here[256] = "";
  if (!status) return "unknown";
  if (strcmp(status, "running") || !host || pid <= 0) return status;
  gethostname(here, sizeof here - 1);
  if (strcmp(host, here)) return status;
  return kill((pid_t)pid, 0) != 0 && errno == ESRCH ? "died" : status;
}
