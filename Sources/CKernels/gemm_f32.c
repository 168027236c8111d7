#include "internal.h"

#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

LLV_INLINE void llv_pack_panel_f32_body(const float *rows, size_t outputs, size_t columns, float *panel) {
  // Blocks of columns, so that what is read and what is written stay in the cache.
  for (size_t first = 0; first < columns; first += 64) {
    size_t last = first + 64 < columns ? first + 64 : columns;
    for (size_t r = 0; r < LLV_PANEL; r++)
      for (size_t i = first; i < last; i++) panel[i * LLV_PANEL + r] = r < outputs ? rows[r * columns + i] : 0;
  }
}
LLV_DISPATCH(llv_pack_panel_f32, (const float *rows, size_t outputs, size_t columns, float *panel),
             (rows, outputs, columns, panel))

// What every instruction set computes: products added in the order of the columns, each with one rounding, then the bias.
static void panel_plain(const float *x, const float *panel, size_t columns, float *result) {
  for (size_t j = 0; j < LLV_PANEL; j++) result[j] = 0;
  for (size_t i = 0; i < columns; i++, panel += LLV_PANEL)
    for (size_t j = 0; j < LLV_PANEL; j++) result[j] = fmaf(x[i], panel[j], result[j]);
}

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2,fma,f16c")))

// ROWS rows of x against the 16 outputs of a panel: 2 ROWS sums in registers, each load of the panel serves all rows.
#define PANEL_AVX2(ROWS)                                                                                             \
  AVX2 static void panel##ROWS##_avx2(const float *x, size_t stride, const float *panel, size_t columns, float *result) { \
    __m256 sum[ROWS][2];                                                                                             \
    for (int r = 0; r < ROWS; r++) sum[r][0] = sum[r][1] = _mm256_setzero_ps();                                      \
    for (size_t i = 0; i < columns; i++, panel += LLV_PANEL) {                                                       \
      __m256 w0 = _mm256_loadu_ps(panel), w1 = _mm256_loadu_ps(panel + 8);                                           \
      for (int r = 0; r < ROWS; r++) {                                                                               \
        __m256 both = _mm256_broadcast_ss(x + (size_t)r * stride + i);                                               \
        sum[r][0] = _mm256_fmadd_ps(both, w0, sum[r][0]);                                                            \
        sum[r][1] = _mm256_fmadd_ps(both, w1, sum[r][1]);                                                            \
      }                                                                                                              \
    }                                                                                                                \
    for (int r = 0; r < ROWS; r++) {                                                                                 \
      _mm256_storeu_ps(result + r * LLV_PANEL, sum[r][0]);                                                           \
      _mm256_storeu_ps(result + r * LLV_PANEL + 8, sum[r][1]);                                                       \
    }                                                                                                                \
  }
PANEL_AVX2(6)
PANEL_AVX2(1)
#endif

void llv_gemm_f32(const float *x, size_t m, size_t columns, const float *panel, const float *bias, size_t n, float *y,
                  size_t stride) {
  size_t i = 0;
  float result[6 * LLV_PANEL];
#if defined(__x86_64__)
  if (llv_cpu_level() >= 1) {
    for (; i + 6 <= m; i += 6) {
      panel6_avx2(x + i * columns, columns, panel, columns, result);
      for (size_t r = 0; r < 6; r++) llv_put_outputs(y + (i + r) * stride, result + r * LLV_PANEL, bias, n);
    }
    for (; i < m; i++) {
      panel1_avx2(x + i * columns, columns, panel, columns, result);
      llv_put_outputs(y + i * stride, result, bias, n);
    }
  }
#endif
  for (; i < m; i++) {
    panel_plain(x + i * columns, panel, columns, result);
    llv_put_outputs(y + i * stride, result, bias, n);
  }
}
