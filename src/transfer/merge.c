/* A base and its adapter as one model. */
#include "tilth/adapter.h"

#include "transfer/task.h"

static tl_status load(const char *name, const tl_model_place *p, tl_model **m, tl_err *err) {
  tl_model_config c;
  tl_hf_task t;
  TL_TRY(tl_model_read_config(name, &c, err));
  TL_TRY(tl_model_read_task(name, &t, err));
  if (t.kind == TL_HEAD_NONE) return tl_model_load(name, false, m, err);
  tl_labels labels = {0};
  TL_TRY(tl_labels_read(p->described, &labels, err));
  tl_task_head_options o = {.kind = t.kind,
                            .n_outputs = labels.n,
                            .name = (const char *const *)labels.name,
                            .problem = t.problem};
  tl_status s = tl_model_new_task(&c, &o, 0, false, m, err);
  tl_labels_free(&labels);
  if (s == TL_OK) s = tl_model_read_weights(*m, name, err);
  return s == TL_OK ? tl_model_require(*m, name, (*m)->task.w, err) : s;
}

tl_status tl_adapter_merge(const char *name, const char *out, tl_err *err) {
  tl_model_place p;
  tl_model *m = NULL;
  tl_tokenizer *tok = NULL;
  TL_TRY(tl_model_locate(name, &p, err));
  tl_status s = p.adapter
                    ? load(name, &p, &m, err)
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
