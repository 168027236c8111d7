// e^x, for the C files that need it in their loops.
#ifndef CKERNELS_EXP_H
#define CKERNELS_EXP_H

#include "internal.h"

#include <math.h>
#include <string.h>

LLV_INLINE float clampf(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

// e^x by Cephes' scheme: x = n ln 2 + r, a polynomial in r, and n into the exponent. Below -87.3, where the result
// would not be a normal number, it is 0.
LLV_INLINE float exp_fast(float given) {
  float x = clampf(given, -87.3f, 88.3f);
  float n = rintf(x * 1.44269504088896341f);
  float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, x));
  float p = 1.9875691500e-4f;
  p = fmaf(p, r, 1.3981999507e-3f);
  p = fmaf(p, r, 8.3334519073e-3f);
  p = fmaf(p, r, 4.1665795894e-2f);
  p = fmaf(p, r, 1.6666665459e-1f);
  p = fmaf(p, r, 5.0000001201e-1f);
  p = fmaf(p * r, r, r) + 1.0f;
  int32_t bits = ((int32_t)n + 127) << 23;
  float power;
  memcpy(&power, &bits, 4);
  return given < -87.3f ? 0 : p * power;
}

#endif
