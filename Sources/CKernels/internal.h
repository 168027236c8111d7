// Shared by the C files of this target; not part of its contract.
#ifndef CKERNELS_INTERNAL_H
#define CKERNELS_INTERNAL_H

#include "CKernels.h"

// A product and a sum are rounded separately everywhere, so that every instruction set gives the same bits.
#pragma STDC FP_CONTRACT OFF

#define LLV_INLINE static inline __attribute__((always_inline))

// What a product of a panel stores: n outputs of one row, with their bias where there is one.
LLV_INLINE void llv_put_outputs(float *y, const float *result, const float *bias, size_t n) {
  for (size_t j = 0; j < n; j++) y[j] = bias ? result[j] + bias[j] : result[j];
}

// LLV_DISPATCH(name, parameters, arguments): defines `name` from an always-inline `name_body`, compiled twice.
#if defined(__x86_64__)
#define LLV_DISPATCH(name, parameters, arguments)                                              \
  __attribute__((target("avx2,fma,f16c"))) static void name##_avx2 parameters { name##_body arguments; } \
  static void name##_plain parameters { name##_body arguments; }                               \
  void name parameters {                                                                       \
    if (llv_cpu_level() >= 1) name##_avx2 arguments;                                           \
    else name##_plain arguments;                                                               \
  }
#else
#define LLV_DISPATCH(name, parameters, arguments) \
  void name parameters { name##_body arguments; }
#endif

#endif
