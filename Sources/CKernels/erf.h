// The error function and the hyperbolic tangent, for the C files that need them in their loops.
#ifndef CKERNELS_ERF_H
#define CKERNELS_ERF_H

#include "exp.h"

// erf(x) = x P(x²) / Q(x²), the rational approximation of Eigen's float version; beyond ±4 it is ±1 in float.
LLV_INLINE float erf_fast(float x) {
  x = clampf(x, -4.0f, 4.0f);
  float s = x * x;
  float p = -2.72614225801306e-10f;
  p = fmaf(p, s, 2.77068142495902e-08f);
  p = fmaf(p, s, -2.10102402082508e-06f);
  p = fmaf(p, s, -5.69250639462346e-05f);
  p = fmaf(p, s, -7.34990630326855e-04f);
  p = fmaf(p, s, -2.95459980854025e-03f);
  p = fmaf(p, s, -1.60960333262415e-02f);
  float q = -1.45660718464996e-05f;
  q = fmaf(q, s, -2.13374055278905e-04f);
  q = fmaf(q, s, -1.68282697438203e-03f);
  q = fmaf(q, s, -7.37332916720468e-03f);
  q = fmaf(q, s, -1.42647390514189e-02f);
  return x * p / q;
}

LLV_INLINE float tanh_fast(float x) {
  float e = exp_fast(-2.0f * fabsf(x));
  return copysignf((1.0f - e) / (1.0f + e), x);
}

#endif
