/* Code points and character classes. */
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
