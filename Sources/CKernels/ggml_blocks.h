// ggml's block layouts (ggml-common.h of ggml-org/ggml), put together from codes and steps.
#ifndef CKERNELS_GGML_BLOCKS_H
#define CKERNELS_GGML_BLOCKS_H

#include "internal.h"

#include <string.h>

// The values of IQ4_NL's codes.
extern const int8_t llv_iq4_values[16];

LLV_INLINE void put_half(uint8_t *p, uint16_t half) { p[0] = (uint8_t)half, p[1] = (uint8_t)(half >> 8); }

// Codes of 32 elements, one byte each, to low halves then high halves; the fifth bits to a bit field.
LLV_INLINE void put_codes(const uint8_t *codes, int offset, int has_fifth, uint8_t *to) {
  uint8_t q[32];
  for (int i = 0; i < 32; i++) q[i] = (uint8_t)(codes[i] + offset);
  if (has_fifth) {
    for (int k = 0; k < 4; k++) {
      to[k] = 0;
      for (int i = 0; i < 8; i++) to[k] |= (uint8_t)((q[8 * k + i] >> 4 & 1) << i);
    }
    to += 4;
  }
  for (int i = 0; i < 16; i++) to[i] = (uint8_t)((q[i] & 15) | q[16 + i] << 4);
}

// Q4_K and Q5_K: codes [256], steps and minima of six bits [8].
LLV_INLINE void put_k_affine(int bits, uint16_t d, uint16_t least, const uint8_t *steps, const uint8_t *minima,
                             const uint8_t *codes, uint8_t *to) {
  put_half(to, d), put_half(to + 2, least);
  uint8_t *packed = to + 4, *fifth = to + 16, *low = bits == 5 ? to + 48 : to + 16;
  for (int j = 0; j < 4; j++) {
    uint8_t a = steps[j], b = steps[j + 4], c = minima[j], e = minima[j + 4];
    packed[j] = (uint8_t)(a | b >> 4 << 6);
    packed[j + 4] = (uint8_t)(c | e >> 4 << 6);
    packed[j + 8] = (uint8_t)((b & 15) | (e & 15) << 4);
  }
  if (bits == 5) memset(fifth, 0, 32);
  for (int i = 0; i < 32; i++) {
    for (int j = 0; j < 4; j++)
      low[32 * j + i] = (uint8_t)((codes[64 * j + i] & 15) | (codes[64 * j + 32 + i] & 15) << 4);
    if (bits != 5) continue;
    for (int j = 0; j < 8; j++) fifth[i] |= (uint8_t)((codes[32 * j + i] >> 4) << j);
  }
}

// Q6_K: codes [256], -32…31 in two's complement, steps of eight signed bits [16].
LLV_INLINE void put_q6_k(uint16_t d, const uint8_t *steps, const uint8_t *codes, uint8_t *to) {
  put_half(to + 208, d);
  memcpy(to + 192, steps, 16);
  for (int h = 0; h < 2; h++) {
    uint8_t c[128];
    for (int i = 0; i < 128; i++) c[i] = (uint8_t)(codes[128 * h + i] + 32);
    for (int l = 0; l < 64; l++) to[64 * h + l] = (uint8_t)((c[l] & 15) | (c[64 + l] & 15) << 4);
    for (int l = 0; l < 32; l++)
      to[128 + 32 * h + l] = (uint8_t)(c[l] >> 4 | c[32 + l] >> 4 << 2 | c[64 + l] >> 4 << 4 | c[96 + l] >> 4 << 6);
  }
}

// Q3_K: codes [256], -4…3 in two's complement, steps -32…31 [16].
LLV_INLINE void put_q3_k(uint16_t d, const uint8_t *steps, const uint8_t *codes, uint8_t *to) {
  uint8_t *high = to, *low = to + 32, *packed = to + 96;
  memset(to, 0, 110);
  put_half(to + 108, d);
  for (int e = 0; e < 256; e++) {
    uint8_t code = (uint8_t)(codes[e] + 4);
    low[e / 128 * 32 + e % 32] |= (uint8_t)((code & 3) << e % 128 / 32 * 2);
    high[e % 32] |= (uint8_t)((code >> 2) << e / 32);
  }
  for (int j = 0; j < 16; j++) {
    uint8_t step = (uint8_t)(steps[j] + 32);
    packed[j % 8] |= (uint8_t)((step & 15) << j / 8 * 4);
    packed[8 + j % 4] |= (uint8_t)((step >> 4) << j / 4 * 2);
  }
}

// Q2_K: codes [256], steps and minima of four bits [16].
LLV_INLINE void put_q2_k(uint16_t d, uint16_t least, const uint8_t *steps, const uint8_t *minima, const uint8_t *codes,
                         uint8_t *to) {
  memset(to, 0, 80);
  put_half(to + 80, d), put_half(to + 82, least);
  for (int j = 0; j < 16; j++) to[j] = (uint8_t)(steps[j] | minima[j] << 4);
  for (int e = 0; e < 256; e++) to[16 + e / 128 * 32 + e % 32] |= (uint8_t)(codes[e] << e % 128 / 32 * 2);
}

#endif
