// Shared by the C files of this target; not part of its contract.
#ifndef CKERNELS_INTERNAL_H
#define CKERNELS_INTERNAL_H

#include "CKernels.h"

// A product and a sum are rounded separately everywhere, so that every instruction set gives the same bits.
#pragma STDC FP_CONTRACT OFF

// What is written by vectors and read again at once: a load of what a store split between two lines of the cache
// waits until all stores before it have arrived, in memory where need be.
#define LLV_ALIGNED _Alignas(64)

#define LLV_INLINE static inline __attribute__((always_inline))

// LLV_EMULATED: instructions that the processor at hand lacks, by SIMDe (Tools/test-kernels).
#if defined(LLV_EMULATED)
#define SIMDE_NO_NATIVE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#define LLV_X86 1
#define LLV_TARGET(features)
// What SIMDe lacks, or rounds twice where the instruction rounds once.
#include <math.h>
#undef _mm256_fmadd_ps
#undef _mm512_fmadd_ps
#define LLV_LANES(NAME, RESULT, COUNT, EXPRESSION)                                                                     \
  static inline simde__##RESULT NAME {                                                                                 \
    simde__##RESULT##_private to;                                                                                      \
    for (int i = 0; i < COUNT; i++) to.f32[i] = EXPRESSION;                                                            \
    return simde__##RESULT##_from_private(to);                                                                         \
  }
#define LLV_F32(x, size) simde__m##size##_to_private(x).f32[i]
LLV_LANES(
    _mm256_fmadd_ps(__m256 a, __m256 b, __m256 c), m256, 8, fmaf(LLV_F32(a, 256), LLV_F32(b, 256), LLV_F32(c, 256)))
LLV_LANES(
    _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c), m512, 16, fmaf(LLV_F32(a, 512), LLV_F32(b, 512), LLV_F32(c, 512)))
// Intel's manual: the second products first, each product and sum rounded once.
#undef _mm512_dpbf16_ps
#define __m512bh __m512i
#define LLV_BF16(x, part) llv_widened(simde__m512i_to_private(x).u16[2 * i + part])
static inline float llv_widened(uint16_t half) {
  uint32_t bits = (uint32_t)half << 16;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}
LLV_LANES(_mm512_dpbf16_ps(__m512 c, __m512i a, __m512i b), m512, 16,
          fmaf(LLV_BF16(a, 0), LLV_BF16(b, 0), fmaf(LLV_BF16(a, 1), LLV_BF16(b, 1), LLV_F32(c, 512))))
LLV_LANES(_mm512_cvtepi32_ps(__m512i x), m512, 16, (float)simde__m512i_to_private(x).i32[i])
#elif defined(__x86_64__)
#include <immintrin.h>
#define LLV_X86 1
#define LLV_TARGET(features) __attribute__((target(features)))
#elif defined(__aarch64__)
#include <arm_neon.h>
#define LLV_ARM 1
#endif

#define LLV_AVX2 LLV_TARGET("avx2,fma,f16c")
#define LLV_AVX_VNNI LLV_TARGET("avxvnni,avx2,fma,f16c")
#define LLV_AVX512 LLV_TARGET("avx512f,avx512bw,avx512vl,avx2,fma,f16c")
#define LLV_AVX512_VNNI LLV_TARGET("avx512vnni,avx512f,avx512bw,avx512vl,avx2,fma,f16c")
#define LLV_AVX512_BF16 LLV_TARGET("avx512bf16,avx512f,avx512bw,avx512vl,avx2,fma,f16c")

// VEX-encoded: AVX-512's encoding of the same is another feature.
#if defined(LLV_EMULATED)
#define LLV_DPBUSD_256(sum, u, s) _mm256_dpbusd_epi32(sum, u, s)
#else
#define LLV_DPBUSD_256(sum, u, s) _mm256_dpbusd_avx_epi32(sum, u, s)
#endif

LLV_INLINE int llv_cpu_has(unsigned feature) { return (llv_cpu_features() & feature) != 0; }

// Code i of a row of codes of `bits` each, one after the other, earlier ones in lower bits.
LLV_INLINE unsigned llv_code(const uint8_t *row, size_t i, int bits) {
  size_t at = i * (size_t)bits;
  unsigned word = row[at / 8];
  if (at % 8 + (size_t)bits > 8) word |= (unsigned)row[at / 8 + 1] << 8;
  return word >> at % 8 & ((1u << bits) - 1);
}

// Puts a code into a row of zeros.
LLV_INLINE void llv_set_code(uint8_t *row, size_t i, int bits, unsigned code) {
  size_t at = i * (size_t)bits;
  code <<= at % 8;
  row[at / 8] |= (uint8_t)code;
  if (at % 8 + (size_t)bits > 8) row[at / 8 + 1] |= (uint8_t)(code >> 8);
}

// With two levels what codes are multiplied with to be those of four bits.
LLV_INLINE int llv_level_unit(int bits) { return 16 >> bits; }

// A row of a panel's product. Functions that take these are inlined, so their calling convention does not matter.
#pragma clang diagnostic ignored "-Wpsabi"
typedef float v16 __attribute__((ext_vector_type(LLV_PANEL), aligned(4)));

typedef uint32_t w16 __attribute__((ext_vector_type(LLV_PANEL), aligned(4)));

// The largest lane, where none is NaN, and the sum of all, in halves: lane by lane each would wait for the one before.
LLV_INLINE float llv_most_of(v16 x) {
  __typeof__(x.lo) a = x.lo > x.hi ? x.lo : x.hi;
  __typeof__(a.lo) b = a.lo > a.hi ? a.lo : a.hi;
  float c = b[0] > b[1] ? b[0] : b[1], d = b[2] > b[3] ? b[2] : b[3];
  return c > d ? c : d;
}

LLV_INLINE uint32_t llv_sum_of(w16 x) {
  __typeof__(x.lo) a = x.lo + x.hi;
  __typeof__(a.lo) b = a.lo + a.hi;
  return (b[0] + b[1]) + (b[2] + b[3]);
}

// Rows [panels, rows, LLV_PANEL] of the product of one or two panels through what `out` asks for; `first` is the first
// row's place in y, `column` the first panel's.
void llv_finish(float *result, size_t first, size_t rows, size_t column, size_t panels, const llv_output *out);

// Asks for what `llv_finish` will read and write of two panels. Rows lie so far apart that no processor foresees them,
// and a tile's products take as long as the memory.
LLV_INLINE void llv_foresee(size_t first, size_t rows, const llv_output *out) {
  for (size_t r = first; r < first + rows; r++) {
    for (size_t i = 0; i < out->step_count; i++) {
      const llv_step *step = out->steps + i;
      if (!step->other || !step->stride) continue;
      __builtin_prefetch(step->other + r * step->stride);
      __builtin_prefetch(step->other + r * step->stride + LLV_PANEL);
    }
    __builtin_prefetch(out->y + r * out->stride, 1);
    __builtin_prefetch(out->y + r * out->stride + LLV_PANEL, 1);
  }
}

// y[i] = x[i] panel, or where `adds` y[i] + x[i] panel, for m rows and all columns of a panel. Of two panels, the
// second of which starts `next` floats after the first, to columns of y that are `y_next` apart.
void llv_products_f32(const float *x, size_t stride, size_t m, size_t columns, const float *panel, int adds, float *y,
                      size_t y_stride);
void llv_two_products_f32(const float *x, size_t stride, size_t m, size_t columns, const float *panel, size_t next,
                          int adds, float *y, size_t y_stride, size_t y_next);

// Whether AVX512-BF16's instruction, which the processor must have, takes longer for its products than Float32's does.
int llv_is_bf16_slow(void);

// One tile of the rows that are left, at most 11: a short text is few rows, and tiles of one row are bound by loads.
#define LLV_REST(rest, TILE)                                                                                           \
  switch (rest) {                                                                                                      \
    case 11: TILE(11) break;                                                                                           \
    case 10: TILE(10) break;                                                                                           \
    case 9: TILE(9) break;                                                                                             \
    case 8: TILE(8) break;                                                                                             \
    case 7: TILE(7) break;                                                                                             \
    case 6: TILE(6) break;                                                                                             \
    case 5: TILE(5) break;                                                                                             \
    case 4: TILE(4) break;                                                                                             \
    case 3: TILE(3) break;                                                                                             \
    case 2: TILE(2) break;                                                                                             \
    case 1: TILE(1) break;                                                                                             \
    default: break;                                                                                                    \
  }

// LLV_DISPATCH(name, parameters, arguments): defines `name` from an always-inline `name_body`, compiled for each set.
#if defined(LLV_X86)
#define LLV_DISPATCH(name, parameters, arguments)                                                                      \
  LLV_AVX512 static void name##_avx512 parameters { name##_body arguments; }                                           \
  LLV_AVX2 static void name##_avx2 parameters { name##_body arguments; }                                               \
  static void name##_plain parameters { name##_body arguments; }                                                       \
  void name parameters {                                                                                               \
    unsigned features = llv_cpu_features();                                                                            \
    if (features & LLV_CPU_AVX512) name##_avx512 arguments;                                                            \
    else if (features & LLV_CPU_AVX2) name##_avx2 arguments;                                                           \
    else name##_plain arguments;                                                                                       \
  }
#else
#define LLV_DISPATCH(name, parameters, arguments)                                                                      \
  void name parameters { name##_body arguments; }
#endif

#endif
