#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "tilth/decontam.h"
#include "tilth/text.h"

/* "a/b/words.txt.gz" -> "words.txt"; NULL when out of memory. */
static char *output_name(tl_arena *a, const char *input) {
  static const char *const endings[] = {".txt",  ".jsonl", ".ndjson", ".gz",  ".zst",
                                        ".zstd", ".xz",    ".bz2",    ".tar", ".tgz"};
  size_t len = strlen(input);
  while (len > 1 && input[len - 1] == '/') len--;
  size_t start = len;
  while (start > 0 && input[start - 1] != '/') start--;
  char *name = tl_arena_printf(a, "%.*s", (int)(len - start), input + start);
  if (!name) return NULL;
  for (size_t i = 0; i < sizeof endings / sizeof *endings;) {
    size_t n = strlen(name), e = strlen(endings[i]);
    bool ends = n > e && !strcmp(name + n - e, endings[i]);
    if (ends) name[n - e] = 0;
    i = ends ? 0 : i + 1;
  }
  for (char *p = name; *p; p++)
    if (strchr("*?[]", *p)) *p = '_'; /* of a glob */
  return tl_arena_printf(a, "%s.txt", strcmp(name, "-") == 0 ? "stdin" : name);
}

static tl_status filter_stream(tl_decontam *d, tl_text_reader *reader, tl_out *out, tl_err *err) {
  for (;;) {
    const char *text, *clean;
    size_t len, clean_len;
    TL_TRY(tl_text_next(reader, &text, &len, err));
    if (!text) return TL_OK;
    TL_TRY(tl_decontam_filter(d, text, len, &clean, &clean_len, err));
    if (!clean_len) continue;
    TL_TRY(tl_out_write(out, clean, clean_len, err));
    TL_TRY(tl_out_write(out, "\n\n", 2, err));
  }
}

static tl_status filter_input(tl_decontam *d, const char *input, const char *text_key,
                              const char *path, const char *part, tl_err *err) {
  tl_text_options options = {.text_key = text_key};
  tl_text_reader *reader = NULL;
  tl_out out = {0};
  TL_TRY(tl_text_open(&input, 1, &options, &reader, err));
  tl_status s = tl_out_open(part, &out, err);
  if (s == TL_OK) s = filter_stream(d, reader, &out, err);
  if (s == TL_OK) s = tl_out_commit(&out, NULL, err);
  tl_out_abort(&out);
  tl_text_close(reader);
  if (s == TL_OK && rename(part, path) != 0) s = tl_fail_errno(err, "%s: cannot rename", part);
  return s;
}

tl_status tl_decontam_files(tl_decontam *d, const char *const *inputs, size_t n_inputs,
                            const char *text_key, const char *out_dir, bool overwrite,
                            tl_err *err) {
  tl_arena a = {0};
  char **paths = tl_arena_alloc(&a, (n_inputs + 1) * sizeof *paths);
  tl_status s = paths ? tl_mkdirs(out_dir, err) : tl_fail(err, TL_NOMEM, "out of memory");
  /* All names are checked before the first byte is read. */
  for (size_t i = 0; i < n_inputs && s == TL_OK; i++) {
    char *name = output_name(&a, inputs[i]);
    paths[i] = name ? tl_arena_printf(&a, "%s/%s", out_dir, name) : NULL;
    if (!paths[i]) {
      s = tl_fail(err, TL_NOMEM, "out of memory");
    } else if (!overwrite && tl_file_exists(paths[i])) {
      s = tl_fail(err, TL_CREATE, "%s exists already; remove it or ask to overwrite it", paths[i]);
    } else {
      for (size_t k = 0; k < i && s == TL_OK; k++)
        if (!strcmp(paths[k], paths[i]))
          s = tl_fail(err, TL_DATA, "%s and %s would both be written to %s; run them one by one",
                      inputs[k], inputs[i], paths[i]);
    }
  }
  for (size_t i = 0; i < n_inputs && s == TL_OK; i++) {
    char *part = tl_arena_printf(&a, "%s.part", paths[i]);
    s = part ? filter_input(d, inputs[i], text_key, paths[i], part, err)
             : tl_fail(err, TL_NOMEM, "out of memory");
  }
  if (s == TL_OK) s = tl_dir_sync(out_dir, err);
  tl_arena_free(&a);
  return s;
}
