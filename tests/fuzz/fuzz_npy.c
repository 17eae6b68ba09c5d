/* Damaged .npy and .npz files. */
#include "fuzz/file.h"

#include "tilth/npy.h"

static tl_status use(void *user, const char *name, const tl_npy *a, tl_err *err) {
  (void)user;
  (void)name;
  float *x = a->n < 1 << 20 ? malloc((size_t)a->n * sizeof *x + 1) : NULL;
  tl_status s = x && a->kind != 'c' ? tl_npy_read_f32(a, x, err) : TL_OK;
  free(x);
  return s;
}

static const char *try_one(const unsigned char *bytes, size_t len) {
  const char *wrong = fuzz_write(bytes, len);
  if (wrong) return wrong;
  tl_err err = {TL_OK, ""};
  tl_status s = tl_npz_each(fuzz_path, 1 << 20, use, NULL, &err);
  if (s != TL_OK && s != TL_DATA) return "neither read nor an error of the data";
  return s == TL_OK || err.msg[0] ? fuzz_describe() : "an error without a message";
}

int main(void) {
  static const char *const words[] = {"'descr'", "'<f4'",  "'>f8'",  "'|O'", "True",
                                      "False",   "(3, 4)", "(5,)",   "()",   "'|b1'",
                                      "PK\3\4",  "PK\1\2", "PK\5\6", ".npy", NULL};
  static const fuzz_target target = {"fuzz_npy", words, try_one};
  const float x[12] = {1, 2, 3};
  const tl_npz_item item[] = {{"a", 2, {3, 4}, x}, {"b", 1, {5}, x}, {"c", 0, {0}, x}};
  fuzz_begin();
  if (tl_npy_write(fuzz_path, x, 3, 4, NULL) != TL_OK) return 1;
  fuzz_add_seed_file(fuzz_path);
  if (tl_npz_write(fuzz_path, item, 3, NULL, NULL) != TL_OK) return 1;
  fuzz_add_seed_file(fuzz_path);
  return fuzz_files(&target);
}
