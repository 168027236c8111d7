#include "internal.h"

#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Codes lie in pairs, so that one multiply-add instruction takes two products at a time. A group of an odd length has a zero
// after it.
LLV_INLINE size_t places_of(size_t n) { return n + n % 2; }

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
      codes[i] = (int16_t)code;
      sum += code;
    }
    if (n % 2) codes[n] = 0;
    codes += places_of(n);
    scales[g] = scale;
    sums[g] = (float)sum * scale;
  }
}
LLV_DISPATCH(llv_quantize_row,
             (const float *x, size_t columns, size_t group, int16_t *codes, float *scales, float *sums),
             (x, columns, group, codes, scales, sums))

LLV_INLINE int16_t code_at(const uint8_t *row, size_t i, int bits, int affine) {
  if (bits == 8) return affine ? (int16_t)row[i] : (int16_t)(int8_t)row[i];
  int flip = affine ? 0 : 8;
  return (int16_t)((((row[i / 2] >> i % 2 * 4) & 15) ^ flip) - flip);
}

LLV_INLINE void llv_pack_panel_body(const void *codes, size_t row_bytes, size_t outputs, size_t columns, size_t group,
                                    int bits, int affine, int16_t *panel) {
  for (size_t r = 0; r < LLV_PANEL; r++) {
    int16_t *to = panel + 2 * r;
    if (r >= outputs) {
      for (size_t first = 0; first < columns; first += group)
        for (size_t i = 0, n = columns - first < group ? columns - first : group; i < places_of(n); i += 2, to += 2 * LLV_PANEL)
          to[0] = to[1] = 0;
      continue;
    }
    const uint8_t *row = (const uint8_t *)codes + r * row_bytes;
    for (size_t first = 0; first < columns; first += group) {
      size_t n = columns - first < group ? columns - first : group, i = 0;
      for (; i + 2 <= n; i += 2, to += 2 * LLV_PANEL) {
        to[0] = code_at(row, first + i, bits, affine);
        to[1] = code_at(row, first + i + 1, bits, affine);
      }
      if (i < n) {
        to[0] = code_at(row, first + i, bits, affine), to[1] = 0;
        to += 2 * LLV_PANEL;
      }
    }
  }
}

void llv_pack_panel(const void *codes, size_t row_bytes, size_t outputs, size_t columns, size_t group, int bits, int affine,
                    int16_t *panel) {
  // One copy for each kind of code, so that its loop has no questions in it.
  if (bits == 8 && affine) llv_pack_panel_body(codes, row_bytes, outputs, columns, group, 8, 1, panel);
  else if (bits == 8) llv_pack_panel_body(codes, row_bytes, outputs, columns, group, 8, 0, panel);
  else if (affine) llv_pack_panel_body(codes, row_bytes, outputs, columns, group, 4, 1, panel);
  else llv_pack_panel_body(codes, row_bytes, outputs, columns, group, 4, 0, panel);
}

// What every instruction set computes, in this order: for each group the exact integer sum, as Float32 times the product of
// the two scales, added; then zero times the scaled sum of the codes of x, added.
static void panel_plain(const int16_t *x, const float *xs, const float *xsums, const int16_t *panel, const float *ws,
                        const float *zeros, size_t columns, size_t group, float *result) {
  for (size_t j = 0; j < LLV_PANEL; j++) result[j] = 0;
  for (size_t g = 0, first = 0; first < columns; g++, first += group) {
    size_t n = places_of(columns - first < group ? columns - first : group);
    int32_t sum[LLV_PANEL] = {0};
    for (size_t i = 0; i < n; i += 2, panel += 2 * LLV_PANEL)
      for (size_t j = 0; j < LLV_PANEL; j++) sum[j] += (int32_t)x[i] * panel[2 * j] + (int32_t)x[i + 1] * panel[2 * j + 1];
    x += n;
    for (size_t j = 0; j < LLV_PANEL; j++) {
      result[j] += (float)sum[j] * (xs[g] * ws[g * LLV_PANEL + j]);
      if (zeros) result[j] += zeros[g * LLV_PANEL + j] * xsums[g];
    }
  }
}

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2,fma,f16c")))

// ROWS rows of x against the 16 outputs of a panel: 2 ROWS sums in registers, each load of the panel serves all rows.
#define PANEL_AVX2(ROWS)                                                                                                   \
  AVX2 static void panel##ROWS##_avx2(const int16_t *x, size_t places, const float *xs, const float *xsums, size_t groups, \
                                      const int16_t *panel, const float *ws, const float *zeros, size_t columns,           \
                                      size_t group, float *result) {                                                       \
    __m256 total[ROWS][2];                                                                                                 \
    for (int r = 0; r < ROWS; r++) total[r][0] = total[r][1] = _mm256_setzero_ps();                                        \
    for (size_t g = 0, first = 0; first < columns; g++, first += group) {                                                  \
      size_t n = places_of(columns - first < group ? columns - first : group);                                             \
      __m256i sum[ROWS][2];                                                                                                \
      for (int r = 0; r < ROWS; r++) sum[r][0] = sum[r][1] = _mm256_setzero_si256();                                       \
      for (size_t i = 0; i < n; i += 2, panel += 2 * LLV_PANEL) {                                                          \
        __m256i w0 = _mm256_loadu_si256((const __m256i *)panel), w1 = _mm256_loadu_si256((const __m256i *)(panel + 16));   \
        for (int r = 0; r < ROWS; r++) {                                                                                   \
          int32_t pair;                                                                                                    \
          memcpy(&pair, x + r * places + i, 4);                                                                            \
          __m256i both = _mm256_set1_epi32(pair);                                                                          \
          sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(both, w0));                                            \
          sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(both, w1));                                            \
        }                                                                                                                  \
      }                                                                                                                    \
      x += n;                                                                                                              \
      __m256 s0 = _mm256_loadu_ps(ws + g * LLV_PANEL), s1 = _mm256_loadu_ps(ws + g * LLV_PANEL + 8);                       \
      for (int r = 0; r < ROWS; r++) {                                                                                     \
        __m256 scale = _mm256_set1_ps(xs[r * groups + g]);                                                                 \
        total[r][0] = _mm256_add_ps(total[r][0], _mm256_mul_ps(_mm256_cvtepi32_ps(sum[r][0]), _mm256_mul_ps(scale, s0)));  \
        total[r][1] = _mm256_add_ps(total[r][1], _mm256_mul_ps(_mm256_cvtepi32_ps(sum[r][1]), _mm256_mul_ps(scale, s1)));  \
        if (zeros) {                                                                                                       \
          __m256 codes = _mm256_set1_ps(xsums[r * groups + g]);                                                            \
          total[r][0] = _mm256_add_ps(total[r][0], _mm256_mul_ps(_mm256_loadu_ps(zeros + g * LLV_PANEL), codes));          \
          total[r][1] = _mm256_add_ps(total[r][1], _mm256_mul_ps(_mm256_loadu_ps(zeros + g * LLV_PANEL + 8), codes));      \
        }                                                                                                                  \
      }                                                                                                                    \
    }                                                                                                                      \
    for (int r = 0; r < ROWS; r++) {                                                                                       \
      _mm256_storeu_ps(result + r * LLV_PANEL, total[r][0]);                                                               \
      _mm256_storeu_ps(result + r * LLV_PANEL + 8, total[r][1]);                                                           \
    }                                                                                                                      \
  }
PANEL_AVX2(4)
PANEL_AVX2(1)
#endif

void llv_gemm_int8(const int16_t *x, size_t places, const float *xs, const float *xsums, size_t m, const int16_t *panel,
                   const float *ws, const float *zeros, const float *bias, size_t n, size_t columns, size_t group, float *y,
                   size_t stride) {
  size_t groups = (columns + group - 1) / group, i = 0;
  float result[4 * LLV_PANEL];
#if defined(__x86_64__)
  if (llv_cpu_level() >= 1) {
    for (; i + 4 <= m; i += 4) {
      panel4_avx2(x + i * places, places, xs + i * groups, xsums + i * groups, groups, panel, ws, zeros, columns, group, result);
      for (size_t r = 0; r < 4; r++) llv_put_outputs(y + (i + r) * stride, result + r * LLV_PANEL, bias, n);
    }
    for (; i < m; i++) {
      panel1_avx2(x + i * places, places, xs + i * groups, xsums + i * groups, groups, panel, ws, zeros, columns, group, result);
      llv_put_outputs(y + i * stride, result, bias, n);
    }
  }
#endif
  for (; i < m; i++) {
    panel_plain(x + i * places, xs + i * groups, xsums + i * groups, panel, ws, zeros, columns, group, result);
    llv_put_outputs(y + i * stride, result, bias, n);
  }
}
