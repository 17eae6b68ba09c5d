/* Encodes the documents of a file (each ends with byte 0x1E) for tokenizer_ids.py:
 *   interop_tokenizer [--parse] [--wrap] TOKENIZER CORPUS OUT
 * OUT gets, for each document, the number of ids and the ids (uint32). Prints the seconds of CPU
 * time that encoding took. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tilth/tokenizer.h"

static double cpu_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static char *read_all(const char *path, size_t *len) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  fseek(f, 0, SEEK_END);
  *len = (size_t)ftell(f);
  rewind(f);
  char *p = malloc(*len + 1);
  if (p) *len = fread(p, 1, *len, f);
  fclose(f);
  return p;
}

int main(int argc, char **argv) {
  unsigned flags = 0;
  int i = 1;
  for (; i < argc && argv[i][0] == '-'; i++)
    flags |= strcmp(argv[i], "--parse") == 0 ? TL_ENCODE_PARSE : TL_ENCODE_WRAP;
  if (argc - i != 3) return 64;
  tl_tokenizer *t = NULL;
  tl_err err = {0};
  size_t len = 0, n = 0, cap = 0;
  char *text = read_all(argv[i + 1], &len);
  FILE *out = fopen(argv[i + 2], "wb");
  if (!text || !out) return 66;
  if (tl_tokenizer_load(argv[i], &t, &err) != TL_OK) {
    puts(err.msg);
    return 1;
  }
  uint32_t *ids = NULL, *all = NULL;
  size_t n_all = 0, cap_all = 0;
  double start = cpu_seconds();
  for (char *p = text, *end; p < text + len; p = end + 1) {
    end = memchr(p, 0x1E, (size_t)(text + len - p));
    if (!end) break;
    n = 0;
    if (tl_tokenizer_encode_with(t, flags, p, (size_t)(end - p), &ids, &n, &cap, &err) != TL_OK) {
      puts(err.msg);
      return 1;
    }
    if (n_all + n + 1 > cap_all) {
      cap_all = 2 * (n_all + n + 1);
      all = realloc(all, cap_all * sizeof *all);
      if (!all) return 70;
    }
    all[n_all++] = (uint32_t)n;
    memcpy(all + n_all, ids, n * sizeof *ids);
    n_all += n;
  }
  printf("%.6f\n", cpu_seconds() - start);
  fwrite(all, sizeof *all, n_all, out);
  free(ids);
  free(all);
  free(text);
  tl_tokenizer_free(t);
  return fclose(out) == 0 ? 0 : 74;
}
