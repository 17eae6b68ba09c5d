/* Text in: a stream of documents from files, folders, globs and archives. */
#ifndef TILTH_TEXT_H
#define TILTH_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What becomes of bytes that are not UTF-8. Whatever the policy, a byte order mark at the start of
 * a file is dropped and CR LF becomes LF. */
typedef enum tl_utf8_policy {
  TL_UTF8_REPLACE, /* each ill-formed sequence becomes U+FFFD (the default) */
  TL_UTF8_SKIP,    /* documents with ill-formed bytes are left out and counted */
  TL_UTF8_ERROR,   /* the first one is an error that names file and byte offset */
  TL_UTF8_KEEP,    /* bytes pass unchanged, for byte-level tokenizers (JSON Lines: as REPLACE) */
} tl_utf8_policy;

typedef enum tl_text_unit {
  TL_UNIT_AUTO, /* files and members named .jsonl/.ndjson (also .jsonl.gz ...): JSONL; others and
                   standard input: PARAGRAPH */
  TL_UNIT_FILE, /* the whole file (or member of an archive) is one document */
  TL_UNIT_LINE, /* each line is one document */
  TL_UNIT_PARAGRAPH, /* blank lines separate documents */
  TL_UNIT_JSONL,     /* one JSON object a line; blank lines are passed over */
} tl_text_unit;

/* "auto", "file", "line", "paragraph" or "jsonl"; false (and *out as it was) for another name. */
bool tl_text_unit_parse(const char *name, tl_text_unit *out);

typedef struct tl_text_options {
  const char *text_key; /* JSON Lines: key of the text; NULL: "text" */
  tl_text_unit unit;
  tl_utf8_policy utf8;
  size_t max_doc_bytes; /* longer documents are cut into several of at most this size, between
                           characters; 0: 64 MiB; at least 4 */
} tl_text_options;

typedef struct tl_text_stats {
  uint64_t files;    /* files and members of archives begun */
  uint64_t docs;     /* documents delivered (each piece of a cut one counts) */
  uint64_t bytes;    /* of text delivered */
  uint64_t bad_utf8; /* documents that held ill-formed bytes (REPLACE, SKIP, KEEP) */
  uint64_t skipped;  /* documents left out by TL_UTF8_SKIP */
  uint64_t empty;    /* documents left out as empty or white space only */
  uint64_t cut;      /* documents cut for their length */
} tl_text_stats;

typedef struct tl_text_reader tl_text_reader;

/* inputs: paths of files, folders (read recursively in bytewise order, hidden files left out) or
 * globs. gz, zst, xz, bz2, lz4, tar and zip are recognised by content, not by name; nothing is
 * written to disk. Streaming: memory does not grow with file size; lines may have any length
 * (JSON Lines: up to 256 MiB). "-" reads standard input. options may be NULL (all defaults).
 * Errors: NOINPUT (no such file, glob without match, folder without files), PERM, IO, NOMEM,
 * CONFIG (options). */
tl_status tl_text_open(const char *const *inputs, size_t n_inputs, const tl_text_options *options,
                       tl_text_reader **out, tl_err *err);
/* The next document: bytes are valid until the next call; *text = NULL at the end of all input.
 * Matches tl_text_next_fn with the reader as `user`. After an error the reader can only be closed.
 * Errors: DATA with file and line or offset (binary data, that is NUL bytes in the first 64 KiB;
 * damaged archives and decompression bombs; ill-formed JSON; a text key that is missing or no
 * string), NOINPUT (the input ended without any document), IO, NOMEM. */
tl_status tl_text_next(void *reader, const char **text, size_t *len, tl_err *err);
void tl_text_get_stats(const tl_text_reader *r, tl_text_stats *out);
void tl_text_close(tl_text_reader *r); /* NULL is allowed */

#ifdef __cplusplus
}
#endif

#endif
