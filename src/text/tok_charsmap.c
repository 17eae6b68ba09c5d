/* SentencePiece's precompiled normalization: a double-array trie from strings to strings.
 * Base64 of: u32 bytes of the trie; its units, u32 each; the replacements, each ended by 0. */
#include "tok_pipe.h"

#include <stdlib.h>
#include <utf8proc.h>

struct tok_charsmap {
  uint32_t *unit;
  size_t n_units;
  char *text; /* ends with 0 */
  size_t len;
  const char *ascii[128]; /* the replacement; NULL: stays */
};

static int base64_digit(unsigned char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static tl_status decode_base64(const char *s, tl_buf *out, tl_err *err) {
  uint32_t acc = 0;
  int bits = 0;
  size_t n = strlen(s);
  while (n > 0 && s[n - 1] == '=') n--;
  for (size_t i = 0; i < n; i++) {
    int d = base64_digit((unsigned char)s[i]);
    if (d < 0) return tl_fail(err, TL_DATA, "normalizer.precompiled_charsmap is not base64");
    acc = acc << 6 | (uint32_t)d;
    bits += 6;
    if (bits >= 8) tl_buf_putc(out, (char)(acc >> (bits -= 8)));
  }
  return tl_buf_check(out, err);
}

static size_t offset_of(uint32_t unit) {
  return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* The replacement of the shortest key that the text begins with (so the library has it). */
static const char *find(const struct tok_charsmap *m, const unsigned char *p, size_t len) {
  size_t pos = 0;
  if (m->n_units == 0) return NULL;
  pos ^= offset_of(m->unit[0]);
  for (size_t i = 0; i < len && p[i]; i++) {
    pos ^= p[i];
    if (pos >= m->n_units) return NULL;
    uint32_t unit = m->unit[pos];
    if ((unit & (1u << 31 | 0xFF)) != p[i]) return NULL;
    pos ^= offset_of(unit);
    if (!(unit >> 8 & 1)) continue;
    if (pos >= m->n_units) return NULL;
    uint32_t value = m->unit[pos] & ~(1u << 31);
    return value < m->len ? m->text + value : NULL;
  }
  return NULL;
}

static tl_status build(struct tok_charsmap *m, const tl_buf *b, tl_err *err) {
  const unsigned char *p = (const unsigned char *)b->data;
  if (b->len < 4) return tl_fail(err, TL_DATA, "normalizer.precompiled_charsmap is too short");
  size_t n = p[0] | p[1] << 8 | p[2] << 16 | (size_t)p[3] << 24;
  if (n % 4 || n > b->len - 4)
    return tl_fail(err, TL_DATA,
                   "normalizer.precompiled_charsmap: its trie has %zu bytes, there are %zu", n,
                   b->len - 4);
  m->n_units = n / 4;
  m->len = b->len - 4 - n;
  m->unit = malloc(n + 4);
  m->text = malloc(m->len + 1);
  if (!m->unit || !m->text) return tok_nomem(err);
  for (size_t i = 0; i < m->n_units; i++) {
    const unsigned char *u = p + 4 + 4 * i;
    m->unit[i] = u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
  }
  memcpy(m->text, p + 4 + n, m->len);
  m->text[m->len] = 0;
  if (utf8proc_decompose((const utf8proc_uint8_t *)m->text, (utf8proc_ssize_t)m->len, NULL, 0, 0) <
      0)
    return tl_fail(err, TL_DATA, "normalizer.precompiled_charsmap: its text is not UTF-8");
  for (int c = 1; c < 128; c++) m->ascii[c] = find(m, (unsigned char[]){(unsigned char)c}, 1);
  return TL_OK;
}

tl_status tok_charsmap_read(struct tok_charsmap **out, const char *base64, tl_err *err) {
  tl_buf b = {0};
  struct tok_charsmap *m = calloc(1, sizeof *m);
  tl_status s = m ? decode_base64(base64, &b, err) : tok_nomem(err);
  if (s == TL_OK) s = build(m, &b, err);
  tl_buf_free(&b);
  if (s != TL_OK) {
    tok_charsmap_free(m);
    m = NULL;
  }
  *out = m;
  return s;
}

void tok_charsmap_free(struct tok_charsmap *m) {
  if (!m) return;
  free(m->unit);
  free(m->text);
  free(m);
}

/* Length of the grapheme at p. */
static size_t grapheme(const unsigned char *p, size_t len) {
  int32_t cp, next;
  utf8proc_int32_t state = 0;
  size_t n = tok_utf8(p, len, &cp);
  while (n < len) {
    size_t k = tok_utf8(p + n, len - n, &next);
    if (utf8proc_grapheme_break_stateful(cp, next, &state)) break;
    n += k;
    cp = next;
  }
  return n;
}

enum { SHORT_GRAPHEME = 6 }; /* shorter ones are looked up whole */

void tok_charsmap_apply(const struct tok_charsmap *m, const unsigned char *p, size_t len,
                        tl_buf *out) {
  for (size_t i = 0; i < len;) {
    if (p[i] < 0x80 && (i + 1 == len || p[i + 1] < 0x80) && p[i] != '\r') {
      if (m->ascii[p[i]])
        tl_buf_puts(out, m->ascii[p[i]]);
      else
        tl_buf_putc(out, (char)p[i]);
      i++;
      continue;
    }
    size_t n = grapheme(p + i, len - i), end = i + n;
    const char *to = n < SHORT_GRAPHEME ? find(m, p + i, n) : NULL;
    if (to) {
      tl_buf_puts(out, to);
      i = end;
    }
    while (i < end) {
      int32_t cp;
      size_t k = tok_utf8(p + i, end - i, &cp);
      to = find(m, p + i, k);
      if (to)
        tl_buf_puts(out, to);
      else
        tl_buf_append(out, p + i, k);
      i += k;
    }
  }
}
