#include "eval/entity.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/buf.h"

/* --- Tags --- */
typedef struct parsed {
  int32_t prefix; /* a code point */
  const char *type;
  size_t type_len;
} parsed;

static const parsed outside = {'O', "_", 1};

static bool same_type(const parsed *a, const parsed *b) {
  return a->type_len == b->type_len && !memcmp(a->type, b->type, a->type_len);
}

/* Where the type starts differs: seqeval's default mode drops what stands before the first '-', its
 * strict mode drops every '-' at both ends. */
static void parse_type(const char *s, size_t n, bool strict, parsed *out) {
  const char *dash = memchr(s, '-', n);
  if (!strict && dash) {
    n -= (size_t)(dash + 1 - s);
    s = dash + 1;
  }
  for (; strict && n && *s == '-'; n--) s++;
  while (strict && n && s[n - 1] == '-') n--;
  out->type = n ? s : "_";
  out->type_len = n ? n : 1;
}

static const char *const prefixes[] = {
    [TL_TAGS_TOLERANT] = NULL,
    [TL_TAGS_BIO] = "OBI",
    [TL_TAGS_IOB1] = "OBI",
    [TL_TAGS_BIOES] = "OBIES",
};

static tl_status parse(const tl_tagged *t, tl_tag_scheme scheme, size_t sentence, size_t at,
                       parsed *out, tl_err *err) {
  const char *s = t->tag[at];
  size_t n = s ? strlen(s) : 0, token = at - t->offset[sentence];
  if (!n)
    return tl_fail(err, TL_DATA, "sentence %zu, token %zu: the tag is empty; \"O\" means none",
                   sentence, token);
  const uint8_t *bytes = (const uint8_t *)s;
  utf8proc_ssize_t first = 0;
  for (size_t i = 0; i < n;) {
    utf8proc_int32_t cp;
    utf8proc_ssize_t len = utf8proc_iterate(bytes + i, (utf8proc_ssize_t)(n - i), &cp);
    if (len <= 0)
      return tl_fail(err, TL_DATA, "sentence %zu, token %zu: the tag is not UTF-8 at byte %zu",
                     sentence, token, i);
    if (!i) {
      out->prefix = cp;
      first = len;
    }
    i += (size_t)len;
  }
  const char *ok = prefixes[scheme];
  if (ok && !(out->prefix < 128 && strchr(ok, (int)out->prefix)))
    return tl_fail(err, TL_DATA,
                   "sentence %zu, token %zu: tag \"%s\" does not start with one of %s", sentence,
                   token, s, ok);
  parse_type(s + first, n - (size_t)first, ok != NULL, out);
  return TL_OK;
}

/* --- Reading entities --- */
static tl_status add(tl_entities *e, tl_entity item, tl_err *err) {
  if (e->n == e->cap) {
    size_t cap = e->cap ? 2 * e->cap : 64;
    tl_entity *p = cap > SIZE_MAX / sizeof *p ? NULL : realloc(e->item, cap * sizeof *p);
    if (!p) return tl_fail(err, TL_NOMEM, "out of memory for %zu entities", cap);
    e->item = p;
    e->cap = cap;
  }
  e->item[e->n++] = item;
  return TL_OK;
}

static bool one_of(int32_t prefix, const char *set) {
  return prefix > 0 && prefix < 128 && strchr(set, (int)prefix);
}

/* conlleval's rules, with E and S. */
static bool tolerant_end(const parsed *prev, const parsed *tag) {
  if (one_of(prev->prefix, "ES")) return true;
  if (one_of(prev->prefix, "BI") && one_of(tag->prefix, "BSO")) return true;
  return !one_of(prev->prefix, "O.") && !same_type(prev, tag);
}

static bool tolerant_start(const parsed *prev, const parsed *tag) {
  if (one_of(tag->prefix, "BS")) return true;
  if (one_of(prev->prefix, "ESO") && one_of(tag->prefix, "EI")) return true;
  return !one_of(tag->prefix, "O.") && !same_type(prev, tag);
}

/* One run over all sentences, an O behind each: as in seqeval, what precedes a sentence's first tag
 * is the O of the one before, which matters for prefixes that are none of B I E S O. */
static tl_status read_tolerant(const tl_tagged *t, tl_entities *out, tl_err *err) {
  parsed prev = {'O', "", 0};
  size_t begin = 0;
  for (size_t s = 0; s < t->n_sentences; s++) {
    for (size_t i = t->offset[s]; i <= t->offset[s + 1]; i++) {
      parsed tag = outside;
      if (i < t->offset[s + 1]) TL_TRY(parse(t, TL_TAGS_TOLERANT, s, i, &tag, err));
      if (tolerant_end(&prev, &tag))
        TL_TRY(add(out, (tl_entity){s, begin, i, prev.type, prev.type_len}, err));
      if (tolerant_start(&prev, &tag)) begin = i;
      prev = tag;
    }
  }
  return TL_OK;
}

/* A strict scheme as pairs of neighbours: {previous prefixes, prefixes, types: = the same, !
 * others,
 * * any}. A tag starts, continues or comes after the end of an entity if it is in such a pair with
 * the tag before it. */
typedef struct pair {
  const char *prev, *tag;
  char types;
} pair;

typedef struct strict_rules {
  pair start[6], inside[3], end[7]; /* each up to a row without prev */
} strict_rules;

static const strict_rules rules[] = {
    [TL_TAGS_BIO] = {.start = {{"OBI", "B", '*'}},
                     .inside = {{"BI", "I", '='}},
                     .end = {{"BI", "OB", '*'}, {"BI", "I", '!'}}},
    [TL_TAGS_IOB1] =
        {.start = {{"OB", "I", '*'}, {"I", "I", '!'}, {"IB", "B", '='}},
         .inside = {{"BI", "I", '='}},
         .end = {{"BI", "I", '!'}, {"BI", "O", '*'}, {"I", "B", '*'}, {"B", "B", '='}}},
    [TL_TAGS_BIOES] = {.start = {{"OBIES", "BS", '*'}},
                       .inside = {{"BI", "IE", '='}},
                       .end = {{"SE", "OBIES", '*'}}},
};

static bool in_pair(const pair *p, const parsed *prev, const parsed *tag) {
  bool same = same_type(prev, tag);
  for (; p->prev; p++)
    if (one_of(prev->prefix, p->prev) && one_of(tag->prefix, p->tag) &&
        (p->types == '*' || same == (p->types == '=')))
      return true;
  return false;
}

/* x holds the n parsed tags of the sentence and an O behind them. */
static tl_status read_sentence(const strict_rules *r, const parsed *x, size_t n, size_t sentence,
                               size_t offset, tl_entities *out, tl_err *err) {
  const parsed *prev = &outside;
  for (size_t i = 0; i <= n;) {
    size_t end = i + 1;
    if (in_pair(r->start, prev, &x[i])) { /* never the O: end <= n */
      while (in_pair(r->inside, &x[end - 1], &x[end])) end++;
      if (in_pair(r->end, &x[end - 1], &x[end]))
        TL_TRY(add(out, (tl_entity){sentence, offset + i, offset + end, x[i].type, x[i].type_len},
                   err));
    }
    i = end;
    prev = &x[i - 1];
  }
  return TL_OK;
}

static tl_status read_strict(const tl_tagged *t, tl_tag_scheme scheme, tl_entities *out,
                             tl_err *err) {
  size_t longest = 0;
  for (size_t s = 0; s < t->n_sentences; s++)
    if (t->offset[s + 1] - t->offset[s] > longest) longest = t->offset[s + 1] - t->offset[s];
  parsed *x = calloc(longest + 1, sizeof *x);
  if (!x) return tl_fail(err, TL_NOMEM, "out of memory for a sentence of %zu tags", longest);
  tl_status st = TL_OK;
  for (size_t s = 0; s < t->n_sentences && st == TL_OK; s++) {
    size_t n = t->offset[s + 1] - t->offset[s];
    for (size_t i = 0; i < n && st == TL_OK; i++)
      st = parse(t, scheme, s, t->offset[s] + i, &x[i], err);
    x[n] = outside;
    if (st == TL_OK) st = read_sentence(&rules[scheme], x, n, s, t->offset[s], out, err);
  }
  free(x);
  return st;
}

static tl_status check_offsets(const tl_tagged *t, tl_err *err) {
  for (size_t s = 0; s < t->n_sentences; s++)
    if (t->offset[s] > t->offset[s + 1] || t->offset[0])
      return tl_fail(err, TL_DATA, "sentence %zu: offsets must start at 0 and not fall", s);
  return TL_OK;
}

tl_status tl_entities_read(const tl_tagged *tags, tl_tag_scheme scheme, tl_entities *out,
                           tl_err *err) {
  *out = (tl_entities){0};
  TL_TRY(check_offsets(tags, err));
  tl_status st = scheme == TL_TAGS_TOLERANT ? read_tolerant(tags, out, err)
                                            : read_strict(tags, scheme, out, err);
  if (st != TL_OK) tl_entities_free(out);
  return st;
}

void tl_entities_free(tl_entities *e) {
  free(e->item);
  *e = (tl_entities){0};
}

/* --- Writing --- */
/* The prefix of token i of entity e; `before` ends where e begins, or is NULL. */
static char prefix_of(tl_tag_scheme to, const tl_entity *e, size_t i, const tl_entity *before) {
  bool first = i == e->begin, last = i + 1 == e->end;
  if (to == TL_TAGS_BIOES) return first ? last ? 'S' : 'B' : last ? 'E' : 'I';
  if (!first) return 'I';
  if (to == TL_TAGS_BIO) return 'B';
  bool touches = before && before->end == e->begin && before->sentence == e->sentence;
  return touches && before->type_len == e->type_len && !memcmp(before->type, e->type, e->type_len)
             ? 'B'
             : 'I';
}

/* Appends the NUL-terminated tag of each token. */
static tl_status write_tags(const tl_entities *e, size_t n, tl_tag_scheme to, tl_buf *b,
                            tl_err *err) {
  size_t i = 0;
  for (size_t k = 0; k < e->n; k++) {
    const tl_entity *x = &e->item[k];
    if (x->begin < i)
      return tl_fail(err, TL_DATA,
                     "sentence %zu: entities overlap, as a tag has a prefix other than B I O E S",
                     x->sentence);
    for (; i < x->begin; i++) tl_buf_append(b, "O", 2);
    for (; i < x->end; i++) {
      tl_buf_putc(b, prefix_of(to, x, i, k ? x - 1 : NULL));
      tl_buf_putc(b, '-');
      tl_buf_append(b, x->type, x->type_len);
      tl_buf_putc(b, 0);
    }
  }
  for (; i < n; i++) tl_buf_append(b, "O", 2);
  return tl_buf_check(b, err);
}

tl_status tl_tags_convert(const tl_tagged *tags, tl_tag_scheme from, tl_tag_scheme to,
                          const char ***out, tl_err *err) {
  if (to == TL_TAGS_TOLERANT)
    return tl_fail(err, TL_USAGE, "tags are written as BIO, IOB1 or BIOES, not in tolerant mode");
  tl_entities e;
  TL_TRY(tl_entities_read(tags, from, &e, err));
  size_t n = tags->n_sentences ? tags->offset[tags->n_sentences] : 0;
  tl_buf text = {0};
  tl_status st = write_tags(&e, n, to, &text, err);
  const char **block = NULL;
  if (st == TL_OK && !(block = malloc(n * sizeof *block + text.len + 1)))
    st = tl_fail(err, TL_NOMEM, "out of memory for %zu tags", n);
  if (st == TL_OK) {
    char *p = (char *)(block + n);
    if (text.len) memcpy(p, text.data, text.len);
    for (size_t i = 0; i < n; i++) {
      block[i] = p;
      p += strlen(p) + 1;
    }
    *out = block;
  }
  tl_buf_free(&text);
  tl_entities_free(&e);
  return st;
}
