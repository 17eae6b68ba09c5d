/* Damaged GGUF files, read as such and as models. */
#include "fuzz/file.h"

#include "base/file.h"
#include "tilth/convert.h"
#include "tilth/gguf.h"

static const char *import(void) {
  char dir[512];
  tl_err err = {TL_OK, ""};
  snprintf(dir, sizeof dir, "%s.model", fuzz_path);
  tl_status s = tl_import_gguf(fuzz_path, dir, NULL, NULL, &err);
  if (s == TL_OK) return tl_remove_tree(dir, &err) == TL_OK ? fuzz_describe() : "no folder";
  if (tl_file_exists(dir)) return "a failed import leaves a folder";
  return err.msg[0] ? fuzz_describe() : "no message";
}

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
  return import();
}

typedef struct tensor {
  const char *name;
  int64_t rows, cols; /* cols 0: one axis */
} tensor;

static void add(tl_gguf_writer *w, const tensor *t, size_t n) {
  static const float zeros[64 * 64];
  for (size_t i = 0; i < n; i++) {
    const int64_t shape[] = {t[i].rows, t[i].cols};
    tl_gguf_add(w, t[i].name, TL_GGML_F32, shape[1] ? 2 : 1, shape, zeros, NULL);
  }
}

static bool finish(tl_gguf_writer *w) {
  bool ok = tl_gguf_write(w, fuzz_path, NULL, NULL) == TL_OK;
  tl_gguf_writer_free(w);
  return ok && !import();
}

/* The kind of model, and its sizes: those of the tensors below. */
static void put_sizes(tl_gguf_writer *w, const char *arch) {
  static const struct {
    const char *name;
    uint32_t value;
  } size[] = {{"embedding_length", 4},
              {"block_count", 1},
              {"context_length", 8},
              {"feed_forward_length", 8},
              {"attention.head_count", 2}};
  char key[64];
  tl_gguf_put_string(w, "general.architecture", arch);
  for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
    snprintf(key, sizeof key, "%s.%s", arch, size[i].name);
    tl_gguf_put_u32(w, key, size[i].value);
  }
}

/* A gpt2 model of one block with a tokenizer of three tokens: bytes that it lacks are an error. */
static bool write_model(void) {
  static const tensor tensors[] = {
      {"token_embd.weight", 3, 4},        {"position_embd.weight", 8, 4},
      {"blk.0.attn_norm.weight", 4, 0},   {"blk.0.attn_norm.bias", 4, 0},
      {"blk.0.attn_qkv.weight", 12, 4},   {"blk.0.attn_qkv.bias", 12, 0},
      {"blk.0.attn_output.weight", 4, 4}, {"blk.0.attn_output.bias", 4, 0},
      {"blk.0.ffn_norm.weight", 4, 0},    {"blk.0.ffn_norm.bias", 4, 0},
      {"blk.0.ffn_up.weight", 8, 4},      {"blk.0.ffn_up.bias", 8, 0},
      {"blk.0.ffn_down.weight", 4, 8},    {"blk.0.ffn_down.bias", 4, 0},
      {"output_norm.weight", 4, 0},       {"output_norm.bias", 4, 0}};
  static const char *const tokens[] = {"a", "b", "ab"}, *const merges[] = {"a b"};
  tl_gguf_writer *w = tl_gguf_writer_new();
  if (!w) return false;
  put_sizes(w, "gpt2");
  tl_gguf_put_f32(w, "gpt2.attention.layer_norm_epsilon", 1e-5f);
  tl_gguf_put_string(w, "tokenizer.ggml.model", "gpt2");
  tl_gguf_put_string(w, "tokenizer.ggml.pre", "qwen2");
  tl_gguf_put_strings(w, "tokenizer.ggml.tokens", tokens, 3);
  tl_gguf_put_i32s(w, "tokenizer.ggml.token_type", (const int32_t[]){1, 1, 1}, 3);
  tl_gguf_put_strings(w, "tokenizer.ggml.merges", merges, 1);
  tl_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true);
  add(w, tensors, sizeof tensors / sizeof *tensors);
  return finish(w);
}

enum { BYTES = 256, N_WORDS = 10, N_TOKENS = BYTES + N_WORDS };

/* The tokenizer's keys of kind "llama". */
static void put_llama_tokens(tl_gguf_writer *w) {
  static const char *const words[N_WORDS] = {"<unk>",
                                             "<s>",
                                             "</s>",
                                             "\xe2\x96\x81",
                                             "a",
                                             "b",
                                             "ab",
                                             "\xe2\x96\x81"
                                             "ab",
                                             "ba",
                                             "aba"};
  static const int32_t word_kind[N_WORDS] = {2, 3, 3, 1, 1, 1, 1, 1, 1, 4};
  char name[BYTES][8];
  const char *token[N_TOKENS];
  int32_t kind[N_TOKENS];
  float score[N_TOKENS] = {0};
  for (int i = 0; i < N_WORDS; i++) {
    token[i] = words[i];
    kind[i] = word_kind[i];
    score[i] = -(float)i;
  }
  for (int b = 0; b < BYTES; b++) {
    snprintf(name[b], sizeof name[b], "<0x%02X>", (unsigned)b);
    token[N_WORDS + b] = name[b];
    kind[N_WORDS + b] = 6;
  }
  tl_gguf_put_string(w, "tokenizer.ggml.model", "llama");
  tl_gguf_put_strings(w, "tokenizer.ggml.tokens", token, N_TOKENS);
  tl_gguf_put_f32s(w, "tokenizer.ggml.scores", score, N_TOKENS);
  tl_gguf_put_i32s(w, "tokenizer.ggml.token_type", kind, N_TOKENS);
  tl_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1);
  tl_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", true);
  tl_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", true);
}

/* A llama model of one block whose merges follow from scores. */
static bool write_llama(void) {
  static const tensor tensors[] = {
      {"token_embd.weight", N_TOKENS, 4}, {"blk.0.attn_norm.weight", 4, 0},
      {"blk.0.attn_q.weight", 4, 4},      {"blk.0.attn_k.weight", 2, 4},
      {"blk.0.attn_v.weight", 2, 4},      {"blk.0.attn_output.weight", 4, 4},
      {"blk.0.ffn_norm.weight", 4, 0},    {"blk.0.ffn_gate.weight", 8, 4},
      {"blk.0.ffn_up.weight", 8, 4},      {"blk.0.ffn_down.weight", 4, 8},
      {"output_norm.weight", 4, 0}};
  tl_gguf_writer *w = tl_gguf_writer_new();
  if (!w) return false;
  put_sizes(w, "llama");
  tl_gguf_put_u32(w, "llama.attention.head_count_kv", 1);
  tl_gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
  put_llama_tokens(w);
  add(w, tensors, sizeof tensors / sizeof *tensors);
  return finish(w);
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
  fuzz_add_seed_file(TL_SOURCE_DIR "/tests/golden/gguf/blocks.gguf");
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
  if (!write_model()) return 1;
  fuzz_add_seed_file(fuzz_path);
  if (!write_llama()) return 1;
  fuzz_add_seed_file(fuzz_path);
  return fuzz_files(&target);
}
