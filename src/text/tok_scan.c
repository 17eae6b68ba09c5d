/* Scanners of the regular expressions that cut texts into words in most byte-level tokenizers:
 * GPT-2's, Llama 3's (with other numbers Qwen 2's) and GPT-4o's. Each finds the next word at p; no
 * byte is left over. */
#include "tok_internal.h"

#include <utf8proc.h>

enum kind { LETTER, NUMBER, SPACE, OTHER };

/* Ill-formed bytes are OTHER, one at a time. */
static enum kind classify(int32_t cp) {
  if (tok_is_letter(cp)) return LETTER;
  if (cp < 0) return OTHER;
  if (tok_is_number(cp)) return NUMBER;
  return tok_is_space(cp) ? SPACE : OTHER;
}

static const unsigned char ascii_class[128] = {
#define S SPACE
#define O OTHER
#define N NUMBER
#define L LETTER
    O, O, O, O, O, O, O, O, O, S, S, S, S, S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, N, N, N, N, N, N, N, N, N, N, O, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
#undef S
#undef O
#undef N
#undef L
};

static inline enum kind next_class(const unsigned char *p, size_t len, size_t *n) {
  if (p[0] < 0x80) {
    *n = 1;
    return ascii_class[p[0]];
  }
  int32_t cp;
  *n = tok_utf8(p, len, &cp);
  return classify(cp);
}

static size_t run(const unsigned char *p, size_t len, size_t i, enum kind want) {
  while (i < len) {
    size_t n;
    if (next_class(p + i, len - i, &n) != want) break;
    i += n;
  }
  return i;
}

/* Length of 's 't 're 've 'm 'll 'd at p, or 0. */
static size_t contraction(const unsigned char *p, size_t len) {
  if (len < 2) return 0;
  switch (p[1]) {
  case 's':
  case 't':
  case 'm':
  case 'd':
    return 2;
  case 'r':
  case 'v':
    return len > 2 && p[2] == 'e' ? 3 : 0;
  case 'l':
    return len > 2 && p[2] == 'l' ? 3 : 0;
  default:
    return 0;
  }
}

/* The alternatives of
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * in their order. */
size_t tok_gpt2_next(const unsigned char *p, size_t len) {
  size_t n;
  if (p[0] == '\'') {
    n = contraction(p, len);
    if (n) return n;
  }
  size_t start = p[0] == ' ' && len > 1;
  enum kind c = next_class(p + start, len - start, &n);
  if (c != SPACE) return run(p, len, start + n, c);

  /* White space: all of it at the end of the text, else all but its last character, which may
   * be the space that begins the next pre-token. */
  size_t end = 0, last = 0;
  while (end < len) {
    if (next_class(p + end, len - end, &n) != SPACE) break;
    last = end;
    end += n;
  }
  return end == len || last == 0 ? end : last;
}

/* The same for capitals, too, and for the long s. */
static size_t contraction_any_case(const unsigned char *p, size_t len) {
  unsigned char low[3] = {'\''};
  if (len >= 3 && p[1] == 0xC5 && p[2] == 0xBF) return 3;
  for (size_t i = 1; i < 3 && i < len; i++) low[i] = p[i] < 0x80 ? p[i] | 32 : 0;
  return contraction(low, len < 3 ? len : 3);
}

static bool is_line_end(unsigned char c) {
  return c == '\r' || c == '\n';
}

/* What Llama 3's and GPT-4o's expressions have behind words and numbers, the alternatives
 *    ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * The line ends behind the first one go with slashes in GPT-4o's. */
static size_t other_or_space(const unsigned char *p, size_t len, bool slashes) {
  size_t n, k;
  enum kind c = next_class(p, len, &n);
  if (c == OTHER || (p[0] == ' ' && n < len && next_class(p + n, len - n, &k) == OTHER)) {
    n = run(p, len, n, OTHER);
    while (n < len && (is_line_end(p[n]) || (slashes && p[n] == '/'))) n++;
    return n;
  }
  size_t end = 0, last = 0, line = 0;
  while (end < len) {
    if (next_class(p + end, len - end, &n) != SPACE) break;
    last = end;
    end += n;
    if (is_line_end(p[last])) line = end;
  }
  if (line) return line;
  return end == len || last == 0 ? end : last;
}

/* \p{N}{1,digits} of which the first has n bytes. */
static size_t number(const unsigned char *p, size_t len, size_t n, int digits) {
  size_t k;
  for (int i = 1; i < digits && n < len; i++, n += k)
    if (next_class(p + n, len - n, &k) != NUMBER) break;
  return n;
}

/* The alternatives of
 *   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}|
 *    ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * in their order. */
size_t tok_llama3_next(const unsigned char *p, size_t len, int digits) {
  size_t n, k;
  if (p[0] == '\'') {
    n = contraction_any_case(p, len);
    if (n) return n;
  }
  enum kind c = next_class(p, len, &n);
  if (c == LETTER) return run(p, len, n, LETTER);
  if (c == NUMBER) return number(p, len, n, digits);
  enum kind after = n < len ? next_class(p + n, len - n, &k) : SPACE;
  if (after == LETTER && !is_line_end(p[0])) return run(p, len, n, LETTER);
  return other_or_space(p, len, false);
}

/* Letters and marks of GPT-4o's words: they begin with capitals and go on with small ones; letters
 * without case and marks are both. 0: neither letter nor mark. */
enum { CAPITAL = 1, SMALL = 2 };

static inline int case_of(const unsigned char *p, size_t len, size_t *n) {
  if (p[0] < 0x80) {
    *n = 1;
    return ascii_class[p[0]] != LETTER ? 0 : p[0] & 32 ? SMALL : CAPITAL;
  }
  int32_t cp;
  *n = tok_utf8(p, len, &cp);
  switch (utf8proc_category(cp)) {
  case UTF8PROC_CATEGORY_LU:
  case UTF8PROC_CATEGORY_LT:
    return CAPITAL;
  case UTF8PROC_CATEGORY_LL:
    return SMALL;
  case UTF8PROC_CATEGORY_LM:
  case UTF8PROC_CATEGORY_LO:
  case UTF8PROC_CATEGORY_MN:
  case UTF8PROC_CATEGORY_MC:
  case UTF8PROC_CATEGORY_ME:
    return CAPITAL | SMALL;
  default:
    return 0;
  }
}

/* Where the characters of one case from i on end; *both: the end of the last that is of both cases
 * (0: none). */
static size_t case_run(const unsigned char *p, size_t len, size_t i, int want, size_t *both) {
  *both = 0;
  while (i < len) {
    size_t n;
    int c = case_of(p + i, len - i, &n);
    if (!(c & want)) break;
    i += n;
    if (c == (CAPITAL | SMALL)) *both = i;
  }
  return i;
}

/* A word of which `start` bytes are passed: capitals, then at least one small letter, where
 * `small`; else at least one capital, then small ones. Its end, or 0. */
static size_t cased_word(const unsigned char *p, size_t len, size_t start, bool small) {
  size_t both, unused, capitals = case_run(p, len, start, CAPITAL, &both);
  size_t end = case_run(p, len, capitals, SMALL, &unused);
  if (end > capitals) return end;
  /* No small letter behind the capitals: the last of them that can be one, as backtracking finds
   * it. */
  if (small) return both;
  return capitals > start ? capitals : 0;
}

/* The alternatives of
 *   [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
 *   [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
 *   \p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * in their order. */
size_t tok_o200k_next(const unsigned char *p, size_t len) {
  size_t n, end = 0;
  enum kind c = next_class(p, len, &n);
  if (c == NUMBER) return number(p, len, n, 3);
  bool before = c != LETTER && !is_line_end(p[0]); /* a character before the word is tried first */
  for (int small = 1; small >= 0 && !end; small--) {
    if (before) end = cased_word(p, len, n, small);
    if (!end) end = cased_word(p, len, 0, small);
  }
  if (!end) return other_or_space(p, len, true);
  return end < len && p[end] == '\'' ? end + contraction_any_case(p + end, len - end) : end;
}
