#include "internal.h"

#include <math.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

LLV_INLINE void llv_quantize_row_body(const float *x, size_t columns, size_t group, int16_t *codes, float *scales,
                                      float *sums) {
  for (size_t g = 0, first = 0; first < columns; g++, first += group) {
    size_t n = columns - first < group ? columns - first : group;
    float most = 0;
    for (size_t i = 0; i < n; i++) {
      float v = fabsf(x[first + i]);
      most = v > most ? v : most;
    }
    float scale = most / 127.0f, inverse = scale > 0 ? 127.0f / most : 0;
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
      int32_t code = (int32_t)rintf(x[first + i] * inverse);
      codes[first + i] = (int16_t)code;
      sum += code;
    }
    scales[g] = scale;
    sums[g] = (float)sum * scale;
  }
}
LLV_DISPATCH(llv_quantize_row,
             (const float *x, size_t columns, size_t group, int16_t *codes, float *scales, float *sums),
             (x, columns, group, codes, scales, sums))

LLV_INLINE void llv_unpack_codes_body(const void *codes, size_t columns, int bits, int affine, int16_t *target) {
  const uint8_t *from = codes;
  if (bits == 8) {
    for (size_t i = 0; i < columns; i++) target[i] = affine ? from[i] : (int8_t)from[i];
    return;
  }
  int flip = affine ? 0 : 8;
  for (size_t i = 0; i < columns / 2; i++) {
    target[2 * i] = (int16_t)(((from[i] & 15) ^ flip) - flip);
    target[2 * i + 1] = (int16_t)(((from[i] >> 4) ^ flip) - flip);
  }
  if (columns % 2) target[columns - 1] = (int16_t)(((from[columns / 2] & 15) ^ flip) - flip);
}
LLV_DISPATCH(llv_unpack_codes, (const void *codes, size_t columns, int bits, int affine, int16_t *target),
             (codes, columns, bits, affine, target))

// Products of one group run in eight 32-bit lanes, element i in lane i / 2 % 8, as the multiply-add instruction has them.
// Each lane is scaled and added to eight floats, which are added up in one fixed order at the end.

LLV_INLINE float reduce8(const float *lane) {
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static void dot_plain(const int16_t *x, const float *xs, const int16_t *w, const float *ws, size_t columns, size_t group,
                      float *result) {
  float total[8] = {0};
  for (size_t g = 0, first = 0; first < columns; g++, first += group) {
    size_t n = columns - first < group ? columns - first : group;
    int32_t lane[8] = {0};
    for (size_t i = 0; i < n; i++) lane[i / 2 % 8] += (int32_t)x[first + i] * w[first + i];
    float scale = xs[g] * ws[g];
    for (int j = 0; j < 8; j++) total[j] += (float)lane[j] * scale;
  }
  *result = reduce8(total);
}

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2,fma,f16c")))

// The last n < 16 products of a group, in their lanes.
AVX2 LLV_INLINE __m256i tail16(const int16_t *x, const int16_t *w, size_t n) {
  int16_t a[16] = {0}, b[16] = {0};
  for (size_t i = 0; i < n; i++) a[i] = x[i], b[i] = w[i];
  return _mm256_madd_epi16(_mm256_loadu_si256((const __m256i *)a), _mm256_loadu_si256((const __m256i *)b));
}

// Four output rows at once, so that each load of x serves four products.
AVX2 static void dot4_avx2(const int16_t *x, const float *xs, const int16_t *w, const float *ws, size_t columns,
                           size_t group, size_t groups, float *result) {
  __m256 total[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
  for (size_t g = 0, first = 0; first < columns; g++, first += group) {
    size_t n = columns - first < group ? columns - first : group, i = 0;
    __m256i lane[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    for (; i + 16 <= n; i += 16) {
      __m256i a = _mm256_loadu_si256((const __m256i *)(x + first + i));
      for (int r = 0; r < 4; r++) {
        __m256i b = _mm256_loadu_si256((const __m256i *)(w + r * columns + first + i));
        lane[r] = _mm256_add_epi32(lane[r], _mm256_madd_epi16(a, b));
      }
    }
    if (i < n)
      for (int r = 0; r < 4; r++)
        lane[r] = _mm256_add_epi32(lane[r], tail16(x + first + i, w + r * columns + first + i, n - i));
    for (int r = 0; r < 4; r++) {
      __m256 scale = _mm256_set1_ps(xs[g] * ws[r * groups + g]);
      total[r] = _mm256_add_ps(total[r], _mm256_mul_ps(_mm256_cvtepi32_ps(lane[r]), scale));
    }
  }
  for (int r = 0; r < 4; r++) {
    float lanes[8];
    _mm256_storeu_ps(lanes, total[r]);
    result[r] = reduce8(lanes);
  }
}
#endif

void llv_gemm_int8(const int16_t *x, const float *xs, const float *xsums, size_t m, const int16_t *w, const float *ws,
                   const float *zeros, size_t n, size_t columns, size_t group, float *y, size_t stride) {
  size_t groups = (columns + group - 1) / group;
  int level = llv_cpu_level();
  for (size_t i = 0; i < m; i++) {
    const int16_t *row = x + i * columns;
    const float *rs = xs + i * groups, *sums = xsums + i * groups;
    float *out = y + i * stride;
    size_t j = 0;
#if defined(__x86_64__)
    if (level >= 1)
      for (; j + 4 <= n; j += 4)
        dot4_avx2(row, rs, w + j * columns, ws + j * groups, columns, group, groups, out + j);
#endif
    (void)level;
    for (; j < n; j++) dot_plain(row, rs, w + j * columns, ws + j * groups, columns, group, out + j);
    for (j = 0; zeros && j < n; j++) {
      float sum = 0;
      for (size_t g = 0; g < groups; g++) sum += zeros[j * groups + g] * sums[g];
      out[j] += sum;
    }
  }
}
