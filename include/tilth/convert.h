/* Models and token shards in the forms of other programs (docs/interop.md). */
#ifndef TILTH_CONVERT_H
#define TILTH_CONVERT_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/context.h"
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_convert_options { /* all zero: the defaults */
  const char *dtype; /* of matrices: "f32", "f16", "bf16"; GGUF also "q8_0"; NULL: as they are */
  uint64_t max_shard_bytes; /* of one safetensors file; 0: all in one */
  bool overwrite;           /* replace what is at the place */
} tl_convert_options;

typedef struct tl_convert_report {
  int64_t tensors, renamed; /* renamed: from an older form */
  int64_t dropped;          /* buffers that are computed, such as position ids */
  int64_t unused;           /* kept, but this program's model has no use for them */
  uint64_t bytes;           /* of the weights written */
  uint64_t files;
} tl_convert_report;

/* from: a folder in Hugging Face's form, or a run's model; out_dir: a new folder. Every tensor's
 * shape is checked against config.json. Tensors get their full names of today, config.json the keys
 * of old and new readers; keys that this program does not know, and other files beside the weights
 * (the tokenizer's among them) are carried over as they are. report may be NULL. Errors: those of
 * tl_model_load; CREATE (out_dir exists), CONFIG (unknown dtype), IO. */
tl_status tl_convert_hf(const char *from, const char *out_dir, const tl_convert_options *o,
                        tl_convert_report *report, tl_err *err);
/* Writes a GGUF file of a gpt2 or llama model (with model.qk_norm: as qwen3) with its BPE tokenizer.
 * dtype NULL: f32. CONFIG where llama.cpp would compute something else. */
tl_status tl_export_gguf(const char *model_dir, const char *path, const tl_convert_options *o,
                         tl_convert_report *report, tl_err *err);
/* The way back: out_dir gets config.json, model.safetensors (f32) and the tokenizer of a GGUF file
 * of architecture gpt2, llama or qwen3 whose tensors are of tl_ggml_type. Errors: DATA (what
 * is damaged or not supported; names the key or tensor), CREATE (out_dir exists), CONFIG (a dtype
 * or shards are asked for), IO, NOMEM. */
tl_status tl_import_gguf(const char *path, const char *out_dir, const tl_convert_options *o,
                         tl_convert_report *report, tl_err *err);
/* All tensors by name in NumPy's .npz, in f32. */
tl_status tl_export_npz(const char *model_dir, const char *path, const tl_convert_options *o,
                        tl_convert_report *report, tl_err *err);

/* Token files of other programs: nanoGPT's (16-bit ids, nothing else) and llm.c's (a header of 1
 * KiB before 16-bit ids, or 32-bit ones above 65536). */
typedef enum tl_token_format { TL_TOKENS_NANOGPT, TL_TOKENS_LLMC } tl_token_format;
/* Writes out_dir/train.bin and val.bin (nanoGPT), or train_000000.bin, ... of at most 1e8 tokens
 * each (llm.c) from a prepared dataset. Errors: those of tl_dataset_open; CREATE, CONFIG (ids
 * beyond 16 bits for nanoGPT), IO. */
tl_status tl_export_tokens(const char *dataset_dir, tl_token_format format, const char *out_dir,
                           const tl_convert_options *o, tl_convert_report *report, tl_err *err);

typedef struct tl_import_tokens_options {
  const char *const *train, *const *val; /* files, in order; with a header it is llm.c's format */
  size_t n_train, n_val;
  const char *tokenizer; /* folder or tokenizer.json of the ids */
  bool overwrite;
} tl_import_tokens_options;
/* Makes a dataset (as tl_prepare does) out of token files. Documents begin at the tokenizer's BOS
 * (llm.c) or end behind its EOS (nanoGPT); without one a file is one document. DATA: sizes that do
 * not fit the header, ids that the tokenizer does not have. */
tl_status tl_import_tokens(const tl_import_tokens_options *o, const char *out_dir,
                           tl_convert_report *report, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
