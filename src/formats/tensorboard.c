/* Protobuf by hand: an Event {1: wall_time double, 2: step int64, 3: file_version string, 5:
 * summary {1: value {1: tag, 2: simple_value float}}, 7: session_log {1: status}} is all that is
 * needed. */
#include "formats/tensorboard.h"

#include <string.h>

uint32_t tl_crc32c(const void *data, size_t n) {
  const unsigned char *p = data;
  uint32_t c = ~0u;
  for (size_t i = 0; i < n; i++) {
    c ^= p[i];
    for (int k = 0; k < 8; k++) c = c >> 1 ^ (0x82f63b78u & (0u - (c & 1)));
  }
  return ~c;
}

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
enum { SESSION_START = 1 };

static void put_le(tl_buf *b, uint64_t v, int bytes) {
  for (int i = 0; i < bytes; i++) tl_buf_putc(b, (char)(v >> 8 * i));
}

static void put_varint(tl_buf *b, uint64_t v) {
  for (; v >= 128; v >>= 7) tl_buf_putc(b, (char)(v | 128));
  tl_buf_putc(b, (char)v);
}

static void put_key(tl_buf *b, unsigned field, unsigned type) {
  put_varint(b, field << 3 | type);
}

static void put_bytes(tl_buf *b, unsigned field, const void *data, size_t n) {
  put_key(b, field, BYTES);
  put_varint(b, n);
  tl_buf_append(b, data, n);
}

static void put_head(tl_buf *event, double wall, int64_t step) {
  uint64_t bits;
  memcpy(&bits, &wall, 8);
  put_key(event, 1, FIXED64);
  put_le(event, bits, 8);
  put_key(event, 2, VARINT);
  put_varint(event, (uint64_t)step);
}

uint32_t tl_tb_masked_crc(const void *data, size_t n) {
  uint32_t c = tl_crc32c(data, n);
  return (c >> 15 | c << 17) + 0xa282ead8u;
}

static void put_record(tl_buf *out, tl_buf *event) {
  unsigned char length[8];
  for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)event->len >> 8 * i);
  tl_buf_append(out, length, 8);
  put_le(out, tl_tb_masked_crc(length, 8), 4);
  tl_buf_append(out, event->data, event->len);
  put_le(out, tl_tb_masked_crc(event->data, event->len), 4);
  out->oom |= event->oom;
  tl_buf_free(event);
}

void tl_tb_version(tl_buf *out, double wall) {
  static const char version[] = "brain.Event:2";
  tl_buf event = {0};
  put_head(&event, wall, 0);
  put_bytes(&event, 3, version, sizeof version - 1);
  put_record(out, &event);
}

void tl_tb_restart(tl_buf *out, double wall, int64_t step) {
  static const char start[] = {1 << 3 | VARINT, SESSION_START};
  tl_buf event = {0};
  put_head(&event, wall, step);
  put_bytes(&event, 7, start, sizeof start);
  put_record(out, &event);
}

void tl_tb_scalars(tl_buf *out, double wall, int64_t step, const tl_metric *m, size_t n) {
  tl_buf event = {0}, summary = {0}, value = {0};
  for (size_t i = 0; i < n; i++) {
    float f = (float)m[i].value;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    tl_buf_clear(&value);
    put_bytes(&value, 1, m[i].name, strlen(m[i].name));
    put_key(&value, 2, FIXED32);
    put_le(&value, bits, 4);
    put_bytes(&summary, 1, value.data, value.len);
  }
  put_head(&event, wall, step);
  put_bytes(&event, 5, summary.data, summary.len);
  event.oom |= summary.oom || value.oom;
  put_record(out, &event);
  tl_buf_free(&summary);
  tl_buf_free(&value);
}
