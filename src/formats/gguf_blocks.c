/* The types of tensors in GGUF (ggml's), and what their blocks stand for. The products are single
 * ones in f32, so that the values are those of ggml's own reading, to the bit. */
#include "formats/gguf_blocks.h"

#include <stddef.h>
#include <string.h>

#include "base/half.h"
#include "tilth/gguf.h"

static float half_at(const unsigned char *p) {
  uint16_t h;
  memcpy(&h, p, 2);
  return tl_half_to_f32(h);
}

static void unpack_f16(const unsigned char *p, float *out) {
  *out = half_at(p);
}

static void unpack_bf16(const unsigned char *p, float *out) {
  uint16_t h;
  memcpy(&h, p, 2);
  *out = tl_bf16_to_f32(h);
}

/* scale f16, values i8[32] */
static void unpack_q8_0(const unsigned char *p, float *out) {
  float d = half_at(p);
  for (int i = 0; i < 32; i++) out[i] = d * (float)(signed char)p[2 + i];
}

/* scale f16, u8[16]: the low half of byte i is value i, the high half value i + 16; 8 is zero */
static void unpack_q4_0(const unsigned char *p, float *out) {
  float d = half_at(p);
  for (int i = 0; i < 16; i++) {
    out[i] = d * (float)((p[2 + i] & 15) - 8);
    out[i + 16] = d * (float)((p[2 + i] >> 4) - 8);
  }
}

/* The 6 bits of scale and offset of part i of 8: of the first four, the low bits of bytes i and i +
 * 4; of the others, the halves of byte i + 4 with the upper bits of bytes i - 4 and i. */
static void part_scale(const unsigned char s[12], int i, float *scale, float *offset) {
  if (i < 4) {
    *scale = (float)(s[i] & 63);
    *offset = (float)(s[i + 4] & 63);
  } else {
    *scale = (float)((s[i + 4] & 15) | (s[i - 4] >> 6 << 4));
    *offset = (float)((s[i + 4] >> 4) | (s[i] >> 6 << 4));
  }
}

/* Q4_K and Q5_K: scale and scale of the offsets in f16, 12 bytes of scales, with `fifth` 32 bytes
 * whose bit i is the fifth bit of part i, and u8[128]: 32 bytes hold two parts in their halves. */
static void unpack_parts(const unsigned char *p, bool fifth, float *out) {
  const unsigned char *scales = p + 4, *high = p + 16, *q = p + (fifth ? 48 : 16);
  float d = half_at(p), d_offset = half_at(p + 2);
  for (int i = 0; i < 8; i++) {
    float scale, offset;
    part_scale(scales, i, &scale, &offset);
    scale *= d;
    offset *= d_offset;
    for (int k = 0; k < 32; k++) {
      int v = q[i / 2 * 32 + k] >> 4 * (i % 2) & 15;
      if (fifth) v |= (high[k] >> i & 1) << 4;
      out[32 * i + k] = scale * (float)v - offset;
    }
  }
}

static void unpack_q4_k(const unsigned char *p, float *out) {
  unpack_parts(p, false, out);
}

static void unpack_q5_k(const unsigned char *p, float *out) {
  unpack_parts(p, true, out);
}

/* u8[128] of the lower four bits, u8[64] of the upper two, scales i8[16] of 16 values each, scale
 * f16; 32 is zero. Each half of 128 values lies by itself: value i's lower bits are in a half of
 * byte i % 64, its upper two in byte i % 32. */
static void unpack_q6_k(const unsigned char *p, float *out) {
  const unsigned char *scales = p + 192;
  float d = half_at(p + 208);
  for (int i = 0; i < 256; i++) {
    int half = i / 128, k = i % 128;
    int v = p[64 * half + k % 64] >> 4 * (k / 64) & 15;
    v |= (p[128 + 32 * half + k % 32] >> 2 * (k / 32) & 3) << 4;
    out[i] = d * (float)(signed char)scales[i / 16] * (float)(v - 32);
  }
}

static const tl_ggml_block types[] = {{TL_GGML_F32, "F32", 1, 4, NULL},
                                      {TL_GGML_F16, "F16", 1, 2, unpack_f16},
                                      {TL_GGML_Q4_0, "Q4_0", 32, 18, unpack_q4_0},
                                      {3, "Q4_1", 32, 20, NULL},
                                      {6, "Q5_0", 32, 22, NULL},
                                      {7, "Q5_1", 32, 24, NULL},
                                      {TL_GGML_Q8_0, "Q8_0", 32, 34, unpack_q8_0},
                                      {9, "Q8_1", 32, 36, NULL},
                                      {10, "Q2_K", 256, 84, NULL},
                                      {11, "Q3_K", 256, 110, NULL},
                                      {TL_GGML_Q4_K, "Q4_K", 256, 144, unpack_q4_k},
                                      {TL_GGML_Q5_K, "Q5_K", 256, 176, unpack_q5_k},
                                      {TL_GGML_Q6_K, "Q6_K", 256, 210, unpack_q6_k},
                                      {15, "Q8_K", 256, 292, NULL},
                                      {24, "I8", 1, 1, NULL},
                                      {25, "I16", 1, 2, NULL},
                                      {26, "I32", 1, 4, NULL},
                                      {27, "I64", 1, 8, NULL},
                                      {28, "F64", 1, 8, NULL},
                                      {TL_GGML_BF16, "BF16", 1, 2, unpack_bf16}};

const tl_ggml_block *tl_ggml_find(int64_t type) {
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    if (types[i].type == type) return &types[i];
  return NULL;
}

const char *tl_ggml_name(int type) {
  const tl_ggml_block *b = tl_ggml_find(type);
  return b ? b->name : "?";
}
