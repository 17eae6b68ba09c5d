#define _GNU_SOURCE
#include "tilth/run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/file.h"
#include "base/rng.h"
#include "formats/json.h"
#include "formats/lines.h"
#include "formats/tensorboard.h"
#include "tilth/checkpoint.h"
#include "tilth/version.h"

struct tl_run {
  char *dir;
  const char *id; /* the last part of dir */
  char *metrics_path, *events_path, *tb_path;
  int lock_fd, metrics_fd, events_fd, tb_fd; /* -1: not open */
  json_t *json;                              /* run.json */
  int64_t restart; /* >= 0: TensorBoard's next file voids steps from here */
};

static double wall_time(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void utc(char *out, size_t size, const char *format) {
  time_t now = time(NULL);
  struct tm tm;
  if (!gmtime_r(&now, &tm) || !strftime(out, size, format, &tm)) *out = 0;
}

static void host_name(char *out, size_t size) {
  if (gethostname(out, size) != 0) snprintf(out, size, "unknown");
  out[size - 1] = 0;
}

static tl_status no_memory(const char *what, tl_err *err) {
  return tl_fail(err, TL_NOMEM, "%s: out of memory for the run folder", what);
}

/* --- run.json ----------------------------------------------------------------------------------
 */

static tl_status save_json(tl_run *r, tl_err *err) {
  char *path = tl_path_join(r->dir, "run.json");
  char *text = json_dumps(r->json, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
  tl_status s = TL_OK;
  if (!path || !text) {
    s = no_memory(r->dir, err);
  } else {
    size_t n = strlen(text);
    text[n] = '\n'; /* in place of the NUL, which is not written */
    s = tl_file_write_atomic(path, text, n + 1, err);
  }
  free(path);
  free(text);
  return s;
}

static tl_status load_json(tl_run *r, tl_err *err) {
  char *path = tl_path_join(r->dir, "run.json");
  if (!path) return no_memory(r->dir, err);
  tl_buf text = {0};
  tl_status s = tl_file_read(path, 16 << 20, &text, err);
  if (s == TL_OK) s = tl_json_object(path, text.data, text.len, &r->json, err);
  tl_buf_free(&text);
  free(path);
  return s;
}

/* A text that is not UTF-8 (an argument may be anything) is stored as far as it is. */
static json_t *text_json(const char *s) {
  json_t *j = json_string(s);
  if (j) return j;
  tl_buf b = {0};
  for (; *s; s++) tl_buf_putc(&b, (unsigned char)*s < 128 ? *s : '?');
  j = json_string(b.data ? b.data : "");
  tl_buf_free(&b);
  return j;
}

/* How and where the program was started: for run.json and for each resume. */
static json_t *invocation(const tl_run_options *o) {
  char host[256], when[32], cwd[4096];
  host_name(host, sizeof host);
  utc(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ");
  json_t *j = json_object(), *argv = json_array();
  int bad = 0;
  for (int i = 0; i < o->argc; i++) bad |= json_array_append_new(argv, text_json(o->argv[i]));
  bad |= json_object_set_new(j, "argv", argv);
  bad |= json_object_set_new(j, "cwd", text_json(getcwd(cwd, sizeof cwd) ? cwd : "?"));
  bad |= json_object_set_new(j, "host", text_json(host));
  bad |= json_object_set_new(j, "pid", json_integer(getpid()));
  bad |= json_object_set_new(j, "version", json_string(tl_version()));
  bad |= json_object_set_new(j, "cpu", json_string(o->cpu ? o->cpu : "unknown"));
  bad |= json_object_set_new(j, "threads", json_integer(o->threads));
  bad |= json_object_set_new(j, "started", json_string(when));
  if (!bad) return j;
  json_decref(j);
  return NULL;
}

tl_status tl_run_set_text(tl_run *r, const char *key, const char *value, tl_err *err) {
  if (json_object_set_new(r->json, key, text_json(value)) != 0) return no_memory(r->dir, err);
  return save_json(r, err);
}

tl_status tl_run_set_number(tl_run *r, const char *key, double value, tl_err *err) {
  json_t *j = isfinite(value) ? json_real(value) : json_null();
  if (json_object_set_new(r->json, key, j) != 0) return no_memory(r->dir, err);
  return save_json(r, err);
}

const char *tl_run_text(const tl_run *r, const char *key) {
  return json_string_value(json_object_get(r->json, key));
}

/* --- creating, locking -------------------------------------------------------------------------
 */

static void run_free(tl_run *r) {
  if (r->metrics_fd >= 0) close(r->metrics_fd);
  if (r->events_fd >= 0) close(r->events_fd);
  if (r->tb_fd >= 0) close(r->tb_fd);
  if (r->lock_fd >= 0) close(r->lock_fd); /* which unlocks */
  json_decref(r->json);
  free(r->metrics_path);
  free(r->events_path);
  free(r->tb_path);
  free(r->dir);
  free(r);
}

/* Takes ownership of dir. */
static tl_run *run_new(char *dir) {
  tl_run *r = calloc(1, sizeof *r);
  if (!r || !dir) {
    free(r);
    free(dir);
    return NULL;
  }
  size_t n = strlen(dir);
  while (n > 1 && dir[n - 1] == '/') dir[--n] = 0;
  r->dir = dir;
  r->id = strrchr(dir, '/') ? strrchr(dir, '/') + 1 : dir;
  r->lock_fd = r->metrics_fd = r->events_fd = r->tb_fd = -1;
  r->restart = -1;
  r->metrics_path = tl_path_join(dir, "metrics.jsonl");
  r->events_path = tl_path_join(dir, "events.jsonl");
  if (r->metrics_path && r->events_path) return r;
  run_free(r);
  return NULL;
}

static tl_status lock(tl_run *r, tl_err *err) {
  char *path = tl_path_join(r->dir, "run.lock"), text[320], host[256];
  if (!path) return no_memory(r->dir, err);
  tl_status s = TL_OK;
  r->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (r->lock_fd < 0) {
    s = tl_fail_errno(err, "%s: cannot open", path);
  } else if (flock(r->lock_fd, LOCK_EX | LOCK_NB) != 0) {
    bool held = errno == EWOULDBLOCK;
    ssize_t n = held ? read(r->lock_fd, text, sizeof text - 1) : -1;
    text[n > 0 ? n : 0] = 0;
    text[strcspn(text, "\n")] = 0;
    s = held ? tl_fail(err, TL_CREATE,
                       "%s: another process works on this run (%s); wait for it or stop it", r->dir,
                       *text ? text : "unknown")
             : tl_fail_errno(err, "%s: cannot lock", path);
  } else {
    host_name(host, sizeof host);
    int n = snprintf(text, sizeof text, "pid %ld on %s\n", (long)getpid(), host);
    if (ftruncate(r->lock_fd, 0) != 0 || pwrite(r->lock_fd, text, (size_t)n, 0) != n)
      s = tl_fail_errno(err, "%s: cannot write", path);
  }
  free(path);
  return s;
}

static tl_status open_lines(tl_run *r, tl_err *err) {
  TL_TRY(tl_lines_open(r->metrics_path, &r->metrics_fd, err));
  return tl_lines_open(r->events_path, &r->events_fd, err);
}

static tl_status write_config(tl_run *r, const char *yaml, tl_err *err) {
  if (!yaml) return TL_OK;
  char *path = tl_path_join(r->dir, "config.yaml");
  if (!path) return no_memory(r->dir, err);
  tl_status s = tl_file_write_atomic(path, yaml, strlen(yaml), err);
  free(path);
  return s;
}

static tl_status make_dir(const tl_run_options *o, char **dir, tl_err *err) {
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  if (!o->name[0] || o->name[0] == '.' || o->name[0] == '-' || strlen(o->name) > 100 ||
      o->name[strspn(o->name, allowed)])
    return tl_fail(err, TL_CONFIG,
                   "run.name '%.120s': expected up to 100 letters, digits, '.', '_' and '-', "
                   "beginning with a letter or digit",
                   o->name);
  TL_TRY(tl_mkdirs(o->dir, err));
  char when[32];
  utc(when, sizeof when, "%Y%m%dT%H%M%SZ");
  uint64_t x = tl_mix64((uint64_t)(wall_time() * 1e6), (uint64_t)getpid());
  for (int attempt = 0; attempt < 100; attempt++, x = tl_mix64(x, 1)) {
    if (asprintf(dir, "%s/%s-%s-%04x", o->dir, o->name, when, (unsigned)(x & 0xffff)) < 0) {
      *dir = NULL;
      return no_memory(o->dir, err);
    }
    if (mkdir(*dir, 0755) == 0) return tl_dir_sync(o->dir, err);
    if (errno != EEXIST || attempt == 99) break;
    free(*dir);
  }
  tl_status s = tl_fail_errno(err, "%s: cannot create the run folder", *dir);
  free(*dir);
  *dir = NULL;
  return s;
}

static tl_status fill_new(tl_run *r, const tl_run_options *o, tl_err *err) {
  TL_TRY(lock(r, err));
  r->json = invocation(o);
  int bad = json_object_set_new(r->json, "id", json_string(r->id));
  bad |= json_object_set_new(r->json, "seed", json_integer((json_int_t)o->seed));
  bad |= json_object_set_new(r->json, "status", json_string("running"));
  if (bad) return no_memory(r->dir, err);
  TL_TRY(write_config(r, o->config_yaml, err));
  TL_TRY(save_json(r, err));
  return open_lines(r, err);
}

tl_status tl_run_create(const tl_run_options *o, tl_run **out, tl_err *err) {
  char *dir = NULL;
  tl_status s = make_dir(o, &dir, err);
  if (s != TL_OK) {
    free(dir);
    return s;
  }
  tl_run *r = run_new(dir);
  if (!r) return no_memory(o->dir, err);
  s = fill_new(r, o, err);
  if (s == TL_OK) {
    *out = r;
  } else {
    tl_remove_tree(r->dir, NULL);
    run_free(r);
  }
  return s;
}

static tl_status remove_leftovers(const char *dir, tl_err *err) {
  tl_names names = {0};
  TL_TRY(tl_dir_list(dir, &names, err));
  tl_status s = TL_OK;
  for (size_t i = 0; s == TL_OK && i < names.n; i++) {
    if (!strstr(names.name[i], ".tmp-")) continue;
    char *path = tl_path_join(dir, names.name[i]);
    s = path ? tl_remove_tree(path, err) : no_memory(dir, err);
    free(path);
  }
  tl_names_free(&names);
  return s;
}

static tl_status reopen(tl_run *r, const tl_run_options *o, tl_err *err) {
  TL_TRY(load_json(r, err)); /* before the lock, which would make a file in any folder */
  TL_TRY(lock(r, err));
  json_decref(r->json);
  r->json = NULL;
  TL_TRY(load_json(r, err)); /* again: its last owner may have written meanwhile */
  TL_TRY(remove_leftovers(r->dir, err));
  TL_TRY(tl_ckpt_clean(r->dir, err));
  json_t *resumes = json_object_get(r->json, "resumes");
  if (!json_is_array(resumes)) {
    resumes = json_array();
    if (json_object_set_new(r->json, "resumes", resumes) != 0) return no_memory(r->dir, err);
  }
  int bad = json_array_append_new(resumes, invocation(o));
  bad |= json_object_set_new(r->json, "status", json_string("running"));
  if (bad) return no_memory(r->dir, err);
  json_object_del(r->json, "exit_code");
  json_object_del(r->json, "message");
  json_object_del(r->json, "ended");
  TL_TRY(write_config(r, o->config_yaml, err));
  TL_TRY(tl_lines_repair(r->metrics_path, -1, err));
  TL_TRY(tl_lines_repair(r->events_path, -1, err));
  TL_TRY(save_json(r, err));
  return open_lines(r, err);
}

tl_status tl_run_resume(const char *run_dir, const tl_run_options *o, tl_run **out, tl_err *err) {
  if (!tl_is_dir(run_dir)) return tl_fail(err, TL_NOINPUT, "%s: no such run folder", run_dir);
  tl_run *r = run_new(strdup(run_dir));
  if (!r) return no_memory(run_dir, err);
  tl_status s = reopen(r, o, err);
  if (s == TL_OK)
    *out = r;
  else
    run_free(r);
  return s;
}

tl_status tl_run_rewind(tl_run *r, int64_t step, tl_err *err) {
  close(r->metrics_fd);
  r->metrics_fd = -1;
  TL_TRY(tl_lines_repair(r->metrics_path, step, err));
  r->restart = step + 1;
  return tl_lines_open(r->metrics_path, &r->metrics_fd, err);
}

tl_status tl_run_close(tl_run *r, tl_status how, const char *message, tl_err *err) {
  if (!r) return TL_OK;
  char when[32];
  utc(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ");
  const char *status = how == TL_OK ? "finished" : how == TL_PREEMPTED ? "preempted" : "failed";
  int bad = json_object_set_new(r->json, "status", json_string(status));
  bad |= json_object_set_new(r->json, "exit_code", json_integer(tl_status_exit_code(how)));
  bad |= json_object_set_new(r->json, "ended", json_string(when));
  if (message) bad |= json_object_set_new(r->json, "message", text_json(message));
  tl_status s = bad ? no_memory(r->dir, err) : save_json(r, err);
  run_free(r);
  return s;
}

const char *tl_run_dir(const tl_run *r) {
  return r->dir;
}

const char *tl_run_id(const tl_run *r) {
  return r->id;
}

/* --- lines -------------------------------------------------------------------------------------
 */

static void put_json(tl_buf *b, json_t *j) {
  char *text = j ? json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
  if (text)
    tl_buf_puts(b, text);
  else
    b->oom = true;
  free(text);
  json_decref(j);
}

/* A new file for each process that writes: an older one may end in a torn record. */
static tl_status open_tensorboard(tl_run *r, tl_err *err) {
  char host[256];
  char *dir = tl_path_join(r->dir, "tb");
  host_name(host, sizeof host);
  for (char *p = host; *p; p++)
    if (*p == '/') *p = '_';
  tl_status s = dir ? tl_mkdirs(dir, err) : no_memory(r->dir, err);
  free(r->tb_path);
  r->tb_path = NULL;
  if (s == TL_OK && asprintf(&r->tb_path, "%s/events.out.tfevents.%010lld.%s.%ld.0", dir,
                             (long long)time(NULL), host, (long)getpid()) < 0) {
    r->tb_path = NULL;
    s = no_memory(r->dir, err);
  }
  free(dir);
  if (s == TL_OK) s = tl_lines_open(r->tb_path, &r->tb_fd, err);
  if (s != TL_OK) return s;
  tl_buf b = {0};
  tl_tb_version(&b, wall_time());
  if (r->restart >= 0) tl_tb_restart(&b, wall_time(), r->restart);
  s = tl_buf_check(&b, err);
  if (s == TL_OK) s = tl_lines_append(r->tb_fd, r->tb_path, b.data, b.len, err);
  tl_buf_free(&b);
  if (s != TL_OK) { /* the next call tries again */
    close(r->tb_fd);
    r->tb_fd = -1;
  }
  return s;
}

tl_status tl_run_metrics(tl_run *r, int64_t step, const tl_metric *m, size_t n, tl_err *err) {
  tl_buf line = {0}, record = {0};
  tl_buf_printf(&line, "{\"step\":%" PRId64, step);
  for (size_t i = 0; i < n; i++) {
    tl_buf_putc(&line, ',');
    put_json(&line, json_string(m[i].name));
    tl_buf_putc(&line, ':');
    if (isfinite(m[i].value))
      tl_buf_put_real(&line, m[i].value);
    else
      tl_buf_puts(&line, "null");
  }
  tl_buf_puts(&line, "}\n");
  tl_tb_scalars(&record, wall_time(), step, m, n);
  tl_status s = tl_buf_check(&line, err);
  if (s == TL_OK) s = tl_buf_check(&record, err);
  if (s == TL_OK) s = tl_lines_append(r->metrics_fd, r->metrics_path, line.data, line.len, err);
  if (s == TL_OK && r->tb_fd < 0) s = open_tensorboard(r, err);
  if (s == TL_OK) s = tl_lines_append(r->tb_fd, r->tb_path, record.data, record.len, err);
  tl_buf_free(&line);
  tl_buf_free(&record);
  return s;
}

tl_status tl_run_event(tl_run *r, int64_t step, const char *event, const char *message,
                       tl_err *err) {
  char when[32];
  utc(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ");
  json_t *j = json_pack("{s:s, s:I, s:o, s:o}", "time", when, "step", (json_int_t)step, "event",
                        text_json(event), "message", text_json(message));
  tl_buf line = {0};
  put_json(&line, j);
  tl_buf_putc(&line, '\n');
  tl_status s = tl_buf_check(&line, err);
  if (s == TL_OK) s = tl_lines_append(r->events_fd, r->events_path, line.data, line.len, err);
  tl_buf_free(&line);
  return s;
}
