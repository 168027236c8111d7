// Codes, steps and zeros to ggml's block layouts, exactly.
#include "ggml_blocks.h"

#include <math.h>

void llv_ggml_join(
    int type, const uint8_t *codes, const uint16_t *scales, const uint16_t *zeros, size_t count, void *target) {
  uint8_t *to = target;
  for (size_t b = 0; b < count; b++, codes += 32) {
    put_half(to, scales[b]);
    switch (type) {
      case LLV_Q8_0: memcpy(to + 2, codes, 32); to += 34; break;
      case LLV_Q4_0: put_codes(codes, 8, 0, to + 2); to += 18; break;
      case LLV_Q4_1: put_half(to + 2, zeros[b]); put_codes(codes, 0, 0, to + 4); to += 20; break;
      case LLV_Q5_0: put_codes(codes, 16, 1, to + 2); to += 22; break;
      case LLV_Q5_1: put_half(to + 2, zeros[b]); put_codes(codes, 0, 1, to + 4); to += 24; break;
      case LLV_IQ4_NL: {
        uint8_t places[32];
        for (int i = 0; i < 32; i++) {
          int place = 0;
          while (place < 15 && llv_iq4_values[place] != (int8_t)codes[i]) place++;
          places[i] = (uint8_t)place;
        }
        put_codes(places, 0, 0, to + 2);
        to += 18;
        break;
      }
      default: return;
    }
  }
}

size_t llv_first_unfit_code(int type, const uint8_t *codes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    int code = (int8_t)codes[i], fits = 1;
    switch (type) {
      case LLV_Q5_0: fits = code >= -16 && code <= 15; break;
      case LLV_Q6_K: fits = code >= -32 && code <= 31; break;
      case LLV_Q3_K: fits = code >= -4 && code <= 3; break;
      case LLV_Q5_1: case LLV_Q5_K: fits = codes[i] < 32; break;
      case LLV_Q2_K: fits = codes[i] < 4; break;
      case LLV_IQ4_NL:
        fits = 0;
        for (int k = 0; k < 16; k++) fits |= llv_iq4_values[k] == code;
        break;
      default: break;
    }
    if (!fits) return i;
  }
  return count;
}

// A half-precision scale of which all values are whole multiples within the bounds, and those multiples; 0 when there
// is none. Any such scale gives the same values; the smallest largest multiple is taken.
static int factor(const float *values, int count, int least, int most, uint16_t *scale, uint8_t *multiples) {
  float largest = 0;
  for (int j = 0; j < count; j++) largest = fabsf(values[j]) > fabsf(largest) ? values[j] : largest;
  *scale = 0;
  memset(multiples, 0, (size_t)count);
  if (largest == 0) return 1;
  int bound = most > -least ? most : -least;
  for (int k = 1; k <= bound; k++) {
    for (int sign = 1; sign >= (least < 0 ? -1 : 1); sign -= 2) {
      if (sign * k < least || sign * k > most) continue;
      uint16_t half = llv_half_from_float(largest / (float)(sign * k));
      float d = llv_half_to_float(half);
      if (d == 0 || !isfinite(d)) continue;
      int fits = 1;
      for (int j = 0; j < count && fits; j++) {
        float multiple = rintf(values[j] / d);
        fits = multiple >= (float)least && multiple <= (float)most && multiple * d == values[j];
        if (fits) multiples[j] = (uint8_t)(int)multiple;
      }
      if (!fits) continue;
      *scale = half;
      return 1;
    }
  }
  return 0;
}

size_t llv_ggml_join_super(
    int type, const uint8_t *codes, const float *scales, const float *zeros, size_t count, void *target) {
  uint8_t *to = target, steps[16], minima[16];
  for (size_t b = 0; b < count; b++, codes += 256) {
    uint16_t d = 0, least = 0;
    int is_eight = type == LLV_Q4_K || type == LLV_Q5_K, groups = is_eight ? 8 : 16;
    float below[16] = {0};
    for (int j = 0; j < groups && type != LLV_Q6_K && type != LLV_Q3_K; j++) below[j] = -zeros[j];
    switch (type) {
      case LLV_Q6_K:
        if (!factor(scales, 16, -128, 127, &d, steps)) return b;
        put_q6_k(d, steps, codes, to);
        to += 210;
        break;
      case LLV_Q3_K:
        if (!factor(scales, 16, -32, 31, &d, steps)) return b;
        put_q3_k(d, steps, codes, to);
        to += 110;
        break;
      case LLV_Q2_K:
        if (!factor(scales, 16, 0, 15, &d, steps) || !factor(below, 16, 0, 15, &least, minima)) return b;
        put_q2_k(d, least, steps, minima, codes, to);
        to += 84;
        break;
      case LLV_Q4_K: case LLV_Q5_K:
        if (!factor(scales, 8, 0, 63, &d, steps) || !factor(below, 8, 0, 63, &least, minima)) return b;
        put_k_affine(type == LLV_Q5_K ? 5 : 4, d, least, steps, minima, codes, to);
        to += type == LLV_Q5_K ? 176 : 144;
        break;
      default: return b;
    }
    scales += groups, zeros += groups;
  }
  return count;
}
