/* A base and its adapter as one model. */
#include "tilth/adapter.h"

#include "transfer/task.h"

tl_status tl_adapter_merge(const char *name, const char *out, tl_err *err) {
  tl_model_place p;
  tl_model *m = NULL;
  tl_tokenizer *tok = NULL;
  TL_TRY(tl_model_locate(name, &p, err));
  tl_status s = p.adapter
                    ? tl_model_load_task(name, &m, err)
                    : tl_fail(err, TL_CONFIG, "%s: a whole model; there is nothing to merge", name);
  if (s == TL_OK) {
    tl_err none = {0};
    tl_status found = tl_model_tokenizer(name, &tok, &none); /* a model may lack its tokenizer */
    if (found != TL_OK && found != TL_NOINPUT) s = tl_fail(err, found, "%s", none.msg);
  }
  if (s == TL_OK) s = tl_model_save(m, tok, out, err);
  tl_tokenizer_free(tok);
  tl_model_free(m);
  tl_model_place_free(&p);
  return s;
}
