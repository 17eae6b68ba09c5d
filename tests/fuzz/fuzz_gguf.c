/* Damaged GGUF files. */
#include "fuzz/file.h"

#include "tilth/gguf.h"

static const char *try_one(const unsigned char *bytes, size_t len) {
  const char *wrong = fuzz_write(bytes, len);
  if (wrong) return wrong;
  tl_gguf g;
  tl_err err = {TL_OK, ""};
  tl_status s = tl_gguf_open(fuzz_path, &g, &err);
  if (s != TL_OK) return s == TL_DATA && err.msg[0] ? NULL : "no error of the data";
  for (size_t i = 0; i < g.n_tensors; i++) {
    const tl_gguf_tensor *t = &g.tensor[i];
    size_t n = 1;
    for (int d = 0; d < t->ndim; d++) n *= (size_t)t->shape[d];
    float *x = n < 1 << 20 ? malloc(n * sizeof *x + 1) : NULL;
    if (x) tl_gguf_read_f32(t, x, NULL);
    free(x);
  }
  tl_gguf_close(&g);
  return fuzz_describe();
}

int main(void) {
  static const char *const words[] = {"GGUF", "general.alignment", "general.architecture",
                                      "blk.0.attn_q.weight", NULL};
  static const fuzz_target target = {"fuzz_gguf", words, try_one};
  static const char *const strings[] = {"a",
                                        "\xc4\xa0"
                                        "b",
                                        "\x1b[31m"};
  const int64_t shape[] = {2, 32};
  float x[64];
  for (int i = 0; i < 64; i++) x[i] = (float)i - 20;
  fuzz_begin();
  tl_gguf_writer *w = tl_gguf_writer_new();
  if (!w) return 1;
  tl_gguf_put_string(w, "general.architecture", "gpt2");
  tl_gguf_put_u32(w, "general.alignment", 32);
  tl_gguf_put_f32(w, "eps", 1e-5f);
  tl_gguf_put_bool(w, "add_bos", true);
  tl_gguf_put_strings(w, "tokens", strings, 3);
  tl_gguf_put_i32s(w, "kinds", (const int32_t[]){1, 2, 3}, 3);
  tl_gguf_add(w, "a.weight", TL_GGML_F32, 2, shape, x, NULL);
  tl_gguf_add(w, "b.weight", TL_GGML_Q8_0, 2, shape, x, NULL);
  tl_gguf_add(w, "c.bias", TL_GGML_F16, 1, shape, x, NULL);
  tl_gguf_add(w, "d.weight", TL_GGML_BF16, 2, shape, x, NULL);
  if (tl_gguf_write(w, fuzz_path, NULL, NULL) != TL_OK) return 1;
  tl_gguf_writer_free(w);
  fuzz_add_seed_file(fuzz_path);
  return fuzz_files(&target);
}
