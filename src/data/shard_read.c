#include "data/shard.h"

#include <string.h>

static tl_status damaged(const char *path, const char *what, uint64_t at, tl_err *err) {
  return tl_fail(
      err, TL_DATA,
      "%s: damaged shard: %s (at byte %llu); prepare the data again, or restore the file", path,
      what, (unsigned long long)at);
}

static uint64_t padded(uint64_t n) {
  return (n + TL_SHARD_ALIGN - 1) / TL_SHARD_ALIGN * TL_SHARD_ALIGN;
}

static tl_status check_header(const char *path, const tl_map *m, const tl_shard_kind *kind,
                              tl_split split, uint32_t index, tl_err *err) {
  tl_shard_header h;
  memcpy(&h, m->data, sizeof h);
  if (memcmp(h.magic, "TLTSHARD", sizeof h.magic))
    return tl_fail(err, TL_DATA, "%s: not a token shard (it does not begin with TLTSHARD)", path);
  if (h.version != TL_SHARD_VERSION)
    return tl_fail(err, TL_DATA, "%s: shard version %u; this program reads version %d", path,
                   h.version, (int)TL_SHARD_VERSION);
  if (h.hash != tl_hash64(&h, offsetof(tl_shard_header, hash)) || h.zero[0] || h.zero[1])
    return damaged(path, "the header's checksum is wrong", 0, err);
  if (h.token_bytes != tl_shard_token_bytes(kind->vocab_size) || h.vocab_size != kind->vocab_size ||
      h.block_bytes != TL_SHARD_BLOCK || h.tokenizer != kind->tokenizer ||
      h.split != (uint32_t)split || h.index != index)
    return tl_fail(
        err, TL_DATA,
        "%s: the shard belongs to another dataset, split or place than dataset.json says", path);
  return TL_OK;
}

/* Recomputes where each section lies from the counts, so that nothing the file says about its own
 * layout is taken on trust. */
static tl_status check_footer(const char *path, const tl_map *m, const tl_shard_info *info,
                              uint32_t token_bytes, tl_shard_footer *f, tl_err *err) {
  uint64_t at = m->size - sizeof *f;
  memcpy(f, m->data + at, sizeof *f);
  if (memcmp(f->magic, "TLTSEAL", sizeof f->magic))
    return damaged(path, "no seal at its end: it was cut or never finished", at, err);
  if (f->seal != tl_hash64(f, offsetof(tl_shard_footer, seal)))
    return damaged(path, "the footer's checksum is wrong", at, err);
  if (f->seal != info->seal)
    return tl_fail(err, TL_DATA, "%s: another shard than the one dataset.json was written with",
                   path);
  bool fits = f->n_tokens > 0 && f->n_tokens <= UINT32_MAX && f->n_docs <= f->n_tokens &&
              f->n_tokens == info->tokens && f->n_docs == info->docs;
  uint64_t tokens = padded(f->n_tokens * token_bytes);
  fits = fits && f->docs_offset == sizeof(tl_shard_header) + tokens &&
         f->n_blocks == (tokens + TL_SHARD_BLOCK - 1) / TL_SHARD_BLOCK &&
         f->table_offset == f->docs_offset + padded(f->n_docs * sizeof(uint32_t)) &&
         f->file_size == f->table_offset + padded(f->n_blocks * sizeof(tl_shard_block)) + sizeof *f;
  if (!fits || f->file_size != m->size)
    return damaged(path, "counts and offsets of the footer do not agree with the file", at, err);
  return TL_OK;
}

static tl_status check_sections(const char *path, const tl_map *m, const tl_shard_footer *f,
                                uint32_t vocab_size, tl_err *err) {
  const unsigned char *docs = m->data + f->docs_offset, *table = m->data + f->table_offset;
  if (f->header_hash != tl_hash64(m->data, sizeof(tl_shard_header)))
    return damaged(path, "the header is another one than the sealed one", 0, err);
  if (f->docs_hash != tl_hash64(docs, f->table_offset - f->docs_offset))
    return damaged(path, "the checksum of the document starts is wrong", f->docs_offset, err);
  if (f->table_hash != tl_hash64(table, m->size - sizeof *f - f->table_offset))
    return damaged(path, "the checksum of the block table is wrong", f->table_offset, err);
  uint64_t next = 0;
  for (uint64_t i = 0; i < f->n_docs; i++) {
    uint32_t start;
    memcpy(&start, docs + i * sizeof start, sizeof start);
    if (start < next || start >= f->n_tokens)
      return damaged(path, "document starts are not increasing", f->docs_offset + 4 * i, err);
    next = (uint64_t)start + 1;
  }
  for (uint64_t i = 0; i < f->n_blocks; i++) {
    tl_shard_block b;
    memcpy(&b, table + i * sizeof b, sizeof b);
    if (b.max_id >= vocab_size)
      return damaged(path, "a token id is outside the vocabulary",
                     sizeof(tl_shard_header) + i * TL_SHARD_BLOCK, err);
  }
  return TL_OK;
}

static uint32_t max_id(const unsigned char *p, size_t n, uint32_t token_bytes) {
  uint32_t max = 0;
  if (token_bytes == 2) {
    const uint16_t *v = (const uint16_t *)(const void *)p;
    for (size_t i = 0; i < n; i++) max = v[i] > max ? v[i] : max;
  } else {
    const uint32_t *v = (const uint32_t *)(const void *)p;
    for (size_t i = 0; i < n; i++) max = v[i] > max ? v[i] : max;
  }
  return max;
}

/* Padding is zero, so that it never raises a block's greatest id. */
static tl_status verify_blocks(const char *path, const tl_map *m, const tl_shard_footer *f,
                               uint32_t token_bytes, tl_err *err) {
  uint64_t end = f->docs_offset;
  for (uint64_t i = 0, at = sizeof(tl_shard_header); at < end; i++, at += TL_SHARD_BLOCK) {
    size_t n = end - at < TL_SHARD_BLOCK ? (size_t)(end - at) : TL_SHARD_BLOCK;
    tl_shard_block b;
    memcpy(&b, m->data + f->table_offset + i * sizeof b, sizeof b);
    if (b.hash != tl_hash64(m->data + at, n))
      return damaged(path, "the checksum of a block of tokens is wrong", at, err);
    if (b.max_id != max_id(m->data + at, n / token_bytes, token_bytes))
      return damaged(path, "the greatest token id of a block is wrong", at, err);
  }
  return TL_OK;
}

static tl_status check_shard(const char *path, const tl_shard_kind *kind, tl_split split,
                             uint32_t index, const tl_shard_info *info, bool verify, tl_shard *out,
                             tl_err *err) {
  const tl_map *m = &out->map;
  if (m->size != info->size)
    return tl_fail(err, TL_DATA,
                   "%s: %zu bytes where dataset.json says %llu: cut short or replaced; prepare the "
                   "data again, or restore the file",
                   path, m->size, (unsigned long long)info->size);
  if (m->size < sizeof(tl_shard_header) + sizeof(tl_shard_footer))
    return damaged(path, "shorter than its header and footer", m->size, err);
  TL_TRY(check_header(path, m, kind, split, index, err));
  tl_shard_footer f;
  uint32_t token_bytes = tl_shard_token_bytes(kind->vocab_size);
  TL_TRY(check_footer(path, m, info, token_bytes, &f, err));
  TL_TRY(check_sections(path, m, &f, kind->vocab_size, err));
  if (verify) TL_TRY(verify_blocks(path, m, &f, token_bytes, err));
  out->tokens = m->data + sizeof(tl_shard_header);
  out->starts = (const uint32_t *)(const void *)(m->data + f.docs_offset);
  out->n_tokens = f.n_tokens;
  out->n_docs = f.n_docs;
  return TL_OK;
}

tl_status tl_shard_open(const char *path, const tl_shard_kind *kind, tl_split split, uint32_t index,
                        const tl_shard_info *info, bool verify, tl_shard *out, tl_err *err) {
  *out = (tl_shard){0};
  tl_status s = tl_map_open(path, &out->map, err);
  if (s == TL_OK) s = check_shard(path, kind, split, index, info, verify, out, err);
  if (s != TL_OK) tl_shard_close(out);
  return s;
}

void tl_shard_close(tl_shard *s) {
  tl_map_close(&s->map);
  *s = (tl_shard){0};
}
