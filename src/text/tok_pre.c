/* Pre-tokenizers of tokenizer.json: they cut a text into the pieces that the model sees, and some
 * change it. */
#define _GNU_SOURCE /* memmem */
#include "tok_pipe.h"

#include <stdlib.h>
#include <utf8proc.h>

/* Alphabetic, marks, decimal digits, connecting punctuation, joiners. */
bool tok_is_word_char(int32_t cp) {
  if (cp < 0x80) return tok_is_letter(cp) || tok_is_number(cp) || cp == '_';
  utf8proc_category_t c = utf8proc_category(cp);
  return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_NL) || c == UTF8PROC_CATEGORY_PC ||
         cp == 0x200C || cp == 0x200D || (cp >= 0x24B6 && cp <= 0x24E9) ||
         (cp >= 0x1F130 && cp <= 0x1F149) || (cp >= 0x1F150 && cp <= 0x1F169) ||
         (cp >= 0x1F170 && cp <= 0x1F189);
}

void tok_bytes_to_chars(const unsigned char *p, size_t len, tl_buf *out) {
  for (size_t i = 0; i < len; i++) {
    char s[4];
    tl_buf_append(out, s, tok_byte_string(p[i], s));
  }
}

/* ---- reading ---- */

static tl_status read_behavior(tok_step *s, const json_t *object, bool needed, tl_err *err) {
  static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                      "Contiguous"};
  const json_t *v = json_object_get(object, "behavior");
  const char *name = json_string_value(v);
  for (int i = 0; name && i < 5; i++) {
    if (strcmp(name, names[i]) != 0) continue;
    s->behavior = (enum tok_behavior)i;
    return TL_OK;
  }
  if (!v && !needed) return TL_OK;
  return tl_fail(err, TL_DATA,
                 "pre_tokenizer.behavior is not Removed, Isolated, MergedWithPrevious, "
                 "MergedWithNext or Contiguous");
}

static tl_status read_metaspace(tok_step *s, const json_t *object, tl_err *err) {
  const char *scheme = json_string_value(json_object_get(object, "prepend_scheme"));
  bool prefix = true;
  s->words = true;
  TL_TRY(tok_step_text(s, object, "pre_tokenizer", "replacement", true, err));
  TL_TRY(tok_json_bool(object, "pre_tokenizer", "split", &s->words, err));
  TL_TRY(tok_json_bool(object, "pre_tokenizer", "add_prefix_space", &prefix, err));
  if (s->text_len == 0) return tl_fail(err, TL_DATA, "pre_tokenizer.replacement is empty");
  s->prepend = prefix ? PREPEND_ALWAYS : PREPEND_NEVER;
  if (!scheme) return TL_OK;
  if (strcmp(scheme, "always") == 0)
    s->prepend = PREPEND_ALWAYS;
  else if (strcmp(scheme, "first") == 0)
    s->prepend = PREPEND_FIRST;
  else if (strcmp(scheme, "never") == 0)
    s->prepend = PREPEND_NEVER;
  else
    return tl_fail(err, TL_DATA, "pre_tokenizer.prepend_scheme is not always, first or never");
  return TL_OK;
}

static tl_status read_split(tok_step *s, const json_t *object, tl_err *err) {
  TL_TRY(tok_pattern_read(&s->pattern, json_object_get(object, "pattern"), "pre_tokenizer.pattern",
                          err));
  TL_TRY(tok_json_bool(object, "pre_tokenizer", "invert", &s->invert, err));
  return read_behavior(s, object, true, err);
}

static tl_status read_byte_level(tok_step *s, const json_t *object, tl_err *err) {
  s->prefix_space = s->words = true;
  s->behavior = SPLIT_ISOLATED;
  s->pattern.kind = PAT_GPT2;
  TL_TRY(tok_json_bool(object, "pre_tokenizer", "add_prefix_space", &s->prefix_space, err));
  return tok_json_bool(object, "pre_tokenizer", "use_regex", &s->words, err);
}

static tl_status read_step(tok_steps *steps, const json_t *object, const char *type, tl_err *err) {
  static const struct {
    const char *type;
    enum tok_op op;
  } ops[] = {
      {"ByteLevel", PRE_BYTE_LEVEL},
      {"Split", PRE_SPLIT},
      {"Whitespace", PRE_WORD},
      {"WhitespaceSplit", PRE_SPACE},
      {"BertPreTokenizer", PRE_BERT},
      {"Metaspace", PRE_METASPACE},
      {"Digits", PRE_DIGITS},
      {"Punctuation", PRE_PUNCTUATION},
      {"CharDelimiterSplit", PRE_DELIMITER},
  };
  size_t i = 0, n = sizeof ops / sizeof *ops;
  while (i < n && strcmp(type, ops[i].type) != 0) i++;
  if (i == n) return tl_fail(err, TL_DATA, "pre_tokenizer: type \"%.100s\" is not supported", type);
  tok_step *s = tok_steps_add(steps, ops[i].op);
  if (!s) return tok_nomem(err);
  switch (s->op) {
  case PRE_BYTE_LEVEL:
    return read_byte_level(s, object, err);
  case PRE_SPLIT:
    return read_split(s, object, err);
  case PRE_METASPACE:
    return read_metaspace(s, object, err);
  case PRE_DIGITS:
    TL_TRY(tok_json_bool(object, "pre_tokenizer", "individual_digits", &s->words, err));
    s->behavior = s->words ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
    return TL_OK;
  case PRE_PUNCTUATION:
    s->behavior = SPLIT_ISOLATED;
    return read_behavior(s, object, false, err);
  case PRE_DELIMITER:
    s->behavior = SPLIT_REMOVED;
    return tok_step_text(s, object, "pre_tokenizer", "delimiter", true, err);
  default:
    return TL_OK;
  }
}

tl_status tok_pre_read(tok_steps *s, const json_t *object, tl_err *err) {
  return tok_read_chain(s, object, "pre_tokenizer", "pretokenizers", read_step, err);
}

/* ---- cutting ---- */

/* Takes the parts of a piece in their order, matches and what is between, and gives out what the
 * behavior makes of them. */
typedef struct cutter {
  tok_spans *out;
  enum tok_behavior behavior;
  bool invert, first, ok;
  size_t start, end; /* pending part; empty: none */
  bool match;        /* what the last part was */
} cutter;

static void flush(cutter *c) {
  if (c->end > c->start) c->ok &= tok_spans_add(c->out, c->start, c->end - c->start, c->first);
  c->start = c->end;
}

static void cut(cutter *c, size_t start, size_t end, bool match) {
  if (end == start) return;
  match ^= c->invert;
  bool joins = false;
  switch (c->behavior) {
  case SPLIT_REMOVED:
    if (!match) c->ok &= tok_spans_add(c->out, start, end - start, c->first);
    return;
  case SPLIT_ISOLATED:
    c->ok &= tok_spans_add(c->out, start, end - start, c->first);
    return;
  case SPLIT_PREVIOUS: /* a match ends the piece before it, unless that is a match itself */
    joins = match && !c->match;
    break;
  case SPLIT_NEXT: /* a match begins the piece after it */
    joins = !match && c->match;
    break;
  case SPLIT_CONTIGUOUS:
    joins = match == c->match;
    break;
  }
  if (!joins || c->end == c->start) {
    flush(c);
    c->start = start;
  }
  c->end = end;
  c->match = match;
}

static tl_status cut_pattern(const tok_step *s, tok_run *r, const tok_span *span, cutter *c,
                             tl_err *err) {
  const unsigned char *p = (const unsigned char *)r->text.data + span->at;
  size_t from = 0, start, end;
  for (;;) {
    bool found;
    TL_TRY(
        tok_pattern_next(&s->pattern, &r->matcher, p, span->len, from, &found, &start, &end, err));
    if (!found) break;
    cut(c, span->at + from, span->at + start, false);
    cut(c, span->at + start, span->at + end, true);
    from = end;
  }
  cut(c, span->at + from, span->at + span->len, false);
  return TL_OK;
}

static bool is_match(const tok_step *s, const unsigned char *p, size_t n, int32_t cp) {
  switch (s->op) {
  case PRE_DIGITS:
    return tok_is_number(cp);
  case PRE_PUNCTUATION:
    return tok_is_punct(cp);
  case PRE_DELIMITER:
    return n == s->text_len && memcmp(p, s->text, n) == 0;
  default:
    return tok_is_space(cp);
  }
}

/* Each character that matches is a part; those between are one together. */
static void cut_chars(const tok_step *s, tok_run *r, const tok_span *span, cutter *c) {
  const unsigned char *p = (const unsigned char *)r->text.data;
  size_t end = span->at + span->len, from = span->at;
  for (size_t i = span->at, n; i < end; i += n) {
    int32_t cp;
    n = tok_utf8(p + i, end - i, &cp);
    if (!is_match(s, p + i, n, cp)) continue;
    cut(c, from, i, false);
    cut(c, i, i + n, true);
    from = i + n;
  }
  cut(c, from, end, false);
}

/* Runs of characters of one class; white space separates. BERT: punctuation stands alone. */
static void cut_words(const tok_step *s, tok_run *r, const tok_span *span, cutter *c) {
  const unsigned char *p = (const unsigned char *)r->text.data;
  size_t end = span->at + span->len, from = span->at;
  int before = 0; /* 0 white space, 1 word, 2 other */
  for (size_t i = span->at, n; i < end; i += n) {
    int32_t cp;
    n = tok_utf8(p + i, end - i, &cp);
    int now = tok_is_space(cp)    ? 0
              : s->op == PRE_WORD ? (tok_is_word_char(cp) ? 1 : 2)
              : tok_is_punct(cp)  ? 2
                                  : 1;
    if (now != before || (now == 2 && s->op == PRE_BERT)) {
      if (before) c->ok &= tok_spans_add(c->out, from, i - from, c->first);
      from = i;
    }
    before = now;
  }
  if (before) c->ok &= tok_spans_add(c->out, from, end - from, c->first);
}

/* ---- steps that change the text: from r->text to r->other ---- */

static tl_status metaspace(const tok_step *s, tok_run *r, const tok_span *span, tl_err *err) {
  const unsigned char *p = (const unsigned char *)r->text.data + span->at;
  tl_buf *out = &r->other;
  size_t start = out->len;
  bool there = p[0] == ' ' || (span->len >= s->text_len && !memcmp(p, s->text, s->text_len));
  if (!there && (s->prepend == PREPEND_ALWAYS || (s->prepend == PREPEND_FIRST && span->first)))
    tl_buf_append(out, s->text, s->text_len);
  for (size_t i = 0; i < span->len;) {
    const unsigned char *space = memchr(p + i, ' ', span->len - i);
    size_t n = space ? (size_t)(space - p) - i : span->len - i;
    tl_buf_append(out, p + i, n);
    i += n;
    if (!space) break;
    tl_buf_append(out, s->text, s->text_len);
    i++;
  }
  TL_TRY(tl_buf_check(out, err));
  cutter c = {.out = &r->next, .behavior = SPLIT_NEXT, .first = span->first, .ok = true};
  const char *q = out->data;
  size_t from = start;
  while (s->words && from < out->len) {
    const char *at = memmem(q + from, out->len - from, s->text, s->text_len);
    if (!at) break;
    cut(&c, from, (size_t)(at - q), false);
    cut(&c, (size_t)(at - q), (size_t)(at - q) + s->text_len, true);
    from = (size_t)(at - q) + s->text_len;
  }
  cut(&c, from, out->len, false);
  flush(&c);
  return c.ok ? TL_OK : tok_nomem(err);
}

/* The pieces with a space in front where they have none. */
static tl_status prefix_spaces(tok_run *r, tl_err *err) {
  bool ok = true;
  for (size_t i = 0; i < r->spans.n; i++) {
    const tok_span *span = &r->spans.v[i];
    size_t start = r->other.len;
    if (r->text.data[span->at] != ' ') tl_buf_putc(&r->other, ' ');
    tl_buf_append(&r->other, r->text.data + span->at, span->len);
    ok &= tok_spans_add(&r->next, start, r->other.len - start, span->first);
  }
  return ok ? tl_buf_check(&r->other, err) : tok_nomem(err);
}

static void swap_spans(tok_run *r) {
  tok_spans t = r->spans;
  r->spans = r->next;
  r->next = t;
  r->next.n = 0;
}

static void swap_text(tok_run *r) {
  tl_buf t = r->text;
  r->text = r->other;
  r->other = t;
  tl_buf_clear(&r->other);
}

static tl_status run_cutting(const tok_step *s, tok_run *r, tl_err *err) {
  for (size_t i = 0; i < r->spans.n; i++) {
    const tok_span *span = &r->spans.v[i];
    cutter c = {.out = &r->next,
                .behavior = s->behavior,
                .invert = s->invert,
                .first = span->first,
                .ok = true,
                .start = span->at,
                .end = span->at};
    if (s->pattern.kind != PAT_NONE)
      TL_TRY(cut_pattern(s, r, span, &c, err));
    else if (s->op == PRE_WORD || s->op == PRE_BERT)
      cut_words(s, r, span, &c);
    else
      cut_chars(s, r, span, &c);
    flush(&c);
    if (!c.ok) return tok_nomem(err);
  }
  swap_spans(r);
  return TL_OK;
}

static tl_status run_step(const tok_step *s, tok_run *r, tl_err *err) {
  if (s->op == PRE_METASPACE) {
    for (size_t i = 0; i < r->spans.n; i++) TL_TRY(metaspace(s, r, &r->spans.v[i], err));
    swap_spans(r);
    swap_text(r);
    return TL_OK;
  }
  if (s->op == PRE_BYTE_LEVEL) {
    if (s->prefix_space) {
      TL_TRY(prefix_spaces(r, err));
      swap_spans(r);
      swap_text(r);
    }
    if (!s->words) return TL_OK;
  }
  return run_cutting(s, r, err);
}

tl_status tok_pre_run(const tok_steps *s, tok_run *r, bool first, tl_err *err) {
  r->spans.n = r->next.n = 0;
  r->spans.head = r->next.head = r->head;
  tl_buf_clear(&r->other);
  if (!tok_spans_add(&r->spans, 0, r->text.len, first)) return tok_nomem(err);
  for (size_t i = 0; i < s->n; i++) TL_TRY(run_step(&s->step[i], r, err));
  return TL_OK;
}
