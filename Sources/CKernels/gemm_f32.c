#include "internal.h"

#include <math.h>

LLV_INLINE void llv_pack_panel_f32_body(
    const float *rows, size_t stride, size_t outputs, size_t columns, float *panel) {
  // Blocks of columns, so that what is read and what is written stay in the cache.
  for (size_t first = 0; first < columns; first += 64) {
    size_t last = first + 64 < columns ? first + 64 : columns;
    for (size_t r = 0; r < LLV_PANEL; r++)
      for (size_t i = first; i < last; i++) panel[i * LLV_PANEL + r] = r < outputs ? rows[r * stride + i] : 0;
  }
}
LLV_DISPATCH(llv_pack_panel_f32, (const float *rows, size_t stride, size_t outputs, size_t columns, float *panel),
             (rows, stride, outputs, columns, panel))

void llv_pack_panel_16(const void *rows, size_t outputs, size_t columns, void *panel) {
  const uint16_t *from = rows;
  uint16_t *to = panel;
  for (size_t first = 0; first < columns; first += 64) {
    size_t last = first + 64 < columns ? first + 64 : columns;
    for (size_t r = 0; r < LLV_PANEL; r++)
      for (size_t i = first; i < last; i++) to[i * LLV_PANEL + r] = r < outputs ? from[r * columns + i] : 0;
  }
}

// Rows of x against the outputs of a panel, sums in registers: each load of the panel serves all rows. What every
// instruction set computes: products added in the order of the columns, each with one rounding, to nothing or to what
// is in y.
LLV_INLINE void tile(const size_t rows, const float *x, size_t stride, const float *panel, size_t columns, int adds,
    float *y, size_t y_stride) {
  v16 sum[12];
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    sum[r] = 0;
    if (adds) sum[r] = *(const v16 *)(y + r * y_stride);
  }
  for (size_t i = 0; i < columns; i++, panel += LLV_PANEL) {
    v16 w = *(const v16 *)panel;
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) sum[r] = __builtin_elementwise_fma((v16)x[r * stride + i], w, sum[r]);
  }
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) *(v16 *)(y + r * y_stride) = sum[r];
}

#define LLV_ROWS(NAME, TARGET, MOST)                                                                                   \
  TARGET static void NAME(const float *x, size_t stride, size_t m, size_t columns, const float *panel, int adds,       \
      float *y, size_t y_stride) {                                                                                     \
    size_t i = 0;                                                                                                      \
    for (; i + MOST <= m; i += MOST)                                                                                   \
      tile(MOST, x + i * stride, stride, panel, columns, adds, y + i * y_stride, y_stride);                            \
    for (; i + 3 <= m; i += 3) tile(3, x + i * stride, stride, panel, columns, adds, y + i * y_stride, y_stride);      \
    for (; i < m; i++) tile(1, x + i * stride, stride, panel, columns, adds, y + i * y_stride, y_stride);              \
  }

#if defined(LLV_X86)
LLV_ROWS(rows_avx2, LLV_AVX2, 6)
LLV_ROWS(rows_avx512, LLV_AVX512, 12)
#endif
LLV_ROWS(rows_plain, , 6)

void llv_products_f32(const float *x, size_t stride, size_t m, size_t columns, const float *panel, int adds, float *y,
                      size_t y_stride) {
#if defined(LLV_X86)
  unsigned features = llv_cpu_features();
  if (features & LLV_CPU_AVX512) return rows_avx512(x, stride, m, columns, panel, adds, y, y_stride);
  if (features & LLV_CPU_AVX2) return rows_avx2(x, stride, m, columns, panel, adds, y, y_stride);
#endif
  rows_plain(x, stride, m, columns, panel, adds, y, y_stride);
}

void llv_gemm_f32(const float *x, size_t stride, size_t m, size_t columns, const float *panel, const llv_output *out) {
  enum { ROWS = 48 };  // whose results stay in the nearest cache until they are finished
  float result[ROWS * LLV_PANEL];
  for (size_t i = 0; i < m; i += ROWS) {
    size_t rows = m - i < ROWS ? m - i : ROWS;
    llv_products_f32(x + i * stride, stride, rows, columns, panel, 0, result, LLV_PANEL);
    llv_finish(result, i, rows, out);
  }
}
