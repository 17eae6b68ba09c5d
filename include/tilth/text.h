/* Text in: a stream of documents from files, folders, globs and archives. */
#ifndef TILTH_TEXT_H
#define TILTH_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"

typedef enum tl_utf8_policy {
  TL_UTF8_REPLACE, /* each ill-formed sequence becomes U+FFFD (the default) */
  TL_UTF8_SKIP,    /* documents with ill-formed bytes are left out and counted */
  TL_UTF8_ERROR,   /* the first one is an error that names file and byte offset */
  TL_UTF8_KEEP,    /* bytes pass unchanged (for byte-level tokenizers) */
} tl_utf8_policy;

typedef enum tl_text_unit {
  TL_UNIT_AUTO, /* .jsonl/.ndjson: one object a line; other text: blank lines separate documents */
  TL_UNIT_FILE, /* the whole file is one document */
  TL_UNIT_LINE, /* each line is one document */
  TL_UNIT_PARAGRAPH, /* blank lines separate documents */
  TL_UNIT_JSONL,
} tl_text_unit;

typedef struct tl_text_options {
  const char *text_key; /* JSON Lines: key of the text; NULL: "text" */
  tl_text_unit unit;
  tl_utf8_policy utf8;
  size_t max_doc_bytes; /* longer documents are cut into several at this size; 0: 64 MiB */
} tl_text_options;

typedef struct tl_text_stats {
  uint64_t files, docs, bytes, bad_utf8, skipped, empty, cut;
} tl_text_stats;

typedef struct tl_text_reader tl_text_reader;

/* inputs: paths of files, folders (read recursively, sorted) or globs. Compression (gz, zst, xz,
 * bz2) and tar are recognised by content, not by name. Streaming: memory does not grow with file
 * size; lines may have any length. "-" reads standard input. Binary data (NUL bytes) where text is
 * expected is an error (DATA) that names file and offset. Errors: NOINPUT (no such file, glob
 * without match, nothing but empty files), DATA, IO, NOMEM. */
tl_status tl_text_open(const char *const *inputs, size_t n_inputs, const tl_text_options *options,
                       tl_text_reader **out, tl_err *err);
/* The next document: bytes are valid until the next call; *text = NULL at the end of all input.
 * Matches tl_text_next_fn with the reader as `user`. */
tl_status tl_text_next(void *reader, const char **text, size_t *len, tl_err *err);
void tl_text_get_stats(const tl_text_reader *r, tl_text_stats *out);
void tl_text_close(tl_text_reader *r);

#endif
