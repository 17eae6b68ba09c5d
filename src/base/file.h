/* Files: whole-file reads, memory maps, durable writes. Every failure names the path. */
#ifndef TL_BASE_FILE_H
#define TL_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "tilth/status.h"

/* Appends the whole file to `out`; DATA if it holds more than `max` bytes. */
tl_status tl_file_read(const char *path, size_t max, tl_buf *out, tl_err *err);

/* A read-only map of a regular file. An empty file gives data == NULL, size == 0. */
typedef struct tl_map {
  const unsigned char *data;
  size_t size;
} tl_map;
tl_status tl_map_open(const char *path, tl_map *out, tl_err *err);
void tl_map_close(tl_map *m);

/* A file being written: write loops over short writes and EINTR, keeps a running XXH3-64 of all
 * bytes, and `tl_out_commit` flushes, syncs and closes. After a failed sync or close the file must
 * be treated as lost (see docs: never sync it again). Zero-initialise; `tl_out_abort` is always
 * safe to call afterwards. */
typedef struct tl_out {
  int fd; /* valid only while open */
  bool open;
  char *path;
  unsigned char *buffer;
  size_t used;
  uint64_t size; /* bytes written so far, buffered ones included */
  void *hash;
} tl_out;
tl_status tl_out_open(const char *path, tl_out *out, tl_err *err); /* creates or truncates */
tl_status tl_out_write(tl_out *o, const void *data, size_t n, tl_err *err);
/* On success *hash (may be NULL) gets the XXH3-64 of the whole file. */
tl_status tl_out_commit(tl_out *o, uint64_t *hash, tl_err *err);
void tl_out_abort(tl_out *o); /* closes and unlinks; no-op when not open */

/* Replaces `path` in one step: temporary file beside it, sync, rename, sync of the folder. */
tl_status tl_file_write_atomic(const char *path, const void *data, size_t n, tl_err *err);
/* Renames a finished temporary file and syncs the folder; the file goes away when that fails. */
tl_status tl_file_rename(const char *tmp, const char *path, tl_err *err);
tl_status tl_dir_sync(const char *dir, tl_err *err);
tl_status tl_mkdirs(const char *dir, tl_err *err); /* with parents; ok if it exists */
/* Removes a folder and everything in it, without following symbolic links. */
tl_status tl_remove_tree(const char *dir, tl_err *err);
bool tl_file_exists(const char *path);
/* Bytes that this process may still write to the file system of a folder; -1: cannot be told. */
double tl_file_room(const char *dir);
bool tl_is_dir(const char *path);
uint64_t tl_hash64(const void *data, size_t n); /* XXH3-64 */

/* Names in `dir` ("." and ".." left out), sorted bytewise. Freed by tl_names_free. */
typedef struct tl_names {
  char **name;
  size_t n;
} tl_names;
tl_status tl_dir_list(const char *dir, tl_names *out, tl_err *err);
void tl_names_free(tl_names *n);

/* "dir/name" in a new string owned by the caller (free); NULL when out of memory. */
char *tl_path_join(const char *dir, const char *name);

double tl_now(void); /* seconds on the monotonic clock */

#endif
