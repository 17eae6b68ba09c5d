#include <string.h>

#include "formats/tensorboard.h"

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

typedef struct span {
  const unsigned char *p, *end;
} span;

/* One field of a protocol-buffer message. */
typedef struct field {
  unsigned number, type;
  uint64_t v; /* VARINT, FIXED */
  span bytes; /* BYTES */
} field;

static uint64_t le(const unsigned char *p, int bytes) {
  uint64_t v = 0;
  for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << 8 * i;
  return v;
}

static bool take_varint(span *s, uint64_t *v) {
  *v = 0;
  for (int shift = 0; shift < 64 && s->p < s->end; shift += 7) {
    unsigned char b = *s->p++;
    *v |= (uint64_t)(b & 127) << shift;
    if (b < 128) return true;
  }
  return false;
}

static bool take_field(span *s, field *f) {
  uint64_t key, n;
  if (!take_varint(s, &key) || key >> 3 == 0 || key >> 3 > 1u << 29) return false;
  *f = (field){.number = (unsigned)(key >> 3), .type = key & 7};
  size_t left = (size_t)(s->end - s->p);
  switch (f->type) {
  case VARINT:
    return take_varint(s, &f->v);
  case FIXED64:
  case FIXED32:
    n = f->type == FIXED64 ? 8 : 4;
    if (left < n) return false;
    f->v = le(s->p, (int)n);
    s->p += n;
    return true;
  case BYTES:
    if (!take_varint(s, &n) || n > (size_t)(s->end - s->p)) return false;
    f->bytes = (span){s->p, s->p + n};
    s->p += n;
    return true;
  default:
    return false;
  }
}

typedef struct event {
  double wall;
  int64_t step;
  span summary;
} event;

static bool take_event(span s, event *e) {
  *e = (event){0};
  field f;
  while (s.p < s.end) {
    if (!take_field(&s, &f)) return false;
    if (f.number == 1 && f.type == FIXED64) memcpy(&e->wall, &f.v, 8);
    if (f.number == 2 && f.type == VARINT) e->step = (int64_t)f.v;
    if (f.number == 5 && f.type == BYTES) e->summary = f.bytes;
  }
  return true;
}

static bool take_value(span s, span *tag, float *value, bool *scalar) {
  field f;
  *tag = (span){0};
  *scalar = false;
  while (s.p < s.end) {
    if (!take_field(&s, &f)) return false;
    if (f.number == 1 && f.type == BYTES) *tag = f.bytes;
    if (f.number == 2 && f.type == FIXED32) {
      uint32_t bits = (uint32_t)f.v;
      memcpy(value, &bits, 4);
      *scalar = true;
    }
  }
  return true;
}

typedef struct reader {
  const char *path;
  size_t at; /* of the record, for messages */
  tl_tb_fn each;
  void *user;
} reader;

static tl_status bad(const reader *r, const char *what, tl_err *err) {
  return tl_fail(err, TL_DATA, "%s: record at offset %zu: %s", r->path, r->at, what);
}

static tl_status read_record(const reader *r, span data, tl_err *err) {
  event e;
  field f;
  if (!take_event(data, &e)) return bad(r, "its fields are damaged", err);
  while (e.summary.p < e.summary.end) {
    span tag;
    float value = 0;
    bool scalar = false;
    if (!take_field(&e.summary, &f)) return bad(r, "its summary is damaged", err);
    if (f.number != 1 || f.type != BYTES) continue;
    if (!take_value(f.bytes, &tag, &value, &scalar)) return bad(r, "a value is damaged", err);
    if (scalar)
      TL_TRY(r->each(r->user, e.wall, e.step, (const char *)tag.p, (size_t)(tag.end - tag.p), value,
                     err));
  }
  return TL_OK;
}

tl_status tl_tb_read(const char *path, const unsigned char *data, size_t size, tl_tb_fn each,
                     void *user, bool *torn, tl_err *err) {
  reader r = {path, 0, each, user};
  *torn = false;
  while (r.at < size) {
    const unsigned char *p = data + r.at;
    size_t left = size - r.at;
    if (left < 12) break;
    if (tl_tb_masked_crc(p, 8) != le(p + 8, 4)) return bad(&r, "its length is damaged", err);
    uint64_t n = le(p, 8);
    if (n > left - 12 || left - 12 - n < 4) break;
    if (tl_tb_masked_crc(p + 12, (size_t)n) != le(p + 12 + n, 4))
      return bad(&r, "its checksum is wrong", err);
    TL_TRY(read_record(&r, (span){p + 12, p + 12 + n}, err));
    r.at += 16 + (size_t)n;
  }
  *torn = r.at < size;
  return TL_OK;
}
