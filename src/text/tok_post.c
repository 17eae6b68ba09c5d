/* Post-processors of tokenizer.json: the tokens they put around one text. (What they put around
 * pairs is not needed: tasks on pairs place the special tokens themselves.) */
#include "tok_internal.h"

static tl_status put(tl_tokenizer *t, tl_ids *to, const json_t *id, tl_err *err) {
  json_int_t v = json_integer_value(id);
  if (!json_is_integer(id) || v < 0 || v >= (json_int_t)t->n)
    return tl_fail(err, TL_DATA, "post_processor: an id is not one of the vocabulary (0 to %u)",
                   t->n - 1);
  tl_ids_push(to, (uint32_t)v);
  return to->oom ? tok_nomem(err) : TL_OK;
}

static tl_status read_template(tl_tokenizer *t, const json_t *post, tl_err *err) {
  const json_t *single = json_object_get(post, "single");
  const json_t *tokens = json_object_get(post, "special_tokens");
  tl_ids *to = &t->head;
  if (!json_is_array(single)) return tl_fail(err, TL_DATA, "post_processor.single is not an array");
  for (size_t i = 0; i < json_array_size(single); i++) {
    const json_t *piece = json_array_get(single, i);
    const char *name =
        json_string_value(json_object_get(json_object_get(piece, "SpecialToken"), "id"));
    if (json_object_get(piece, "Sequence")) {
      if (to == &t->tail) return tl_fail(err, TL_DATA, "post_processor.single has the text twice");
      to = &t->tail;
      continue;
    }
    const json_t *ids = name ? json_object_get(json_object_get(tokens, name), "ids") : NULL;
    if (!json_is_array(ids))
      return tl_fail(err, TL_DATA,
                     "post_processor.single[%zu] is neither the text nor one of special_tokens", i);
    for (size_t k = 0; k < json_array_size(ids); k++)
      TL_TRY(put(t, to, json_array_get(ids, k), err));
  }
  return TL_OK;
}

static tl_status read_one(tl_tokenizer *t, const json_t *post, tl_err *err) {
  if (tok_json_is(post, "ByteLevel")) return TL_OK; /* concerns offsets only */
  if (tok_json_is(post, "TemplateProcessing")) return read_template(t, post, err);
  if (tok_json_is(post, "BertProcessing") || tok_json_is(post, "RobertaProcessing")) {
    TL_TRY(put(t, &t->head, json_array_get(json_object_get(post, "cls"), 1), err));
    return put(t, &t->tail, json_array_get(json_object_get(post, "sep"), 1), err);
  }
  return tl_fail(err, TL_DATA, "post_processor: its type is not supported");
}

tl_status tok_post_read(tl_tokenizer *t, const json_t *root, tl_err *err) {
  const json_t *post = json_object_get(root, "post_processor");
  t->wraps = true;
  if (!post || json_is_null(post)) return TL_OK;
  if (!tok_json_is(post, "Sequence")) return read_one(t, post, err);
  const json_t *all = json_object_get(post, "processors");
  if (!json_is_array(all))
    return tl_fail(err, TL_DATA, "post_processor.processors is not an array");
  for (size_t i = 0; i < json_array_size(all); i++)
    TL_TRY(read_one(t, json_array_get(all, i), err));
  return TL_OK;
}
