/* Readers of files: each input is written to a temporary file, which is described and read. */
#ifndef TESTS_FUZZ_FILE_H
#define TESTS_FUZZ_FILE_H

#include "fuzz/mutate.h"
#include "tilth/describe.h"

static char fuzz_path[] = "/tmp/tilth-fuzz-XXXXXX";

static inline const char *fuzz_write(const unsigned char *bytes, size_t len) {
  FILE *f = fopen(fuzz_path, "wb");
  if (!f || fwrite(bytes, 1, len, f) != len || fclose(f) != 0) return "cannot write the file";
  return NULL;
}

/* Describes the file as lines and as JSON: both or neither. */
static inline const char *fuzz_describe(void) {
  tl_err err = {TL_OK, ""};
  char *text = NULL;
  tl_status lines = tl_describe_file(fuzz_path, false, &text, &err);
  for (const char *p = text; p && *p; p++)
    if ((unsigned char)*p < 32 && *p != '\n') return "a control character is printed";
  free(text);
  text = NULL;
  tl_status json = tl_describe_file(fuzz_path, true, &text, &err);
  free(text);
  if (lines != json) return "lines and JSON disagree";
  if (lines != TL_OK && lines != TL_DATA) return "neither read nor an error of the data";
  return lines == TL_OK || err.msg[0] ? NULL : "an error without a message";
}

static inline int fuzz_files(const fuzz_target *t) {
  int rc = fuzz_main(t);
  unlink(fuzz_path);
  return rc;
}

/* Makes the file at fuzz_path, to which writers may write seeds. */
static inline void fuzz_begin(void) {
  int fd = mkstemp(fuzz_path);
  if (fd < 0) exit(1);
  close(fd);
}

#endif
