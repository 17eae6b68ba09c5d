/* Sealed token shards on disk (docs/formats.md): writing a split's shards, checking and mapping
 * one. All numbers are little-endian, as are the machines this runs on. */
#ifndef TL_DATA_SHARD_H
#define TL_DATA_SHARD_H

#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/file.h"
#include "tilth/dataset.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "token shards are mapped as they are and need a little-endian machine"
#endif

enum {
  TL_SHARD_VERSION = 1,
  TL_SHARD_ALIGN = 64,      /* of every section */
  TL_SHARD_BLOCK = 1 << 20, /* bytes of the token section under one checksum */
  TL_SHARD_NAME_SIZE = 32,  /* room for "train-4294967295.tlt" */
};

typedef struct tl_shard_header {
  char magic[8]; /* "TLTSHARD" */
  uint32_t version, token_bytes, vocab_size, block_bytes;
  uint64_t tokenizer; /* fingerprint */
  uint32_t split, index;
  uint64_t zero[2];
  uint64_t hash; /* XXH3-64 of the bytes before it */
} tl_shard_header;

typedef struct tl_shard_footer {
  char magic[8]; /* "TLTSEAL" and a zero byte */
  uint64_t n_tokens, n_docs;
  uint64_t docs_offset, table_offset, n_blocks, file_size;
  uint64_t header_hash, docs_hash, table_hash; /* of the sections, padding included */
  uint64_t zero[5];
  uint64_t seal; /* XXH3-64 of the bytes before it; it depends on every byte of the file */
} tl_shard_footer;

typedef struct tl_shard_block {
  uint64_t hash; /* of the block of the token section */
  uint32_t max_id, zero;
} tl_shard_block;

/* What dataset.json knows of a shard. */
typedef struct tl_shard_info {
  uint64_t size, tokens, docs, seal; /* bytes of the file; documents that start in it */
} tl_shard_info;

/* What all shards of a dataset share. */
typedef struct tl_shard_kind {
  uint32_t vocab_size;
  uint64_t tokenizer;    /* fingerprint */
  uint64_t shard_tokens; /* in every shard but the last of a split; 1 ... 2^32-1 */
} tl_shard_kind;

uint32_t tl_shard_token_bytes(uint32_t vocab_size); /* 2 up to 65536 ids, else 4 */
void tl_shard_name(tl_split split, uint32_t index, char name[TL_SHARD_NAME_SIZE]);

/* Writes the stream of one split into shards of kind.shard_tokens tokens. Zero-initialise and set
 * kind, split and dir (borrowed); tl_split_writer_free closes, and removes an unfinished shard. */
typedef struct tl_split_writer {
  tl_shard_kind kind;
  tl_split split;
  const char *dir;
  uint64_t docs, tokens, bytes; /* so far */
  tl_shard_info *shards;        /* the finished ones */
  size_t n_shards;

  tl_out out; /* the open shard */
  uint64_t out_tokens, header_hash;
  tl_ids starts;        /* positions in it at which a document starts */
  tl_buf table;         /* its finished blocks: tl_shard_block */
  unsigned char *block; /* TL_SHARD_BLOCK bytes */
  size_t block_used;
  uint32_t block_max;
} tl_split_writer;

/* Appends one document of n > 0 ids (each < vocab_size) made from `bytes` bytes of text. */
tl_status tl_split_writer_add(tl_split_writer *w, const uint32_t *ids, size_t n, uint64_t bytes,
                              tl_err *err);
tl_status tl_split_writer_end(tl_split_writer *w, tl_err *err); /* seals the last shard */
void tl_split_writer_free(tl_split_writer *w);

/* An open, mapped shard. */
typedef struct tl_shard {
  tl_map map;
  const unsigned char *tokens; /* n_tokens ids of token_bytes */
  const uint32_t *starts;      /* n_docs positions, increasing */
  uint64_t n_tokens, n_docs;
} tl_shard;

/* Maps `path` and checks it against what dataset.json says. Every access stays inside the file,
 * whatever its bytes are. verify: also the tokens against the checksums. DATA when anything is not
 * as it must be. */
tl_status tl_shard_open(const char *path, const tl_shard_kind *kind, tl_split split, uint32_t index,
                        const tl_shard_info *info, bool verify, tl_shard *out, tl_err *err);
void tl_shard_close(tl_shard *s);

#endif
