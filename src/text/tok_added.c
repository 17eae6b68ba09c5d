/* Added tokens: strings that are found in a text before the model sees it. */
#include <stdlib.h>
#include "tok_pipe.h"

typedef struct added {
  uint32_t id;
  bool special, single_word, left, right;
} added;

/* Those looked for in the text as it is, and those looked for in its normal form. */
typedef struct table {
  tok_trie trie; /* values: indices of `entry` */
  bool begins[TOK_BYTES];
  bool any, any_plain; /* any_plain: one that is not special */
} table;

struct tok_added {
  added *entry;
  table raw, normal;
};

bool tok_added_any(const json_t *root, const char *key, bool value) {
  const json_t *all = json_object_get(root, "added_tokens");
  for (size_t i = 0; i < json_array_size(all); i++)
    if (json_is_true(json_object_get(json_array_get(all, i), key)) == value) return true;
  return false;
}

static tl_status add(tl_tokenizer *t, struct tok_added *a, const json_t *o, uint32_t i,
                     tl_err *err) {
  const char *s = json_string_value(json_object_get(o, "content"));
  added *e = &a->entry[i];
  bool normalized = false;
  e->id = tok_find(t, s, strlen(s)); /* the vocabulary has all: the flags were read */
  TL_TRY(tok_json_bool(o, "added_tokens[]", "special", &e->special, err));
  TL_TRY(tok_json_bool(o, "added_tokens[]", "single_word", &e->single_word, err));
  TL_TRY(tok_json_bool(o, "added_tokens[]", "lstrip", &e->left, err));
  TL_TRY(tok_json_bool(o, "added_tokens[]", "rstrip", &e->right, err));
  TL_TRY(tok_json_bool(o, "added_tokens[]", "normalized", &normalized, err));
  table *to = normalized && t->pipe ? &a->normal : &a->raw;
  tl_buf b = {0};
  if (to == &a->normal)
    TL_TRY(tok_pipe_normal(t, s, strlen(s), &b, err));
  else
    tl_buf_puts(&b, s);
  bool ok = !b.oom;
  if (ok && b.len) {
    to->begins[(unsigned char)b.data[0]] = true;
    to->any = true;
    to->any_plain |= !e->special;
    ok = tok_trie_add(&to->trie, (const unsigned char *)b.data, b.len, i);
  }
  tl_buf_free(&b);
  return ok ? TL_OK : tok_nomem(err);
}

tl_status tok_added_read(tl_tokenizer *t, const json_t *root, tl_err *err) {
  const json_t *all = json_object_get(root, "added_tokens");
  size_t n = json_array_size(all);
  if (n == 0) return TL_OK;
  t->added = calloc(1, sizeof *t->added);
  if (!t->added) return tok_nomem(err);
  t->added->entry = calloc(n, sizeof *t->added->entry);
  if (!t->added->entry) return tok_nomem(err);
  for (size_t i = 0; i < n; i++) TL_TRY(add(t, t->added, json_array_get(all, i), (uint32_t)i, err));
  return TL_OK;
}

void tok_added_free(struct tok_added *a) {
  if (!a) return;
  free(a->entry);
  tok_trie_free(&a->raw.trie);
  tok_trie_free(&a->normal.trie);
  free(a);
}

/* The longest token at the first place that has one. */
static bool find(const table *k, const unsigned char *p, size_t len, size_t from, size_t *start,
                 size_t *end, uint32_t *which) {
  for (size_t i = from; i < len; i++) {
    if (!k->begins[p[i]]) continue;
    uint32_t node = 0;
    bool found = false;
    for (size_t j = i; j < len; j++) {
      node = tok_trie_step(&k->trie, node, p[j]);
      if (node == TOK_NONE) break;
      if (k->trie.value[node] == TOK_NONE) continue;
      *which = k->trie.value[node];
      *start = i;
      *end = j + 1;
      found = true;
    }
    if (found) return true;
  }
  return false;
}

static size_t before(const unsigned char *p, size_t at, int32_t *cp) {
  size_t k = at;
  do k--;
  while (k > 0 && (p[k] & 0xC0) == 0x80);
  tok_utf8(p + k, at - k, cp);
  return k;
}

static bool stands_alone(const unsigned char *p, size_t len, size_t start, size_t end) {
  int32_t cp;
  if (start > 0) {
    before(p, start, &cp);
    if (tok_is_word_char(cp)) return false;
  }
  if (end == len) return true;
  tok_utf8(p + end, len - end, &cp);
  return !tok_is_word_char(cp);
}

/* The token takes the white space beside it, back to `from` at most. */
static void widen(const added *e, const unsigned char *p, size_t len, size_t from, size_t *start,
                  size_t *end) {
  int32_t cp;
  while (e->left && *start > from) {
    size_t k = before(p, *start, &cp);
    if (k < from || !tok_is_space(cp)) break;
    *start = k;
  }
  while (e->right && *end < len) {
    size_t n = tok_utf8(p + *end, len - *end, &cp);
    if (!tok_is_space(cp)) break;
    *end += n;
  }
}

tl_status tok_added_split(const tl_tokenizer *t, bool normalized, bool special,
                          const unsigned char *p, size_t len, bool first, tok_stretch_fn fn,
                          void *user, tl_ids *out, tl_err *err) {
  const struct tok_added *a = t->added;
  const table *k = !a ? NULL : normalized ? &a->normal : &a->raw;
  if (!k || !(special ? k->any : k->any_plain)) return fn(t, p, len, first, user, out, err);
  size_t done = 0, from = 0, start, end;
  uint32_t which;
  while (find(k, p, len, from, &start, &end, &which)) {
    const added *e = &a->entry[which];
    from = end;
    if (start < done || (e->special && !special)) continue;
    if (e->single_word && !stands_alone(p, len, start, end)) continue;
    widen(e, p, len, done, &start, &end);
    if (start > done) TL_TRY(fn(t, p + done, start - done, first && done == 0, user, out, err));
    tl_ids_push(out, e->id);
    done = end;
    if (from < done) from = done;
  }
  if (done == len) return TL_OK;
  return fn(t, p + done, len - done, first && done == 0, user, out, err);
}
