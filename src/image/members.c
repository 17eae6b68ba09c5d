/* Archives and compressed files through libarchive, read only: nothing is ever extracted. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>

#include "base/file.h"
#include "image/build.h"

enum { BLOCK = 1 << 16 };

static tl_status members_fail(const tl_members *m, tl_err *err) {
  int e = archive_errno(m->a);
  const char *why = archive_error_string(m->a);
  if (e == ENOENT || e == EACCES || e == EPERM) {
    errno = e;
    return tl_fail_errno(err, "%s", m->path);
  }
  if (e == ENOMEM) return tl_fail(err, TL_NOMEM, "%s: out of memory", m->path);
  return tl_fail(err, TL_DATA, "%s%s%s: %s", m->path, m->name ? ":" : "", m->name ? m->name : "",
                 why ? why : "damaged");
}

tl_status tl_members_open(tl_members *m, const char *path, tl_members_kind kind, tl_err *err) {
  *m = (tl_members){.a = archive_read_new(), .path = path};
  if (!m->a) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  if (kind != TL_MEMBERS_ZIP) archive_read_support_filter_all(m->a);
  if (kind == TL_MEMBERS_TAR)
    archive_read_support_format_tar(m->a);
  else if (kind == TL_MEMBERS_ZIP)
    archive_read_support_format_zip_seekable(m->a);
  else
    archive_read_support_format_raw(m->a);
  if (tl_is_dir(path)) {
    tl_members_close(m);
    return tl_fail(err, TL_DATA, "%s: a folder; expected a file", path);
  }
  if (archive_read_open_filename(m->a, path, BLOCK) == ARCHIVE_OK) return TL_OK;
  tl_status s = members_fail(m, err);
  tl_members_close(m);
  return s;
}

tl_status tl_members_next(tl_members *m, bool *more, tl_err *err) {
  struct archive_entry *e = NULL;
  for (;;) {
    int rc = archive_read_next_header(m->a, &e);
    *more = rc == ARCHIVE_OK;
    if (rc == ARCHIVE_EOF) return TL_OK;
    if (rc != ARCHIVE_OK) return members_fail(m, err);
    if (archive_entry_filetype(e) != AE_IFREG) continue;
    m->name = archive_entry_pathname(e);
    if (m->name) return TL_OK;
  }
}

tl_status tl_members_read(tl_members *m, size_t max, tl_buf *out, tl_err *err) {
  tl_buf_clear(out);
  for (;;) {
    if (!tl_buf_reserve(out, BLOCK)) return tl_buf_check(out, err);
    la_ssize_t got = archive_read_data(m->a, out->data + out->len, BLOCK);
    if (got < 0) return members_fail(m, err);
    if (got == 0) return TL_OK;
    out->len += (size_t)got;
    if (out->len > max)
      return tl_fail(err, TL_DATA, "%s:%s: more than %zu bytes", m->path, m->name, max);
  }
}

void tl_members_close(tl_members *m) {
  if (m->a) archive_read_free(m->a);
  *m = (tl_members){0};
}

tl_status tl_members_file(const char *path, size_t max, tl_buf *out, tl_err *err) {
  tl_members m;
  bool more = false;
  TL_TRY(tl_members_open(&m, path, TL_MEMBERS_RAW, err));
  tl_status s = tl_members_next(&m, &more, err);
  m.name = NULL; /* libarchive calls it "data" */
  if (s == TL_OK && !more) s = tl_fail(err, TL_DATA, "%s: empty", path);
  m.name = "content";
  if (s == TL_OK) s = tl_members_read(&m, max, out, err);
  tl_members_close(&m);
  return s;
}
