/* 16-bit floats as files hold them. */
#ifndef TL_BASE_HALF_H
#define TL_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float tl_half_to_f32(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 1023, bits;
  if (exp == 31) {
    bits = sign | 0x7f800000 | man << 13;
  } else if (exp) {
    bits = sign | (exp + 112) << 23 | man << 13;
  } else {
    float v = (float)man * 0x1p-24f; /* zero and subnormals are exact in f32 */
    memcpy(&bits, &v, 4);
    bits |= sign;
  }
  float out;
  memcpy(&out, &bits, 4);
  return out;
}

/* Rounded to nearest, ties to even; beyond 65504: infinite. */
static inline uint16_t tl_f32_to_half(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
  bits &= 0x7fffffff;
  if (bits > 0x7f800000) return (uint16_t)(sign | 0x7e00);
  if (bits >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
  if (bits < 0x38800000) { /* subnormal in half: adding 1/2 puts the last bit kept at 2^-24 */
    float v;
    memcpy(&v, &bits, 4);
    v += 0.5f;
    memcpy(&bits, &v, 4);
    return (uint16_t)(sign | (bits - 0x3f000000));
  }
  uint32_t odd = bits >> 13 & 1;
  return (uint16_t)(sign | (bits - (112u << 23) + 0xfff + odd) >> 13);
}

typedef uint16_t tl_bf16; /* the upper half of an f32 */

static inline float tl_bf16_to_f32(tl_bf16 x) {
  union {
    uint32_t u;
    float f;
  } v = {(uint32_t)x << 16};
  return v.f;
}

static inline tl_bf16 tl_f32_to_bf16(float f) {
  union {
    float f;
    uint32_t u;
  } v = {f};
  if ((v.u & 0x7fffffffu) > 0x7f800000u) return (tl_bf16)(v.u >> 16 | 0x40); /* quiet NaN */
  return (tl_bf16)((v.u + 0x7fffu + (v.u >> 16 & 1)) >> 16);
}

#endif
