#include "internal.h"

#include <string.h>

void llv_planes_split(const void *source, void *target, size_t count, size_t width) {
  const uint8_t *from = source;
  uint8_t *to = target;
  for (size_t plane = 0; plane < width; plane++)
    for (size_t i = 0; i < count; i++) to[plane * count + i] = from[i * width + plane];
}

void llv_planes_join(const void *source, void *target, size_t count, size_t width) {
  const uint8_t *from = source;
  uint8_t *to = target;
  for (size_t plane = 0; plane < width; plane++)
    for (size_t i = 0; i < count; i++) to[i * width + plane] = from[plane * count + i];
}

LLV_INLINE float bits_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

LLV_INLINE uint32_t float_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

LLV_INLINE uint16_t load16(const uint8_t *p) {
  uint16_t v;
  memcpy(&v, p, 2);
  return v;
}

LLV_INLINE void llv_bf16_to_f32_body(const void *source, float *target, size_t count) {
  const uint8_t *from = source;
  for (size_t i = 0; i < count; i++) target[i] = bits_float((uint32_t)load16(from + 2 * i) << 16);
}

// Exact. Subnormal halves are scaled by a product with 2^-24, which float holds exactly.
LLV_INLINE float half_to_float(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 0x3FF;
  float subnormal = bits_float(float_bits((float)fraction * 0x1p-24f) | sign);
  uint32_t normal = sign | (exponent + 112) << 23 | fraction << 13;
  uint32_t special = sign | 0x7F800000 | fraction << 13;
  return exponent == 0 ? subnormal : bits_float(exponent == 31 ? special : normal);
}

LLV_INLINE void llv_f16_to_f32_body(const void *source, float *target, size_t count) {
  const uint8_t *from = source;
  for (size_t i = 0; i < count; i++) target[i] = half_to_float(load16(from + 2 * i));
}

LLV_DISPATCH(llv_bf16_to_f32, (const void *source, float *target, size_t count), (source, target, count))
LLV_DISPATCH(llv_f16_to_f32, (const void *source, float *target, size_t count), (source, target, count))

// Nearest, ties to even; above 65,504 by half a step or more becomes infinity; NaN keeps its sign and top payload bits
// and becomes quiet.
uint16_t llv_half_from_float(float value) {
  uint32_t bits = float_bits(value), sign = bits >> 16 & 0x8000, rest = bits & 0x7FFFFFFF;
  if (rest > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (rest >> 13 & 0x3FF));
  if (rest >= 0x477FF000) return (uint16_t)(sign | 0x7C00);
  if (rest < 0x38800000) {
    // Adding 0.5 leaves the rounded half-precision subnormal in the low bits of the sum.
    float sum = bits_float(rest) + 0.5f;
    return (uint16_t)(sign | (float_bits(sum) - 0x3F000000));
  }
  rest += 0xFFF + (rest >> 13 & 1);
  return (uint16_t)(sign | ((rest - 0x38000000) >> 13));
}

float llv_half_to_float(uint16_t half) { return half_to_float(half); }

void llv_f32_to_f16(const float *source, void *target, size_t count) {
  uint8_t *to = target;
  for (size_t i = 0; i < count; i++) {
    uint16_t half = llv_half_from_float(source[i]);
    memcpy(to + 2 * i, &half, 2);
  }
}

LLV_INLINE void llv_f32_to_bf16_body(const float *source, void *target, size_t count) {
  uint8_t *to = target;
  for (size_t i = 0; i < count; i++) {
    uint32_t bits = float_bits(source[i]);
    uint32_t rounded = (bits & 0x7FFFFFFF) > 0x7F800000 ? bits | 0x400000 : bits + 0x7FFF + (bits >> 16 & 1);
    uint16_t half = (uint16_t)(rounded >> 16);
    memcpy(to + 2 * i, &half, 2);
  }
}
LLV_DISPATCH(llv_f32_to_bf16, (const float *source, void *target, size_t count), (source, target, count))

void llv_spread(const void *source, size_t count, size_t size, size_t stride, void *target) {
  const uint8_t *from = source;
  uint8_t *to = target;
  for (size_t i = 0; i < count; i++, from += size, to += size * stride)
    for (size_t k = 0; k < size; k++) to[k] = from[k];
}

void llv_gather(const void *source, size_t count, size_t size, size_t stride, void *target) {
  const uint8_t *from = source;
  uint8_t *to = target;
  for (size_t i = 0; i < count; i++, from += size * stride, to += size)
    for (size_t k = 0; k < size; k++) to[k] = from[k];
}
