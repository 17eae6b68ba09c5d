/* Files to read, and the bytes in them with compression and archives taken off. */
#ifndef TL_TEXT_INPUT_H
#define TL_TEXT_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/file.h"

/* Appends to `out` the files behind `inputs`: a file or "-" stands for itself, a folder for the
 * regular files below it (hidden ones left out, links to folders not followed), a glob for its
 * matches; folders and globs in bytewise order. Errors: NOINPUT, PERM, IO, NOMEM. */
tl_status tl_input_expand(const char *const *inputs, size_t n_inputs, tl_names *out, tl_err *err);

/* Whether the name ends in `extension` (".jsonl"; case is ignored), perhaps with that of a
 * compression behind it. */
bool tl_input_has_extension(const char *name, const char *extension);

/* The members of the files, one after the other; a plain or merely compressed file is one member.
 * Zero-initialise, set `files`; tl_source_close frees everything, `files` included. */
typedef struct tl_source {
  tl_names files;
  size_t next_file;
  struct archive *archive; /* NULL between files */
  int fd;                  /* valid while archive != NULL */
  const char *path;        /* of the open file, for messages */
  tl_buf name;             /* "corpus.tar.gz:dir/a.txt", printable, for messages */
  bool json_lines;         /* the member's name ends in .jsonl or .ndjson */
  uint64_t produced;       /* bytes that came out of the open file */
} tl_source;

/* Goes to the next member; *more = false after the last. Directories, links and other special
 * members are passed over. */
tl_status tl_source_next(tl_source *s, bool *more, tl_err *err);
/* Reads up to n bytes of the member; *got = 0 at its end. */
tl_status tl_source_read(tl_source *s, void *to, size_t n, size_t *got, tl_err *err);
void tl_source_close(tl_source *s);

#endif
