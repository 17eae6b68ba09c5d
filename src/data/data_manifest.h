/* dataset.json: what a prepared folder holds (docs/formats.md). */
#ifndef TL_DATA_DATA_MANIFEST_H
#define TL_DATA_DATA_MANIFEST_H

#include "data/shard.h"

typedef struct tl_data_manifest_split {
  uint64_t docs, tokens, bytes;
  tl_shard_info *shards; /* owned */
  size_t n_shards;
} tl_data_manifest_split;

typedef struct tl_data_manifest {
  tl_shard_kind kind;
  tl_data_manifest_split split[TL_N_SPLITS];
  uint64_t fingerprint; /* of all of the above */
} tl_data_manifest;

/* Over kind and splits, the shards' seals among them: it changes with every byte of the data. */
uint64_t tl_data_manifest_fingerprint(const tl_data_manifest *m);
/* Writes dir/dataset.json; tokenizer_type and options are for the reader's information. */
tl_status tl_data_manifest_write(const tl_data_manifest *m, const char *dir,
                                 const char *tokenizer_type, const tl_prepare_options *options,
                                 tl_err *err);
/* Reads and checks dir/dataset.json: afterwards the shards' token counts are what shard_tokens and
 * the split's tokens demand. DATA when it is damaged, NOINPUT when it is not there. */
tl_status tl_data_manifest_read(const char *dir, tl_data_manifest *out, tl_err *err);
void tl_data_manifest_free(tl_data_manifest *m);

#endif
