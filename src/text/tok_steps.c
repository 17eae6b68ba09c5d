/* Chains of steps: reading what all have in common, and their memory. */
#include "tok_pipe.h"

#include <stdlib.h>

tok_step *tok_steps_add(tok_steps *s, enum tok_op op) {
  if (s->n == TOK_MAX_STEPS) return NULL;
  if (!s->step) s->step = calloc(TOK_MAX_STEPS, sizeof *s->step);
  if (!s->step) return NULL;
  s->step[s->n].op = op;
  return &s->step[s->n++];
}

void tok_steps_free(tok_steps *s) {
  for (size_t i = 0; i < s->n; i++) {
    tok_pattern_free(&s->step[i].pattern);
    tok_charsmap_free(s->step[i].map);
    free(s->step[i].text);
  }
  free(s->step);
  *s = (tok_steps){0};
}

tl_status tok_step_text(tok_step *step, const json_t *object, const char *where, const char *key,
                        bool needed, tl_err *err) {
  const json_t *v = json_object_get(object, key);
  bool absent = !v || json_is_null(v);
  if ((absent && needed) || (!absent && !json_is_string(v)))
    return tl_fail(err, TL_DATA, "%s.%s is not a string", where, key);
  const char *s = absent ? "" : json_string_value(v);
  if (strlen(s) > TOK_MAX_STRING)
    return tl_fail(err, TL_DATA, "%s.%s has more than %d bytes", where, key, TOK_MAX_STRING);
  step->text = strdup(s);
  step->text_len = strlen(s);
  return step->text ? TL_OK : tok_nomem(err);
}

enum { MAX_DEPTH = 8 };

static tl_status read_chain(tok_steps *s, const json_t *object, const char *where, const char *list,
                            tok_read_step_fn read, int depth, tl_err *err) {
  if (!object || json_is_null(object)) return TL_OK;
  const char *type = json_string_value(json_object_get(object, "type"));
  if (!type) return tl_fail(err, TL_DATA, "%s has no \"type\"", where);
  if (strcmp(type, "Sequence") != 0) {
    if (s->n == TOK_MAX_STEPS)
      return tl_fail(err, TL_DATA, "%s has more than %d steps", where, TOK_MAX_STEPS);
    return read(s, object, type, err);
  }
  const json_t *all = json_object_get(object, list);
  if (!json_is_array(all) || depth == MAX_DEPTH)
    return tl_fail(err, TL_DATA, "%s: Sequence without an array \"%s\", or %d in each other", where,
                   list, MAX_DEPTH);
  for (size_t i = 0; i < json_array_size(all); i++)
    TL_TRY(read_chain(s, json_array_get(all, i), where, list, read, depth + 1, err));
  return TL_OK;
}

tl_status tok_read_chain(tok_steps *s, const json_t *object, const char *where, const char *list,
                         tok_read_step_fn read, tl_err *err) {
  return read_chain(s, object, where, list, read, 0, err);
}

void tok_run_free(tok_run *r) {
  tl_buf_free(&r->text);
  tl_buf_free(&r->other);
  free(r->spans.v);
  free(r->next.v);
  free(r->cps);
  tok_matcher_free(&r->matcher);
}

bool tok_spans_add(tok_spans *s, size_t at, size_t len, bool first) {
  if (len == 0) return true;
  if (s->n == s->cap) {
    size_t cap = s->cap ? s->cap * 2 : 64;
    tok_span *v = realloc(s->v, cap * sizeof *v);
    if (!v) return false;
    s->v = v;
    s->cap = cap;
  }
  s->v[s->n++] = (tok_span){at, len, first && at < s->head};
  return true;
}
