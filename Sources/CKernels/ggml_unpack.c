// ggml's block layouts (ggml-common.h of ggml-org/ggml), taken apart into codes, scales and zeros.
#include "internal.h"

#include <string.h>

LLV_INLINE uint16_t half_bits(const uint8_t *p, int big) {
  return big ? (uint16_t)(p[0] << 8 | p[1]) : (uint16_t)(p[1] << 8 | p[0]);
}
LLV_INLINE float half(const uint8_t *p, int big) { return llv_half_to_float(half_bits(p, big)); }

// Sixteen bytes whose low halves are elements 0…15 and whose high halves are 16…31.
LLV_INLINE void nibbles(const uint8_t *from, uint8_t *to) {
  for (int i = 0; i < 16; i++) to[i] = from[i] & 15, to[16 + i] = from[i] >> 4;
}

const int8_t llv_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
// Twice the values of e2m1.
static const int8_t e2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// The eight 6-bit scales and minima of Q4_K and Q5_K.
LLV_INLINE void k_scales(const uint8_t *p, uint8_t *scale, uint8_t *minimum) {
  for (int j = 0; j < 4; j++) {
    scale[j] = p[j] & 63;
    minimum[j] = p[j + 4] & 63;
    scale[j + 4] = (uint8_t)((p[j + 8] & 15) | (p[j] >> 6) << 4);
    minimum[j + 4] = (uint8_t)(p[j + 8] >> 4 | (p[j + 4] >> 6) << 4);
  }
}

static void q2_k(const uint8_t *b, int big, uint8_t *codes, float *scales, float *zeros) {
  float d = half(b + 80, big), least = half(b + 82, big);
  for (int j = 0; j < 16; j++) scales[j] = d * (float)(b[j] & 15), zeros[j] = -(least * (float)(b[j] >> 4));
  for (int e = 0; e < 256; e++) codes[e] = b[16 + e / 128 * 32 + e % 32] >> e % 128 / 32 * 2 & 3;
}

static void q3_k(const uint8_t *b, int big, uint8_t *codes, float *scales) {
  const uint8_t *high = b, *low = b + 32, *packed = b + 96;
  float d = half(b + 108, big);
  for (int j = 0; j < 16; j++) {
    int scale = (packed[j % 8] >> j / 8 * 4 & 15) | (packed[8 + j % 4] >> j / 4 * 2 & 3) << 4;
    scales[j] = d * (float)(scale - 32);
  }
  for (int e = 0; e < 256; e++) {
    int code = low[e / 128 * 32 + e % 32] >> e % 128 / 32 * 2 & 3;
    codes[e] = (uint8_t)(code - (high[e % 32] >> e / 32 & 1 ? 0 : 4));
  }
}

static void q4_q5_k(const uint8_t *b, int big, int is_five, uint8_t *codes, float *scales, float *zeros) {
  uint8_t scale[8], minimum[8];
  k_scales(b + 4, scale, minimum);
  float d = half(b, big), least = half(b + 2, big);
  for (int j = 0; j < 8; j++) scales[j] = d * (float)scale[j], zeros[j] = -(least * (float)minimum[j]);
  const uint8_t *high = b + 16, *low = is_five ? b + 48 : b + 16;
  for (int e = 0; e < 256; e++) {
    int code = low[e / 64 * 32 + e % 32] >> e % 64 / 32 * 4 & 15;
    codes[e] = (uint8_t)(is_five ? code | (high[e % 32] >> e / 32 & 1) << 4 : code);
  }
}

static void q6_k(const uint8_t *b, int big, uint8_t *codes, float *scales) {
  const uint8_t *low = b, *high = b + 128;
  float d = half(b + 208, big);
  for (int j = 0; j < 16; j++) scales[j] = d * (float)(int8_t)b[192 + j];
  for (int e = 0; e < 256; e++) {
    int k = e % 128, part = e / 128;
    int code = (low[part * 64 + k % 64] >> k / 64 * 4 & 15) | (high[part * 32 + k % 32] >> k / 32 * 2 & 3) << 4;
    codes[e] = (uint8_t)(code - 32);
  }
}

static void iq4_xs(const uint8_t *b, int big, uint8_t *codes, float *scales) {
  float d = half(b, big);
  int high = half_bits(b + 2, big);
  for (int j = 0; j < 8; j++) {
    int scale = (b[4 + j / 2] >> j % 2 * 4 & 15) | (high >> 2 * j & 3) << 4;
    scales[j] = d * (float)(scale - 32);
    nibbles(b + 8 + 16 * j, codes + 32 * j);
  }
  for (int e = 0; e < 256; e++) codes[e] = (uint8_t)llv_iq4_values[codes[e]];
}

static float q8_k_scale(const uint8_t *b, int big) {
  uint32_t bits = big ? (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]
                      : (uint32_t)b[3] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[1] << 8 | b[0];
  float scale;
  memcpy(&scale, &bits, 4);
  return scale;
}

static float mxfp4_scale(uint8_t e) {
  // Half of 2^(e - 127), because the codes are twice their values.
  uint32_t bits = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23;
  float scale;
  memcpy(&scale, &bits, 4);
  return scale;
}

static size_t unpack(int type, const uint8_t *b, int big, uint8_t *codes, float *scales, float *zeros) {
  switch (type) {
    case LLV_Q4_0:
      scales[0] = half(b, big);
      nibbles(b + 2, codes);
      for (int i = 0; i < 32; i++) codes[i] = (uint8_t)(codes[i] - 8);
      return 18;
    case LLV_Q4_1:
      scales[0] = half(b, big), zeros[0] = half(b + 2, big);
      nibbles(b + 4, codes);
      return 20;
    case LLV_Q5_0:
      scales[0] = half(b, big);
      nibbles(b + 6, codes);
      for (int i = 0; i < 32; i++) codes[i] = (uint8_t)((codes[i] | (b[2 + i / 8] >> i % 8 & 1) << 4) - 16);
      return 22;
    case LLV_Q5_1:
      scales[0] = half(b, big), zeros[0] = half(b + 2, big);
      nibbles(b + 8, codes);
      for (int i = 0; i < 32; i++) codes[i] = (uint8_t)(codes[i] | (b[4 + i / 8] >> i % 8 & 1) << 4);
      return 24;
    case LLV_Q8_0:
      scales[0] = half(b, big);
      memcpy(codes, b + 2, 32);
      return 34;
    case LLV_Q8_1:
      scales[0] = half(b, big);
      memcpy(codes, b + 4, 32);
      return 36;
    case LLV_Q2_K: q2_k(b, big, codes, scales, zeros); return 84;
    case LLV_Q3_K: q3_k(b, big, codes, scales); return 110;
    case LLV_Q4_K: q4_q5_k(b, big, 0, codes, scales, zeros); return 144;
    case LLV_Q5_K: q4_q5_k(b, big, 1, codes, scales, zeros); return 176;
    case LLV_Q6_K: q6_k(b, big, codes, scales); return 210;
    case LLV_Q8_K:
      scales[0] = q8_k_scale(b, big);
      memcpy(codes, b + 4, 256);
      return 292;
    case LLV_IQ4_NL:
      scales[0] = half(b, big);
      nibbles(b + 2, codes);
      for (int i = 0; i < 32; i++) codes[i] = (uint8_t)llv_iq4_values[codes[i]];
      return 18;
    case LLV_IQ4_XS: iq4_xs(b, big, codes, scales); return 136;
    case LLV_MXFP4:
      scales[0] = mxfp4_scale(b[0]);
      nibbles(b + 1, codes);
      for (int i = 0; i < 32; i++) codes[i] = (uint8_t)e2m1[codes[i]];
      return 17;
    default: return 0;
  }
}

void llv_ggml_unpack(int type, const void *blocks, size_t count, int big, size_t elements, size_t group, uint8_t *codes,
                     float *scales, float *zeros) {
  const uint8_t *from = blocks;
  for (size_t i = 0; i < count; i++) {
    from += unpack(type, from, big, codes, scales, zeros);
    codes += elements;
    scales += elements / group;
    zeros += elements / group;
  }
}
