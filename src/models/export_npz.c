#include <stdlib.h>

#include "base/file.h"
#include "models/gguf_model.h"
#include "tilth/convert.h"
#include "tilth/npy.h"

static tl_status write(const tl_st *st, const char *path, tl_convert_report *r, tl_err *err) {
  size_t n = tl_st_count(st), used = 0;
  tl_npz_item *item = calloc(n + 1, sizeof *item);
  float **owned = calloc(n + 1, sizeof *owned);
  tl_status s = item && owned ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  for (size_t i = 0; s == TL_OK && i < n; i++) {
    const tl_st_tensor *t = tl_st_at(st, i);
    if (t->dtype == TL_ST_I64) continue; /* PyTorch's buffers: counts of batches, positions */
    tl_npz_item *to = &item[used];
    float *data = owned[used++] = malloc(((size_t)tl_st_elements(t) + 1) * sizeof *data);
    *to = (tl_npz_item){.name = t->name, .ndim = t->ndim, .data = data};
    for (int d = 0; d < t->ndim; d++) to->shape[d] = t->shape[d];
    s = data ? tl_st_read_f32(t, data, err) : tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  }
  if (s == TL_OK) s = tl_npz_write(path, item, used, &r->bytes, err);
  r->tensors = (int64_t)used;
  for (size_t i = 0; owned && i < n; i++) free(owned[i]);
  free(owned);
  free(item);
  return s;
}

tl_status tl_export_npz(const char *model_dir, const char *path, const tl_convert_options *o,
                        tl_convert_report *report, tl_err *err) {
  tl_convert_report r = {.files = 1};
  tl_st *st = NULL;
  if (tl_file_exists(path) && !(o && o->overwrite))
    return tl_fail(err, TL_CREATE, "%s exists; give another place, or --overwrite", path);
  TL_TRY(tl_gguf_refuse(model_dir, err));
  TL_TRY(tl_st_open(model_dir, &st, err));
  tl_status s = write(st, path, &r, err);
  if (s == TL_OK && report) *report = r;
  tl_st_close(st);
  return s;
}
