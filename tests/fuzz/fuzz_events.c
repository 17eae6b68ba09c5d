/* Damaged TensorBoard event files; some with checksums made right again, so that what lies behind
 * them is reached. */
#include "fuzz/file.h"

#include "formats/tensorboard.h"

static tl_status use(void *user, double wall, int64_t step, const char *tag, size_t n, float value,
                     tl_err *err) {
  (void)wall;
  (void)step;
  (void)value;
  (void)err;
  for (size_t i = 0; i < n; i++) *(unsigned *)user += (unsigned char)tag[i];
  return TL_OK;
}

static void put_crc(unsigned char *at, const unsigned char *data, size_t n) {
  uint32_t crc = tl_tb_masked_crc(data, n);
  memcpy(at, &crc, 4);
}

/* Checksums as they should be for the lengths that stand there. */
static void mend(unsigned char *p, size_t len) {
  for (uint64_t n; len >= 16; p += 16 + n, len -= 16 + (size_t)n) {
    memcpy(&n, p, 8);
    if (n > len - 16) return;
    put_crc(p + 8, p, 8);
    put_crc(p + 12 + n, p + 12, (size_t)n);
  }
}

static const char *read_events(const unsigned char *bytes, size_t len) {
  unsigned sum = 0;
  bool torn = false;
  tl_err err = {TL_OK, ""};
  tl_status s = tl_tb_read("input", bytes, len, use, &sum, &torn, &err);
  if (s != TL_OK && s != TL_DATA) return "neither read nor an error of the data";
  return s == TL_OK || err.msg[0] ? NULL : "an error without a message";
}

static const char *try_one(const unsigned char *bytes, size_t len) {
  const char *wrong = read_events(bytes, len);
  unsigned char *copy = malloc(len + 1);
  if (wrong || !copy) return wrong ? wrong : "out of memory";
  memcpy(copy, bytes, len);
  mend(copy, len);
  unsigned char *exact = realloc(copy, len ? len : 1);
  wrong = read_events(exact, len);
  if (!wrong) wrong = fuzz_write(exact, len);
  free(exact);
  return wrong ? wrong : fuzz_describe();
}

int main(void) {
  static const char *const words[] = {"\x2a",          "\x0a",         "\x15",
                                      "brain.Event:2", "\xff\xff\xff", NULL};
  static const fuzz_target target = {"fuzz_events", words, try_one};
  const tl_metric m[] = {{"loss", 1.5}, {"eval/accuracy", 0.25}};
  tl_buf b = {0};
  tl_tb_version(&b, 1e9);
  tl_tb_restart(&b, 1e9, 3);
  for (int i = 0; i < 4; i++) tl_tb_scalars(&b, 1e9 + i, i, m, 2);
  fuzz_begin();
  fuzz_add_seed(b.data, b.len);
  tl_buf_free(&b);
  return fuzz_files(&target);
}
