/* The content of a file in memory, checked. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "text/text_utf8.h"
#include "tilth/text.h"
#include "text/task_internal.h"

/* The reader of documents takes off compression, byte order marks and CRs; it is given the file in
 * pieces so that it holds no second copy. */
enum { PIECE = 4 << 20 };

static tl_status append_pieces(tl_text_reader *r, const char *path, tl_buf *out, tl_err *err) {
  const char *piece = NULL;
  size_t n = 0;
  tl_text_stats stats;
  for (;;) {
    TL_TRY(tl_text_next(r, &piece, &n, err));
    if (!piece) return TL_OK;
    tl_text_get_stats(r, &stats);
    if (stats.files > 1)
      return tl_fail(err, TL_DATA, "%s: more than one file; labelled data are read from one", path);
    if (stats.empty) /* the reader leaves out pieces that are blank */
      return tl_fail(err, TL_DATA, "%s: %d MiB of white space in a row", path, PIECE >> 20);
    tl_buf_append(out, piece, n);
    if (out->oom) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  }
}

static unsigned long long line_at(const tl_buf *b, size_t at) {
  unsigned long long line = 1;
  for (const char *p = b->data; (p = memchr(p, '\n', (size_t)(b->data + at - p))); p++) line++;
  return line;
}

static tl_status check(const char *path, bool replace, tl_buf *b, tl_err *err) {
  const char *nul = memchr(b->data, 0, b->len);
  if (nul)
    return tl_fail(err, TL_DATA, "%s:%llu: a NUL byte; expected text in UTF-8", path,
                   line_at(b, (size_t)(nul - b->data)));
  size_t good = tl_utf8_valid_prefix(b->data, b->len);
  if (good == b->len) return TL_OK;
  if (!replace)
    return tl_fail(err, TL_DATA,
                   "%s:%llu: ill-formed UTF-8 (byte 0x%02X); convert the file (iconv -f LATIN1 -t "
                   "UTF-8) or have such bytes replaced",
                   path, line_at(b, good), (unsigned char)b->data[good]);
  tl_buf fixed = {0};
  tl_utf8_replace(b->data, b->len, &fixed);
  tl_buf_free(b);
  *b = fixed;
  return b->oom ? tl_fail(err, TL_NOMEM, "%s: out of memory", path) : TL_OK;
}

tl_status tl_task_load(const char *path, bool replace_bad_utf8, tl_buf *out, uint64_t *hash,
                       tl_err *err) {
  tl_text_reader *r = NULL;
  tl_text_options o = {.unit = TL_UNIT_FILE, .utf8 = TL_UTF8_KEEP, .max_doc_bytes = PIECE};
  TL_TRY(tl_text_open(&path, 1, &o, &r, err));
  tl_status s = append_pieces(r, path, out, err);
  tl_text_close(r);
  TL_TRY(s);
  *hash = tl_hash64(out->data, out->len);
  return check(path, replace_bad_utf8, out, err);
}
