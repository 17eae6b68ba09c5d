#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool tl_buf_reserve(tl_buf *b, size_t extra) {
  if (b->oom) return false;
  if (extra < b->cap - b->len) return true; /* strictly less: one byte stays for the NUL */
  size_t cap = b->cap ? b->cap : 64;
  while (cap - b->len <= extra) {
    if (cap > SIZE_MAX / 2) {
      b->oom = true;
      return false;
    }
    cap *= 2;
  }
  char *p = realloc(b->data, cap);
  if (!p) {
    b->oom = true;
    return false;
  }
  b->data = p;
  b->cap = cap;
  return true;
}

void tl_buf_append(tl_buf *b, const void *data, size_t n) {
  if (!tl_buf_reserve(b, n)) return;
  if (n) memcpy(b->data + b->len, data, n);
  b->len += n;
  b->data[b->len] = 0;
}

void tl_buf_puts(tl_buf *b, const char *s) {
  tl_buf_append(b, s, strlen(s));
}

void tl_buf_putc(tl_buf *b, char c) {
  tl_buf_append(b, &c, 1);
}

void tl_buf_printf(tl_buf *b, const char *fmt, ...) {
  va_list ap, ap2;
  va_start(ap, fmt);
  va_copy(ap2, ap);
  int n = vsnprintf(NULL, 0, fmt, ap);
  if (n >= 0 && tl_buf_reserve(b, (size_t)n)) {
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap2);
    b->len += (size_t)n;
  }
  va_end(ap2);
  va_end(ap);
}

void tl_buf_put_real(tl_buf *b, double v) {
  char text[40];
  for (int digits = 6; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, v);
    if (strtod(text, NULL) == v) break;
  }
  tl_buf_puts(b, text);
}

void tl_buf_clear(tl_buf *b) {
  b->len = 0;
  if (b->data) b->data[0] = 0;
}

void tl_buf_put_base64(tl_buf *b, const void *data, size_t n) {
  static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const uint8_t *x = data;
  for (size_t i = 0; i < n; i += 3) {
    size_t have = n - i < 3 ? n - i : 3;
    uint32_t v = (uint32_t)x[i] << 16;
    if (have > 1) v |= (uint32_t)x[i + 1] << 8;
    if (have > 2) v |= x[i + 2];
    for (size_t k = 0; k < 4; k++) tl_buf_putc(b, k <= have ? digit[v >> (18 - 6 * k) & 63] : '=');
  }
}

void tl_buf_free(tl_buf *b) {
  free(b->data);
  *b = (tl_buf){0};
}

tl_status tl_buf_check(const tl_buf *b, tl_err *err) {
  return b->oom ? tl_fail(err, TL_NOMEM, "out of memory for a buffer of %zu bytes", b->len) : TL_OK;
}

bool tl_ids_reserve(tl_ids *v, size_t extra) {
  if (v->oom) return false;
  if (extra <= v->cap - v->len) return true;
  size_t cap = v->cap ? v->cap : 64;
  while (cap - v->len < extra) {
    if (cap > SIZE_MAX / (2 * sizeof *v->data)) {
      v->oom = true;
      return false;
    }
    cap *= 2;
  }
  uint32_t *p = realloc(v->data, cap * sizeof *p);
  if (!p) {
    v->oom = true;
    return false;
  }
  v->data = p;
  v->cap = cap;
  return true;
}

void tl_ids_push(tl_ids *v, uint32_t id) {
  if (tl_ids_reserve(v, 1)) v->data[v->len++] = id;
}

void tl_ids_free(tl_ids *v) {
  free(v->data);
  *v = (tl_ids){0};
}
