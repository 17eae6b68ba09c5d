/* Normalizers of tokenizer.json. Text is well-formed UTF-8 before and after each. */
#include "tok_pipe.h"

#include <stdlib.h>
#include <utf8proc.h>
#include "text_utf8.h"

/* ---- reading ---- */

static tl_status read_bert(tok_step *s, const json_t *object, tl_err *err) {
  tok_norm *n = &s->bert;
  *n = (tok_norm){.on = true, .clean_text = true, .chinese_chars = true, .lowercase = true};
  TL_TRY(tok_json_bool(object, "normalizer", "clean_text", &n->clean_text, err));
  TL_TRY(tok_json_bool(object, "normalizer", "handle_chinese_chars", &n->chinese_chars, err));
  TL_TRY(tok_json_bool(object, "normalizer", "lowercase", &n->lowercase, err));
  n->strip_accents = n->lowercase; /* unless it says otherwise */
  return tok_json_bool(object, "normalizer", "strip_accents", &n->strip_accents, err);
}

static tl_status read_step(tok_steps *steps, const json_t *object, const char *type, tl_err *err) {
  static const struct {
    const char *type;
    enum tok_op op;
  } ops[] = {
      {"BertNormalizer", NORM_BERT},
      {"NFC", NORM_NFC},
      {"NFD", NORM_NFD},
      {"NFKC", NORM_NFKC},
      {"NFKD", NORM_NFKD},
      {"Lowercase", NORM_LOWERCASE},
      {"StripAccents", NORM_STRIP_ACCENTS},
      {"Strip", NORM_STRIP},
      {"Replace", NORM_REPLACE},
      {"Prepend", NORM_PREPEND},
      {"Nmt", NORM_NMT},
      {"Precompiled", NORM_CHARSMAP},
      {"ByteLevel", NORM_BYTE_LEVEL},
  };
  size_t i = 0, n = sizeof ops / sizeof *ops;
  while (i < n && strcmp(type, ops[i].type) != 0) i++;
  if (i == n) return tl_fail(err, TL_DATA, "normalizer: type \"%.100s\" is not supported", type);
  tok_step *s = tok_steps_add(steps, ops[i].op);
  if (!s) return tok_nomem(err);
  switch (s->op) {
  case NORM_BERT:
    return read_bert(s, object, err);
  case NORM_STRIP:
    s->left = s->right = true;
    TL_TRY(tok_json_bool(object, "normalizer", "strip_left", &s->left, err));
    return tok_json_bool(object, "normalizer", "strip_right", &s->right, err);
  case NORM_REPLACE:
    TL_TRY(tok_pattern_read(&s->pattern, json_object_get(object, "pattern"), "normalizer.pattern",
                            err));
    return tok_step_text(s, object, "normalizer", "content", true, err);
  case NORM_PREPEND:
    return tok_step_text(s, object, "normalizer", "prepend", true, err);
  case NORM_CHARSMAP: {
    const char *map = json_string_value(json_object_get(object, "precompiled_charsmap"));
    if (!map)
      return tl_fail(err, TL_DATA, "normalizer.precompiled_charsmap is missing or not a string");
    return tok_charsmap_read(&s->map, map, err);
  }
  default:
    return TL_OK;
  }
}

tl_status tok_norm_read(tok_steps *s, const json_t *object, tl_err *err) {
  return tok_read_chain(s, object, "normalizer", "normalizers", read_step, err);
}

/* ---- normal forms ---- */

static bool room(tok_run *r, size_t n) {
  if (n <= r->cap_cps) return true;
  int32_t *p = realloc(r->cps, n * 2 * sizeof *p);
  if (!p) return false;
  r->cps = p;
  r->cap_cps = n * 2;
  return true;
}

static void put(tl_buf *out, int32_t cp) {
  char s[4];
  tl_buf_append(out, s, tok_utf8_put(cp, s));
}

/* The normal form of a stretch of text. */
static bool normal_stretch(tok_run *r, const unsigned char *p, size_t len, utf8proc_option_t o) {
  utf8proc_ssize_t n = -1;
  for (size_t want = len * 4 + 32;; want = (size_t)n) {
    if (!room(r, want)) return false;
    n = utf8proc_decompose(p, (utf8proc_ssize_t)len, r->cps, (utf8proc_ssize_t)r->cap_cps, o);
    if (n < 0) return false;
    if ((size_t)n <= r->cap_cps) break;
  }
  if (o & UTF8PROC_COMPOSE) n = utf8proc_normalize_utf32(r->cps, n, o);
  for (utf8proc_ssize_t i = 0; i < n; i++) put(&r->other, r->cps[i]);
  return n >= 0;
}

/* ASCII is its own normal form, and nothing before an ASCII character composes with it: so only
 * stretches of other characters, with the one before them, are looked at. */
static bool normal_form(tok_run *r, utf8proc_option_t o) {
  const unsigned char *p = (const unsigned char *)r->text.data;
  size_t len = r->text.len;
  for (size_t i = 0; i < len;) {
    size_t end = i;
    while (end < len && p[end] < 0x80) end++;
    size_t start = end < len && end > i ? end - 1 : end;
    tl_buf_append(&r->other, p + i, start - i);
    size_t apart = 0; /* bytes of a character that is copied */
    while (end < len && p[end] >= 0x80 && !apart) {
      int32_t cp;
      size_t n = tok_utf8(p + end, len - end, &cp);
      if (tok_is_left_alone(cp))
        apart = n;
      else
        end += n;
    }
    if (end > start && !normal_stretch(r, p + start, end - start, o)) return false;
    tl_buf_append(&r->other, p + end, apart);
    i = end + apart;
  }
  return true;
}

/* ---- by character ---- */

static void put_lower(tl_buf *out, int32_t cp) {
  if (cp == 0x130) {
    put(out, 'i');
    put(out, 0x307);
  } else {
    put(out, utf8proc_tolower(cp));
  }
}

/* SentencePiece's table of control characters and spaces. -1: left out. */
static int32_t nmt(int32_t cp) {
  if ((cp >= 1 && cp <= 8) || cp == 0xB || (cp >= 0xE && cp <= 0x1F) || cp == 0x7F || cp == 0x8F ||
      cp == 0x9F)
    return -1;
  if (cp == 9 || cp == 0xA || cp == 0xC || cp == 0xD || cp == 0x1680 ||
      (cp >= 0x200B && cp <= 0x200F) || cp == 0x2028 || cp == 0x2029 || cp == 0x2581 ||
      cp == 0xFEFF || cp == 0xFFFD)
    return ' ';
  return cp;
}

static void each_char(const tok_step *s, tok_run *r) {
  const unsigned char *p = (const unsigned char *)r->text.data;
  for (size_t i = 0; i < r->text.len;) {
    int32_t cp;
    size_t n = tok_utf8(p + i, r->text.len - i, &cp);
    if (s->op == NORM_LOWERCASE) {
      put_lower(&r->other, cp);
    } else if (s->op == NORM_STRIP_ACCENTS) {
      if (!tok_is_mark(cp)) tl_buf_append(&r->other, p + i, n);
    } else if (nmt(cp) >= 0) {
      put(&r->other, nmt(cp));
    }
    i += n;
  }
}

static void strip(const tok_step *s, tok_run *r) {
  const unsigned char *p = (const unsigned char *)r->text.data;
  size_t a = 0, b = r->text.len;
  int32_t cp;
  for (size_t n; s->left && a < b; a += n) {
    n = tok_utf8(p + a, b - a, &cp);
    if (!tok_is_space(cp)) break;
  }
  while (s->right && b > a) {
    size_t k = b - 1;
    while (k > a && (p[k] & 0xC0) == 0x80) k--;
    tok_utf8(p + k, b - k, &cp);
    if (!tok_is_space(cp)) break;
    b = k;
  }
  r->head = r->head > a ? r->head - a : 0;
  tl_buf_append(&r->other, p + a, b - a);
}

static tl_status replace(const tok_step *s, tok_run *r, tl_err *err) {
  const unsigned char *p = (const unsigned char *)r->text.data;
  size_t from = 0, start, end;
  for (;;) {
    bool found;
    TL_TRY(tok_pattern_next(&s->pattern, &r->matcher, p, r->text.len, from, &found, &start, &end,
                            err));
    if (!found) break;
    tl_buf_append(&r->other, p + from, start - from);
    tl_buf_append(&r->other, s->text, s->text_len);
    from = end;
  }
  tl_buf_append(&r->other, p + from, r->text.len - from);
  return TL_OK;
}

/* What a charsmap of a hostile file makes need not be UTF-8. */
static void charsmap(const tok_step *s, tok_run *r) {
  tl_buf raw = {0};
  tok_charsmap_apply(s->map, (const unsigned char *)r->text.data, r->text.len, &raw);
  tl_buf_clear(&r->other);
  if (raw.oom)
    r->other.oom = true;
  else
    tl_utf8_replace(raw.data ? raw.data : "", raw.len, &r->other);
  tl_buf_free(&raw);
}

static tl_status run_step(const tok_step *s, tok_run *r, tl_err *err) {
  const utf8proc_option_t d = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
                          c = UTF8PROC_STABLE | UTF8PROC_COMPOSE, k = UTF8PROC_COMPAT;
  const unsigned char *p = (const unsigned char *)r->text.data;
  bool ok = true;
  switch (s->op) {
  case NORM_BERT:
    return tok_normalize(&s->bert, p, r->text.len, &r->other, err);
  case NORM_NFC:
    ok = normal_form(r, c);
    break;
  case NORM_NFD:
    ok = normal_form(r, d);
    break;
  case NORM_NFKC:
    ok = normal_form(r, c | k);
    break;
  case NORM_NFKD:
    ok = normal_form(r, d | k);
    break;
  case NORM_STRIP:
    strip(s, r);
    break;
  case NORM_REPLACE:
    return replace(s, r, err);
  case NORM_PREPEND:
    if (r->text.len) tl_buf_append(&r->other, s->text, s->text_len);
    tl_buf_append(&r->other, p, r->text.len);
    break;
  case NORM_CHARSMAP:
    charsmap(s, r);
    break;
  case NORM_BYTE_LEVEL:
    tok_bytes_to_chars(p, r->text.len, &r->other);
    break;
  default:
    each_char(s, r);
  }
  return ok ? TL_OK : tok_nomem(err);
}

/* Sets r->head for the text that the step has made, r->other. A step that sees the first character
 * alone makes of it what the whole text's form begins with, unless marks change places or
 * characters compose: then it is taken for one character. */
static tl_status move_head(const tok_step *s, tok_run *r, tl_err *err) {
  tok_run first = {0};
  int32_t cp;
  tl_buf_append(&first.text, r->text.data, r->head);
  tl_status st = tl_buf_check(&first.text, err);
  if (st == TL_OK) st = run_step(s, &first, err);
  size_t n = first.other.len;
  if (n <= r->other.len && (n == 0 || memcmp(first.other.data, r->other.data, n) == 0))
    r->head = n;
  else
    r->head = tok_utf8((const unsigned char *)r->other.data, r->other.len, &cp);
  tok_run_free(&first);
  return st;
}

/* Replacements can each make a text longer; together they could fill the memory. */
enum { MAX_GROWTH = 64 };

tl_status tok_norm_run(const tok_steps *s, tok_run *r, tl_err *err) {
  size_t limit = (r->text.len + 1024) * MAX_GROWTH;
  for (size_t i = 0; i < s->n; i++) {
    tl_buf_clear(&r->other);
    tl_buf_reserve(&r->other, r->text.len);
    TL_TRY(run_step(&s->step[i], r, err));
    TL_TRY(tl_buf_check(&r->other, err));
    if (r->other.len > limit)
      return tl_fail(
          err, TL_DATA,
          "tokenizer: its normalizer makes %zu bytes of a text more than %d times longer",
          r->text.len, MAX_GROWTH);
    if (r->head && s->step[i].op != NORM_STRIP) TL_TRY(move_head(&s->step[i], r, err));
    tl_buf t = r->text;
    r->text = r->other;
    r->other = t;
  }
  return TL_OK;
}
