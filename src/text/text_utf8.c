#include "text/text_utf8.h"

#include <string.h>

/* Length of the sequence that byte `c` starts (0: none), and the bounds of its second byte; the
 * bounds are what excludes overlong forms, surrogates and values above U+10FFFF. */
static int lead(unsigned char c, unsigned char *lo, unsigned char *hi) {
  *lo = 0x80;
  *hi = 0xBF;
  if (c < 0x80) return 1;
  if (c < 0xC2) return 0;
  if (c < 0xE0) return 2;
  if (c < 0xF0) {
    if (c == 0xE0) *lo = 0xA0;
    if (c == 0xED) *hi = 0x9F;
    return 3;
  }
  if (c > 0xF4) return 0;
  if (c == 0xF0) *lo = 0x90;
  if (c == 0xF4) *hi = 0x8F;
  return 4;
}

/* Bytes of the sequence at s that are in place; *need = its full length (0: no sequence). */
static size_t scan(const unsigned char *s, size_t n, int *need) {
  unsigned char lo, hi;
  *need = lead(s[0], &lo, &hi);
  if (*need < 2) return (size_t)*need;
  if (n < 2 || s[1] < lo || s[1] > hi) return 1;
  size_t i = 2;
  while (i < (size_t)*need && i < n && (s[i] & 0xC0) == 0x80) i++;
  return i;
}

size_t tl_utf8_valid_prefix(const char *text, size_t n) {
  const unsigned char *s = (const unsigned char *)text;
  size_t i = 0;
  while (i < n) {
    if (n - i >= 8) {
      uint64_t w;
      memcpy(&w, s + i, 8);
      if (!(w & 0x8080808080808080u)) {
        i += 8;
        continue;
      }
    }
    int need;
    size_t have = scan(s + i, n - i, &need);
    if (need == 0 || have < (size_t)need) return i;
    i += have;
  }
  return n;
}

size_t tl_utf8_bad_length(const char *text, size_t n, bool *truncated) {
  int need;
  size_t have = scan((const unsigned char *)text, n, &need);
  *truncated = need > 1 && have == n;
  return have ? have : 1;
}

void tl_utf8_replace(const char *s, size_t n, tl_buf *out) {
  for (size_t i = 0; i < n;) {
    size_t good = tl_utf8_valid_prefix(s + i, n - i);
    tl_buf_append(out, s + i, good);
    i += good;
    if (i == n) return;
    bool truncated;
    i += tl_utf8_bad_length(s + i, n - i, &truncated);
    tl_buf_append(out, "\xEF\xBF\xBD", 3);
  }
}

size_t tl_utf8_cut(const char *s, size_t max) {
  size_t cut = max;
  while (cut > 0 && max - cut < 3 && ((unsigned char)s[cut] & 0xC0) == 0x80) cut--;
  return cut > 0 && ((unsigned char)s[cut] & 0xC0) != 0x80 ? cut : max;
}
