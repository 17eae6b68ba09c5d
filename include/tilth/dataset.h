/* Prepared data: sealed token shards, memory-mapped, and the order in which training reads them. */
#ifndef TILTH_DATASET_H
#define TILTH_DATASET_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/context.h"
#include "tilth/status.h"
#include "tilth/text.h"
#include "tilth/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Token files of llm.c begin with 256 words of 32 bits: magic number, version, number of tokens. */
enum {
  TL_LLMC_WORDS = 256,
  TL_LLMC_MAGIC_16 = 20240520, /* tokens of 16 bits */
  TL_LLMC_VERSION_16 = 1,
  TL_LLMC_MAGIC_32 = 20240801, /* of 32 bits */
  TL_LLMC_VERSION_32 = 7
};

typedef enum tl_split { TL_TRAIN, TL_VAL, TL_N_SPLITS } tl_split;

typedef struct tl_prepare_options {
  /* Of documents, by a keyed hash of their content, so that exact copies fall on one side; or of
   * the tail. 0 <= f < 1; 0: no validation split. */
  double val_fraction;
  bool split_tail;       /* the last val_fraction of all tokens is validation (one long document); a
                            document across the cut counts in both splits */
  uint64_t seed;         /* of the split by document */
  uint64_t shard_tokens; /* tokens per shard file, at most 2^32-1; 0: 100e6 */
  bool add_bos, add_eos; /* wrap each document in BOS ... EOS where the tokenizer has them */
} tl_prepare_options;

typedef struct tl_prepare_report {
  uint64_t docs[TL_N_SPLITS];   /* a document without any token is left out of all counts */
  uint64_t tokens[TL_N_SPLITS]; /* BOS and EOS included */
  uint64_t bytes[TL_N_SPLITS];  /* of source text, as the reader delivered it */
  double seconds;
} tl_prepare_report;

/* Encodes all documents of `reader` (on all threads, in order: the result does not depend on their
 * number) into out_dir: dataset.json (counts, checksums, fingerprints), the tokenizer's files,
 * train-00000.tlt ..., val-00000.tlt (docs/formats.md). Written to a temporary folder beside it and
 * renamed when complete; after a failure neither is left. With `overwrite` an empty folder or an
 * older dataset in the place is replaced, nothing else is. options may be NULL: val_fraction 0.005,
 * BOS and EOS; report may be NULL. Progress is logged at INFO every 2 s.
 * Errors: those of the reader and the tokenizer; CREATE (out_dir exists), CONFIG (options), DATA (a
 * split would be empty), PREEMPTED (cancelled), PERM, IO (full disk, ...), NOMEM. */
tl_status tl_prepare(tl_ctx *ctx, tl_text_reader *reader, const tl_tokenizer *tok,
                     const tl_prepare_options *options, const char *out_dir, bool overwrite,
                     tl_prepare_report *report, tl_err *err);

typedef struct tl_dataset tl_dataset;

/* Opens and maps a prepared folder. `verify` reads every byte against the checksums; without it
 * sizes, headers, footers, document starts and the block tables are. Errors: NOINPUT (no dataset or
 * a shard missing), DATA (damaged, changed, or mixed up), PERM, IO, NOMEM. */
tl_status tl_dataset_open(const char *dir, bool verify, tl_dataset **out, tl_err *err);
void tl_dataset_close(tl_dataset *d); /* NULL is allowed */
uint64_t tl_dataset_docs(const tl_dataset *d, tl_split s);
uint64_t tl_dataset_tokens(const tl_dataset *d, tl_split s);
uint64_t tl_dataset_bytes(const tl_dataset *d, tl_split s); /* of source text: for bits per byte */
/* Changes with every byte of the data, the split, and the tokenizer. */
uint64_t tl_dataset_fingerprint(const tl_dataset *d);
uint64_t tl_dataset_tokenizer(const tl_dataset *d); /* tl_tokenizer_fingerprint of its tokenizer */
uint32_t tl_dataset_vocab_size(const tl_dataset *d);
const char *tl_dataset_dir(const tl_dataset *d);
/* Copies tokens [begin, begin+n) of the split's stream (all documents joined) to out; places beyond
 * the stream get 0. Every id is < vocab_size, even if the file was damaged after it was opened.
 * Several threads may read one dataset. */
void tl_dataset_read(const tl_dataset *d, tl_split s, uint64_t begin, size_t n, uint32_t *out);
/* Writes the positions in [begin, begin+n) at which a document starts, relative to begin, in
 * increasing order, to starts (room for n) and returns how many. */
size_t tl_dataset_doc_starts(const tl_dataset *d, tl_split s, uint64_t begin, size_t n,
                             uint32_t *starts);

/* The order: the stream is cut into windows of `window` tokens, shifted by a keyed offset that
 * changes each epoch; a keyed permutation of (seed, epoch) orders the windows. The place in the
 * data is one integer, `position`: sample number since the start. Any position is reached at once.
 */
typedef struct tl_order {
  uint64_t seed;
  uint64_t n_tokens; /* tl_dataset_tokens of the split */
  uint32_t window;   /* tokens per sample */
  bool sequential;   /* no shift, no permutation, the last partial window included (validation) */
} tl_order;
uint64_t tl_order_per_epoch(const tl_order *o); /* samples per epoch; 0 if the data is too short */
/* First token of sample `position` in the stream; *n = number of tokens (window, or less for the
 * last sequential one). */
uint64_t tl_order_at(const tl_order *o, uint64_t position, uint32_t *n);

#ifdef __cplusplus
}
#endif

#endif
