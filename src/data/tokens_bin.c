/* nanoGPT's and llm.c's token files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/data_manifest.h"
#include "data/shard.h"
#include "data/stage.h"
#include "tilth/convert.h"
#include "tilth/dataset.h"

enum { CHUNK = 1 << 16 };
static const uint64_t FILE_TOKENS = 100000000;
static const char *const split_names[] = {"train", "val"};

/* --- export ------------------------------------------------------------------------------------
 */

static tl_status write_ids(tl_out *o, const tl_dataset *d, tl_split split, uint64_t at, uint64_t n,
                           int width, tl_err *err) {
  uint32_t *id = malloc(CHUNK * sizeof *id);
  if (!id) return tl_fail(err, TL_NOMEM, "out of memory");
  tl_status s = TL_OK;
  for (uint64_t k; s == TL_OK && n > 0; n -= k, at += k) {
    k = n < CHUNK ? n : CHUNK;
    tl_dataset_read(d, split, at, (size_t)k, id);
    uint16_t *narrow = (uint16_t *)id;
    for (size_t i = 0; width == 2 && i < k; i++) {
      uint16_t v = (uint16_t)id[i];
      memcpy(narrow + i, &v, sizeof v); /* in place: reading is ahead of writing */
    }
    s = tl_out_write(o, id, (size_t)k * (size_t)width, err);
  }
  free(id);
  return s;
}

static tl_status write_file(const tl_dataset *d, tl_split split, tl_token_format format,
                            uint64_t at, uint64_t n, const char *path, tl_err *err) {
  int width = tl_dataset_vocab_size(d) > 65536 ? 4 : 2;
  int32_t head[TL_LLMC_WORDS] = {width == 2 ? TL_LLMC_MAGIC_16 : TL_LLMC_MAGIC_32,
                                 width == 2 ? TL_LLMC_VERSION_16 : TL_LLMC_VERSION_32, (int32_t)n};
  tl_out o = {0};
  tl_status s = tl_out_open(path, &o, err);
  if (s == TL_OK && format == TL_TOKENS_LLMC) s = tl_out_write(&o, head, sizeof head, err);
  if (s == TL_OK) s = write_ids(&o, d, split, at, n, width, err);
  if (s == TL_OK) s = tl_out_commit(&o, NULL, err);
  tl_out_abort(&o);
  return s;
}

static tl_status export_split(const tl_dataset *d, tl_split split, tl_token_format format,
                              const char *dir, tl_convert_report *r, tl_err *err) {
  uint64_t tokens = tl_dataset_tokens(d, split);
  uint64_t most = format == TL_TOKENS_LLMC ? FILE_TOKENS : tokens;
  for (uint64_t at = 0, n; at < tokens; at += n) {
    n = tokens - at < most ? tokens - at : most;
    char name[48];
    snprintf(name, sizeof name, format == TL_TOKENS_LLMC ? "%s_%06llu.bin" : "%s.bin",
             split_names[split], (unsigned long long)(at / most));
    char *path = tl_path_join(dir, name);
    tl_status s = path ? write_file(d, split, format, at, n, path, err)
                       : tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
    free(path);
    if (s != TL_OK) return s;
    r->files++;
    r->tensors += (int64_t)n;
  }
  return TL_OK;
}

tl_status tl_export_tokens(const char *dataset_dir, tl_token_format format, const char *out_dir,
                           const tl_convert_options *o, tl_convert_report *report, tl_err *err) {
  tl_dataset *d = NULL;
  tl_convert_report r = {0};
  if (tl_file_exists(out_dir) && !(o && o->overwrite))
    return tl_fail(err, TL_CREATE, "%s exists; give another place, or --overwrite", out_dir);
  TL_TRY(tl_dataset_open(dataset_dir, false, &d, err));
  tl_status s = TL_OK;
  if (format == TL_TOKENS_NANOGPT && tl_dataset_vocab_size(d) > 65536)
    s = tl_fail(err, TL_CONFIG, "%s: %u ids do not fit nanoGPT's 16 bits; llm.c's format has 32",
                dataset_dir, tl_dataset_vocab_size(d));
  if (s == TL_OK) s = tl_mkdirs(out_dir, err);
  for (int i = 0; s == TL_OK && i < TL_N_SPLITS; i++)
    s = export_split(d, (tl_split)i, format, out_dir, &r, err);
  tl_dataset_close(d);
  if (s == TL_OK && report) *report = r;
  return s;
}

/* --- import ------------------------------------------------------------------------------------
 */

typedef struct token_file {
  tl_map map;
  const unsigned char *ids;
  uint64_t n;
  int width;
  bool llmc;
} token_file;

typedef struct job {
  const tl_tokenizer *tok;
  tl_split_writer split[TL_N_SPLITS];
  tl_ids doc;
  tl_convert_report report;
} job;

static int32_t word(const tl_map *m, int i) {
  int32_t v = 0;
  memcpy(&v, m->data + 4 * i, 4);
  return v;
}

static tl_status open_file(const char *path, token_file *f, tl_err *err) {
  *f = (token_file){.width = 2};
  TL_TRY(tl_map_open(path, &f->map, err));
  uint64_t begin = 0, size = f->map.size;
  int32_t magic = size >= 4 ? word(&f->map, 0) : 0;
  if (magic == TL_LLMC_MAGIC_16 || magic == TL_LLMC_MAGIC_32) {
    f->llmc = true;
    f->width = magic == TL_LLMC_MAGIC_16 ? 2 : 4;
    begin = TL_LLMC_WORDS * 4;
    int want = magic == TL_LLMC_MAGIC_16 ? TL_LLMC_VERSION_16 : TL_LLMC_VERSION_32;
    if (size < begin || word(&f->map, 1) != want || word(&f->map, 2) < 0 ||
        size - begin != (uint64_t)word(&f->map, 2) * (uint64_t)f->width)
      return tl_fail(err, TL_DATA,
                     "%s: as a file of llm.c it must have version %d and the size that its header "
                     "says",
                     path, want);
  }
  if ((size - begin) % (uint64_t)f->width)
    return tl_fail(err, TL_DATA, "%s: %llu bytes are not whole ids of 16 bits", path,
                   (unsigned long long)size);
  f->ids = f->map.data + begin;
  f->n = (size - begin) / (uint64_t)f->width;
  return f->n ? TL_OK : tl_fail(err, TL_DATA, "%s holds no tokens", path);
}

static tl_status end_document(job *j, tl_split split, tl_err *err) {
  char *text = NULL;
  size_t bytes = 0;
  if (j->doc.oom) return tl_fail(err, TL_NOMEM, "out of memory for a document");
  if (j->doc.len == 0) return TL_OK;
  TL_TRY(tl_tokenizer_decode(j->tok, j->doc.data, j->doc.len, true, &text, &bytes, err));
  free(text);
  tl_status s = tl_split_writer_add(&j->split[split], j->doc.data, j->doc.len, bytes, err);
  j->report.tensors += (int64_t)j->doc.len;
  j->doc.len = 0;
  return s;
}

static tl_status add_file(job *j, tl_split split, const char *path, const token_file *f,
                          tl_err *err) {
  int begins = f->llmc ? tl_tokenizer_special(j->tok, TL_TOK_BOS) : -1;
  int ends = f->llmc ? -1 : tl_tokenizer_special(j->tok, TL_TOK_EOS);
  uint32_t vocab = (uint32_t)tl_tokenizer_vocab_size(j->tok);
  for (uint64_t i = 0; i < f->n; i++) {
    uint32_t id = 0;
    memcpy(&id, f->ids + i * (uint64_t)f->width, (size_t)f->width);
    if (id >= vocab)
      return tl_fail(err, TL_DATA, "%s: token %llu is %u; the tokenizer has ids below %u", path,
                     (unsigned long long)i, id, vocab);
    if ((int)id == begins) TL_TRY(end_document(j, split, err));
    tl_ids_push(&j->doc, id);
    if ((int)id == ends) TL_TRY(end_document(j, split, err));
  }
  j->report.files++;
  return end_document(j, split, err);
}

static tl_status add_files(job *j, tl_split split, const char *const *path, size_t n, tl_err *err) {
  tl_status s = TL_OK;
  for (size_t i = 0; s == TL_OK && i < n; i++) {
    token_file f;
    s = open_file(path[i], &f, err);
    if (s == TL_OK) s = add_file(j, split, path[i], &f, err);
    tl_map_close(&f.map);
  }
  return s == TL_OK ? tl_split_writer_end(&j->split[split], err) : s;
}

static tl_status write_manifest(const job *j, const char *dir, tl_err *err) {
  tl_data_manifest m = {.kind = j->split[0].kind};
  uint64_t tokens = j->split[0].tokens + j->split[1].tokens;
  tl_prepare_options o = {.val_fraction = (double)j->split[1].tokens / (double)tokens,
                          .shard_tokens = FILE_TOKENS};
  for (int s = 0; s < TL_N_SPLITS; s++) {
    const tl_split_writer *w = &j->split[s];
    m.split[s] = (tl_data_manifest_split){w->docs, w->tokens, w->bytes, w->shards, w->n_shards};
  }
  m.fingerprint = tl_data_manifest_fingerprint(&m);
  return tl_data_manifest_write(&m, dir, tl_tokenizer_type(j->tok), &o, err);
}

static tl_status import(job *j, const tl_import_tokens_options *o, const char *dir, tl_err *err) {
  for (int s = 0; s < TL_N_SPLITS; s++) {
    tl_split_writer *w = &j->split[s];
    w->kind = (tl_shard_kind){(uint32_t)tl_tokenizer_vocab_size(j->tok),
                              tl_tokenizer_fingerprint(j->tok), FILE_TOKENS};
    w->split = (tl_split)s;
    w->dir = dir;
  }
  TL_TRY(add_files(j, TL_TRAIN, o->train, o->n_train, err));
  TL_TRY(add_files(j, TL_VAL, o->val, o->n_val, err));
  TL_TRY(tl_tokenizer_save(j->tok, dir, err));
  return write_manifest(j, dir, err);
}

tl_status tl_import_tokens(const tl_import_tokens_options *o, const char *out_dir,
                           tl_convert_report *report, tl_err *err) {
  job j = {0};
  tl_tokenizer *tok = NULL;
  tl_stage stage = {0};
  if (!o->n_train) return tl_fail(err, TL_USAGE, "no token file is given");
  TL_TRY(tl_tokenizer_open(NULL, o->tokenizer, &tok, err));
  j.tok = tok;
  tl_status s = tl_stage_begin(out_dir, o->overwrite, "dataset.json", &stage, err);
  if (s == TL_OK) s = import(&j, o, stage.dir, err);
  if (s == TL_OK) s = tl_stage_commit(&stage, err);
  if (s == TL_OK && report) *report = j.report;
  for (int i = 0; i < TL_N_SPLITS; i++) tl_split_writer_free(&j.split[i]);
  tl_stage_abort(&stage);
  tl_ids_free(&j.doc);
  tl_tokenizer_free(tok);
  return s;
}
