/* Decoders of tokenizer.json: each takes the list of token strings and gives a list; in the end
 * they are joined. */
#define _GNU_SOURCE /* memmem */
#include "tok_pipe.h"

#include <stdlib.h>
#include "text_utf8.h"

/* ---- reading ---- */

static tl_status read_count(size_t *out, const json_t *object, const char *key, tl_err *err) {
  const json_t *v = json_object_get(object, key);
  if (!json_is_integer(v) || json_integer_value(v) < 0)
    return tl_fail(err, TL_DATA, "decoder.%s is not a number from 0", key);
  *out = (size_t)json_integer_value(v);
  return TL_OK;
}

static tl_status read_metaspace(tok_step *s, const json_t *object, tl_err *err) {
  const char *scheme = json_string_value(json_object_get(object, "prepend_scheme"));
  bool prefix = true;
  TL_TRY(tok_step_text(s, object, "decoder", "replacement", true, err));
  TL_TRY(tok_json_bool(object, "decoder", "add_prefix_space", &prefix, err));
  s->prepend = (scheme ? strcmp(scheme, "never") == 0 : !prefix) ? PREPEND_NEVER : PREPEND_ALWAYS;
  return s->text_len ? TL_OK : tl_fail(err, TL_DATA, "decoder.replacement is empty");
}

static tl_status read_step(tok_steps *steps, const json_t *object, const char *type, tl_err *err) {
  static const struct {
    const char *type;
    enum tok_op op;
  } ops[] = {
      {"ByteLevel", DEC_BYTE_LEVEL},
      {"WordPiece", DEC_WORDPIECE},
      {"Metaspace", DEC_METASPACE},
      {"BPEDecoder", DEC_BPE},
      {"ByteFallback", DEC_BYTE_FALLBACK},
      {"Fuse", DEC_FUSE},
      {"Strip", DEC_STRIP},
      {"Replace", DEC_REPLACE},
  };
  size_t i = 0, n = sizeof ops / sizeof *ops;
  while (i < n && strcmp(type, ops[i].type) != 0) i++;
  if (i == n) return tl_fail(err, TL_DATA, "decoder: type \"%.100s\" is not supported", type);
  tok_step *s = tok_steps_add(steps, ops[i].op);
  if (!s) return tok_nomem(err);
  switch (s->op) {
  case DEC_WORDPIECE:
    s->words = true;
    TL_TRY(tok_json_bool(object, "decoder", "cleanup", &s->words, err));
    return tok_step_text(s, object, "decoder", "prefix", false, err);
  case DEC_METASPACE:
    return read_metaspace(s, object, err);
  case DEC_BPE:
    return tok_step_text(s, object, "decoder", "suffix", false, err);
  case DEC_STRIP:
    TL_TRY(read_count(&s->start, object, "start", err));
    TL_TRY(read_count(&s->stop, object, "stop", err));
    return tok_step_text(s, object, "decoder", "content", true, err);
  case DEC_REPLACE:
    TL_TRY(
        tok_pattern_read(&s->pattern, json_object_get(object, "pattern"), "decoder.pattern", err));
    return tok_step_text(s, object, "decoder", "content", true, err);
  default:
    return TL_OK;
  }
}

tl_status tok_decoder_read(tok_steps *s, const json_t *object, tl_err *err) {
  return tok_read_chain(s, object, "decoder", "decoders", read_step, err);
}

/* ---- decoding: strings in r->spans of r->text ---- */

static void replace_all(tl_buf *out, const char *s, size_t len, const char *from, size_t n,
                        const char *to) {
  while (len > 0) {
    const char *at = n ? memmem(s, len, from, n) : NULL;
    size_t k = at ? (size_t)(at - s) : len;
    tl_buf_append(out, s, k);
    if (!at) return;
    tl_buf_puts(out, to);
    s += k + n;
    len -= k + n;
  }
}

static void byte_level(tl_buf *out, const char *s, size_t len) {
  size_t start = out->len;
  for (size_t i = 0; i < len;) {
    int32_t cp;
    i += tok_utf8((const unsigned char *)s + i, len - i, &cp);
    int b = tok_char_byte(cp);
    if (b < 0) { /* not of bytes: as it is */
      out->len = start;
      tl_buf_append(out, s, len);
      return;
    }
    tl_buf_putc(out, (char)b);
  }
}

/* English punctuation and contractions are drawn to the word before. */
static void clean_up(tl_buf *out, size_t start) {
  static const char *const pairs[][2] = {{" .", "."},     {" ?", "?"},           {" !", "!"},
                                         {" ,", ","},     {" ' ", "'"},          {" n't", "n't"},
                                         {" 'm", "'m"},   {" do not", " don't"}, {" 's", "'s"},
                                         {" 've", "'ve"}, {" 're", "'re"}};
  tl_buf a = {0}, b = {0};
  tl_buf_append(&a, out->data + start, out->len - start);
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
    tl_buf_clear(&b);
    replace_all(&b, a.data, a.len, pairs[i][0], strlen(pairs[i][0]), pairs[i][1]);
    tl_buf t = a;
    a = b;
    b = t;
  }
  out->len = start;
  tl_buf_append(out, a.data, a.len);
  out->oom |= a.oom || b.oom;
  tl_buf_free(&a);
  tl_buf_free(&b);
}

static void wordpiece(const tok_step *s, tl_buf *out, const char *p, size_t len, bool first) {
  size_t start = out->len;
  bool inside = s->text_len && len >= s->text_len && memcmp(p, s->text, s->text_len) == 0;
  if (!first && !inside) tl_buf_putc(out, ' ');
  size_t skip = !first && inside ? s->text_len : 0;
  tl_buf_append(out, p + skip, len - skip);
  if (s->words && out->data) clean_up(out, start);
}

static void metaspace(const tok_step *s, tl_buf *out, const char *p, size_t len, bool first) {
  bool drop = first && s->prepend != PREPEND_NEVER;
  replace_all(out, p, len, s->text, s->text_len, drop ? "" : " ");
}

static void strip(const tok_step *s, tl_buf *out, const char *p, size_t len) {
  size_t n = s->text_len;
  for (size_t i = 0; i < s->start && n && len >= n && !memcmp(p, s->text, n); i++) {
    p += n;
    len -= n;
  }
  for (size_t i = 0; i < s->stop && n && len >= n && !memcmp(p + len - n, s->text, n); i++)
    len -= n;
  tl_buf_append(out, p, len);
}

/* A pattern that takes too many steps leaves the token as it is. */
static void replace(const tok_step *s, tok_run *r, const char *p, size_t len) {
  size_t from = 0, start, end;
  bool found = true;
  while (found &&
         tok_pattern_next(&s->pattern, &r->matcher, (const unsigned char *)p, len, from, &found,
                          &start, &end, NULL) == TL_OK &&
         found) {
    tl_buf_append(&r->other, p + from, start - from);
    tl_buf_append(&r->other, s->text, s->text_len);
    from = end;
  }
  tl_buf_append(&r->other, p + from, len - from);
}

static int byte_of(const char *p, size_t len) {
  char *end;
  if (len != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>') return -1;
  char hex[3] = {p[3], p[4], 0};
  long v = strtol(hex, &end, 16);
  return end == hex + 2 && hex[0] != '+' && hex[0] != '-' && hex[0] != ' ' ? (int)v : -1;
}

/* Runs of byte tokens become text; where they are no UTF-8, U+FFFD for each. */
static void byte_fallback(tok_run *r) {
  tl_buf run = {0};
  for (size_t i = 0; i <= r->spans.n; i++) {
    const char *p = i < r->spans.n ? r->text.data + r->spans.v[i].at : "";
    size_t len = i < r->spans.n ? r->spans.v[i].len : 0;
    int b = byte_of(p, len);
    if (b >= 0) {
      tl_buf_putc(&run, (char)b);
      continue;
    }
    size_t start = r->other.len;
    if (run.len > 0 && tl_utf8_valid_prefix(run.data, run.len) == run.len)
      tl_buf_append(&r->other, run.data, run.len);
    else
      for (size_t k = 0; k < run.len; k++) tl_buf_puts(&r->other, "\xEF\xBF\xBD");
    r->other.oom |= !tok_spans_add(&r->next, start, r->other.len - start, false);
    tl_buf_clear(&run);
    start = r->other.len;
    tl_buf_append(&r->other, p, len);
    r->other.oom |= !tok_spans_add(&r->next, start, len, false);
  }
  r->other.oom |= run.oom;
  tl_buf_free(&run);
}

static void run_one(const tok_step *s, tok_run *r, size_t i) {
  const char *p = r->text.data + r->spans.v[i].at;
  size_t len = r->spans.v[i].len;
  switch (s->op) {
  case DEC_BYTE_LEVEL:
    byte_level(&r->other, p, len);
    break;
  case DEC_WORDPIECE:
    wordpiece(s, &r->other, p, len, i == 0);
    break;
  case DEC_METASPACE:
    metaspace(s, &r->other, p, len, i == 0);
    break;
  case DEC_BPE:
    replace_all(&r->other, p, len, s->text, s->text_len, i + 1 == r->spans.n ? "" : " ");
    break;
  case DEC_STRIP:
    strip(s, &r->other, p, len);
    break;
  case DEC_REPLACE:
    replace(s, r, p, len);
    break;
  default:
    tl_buf_append(&r->other, p, len);
  }
}

static void run_step(const tok_step *s, tok_run *r) {
  tl_buf_clear(&r->other);
  r->next.n = 0;
  if (s->op == DEC_BYTE_FALLBACK) {
    byte_fallback(r);
  } else if (s->op == DEC_FUSE) {
    tl_buf_append(&r->other, r->text.data ? r->text.data : "", r->text.len);
    r->other.oom |= !tok_spans_add(&r->next, 0, r->text.len, false);
  } else {
    for (size_t i = 0; i < r->spans.n; i++) {
      size_t start = r->other.len;
      run_one(s, r, i);
      r->other.oom |= !tok_spans_add(&r->next, start, r->other.len - start, false);
    }
  }
  tl_buf t = r->text;
  r->text = r->other;
  r->other = t;
  tok_spans v = r->spans;
  r->spans = r->next;
  r->next = v;
}

void tok_decoder_run(const tl_tokenizer *t, const uint32_t *ids, size_t n, bool skip_special,
                     tl_buf *out) {
  tok_run r = {0};
  for (size_t i = 0; i < n; i++) {
    if (skip_special && (t->flag[ids[i]] & TOK_F_SPECIAL)) continue;
    const char *s = tok_str(t, ids[i]);
    size_t start = r.text.len, len = strlen(s);
    if (t->pipe->joined_by_space && start > 0) tl_buf_putc(&r.text, ' ');
    tl_buf_append(&r.text, s, len);
    r.text.oom |= !tok_spans_add(&r.spans, start, r.text.len - start, false);
  }
  for (size_t i = 0; i < t->pipe->dec.n && !r.text.oom && r.text.data; i++)
    run_step(&t->pipe->dec.step[i], &r);
  tl_buf_append(out, r.text.data ? r.text.data : "", r.text.len);
  out->oom |= r.text.oom || r.other.oom;
  tok_run_free(&r);
}
