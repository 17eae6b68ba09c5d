/* Code points, character classes and GPT-2's pre-tokenization. */
#include "tok_internal.h"

#include <string.h>
#include <utf8proc.h>

size_t tok_utf8(const unsigned char *p, size_t len, int32_t *cp) {
  static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
  unsigned char c = p[0];
  *cp = -1;
  if (c < 0x80) {
    *cp = c;
    return 1;
  }
  size_t n = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
  if (c < 0xC2 || c > 0xF4 || len < n) return 1;
  uint32_t v = c & (0x7Fu >> n);
  for (size_t i = 1; i < n; i++) {
    if ((p[i] & 0xC0) != 0x80) return 1;
    v = v << 6 | (p[i] & 0x3F);
  }
  if (v < least[n] || v > 0x10FFFF || (v >= 0xD800 && v < 0xE000)) return 1;
  *cp = (int32_t)v;
  return n;
}

size_t tok_utf8_put(int32_t cp, char out[4]) {
  return (size_t)utf8proc_encode_char(cp, (utf8proc_uint8_t *)out);
}

bool tok_is_space(int32_t cp) {
  if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13);
  return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
         cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool tok_is_letter(int32_t cp) {
  if (cp < 0x80) return cp >= 0 && (unsigned)((cp | 32) - 'a') < 26;
  utf8proc_category_t c = utf8proc_category(cp);
  return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool tok_is_number(int32_t cp) {
  if (cp < 0x80) return cp >= '0' && cp <= '9';
  utf8proc_category_t c = utf8proc_category(cp);
  return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}

typedef struct tok_range {
  int32_t first, last;
} tok_range;
#include "tok_unicode_diff.inc"

static bool within(const tok_range *r, size_t n, int32_t cp) {
  if (cp < r[0].first || cp > r[n - 1].last) return false;
  size_t lo = 0;
  while (n > 1) {
    size_t half = n / 2;
    if (r[lo + half].first <= cp) lo += half;
    n -= half;
  }
  return cp <= r[lo].last;
}
#define WITHIN(R, CP) within(R, sizeof(R) / sizeof(R)[0], CP)

static bool is_nonspacing(int32_t cp) {
  return (utf8proc_category(cp) == UTF8PROC_CATEGORY_MN) != WITHIN(diff_mn, cp);
}

bool tok_is_mark(int32_t cp) {
  utf8proc_category_t c = utf8proc_category(cp);
  return (c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_ME) != WITHIN(diff_mark, cp);
}

bool tok_is_left_alone(int32_t cp) {
  return WITHIN(diff_order, cp) || WITHIN(diff_whole, cp);
}

bool tok_is_punct(int32_t cp) {
  if (cp < 0x80) {
    return (cp >= 33 && cp <= 47) || (cp >= 58 && cp <= 64) || (cp >= 91 && cp <= 96) ||
           (cp >= 123 && cp <= 126);
  }
  utf8proc_category_t c = utf8proc_category(cp);
  return (c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO) != WITHIN(diff_punct, cp);
}

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
  if (c == NUMBER) {
    for (int i = 1; i < digits && n < len; i++, n += k)
      if (next_class(p + n, len - n, &k) != NUMBER) break;
    return n;
  }
  enum kind after = n < len ? next_class(p + n, len - n, &k) : SPACE;
  if (after == LETTER && !is_line_end(p[0])) return run(p, len, n, LETTER);
  if (c == OTHER || (p[0] == ' ' && after == OTHER)) {
    n = run(p, len, n, OTHER);
    while (n < len && is_line_end(p[n])) n++;
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

/* Bytes that GPT-2 shows as themselves: 33..126, 161..172, 174..255; the others are counted
 * upwards from U+0100. */
static int32_t byte_char(unsigned char b) {
  if (b <= 32) return 0x100 + b;
  if (b >= 127 && b <= 160) return 0x100 + 33 + (b - 127);
  return b == 173 ? 0x100 + 67 : b;
}

int tok_char_byte(int32_t cp) {
  if (cp >= 0x100 && cp <= 0x120) return cp - 0x100;
  if (cp > 0x120 && cp < 0x143) return cp - 0x121 + 127;
  if (cp == 0x143) return 173;
  return cp > 32 && cp < 256 && byte_char((unsigned char)cp) == cp ? cp : -1;
}

size_t tok_byte_string(unsigned char byte, char out[4]) {
  return tok_utf8_put(byte_char(byte), out);
}

/* "Control" in BERT's sense: tab and line ends count as white space there, and code points that
 * are not assigned stay, as in Hugging Face's implementation. */
static bool is_control(int32_t cp) {
  if (cp == '\t' || cp == '\n' || cp == '\r') return false;
  return (utf8proc_category(cp) >= UTF8PROC_CATEGORY_CC) != WITHIN(diff_control, cp);
}

static bool is_chinese(int32_t cp) {
  return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) ||
         (cp >= 0x20000 && cp <= 0x2A6DF) || (cp >= 0x2A700 && cp <= 0x2B73F) ||
         (cp >= 0x2B740 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) ||
         (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

static void put(tl_buf *out, int32_t cp) {
  char s[4];
  tl_buf_append(out, s, tok_utf8_put(cp, s));
}

static void put_lower(const tok_norm *norm, tl_buf *out, int32_t cp) {
  if (!norm->lowercase) {
    put(out, cp);
  } else if (cp == 0x130) { /* the one letter whose lower case is two code points */
    put(out, 'i');
    put(out, 0x307);
  } else {
    put(out, utf8proc_tolower(cp));
  }
}

/* One code point outside ASCII: cleaned, spaced, decomposed, lowered in this order. */
static void normalize_one(const tok_norm *norm, int32_t cp, tl_buf *out) {
  if (cp < 0) cp = 0xFFFD;
  if (norm->clean_text) {
    if (cp == 0xFFFD || is_control(cp)) return;
    if (tok_is_space(cp)) cp = ' ';
  }
  bool spaced = norm->chinese_chars && is_chinese(cp);
  if (spaced) tl_buf_putc(out, ' ');
  if (norm->strip_accents) {
    utf8proc_int32_t part[32];
    int boundary = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char(cp, part, 32, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
    for (utf8proc_ssize_t i = 0; i < n && i < 32; i++) {
      if (!is_nonspacing(part[i])) put_lower(norm, out, part[i]);
    }
  } else {
    put_lower(norm, out, cp);
  }
  if (spaced) tl_buf_putc(out, ' ');
}

tl_status tok_normalize(const tok_norm *norm, const unsigned char *p, size_t len, tl_buf *out,
                        tl_err *err) {
  if (!norm->on) {
    tl_buf_append(out, p, len);
    return tl_buf_check(out, err);
  }
  for (size_t i = 0; i < len;) {
    if (p[i] >= 0x80) {
      int32_t cp;
      i += tok_utf8(p + i, len - i, &cp);
      normalize_one(norm, cp, out);
      continue;
    }
    /* A run of ASCII is written in place: it does not grow. */
    if (!tl_buf_reserve(out, len - i)) break;
    char *to = out->data + out->len;
    for (; i < len && p[i] < 0x80; i++) {
      unsigned char c = p[i];
      if (norm->clean_text && (c < 32 || c == 127)) {
        if (c != '\t' && c != '\n' && c != '\r') continue;
        c = ' ';
      }
      if (norm->lowercase && (unsigned)(c - 'A') < 26) c |= 32;
      *to++ = (char)c;
    }
    *to = 0;
    out->len = (size_t)(to - out->data);
  }
  return tl_buf_check(out, err);
}
