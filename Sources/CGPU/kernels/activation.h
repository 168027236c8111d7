// Activations by the formulas of CKernels/math.c, operation for operation: a processor and a GPU give the same bits.
#pragma once
#include "dialect.h"

// The numbers of CKernels.h.
enum { STEP_NONE, STEP_GELU, STEP_GELU_TANH, STEP_SILU, STEP_TANH, STEP_RELU, STEP_ADD, STEP_MULTIPLY };

DEV float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

DEV float exponential(float given) {
  float x = clamp(given, -87.3f, 88.3f);
  int n = round_int(x * 1.44269504088896341f);
  float r = fused((float)n, 2.12194440e-4f, fused((float)n, -0.693359375f, x));
  float p = 1.9875691500e-4f;
  p = fused(p, r, 1.3981999507e-3f);
  p = fused(p, r, 8.3334519073e-3f);
  p = fused(p, r, 4.1665795894e-2f);
  p = fused(p, r, 1.6666665459e-1f);
  p = fused(p, r, 5.0000001201e-1f);
  p = fused(p * r, r, r) + 1.0f;
  return given < -87.3f ? 0 : p * as_float((u32)(n + 127) << 23);
}

DEV float error_function(float x) {
  x = clamp(x, -4.0f, 4.0f);
  float s = x * x;
  float p = -2.72614225801306e-10f;
  p = fused(p, s, 2.77068142495902e-08f);
  p = fused(p, s, -2.10102402082508e-06f);
  p = fused(p, s, -5.69250639462346e-05f);
  p = fused(p, s, -7.34990630326855e-04f);
  p = fused(p, s, -2.95459980854025e-03f);
  p = fused(p, s, -1.60960333262415e-02f);
  float q = -1.45660718464996e-05f;
  q = fused(q, s, -2.13374055278905e-04f);
  q = fused(q, s, -1.68282697438203e-03f);
  q = fused(q, s, -7.37332916720468e-03f);
  q = fused(q, s, -1.42647390514189e-02f);
  return x * p / q;
}

DEV float hyperbolic_tangent(float x) {
  float e = exponential(-2.0f * magnitude(x));
  return with_sign((1.0f - e) / (1.0f + e), x);
}

DEV float activate(int kind, float v) {
  switch (kind) {
    case STEP_GELU: return 0.5f * v * (1.0f + error_function(v * 0.70710678118654752f));
    case STEP_GELU_TANH:
      return 0.5f * v * (1.0f + hyperbolic_tangent(0.79788456080286536f * (v + 0.044715f * v * v * v)));
    case STEP_SILU: return v / (1.0f + exponential(-v));
    case STEP_TANH: return hyperbolic_tangent(v);
    case STEP_RELU: return v < 0 ? 0 : v;
    default: return v;
  }
}
