#define _GNU_SOURCE
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

enum { OUT_BUFFER = 1 << 18 };

static int open_retry(const char *path, int flags, mode_t mode) {
  int fd;
  do fd = open(path, flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR);
  return fd;
}

tl_status tl_file_read(const char *path, size_t max, tl_buf *out, tl_err *err) {
  int fd = open_retry(path, O_RDONLY, 0);
  if (fd < 0) return tl_fail_errno(err, "%s: cannot open", path);
  tl_status s = TL_OK;
  size_t start = out->len;
  for (;;) {
    if (!tl_buf_reserve(out, 1 << 16)) {
      s = tl_buf_check(out, err);
      break;
    }
    ssize_t n = read(fd, out->data + out->len, out->cap - out->len - 1);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) s = tl_fail_errno(err, "%s: cannot read at byte %zu", path, out->len - start);
    if (n <= 0) break;
    out->len += (size_t)n;
    if (out->len - start > max) {
      s = tl_fail(err, TL_DATA, "%s: larger than the limit of %zu bytes for this kind of file",
                  path, max);
      break;
    }
  }
  close(fd);
  if (s == TL_OK) out->data[out->len] = 0;
  return s;
}

tl_status tl_map_open(const char *path, tl_map *out, tl_err *err) {
  int fd = open_retry(path, O_RDONLY, 0);
  if (fd < 0) return tl_fail_errno(err, "%s: cannot open", path);
  struct stat st;
  tl_status s = TL_OK;
  if (fstat(fd, &st) != 0)
    s = tl_fail_errno(err, "%s: cannot stat", path);
  else if (!S_ISREG(st.st_mode))
    s = tl_fail(err, TL_DATA, "%s: not a regular file", path);
  if (s == TL_OK) {
    *out = (tl_map){NULL, (size_t)st.st_size};
    if (st.st_size > 0) {
      void *p = mmap(NULL, out->size, PROT_READ, MAP_SHARED, fd, 0);
      if (p == MAP_FAILED)
        s = tl_fail_errno(err, "%s: cannot map", path);
      else
        out->data = p;
    }
  }
  close(fd);
  return s;
}

void tl_map_close(tl_map *m) {
  if (m->data) munmap((void *)(uintptr_t)m->data, m->size);
  *m = (tl_map){0};
}

tl_status tl_out_open(const char *path, tl_out *o, tl_err *err) {
  *o = (tl_out){0};
  o->path = strdup(path);
  o->buffer = malloc(OUT_BUFFER);
  o->hash = XXH3_createState();
  if (!o->path || !o->buffer || !o->hash) {
    tl_out_abort(o);
    return tl_fail(err, TL_NOMEM, "%s: out of memory for a write buffer", path);
  }
  XXH3_64bits_reset(o->hash);
  o->fd = open_retry(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (o->fd < 0) {
    tl_status s = tl_fail_errno(err, "%s: cannot create", path);
    tl_out_abort(o);
    return s;
  }
  o->open = true;
  return TL_OK;
}

static tl_status write_all(tl_out *o, const unsigned char *p, size_t n, tl_err *err) {
  while (n > 0) {
    ssize_t w = write(o->fd, p, n);
    if (w < 0 && errno == EINTR) continue;
    if (w < 0) return tl_fail_errno(err, "%s: cannot write %zu more bytes", o->path, n);
    p += w;
    n -= (size_t)w;
  }
  return TL_OK;
}

static tl_status out_flush(tl_out *o, tl_err *err) {
  size_t n = o->used;
  o->used = 0;
  return write_all(o, o->buffer, n, err);
}

tl_status tl_out_write(tl_out *o, const void *data, size_t n, tl_err *err) {
  XXH3_64bits_update(o->hash, data, n);
  o->size += n;
  if (n > OUT_BUFFER - o->used) TL_TRY(out_flush(o, err));
  if (n >= OUT_BUFFER) return write_all(o, data, n, err);
  if (n) memcpy(o->buffer + o->used, data, n);
  o->used += n;
  return TL_OK;
}

static void out_release(tl_out *o) {
  free(o->path);
  free(o->buffer);
  XXH3_freeState(o->hash);
  *o = (tl_out){0};
}

tl_status tl_out_commit(tl_out *o, uint64_t *hash, tl_err *err) {
  tl_status s = out_flush(o, err);
  if (s == TL_OK && fsync(o->fd) != 0) s = tl_fail_errno(err, "%s: cannot sync to disk", o->path);
  if (s != TL_OK) {
    tl_out_abort(o);
    return s;
  }
  o->open = false;
  if (close(o->fd) != 0) {
    s = tl_fail_errno(err, "%s: cannot close", o->path);
    unlink(o->path);
  }
  if (hash) *hash = XXH3_64bits_digest(o->hash);
  out_release(o);
  return s;
}

void tl_out_abort(tl_out *o) {
  if (o->open) {
    close(o->fd);
    unlink(o->path);
  }
  out_release(o);
}

static char *dir_of(const char *path) {
  const char *slash = strrchr(path, '/');
  if (!slash) return strdup(".");
  return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

tl_status tl_file_rename(const char *tmp, const char *path, tl_err *err) {
  if (rename(tmp, path) != 0) {
    tl_status s = tl_fail_errno(err, "%s: cannot rename into place", path);
    unlink(tmp);
    return s;
  }
  char *dir = dir_of(path);
  tl_status s = dir ? tl_dir_sync(dir, err) : tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  free(dir);
  return s;
}

tl_status tl_file_write_atomic(const char *path, const void *data, size_t n, tl_err *err) {
  char *tmp = NULL;
  if (asprintf(&tmp, "%s.tmp-%ld", path, (long)getpid()) < 0)
    return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  tl_out o = {0};
  tl_status s = tl_out_open(tmp, &o, err);
  if (s == TL_OK) s = tl_out_write(&o, data, n, err);
  if (s == TL_OK) s = tl_out_commit(&o, NULL, err);
  tl_out_abort(&o);
  if (s == TL_OK) s = tl_file_rename(tmp, path, err);
  free(tmp);
  return s;
}

tl_status tl_dir_sync(const char *dir, tl_err *err) {
  int fd = open_retry(dir, O_RDONLY | O_DIRECTORY, 0);
  if (fd < 0) return tl_fail_errno(err, "%s: cannot open the folder", dir);
  tl_status s = TL_OK;
  /* Some file systems cannot sync a folder (EINVAL); there is nothing more to be done there. */
  if (fsync(fd) != 0 && errno != EINVAL) s = tl_fail_errno(err, "%s: cannot sync the folder", dir);
  close(fd);
  return s;
}

tl_status tl_mkdirs(const char *dir, tl_err *err) {
  char *path = strdup(dir);
  if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  tl_status s = TL_OK;
  for (char *p = path + 1; s == TL_OK && p[-1]; p++) {
    if (*p && *p != '/') continue;
    char c = *p;
    *p = 0;
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
      s = tl_fail_errno(err, "%s: cannot create the folder", path);
    *p = c;
  }
  if (s == TL_OK && !tl_is_dir(path)) s = tl_fail(err, TL_CREATE, "%s: exists, not a folder", dir);
  free(path);
  return s;
}

static tl_status remove_at(int parent, const char *name, const char *shown, tl_err *err) {
  if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return TL_OK;
  if (errno != EISDIR && errno != EPERM) return tl_fail_errno(err, "%s: cannot remove", shown);
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR *d = fd < 0 ? NULL : fdopendir(fd);
  if (!d) {
    tl_status s = tl_fail_errno(err, "%s: cannot open the folder", shown);
    if (fd >= 0) close(fd);
    return s;
  }
  tl_status s = TL_OK;
  for (struct dirent *e; s == TL_OK && (e = readdir(d));)
    if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) s = remove_at(fd, e->d_name, shown, err);
  closedir(d);
  if (s == TL_OK && unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
    s = tl_fail_errno(err, "%s: cannot remove", shown);
  return s;
}

tl_status tl_remove_tree(const char *dir, tl_err *err) {
  return remove_at(AT_FDCWD, dir, dir, err);
}

double tl_file_room(const char *dir) {
  struct statvfs v;
  return statvfs(dir, &v) == 0 ? (double)v.f_bavail * (double)v.f_frsize : -1;
}

bool tl_file_exists(const char *path) {
  return access(path, F_OK) == 0;
}

bool tl_is_dir(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

uint64_t tl_hash64(const void *data, size_t n) {
  return XXH3_64bits(data, n);
}

static int by_name(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

tl_status tl_dir_list(const char *dir, tl_names *out, tl_err *err) {
  *out = (tl_names){0};
  DIR *d = opendir(dir);
  if (!d) return tl_fail_errno(err, "%s: cannot list the folder", dir);
  tl_status s = TL_OK;
  size_t cap = 0;
  for (struct dirent *e; (e = readdir(d));) {
    if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
    if (out->n == cap) {
      cap = cap ? 2 * cap : 32;
      char **p = realloc(out->name, cap * sizeof *p);
      if (p)
        out->name = p;
      else
        s = TL_NOMEM;
    }
    if (s == TL_OK && !(out->name[out->n] = strdup(e->d_name))) s = TL_NOMEM;
    if (s != TL_OK) break;
    out->n++;
  }
  closedir(d);
  if (s != TL_OK) {
    tl_names_free(out);
    return tl_fail(err, s, "%s: out of memory for the list of files", dir);
  }
  if (out->n) qsort(out->name, out->n, sizeof *out->name, by_name);
  return TL_OK;
}

void tl_names_free(tl_names *n) {
  for (size_t i = 0; i < n->n; i++) free(n->name[i]);
  free(n->name);
  *n = (tl_names){0};
}

char *tl_path_join(const char *dir, const char *name) {
  size_t n = strlen(dir);
  bool slash = n > 0 && dir[n - 1] == '/';
  char *p = NULL;
  return asprintf(&p, "%s%s%s", dir, slash || n == 0 ? "" : "/", name) < 0 ? NULL : p;
}

double tl_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
