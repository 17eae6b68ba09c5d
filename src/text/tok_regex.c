/* Patterns: strings, the regular expressions that most tokenizers have, and any other by PCRE2.
 *
 * Regular expressions come from files that are not trusted. PCRE2's limits on steps, depth and
 * memory end a match that backtracks without end; it is then an error of the data. */
#define _GNU_SOURCE /* memmem */
#include "tok_pipe.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

enum { MAX_PATTERN = 1 << 12, MAX_STEPS_OF_A_MATCH = 1 << 20, MAX_HEAP_KIB = 1 << 15 };

#define LLAMA3_HEAD "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
#define LLAMA3_TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

#define O200K_WORD(CAPITALS, SMALL)                                                                \
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]" CAPITALS                            \
  "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]" SMALL "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
#define O200K_TAIL "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct known {
  const char *regex;
  enum tok_pattern_kind kind;
  int digits;
} known[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", PAT_GPT2,
     0},
    {LLAMA3_HEAD "{1,3}" LLAMA3_TAIL, PAT_LLAMA3, 3},
    {LLAMA3_HEAD LLAMA3_TAIL, PAT_LLAMA3, 1},
    {O200K_WORD("*", "+") O200K_WORD("+", "*") O200K_TAIL, PAT_O200K, 0},
};

/* What \s and \w are in the library that wrote the file; PCRE2's differ in a few code points. */
#define SPACES                                                                                     \
  "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}"                                 \
  "\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define WORDS                                                                                      \
  "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200C}\\x{200D}\\x{24B6}-\\x{24E9}"                         \
  "\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"

static void translate(const char *s, tl_buf *out) {
  bool in_class = false;
  for (; *s; s++) {
    if (*s == '\\' && s[1]) {
      const char *set = s[1] == 's' || s[1] == 'S'   ? SPACES
                        : s[1] == 'w' || s[1] == 'W' ? WORDS
                                                     : NULL;
      bool negated = s[1] == 'S' || s[1] == 'W';
      if (set && !(in_class && negated)) {
        if (!in_class) tl_buf_puts(out, negated ? "[^" : "[");
        tl_buf_puts(out, set);
        if (!in_class) tl_buf_putc(out, ']');
      } else {
        tl_buf_append(out, s, 2);
      }
      s++;
      continue;
    }
    if (*s == '[') in_class = true;
    if (*s == ']') in_class = false;
    tl_buf_putc(out, *s);
  }
}

static tl_status compile(tok_pattern *p, const char *regex, const char *where, tl_err *err) {
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (strcmp(regex, known[i].regex) != 0) continue;
    p->kind = known[i].kind;
    p->digits = known[i].digits;
    return TL_OK;
  }
  if (strlen(regex) > MAX_PATTERN)
    return tl_fail(err, TL_DATA, "%s: the regular expression has more than %d bytes", where,
                   MAX_PATTERN);
  tl_buf b = {0};
  translate(regex, &b);
  TL_TRY(tl_buf_check(&b, err));
  int code = 0;
  PCRE2_SIZE at = 0;
  p->code = pcre2_compile((PCRE2_SPTR)(b.data ? b.data : ""), b.len,
                          PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
  tl_buf_free(&b);
  if (!p->code) {
    unsigned char msg[128] = "";
    pcre2_get_error_message(code, msg, sizeof msg);
    return tl_fail(err, TL_DATA, "%s: the regular expression \"%.100s\" is not understood: %s",
                   where, regex, (char *)msg);
  }
  pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* without it matching is slower, that is all */
  p->kind = PAT_PCRE;
  return TL_OK;
}

tl_status tok_pattern_read(tok_pattern *p, const json_t *object, const char *where, tl_err *err) {
  const char *s = json_string_value(json_object_get(object, "String"));
  const char *regex = json_string_value(json_object_get(object, "Regex"));
  if ((!s && !regex) || (s && regex))
    return tl_fail(err, TL_DATA, "%s: expected a pattern {\"String\": ...} or {\"Regex\": ...}",
                   where);
  if (regex) return compile(p, regex, where, err);
  p->kind = PAT_LITERAL;
  p->literal = strdup(s);
  p->len = strlen(s);
  return p->literal ? TL_OK : tok_nomem(err);
}

void tok_pattern_free(tok_pattern *p) {
  free(p->literal);
  pcre2_code_free(p->code);
}

void tok_matcher_free(tok_matcher *m) {
  pcre2_match_data_free(m->data);
  pcre2_match_context_free(m->limits);
}

static tl_status next_pcre(const tok_pattern *pat, tok_matcher *m, const unsigned char *p,
                           size_t len, size_t from, bool *found, size_t *start, size_t *end,
                           tl_err *err) {
  if (!m->data) {
    m->data = pcre2_match_data_create(1, NULL);
    m->limits = pcre2_match_context_create(NULL);
    if (!m->data || !m->limits) return tok_nomem(err);
    pcre2_set_match_limit(m->limits, MAX_STEPS_OF_A_MATCH);
    pcre2_set_depth_limit(m->limits, MAX_STEPS_OF_A_MATCH);
    pcre2_set_heap_limit(m->limits, MAX_HEAP_KIB);
  }
  uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
  int n = pcre2_match(pat->code, p, len, from, options, m->data, m->limits);
  if (n == PCRE2_ERROR_JIT_STACKLIMIT)
    n = pcre2_match(pat->code, p, len, from, options | PCRE2_NO_JIT, m->data, m->limits);
  *found = n >= 0;
  if (n == PCRE2_ERROR_NOMATCH) return TL_OK;
  if (n < 0)
    return tl_fail(err, TL_DATA,
                   "tokenizer: its regular expression takes too many steps at byte %zu of the text "
                   "(PCRE2's error %d)",
                   from, n);
  const PCRE2_SIZE *at = pcre2_get_ovector_pointer(m->data);
  *start = at[0];
  *end = at[1];
  /* \K and lookbehind can move the start: what was passed is not given again. */
  if (*start < from) *start = from;
  if (*end < *start) *end = *start;
  *found = *end > *start;
  return TL_OK;
}

static size_t scan(const tok_pattern *pat, const unsigned char *p, size_t len) {
  return pat->kind == PAT_GPT2     ? tok_gpt2_next(p, len)
         : pat->kind == PAT_LLAMA3 ? tok_llama3_next(p, len, pat->digits)
                                   : tok_o200k_next(p, len);
}

tl_status tok_pattern_next(const tok_pattern *pat, tok_matcher *m, const unsigned char *p,
                           size_t len, size_t from, bool *found, size_t *start, size_t *end,
                           tl_err *err) {
  *found = false;
  if (from >= len) return TL_OK;
  switch (pat->kind) {
  case PAT_LITERAL: {
    const unsigned char *at =
        pat->len ? memmem(p + from, len - from, pat->literal, pat->len) : NULL;
    *found = at != NULL;
    *start = at ? (size_t)(at - p) : len;
    *end = *start + pat->len;
    return TL_OK;
  }
  case PAT_GPT2:
  case PAT_LLAMA3:
  case PAT_O200K: /* these match everywhere */
    *found = true;
    *start = from;
    *end = from + scan(pat, p + from, len - from);
    return TL_OK;
  case PAT_PCRE:
    return next_pcre(pat, m, p, len, from, found, start, end, err);
  default:
    return TL_OK;
  }
}
