/* Damaged tokenizer.json. What loads is used: text is encoded, the ids decoded. */
#include "fuzz/mutate.h"

#include "tilth/tokenizer.h"

#define GOLDEN TL_SOURCE_DIR "/tests/golden/tokenizer/"

static char path[] = "/tmp/tilth-fuzz-XXXXXX";

static const char *use(const tl_tokenizer *t) {
  static const char text[] = "The caf\xc3\xa9's  soil\n(dry) \xff\xe2\x96\x81 harvest 2026! <s>";
  uint32_t *ids = NULL;
  size_t n = 0, cap = 0, len;
  const char *wrong = NULL;
  char *back = NULL;
  tl_status s = tl_tokenizer_encode(t, text, sizeof text, &ids, &n, &cap, NULL);
  if (s != TL_OK && s != TL_DATA) wrong = "encoding fails without reason";
  for (size_t i = 0; i < n && !wrong; i++)
    if ((int64_t)ids[i] >= tl_tokenizer_vocab_size(t)) wrong = "an id is out of range";
  if (!wrong && s == TL_OK && tl_tokenizer_decode(t, ids, n, false, &back, &len, NULL) == TL_NOMEM)
    wrong = "decoding runs out of memory";
  free(back);
  free(ids);
  return wrong;
}

static const char *try_one(const unsigned char *bytes, size_t len) {
  FILE *f = fopen(path, "wb");
  if (!f || fwrite(bytes, 1, len, f) != len || fclose(f) != 0) return "cannot write the file";
  tl_tokenizer *t = NULL;
  tl_err err = {TL_OK, ""};
  tl_status s = tl_tokenizer_load(path, &t, &err);
  if (s != TL_OK && s != TL_DATA) return "neither read nor an error of the data";
  if (s != TL_OK) return t || !err.msg[0] ? "an error without a message" : NULL;
  const char *wrong = use(t);
  tl_tokenizer_free(t);
  return wrong;
}

int main(void) {
  static const char *const words[] = {"null",
                                      "true",
                                      "false",
                                      "[]",
                                      "{}",
                                      "\"\"",
                                      "\\u0000",
                                      "\\ud800",
                                      "\xff",
                                      " ",
                                      ":",
                                      ",",
                                      "\"a b\"",
                                      "[\"a\",\"b\"]",
                                      "##",
                                      "\"type\":",
                                      "\"BPE\"",
                                      "\"Unigram\"",
                                      "\"WordPiece\"",
                                      "\"ByteLevel\"",
                                      "\"Sequence\"",
                                      "\"Split\"",
                                      "\"Metaspace\"",
                                      "\"Replace\"",
                                      "\"Regex\":",
                                      "(a+)+$",
                                      "(?=",
                                      "\\\\p{L}",
                                      "\"Strip\"",
                                      "\"NFKC\"",
                                      "\"id\":",
                                      "[[[[",
                                      NULL};
  static const char *const seeds[] = {"bpe",          "wordpiece-uncased", "unigram",
                                      "chain-llama3", "chain-clip",        "chain-t5",
                                      "chain-llama2", "chain-mixed",       "chain-gpt4o"};
  static const fuzz_target target = {"fuzz_tokenizer", words, try_one};
  int fd = mkstemp(path);
  if (fd < 0) return 1;
  close(fd);
  char file[512];
  for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
    snprintf(file, sizeof file, GOLDEN "%s.json", seeds[i]);
    fuzz_add_seed_file(file);
  }
  int rc = fuzz_main(&target);
  unlink(path);
  return rc;
}
