/* .npz: a zip archive of .npy files. */
#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "formats/npy.h"

static const uint64_t MAX_BYTES = (uint64_t)4 << 30;
enum { MAX_ARRAYS = 1 << 20, MAX_NAME = 1024, CHUNK = 1 << 20 };

static tl_status failed(struct archive *a, const char *path, tl_err *err) {
  const char *why = archive_error_string(a);
  return tl_fail(err, TL_IO, "%s: %s", path, why ? why : "cannot be written");
}

static tl_status write_item(struct archive *a, const tl_npz_item *it, const char *path,
                            tl_err *err) {
  char head[TL_NPY_HEADER], name[MAX_NAME];
  size_t n = tl_npy_header(head, it->ndim, it->shape), numbers = 1;
  for (int d = 0; d < it->ndim; d++) numbers *= (size_t)it->shape[d];
  snprintf(name, sizeof name, "%s.npy", it->name);
  struct archive_entry *e = archive_entry_new();
  if (!e) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  archive_entry_set_pathname(e, name);
  archive_entry_set_size(e, (la_int64_t)(n + numbers * sizeof(float)));
  archive_entry_set_filetype(e, AE_IFREG);
  archive_entry_set_perm(e, 0644);
  archive_entry_set_mtime(e, 315532800, 0); /* 1980, the first time that a zip can say */
  bool ok =
      archive_write_header(a, e) == ARCHIVE_OK && archive_write_data(a, head, n) == (la_ssize_t)n;
  const char *data = (const char *)it->data;
  for (size_t left = numbers * sizeof(float), k; ok && left > 0; left -= k, data += k) {
    k = left < CHUNK ? left : CHUNK;
    ok = archive_write_data(a, data, k) == (la_ssize_t)k;
  }
  archive_entry_free(e);
  return ok ? TL_OK : failed(a, path, err);
}

tl_status tl_npz_write(const char *path, const tl_npz_item *item, size_t n, uint64_t *size,
                       tl_err *err) {
  tl_buf tmp = {0};
  tl_buf_printf(&tmp, "%s.tmp-%ld", path, (long)getpid());
  TL_TRY(tl_buf_check(&tmp, err));
  struct archive *a = archive_write_new();
  bool opened = a && archive_write_set_format_zip(a) == ARCHIVE_OK &&
                archive_write_zip_set_compression_store(a) == ARCHIVE_OK &&
                archive_write_open_filename(a, tmp.data) == ARCHIVE_OK;
  tl_status s = opened ? TL_OK : a ? failed(a, path, err) : tl_fail(err, TL_NOMEM, "%s", path);
  for (size_t i = 0; s == TL_OK && i < n; i++) s = write_item(a, &item[i], path, err);
  if (s == TL_OK && archive_write_close(a) != ARCHIVE_OK) s = failed(a, path, err);
  if (s == TL_OK && size) *size = (uint64_t)archive_filter_bytes(a, -1);
  archive_write_free(a);
  if (s == TL_OK)
    s = tl_file_rename(tmp.data, path, err);
  else if (opened)
    unlink(tmp.data);
  tl_buf_free(&tmp);
  return s;
}

/* --- reading -----------------------------------------------------------------------------------
 */

static tl_status read_entry(struct archive *a, const char *path, uint64_t max, tl_buf *b,
                            tl_err *err) {
  tl_buf_clear(b);
  for (;;) {
    if (!tl_buf_reserve(b, CHUNK)) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
    la_ssize_t n = archive_read_data(a, b->data + b->len, CHUNK);
    if (n < 0) return tl_fail(err, TL_DATA, "%s: %s", path, archive_error_string(a));
    if (n == 0) return TL_OK;
    b->len += (size_t)n;
    if (b->len > max)
      return tl_fail(err, TL_DATA, "%s: an array of over %llu bytes", path,
                     (unsigned long long)max);
  }
}

static tl_status one_array(const char *path, const char *name, const tl_buf *b, tl_npy_fn each,
                           void *user, tl_err *err) {
  char what[2 * MAX_NAME];
  tl_npy array;
  snprintf(what, sizeof what, "%.1000s: %.1000s", path, name);
  TL_TRY(tl_npy_parse(*name ? what : path, (const unsigned char *)b->data, b->len, &array, err));
  return each(user, name, &array, err);
}

static tl_status each_entry(struct archive *a, const char *path, uint64_t max, tl_npy_fn each,
                            void *user, tl_err *err) {
  tl_buf b = {0};
  tl_status s = TL_OK;
  int n = 0;
  while (s == TL_OK) {
    struct archive_entry *e = NULL;
    int code = archive_read_next_header(a, &e);
    if (code == ARCHIVE_EOF) break;
    const char *name = code == ARCHIVE_OK ? archive_entry_pathname(e) : NULL;
    size_t len = name ? strlen(name) : 0;
    char stem[MAX_NAME];
    if (!name || len <= 4 || len >= MAX_NAME || strcmp(name + len - 4, ".npy") ||
        ++n > MAX_ARRAYS) {
      s = tl_fail(err, TL_DATA, "%s: entry %d is damaged or not a .npy file", path, n);
      break;
    }
    snprintf(stem, sizeof stem, "%.*s", (int)(len - 4), name);
    s = read_entry(a, path, max, &b, err);
    if (s == TL_OK) s = one_array(path, stem, &b, each, user, err);
  }
  tl_buf_free(&b);
  return s;
}

static bool is_zip(const char *path) {
  unsigned char head[2] = {0};
  FILE *f = fopen(path, "rb");
  size_t n = f ? fread(head, 1, 2, f) : 0;
  if (f) fclose(f);
  return n == 2 && head[0] == 'P' && head[1] == 'K';
}

tl_status tl_npz_each(const char *path, uint64_t max_bytes, tl_npy_fn each, void *user,
                      tl_err *err) {
  uint64_t max = max_bytes ? max_bytes : MAX_BYTES;
  if (!is_zip(path)) {
    tl_buf b = {0};
    tl_status s = tl_file_read(path, (size_t)max, &b, err);
    if (s == TL_OK) s = one_array(path, "", &b, each, user, err);
    tl_buf_free(&b);
    return s;
  }
  struct archive *a = archive_read_new();
  if (!a) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  bool ok = archive_read_support_format_zip_seekable(a) == ARCHIVE_OK &&
            archive_read_open_filename(a, path, 1 << 16) == ARCHIVE_OK;
  tl_status s = ok ? each_entry(a, path, max, each, user, err)
                   : tl_fail(err, TL_DATA, "%s: %s", path, archive_error_string(a));
  archive_read_free(a);
  return s;
}
