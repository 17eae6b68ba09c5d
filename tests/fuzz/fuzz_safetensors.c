/* Damaged safetensors files. */
#include "fuzz/file.h"

#include "tilth/safetensors.h"

static const char *try_one(const unsigned char *bytes, size_t len) {
  const char *wrong = fuzz_write(bytes, len);
  if (wrong) return wrong;
  tl_st *st = NULL;
  tl_err err = {TL_OK, ""};
  tl_status s = tl_st_open(fuzz_path, &st, &err);
  if (s != TL_OK) return s == TL_DATA && err.msg[0] ? NULL : "no error of the data";
  for (size_t i = 0; i < tl_st_count(st); i++) {
    const tl_st_tensor *t = tl_st_at(st, i);
    size_t n = (size_t)tl_st_elements(t);
    float *x = n < 1 << 20 ? malloc(n * sizeof *x + 1) : NULL;
    if (x) tl_st_read_f32(t, x, NULL);
    free(x);
  }
  tl_st_close(st);
  return fuzz_describe();
}

int main(void) {
  static const char *const words[] = {
      "\"dtype\":",   "\"F32\"", "\"F4\"", "\"shape\":",          "\"__metadata__\":{}",
      "data_offsets", "[0,0]",   "{\"",    "9223372036854775807", NULL};
  static const fuzz_target target = {"fuzz_safetensors", words, try_one};
  const float x[12] = {1, 2, 3};
  const tl_st_tensor t[] = {
      {.name = "a", .dtype = TL_ST_F32, .ndim = 2, .shape = {3, 4}, .data = x},
      {.name = "b.weight", .dtype = TL_ST_BF16, .ndim = 1, .shape = {5}, .data = x},
      {.name = "s", .dtype = TL_ST_F64, .ndim = 0, .data = x}};
  fuzz_begin();
  if (tl_st_write(fuzz_path, t, 3, NULL, 0, NULL, NULL, NULL) != TL_OK) return 1;
  fuzz_add_seed_file(fuzz_path);
  return fuzz_files(&target);
}
