#include "tilth/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "data/data_manifest.h"
#include "data/shard.h"

struct tl_dataset {
  char *dir;
  tl_data_manifest manifest;
  tl_shard *shards[TL_N_SPLITS]; /* manifest.split[s].n_shards of them */
};

static tl_status open_shard(tl_dataset *d, tl_split s, uint32_t i, bool verify, tl_err *err) {
  char name[TL_SHARD_NAME_SIZE];
  tl_shard_name(s, i, name);
  char *path = tl_path_join(d->dir, name);
  if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", d->dir);
  tl_status status = tl_shard_open(path, &d->manifest.kind, s, i, &d->manifest.split[s].shards[i],
                                   verify, &d->shards[s][i], err);
  free(path);
  return status;
}

static tl_status open_all(tl_dataset *d, bool verify, tl_err *err) {
  TL_TRY(tl_data_manifest_read(d->dir, &d->manifest, err));
  for (int s = 0; s < TL_N_SPLITS; s++) {
    size_t n = d->manifest.split[s].n_shards;
    d->shards[s] = calloc(n ? n : 1, sizeof *d->shards[s]);
    if (!d->shards[s]) return tl_fail(err, TL_NOMEM, "%s: out of memory for %zu shards", d->dir, n);
    for (size_t i = 0; i < n; i++) TL_TRY(open_shard(d, (tl_split)s, (uint32_t)i, verify, err));
  }
  return TL_OK;
}

tl_status tl_dataset_open(const char *dir, bool verify, tl_dataset **out, tl_err *err) {
  tl_dataset *d = calloc(1, sizeof *d);
  if (d) d->dir = strdup(dir);
  tl_status s = d && d->dir ? open_all(d, verify, err)
                            : tl_fail(err, TL_NOMEM, "%s: out of memory for a dataset", dir);
  if (s == TL_OK)
    *out = d;
  else
    tl_dataset_close(d);
  return s;
}

void tl_dataset_close(tl_dataset *d) {
  if (!d) return;
  for (int s = 0; s < TL_N_SPLITS; s++) {
    for (size_t i = 0; d->shards[s] && i < d->manifest.split[s].n_shards; i++)
      tl_shard_close(&d->shards[s][i]);
    free(d->shards[s]);
  }
  tl_data_manifest_free(&d->manifest);
  free(d->dir);
  free(d);
}

uint64_t tl_dataset_docs(const tl_dataset *d, tl_split s) {
  return d->manifest.split[s].docs;
}
uint64_t tl_dataset_tokens(const tl_dataset *d, tl_split s) {
  return d->manifest.split[s].tokens;
}
uint64_t tl_dataset_bytes(const tl_dataset *d, tl_split s) {
  return d->manifest.split[s].bytes;
}
uint64_t tl_dataset_fingerprint(const tl_dataset *d) {
  return d->manifest.fingerprint;
}
uint64_t tl_dataset_tokenizer(const tl_dataset *d) {
  return d->manifest.kind.tokenizer;
}
uint32_t tl_dataset_vocab_size(const tl_dataset *d) {
  return d->manifest.kind.vocab_size;
}
const char *tl_dataset_dir(const tl_dataset *d) {
  return d->dir;
}

/* Without `verify` the bytes may have changed since they were sealed; the bound keeps a bad id from
 * indexing past an embedding table. */
static void copy_ids(const tl_shard *s, uint64_t begin, size_t n, uint32_t vocab, uint32_t *out) {
  uint32_t last = vocab - 1;
  if (tl_shard_token_bytes(vocab) == 2) {
    const uint16_t *p = (const uint16_t *)(const void *)s->tokens + begin;
    for (size_t i = 0; i < n; i++) out[i] = p[i] < last ? p[i] : last;
  } else {
    const uint32_t *p = (const uint32_t *)(const void *)s->tokens + begin;
    for (size_t i = 0; i < n; i++) out[i] = p[i] < last ? p[i] : last;
  }
}

/* Number of tokens of [begin, begin + n) that the split has. */
static size_t in_stream(const tl_dataset *d, tl_split s, uint64_t begin, size_t n) {
  uint64_t total = d->manifest.split[s].tokens;
  if (begin >= total) return 0;
  return n < total - begin ? n : (size_t)(total - begin);
}

void tl_dataset_read(const tl_dataset *d, tl_split s, uint64_t begin, size_t n, uint32_t *out) {
  uint64_t per_shard = d->manifest.kind.shard_tokens;
  size_t have = in_stream(d, s, begin, n);
  for (size_t i = 0; i < have;) {
    const tl_shard *shard = &d->shards[s][(begin + i) / per_shard];
    uint64_t at = (begin + i) % per_shard;
    size_t k = shard->n_tokens - at < have - i ? (size_t)(shard->n_tokens - at) : have - i;
    copy_ids(shard, at, k, d->manifest.kind.vocab_size, out + i);
    i += k;
  }
  if (have < n) memset(out + have, 0, (n - have) * sizeof *out);
}

/* Index of the first of n increasing positions that is >= at. */
static uint64_t lower_bound(const uint32_t *p, uint64_t n, uint64_t at) {
  uint64_t lo = 0, hi = n;
  while (lo < hi) {
    uint64_t mid = lo + (hi - lo) / 2;
    if (p[mid] < at)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

size_t tl_dataset_doc_starts(const tl_dataset *d, tl_split s, uint64_t begin, size_t n,
                             uint32_t *starts) {
  uint64_t per_shard = d->manifest.kind.shard_tokens;
  size_t have = in_stream(d, s, begin, n), count = 0;
  for (size_t i = 0; i < have;) {
    const tl_shard *shard = &d->shards[s][(begin + i) / per_shard];
    uint64_t at = (begin + i) % per_shard;
    size_t k = shard->n_tokens - at < have - i ? (size_t)(shard->n_tokens - at) : have - i;
    for (uint64_t j = lower_bound(shard->starts, shard->n_docs, at);
         j < shard->n_docs && shard->starts[j] < at + k && count < n; j++)
      starts[count++] = (uint32_t)(shard->starts[j] - at + i);
    i += k;
  }
  return count;
}
