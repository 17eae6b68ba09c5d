/* A GGUF file as a folder in Hugging Face's form. */
#include "base/file.h"
#include "models/model.h"
#include "tilth/convert.h"
#include "tilth/gguf.h"

static tl_status save(const char *path, const tl_model *m, const char *dir, tl_err *err) {
  tl_tokenizer *tok = NULL;
  tl_status s = tl_model_tokenizer(path, &tok, err);
  if (s == TL_OK) s = tl_model_save(m, tok, dir, err);
  tl_tokenizer_free(tok);
  return s;
}

tl_status tl_import_gguf(const char *path, const char *out_dir, const tl_convert_options *o,
                         tl_convert_report *report, tl_err *err) {
  tl_model *m = NULL;
  bool there = tl_file_exists(out_dir);
  if (o && (o->dtype || o->max_shard_bytes))
    return tl_fail(
        err, TL_CONFIG,
        "%s: GGUF is imported as f32 in one file; `tilth export` changes that afterwards", path);
  if (there && !(o && o->overwrite))
    return tl_fail(err, TL_CREATE, "%s exists; give another place, or --overwrite", out_dir);
  tl_gguf g; /* what has lost its first bytes would be taken for a folder */
  TL_TRY(tl_gguf_open(path, &g, err));
  tl_gguf_close(&g);
  TL_TRY(tl_model_load(path, false, &m, err));
  tl_status s = save(path, m, out_dir, err);
  if (s != TL_OK && !there) tl_remove_tree(out_dir, NULL);
  if (s == TL_OK && report)
    *report = (tl_convert_report){
        .tensors = m->params.n, .bytes = 4 * (uint64_t)tl_model_params(m), .files = 1};
  tl_model_free(m);
  return s;
}
