#include "data/shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t tl_shard_token_bytes(uint32_t vocab_size) {
  return vocab_size <= 65536 ? 2 : 4;
}

void tl_shard_name(tl_split split, uint32_t index, char name[TL_SHARD_NAME_SIZE]) {
  snprintf(name, TL_SHARD_NAME_SIZE, "%s-%05u.tlt", split == TL_TRAIN ? "train" : "val",
           (unsigned)index);
}

static tl_status open_shard(tl_split_writer *w, tl_err *err) {
  if (!w->block && !(w->block = malloc(TL_SHARD_BLOCK)))
    return tl_fail(err, TL_NOMEM, "%s: out of memory for a shard", w->dir);
  size_t n = w->n_shards;
  if ((n & (n - 1)) == 0) { /* the capacity is the next power of two */
    tl_shard_info *p = realloc(w->shards, (n ? 2 * n : 1) * sizeof *p);
    if (!p) return tl_fail(err, TL_NOMEM, "%s: out of memory for the list of shards", w->dir);
    w->shards = p;
  }
  char name[TL_SHARD_NAME_SIZE];
  tl_shard_name(w->split, (uint32_t)n, name);
  char *path = tl_path_join(w->dir, name);
  if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", w->dir);
  tl_status s = tl_out_open(path, &w->out, err);
  free(path);
  TL_TRY(s);
  tl_shard_header h = {.version = TL_SHARD_VERSION,
                       .token_bytes = tl_shard_token_bytes(w->kind.vocab_size),
                       .vocab_size = w->kind.vocab_size,
                       .block_bytes = TL_SHARD_BLOCK,
                       .tokenizer = w->kind.tokenizer,
                       .split = w->split,
                       .index = (uint32_t)n};
  memcpy(h.magic, "TLTSHARD", sizeof h.magic);
  h.hash = tl_hash64(&h, offsetof(tl_shard_header, hash));
  w->header_hash = tl_hash64(&h, sizeof h);
  w->out_tokens = 0;
  w->starts.len = 0;
  w->block_used = 0;
  w->block_max = 0;
  tl_buf_clear(&w->table);
  return tl_out_write(&w->out, &h, sizeof h, err);
}

static tl_status end_block(tl_split_writer *w, tl_err *err) {
  tl_shard_block b = {.hash = tl_hash64(w->block, w->block_used), .max_id = w->block_max};
  tl_buf_append(&w->table, &b, sizeof b);
  tl_status s = tl_out_write(&w->out, w->block, w->block_used, err);
  w->block_used = 0;
  w->block_max = 0;
  return s;
}

/* Zero bytes that take n bytes to a multiple of the alignment. */
static size_t padding(size_t n) {
  return (TL_SHARD_ALIGN - n % TL_SHARD_ALIGN) % TL_SHARD_ALIGN;
}

/* Writes a section, padded; *hash covers the padding. */
static tl_status write_section(tl_out *out, tl_buf *section, uint64_t *hash, tl_err *err) {
  static const char zeros[TL_SHARD_ALIGN];
  tl_buf_append(section, zeros, padding(section->len));
  TL_TRY(tl_buf_check(section, err));
  *hash = tl_hash64(section->data, section->len);
  return tl_out_write(out, section->data, section->len, err);
}

static tl_status seal_shard(tl_split_writer *w, tl_err *err) {
  size_t pad = padding(w->block_used);
  if (w->block_used) {
    memset(w->block + w->block_used, 0, pad); /* blocks are a multiple of the alignment: it fits */
    w->block_used += pad;
    TL_TRY(end_block(w, err));
  }
  tl_shard_footer f = {.n_tokens = w->out_tokens,
                       .n_docs = w->starts.len,
                       .docs_offset = w->out.size,
                       .n_blocks = w->table.len / sizeof(tl_shard_block),
                       .header_hash = w->header_hash};
  memcpy(f.magic, "TLTSEAL", sizeof f.magic);
  tl_buf docs = {0};
  tl_buf_append(&docs, w->starts.data, w->starts.len * sizeof *w->starts.data);
  tl_status s = write_section(&w->out, &docs, &f.docs_hash, err);
  tl_buf_free(&docs);
  TL_TRY(s);
  f.table_offset = w->out.size;
  TL_TRY(write_section(&w->out, &w->table, &f.table_hash, err));
  f.file_size = w->out.size + sizeof f;
  f.seal = tl_hash64(&f, offsetof(tl_shard_footer, seal));
  TL_TRY(tl_out_write(&w->out, &f, sizeof f, err));
  w->shards[w->n_shards++] = (tl_shard_info){f.file_size, f.n_tokens, f.n_docs, f.seal};
  return tl_out_commit(&w->out, NULL, err);
}

/* Puts n ids into the block; they fit. */
static void put_ids(tl_split_writer *w, const uint32_t *ids, size_t n) {
  unsigned char *to = w->block + w->block_used;
  uint32_t max = w->block_max;
  if (tl_shard_token_bytes(w->kind.vocab_size) == 2) {
    uint16_t *p = (uint16_t *)(void *)to;
    for (size_t i = 0; i < n; i++) {
      p[i] = (uint16_t)ids[i];
      max = ids[i] > max ? ids[i] : max;
    }
    w->block_used += 2 * n;
  } else {
    memcpy(to, ids, 4 * n);
    for (size_t i = 0; i < n; i++) max = ids[i] > max ? ids[i] : max;
    w->block_used += 4 * n;
  }
  w->block_max = max;
  w->out_tokens += n;
}

tl_status tl_split_writer_add(tl_split_writer *w, const uint32_t *ids, size_t n, uint64_t bytes,
                              tl_err *err) {
  uint32_t width = tl_shard_token_bytes(w->kind.vocab_size);
  for (size_t i = 0; i < n;) {
    if (w->out.open && w->out_tokens == w->kind.shard_tokens) TL_TRY(seal_shard(w, err));
    if (!w->out.open) TL_TRY(open_shard(w, err));
    if (i == 0) tl_ids_push(&w->starts, (uint32_t)w->out_tokens);
    size_t k = (TL_SHARD_BLOCK - w->block_used) / width;
    if (k > n - i) k = n - i;
    if (k > w->kind.shard_tokens - w->out_tokens) k = w->kind.shard_tokens - w->out_tokens;
    put_ids(w, ids + i, k);
    i += k;
    if (w->block_used == TL_SHARD_BLOCK) TL_TRY(end_block(w, err));
  }
  if (w->starts.oom) return tl_fail(err, TL_NOMEM, "%s: out of memory for document starts", w->dir);
  w->docs++;
  w->tokens += n;
  w->bytes += bytes;
  return TL_OK;
}

tl_status tl_split_writer_end(tl_split_writer *w, tl_err *err) {
  return w->out.open ? seal_shard(w, err) : TL_OK;
}

void tl_split_writer_free(tl_split_writer *w) {
  tl_out_abort(&w->out);
  tl_ids_free(&w->starts);
  tl_buf_free(&w->table);
  free(w->block);
  free(w->shards);
}
