/* Post-processors of tokenizer.json: the tokens they put around one text and around two. */
#include "tok_internal.h"

static tl_status put(tl_tokenizer *t, bool pair, tl_around place, const json_t *id, tl_err *err) {
  json_int_t v = json_integer_value(id);
  if (!json_is_integer(id) || v < 0 || v >= (json_int_t)t->n)
    return tl_fail(err, TL_DATA, "post_processor: an id is not one of the vocabulary (0 to %u)",
                   t->n - 1);
  tl_ids_push(&t->around[pair][place], (uint32_t)v);
  return t->around[pair][place].oom ? tok_nomem(err) : TL_OK;
}

/* The place behind text `name`; false where it may not stand: the texts come in order, each once.
 */
static bool pass_text(const char *name, bool pair, tl_around *place) {
  if (!name || strcmp(name, *place == TL_AROUND_BETWEEN ? "B" : "A") || *place == TL_AROUND_AFTER)
    return false;
  *place = pair && *place == TL_AROUND_BEFORE ? TL_AROUND_BETWEEN : TL_AROUND_AFTER;
  return true;
}

static tl_status read_pieces(tl_tokenizer *t, const json_t *post, bool pair, tl_err *err) {
  const char *key = pair ? "pair" : "single";
  const json_t *pieces = json_object_get(post, key);
  const json_t *tokens = json_object_get(post, "special_tokens");
  tl_around place = TL_AROUND_BEFORE;
  if (!json_is_array(pieces))
    return tl_fail(err, TL_DATA, "post_processor.%s is not an array", key);
  for (size_t i = 0; i < json_array_size(pieces); i++) {
    const json_t *piece = json_array_get(pieces, i), *text = json_object_get(piece, "Sequence");
    const char *name =
        json_string_value(json_object_get(json_object_get(piece, "SpecialToken"), "id"));
    if (text) {
      if (!pass_text(json_string_value(json_object_get(text, "id")), pair, &place))
        return tl_fail(err, TL_DATA, "post_processor.%s[%zu]: expected %s, once", key, i,
                       pair ? "text A, then text B" : "text A");
      continue;
    }
    const json_t *ids = name ? json_object_get(json_object_get(tokens, name), "ids") : NULL;
    if (!json_is_array(ids))
      return tl_fail(err, TL_DATA,
                     "post_processor.%s[%zu] is neither the text nor one of special_tokens", key,
                     i);
    for (size_t k = 0; k < json_array_size(ids); k++)
      TL_TRY(put(t, pair, place, json_array_get(ids, k), err));
  }
  return TL_OK;
}

/* BERT: [CLS] A [SEP] B [SEP]; RoBERTa has two separators between the texts. */
static tl_status read_fixed(tl_tokenizer *t, const json_t *post, int separators, tl_err *err) {
  const json_t *cls = json_array_get(json_object_get(post, "cls"), 1);
  const json_t *sep = json_array_get(json_object_get(post, "sep"), 1);
  for (int pair = 0; pair < 2; pair++) {
    TL_TRY(put(t, pair, TL_AROUND_BEFORE, cls, err));
    TL_TRY(put(t, pair, TL_AROUND_AFTER, sep, err));
  }
  for (int i = 0; i < separators; i++) TL_TRY(put(t, true, TL_AROUND_BETWEEN, sep, err));
  return TL_OK;
}

static tl_status read_one(tl_tokenizer *t, const json_t *post, tl_err *err) {
  if (tok_json_is(post, "ByteLevel")) return TL_OK; /* concerns offsets only */
  if (tok_json_is(post, "TemplateProcessing")) {
    TL_TRY(read_pieces(t, post, false, err));
    return read_pieces(t, post, true, err);
  }
  if (tok_json_is(post, "BertProcessing")) return read_fixed(t, post, 1, err);
  if (tok_json_is(post, "RobertaProcessing")) return read_fixed(t, post, 2, err);
  return tl_fail(err, TL_DATA, "post_processor: its type is not supported");
}

static void put_special(tl_tokenizer *t, bool pair, tl_around place, tl_special role) {
  if (t->special[role] >= 0) tl_ids_push(&t->around[pair][place], (uint32_t)t->special[role]);
}

static tl_status read_all(tl_tokenizer *t, const json_t *post, tl_err *err) {
  if (!tok_json_is(post, "Sequence")) return read_one(t, post, err);
  const json_t *all = json_object_get(post, "processors");
  if (!json_is_array(all))
    return tl_fail(err, TL_DATA, "post_processor.processors is not an array");
  for (size_t i = 0; i < json_array_size(all); i++)
    TL_TRY(read_one(t, json_array_get(all, i), err));
  return TL_OK;
}

tl_status tok_post_read(tl_tokenizer *t, const json_t *root, tl_err *err) {
  const json_t *post = json_object_get(root, "post_processor");
  if (post && !json_is_null(post)) TL_TRY(read_all(t, post, err));
  bool none = true;
  for (int i = 0; i < 6; i++) none &= t->around[i / 3][i % 3].len == 0;
  if (none) put_special(t, true, TL_AROUND_BETWEEN, TL_TOK_EOS);
  return t->around[1][TL_AROUND_BETWEEN].oom ? tok_nomem(err) : TL_OK;
}

tl_status tok_post_make(tl_tokenizer *t, tl_err *err) {
  bool oom = false;
  for (int pair = 0; pair < 2; pair++) {
    put_special(t, pair, TL_AROUND_BEFORE, TL_TOK_BOS);
    put_special(t, pair, TL_AROUND_AFTER, TL_TOK_EOS);
    if (pair) put_special(t, pair, TL_AROUND_BETWEEN, TL_TOK_EOS);
    for (int i = 0; i < 3; i++) oom |= t->around[pair][i].oom;
  }
  return oom ? tok_nomem(err) : TL_OK;
}
