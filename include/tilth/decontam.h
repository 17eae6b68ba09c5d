/* Decontamination: keeps the test texts of a task out of the text a model is pretrained on.
 *
 * Texts are compared as words: runs of letters and digits in lower case, all else ignored. A test
 * text of fewer than `ngram` words is found where all its words stand in a row; a longer one where
 * any `ngram` words of it do. Each line of a document that such a match touches is cut. */
#ifndef TILTH_DECONTAM_H
#define TILTH_DECONTAM_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TL_DECONTAM_NGRAM = 8, TL_DECONTAM_NGRAM_MAX = 64 };

typedef struct tl_decontam_report {
  uint64_t texts;        /* test texts added (those without a word left out) */
  uint64_t texts_found;  /* of them, seen in at least one document */
  uint64_t docs;         /* documents filtered */
  uint64_t docs_changed; /* lost some lines */
  uint64_t docs_dropped; /* left out: less than a quarter of their words would be left */
  uint64_t lines, lines_cut;
  uint64_t bytes_in, bytes_out;
} tl_decontam_report;

typedef struct tl_decontam tl_decontam;

/* ngram in [2, TL_DECONTAM_NGRAM_MAX], or 0 for TL_DECONTAM_NGRAM. Errors: CONFIG, NOMEM.
 * On success *out is freed by tl_decontam_free. */
tl_status tl_decontam_new(int ngram, tl_decontam **out, tl_err *err);
void tl_decontam_free(tl_decontam *d); /* NULL is allowed */

/* Adds one test text. Errors: NOMEM. */
tl_status tl_decontam_add(tl_decontam *d, const char *text, size_t len, tl_err *err);
/* Adds each line of a file; of a line with tabs (label<TAB>text) what follows the first one.
 * Errors: those of reading, DATA if no line has a word. */
tl_status tl_decontam_add_file(tl_decontam *d, const char *path, tl_err *err);

/* Filters one document. *clean: its lines without the cut ones, owned by `d` and valid until the
 * next call; *clean_len == 0 if the document is dropped. Empty lines are left out, so that a
 * document stays one block in a file whose documents are parted by blank lines. Errors: NOMEM. */
tl_status tl_decontam_filter(tl_decontam *d, const char *text, size_t len, const char **clean,
                             size_t *clean_len, tl_err *err);

/* Filters each input (a file, folder, glob or archive as tl_text_open takes it; blank lines part
 * documents, JSON Lines are read by `text_key`, NULL: "text") into one plain text file in out_dir,
 * made where missing: NAME.txt, after the input's last path component without .txt, .jsonl, .gz and
 * the like. Documents are parted by blank lines. A file that exists is an error (CREATE) unless
 * `overwrite`. Errors: those of reading and writing, DATA (two inputs of the same name). */
tl_status tl_decontam_files(tl_decontam *d, const char *const *inputs, size_t n_inputs,
                            const char *text_key, const char *out_dir, bool overwrite, tl_err *err);

void tl_decontam_get_report(const tl_decontam *d, tl_decontam_report *out);

#ifdef __cplusplus
}
#endif

#endif
