#include "formats/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/file.h"
#include "formats/json.h"

tl_status tl_lines_open(const char *path, int *fd, tl_err *err) {
  do *fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  while (*fd < 0 && errno == EINTR);
  return *fd < 0 ? tl_fail_errno(err, "%s: cannot open for appending", path) : TL_OK;
}

tl_status tl_lines_append(int fd, const char *path, const void *data, size_t n, tl_err *err) {
  const char *p = data;
  size_t left = n;
  while (left > 0) {
    ssize_t w = write(fd, p, left);
    if (w < 0 && errno == EINTR) continue;
    if (w < 0) {
      tl_status s = tl_fail_errno(err, "%s: cannot append %zu bytes", path, left);
      struct stat st;
      /* Half a line would spoil the next one. If even this fails, repair drops it later. */
      if (left < n && fstat(fd, &st) == 0 && ftruncate(fd, st.st_size - (off_t)(n - left)) != 0)
        errno = 0;
      return s;
    }
    p += w;
    left -= (size_t)w;
  }
  return TL_OK;
}

/* Appends the line to `kept` unless it is damaged or later than max_step. Only NOMEM is an error.
 */
static tl_status keep_line(const char *line, size_t n, int64_t max_step, tl_buf *kept) {
  json_t *j = NULL;
  tl_status s = tl_json_object("", line, n - 1, &j, NULL);
  if (s != TL_OK) return s == TL_NOMEM ? s : TL_OK;
  const json_t *step = json_object_get(j, "step");
  if (max_step < 0 || !json_is_integer(step) || json_integer_value(step) <= max_step)
    tl_buf_append(kept, line, n);
  json_decref(j);
  return TL_OK;
}

static tl_status keep_lines(const char *path, const tl_map *map, int64_t max_step, tl_buf *kept,
                            tl_err *err) {
  const char *p = (const char *)map->data, *end = p + map->size;
  while (p < end) {
    const char *nl = memchr(p, '\n', (size_t)(end - p));
    if (!nl) break; /* torn */
    if (keep_line(p, (size_t)(nl - p) + 1, max_step, kept) != TL_OK)
      return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
    p = nl + 1;
  }
  return tl_buf_check(kept, err);
}

tl_status tl_lines_repair(const char *path, int64_t max_step, tl_err *err) {
  if (!tl_file_exists(path)) return TL_OK;
  tl_map map = {0};
  tl_buf kept = {0};
  TL_TRY(tl_map_open(path, &map, err));
  tl_status s = keep_lines(path, &map, max_step, &kept, err);
  if (s == TL_OK && kept.len != map.size) s = tl_file_write_atomic(path, kept.data, kept.len, err);
  tl_map_close(&map);
  tl_buf_free(&kept);
  return s;
}
